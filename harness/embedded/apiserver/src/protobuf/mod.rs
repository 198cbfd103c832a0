//! Decoding of `application/vnd.kubernetes.protobuf`, which typed Go clients send by default. Only requests: every such client
//! takes JSON for an answer.
//!
//! One generic decoder walks the table in `kubernetes.txt` and makes the JSON that the same object would have been sent as.

use crate::Status;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

/// What every encoded object starts with.
const MAGIC: &[u8] = b"k8s\0";
/// Schemas of custom resources nest; nothing sensible nests deeper.
const DEPTH_LIMIT: usize = 100;

#[derive(Clone, Copy, Debug)]
struct Field {
    name: &'static str,
    pointer: bool,
    repeated: bool,
    map: bool,
    inline: bool,
    kind: &'static str,
}

type Message = HashMap<u64, Field>;

static MESSAGES: LazyLock<HashMap<&'static str, Message>> = LazyLock::new(|| {
    let mut messages: HashMap<&'static str, Message> = HashMap::new();
    let mut current = "";
    for line in include_str!("kubernetes.txt")
        .lines()
        .filter(|l| !l.starts_with('#') && !l.is_empty())
    {
        let words: Vec<&'static str> = line.split_whitespace().collect();
        match words.as_slice() {
            [name] => {
                current = name;
                messages.entry(name).or_default();
            }
            [number, name, flags, kind] => {
                if let Ok(number) = number.parse() {
                    let has = |flag| flags.contains(flag);
                    let field = Field {
                        name,
                        pointer: has('*'),
                        repeated: has('r'),
                        map: has('m'),
                        inline: has('^'),
                        kind,
                    };
                    messages.entry(current).or_default().insert(number, field);
                }
            }
            _ => {}
        }
    }
    messages
});

/// Message and JSON name of the fields that Go leaves out when they are zero: scalars that are no pointers.
static ZERO_IS_LEFT_OUT: LazyLock<HashSet<(&'static str, &'static str)>> = LazyLock::new(|| {
    let plain = |field: &&Field| {
        !field.pointer && !field.repeated && !field.map && matches!(field.kind, "bool" | "int" | "double" | "string")
    };
    let of = |(name, message): (&&'static str, &'static Message)| {
        let name = *name;
        message.values().filter(plain).map(move |field| (name, field.name))
    };
    MESSAGES.iter().flat_map(of).collect()
});

/// Whether Go leaves a scalar field out of JSON when it is zero and not required: it does unless the field is a pointer.
/// `type_name` is Kubernetes' name in OpenAPI, like `io.k8s.api.core.v1.ServicePort`. Types that are not in the table keep
/// their zeros.
pub(crate) fn leaves_out_zero(type_name: &str, field: &str) -> bool {
    let start = type_name.rmatch_indices('.').nth(2).map_or(0, |(i, _)| i + 1);
    // Go writes this one though it is not required.
    type_name
        .get(start..)
        .is_some_and(|message| ZERO_IS_LEFT_OUT.contains(&(message, field)))
        && !(type_name.ends_with(".StatefulSetStatus") && field == "availableReplicas")
}

/// Decodes an object with its envelope.
///
/// # Errors
/// 400 when the bytes are malformed, 415 when the kind is not in the table (send it as JSON then).
pub(crate) fn decode(bytes: &[u8]) -> Result<Value, Status> {
    let bad = |what: &str| {
        Status::bad_request(format!(
            "the object provided is unrecognized (must be valid protobuf): {what}"
        ))
    };
    let envelope = bytes
        .strip_prefix(MAGIC)
        .ok_or_else(|| bad("it does not start with the Kubernetes envelope"))?;
    let (mut api_version, mut kind, mut raw, mut content_type) = (String::new(), String::new(), &[][..], String::new());
    for (number, wire) in Reader(envelope).fields().map_err(|e| bad(&e))? {
        match (number, wire) {
            (1, Wire::Bytes(type_meta)) => {
                for field in Reader(type_meta).fields().map_err(|e| bad(&e))? {
                    match field {
                        (1, Wire::Bytes(text)) => api_version = string(text),
                        (2, Wire::Bytes(text)) => kind = string(text),
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            (4, Wire::Bytes(text)) => content_type = string(text),
            _ => {}
        }
    }
    if content_type == "application/json" {
        return serde_json::from_slice(raw).map_err(|e| bad(&e.to_string()));
    }
    let message = message_name(&api_version, &kind);
    if !MESSAGES.contains_key(message.as_str()) {
        let found = format!("application/vnd.kubernetes.protobuf of {api_version} {kind}");
        return Err(Status::unsupported_media_type(
            &found,
            "application/json, application/yaml",
        ));
    }
    let mut object = decode_message(&message, raw, 0).map_err(|e| bad(&e))?;
    object.insert("apiVersion".into(), json!(api_version));
    object.insert("kind".into(), json!(kind));
    Ok(Value::Object(object))
}

/// The message of a kind: `apps/v1` `Deployment` is `apps.v1.Deployment`.
fn message_name(api_version: &str, kind: &str) -> String {
    if kind == "DeleteOptions" {
        // Sent in the group of whatever is deleted.
        return "meta.v1.DeleteOptions".into();
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
    let group = match group.split('.').next() {
        Some("rbac") => "rbac",
        Some(first) => first,
        None => group,
    };
    format!("{group}.{version}.{kind}")
}

/// A value as it stands on the wire.
#[derive(Clone, Copy, Debug)]
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn fields(mut self) -> Result<Vec<(u64, Wire<'a>)>, String> {
        let mut out = Vec::new();
        while !self.0.is_empty() {
            let tag = self.varint()?;
            let wire = match tag & 7 {
                0 => Wire::Varint(self.varint()?),
                1 => {
                    let bytes: [u8; 8] = self.take(8)?.try_into().map_err(|_| "truncated number")?;
                    Wire::Fixed64(u64::from_le_bytes(bytes))
                }
                2 => {
                    let length = usize::try_from(self.varint()?).map_err(|_| "length out of range")?;
                    Wire::Bytes(self.take(length)?)
                }
                5 => {
                    let bytes: [u8; 4] = self.take(4)?.try_into().map_err(|_| "truncated number")?;
                    Wire::Fixed64(u64::from(u32::from_le_bytes(bytes)))
                }
                other => return Err(format!("unknown wire type {other}")),
            };
            out.push((tag >> 3, wire));
        }
        Ok(out)
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        if n > self.0.len() {
            return Err("unexpected end".into());
        }
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        Ok(head)
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("number is too long".into())
    }
}

fn string(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn decode_message(name: &str, bytes: &[u8], depth: usize) -> Result<Map<String, Value>, String> {
    if depth > DEPTH_LIMIT {
        return Err("nested too deeply".into());
    }
    let message = MESSAGES.get(name).ok_or_else(|| format!("unknown message {name}"))?;
    let mut out = Map::new();
    for (number, wire) in Reader(bytes).fields()? {
        // Fields of newer versions are dropped, as a server of this version does.
        let Some(field) = message.get(&number) else { continue };
        if field.inline {
            let Wire::Bytes(bytes) = wire else {
                return Err(format!("{name}: a message was expected"));
            };
            out.extend(decode_message(field.kind, bytes, depth + 1)?);
        } else if field.map {
            let Wire::Bytes(bytes) = wire else {
                return Err(format!("{}: a map was expected", field.name));
            };
            let (key, value) = map_entry(field.kind, bytes, depth)?;
            let map = out.entry(field.name).or_insert_with(|| json!({}));
            if let Some(map) = map.as_object_mut() {
                map.insert(key, value);
            }
        } else if field.repeated {
            let value = decode_value(field.kind, wire, depth).map_err(|e| format!("{}: {e}", field.name))?;
            let list = out.entry(field.name).or_insert_with(|| json!([]));
            if let Some(list) = list.as_array_mut() {
                list.push(value);
            }
        } else {
            let value = decode_value(field.kind, wire, depth).map_err(|e| format!("{}: {e}", field.name))?;
            if !value.is_null() && (field.pointer || !is_zero(&value)) {
                out.insert(field.name.to_owned(), value);
            }
        }
    }
    Ok(out)
}

/// What Go leaves out of JSON when it is no pointer.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
    }
}

fn map_entry(kind: &str, bytes: &[u8], depth: usize) -> Result<(String, Value), String> {
    let mut key = String::new();
    let mut value = match kind {
        "string" | "bytes" => json!(""),
        "strings" => json!([]),
        _ => json!({}),
    };
    for field in Reader(bytes).fields()? {
        match field {
            (1, Wire::Bytes(text)) => key = string(text),
            (2, wire) => value = decode_value(kind, wire, depth)?,
            _ => {}
        }
    }
    Ok((key, value))
}

fn decode_value(kind: &str, wire: Wire<'_>, depth: usize) -> Result<Value, String> {
    let fields = |bytes| Reader(bytes).fields();
    Ok(match (kind, wire) {
        ("bool", Wire::Varint(n)) => json!(n != 0),
        ("int", Wire::Varint(n)) => json!(n.cast_signed()),
        ("double", Wire::Fixed64(n)) => json!(f64::from_bits(n)),
        ("string", Wire::Bytes(b)) => json!(std::str::from_utf8(b).map_err(|_| "invalid UTF-8")?),
        ("bytes", Wire::Bytes(b)) => json!(STANDARD.encode(b)),
        ("time" | "microtime", Wire::Bytes(b)) => time(kind, &fields(b)?),
        ("quantity", Wire::Bytes(b)) => {
            let text = fields(b)?.into_iter().find_map(|f| {
                if let (1, Wire::Bytes(t)) = f {
                    Some(string(t))
                } else {
                    None
                }
            });
            json!(text.filter(|t| !t.is_empty()).unwrap_or_else(|| "0".into()))
        }
        ("intorstring", Wire::Bytes(b)) => {
            let (mut is_text, mut number, mut text) = (false, 0_i64, String::new());
            for field in fields(b)? {
                match field {
                    (1, Wire::Varint(n)) => is_text = n == 1,
                    (2, Wire::Varint(n)) => number = n.cast_signed(),
                    (3, Wire::Bytes(t)) => text = string(t),
                    _ => {}
                }
            }
            if is_text { json!(text) } else { json!(number) }
        }
        ("raw", Wire::Bytes(b)) => {
            let raw = fields(b)?
                .into_iter()
                .find_map(|f| if let (1, Wire::Bytes(t)) = f { Some(t) } else { None });
            match raw.filter(|r| !r.is_empty()) {
                Some(raw) => serde_json::from_slice(raw).map_err(|e| e.to_string())?,
                None => Value::Null,
            }
        }
        ("strings", Wire::Bytes(b)) => {
            let texts = fields(b)?.into_iter().filter_map(|f| {
                if let (1, Wire::Bytes(t)) = f {
                    Some(string(t))
                } else {
                    None
                }
            });
            texts.collect()
        }
        ("propsorbool" | "propsorarray" | "propsorstrings", Wire::Bytes(b)) => {
            schema_or_other(kind, &fields(b)?, depth)?
        }
        (message, Wire::Bytes(b)) if message.contains('.') => Value::Object(decode_message(message, b, depth + 1)?),
        (kind, wire) => return Err(format!("{kind} was expected, found {wire:?}")),
    })
}

/// Seconds and nanoseconds since 1970. Nothing at all is no time.
fn time(kind: &str, fields: &[(u64, Wire<'_>)]) -> Value {
    if fields.is_empty() {
        return Value::Null;
    }
    let number = |wanted: u64| {
        let found = fields.iter().find_map(|f| match f {
            (n, Wire::Varint(value)) if *n == wanted => Some(value.cast_signed()),
            _ => None,
        });
        found.unwrap_or(0)
    };
    let nanoseconds = i32::try_from(number(2)).unwrap_or(0);
    match jiff::Timestamp::new(number(1), nanoseconds) {
        // Go's zero time is in the year 1.
        Ok(time) if time.as_second() > -62_000_000_000 => {
            let format = if kind == "microtime" {
                "%Y-%m-%dT%H:%M:%S.%6fZ"
            } else {
                "%Y-%m-%dT%H:%M:%SZ"
            };
            json!(time.strftime(format).to_string())
        }
        _ => Value::Null,
    }
}

/// The places of a schema where another schema or something simpler may stand.
fn schema_or_other(kind: &str, fields: &[(u64, Wire<'_>)], depth: usize) -> Result<Value, String> {
    const SCHEMA: &str = "apiextensions.v1.JSONSchemaProps";
    let mut allows = false;
    let mut schema = None;
    let mut list = Vec::new();
    for field in fields {
        match (kind, field) {
            ("propsorbool", (1, Wire::Varint(n))) => allows = *n != 0,
            ("propsorbool", (2, Wire::Bytes(b))) | ("propsorarray" | "propsorstrings", (1, Wire::Bytes(b))) => {
                schema = Some(Value::Object(decode_message(SCHEMA, b, depth + 1)?));
            }
            ("propsorarray", (2, Wire::Bytes(b))) => list.push(Value::Object(decode_message(SCHEMA, b, depth + 1)?)),
            ("propsorstrings", (2, Wire::Bytes(b))) => list.push(json!(string(b))),
            _ => {}
        }
    }
    Ok(match (schema, kind) {
        (Some(schema), _) => schema,
        (None, "propsorbool") => json!(allows),
        (None, _) => Value::Array(list),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn varint(mut n: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while n >= 0x80 {
            out.push(u8::try_from(n & 0x7f).unwrap() | 0x80);
            n >>= 7;
        }
        out.push(u8::try_from(n).unwrap());
        out
    }

    fn number(field: u64, n: u64) -> Vec<u8> {
        [varint(field << 3), varint(n)].concat()
    }

    fn bytes(field: u64, data: &[u8]) -> Vec<u8> {
        [varint(field << 3 | 2), varint(data.len() as u64), data.to_vec()].concat()
    }

    fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let type_meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
        [
            MAGIC.to_vec(),
            bytes(1, &type_meta),
            bytes(2, raw),
            bytes(3, b""),
            bytes(4, b""),
        ]
        .concat()
    }

    #[test]
    fn a_deployment() {
        let label = bytes(11, &[bytes(1, b"app"), bytes(2, b"web")].concat());
        let metadata = [bytes(1, b"web"), bytes(2, b""), label, number(7, 0), bytes(8, b"")].concat();
        let port = [bytes(1, b""), number(2, 0), number(3, 80)].concat();
        let container = [bytes(1, b"c"), bytes(2, b"image"), bytes(6, &port)].concat();
        let pod = bytes(2, &[bytes(2, &container), number(11, 0)].concat());
        let selector = bytes(1, &[bytes(1, b"app"), bytes(2, b"web")].concat());
        let surge = bytes(2, &[number(1, 1), number(2, 0), bytes(3, b"25%")].concat());
        let strategy = [bytes(1, b"RollingUpdate"), bytes(2, &surge)].concat();
        let spec = [
            number(1, 0),
            bytes(2, &selector),
            bytes(3, &pod),
            bytes(4, &strategy),
            number(5, 0),
        ]
        .concat();
        let raw = [bytes(1, &metadata), bytes(2, &spec), bytes(3, b"")].concat();
        assert_eq!(
            decode(&envelope("apps/v1", "Deployment", &raw)).unwrap(),
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "web"}},
                "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}},
                    "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}},
                    "template": {"spec": {"containers": [{"name": "c", "image": "image", "ports": [{"containerPort": 80}]}]}}}})
        );
    }

    #[test]
    fn times_secrets_and_rules() {
        let time = [number(1, 1_767_225_600), number(2, 5000)].concat();
        let spec = [bytes(1, b"me"), bytes(4, &time)].concat();
        let lease = decode(&envelope("coordination.k8s.io/v1", "Lease", &bytes(2, &spec))).unwrap();
        assert_eq!(
            lease["spec"],
            json!({"holderIdentity": "me", "renewTime": "2026-01-01T00:00:00.000005Z"})
        );
        let entry = bytes(2, &[bytes(1, b"k"), bytes(2, b"hi")].concat());
        assert_eq!(decode(&envelope("v1", "Secret", &entry)).unwrap()["data"]["k"], "aGk=");
        let rule = bytes(2, &[bytes(1, b"get"), bytes(2, b""), bytes(3, b"pods")].concat());
        let role = decode(&envelope("rbac.authorization.k8s.io/v1", "Role", &rule)).unwrap();
        assert_eq!(
            role["rules"][0],
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]})
        );
    }

    #[test]
    fn refusals() {
        assert_eq!(decode(b"{}").unwrap_err().code, 400);
        assert_eq!(decode(&envelope("batch/v1", "CronJob", b"")).unwrap_err().code, 415);
        assert_eq!(decode(&envelope("v1", "Pod", &[0x0a, 0xff])).unwrap_err().code, 400);
    }

    #[test]
    fn pointers_keep_their_zero() {
        assert!(leaves_out_zero("io.k8s.api.core.v1.ServicePort", "nodePort"));
        assert!(leaves_out_zero(
            "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
            "generateName"
        ));
        assert!(!leaves_out_zero("io.k8s.api.apps.v1.DeploymentSpec", "replicas"));
        assert!(!leaves_out_zero("io.k8s.api.core.v1.Nothing", "x"));
    }

    #[test]
    fn every_type_in_the_table_is_known() {
        let scalars = [
            "bool",
            "int",
            "double",
            "string",
            "bytes",
            "time",
            "microtime",
            "quantity",
            "intorstring",
            "raw",
            "strings",
        ];
        for (name, message) in MESSAGES.iter() {
            for field in message.values() {
                let known = scalars.contains(&field.kind)
                    || field.kind.starts_with("propsor")
                    || MESSAGES.contains_key(field.kind);
                assert!(known, "{name}.{}: {}", field.name, field.kind);
            }
        }
    }

    proptest! {
        #[test]
        fn never_panics(raw in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode(&raw);
            for (version, kind) in [("v1", "Pod"), ("apiextensions.k8s.io/v1", "CustomResourceDefinition")] {
                let _ = decode(&envelope(version, kind, &raw));
            }
        }
    }
}
