//! A file's text and places in it.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const BYTE_ORDER_MARK: char = '\u{feff}';

/// The text of a file, with the path under which people know it.
#[derive(PartialEq, Eq)]
pub struct Source {
    path: PathBuf,
    text: String,
    /// Byte offset of the first character of each line.
    lines: Vec<usize>,
}

impl Source {
    /// Keeps `text` as the content of `path`, without the mark of byte order that some editors put before it. Nothing is read.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Arc<Self> {
        let mut text = text.into();
        if text.starts_with(BYTE_ORDER_MARK) {
            text.drain(..BYTE_ORDER_MARK.len_utf8());
        }
        let lines = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(newline, _)| newline + 1))
            .collect();
        Arc::new(Self {
            path: path.into(),
            text,
            lines,
        })
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its content.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Line and column of a byte offset, both from 1; columns count characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        let column = self.text.get(start..offset).map_or(0, |before| before.chars().count());
        (line, column + 1)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({})", self.path.display())
    }
}

/// A place in a file.
#[derive(Clone, PartialEq, Eq)]
pub struct Span {
    /// The file.
    pub source: Arc<Source>,
    /// Bytes of its text.
    pub range: Range<usize>,
}

impl Span {
    /// The place `range` of `source`, moved inwards to character boundaries where it has none.
    pub fn new(source: &Arc<Source>, range: Range<usize>) -> Self {
        let text = source.text();
        let floor = |mut offset: usize| {
            offset = offset.min(text.len());
            while !text.is_char_boundary(offset) {
                offset -= 1;
            }
            offset
        };
        let start = floor(range.start);
        let end = floor(range.end).max(start);
        Self {
            source: Arc::clone(source),
            range: start..end,
        }
    }

    /// The text at this place.
    pub fn text(&self) -> &str {
        self.source.text().get(self.range.clone()).unwrap_or("")
    }

    /// Line and column, both from 1.
    pub fn position(&self) -> (usize, usize) {
        self.source.position(self.range.start)
    }

    /// Line, from 1.
    pub fn line(&self) -> usize {
        self.position().0
    }

    /// The first line of this place only, so that a long block is not underlined whole.
    pub fn first_line(&self) -> Self {
        let length = self.text().find('\n').unwrap_or(self.range.len());
        Self {
            source: Arc::clone(&self.source),
            range: self.range.start..self.range.start + length,
        }
    }

    /// The first occurrence of `part` in this place; the whole place when there is none.
    pub fn find(&self, part: &str) -> Self {
        match self.text().find(part) {
            None => self.clone(),
            Some(offset) => {
                let start = self.range.start + offset;
                Self {
                    source: Arc::clone(&self.source),
                    range: start..start + part.len(),
                }
            }
        }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.position();
        write!(f, "{}:{line}:{column}", self.source.path().display())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::{Source, Span};

    #[test]
    fn positions_count_lines_and_characters() {
        let source = Source::new("a.yaml", "eins\nzwölf: x\n");
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(5), (2, 1));
        let x = source.text().find('x').unwrap();
        assert_eq!(source.position(x), (2, 8));
        assert_eq!(source.position(source.text().len()), (3, 1));
    }

    #[test]
    fn a_span_inside_a_character_moves_to_its_start() {
        let source = Source::new("a.yaml", "zwölf");
        let span = Span::new(&source, 3..100);
        assert_eq!(span.text(), "ölf");
    }
}
