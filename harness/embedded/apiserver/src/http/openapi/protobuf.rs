//! OpenAPI v2 in protobuf: the form in which client-go asks for it. Numbers of fields are those of `openapiv2/OpenAPIv2.proto` of
//! gnostic; what clients do not read (bounds of numbers, examples, paths) is left out.

use super::v2;
use bytes::Bytes;
use serde_json::{Map, Value};
use std::sync::LazyLock;

/// What stands in the `Accept` header of clients, whatever they put between name and version.
pub(super) const ASKED_FOR: &str = "application/com.github.proto-openapi.spec.v2";

/// How kube-apiserver names the answer.
pub(super) const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The definitions of built-in kinds: the same for all servers of the process, and large.
static BUILT_IN: LazyLock<Vec<u8>> = LazyLock::new(|| named_schemas(v2::built_in().iter()));

/// The document. `custom` are definitions as they are in OpenAPI v3.
pub(super) fn document(custom: &Map<String, Value>) -> Bytes {
    let custom: Map<String, Value> = custom
        .iter()
        .map(|(name, schema)| (name.clone(), v2::schema_of(schema)))
        .collect();
    let mut out = Vec::new();
    text(&mut out, 1, "2.0");
    let mut info = Vec::new();
    text(&mut info, 1, "Kubernetes");
    text(&mut info, 2, "v1.33.0");
    bytes(&mut out, 2, &info);
    bytes(&mut out, 8, &[]);
    let mut definitions = BUILT_IN.clone();
    definitions.extend(named_schemas(custom.iter()));
    bytes(&mut out, 9, &definitions);
    out.into()
}

/// The content of `Definitions` and of `Properties`.
fn named_schemas<'a>(schemas: impl Iterator<Item = (&'a String, &'a Value)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in schemas {
        let mut named = Vec::new();
        text(&mut named, 1, name);
        bytes(&mut named, 2, &schema(value));
        bytes(&mut out, 1, &named);
    }
    out
}

fn schema(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        let words = value.as_str().unwrap_or_default();
        match name.as_str() {
            "$ref" => text(&mut out, 1, words),
            "format" => text(&mut out, 2, words),
            "title" => text(&mut out, 3, words),
            "description" => text(&mut out, 4, words),
            "pattern" => text(&mut out, 13, words),
            "required" => {
                for field in value.as_array().into_iter().flatten().filter_map(Value::as_str) {
                    text(&mut out, 19, field);
                }
            }
            "enum" => {
                for allowed in value.as_array().into_iter().flatten() {
                    bytes(&mut out, 20, &any(allowed));
                }
            }
            "additionalProperties" => {
                let mut item = Vec::new();
                match value {
                    Value::Bool(allowed) => number(&mut item, 2, u64::from(*allowed)),
                    other => bytes(&mut item, 1, &schema(other)),
                }
                bytes(&mut out, 21, &item);
            }
            "type" => {
                let mut item = Vec::new();
                text(&mut item, 1, words);
                bytes(&mut out, 22, &item);
            }
            "items" => {
                let mut item = Vec::new();
                bytes(&mut item, 1, &schema(value));
                bytes(&mut out, 23, &item);
            }
            "properties" => {
                let properties = named_schemas(value.as_object().into_iter().flatten());
                bytes(&mut out, 25, &properties);
            }
            extension => {
                let mut named = Vec::new();
                text(&mut named, 1, extension);
                bytes(&mut named, 2, &any(value));
                bytes(&mut out, 31, &named);
            }
        }
    }
    out
}

/// A value that is carried as YAML, which JSON is.
fn any(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    text(&mut out, 2, &value.to_string());
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or_default());
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

fn bytes(out: &mut Vec<u8>, field: u64, content: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

fn text(out: &mut Vec<u8>, field: u64, content: &str) {
    bytes(out, field, content.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_schema_has_its_fields_at_their_numbers() {
        let small = json!({"type": "object", "properties": {"a": {"$ref": "#/definitions/B"}}});
        let reference = [&[0x0a, 15][..], b"#/definitions/B"].concat();
        let named = [&[0x0a, 1, b'a', 0x12, 17][..], &reference].concat();
        let properties = [&[0x0a, 22][..], &named].concat();
        let expected = [&[0xca, 0x01, 24][..], &properties, &[0xb2, 0x01, 8, 0x0a, 6], b"object"].concat();
        assert_eq!(schema(&small), expected);
    }

    #[test]
    fn numbers_above_one_byte() {
        let mut out = Vec::new();
        number(&mut out, 2, 300);
        assert_eq!(out, [0x10, 0xac, 0x02]);
    }

    #[test]
    fn custom_kinds_follow_the_built_in_ones() {
        let custom = json!({"io.example.v1.Thing": {"type": "object"}});
        let document = document(custom.as_object().unwrap());
        let has = |text: &str| document.windows(text.len()).any(|w| w == text.as_bytes());
        assert!(document.starts_with(b"\x0a\x032.0"));
        assert!(has("io.example.v1.Thing") && has("io.k8s.api.core.v1.Pod"));
        assert!(has("x-kubernetes-group-version-kind"));
    }
}
