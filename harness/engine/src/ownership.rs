//! What a run made, how that is told, and the only way in which a cleanup deletes.
//!
//! Everything that the engine makes in a cluster carries two labels. What lacks one of them is somebody else's, whatever
//! its name: a cleanup leaves it alone and says so. Clusters may belong to people who have more in them than a run.

use std::time::Duration;

use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use kube::core::DynamicObject;
use serde_json::{Value, json};

use crate::api::Requests;
use crate::problem::{self, Problem};

/// Label by which objects of the harness can be found without knowing the run; its value is [`MANAGED_BY`].
pub const MANAGED_LABEL: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_LABEL`].
pub const MANAGED_BY: &str = "meshproof";
/// Label of everything that a run makes; its value is the run's id.
pub const RUN_LABEL: &str = "meshproof.dev/run";

/// The object with the labels of a run.
#[must_use]
pub(crate) fn labelled(object: &Value, run: &str) -> Value {
    let mut labelled = object.clone();
    json_patch::merge(
        &mut labelled,
        &json!({"metadata": {"labels": {MANAGED_LABEL: MANAGED_BY, RUN_LABEL: run}}}),
    );
    labelled
}

/// Whether an object says that this run made it.
#[must_use]
pub(crate) fn is_of_run(object: &Value, run: &str) -> bool {
    let label = |name: &str| {
        object
            .pointer("/metadata/labels")
            .and_then(|labels| labels.get(name))
            .and_then(Value::as_str)
    };
    label(MANAGED_LABEL) == Some(MANAGED_BY) && label(RUN_LABEL) == Some(run)
}

/// What became of an object that was to be deleted.
enum Fate {
    Absent,
    Deleted,
    Spared,
}

/// Deletes an object that this run made; what it owns is deleted in the background. Tells whether it was there. Looks at
/// the object first, and deletes exactly what it looked at.
///
/// # Errors
/// Code `not-made-here` when the object lacks the run's labels: it is left as it is. Otherwise when the API refuses.
pub(crate) async fn delete_own(
    requests: &Requests,
    what: &str,
    within: Duration,
    api: &Api<DynamicObject>,
    name: &str,
    run: &str,
) -> Result<bool, Problem> {
    let fate = requests
        .send(what, within, || async {
            let Some(object) = api.get_opt(name).await? else {
                return Ok(Fate::Absent);
            };
            let seen = json!({"metadata": {"labels": object.metadata.labels}});
            if !is_of_run(&seen, run) {
                return Ok(Fate::Spared);
            }
            let parameters = DeleteParams::background().preconditions(Preconditions {
                uid: object.metadata.uid,
                resource_version: None,
            });
            match api.delete(name, &parameters).await {
                Ok(_) => Ok(Fate::Deleted),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(Fate::Absent),
                Err(error) => Err(error),
            }
        })
        .await?;
    match fate {
        Fate::Absent => Ok(false),
        Fate::Deleted => Ok(true),
        Fate::Spared => Err(problem::environment(
            "not-made-here",
            format!("{what}: it does not carry the labels of run {run}, so it is somebody else's and was left alone"),
            Some("see who took the labels off or made the object anew, and delete it by hand if it is not needed"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::{is_of_run, labelled};
    use serde_json::json;

    #[test]
    fn labels_are_added_and_tell_the_run() {
        let object = json!({"kind": "ConfigMap", "metadata": {"name": "a", "labels": {"x": "y"}}});
        let ours = labelled(&object, "run-1");
        assert_eq!(ours["metadata"]["labels"]["x"], "y");
        assert!(is_of_run(&ours, "run-1"));
        assert!(!is_of_run(&ours, "run-2"), "another run's");
        assert!(!is_of_run(&object, "run-1"), "nobody's");
        let mut half = ours;
        half["metadata"]["labels"]["app.kubernetes.io/managed-by"] = json!("Helm");
        assert!(!is_of_run(&half, "run-1"), "somebody took it over");
    }
}
