//! `meshproof plan`

use crate::args::{Format, PlanArgs};
use crate::exit_code::Exit;
use crate::{output, planning};

/// Prints what a run would do.
///
/// # Errors
/// The exit code of what is wrong with the suite or the selection.
pub fn run(args: &PlanArgs) -> Result<Exit, Exit> {
    let planned = planning::plan(&args.suite, &args.selection, &args.environment)?;
    match args.format.format {
        Format::Json => output::json(&planned.plan.to_json()),
        Format::Text => output::print(&planned.plan.to_string()),
    }
    Ok(Exit::Success)
}
