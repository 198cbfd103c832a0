//! Roles and bindings.

use super::fields::set_default;
use crate::Cause;
use crate::admission::items_mut;
use crate::resource::ResourceType;
use serde_json::{Value, json};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Defaults of a binding.
pub(super) fn default_binding(object: &mut Value) {
    if object["roleRef"].is_object() && object["roleRef"]["apiGroup"].as_str().unwrap_or_default().is_empty() {
        object["roleRef"]["apiGroup"] = json!(GROUP);
    }
    for subject in items_mut(object, "subjects") {
        if matches!(subject["kind"].as_str(), Some("User" | "Group")) {
            set_default(subject, "apiGroup", json!(GROUP));
        }
    }
}

/// Field errors of a role.
pub(super) fn validate_role(resource: &ResourceType, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let empty = |value: &Value| value.as_array().is_none_or(Vec::is_empty);
    for (i, rule) in object["rules"].as_array().into_iter().flatten().enumerate() {
        let at = format!("rules[{i}]");
        if empty(&rule["verbs"]) {
            causes.push(Cause::required(
                format!("{at}.verbs"),
                "verbs must contain at least one value",
            ));
        }
        if !empty(&rule["nonResourceURLs"]) {
            if resource.namespaced {
                let why = "namespaced rules cannot apply to non-resource URLs";
                causes.push(Cause::invalid(
                    format!("{at}.nonResourceURLs"),
                    &rule["nonResourceURLs"],
                    why,
                ));
            }
            continue;
        }
        if empty(&rule["apiGroups"]) {
            causes.push(Cause::required(
                format!("{at}.apiGroups"),
                "resource rules must supply at least one api group",
            ));
        }
        if empty(&rule["resources"]) {
            causes.push(Cause::required(
                format!("{at}.resources"),
                "resource rules must supply at least one resource",
            ));
        }
    }
    causes
}

/// Field errors of a binding.
pub(super) fn validate_binding(object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let role = &object["roleRef"];
    if !matches!(role["kind"].as_str(), Some("Role" | "ClusterRole")) {
        causes.push(Cause::not_supported(
            "roleRef.kind",
            &role["kind"],
            &["ClusterRole", "Role"],
        ));
    }
    if role["name"].as_str().unwrap_or_default().is_empty() {
        causes.push(Cause::required("roleRef.name", ""));
    }
    for (i, subject) in object["subjects"].as_array().into_iter().flatten().enumerate() {
        let at = format!("subjects[{i}]");
        let kind = subject["kind"].as_str().unwrap_or_default();
        if !matches!(kind, "ServiceAccount" | "User" | "Group") {
            causes.push(Cause::not_supported(
                format!("{at}.kind"),
                &subject["kind"],
                &["Group", "ServiceAccount", "User"],
            ));
        }
        if subject["name"].as_str().unwrap_or_default().is_empty() {
            causes.push(Cause::required(format!("{at}.name"), ""));
        }
        if kind == "ServiceAccount" && subject["namespace"].as_str().unwrap_or_default().is_empty() {
            causes.push(Cause::required(format!("{at}.namespace"), ""));
        }
    }
    causes
}

/// The role of a binding cannot change.
pub(super) fn validate_binding_change(new: &Value, old: &Value) -> Vec<Cause> {
    if new["roleRef"] == old["roleRef"] {
        return Vec::new();
    }
    vec![Cause::invalid("roleRef", &new["roleRef"], "cannot change roleRef")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings() {
        let mut binding =
            json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}]});
        default_binding(&mut binding);
        assert_eq!(binding["subjects"][0]["apiGroup"], GROUP);
        assert!(validate_binding(&binding).is_empty());
        let bad = json!({"roleRef": {"kind": "X"}, "subjects": [{"kind": "ServiceAccount", "name": "a"}]});
        assert_eq!(validate_binding(&bad).len(), 3);
    }
}
