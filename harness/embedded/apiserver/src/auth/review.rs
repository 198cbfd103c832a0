//! The review resources: questions about tokens and permissions, answered and not stored.

use super::rbac::{self, Attributes};
use super::token::UserInfo;
use crate::{Status, Store};
use serde_json::{Value, json};

/// Answers a review of one of the kinds of `authorization.k8s.io` and `authentication.k8s.io`, or `None` when `resource` is none.
pub(crate) fn answer(
    store: &Store,
    user: &UserInfo,
    group: &str,
    resource: &str,
    mut review: Value,
) -> Option<Result<Value, Status>> {
    if !review.is_object() {
        return Some(Err(Status::bad_request("expected a JSON object")));
    }
    let spec = review["spec"].clone();
    let (kind, status) = match (group, resource) {
        ("authorization.k8s.io", "selfsubjectaccessreviews") => ("SelfSubjectAccessReview", access(store, user, &spec)),
        ("authorization.k8s.io", "subjectaccessreviews" | "localsubjectaccessreviews") => {
            let kind = if resource.starts_with("local") {
                "LocalSubjectAccessReview"
            } else {
                "SubjectAccessReview"
            };
            let groups: Vec<String> = strings(&spec["groups"]);
            let name = spec["user"].as_str().unwrap_or_default().to_owned();
            let subject = UserInfo {
                name,
                groups,
                ..UserInfo::default()
            };
            (kind, access(store, &subject, &spec))
        }
        ("authorization.k8s.io", "selfsubjectrulesreviews") => {
            let namespace = spec["namespace"].as_str().unwrap_or_default();
            let rules = if user.is_master() {
                vec![
                    json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}),
                    json!({"verbs": ["*"], "nonResourceURLs": ["*"]}),
                ]
            } else {
                rbac::rules_for(&store.lock(), user, namespace)
            };
            let (resources, paths) = rbac::as_review(&rules);
            (
                "SelfSubjectRulesReview",
                json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false}),
            )
        }
        ("authentication.k8s.io", "selfsubjectreviews") => ("SelfSubjectReview", json!({"userInfo": user_info(user)})),
        ("authentication.k8s.io", "tokenreviews") => {
            let token = spec["token"].as_str().unwrap_or_default();
            let status = match store.authenticate(token) {
                Some(user) => json!({"authenticated": true, "user": user_info(&user), "audiences": spec["audiences"]}),
                None => json!({"authenticated": false, "error": "invalid bearer token"}),
            };
            ("TokenReview", status)
        }
        _ => return None,
    };
    review["apiVersion"] = json!(format!("{group}/v1"));
    review["kind"] = json!(kind);
    if review["metadata"].is_null() {
        review["metadata"] = json!({"creationTimestamp": null});
    }
    review["status"] = status;
    Some(Ok(review))
}

fn access(store: &Store, user: &UserInfo, spec: &Value) -> Value {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let resource = &spec["resourceAttributes"];
    let path = &spec["nonResourceAttributes"];
    let attributes = if resource.is_object() {
        Attributes {
            verb: text(&resource["verb"]),
            group: text(&resource["group"]),
            resource: text(&resource["resource"]),
            subresource: text(&resource["subresource"]),
            namespace: text(&resource["namespace"]),
            name: text(&resource["name"]),
            path: String::new(),
        }
    } else {
        Attributes {
            verb: text(&path["verb"]),
            path: text(&path["path"]),
            ..Attributes::default()
        }
    };
    json!({"allowed": rbac::allowed(store, user, &attributes)})
}

fn user_info(user: &UserInfo) -> Value {
    json!({"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra})
}

fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|v| v.as_str().map(str::to_owned))
        .collect()
}
