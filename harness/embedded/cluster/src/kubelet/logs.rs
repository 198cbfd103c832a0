//! Logs of containers: bounded, and readable while they grow.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use meshproof_apiserver::LogOptions;
use tokio::sync::watch;

/// Bytes of text that are kept of one run of a container; the oldest lines go first.
const CAPACITY: usize = 1 << 20;

/// The log of one run of a container.
pub(crate) struct Log {
    lines: Mutex<Lines>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Lines {
    kept: VecDeque<(Timestamp, String)>,
    bytes: usize,
    /// Number of the first kept line.
    first: u64,
    closed: bool,
}

impl Log {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            lines: Mutex::default(),
            changed: watch::channel(()).0,
        })
    }

    pub(crate) fn write(&self, text: &str) {
        let mut lines = self.lock();
        for line in text.trim_end_matches('\n').split('\n') {
            lines.bytes += line.len();
            lines.kept.push_back((Timestamp::now(), line.to_owned()));
        }
        while lines.bytes > CAPACITY {
            let Some((_, line)) = lines.kept.pop_front() else {
                break;
            };
            lines.bytes -= line.len();
            lines.first += 1;
        }
        drop(lines);
        self.changed.send_replace(());
    }

    /// Nothing more will be written: followers come to their end.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.send_replace(());
    }

    pub(crate) fn stream(self: &Arc<Self>, options: &LogOptions) -> BoxStream<'static, Bytes> {
        let mut start = 0;
        {
            let lines = self.lock();
            let new_enough = |at: &Timestamp| options.since.is_none_or(|since| *at >= since);
            let old = lines.kept.iter().take_while(|(at, _)| !new_enough(at)).count();
            let wanted = options
                .tail_lines
                .map_or(usize::MAX, |n| n.try_into().unwrap_or(usize::MAX));
            let skipped = old.max(lines.kept.len().saturating_sub(wanted));
            start += lines.first + skipped as u64;
        }
        let reader = Reader {
            log: Arc::clone(self),
            changed: self.changed.subscribe(),
            next: start,
            follow: options.follow,
            timestamps: options.timestamps,
            room: options.limit_bytes.unwrap_or(u64::MAX),
        };
        stream::unfold(reader, |mut reader| async move {
            let bytes = reader.read().await?;
            Some((bytes, reader))
        })
        .boxed()
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Reader {
    log: Arc<Log>,
    changed: watch::Receiver<()>,
    next: u64,
    follow: bool,
    timestamps: bool,
    room: u64,
}

impl Reader {
    /// The next piece of the log; `None` at its end.
    async fn read(&mut self) -> Option<Bytes> {
        loop {
            if self.room == 0 {
                return None;
            }
            self.changed.borrow_and_update();
            let (mut text, closed) = self.take();
            if !text.is_empty() {
                let room = usize::try_from(self.room).unwrap_or(usize::MAX);
                text.truncate(room);
                self.room -= text.len() as u64;
                return Some(Bytes::from(text));
            }
            if closed || !self.follow {
                return None;
            }
            self.changed.changed().await.ok()?;
        }
    }

    fn take(&mut self) -> (Vec<u8>, bool) {
        let lines = self.log.lock();
        self.next = self.next.max(lines.first);
        let skip = usize::try_from(self.next - lines.first).unwrap_or(usize::MAX);
        let mut text = Vec::new();
        for (at, line) in lines.kept.iter().skip(skip) {
            if self.timestamps {
                text.extend_from_slice(format!("{at} ").as_bytes());
            }
            text.extend_from_slice(line.as_bytes());
            text.push(b'\n');
            self.next += 1;
        }
        (text, lines.closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(log: &Arc<Log>, options: LogOptions) -> String {
        let pieces: Vec<Bytes> = log.stream(&options).collect().await;
        String::from_utf8(pieces.concat()).unwrap()
    }

    #[tokio::test]
    async fn options_choose_lines() {
        let log = Log::new();
        log.write("one\ntwo\n");
        log.write("three");
        assert_eq!(read(&log, LogOptions::default()).await, "one\ntwo\nthree\n");
        let tail = LogOptions {
            tail_lines: Some(1),
            ..LogOptions::default()
        };
        assert_eq!(read(&log, tail).await, "three\n");
        let limited = LogOptions {
            limit_bytes: Some(5),
            ..LogOptions::default()
        };
        assert_eq!(read(&log, limited).await, "one\nt");
        let later = LogOptions {
            since: Some(Timestamp::now()),
            ..LogOptions::default()
        };
        assert_eq!(read(&log, later).await, "");
        let stamped = LogOptions {
            timestamps: true,
            tail_lines: Some(1),
            ..LogOptions::default()
        };
        let line = read(&log, stamped).await;
        let (at, text) = line.split_once(' ').unwrap();
        assert!(at.parse::<Timestamp>().is_ok(), "{line}");
        assert_eq!(text, "three\n");
    }

    #[tokio::test]
    async fn a_follower_sees_new_lines_until_the_end() {
        let log = Log::new();
        log.write("before");
        let options = LogOptions {
            follow: true,
            ..LogOptions::default()
        };
        let following = tokio::spawn({
            let log = Arc::clone(&log);
            async move { read(&log, options).await }
        });
        tokio::task::yield_now().await;
        log.write("after");
        log.close();
        assert_eq!(following.await.unwrap(), "before\nafter\n");
    }

    #[tokio::test]
    async fn the_oldest_lines_go_when_it_is_full() {
        let log = Log::new();
        let line = "x".repeat(CAPACITY / 4);
        for n in 0..6 {
            log.write(&format!("{n}{line}"));
        }
        let text = read(&log, LogOptions::default()).await;
        assert!(text.starts_with('3'), "{}", &text[..1]);
        assert!(text.len() <= CAPACITY + 10);
    }
}
