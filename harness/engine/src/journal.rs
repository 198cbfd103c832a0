//! The journal of a run: one writer, records durable before anybody acts on them or sees them.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use meshproof_verdict::history::{Folding, RunHistory, ScenarioHistory};
use meshproof_verdict::journal::{GENESIS, JournalWriter, Sink};
use meshproof_verdict::record::{Event, Record};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::private_files;
use crate::problem::{self, Problem};
use crate::redaction::{Redacted, Redactor};

/// Name of the journal in a run's folder.
pub const JOURNAL_FILE: &str = "journal.ndjson";
/// Records that a slow live display may be behind before it misses some.
const DISPLAY_BACKLOG: usize = 4096;
/// Records that are written before they are made durable together, at most.
const BATCH: usize = 256;

/// Takes events. Clones write to the same journal.
///
/// Times never go backwards: an event gets its time and its place in the order at the same moment.
#[derive(Clone)]
pub struct Journal {
    clock: Clock,
    ordered: Arc<Mutex<Ordered>>,
    records: broadcast::Sender<Arc<Record>>,
    run_dir: Arc<Path>,
    broken: Broken,
    redactor: Redactor,
    head: watch::Receiver<String>,
}

/// What an event enters at the moment that gives it its time and its place.
struct Ordered {
    queue: mpsc::UnboundedSender<Entry>,
    /// Events so far.
    count: u64,
    /// What they say so far: the only history that there is of a run while it goes on, made by the same fold as those of
    /// `recheck` and of reports.
    folding: Folding,
}

/// That the journal can't be written any more, and why.
#[derive(Clone, Default)]
struct Broken {
    token: CancellationToken,
    cause: Arc<OnceLock<String>>,
}

struct Entry {
    event: Redacted<Event>,
    at_us: u64,
    durable: Option<oneshot::Sender<Result<(), Arc<str>>>>,
}

impl Journal {
    /// Starts a journal in an existing folder that has none.
    ///
    /// # Errors
    /// When the file can't be made, or exists.
    pub fn create(run_dir: &Path, clock: Clock) -> Result<Self, Problem> {
        let path = run_dir.join(JOURNAL_FILE);
        let file = private_files::create_file(&path)
            .and_then(|file| private_files::sync_parent(&path).map(|()| file))
            .map_err(|error| {
                problem::harness(
                    "journal-create",
                    format!("{}: {error}", path.display()),
                    Some("choose another folder for the run, or free space"),
                )
            })?;
        Ok(Self::with_sink(FileSink(file), run_dir, clock))
    }

    fn with_sink(sink: impl Sink + Send + 'static, run_dir: &Path, clock: Clock) -> Self {
        let (queue, entries) = mpsc::unbounded_channel();
        let (records, _) = broadcast::channel(DISPLAY_BACKLOG);
        let (sender, broken) = (records.clone(), Broken::default());
        let breaks = broken.clone();
        let (heads, head) = watch::channel(GENESIS.to_owned());
        // Writing and syncing block, and must go on while the runtime is busy.
        tokio::task::spawn_blocking(move || write_entries(entries, JournalWriter::new(sink), &sender, &breaks, &heads));
        Self {
            clock,
            ordered: Arc::new(Mutex::new(Ordered {
                queue,
                count: 0,
                folding: Folding::default(),
            })),
            records,
            run_dir: run_dir.into(),
            broken,
            redactor: Redactor::new(),
            head,
        }
    }

    /// What takes secrets out of everything that this run writes.
    #[must_use]
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// SHA-256 (hex) of the last line that is durable: who keeps it elsewhere can tell whether the journal was replaced.
    #[must_use]
    pub fn head(&self) -> String {
        self.head.borrow().clone()
    }

    /// Folder of the run.
    #[must_use]
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// The clock that stamps events.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Records from now on, each durable by the time it is seen. A receiver that is too slow misses some and is told so.
    #[must_use]
    pub fn records(&self) -> broadcast::Receiver<Arc<Record>> {
        self.records.subscribe()
    }

    /// Waits until something could not be written: whatever happens from then on is not known afterwards, so that nothing
    /// new may be begun. The problem says so.
    pub async fn broken(&self) -> Problem {
        self.broken.token.cancelled().await;
        unwritable(self.broken.cause.get().map_or("its writer has stopped", String::as_str))
    }

    /// Whether something could not be written.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken.token.is_cancelled()
    }

    /// Writes an event and returns its time. It is durable before every later event of [`Journal::durable`].
    pub fn note(&self, event: Event) -> u64 {
        self.enqueue(self.redactor.event(event), None)
    }

    /// What happened so far, as it is written: also what is not durable yet.
    #[must_use]
    pub fn history(&self) -> RunHistory {
        self.lock().folding.history().clone()
    }

    /// What happened so far in the scenario with this key.
    #[must_use]
    pub fn scenario(&self, key: &str) -> Arc<ScenarioHistory> {
        self.lock().folding.scenario(key).unwrap_or_default()
    }

    /// Writes an event, waits until it and everything before it is durable, and returns its time.
    ///
    /// # Errors
    /// When the journal can't be written; nothing that happened is known then, and the run must stop.
    pub async fn durable(&self, event: Event) -> Result<u64, Problem> {
        let (sender, receiver) = oneshot::channel();
        let at_us = self.enqueue(self.redactor.event(event), Some(sender));
        match receiver.await {
            Ok(Ok(())) => Ok(at_us),
            Ok(Err(message)) => Err(unwritable(&message)),
            Err(_) => Err(unwritable("the writer has stopped")),
        }
    }

    fn enqueue(&self, event: Redacted<Event>, durable: Option<oneshot::Sender<Result<(), Arc<str>>>>) -> u64 {
        let mut ordered = self.lock();
        let at_us = self.clock.now_us();
        let Ordered { queue, count, folding } = &mut *ordered;
        folding.add(*count, at_us, event.get());
        *count += 1;
        // Without a writer the sender of `durable` is dropped, which its waiter sees.
        let _ = queue.send(Entry { event, at_us, durable });
        at_us
    }

    fn lock(&self) -> MutexGuard<'_, Ordered> {
        self.ordered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unwritable(message: &str) -> Problem {
    problem::harness(
        "journal-write",
        format!("the journal can't be written: {message}"),
        Some("free space in the folder of the run, or choose another one"),
    )
}

fn write_entries<S: Sink>(
    mut entries: mpsc::UnboundedReceiver<Entry>,
    mut writer: JournalWriter<S>,
    records: &broadcast::Sender<Arc<Record>>,
    broken: &Broken,
    heads: &watch::Sender<String>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        batch.clear();
        match entries.blocking_recv() {
            Some(entry) => batch.push(entry),
            None => return,
        }
        while batch.len() < BATCH
            && let Ok(entry) = entries.try_recv()
        {
            batch.push(entry);
        }
        let mut written = Vec::with_capacity(batch.len());
        let mut waiting = Vec::new();
        let mut result: Result<(), String> = Ok(());
        for entry in batch.drain(..) {
            waiting.extend(entry.durable);
            match writer.append(entry.event.into_inner(), entry.at_us) {
                Ok(record) => written.push(Arc::new(record)),
                // The first has the cause.
                Err(error) => result = result.and(Err(error.to_string())),
            }
        }
        let result = result
            .and_then(|()| writer.sync().map_err(|error| error.to_string()))
            .map_err(Arc::<str>::from);
        if let Err(message) = &result {
            tracing::error!(%message, "the journal can't be written");
            // The first has the cause.
            let _ = broken.cause.set(message.to_string());
            broken.token.cancel();
        } else {
            heads.send_replace(writer.head().to_owned());
            for record in written {
                // Nobody may be looking.
                let _ = records.send(record);
            }
        }
        for waiter in waiting {
            let _ = waiter.send(result.clone());
        }
    }
}

struct FileSink(File);

impl Sink for FileSink {
    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        self.0.write_all(line)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::{Journal, Sink};
    use crate::clock::Clock;
    use meshproof_verdict::journal::read_journal;
    use meshproof_verdict::record::{Event, Interrupted};
    use std::io;
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    /// What a sink was told, in order.
    #[derive(Clone, Debug, PartialEq, Eq)]
    enum Told {
        Line,
        Synced,
    }

    #[derive(Clone, Default)]
    struct RecordingSink {
        told: Arc<Mutex<Vec<Told>>>,
        fail_after: Option<usize>,
    }

    impl Sink for RecordingSink {
        fn write_line(&mut self, _: &[u8]) -> io::Result<()> {
            let mut told = self.told.lock().unwrap();
            if self.fail_after.is_some_and(|after| told.len() >= after) {
                return Err(io::Error::other("no space left"));
            }
            told.push(Told::Line);
            Ok(())
        }

        fn sync(&mut self) -> io::Result<()> {
            self.told.lock().unwrap().push(Told::Synced);
            Ok(())
        }
    }

    fn interrupted(count: u32) -> Event {
        Event::Interrupted(Interrupted { count })
    }

    #[tokio::test]
    async fn an_event_is_durable_with_all_before_it_when_the_wait_is_over() {
        let sink = RecordingSink::default();
        let told = Arc::clone(&sink.told);
        let journal = Journal::with_sink(sink, Path::new("."), Clock::start(1.0));
        for round in 1..=20_usize {
            for _ in 0..round {
                journal.note(interrupted(1));
            }
            journal.durable(interrupted(2)).await.unwrap();
            let told = told.lock().unwrap();
            assert_eq!(told.last(), Some(&Told::Synced));
            let expected = (1..=round).map(|notes| notes + 1).sum::<usize>();
            let lines = told.iter().filter(|told| **told == Told::Line).count();
            assert_eq!(lines, expected);
        }
    }

    #[tokio::test]
    async fn records_are_shown_only_after_they_are_durable_and_in_order() {
        let sink = RecordingSink::default();
        let told = Arc::clone(&sink.told);
        let journal = Journal::with_sink(sink, Path::new("."), Clock::start(1.0));
        let mut records = journal.records();
        for count in 0..50 {
            journal.note(interrupted(count));
        }
        for count in 0..50 {
            let record = records.recv().await.unwrap();
            assert_eq!(record.event, interrupted(count));
            let told = told.lock().unwrap();
            let lines_when_synced = told
                .iter()
                .rposition(|told| *told == Told::Synced)
                .map_or(0, |at| told[..at].iter().filter(|told| **told == Told::Line).count());
            assert!(
                lines_when_synced > count as usize,
                "record {count} was shown before it was durable"
            );
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_told_and_nothing_is_shown() {
        let sink = RecordingSink {
            fail_after: Some(0),
            ..RecordingSink::default()
        };
        let journal = Journal::with_sink(sink, Path::new("."), Clock::start(1.0));
        let mut records = journal.records();
        let problem = journal.durable(interrupted(1)).await.unwrap_err();
        assert_eq!(problem.code, "journal-write");
        assert!(problem.message.contains("no space left"), "{}", problem.message);
        assert!(records.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_journal_on_disk_can_be_read_and_times_never_go_backwards() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::create(folder.path(), Clock::start(10.0)).unwrap();
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let journal = journal.clone();
                tokio::spawn(async move {
                    for _ in 0..20 {
                        journal.note(interrupted(writer));
                        tokio::task::yield_now().await;
                    }
                    journal.durable(interrupted(writer)).await.unwrap();
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        let file = std::fs::File::open(folder.path().join(super::JOURNAL_FILE)).unwrap();
        let read = read_journal(io::BufReader::new(file)).unwrap();
        assert!(read.integrity.is_sound());
        assert_eq!(read.records.len(), 8 * 21);
        assert!(read.records.is_sorted_by_key(|record| record.at_us));
        assert!(
            Journal::create(folder.path(), Clock::start(1.0)).is_err(),
            "an old journal is never overwritten"
        );
    }
}
