//! `meshproof list`

use serde_json::json;

use crate::args::{Format, ListArgs};
use crate::exit_code::Exit;
use crate::{output, suite};

/// Prints the selected scenarios.
///
/// # Errors
/// The exit code of what is wrong with the suite or the selection.
pub fn run(args: &ListArgs) -> Result<Exit, Exit> {
    let loaded = suite::load(&args.suite, &args.selection.ids)?;
    let selection = suite::selection(&args.selection, &args.suite, &loaded, 1)?;
    let selected = selection.apply(&suite::for_plan(&loaded)).map_err(|problem| {
        output::note(&format!("error: {problem}"));
        Exit::NothingRun
    })?;
    match args.format.format {
        Format::Json => {
            let rows: Vec<_> = selected
                .iter()
                .map(|scenario| {
                    json!({
                        "id": scenario.id, "area": scenario.area, "file": scenario.file,
                        "topology": scenario.scenario.topology, "summary": scenario.scenario.summary,
                        "checks": scenario.scenario.checks, "tags": scenario.scenario.tags, "digest": scenario.digest,
                    })
                })
                .collect();
            output::json(&rows);
        }
        Format::Text => {
            let rows: Vec<Vec<String>> = selected
                .iter()
                .map(|scenario| {
                    vec![
                        format!("{}/{}", scenario.area, scenario.id),
                        scenario.scenario.topology.0.clone(),
                        scenario.scenario.summary.clone(),
                    ]
                })
                .collect();
            output::print(&output::columns(&rows));
        }
    }
    Ok(Exit::Success)
}
