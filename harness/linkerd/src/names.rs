//! Names, labels, annotations and identities that Linkerd gives its objects.

/// Namespace of the control plane.
pub const CONTROL_NAMESPACE: &str = "linkerd";
/// Namespace of the multicluster extension.
pub const MULTICLUSTER_NAMESPACE: &str = "linkerd-multicluster";
/// Label (not annotation) that exports a Service; `true` is gateway mode, `remote-discovery` is flat.
pub const EXPORTED: &str = "mirror.linkerd.io/exported";
/// Label that makes a Service a member of a federated one.
pub const FEDERATED: &str = "mirror.linkerd.io/federated";
/// Label of everything that belongs to the link to a cluster.
pub const CLUSTER_NAME: &str = "mirror.linkerd.io/cluster-name";
/// Label of a mirror.
pub const MIRRORED_SERVICE: &str = "mirror.linkerd.io/mirrored-service";
/// Label of the extension's own objects.
pub const EXTENSION: &str = "linkerd.io/extension";
/// Annotation that asks for a sidecar.
pub const INJECT: &str = "linkerd.io/inject";
/// Annotation that lists ports whose protocol shall not be detected.
pub const OPAQUE_PORTS: &str = "config.linkerd.io/opaque-ports";
/// Port of the gateway for the traffic of other clusters.
pub const GATEWAY_PORT: u16 = 4143;
/// Port of every proxy's admin endpoint, with `/metrics`.
pub const PROXY_ADMIN_PORT: u16 = 4191;
/// Port of a service-mirror controller's admin endpoint.
pub const CONTROLLER_ADMIN_PORT: u16 = 9999;
/// ServiceAccount whose token a link uses in the target cluster.
pub const REMOTE_ACCESS: &str = "linkerd-service-mirror-remote-access-default";
/// ClusterRole by which all controllers of a cluster write mirrors.
pub const LOCAL_ACCESS_ROLE: &str = "linkerd-multicluster-controller-access-local-resources";
/// Trust domain of identities.
pub const TRUST_DOMAIN: &str = "cluster.local";

/// Name of a mirror of `service` of `cluster`, in the same namespace.
#[must_use]
pub fn mirror(service: &str, cluster: &str) -> String {
    format!("{service}-{cluster}")
}

/// Name of the controller Deployment that serves the link to `cluster`.
#[must_use]
pub fn controller(cluster: &str) -> String {
    format!("controller-{cluster}")
}

/// Name of the Secrets with the credentials for `cluster`, in both namespaces.
#[must_use]
pub fn credentials(cluster: &str) -> String {
    format!("cluster-credentials-{cluster}")
}

/// Name of the Lease by which one replica of a link's controller leads.
#[must_use]
pub fn lease(cluster: &str) -> String {
    format!("service-mirror-write-{cluster}")
}

/// Identity of a workload by its ServiceAccount.
#[must_use]
pub fn identity(service_account: &str, namespace: &str) -> String {
    format!("{service_account}.{namespace}.serviceaccount.identity.{CONTROL_NAMESPACE}.{TRUST_DOMAIN}")
}

/// Identity of a gateway.
#[must_use]
pub fn gateway_identity() -> String {
    identity("linkerd-gateway", MULTICLUSTER_NAMESPACE)
}
