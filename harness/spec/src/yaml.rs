//! YAML text becomes a tree in which every key and value knows its place. The only module (with those below it) that names a YAML reader.
//!
//! Two readers look at each file: `serde_yaml` decides what a value *is*, `granit-parser` *where* it stands. They must
//! see the same tree; where they do not, the file is refused, so that a place never belongs to another value. What
//! scenario files have no use for and what makes YAML dangerous is refused as well: anchors and aliases, merge keys,
//! tags, tabs in the indentation, several documents, repeated keys.

mod sketch;
mod source_map;

use std::sync::Arc;

use serde::Deserialize as _;
use serde_json::{Map, Number, Value};

use self::sketch::{Shape, Sketch, TreeBuilder};
pub use self::source_map::{SourceMap, escape};
use crate::code;
use crate::diagnostic::Diagnostic;
use crate::source::{Source, Span};

/// Bounds of a file.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of text.
    pub bytes: usize,
    /// Levels of nested lists and mappings.
    pub depth: usize,
    /// Values and keys.
    pub nodes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 512 * 1024,
            depth: 32,
            nodes: 20_000,
        }
    }
}

/// A value with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value.
    pub tree: Tree,
    /// Where it stands. For a key without a value: the key.
    pub span: Span,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A finite number.
    Number(Number),
    /// Text.
    Text {
        /// The text.
        text: String,
        /// Whether it stands without quotes.
        plain: bool,
        /// Whether it is what one `${…}` was replaced by, so that it may still become a number or a truth value.
        filled: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

impl Node {
    /// The value without places.
    pub fn to_value(&self) -> Value {
        match &self.tree {
            Tree::Null => Value::Null,
            Tree::Bool(value) => Value::Bool(*value),
            Tree::Number(number) => Value::Number(number.clone()),
            Tree::Text { text, .. } => Value::String(text.clone()),
            Tree::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Tree::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.value.to_value()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }

    /// The entry of a mapping.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.tree {
            Tree::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The value under a key of a mapping.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The text, if it is text.
    pub fn text(&self) -> Option<&str> {
        match &self.tree {
            Tree::Text { text, .. } => Some(text),
            _ => None,
        }
    }

    /// What it is, in words: `a list`.
    pub fn kind(&self) -> &'static str {
        match &self.tree {
            Tree::Null => "nothing",
            Tree::Bool(_) => "true or false",
            Tree::Number(_) => "a number",
            Tree::Text { .. } => "text",
            Tree::List(_) => "a list",
            Tree::Map(_) => "a mapping",
        }
    }
}

/// What text would be if it stood in a file without quotes: a number, true or false, or else text.
pub fn plain_scalar(text: &str) -> Tree {
    match serde_yaml::from_str::<Value>(text) {
        Ok(Value::Bool(value)) => Tree::Bool(value),
        Ok(Value::Number(number)) => Tree::Number(number),
        _ => Tree::Text {
            text: text.to_owned(),
            plain: true,
            filled: false,
        },
    }
}

/// Reads one document.
///
/// # Errors
/// Everything that prevents a tree, e.g. wrong syntax (the first mistake only) or a repeated key (all of them).
pub fn read(source: &Arc<Source>, limits: Limits) -> Result<Node, Vec<Diagnostic>> {
    is_small(source, limits)?;
    let tabs = tabs(source);
    if !tabs.is_empty() {
        return Err(tabs);
    }
    let places = TreeBuilder::new(source, limits).build()?;
    let values: Value = serde_yaml::from_str(source.text()).map_err(|error| refused(source, &error))?;
    let mut disagreements = Vec::new();
    let node = join(places, values, &mut disagreements);
    if disagreements.is_empty() {
        Ok(node)
    } else {
        Err(disagreements)
    }
}

/// Reads all documents that are not empty, at most so many.
///
/// # Errors
/// As [`read`].
pub fn read_documents(source: &Arc<Source>, limits: Limits, most: usize) -> Result<Vec<Node>, Vec<Diagnostic>> {
    is_small(source, limits)?;
    let mut places = TreeBuilder::new(source, limits).documents(most)?;
    places.retain(|place| !place.is_empty());
    let mut values = Vec::new();
    for document in serde_yaml::Deserializer::from_str(source.text()) {
        values.push(Value::deserialize(document).map_err(|error| refused(source, &error))?);
    }
    values.retain(|value| !value.is_null());
    if places.len() != values.len() {
        return Err(vec![disagreement(&Span::new(source, 0..0))]);
    }
    let mut disagreements = Vec::new();
    let nodes = places
        .into_iter()
        .zip(values)
        .map(|(places, value)| join(places, value, &mut disagreements))
        .collect();
    if disagreements.is_empty() {
        Ok(nodes)
    } else {
        Err(disagreements)
    }
}

fn is_small(source: &Arc<Source>, limits: Limits) -> Result<(), Vec<Diagnostic>> {
    let length = source.text().len();
    if length <= limits.bytes {
        return Ok(());
    }
    let message = format!(
        "the file has {length} bytes, more than the {} that are read",
        limits.bytes
    );
    Err(vec![
        Diagnostic::error(code::TOO_LARGE, message, Span::new(source, 0..1))
            .help("split the file; large objects belong into files of their own, used by `apply: {file: ...}`"),
    ])
}

fn refused(source: &Arc<Source>, error: &serde_yaml::Error) -> Vec<Diagnostic> {
    let at = error.location().map_or(0..1, |place| place.index()..place.index() + 1);
    vec![
        Diagnostic::error(
            code::AMBIGUOUS_YAML,
            "one of the two YAML readers refuses the file",
            Span::new(source, at),
        )
        .label(error.to_string())
        .help("write the value in another way, usually in quotes"),
    ]
}

fn tabs(source: &Arc<Source>) -> Vec<Diagnostic> {
    let mut start = 0;
    let mut found = Vec::new();
    for line in source.text().split_inclusive('\n') {
        let indentation = line.len() - line.trim_start_matches([' ', '\t']).len();
        let blank = line.trim().is_empty();
        if let Some(tab) = line[..indentation].find('\t').filter(|_| !blank) {
            found.push(
                Diagnostic::error(
                    code::YAML_FEATURE,
                    "a tab in the indentation",
                    Span::new(source, start + tab..start + tab + 1),
                )
                .label("a tab")
                .help("indent with spaces, two per level"),
            );
        }
        start += line.len();
    }
    found.truncate(10);
    found
}

/// Puts the values of one reader into the places of the other.
fn join(sketch: Sketch, value: Value, disagreements: &mut Vec<Diagnostic>) -> Node {
    let Sketch { shape, span } = sketch;
    let tree = match (shape, value) {
        (Shape::List(items), Value::Array(values)) if items.len() == values.len() => Tree::List(
            items
                .into_iter()
                .zip(values)
                .map(|(item, value)| join(item, value, disagreements))
                .collect(),
        ),
        (Shape::Map(entries), Value::Object(mut values)) if entries.len() == values.len() => {
            let mut joined = Vec::new();
            for (key, key_span, value) in entries {
                match values.remove(&key) {
                    Some(known) => joined.push(Entry {
                        value: join(value, known, disagreements),
                        key,
                        key_span,
                    }),
                    None => disagreements.push(disagreement(&key_span)),
                }
            }
            Tree::Map(joined)
        }
        (Shape::Scalar { text, plain }, Value::String(known)) if text == known => Tree::Text {
            text,
            plain,
            filled: false,
        },
        (Shape::Scalar { plain: true, text }, known) => match known {
            // JSON has no infinity and no NaN; they arrive as null.
            Value::Null if !matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL") => {
                disagreements.push(
                    Diagnostic::error(
                        code::AMBIGUOUS_YAML,
                        format!("`{text}` is no finite number"),
                        span.clone(),
                    )
                    .help("write a finite number, or text in quotes"),
                );
                Tree::Null
            }
            Value::Null => Tree::Null,
            Value::Bool(value) => Tree::Bool(value),
            Value::Number(number) => Tree::Number(number),
            _ => {
                disagreements.push(disagreement(&span));
                Tree::Null
            }
        },
        _ => {
            disagreements.push(disagreement(&span));
            Tree::Null
        }
    };
    Node { tree, span }
}

fn disagreement(span: &Span) -> Diagnostic {
    Diagnostic::error(
        code::AMBIGUOUS_YAML,
        "YAML readers do not agree about this value",
        span.first_line(),
    )
    .help("write it in another way, usually in quotes")
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof};
    use proptest::proptest;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::{Limits, Node, SourceMap, Tree, read};
    use crate::code::{self, Code};
    use crate::source::Source;

    fn parse(text: &str) -> Result<Node, Vec<crate::diagnostic::Diagnostic>> {
        read(&Source::new("a.yaml", text), Limits::default())
    }

    #[test]
    fn values_and_places_belong_together() {
        let node = parse("a: 1\nb:\n  - yes\n  - {c: 'x', d: 2.5}\n  - |\n    block\n\ne: \n").unwrap();
        assert_eq!(
            node.to_value(),
            json!({"a": 1, "b": ["yes", {"c": "x", "d": 2.5}, "block\n"], "e": null})
        );
        let map = SourceMap::of(&node);
        assert_eq!(map.value("/a").unwrap().text(), "1");
        assert_eq!(map.value("/b/1").unwrap().text(), "{c: 'x', d: 2.5}");
        assert_eq!(map.value("/b/1/c").unwrap().text(), "'x'");
        assert_eq!(map.key("/b/1/d").unwrap().text(), "d");
        assert_eq!(map.value("/b/2").unwrap().text(), "block");
        assert_eq!(map.value("/e").unwrap().text(), "e");
        // What the file does not hold is placed at what is around it.
        assert_eq!(map.value("/b/1/zzz/0").unwrap().text(), "{c: 'x', d: 2.5}");
    }

    #[rstest]
    #[case("", code::SYNTAX)]
    #[case("a: [1", code::SYNTAX)]
    #[case("a: 1\n\tb: 2", code::YAML_FEATURE)]
    #[case("a: &x 1", code::YAML_FEATURE)]
    #[case("a: *x", code::YAML_FEATURE)]
    #[case("a: !t 1", code::YAML_FEATURE)]
    #[case("<<: {}", code::YAML_FEATURE)]
    #[case("a: 1\n---\nb: 2", code::YAML_FEATURE)]
    #[case("a: 1\na: 2", code::DUPLICATE_KEY)]
    #[case("? [a]\n: b", code::AMBIGUOUS_YAML)]
    #[case("a: .inf", code::AMBIGUOUS_YAML)]
    fn refused(#[case] text: &str, #[case] code: Code) {
        assert_eq!(parse(text).unwrap_err()[0].code, code);
    }

    #[test]
    fn bounds_hold() {
        let deep = "[".repeat(200) + &"]".repeat(200);
        assert_eq!(parse(&deep).unwrap_err()[0].code, code::TOO_LARGE);
        let many = format!("[{}]", "1,".repeat(30_000));
        assert_eq!(parse(&many).unwrap_err()[0].code, code::TOO_LARGE);
        let long = format!("a: {}", "x".repeat(600 * 1024));
        assert_eq!(parse(&long).unwrap_err()[0].code, code::TOO_LARGE);
    }

    /// Any JSON value written as block YAML.
    fn to_yaml(value: &Value, indent: usize, out: &mut String) {
        let pad = " ".repeat(indent);
        match value {
            Value::Array(items) if !items.is_empty() => {
                for item in items {
                    write!(out, "\n{pad}-").unwrap();
                    to_yaml(item, indent + 2, out);
                }
            }
            Value::Object(entries) if !entries.is_empty() => {
                for (key, value) in entries {
                    write!(out, "\n{pad}{}:", serde_json::to_string(key).unwrap()).unwrap();
                    to_yaml(value, indent + 2, out);
                }
            }
            other => write!(out, " {other}").unwrap(),
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~äé]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[a-z0-9 ~/.]{1,6}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// Every scalar's place holds the text that gives the scalar.
    fn check_places(node: &Node) {
        match &node.tree {
            Tree::List(items) => items.iter().for_each(check_places),
            Tree::Map(entries) => entries.iter().for_each(|entry| {
                let written: String = serde_yaml::from_str(entry.key_span.text()).unwrap();
                assert_eq!(written, entry.key);
                check_places(&entry.value);
            }),
            _ => {
                let written: Value = serde_yaml::from_str(node.span.text()).unwrap();
                assert_eq!(written, node.to_value());
            }
        }
    }

    proptest! {
        #[test]
        fn both_readers_see_the_same_tree(value in values()) {
            let mut block = String::new();
            to_yaml(&value, 0, &mut block);
            for text in [block, serde_json::to_string_pretty(&value).unwrap()] {
                let node = parse(&text);
                prop_assert!(node.is_ok(), "{text}\n{node:?}");
                let node = node.unwrap();
                prop_assert_eq!(node.to_value(), value.clone());
                check_places(&node);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-a-z0-9:{}\\[\\],&*!|>'\"%@`#?<~ \n\t.é]{0,60}") {
            let _ = parse(&text);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&String::from_utf8_lossy(&bytes));
        }
    }
}
