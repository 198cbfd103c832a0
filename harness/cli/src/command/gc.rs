//! `meshproof gc`: removes what killed processes left behind: state on disk, runs whose reports were never written,
//! clusters, containers and networks made with kind, what this machine's runs left in existing clusters, and namespaces in
//! clusters that are named. Embedded clusters live and die with their process.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::anyhow;
use meshproof_clusters::contexts::{self, ContextRef, ContextsOptions, Liveness};
use meshproof_clusters::kind::{Also, KindOptions, sweep};
use meshproof_engine::problem::Problem;
use meshproof_engine::tool::Tools;
use meshproof_report::run_folder::{FolderError, JOURNAL, RunFolder};

use crate::args::GcArgs;
use crate::exit_code::Exit;
use crate::state::State;
use crate::{aftermath, command, output};

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
    let state = State::at(args.state.state.as_deref()).map_err(|problem| {
        output::note(&format!("error: {problem:#}"));
        Exit::Error
    })?;
    let mut collected = Collected::default();
    let aftermath = aftermath::collect(&state).await;
    collected.removed += aftermath.count;
    collected.troubles.extend(aftermath.troubles);
    // First, because the state tells which runs are dead.
    if existing_clusters(args, &contexts, &state, &mut collected).await {
        dead_processes(&state, &mut collected);
    }
    kind_clusters(args, &state, &mut collected).await;
    output::line(&format!("{} leftovers removed", collected.removed));
    for trouble in &collected.troubles {
        output::note(&format!("error: {trouble}"));
    }
    Ok(if collected.troubles.is_empty() {
        Exit::Success
    } else {
        Exit::Error
    })
}

/// What was done. Whatever goes wrong with one thing, the others are gone on with.
#[derive(Default)]
struct Collected {
    removed: usize,
    /// What could not be removed or read, with its place, and what is not of our making.
    troubles: Vec<String>,
}

impl Collected {
    fn removed(&mut self, what: &str) {
        output::line(&format!("removed: {what}"));
        self.removed += 1;
    }

    fn strangers(&mut self, told: Vec<String>) {
        let left = told.into_iter().map(|told| {
            format!("left: {told}; meshproof removes only what it made: remove it by hand, or name another folder with --state")
        });
        self.troubles.extend(left);
    }
}

/// State of dead processes, and reports of runs that were killed.
fn dead_processes(state: &State, collected: &mut Collected) {
    let contents = match state.contents() {
        Ok(contents) => contents,
        Err(problem) => {
            collected.troubles.push(format!("{problem:#}"));
            return;
        }
    };
    collected.strangers(contents.strangers);
    // Of these something is left in clusters, and their state tells that they are dead.
    let needed = aftermath::names(state);
    for name in contents.names.iter().filter(|name| !state.alive(name)) {
        let finished = match state.run_folder(name) {
            Ok(Some(folder)) => finish(&folder),
            Ok(None) => Ok(()),
            Err(problem) => Err(Unfinished::Unreadable(problem)),
        };
        match finished {
            Ok(()) => {}
            Err(Unfinished::Unreadable(problem)) => collected.troubles.push(format!("{problem:#}")),
            Err(Unfinished::Unwritten(problem)) => {
                collected.troubles.push(format!(
                    "{problem:#}; the state of `{name}` stays, so that this can be tried again"
                ));
                continue;
            }
        }
        if needed.contains(name) {
            continue;
        }
        match state.forget(name) {
            Ok(()) => collected.removed(&format!("state of `{name}`, whose process is gone")),
            Err(problem) => collected.troubles.push(format!("state of `{name}`: {problem:#}")),
        }
    }
}

/// Clusters, containers and networks that were made with kind.
async fn kind_clusters(args: &GcArgs, state: &State, collected: &mut Collected) {
    let options = KindOptions::new("", state.kind_folder());
    let also = Also {
        caches: args.caches,
        unrecorded: args.unrecorded,
    };
    let swept = match sweep(&Tools::default(), &options, also).await {
        Ok(swept) => swept,
        Err(problem) => {
            collected.troubles.push(said(problem));
            return;
        }
    };
    for name in &swept.removed {
        collected.removed(name);
    }
    for name in &swept.in_use {
        output::line(&format!("in use: {name}"));
    }
    for name in &swept.unrecorded {
        output::line(&format!(
            "left: {name}, which {} knows nothing of: a run with another state folder may be using it (--unrecorded removes it)",
            state.folder().display()
        ));
    }
    for name in &swept.caches {
        let why = if args.caches {
            "it may be in use"
        } else {
            "--caches removes it"
        };
        output::line(&format!("left: volume {name}, a cache of a registry ({why})"));
    }
    collected.strangers(swept.strangers);
}

/// Sweeps existing clusters one by one. Whether all went well: otherwise the state has to stay, so that it can be tried again.
async fn existing_clusters(
    args: &GcArgs,
    contexts: &BTreeMap<String, ContextRef>,
    state: &State,
    collected: &mut Collected,
) -> bool {
    let mut known: BTreeSet<String> = state.contents().unwrap_or_default().names.into_iter().collect();
    known.extend(aftermath::names(state));
    let liveness = |run: &str| match State::name_of_run(run) {
        name if state.alive(&name) => Liveness::Alive,
        name if known.contains(&name) => Liveness::Dead,
        _ => Liveness::Unknown,
    };
    let mut well = true;
    for (cluster, context) in contexts {
        let one = BTreeMap::from([(cluster.clone(), context.clone())]);
        match contexts::sweep(&one, &liveness, args.older_than.0).await {
            Ok(swept) => {
                for swept in swept {
                    collected.removed += swept.removed.len();
                    tell(&swept, &liveness, args);
                }
            }
            Err(problem) => {
                collected.troubles.push(format!(
                    "{}; the state of dead runs stays, so that this can be tried again",
                    said(problem)
                ));
                well = false;
            }
        }
    }
    well
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

fn said(problem: Problem) -> String {
    match problem.remedy {
        Some(remedy) => format!("{} ({}); {remedy}", problem.message, problem.code),
        None => format!("{} ({})", problem.message, problem.code),
    }
}

/// Why a run has no reports.
enum Unfinished {
    /// It has nothing that they could be made of, now or later.
    Unreadable(anyhow::Error),
    /// They can't be written now.
    Unwritten(anyhow::Error),
}

/// Writes the reports of a run that was killed before it could.
fn finish(folder: &Path) -> Result<(), Unfinished> {
    let unreadable = |problem: anyhow::Error| Unfinished::Unreadable(problem.context(folder.display().to_string()));
    // Nothing to report: it was killed before its first record, or somebody removed it.
    let Ok(found) = folder.join(JOURNAL).symlink_metadata() else {
        return Ok(());
    };
    if !found.is_file() {
        return Err(unreadable(anyhow!("its {JOURNAL} is no plain file")));
    }
    let read = match RunFolder::read(folder) {
        Err(FolderError::Empty { .. }) => return Ok(()),
        other => other.map_err(|error| unreadable(error.into()))?,
    };
    let of = read.history.started.as_ref().map(|started| started.run.as_str());
    if of != folder.file_name().and_then(|name| name.to_str()) {
        return Err(unreadable(anyhow!("its {JOURNAL} is of another run")));
    }
    command::report::write(&read).map_err(Unfinished::Unwritten)?;
    output::line(&format!("reported: {}", folder.display()));
    Ok(())
}
