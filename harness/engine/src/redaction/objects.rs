//! Secrets in objects, by where they stand.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::texts::Values;
use super::{Redacted, Redactor, commands, names};

/// Members of a Secret that are shown.
const SHOWN_OF_SECRETS: [&str; 18] = [
    "apiVersion",
    "kind",
    "api",
    "in",
    "name",
    "namespace",
    "type",
    "immutable",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "ownerReferences",
    "finalizers",
    "managedFields",
    "controller",
    "blockOwnerDeletion",
];
/// Members of Secrets' data that are public, or words of other texts.
const PUBLIC_DATA: [&str; 3] = ["namespace", "type", "username"];
/// Members that compare a value at the path beside them.
const COMPARED: [&str; 6] = ["equals", "one_of", "contains", "excludes", "value", "oneOf"];
/// Deepest object that is looked into; what lies deeper is not shown.
const DEEPEST: usize = 96;

/// Where a value stands.
#[derive(Clone, Copy, Default)]
struct Place {
    /// In a Secret: nothing is shown but what is known to be harmless.
    secret: bool,
    /// Whether all text here is secret.
    all: bool,
    depth: usize,
}

impl Redactor {
    /// An object, a manifest, a patch or a step without secrets.
    #[must_use]
    pub fn object(&self, value: &Value) -> Redacted<Value> {
        Redacted(self.cleaned(value))
    }

    /// A file of evidence without secrets: one of JSON by where they stand, any other by how they look.
    #[must_use]
    pub fn file(&self, text: &str) -> Redacted<String> {
        let structured = self.structured(text);
        Redacted(structured.unwrap_or_else(|| self.clean(text)))
    }

    /// Objects as JSON for people, without secrets.
    #[must_use]
    pub fn objects(&self, objects: &[Value]) -> Redacted<String> {
        let shown: Vec<Value> = objects.iter().map(|object| self.cleaned(object)).collect();
        Redacted(serde_json::to_string_pretty(&shown).unwrap_or_else(|error| format!("no JSON: {error}")))
    }

    /// The end of a text that is clean already, from `start` on.
    #[must_use]
    pub fn cut(&self, text: &Redacted<String>, start: usize) -> Redacted<String> {
        let rest = text.0.get(start..).unwrap_or_default();
        Redacted(format!("… cut, {start} bytes before\n{rest}"))
    }

    pub(super) fn cleaned(&self, value: &Value) -> Value {
        self.walk(value, Place::default())
    }

    /// A text of JSON without secrets; nothing when it is none.
    fn structured(&self, text: &str) -> Option<String> {
        if !text.trim_start().starts_with(['{', '[']) {
            return None;
        }
        let value: Value = serde_json::from_str(text).ok()?;
        let cleaned = self.cleaned(&value);
        if cleaned == value {
            return Some(text.to_owned());
        }
        if text.contains('\n') {
            serde_json::to_string_pretty(&cleaned).ok()
        } else {
            serde_json::to_string(&cleaned).ok()
        }
    }

    fn walk(&self, value: &Value, place: Place) -> Value {
        let place = Place {
            depth: place.depth + 1,
            ..place
        };
        if place.depth > DEEPEST {
            return Value::String(self.mark(&value.to_string()));
        }
        match value {
            Value::Object(map) => Value::Object(self.walk_map(map, place)),
            Value::Array(items) => Value::Array(items.iter().map(|item| self.walk(item, place)).collect()),
            Value::String(text) => Value::String(self.shown_text(text, place)),
            Value::Number(number) if place.all && number.to_string().len() > 5 => {
                Value::String(self.mark(&number.to_string()))
            }
            other => other.clone(),
        }
    }

    fn shown_text(&self, text: &str, place: Place) -> String {
        if place.all {
            return if names::is_harmless(text) {
                text.to_owned()
            } else {
                self.mark(text)
            };
        }
        self.structured(text).unwrap_or_else(|| self.clean(text))
    }

    fn walk_map(&self, map: &Map<String, Value>, place: Place) -> Map<String, Value> {
        let is_secret = |map: &Map<String, Value>| map.get("kind").and_then(Value::as_str) == Some("Secret");
        let names_secret = ["object", "objects"]
            .iter()
            .filter_map(|member| map.get(*member)?.as_object())
            .any(is_secret);
        let secret = place.secret || is_secret(map);
        let telling_path = COMPARED.iter().any(|member| map.contains_key(*member))
            && map.get("path").and_then(Value::as_str).is_some_and(path_tells);
        let mut shown = Map::with_capacity(map.len());
        for (member, value) in map {
            let here = Place { secret, ..place };
            let all = Place { all: true, ..here };
            let cleaned = match member.as_str() {
                "data" | "stringData" if secret => self.secret_data(member, value),
                "metadata" if secret => self.walk(value, here),
                // Of a step about a Secret: the patch, and what its members are compared with.
                "merge" | "where" | "patch" if names_secret => self.about_secret(value, all),
                "env" => self.environment(value, here),
                "args" | "command" => self.arguments_of(value, here),
                "headers" | "seen" => self.headers(value, here),
                _ if COMPARED.contains(&member.as_str()) && telling_path => self.walk(value, all),
                _ if secret && !SHOWN_OF_SECRETS.contains(&member.as_str()) => self.walk(value, all),
                _ if names::tells(member) => self.named(value, here),
                _ => self.walk(value, here),
            };
            shown.insert(self.clean_member(member), cleaned);
        }
        shown
    }

    /// Names of members come from outside as well.
    fn clean_member(&self, member: &str) -> String {
        if member.len() < 16 {
            member.to_owned()
        } else {
            self.clean(member)
        }
    }

    /// What Secrets hold. It is remembered, encoded or not.
    fn secret_data(&self, member: &str, value: &Value) -> Value {
        let Value::Object(map) = value else {
            return self.walk(
                value,
                Place {
                    all: true,
                    ..Place::default()
                },
            );
        };
        let hidden = |(name, value): (&String, &Value)| {
            let Some(text) = value.as_str() else {
                return (
                    name.clone(),
                    self.walk(
                        value,
                        Place {
                            all: true,
                            ..Place::default()
                        },
                    ),
                );
            };
            let public = PUBLIC_DATA.contains(&name.as_str()) || name.ends_with(".crt");
            let clear = if member == "data" {
                STANDARD
                    .decode(text)
                    .ok()
                    .and_then(|bytes| String::from_utf8(bytes).ok())
            } else {
                Some(text.to_owned())
            };
            if !public {
                self.remember(text);
                if let Some(clear) = &clear {
                    self.remember(clear);
                    // A kubeconfig or a file of settings: its parts are secrets as well.
                    if clear.len() > text.len() / 2 && clear.contains(['\n', ':', '=']) {
                        let _ = self.clean(clear);
                    }
                }
            }
            // The same for the same content, whether it came encoded or not.
            (name.clone(), Value::String(self.mark(clear.as_deref().unwrap_or(text))))
        };
        Value::Object(map.iter().map(hidden).collect())
    }

    /// Comparisons with members of a Secret: paths are shown, values are not.
    fn about_secret(&self, value: &Value, place: Place) -> Value {
        match value {
            Value::Array(items) => items.iter().map(|item| self.about_secret(item, place)).collect(),
            Value::Object(map) => {
                let shown = map.iter().map(|(member, value)| {
                    let cleaned = match member.as_str() {
                        "path" | "op" | "name" | "kind" => value.clone(),
                        "data" | "stringData" => self.secret_data(member, value),
                        _ => self.walk(value, place),
                    };
                    (member.clone(), cleaned)
                });
                Value::Object(shown.collect())
            }
            other => self.walk(other, place),
        }
    }

    /// Environment variables of a container. Nobody can tell which literal is a secret, so none is shown that could be.
    fn environment(&self, value: &Value, place: Place) -> Value {
        let Value::Array(items) = value else {
            return self.walk(value, place);
        };
        let variable = |item: &Value| {
            let mut item = self.walk(item, place);
            let tells = item.get("name").and_then(Value::as_str).is_some_and(names::tells);
            if let Some(Value::String(value)) = item.get_mut("value") {
                *value = self.variable(value, tells);
            }
            item
        };
        Value::Array(items.iter().map(variable).collect())
    }

    fn variable(&self, value: &str, tells: bool) -> String {
        if names::is_harmless(value) {
            value.to_owned()
        } else if tells {
            self.mark_known(value)
        } else {
            self.mark(value)
        }
    }

    /// Arguments of a container, or of anything else.
    fn arguments_of(&self, value: &Value, place: Place) -> Value {
        match value {
            Value::Array(items) if items.iter().all(Value::is_string) => {
                let given: Vec<String> = items.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect();
                let cleaned = commands::cleaned(self, &given, Values::Telling);
                Value::Array(cleaned.into_iter().map(Value::String).collect())
            }
            other => self.walk(other, place),
        }
    }

    fn headers(&self, value: &Value, place: Place) -> Value {
        let Value::Object(map) = value else {
            return self.walk(value, place);
        };
        let header = |(name, value): (&String, &Value)| {
            let cleaned = if names::is_secret_header(name) {
                self.named(value, place)
            } else {
                self.walk(value, place)
            };
            (name.clone(), cleaned)
        };
        Value::Object(map.iter().map(header).collect())
    }

    /// What a name that tells names: all texts in it, but not members of objects, which have names of their own.
    fn named(&self, value: &Value, place: Place) -> Value {
        match value {
            Value::String(text) if names::is_harmless(text) => value.clone(),
            Value::String(text) => Value::String(self.header_value(text)),
            Value::Array(items) if items.iter().all(Value::is_string) => {
                items.iter().map(|item| self.named(item, place)).collect()
            }
            Value::Object(map) if map.keys().all(|member| COMPARED.contains(&member.as_str())) => map
                .iter()
                .map(|(member, value)| (member.clone(), self.named(value, place)))
                .collect(),
            other => self.walk(other, place),
        }
    }

    /// The value of a header or of something with a name that tells. What follows a scheme is remembered by itself.
    pub(super) fn header_value(&self, text: &str) -> String {
        let bare = text.split_once(' ').map_or(text, |(_, token)| token);
        self.remember(bare);
        for part in text.split([';', ',']) {
            if let Some((_, value)) = part.split_once('=') {
                self.remember(value);
            }
        }
        self.mark_known(text)
    }
}

/// Whether the member that a path leads to has a name that tells.
pub(super) fn path_tells(path: &str) -> bool {
    path.rsplit(['.', '/']).next().is_some_and(names::tells)
}

/// Whether what a path leads to in a Secret is hidden.
pub(super) fn hidden_of_secret(path: &str) -> bool {
    let mut parts = path.split(['.', '[']).filter(|part| !part.is_empty());
    let is_shown = |part: Option<&str>| part.is_some_and(|part| SHOWN_OF_SECRETS.contains(&part));
    match parts.next() {
        Some("metadata") => !is_shown(parts.next()),
        first => !is_shown(first),
    }
}
