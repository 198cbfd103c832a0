//! kind's configuration file, as far as stand-in clusters have what it configures.

use std::collections::BTreeMap;

use meshproof_cluster::fabric::Cidr;
use serde::Deserialize;

use crate::exchange::{Failure, not_modelled};

/// What a configuration says.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) name: Option<String>,
    pub(super) image: Option<String>,
    pub(super) pod_subnet: Cidr,
    pub(super) service_subnet: Cidr,
    pub(super) domain: String,
}

/// `kind.x-k8s.io/v1alpha4`, `Cluster`. Fields that only concern what stand-in clusters do not have are read and dropped.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct File {
    kind: String,
    api_version: String,
    name: Option<String>,
    nodes: Vec<Node>,
    networking: Networking,
    feature_gates: BTreeMap<String, bool>,
    runtime_config: BTreeMap<String, String>,
    kubeadm_config_patches: Vec<String>,
    containerd_config_patches: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Node {
    role: Option<String>,
    image: Option<String>,
    labels: BTreeMap<String, String>,
    kubeadm_config_patches: Vec<String>,
    extra_mounts: Vec<serde_yaml::Value>,
    extra_port_mappings: Vec<serde_yaml::Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Networking {
    ip_family: Option<String>,
    api_server_port: Option<i32>,
    api_server_address: Option<String>,
    pod_subnet: Option<String>,
    service_subnet: Option<String>,
    #[serde(rename = "disableDefaultCNI")]
    disable_default_cni: bool,
    kube_proxy_mode: Option<String>,
    dns_search: Option<Vec<String>>,
}

/// Reads a configuration; the empty text is the default one.
pub(super) fn read(text: &str) -> Result<Config, Failure> {
    let file: File = if text.trim().is_empty() {
        File::default()
    } else {
        let file: File =
            serde_yaml::from_str(text).map_err(|error| Failure::new(format!("unable to decode config: {error}")))?;
        if (file.kind.as_str(), file.api_version.as_str()) != ("Cluster", "kind.x-k8s.io/v1alpha4") {
            return Err(Failure::new(format!(
                "unknown apiVersion: {} for kind: {}",
                file.api_version, file.kind
            )));
        }
        file
    };
    if file.nodes.len() > 1 {
        return Err(not_modelled("a cluster of several nodes"));
    }
    let node = file.nodes.into_iter().next().unwrap_or_default();
    if node.role.as_deref().is_some_and(|role| role != "control-plane") {
        return Err(Failure::new("must have at least one control-plane node"));
    }
    if !node.extra_mounts.is_empty() || !node.extra_port_mappings.is_empty() {
        return Err(not_modelled("a node with mounts or port mappings"));
    }
    let networking = file.networking;
    if networking.disable_default_cni || networking.ip_family.as_deref().is_some_and(|family| family != "ipv4") {
        return Err(not_modelled("a cluster without kind's own IPv4 network"));
    }
    let range = |text: Option<String>, default: &str, what: &str| {
        let text = text.unwrap_or_else(|| default.to_owned());
        text.parse::<Cidr>()
            .map_err(|error| Failure::new(format!("invalid configuration: invalid {what} subnet: {error}")))
    };
    let patches = file.kubeadm_config_patches.iter().chain(&node.kubeadm_config_patches);
    Ok(Config {
        name: file.name,
        image: node.image,
        pod_subnet: range(networking.pod_subnet, "10.244.0.0/16", "pod")?,
        service_subnet: range(networking.service_subnet, "10.96.0.0/16", "service")?,
        domain: patches
            .filter_map(|patch| dns_domain(patch))
            .next_back()
            .unwrap_or_else(|| "cluster.local".to_owned()),
    })
}

/// `networking.dnsDomain` of a kubeadm `ClusterConfiguration`.
fn dns_domain(patch: &str) -> Option<String> {
    let patch: serde_yaml::Value = serde_yaml::from_str(patch).ok()?;
    Some(patch.get("networking")?.get("dnsDomain")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::read;

    const HEAD: &str = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n";

    #[test]
    fn ranges_name_and_domain_are_read() {
        let text = format!(
            "{HEAD}name: west\nnetworking:\n  podSubnet: 10.10.0.0/16\n  serviceSubnet: 10.110.0.0/16\n\
             kubeadmConfigPatches:\n  - |\n    kind: ClusterConfiguration\n    networking:\n      dnsDomain: west.test\n\
             nodes:\n  - role: control-plane\n    image: kindest/node:v1.34.0\n"
        );
        let config = read(&text).unwrap();
        assert_eq!(config.name.as_deref(), Some("west"));
        assert_eq!(config.image.as_deref(), Some("kindest/node:v1.34.0"));
        assert_eq!(config.pod_subnet.to_string(), "10.10.0.0/16");
        assert_eq!(config.service_subnet.to_string(), "10.110.0.0/16");
        assert_eq!(config.domain, "west.test");
    }

    #[test]
    fn nothing_is_kinds_default() {
        let config = read("").unwrap();
        assert_eq!(config.pod_subnet.to_string(), "10.244.0.0/16");
        assert_eq!(config.service_subnet.to_string(), "10.96.0.0/16");
        assert_eq!(config.domain, "cluster.local");
    }

    #[rstest]
    #[case("networking:\n  podSubnett: x\n", 1, "podSubnett")]
    #[case("networking:\n  podSubnet: 10.0.0.1/8\n", 1, "invalid pod subnet")]
    #[case("nodes: [{role: worker}]\n", 1, "control-plane")]
    #[case("nodes: [{role: control-plane}, {role: worker}]\n", 126, "several nodes")]
    #[case("networking: {disableDefaultCNI: true}\n", 126, "own IPv4 network")]
    fn refusals_say_why(#[case] tail: &str, #[case] code: u8, #[case] words: &str) {
        let failure = read(&format!("{HEAD}{tail}")).unwrap_err();
        assert_eq!(failure.code, code);
        assert!(failure.message.contains(words), "{}", failure.message);
    }
}
