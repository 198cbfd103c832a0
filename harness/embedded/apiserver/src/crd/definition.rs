//! The definition itself: defaults, validation, the type that it describes, its status.

use super::schema;
use crate::admission::names;
use crate::resource::{ResourceType, ScalePaths, StorageKey, VersionInfo};
use crate::{Cause, Status};
use serde_json::{Value, json};

/// Fills the names that follow from the kind.
pub(crate) fn default(crd: &mut Value) {
    let spec = &mut crd["spec"];
    if !spec["names"].is_object() {
        return;
    }
    let kind = spec["names"]["kind"].as_str().unwrap_or_default().to_owned();
    for (field, value) in [("singular", kind.to_lowercase()), ("listKind", format!("{kind}List"))] {
        if spec["names"][field].as_str().unwrap_or_default().is_empty() && !kind.is_empty() {
            spec["names"][field] = json!(value);
        }
    }
    if spec["conversion"].is_null() {
        spec["conversion"] = json!({"strategy": "None"});
    }
}

/// Field errors.
pub(crate) fn validate(crd: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let spec = &crd["spec"];
    let group = spec["group"].as_str().unwrap_or_default();
    if group.is_empty() {
        causes.push(Cause::required("spec.group", ""));
    } else if let Err(why) = names::dns_1123_subdomain(group) {
        causes.push(Cause::invalid("spec.group", &spec["group"], &why));
    } else if !group.contains('.') {
        causes.push(Cause::invalid(
            "spec.group",
            &spec["group"],
            "should be a domain with at least one dot",
        ));
    }
    for field in ["plural", "kind"] {
        let name = spec["names"][field].as_str().unwrap_or_default();
        let at = format!("spec.names.{field}");
        if name.is_empty() {
            causes.push(Cause::required(at, ""));
        } else if let Err(why) = names::dns_1035_label(&name.to_lowercase()) {
            causes.push(Cause::invalid(at, &json!(name), &why));
        }
    }
    let plural = spec["names"]["plural"].as_str().unwrap_or_default();
    let expected = format!("{plural}.{group}");
    if !plural.is_empty() && !group.is_empty() && crd["metadata"]["name"] != expected.as_str() {
        causes.push(Cause::invalid(
            "metadata.name",
            &crd["metadata"]["name"],
            "must be spec.names.plural+\".\"+spec.group",
        ));
    }
    if !matches!(spec["scope"].as_str(), Some("Namespaced" | "Cluster")) {
        causes.push(Cause::not_supported(
            "spec.scope",
            &spec["scope"],
            &["Cluster", "Namespaced"],
        ));
    }
    if spec["conversion"]["strategy"].as_str().is_some_and(|s| s != "None") {
        causes.push(Cause::forbidden(
            "spec.conversion.strategy",
            "only None is supported by the embedded API server",
        ));
    }
    let versions = spec["versions"].as_array().cloned().unwrap_or_default();
    if versions.is_empty() {
        causes.push(Cause::required("spec.versions", "must have at least one version"));
    } else if versions.iter().filter(|v| v["storage"] == true).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        causes.push(Cause::invalid(
            "spec.versions",
            &json!(versions.iter().map(|v| &v["name"]).collect::<Vec<_>>()),
            why,
        ));
    }
    for (i, version) in versions.iter().enumerate() {
        let at = format!("spec.versions[{i}]");
        if let Err(why) = names::dns_1035_label(version["name"].as_str().unwrap_or_default()) {
            causes.push(Cause::invalid(format!("{at}.name"), &version["name"], &why));
        }
        if version["schema"]["openAPIV3Schema"].is_null() {
            causes.push(Cause::required(
                format!("{at}.schema.openAPIV3Schema"),
                "schemas are required",
            ));
        } else {
            let path = format!("{at}.schema.openAPIV3Schema");
            match schema::parse(&version["schema"]["openAPIV3Schema"], &path) {
                Ok(schema) if schema.kind.as_deref() != Some("object") => {
                    causes.push(Cause::invalid(
                        format!("{path}.type"),
                        &json!(schema.kind),
                        "must be object at the root",
                    ));
                }
                Ok(_) => {}
                Err(more) => causes.extend(more),
            }
        }
    }
    causes
}

/// Field errors of a change.
pub(crate) fn validate_change(new: &Value, old: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    for path in [&["group"][..], &["scope"], &["names", "plural"], &["names", "kind"]] {
        let at = |object: &Value| {
            path.iter()
                .fold(object["spec"].clone(), |value, field| value[field].clone())
        };
        if at(new) != at(old) {
            causes.push(Cause::invalid(
                format!("spec.{}", path.join(".")),
                &at(new),
                "field is immutable",
            ));
        }
    }
    causes
}

/// The type that a definition describes.
///
/// # Errors
/// 422 when the definition is not valid.
pub(super) fn to_type(crd: &Value) -> Result<ResourceType, Status> {
    let causes = validate(crd);
    if !causes.is_empty() {
        let name = crd["metadata"]["name"].as_str().unwrap_or_default();
        return Err(Status::invalid(
            "apiextensions.k8s.io",
            "CustomResourceDefinition",
            name,
            causes,
        ));
    }
    let spec = &crd["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let strings = |value: &Value| -> Vec<String> {
        value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|v| v.as_str().map(str::to_owned))
            .collect()
    };
    let versions = spec["versions"].as_array().into_iter().flatten().map(|version| {
        let subresources = &version["subresources"];
        let scale = subresources.get("scale").map(|scale| ScalePaths {
            spec_replicas: text(&scale["specReplicasPath"]),
            status_replicas: text(&scale["statusReplicasPath"]),
            selector: scale["labelSelectorPath"].as_str().map(str::to_owned),
        });
        VersionInfo {
            name: text(&version["name"]),
            served: version["served"] == true,
            storage: version["storage"] == true,
            status: subresources.get("status").is_some(),
            scale,
            schema: schema::parse(&version["schema"]["openAPIV3Schema"], "").ok(),
            columns: version["additionalPrinterColumns"]
                .as_array()
                .cloned()
                .unwrap_or_default(),
        }
    });
    let names = &spec["names"];
    let (group, plural) = (text(&spec["group"]), text(&names["plural"]));
    Ok(ResourceType {
        storage: StorageKey::new(&group, &plural),
        group,
        plural,
        singular: text(&names["singular"]),
        kind: text(&names["kind"]),
        list_kind: text(&names["listKind"]),
        short_names: strings(&names["shortNames"]),
        categories: strings(&names["categories"]),
        namespaced: spec["scope"] == "Namespaced",
        versions: versions.collect(),
        custom: true,
    })
}

/// The status of a definition whose names are accepted or (with the reason) are not.
pub(super) fn status(crd: &Value, conflict: Option<&str>) -> Value {
    let old = &crd["status"];
    let since = |kind: &str, status: &str| -> Value {
        let conditions = old["conditions"].as_array();
        let same = conditions
            .into_iter()
            .flatten()
            .find(|c| c["type"] == kind && c["status"] == status);
        same.map_or_else(|| json!(crate::store::now()), |c| c["lastTransitionTime"].clone())
    };
    let condition = |kind: &str, status: &str, reason: &str, message: &str| json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since(kind, status)});
    let (names_accepted, established) = match conflict {
        None => (
            condition("NamesAccepted", "True", "NoConflicts", "no conflicts found"),
            condition(
                "Established",
                "True",
                "InitialNamesAccepted",
                "the initial names have been accepted",
            ),
        ),
        Some(why) => (
            condition("NamesAccepted", "False", "KindConflict", why),
            condition("Established", "False", "NotAccepted", "not all names are accepted"),
        ),
    };
    let mut stored: Vec<Value> = old["storedVersions"].as_array().cloned().unwrap_or_default();
    let storage = crd["spec"]["versions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|v| v["storage"] == true);
    if let Some(name) = storage.map(|v| v["name"].clone())
        && !stored.contains(&name)
    {
        stored.push(name);
    }
    json!({
        "conditions": [names_accepted, established],
        "acceptedNames": if conflict.is_none() { crd["spec"]["names"].clone() } else { json!({"plural": "", "kind": ""}) },
        "storedVersions": stored,
    })
}
