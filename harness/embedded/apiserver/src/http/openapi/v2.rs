//! OpenAPI v2, which knows less than v3 and than the schemas of definitions.

use super::{V3_PREFIX, built_in_definitions};
use meshproof_kinds::Kind;
use serde_json::{Map, Value, json};

/// Where references point to.
const PREFIX: &str = "#/definitions/";

/// The document as JSON. `custom` are definitions as they are in OpenAPI v3.
pub(super) fn document(custom: &Map<String, Value>) -> Value {
    let mut definitions = built_in();
    definitions.extend(custom.iter().map(|(name, schema)| (name.clone(), schema_of(schema))));
    json!({
        "swagger": "2.0", "info": {"title": "Kubernetes", "version": "v1.33.0"}, "paths": {}, "definitions": definitions,
    })
}

/// The definitions of built-in kinds.
pub(super) fn built_in() -> Map<String, Value> {
    let definitions = built_in_definitions(Kind::all().iter());
    definitions
        .into_iter()
        .map(|(name, schema)| (name, schema_of(&schema)))
        .collect()
}

/// A schema of v3 in v2. What v2 can't say is left open, as Kubernetes does it, so that clients which validate refuse nothing
/// that the server takes.
pub(super) fn schema_of(schema: &Value) -> Value {
    let Some(fields) = schema.as_object() else {
        return json!({});
    };
    let mut out = Map::new();
    let set = |name: &str| fields.get(name).is_some_and(|value| value == true);
    let reference = fields.get("$ref").or_else(|| schema.pointer("/allOf/0/$ref"));
    if let Some(target) = reference.and_then(Value::as_str) {
        let target = target.strip_prefix(V3_PREFIX).unwrap_or(target);
        out.insert("$ref".into(), json!(format!("{PREFIX}{target}")));
    }
    // Numbers or text: text is what v2 says of them.
    let is_form = |form: &Value| form.as_object().is_some_and(|f| f.len() == 1 && f.contains_key("type"));
    let forms = fields.get("oneOf").and_then(Value::as_array);
    if forms.is_some_and(|forms| forms.iter().all(is_form)) {
        out.insert("type".into(), json!("string"));
    }
    for (name, value) in fields {
        let open = set("x-kubernetes-preserve-unknown-fields") || set("nullable");
        let kept = match name.as_str() {
            "description" | "title" => value.clone(),
            "type" | "format" if open || set("x-kubernetes-int-or-string") => continue,
            "properties" | "items" | "additionalProperties" | "required" | "enum" if open => continue,
            "type" | "format" | "required" | "enum" | "pattern" => value.clone(),
            "properties" => {
                let all = value.as_object().into_iter().flatten();
                all.map(|(name, schema)| (name.clone(), schema_of(schema)))
                    .collect::<Map<_, _>>()
                    .into()
            }
            "items" => schema_of(value),
            "additionalProperties" if value.is_object() => schema_of(value),
            "additionalProperties" => value.clone(),
            extension if extension.starts_with("x-kubernetes-") && extension != "x-kubernetes-validations" => {
                value.clone()
            }
            _ => continue,
        };
        out.insert(name.clone(), kept);
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_point_to_definitions() {
        let document = document(&Map::new());
        let text = document.to_string();
        assert!(!text.contains(V3_PREFIX));
        let spec = &document["definitions"]["io.k8s.api.core.v1.Service"]["properties"]["spec"];
        assert_eq!(spec["$ref"], "#/definitions/io.k8s.api.core.v1.ServiceSpec");
        assert!(spec["description"].is_string());
        let port = &document["definitions"]["io.k8s.apimachinery.pkg.util.intstr.IntOrString"];
        assert_eq!(
            (&port["type"], &port["format"]),
            (&json!("string"), &json!("int-or-string"))
        );
        for part in text.split(PREFIX).skip(1) {
            let target = part.split('"').next().unwrap();
            assert!(document["definitions"][target].is_object(), "{target}");
        }
    }

    #[test]
    fn what_v2_can_not_say_is_open() {
        let open =
            json!({"type": "object", "nullable": true, "description": "d", "properties": {"a": {}}, "oneOf": [{}]});
        assert_eq!(schema_of(&open), json!({"description": "d"}));
        let either = json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}]});
        assert_eq!(schema_of(&either), json!({"x-kubernetes-int-or-string": true}));
        let list = json!({"type": "array", "items": {"$ref": "#/components/schemas/a.B"}});
        assert_eq!(
            schema_of(&list),
            json!({"type": "array", "items": {"$ref": "#/definitions/a.B"}})
        );
    }
}
