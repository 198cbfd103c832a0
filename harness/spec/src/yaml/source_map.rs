//! Places of a tree by JSON pointer.

use std::collections::HashMap;

use super::{Node, Tree};
use crate::source::Span;

/// Places of a tree by JSON pointer (`/steps/3/expect/id`).
#[derive(Clone, Debug, Default)]
pub struct SourceMap {
    places: HashMap<String, Place>,
}

#[derive(Clone, Debug)]
struct Place {
    key: Option<Span>,
    value: Span,
}

impl SourceMap {
    /// The places of all values below `node`.
    pub fn of(node: &Node) -> Self {
        let mut map = Self::default();
        map.add(node, None, String::new());
        map
    }

    fn add(&mut self, node: &Node, key: Option<&Span>, pointer: String) {
        match &node.tree {
            Tree::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.add(item, None, format!("{pointer}/{index}"));
                }
            }
            Tree::Map(entries) => {
                for entry in entries {
                    self.add(
                        &entry.value,
                        Some(&entry.key_span),
                        format!("{pointer}/{}", escape(&entry.key)),
                    );
                }
            }
            _ => {}
        }
        self.places.insert(
            pointer,
            Place {
                key: key.cloned(),
                value: node.span.clone(),
            },
        );
    }

    /// Place of a value; of the nearest thing around it when the file does not hold it.
    pub fn value(&self, pointer: &str) -> Option<&Span> {
        self.nearest(pointer).map(|place| &place.value)
    }

    /// Place of the key of a value, or of the value when it stands in a list; of the nearest thing around it when the
    /// file does not hold it.
    pub fn key(&self, pointer: &str) -> Option<&Span> {
        self.nearest(pointer)
            .map(|place| place.key.as_ref().unwrap_or(&place.value))
    }

    /// Whether the file itself holds a value there.
    pub fn holds(&self, pointer: &str) -> bool {
        self.places.contains_key(pointer)
    }

    fn nearest(&self, mut pointer: &str) -> Option<&Place> {
        loop {
            if let Some(place) = self.places.get(pointer) {
                return Some(place);
            }
            pointer = pointer.rsplit_once('/')?.0;
        }
    }
}

/// A key as a part of a JSON pointer.
pub fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
