//! Where things stand: a tree of places from the events of the parser, and the refusal of what files have no use for.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, StructureStyle};

use super::Limits;
use crate::code;
use crate::diagnostic::Diagnostic;
use crate::source::{Source, Span};

/// A tree of places, with the text of scalars as it was written.
pub(super) struct Sketch {
    pub(super) shape: Shape,
    pub(super) span: Span,
}

impl Sketch {
    /// Whether nothing stands there, or null.
    pub(super) fn is_empty(&self) -> bool {
        match &self.shape {
            Shape::Scalar { text, plain } => *plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"),
            Shape::List(_) | Shape::Map(_) => false,
        }
    }
}

/// What stands there.
pub(super) enum Shape {
    Scalar { text: String, plain: bool },
    List(Vec<Sketch>),
    Map(Vec<(String, Span, Sketch)>),
}

/// Builds a [`Sketch`] from the events of the parser. Recursion is bounded by [`Limits::depth`].
pub(super) struct TreeBuilder<'s> {
    source: &'s Arc<Source>,
    parser: Parser<'s, granit_parser::StrInput<'s>>,
    limits: Limits,
    nodes: usize,
    problems: Vec<Diagnostic>,
}

impl<'s> TreeBuilder<'s> {
    pub(super) fn new(source: &'s Arc<Source>, limits: Limits) -> Self {
        let mut options = granit_parser::options! {
            emit_unresolved_aliases: true,
            disallow_directives: true,
        };
        options.set_emit_comments(false);
        Self {
            source,
            parser: Parser::new_from_str_with_options(source.text(), options),
            limits,
            nodes: 0,
            problems: Vec::new(),
        }
    }

    /// The only document.
    pub(super) fn build(self) -> Result<Sketch, Vec<Diagnostic>> {
        let source = self.source;
        self.documents(1)?.pop().ok_or_else(|| {
            vec![
                Diagnostic::error(code::SYNTAX, "the file is empty", Span::new(source, 0..0))
                    .help("begin with the field that names the file's subject, e.g. `scenario: my-first-scenario`"),
            ]
        })
    }

    /// All documents, of which there may be so many.
    pub(super) fn documents(mut self, most: usize) -> Result<Vec<Sketch>, Vec<Diagnostic>> {
        match self.roots(most) {
            Ok(roots) if self.problems.is_empty() => Ok(roots),
            Ok(_) => Err(self.problems),
            Err(diagnostic) => {
                self.problems.push(*diagnostic);
                Err(self.problems)
            }
        }
    }

    fn roots(&mut self, most: usize) -> Result<Vec<Sketch>, Box<Diagnostic>> {
        let mut roots = Vec::new();
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(roots),
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if roots.len() >= most => {
                    let (code, message) = match most {
                        1 => (code::YAML_FEATURE, "a second document in the file".to_owned()),
                        _ => (code::TOO_LARGE, format!("more than {most} documents in the file")),
                    };
                    return Err(Box::new(
                        Diagnostic::error(code, message, span)
                            .label("begins here")
                            .help("put each document into a file of its own"),
                    ));
                }
                Event::DocumentStart(..) => {
                    let (event, span) = self.next()?;
                    roots.push(self.node(event, span, 1)?);
                }
                _ => return Err(self.unexpected(span)),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'s>, Span), Box<Diagnostic>> {
        let source = self.source;
        match self.parser.next() {
            Some(Ok((event, span))) => {
                let range = span.byte_range().unwrap_or(0..0);
                Ok((event, Span::new(source, range)))
            }
            Some(Err(error)) => {
                let at = error.marker().byte_offset().unwrap_or(0);
                let reason = error.kind().to_string();
                Err(Box::new(syntax_error(source, at, &reason)))
            }
            None => Err(self.unexpected(Span::new(source, 0..1))),
        }
    }

    fn unexpected(&self, span: Span) -> Box<Diagnostic> {
        Box::new(Diagnostic::error(
            code::SYNTAX,
            "the file ends or goes on where nothing was expected",
            span,
        ))
    }

    fn count(&mut self, span: &Span, depth: usize) -> Result<(), Box<Diagnostic>> {
        self.nodes += 1;
        let (what, limit) = if self.nodes > self.limits.nodes {
            ("values", self.limits.nodes)
        } else if depth > self.limits.depth {
            ("levels of nesting", self.limits.depth)
        } else {
            return Ok(());
        };
        Err(Box::new(
            Diagnostic::error(code::TOO_LARGE, format!("more than {limit} {what}"), span.first_line())
                .label("reading stopped here")
                .help("split the file"),
        ))
    }

    fn refuse(&mut self, what: &str, span: Span, help: &str) {
        self.problems.push(
            Diagnostic::error(
                code::YAML_FEATURE,
                format!("{what} is not allowed in these files"),
                span,
            )
            .help(help),
        );
    }

    fn refuse_properties(&mut self, anchor: usize, tagged: bool, span: &Span) {
        if anchor != 0 {
            self.refuse(
                "an anchor (`&name`)",
                span.first_line(),
                "write the value out where it is needed, or use `vars`",
            );
        }
        if tagged {
            self.refuse(
                "a tag (`!name`)",
                span.first_line(),
                "remove it; a step is written `- deploy: {...}`, and text that looks like a number goes in quotes",
            );
        }
    }

    fn node(&mut self, event: Event<'s>, span: Span, depth: usize) -> Result<Sketch, Box<Diagnostic>> {
        self.count(&span, depth)?;
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_properties(anchor, tag.is_some(), &span);
                Ok(Sketch {
                    shape: Shape::Scalar {
                        text: text.into_owned(),
                        plain: style == ScalarStyle::Plain,
                    },
                    span: without_trailing_space(&span),
                })
            }
            Event::SequenceStart(style, anchor, tag) => {
                self.refuse_properties(anchor, tag.is_some(), &span);
                let mut items = Vec::new();
                loop {
                    let (event, at) = self.next()?;
                    if matches!(event, Event::SequenceEnd) {
                        let first = items.first().map(|item: &Sketch| item.span.clone());
                        let last = items.last().map(|item: &Sketch| item.span.clone());
                        return Ok(Sketch {
                            span: around(style, &span, &at, first, last),
                            shape: Shape::List(items),
                        });
                    }
                    items.push(self.node(event, at, depth + 1)?);
                }
            }
            Event::MappingStart(style, anchor, tag) => {
                self.refuse_properties(anchor, tag.is_some(), &span);
                self.mapping(style, &span, depth)
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.refuse(
                    "an alias (`*name`)",
                    span.clone(),
                    "write the value out where it is needed, or use `vars`; text that begins with `*` goes in quotes",
                );
                Ok(Sketch {
                    shape: Shape::Scalar {
                        text: String::new(),
                        plain: true,
                    },
                    span,
                })
            }
            _ => Err(self.unexpected(span)),
        }
    }

    fn mapping(&mut self, style: StructureStyle, start: &Span, depth: usize) -> Result<Sketch, Box<Diagnostic>> {
        let mut entries: Vec<(String, Span, Sketch)> = Vec::new();
        let mut seen: HashMap<String, Span> = HashMap::new();
        loop {
            let (event, key_span) = self.next()?;
            let key = match event {
                Event::MappingEnd => {
                    let first = entries.first().map(|(_, span, _)| span.clone());
                    let last = entries.last().map(|(_, _, value)| value.span.clone());
                    return Ok(Sketch {
                        span: around(style, start, &key_span, first, last),
                        shape: Shape::Map(entries),
                    });
                }
                Event::Scalar(text, _, anchor, tag) => {
                    self.count(&key_span, depth)?;
                    self.refuse_properties(anchor, tag.is_some(), &key_span);
                    text.into_owned()
                }
                Event::Alias(_) | Event::UnresolvedAlias(_) => {
                    self.refuse(
                        "an alias (`*name`)",
                        key_span.clone(),
                        "write the key out; text that begins with `*` goes in quotes",
                    );
                    String::new()
                }
                _ => {
                    return Err(Box::new(
                        Diagnostic::error(
                            code::AMBIGUOUS_YAML,
                            "a key that is not text",
                            key_span.first_line(),
                        )
                        .help(
                            "a key is a word; a reference in braces at the beginning of a value goes in quotes: \"${...}\"",
                        ),
                    ));
                }
            };
            if key == "<<" {
                self.refuse(
                    "a merge key (`<<`)",
                    key_span.clone(),
                    "write the values out where they are needed",
                );
            }
            if let Some(first) = seen.get(&key) {
                self.problems.push(
                    Diagnostic::error(
                        code::DUPLICATE_KEY,
                        format!("`{key}` is written twice"),
                        key_span.clone(),
                    )
                    .label("again here")
                    .also(first.clone(), "first here")
                    .help("remove or rename one of them"),
                );
            } else {
                seen.insert(key.clone(), key_span.clone());
            }
            let (event, value_span) = self.next()?;
            let mut value = self.node(event, value_span, depth + 1)?;
            // Nothing was written: the key is the only place to point at.
            if value.span.range.is_empty() {
                value.span = key_span.clone();
            }
            entries.push((key, key_span, value));
        }
    }
}

/// Place of a list or mapping. Block style has no closing mark, so it ends with its last value.
fn around(style: StructureStyle, start: &Span, end: &Span, first: Option<Span>, last: Option<Span>) -> Span {
    let source = &start.source;
    match (style, first, last) {
        (StructureStyle::Block, Some(first), Some(last)) => Span::new(source, first.range.start..last.range.end),
        _ => Span::new(source, start.range.start..end.range.end),
    }
}

fn without_trailing_space(span: &Span) -> Span {
    let length = span.text().trim_end().len();
    Span::new(&span.source, span.range.start..span.range.start + length)
}

fn syntax_error(source: &Arc<Source>, at: usize, reason: &str) -> Diagnostic {
    // At the end of a line there is nothing to underline; the last character before is where a person looks.
    let mut start = at.min(source.text().len());
    if source.text()[start..].chars().next().is_none_or(|c| c == '\n') {
        start = source.text()[..start].trim_end().len().saturating_sub(1);
    }
    let rest = source.text().get(start..).unwrap_or("");
    let length = rest.chars().next().map_or(0, char::len_utf8);
    let line_start = source.text()[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let line = source.text()[line_start..].lines().next().unwrap_or_default();
    let help = if has_bare_reference(line) {
        "a `${...}` inside of `{ }` or `[ ]` goes in quotes: \"${...}\""
    } else {
        "look at this line and the one before it: indentation, `: ` with a space, closing brackets and quotes; text with `: `, ` #`, `{` or `[` at its beginning goes in quotes"
    };
    Diagnostic::error(
        code::SYNTAX,
        format!("not valid YAML: {reason}"),
        Span::new(source, start..start + length),
    )
    .label("here the reader gave up")
    .help(help)
}

/// Whether a `${` stands outside of quotes, which YAML takes for the beginning of a mapping inside of `{ }` and `[ ]`.
fn has_bare_reference(line: &str) -> bool {
    let mut quote = None;
    let mut previous = ' ';
    for c in line.chars() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            (None, '{') if previous == '$' => return true,
            _ => {}
        }
        previous = c;
    }
    false
}
