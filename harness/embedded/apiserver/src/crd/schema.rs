//! Structural schemas of custom resources: parsing, pruning, defaulting.
//!
//! `x-kubernetes-validations` (CEL) is not evaluated; [`has_rules`] tells so that the server can warn about it.

use crate::Cause;
use regex::Regex;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

/// What is known of members that are not listed.
#[derive(Clone, Debug, Default)]
pub(crate) enum Additional {
    /// Nothing: they are pruned.
    #[default]
    None,
    /// All are allowed.
    Any,
    /// All are allowed and have this schema.
    Schema(Box<Schema>),
}

/// A regular expression that strings must match somewhere. Most are never needed, and compiling is slow, so that it waits
/// for the first string.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    text: String,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    /// Checks the syntax.
    fn read(text: String) -> Result<Self, (String, String)> {
        match regex_syntax::parse(&text) {
            Ok(_) => Ok(Self {
                text,
                compiled: OnceLock::new(),
            }),
            Err(error) => Err((text, error.to_string())),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a string matches; none does when the expression is too large to be compiled.
    pub(super) fn is_match(&self, text: &str) -> bool {
        let compiled = self.compiled.get_or_init(|| Regex::new(&self.text).ok());
        compiled.as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

/// One node of a schema.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schema {
    pub(crate) kind: Option<String>,
    pub(crate) nullable: bool,
    pub(crate) int_or_string: bool,
    pub(crate) preserve_unknown: bool,
    pub(crate) embedded: bool,
    pub(crate) properties: BTreeMap<String, Schema>,
    pub(crate) additional: Additional,
    pub(crate) items: Option<Box<Schema>>,
    pub(crate) default: Option<Value>,
    pub(crate) list_type: Option<String>,
    pub(crate) list_map_keys: Vec<String>,
    pub(crate) map_is_atomic: bool,
    pub(crate) has_rules: bool,
    pub(super) required: Vec<String>,
    pub(super) enumeration: Option<Vec<Value>>,
    pub(super) pattern: Option<Pattern>,
    pub(super) format: Option<String>,
    pub(super) minimum: Option<f64>,
    pub(super) maximum: Option<f64>,
    pub(super) exclusive_minimum: bool,
    pub(super) exclusive_maximum: bool,
    pub(super) multiple_of: Option<f64>,
    pub(super) min_length: Option<u64>,
    pub(super) max_length: Option<u64>,
    pub(super) min_items: Option<u64>,
    pub(super) max_items: Option<u64>,
    pub(super) unique_items: bool,
    pub(super) min_properties: Option<u64>,
    pub(super) max_properties: Option<u64>,
    pub(super) all_of: Vec<Schema>,
    pub(super) any_of: Vec<Schema>,
    pub(super) one_of: Vec<Schema>,
    pub(super) not: Option<Box<Schema>>,
}

const FORMATS: &[&str] = &[
    "date-time",
    "date",
    "duration",
    "int32",
    "int64",
    "float",
    "double",
    "byte",
    "uuid",
    "ipv4",
    "ipv6",
    "cidr",
    "email",
    "hostname",
    "uri",
];

/// Schemas that were read before, by their text. Many clusters in one process install the same definitions, and each writes
/// them more than once; compiling their patterns is what makes reading slow.
static KNOWN: LazyLock<Mutex<HashMap<String, Arc<Schema>>>> = LazyLock::new(Mutex::default);

/// Most schemas that are remembered.
const MOST_KNOWN: usize = 256;

/// Longer texts are not remembered.
const LONGEST_KNOWN: usize = 512 * 1024;

/// Reads an `openAPIV3Schema`. `path` is where it stands in the CRD, for error messages.
///
/// # Errors
/// A cause per keyword that cannot be understood.
pub(crate) fn parse(schema: &Value, path: &str) -> Result<Arc<Schema>, Vec<Cause>> {
    let text = schema.to_string();
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(schema) = known().get(&text) {
        return Ok(Arc::clone(schema));
    }
    let mut causes = Vec::new();
    let schema = Arc::new(read(schema, path, Part::Object, &mut causes));
    if !causes.is_empty() {
        return Err(causes);
    }
    if text.len() > LONGEST_KNOWN {
        return Ok(schema);
    }
    let mut known = known();
    if known.len() >= MOST_KNOWN {
        known.clear();
    }
    known.insert(text, Arc::clone(&schema));
    Ok(schema)
}

/// What a node of a schema describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The object as a whole.
    Object,
    /// A field, or the values of a map.
    Field,
    /// The items of a list.
    Items,
    /// Something that is described elsewhere: what stands below `allOf`, `anyOf`, `oneOf` and `not`.
    Elsewhere,
}

fn read(value: &Value, path: &str, part: Part, causes: &mut Vec<Cause>) -> Schema {
    let Some(fields) = value.as_object() else {
        causes.push(Cause::type_invalid(path, value, "must be an object"));
        return Schema::default();
    };
    let at = |field: &str| format!("{path}.{field}");
    let text = |field: &str| fields.get(field).and_then(Value::as_str).map(str::to_owned);
    let flag = |field: &str| fields.get(field).and_then(Value::as_bool).unwrap_or(false);
    let size = |field: &str| fields.get(field).and_then(Value::as_u64);
    let number = |field: &str| fields.get(field).and_then(Value::as_f64);
    let strings = |field: &str| -> Vec<String> {
        let list = fields.get(field).and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .filter_map(|v| v.as_str().map(str::to_owned))
            .collect()
    };
    if fields.contains_key("$ref") {
        causes.push(Cause::forbidden(at("$ref"), "$ref is not supported"));
    }
    let kind = text("type").filter(|k| !k.is_empty());
    if let Some(kind) = &kind
        && !matches!(
            kind.as_str(),
            "object" | "array" | "string" | "integer" | "number" | "boolean"
        )
    {
        let supported = ["array", "boolean", "integer", "number", "object", "string"];
        causes.push(Cause::not_supported(at("type"), &json!(kind), &supported));
    }
    // Structural schemas say the type of everything that they specify.
    let has_other_form = flag("x-kubernetes-int-or-string") || flag("x-kubernetes-preserve-unknown-fields");
    if kind.is_none() && !has_other_form {
        let why = match part {
            Part::Object => Some("must not be empty at the root"),
            Part::Field => Some("must not be empty for specified object fields"),
            Part::Items => Some("must not be empty for specified array items"),
            Part::Elsewhere => None,
        };
        causes.extend(why.map(|why| Cause::required(at("type"), why)));
    }
    let below = |inner: Part| if part == Part::Elsewhere { part } else { inner };
    let pattern = text("pattern").and_then(|pattern| match Pattern::read(pattern) {
        Ok(pattern) => Some(pattern),
        Err((pattern, error)) => {
            let why = format!("must be a valid regular expression, but isn't: {error}");
            causes.push(Cause::invalid(at("pattern"), &json!(pattern), &why));
            None
        }
    });
    let mut list_of = |field: &str| -> Vec<Schema> {
        let list = fields.get(field).and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .enumerate()
            .map(|(i, s)| read(s, &format!("{}[{i}]", at(field)), Part::Elsewhere, causes))
            .collect()
    };
    let (all_of, any_of, one_of) = (list_of("allOf"), list_of("anyOf"), list_of("oneOf"));
    let not = fields
        .get("not")
        .map(|s| Box::new(read(s, &at("not"), Part::Elsewhere, causes)));
    let properties = fields
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    let properties = properties
        .map(|(name, s)| {
            (
                name.clone(),
                read(s, &format!("{path}.properties[{name}]"), below(Part::Field), causes),
            )
        })
        .collect();
    let additional = match fields.get("additionalProperties") {
        None | Some(Value::Bool(false) | Value::Null) => Additional::None,
        Some(Value::Bool(true)) => Additional::Any,
        Some(schema) => Additional::Schema(Box::new(read(
            schema,
            &at("additionalProperties"),
            below(Part::Field),
            causes,
        ))),
    };
    let items = fields
        .get("items")
        .map(|s| Box::new(read(s, &at("items"), below(Part::Items), causes)));
    if kind.as_deref() == Some("array") && items.is_none() {
        causes.push(Cause::required(at("items"), "must be specified"));
    }
    let list_type = text("x-kubernetes-list-type");
    let list_map_keys = strings("x-kubernetes-list-map-keys");
    if list_type.as_deref() == Some("map") && list_map_keys.is_empty() {
        causes.push(Cause::required(
            at("x-kubernetes-list-map-keys"),
            "must not be empty if x-kubernetes-list-type is map",
        ));
    }
    Schema {
        kind,
        nullable: flag("nullable"),
        int_or_string: flag("x-kubernetes-int-or-string"),
        preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
        embedded: flag("x-kubernetes-embedded-resource"),
        properties,
        additional,
        items,
        default: fields.get("default").cloned(),
        list_type,
        list_map_keys,
        map_is_atomic: fields.get("x-kubernetes-map-type").is_some_and(|t| t == "atomic"),
        has_rules: fields
            .get("x-kubernetes-validations")
            .and_then(Value::as_array)
            .is_some_and(|rules| !rules.is_empty()),
        required: strings("required"),
        enumeration: fields.get("enum").and_then(Value::as_array).cloned(),
        pattern,
        format: text("format").filter(|f| FORMATS.contains(&f.as_str())),
        minimum: number("minimum"),
        maximum: number("maximum"),
        exclusive_minimum: flag("exclusiveMinimum"),
        exclusive_maximum: flag("exclusiveMaximum"),
        multiple_of: number("multipleOf"),
        min_length: size("minLength"),
        max_length: size("maxLength"),
        min_items: size("minItems"),
        max_items: size("maxItems"),
        unique_items: flag("uniqueItems"),
        min_properties: size("minProperties"),
        max_properties: size("maxProperties"),
        all_of,
        any_of,
        one_of,
        not,
    }
}

/// Whether any node carries CEL rules, which are not evaluated.
pub(crate) fn has_rules(schema: &Schema) -> bool {
    let additional = match &schema.additional {
        Additional::Schema(values) => Some(&**values),
        Additional::None | Additional::Any => None,
    };
    schema.has_rules
        || schema.properties.values().any(has_rules)
        || schema.items.as_deref().is_some_and(has_rules)
        || additional.is_some_and(has_rules)
}

/// Removes members that the schema does not know.
pub(crate) fn prune(schema: &Schema, object: &mut Value) {
    prune_at(schema, object, true);
}

fn prune_at(schema: &Schema, value: &mut Value, is_object_root: bool) {
    match value {
        Value::Object(fields) => {
            let is_root = is_object_root || schema.embedded;
            fields.retain(|name, child| {
                if is_root && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                    return true;
                }
                if let Some(property) = schema.properties.get(name) {
                    prune_at(property, child, false);
                    return true;
                }
                match &schema.additional {
                    Additional::Schema(values) => {
                        prune_at(values, child, false);
                        true
                    }
                    Additional::Any => true,
                    Additional::None => schema.preserve_unknown,
                }
            });
        }
        Value::Array(items) => {
            if let Some(item_schema) = &schema.items {
                for item in items {
                    prune_at(item_schema, item, false);
                }
            }
        }
        _ => {}
    }
}

/// The paths of members that pruning would remove.
pub(crate) fn unknown_fields(schema: &Schema, object: &Value) -> Vec<String> {
    let mut pruned = object.clone();
    prune(schema, &mut pruned);
    let mut out = Vec::new();
    differences(object, &pruned, "", &mut out);
    out
}

fn differences(before: &Value, after: &Value, path: &str, out: &mut Vec<String>) {
    if out.len() >= crate::admission::typed::UNKNOWN_LIMIT {
        return;
    }
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (name, value) in before {
                let at = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                match after.get(name) {
                    Some(kept) => differences(value, kept, &at, out),
                    None if out.len() >= crate::admission::typed::UNKNOWN_LIMIT => return,
                    None => out.push(at),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            for (i, (value, kept)) in before.iter().zip(after).enumerate() {
                differences(value, kept, &format!("{path}[{i}]"), out);
            }
        }
        _ => {}
    }
}

/// Fills defaults, from the outside in. `null` in a field that is not nullable and has a default gives way to it.
pub(crate) fn default(schema: &Schema, object: &mut Value) {
    match object {
        Value::Object(fields) => {
            for (name, property) in &schema.properties {
                if let Some(default_value) = &property.default
                    && fields.get(name).is_none_or(|v| v.is_null() && !property.nullable)
                {
                    fields.insert(name.clone(), default_value.clone());
                }
                if let Some(child) = fields.get_mut(name) {
                    default(property, child);
                }
            }
            if let Additional::Schema(values) = &schema.additional {
                for (name, child) in fields.iter_mut() {
                    if !schema.properties.contains_key(name) {
                        default(values, child);
                    }
                }
            }
        }
        Value::Array(items) => {
            if let Some(item_schema) = &schema.items {
                for item in items {
                    default(item_schema, item);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::validation::validate;
    use rstest::rstest;

    fn schema(value: Value) -> Schema {
        (*parse(&value, "").unwrap()).clone()
    }

    fn sample() -> Schema {
        schema(
            json!({"type": "object", "properties": {"spec": {"type": "object", "required": ["port"], "properties": {
                "port": {"x-kubernetes-int-or-string": true},
                "mode": {"type": "string", "enum": ["a", "b"], "default": "a"},
                "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5, "minLength": 2},
                "n": {"type": "integer", "minimum": 1, "maximum": 10, "format": "int32"},
                "wait": {"type": "string", "format": "duration"},
                "at": {"type": "string", "format": "date-time"},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "list": {"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string", "default": "d"}}}},
                "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                "maybe": {"type": "string", "nullable": true},
                "either": {"type": "object", "oneOf": [{"required": ["x"]}, {"required": ["y"]}],
                           "properties": {"x": {"type": "string"}, "y": {"type": "string"}}},
            }}}}),
        )
    }

    #[rstest]
    #[case(json!({"port": 80}), &[])]
    #[case(json!({"port": "http"}), &[])]
    #[case(json!({"port": 1.5}), &["spec.port"])]
    #[case(json!({}), &["spec.port"])]
    #[case(json!({"port": 1, "mode": "c"}), &["spec.mode"])]
    #[case(json!({"port": 1, "name": "A"}), &["spec.name", "spec.name"])]
    #[case(json!({"port": 1, "name": "abcdef"}), &["spec.name"])]
    #[case(json!({"port": 1, "n": 0}), &["spec.n"])]
    #[case(json!({"port": 1, "n": 11}), &["spec.n"])]
    #[case(json!({"port": 1, "n": "x"}), &["spec.n"])]
    #[case(json!({"port": 1, "wait": "1m30s"}), &[])]
    #[case(json!({"port": 1, "wait": "soon"}), &["spec.wait"])]
    #[case(json!({"port": 1, "at": "2026-01-02T03:04:05Z"}), &[])]
    #[case(json!({"port": 1, "at": "yesterday"}), &["spec.at"])]
    #[case(json!({"port": 1, "labels": {"a": 1}}), &["spec.labels.a"])]
    #[case(json!({"port": 1, "set": ["a", "a"]}), &["spec.set[1]"])]
    #[case(json!({"port": 1, "maybe": null}), &[])]
    #[case(json!({"port": 1, "name": null}), &["spec.name"])]
    #[case(json!({"port": 1, "either": {"x": "1"}}), &[])]
    #[case(json!({"port": 1, "either": {"x": "1", "y": "2"}}), &["spec.either"])]
    #[case(json!({"port": 1, "free": {"any": [1]}}), &[])]
    #[case(json!([]), &["spec"])]
    fn validation(#[case] spec: Value, #[case] expected: &[&str]) {
        let causes = validate(
            &sample(),
            &json!({"kind": "X", "metadata": {"name": "a"}, "spec": spec}),
        );
        let fields: Vec<&str> = causes.iter().map(|c| c.field.as_str()).collect();
        assert_eq!(fields, expected, "{causes:?}");
    }

    #[test]
    fn pruning_and_defaulting() {
        let mut object = json!({"kind": "X", "metadata": {"name": "a"}, "extra": 1,
            "spec": {"port": 1, "unknown": 2, "free": {"kept": true}, "list": [{"gone": 1}], "labels": {"kept": "x"}}});
        prune(&sample(), &mut object);
        default(&sample(), &mut object);
        assert_eq!(
            object,
            json!({"kind": "X", "metadata": {"name": "a"},
                "spec": {"port": 1, "free": {"kept": true}, "list": [{"k": "d"}], "mode": "a", "labels": {"kept": "x"}}})
        );
    }

    #[test]
    fn bad_schemas_are_refused_with_their_place() {
        let causes = parse(
            &json!({"type": "object", "properties": {"a": {"type": "strin"}, "b": {"type": "array"}}}),
            "s",
        )
        .unwrap_err();
        assert_eq!(causes[0].field, "s.properties[a].type");
        assert_eq!(causes[1].field, "s.properties[b].items");
        assert!(parse(&json!({"type": "string", "pattern": "("}), "s").is_err());
    }

    #[test]
    fn schemas_must_be_structural() {
        let missing = |schema: Value| -> Vec<String> {
            let causes = parse(&schema, "s").map_or_else(|causes| causes, |_| Vec::new());
            causes
                .into_iter()
                .map(|c| format!("{}: {}", c.field, c.message))
                .collect()
        };
        assert_eq!(
            missing(json!({"properties": {"a": {"description": "d"}, "b": {"type": "array", "items": {}}}})),
            [
                "s.type: Required value: must not be empty at the root",
                "s.properties[a].type: Required value: must not be empty for specified object fields",
                "s.properties[b].items.type: Required value: must not be empty for specified array items",
            ]
        );
        let open = json!({"type": "object", "properties": {"a": {"x-kubernetes-preserve-unknown-fields": true},
            "b": {"type": "object", "anyOf": [{"properties": {"c": {"minimum": 1}}}, {"required": ["d"]}]}}});
        assert!(missing(open).is_empty());
    }

    #[test]
    fn rules_are_noticed() {
        let inner = json!({"type": "object", "properties": {"a": {"type": "string", "x-kubernetes-validations": [{"rule": "true"}]}}});
        assert!(has_rules(&schema(inner)));
        assert!(!has_rules(&sample()));
    }
}
