//! What undoes a change of an object, computed from what it was before.

use serde_json::{Map, Value};

/// The merge patch that takes `patch` back from an object that was `original` before.
#[must_use]
pub(crate) fn inverse(original: &Value, patch: &Value) -> Value {
    let (Value::Object(original), Value::Object(patch)) = (original, patch) else {
        return original.clone();
    };
    let mut undo = Map::new();
    for (key, change) in patch {
        let before = original.get(key).unwrap_or(&Value::Null);
        let back = match (before, change) {
            (Value::Object(_), Value::Object(_)) => inverse(before, change),
            (Value::Null, Value::Object(_)) => Value::Null,
            _ => before.clone(),
        };
        undo.insert(key.clone(), back);
    }
    Value::Object(undo)
}

/// The object as it can be made again: without what the server fills in.
#[must_use]
pub(crate) fn recreatable(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
        if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
            for key in [
                "uid",
                "resourceVersion",
                "generation",
                "creationTimestamp",
                "managedFields",
                "selfLink",
            ] {
                metadata.remove(key);
            }
        }
    }
    object
}

/// The part of an inverse patch that a server takes: without what it fills in by itself.
#[must_use]
pub(crate) fn inverse_of_apply(original: &Value, manifest: &Value) -> Value {
    let mut undo = inverse(original, manifest);
    if let Some(map) = undo.as_object_mut() {
        map.remove("apiVersion");
        map.remove("kind");
        map.remove("status");
        if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("name");
            metadata.remove("namespace");
        }
    }
    undo
}

#[cfg(test)]
mod tests {
    use super::inverse;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn merged(original: &Value, patch: &Value) -> Value {
        let mut merged = original.clone();
        json_patch::merge(&mut merged, patch);
        merged
    }

    #[test]
    fn a_patch_is_taken_back() {
        let original = json!({"spec": {"replicas": 1, "keep": true}, "metadata": {"labels": {"a": "1"}}});
        let patch = json!({"spec": {"replicas": 0, "new": 2}, "metadata": {"labels": {"a": null, "b": "2"}, "annotations": {"x": "y"}}});
        let changed = merged(&original, &patch);
        assert_ne!(changed, original);
        assert_eq!(merged(&changed, &inverse(&original, &patch)), original);
    }

    /// Objects as the API holds them: no nulls, and no empty maps, which a server may drop.
    fn object(depth: u32) -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-c]{0,3}".prop_map(Value::from)
        ];
        leaf.prop_recursive(depth, 24, 4, |inner| {
            prop::collection::btree_map("[a-e]", inner, 1..4).prop_map(|map| Value::Object(map.into_iter().collect()))
        })
    }

    proptest! {
        #[test]
        fn any_patch_is_taken_back(original in prop::collection::btree_map("[a-e]", object(3), 0..4), patch in prop::collection::btree_map("[a-e]", object(3), 0..4)) {
            let original = Value::Object(original.into_iter().collect());
            let patch = Value::Object(patch.into_iter().collect());
            let changed = merged(&original, &patch);
            prop_assert_eq!(merged(&changed, &inverse(&original, &patch)), original);
        }
    }
}
