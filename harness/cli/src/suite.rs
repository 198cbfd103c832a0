//! Loading the suite that a command is about, and handing it to the engine.

use std::path::{Path, PathBuf};

use meshproof_engine::plan::{FileSelector, Partition, Selection, Suite as PlanSuite};
use meshproof_spec::scenario_files::{below, is_yaml};
use meshproof_spec::suite::Suite;

use crate::args::{SelectionArgs, SuiteArgs};
use crate::exit_code::Exit;
use crate::output;

/// What an argument that selects scenarios means.
enum Asked<'a> {
    /// A name: of a scenario, of several, of an area.
    Name(&'a str),
    /// A file, or all scenario files of a folder.
    Files(&'a str, Vec<PathBuf>),
}

/// Loads a suite: all of it, and what arguments name elsewhere; the files among `wanted` alone when they name nothing else.
/// Problems are printed.
///
/// # Errors
/// [`Exit::Input`] when anything is wrong with the files.
pub fn load(args: &SuiteArgs, wanted: &[String]) -> Result<Suite, Exit> {
    let (mut named, mut files) = (wanted.is_empty(), Vec::new());
    for asked in wanted.iter().map(|word| asked(word, args)) {
        match asked {
            Asked::Name(_) => named = true,
            Asked::Files(_, found) => files.extend(found),
        }
    }
    files.sort();
    files.dedup_by_key(|file| file.canonicalize().unwrap_or_else(|_| file.clone()));
    let loaded = match (named, files.is_empty()) {
        (false, false) => Suite::load_files(&files, &args.scenarios, &args.topologies),
        _ => Suite::load_with(&files, &args.scenarios, &args.topologies),
    };
    loaded.map_err(|problems| {
        output::styled_note(&problems.render(output::style()));
        Exit::Input
    })
}

/// What a word means: a file or folder from here or from the suite's own folder, with or without the line that reports print
/// behind it; a name otherwise.
fn asked<'a>(word: &'a str, args: &SuiteArgs) -> Asked<'a> {
    let plain = without_line(word);
    if let Some(found) = files(Path::new(plain)) {
        return Asked::Files(word, found);
    }
    // A bare word is a name first.
    if plain.contains('/') || is_yaml(Path::new(plain)) {
        let around = args.scenarios.parent().unwrap_or(Path::new(""));
        let from_suite = [args.scenarios.as_path(), around].map(|folder| folder.join(plain));
        if let Some(found) = from_suite.iter().find_map(|path| files(path)) {
            return Asked::Files(word, found);
        }
    }
    Asked::Name(word)
}

/// The scenario files that a path names: a file as it is, a folder with all that is below it. `None` when it names none.
#[must_use]
pub fn files(path: &Path) -> Option<Vec<PathBuf>> {
    if path.is_dir() {
        return Some(below(path)).filter(|files| !files.is_empty());
    }
    (is_yaml(path) && path.exists()).then(|| vec![path.to_owned()])
}

/// `file.yaml` of `file.yaml:17` and `file.yaml:17:34`.
fn without_line(word: &str) -> &str {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut rest = word;
    while let Some((before, number)) = rest.rsplit_once(':')
        && is_number(number)
    {
        rest = before;
    }
    if is_yaml(Path::new(rest)) { rest } else { word }
}

/// The selection that arguments ask for in the suite that was loaded for them.
///
/// # Errors
/// [`Exit::Usage`] when the partition can't be read.
pub fn selection(args: &SelectionArgs, suite: &SuiteArgs, loaded: &Suite, repeat: u32) -> Result<Selection, Exit> {
    let partition = args
        .partition
        .as_deref()
        .map(str::parse::<Partition>)
        .transpose()
        .map_err(|problem| {
            output::note(&format!("error: {problem}"));
            Exit::Usage
        })?;
    let (mut ids, mut chosen) = (Vec::new(), Vec::new());
    for asked in args.ids.iter().map(|word| asked(word, suite)) {
        match asked {
            Asked::Name(name) => ids.push(name.to_owned()),
            Asked::Files(word, found) => chosen.push(FileSelector {
                asked: word.to_owned(),
                files: as_loaded(&found, loaded),
            }),
        }
    }
    Ok(Selection {
        ids,
        files: chosen,
        tags: args.tags.clone(),
        requirements: args.requirements.clone(),
        profile: args.profile.clone(),
        partition,
        repeat,
    })
}

/// The paths under which files were loaded: the suite may know them by others.
fn as_loaded(files: &[PathBuf], loaded: &Suite) -> Vec<String> {
    let real: Vec<PathBuf> = files.iter().filter_map(|file| file.canonicalize().ok()).collect();
    let known = loaded.files.iter();
    known
        .filter(|file| file.canonicalize().is_ok_and(|file| real.contains(&file)))
        .map(|file| file.display().to_string())
        .collect()
}

/// The suite as the engine's plan wants it.
#[must_use]
pub fn for_plan(suite: &Suite) -> PlanSuite {
    suite.clone().into()
}

#[cfg(test)]
mod tests {
    use super::without_line;

    #[test]
    fn places_that_reports_print_are_paths() {
        for (word, path) in [
            ("a/b.yaml:17", "a/b.yaml"),
            ("a/b.yaml:17:34", "a/b.yaml"),
            ("a/b.yaml", "a/b.yaml"),
            ("west:17", "west:17"),
            ("a/b.yaml:", "a/b.yaml:"),
            ("", ""),
        ] {
            assert_eq!(without_line(word), path, "{word}");
        }
    }
}
