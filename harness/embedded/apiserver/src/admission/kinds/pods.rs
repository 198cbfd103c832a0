//! Pods and pod templates.

use super::fields::{check_non_negative, check_port, set_default};
use crate::Cause;
use crate::admission::items_mut;
use crate::admission::names;
use serde_json::{Value, json};
use std::collections::HashSet;

/// Defaults of a pod.
pub(super) fn default(pod: &mut Value) {
    default_spec(&mut pod["spec"]);
    let spec = &mut pod["spec"];
    set_default(spec, "serviceAccountName", json!("default"));
    spec["serviceAccount"] = spec["serviceAccountName"].clone();
    set_default(spec, "enableServiceLinks", json!(true));
    set_default(spec, "preemptionPolicy", json!("PreemptLowerPriority"));
    set_default(spec, "priority", json!(0));
}

/// Defaults of a pod's specification, also inside templates.
pub(super) fn default_spec(spec: &mut Value) {
    set_default(spec, "restartPolicy", json!("Always"));
    set_default(spec, "dnsPolicy", json!("ClusterFirst"));
    set_default(spec, "schedulerName", json!("default-scheduler"));
    set_default(spec, "securityContext", json!({}));
    set_default(spec, "terminationGracePeriodSeconds", json!(30));
    for list in ["containers", "initContainers"] {
        for container in items_mut(spec, list) {
            default_container(container);
        }
    }
}

fn default_container(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or_default();
    let tag = image
        .rsplit('/')
        .next()
        .and_then(|last| last.split_once(':'))
        .map(|(_, tag)| tag);
    let latest = !image.contains('@') && tag.is_none_or(|t| t == "latest");
    set_default(
        container,
        "imagePullPolicy",
        json!(if latest { "Always" } else { "IfNotPresent" }),
    );
    set_default(container, "terminationMessagePath", json!("/dev/termination-log"));
    set_default(container, "terminationMessagePolicy", json!("File"));
    set_default(container, "resources", json!({}));
    for port in items_mut(container, "ports") {
        set_default(port, "protocol", json!("TCP"));
    }
    for variable in items_mut(container, "env") {
        // A pointer, because indexing would leave a null behind where there is none.
        if let Some(reference) = variable
            .pointer_mut("/valueFrom/fieldRef")
            .and_then(Value::as_object_mut)
        {
            reference.entry("apiVersion").or_insert_with(|| json!("v1"));
        }
    }
    for probe in ["readinessProbe", "livenessProbe", "startupProbe"] {
        if !container[probe].is_object() {
            continue;
        }
        let probe = &mut container[probe];
        for (field, value) in [
            ("timeoutSeconds", 1),
            ("periodSeconds", 10),
            ("successThreshold", 1),
            ("failureThreshold", 3),
        ] {
            set_default(probe, field, json!(value));
        }
        if probe["httpGet"].is_object() {
            set_default(&mut probe["httpGet"], "path", json!("/"));
            set_default(&mut probe["httpGet"], "scheme", json!("HTTP"));
        }
    }
}

/// Quality of service from requests and limits.
pub(super) fn qos_class(pod: &Value) -> &'static str {
    let containers = || pod["spec"]["containers"].as_array().into_iter().flatten();
    let has = |c: &Value, part: &str, name: &str| !c["resources"][part][name].is_null();
    let anything = containers().any(|c| {
        ["requests", "limits"]
            .iter()
            .any(|p| has(c, p, "cpu") || has(c, p, "memory"))
    });
    let guaranteed = containers().all(|c| {
        ["cpu", "memory"].iter().all(|name| {
            let limit = &c["resources"]["limits"][name];
            let request = &c["resources"]["requests"][name];
            !limit.is_null() && (request.is_null() || request == limit)
        })
    });
    match (anything, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Field errors of a pod's specification that stands at `path`.
pub(super) fn validate(spec: &Value, path: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    let containers = spec["containers"].as_array().cloned().unwrap_or_default();
    if containers.is_empty() {
        causes.push(Cause::required(format!("{path}.containers"), ""));
    }
    let mut container_names = HashSet::new();
    for list in ["initContainers", "containers"] {
        for (i, container) in spec[list].as_array().into_iter().flatten().enumerate() {
            validate_container(
                container,
                &format!("{path}.{list}[{i}]"),
                &mut container_names,
                &mut causes,
            );
        }
    }
    let mut volumes = HashSet::new();
    for (i, volume) in spec["volumes"].as_array().into_iter().flatten().enumerate() {
        let at = format!("{path}.volumes[{i}].name");
        let name = volume["name"].as_str().unwrap_or_default();
        if name.is_empty() {
            causes.push(Cause::required(at, ""));
        } else if let Err(why) = names::dns_1123_label(name) {
            causes.push(Cause::invalid(at, &json!(name), &why));
        } else if !volumes.insert(name.to_owned()) {
            causes.push(Cause::duplicate(at, &json!(name)));
        }
    }
    for (field, allowed) in [
        ("restartPolicy", &["Always", "OnFailure", "Never"][..]),
        (
            "dnsPolicy",
            &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        ),
    ] {
        if !allowed.iter().any(|a| spec[field] == *a) {
            causes.push(Cause::not_supported(format!("{path}.{field}"), &spec[field], allowed));
        }
    }
    causes.extend(check_non_negative(spec, "terminationGracePeriodSeconds", path));
    causes
}

fn validate_container(container: &Value, at: &str, seen: &mut HashSet<String>, causes: &mut Vec<Cause>) {
    let name = container["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        causes.push(Cause::required(format!("{at}.name"), ""));
    } else if let Err(why) = names::dns_1123_label(name) {
        causes.push(Cause::invalid(format!("{at}.name"), &json!(name), &why));
    } else if !seen.insert(name.to_owned()) {
        causes.push(Cause::duplicate(format!("{at}.name"), &json!(name)));
    }
    if container["image"].as_str().unwrap_or_default().is_empty() {
        causes.push(Cause::required(format!("{at}.image"), ""));
    }
    let mut port_names = HashSet::new();
    for (i, port) in container["ports"].as_array().into_iter().flatten().enumerate() {
        let at = format!("{at}.ports[{i}]");
        causes.extend(check_port(&port["containerPort"], &format!("{at}.containerPort")));
        if !["TCP", "UDP", "SCTP"].iter().any(|p| port["protocol"] == *p) {
            causes.push(Cause::not_supported(
                format!("{at}.protocol"),
                &port["protocol"],
                &["SCTP", "TCP", "UDP"],
            ));
        }
        if let Some(name) = port["name"].as_str().filter(|n| !n.is_empty()) {
            if let Err(why) = names::port_name(name) {
                causes.push(Cause::invalid(format!("{at}.name"), &json!(name), &why));
            } else if !port_names.insert(name) {
                causes.push(Cause::duplicate(format!("{at}.name"), &json!(name)));
            }
        }
    }
    for (i, variable) in container["env"].as_array().into_iter().flatten().enumerate() {
        let name = variable["name"].as_str().unwrap_or_default();
        if name.is_empty() {
            causes.push(Cause::required(format!("{at}.env[{i}].name"), ""));
        } else if name.contains('=') {
            causes.push(Cause::invalid(
                format!("{at}.env[{i}].name"),
                &json!(name),
                "must not contain '='",
            ));
        }
    }
}

/// Only few fields of a pod's specification can change.
pub(super) fn validate_change(new: &Value, old: &Value) -> Vec<Cause> {
    let frozen = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        for list in ["containers", "initContainers"] {
            for container in items_mut(&mut spec, list) {
                crate::store::remove_field(container, "image");
            }
        }
        for field in [
            "activeDeadlineSeconds",
            "tolerations",
            "terminationGracePeriodSeconds",
            "schedulingGates",
        ] {
            crate::store::remove_field(&mut spec, field);
        }
        // A pod is bound to a node once.
        if old["spec"]["nodeName"].as_str().unwrap_or_default().is_empty() {
            crate::store::remove_field(&mut spec, "nodeName");
        }
        spec
    };
    if frozen(new) == frozen(old) {
        return Vec::new();
    }
    let why = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
    vec![Cause::forbidden("spec", why)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        let mut pod =
            json!({"spec": {"containers": [{"name": "a", "image": "x:1", "ports": [{"containerPort": 80}]}]}});
        default(&mut pod);
        pod
    }

    #[test]
    fn defaults() {
        let pod = pod();
        assert_eq!(pod["spec"]["restartPolicy"], "Always");
        assert_eq!(pod["spec"]["serviceAccountName"], "default");
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], "IfNotPresent");
        assert_eq!(pod["spec"]["containers"][0]["ports"][0]["protocol"], "TCP");
        assert!(validate(&pod["spec"], "spec").is_empty());
        assert_eq!(qos_class(&pod), "BestEffort");
    }

    #[test]
    fn mistakes() {
        let mut bad = json!({"containers": [
            {"name": "a", "ports": [{"containerPort": 70000, "name": "NOT"}]}, {"name": "a", "image": "x"}], "restartPolicy": "Maybe"});
        default_spec(&mut bad);
        let causes = validate(&bad, "spec");
        let fields: Vec<&str> = causes.iter().map(|c| c.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "spec.containers[0].image",
                "spec.containers[0].ports[0].containerPort",
                "spec.containers[0].ports[0].name",
                "spec.containers[1].name",
                "spec.restartPolicy"
            ]
        );
    }

    #[test]
    fn only_images_and_the_first_node_can_change() {
        let old = pod();
        let mut new = old.clone();
        new["spec"]["containers"][0]["image"] = json!("y");
        new["spec"]["nodeName"] = json!("n1");
        assert!(validate_change(&new, &old).is_empty());
        let mut moved = new.clone();
        moved["spec"]["nodeName"] = json!("n2");
        assert_eq!(validate_change(&moved, &new).len(), 1);
    }
}
