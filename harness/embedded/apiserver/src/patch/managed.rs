//! Field managers: `metadata.managedFields`, and server-side apply on top of it.
//!
//! The rules are those of structured-merge-diff. Two simplifications: ownership of an atomic field's parts is not split, and
//! versions of a custom resource share one set of paths (conversion is `None`, so that the paths are the same).

use super::field_set::{Difference, FieldSet, changed, readable, set_of};
use super::lists::{ListKind, ListTypes, Place, has_key};
use crate::{Cause, Status};
use serde_json::{Map, Value, json};

/// Who applies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manager<'a> {
    pub(crate) name: &'a str,
    pub(crate) api_version: &'a str,
    /// Empty for the object itself.
    pub(crate) subresource: &'a str,
}

/// One entry of `metadata.managedFields`.
#[derive(Clone, Debug)]
struct Entry {
    manager: String,
    operation: String,
    api_version: String,
    subresource: String,
    time: String,
    fields: FieldSet,
    /// The entry as it stands in the store, while it is the same.
    stored: Option<Value>,
}

impl Entry {
    fn is(&self, manager: &str, operation: &str, subresource: &str) -> bool {
        self.manager == manager && self.operation == operation && self.subresource == subresource
    }

    fn lose(&mut self, fields: &FieldSet) {
        if self.fields.subtract(fields) {
            self.stored = None;
        }
    }

    fn to_json(&self) -> Value {
        if let Some(stored) = &self.stored {
            return stored.clone();
        }
        let mut out = json!({
            "manager": self.manager, "operation": self.operation, "apiVersion": self.api_version,
            "time": self.time, "fieldsType": "FieldsV1", "fieldsV1": self.fields.to_text(),
        });
        if !self.subresource.is_empty() {
            out["subresource"] = json!(self.subresource);
        }
        out
    }
}

fn entries(object: &Value) -> Vec<Entry> {
    let list = object["metadata"]["managedFields"].as_array();
    list.into_iter()
        .flatten()
        .map(|entry| {
            let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
            Entry {
                manager: text("manager"),
                operation: text("operation"),
                api_version: text("apiVersion"),
                subresource: text("subresource"),
                time: text("time"),
                fields: fields(&entry["fieldsV1"]),
                stored: entry["fieldsV1"].is_string().then(|| entry.clone()),
            }
        })
        .collect()
}

/// Text in the store, a tree when a client sent it.
fn fields(value: &Value) -> FieldSet {
    match value.as_str() {
        Some(text) => FieldSet::from_text(text),
        None => FieldSet::from_json(value),
    }
}

fn write_entries(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|e| !e.fields.is_empty());
    if entries.is_empty() {
        crate::store::remove_field(&mut object["metadata"], "managedFields");
    } else {
        object["metadata"]["managedFields"] = entries.iter().map(Entry::to_json).collect();
    }
}

/// Gives a manager what it changed by an ordinary write, and takes it from the others.
pub(crate) fn record_update(
    old: Option<&Value>,
    new: &mut Value,
    manager: &str,
    api_version: &str,
    subresource: &str,
    lists: &ListTypes,
) {
    let Difference { changed, removed } = Difference::between(new, old.unwrap_or(&Value::Null), lists);
    if changed.is_empty() && removed.is_empty() {
        return;
    }
    let mut entries = entries(new);
    for entry in &mut entries {
        entry.lose(&removed);
        if !entry.is(manager, "Update", subresource) {
            entry.lose(&changed);
        }
    }
    if !changed.is_empty() {
        let position = entries.iter().position(|e| e.is(manager, "Update", subresource));
        match position {
            Some(i) => {
                let entry = &mut entries[i];
                entry.fields.union(&changed);
                entry.time = crate::store::now();
                api_version.clone_into(&mut entry.api_version);
                entry.stored = None;
            }
            None => entries.push(Entry {
                manager: manager.to_owned(),
                operation: "Update".into(),
                api_version: api_version.to_owned(),
                subresource: subresource.to_owned(),
                time: crate::store::now(),
                fields: changed,
                stored: None,
            }),
        }
    }
    write_entries(new, entries);
}

/// Applies a configuration: the fields in it are set and owned, those that the manager owned before and left out now are
/// removed unless someone else owns them too.
///
/// # Errors
/// 409 with a cause per field that another manager owns with another value, unless `force`.
pub(crate) fn apply(
    live: Option<&Value>,
    applied: &Value,
    manager: &Manager<'_>,
    force: bool,
    lists: &ListTypes,
) -> Result<Value, Status> {
    let new_set = set_of(applied, lists);
    let mut merged = live.cloned().unwrap_or_else(|| json!({}));
    merge(&mut merged, applied, lists.root());
    let nothing = Value::Null;
    let before = live.unwrap_or(&nothing);
    let mut entries = entries(before);
    let is_own = |e: &Entry| e.is(manager.name, "Apply", manager.subresource);

    let overwritten = changed(&new_set, &merged, before);
    let mut conflicts: Vec<(String, Vec<String>)> = Vec::new();
    for entry in entries.iter_mut().filter(|e| !is_own(e)) {
        let common = entry.fields.intersection(&overwritten);
        if common.is_empty() {
            continue;
        }
        if force {
            entry.lose(&common);
        } else {
            let whom = if entry.subresource.is_empty() {
                format!("\"{}\" using {}", entry.manager, entry.api_version)
            } else {
                format!(
                    "\"{}\" with subresource \"{}\" using {}",
                    entry.manager, entry.subresource, entry.api_version
                )
            };
            conflicts.push((whom, common.paths().iter().map(|p| readable(p)).collect()));
        }
    }
    if !conflicts.is_empty() {
        return Err(conflict_status(&conflicts));
    }

    let own = entries.iter().find(|e| is_own(e)).cloned();
    if let Some(own) = &own {
        let mut dropped = own.fields.clone();
        dropped.subtract(&new_set);
        for other in entries.iter().filter(|e| !is_own(e)) {
            dropped.subtract(&other.fields);
        }
        let mut kept = new_set.clone();
        for other in entries.iter().filter(|e| !is_own(e)) {
            kept.union(&other.fields);
        }
        remove(&mut merged, &dropped, &kept);
    }

    entries.retain(|e| !is_own(e));
    let mut probe = merged.clone();
    crate::store::set_or_remove(
        &mut probe["metadata"],
        "managedFields",
        before["metadata"].get("managedFields").cloned(),
    );
    let unchanged = own.as_ref().is_some_and(|own| own.fields == new_set) && probe == *before;
    entries.push(Entry {
        manager: manager.name.to_owned(),
        operation: "Apply".into(),
        api_version: manager.api_version.to_owned(),
        subresource: manager.subresource.to_owned(),
        time: own.filter(|_| unchanged).map_or_else(crate::store::now, |own| own.time),
        fields: new_set,
        stored: None,
    });
    if unchanged {
        // The order of the entries must not make a difference where there is none.
        return Ok(before.clone());
    }
    write_entries(&mut merged, entries);
    Ok(merged)
}

fn conflict_status(conflicts: &[(String, Vec<String>)]) -> Status {
    let count: usize = conflicts.iter().map(|(_, fields)| fields.len()).sum();
    let mut message = if count == 1 {
        "Apply failed with 1 conflict: ".to_owned()
    } else {
        format!("Apply failed with {count} conflicts: ")
    };
    let mut causes = Vec::new();
    let parts: Vec<String> = conflicts
        .iter()
        .map(|(whom, fields)| {
            causes.extend(fields.iter().map(|field| Cause {
                reason: "FieldManagerConflict",
                message: format!("conflict with {whom}"),
                field: field.clone(),
            }));
            match fields.as_slice() {
                [one] => format!("conflict with {whom}: {one}"),
                many => format!("conflicts with {whom}:\n- {}", many.join("\n- ")),
            }
        })
        .collect();
    message.push_str(&parts.join("\n"));
    Status::apply_conflict(message, causes)
}

/// Lays `applied` over `target`, lists by their kind.
fn merge(target: &mut Value, applied: &Value, place: Place<'_>) {
    match (&mut *target, applied) {
        (Value::Object(_), Value::Object(_)) if place.object_is_atomic() => *target = applied.clone(),
        (Value::Object(target), Value::Object(applied)) => {
            for (name, value) in applied {
                match target.get_mut(name) {
                    Some(existing) => merge(existing, value, place.member(name)),
                    None => {
                        target.insert(name.clone(), value.clone());
                    }
                }
            }
        }
        (Value::Array(target), Value::Array(applied)) => match place.list_kind() {
            ListKind::Atomic => target.clone_from(applied),
            ListKind::Set => {
                for item in applied {
                    if !target.contains(item) {
                        target.push(item.clone());
                    }
                }
            }
            ListKind::Map(keys) => {
                for item in applied {
                    let existing = place
                        .key_of(item, &keys)
                        .and_then(|key| target.iter_mut().find(|existing| has_key(existing, &key)));
                    match existing {
                        Some(existing) => merge(existing, item, place.item()),
                        None => target.push(item.clone()),
                    }
                }
            }
        },
        _ => *target = applied.clone(),
    }
}

/// Takes the paths of `dropped` out of `object`. A place that holds anything of `kept` stays, as do list items whose key someone
/// else owns.
fn remove(object: &mut Value, dropped: &FieldSet, kept: &FieldSet) {
    let empty = FieldSet::default();
    for (key, child) in &dropped.children {
        let kept_child = kept.children.get(key).unwrap_or(&empty);
        let goes = child.member && kept_child.is_empty();
        match (key.split_once(':'), &mut *object) {
            (Some(("f", field)), Value::Object(fields)) => {
                if goes && child.children.is_empty() {
                    fields.remove(field);
                } else if let Some(value) = fields.get_mut(field) {
                    remove(value, child, kept_child);
                    let emptied =
                        value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty);
                    if emptied && kept_child.is_empty() {
                        fields.remove(field);
                    }
                }
            }
            (Some(("k", key)), Value::Array(items)) => {
                let key: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
                if goes {
                    items.retain(|item| !has_key(item, &key));
                } else if let Some(item) = items.iter_mut().find(|item| has_key(item, &key)) {
                    remove(item, child, kept_child);
                }
            }
            (Some(("v", value)), Value::Array(items)) if goes => {
                let value: Value = serde_json::from_str(value).unwrap_or_default();
                items.retain(|item| *item != value);
            }
            _ => {}
        }
    }
}

/// Whether a write would change nothing. The times in `managedFields` change only together with something else, so that plain
/// equality says it.
pub(crate) fn same_apart_from_times(new: &Value, old: &Value) -> bool {
    new == old
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KUBECTL: Manager<'_> = Manager {
        name: "kubectl",
        api_version: "apps/v1",
        subresource: "",
    };
    const OTHER: Manager<'_> = Manager {
        name: "other",
        api_version: "apps/v1",
        subresource: "",
    };

    fn deployment(replicas: Option<u32>, images: &[(&str, &str)]) -> Value {
        let containers: Vec<Value> = images.iter().map(|(n, i)| json!({"name": n, "image": i})).collect();
        let mut object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"a": "b"}},
            "spec": {"template": {"spec": {"containers": containers}}},
        });
        if let Some(replicas) = replicas {
            object["spec"]["replicas"] = json!(replicas);
        }
        object
    }

    fn containers(object: &Value) -> Vec<&str> {
        let list = object["spec"]["template"]["spec"]["containers"].as_array().unwrap();
        list.iter().map(|c| c["name"].as_str().unwrap()).collect()
    }

    #[test]
    fn two_managers_own_their_parts() {
        let lists = ListTypes::built_in();
        let one = apply(None, &deployment(Some(1), &[("web", "a")]), &KUBECTL, false, &lists).unwrap();
        let two = apply(Some(&one), &deployment(None, &[("side", "b")]), &OTHER, false, &lists).unwrap();
        assert_eq!(containers(&two), ["web", "side"]);
        // Leaving a container out removes it, and only it.
        let three = apply(Some(&two), &deployment(Some(1), &[]), &KUBECTL, false, &lists).unwrap();
        assert_eq!(containers(&three), ["side"]);
        // Leaving a field out that nobody else owns removes it; a shared label stays.
        let mut without = deployment(None, &[]);
        without["metadata"] = json!({"name": "web"});
        let four = apply(Some(&three), &without, &KUBECTL, false, &lists).unwrap();
        assert!(four["spec"]["replicas"].is_null());
        assert_eq!(four["metadata"]["labels"]["a"], "b");
        let five = apply(
            Some(&four),
            &json!({"metadata": {"name": "web"}}),
            &OTHER,
            false,
            &lists,
        )
        .unwrap();
        assert!(five["metadata"]["labels"].is_null());
    }

    #[test]
    fn conflicts_name_field_and_manager_and_force_takes_over() {
        let lists = ListTypes::built_in();
        let one = apply(None, &deployment(Some(1), &[]), &KUBECTL, false, &lists).unwrap();
        let error = apply(Some(&one), &deployment(Some(2), &[]), &OTHER, false, &lists).unwrap_err();
        assert_eq!(
            error.message,
            "Apply failed with 1 conflict: conflict with \"kubectl\" using apps/v1: .spec.replicas"
        );
        assert_eq!(error.details.unwrap().causes[0].reason, "FieldManagerConflict");
        let forced = apply(Some(&one), &deployment(Some(2), &[]), &OTHER, true, &lists).unwrap();
        assert_eq!(forced["spec"]["replicas"], 2);
        // The first manager no longer owns the field: leaving it out does not remove it.
        let after = apply(Some(&forced), &deployment(None, &[]), &KUBECTL, false, &lists).unwrap();
        assert_eq!(after["spec"]["replicas"], 2);
    }

    #[test]
    fn the_same_value_is_shared_without_conflict() {
        let lists = ListTypes::built_in();
        let one = apply(None, &deployment(Some(1), &[]), &KUBECTL, false, &lists).unwrap();
        let two = apply(Some(&one), &deployment(Some(1), &[]), &OTHER, false, &lists).unwrap();
        let three = apply(Some(&two), &deployment(None, &[]), &OTHER, false, &lists).unwrap();
        assert_eq!(three["spec"]["replicas"], 1);
    }

    #[test]
    fn applying_again_changes_nothing() {
        let lists = ListTypes::built_in();
        let config = deployment(Some(1), &[("web", "a")]);
        let one = apply(None, &config, &KUBECTL, false, &lists).unwrap();
        let two = apply(
            Some(&one),
            &deployment(Some(1), &[("side", "b")]),
            &OTHER,
            false,
            &lists,
        )
        .unwrap();
        assert_eq!(apply(Some(&two), &config, &KUBECTL, false, &lists).unwrap(), two);
    }

    #[test]
    fn an_update_takes_ownership_from_an_apply() {
        let lists = ListTypes::built_in();
        let one = apply(None, &deployment(Some(1), &[]), &KUBECTL, false, &lists).unwrap();
        let mut scaled = one.clone();
        scaled["spec"]["replicas"] = json!(5);
        record_update(Some(&one), &mut scaled, "scaler", "apps/v1", "", &lists);
        let error = apply(Some(&scaled), &deployment(Some(1), &[]), &KUBECTL, false, &lists).unwrap_err();
        assert!(error.message.contains("\"scaler\""), "{}", error.message);
        let kept = apply(Some(&scaled), &deployment(None, &[]), &KUBECTL, false, &lists).unwrap();
        assert_eq!(kept["spec"]["replicas"], 5);
    }

    #[test]
    fn service_ports_are_keyed_with_the_default_protocol() {
        let lists = ListTypes::built_in();
        let service = |port: u16, name: &str| json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": port, "name": name}]}});
        let one = apply(None, &service(80, "http"), &KUBECTL, false, &lists).unwrap();
        let mut live = one.clone();
        live["spec"]["ports"][0]["protocol"] = json!("TCP");
        let two = apply(Some(&live), &service(80, "web"), &KUBECTL, false, &lists).unwrap();
        assert_eq!(two["spec"]["ports"].as_array().unwrap().len(), 1);
        assert_eq!(two["spec"]["ports"][0]["name"], "web");
        let three = apply(Some(&two), &service(81, "web"), &KUBECTL, false, &lists).unwrap();
        assert_eq!(three["spec"]["ports"].as_array().unwrap().len(), 1);
        assert_eq!(three["spec"]["ports"][0]["port"], 81);
    }

    #[test]
    fn custom_lists_follow_their_schema() {
        let schema = json!({"type": "object", "properties": {
            "byName": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                       "items": {"type": "object", "properties": {"name": {"type": "string"}, "n": {"type": "integer"}}}},
            "plain": {"type": "array", "items": {"type": "string"}}}});
        let lists = ListTypes::with_schema((*crate::crd::schema::parse(&schema, "").unwrap()).clone());
        let one = apply(
            None,
            &json!({"byName": [{"name": "a", "n": 1}], "plain": ["x"]}),
            &KUBECTL,
            false,
            &lists,
        )
        .unwrap();
        let two = apply(
            Some(&one),
            &json!({"byName": [{"name": "b", "n": 2}]}),
            &OTHER,
            false,
            &lists,
        )
        .unwrap();
        assert_eq!(two["byName"].as_array().unwrap().len(), 2);
        let error = apply(Some(&two), &json!({"plain": ["y"]}), &OTHER, false, &lists).unwrap_err();
        assert!(error.message.contains(".plain"));
    }

    /// A configuration as a client would send it: an object with a specification of any shape.
    fn configuration() -> impl Strategy<Value = Value> {
        let fields = prop::collection::btree_map("[a-d]", crate::patch::merge::tests::value(), 0..4);
        let containers = prop::collection::btree_map("[a-c]", "[x-z]", 0..3);
        (fields, containers).prop_map(|(fields, containers)| {
            let containers: Value = containers.iter().map(|(n, i)| json!({"name": n, "image": i})).collect();
            json!({"metadata": {"name": "web"}, "fields": fields, "spec": {"containers": containers}})
        })
    }

    proptest! {
        #[test]
        fn applying_twice_is_applying_once(first in configuration(), second in configuration()) {
            let lists = ListTypes::built_in();
            let live = apply(None, &first, &OTHER, true, &lists).unwrap();
            let once = apply(Some(&live), &second, &KUBECTL, true, &lists).unwrap();
            let twice = apply(Some(&once), &second, &KUBECTL, false, &lists).unwrap();
            prop_assert_eq!(once, twice);
        }

        #[test]
        fn what_is_applied_is_there_afterwards(first in configuration(), second in configuration()) {
            let lists = ListTypes::built_in();
            let live = apply(None, &first, &KUBECTL, true, &lists).unwrap();
            let after = apply(Some(&live), &second, &KUBECTL, true, &lists).unwrap();
            for container in second["spec"]["containers"].as_array().unwrap() {
                prop_assert!(after["spec"]["containers"].as_array().unwrap().contains(container));
            }
            // With one manager, nothing stays of what it no longer applies.
            let count = |object: &Value| object["spec"]["containers"].as_array().map_or(0, Vec::len);
            prop_assert_eq!(count(&after), count(&second));
        }
    }
}
