//! `meshproof gc`: removes what killed processes left behind. Embedded clusters live and die with their process; what can be
//! left is state on disk, and runs whose reports were never written.

use std::path::Path;

use meshproof_report::run_folder::{JOURNAL, RunFolder};

use crate::args::StateArgs;
use crate::exit_code::Exit;
use crate::state::State;
use crate::{command, output};

/// Removes state of dead processes, and writes the reports of runs that were killed.
pub fn run(args: &StateArgs) -> Exit {
    match collect(args) {
        Ok(done) => {
            output::line(&done);
            Exit::Success
        }
        Err(problem) => {
            output::note(&format!("error: {problem:#}"));
            Exit::Error
        }
    }
}

fn collect(args: &StateArgs) -> anyhow::Result<String> {
    let state = State::at(args.state.as_deref())?;
    let mut removed = 0;
    for name in state.names()? {
        if !state.alive(&name) {
            if let Some(folder) = state.run_folder(&name) {
                finish(&folder)?;
            }
            state.forget(&name)?;
            output::line(&format!("removed: state of `{name}`, whose process is gone"));
            removed += 1;
        }
    }
    Ok(format!("{removed} leftovers removed"))
}

/// Writes the reports of a run that was killed before it could.
fn finish(folder: &Path) -> anyhow::Result<()> {
    if !folder.join(JOURNAL).exists() {
        return Ok(());
    }
    match RunFolder::read(folder) {
        Ok(read) => {
            command::report::write(&read)?;
            output::line(&format!("reported: {}", folder.display()));
        }
        Err(problem) => output::note(&format!("warning: {problem}")),
    }
    Ok(())
}
