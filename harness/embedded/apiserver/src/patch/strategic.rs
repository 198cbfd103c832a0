//! Strategic merge patch: a merge patch in which the lists of built-in types are merged by key.
//!
//! Directives: `$patch: replace | delete | merge`, `$retainKeys`, `$setElementOrder/<list>`, `$deleteFromPrimitiveList/<list>`.

use crate::Status;
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

/// Items of a patch times items of the list that they are merged into: each is searched for.
const COMPARISONS_LIMIT: usize = 4_000_000;

/// The merge key of a list, by the field's name and its parent's. Lists that are not here are replaced. Names and keys are the
/// `patchMergeKey` tags of `k8s.io/api`.
fn merge_key(parent: &str, field: &str) -> Option<&'static str> {
    Some(match (parent, field) {
        ("containers" | "initContainers" | "ephemeralContainers", "ports") => "containerPort",
        ("spec", "ports") => "port",
        (
            _,
            "containers"
            | "initContainers"
            | "ephemeralContainers"
            | "volumes"
            | "env"
            | "imagePullSecrets"
            | "secrets",
        ) => "name",
        (_, "volumeMounts") => "mountPath",
        (_, "volumeDevices") => "devicePath",
        (_, "hostAliases") => "ip",
        (_, "topologySpreadConstraints") => "topologyKey",
        (_, "conditions") => "type",
        ("status", "addresses") => "type",
        ("status", "podIPs" | "hostIPs") => "ip",
        (_, "taints") => "key",
        ("metadata", "ownerReferences") => "uid",
        _ => return None,
    })
}

/// Lists of scalars that are merged as sets.
fn is_merged_set(parent: &str, field: &str) -> bool {
    matches!((parent, field), ("metadata", "finalizers"))
}

/// Merges `patch` into `target`.
///
/// # Errors
/// 400 when the patch is no object, has an unknown directive, or an item of a keyed list lacks its key.
pub(crate) fn merge(target: &mut Value, patch: &Value) -> Result<(), Status> {
    if !patch.is_object() {
        return Err(Status::bad_request("a strategic merge patch must be an object"));
    }
    let mut result = target.clone();
    merge_value(&mut result, patch, "", "")?;
    *target = result;
    Ok(())
}

fn merge_value(target: &mut Value, patch: &Value, parent: &str, field: &str) -> Result<(), Status> {
    match patch {
        Value::Object(patch) => merge_object(target, patch, field),
        Value::Array(patch) => merge_list(target, patch, parent, field),
        scalar => {
            *target = scalar.clone();
            Ok(())
        }
    }
}

fn merge_object(target: &mut Value, patch: &Map<String, Value>, field: &str) -> Result<(), Status> {
    match patch.get("$patch").map(|d| d.as_str().unwrap_or_default()) {
        None | Some("merge") => {}
        Some("replace") => {
            let mut replaced = patch.clone();
            replaced.remove("$patch");
            *target = Value::Object(replaced);
            return Ok(());
        }
        Some("delete") => {
            *target = Value::Object(Map::new());
            return Ok(());
        }
        Some(other) => {
            return Err(Status::bad_request(format!(
                "unrecognized directive \"$patch: {other}\""
            )));
        }
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return Ok(()) };
    if let Some(keep) = patch.get("$retainKeys").and_then(Value::as_array) {
        fields.retain(|key, _| keep.iter().any(|k| k == key.as_str()));
    }
    for (key, value) in patch {
        if let Some(list) = key.strip_prefix("$deleteFromPrimitiveList/") {
            let gone: HashSet<String> = value.as_array().into_iter().flatten().map(Value::to_string).collect();
            if let Some(items) = fields.get_mut(list).and_then(Value::as_array_mut) {
                items.retain(|item| !gone.contains(&item.to_string()));
            }
        } else if key.starts_with('$') {
            // $patch and $retainKeys are done, the order of elements comes last.
        } else if value.is_null() {
            fields.remove(key);
        } else {
            merge_value(fields.entry(key.clone()).or_insert(Value::Null), value, field, key)?;
        }
    }
    for (key, order) in patch {
        if let Some(list) = key.strip_prefix("$setElementOrder/")
            && let (Some(items), Some(order)) = (fields.get_mut(list).and_then(Value::as_array_mut), order.as_array())
        {
            let list_key = merge_key(field, list);
            let id = |item: &Value| match list_key {
                Some(key) => item[key].to_string(),
                None => item.to_string(),
            };
            // The first of several counts.
            let ranks: HashMap<String, usize> = order.iter().enumerate().rev().map(|(i, o)| (id(o), i)).collect();
            // Stable: items that the order does not name stay behind those before them.
            items.sort_by_cached_key(|item| ranks.get(&id(item)).copied().unwrap_or(usize::MAX));
        }
    }
    Ok(())
}

fn merge_list(target: &mut Value, patch: &[Value], parent: &str, field: &str) -> Result<(), Status> {
    let replace = patch.iter().any(|item| item["$patch"] == "replace");
    let present = target.as_array().map_or(0, Vec::len);
    let is_merged = merge_key(parent, field).is_some() || is_merged_set(parent, field);
    if patch.len().saturating_mul(present.max(patch.len())) > COMPARISONS_LIMIT && is_merged {
        return Err(Status::too_large_for(format!(
            "{} items can't be merged into a list of {present} ({field})",
            patch.len()
        )));
    }
    let Some(key) = merge_key(parent, field).filter(|_| !replace) else {
        if is_merged_set(parent, field) && !replace {
            let mut items = target.as_array().cloned().unwrap_or_default();
            for item in patch {
                if !items.contains(item) {
                    items.push(item.clone());
                }
            }
            *target = Value::Array(items);
        } else {
            let kept = patch.iter().filter(|item| item.get("$patch").is_none());
            *target = Value::Array(kept.cloned().collect());
        }
        return Ok(());
    };
    let mut items = target.as_array().cloned().unwrap_or_default();
    for change in patch {
        let Some(id) = change.get(key).filter(|id| !id.is_null()) else {
            return Err(Status::bad_request(format!(
                "map: {change} does not contain declared merge key: {key}"
            )));
        };
        let existing = items.iter().position(|item| item.get(key) == Some(id));
        if change["$patch"] == "delete" {
            items.retain(|item| item.get(key) != Some(id));
        } else if let Some(i) = existing {
            merge_value(&mut items[i], change, parent, field)?;
        } else {
            let mut item = Value::Object(Map::new());
            merge_value(&mut item, change, parent, field)?;
            items.push(item);
        }
    }
    *target = Value::Array(items);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patch::merge::tests::value;
    use proptest::prelude::*;
    use serde_json::json;

    fn patched(mut target: Value, patch: &Value) -> Value {
        merge(&mut target, patch).unwrap();
        target
    }

    fn pod(containers: Value) -> Value {
        json!({"spec": {"containers": containers}})
    }

    #[test]
    fn containers_merge_by_name() {
        let before = pod(
            json!([{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "1"}]),
        );
        let change = pod(json!([{"name": "a", "image": "2", "env": [{"name": "Y", "value": "2"}]}]));
        let after = patched(before, &change);
        assert_eq!(after["spec"]["containers"][0]["image"], "2");
        assert_eq!(after["spec"]["containers"][0]["env"].as_array().unwrap().len(), 2);
        assert_eq!(after["spec"]["containers"][1]["name"], "b");
    }

    #[test]
    fn directives() {
        let before = pod(json!([{"name": "a"}, {"name": "b"}]));
        let deleted = patched(before.clone(), &pod(json!([{"name": "a", "$patch": "delete"}])));
        assert_eq!(deleted, pod(json!([{"name": "b"}])));
        let replaced = patched(before.clone(), &pod(json!([{"name": "c"}, {"$patch": "replace"}])));
        assert_eq!(replaced, pod(json!([{"name": "c"}])));
        let ordered = patched(
            before,
            &json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}),
        );
        assert_eq!(ordered, pod(json!([{"name": "b"}, {"name": "a"}])));
        let kept = patched(
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {}}}}),
            &json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
        );
        assert_eq!(kept, json!({"spec": {"strategy": {"type": "Recreate"}}}));
        let finalizers = json!({"metadata": {"finalizers": ["a/1", "a/2"]}});
        let less = patched(
            finalizers.clone(),
            &json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/1"]}}),
        );
        assert_eq!(less["metadata"]["finalizers"], json!(["a/2"]));
        let more = patched(finalizers, &json!({"metadata": {"finalizers": ["a/3"]}}));
        assert_eq!(more["metadata"]["finalizers"], json!(["a/1", "a/2", "a/3"]));
    }

    #[test]
    fn atomic_lists_are_replaced() {
        let before = json!({"subsets": [{"a": 1}]});
        assert_eq!(
            patched(before, &json!({"subsets": [{"b": 2}]})),
            json!({"subsets": [{"b": 2}]})
        );
    }

    #[test]
    fn mistakes_are_named() {
        let mut target = pod(json!([{"name": "a"}]));
        assert!(
            merge(&mut target, &pod(json!([{"image": "x"}])))
                .unwrap_err()
                .message
                .contains("merge key: name")
        );
        assert!(
            merge(&mut target, &json!({"spec": {"$patch": "explode"}}))
                .unwrap_err()
                .message
                .contains("explode")
        );
    }

    fn named_list() -> impl Strategy<Value = Value> {
        prop::collection::btree_map("[a-e]", value(), 0..4).prop_map(|items| {
            items
                .into_iter()
                .map(|(name, value)| json!({"name": name, "x": value}))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn merging_twice_is_merging_once(target in named_list(), change in named_list(), rest in value()) {
            let mut once = json!({"spec": {"containers": target, "rest": rest}});
            let change = json!({"spec": {"containers": change}});
            merge(&mut once, &change).unwrap();
            let mut twice = once.clone();
            merge(&mut twice, &change).unwrap();
            prop_assert_eq!(once, twice);
        }
    }
}
