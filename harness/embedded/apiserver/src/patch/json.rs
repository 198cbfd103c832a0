//! JSON patch, RFC 6902. A short patch can make a long object: everything that operations can make grow is bounded before
//! it grows.

use crate::Status;
use crate::size::{depth, text_length};
use json_patch::jsonptr::Pointer;
use json_patch::{Patch, PatchOperation};
use serde_json::Value;

/// More operations than this are refused, as Kubernetes does.
const OPERATIONS_LIMIT: usize = 10_000;

/// What all copies together may add, in bytes: `JSONPatchMaxCopyBytes` of Kubernetes.
const COPIES_LIMIT: usize = 3 * 1024 * 1024;

/// Nothing that a client can send as a whole is nested deeper.
const DEPTH_LIMIT: usize = 128;

/// Items of lists that all operations together may move. A list's items move when one before them comes or goes.
const MOVES_LIMIT: usize = 20_000_000;

/// Applies the operations in order, all or none.
///
/// # Errors
/// 400 when `operations` is no patch, 413 when there are too many or they make too much of little, 422 when an operation does
/// not fit the object.
pub(crate) fn apply(target: &mut Value, operations: &Value) -> Result<(), Status> {
    let count = operations.as_array().map_or(0, Vec::len);
    if count > OPERATIONS_LIMIT {
        return Err(Status::too_large_for(format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS_LIMIT}, got {count}"
        )));
    }
    let patch: Patch = serde_json::from_value(operations.clone())
        .map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
    let mut result = target.clone();
    let mut budget = Budget::default();
    for operation in &patch.0 {
        budget.allow(&result, operation)?;
        // One by one, and on a copy: what fails leaves the object as it was.
        json_patch::patch_unsafe(&mut result, std::slice::from_ref(operation)).map_err(|e| {
            Status::unprocessable(format!(
                "the server rejected our request due to an error in our request: {e}"
            ))
        })?;
    }
    *target = result;
    Ok(())
}

/// What the operations so far have made grow.
#[derive(Default)]
struct Budget {
    copied: usize,
    moved: usize,
}

impl Budget {
    /// Whether the next operation may be done.
    fn allow(&mut self, document: &Value, operation: &PatchOperation) -> Result<(), Status> {
        let added = match operation {
            PatchOperation::Add(add) => Some(&add.value),
            PatchOperation::Replace(replace) => Some(&replace.value),
            PatchOperation::Copy(copy) => document.pointer(copy.from.as_str()),
            PatchOperation::Move(moved) => document.pointer(moved.from.as_str()),
            PatchOperation::Remove(_) | PatchOperation::Test(_) => None,
        };
        if let (PatchOperation::Copy(_), Some(source)) = (operation, added) {
            self.copied = self.copied.saturating_add(text_length(source));
            if self.copied > COPIES_LIMIT {
                return Err(Status::too_large_for(format!(
                    "Unable to complete the copy, the accumulated size increase of copy is {}, exceeding the limit {COPIES_LIMIT}",
                    self.copied
                )));
            }
        }
        if let Some(added) = added {
            let nested = operation.path().count() + depth(added);
            if nested > DEPTH_LIMIT {
                return Err(Status::too_large_for(format!(
                    "{} would be nested {nested} deep, objects may be nested {DEPTH_LIMIT} deep",
                    operation.path()
                )));
            }
        }
        self.moved = match operation {
            PatchOperation::Add(_) | PatchOperation::Copy(_) | PatchOperation::Remove(_) => {
                self.moved.saturating_add(items_at(document, operation.path()))
            }
            PatchOperation::Move(moved) => self
                .moved
                .saturating_add(items_at(document, operation.path()))
                .saturating_add(items_at(document, &moved.from)),
            PatchOperation::Replace(_) | PatchOperation::Test(_) => self.moved,
        };
        if self.moved > MOVES_LIMIT {
            return Err(Status::too_large_for(format!(
                "the operations of the patch move more than {MOVES_LIMIT} items of lists"
            )));
        }
        Ok(())
    }
}

/// The length of the list in which the last part of a path is.
fn items_at(document: &Value, path: &Pointer) -> usize {
    let parent = path.parent().and_then(|parent| document.pointer(parent.as_str()));
    parent.and_then(Value::as_array).map_or(0, Vec::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn applies_all_or_nothing() {
        let mut object = json!({"a": 1});
        apply(&mut object, &json!([{"op": "replace", "path": "/a", "value": 2}])).unwrap();
        assert_eq!(object, json!({"a": 2}));
        let failing = json!([{"op": "replace", "path": "/a", "value": 3}, {"op": "test", "path": "/a", "value": 9}]);
        assert_eq!(apply(&mut object, &failing).unwrap_err().code, 422);
        assert_eq!(object, json!({"a": 2}));
        assert_eq!(apply(&mut object, &json!({"op": "add"})).unwrap_err().code, 400);
    }

    #[test]
    fn copies_that_double_are_stopped_before_they_grow() {
        let mut object = json!({"data": {"a": "x".repeat(1000)}});
        let copies: Vec<Value> = (0..40)
            .map(|i| json!({"op": "copy", "from": "/data", "path": format!("/data/b{i}")}))
            .collect();
        let refused = apply(&mut object, &Value::Array(copies)).unwrap_err();
        assert_eq!((refused.code, refused.reason), (413, "RequestEntityTooLarge"));
        assert!(
            refused.message.contains("the accumulated size increase of copy is"),
            "{}",
            refused.message
        );
        assert_eq!(object["data"].as_object().unwrap().len(), 1);
    }

    #[test]
    fn nesting_that_doubles_is_stopped() {
        let mut object = json!({"a": {}});
        let mut deep = "/a".to_owned();
        let mut operations = Vec::new();
        for _ in 0..20 {
            operations.push(json!({"op": "copy", "from": "/a", "path": format!("{deep}/a")}));
            deep = format!("{deep}{deep}");
        }
        assert_eq!(apply(&mut object, &Value::Array(operations)).unwrap_err().code, 413);
        let path = "/x".repeat(200);
        let far = json!([{"op": "add", "path": path, "value": 1}]);
        assert_eq!(apply(&mut object, &far).unwrap_err().code, 413);
    }

    #[test]
    fn long_lists_are_not_shifted_for_ever() {
        let mut object = json!({"list": vec![0; 50_000]});
        let operations = vec![json!({"op": "remove", "path": "/list/0"}); 1000];
        assert_eq!(apply(&mut object, &Value::Array(operations)).unwrap_err().code, 413);
        assert_eq!(object["list"].as_array().unwrap().len(), 50_000);
    }

    #[test]
    fn too_many_operations() {
        let many = vec![json!({"op": "test", "path": "", "value": {}}); OPERATIONS_LIMIT + 1];
        assert_eq!(apply(&mut json!({}), &Value::Array(many)).unwrap_err().code, 413);
    }
}
