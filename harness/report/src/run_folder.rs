//! A run's folder on disk: `journal.ndjson`, `ledgers/…`, `evidence/…`, and the reports beside them.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use meshproof_verdict::history::{Folding, RunHistory};
use meshproof_verdict::journal::{Integrity, read_records};
use meshproof_verdict::recheck::Files;

use crate::plain_file;

/// Name of the journal in a run's folder.
pub const JOURNAL: &str = "journal.ndjson";

/// A run's folder, read.
#[derive(Debug)]
pub struct RunFolder {
    /// Where it is.
    pub path: PathBuf,
    /// The journal folded.
    pub history: RunHistory,
    /// Whether the journal is whole.
    pub integrity: Integrity,
}

/// Why a folder can't be read.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is no journal, or it can't be read.
    #[error("{path}: {error}; a run's folder holds a file `{JOURNAL}`")]
    Journal {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// The journal holds no start of a run.
    #[error(
        "{path}: no record of a run's start; the run was ended before it began, or this is not a journal of meshproof"
    )]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The first record, which says what the run is, is not in order.
    #[error("{path}: {reason}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Opens the journal in a run's folder, which may be anybody's.
///
/// # Errors
/// `InvalidInput` when it is no plain file; else as files are opened.
pub fn open_journal(folder: &Path) -> io::Result<BufReader<File>> {
    plain_file::open(folder, JOURNAL).map(BufReader::new)
}

impl RunFolder {
    /// Reads a run's folder, complete or not.
    ///
    /// # Errors
    /// When there is no journal in it, or none that names a run.
    pub fn read(folder: &Path) -> Result<Self, FolderError> {
        let path = folder.join(JOURNAL);
        let unreadable = |error| FolderError::Journal {
            path: path.clone(),
            error,
        };
        let journal = open_journal(folder).map_err(unreadable)?;
        let mut folding = Folding::default();
        let integrity = read_records(journal, |record| folding.apply(&record)).map_err(unreadable)?;
        let history = folding.done();
        if history.started.is_none() {
            return Err(match integrity.broken {
                Some(broken) => FolderError::Broken {
                    path,
                    reason: format!("record {}: {}", broken.seq, broken.reason),
                },
                None => FolderError::Empty { path },
            });
        }
        Ok(Self {
            path: folder.to_owned(),
            history,
            integrity,
        })
    }

    /// Writes a report beside the journal, whole or not at all, readable by nobody else.
    ///
    /// # Errors
    /// As writing and renaming files fail; with the name of the report.
    pub fn write(&self, name: &str, content: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        let written = tempfile::NamedTempFile::new_in(&self.path).and_then(|mut file| {
            file.write_all(content.as_bytes())?;
            file.persist(&path)?;
            Ok(())
        });
        match written {
            Ok(()) => Ok(path),
            Err(error) => {
                // Messages of temporary files name a file that nobody knows.
                let cause = error
                    .get_ref()
                    .and_then(|wrapped| wrapped.source())
                    .map_or_else(|| error.to_string(), ToString::to_string);
                let message = format!(
                    "{} could not be written: {cause}. Free space, or see who may write there",
                    path.display()
                );
                Err(io::Error::new(error.kind(), message))
            }
        }
    }
}

impl Files for RunFolder {
    type Reader = BufReader<File>;

    fn open(&self, file: &str) -> io::Result<Self::Reader> {
        plain_file::open(&self.path, file).map(BufReader::new)
    }

    fn below(&self, folder: &str) -> io::Result<Vec<String>> {
        plain_file::below(&self.path, folder)
    }
}
