//! Reading Kubernetes objects as JSON.

use jiff::Timestamp;
use meshproof_apiserver::LabelSelector;
use serde_json::{Map, Value, json};

/// Namespace (empty for objects of the cluster) and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    pub(crate) fn of(object: &Value) -> Self {
        Self::new(namespace(object), name(object))
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(crate) fn namespace(object: &Value) -> &str {
    text(&object["metadata"]["namespace"])
}

pub(crate) fn name(object: &Value) -> &str {
    text(&object["metadata"]["name"])
}

pub(crate) fn uid(object: &Value) -> &str {
    text(&object["metadata"]["uid"])
}

pub(crate) fn is_being_deleted(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

/// The elements of a list; none when it is missing.
pub(crate) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

pub(crate) fn map(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

/// The uid of the owner that manages the object.
pub(crate) fn controller_uid(object: &Value) -> Option<&str> {
    controller_reference(object).map(|r| text(&r["uid"]))
}

pub(crate) fn controller_reference(object: &Value) -> Option<&Value> {
    list(&object["metadata"]["ownerReferences"]).find(|r| r["controller"] == true)
}

/// An owner reference that makes `owner` the manager of an object.
pub(crate) fn owner_reference(api_version: &str, kind: &str, owner: &Value) -> Value {
    json!({
        "apiVersion": api_version,
        "kind": kind,
        "name": name(owner),
        "uid": uid(owner),
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// The label selector in `spec.selector` of a workload. One that cannot be read selects nothing, as an empty one would
/// select everything.
pub(crate) fn selector(object: &Value) -> Option<LabelSelector> {
    let selector = &object["spec"]["selector"];
    let parsed = LabelSelector::from_object(selector).ok()?;
    selector.as_object().is_some_and(|s| !s.is_empty()).then_some(parsed)
}

pub(crate) fn count(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

/// The present time as Kubernetes writes it: whole seconds.
pub(crate) fn now() -> Value {
    let now = Timestamp::now();
    let whole = Timestamp::from_second(now.as_second()).unwrap_or(now);
    json!(whole.to_string())
}

pub(crate) fn time(value: &Value) -> Option<Timestamp> {
    text(value).parse().ok()
}

pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list(&object["status"]["conditions"]).find(|c| c["type"] == kind)
}

pub(crate) fn condition_is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|c| c["status"] == "True")
}

/// Whether a pod runs or may still run: not ended, not being deleted.
pub(crate) fn is_active_pod(pod: &Value) -> bool {
    !is_being_deleted(pod) && !has_ended(pod)
}

pub(crate) fn has_ended(pod: &Value) -> bool {
    matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed")
}

pub(crate) fn is_ready_pod(pod: &Value) -> bool {
    condition_is_true(pod, "Ready")
}

/// A hash of a pod template, written as Kubernetes writes it: digits and consonants, so that it forms no words.
pub(crate) fn template_hash(template: &Value) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let hash = template.to_string().bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash.to_string()
        .bytes()
        .map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_differ_with_the_template_and_are_valid_label_values() {
        let hash = |image: &str| template_hash(&json!({"spec": {"containers": [{"name": "a", "image": image}]}}));
        assert_eq!(hash("a:1"), hash("a:1"));
        assert_ne!(hash("a:1"), hash("a:2"));
        assert!(hash("a:1").len() <= 10);
        assert!(
            hash("a:1")
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        );
    }

    #[test]
    fn an_empty_selector_selects_nothing() {
        assert!(selector(&json!({"spec": {"selector": {}}})).is_none());
        assert!(selector(&json!({"spec": {}})).is_none());
        let labels = json!({"app": "web"});
        let found = selector(&json!({"spec": {"selector": {"matchLabels": {"app": "web"}}}}));
        assert!(found.unwrap().matches_labels(&labels));
    }

    #[test]
    fn times_have_whole_seconds() {
        let now = now();
        assert_eq!(text(&now).len(), "2026-11-21T02:14:06Z".len(), "{now}");
        assert!(time(&now).is_some());
    }
}
