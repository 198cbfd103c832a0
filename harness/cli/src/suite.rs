//! Loading the suite that a command is about, and handing it to the engine.

use std::path::{Path, PathBuf};

use meshproof_engine::plan::{Partition, Selection, Suite as PlanSuite};
use meshproof_spec::suite::{Suite, is_beside_scenarios};

use crate::args::{SelectionArgs, SuiteArgs};
use crate::exit_code::Exit;
use crate::output;

/// Loads a suite: all of it, or the files among `wanted`. Problems are printed.
///
/// # Errors
/// [`Exit::Input`] when anything is wrong with the files.
pub fn load(args: &SuiteArgs, wanted: &[String]) -> Result<Suite, Exit> {
    let files = files(wanted);
    let loaded = if files.is_empty() {
        Suite::load(&args.scenarios, &args.topologies)
    } else {
        Suite::load_files(&files, &args.scenarios, &args.topologies)
    };
    loaded.map_err(|problems| {
        output::note(&problems.render(output::style()));
        Exit::Input
    })
}

/// The scenario files that arguments name: files as they are, folders with all that is below them.
#[must_use]
pub fn files(wanted: &[String]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in wanted.iter().map(Path::new) {
        if path.is_dir() {
            collect(path, &mut files);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml")
        {
            files.push(path.to_owned());
        }
    }
    files
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut entries: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| !entry.file_name().to_str().is_some_and(is_beside_scenarios))
        .map(|entry| entry.path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, files);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml")
        {
            files.push(path);
        }
    }
}

/// The selection that arguments ask for. Files and folders are selected by loading only them.
///
/// # Errors
/// [`Exit::Usage`] when the partition can't be read.
pub fn selection(args: &SelectionArgs) -> Result<Selection, Exit> {
    let partition = args
        .partition
        .as_deref()
        .map(str::parse::<Partition>)
        .transpose()
        .map_err(|problem| {
            output::note(&format!("error: {problem}"));
            Exit::Usage
        })?;
    let is_file = |id: &&String| !files(std::slice::from_ref(*id)).is_empty();
    Ok(Selection {
        ids: args.ids.iter().filter(|id| !is_file(id)).cloned().collect(),
        tags: args.tags.clone(),
        requirements: args.requirements.clone(),
        profile: args.profile.clone(),
        partition,
        repeat: args.repeat,
    })
}

/// The suite as the engine's plan wants it.
#[must_use]
pub fn for_plan(suite: &Suite) -> PlanSuite {
    suite.clone().into()
}
