//! Files of Kubernetes objects that scenarios apply: what is read of them, and which objects they hold.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::diagnostic::Diagnostic;
use crate::fact::{Part, parts};
use crate::source::{Source, Span};
use crate::yaml::{self, Limits, Node, SourceMap, Tree};

/// Bytes of a file that is applied.
pub const MOST_BYTES: usize = 512 * 1024;
/// Documents of a file, and objects of a step.
pub const MOST_OBJECTS: usize = 200;

/// Reads a file, if it is not larger than [`MOST_BYTES`].
///
/// # Errors
/// Why it can't be read, in words.
pub fn text(path: &Path) -> Result<String, String> {
    let most = u64::try_from(MOST_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(most.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    if bytes.len() > MOST_BYTES {
        return Err(format!("it has more than the {MOST_BYTES} bytes that are read"));
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())
}

/// Whether an object stands for its items, as `kubectl get --output json` writes several.
pub(crate) fn is_list(object: &Value) -> bool {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    // Without items it is no list, whatever it is called.
    kind.ends_with("List")
        && object.pointer("/metadata/name").is_none()
        && object.get("items").is_some_and(Value::is_array)
}

/// The objects of a list, or the object itself. Items of a list of one kind (`ConfigMapList`) may leave out what they are, as
/// they do in answers of an API server.
#[must_use]
pub fn items(mut object: Value) -> Vec<Value> {
    if !is_list(&object) {
        return vec![object];
    }
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, api) = (text("kind"), text("apiVersion"));
    let of = kind.strip_suffix("List").unwrap_or_default();
    let Some(Value::Array(items)) = object.get_mut("items").map(Value::take) else {
        return Vec::new();
    };
    items
        .into_iter()
        .map(|mut item| {
            if let Value::Object(fields) = &mut item
                && !of.is_empty()
                && !fields.contains_key("kind")
            {
                fields.insert("kind".to_owned(), of.into());
                fields.insert("apiVersion".to_owned(), api.as_str().into());
            }
            item
        })
        .collect()
}

/// A document of a file.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) value: Value,
    pub(crate) places: SourceMap,
    pub(crate) root: Span,
}

/// The documents of a file that are not empty. References (`${…}`) are replaced as text before the file is read in a run, so
/// that they may stand where YAML would not have them: here a word stands in for each.
pub(crate) fn documents(source: &Arc<Source>) -> Result<Vec<Document>, Vec<Diagnostic>> {
    let limits = Limits {
        bytes: MOST_BYTES,
        depth: 64,
        ..Limits::default()
    };
    let stand_in = Source::new(source.path(), without_references(source.text()));
    let nodes = yaml::read_documents(&stand_in, limits, MOST_OBJECTS)?;
    Ok(nodes
        .into_iter()
        .map(|mut node| {
            restore(&mut node, source);
            Document {
                value: node.to_value(),
                places: SourceMap::of(&node),
                root: node.span,
            }
        })
        .collect())
}

/// The text with a word of the same length in place of each reference, so that all places stay the same.
fn without_references(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for part in parts(text) {
        match part {
            Part::Literal(text) | Part::Unclosed(text) => written.push_str(text),
            Part::Reference(reference) => written.extend(std::iter::repeat_n('x', reference.len() + "${}".len())),
        }
    }
    written
}

/// Puts values, keys and places of the file itself back.
fn restore(node: &mut Node, source: &Arc<Source>) {
    let there = |span: &Span| Span::new(source, span.range.clone());
    node.span = there(&node.span);
    match &mut node.tree {
        Tree::List(items) => items.iter_mut().for_each(|item| restore(item, source)),
        Tree::Map(entries) => {
            for entry in entries {
                entry.key_span = there(&entry.key_span);
                if let Some(written) = with_references(&entry.key_span) {
                    entry.key = written;
                }
                restore(&mut entry.value, source);
            }
        }
        Tree::Text { text, .. } => {
            if let Some(written) = with_references(&node.span) {
                *text = written;
            }
        }
        Tree::Null | Tree::Bool(_) | Tree::Number(_) => {}
    }
}

/// What is written at a place where a reference stands.
fn with_references(span: &Span) -> Option<String> {
    let written = span.text();
    written
        .contains("${")
        .then(|| written.trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> Vec<Document> {
        documents(&Source::new("objects.yaml", text)).unwrap()
    }

    #[test]
    fn documents_know_their_places_whatever_references_stand_in_them() {
        let text =
            "# two\n---\na: {b: ${mesh.name.east}, c: \"x ${namespace}\"}\n---\n---\nd:\n  - ${ namespace }: 1\n...\n";
        let found = read(text);
        let values: Vec<&Value> = found.iter().map(|document| &document.value).collect();
        let expected = [
            &json!({"a": {"b": "${mesh.name.east}", "c": "x ${namespace}"}}),
            &json!({"d": [{"${ namespace }": 1}]}),
        ];
        assert_eq!(values, expected);
        assert_eq!(found[0].places.value("/a/c").unwrap().position(), (3, 30));
        assert_eq!(found[0].places.value("/a/b").unwrap().text(), "${mesh.name.east}");
        assert_eq!(found[1].places.key("/d/0").unwrap().line(), 7);
    }

    #[test]
    fn a_file_is_bounded_before_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("big.yaml");
        std::fs::write(&path, "a".repeat(MOST_BYTES + 1)).unwrap();
        assert!(text(&path).unwrap_err().contains("bytes"));
        std::fs::write(&path, [0xff]).unwrap();
        assert!(text(&path).unwrap_err().contains("UTF-8"));
        let many = "---\na: 1\n".repeat(MOST_OBJECTS + 1);
        let problems = documents(&Source::new("objects.yaml", many)).unwrap_err();
        assert_eq!(problems[0].code, crate::code::TOO_LARGE);
        let bomb = "a: &a [x, x]\nb: [*a, *a]\n";
        let problems = documents(&Source::new("objects.yaml", bomb)).unwrap_err();
        assert_eq!(problems[0].code, crate::code::YAML_FEATURE);
    }

    #[test]
    fn a_list_is_its_items_and_everything_else_is_itself() {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
        let list =
            json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": [map, map]});
        assert_eq!(items(list), [map.clone(), map.clone()]);
        let bare = json!({"metadata": {"name": "a"}});
        let typed = json!({"apiVersion": "v1", "kind": "ConfigMapList", "items": [bare]});
        assert_eq!(items(typed), std::slice::from_ref(&map));
        assert_eq!(items(map.clone()), [map]);
        // Kinds of somebody's own may be called so, too.
        for own in [
            json!({"apiVersion": "x.example/v1", "kind": "AllowList", "metadata": {"name": "a"}, "items": []}),
            json!({"apiVersion": "x.example/v1", "kind": "AllowList", "spec": {}}),
        ] {
            assert_eq!(items(own.clone()), [own]);
        }
        assert!(items(json!({"apiVersion": "v1", "kind": "List", "items": []})).is_empty());
    }
}
