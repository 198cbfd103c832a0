//! Sets of field paths: what a manager owns, and which fields of an object changed.

use super::lists::{ListKind, ListTypes, Place, has_key};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

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

    /// From a tree as clients send it; what is no tree is empty.
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

    /// From the text that [`FieldSet::to_text`] gave.
    pub(super) fn from_text(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// A tree as JSON.
    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(super) fn union(&mut self, other: &Self) {
        self.member |= other.member;
        for (key, child) in &other.children {
            self.children.entry(key.clone()).or_default().union(child);
        }
    }

    /// Takes the paths of another set out of this one; whether there were any.
    pub(super) fn subtract(&mut self, other: &Self) -> bool {
        let mut less = self.member && other.member;
        self.member &= !other.member;
        for (key, child) in &other.children {
            if let Some(own) = self.children.get_mut(key) {
                less |= own.subtract(child);
                if own.is_empty() {
                    self.children.remove(key);
                }
            }
        }
        less
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

impl Serialize for FieldSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if self.member && !self.children.is_empty() {
            map.serialize_entry(".", &BTreeMap::<&str, ()>::new())?;
        }
        for (key, child) in &self.children {
            map.serialize_entry(key, child)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for FieldSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = FieldSet;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of fields")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FieldSet, A::Error> {
                let mut set = FieldSet::default();
                while let Some(key) = map.next_key::<String>()? {
                    if key == "." {
                        set.member = true;
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        set.children.insert(key, map.next_value()?);
                    }
                }
                set.member |= set.children.is_empty();
                Ok(set)
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

/// Fields that nobody owns.
fn is_unowned(place: Place<'_>, field: &str) -> bool {
    (place.is_root() && matches!(field, "apiVersion" | "kind"))
        || (place.is_metadata()
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

/// A place of an object as sets see it.
struct Node<'a> {
    /// Whether the place itself is in the object's set.
    member: bool,
    /// What is below it, by key.
    parts: BTreeMap<String, Part<'a>>,
}

/// Something below a place.
#[derive(Clone, Copy)]
enum Part<'a> {
    Field(&'a Value, Place<'a>),
    /// An item of a list that is merged by key.
    Item(&'a Value, Place<'a>),
    /// An item of a list that is a set: its key is all of it.
    Element,
}

impl<'a> Node<'a> {
    fn of(value: &'a Value, place: Place<'a>) -> Self {
        let mut member;
        let mut parts = BTreeMap::new();
        match value {
            Value::Object(fields) if !place.object_is_atomic() => {
                member = fields.is_empty();
                let owned = fields.iter().filter(|(name, _)| !is_unowned(place, name));
                parts.extend(owned.map(|(name, child)| (format!("f:{name}"), Part::Field(child, place.member(name)))));
            }
            Value::Array(items) => match place.list_kind() {
                ListKind::Atomic => member = true,
                ListKind::Set => {
                    member = items.is_empty();
                    parts.extend(items.iter().map(|item| (format!("v:{item}"), Part::Element)));
                }
                ListKind::Map(keys) => {
                    member = items.is_empty();
                    for item in items {
                        match place.key_of(item, &keys) {
                            Some(key) => {
                                let key = format!("k:{}", Value::Object(key));
                                parts.insert(key, Part::Item(item, place.item()));
                            }
                            None => member = true,
                        }
                    }
                }
            },
            _ => member = true,
        }
        Self { member, parts }
    }

    fn set(self) -> FieldSet {
        let parts = self.parts.into_iter().map(|(key, part)| (key, part.set()));
        FieldSet {
            member: self.member,
            children: parts.filter(|(_, set)| !set.is_empty()).collect(),
        }
    }
}

impl Part<'_> {
    fn set(self) -> FieldSet {
        match self {
            Part::Field(value, place) => Node::of(value, place).set(),
            Part::Item(value, place) => FieldSet {
                member: true,
                ..Node::of(value, place).set()
            },
            Part::Element => FieldSet {
                member: true,
                ..FieldSet::default()
            },
        }
    }

    fn since(self, before: Self) -> Difference {
        match (self, before) {
            (Part::Field(new, place), Part::Field(old, _)) => Difference::at(place, new, old),
            (Part::Item(new, place), Part::Item(old, _)) => {
                let mut difference = Difference::at(place, new, old);
                difference.removed.member = false;
                difference
            }
            // The same key in lists of the same kind: there is nothing else to compare.
            _ => Difference::default(),
        }
    }
}

/// All fields of an object.
pub(super) fn set_of(object: &Value, lists: &ListTypes) -> FieldSet {
    let mut set = Node::of(object, lists.root()).set();
    set.member = false;
    set
}

/// What a write did to the fields of an object.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Difference {
    /// Paths of the new object whose values are others than before. Places with members below them count only when they are
    /// new.
    pub(super) changed: FieldSet,
    /// Paths of the old object that the new one does not have.
    pub(super) removed: FieldSet,
}

impl Difference {
    pub(super) fn between(new: &Value, old: &Value, lists: &ListTypes) -> Self {
        let mut difference = Self::at(lists.root(), new, old);
        difference.changed.member = false;
        difference.removed.member = false;
        difference
    }

    /// Goes only where the objects differ: most of what is written changes little.
    fn at(place: Place<'_>, new: &Value, old: &Value) -> Self {
        if new == old {
            return Self::default();
        }
        let (new, mut old) = (Node::of(new, place), Node::of(old, place));
        let mut difference = Self::default();
        difference.changed.member = new.member && new.parts.is_empty();
        difference.removed.member = old.member && !new.member;
        for (key, part) in new.parts {
            let below = match old.parts.remove(&key) {
                Some(before) => part.since(before),
                None => Self {
                    changed: part.set(),
                    removed: FieldSet::default(),
                },
            };
            if !below.removed.is_empty() {
                difference.removed.children.insert(key.clone(), below.removed);
            }
            if !below.changed.is_empty() {
                difference.changed.children.insert(key, below.changed);
            }
        }
        let gone = old.parts.into_iter().map(|(key, part)| (key, part.set()));
        difference
            .removed
            .children
            .extend(gone.filter(|(_, set)| !set.is_empty()));
        difference
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patch::merge::tests::value;
    use proptest::prelude::*;
    use serde_json::json;

    /// Objects with every kind of list that there is, often partly the same.
    fn object() -> impl Strategy<Value = Value> {
        let containers = prop::collection::btree_map("[a-c]", value(), 0..3);
        let containers = containers.prop_map(|containers| {
            let items = containers
                .into_iter()
                .map(|(name, env)| json!({"name": name, "x": env}));
            items.collect::<Value>()
        });
        let finalizers = prop::collection::btree_set("[a-c]", 0..3);
        let status = prop_oneof![Just(Value::Null), value()];
        (containers, finalizers, value(), status).prop_map(|(containers, finalizers, spec, status)| {
            json!({
                "kind": "Pod", "metadata": {"name": "a", "finalizers": finalizers},
                "spec": {"containers": containers, "rest": spec}, "status": status,
            })
        })
    }

    proptest! {
        #[test]
        fn a_difference_is_that_of_the_whole_sets(new in object(), old in object()) {
            let lists = ListTypes::built_in();
            let (now, before) = (set_of(&new, &lists), set_of(&old, &lists));
            let mut removed = before;
            removed.subtract(&now);
            let changed = changed(&now, &new, &old);
            prop_assert_eq!(Difference::between(&new, &old, &lists), Difference { changed, removed });
        }

        #[test]
        fn of_a_new_object_everything_is_changed(new in object()) {
            let lists = ListTypes::built_in();
            let expected = Difference { changed: set_of(&new, &lists), removed: FieldSet::default() };
            prop_assert_eq!(Difference::between(&new, &Value::Null, &lists), expected);
        }

        #[test]
        fn text_is_read_as_it_was_written(object in object()) {
            let set = set_of(&object, &ListTypes::built_in());
            prop_assert_eq!(FieldSet::from_text(&set.to_text()), set.clone());
            prop_assert_eq!(FieldSet::from_json(&serde_json::from_str(&set.to_text()).unwrap()), set);
        }
    }

    #[test]
    fn the_keys_of_an_item_count_as_new_only_with_the_item() {
        let lists = ListTypes::built_in();
        let pod = |image: &str| json!({"spec": {"containers": [{"name": "a", "image": image}]}});
        let difference = Difference::between(&pod("y"), &pod("x"), &lists);
        let text = r#"{"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{"f:image":{}}}}}"#;
        assert_eq!(difference.changed.to_text(), text);
        assert!(difference.removed.is_empty());
    }
}
