//! `meshproof gc`: removes what killed processes left behind: state on disk, runs whose reports were never written, and
//! clusters, containers and networks made with kind. Embedded clusters live and die with their process.

use std::path::Path;

use meshproof_clusters::kind::{KindOptions, sweep};
use meshproof_engine::tool::Tools;
use meshproof_report::run_folder::{JOURNAL, RunFolder};

use crate::args::StateArgs;
use crate::exit_code::Exit;
use crate::state::State;
use crate::{command, output};

/// Removes state of dead processes, and writes the reports of runs that were killed.
pub async fn run(args: &StateArgs) -> Exit {
    match Box::pin(collect(args)).await {
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

async fn collect(args: &StateArgs) -> anyhow::Result<String> {
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
    let options = KindOptions::new("", state.kind_folder());
    let swept = sweep(&Tools::default(), &options)
        .await
        .map_err(|problem| match problem.remedy {
            Some(remedy) => anyhow::anyhow!("{} ({}); {remedy}", problem.message, problem.code),
            None => anyhow::anyhow!("{} ({})", problem.message, problem.code),
        })?;
    for name in &swept.removed {
        output::line(&format!("removed: {name}"));
    }
    for name in &swept.in_use {
        output::line(&format!("in use: {name}"));
    }
    Ok(format!("{} leftovers removed", removed + swept.removed.len()))
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
