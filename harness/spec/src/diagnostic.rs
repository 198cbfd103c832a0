//! What is wrong with a file, where, and what to do about it; and how that is shown.

use std::fmt;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};

use crate::code::Code;
use crate::source::Span;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, but this is usually a mistake.
    Warning,
}

/// A place with a remark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// The remark; may be empty.
    pub text: String,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Kind of mistake.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// What was found, in one sentence without a full stop.
    pub message: String,
    /// Where. Absent only when there is no file to point into.
    pub primary: Option<Label>,
    /// Other places that explain it.
    pub secondary: Vec<Label>,
    /// What would be right.
    pub expected: Option<String>,
    /// What was probably meant, to be written instead of the primary place.
    pub did_you_mean: Option<String>,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(code: Code, message: impl Into<String>, span: Span) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            primary: Some(Label {
                span,
                text: String::new(),
            }),
            secondary: Vec::new(),
            expected: None,
            did_you_mean: None,
            help: None,
        }
    }

    /// A warning at a place.
    pub fn warning(code: Code, message: impl Into<String>, span: Span) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(code, message, span)
        }
    }

    /// An error without a place in a file.
    pub fn without_place(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            primary: None,
            secondary: Vec::new(),
            expected: None,
            did_you_mean: None,
            help: None,
        }
    }

    /// Says something beside the primary place.
    #[must_use]
    pub fn label(mut self, text: impl Into<String>) -> Self {
        if let Some(primary) = &mut self.primary {
            primary.text = text.into();
        }
        self
    }

    /// Points at another place.
    #[must_use]
    pub fn also(mut self, span: Span, text: impl Into<String>) -> Self {
        self.secondary.push(Label {
            span,
            text: text.into(),
        });
        self
    }

    /// Says what would be right.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// Says what was probably meant, if anything was.
    #[must_use]
    pub fn did_you_mean(mut self, meant: Option<impl Into<String>>) -> Self {
        self.did_you_mean = meant.map(Into::into);
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The primary place.
    pub fn span(&self) -> Option<&Span> {
        self.primary.as_ref().map(|label| &label.span)
    }

    /// As a person reads it, like a compiler's message, ending with a line break.
    pub fn render(&self, style: Style) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let id = self.code.to_string();
        let title = level.primary_title(one_line(&self.message)).id(id.as_str());
        let mut group = Group::with_title(title);
        for snippet in self.snippets() {
            group = group.element(snippet);
        }
        if let Some(expected) = &self.expected {
            group = group.element(Level::NOTE.message(format!("expected {}", one_line(expected))));
        }
        if let Some(meant) = &self.did_you_mean {
            group = group.element(Level::HELP.message(format!("did you mean `{meant}`?")));
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(one_line(help)));
        }
        let renderer = match style {
            Style::Plain => Renderer::plain(),
            Style::Coloured => Renderer::styled(),
        };
        let mut text = renderer.decor_style(DecorStyle::Ascii).render(&[group]);
        text.push('\n');
        text
    }

    /// One snippet per file, the primary place's file first.
    fn snippets(&self) -> Vec<Snippet<'_, annotate_snippets::Annotation<'_>>> {
        let Some(primary) = &self.primary else {
            return Vec::new();
        };
        let labels = std::iter::once((AnnotationKind::Primary, primary))
            .chain(self.secondary.iter().map(|label| (AnnotationKind::Context, label)));
        let mut files: Vec<(&Span, Snippet<'_, annotate_snippets::Annotation<'_>>)> = Vec::new();
        for (kind, label) in labels {
            let source = &label.span.source;
            let place = files
                .iter()
                .position(|(span, _)| span.source == *source)
                .unwrap_or_else(|| {
                    let snippet = Snippet::source(source.text())
                        .path(source.path().to_string_lossy().into_owned())
                        .fold(true);
                    files.push((&label.span, snippet));
                    files.len() - 1
                });
            let mut annotation = kind.span(visible(&label.span));
            if !label.text.is_empty() {
                annotation = annotation.label(one_line(&label.text));
            }
            if let Some((_, snippet)) = files.get_mut(place) {
                let taken = std::mem::replace(snippet, Snippet::source(""));
                *snippet = taken.annotation(annotation);
            }
        }
        files.into_iter().map(|(_, snippet)| snippet).collect()
    }

    /// As a program reads it.
    pub fn to_json(&self) -> Value {
        json!({
            "code": self.code.to_string(),
            "severity": match self.severity { Severity::Error => "error", Severity::Warning => "warning" },
            "message": self.message,
            "place": self.primary.as_ref().map(label_to_json),
            "related": self.secondary.iter().map(label_to_json).collect::<Vec<_>>(),
            "expected": self.expected,
            "didYouMean": self.did_you_mean,
            "help": self.help,
        })
    }
}

fn label_to_json(label: &Label) -> Value {
    let (line, column) = label.span.position();
    let (end_line, end_column) = label.span.source.position(label.span.range.end);
    json!({
        "file": label.span.source.path().to_string_lossy(),
        "line": line,
        "column": column,
        "endLine": end_line,
        "endColumn": end_column,
        "text": label.text,
    })
}

/// Only the first line of a place is underlined: steps and objects are long.
fn visible(span: &Span) -> Range<usize> {
    let line = span.first_line();
    let trimmed = line.text().trim_end().len();
    line.range.start..line.range.start + trimmed
}

/// Text from a file may hold line breaks and control characters, which would break the frame or drive a terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// How diagnostics are shown to people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Without colours.
    #[default]
    Plain,
    /// With ANSI colours.
    Coloured,
}

/// All that is wrong with some files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// Whether anything prevents the use of the files.
    pub fn has_errors(&self) -> bool {
        self.errors() > 0
    }

    /// Number of errors.
    pub fn errors(&self) -> usize {
        self.0
            .iter()
            .filter(|diagnostic| diagnostic.severity == Severity::Error)
            .count()
    }

    /// Number of warnings.
    pub fn warnings(&self) -> usize {
        self.0.len() - self.errors()
    }

    /// In the order of files and places, each said once.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.0.sort_by_cached_key(|diagnostic| {
            (
                diagnostic
                    .span()
                    .map(|span| (span.source.path().to_path_buf(), span.range.start, span.range.end)),
                diagnostic.code,
                diagnostic.message.clone(),
            )
        });
        self.0.dedup();
        self
    }

    /// As a person reads it, with a last line that counts. Empty when there is nothing to say.
    pub fn render(&self, style: Style) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let mut text = String::new();
        for diagnostic in &self.0 {
            text.push_str(&diagnostic.render(style));
            text.push('\n');
        }
        text.push_str(&self.summary());
        text.push('\n');
        text
    }

    /// E.g. `2 errors, 1 warning`.
    pub fn summary(&self) -> String {
        let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        format!(
            "{}, {}",
            count(self.errors(), "error"),
            count(self.warnings(), "warning")
        )
    }

    /// As a program reads it: a list.
    pub fn to_json(&self) -> Value {
        Value::Array(self.0.iter().map(Diagnostic::to_json).collect())
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Style::Plain))
    }
}

impl std::error::Error for Diagnostics {}

/// The candidate that `written` was probably meant to be: at most a third of its letters differ.
pub fn closest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = written.chars().count();
    // Longer texts are no misspelt names, and the distance costs the product of the lengths.
    if length > 80 {
        return None;
    }
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= 200)
        .map(|candidate| (distance(&written.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (length.max(candidate.chars().count()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Number of letters to insert, remove, replace or swap with their neighbour.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for (i, left) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, right) in b.iter().enumerate() {
            let replace = rows[i][j] + usize::from(left != right);
            let mut best = replace.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *left == b[j - 1] && a[i - 1] == *right {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::{Diagnostic, Style, closest, distance};
    use crate::code;
    use crate::source::{Source, Span};
    use rstest::rstest;

    #[rstest]
    #[case("wset", "west", 1)]
    #[case("", "abc", 3)]
    #[case("kitten", "sitting", 3)]
    #[case("same", "same", 0)]
    fn distances(#[case] a: &str, #[case] b: &str, #[case] expected: usize) {
        assert_eq!(distance(a, b), expected);
        assert_eq!(distance(b, a), expected);
    }

    #[test]
    fn only_near_names_are_suggested() {
        assert_eq!(closest("wset", ["east", "west"]), Some("west"));
        assert_eq!(closest("Sotre", ["store"]), Some("store"));
        assert_eq!(closest("north", ["east", "west"]), None);
    }

    #[test]
    fn a_diagnostic_shows_place_reason_and_remedy() {
        let source = Source::new("a.yaml", "clusters:\n  west: {}\nuse: wset\n");
        let at = |text: &str| Span::new(&source, 0..source.text().len()).find(text);
        let diagnostic = Diagnostic::error(code::UNKNOWN_CLUSTER, "unknown cluster `wset`", at("wset"))
            .label("not declared")
            .also(at("west"), "declared here")
            .expected("one of `west`")
            .did_you_mean(Some("west"))
            .help("declare it");
        insta::assert_snapshot!(diagnostic.render(Style::Plain), @r"
        error[SPEC031]: unknown cluster `wset`
         --> a.yaml:3:6
          |
        2 |   west: {}
          |   ---- declared here
        3 | use: wset
          |      ^^^^ not declared
          |
          = note: expected one of `west`
          = help: did you mean `west`?
          = help: declare it
        ");
        assert!(diagnostic.render(Style::Coloured).contains("\u{1b}["));
        assert_eq!(diagnostic.to_json()["place"]["line"], 3);
    }

    #[test]
    fn a_place_in_another_file_is_shown_too() {
        let one = Source::new("one.yaml", "a: 1\n");
        let two = Source::new("two.yaml", "b: 2\n");
        let diagnostic = Diagnostic::error(code::DUPLICATE_ID, "twice", Span::new(&one, 0..1))
            .also(Span::new(&two, 0..1), "first here");
        let text = diagnostic.render(Style::Plain);
        assert!(text.contains("one.yaml:1:1") && text.contains("two.yaml:1:1"), "{text}");
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let source = Source::new("a.yaml", "a: \u{1b}[31m\n");
        let diagnostic = Diagnostic::error(code::SYNTAX, "x\u{1b}[31m\ny", Span::new(&source, 0..9));
        assert!(!diagnostic.render(Style::Plain).contains('\u{1b}'));
    }
}
