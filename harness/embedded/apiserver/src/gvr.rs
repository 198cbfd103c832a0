//! `Gvr`: group, version and plural name of a resource, and constants for the ones that every cluster has.

use std::borrow::Cow;
use std::fmt;

/// Identifies a resource as it stands in a request path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gvr {
    /// API group; empty for the core group.
    pub group: Cow<'static, str>,
    /// Version, for example `v1`.
    pub version: Cow<'static, str>,
    /// Plural resource name, for example `pods`.
    pub resource: Cow<'static, str>,
}

impl Gvr {
    /// From parts that are known at compile time.
    pub const fn constant(group: &'static str, version: &'static str, resource: &'static str) -> Self {
        Self {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed(version),
            resource: Cow::Borrowed(resource),
        }
    }

    /// From any strings.
    pub fn new(group: impl Into<String>, version: impl Into<String>, resource: impl Into<String>) -> Self {
        Self {
            group: Cow::Owned(group.into()),
            version: Cow::Owned(version.into()),
            resource: Cow::Owned(resource.into()),
        }
    }

    /// `v1` or `apps/v1`: what stands in `apiVersion`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

impl fmt::Display for Gvr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.resource, self.api_version())
    }
}

macro_rules! well_known {
    ($($name:ident = $group:literal, $version:literal, $resource:literal;)*) => {
        $(
            #[doc = concat!("`", $resource, "` of `", $group, "/", $version, "`.")]
            pub const $name: Gvr = Gvr::constant($group, $version, $resource);
        )*
    };
}

well_known! {
    NAMESPACES = "", "v1", "namespaces";
    PODS = "", "v1", "pods";
    SERVICES = "", "v1", "services";
    ENDPOINTS = "", "v1", "endpoints";
    NODES = "", "v1", "nodes";
    CONFIG_MAPS = "", "v1", "configmaps";
    SECRETS = "", "v1", "secrets";
    SERVICE_ACCOUNTS = "", "v1", "serviceaccounts";
    EVENTS = "", "v1", "events";
    DEPLOYMENTS = "apps", "v1", "deployments";
    REPLICA_SETS = "apps", "v1", "replicasets";
    STATEFUL_SETS = "apps", "v1", "statefulsets";
    DAEMON_SETS = "apps", "v1", "daemonsets";
    JOBS = "batch", "v1", "jobs";
    ENDPOINT_SLICES = "discovery.k8s.io", "v1", "endpointslices";
    LEASES = "coordination.k8s.io", "v1", "leases";
    ROLES = "rbac.authorization.k8s.io", "v1", "roles";
    ROLE_BINDINGS = "rbac.authorization.k8s.io", "v1", "rolebindings";
    CLUSTER_ROLES = "rbac.authorization.k8s.io", "v1", "clusterroles";
    CLUSTER_ROLE_BINDINGS = "rbac.authorization.k8s.io", "v1", "clusterrolebindings";
    CUSTOM_RESOURCE_DEFINITIONS = "apiextensions.k8s.io", "v1", "customresourcedefinitions";
    POD_DISRUPTION_BUDGETS = "policy", "v1", "poddisruptionbudgets";
    NETWORK_POLICIES = "networking.k8s.io", "v1", "networkpolicies";
}
