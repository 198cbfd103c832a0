//! Sets of field paths: what a manager owns, and which fields of an object changed.

use super::lists::{ListKind, ListTypes, Place, has_key};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A set of paths as a tree. Keys are written as in `fieldsV1`: `f:<field>`, `k:<key as JSON>`, `v:<value as JSON>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct FieldSet {
    /// Whether the place itself is in the set.
    pub(super) member: bool,
    pub(super) children: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    pub(super) fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    pub(super) fn from_json(value: &Value) -> Self {
        let mut set = Self::default();
        let Some(fields) = value.as_object() else { return set };
        set.member = fields.is_empty();
        for (key, child) in fields {
            if key == "." {
                set.member = true;
            } else {
                set.children.insert(key.clone(), Self::from_json(child));
            }
        }
        set
    }

    pub(super) fn to_json(&self) -> Value {
        let mut fields = Map::new();
        if self.member && !self.children.is_empty() {
            fields.insert(".".into(), json!({}));
        }
        for (key, child) in &self.children {
            fields.insert(key.clone(), child.to_json());
        }
        Value::Object(fields)
    }

    pub(super) fn union(&mut self, other: &Self) {
        self.member |= other.member;
        for (key, child) in &other.children {
            self.children.entry(key.clone()).or_default().union(child);
        }
    }

    pub(super) fn subtract(&mut self, other: &Self) {
        if other.member {
            self.member = false;
        }
        for (key, child) in &other.children {
            if let Some(own) = self.children.get_mut(key) {
                own.subtract(child);
                if own.is_empty() {
                    self.children.remove(key);
                }
            }
        }
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        let children = self.children.iter().filter_map(|(key, child)| {
            let common = child.intersection(other.children.get(key)?);
            (!common.is_empty()).then(|| (key.clone(), common))
        });
        Self {
            member: self.member && other.member,
            children: children.collect(),
        }
    }

    /// Every path in the set, as lists of keys.
    pub(super) fn paths(&self) -> Vec<Vec<&str>> {
        fn walk<'a>(set: &'a FieldSet, path: &mut Vec<&'a str>, out: &mut Vec<Vec<&'a str>>) {
            if set.member {
                out.push(path.clone());
            }
            for (key, child) in &set.children {
                path.push(key);
                walk(child, path, out);
                path.pop();
            }
        }
        let mut out = Vec::new();
        walk(self, &mut Vec::new(), &mut out);
        out
    }
}

/// Fields that nobody owns.
fn is_unowned(parent_is_root: bool, parent_is_metadata: bool, field: &str) -> bool {
    (parent_is_root && matches!(field, "apiVersion" | "kind"))
        || (parent_is_metadata
            && matches!(
                field,
                "name"
                    | "namespace"
                    | "uid"
                    | "creationTimestamp"
                    | "deletionTimestamp"
                    | "deletionGracePeriodSeconds"
                    | "generation"
                    | "resourceVersion"
                    | "selfLink"
                    | "managedFields"
            ))
}

/// All fields of an object.
pub(super) fn set_of(object: &Value, lists: &ListTypes) -> FieldSet {
    fn walk(value: &Value, place: Place<'_>, level: usize, in_metadata: bool) -> FieldSet {
        let mut set = FieldSet::default();
        match value {
            Value::Object(fields) if !place.object_is_atomic() => {
                for (name, child) in fields {
                    if is_unowned(level == 0, in_metadata, name) {
                        continue;
                    }
                    let child = walk(child, place.member(name), level + 1, level == 0 && name == "metadata");
                    if !child.is_empty() {
                        set.children.insert(format!("f:{name}"), child);
                    }
                }
                set.member = fields.is_empty();
            }
            Value::Array(items) => match place.list_kind() {
                ListKind::Atomic => set.member = true,
                ListKind::Set => {
                    set.member = items.is_empty();
                    for item in items {
                        set.children.insert(
                            format!("v:{item}"),
                            FieldSet {
                                member: true,
                                ..FieldSet::default()
                            },
                        );
                    }
                }
                ListKind::Map(keys) => {
                    set.member = items.is_empty();
                    for item in items {
                        let Some(key) = place.key_of(item, &keys) else {
                            set.member = true;
                            continue;
                        };
                        let mut child = walk(item, place.item(), level + 1, false);
                        child.member = true;
                        set.children.insert(format!("k:{}", Value::Object(key)), child);
                    }
                }
            },
            _ => set.member = true,
        }
        set
    }
    let mut set = walk(object, lists.root(), 0, false);
    set.member = false;
    set
}

/// The value at a path, if there is one.
fn value_at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    let mut at = object;
    for key in path {
        at = match key.split_once(':')? {
            ("f", field) => at.get(field)?,
            ("k", key) => {
                let key: Map<String, Value> = serde_json::from_str(key).ok()?;
                at.as_array()?.iter().find(|item| has_key(item, &key))?
            }
            ("v", value) => {
                let value: Value = serde_json::from_str(value).ok()?;
                at.as_array()?.iter().find(|item| **item == value)?
            }
            _ => return None,
        };
    }
    Some(at)
}

/// The paths of `set` whose values differ between the objects. Places with members below them count only when they are new.
pub(super) fn changed(set: &FieldSet, new: &Value, old: &Value) -> FieldSet {
    fn walk<'a>(set: &'a FieldSet, path: &mut Vec<&'a str>, new: &Value, old: &Value) -> FieldSet {
        let mut out = FieldSet::default();
        if set.member {
            let before = value_at(old, path);
            out.member = if set.children.is_empty() {
                value_at(new, path) != before
            } else {
                before.is_none()
            };
        }
        for (key, child) in &set.children {
            path.push(key);
            let changed = walk(child, path, new, old);
            path.pop();
            if !changed.is_empty() {
                out.children.insert(key.clone(), changed);
            }
        }
        out
    }
    walk(set, &mut Vec::new(), new, old)
}

/// `.spec.containers[name="web"].image`
pub(super) fn readable(path: &[&str]) -> String {
    let mut out = String::new();
    for key in path {
        match key.split_once(':') {
            Some(("f", field)) => {
                out.push('.');
                out.push_str(field);
            }
            Some(("k", key)) => {
                let key: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
                let parts: Vec<String> = key.iter().map(|(name, value)| format!("{name}={value}")).collect();
                out.extend(["[", &parts.join(","), "]"]);
            }
            Some((_, value)) => out.extend(["[=", value, "]"]),
            None => {}
        }
    }
    out
}
