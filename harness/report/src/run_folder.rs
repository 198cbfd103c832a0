//! A run's folder on disk: `journal.ndjson`, `ledgers/…`, `evidence/…`, and the reports beside them.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use meshproof_verdict::history::RunHistory;
use meshproof_verdict::journal::{Integrity, read_journal};
use meshproof_verdict::ledger::Row;

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
        let journal = read_journal(BufReader::new(File::open(&path).map_err(unreadable)?)).map_err(unreadable)?;
        let history = RunHistory::fold(&journal.records);
        if history.started.is_none() {
            return Err(FolderError::Empty { path });
        }
        Ok(Self {
            path: folder.to_owned(),
            history,
            integrity: journal.integrity,
        })
    }

    /// Rows of a ledger, by the file that the journal names. A torn last line is left out; a missing file has no rows.
    ///
    /// # Errors
    /// When the file exists but can't be read, or a line that is not the last is no row.
    pub fn rows(&self, file: &str) -> io::Result<Vec<Row>> {
        let path = self.path.join(file);
        let reader = match File::open(&path) {
            Ok(file) => BufReader::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut rows = Vec::new();
        let mut lines = reader.lines().peekable();
        while let Some(line) = lines.next() {
            match serde_json::from_str(&line?) {
                Ok(row) => rows.push(row),
                Err(_) if lines.peek().is_none() => break,
                Err(error) => {
                    let message = format!("{}: line {}: {error}", path.display(), rows.len() + 1);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
            }
        }
        Ok(rows)
    }

    /// Writes a report beside the journal, whole or not at all.
    ///
    /// # Errors
    /// As writing and renaming files fail.
    pub fn write(&self, name: &str, content: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        let mut file = tempfile::NamedTempFile::new_in(&self.path)?;
        io::Write::write_all(&mut file, content.as_bytes())?;
        file.persist(&path)?;
        Ok(path)
    }
}
