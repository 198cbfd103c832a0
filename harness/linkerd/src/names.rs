//! Names, labels, annotations and identities that Linkerd gives its objects.

use crate::version::ObjectModel;

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
/// Label of the control plane's own objects, and of all injected pods.
pub const CONTROL_PLANE_NS: &str = "linkerd.io/control-plane-ns";
/// Label of the destination controller's credentials: the linked cluster.
pub const CREDENTIALS_CLUSTER: &str = "multicluster.linkerd.io/cluster-name";
/// Annotation of the destination controller's credentials: the linked cluster's trust domain.
pub const CREDENTIALS_TRUST_DOMAIN: &str = "multicluster.linkerd.io/trust-domain";
/// Annotation of the destination controller's credentials: the linked cluster's DNS domain.
pub const CREDENTIALS_CLUSTER_DOMAIN: &str = "multicluster.linkerd.io/cluster-domain";
/// Type of the Secrets with a link's credentials.
pub const CREDENTIALS_TYPE: &str = "mirror.linkerd.io/remote-kubeconfig";
/// Annotation of the gateway Service: the identity to expect.
pub const GATEWAY_IDENTITY: &str = "mirror.linkerd.io/gateway-identity";
/// Annotation that asks for a sidecar.
pub const INJECT: &str = "linkerd.io/inject";
/// Annotation that lists ports whose protocol shall not be detected.
pub const OPAQUE_PORTS: &str = "config.linkerd.io/opaque-ports";
/// Deployment, Service and ServiceAccount of the gateway.
pub const GATEWAY: &str = "linkerd-gateway";
/// Port of the gateway for the traffic of other clusters.
pub const GATEWAY_PORT: u16 = 4143;
/// Port of every proxy's admin endpoint, with `/metrics`.
pub const PROXY_ADMIN_PORT: u16 = 4191;
/// Port of a service-mirror controller's admin endpoint.
pub const CONTROLLER_ADMIN_PORT: u16 = 9999;
/// ServiceAccount whose token a link uses in the target cluster.
pub const REMOTE_ACCESS: &str = "linkerd-service-mirror-remote-access-default";
/// Trust domain of identities.
pub const TRUST_DOMAIN: &str = "cluster.local";
/// DNS domain of clusters unless told otherwise.
pub const DEFAULT_DOMAIN: &str = "cluster.local";

/// Name of a mirror of `service` of `cluster`, in the same namespace.
#[must_use]
pub fn mirror(service: &str, cluster: &str) -> String {
    format!("{service}-{cluster}")
}

/// Name of the Service that all members called `service` form.
#[must_use]
pub fn federated(service: &str) -> String {
    format!("{service}-federated")
}

/// Name of the Secrets with the credentials for `cluster`, in both namespaces.
#[must_use]
pub fn credentials(cluster: &str) -> String {
    format!("cluster-credentials-{cluster}")
}

/// Name of the Lease by which one replica of a link's controller leads; the same in both models, so that only one of two
/// controllers acts.
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
    identity(GATEWAY, MULTICLUSTER_NAMESPACE)
}

/// Names of a link's controller and of what it needs.
impl ObjectModel {
    /// Deployment and ServiceAccount of the controller.
    #[must_use]
    pub fn controller(self, cluster: &str) -> String {
        match self {
            Self::Legacy => format!("linkerd-service-mirror-{cluster}"),
            Self::Managed => format!("controller-{cluster}"),
        }
    }

    /// Label selector of the controller's pods.
    #[must_use]
    pub fn controller_pods(self, cluster: &str) -> String {
        let component = match self {
            Self::Legacy => "linkerd-service-mirror",
            Self::Managed => "controller",
        };
        format!("component={component},{CLUSTER_NAME}={cluster}")
    }

    /// Service through which the controller probes the gateway.
    #[must_use]
    pub fn probe_service(self, cluster: &str) -> String {
        match self {
            Self::Legacy => format!("probe-gateway-{cluster}"),
            Self::Managed => format!("probe-{cluster}"),
        }
    }

    /// ClusterRole by which the controller writes mirrors. Managed controllers share one.
    #[must_use]
    pub fn local_access_role(self, cluster: &str) -> String {
        match self {
            Self::Legacy => format!("linkerd-service-mirror-access-local-resources-{cluster}"),
            Self::Managed => "linkerd-multicluster-controller-access-local-resources".to_owned(),
        }
    }

    /// ClusterRoleBinding of that role.
    #[must_use]
    pub fn local_access_binding(self, cluster: &str) -> String {
        match self {
            Self::Legacy => self.local_access_role(cluster),
            Self::Managed => format!("linkerd-multicluster-controller-access-local-resources-{cluster}"),
        }
    }

    /// Role and RoleBinding by which the controller reads its credentials and Link.
    #[must_use]
    pub fn read_credentials_role(self, cluster: &str) -> String {
        match self {
            Self::Legacy => format!("linkerd-service-mirror-read-remote-creds-{cluster}"),
            Self::Managed => format!("controller-read-remote-creds-{cluster}"),
        }
    }
}
