//! A server with a client, for each test its own.

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use meshproof_apiserver::{ApiServer, ServerConfig};
use std::time::Duration;

/// No wait in these tests may take longer; each ends by an event, not by this time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    pub(crate) client: Client,
}

pub(crate) async fn cluster() -> Cluster {
    cluster_with(ServerConfig::default()).await
}

pub(crate) async fn cluster_with(config: ServerConfig) -> Cluster {
    // Several tests share the process; whoever comes first installs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = ApiServer::start(config).await.unwrap();
    let client = client(&server.admin_kubeconfig(None)).await;
    Cluster { server, client }
}

pub(crate) async fn client(kubeconfig: &str) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

/// The code, reason and message of a refused request.
pub(crate) fn refusal<T: std::fmt::Debug>(result: kube::Result<T>) -> (u16, String, String) {
    match result {
        Err(kube::Error::Api(status)) => (status.code, status.reason, status.message),
        other => panic!("expected a Status, found {other:?}"),
    }
}

/// Waits for a future, but not for ever.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("nothing happened")
}

/// An HTTP client that knows the cluster's CA.
pub(crate) fn http(server: &ApiServer) -> reqwest::Client {
    let ca = reqwest::Certificate::from_pem(server.ca_pem().as_bytes()).unwrap();
    reqwest::Client::builder().tls_certs_only([ca]).build().unwrap()
}

/// The administrator's token.
pub(crate) fn token(server: &ApiServer) -> String {
    let config: serde_json::Value = serde_yaml::from_str(&server.admin_kubeconfig(None)).unwrap();
    config["users"][0]["user"]["token"].as_str().unwrap().to_owned()
}
