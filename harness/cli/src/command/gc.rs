//! `meshproof gc`: removes what killed processes left behind: state on disk, runs whose reports were never written,
//! clusters, containers and networks made with kind, and namespaces in existing clusters that are named. Embedded clusters
//! live and die with their process.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use meshproof_clusters::contexts::{self, ContextRef, ContextsOptions, Liveness};
use meshproof_clusters::kind::{KindOptions, sweep};
use meshproof_engine::problem::Problem;
use meshproof_engine::tool::Tools;
use meshproof_report::run_folder::{JOURNAL, RunFolder};

use crate::args::GcArgs;
use crate::exit_code::Exit;
use crate::state::State;
use crate::{command, output};

/// Removes state of dead processes, and writes the reports of runs that were killed.
///
/// # Errors
/// [`Exit::Usage`] when a context is malformed.
pub async fn run(args: &GcArgs) -> Result<Exit, Exit> {
    let contexts = match args.contexts.as_slice() {
        [] => BTreeMap::new(),
        given => {
            ContextsOptions::parse(given, &[], &[])
                .map_err(|problem| {
                    output::problem(&problem);
                    Exit::Usage
                })?
                .contexts
        }
    };
    match Box::pin(collect(args, &contexts)).await {
        Ok(done) => {
            output::line(&done);
            Ok(Exit::Success)
        }
        Err(problem) => {
            output::note(&format!("error: {problem:#}"));
            Ok(Exit::Error)
        }
    }
}

async fn collect(args: &GcArgs, contexts: &BTreeMap<String, ContextRef>) -> anyhow::Result<String> {
    let state = State::at(args.state.state.as_deref())?;
    // First, because the state tells which runs are dead.
    let mut removed = existing_clusters(args, contexts, &state).await?;
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
    let swept = sweep(&Tools::default(), &options, args.caches).await.map_err(said)?;
    for name in &swept.removed {
        output::line(&format!("removed: {name}"));
    }
    for name in &swept.in_use {
        output::line(&format!("in use: {name}"));
    }
    for name in &swept.caches {
        let why = if args.caches {
            "it may be in use"
        } else {
            "--caches removes it"
        };
        output::line(&format!("left: volume {name}, a cache of a registry ({why})"));
    }
    Ok(format!("{} leftovers removed", removed + swept.removed.len()))
}

/// Sweeps existing clusters one by one; how many namespaces were removed.
///
/// # Errors
/// What went wrong with any of them, after all were tried. Nothing is forgotten then, so that it can be tried again.
async fn existing_clusters(
    args: &GcArgs,
    contexts: &BTreeMap<String, ContextRef>,
    state: &State,
) -> anyhow::Result<usize> {
    let known: BTreeSet<String> = state.names()?.into_iter().collect();
    let liveness = |run: &str| match State::name_of_run(run) {
        name if state.alive(&name) => Liveness::Alive,
        name if known.contains(&name) => Liveness::Dead,
        _ => Liveness::Unknown,
    };
    let (mut removed, mut problems) = (0, Vec::new());
    for (cluster, context) in contexts {
        let one = BTreeMap::from([(cluster.clone(), context.clone())]);
        match contexts::sweep(&one, &liveness, args.older_than.0).await {
            Ok(swept) => {
                for swept in swept {
                    removed += swept.removed.len();
                    tell(&swept, &liveness, args);
                }
            }
            Err(problem) => problems.push(said(problem).to_string()),
        }
    }
    if problems.is_empty() {
        Ok(removed)
    } else {
        anyhow::bail!("{}; nothing else was removed", problems.join("; "))
    }
}

fn tell(swept: &contexts::Swept, liveness: &dyn Fn(&str) -> Liveness, args: &GcArgs) {
    let cluster = &swept.cluster;
    for (namespace, run) in &swept.removed {
        output::line(&format!("removed: namespace {namespace} in {cluster}, of run {run}"));
    }
    for (namespace, run) in &swept.spared {
        let what = format!("namespace {namespace} in {cluster}, of run {run}");
        output::line(&match liveness(run) {
            Liveness::Alive => format!("in use: {what}"),
            Liveness::Dead | Liveness::Unknown => {
                let age = jiff::SignedDuration::try_from(args.older_than.0).unwrap_or(jiff::SignedDuration::MAX);
                format!(
                    "left: {what}, which this machine knows nothing of; removed when older than {age:#} (--older-than)"
                )
            }
        });
    }
}

fn said(problem: Problem) -> anyhow::Error {
    match problem.remedy {
        Some(remedy) => anyhow::anyhow!("{} ({}); {remedy}", problem.message, problem.code),
        None => anyhow::anyhow!("{} ({})", problem.message, problem.code),
    }
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
