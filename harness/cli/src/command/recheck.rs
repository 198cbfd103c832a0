//! `meshproof recheck`: every verdict of a run again, from its journal and ledgers.

use meshproof_verdict::recheck::recheck;
use serde_json::json;

use crate::args::{FolderArgs, Format};
use crate::command;
use crate::exit_code::Exit;
use crate::output;

/// Prints everything that is not as the journal claims.
///
/// # Errors
/// [`Exit::Input`] when the folder holds no run.
pub fn run(args: &FolderArgs) -> Result<Exit, Exit> {
    let folder = command::report::read(args)?;
    let findings = recheck(&folder.history, &folder.integrity, &folder);
    let checks: usize = folder
        .history
        .scenarios
        .iter()
        .map(|scenario| scenario.checks.len())
        .sum();
    match args.format.format {
        Format::Json => {
            let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
            output::json(
                &json!({"run": folder.path, "checks": checks, "findings": texts, "head": folder.integrity.head}),
            );
        }
        Format::Text => {
            for finding in &findings {
                output::line(&format!("differs: {finding}"));
            }
            let verdict = if findings.is_empty() {
                "every verdict follows from what was recorded"
            } else {
                "the run is not what it claims to be"
            };
            output::line(&format!("{checks} checks computed again: {verdict}"));
        }
    }
    Ok(if findings.is_empty() {
        Exit::Success
    } else {
        Exit::Refuted
    })
}
