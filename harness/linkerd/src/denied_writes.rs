//! Taking verbs on Services away from a controller, as an admission policy or a mistake in its rights would.

use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{Api, Patch, PatchParams};
use kube::core::ApiResource;
use meshproof_engine::driver::Undo;
use meshproof_engine::environment::Cluster;
use meshproof_engine::problem::{self, Problem};
use serde_json::json;

/// Removes `verbs` on Services from the ClusterRole of the controller of `from` → `to`. Managed controllers of a cluster
/// share one role, so it meets all of them.
pub(crate) async fn deny(from: &Cluster, to: &str, role_name: &str, verbs: &[String]) -> Result<Undo, Problem> {
    let roles: Api<ClusterRole> = Api::all(from.client.clone());
    let refused = |what: &str, error: kube::Error| {
        problem::environment(
            "api-refused",
            format!("cluster {}: {what} {role_name}: {error}", from.name),
            None,
        )
    };
    let role = roles
        .get(role_name)
        .await
        .map_err(|error| refused("read ClusterRole", error))?;
    let original = role.rules.unwrap_or_default();
    let mut denied = original.clone();
    for rule in &mut denied {
        if rule.resources.iter().flatten().any(|resource| resource == "services") {
            rule.verbs.retain(|verb| !verbs.contains(verb));
        }
    }
    let patch = Patch::Merge(json!({"rules": denied}));
    roles
        .patch(role_name, &PatchParams::default(), &patch)
        .await
        .map_err(|error| refused("change ClusterRole", error))?;
    Ok(Undo {
        description: format!(
            "let the controller of {} → {to} {} mirrors again",
            from.name,
            verbs.join(", ")
        ),
        patches: vec![(
            ApiResource::erase::<ClusterRole>(&()),
            None,
            role_name.to_owned(),
            json!({"rules": original}),
        )],
    })
}
