//! What this driver's own requests need of a cluster's API.

use meshproof_engine::driver::DriverCall;
use meshproof_engine::plan::permission::Permission;

use crate::installer::InstallerKind;
use crate::names::{CONTROL_NAMESPACE, MULTICLUSTER_NAMESPACE};
use crate::version::ObjectModel;

/// See `MeshDriver::permissions`.
pub(crate) fn of(call: DriverCall, kind: InstallerKind, model: ObjectModel) -> Vec<Permission> {
    let within = |namespace: &str, group: &str, resource: &str, verbs: &[&str]| -> Vec<Permission> {
        verbs
            .iter()
            .map(|verb| Permission::new(group, resource, verb).within(namespace))
            .collect()
    };
    match call {
        DriverCall::Facts => {
            let mut facts = vec![
                Permission::new("apps", "deployments", "get")
                    .within(CONTROL_NAMESPACE)
                    .named("linkerd-destination"),
                Permission::new("", "configmaps", "get")
                    .within(CONTROL_NAMESPACE)
                    .named("linkerd-identity-trust-roots"),
            ];
            if kind == InstallerKind::Preinstalled {
                // Instead of installing and linking, it looks whether both has been done.
                for namespace in [CONTROL_NAMESPACE, MULTICLUSTER_NAMESPACE] {
                    facts.extend(within(namespace, "apps", "deployments", &["get", "list", "watch"]));
                    facts.extend(within(namespace, "", "secrets", &["get"]));
                }
                facts.extend(within(
                    MULTICLUSTER_NAMESPACE,
                    "multicluster.linkerd.io",
                    "links",
                    &["get"],
                ));
            }
            facts
        }
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
            .map(|verb| {
                let any = Permission::new("rbac.authorization.k8s.io", "clusterroles", verb);
                match model {
                    // One role a link, and which links is not known here.
                    ObjectModel::Legacy => any,
                    ObjectModel::Managed => any.named(&model.local_access_role("")),
                }
            })
            .into_iter()
            // Whether the controller can still do it.
            .chain([Permission::new(
                "authorization.k8s.io",
                "subjectaccessreviews",
                "create",
            )])
            .collect(),
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
