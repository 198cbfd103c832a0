//! `meshproof lint`

use meshproof_spec::suite::Suite;

use crate::args::{Format, LintArgs};
use crate::exit_code::Exit;
use crate::{output, suite};

/// Prints all that is wrong with files.
pub fn run(args: &LintArgs) -> Exit {
    let wanted: Vec<String> = args.paths.iter().map(|path| path.display().to_string()).collect();
    let (files, missing): (Vec<_>, Vec<_>) = wanted
        .iter()
        .partition(|path| !suite::files(&[(*path).clone()]).is_empty());
    if let Some(path) = missing.first() {
        output::note(&format!(
            "error: `{path}` is no scenario file (.yaml) and no folder with such files in it"
        ));
        return Exit::Input;
    }
    let files: Vec<String> = files.into_iter().cloned().collect();
    let (checked, problems) = if files.is_empty() {
        Suite::check(&args.suite.scenarios, &args.suite.topologies)
    } else {
        Suite::check_files(&suite::files(&files), &args.suite.scenarios, &args.suite.topologies)
    };
    match args.format.format {
        Format::Json => output::json(&problems.to_json()),
        Format::Text => {
            output::note(problems.render(output::style()).trim_end());
            output::line(&format!(
                "{} scenarios, {} topologies: {}",
                checked.scenarios.len(),
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
