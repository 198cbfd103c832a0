//! Writing and reading a journal.
//!
//! # Format
//! One [`Record`] a line, JSON without line breaks. Each line ends with a member `sum` that is not a part of [`Record`]:
//! the SHA-256 (hex) of the line's bytes before `,"sum":`. Together with [`Record::prev`] (SHA-256 of the whole previous
//! line) every byte of a journal is covered twice, the last line's once. A last line without a line break was torn when
//! the writer was killed: it is not a record, and the reader says so. Everything else that does not fit is a broken record.
//!
//! The chain tells damage and clumsy edits. Who can write the file can also compute a new chain; a signature over
//! [`Integrity::head`] is what binds a journal to a person.

use std::io::{self, BufRead, Read, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::record::{Event, FORMAT, Record};

/// Longest line that is read, bytes. A longer one is a broken record.
pub const MAX_LINE: u64 = 64 * 1024 * 1024;

/// `prev` of the first record.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Where lines are written to.
pub trait Sink {
    /// Appends one line, which includes its line break, in one piece.
    ///
    /// # Errors
    /// Of the medium. Part of the line may have been written then.
    fn write_line(&mut self, line: &[u8]) -> io::Result<()>;

    /// Makes all lines durable.
    ///
    /// # Errors
    /// Of the medium.
    fn sync(&mut self) -> io::Result<()>;
}

impl Sink for Vec<u8> {
    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        self.write_all(line)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why a record could not be written.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The medium refused.
    #[error("record {seq} of the journal could not be written: {source}. Free space or choose another folder")]
    Io {
        /// Position of the record.
        seq: u64,
        /// Cause.
        source: io::Error,
    },
    /// An earlier record could not be written, so that the journal may end in half a line, or in records that are not on
    /// the medium.
    #[error(
        "the journal takes no more records, because record {seq} could not be written: {cause}. Free space or choose another \
         folder"
    )]
    Broken {
        /// Position of the record that could not be written.
        seq: u64,
        /// Why.
        cause: String,
    },
    /// The event has no JSON form.
    #[error("record {seq} of the journal has no JSON form: {source}")]
    Json {
        /// Position of the record.
        seq: u64,
        /// Cause.
        source: serde_json::Error,
    },
}

/// Appends records to a new journal.
#[derive(Debug)]
pub struct JournalWriter<S> {
    sink: S,
    seq: u64,
    prev: String,
    /// The first record that could not be written, and why.
    broken: Option<(u64, String)>,
}

impl<S: Sink> JournalWriter<S> {
    /// Starts a journal in an empty sink.
    pub fn new(sink: S) -> Self {
        Self {
            sink,
            seq: 0,
            prev: GENESIS.to_owned(),
            broken: None,
        }
    }

    /// Writes an event that happened at `at_us` (scenario µs since the start of the run), and gives back the record.
    /// Durable only after [`JournalWriter::sync`].
    ///
    /// # Errors
    /// When the sink fails; after that every call fails.
    pub fn append(&mut self, event: Event, at_us: u64) -> Result<Record, AppendError> {
        self.whole()?;
        let record = Record {
            seq: self.seq,
            at_us,
            prev: self.prev.clone(),
            event,
        };
        let line = line_of(&record).map_err(|source| AppendError::Json { seq: self.seq, source })?;
        if let Err(source) = self.sink.write_line(&line) {
            return Err(self.fail(self.seq, source));
        }
        self.prev = hex(&Sha256::digest(&line[..line.len() - 1]));
        self.seq += 1;
        Ok(record)
    }

    /// Makes everything durable that was appended.
    ///
    /// # Errors
    /// When the sink fails; after that every call fails: what could not be made durable may be lost although a later
    /// attempt succeeds (Linux forgets which pages it could not write), and nothing may be chained to it.
    pub fn sync(&mut self) -> Result<(), AppendError> {
        self.whole()?;
        if let Err(source) = self.sink.sync() {
            return Err(self.fail(self.seq.saturating_sub(1), source));
        }
        Ok(())
    }

    fn whole(&self) -> Result<(), AppendError> {
        match &self.broken {
            None => Ok(()),
            Some((seq, cause)) => Err(AppendError::Broken {
                seq: *seq,
                cause: cause.clone(),
            }),
        }
    }

    fn fail(&mut self, seq: u64, source: io::Error) -> AppendError {
        self.broken = Some((seq, source.to_string()));
        AppendError::Io { seq, source }
    }

    /// SHA-256 (hex) of the last line: what [`Integrity::head`] will be.
    #[must_use]
    pub fn head(&self) -> &str {
        &self.prev
    }

    /// The sink.
    pub fn into_inner(self) -> S {
        self.sink
    }
}

/// The line of a record, with its line break.
fn line_of(record: &Record) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(record)?;
    line.pop(); // the closing brace, which moves behind the checksum
    let sum = hex(&Sha256::digest(&line));
    line.extend_from_slice(SUM_KEY);
    line.extend_from_slice(sum.as_bytes());
    line.extend_from_slice(SUM_END);
    line.push(b'\n');
    Ok(line)
}

const SUM_KEY: &[u8] = b",\"sum\":\"";
const SUM_END: &[u8] = b"\"}";
const SUM_HEX: usize = 64;

/// Lower-case hexadecimal text of some bytes.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

/// A journal that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Journal {
    /// All records up to the first broken one.
    pub records: Vec<Record>,
    /// What was found out about the file.
    pub integrity: Integrity,
}

/// Whether a journal is what was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Integrity {
    /// Records that are in order.
    pub records: u64,
    /// SHA-256 (hex) of the last line that is in order; 64 zeros when there is none.
    pub head: String,
    /// First record that is not in order. Nothing behind it was read.
    pub broken: Option<BrokenRecord>,
    /// Bytes of a last line that was not finished, because the writer was killed.
    pub torn_bytes: Option<u64>,
}

impl Integrity {
    /// Every record that was finished is as it was written.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.broken.is_none()
    }
}

impl std::fmt::Display for Integrity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} records in order", self.records)?;
        if let Some(broken) = &self.broken {
            write!(
                f,
                "; record {} (line {}) is broken: {}",
                broken.seq,
                broken.seq + 1,
                broken.reason
            )?;
        }
        if let Some(bytes) = self.torn_bytes {
            write!(
                f,
                "; the last line was not finished ({bytes} bytes): the writer was stopped there"
            )?;
        }
        Ok(())
    }
}

/// A record that is not in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokenRecord {
    /// Its position in the file, from 0.
    pub seq: u64,
    /// What is wrong, for people.
    pub reason: String,
}

/// Reads a journal and checks it. Any bytes are taken; what is wrong with them is told in [`Journal::integrity`].
///
/// # Errors
/// Of the reader only.
pub fn read_journal(reader: impl BufRead) -> io::Result<Journal> {
    let mut records = Vec::new();
    let integrity = read_records(reader, |record| records.push(record))?;
    Ok(Journal { records, integrity })
}

/// Reads a journal record by record, so that a long one needs no memory. `take` gets each record that is in order.
///
/// # Errors
/// Of the reader only.
pub fn read_records(mut reader: impl BufRead, mut take: impl FnMut(Record)) -> io::Result<Integrity> {
    let mut integrity = Integrity {
        head: GENESIS.to_owned(),
        ..Integrity::default()
    };
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        if line.pop_if(|last| *last == b'\n').is_none() {
            if read as u64 == MAX_LINE {
                let reason = format!("the line is longer than {MAX_LINE} bytes");
                integrity.broken = Some(BrokenRecord {
                    seq: integrity.records,
                    reason,
                });
            } else {
                integrity.torn_bytes = Some(read as u64);
            }
            break;
        }
        match record_of(&line, integrity.records, &integrity.head) {
            Ok(record) => {
                integrity.head = hex(&Sha256::digest(&line));
                integrity.records += 1;
                take(record);
            }
            Err(reason) => {
                integrity.broken = Some(BrokenRecord {
                    seq: integrity.records,
                    reason,
                });
                break;
            }
        }
    }
    Ok(integrity)
}

/// The version of the format that a first line says it has, whatever else it holds.
fn format_of(json: &[u8]) -> Option<u64> {
    let record: serde_json::Value = serde_json::from_slice(json).ok()?;
    record.pointer("/event/run_started/format")?.as_u64()
}

/// The record of a line without its line break.
fn record_of(line: &[u8], seq: u64, prev: &str) -> Result<Record, String> {
    if line.last() == Some(&b'\r') {
        return Err(
            "the line ends with a carriage return: line endings were changed (a transfer as text does that); copy the \
             file as it is"
                .to_owned(),
        );
    }
    let tail = SUM_KEY.len() + SUM_HEX + SUM_END.len();
    let (body, tail) = line
        .len()
        .checked_sub(tail)
        .and_then(|split| line.split_at_checked(split))
        .ok_or("the line is too short for a record with a checksum")?;
    let sum = tail
        .strip_prefix(SUM_KEY)
        .and_then(|rest| rest.strip_suffix(SUM_END))
        .ok_or("the line does not end with a checksum")?;
    if sum != hex(&Sha256::digest(body)).as_bytes() {
        return Err("the checksum does not fit: the line was changed after it was written".to_owned());
    }
    let mut json = body.to_vec();
    json.push(b'}');
    // Before anything that a later format may have more of.
    if seq == 0
        && let Some(format) = format_of(&json)
        && format > u64::from(FORMAT)
    {
        return Err(format!(
            "it was written by a newer meshproof: its format is {format}, this version reads up to {FORMAT}; use that version"
        ));
    }
    let record: Record = serde_json::from_slice(&json).map_err(|error| format!("not a record: {error}"))?;
    if record.seq != seq {
        return Err(format!(
            "its number is {}, expected {seq}: a record was removed, added or moved",
            record.seq
        ));
    }
    if record.prev != prev {
        return Err("it does not continue the record before it: one of them was replaced".to_owned());
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{Interrupted, Outcome, ScenarioEnded, ScenarioSkipped};

    fn event(number: u32) -> Event {
        match number % 3 {
            0 => Event::Interrupted(Interrupted { count: number }),
            1 => Event::ScenarioSkipped(ScenarioSkipped {
                scenario: format!("s-{number}"),
                code: "capability-missing".to_owned(),
                reason: "no \"relay\"\nhere, ümlaut".to_owned(),
            }),
            _ => Event::ScenarioEnded(ScenarioEnded {
                scenario: format!("s-{number}"),
                outcome: Outcome::Pass,
            }),
        }
    }

    fn written(records: u32) -> (Vec<u8>, String) {
        let mut writer = JournalWriter::new(Vec::new());
        for number in 0..records {
            let record = writer.append(event(number), u64::from(number) * 10).unwrap();
            assert_eq!(record.seq, u64::from(number));
        }
        writer.sync().unwrap();
        let head = writer.head().to_owned();
        (writer.into_inner(), head)
    }

    #[test]
    fn what_was_written_is_read() {
        let (bytes, head) = written(5);
        let journal = read_journal(&bytes[..]).unwrap();
        let events: Vec<Event> = journal.records.iter().map(|record| record.event.clone()).collect();
        assert_eq!(events, (0..5).map(event).collect::<Vec<_>>());
        assert_eq!(journal.records[4].at_us, 40);
        assert_eq!(
            journal.integrity,
            Integrity {
                records: 5,
                head,
                broken: None,
                torn_bytes: None
            }
        );
    }

    #[test]
    fn the_first_line_continues_nothing_and_each_other_the_line_before_it() {
        let (bytes, _) = written(3);
        let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        let prev = |line: &[u8]| serde_json::from_slice::<serde_json::Value>(line).unwrap()["prev"].clone();
        assert_eq!(prev(lines[0]), GENESIS);
        assert_eq!(prev(lines[1]), hex(&Sha256::digest(lines[0])));
        assert_eq!(prev(lines[2]), hex(&Sha256::digest(lines[1])));
    }

    #[test]
    fn an_empty_file_is_a_journal_without_records() {
        let journal = read_journal(&b""[..]).unwrap();
        assert!(journal.records.is_empty() && journal.integrity.is_sound());
        assert_eq!(journal.integrity.head, GENESIS);
    }

    #[test]
    fn every_truncation_is_a_torn_line_or_an_earlier_end() {
        let (bytes, _) = written(4);
        for length in 0..bytes.len() {
            let journal = read_journal(&bytes[..length]).unwrap();
            let whole = bytes[..length].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(journal.records.len(), whole);
            assert!(journal.integrity.is_sound());
            let torn = length > 0 && bytes[length - 1] != b'\n';
            assert_eq!(journal.integrity.torn_bytes.is_some(), torn, "at {length}");
        }
    }

    /// Every byte of the file, also of its last line, changed in several ways.
    #[test]
    fn every_changed_byte_is_found() {
        let (bytes, _) = written(4);
        for position in 0..bytes.len() {
            for change in [1_u8, 0x20, 0x80, b'\n'] {
                let mut changed = bytes.clone();
                changed[position] = if change == b'\n' {
                    b'\n'
                } else {
                    changed[position] ^ change
                };
                if changed == bytes {
                    continue;
                }
                let journal = read_journal(&changed[..]).unwrap();
                let record = bytes[..position].iter().filter(|byte| **byte == b'\n').count();
                if position + 1 == bytes.len() {
                    // Without its line break the last line was not finished.
                    assert!(journal.integrity.torn_bytes.is_some());
                    assert_eq!(journal.records.len(), 3);
                } else {
                    let broken = journal.integrity.broken.expect("the change is found");
                    assert_eq!(broken.seq, record as u64, "byte {position}: {}", broken.reason);
                    assert_eq!(journal.records.len(), record);
                }
            }
        }
    }

    #[test]
    fn removed_and_swapped_lines_are_found() {
        let (bytes, _) = written(4);
        let lines: Vec<Vec<u8>> = bytes
            .split_inclusive(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        let broken = |order: &[usize]| {
            let bytes: Vec<u8> = order.iter().flat_map(|index| lines[*index].clone()).collect();
            read_journal(&bytes[..])
                .unwrap()
                .integrity
                .broken
                .map(|broken| broken.seq)
        };
        assert_eq!(broken(&[0, 1, 2, 3]), None);
        assert_eq!(broken(&[1, 2, 3]), Some(0));
        assert_eq!(broken(&[0, 2, 3]), Some(1));
        assert_eq!(broken(&[0, 2, 1, 3]), Some(1));
        assert_eq!(broken(&[0, 1, 1, 2]), Some(2));
    }

    #[test]
    fn a_wrong_number_under_a_right_chain_is_found() {
        let record = Record {
            seq: 1,
            at_us: 0,
            prev: GENESIS.to_owned(),
            event: event(0),
        };
        let broken = read_journal(&line_of(&record).unwrap()[..])
            .unwrap()
            .integrity
            .broken
            .unwrap();
        assert!(
            broken.reason.contains("its number is 1, expected 0"),
            "{}",
            broken.reason
        );
    }

    #[test]
    fn lines_of_another_journal_are_found() {
        let (bytes, _) = written(3);
        let mut other = JournalWriter::new(Vec::new());
        for number in 0..3 {
            other.append(event(number + 7), 0).unwrap();
        }
        let other = other.into_inner();
        let first = bytes.split_inclusive(|byte| *byte == b'\n').next().unwrap();
        let rest = other.split_inclusive(|byte| *byte == b'\n').skip(1).flatten();
        let mixed: Vec<u8> = first.iter().chain(rest).copied().collect();
        let broken = read_journal(&mixed[..]).unwrap().integrity.broken.unwrap();
        assert_eq!(broken.seq, 1);
        assert!(broken.reason.contains("does not continue"), "{}", broken.reason);
    }

    /// A medium that fails at a certain line.
    struct Full(usize);

    impl Sink for Full {
        fn write_line(&mut self, _: &[u8]) -> io::Result<()> {
            self.0 = self.0.checked_sub(1).ok_or_else(|| io::Error::other("no space left"))?;
            Ok(())
        }

        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn after_a_line_that_could_not_be_written_nothing_is_written() {
        let mut writer = JournalWriter::new(Full(1));
        writer.append(event(0), 0).unwrap();
        let error = writer.append(event(1), 0).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("record 1 of the journal could not be written: no space left"),
            "{error}"
        );
        let later = writer.append(event(1), 0).unwrap_err().to_string();
        assert!(
            later.contains("record 1 could not be written: no space left. Free space"),
            "{later}"
        );
    }

    /// A medium that takes lines and can't make them durable the first time.
    struct Forgetful(bool);

    impl Sink for Forgetful {
        fn write_line(&mut self, _: &[u8]) -> io::Result<()> {
            Ok(())
        }

        fn sync(&mut self) -> io::Result<()> {
            if std::mem::replace(&mut self.0, true) {
                Ok(())
            } else {
                Err(io::Error::other("the device lost a write"))
            }
        }
    }

    #[test]
    fn after_lines_that_could_not_be_made_durable_nothing_is_written() {
        let mut writer = JournalWriter::new(Forgetful(false));
        writer.append(event(0), 0).unwrap();
        writer.append(event(1), 0).unwrap();
        assert!(writer.sync().is_err());
        for error in [writer.append(event(2), 0).unwrap_err(), writer.sync().unwrap_err()] {
            assert!(
                error
                    .to_string()
                    .contains("record 1 could not be written: the device lost a write"),
                "{error}"
            );
        }
    }

    #[test]
    fn changed_line_endings_are_named() {
        let (bytes, _) = written(2);
        let text = String::from_utf8(bytes).unwrap().replace('\n', "\r\n");
        let broken = read_journal(text.as_bytes()).unwrap().integrity.broken.unwrap();
        assert!(broken.reason.contains("line endings were changed"), "{}", broken.reason);
    }

    #[test]
    fn a_journal_of_a_later_format_is_said_to_be_that() {
        let line = |format: u64| {
            let body = format!(
                r#"{{"seq":0,"at_us":0,"prev":"{GENESIS}","event":{{"run_started":{{"format":{format},"novelty":[]}}}}"#
            );
            format!("{body},\"sum\":\"{}\"}}\n", hex(&Sha256::digest(body.as_bytes())))
        };
        let reason = |format: u64| {
            let journal = read_journal(line(format).as_bytes()).unwrap();
            journal.integrity.broken.unwrap().reason
        };
        assert!(
            reason(99).contains("written by a newer meshproof: its format is 99"),
            "{}",
            reason(99)
        );
        assert!(reason(1).contains("not a record"), "{}", reason(1));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let journal = read_journal(&bytes[..]).unwrap();
            prop_assert!(journal.records.is_empty());
        }

        #[test]
        fn journals_with_garbage_inside_are_read_up_to_it(
            position in 0_usize..2000,
            garbage in prop::collection::vec(any::<u8>(), 1..50),
        ) {
            let (bytes, _) = written(4);
            let position = position % bytes.len();
            let mut changed = bytes.clone();
            changed.splice(position..position, garbage);
            let journal = read_journal(&changed[..]).unwrap();
            let whole = bytes[..position].iter().filter(|byte| **byte == b'\n').count();
            prop_assert_eq!(journal.records.len(), whole);
            prop_assert!(journal.integrity.broken.is_some() || journal.integrity.torn_bytes.is_some());
        }
    }
}
