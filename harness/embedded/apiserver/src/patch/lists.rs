//! Which lists are merged by key, which are sets, and which are replaced as a whole, for server-side apply.
//!
//! Custom resources say it in their schema (`x-kubernetes-list-type`). For built-in types a table by field name stands in for
//! the OpenAPI schema of Kubernetes; a list that is not in it is atomic, as in Kubernetes when nothing is declared.

use crate::Status;
use crate::crd::schema::{Additional, Schema};
use crate::resource::{ResourceType, VersionInfo};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// How a list is merged.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ListKind {
    /// Replaced as a whole.
    Atomic,
    /// A set of scalars.
    Set,
    /// Items are identified by these fields.
    Map(Vec<String>),
}

/// What is known of a type's lists.
#[derive(Clone, Debug)]
pub(crate) struct ListTypes {
    schema: Option<Arc<Schema>>,
}

impl ListTypes {
    pub(crate) fn of(_resource: &ResourceType, version: &VersionInfo) -> Self {
        Self {
            schema: version.schema.clone(),
        }
    }

    #[cfg(test)]
    pub(crate) fn built_in() -> Self {
        Self { schema: None }
    }

    #[cfg(test)]
    pub(crate) fn with_schema(schema: Schema) -> Self {
        Self {
            schema: Some(Arc::new(schema)),
        }
    }

    /// The place of the whole object.
    pub(crate) fn root(&self) -> Place<'_> {
        Place {
            custom: self.schema.is_some(),
            schema: self.schema.as_deref(),
            parent: "",
            field: "",
            depth: 0,
        }
    }
}

/// A place inside an object, as far as merging must know it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    custom: bool,
    schema: Option<&'a Schema>,
    parent: &'a str,
    field: &'a str,
    depth: usize,
}

impl<'a> Place<'a> {
    /// The place of a member.
    pub(crate) fn member(self, field: &'a str) -> Self {
        let schema = self
            .schema
            .and_then(|s| match (s.properties.get(field), &s.additional) {
                (Some(property), _) => Some(property),
                (None, Additional::Schema(values)) => Some(&**values),
                (None, _) => None,
            });
        // Metadata is built in, also in custom resources.
        let custom = self.custom && !(self.depth == 0 && field == "metadata");
        Self {
            custom,
            schema,
            parent: self.field,
            field,
            depth: self.depth + 1,
        }
    }

    /// The place of a list's items.
    pub(crate) fn item(self) -> Self {
        Self {
            schema: self.schema.and_then(|s| s.items.as_deref()),
            depth: self.depth + 1,
            ..self
        }
    }

    /// Whether this is the whole object.
    pub(crate) fn is_root(self) -> bool {
        self.depth == 0
    }

    /// Whether this is the object's metadata.
    pub(crate) fn is_metadata(self) -> bool {
        self.depth == 1 && self.field == "metadata"
    }

    /// How a list here is merged.
    pub(crate) fn list_kind(self) -> ListKind {
        if self.custom {
            let Some(schema) = self.schema else {
                return ListKind::Atomic;
            };
            return match schema.list_type.as_deref() {
                Some("map") => ListKind::Map(schema.list_map_keys.clone()),
                Some("set") => ListKind::Set,
                _ => ListKind::Atomic,
            };
        }
        let keys: &[&str] = match (self.parent, self.field) {
            ("metadata", "finalizers") => return ListKind::Set,
            ("metadata", "ownerReferences") => &["uid"],
            ("containers" | "initContainers" | "ephemeralContainers", "ports") => &["containerPort", "protocol"],
            ("spec", "ports") => &["port", "protocol"],
            (_, "containers" | "initContainers" | "ephemeralContainers" | "volumes" | "env" | "imagePullSecrets") => {
                &["name"]
            }
            ("", "secrets") => &["name"],
            (_, "volumeMounts") => &["mountPath"],
            (_, "volumeDevices") => &["devicePath"],
            (_, "hostAliases") => &["ip"],
            (_, "topologySpreadConstraints") => &["topologyKey", "whenUnsatisfiable"],
            ("status", "conditions") => &["type"],
            ("status", "podIPs" | "hostIPs") => &["ip"],
            ("status", "addresses") => &["type"],
            _ => return ListKind::Atomic,
        };
        ListKind::Map(keys.iter().map(|&k| k.to_owned()).collect())
    }

    /// Whether an object here is replaced as a whole.
    pub(crate) fn object_is_atomic(self) -> bool {
        if self.custom {
            return self.schema.is_some_and(|s| s.map_is_atomic);
        }
        matches!(
            self.field,
            "selector"
                | "nodeSelector"
                | "labelSelector"
                | "podSelector"
                | "namespaceSelector"
                | "fieldRef"
                | "configMapKeyRef"
                | "secretKeyRef"
                | "resourceFieldRef"
                | "targetRef"
                | "involvedObject"
                | "roleRef"
        ) || (self.parent == "metadata" && self.field == "ownerReferences")
    }

    /// The key of an item in a list of [`ListKind::Map`]: the key fields with their defaults. `None` when the item is no
    /// object.
    pub(crate) fn key_of(self, item: &Value, keys: &[String]) -> Option<Map<String, Value>> {
        let item = item.as_object()?;
        let mut key = Map::new();
        for name in keys {
            let declared = self
                .schema
                .and_then(|s| s.items.as_ref())
                .and_then(|i| i.properties.get(name))
                .and_then(|p| p.default.clone());
            let default = || declared.or_else(|| (!self.custom && name == "protocol").then(|| json!("TCP")));
            if let Some(value) = item.get(name).cloned().or_else(default) {
                key.insert(name.clone(), value);
            }
        }
        Some(key)
    }
}

/// Lists whose items are merged one by one are searched for each item, so that they may not be too long. Nothing sensible is.
const MERGED_ITEMS_LIMIT: usize = 2000;

/// Refuses an object in which a list that is merged by key, or as a set, is too long.
///
/// # Errors
/// 413 with the list.
pub(crate) fn check_lengths(object: &Value, lists: &ListTypes) -> Result<(), Status> {
    fn walk(value: &Value, place: Place<'_>) -> Result<(), Status> {
        match value {
            Value::Object(fields) => fields
                .iter()
                .try_for_each(|(name, child)| walk(child, place.member(name))),
            Value::Array(items) => {
                if items.len() > MERGED_ITEMS_LIMIT && !matches!(place.list_kind(), ListKind::Atomic) {
                    return Err(Status::too_large_for(format!(
                        "list {} has {} items, lists that are merged by key may have {MERGED_ITEMS_LIMIT} here",
                        place.field,
                        items.len()
                    )));
                }
                items.iter().try_for_each(|item| walk(item, place.item()))
            }
            _ => Ok(()),
        }
    }
    walk(object, lists.root())
}

/// Whether an item has this key; key fields it lacks must be those that have defaults.
pub(crate) fn has_key(item: &Value, key: &Map<String, Value>) -> bool {
    key.iter().all(|(name, value)| match item.get(name) {
        Some(found) => found == value,
        None => name == "protocol" && value == "TCP",
    })
}
