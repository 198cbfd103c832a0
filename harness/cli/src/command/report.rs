//! `meshproof report`: all reports of a run again, from its journal and ledgers.

use std::path::{Path, PathBuf};

use meshproof_report::model::Report;
use meshproof_report::run_folder::{FolderError, JOURNAL, RunFolder};
use meshproof_report::{html, junit, markdown, table};

use crate::args::{FolderArgs, Format};
use crate::exit_code::Exit;
use crate::output;

/// Writes the reports of a run and prints its table.
///
/// # Errors
/// The exit code of what is wrong with the folder.
pub fn run(args: &FolderArgs) -> Result<Exit, Exit> {
    let folder = read(args)?;
    let (report, written) = write(&folder).map_err(|problem| {
        output::note(&format!("error: {problem:#}"));
        Exit::Error
    })?;
    match args.format.format {
        Format::Json => output::json(&report),
        Format::Text => {
            output::print(&table::table(&report));
            for path in written {
                output::line(&path.display().to_string());
            }
        }
    }
    Ok(
        if report.journal.broken.is_some() || !report.journal.doubts.is_empty() {
            Exit::Refuted
        } else {
            Exit::Success
        },
    )
}

/// Reads the folder that arguments name.
///
/// # Errors
/// [`Exit::Input`] when it holds no run; [`Exit::Refuted`] when it holds a journal that can't be relied on from its first
/// record on.
pub fn read(args: &FolderArgs) -> Result<RunFolder, Exit> {
    let path = match &args.folder {
        Some(path) => path.clone(),
        None => newest(Path::new("reports/runs")).ok_or_else(|| {
            output::note("error: there is no run below reports/runs; name a run's folder");
            Exit::Input
        })?,
    };
    RunFolder::read(&path).map_err(|problem| {
        output::note(&format!("error: {problem}"));
        match problem {
            FolderError::Broken { .. } => Exit::Refuted,
            FolderError::Journal { .. } | FolderError::Empty { .. } => Exit::Input,
        }
    })
}

/// Writes `report.json`, `junit.xml`, `report.html` and `summary.md` beside the journal.
///
/// # Errors
/// When one of them can't be made or written.
pub fn write(folder: &RunFolder) -> anyhow::Result<(Report, Vec<PathBuf>)> {
    let report = Report::of(folder);
    let mut json = serde_json::to_string_pretty(&report)?;
    json.push('\n');
    let written = vec![
        folder.write("junit.xml", &junit::junit(&report, &from_here(&folder.path))?)?,
        folder.write("report.json", &json)?,
        folder.write("report.html", &html::html(&report)?)?,
        folder.write("summary.md", &markdown::markdown(&report))?,
    ];
    Ok((report, written))
}

/// A folder as builds name it that look for attachments: relative to where they work, with a slash at its end. Empty when
/// it lies elsewhere; attachments are then relative to the report.
fn from_here(folder: &Path) -> String {
    let below = std::env::current_dir()
        .and_then(|here| here.canonicalize())
        .ok()
        .zip(folder.canonicalize().ok());
    let relative = below.as_ref().and_then(|(here, folder)| folder.strip_prefix(here).ok());
    match relative {
        Some(relative) if !relative.as_os_str().is_empty() => format!("{}/", relative.display()),
        _ => String::new(),
    }
}

/// The newest run below a folder, by its name, which begins with the time of its start.
fn newest(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    let runs = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join(JOURNAL).exists());
    runs.max_by_key(|path| path.file_name().map(ToOwned::to_owned))
}
