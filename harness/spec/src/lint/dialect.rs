//! Files that use a mesh's own kinds say so.

use serde_json::Value;

use super::{File, world::World};
use crate::code;
use crate::diagnostic::Diagnostic;
use crate::scenario::Step;

/// API groups of Kubernetes without a dot, beside the core group.
const SHORT_GROUPS: &[&str] = &["apps", "batch", "autoscaling", "policy", "extensions"];

/// Kinds that every Kubernetes knows and that need no `api`.
const KINDS: &[&str] = &[
    "APIService",
    "ClusterRole",
    "ClusterRoleBinding",
    "ConfigMap",
    "ControllerRevision",
    "CronJob",
    "CustomResourceDefinition",
    "DaemonSet",
    "Deployment",
    "EndpointSlice",
    "Endpoints",
    "Event",
    "HorizontalPodAutoscaler",
    "Ingress",
    "Job",
    "Lease",
    "MutatingWebhookConfiguration",
    "Namespace",
    "NetworkPolicy",
    "Node",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Pod",
    "PodDisruptionBudget",
    "ReplicaSet",
    "Role",
    "RoleBinding",
    "Secret",
    "Service",
    "ServiceAccount",
    "StatefulSet",
    "ValidatingWebhookConfiguration",
    // Shared by all meshes: the Gateway API and the multi-cluster services API.
    "GRPCRoute",
    "Gateway",
    "GatewayClass",
    "HTTPRoute",
    "ReferenceGrant",
    "ServiceExport",
    "ServiceImport",
    "TCPRoute",
    "TLSRoute",
];

/// Whether a kind belongs to Kubernetes or to an API that meshes share.
fn is_neutral(kind: &str, api: Option<&str>) -> bool {
    match api {
        Some(api) => match api.rsplit_once('/') {
            None => true,
            Some((group, _)) => SHORT_GROUPS.contains(&group) || is_suffix(group, "k8s.io"),
        },
        None => KINDS.contains(&kind) || kind.contains("${"),
    }
}

/// `x.k8s.io`, but not `notk8s.io`; `x-k8s.io` is Kubernetes' own domain for what its groups develop.
fn is_suffix(group: &str, domain: &str) -> bool {
    group
        .strip_suffix(domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with(['.', '-']))
}

/// A file without `mesh` uses neutral kinds only.
pub(super) fn mesh_is_named(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    if file.scenario.mesh.is_some() {
        return;
    }
    for (step, what) in file.steps() {
        for (pointer, kind, api) in kinds(step, what) {
            if is_neutral(&kind, api.as_deref()) {
                continue;
            }
            problems.push(
                Diagnostic::error(
                    code::MESH_SPECIFIC,
                    format!("`{kind}` is no kind of Kubernetes itself"),
                    file.at(&pointer),
                )
                .label("a mesh's own kind")
                .help("say which mesh the file is for with `mesh: <name>` at the top; for a kind of Kubernetes give `api: <group/version>`"),
            );
        }
    }
}

/// Pointer, kind and API of every object that a step names.
fn kinds(step: usize, what: &Step) -> Vec<(String, String, Option<String>)> {
    let at = |field: &str| format!("/steps/{step}/{field}");
    let mut found = Vec::new();
    let mut manifest = |pointer: String, manifest: Option<&Value>| {
        let Some(manifest) = manifest else { return };
        let text = |field: &str| manifest.get(field).and_then(Value::as_str).map(str::to_owned);
        if let Some(kind) = text("kind") {
            found.push((format!("{pointer}/kind"), kind, text("apiVersion")));
        }
    };
    match what {
        Step::Apply(apply) => manifest(at("apply/manifest"), apply.manifest.as_ref()),
        Step::Patch(patch) => {
            found.push((
                at("patch/object/kind"),
                patch.object.kind.clone(),
                patch.object.api.clone(),
            ));
        }
        Step::Delete(delete) => {
            found.push((
                at("delete/object/kind"),
                delete.object.kind.clone(),
                delete.object.api.clone(),
            ));
        }
        Step::Expect(expect) => {
            if let Some(rejected) = &expect.rejected {
                manifest(at("expect/rejected/manifest"), rejected.manifest.as_ref());
            }
            if let Some(object) = &expect.object {
                found.push((at("expect/object/kind"), object.kind.clone(), object.api.clone()));
            }
            if let Some(objects) = &expect.objects {
                found.push((at("expect/objects/kind"), objects.kind.clone(), objects.api.clone()));
            }
        }
        _ => {}
    }
    found
}

#[cfg(test)]
mod tests {
    use super::is_neutral;
    use rstest::rstest;

    #[rstest]
    #[case("Service", None, true)]
    #[case("Service", Some("v1"), true)]
    #[case("Deployment", Some("apps/v1"), true)]
    #[case("HTTPRoute", Some("gateway.networking.k8s.io/v1"), true)]
    #[case("ServiceImport", Some("multicluster.x-k8s.io/v1alpha1"), true)]
    #[case("Link", None, false)]
    #[case("HTTPRoute", Some("policy.example.io/v1"), false)]
    #[case("Thing", Some("notk8s.io/v1"), false)]
    fn neutral_kinds(#[case] kind: &str, #[case] api: Option<&str>, #[case] neutral: bool) {
        assert_eq!(is_neutral(kind, api), neutral);
    }
}
