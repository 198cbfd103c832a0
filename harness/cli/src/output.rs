//! Standard output and standard error: the only place that writes to them.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use meshproof_engine::problem::Problem;
use meshproof_engine::redaction;
use meshproof_report::encode;
use meshproof_spec::diagnostic::Style;

/// Whether something could not be printed.
static LOST: AtomicBool = AtomicBool::new(false);

/// Prints lines of ours to standard output.
pub fn print(text: &str) {
    styled(&encode::terminal(text));
}

/// Prints what is encoded already, or is a file that is asked for, to standard output. A reader that has gone away (`| head`)
/// is no error; everything else that keeps text from being printed, e.g. a full disk, is told once, and by [`lost`].
pub fn styled(text: &str) {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe && !LOST.swap(true, Ordering::Relaxed) => {
            note(&format!("error: standard output can't be written: {error}"));
        }
        _ => {}
    }
}

/// Whether something that was to be printed is lost.
#[must_use]
pub fn lost() -> bool {
    LOST.load(Ordering::Relaxed)
}

/// Prints a line to standard output. What has more lines shows them as its own.
pub fn line(text: &str) {
    print(&format!("{}\n", encode::field(text)));
}

/// Prints a line to standard error. What has more lines shows them as its own.
pub fn note(text: &str) {
    styled_note(&encode::terminal(&encode::field(text)));
}

/// Prints diagnostics, which encode what they quote themselves, to standard error.
pub fn styled_note(text: &str) {
    let mut err = io::stderr().lock();
    let _ = writeln!(err, "{text}");
}

/// Tells a problem on standard error, with its code and what to do.
pub fn problem(problem: &Problem) {
    let message = redaction::line(&problem.message);
    note(&format!("error: {message} ({})", problem.code));
    if let Some(remedy) = &problem.remedy {
        note(&format!("  help: {}", redaction::line(remedy)));
    }
}

/// Prints a value as JSON.
pub fn json(value: &impl serde::Serialize) {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    styled(&format!("{}\n", encode::json(&text)));
}

/// Prints a value as JSON on one line.
pub fn json_line(value: &impl serde::Serialize) {
    let text = serde_json::to_string(value).unwrap_or_default();
    styled(&format!("{}\n", encode::json(&text)));
}

/// How diagnostics are shown on standard error.
#[must_use]
pub fn style() -> Style {
    let coloured = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    if coloured { Style::Coloured } else { Style::Plain }
}

/// Widest column: what is longer stands out, and makes no other line longer. (Formatting panics at widths of 65536.)
const WIDEST: usize = 100;

/// Lays rows out in columns, two spaces apart; the last column is not padded.
#[must_use]
pub fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
            .min(WIDEST)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .enumerate()
            .map(|(column, cell)| {
                let cell = &encode::line(cell);
                if column + 1 == row.len() {
                    cell.to_string()
                } else {
                    format!("{cell:<0$}", widths[column])
                }
            })
            .collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::columns;

    #[test]
    fn a_cell_of_any_length_is_shown() {
        let long = "x".repeat(70_000);
        let shown = columns(&[vec![long.clone(), "a".into()], vec!["b".into(), "c".into()]]);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], format!("{long}  a"));
        assert!(lines[1].len() < 200, "{}", lines[1].len());
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".into(), "bb".into()], vec!["ccc".into(), "d".into()]];
        assert_eq!(columns(&rows), "a    bb\nccc  d\n");
    }
}
