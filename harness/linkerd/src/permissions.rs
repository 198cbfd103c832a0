//! What this driver's own requests need of a cluster's API.

use meshproof_engine::driver::DriverCall;
use meshproof_engine::plan::permission::Permission;

use crate::names::{CONTROL_NAMESPACE, LOCAL_ACCESS_ROLE, MULTICLUSTER_NAMESPACE};

/// See `MeshDriver::permissions`.
pub(crate) fn of(call: DriverCall) -> Vec<Permission> {
    let within = |namespace: &str, group: &str, resource: &str, verbs: &[&str]| -> Vec<Permission> {
        verbs
            .iter()
            .map(|verb| Permission::new(group, resource, verb).within(namespace))
            .collect()
    };
    match call {
        DriverCall::Facts => vec![
            Permission::new("apps", "deployments", "get")
                .within(CONTROL_NAMESPACE)
                .named("linkerd-destination"),
            Permission::new("", "configmaps", "get")
                .within(CONTROL_NAMESPACE)
                .named("linkerd-identity-trust-roots"),
        ],
        DriverCall::AwaitLink => [
            vec![
                Permission::new("", "services", "get")
                    .within(MULTICLUSTER_NAMESPACE)
                    .named("linkerd-gateway"),
            ],
            within(MULTICLUSTER_NAMESPACE, "", "pods", &["list", "watch"]),
            within(MULTICLUSTER_NAMESPACE, "", "pods/portforward", &["get", "create"]),
        ]
        .concat(),
        DriverCall::DenyWrites => ["get", "patch", "escalate"]
            .map(|verb| Permission::new("rbac.authorization.k8s.io", "clusterroles", verb).named(LOCAL_ACCESS_ROLE))
            .into(),
        DriverCall::RotateCredentials => [
            within(
                MULTICLUSTER_NAMESPACE,
                "",
                "secrets",
                &["get", "list", "watch", "create", "patch", "delete"],
            ),
            within(CONTROL_NAMESPACE, "", "secrets", &["get", "patch"]),
        ]
        .concat(),
    }
}
