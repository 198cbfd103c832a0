//! Taking verbs on Services away from a controller, as an admission policy or a mistake in its rights would.

use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::Api;
use kube::core::ApiResource;
use meshproof_engine::driver::{Denial, ObjectChange};
use meshproof_engine::environment::Cluster;
use meshproof_engine::problem::{self, Problem, without_effect};
use meshproof_spec::scalar::Name;
use meshproof_spec::scenario::AccessSubject;
use serde_json::json;

/// What removes `verbs` on Services from the ClusterRole of the controller of `from` → `to`. Managed controllers of a cluster
/// share one role, so it meets all of them. `account` is the controller's user name.
pub(crate) async fn deny(from: &Cluster, account: &str, role_name: &str, verbs: &[String]) -> Result<Denial, Problem> {
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
    if denied == original {
        return Err(without_effect(
            &format!("cluster {}: taking {} from {role_name}", from.name, verbs.join(", ")),
            "it does not have these verbs on Services",
        ));
    }
    // What it could not do anyway shows nothing, and will not be possible afterwards.
    let held = |verb: &String| {
        let of_services = original
            .iter()
            .filter(|rule| rule.resources.iter().flatten().any(|resource| resource == "services"));
        of_services.flat_map(|rule| &rule.verbs).any(|other| other == verb)
    };
    let right = |verb: &String| AccessSubject {
        r#in: Name(from.name.clone()),
        user: account.to_owned(),
        verb: verb.clone(),
        resource: "services".to_owned(),
        group: None,
        namespace: None,
    };
    Ok(Denial {
        changes: vec![ObjectChange {
            resource: ApiResource::erase::<ClusterRole>(&()),
            namespace: None,
            name: role_name.to_owned(),
            merge: json!({"rules": denied}),
            undo: json!({"rules": original}),
        }],
        denied: verbs.iter().filter(|verb| held(verb)).map(right).collect(),
    })
}
