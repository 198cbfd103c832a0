//! Deployments, ReplicaSets, StatefulSets, DaemonSets, Jobs.

use super::fields::{check_non_negative, set_default};
use super::pods;
use crate::resource::ResourceType;
use crate::{Cause, LabelSelector};
use serde_json::{Value, json};

fn default_template(object: &mut Value) {
    if object["spec"]["template"].is_object() {
        pods::default_spec(&mut object["spec"]["template"]["spec"]);
    }
}

/// Defaults of a Deployment.
pub(super) fn default_deployment(object: &mut Value) {
    default_template(object);
    let spec = &mut object["spec"];
    set_default(spec, "replicas", json!(1));
    set_default(spec, "revisionHistoryLimit", json!(10));
    set_default(spec, "progressDeadlineSeconds", json!(600));
    if spec["strategy"].is_null() {
        spec["strategy"] = json!({});
    }
    set_default(&mut spec["strategy"], "type", json!("RollingUpdate"));
    if spec["strategy"]["type"] == "RollingUpdate" {
        if spec["strategy"]["rollingUpdate"].is_null() {
            spec["strategy"]["rollingUpdate"] = json!({});
        }
        set_default(&mut spec["strategy"]["rollingUpdate"], "maxSurge", json!("25%"));
        set_default(&mut spec["strategy"]["rollingUpdate"], "maxUnavailable", json!("25%"));
    }
}

/// Defaults of a ReplicaSet.
pub(super) fn default_replica_set(object: &mut Value) {
    default_template(object);
    set_default(&mut object["spec"], "replicas", json!(1));
}

/// Defaults of a StatefulSet.
pub(super) fn default_stateful_set(object: &mut Value) {
    default_template(object);
    let spec = &mut object["spec"];
    set_default(spec, "replicas", json!(1));
    set_default(spec, "revisionHistoryLimit", json!(10));
    set_default(spec, "podManagementPolicy", json!("OrderedReady"));
    set_default(
        spec,
        "updateStrategy",
        json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}),
    );
    set_default(
        spec,
        "persistentVolumeClaimRetentionPolicy",
        json!({"whenDeleted": "Retain", "whenScaled": "Retain"}),
    );
}

/// Defaults of a DaemonSet.
pub(super) fn default_daemon_set(object: &mut Value) {
    default_template(object);
    let spec = &mut object["spec"];
    set_default(spec, "revisionHistoryLimit", json!(10));
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}});
    set_default(spec, "updateStrategy", rolling);
}

/// Defaults of a Job.
pub(super) fn default_job(object: &mut Value) {
    default_template(object);
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let spec = &mut object["spec"];
    for (field, value) in [("completions", 1), ("parallelism", 1), ("backoffLimit", 6)] {
        set_default(spec, field, json!(value));
    }
    set_default(spec, "completionMode", json!("NonIndexed"));
    set_default(spec, "suspend", json!(false));
    if spec["selector"].is_null() && spec["template"].is_object() {
        spec["selector"] = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
        let labels = &mut spec["template"]["metadata"]["labels"];
        // Also under the names that they had before Kubernetes 1.27.
        for prefix in ["batch.kubernetes.io/", ""] {
            labels[format!("{prefix}controller-uid")] = json!(uid);
            labels[format!("{prefix}job-name")] = json!(name);
        }
    }
}

/// Defaults of a CronJob.
pub(super) fn default_cron_job(object: &mut Value) {
    let spec = &mut object["spec"];
    set_default(spec, "concurrencyPolicy", json!("Allow"));
    set_default(spec, "suspend", json!(false));
    set_default(spec, "successfulJobsHistoryLimit", json!(3));
    set_default(spec, "failedJobsHistoryLimit", json!(1));
    if spec["jobTemplate"]["spec"].is_object() {
        default_template(&mut spec["jobTemplate"]);
    }
}

/// Field errors.
pub(super) fn validate(resource: &ResourceType, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let spec = &object["spec"];
    causes.extend(check_non_negative(spec, "replicas", "spec"));
    causes.extend(check_non_negative(spec, "minReadySeconds", "spec"));
    causes.extend(check_non_negative(spec, "revisionHistoryLimit", "spec"));
    let template = &spec["template"];
    let labels = &template["metadata"]["labels"];
    let selector = &spec["selector"];
    let empty = |part: &str| {
        selector[part].as_object().is_none_or(serde_json::Map::is_empty)
            && selector[part].as_array().is_none_or(Vec::is_empty)
    };
    if selector.is_null() {
        causes.push(Cause::required("spec.selector", ""));
    } else if empty("matchLabels") && empty("matchExpressions") {
        let why = format!("empty selector is invalid for {}", resource.singular);
        causes.push(Cause::invalid("spec.selector", selector, &why));
    } else {
        match LabelSelector::from_object(selector) {
            Err(status) => causes.push(Cause::invalid("spec.selector", selector, &status.message)),
            Ok(parsed) if !parsed.matches_labels(labels) => {
                let why = "`selector` does not match template `labels`";
                causes.push(Cause::invalid("spec.template.metadata.labels", labels, why));
            }
            Ok(_) => {}
        }
    }
    let template_metadata =
        json!({"name": "template", "labels": labels, "annotations": template["metadata"]["annotations"]});
    for mut cause in crate::admission::metadata::validate(&template_metadata, |_| Ok(())) {
        cause.field = format!("spec.template.{}", cause.field);
        causes.push(cause);
    }
    causes.extend(pods::validate(&template["spec"], "spec.template.spec"));
    let restart_policy = &template["spec"]["restartPolicy"];
    let is_job = resource.plural == "jobs";
    if !is_job && restart_policy != "Always" && restart_policy.is_string() {
        causes.push(Cause::not_supported(
            "spec.template.spec.restartPolicy",
            restart_policy,
            &["Always"],
        ));
    }
    if is_job && restart_policy == "Always" {
        let supported = ["OnFailure", "Never"];
        causes.push(Cause::not_supported(
            "spec.template.spec.restartPolicy",
            restart_policy,
            &supported,
        ));
    }
    if is_job {
        for field in [
            "parallelism",
            "completions",
            "backoffLimit",
            "activeDeadlineSeconds",
            "ttlSecondsAfterFinished",
        ] {
            causes.extend(check_non_negative(spec, field, "spec"));
        }
    }
    causes
}

/// Only a few fields of a StatefulSet can change.
pub(super) fn validate_stateful_set_change(new: &Value, old: &Value) -> Vec<Cause> {
    let frozen = |object: &Value| {
        let mut spec = object["spec"].clone();
        for field in [
            "replicas",
            "ordinals",
            "template",
            "updateStrategy",
            "revisionHistoryLimit",
            "persistentVolumeClaimRetentionPolicy",
            "minReadySeconds",
        ] {
            crate::store::remove_field(&mut spec, field);
        }
        spec
    };
    if frozen(new) == frozen(old) {
        return Vec::new();
    }
    let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
    vec![Cause::forbidden("spec", why)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Registry;

    fn deployment() -> Value {
        json!({"metadata": {"name": "web"}, "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "x"}]}}}})
    }

    fn check(object: &Value) -> Vec<String> {
        let resource = Registry::built_in().lookup(&crate::gvr::DEPLOYMENTS).unwrap();
        validate(&resource, object).into_iter().map(|c| c.field).collect()
    }

    #[test]
    fn defaults() {
        let mut object = deployment();
        default_deployment(&mut object);
        assert_eq!(object["spec"]["replicas"], 1);
        assert_eq!(object["spec"]["strategy"]["rollingUpdate"]["maxSurge"], "25%");
        assert_eq!(object["spec"]["template"]["spec"]["restartPolicy"], "Always");
        // Templates do not get what only pods get.
        assert!(object["spec"]["template"]["spec"]["serviceAccountName"].is_null());
        assert!(check(&object).is_empty());
    }

    #[test]
    fn mistakes() {
        let mut object = deployment();
        object["spec"]["selector"]["matchLabels"]["app"] = json!("other");
        object["spec"]["replicas"] = json!(-1);
        default_deployment(&mut object);
        assert_eq!(check(&object), ["spec.replicas", "spec.template.metadata.labels"]);
        object["spec"]["selector"] = json!({});
        assert!(check(&object).contains(&"spec.selector".to_owned()));
    }
}
