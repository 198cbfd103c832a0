//! What crosses a relay: how many bytes, how each connection begins, and whether patterns are in it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use memchr::memmem::Finder;

use super::protocol::{MAX_PATTERN, MAX_PATTERNS, SAMPLE, SAMPLED_CONNECTIONS, Sample, Seen};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    ToTarget,
    ToClient,
}

/// Reads along on all connections.
#[derive(Default)]
pub(crate) struct Tap {
    record: Mutex<Record>,
}

#[derive(Default)]
struct Record {
    to_target: u64,
    to_client: u64,
    patterns: BTreeMap<u64, Sought>,
    samples: VecDeque<Sample>,
}

struct Sought {
    finder: Finder<'static>,
    seen: Seen,
}

/// One direction of one connection, as far as it was read.
pub(crate) struct Reader {
    connection: u64,
    direction: Direction,
    /// The last bytes, in which a pattern may have begun.
    tail: Vec<u8>,
    sampled: usize,
}

impl Reader {
    pub(crate) fn new(connection: u64, direction: Direction) -> Self {
        Self {
            connection,
            direction,
            tail: Vec::new(),
            sampled: 0,
        }
    }
}

impl Tap {
    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes to targets and to clients.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let record = self.lock();
        (record.to_target, record.to_client)
    }

    pub(crate) fn samples(&self) -> Vec<Sample> {
        self.lock().samples.iter().cloned().collect()
    }

    /// Looks for a pattern from now on.
    pub(crate) fn look_for(&self, id: u64, pattern: &[u8]) -> Result<(), String> {
        if pattern.is_empty() || pattern.len() > MAX_PATTERN {
            return Err(format!(
                "the pattern has {} bytes; expected 1 to {MAX_PATTERN}",
                pattern.len()
            ));
        }
        let mut record = self.lock();
        if record.patterns.len() == MAX_PATTERNS {
            return Err(format!(
                "{MAX_PATTERNS} patterns are looked for already; remove some first"
            ));
        }
        let sought = Sought {
            finder: Finder::new(pattern).into_owned(),
            seen: Seen::default(),
        };
        record.patterns.insert(id, sought);
        Ok(())
    }

    /// Stops looking for a pattern; `false` when nobody did.
    pub(crate) fn forget(&self, id: u64) -> bool {
        self.lock().patterns.remove(&id).is_some()
    }

    pub(crate) fn seen(&self, id: u64) -> Option<Seen> {
        self.lock().patterns.get(&id).map(|sought| sought.seen)
    }

    pub(crate) fn crossed(&self, reader: &mut Reader, bytes: &[u8]) {
        let mut record = self.lock();
        let count = bytes.len() as u64;
        match reader.direction {
            Direction::ToTarget => record.to_target += count,
            Direction::ToClient => record.to_client += count,
        }
        record.sample(reader, bytes);
        record.search(reader, bytes);
    }
}

impl Record {
    fn search(&mut self, reader: &mut Reader, bytes: &[u8]) {
        let lengths = self.patterns.values().map(|sought| sought.finder.needle().len());
        let Some(longest) = lengths.max() else {
            // Nobody looks: what comes later does not follow these bytes.
            reader.tail.clear();
            return;
        };
        let old = reader.tail.len();
        reader.tail.extend_from_slice(bytes);
        for Sought { finder, seen } in self.patterns.values_mut() {
            let seen = match reader.direction {
                Direction::ToTarget => &mut seen.to_target,
                Direction::ToClient => &mut seen.to_client,
            };
            // What ends in the old bytes crossed before, perhaps before the pattern was looked for.
            let start = (old + 1).saturating_sub(finder.needle().len());
            *seen = *seen || finder.find(&reader.tail[start..]).is_some();
        }
        let surplus = reader.tail.len().saturating_sub(longest - 1);
        reader.tail.drain(..surplus);
    }

    fn sample(&mut self, reader: &mut Reader, bytes: &[u8]) {
        let take = bytes.len().min(SAMPLE - reader.sampled);
        if take == 0 {
            return;
        }
        reader.sampled += take;
        let connection = reader.connection;
        let known = self.samples.iter().position(|sample| sample.connection == connection);
        let at = known.unwrap_or_else(|| {
            if self.samples.len() == SAMPLED_CONNECTIONS {
                self.samples.pop_front();
            }
            self.samples.push_back(Sample {
                connection,
                ..Sample::default()
            });
            self.samples.len() - 1
        });
        let sample = &mut self.samples[at];
        match reader.direction {
            Direction::ToTarget => sample.to_target.extend_from_slice(&bytes[..take]),
            Direction::ToClient => sample.to_client.extend_from_slice(&bytes[..take]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    #[test]
    fn directions_are_kept_apart_and_a_later_pattern_counts_from_then_on() {
        let tap = Tap::default();
        tap.look_for(1, b"canary").unwrap();
        let mut there = Reader::new(7, Direction::ToTarget);
        let mut back = Reader::new(7, Direction::ToClient);
        tap.crossed(&mut there, b"a can");
        tap.crossed(&mut back, b"ary");
        assert_eq!(tap.seen(1), Some(Seen::default()));
        tap.crossed(&mut there, b"ary sings");
        let seen = Seen {
            to_target: true,
            to_client: false,
        };
        assert_eq!(tap.seen(1), Some(seen));
        tap.look_for(2, b"sings").unwrap();
        tap.crossed(&mut there, b"!");
        assert_eq!(tap.seen(2), Some(Seen::default()));
        tap.crossed(&mut there, b" it sings");
        assert_eq!(tap.seen(2), Some(seen));
        assert_eq!(tap.bytes(), (24, 3));
    }

    #[test]
    fn bytes_before_and_after_a_time_without_patterns_do_not_join() {
        let tap = Tap::default();
        let mut reader = Reader::new(1, Direction::ToTarget);
        tap.look_for(1, b"canary").unwrap();
        tap.crossed(&mut reader, b"can");
        assert!(tap.forget(1) && !tap.forget(1));
        tap.crossed(&mut reader, b"did");
        tap.look_for(2, b"canary").unwrap();
        tap.crossed(&mut reader, b"ary");
        assert_eq!(tap.seen(2), Some(Seen::default()));
        assert_eq!(tap.seen(1), None);
    }

    #[test]
    fn patterns_and_samples_are_bounded() {
        let tap = Tap::default();
        assert!(tap.look_for(0, b"").unwrap_err().contains("has 0 bytes"));
        assert!(tap.look_for(0, &[0; MAX_PATTERN + 1]).is_err());
        for id in 0..MAX_PATTERNS as u64 {
            tap.look_for(id, b"x").unwrap();
        }
        assert!(tap.look_for(1000, b"x").is_err());

        for connection in 0..=SAMPLED_CONNECTIONS as u64 {
            let mut reader = Reader::new(connection, Direction::ToTarget);
            tap.crossed(&mut reader, b"head ");
            tap.crossed(&mut reader, &[b'x'; SAMPLE]);
            tap.crossed(&mut Reader::new(connection, Direction::ToClient), b"back");
        }
        let samples = tap.samples();
        assert_eq!(samples.len(), SAMPLED_CONNECTIONS);
        assert_eq!(samples[0].connection, 1);
        assert_eq!(samples[0].to_target.len(), SAMPLE);
        assert!(samples[0].to_target.starts_with(b"head xx"));
        assert_eq!(samples[0].to_client, b"back");
    }

    proptest! {
        #[test]
        fn cutting_the_bytes_anywhere_hides_nothing_and_invents_nothing(
            bytes in prop::collection::vec(0u8..3, 0..100),
            pattern in prop::collection::vec(0u8..3, 1..6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let tap = Tap::default();
            tap.look_for(1, &pattern).unwrap();
            tap.look_for(2, b"longer than the rest").unwrap();
            let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            ends.push(bytes.len());
            ends.sort_unstable();
            let mut reader = Reader::new(1, Direction::ToClient);
            let mut start = 0;
            for end in ends {
                tap.crossed(&mut reader, &bytes[start..end]);
                start = end;
            }
            let expected = bytes.windows(pattern.len()).any(|window| window == pattern);
            prop_assert_eq!(tap.seen(1), Some(Seen { to_client: expected, to_target: false }));
        }
    }
}
