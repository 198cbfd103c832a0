//! Labels, annotations, namespaces and object names that the mesh is known by. All of them are Linkerd's own.

/// Version that the model announces wherever the real mesh announces its own.
pub const VERSION: &str = "model-2.20";
/// Version that an upgrade of the model goes to.
pub const NEXT_VERSION: &str = "model-2.21";

/// Namespace of the control plane.
pub const CONTROL_PLANE_NAMESPACE: &str = "linkerd";
/// Namespace of the multicluster extension.
pub const MULTICLUSTER_NAMESPACE: &str = "linkerd-multicluster";
/// Name of the gateway's Deployment, Service, ServiceAccount and policies.
pub const GATEWAY: &str = "linkerd-gateway";
/// ConfigMap with the values that the control plane was installed with.
pub const LINKERD_CONFIG: &str = "linkerd-config";
/// ConfigMap with the trust anchors.
pub const TRUST_ROOTS: &str = "linkerd-identity-trust-roots";
/// Secret with the issuer's certificate and key.
pub const IDENTITY_ISSUER: &str = "linkerd-identity-issuer";
/// The local service mirror's Deployment and ServiceAccount.
pub const LOCAL_SERVICE_MIRROR: &str = "linkerd-local-service-mirror";
/// ServiceAccount whose token other clusters get.
pub const REMOTE_ACCESS: &str = "linkerd-service-mirror-remote-access-default";
/// ClusterRole that all service-mirror controllers share.
pub const CONTROLLER_CLUSTER_ROLE: &str = "linkerd-multicluster-controller-access-local-resources";
/// Name of the gateway Service's data port.
pub const GATEWAY_PORT_NAME: &str = "mc-gateway";
/// Name of the probe port, on the gateway Service and on probe Services.
pub const PROBE_PORT_NAME: &str = "mc-probe";
/// Port of a proxy for meshed connections.
pub const PROXY_INBOUND_PORT: u16 = 4143;
/// Port of a proxy for health and metrics.
pub const PROXY_ADMIN_PORT: u16 = 4191;
/// Port of the service mirror for health and metrics.
pub const CONTROLLER_ADMIN_PORT: u16 = 9999;
/// Label and annotation prefix that never travels to a mirror.
pub const MIRROR_PREFIX: &str = "mirror.linkerd.io";
/// Type of Secrets that hold a kubeconfig for another cluster.
pub const REMOTE_KUBECONFIG_TYPE: &str = "mirror.linkerd.io/remote-kubeconfig";
/// The only key of such a Secret.
pub const KUBECONFIG_KEY: &str = "kubeconfig";

/// Label keys.
pub mod label {
    /// Extension that an object belongs to.
    pub const EXTENSION: &str = "linkerd.io/extension";
    /// Component within the extension.
    pub const COMPONENT: &str = "component";
    /// On pods and namespaces of the control plane: its namespace.
    pub const CONTROL_PLANE_NS: &str = "linkerd.io/control-plane-ns";
    /// Component of the control plane.
    pub const CONTROL_PLANE_COMPONENT: &str = "linkerd.io/control-plane-component";
    /// On injected pods: their namespace.
    pub const WORKLOAD_NS: &str = "linkerd.io/workload-ns";
    /// On Services: how they are exported (`true`, `remote-discovery`).
    pub const EXPORTED: &str = "mirror.linkerd.io/exported";
    /// On Services: `member` of a federated service.
    pub const FEDERATED: &str = "mirror.linkerd.io/federated";
    /// On mirror Services and Endpoints: `true`.
    pub const MIRRORED_SERVICE: &str = "mirror.linkerd.io/mirrored-service";
    /// On mirrors, probe Services and objects of a controller: name of the target cluster.
    pub const CLUSTER_NAME: &str = "mirror.linkerd.io/cluster-name";
    /// On probe Services: `true`.
    pub const MIRRORED_GATEWAY: &str = "mirror.linkerd.io/mirrored-gateway";
    /// On the destination controller's credentials: name of the target cluster.
    pub const CREDENTIALS_CLUSTER: &str = "multicluster.linkerd.io/cluster-name";
    /// Kubernetes': Endpoints that no EndpointSlice is made for.
    pub const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
}

/// Annotation keys.
pub mod annotation {
    /// Tool and version that made an object.
    pub const CREATED_BY: &str = "linkerd.io/created-by";
    /// `enabled` or `disabled`, on pods, pod templates and namespaces.
    pub const INJECT: &str = "linkerd.io/inject";
    /// On injected pods: version of the proxy.
    pub const PROXY_VERSION: &str = "linkerd.io/proxy-version";
    /// On injected pods: SHA-256 of the trust anchors.
    pub const TRUST_ROOT_SHA256: &str = "linkerd.io/trust-root-sha256";
    /// On pods: the proxy forwards for other clusters.
    pub const ENABLE_GATEWAY: &str = "config.linkerd.io/enable-gateway";
    /// On pods: how long a proxy serves after its pod was told to end. One that is a sidecar of Kubernetes, as all of the model
    /// are, serves until the other containers are gone.
    pub const WAIT_BEFORE_EXIT: &str = "config.alpha.linkerd.io/proxy-wait-before-exit-seconds";
    /// On pods: ports that only clients with an identity may use.
    pub const REQUIRE_IDENTITY_PORTS: &str = "config.linkerd.io/proxy-require-identity-inbound-ports";
    /// On pods and namespaces: what a proxy allows that no policy speaks of.
    pub const DEFAULT_INBOUND_POLICY: &str = "config.linkerd.io/default-inbound-policy";
    /// On pods, namespaces and Services: ports without protocol detection.
    pub const OPAQUE_PORTS: &str = "config.linkerd.io/opaque-ports";
    /// On pods and namespaces: inbound ports that pass the proxy by.
    pub const SKIP_INBOUND_PORTS: &str = "config.linkerd.io/skip-inbound-ports";
    /// On pods and namespaces: outbound ports that pass the proxy by.
    pub const SKIP_OUTBOUND_PORTS: &str = "config.linkerd.io/skip-outbound-ports";
    /// On mirrors: full name of the remote Service.
    pub const REMOTE_SVC_FQ_NAME: &str = "mirror.linkerd.io/remote-svc-fq-name";
    /// On mirror Services: resource version of the remote Service that they were made from.
    pub const REMOTE_RESOURCE_VERSION: &str = "mirror.linkerd.io/remote-resource-version";
    /// On mirror and probe Endpoints: identity that the gateway must prove.
    pub const REMOTE_GATEWAY_IDENTITY: &str = "mirror.linkerd.io/remote-gateway-identity";
    /// On gateway Services: the gateway's identity.
    pub const GATEWAY_IDENTITY: &str = "mirror.linkerd.io/gateway-identity";
    /// On gateway Services: probe period, in seconds or as a duration.
    pub const PROBE_PERIOD: &str = "mirror.linkerd.io/probe-period";
    /// On gateway Services: path of the probe.
    pub const PROBE_PATH: &str = "mirror.linkerd.io/probe-path";
    /// On gateway Services: `true`.
    pub const MULTICLUSTER_GATEWAY: &str = "mirror.linkerd.io/multicluster-gateway";
    /// On the destination controller's credentials: trust domain of the target.
    pub const TRUST_DOMAIN: &str = "multicluster.linkerd.io/trust-domain";
    /// On the destination controller's credentials: DNS domain of the target.
    pub const CLUSTER_DOMAIN: &str = "multicluster.linkerd.io/cluster-domain";
    /// Kubernetes': ServiceAccount of a token Secret.
    pub const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
}

/// Name of the Secrets with the credentials for `link`'s target.
#[must_use]
pub fn credentials_secret(link: &str) -> String {
    format!("cluster-credentials-{link}")
}

/// Name of the Deployment and ServiceAccount of the controller for `link`.
#[must_use]
pub fn controller(link: &str) -> String {
    format!("controller-{link}")
}

/// Name of the Service through which the controller for `link` probes the gateway.
#[must_use]
pub fn probe_service(link: &str) -> String {
    format!("probe-{link}")
}

/// Name of the Lease that makes one controller pod for `link` the writer.
#[must_use]
pub fn lease(link: &str) -> String {
    format!("service-mirror-write-{link}")
}

/// Name of the Role and RoleBinding with which the controller for `link` reads its Link and credentials.
#[must_use]
pub fn credentials_role(link: &str) -> String {
    format!("controller-read-remote-creds-{link}")
}

/// Name of the ClusterRoleBinding of the controller for `link`.
#[must_use]
pub fn controller_cluster_role_binding(link: &str) -> String {
    format!("{CONTROLLER_CLUSTER_ROLE}-{link}")
}
