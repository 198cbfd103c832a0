//! Reading the file of a ledger: one [`Row`] a line.

use std::io::{self, BufRead, Read};

use sha2::{Digest, Sha256};

use crate::journal::{MAX_LINE, hex};
use crate::ledger::Row;

/// A ledger file that was read to its end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LedgerFile {
    /// Rows up to the first line that is none.
    pub rows: Vec<Row>,
    /// SHA-256 (hex) of the whole file.
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
pub fn read_ledger(mut reader: impl BufRead) -> io::Result<LedgerFile> {
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
        let finished = line.pop_if(|last| *last == b'\n').is_some();
        if file.broken.is_some() {
            continue;
        }
        if !finished && (read as u64) < MAX_LINE {
            file.torn_bytes = Some(read as u64);
            continue;
        }
        match serde_json::from_slice(&line) {
            Ok(row) => file.rows.push(row),
            Err(error) => file.broken = Some((number, format!("not a row of a ledger: {error}"))),
        }
    }
    file.sha256 = hex(&digest.finalize());
    Ok(file)
}
