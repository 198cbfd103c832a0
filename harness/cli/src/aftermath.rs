//! What runs left in existing clusters, because they were killed or not waited for: changes outside of their namespaces, undone by
//! `gc` and by the next run on the same contexts, and their namespaces, removed by `gc`.
//!
//! Each run has a folder of its own for this, which only its user can read. It says how the clusters are reached (names and
//! paths, no credentials) and where the journal is, and has what undoes changes and is secret. It goes when nothing of the run is
//! left in clusters.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use meshproof_clusters::claim;
use meshproof_clusters::contexts::{ContextRef, Liveness, restore_all, sweep};
use meshproof_report::run_folder::open_journal;
use meshproof_verdict::disturbance::{OpenDisturbance, open};
use meshproof_verdict::journal::read_journal;
use meshproof_verdict::record::Event;
use serde::{Deserialize, Serialize};

use crate::output;
use crate::state::State;

/// What is known of the run.
const RECORD: &str = "run.json";

/// What another process has to know to undo what a run changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Aftermath {
    /// Id of the run.
    run: String,
    /// Its folder.
    folder: PathBuf,
    /// Context and kubeconfig by cluster; empty when its clusters go with its process.
    contexts: BTreeMap<String, (String, Option<PathBuf>)>,
    /// Changes that were undone since.
    #[serde(default)]
    restored: BTreeSet<u64>,
}

impl Aftermath {
    fn contexts(&self) -> BTreeMap<String, ContextRef> {
        let contexts = self.contexts.clone().into_iter();
        contexts
            .map(|(cluster, (context, kubeconfig))| (cluster, ContextRef { context, kubeconfig }))
            .collect()
    }
}

/// The folder of a run that is being prepared or runs. It goes with this, unless the run began and may have left something.
#[derive(Debug)]
pub struct Undoing {
    place: PathBuf,
    begun: bool,
}

impl Undoing {
    /// Where the run keeps what undoes its changes and is secret.
    #[must_use]
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// From now on there may be something in clusters.
    pub fn begin(&mut self) {
        self.begun = true;
    }

    /// Nothing is left in clusters, as the run itself knows.
    pub fn nothing_left(&mut self) {
        self.begun = false;
    }
}

impl Drop for Undoing {
    fn drop(&mut self) {
        if !self.begun {
            // What is left of the folder is no harm: `gc` looks again.
            let _ = remove(&self.place);
        }
    }
}

/// The folder of a run that is about to begin; made, with what is known.
///
/// # Errors
/// When it can't be written.
pub fn prepare(
    state: &State,
    run: &str,
    folder: &Path,
    contexts: Option<&BTreeMap<String, ContextRef>>,
) -> Result<Undoing> {
    let place = state.undo_folder().join(State::name_of_run(run));
    // A run that ends just now may take the folder of all with it, which is there no longer than anything is in it.
    private_folder(&place)
        .or_else(|_| private_folder(&place))
        .with_context(|| format!("can't make {}", place.display()))?;
    let undoing = Undoing { place, begun: false };
    let absolute = |context: &ContextRef| {
        let file = context.kubeconfig.as_ref();
        let file = file.map(|path| path.canonicalize().unwrap_or_else(|_| path.clone()));
        (context.context.clone(), file)
    };
    let aftermath = Aftermath {
        run: run.to_owned(),
        folder: folder.to_owned(),
        contexts: contexts
            .into_iter()
            .flatten()
            .map(|(cluster, context)| (cluster.clone(), absolute(context)))
            .collect(),
        restored: BTreeSet::new(),
    };
    write(undoing.place(), &aftermath)?;
    Ok(undoing)
}

/// Names in the state folder of runs that may have left something in clusters.
#[must_use]
pub fn names(state: &State) -> BTreeSet<String> {
    let places = places(state).unwrap_or_default();
    let names = places.iter().filter_map(|place| place.file_name()?.to_str());
    names.map(ToOwned::to_owned).collect()
}

/// Undoes what dead runs changed outside of their namespaces on one of these contexts: whoever goes on there must not find it.
///
/// # Errors
/// What could not be undone, after all was tried. It is tried again the next time.
pub async fn undo(state: &State, contexts: &BTreeMap<String, ContextRef>) -> Result<()> {
    let concerns = |aftermath: &Aftermath| {
        let mut there = aftermath.contexts.values();
        there.any(|(name, _)| contexts.values().any(|context| context.context == *name))
    };
    let mut troubles = Vec::new();
    for dead in dead(state)? {
        let undone = match dead {
            Ok((place, aftermath)) if concerns(&aftermath) => Box::pin(undo_changes(&place, aftermath)).await.map(drop),
            Ok(_) => Ok(()),
            Err(problem) => Err(problem),
        };
        troubles.extend(undone.err().map(|problem| format!("{problem:#}")));
    }
    if troubles.is_empty() {
        Ok(())
    } else {
        bail!("{}", troubles.join("; "))
    }
}

/// What was done about the leftovers of dead runs.
#[derive(Debug, Default)]
pub struct Removed {
    /// How many changes were undone and namespaces removed.
    pub count: usize,
    /// What could not be undone or removed. It is tried again the next time.
    pub troubles: Vec<String>,
}

/// Removes all that dead runs left in existing clusters: undoes what they changed, and deletes their namespaces.
pub async fn collect(state: &State) -> Removed {
    let mut removed = Removed::default();
    let all = match dead(state) {
        Ok(all) => all,
        Err(problem) => {
            removed.troubles.push(format!("{problem:#}"));
            return removed;
        }
    };
    for dead in all {
        let collected = match dead {
            Ok((place, aftermath)) => Box::pin(collect_one(&place, aftermath, &mut removed.count)).await,
            Err(problem) => Err(problem),
        };
        removed
            .troubles
            .extend(collected.err().map(|problem| format!("{problem:#}")));
    }
    removed
}

async fn collect_one(place: &Path, aftermath: Aftermath, count: &mut usize) -> Result<()> {
    let by_hand = |problem: anyhow::Error| {
        anyhow::anyhow!(
            "{problem:#}; it is tried again the next time. When the clusters are gone for good, or it was done by hand, remove {}",
            place.display()
        )
    };
    *count += Box::pin(undo_changes(place, aftermath.clone()))
        .await
        .map_err(by_hand)?;
    let run = aftermath.run.as_str();
    let liveness = |other: &str| {
        if other == run { Liveness::Dead } else { Liveness::Alive }
    };
    let swept = sweep(&aftermath.contexts(), &liveness, Duration::MAX).await;
    let swept = swept.map_err(|problem| {
        by_hand(anyhow::anyhow!(
            "namespaces of run {run} are left: {} ({})",
            problem.message,
            problem.code
        ))
    })?;
    for swept in swept {
        *count += swept.removed.len();
        for namespace in swept.removed.keys() {
            output::line(&format!(
                "removed: namespace {namespace} in {}, of run {run}",
                swept.cluster
            ));
        }
    }
    remove(place).with_context(|| format!("can't remove {}", place.display()))
}

/// Dead runs that may have left something, by their folder. What was not finished before its run was killed is removed.
fn dead(state: &State) -> Result<Vec<Result<(PathBuf, Aftermath)>>> {
    let mut dead = Vec::new();
    for place in places(state)? {
        let Some(name) = place.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if state.alive(name) {
            continue;
        }
        match read(&place) {
            Ok(Some(aftermath)) if State::name_of_run(&aftermath.run) == name => dead.push(Ok((place, aftermath))),
            Ok(Some(aftermath)) => dead.push(Err(anyhow::anyhow!(
                "{} is of another run, {}",
                place.display(),
                aftermath.run
            ))),
            // It was killed before it had written down who it is, and so before it changed anything.
            Ok(None) => {
                if let Err(error) = remove(&place) {
                    dead.push(Err(anyhow::anyhow!("can't remove {}: {error}", place.display())));
                }
            }
            Err(problem) => dead.push(Err(problem)),
        }
    }
    Ok(dead)
}

/// Undoes what a run changed outside of its namespaces; how many changes that were.
async fn undo_changes(place: &Path, mut aftermath: Aftermath) -> Result<usize> {
    let mut open = left(&aftermath)?;
    open.retain(|change| !aftermath.restored.contains(&change.id));
    let mut troubles = Vec::new();
    let mut undone = 0;
    if aftermath.contexts.is_empty() || open.is_empty() {
        return Ok(0);
    }
    for (id, done) in restore_all(&aftermath.contexts(), &aftermath.run, &open, place).await {
        match done {
            Ok(what) => {
                output::line(&format!(
                    "undone: {what}, which run {} was killed before it could",
                    aftermath.run
                ));
                aftermath.restored.insert(id);
                undone += 1;
            }
            Err(problem) => troubles.push(format!("not undone: {} ({})", problem.message, problem.code)),
        }
    }
    if let Err(problem) = write(place, &aftermath) {
        troubles.push(format!("what was undone could not be written down: {problem:#}"));
    }
    if troubles.is_empty() {
        Ok(undone)
    } else {
        bail!("{}", troubles.join("; "))
    }
}

/// Removes the folder of a run, and that of all runs with the last one.
fn remove(place: &Path) -> io::Result<()> {
    fs::remove_dir_all(place)?;
    if let Some(all) = place.parent() {
        // It stays as long as another run has something in it.
        let _ = fs::remove_dir(all);
    }
    Ok(())
}

/// What of a run is not undone, as its journal has it.
fn left(aftermath: &Aftermath) -> Result<Vec<OpenDisturbance>> {
    let unreadable = || format!("can't read the journal in {}", aftermath.folder.display());
    let journal = match open_journal(&aftermath.folder) {
        Ok(journal) => journal,
        // It was killed before it had a journal, and so before it changed anything.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(unreadable),
    };
    let journal = read_journal(journal).with_context(unreadable)?;
    if let Some(broken) = &journal.integrity.broken {
        bail!(
            "the journal in {} is damaged from record {} on ({}): what the run changed from then on is not known",
            aftermath.folder.display(),
            broken.seq,
            broken.reason
        );
    }
    match journal.records.first().map(|record| &record.event) {
        // It was killed in its first record, and so before it changed anything.
        None => Ok(Vec::new()),
        Some(Event::RunStarted(started)) if started.run == aftermath.run => Ok(open(&journal.records)),
        Some(_) => bail!("the journal in {} is of another run", aftermath.folder.display()),
    }
}

fn places(state: &State) -> Result<Vec<PathBuf>> {
    let folder = state.undo_folder();
    match fs::read_dir(&folder) {
        Ok(entries) => {
            let mut places: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            places.sort();
            Ok(places)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("can't read {}", folder.display())),
    }
}

/// What is known of a run; `None` when it was not written yet.
fn read(place: &Path) -> Result<Option<Aftermath>> {
    let path = place.join(RECORD);
    let text = claim::read_private(&path).with_context(|| format!("can't read {}", path.display()))?;
    text.map(|text| serde_json::from_str(&text))
        .transpose()
        .with_context(|| format!("{} is not what meshproof writes", path.display()))
}

/// Anew and whole: what is known of the run is never lost to a disk that is full.
fn write(place: &Path, aftermath: &Aftermath) -> Result<()> {
    let path = place.join(RECORD);
    claim::write_private(&path, &serde_json::to_string_pretty(aftermath)?)
        .with_context(|| format!("can't write {}", path.display()))
}

#[cfg(unix)]
fn private_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn private_folder(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)
}
