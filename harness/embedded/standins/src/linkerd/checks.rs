//! Results of checks, and printing them as `linkerd check` does.

use std::fmt::Write;
use std::future::Future;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use serde::Serialize;

use crate::exchange::{Failure, Terminal};

/// Page of the hints.
const HINTS: &str = "https://linkerd.io/2/checks/#";
/// Pause between two tries of a check that is waited for.
const PAUSE: Duration = Duration::from_millis(100);

/// How much a failed check matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// Nothing is checked after it.
    Fatal,
    Error,
    Warning,
}

/// What a check found: lines for its description, nothing to check, or what is wrong.
pub(super) type Outcome = Result<Option<Vec<String>>, String>;

/// A check that looked at every one of `links`; skipped when there are none.
pub(super) fn of_links(links: Vec<String>, problems: &[String]) -> Outcome {
    match (problems, links.as_slice()) {
        ([], []) => Ok(None),
        ([], _) => Ok(Some(links)),
        (problems, _) => Err(problems.join("\n")),
    }
}

/// A check that has nothing to list.
pub(super) fn plain(result: Result<(), String>) -> Outcome {
    result.map(|()| Some(Vec::new()))
}

#[derive(Debug, Serialize)]
struct Entry {
    description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    hint: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
    result: &'static str,
}

#[derive(Debug, Serialize)]
struct Category {
    #[serde(rename = "categoryName")]
    name: String,
    checks: Vec<Entry>,
}

#[derive(Serialize)]
struct Document<'a> {
    success: bool,
    categories: &'a [Category],
}

/// Checks so far.
pub(super) struct Report {
    categories: Vec<Category>,
    success: bool,
    ended: bool,
    deadline: Instant,
}

impl Report {
    /// No checks; those that are waited for get so long.
    pub(super) fn new(wait: Duration) -> Self {
        Self {
            categories: Vec::new(),
            success: true,
            ended: false,
            deadline: Instant::now() + wait,
        }
    }

    /// Runs a check, unless a fatal one failed before.
    pub(super) async fn check(
        &mut self,
        category: &str,
        (anchor, description, level): (&str, &str, Level),
        outcome: impl Future<Output = Outcome>,
    ) {
        if self.ended {
            return;
        }
        let (lines, error) = match outcome.await {
            // What does not apply is not mentioned.
            Ok(None) => return,
            Ok(Some(lines)) => (lines, String::new()),
            Err(error) => (Vec::new(), error),
        };
        let failed = !error.is_empty();
        let result = match level {
            _ if !failed => "success",
            Level::Warning => "warning",
            Level::Fatal | Level::Error => "error",
        };
        self.success &= result != "error";
        self.ended |= failed && level == Level::Fatal;
        let description = lines
            .iter()
            .fold(description.to_owned(), |text, line| format!("{text}\n\t* {line}"));
        let entry = Entry {
            description,
            hint: if failed {
                format!("{HINTS}{anchor}")
            } else {
                String::new()
            },
            error,
            result,
        };
        match self.categories.last_mut().filter(|last| last.name == category) {
            Some(last) => last.checks.push(entry),
            None => self.categories.push(Category {
                name: category.to_owned(),
                checks: vec![entry],
            }),
        }
    }

    /// When checks that are waited for are given up.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Prints everything and returns the exit code.
    pub(super) fn print(&self, terminal: &Terminal, output: &str) -> Result<u8, Failure> {
        let code = self.print_part(terminal, output)?;
        print_end(terminal, output, code == 0);
        Ok(code)
    }

    /// Prints everything but the last line.
    pub(super) fn print_part(&self, terminal: &Terminal, output: &str) -> Result<u8, Failure> {
        match output {
            "json" => {
                let document = Document {
                    success: self.success,
                    categories: &self.categories,
                };
                let text = serde_json::to_string_pretty(&document).map_err(|error| Failure::new(error.to_string()))?;
                // Go's encoder writes these as escapes.
                terminal.line(
                    &text
                        .replace('&', "\\u0026")
                        .replace('<', "\\u003c")
                        .replace('>', "\\u003e"),
                );
            }
            "table" | "short" => terminal.out(&self.table(output == "short")),
            other => {
                return Err(Failure::new(format!(
                    "Validation error when executing check command: Invalid output type '{other}'. Supported output \
                     types are: json, table, short"
                )));
            }
        }
        Ok(u8::from(!self.success))
    }

    fn table(&self, short: bool) -> String {
        let mut text = String::new();
        for category in &self.categories {
            let shown: Vec<&Entry> = category
                .checks
                .iter()
                .filter(|entry| !short || !entry.error.is_empty())
                .collect();
            if shown.is_empty() {
                continue;
            }
            if !text.is_empty() {
                text.push('\n');
            }
            // Writing to a String does not fail.
            let _ = writeln!(text, "{}\n{}", category.name, "-".repeat(category.name.len()));
            for entry in shown {
                let mark = match entry.result {
                    "success" => '√',
                    "warning" => '‼',
                    _ => '×',
                };
                let _ = writeln!(text, "{mark} {}", entry.description);
                if !entry.error.is_empty() {
                    let _ = writeln!(text, "    {}\n    see {} for hints", entry.error, entry.hint);
                }
            }
        }
        text
    }
}

/// Tries a check until it is fine or the deadline is over.
pub(super) async fn until<'a>(deadline: Instant, attempt: impl Fn() -> BoxFuture<'a, Outcome>) -> Outcome {
    loop {
        let outcome = attempt().await;
        if outcome.is_ok() || Instant::now() >= deadline {
            return outcome;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The last line of a table.
pub(super) fn print_end(terminal: &Terminal, output: &str, success: bool) {
    if output != "json" {
        let mark = if success { '√' } else { '×' };
        terminal.line(&format!("\nStatus check results are {mark}"));
    }
}
