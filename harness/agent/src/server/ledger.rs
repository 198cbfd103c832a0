//! The server's record of every request it received.
//!
//! A row is written when the request is complete and its treatment is decided, before any delay and before the answer
//! leaves: a request whose client gave up in between is in the ledger all the same.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::protocol::{DroppedRows, LedgerLine, Protocol, ServerRow};

/// Longest request id or run nonce that is kept, in bytes; the rest is cut off.
const MAX_TEXT: usize = 256;
/// How many rows one reading looks at, so that a reader never holds requests up for long.
const PAGE: usize = 2048;

/// Bounded memory of received requests: when full, the oldest rows go first, and readers are told so.
pub(crate) struct Ledger {
    capacity: usize,
    rows: Mutex<Rows>,
    /// Number of rows ever written, and whether there will be more.
    progress: watch::Sender<Progress>,
}

#[derive(Default)]
struct Rows {
    held: VecDeque<ServerRow>,
    written: u64,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Progress {
    written: u64,
    closed: bool,
}

/// A request as the server describes it to the ledger.
pub(crate) struct Received<'a> {
    pub(crate) id: Option<&'a str>,
    pub(crate) run: Option<&'a str>,
    pub(crate) received_us: u64,
    pub(crate) status: Option<u16>,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

impl Ledger {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            rows: Mutex::default(),
            progress: watch::Sender::new(Progress::default()),
        }
    }

    /// Adds a row at the end.
    pub(crate) fn write(&self, received: &Received<'_>) {
        let mut rows = self.lock();
        let row = ServerRow {
            index: rows.written,
            id: received.id.map(bounded),
            run: received.run.map(bounded),
            received_us: received.received_us,
            status: received.status,
            protocol: received.protocol,
            port: received.port,
        };
        if rows.held.len() == self.capacity {
            rows.held.pop_front();
        }
        rows.held.push_back(row);
        rows.written += 1;
        let written = rows.written;
        self.progress.send_modify(|progress| progress.written = written);
    }

    /// No row will follow: readers that follow the ledger come to an end.
    pub(crate) fn close(&self) {
        self.progress.send_modify(|progress| progress.closed = true);
    }

    /// Starts reading at row `since`.
    pub(crate) fn reader(&self, since: u64, run: Option<String>) -> Reader {
        Reader {
            next: since,
            run,
            progress: self.progress.subscribe(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A position in the ledger.
pub(crate) struct Reader {
    next: u64,
    run: Option<String>,
    progress: watch::Receiver<Progress>,
}

impl Reader {
    /// The next lines, or `None` when everything up to now has been read. May be empty when no row was of the run.
    pub(crate) fn read(&mut self, ledger: &Ledger) -> Option<Vec<LedgerLine>> {
        let rows = ledger.lock();
        let first_held = rows.written - rows.held.len() as u64;
        let mut lines = Vec::new();
        if self.next < first_held {
            lines.push(LedgerLine::Dropped {
                dropped: DroppedRows {
                    from: self.next,
                    to: first_held,
                },
            });
            self.next = first_held;
        }
        if self.next >= rows.written {
            return (!lines.is_empty()).then_some(lines);
        }
        let skip = usize::try_from(self.next - first_held).unwrap_or(usize::MAX);
        for row in rows.held.iter().skip(skip).take(PAGE) {
            self.next = row.index + 1;
            if self.run.is_none() || self.run == row.run {
                lines.push(LedgerLine::Row(row.clone()));
            }
        }
        Some(lines)
    }

    /// Waits until there is something to read; `false` when the ledger is closed and all of it has been read.
    pub(crate) async fn more(&mut self) -> bool {
        let next = self.next;
        match self
            .progress
            .wait_for(|progress| progress.written > next || progress.closed)
            .await
        {
            Ok(progress) => progress.written > next,
            Err(_) => false,
        }
    }
}

fn bounded(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(ledger: &Ledger, run: &str, id: &str) {
        ledger.write(&Received {
            id: Some(id),
            run: Some(run),
            received_us: 0,
            status: Some(200),
            protocol: Protocol::Http1,
            port: 80,
        });
    }

    fn read_all(ledger: &Ledger, since: u64, run: Option<&str>) -> (Vec<u64>, Option<DroppedRows>) {
        let mut reader = ledger.reader(since, run.map(str::to_owned));
        let (mut indices, mut gap) = (Vec::new(), None);
        while let Some(lines) = reader.read(ledger) {
            for line in lines {
                match line {
                    LedgerLine::Row(row) => indices.push(row.index),
                    LedgerLine::Dropped { dropped } => gap = Some(dropped),
                }
            }
        }
        (indices, gap)
    }

    #[test]
    fn the_oldest_rows_go_first_and_the_reader_is_told() {
        let ledger = Ledger::new(3);
        for id in ["a", "b", "c"] {
            write(&ledger, "r", id);
        }
        assert_eq!(read_all(&ledger, 0, None), (vec![0, 1, 2], None));
        write(&ledger, "r", "d");
        write(&ledger, "r", "e");
        assert_eq!(
            read_all(&ledger, 0, None),
            (vec![2, 3, 4], Some(DroppedRows { from: 0, to: 2 }))
        );
        assert_eq!(
            read_all(&ledger, 1, None),
            (vec![2, 3, 4], Some(DroppedRows { from: 1, to: 2 }))
        );
        assert_eq!(read_all(&ledger, 2, None), (vec![2, 3, 4], None));
        assert_eq!(read_all(&ledger, 99, None), (vec![], None));
    }

    #[test]
    fn rows_are_selected_by_run_and_position() {
        let ledger = Ledger::new(10);
        for (run, id) in [("r1", "a"), ("r2", "b"), ("r1", "c")] {
            write(&ledger, run, id);
        }
        assert_eq!(read_all(&ledger, 0, Some("r1")).0, [0, 2]);
        assert_eq!(read_all(&ledger, 1, Some("r1")).0, [2]);
        assert_eq!(read_all(&ledger, 0, Some("r3")).0, [] as [u64; 0]);
    }

    #[test]
    fn more_than_one_page_is_read_completely() {
        let ledger = Ledger::new(10_000);
        for number in 0..5_000 {
            write(&ledger, "r", &number.to_string());
        }
        assert_eq!(read_all(&ledger, 0, None).0, (0..5_000).collect::<Vec<u64>>());
    }

    #[tokio::test]
    async fn a_follower_wakes_up_and_comes_to_an_end() {
        let ledger = Ledger::new(10);
        let mut reader = ledger.reader(0, None);
        assert_eq!(reader.read(&ledger), None);
        let (more, ()) = tokio::join!(reader.more(), async { write(&ledger, "r", "a") });
        assert!(more);
        assert_eq!(reader.read(&ledger).unwrap().len(), 1);
        write(&ledger, "r", "b");
        ledger.close();
        assert!(reader.more().await, "the last row is still to be read");
        assert_eq!(reader.read(&ledger).unwrap().len(), 1);
        assert!(!reader.more().await);
    }

    #[test]
    fn long_ids_are_cut_at_a_character() {
        let id = format!("{}é", "x".repeat(MAX_TEXT - 1));
        assert_eq!(bounded(&id), "x".repeat(MAX_TEXT - 1));
    }
}
