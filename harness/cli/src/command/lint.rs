//! `meshproof lint`

use std::collections::BTreeSet;
use std::path::Path;

use meshproof_spec::diagnostic::{Diagnostics, Severity};
use meshproof_spec::suite::Suite;

use crate::args::{Format, LintArgs};
use crate::exit_code::Exit;
use crate::{output, suite};

/// Prints all that is wrong with files.
pub fn run(args: &LintArgs) -> Exit {
    let mut files = Vec::new();
    for path in &args.paths {
        match suite::files(path) {
            Some(found) => files.extend(found),
            None => {
                output::note(&format!(
                    "error: `{}` is no scenario file (.yaml) and no folder with such files in it",
                    path.display()
                ));
                return Exit::Input;
            }
        }
    }
    let (checked, problems) = if args.paths.is_empty() {
        Suite::check(&args.suite.scenarios, &args.suite.topologies)
    } else {
        Suite::check_files(&files, &args.suite.scenarios, &args.suite.topologies)
    };
    match args.format.format {
        Format::Json => output::json(&problems.to_json()),
        Format::Text => {
            output::styled_note(problems.render(output::style()).trim_end());
            output::line(&format!(
                "{}, {} topologies: {}",
                scenarios(&checked, &problems),
                checked.topologies.len(),
                problems.summary()
            ));
        }
    }
    if problems.has_errors() {
        Exit::Input
    } else {
        Exit::Success
    }
}

/// How many scenarios there are, and how many of them have errors. A file that is too broken to be read is one.
fn scenarios(checked: &Suite, problems: &Diagnostics) -> String {
    let errors = problems.0.iter().filter(|problem| problem.severity == Severity::Error);
    let broken: BTreeSet<&Path> = errors
        .filter_map(|problem| problem.primary.as_ref())
        .map(|label| label.span.source.path())
        .filter(|path| checked.files.iter().any(|file| file == path))
        .collect();
    let of = |file: &Path| {
        checked
            .scenarios
            .iter()
            .filter(|scenario| scenario.file == file)
            .count()
    };
    let with_errors: usize = broken.iter().map(|file| of(file).max(1)).sum();
    let unread = broken.iter().filter(|file| of(file) == 0).count();
    let all = checked.scenarios.len() + unread;
    match with_errors {
        0 => format!("{all} scenarios"),
        _ => format!("{all} scenarios, {with_errors} with errors"),
    }
}
