//! `meshproof coverage`

use serde_json::json;

use crate::args::{CoverageArgs, Format};
use crate::exit_code::Exit;
use crate::{output, suite};

/// Prints which scenarios decide each requirement, and which requirements nobody decides.
///
/// # Errors
/// The exit code of what is wrong with the suite.
pub fn run(args: &CoverageArgs) -> Result<Exit, Exit> {
    let loaded = suite::load(&args.suite, &[])?;
    let coverage = loaded.coverage();
    let undecided = coverage.undecided();
    match args.format.format {
        Format::Json => output::json(&json!({"decided_by": coverage.decided_by, "undecided": undecided})),
        Format::Text => {
            let rows: Vec<Vec<String>> = coverage
                .decided_by
                .iter()
                .map(|(id, scenarios)| {
                    vec![
                        id.0.clone(),
                        if scenarios.is_empty() {
                            "-".to_owned()
                        } else {
                            scenarios.join(", ")
                        },
                    ]
                })
                .collect();
            output::print(&output::columns(&rows));
            let all = coverage.decided_by.len();
            output::line(&format!(
                "\n{} of {all} requirements are decided by a scenario",
                all - undecided.len()
            ));
        }
    }
    Ok(Exit::Success)
}
