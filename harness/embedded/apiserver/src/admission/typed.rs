//! Objects of built-in kinds as Kubernetes keeps them: read into Go's types and written from them again. Fields that a type does
//! not have are gone, empty lists, maps and nulls are left out, times have their one form, and what has the wrong type is refused.

use crate::Status;
use crate::status::type_name;
use meshproof_kinds::{Fields, Kind, Scalar, Shape};
use regex::Regex;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// Unknown fields that are told. Kubernetes' decoder stops at as many.
pub(crate) const UNKNOWN_LIMIT: usize = 100;

/// How Kubernetes describes quantities in its refusals.
const QUANTITY: &str = "^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$";

/// What quantities really look like (`resource.ParseQuantity`).
static QUANTITIES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?[0-9]+)?$").ok()
});

/// Reads `object` as Kubernetes' type and leaves in it what Kubernetes would show.
///
/// # Errors
/// 400 with the field, what was found and what was expected.
pub(crate) fn read(kind: &'static Kind, object: &mut Value) -> Result<(), Status> {
    let mut reader = Reader { path: String::new() };
    reader.read(kind.shape(), object).map_err(|Mismatch { path, why }| {
        let (kind, version) = (kind.kind, kind.version);
        Status::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {kind}: {}",
            why.replace("{field}", &path)
        ))
    })?;
    if kind.kind == "Event" {
        complete_event(object);
    }
    Ok(())
}

/// The paths of fields that the kind does not have, as strict decoding names them: `spec.ports[0].targetport`.
pub(crate) fn unknown_fields(kind: &'static Kind, object: &Value) -> Vec<String> {
    let mut out = Vec::new();
    unknown_at(kind.shape(), object, "", &mut out);
    out
}

/// The same for the operations of a JSON patch.
pub(crate) fn unknown_in_operations(kind: &'static Kind, operations: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for operation in operations.as_array().into_iter().flatten() {
        let (Some("add" | "replace"), Some(pointer)) = (operation["op"].as_str(), operation["path"].as_str()) else {
            continue;
        };
        let mut here = kind.shape();
        let mut path = String::new();
        let mut known = true;
        for part in pointer.split('/').skip(1) {
            let part = part.replace("~1", "/").replace("~0", "~");
            here = match here {
                Shape::List(item) => {
                    path = format!("{path}[{part}]");
                    item
                }
                Shape::Map(value) => {
                    path = joined(&path, &part);
                    value
                }
                Shape::Object(fields) => {
                    path = joined(&path, &part);
                    let Some(field) = fields.get(&part) else {
                        out.push(path.clone());
                        known = false;
                        break;
                    };
                    &field.shape
                }
                Shape::FreeForm | Shape::Scalar(_) => here,
            };
        }
        if out.len() >= UNKNOWN_LIMIT {
            break;
        }
        if known {
            unknown_at(here, &operation["value"], &path, &mut out);
        }
    }
    out
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn unknown_at(shape: &'static Shape, value: &Value, path: &str, out: &mut Vec<String>) {
    if out.len() >= UNKNOWN_LIMIT {
        return;
    }
    match (shape, value) {
        (Shape::Object(fields), Value::Object(members)) => {
            for (name, member) in members {
                match fields.get(name) {
                    Some(field) => unknown_at(&field.shape, member, &joined(path, name), out),
                    // Directives of strategic merge patches.
                    None if name.starts_with('$') => {}
                    None if out.len() >= UNKNOWN_LIMIT => return,
                    None => out.push(joined(path, name)),
                }
            }
        }
        (Shape::Map(values), Value::Object(members)) => {
            for (name, member) in members {
                unknown_at(values, member, &joined(path, name), out);
            }
        }
        (Shape::List(item), Value::Array(items)) => {
            for (i, member) in items.iter().enumerate() {
                unknown_at(item, member, &format!("{path}[{i}]"), out);
            }
        }
        _ => {}
    }
}

/// A value that does not fit.
struct Mismatch {
    path: String,
    /// With `{field}` for the path.
    why: String,
}

struct Reader {
    path: String,
}

impl Reader {
    fn read(&mut self, shape: &'static Shape, value: &mut Value) -> Result<(), Mismatch> {
        match (shape, value) {
            (Shape::FreeForm, _) | (_, Value::Null) => Ok(()),
            (Shape::Object(fields), Value::Object(members)) => self.object(fields, members),
            (Shape::Map(values), Value::Object(members)) => {
                for (name, member) in members {
                    self.below(name, |reader| reader.read(values, member))?;
                }
                Ok(())
            }
            (Shape::List(item), Value::Array(items)) => {
                for (i, member) in items.iter_mut().enumerate() {
                    let length = self.path.len();
                    self.path.extend(["[", &i.to_string(), "]"]);
                    self.read(item, member)?;
                    self.path.truncate(length);
                }
                Ok(())
            }
            (Shape::Scalar(scalar), value) => self.scalar(*scalar, value),
            (Shape::Object(_) | Shape::Map(_), value) => Err(self.mismatch(value, "object")),
            (Shape::List(_), value) => Err(self.mismatch(value, "array")),
        }
    }

    fn below(&mut self, name: &str, read: impl FnOnce(&mut Self) -> Result<(), Mismatch>) -> Result<(), Mismatch> {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        read(self)?;
        self.path.truncate(length);
        Ok(())
    }

    fn object(&mut self, fields: &'static Fields, members: &mut Map<String, Value>) -> Result<(), Mismatch> {
        let mut gone = Vec::new();
        for (name, member) in members.iter_mut() {
            let Some(field) = fields.get(name) else {
                gone.push(name.clone());
                continue;
            };
            self.below(name, |reader| reader.read(&field.shape, member))?;
            if is_left_out(fields, name, &field.shape, field.required, member) {
                gone.push(name.clone());
            }
        }
        for name in gone {
            members.remove(&name);
        }
        Ok(())
    }

    fn scalar(&self, scalar: Scalar, value: &mut Value) -> Result<(), Mismatch> {
        let expected = match scalar {
            Scalar::Text | Scalar::Bytes => value.is_string().then_some(()).ok_or("string"),
            Scalar::Boolean => value.is_boolean().then_some(()).ok_or("boolean"),
            Scalar::Number => value.is_number().then_some(()).ok_or("number"),
            Scalar::Int64 => value.is_i64().then_some(()).ok_or("integer"),
            Scalar::Int32 => {
                let fits = value.as_i64().is_some_and(|n| i32::try_from(n).is_ok());
                fits.then_some(()).ok_or("integer")
            }
            Scalar::IntOrText => {
                let fits = value.is_string() || value.as_i64().is_some_and(|n| i32::try_from(n).is_ok());
                fits.then_some(()).ok_or("integer or string")
            }
            Scalar::Time | Scalar::MicroTime => return self.time(scalar, value),
            Scalar::Quantity => return self.quantity(value),
        };
        expected.map_err(|expected| self.mismatch(value, expected))
    }

    fn time(&self, scalar: Scalar, value: &mut Value) -> Result<(), Mismatch> {
        let Some(text) = value.as_str() else {
            return Err(self.mismatch(value, "string"));
        };
        if text.is_empty() {
            *value = Value::Null;
            return Ok(());
        }
        let Ok(time) = text.parse::<jiff::Timestamp>() else {
            return Err(Mismatch {
                path: self.path.clone(),
                why: format!(
                    "parsing time {} in field {{field}}: it must be a time like 2006-01-02T15:04:05Z",
                    json!(text)
                ),
            });
        };
        let format = if scalar == Scalar::MicroTime {
            "%Y-%m-%dT%H:%M:%S.%6fZ"
        } else {
            "%Y-%m-%dT%H:%M:%SZ"
        };
        let normal = time.strftime(format).to_string();
        if normal != text {
            *value = Value::String(normal);
        }
        Ok(())
    }

    fn quantity(&self, value: &mut Value) -> Result<(), Mismatch> {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            other => return Err(self.mismatch(other, "string")),
        };
        if !QUANTITIES.as_ref().is_some_and(|q| q.is_match(&text)) {
            return Err(Mismatch {
                path: self.path.clone(),
                why: format!(
                    "quantities must match the regular expression '{QUANTITY}': {} in field {{field}}",
                    json!(text)
                ),
            });
        }
        if value.is_number() {
            *value = Value::String(text);
        }
        Ok(())
    }

    fn mismatch(&self, found: &Value, expected: &str) -> Mismatch {
        Mismatch {
            path: self.path.clone(),
            why: format!(
                "json: cannot unmarshal {} into field {{field}} of type {expected}",
                type_name(found)
            ),
        }
    }
}

/// Whether Go leaves a field out when it writes the object.
fn is_left_out(fields: &Fields, name: &str, shape: &Shape, required: bool, value: &Value) -> bool {
    match (shape, value) {
        (_, Value::Null) => true,
        _ if required => false,
        (Shape::List(_), Value::Array(items)) => items.is_empty(),
        (Shape::Map(_), Value::Object(members)) => members.is_empty(),
        (Shape::Scalar(Scalar::Text), Value::String(text)) if text.is_empty() => {
            crate::protobuf::leaves_out_zero(fields.name(), name)
        }
        (Shape::Scalar(Scalar::Boolean), Value::Bool(false)) => crate::protobuf::leaves_out_zero(fields.name(), name),
        (Shape::Scalar(Scalar::Int32 | Scalar::Int64), Value::Number(number)) if number.as_i64() == Some(0) => {
            crate::protobuf::leaves_out_zero(fields.name(), name)
        }
        _ => false,
    }
}

/// Fields of Events that Go always writes.
fn complete_event(event: &mut Value) {
    if let Some(fields) = event.as_object_mut() {
        for (name, empty) in [
            ("eventTime", Value::Null),
            ("firstTimestamp", Value::Null),
            ("lastTimestamp", Value::Null),
            ("reportingComponent", json!("")),
            ("reportingInstance", json!("")),
            ("source", json!({})),
        ] {
            fields.entry(name).or_insert(empty);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn kind(api_version: &str, name: &str) -> &'static Kind {
        Kind::find(api_version, name).unwrap()
    }

    fn kept(api_version: &str, name: &str, mut object: Value) -> Value {
        read(kind(api_version, name), &mut object).unwrap();
        object
    }

    #[test]
    fn unknown_fields_are_named_and_dropped() {
        let typo = json!({
            "metadata": {"name": "web", "label": {"app": "web"}},
            "spec": {"replica": 2, "template": {"spec": {"containers": [{"name": "web", "readynessProbe": {}}]}}},
        });
        assert_eq!(
            unknown_fields(kind("apps/v1", "Deployment"), &typo),
            [
                "metadata.label",
                "spec.replica",
                "spec.template.spec.containers[0].readynessProbe"
            ]
        );
        assert_eq!(
            kept("apps/v1", "Deployment", typo),
            json!({"metadata": {"name": "web"}, "spec": {"template": {"spec": {"containers": [{"name": "web"}]}}}})
        );
        let directives = json!({"spec": {"$setElementOrder/ports": [], "ports": [{"$patch": "delete", "prot": 80}]}});
        assert_eq!(
            unknown_fields(kind("v1", "Service"), &directives),
            ["spec.ports[0].prot"]
        );
    }

    #[test]
    fn no_more_unknown_fields_are_told_than_by_kubernetes() {
        let many: Map<String, Value> = (0..1000).map(|i| (format!("f{i}"), json!({"x": 1}))).collect();
        let object = json!({"spec": many.clone(), "status": many});
        assert_eq!(unknown_fields(kind("v1", "Pod"), &object).len(), UNKNOWN_LIMIT);
    }

    #[test]
    fn operations_of_json_patches_are_looked_at() {
        let operations = json!([
            {"op": "add", "path": "/spec/ports/-", "value": {"port": 80, "targetport": 8080}},
            {"op": "replace", "path": "/spec/selectors", "value": {"app": "web"}},
            {"op": "add", "path": "/metadata/labels/a~1b", "value": "c"},
            {"op": "remove", "path": "/spec/none"},
        ]);
        assert_eq!(
            unknown_in_operations(kind("v1", "Service"), &operations),
            ["spec.ports[-].targetport", "spec.selectors"]
        );
    }

    #[test]
    fn what_is_empty_is_left_out_as_go_does() {
        for subsets in [json!([]), json!(null)] {
            assert_eq!(kept("v1", "Endpoints", json!({"subsets": subsets})), json!({}));
        }
        let service = json!({"metadata": {"labels": {}, "creationTimestamp": null}, "spec": {"type": "", "sessionAffinity": "", "selector": {},
            "ports": [{"port": 80, "nodePort": 0, "name": ""}]}, "status": {"loadBalancer": {}}});
        assert_eq!(
            kept("v1", "Service", service),
            json!({"metadata": {}, "spec": {"ports": [{"port": 80}]}, "status": {"loadBalancer": {}}})
        );
        // Pointers are kept, and so is what is required.
        let deployment = json!({"spec": {"replicas": 0, "paused": false, "selector": {}, "template": {"spec": {
            "automountServiceAccountToken": false, "hostNetwork": false, "volumes": [{"name": "v", "emptyDir": {}}]}}}});
        assert_eq!(
            kept("apps/v1", "Deployment", deployment),
            json!({"spec": {"replicas": 0, "selector": {}, "template": {"spec": {
                "automountServiceAccountToken": false, "volumes": [{"name": "v", "emptyDir": {}}]}}}})
        );
    }

    #[test]
    fn events_and_times_are_completed() {
        let event = kept(
            "v1",
            "Event",
            json!({"reason": "Why", "eventTime": "2026-01-01T00:00:00Z"}),
        );
        assert_eq!(event["eventTime"], "2026-01-01T00:00:00.000000Z");
        assert_eq!(
            (&event["source"], &event["reportingComponent"]),
            (&json!({}), &json!(""))
        );
        assert_eq!(event.get("lastTimestamp"), Some(&Value::Null));
        let lease = json!({"spec": {"renewTime": "2026-01-01T01:00:00+01:00"}});
        let lease = kept("coordination.k8s.io/v1", "Lease", lease);
        assert_eq!(lease["spec"]["renewTime"], "2026-01-01T00:00:00.000000Z");
    }

    #[rstest]
    #[case("v1", "Service", json!({"spec": {"ports": [{"port": 80}, {"port": "http"}]}}), "string into field spec.ports[1].port of type integer")]
    #[case("v1", "Service", json!({"spec": []}), "array into field spec of type object")]
    #[case("v1", "Service", json!({"spec": {"selector": {"a": 1}}}), "integer into field spec.selector.a of type string")]
    #[case("v1", "Service", json!({"spec": {"ports": [{"port": 4_294_967_376_u64}]}}), "of type integer")]
    #[case("v1", "Pod", json!({"spec": {"containers": [{"resources": {"limits": {"cpu": "abc"}}}]}}), "quantities must match")]
    #[case("coordination.k8s.io/v1", "Lease", json!({"spec": {"renewTime": "now"}}), "parsing time \"now\" in field spec.renewTime")]
    fn wrong_types_are_named_with_their_place(
        #[case] api_version: &str,
        #[case] name: &str,
        #[case] mut object: Value,
        #[case] expected: &str,
    ) {
        let error = read(kind(api_version, name), &mut object).unwrap_err();
        assert_eq!(error.code, 400);
        assert!(error.message.contains(expected), "{}", error.message);
    }

    #[test]
    fn quantities_are_texts() {
        let pod = |cpu: Value| json!({"spec": {"containers": [{"resources": {"limits": {"cpu": cpu}}}]}});
        for (given, shown) in [
            (json!(1), "1"),
            (json!(0.5), "0.5"),
            (json!("100m"), "100m"),
            (json!("1Gi"), "1Gi"),
        ] {
            let pod = kept("v1", "Pod", pod(given));
            assert_eq!(pod["spec"]["containers"][0]["resources"]["limits"]["cpu"], shown);
        }
    }
}
