//! Kubeconfig files, as YAML that kubectl, client-go and kube-rs read.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

/// A kubeconfig with one cluster, one user and one context, which is the current one.
pub(crate) fn render(cluster: &str, server: &str, ca_pem: &str, user: &str, token: &str) -> String {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority-data": STANDARD.encode(ca_pem)}}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
        "current-context": cluster,
        "preferences": {},
    });
    // JSON is YAML, so that there is something readable even if the YAML writer should ever fail.
    serde_yaml::to_string(&config).unwrap_or_else(|_| config.to_string())
}
