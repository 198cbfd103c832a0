//! The ledgers of one scenario: files of rows, and the same rows in memory for the judges.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use meshproof_verdict::judge::{KnownLedger, LedgerSet};
use meshproof_verdict::ledger::{Row, ServerRow};
use meshproof_verdict::reconcile::reconcile;
use meshproof_verdict::record::{CheckClosed, CloseReason, Event, LedgerClosed, LedgerOpened};
use meshproof_verdict::wakefulness::Wakefulness;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::journal::Journal;
use crate::plan::hex;
use crate::private_files;
use crate::problem::{self, Problem};

/// Folder of ledgers in a run's folder.
pub(crate) const LEDGER_FOLDER: &str = "ledgers";

/// The ledgers of a scenario.
pub(crate) struct LedgerBook {
    scenario: String,
    journal: Journal,
    set: Mutex<LedgerSet>,
    files: Mutex<BTreeMap<String, LedgerFile>>,
    /// Changes with every batch of rows and every close.
    changes: watch::Sender<u64>,
}

struct LedgerFile {
    file: File,
    digest: Sha256,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LedgerBook {
    /// No ledger yet.
    #[must_use]
    pub(crate) fn new(scenario: &str, journal: Journal) -> Self {
        Self {
            scenario: scenario.to_owned(),
            journal,
            set: Mutex::default(),
            files: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// All ledgers as the judges read them.
    pub(crate) fn set(&self) -> MutexGuard<'_, LedgerSet> {
        lock(&self.set)
    }

    /// Tells of new rows and closed ledgers.
    #[must_use]
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Opens a ledger. `text` says what is sent, for people.
    ///
    /// # Errors
    /// When its file can't be made, or the scenario has a ledger of this name.
    pub(crate) fn open(&self, ledger: &str, text: &str) -> Result<(), Problem> {
        let folder = format!("{LEDGER_FOLDER}/{}", file_name(&self.scenario));
        let file = format!("{folder}/{}.ndjson", file_name(ledger));
        let path = self.journal.run_dir().join(&file);
        let unwritable = |error: std::io::Error| {
            problem::harness(
                "ledger-write",
                format!("{}: {error}", path.display()),
                Some("free space in the folder of the run; names of calls and traffic must differ in a scenario"),
            )
        };
        private_files::create_folder(&self.journal.run_dir().join(&folder)).map_err(unwritable)?;
        let opened = private_files::create_file(&path)
            .and_then(|file| private_files::sync_parent(&path).map(|()| file))
            .map_err(unwritable)?;
        lock(&self.files).insert(
            ledger.to_owned(),
            LedgerFile {
                file: opened,
                digest: Sha256::new(),
            },
        );
        self.set().0.insert(ledger.to_owned(), KnownLedger::default());
        self.journal.note(Event::LedgerOpened(LedgerOpened {
            scenario: self.scenario.clone(),
            ledger: ledger.to_owned(),
            file,
            text: text.to_owned(),
        }));
        Ok(())
    }

    /// Appends rows in the order in which their outcomes became known.
    ///
    /// # Errors
    /// When the file can't be written; the rows are not shown to judges then.
    pub(crate) fn append(&self, ledger: &str, rows: Vec<Row>) -> Result<(), Problem> {
        if rows.is_empty() {
            return Ok(());
        }
        // What judges see is what is written: `recheck` has nothing else.
        let rows: Vec<Row> = rows
            .into_iter()
            .map(|row| self.journal.redactor().row(row).into_inner())
            .collect();
        let mut text = Vec::new();
        for row in &rows {
            serde_json::to_writer(&mut text, row).map_err(|error| unwritten(ledger, &error.to_string()))?;
            text.push(b'\n');
        }
        {
            let mut files = lock(&self.files);
            let file = files
                .get_mut(ledger)
                .ok_or_else(|| unwritten(ledger, "it is not open"))?;
            file.file
                .write_all(&text)
                .map_err(|error| unwritten(ledger, &error.to_string()))?;
            file.digest.update(&text);
        }
        if let Some(known) = self.set().0.get_mut(ledger) {
            known.rows.extend(rows);
        }
        self.changes.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Closes a ledger: compares it with what servers saw, makes it durable and writes that down. `unread` names servers
    /// whose ledgers could not be read.
    ///
    /// # Errors
    /// When the file can't be made durable.
    pub(crate) async fn close(
        &self,
        ledger: &str,
        servers: &[ServerRow],
        unread: Vec<String>,
        max_late_us: u64,
    ) -> Result<(), Problem> {
        let Some(file) = lock(&self.files).remove(ledger) else {
            return Ok(());
        };
        let (rows, reconciliation) = {
            let set = self.set();
            let rows = set.0.get(ledger).map_or(&[][..], |known| known.rows.as_slice());
            (rows.len() as u64, reconcile(rows, servers, unread))
        };
        let sha256 = hex(&file.digest.finalize());
        sync(ledger, file.file).await?;
        let unaccounted = reconciliation.unaccounted_ids();
        self.journal.note(Event::LedgerClosed(LedgerClosed {
            scenario: self.scenario.clone(),
            ledger: ledger.to_owned(),
            rows,
            sha256,
            unaccounted,
            max_late_us,
            reconciliation: Some(Box::new(reconciliation)),
        }));
        if let Some(known) = self.set().0.get_mut(ledger) {
            let history = self.journal.scenario(&self.scenario);
            known.closed = history.ledger(ledger).and_then(|ledger| ledger.closed.clone());
        }
        self.changes.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Makes all open ledgers durable, so that a judgement may rest on them.
    ///
    /// # Errors
    /// When a file can't be made durable.
    pub(crate) async fn sync(&self) -> Result<(), Problem> {
        let open: Vec<(String, std::io::Result<File>)> = lock(&self.files)
            .iter()
            .map(|(name, file)| (name.clone(), file.file.try_clone()))
            .collect();
        for (ledger, file) in open {
            let file = file.map_err(|error| unwritten(&ledger, &error.to_string()))?;
            sync(&ledger, file).await?;
        }
        Ok(())
    }

    /// Notes the close of a check together with how many rows it could see of each ledger: both at the same moment, so
    /// that no row comes in between.
    pub(crate) fn close_check(&self, check: u32, reason: CloseReason, awake: Wakefulness) {
        let set = self.set();
        let rows: BTreeMap<String, u64> = set
            .0
            .iter()
            .map(|(name, known)| (name.clone(), known.rows.len() as u64))
            .collect();
        self.journal.note(Event::CheckClosed(CheckClosed {
            scenario: self.scenario.clone(),
            check,
            reason,
            rows,
            awake,
        }));
    }
}

async fn sync(ledger: &str, file: File) -> Result<(), Problem> {
    match tokio::task::spawn_blocking(move || file.sync_data()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(unwritten(ledger, &error.to_string())),
        Err(error) => Err(unwritten(ledger, &error.to_string())),
    }
}

fn unwritten(ledger: &str, message: &str) -> Problem {
    problem::harness(
        "ledger-write",
        format!("the ledger `{ledger}` can't be written: {message}"),
        Some("free space in the folder of the run"),
    )
}

/// A name as a name of a file.
pub(crate) fn file_name(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
                c
            } else {
                '_'
            }
        })
        .collect::<String>()
        .trim_start_matches('.')
        .to_owned()
}
