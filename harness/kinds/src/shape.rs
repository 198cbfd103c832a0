//! What objects look like: fields, lists, maps and scalars, without descriptions.

use crate::kind::Kind;
use crate::openapi;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

/// What may stand at a place of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One value.
    Scalar(Scalar),
    /// A list, and what its items look like.
    List(Box<Shape>),
    /// A map from keys that the user chooses, and what its values look like.
    Map(Box<Shape>),
    /// An object with fields that have names.
    Object(Fields),
    /// Anything: what stands here is not known to the schema.
    FreeForm,
}

/// A value without parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// Text.
    Text,
    /// Text that is base64 of bytes.
    Bytes,
    /// A time in RFC 3339, to the second.
    Time,
    /// A time in RFC 3339, to the microsecond.
    MicroTime,
    /// A whole number of 32 bits.
    Int32,
    /// A whole number of 64 bits.
    Int64,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A whole number, or text.
    IntOrText,
    /// An amount like `100m` or `1Gi`: text or a number.
    Quantity,
}

/// The fields of an object. Cheap to clone: a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields(Declared);

/// Where fields are declared.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Declared {
    /// In the table of the process, because types of Kubernetes contain themselves.
    BuiltIn(usize),
    /// In a CustomResourceDefinition.
    Custom(Arc<Definition>),
}

/// A field of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// What stands there.
    pub shape: Shape,
    /// Whether Kubernetes always writes the field, also when it is empty.
    pub required: bool,
}

/// A type with fields.
#[derive(Debug, PartialEq, Eq)]
struct Definition {
    name: String,
    fields: BTreeMap<String, Field>,
}

impl Fields {
    pub(crate) fn custom(name: String, fields: BTreeMap<String, Field>) -> Self {
        Self(Declared::Custom(Arc::new(Definition { name, fields })))
    }

    fn definition(&self) -> &Definition {
        match &self.0 {
            // The only maker of these is the builder of the table.
            Declared::BuiltIn(index) => &SHAPES.definitions[*index],
            Declared::Custom(definition) => definition,
        }
    }

    /// Kubernetes' name of the type, like `io.k8s.api.core.v1.ServicePort`; for a part of a custom kind the name of the kind.
    pub fn name(&self) -> &str {
        &self.definition().name
    }

    /// The field with this name.
    pub fn get(&self, name: &str) -> Option<&Field> {
        self.definition().fields.get(name)
    }

    /// Names and fields, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Field)> {
        self.definition()
            .fields
            .iter()
            .map(|(name, field)| (name.as_str(), field))
    }
}

impl Shape {
    /// Whether one value without parts stands here.
    pub fn is_scalar(&self) -> bool {
        matches!(self, Shape::Scalar(_))
    }

    /// What stands here, in words for a message.
    pub fn words(&self) -> &'static str {
        match self {
            Shape::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Number) => "a number",
            Shape::Scalar(Scalar::Boolean) => "true or false",
            Shape::Scalar(Scalar::Time | Scalar::MicroTime) => "a time",
            Shape::Scalar(Scalar::Quantity) => "a quantity",
            Shape::Scalar(Scalar::IntOrText) => "a number or text",
            Shape::Scalar(Scalar::Text | Scalar::Bytes) => "text",
            Shape::List(_) => "a list",
            Shape::Map(_) => "a map",
            Shape::Object(_) => "an object",
            Shape::FreeForm => "anything",
        }
    }
}

/// All shapes of the process.
struct Shapes {
    definitions: Vec<Definition>,
    /// By position of the kind.
    kinds: Vec<Shape>,
}

static SHAPES: LazyLock<Shapes> = LazyLock::new(build);

pub(crate) fn shape_of_kind(index: usize) -> &'static Shape {
    &SHAPES.kinds[index]
}

fn build() -> Shapes {
    let generated = openapi::generate(Kind::all());
    // Names of definitions with fields; what else has a name is a scalar, a list or free.
    let with_fields: HashMap<&str, usize> = generated
        .definitions
        .iter()
        .filter(|(_, definition)| definition.get("properties").is_some())
        .enumerate()
        .map(|(index, (name, _))| (name.as_str(), index))
        .collect();
    let builder = Builder {
        definitions: &generated.definitions,
        with_fields: &with_fields,
    };
    let mut definitions: Vec<Definition> = Vec::with_capacity(with_fields.len());
    for (name, definition) in &generated.definitions {
        let Some(Value::Object(properties)) = definition.get("properties") else {
            continue;
        };
        let required = definition.get("required").and_then(Value::as_array);
        let is_required = |field: &str| required.is_some_and(|list| list.iter().any(|name| name == field));
        let field = |(field, schema): (&String, &Value)| {
            let built = Field {
                shape: builder.shape(schema),
                required: is_required(field),
            };
            (field.clone(), built)
        };
        definitions.push(Definition {
            name: name.clone(),
            fields: properties.iter().map(field).collect(),
        });
    }
    let kinds = generated.roots.iter().map(|root| builder.shape(root)).collect();
    Shapes { definitions, kinds }
}

struct Builder<'a> {
    definitions: &'a serde_json::Map<String, Value>,
    with_fields: &'a HashMap<&'a str, usize>,
}

impl Builder<'_> {
    fn shape(&self, schema: &Value) -> Shape {
        if let Some(name) = openapi::reference(schema) {
            return self.named(name);
        }
        let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default();
        match (text("type"), text("format")) {
            ("array", _) => Shape::List(Box::new(schema.get("items").map_or(Shape::FreeForm, |s| self.shape(s)))),
            ("object", _) => match schema.get("additionalProperties") {
                Some(values) if values.is_object() => Shape::Map(Box::new(self.shape(values))),
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

    fn named(&self, name: &str) -> Shape {
        if let Some(index) = self.with_fields.get(name) {
            return Shape::Object(Fields(Declared::BuiltIn(*index)));
        }
        match name.rsplit('.').next() {
            Some("Quantity") => Shape::Scalar(Scalar::Quantity),
            Some("IntOrString") => Shape::Scalar(Scalar::IntOrText),
            Some("MicroTime") => Shape::Scalar(Scalar::MicroTime),
            _ => self
                .definitions
                .get(name)
                .map_or(Shape::FreeForm, |schema| self.shape(schema)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Step;

    fn at(api_version: &str, kind: &str, path: &str) -> &'static Shape {
        let steps: Vec<Step<'_>> = path
            .split('.')
            .map(|s| if s == "*" { Step::Item } else { Step::Field(s) })
            .collect();
        Kind::find(api_version, kind).unwrap().resolve(&steps).unwrap()
    }

    #[test]
    fn every_kind_of_scalar_is_told_apart() {
        for (api_version, kind, path, expected) in [
            ("v1", "Service", "spec.ports.*.port", Scalar::Int32),
            ("v1", "Service", "spec.ports.*.targetPort", Scalar::IntOrText),
            ("v1", "Service", "metadata.generation", Scalar::Int64),
            ("v1", "Service", "metadata.creationTimestamp", Scalar::Time),
            ("v1", "Secret", "data.key", Scalar::Bytes),
            ("v1", "Secret", "stringData.key", Scalar::Text),
            ("v1", "Pod", "spec.hostNetwork", Scalar::Boolean),
            ("v1", "Pod", "spec.containers.*.resources.limits.cpu", Scalar::Quantity),
            ("coordination.k8s.io/v1", "Lease", "spec.renewTime", Scalar::MicroTime),
            ("events.k8s.io/v1", "Event", "eventTime", Scalar::MicroTime),
        ] {
            assert_eq!(at(api_version, kind, path), &Shape::Scalar(expected), "{kind} {path}");
        }
    }

    #[test]
    fn what_the_schema_leaves_open_is_free() {
        let schema = "spec.versions.*.schema.openAPIV3Schema.properties.spec.default";
        assert_eq!(
            at("apiextensions.k8s.io/v1", "CustomResourceDefinition", schema),
            &Shape::FreeForm
        );
        assert_eq!(at("apps/v1", "ControllerRevision", "data"), &Shape::FreeForm);
        assert_eq!(at("v1", "Pod", "metadata.managedFields.*.fieldsV1"), &Shape::FreeForm);
    }

    #[test]
    fn required_is_what_kubernetes_always_writes() {
        let Shape::Object(fields) = at("v1", "Service", "spec.ports.*") else {
            unreachable!("ports have fields");
        };
        assert_eq!(fields.name(), "io.k8s.api.core.v1.ServicePort");
        assert!(fields.get("port").unwrap().required);
        assert!(!fields.get("name").unwrap().required);
        assert!(fields.iter().count() > 4);
    }

    #[test]
    fn every_kind_has_fields() {
        for kind in Kind::all() {
            let Shape::Object(fields) = kind.shape() else {
                unreachable!("{} has no fields", kind.kind);
            };
            assert!(
                fields.get("apiVersion").is_some() && fields.get("metadata").is_some(),
                "{}",
                kind.kind
            );
        }
    }
}
