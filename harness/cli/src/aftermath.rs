//! What killed runs changed in existing clusters, and did not undo: undone by `gc`, and by the next run on the same contexts.
//!
//! Each run has a folder of its own for this, which only its user can read. It says how the clusters are reached (names and
//! paths, no credentials) and where the journal is, and has what undoes changes and is secret. It goes when nothing of the run is
//! left to undo.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use meshproof_clusters::contexts::{ContextRef, restore_all};
use meshproof_engine::journal::JOURNAL_FILE;
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

/// The folder of a run that is about to begin; made, with what is known.
///
/// # Errors
/// When it can't be written.
pub fn prepare(
    state: &State,
    run: &str,
    folder: &Path,
    contexts: Option<&BTreeMap<String, ContextRef>>,
) -> Result<PathBuf> {
    let place = state.undo_folder().join(State::name_of_run(run));
    // A run that ends just now may take the folder of all with it, which is there no longer than anything is in it.
    private_folder(&place)
        .or_else(|_| private_folder(&place))
        .with_context(|| format!("can't make {}", place.display()))?;
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
    write(&place, &aftermath)?;
    Ok(place)
}

/// Forgets a run that has ended, if nothing of it is left to undo.
pub fn finish(place: &Path, run_dir: &Path) {
    let nothing_left = left(run_dir).is_ok_and(|(_, open)| open.is_empty());
    if nothing_left {
        // What is left of the folder is no harm: `gc` looks again.
        let _ = remove(place);
    }
}

/// Undoes what dead runs left changed. With contexts, only that of runs on one of them: whoever goes on in these clusters
/// must not find it. Returns how many changes were undone.
///
/// # Errors
/// What could not be undone, after all was tried. It is tried again the next time.
pub async fn undo(state: &State, contexts: Option<&BTreeMap<String, ContextRef>>) -> Result<usize> {
    let (mut undone, mut troubles) = (0, Vec::new());
    for place in places(state)? {
        let Some(name) = place.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if state.alive(name) {
            continue;
        }
        // It was killed before it had written down who it is, and so before it changed anything.
        if !place.join(RECORD).exists() {
            if let Err(error) = remove(&place) {
                troubles.push(format!("can't remove {}: {error}", place.display()));
            }
            continue;
        }
        let aftermath = match read(&place) {
            Ok(aftermath) if State::name_of_run(&aftermath.run) == name => aftermath,
            Ok(_) => continue,
            Err(problem) => {
                troubles.push(format!("{problem:#}"));
                continue;
            }
        };
        let concerns = |contexts: &BTreeMap<String, ContextRef>| {
            contexts
                .values()
                .any(|context| aftermath.contexts.values().any(|(name, _)| *name == context.context))
        };
        if !contexts.is_none_or(concerns) {
            continue;
        }
        match Box::pin(undo_one(&place, aftermath)).await {
            Ok(count) => undone += count,
            Err(problem) => troubles.push(format!("{problem:#}")),
        }
    }
    if troubles.is_empty() {
        Ok(undone)
    } else {
        bail!("{}", troubles.join("; "))
    }
}

async fn undo_one(place: &Path, mut aftermath: Aftermath) -> Result<usize> {
    let (run, mut open) = match left(&aftermath.folder) {
        Ok(left) => left,
        // It was killed before it had a journal, and so before it changed anything.
        Err(_) if !aftermath.folder.join(JOURNAL_FILE).exists() => (aftermath.run.clone(), Vec::new()),
        Err(problem) => return Err(problem),
    };
    if run != aftermath.run {
        bail!("{} is the journal of another run, {run}", aftermath.folder.display());
    }
    open.retain(|change| !aftermath.restored.contains(&change.id));
    let mut troubles = Vec::new();
    let mut undone = 0;
    if !aftermath.contexts.is_empty() {
        let contexts = aftermath.contexts.clone().into_iter();
        let contexts = contexts
            .map(|(cluster, (context, kubeconfig))| (cluster, ContextRef { context, kubeconfig }))
            .collect();
        for (id, done) in restore_all(&contexts, &run, &open, place).await {
            match done {
                Ok(what) => {
                    output::line(&format!("undone: {what}, which run {run} was killed before it could"));
                    aftermath.restored.insert(id);
                    undone += 1;
                }
                Err(problem) => troubles.push(format!("not undone: {} ({})", problem.message, problem.code)),
            }
        }
    }
    if !troubles.is_empty() {
        write(place, &aftermath)?;
        bail!("{}", troubles.join("; "));
    }
    remove(place).with_context(|| format!("can't remove {}", place.display()))?;
    Ok(undone)
}

/// Removes the folder of a run, and that of all runs with the last one.
fn remove(place: &Path) -> std::io::Result<()> {
    fs::remove_dir_all(place)?;
    if let Some(all) = place.parent() {
        // It stays as long as another run has something in it.
        let _ = fs::remove_dir(all);
    }
    Ok(())
}

/// The run of a journal, and what of it is not undone.
fn left(run_dir: &Path) -> Result<(String, Vec<OpenDisturbance>)> {
    let path = run_dir.join(JOURNAL_FILE);
    let file = fs::File::open(&path).with_context(|| format!("can't read {}", path.display()))?;
    let journal = read_journal(BufReader::new(file)).with_context(|| format!("can't read {}", path.display()))?;
    let run = journal.records.first().and_then(|record| match &record.event {
        Event::RunStarted(started) => Some(started.run.clone()),
        _ => None,
    });
    let run = run.with_context(|| format!("{} does not begin with a run", path.display()))?;
    Ok((run, open(&journal.records)))
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

fn read(place: &Path) -> Result<Aftermath> {
    let path = place.join(RECORD);
    let text = fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not what meshproof writes", path.display()))
}

fn write(place: &Path, aftermath: &Aftermath) -> Result<()> {
    let path = place.join(RECORD);
    let fresh = place.join("run.json.new");
    fs::write(&fresh, serde_json::to_vec_pretty(aftermath)?)
        .and_then(|()| fs::File::open(&fresh)?.sync_all())
        .and_then(|()| fs::rename(&fresh, &path))
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
