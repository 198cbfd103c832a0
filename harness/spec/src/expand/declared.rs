//! What a scenario declares to be written out: the rows of its matrix, its constants, and the rules for both.

use std::collections::BTreeSet;

use crate::code;
use crate::diagnostic::Diagnostic;
use crate::scalar::Name;
use crate::source::Span;
use crate::structure::list;
use crate::yaml::{Entry, Node, Tree};

/// Rows of a matrix, at most.
pub(super) const MAX_ROWS: usize = 64;

/// The name of a row with its place, and its values by column; one without a value is absent in it.
pub(super) type RowOfMatrix = (Option<(String, Span)>, Vec<(String, Option<String>)>);

pub(super) fn rows(node: &Node, problems: &mut Vec<Diagnostic>) -> Vec<RowOfMatrix> {
    let rows = entries(node.get("matrix"));
    for row in rows {
        check_keys(Some(&row.value), "column", problems);
        let name = Name(row.key.clone());
        if let Some(fault) = name.fault() {
            problems.push(
                Diagnostic::error(
                    code::NAME_SYNTAX,
                    format!("`{}` cannot be the name of a row", row.key),
                    row.key_span.clone(),
                )
                .label(fault)
                .did_you_mean(name.mended())
                .help("the name of a row is a part of the scenario's id"),
            );
        }
    }
    if rows.is_empty() {
        return vec![(None, Vec::new())];
    }
    if let Some(row) = rows.get(MAX_ROWS) {
        problems.push(
            Diagnostic::error(
                code::TOO_LARGE,
                format!("more than {MAX_ROWS} matrix rows"),
                row.key_span.clone(),
            )
            .label("this row and those after it are not read"),
        );
    }
    let first = rows.first();
    let columns: BTreeSet<&str> = first.map(|row| keys(&row.value)).unwrap_or_default();
    for row in rows.iter().skip(1).take(MAX_ROWS) {
        let own = keys(&row.value);
        if own == columns {
            continue;
        }
        let missing: Vec<&str> = columns.difference(&own).copied().collect();
        let extra: Vec<&str> = own.difference(&columns).copied().collect();
        let message = if missing.is_empty() {
            format!("row `{}` has {}, which other rows lack", row.key, list(&extra))
        } else {
            format!("row `{}` has no {}", row.key, list(&missing))
        };
        let mut diagnostic = Diagnostic::error(code::MATRIX_ROWS, message, row.key_span.clone());
        if let Some(first) = first {
            diagnostic = diagnostic.also(first.key_span.clone(), "the first row");
        }
        problems.push(diagnostic.help("give every row a value for the same columns"));
    }
    rows.iter()
        .take(MAX_ROWS)
        .map(|row| {
            let own = entries(Some(&row.value))
                .iter()
                .map(|entry| (entry.key.clone(), entry.value.text().map(str::to_owned)));
            let absent = columns
                .difference(&keys(&row.value))
                .map(|column| ((*column).to_owned(), None))
                .collect::<Vec<_>>();
            let values = own.chain(absent).collect();
            (Some((row.key.clone(), row.key_span.clone())), values)
        })
        .collect()
}

pub(super) fn unused(node: &Node, used: &BTreeSet<String>, problems: &mut Vec<Diagnostic>) {
    for entry in entries(node.get("vars")) {
        if !used.contains(&format!("vars.{}", entry.key)) {
            problems.push(
                Diagnostic::warning(
                    code::UNUSED_VARIABLE,
                    format!("`{}` is never used", entry.key),
                    entry.key_span.clone(),
                )
                .help(format!("refer to it as `${{vars.{}}}`, or remove it", entry.key)),
            );
        }
    }
    if let Some(row) = entries(node.get("matrix")).first() {
        for entry in entries(Some(&row.value)) {
            if !used.contains(&format!("matrix.{}", entry.key)) {
                problems.push(
                    Diagnostic::warning(
                        code::UNUSED_VARIABLE,
                        format!("the column `{}` is never used", entry.key),
                        entry.key_span.clone(),
                    )
                    .help(format!("refer to it as `${{matrix.{}}}`, or remove it", entry.key)),
                );
            }
        }
    }
}

/// Keys that are referred to by name have the form of a name.
pub(super) fn check_keys(section: Option<&Node>, what: &str, problems: &mut Vec<Diagnostic>) {
    for entry in entries(section) {
        let letters = entry
            .key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        if !letters || !entry.key.starts_with(|c: char| c.is_ascii_alphabetic()) || entry.key.len() > Name::MAX_LENGTH {
            problems.push(
                Diagnostic::error(
                    code::NAME_SYNTAX,
                    format!("`{}` cannot be the name of a {what}", entry.key),
                    entry.key_span.clone(),
                )
                .expected(format!(
                    "letters, digits, `-` and `_`, beginning with a letter, at most {} characters",
                    Name::MAX_LENGTH
                )),
            );
        }
    }
}

pub(super) fn entries(node: Option<&Node>) -> &[Entry] {
    match node.map(|node| &node.tree) {
        Some(Tree::Map(entries)) => entries,
        _ => &[],
    }
}

pub(super) fn keys(node: &Node) -> BTreeSet<&str> {
    entries(Some(node)).iter().map(|entry| entry.key.as_str()).collect()
}
