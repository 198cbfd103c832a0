//! Reading the file of a ledger: one [`Row`] a line.

use std::io::{self, BufRead, Read};

use sha2::{Digest, Sha256};

use crate::journal::hex;
use crate::ledger::Row;

/// Longest row that is read, bytes: a client records few headers, and servers take no long ones.
pub const MAX_LINE: u64 = 1024 * 1024;
/// Most bytes that are read of one file: rows of weeks.
pub const MAX_FILE: u64 = 4 * 1024 * 1024 * 1024;

/// A ledger file that was read to its end, or to the first line that is no row: what follows that is not worth the reading,
/// and may be without end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LedgerFile {
    /// Rows up to the first line that is none.
    pub rows: Vec<Row>,
    /// SHA-256 (hex) of what was read: of the whole file, unless it is broken.
    pub sha256: String,
    /// First line that is no row (from 1), and why. A last line without line break is not reported here.
    pub broken: Option<(u64, String)>,
    /// Bytes of a last line that was not finished, because the writer was killed.
    pub torn_bytes: Option<u64>,
}

/// Reads a ledger file. Any bytes are taken.
///
/// # Errors
/// Of the reader only.
pub fn read_ledger(reader: impl BufRead) -> io::Result<LedgerFile> {
    read_up_to(reader, MAX_FILE)
}

fn read_up_to(mut reader: impl BufRead, most: u64) -> io::Result<LedgerFile> {
    let mut left = most;
    let mut file = LedgerFile::default();
    let mut digest = Sha256::new();
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        digest.update(&line);
        number += 1;
        left = left.saturating_sub(read as u64);
        if left == 0 {
            file.broken = Some((number, format!("the file is larger than {most} bytes")));
            break;
        }
        let finished = line.pop_if(|last| *last == b'\n').is_some();
        if !finished && (read as u64) < MAX_LINE {
            file.torn_bytes = Some(read as u64);
            break;
        }
        if line.last() == Some(&b'\r') {
            file.broken = Some((
                number,
                "line endings were changed (a transfer as text does that)".to_owned(),
            ));
            break;
        }
        match serde_json::from_slice(&line) {
            Ok(row) => file.rows.push(row),
            Err(error) => {
                file.broken = Some((number, format!("not a row of a ledger: {error}")));
                break;
            }
        }
    }
    file.sha256 = hex(&digest.finalize());
    Ok(file)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::RequestResult;

    fn row(number: u64) -> Row {
        Row {
            id: format!("r-{number}"),
            intended_us: number,
            started_us: number,
            ended_us: number + 1,
            client: "west/shop/c".to_owned(),
            connection: 0,
            result: RequestResult::Failed {
                kind: "closed".to_owned(),
                detail: "x".to_owned(),
            },
        }
    }

    fn file(rows: u64) -> Vec<u8> {
        (0..rows)
            .flat_map(|number| {
                let mut line = serde_json::to_vec(&row(number)).unwrap();
                line.push(b'\n');
                line
            })
            .collect()
    }

    #[test]
    fn rows_and_digest_are_read() {
        let bytes = file(3);
        let read = read_ledger(&bytes[..]).unwrap();
        assert_eq!(read.rows, (0..3).map(row).collect::<Vec<_>>());
        assert_eq!(read.sha256, hex(&Sha256::digest(&bytes)));
        assert_eq!((read.broken, read.torn_bytes), (None, None));
    }

    #[test]
    fn a_torn_line_is_no_row() {
        let mut bytes = file(3);
        bytes.truncate(bytes.len() - 5);
        let read = read_ledger(&bytes[..]).unwrap();
        assert_eq!((read.rows.len(), read.broken), (2, None));
        assert!(read.torn_bytes.is_some());
        assert_eq!(read.sha256, hex(&Sha256::digest(&bytes)));
    }

    #[test]
    fn a_line_that_is_no_row_ends_the_reading() {
        let mut bytes = file(1);
        bytes.extend_from_slice(b"{}\n");
        // A file that never ends: a link to a device, or one that is all holes.
        let endless = io::BufReader::new(bytes.chain(io::repeat(0)));
        let read = read_ledger(endless).unwrap();
        assert_eq!((read.rows.len(), read.broken.map(|(line, _)| line)), (1, Some(2)));
    }

    #[test]
    fn a_file_of_rows_without_end_is_left() {
        let bytes = file(1);
        let endless = io::BufReader::new(Repeated { bytes: &bytes, at: 0 });
        let read = read_up_to(endless, 10 * bytes.len() as u64).unwrap();
        let (line, reason) = read.broken.unwrap();
        assert_eq!((read.rows.len(), line), (9, 10));
        assert!(reason.contains("larger than"), "{reason}");
    }

    /// The same bytes for ever.
    struct Repeated<'a> {
        bytes: &'a [u8],
        at: usize,
    }

    impl Read for Repeated<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            for byte in buffer.iter_mut() {
                *byte = self.bytes[self.at];
                self.at = (self.at + 1) % self.bytes.len();
            }
            Ok(buffer.len())
        }
    }

    #[test]
    fn changed_line_endings_are_named() {
        let text = String::from_utf8(file(2)).unwrap().replace('\n', "\r\n");
        let (line, reason) = read_ledger(text.as_bytes()).unwrap().broken.unwrap();
        assert!(line == 1 && reason.contains("line endings"), "{reason}");
    }

    #[test]
    fn a_line_without_end_is_no_row_and_takes_no_memory() {
        let endless = io::BufReader::new(io::repeat(b'x').take(3 * MAX_LINE));
        let read = read_ledger(endless).unwrap();
        assert_eq!((read.rows.len(), read.broken.map(|(line, _)| line)), (0, Some(1)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let read = read_ledger(&bytes[..]).unwrap();
            prop_assert!(read.broken.is_some() || read.sha256 == hex(&Sha256::digest(&bytes)));
        }
    }
}
