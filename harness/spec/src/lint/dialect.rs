//! Files that use a mesh's own kinds say so.

use serde_json::Value;

use super::{File, world::World};
use crate::code;
use crate::diagnostic::Diagnostic;
use crate::scenario::Step;
use crate::source::Span;

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
pub(super) fn mesh_is_named(file: &File<'_>, world: &World, problems: &mut Vec<Diagnostic>) {
    if file.scenario.mesh.is_some() {
        return;
    }
    let mut named = |kind: &str, api: Option<&str>, at: Span| {
        if is_neutral(kind, api) {
            return;
        }
        problems.push(
            Diagnostic::error(
                code::MESH_SPECIFIC,
                format!("`{kind}` is no kind of Kubernetes itself"),
                at,
            )
            .label("a mesh's own kind")
            .help("say which mesh the file is for with `mesh: <name>` at the top; for a kind of Kubernetes give `api: <group/version>`"),
        );
    };
    for (step, what) in file.steps() {
        for (pointer, kind, api) in kinds(step, what) {
            named(kind, api, file.at(&pointer));
        }
    }
    for written in &world.written {
        let text = |field: &str| written.value.get(field).and_then(Value::as_str);
        if let Some(kind) = text("kind") {
            named(kind, text("apiVersion"), written.at(file, "/kind"));
        }
    }
}

/// Pointer, kind and API of every object that a step names.
fn kinds(step: usize, what: &Step) -> Vec<(String, &str, Option<&str>)> {
    let at = |field: &str| format!("/steps/{step}/{field}");
    match what {
        Step::Patch(patch) => vec![(at("patch/object/kind"), &patch.object.kind, patch.object.api.as_deref())],
        Step::Delete(delete) => vec![(
            at("delete/object/kind"),
            &delete.object.kind,
            delete.object.api.as_deref(),
        )],
        Step::Expect(expect) => {
            let object = expect
                .object
                .iter()
                .map(|object| (at("expect/object/kind"), object.kind.as_str(), object.api.as_deref()));
            let objects = expect
                .objects
                .iter()
                .map(|objects| (at("expect/objects/kind"), objects.kind.as_str(), objects.api.as_deref()));
            object.chain(objects).collect()
        }
        _ => Vec::new(),
    }
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
