//! Whose an object is: the filter behind "cleanup leaves nothing".

use meshproof_engine::driver::Owner;
use serde_json::Value;

use crate::names::{CLUSTER_NAME, CONTROL_NAMESPACE, EXTENSION, MIRRORED_SERVICE, MULTICLUSTER_NAMESPACE};

/// Prefixes of names that end in the linked cluster's name, of both object models; where one begins like another the
/// longer comes first.
const LINK_PREFIXES: &[(&str, &str)] = &[
    ("Secret", "cluster-credentials-"),
    ("Lease", "service-mirror-write-"),
    ("Deployment", "controller-"),
    ("ServiceAccount", "controller-"),
    ("Role", "controller-read-remote-creds-"),
    ("RoleBinding", "controller-read-remote-creds-"),
    (
        "ClusterRoleBinding",
        "linkerd-multicluster-controller-access-local-resources-",
    ),
    ("Service", "probe-gateway-"),
    ("Endpoints", "probe-gateway-"),
    ("Service", "probe-"),
    ("Endpoints", "probe-"),
    ("Deployment", "linkerd-service-mirror-"),
    ("ServiceAccount", "linkerd-service-mirror-"),
    ("Role", "linkerd-service-mirror-read-remote-creds-"),
    ("RoleBinding", "linkerd-service-mirror-read-remote-creds-"),
    ("ClusterRole", "linkerd-service-mirror-access-local-resources-"),
    ("ClusterRoleBinding", "linkerd-service-mirror-access-local-resources-"),
];

/// What other clusters use, whatever its name begins with: it belongs to the installation.
const REMOTE_ACCESS: &str = "linkerd-service-mirror-remote-access-";

/// Whose `object` is. Labels come first; objects without labels of Linkerd's are told by kind, namespace and name.
pub(crate) fn owner(object: &Value) -> Owner {
    let kind = object["kind"].as_str().unwrap_or_default();
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    let namespace = metadata["namespace"].as_str().unwrap_or_default();
    let label = |key: &str| metadata["labels"][key].as_str();

    if let Some(cluster) = label(CLUSTER_NAME) {
        return Owner::Link(cluster.to_owned());
    }
    if kind == "Link" {
        return Owner::Link(name.to_owned());
    }
    let ours = namespace == MULTICLUSTER_NAMESPACE || namespace == CONTROL_NAMESPACE;
    let of_cluster = namespace.is_empty() && (kind == "ClusterRoleBinding" || kind == "ClusterRole");
    if (ours || of_cluster) && !name.starts_with(REMOTE_ACCESS) {
        let prefixed = LINK_PREFIXES
            .iter()
            .filter(|(of, _)| *of == kind)
            .find_map(|(_, prefix)| name.strip_prefix(prefix));
        if let Some(cluster) = prefixed {
            return Owner::Link(cluster.to_owned());
        }
    }
    let installed = ours
        || label(EXTENSION).is_some()
        // A federated Service is of no link: it stands for members of several clusters.
        || label(MIRRORED_SERVICE).is_some()
        || label("linkerd.io/control-plane-ns").is_some()
        || (namespace.is_empty() && name.starts_with("linkerd-"))
        || (kind == "Namespace" && (name == CONTROL_NAMESPACE || name == MULTICLUSTER_NAMESPACE))
        || (kind == "CustomResourceDefinition" && name.ends_with("linkerd.io"));
    if installed { Owner::Mesh } else { Owner::Nobody }
}

#[cfg(test)]
mod tests {
    use super::owner;
    use meshproof_engine::driver::Owner;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn object(kind: &str, namespace: &str, name: &str, labels: Value) -> Value {
        json!({"kind": kind, "metadata": {"namespace": namespace, "name": name, "labels": labels}})
    }

    #[rstest]
    #[case::mirror(object("Service", "shop", "store-east", json!({"mirror.linkerd.io/cluster-name": "east"})), Owner::Link("east".into()))]
    #[case::link(object("Link", "linkerd-multicluster", "east", json!({})), Owner::Link("east".into()))]
    #[case::secret(object("Secret", "linkerd", "cluster-credentials-east", json!({})), Owner::Link("east".into()))]
    #[case::lease(object("Lease", "linkerd-multicluster", "service-mirror-write-east", json!({})), Owner::Link("east".into()))]
    #[case::legacy_controller(object("Deployment", "linkerd-multicluster", "linkerd-service-mirror-east", json!({})), Owner::Link("east".into()))]
    #[case::legacy_probe(object("Service", "linkerd-multicluster", "probe-gateway-east", json!({})), Owner::Link("east".into()))]
    #[case::legacy_role(object("ClusterRole", "", "linkerd-service-mirror-access-local-resources-east", json!({})), Owner::Link("east".into()))]
    #[case::remote_access(object("ServiceAccount", "linkerd-multicluster", "linkerd-service-mirror-remote-access-default", json!({})), Owner::Mesh)]
    #[case::remote_access_binding(object("ClusterRoleBinding", "", "linkerd-service-mirror-remote-access-default", json!({})), Owner::Mesh)]
    #[case::account_of_a_link(object("ServiceAccount", "linkerd-multicluster", "for-west", json!({"linkerd.io/extension": "multicluster"})), Owner::Mesh)]
    #[case::token_of_a_link(object("Secret", "linkerd-multicluster", "for-west-token-x7k2p", json!({"linkerd.io/extension": "multicluster"})), Owner::Mesh)]
    #[case::role_of_a_link(object("ClusterRole", "", "for-west", json!({"linkerd.io/extension": "multicluster"})), Owner::Mesh)]
    #[case::federated(object("Service", "shop", "store-federated", json!({"mirror.linkerd.io/mirrored-service": "true"})), Owner::Mesh)]
    #[case::foreign_secret(object("Secret", "shop", "cluster-credentials-east", json!({})), Owner::Nobody)]
    #[case::gateway(object("Deployment", "linkerd-multicluster", "linkerd-gateway", json!({})), Owner::Mesh)]
    #[case::cluster_role(object("ClusterRole", "", "linkerd-destination", json!({})), Owner::Mesh)]
    #[case::crd(object("CustomResourceDefinition", "", "links.multicluster.linkerd.io", json!({})), Owner::Mesh)]
    #[case::users(object("Service", "shop", "store", json!({"app": "store"})), Owner::Nobody)]
    fn whose(#[case] object: Value, #[case] expected: Owner) {
        assert_eq!(owner(&object), expected);
    }
}
