//! Taps: what crossed a path, and whether a pattern was in it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Which way bytes go on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// From the side that opened the connection.
    Forward,
    /// To the side that opened the connection.
    Backward,
}

/// What a tap shall look for and keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TapOptions {
    /// Byte patterns to count, also where they lie across two buffers. Empty patterns are ignored.
    pub patterns: Vec<Vec<u8>>,
    /// How many bytes to keep as samples over all connections; the first ones of each direction of each connection.
    pub sample_bytes: usize,
}

/// How often a pattern crossed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternHits {
    /// The pattern.
    pub pattern: Vec<u8>,
    /// Occurrences from the dialling side.
    pub forward: u64,
    /// Occurrences to the dialling side.
    pub backward: u64,
}

/// Bytes that crossed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Number of the connection on the fabric.
    pub connection: u64,
    /// Their direction.
    pub direction: Direction,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// What a tap saw so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TapReport {
    /// Connections that were open when the tap began or were opened since.
    pub connections: u64,
    /// Bytes from the dialling side.
    pub forward_bytes: u64,
    /// Bytes to the dialling side.
    pub backward_bytes: u64,
    /// One row per pattern, in the order they were given.
    pub hits: Vec<PatternHits>,
    /// Kept bytes.
    pub samples: Vec<Sample>,
}

impl TapReport {
    /// Occurrences of `pattern` in both directions; 0 as well when the tap was never told to look for it.
    #[must_use]
    pub fn count(&self, pattern: &[u8]) -> u64 {
        self.hits
            .iter()
            .filter(|h| h.pattern == pattern)
            .map(|h| h.forward + h.backward)
            .sum()
    }
}

/// Longest sample of one direction of one connection.
const SAMPLE_PER_DIRECTION: usize = 4096;

#[derive(Debug)]
pub(crate) struct TapState {
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    report: TapReport,
    sample_room: usize,
}

/// How far a tap has read one direction of one connection.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// The last bytes, in which a pattern may have begun.
    tail: Vec<u8>,
    sampled: usize,
}

impl TapState {
    pub(crate) fn new(options: &TapOptions) -> Arc<Self> {
        let mut state = Seen {
            report: TapReport::default(),
            sample_room: options.sample_bytes,
        };
        for pattern in &options.patterns {
            state.look_for(pattern);
        }
        Arc::new(Self {
            seen: Mutex::new(state),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn look_for(&self, pattern: &[u8]) {
        self.lock().look_for(pattern);
    }

    pub(crate) fn report(&self) -> TapReport {
        self.lock().report.clone()
    }

    pub(crate) fn connected(&self) {
        self.lock().report.connections += 1;
    }

    pub(crate) fn crossed(&self, reader: &mut Reader, connection: u64, direction: Direction, bytes: &[u8]) {
        self.lock().crossed(reader, connection, direction, bytes);
    }
}

impl Seen {
    fn look_for(&mut self, pattern: &[u8]) {
        if !pattern.is_empty() && self.report.hits.iter().all(|h| h.pattern != pattern) {
            self.report.hits.push(PatternHits {
                pattern: pattern.to_vec(),
                forward: 0,
                backward: 0,
            });
        }
    }

    fn crossed(&mut self, reader: &mut Reader, connection: u64, direction: Direction, bytes: &[u8]) {
        let count = bytes.len() as u64;
        match direction {
            Direction::Forward => self.report.forward_bytes += count,
            Direction::Backward => self.report.backward_bytes += count,
        }
        self.sample(reader, connection, direction, bytes);
        let longest = self.report.hits.iter().map(|h| h.pattern.len()).max().unwrap_or(0);
        if longest == 0 {
            return;
        }
        let old = reader.tail.len();
        reader.tail.extend_from_slice(bytes);
        for hit in &mut self.report.hits {
            // Only occurrences that end in the new bytes are new.
            let start = (old + 1).saturating_sub(hit.pattern.len());
            let found = occurrences(&reader.tail[start..], &hit.pattern);
            match direction {
                Direction::Forward => hit.forward += found,
                Direction::Backward => hit.backward += found,
            }
        }
        let surplus = reader.tail.len().saturating_sub(longest - 1);
        reader.tail.drain(..surplus);
    }

    fn sample(&mut self, reader: &mut Reader, connection: u64, direction: Direction, bytes: &[u8]) {
        let take = bytes
            .len()
            .min(self.sample_room)
            .min(SAMPLE_PER_DIRECTION - reader.sampled);
        if take == 0 {
            return;
        }
        let samples = &mut self.report.samples;
        match samples
            .iter_mut()
            .find(|s| s.connection == connection && s.direction == direction)
        {
            Some(sample) => sample.bytes.extend_from_slice(&bytes[..take]),
            None => samples.push(Sample {
                connection,
                direction,
                bytes: bytes[..take].to_vec(),
            }),
        }
        reader.sampled += take;
        self.sample_room -= take;
    }
}

/// Occurrences of a pattern that is not empty. A plain loop: with iterators it takes thirty times as long in builds
/// without optimisation, which is how embedded environments usually run.
fn occurrences(haystack: &[u8], pattern: &[u8]) -> u64 {
    let (Some(&first), Some(last_start)) = (pattern.first(), haystack.len().checked_sub(pattern.len())) else {
        return 0;
    };
    let mut count = 0;
    let mut start = 0;
    while start <= last_start {
        if haystack[start] == first && haystack[start..].starts_with(pattern) {
            count += 1;
        }
        start += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::{Direction, Reader, TapOptions, TapState};
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    fn options(patterns: &[&[u8]], sample_bytes: usize) -> TapOptions {
        TapOptions {
            patterns: patterns.iter().map(|p| p.to_vec()).collect(),
            sample_bytes,
        }
    }

    #[test]
    fn directions_are_counted_apart_and_a_later_pattern_counts_from_then_on() {
        let tap = TapState::new(&options(&[b"canary"], 0));
        let (mut there, mut back) = (Reader::default(), Reader::default());
        tap.crossed(&mut there, 1, Direction::Forward, b"a can");
        tap.crossed(&mut there, 1, Direction::Forward, b"ary sings");
        tap.crossed(&mut back, 1, Direction::Backward, b"ok canary canary");
        tap.look_for(b"sings");
        let report = tap.report();
        assert_eq!((report.hits[0].forward, report.hits[0].backward), (1, 2));
        assert_eq!((report.forward_bytes, report.backward_bytes), (14, 16));
        assert_eq!(report.count(b"canary"), 3);
        assert_eq!(report.count(b"sings"), 0);
        tap.crossed(&mut there, 1, Direction::Forward, b" it sings");
        assert_eq!(tap.report().count(b"sings"), 1);
    }

    #[test]
    fn samples_are_bounded() {
        let tap = TapState::new(&options(&[], 10));
        let (mut first, mut second) = (Reader::default(), Reader::default());
        tap.crossed(&mut first, 1, Direction::Forward, b"123");
        tap.crossed(&mut second, 2, Direction::Forward, b"abcdef");
        tap.crossed(&mut first, 1, Direction::Forward, b"45678");
        let samples = tap.report().samples;
        assert_eq!(samples[0].bytes, b"1234");
        assert_eq!(samples[1].bytes, b"abcdef");
    }

    proptest! {
        #[test]
        fn cutting_the_bytes_anywhere_changes_no_count(
            bytes in prop::collection::vec(0u8..3, 0..200),
            pattern in prop::collection::vec(0u8..3, 1..5),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let other = b"longer than the rest".to_vec();
            let tap = TapState::new(&TapOptions { patterns: vec![pattern.clone(), other], sample_bytes: 0 });
            let mut ends: Vec<_> = cuts.iter().map(|c| c.index(bytes.len() + 1)).collect();
            ends.push(bytes.len());
            ends.sort_unstable();
            let mut reader = Reader::default();
            let mut start = 0;
            for end in ends {
                tap.crossed(&mut reader, 0, Direction::Forward, &bytes[start..end]);
                start = end;
            }
            let expected = bytes.windows(pattern.len()).filter(|w| *w == pattern).count();
            prop_assert_eq!(tap.report().hits[0].forward, expected as u64);
        }
    }
}
