//! Kinds that CustomResourceDefinitions declare.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::kind::Kind;
use crate::shape::{Field, Fields, Scalar, Shape};

/// Deepest schema that is followed; what lies deeper is left open.
const DEEPEST: usize = 64;

/// A kind that a CustomResourceDefinition declares, with the shape of its objects in each version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomKind {
    /// API group.
    pub group: String,
    /// Name, like `HTTPRoute`.
    pub kind: String,
    /// Name of the resource in URLs and in rules of RBAC, like `httproutes`.
    pub plural: String,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// By version.
    shapes: BTreeMap<String, Shape>,
}

impl CustomKind {
    /// Reads a CustomResourceDefinition of `apiextensions.k8s.io/v1`.
    ///
    /// # Errors
    /// The pointer to what is missing in it.
    pub fn declared_by(definition: &Value) -> Result<Self, &'static str> {
        let text = |pointer: &'static str| {
            let found = definition.pointer(pointer).and_then(Value::as_str);
            found.filter(|text| !text.is_empty()).map(str::to_owned).ok_or(pointer)
        };
        if text("/apiVersion")? != "apiextensions.k8s.io/v1" {
            return Err("/apiVersion");
        }
        if text("/kind")? != "CustomResourceDefinition" {
            return Err("/kind");
        }
        let kind = text("/spec/names/kind")?;
        let mut shapes = BTreeMap::new();
        let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
        for version in versions.ok_or("/spec/versions")? {
            let name = version.get("name").and_then(Value::as_str).ok_or("/spec/versions")?;
            let schema = version.pointer("/schema/openAPIV3Schema").ok_or("/spec/versions")?;
            shapes.insert(name.to_owned(), whole(&kind, schema));
        }
        if shapes.is_empty() {
            return Err("/spec/versions");
        }
        Ok(Self {
            group: text("/spec/group")?,
            plural: text("/spec/names/plural")?,
            namespaced: text("/spec/scope")? == "Namespaced",
            kind,
            shapes,
        })
    }

    /// What its objects look like in a version.
    #[must_use]
    pub fn shape(&self, version: &str) -> Option<&Shape> {
        self.shapes.get(version)
    }

    /// Versions and shapes.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &Shape)> {
        self.shapes.iter().map(|(version, shape)| (version.as_str(), shape))
    }
}

/// The shape of whole objects: what the schema says, and what every object has without being declared.
fn whole(kind: &str, schema: &Value) -> Shape {
    if is_open(schema) {
        return Shape::FreeForm;
    }
    let mut fields = match schema.get("properties") {
        Some(Value::Object(properties)) => members(kind, properties, DEEPEST),
        _ => BTreeMap::new(),
    };
    for name in ["apiVersion", "kind", "metadata"] {
        if let Some(field) = of_every_object(name) {
            fields.insert(name.to_owned(), field);
        }
    }
    Shape::Object(Fields::custom(kind.to_owned(), fields))
}

fn of_every_object(name: &str) -> Option<Field> {
    match Kind::find("v1", "ConfigMap")?.shape() {
        Shape::Object(fields) => fields.get(name).cloned(),
        _ => None,
    }
}

fn members(kind: &str, properties: &serde_json::Map<String, Value>, deeper: usize) -> BTreeMap<String, Field> {
    let field = |(name, schema): (&String, &Value)| {
        let shape = shape(kind, schema, deeper);
        (name.clone(), Field { shape, required: false })
    };
    properties.iter().map(field).collect()
}

/// Whether Kubernetes keeps what the schema does not name.
fn is_open(schema: &Value) -> bool {
    schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true))
}

fn shape(kind: &str, schema: &Value, deeper: usize) -> Shape {
    let Some(deeper) = deeper.checked_sub(1) else {
        return Shape::FreeForm;
    };
    let is_true = |key: &str| schema.get(key) == Some(&Value::Bool(true));
    if is_open(schema) || is_true("x-kubernetes-embedded-resource") {
        return Shape::FreeForm;
    }
    if is_true("x-kubernetes-int-or-string") {
        return Shape::Scalar(Scalar::IntOrText);
    }
    let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default();
    match (text("type"), text("format")) {
        ("array", _) => {
            let items = schema.get("items");
            Shape::List(Box::new(
                items.map_or(Shape::FreeForm, |items| shape(kind, items, deeper)),
            ))
        }
        ("object", _) => match (schema.get("properties"), schema.get("additionalProperties")) {
            (Some(Value::Object(properties)), _) => {
                Shape::Object(Fields::custom(kind.to_owned(), members(kind, properties, deeper)))
            }
            (_, Some(values @ Value::Object(_))) => Shape::Map(Box::new(shape(kind, values, deeper))),
            _ => Shape::FreeForm,
        },
        ("string", "byte") => Shape::Scalar(Scalar::Bytes),
        ("string", "date-time") => Shape::Scalar(Scalar::Time),
        ("string", _) => Shape::Scalar(Scalar::Text),
        ("integer", "int64") => Shape::Scalar(Scalar::Int64),
        ("integer", _) => Shape::Scalar(Scalar::Int32),
        ("number", _) => Shape::Scalar(Scalar::Number),
        ("boolean", _) => Shape::Scalar(Scalar::Boolean),
        _ => Shape::FreeForm,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::ObjectPath;

    fn definition() -> Value {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "things.example.io"},
            "spec": {
                "group": "example.io",
                "scope": "Namespaced",
                "names": {"kind": "Thing", "plural": "things"},
                "versions": [{"name": "v1", "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {
                        "peers": {"type": "array", "items": {"type": "object", "properties": {
                            "port": {"x-kubernetes-int-or-string": true},
                            "weight": {"type": "integer"},
                        }}},
                        "limits": {"type": "object", "additionalProperties": {"type": "string"}},
                        "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                        "since": {"type": "string", "format": "date-time"},
                    }},
                }}}}],
            },
        })
    }

    #[rstest]
    #[case("spec.peers[*].port", "a number or text")]
    #[case("spec.peers[weight=1].weight", "a number")]
    #[case("spec.limits.anything", "text")]
    #[case("spec.open.what.ever", "anything")]
    #[case("spec.since", "a time")]
    #[case("metadata.labels.\"a/b\"", "text")]
    #[case("metadata.generation", "a number")]
    #[case("kind", "text")]
    fn a_definition_gives_shapes(#[case] path: &str, #[case] words: &str) {
        let thing = CustomKind::declared_by(&definition()).unwrap();
        assert!(thing.namespaced);
        let shape = thing.shape("v1").unwrap();
        assert_eq!(ObjectPath::parse(path).unwrap().shape_in(shape).unwrap().words(), words);
        assert!(thing.shape("v2").is_none());
    }

    #[rstest]
    #[case("spec.peer[*].port", "peer")]
    #[case("spec.peers.port", "port")]
    #[case("status", "status")]
    #[case("metadata.label", "label")]
    #[case("spec.since.x", "x")]
    fn what_it_does_not_declare_is_not_there(#[case] path: &str, #[case] at: &str) {
        let thing = CustomKind::declared_by(&definition()).unwrap();
        let (range, _) = ObjectPath::parse(path)
            .unwrap()
            .shape_in(thing.shape("v1").unwrap())
            .unwrap_err();
        assert_eq!(path.get(range), Some(at));
    }

    #[rstest]
    #[case("/apiVersion")]
    #[case("/kind")]
    #[case("/spec/group")]
    #[case("/spec/scope")]
    #[case("/spec/names/kind")]
    #[case("/spec/names/plural")]
    #[case("/spec/versions")]
    fn what_is_missing_is_told(#[case] pointer: &str) {
        let mut definition = definition();
        *definition.pointer_mut(pointer).unwrap() = Value::Null;
        assert_eq!(CustomKind::declared_by(&definition), Err(pointer));
    }

    #[test]
    fn what_lies_too_deep_is_left_open() {
        let mut schema = json!({"type": "string"});
        for _ in 0..DEEPEST * 2 {
            schema = json!({"type": "array", "items": schema});
        }
        let mut definition = definition();
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["deep"] = schema;
        let thing = CustomKind::declared_by(&definition).unwrap();
        let mut here = thing
            .shape("v1")
            .unwrap()
            .resolve(&[crate::Step::Field("deep")])
            .unwrap();
        let mut levels = 0;
        while let Shape::List(item) = here {
            here = item;
            levels += 1;
        }
        assert_eq!((levels, here), (DEEPEST, &Shape::FreeForm));
    }
}
