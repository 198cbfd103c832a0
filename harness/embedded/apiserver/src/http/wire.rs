//! Objects as clients see them. The store keeps what a field manager owns (`fieldsV1`) as JSON text, because a tree of small
//! maps would take most of its memory; on the wire it is the tree again.

use crate::Status;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// An object, list or table as JSON.
///
/// # Errors
/// 500 when the store holds what is not JSON.
pub(crate) fn json(value: &Value) -> Result<String, Status> {
    serde_json::to_string(&Wire(value)).map_err(Status::internal)
}

/// A value in which managed fields may be, at the places where objects have them.
struct Wire<'a>(&'a Value);

impl Serialize for Wire<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    match name.as_str() {
                        // Objects of lists, rows of tables, and the objects in them.
                        "items" | "rows" | "object" | "metadata" | "managedFields" => {
                            map.serialize_entry(name, &Wire(value))?;
                        }
                        "fieldsV1" => map.serialize_entry(name, &FieldsV1(value))?,
                        _ => map.serialize_entry(name, value)?,
                    }
                }
                map.end()
            }
            Value::Array(values) => {
                let mut list = serializer.serialize_seq(Some(values.len()))?;
                for value in values {
                    list.serialize_element(&Wire(value))?;
                }
                list.end()
            }
            other => other.serialize(serializer),
        }
    }
}

/// What a manager owns: text in the store.
struct FieldsV1<'a>(&'a Value);

impl Serialize for FieldsV1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A custom resource may have a text of that name, too.
        match self.0.as_str().map(serde_json::from_str::<&RawValue>) {
            Some(Ok(tree)) => tree.serialize(serializer),
            Some(Err(_)) | None => self.0.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::json;
    use serde_json::{Value, json};

    #[test]
    fn managed_fields_are_trees_on_the_wire() {
        let stored = json!({"metadata": {"name": "a", "managedFields": [
            {"manager": "m", "fieldsV1": r#"{"f:data":{"f:items":{}}}"#},
        ]}, "data": {"fieldsV1": "text of a user", "items": "x"}});
        let list = json!({"kind": "ConfigMapList", "items": [stored.clone()]});
        for (text, at) in [(json(&stored).unwrap(), ""), (json(&list).unwrap(), "/items/0")] {
            let seen: Value = serde_json::from_str(&text).unwrap();
            let entry = seen.pointer(&format!("{at}/metadata/managedFields/0")).unwrap();
            assert_eq!(entry["fieldsV1"], json!({"f:data": {"f:items": {}}}));
            assert_eq!(seen.pointer(&format!("{at}/data")).unwrap(), &stored["data"]);
        }
    }
}
