//! Secrets on command lines.

use std::sync::LazyLock;

use super::texts::{self, Values};
use super::{Redactor, names};

/// Marks of command lines that are shown outside of a run's files have a key of their own.
static OUTSIDE: LazyLock<Redactor> = LazyLock::new(Redactor::new);

/// Arguments as they may be shown, e.g. in a plan or in the message of a failed tool: values whose name or flag
/// tells, what the user set, and what looks like a secret are left out.
#[must_use]
pub fn arguments(given: &[String]) -> Vec<String> {
    cleaned(&OUTSIDE, given, Values::Telling)
}

/// Remembers what the command line of this process holds, so that no command of a tool to which it is handed on shows it.
pub fn remember_own(given: &[String]) {
    let _ = cleaned(&OUTSIDE, given, Values::All);
}

/// A line as it may be shown on a terminal.
#[must_use]
pub fn line(text: &str) -> String {
    OUTSIDE.clean(text)
}

/// Whether a flag sets values by name, as Helm's `--set`, `--set-string`, and our own `--multicluster-set` do.
fn sets(flag: &str) -> bool {
    let name = flag.trim_start_matches('-');
    flag.starts_with("--") && name.split('-').any(|word| word == "set") && name != "set-file"
}

pub(super) fn cleaned(redactor: &Redactor, given: &[String], values: Values) -> Vec<String> {
    let mut shown = Vec::with_capacity(given.len());
    let mut before: Option<&str> = None;
    for argument in given {
        let cleaned = match (before.take(), argument.split_once('=')) {
            (Some(flag), _) if sets(flag) => redactor.without_known(texts::set_values(redactor, argument, values)),
            (Some(flag), _) if names::tells(flag) && !argument.starts_with('-') && !names::is_harmless(argument) => {
                redactor.mark_known(argument)
            }
            (_, Some((flag, value))) if flag.starts_with('-') && sets(flag) => {
                format!(
                    "{flag}={}",
                    redactor.without_known(texts::set_values(redactor, value, values))
                )
            }
            (_, Some((name, value))) if names::tells(name) && !names::is_harmless(value) => {
                format!("{name}={}", redactor.mark_known(value))
            }
            _ => redactor.clean(argument),
        };
        if argument.starts_with('-') && !argument.contains('=') {
            before = Some(argument);
        }
        shown.push(cleaned);
    }
    shown
}
