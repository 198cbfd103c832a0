//! The schemas of built-in kinds as OpenAPI documents have them, with descriptions.

use crate::kind::Kind;
use k8s_openapi::schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// Where references point to in OpenAPI v3.
pub const V3_PREFIX: &str = "#/components/schemas/";

/// Definitions of kinds and of everything that they consist of.
#[derive(Debug)]
pub struct Generated {
    /// Kubernetes' names of types (`io.k8s.api.core.v1.Pod`) → their schemas. References are `allOf` of one `$ref` below
    /// [`V3_PREFIX`], as Kubernetes writes them in OpenAPI v3.
    pub definitions: Map<String, Value>,
    /// For each kind that was asked for, in that order, a reference to its definition.
    pub roots: Vec<Value>,
}

impl Generated {
    /// Kubernetes' name of the type of a root.
    pub fn root_name(&self, index: usize) -> Option<&str> {
        self.roots.get(index).and_then(reference)
    }
}

/// Makes the definitions of `kinds`. They take some milliseconds and megabytes.
pub fn generate<'a>(kinds: impl IntoIterator<Item = &'a Kind>) -> Generated {
    let settings = SchemaSettings::openapi3().with(|settings| settings.transforms.clear());
    let mut generator = settings.into_generator();
    let roots = kinds
        .into_iter()
        .map(|kind| (kind.definition)(&mut generator).to_value())
        .collect();
    let mut definitions = generator.take_definitions(false);
    for (name, definition) in &mut definitions {
        match name.rsplit('.').next() {
            Some("Quantity") => in_forms(definition, &["string", "number"], None),
            Some("IntOrString") => in_forms(definition, &["integer", "string"], Some("int-or-string")),
            // In Kubernetes' own document these have no type, or they would be objects.
            Some("JSON" | "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrStringArray") => {
                let description = definition.get("description").cloned().unwrap_or_default();
                *definition = json!({ "description": description });
            }
            _ => wrap_references(definition),
        }
    }
    Generated { definitions, roots }
}

/// The name of the definition that a schema refers to.
pub fn reference(schema: &Value) -> Option<&str> {
    let direct = schema.get("$ref");
    let wrapped = || schema.pointer("/allOf/0/$ref");
    direct.or_else(wrapped)?.as_str()?.rsplit('/').next()
}

/// As Kubernetes publishes types that have more than one form in JSON.
fn in_forms(definition: &mut Value, forms: &[&str], format: Option<&str>) {
    let description = definition.get("description").cloned().unwrap_or_default();
    let forms: Vec<Value> = forms.iter().map(|form| json!({ "type": form })).collect();
    *definition = json!({"description": description, "oneOf": forms});
    if let Some(format) = format {
        definition["format"] = json!(format);
    }
}

/// Puts references with a description into `allOf`: readers of OpenAPI v3 ignore what stands beside `$ref`.
fn wrap_references(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.len() > 1
                && let Some(Value::String(target)) = map.get("$ref")
            {
                let target = json!([{ "$ref": target }]);
                map.remove("$ref");
                map.insert("allOf".into(), target);
            }
            map.values_mut().for_each(wrap_references);
        }
        Value::Array(items) => items.iter_mut().for_each(wrap_references),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_whole_and_refer_to_each_other() {
        let generated = generate(Kind::all());
        for (name, definition) in &generated.definitions {
            let text = definition.to_string();
            for part in text.split(V3_PREFIX).skip(1) {
                let target = part.split('"').next().unwrap();
                assert!(generated.definitions.contains_key(target), "{name} refers to {target}");
            }
            // Every text under `$ref` is such a reference; the schema of schemas has a field of that name besides.
            let references = text.matches("\"$ref\":\"").count();
            assert_eq!(references, text.matches(V3_PREFIX).count(), "{name}");
        }
    }

    #[test]
    fn descriptions_stay_beside_references() {
        let service = generate(Kind::find("v1", "Service"));
        assert_eq!(service.root_name(0), Some("io.k8s.api.core.v1.Service"));
        let spec = &service.definitions["io.k8s.api.core.v1.Service"]["properties"]["spec"];
        assert_eq!(reference(spec), Some("io.k8s.api.core.v1.ServiceSpec"));
        assert!(spec["description"].as_str().unwrap().starts_with("Spec defines"));
        assert!(!service.definitions.contains_key("io.k8s.api.core.v1.PodSpec"));
    }
}
