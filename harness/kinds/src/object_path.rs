//! Places in objects: `spec.ports[*].port`, `metadata.labels."a.b/c"`, `subsets[0].addresses`.
//!
//! Keys are separated by dots and stand bare (letters, digits, `_`, `-`, `/`, `$`) or between double quotes, in which
//! `\"` and `\\` stand for themselves. `[n]` is the entry `n` of a list, from 0; `[*]` all of them; `[path=value]` those
//! whose `path` has this text, number or truth value as its value. A value with `]` or `"` in it stands between double
//! quotes. `[*]` and `[path=value]` yield a list, nested ones a flat one.

use std::fmt;
use std::ops::Range;

use serde_json::Value;

use crate::path::{Step, WrongStep};
use crate::shape::Shape;

/// Deepest path.
const MAX_STEPS: usize = 64;

/// A parsed place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPath {
    steps: Vec<Part>,
    /// Where each step begins in the text, in characters from 0.
    starts: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Key(String),
    Index(usize),
    Each,
    Where(ObjectPath, String),
}

/// Why a text is no path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPathError {
    /// The text.
    pub path: String,
    /// Where it stops making sense, from 1.
    pub position: usize,
    /// What would have made sense.
    pub expected: String,
}

impl fmt::Display for ObjectPathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            position,
            expected,
        } = self;
        write!(f, "`{path}` is not a path: {expected} expected at character {position}")
    }
}

impl std::error::Error for ObjectPathError {}

/// What is at a place.
#[derive(Clone, Debug, PartialEq)]
pub enum Found<'a> {
    /// Nothing, or null.
    Nothing,
    /// One value.
    One(&'a Value),
    /// What a path with `[*]` leads to, without the entries in which there is nothing.
    Many(Vec<&'a Value>),
}

impl ObjectPath {
    /// Parses a path.
    ///
    /// # Errors
    /// When the text is not a path, with the place.
    pub fn parse(text: &str) -> Result<Self, ObjectPathError> {
        let chars: Vec<char> = text.chars().collect();
        let fail = |position: usize, expected: &str| ObjectPathError {
            path: text.to_owned(),
            position: position + 1,
            expected: expected.to_owned(),
        };
        let mut steps = Vec::new();
        let mut starts = Vec::new();
        let mut at = 0;
        loop {
            if steps.len() >= MAX_STEPS {
                return Err(fail(at, "an end after so many steps"));
            }
            starts.push(at);
            match chars.get(at) {
                Some('"') => {
                    let (key, end) = quoted(&chars, at).ok_or_else(|| fail(chars.len(), "a closing `\"`"))?;
                    steps.push(Part::Key(key));
                    at = end;
                }
                Some(c) if is_bare(*c) => {
                    let end = chars[at..]
                        .iter()
                        .position(|c| !is_bare(*c))
                        .map_or(chars.len(), |length| at + length);
                    steps.push(Part::Key(chars[at..end].iter().collect()));
                    at = end;
                }
                _ => return Err(fail(at, "a key")),
            }
            while chars.get(at) == Some(&'[') {
                let (end, equals) = bracket(&chars, at).ok_or_else(|| fail(chars.len(), "a closing `]`"))?;
                let inside: String = chars[at + 1..end].iter().collect();
                starts.push(at);
                steps.push(match inside.as_str() {
                    "*" => Part::Each,
                    _ if equals.is_some() => condition(&chars, at + 1, equals.unwrap_or(at), end)
                        .map_err(|(position, expected)| fail(position, &expected))?,
                    digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
                        Part::Index(digits.parse().map_err(|_| fail(at + 1, INSIDE))?)
                    }
                    _ => return Err(fail(at + 1, INSIDE)),
                });
                if steps.len() >= MAX_STEPS {
                    return Err(fail(end, "an end after so many steps"));
                }
                at = end + 1;
            }
            match chars.get(at) {
                None => return Ok(Self { steps, starts }),
                Some('.') => at += 1,
                Some(_) => return Err(fail(at, "`.`, `[` or the end")),
            }
        }
    }

    /// What is there in an object.
    #[must_use]
    pub fn find<'a>(&self, object: &'a Value) -> Found<'a> {
        let mut values = vec![object];
        let mut many = false;
        for step in &self.steps {
            values = match step {
                Part::Key(key) => values.iter().filter_map(|value| value.get(key)).collect(),
                Part::Index(index) => values.iter().filter_map(|value| value.get(index)).collect(),
                Part::Each => {
                    many = true;
                    values.iter().filter_map(|value| value.as_array()).flatten().collect()
                }
                Part::Where(path, wanted) => {
                    many = true;
                    let entries = values.iter().filter_map(|value| value.as_array()).flatten();
                    entries.filter(|entry| path.is_text(entry, wanted)).collect()
                }
            };
        }
        values.retain(|value| !value.is_null());
        match (many, values.first()) {
            (true, _) => Found::Many(values),
            (false, Some(value)) => Found::One(value),
            (false, None) => Found::Nothing,
        }
    }

    /// Whether what is there reads like this text.
    fn is_text(&self, object: &Value, wanted: &str) -> bool {
        match self.find(object) {
            Found::One(Value::String(text)) => text == wanted,
            Found::One(Value::Number(number)) => number.to_string() == wanted,
            Found::One(Value::Bool(truth)) => wanted == if *truth { "true" } else { "false" },
            _ => false,
        }
    }

    /// Whether it leads to several places, so that what it finds is a list.
    #[must_use]
    pub fn is_many(&self) -> bool {
        self.steps
            .iter()
            .any(|step| matches!(step, Part::Each | Part::Where(..)))
    }

    /// The last key in it.
    #[must_use]
    pub fn last_key(&self) -> Option<&str> {
        self.steps.iter().rev().find_map(|step| match step {
            Part::Key(key) => Some(key.as_str()),
            _ => None,
        })
    }

    /// What stands at this place in objects of such a shape: of one of the places, when it leads to many.
    ///
    /// # Errors
    /// When it leads nowhere, with the range of characters (from 0) of the text at which it goes astray.
    pub fn shape_in<'s>(&self, shape: &'s Shape) -> Result<&'s Shape, (Range<usize>, WrongStep)> {
        let mut here = shape;
        for (step, start) in self.steps.iter().zip(&self.starts) {
            let one = match step {
                Part::Key(key) => Step::Field(key),
                Part::Index(_) | Part::Each | Part::Where(..) => Step::Item,
            };
            let length = match step {
                Part::Key(key) => key.chars().count(),
                _ => 1,
            };
            here = here
                .resolve(&[one])
                .map_err(|error| (*start..start + length, error.wrong))?;
            if let Part::Where(condition, _) = step {
                condition.shape_in(here).map_err(|(range, wrong)| {
                    let inside = start + 1;
                    (range.start + inside..range.end + inside, wrong)
                })?;
            }
        }
        Ok(here)
    }

    /// Whether every key in it is one that the schema names: no key of a map, and nothing that the schema leaves open.
    #[must_use]
    pub fn is_named_in(&self, shape: &Shape) -> bool {
        let mut here = shape;
        self.steps.iter().all(|step| {
            let one = match step {
                Part::Key(_) if !matches!(here, Shape::Object(_)) => return false,
                Part::Key(key) => Step::Field(key),
                Part::Index(_) | Part::Each | Part::Where(..) => Step::Item,
            };
            match here.resolve(&[one]) {
                Ok(next) => {
                    here = next;
                    true
                }
                Err(_) => false,
            }
        })
    }

    /// Whether it leads into the secret parts of a Secret.
    #[must_use]
    pub fn is_secret_in(&self, object: &Value) -> bool {
        let secret = object.get("kind").and_then(Value::as_str) == Some("Secret");
        secret && matches!(self.steps.first(), Some(Part::Key(key)) if key == "data" || key == "stringData")
    }
}

/// What may stand between brackets.
const INSIDE: &str = "a number, `*` or `path=value`";

/// For a bracket that opens at `start`: where it closes, and where its first `=` is. Quoted text does not count.
fn bracket(chars: &[char], start: usize) -> Option<(usize, Option<usize>)> {
    let mut equals = None;
    let mut at = start + 1;
    loop {
        match chars.get(at)? {
            ']' => return Some((at, equals)),
            '=' if equals.is_none() => equals = Some(at),
            '"' => {
                at = quoted(chars, at)?.1;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
}

/// The condition that stands in `start..end` with its `=` at `equals`, or what was expected where.
fn condition(chars: &[char], start: usize, equals: usize, end: usize) -> Result<Part, (usize, String)> {
    let text: String = chars[start..equals].iter().collect();
    // A bracket can't stand inside a bracket, so that this does not nest.
    let path = ObjectPath::parse(&text).map_err(|error| (start + error.position - 1, error.expected))?;
    let value = match chars[equals + 1..end].first() {
        Some('"') => match quoted(chars, equals + 1) {
            Some((value, close)) if close == end => value,
            _ => return Err((equals + 1, "a value between quotes and nothing behind it".to_owned())),
        },
        Some(_) => chars[equals + 1..end].iter().collect(),
        None => return Err((equals + 1, "a value".to_owned())),
    };
    Ok(Part::Where(path, value))
}

fn is_bare(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '/' | '$')
}

/// The text between quotes that open at `start`, and the position behind the closing one.
fn quoted(chars: &[char], start: usize) -> Option<(String, usize)> {
    let mut key = String::new();
    let mut at = start + 1;
    loop {
        match chars.get(at)? {
            '"' => return Some((key, at + 1)),
            '\\' => {
                let escaped = chars.get(at + 1).filter(|c| matches!(c, '"' | '\\'))?;
                key.push(*escaped);
                at += 2;
            }
            c => {
                key.push(*c);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::kind::Kind;

    #[rstest]
    #[case("spec.ports[*].port", "a number")]
    #[case("spec.ports[name=http].targetPort", "a number or text")]
    #[case("spec.ports[0]", "an object")]
    #[case("spec.ports", "a list")]
    #[case("metadata.labels.\"a/b\"", "text")]
    #[case("metadata.labels", "a map")]
    fn a_shape_is_found_at_a_place(#[case] path: &str, #[case] words: &str) {
        let service = Kind::find("v1", "Service").unwrap().shape();
        assert_eq!(
            ObjectPath::parse(path).unwrap().shape_in(service).unwrap().words(),
            words
        );
    }

    #[rstest]
    #[case("spec.typo.nope", "typo")]
    #[case("spec.ports.port", "port")]
    #[case("spec.ports[nam=http].port", "nam")]
    #[case("metadata.name.x", "x")]
    #[case("metadata.name[*]", "[")]
    fn a_place_that_is_not_there_is_told(#[case] path: &str, #[case] at: &str) {
        let service = Kind::find("v1", "Service").unwrap().shape();
        let (range, _) = ObjectPath::parse(path).unwrap().shape_in(service).unwrap_err();
        assert_eq!(path.get(range), Some(at));
    }

    fn service() -> Value {
        json!({
            "kind": "Service",
            "metadata": {"labels": {"mirror.linkerd.io/cluster-name": "east", "say \"hi\"": "x"}, "gone": null},
            "conditions": [
                {"type": "Ready", "status": "True", "ok": true},
                {"type": "Live", "status": "False", "ref": {"x.y": "a]=\"b"}},
            ],
            "nested": [{"items": [{"name": "a", "v": 1}, {"name": "b", "v": 2}]}, {"items": [{"name": "a", "v": 3}]}],
            "spec": {"ports": [{"port": 80, "nodePort": 30000}, {"port": 443}], "empty": []},
        })
    }

    #[rstest]
    #[case("kind", json!("Service"))]
    #[case("metadata.labels.\"mirror.linkerd.io/cluster-name\"", json!("east"))]
    #[case(r#"metadata.labels."say \"hi\"""#, json!("x"))]
    #[case("spec.ports[0].port", json!(80))]
    #[case("spec.ports[1].port", json!(443))]
    fn one_value_is_found(#[case] path: &str, #[case] expected: Value) {
        assert_eq!(ObjectPath::parse(path).unwrap().find(&service()), Found::One(&expected));
    }

    #[rstest]
    #[case("spec.ports[*].port", vec![json!(80), json!(443)])]
    #[case("spec.ports[*].nodePort", vec![json!(30000)])]
    #[case("spec.empty[*]", vec![])]
    #[case("spec.nowhere[*].port", vec![])]
    #[case("kind[*]", vec![])]
    #[case("spec.ports[port=80].nodePort", vec![json!(30000)])]
    #[case("spec.ports[port=443].nodePort", vec![])]
    #[case("spec.ports[port=\"443\"].port", vec![json!(443)])]
    #[case("conditions[type=Ready].status", vec![json!("True")])]
    #[case("conditions[ref.\"x.y\"=\"a]=\\\"b\"].status", vec![json!("False")])]
    #[case("conditions[ok=true].type", vec![json!("Ready")])]
    #[case("nested[*].items[name=a].v", vec![json!(1), json!(3)])]
    fn a_star_finds_a_list(#[case] path: &str, #[case] expected: Vec<Value>) {
        assert_eq!(
            ObjectPath::parse(path).unwrap().find(&service()),
            Found::Many(expected.iter().collect())
        );
    }

    #[rstest]
    #[case("spec.ports[2].port")]
    #[case("metadata.gone")]
    #[case("kind.deeper")]
    #[case("spec.ports.port")]
    fn nothing_is_found(#[case] path: &str) {
        assert_eq!(ObjectPath::parse(path).unwrap().find(&service()), Found::Nothing);
    }

    #[rstest]
    #[case("", 1, "a key")]
    #[case(".a", 1, "a key")]
    #[case("a.", 3, "a key")]
    #[case("a..b", 3, "a key")]
    #[case("a[x]", 3, "a number, `*` or `path=value`")]
    #[case("a[]", 3, "a number, `*` or `path=value`")]
    #[case("a[-1]", 3, "a number, `*` or `path=value`")]
    #[case("a[0", 4, "a closing `]`")]
    #[case("a[b=c", 6, "a closing `]`")]
    #[case("a[b=]", 5, "a value")]
    #[case("a[=c]", 3, "a key")]
    #[case("a[b.=c]", 5, "a key")]
    #[case("a[b=\"c\"d]", 5, "a value between quotes and nothing behind it")]
    #[case("conditions[ref=a]b]", 18, "`.`, `[` or the end")]
    #[case("a.\"b", 5, "a closing `\"`")]
    #[case("a b", 2, "`.`, `[` or the end")]
    #[case("a[99999999999999999999999]", 3, "a number, `*` or `path=value`")]
    fn a_mistake_is_told_with_its_place(#[case] path: &str, #[case] position: usize, #[case] expected: &str) {
        let error = ObjectPath::parse(path).unwrap_err();
        assert_eq!((error.position, error.expected.as_str()), (position, expected));
    }

    #[test]
    fn a_very_deep_path_is_refused() {
        assert!(ObjectPath::parse(&"a.".repeat(100)).is_err());
        assert!(ObjectPath::parse(&format!("a{}", "[0]".repeat(100))).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_or_the_search_panic(text in "\\PC{0,40}") {
            if let Ok(path) = ObjectPath::parse(&text) {
                let _ = path.find(&service());
            }
        }

        #[test]
        fn any_key_can_be_quoted(key in "\\PC{0,20}") {
            let quoted = format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""));
            let path = ObjectPath::parse(&quoted).unwrap();
            let object = json!({key: 1});
            prop_assert_eq!(path.find(&object), Found::One(&json!(1)));
        }

        #[test]
        fn path_like_texts_never_panic(text in r#"[a-c.=\[\]*"\\0-2]{0,16}"#) {
            if let Ok(path) = ObjectPath::parse(&text) {
                let _ = path.find(&service());
            }
        }
    }
}
