//! JSON patch, RFC 6902.

use crate::Status;
use serde_json::Value;

/// More operations than this are refused, as Kubernetes does.
const OPERATIONS_LIMIT: usize = 10_000;

/// Applies the operations in order, all or none.
///
/// # Errors
/// 400 when `operations` is no patch, 413 when there are too many, 422 when an operation does not fit the object.
pub(crate) fn apply(target: &mut Value, operations: &Value) -> Result<(), Status> {
    let patch: json_patch::Patch = serde_json::from_value(operations.clone())
        .map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
    if patch.0.len() > OPERATIONS_LIMIT {
        return Err(Status::too_large(OPERATIONS_LIMIT));
    }
    let mut result = target.clone();
    json_patch::patch(&mut result, &patch).map_err(|e| {
        Status::unprocessable(format!(
            "the server rejected our request due to an error in our request: {e}"
        ))
    })?;
    *target = result;
    Ok(())
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
}
