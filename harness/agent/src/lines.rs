//! Reading lines of bounded length from a byte stream.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Reads up to and without the next line feed. `None` at the end of the stream, also in the middle of a line.
///
/// # Errors
/// `InvalidData` when the line is longer than `limit` bytes; otherwise what the stream says.
pub(crate) async fn read_line<R>(reader: &mut R, limit: usize) -> io::Result<Option<Vec<u8>>>
where
    R: AsyncBufRead + Unpin,
{
    let mut line = Vec::new();
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            return Ok(None);
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(available.len());
        if line.len() + taken > limit {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a line is longer than {limit} bytes"),
            ));
        }
        line.extend_from_slice(&available[..taken]);
        reader.consume(taken + usize::from(end.is_some()));
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::BufReader;

    #[tokio::test]
    async fn lines_are_split_and_bounded() {
        // A buffer of three bytes makes every line span several reads.
        let mut reader = BufReader::with_capacity(3, &b"abcdefg\n\nhi\nunfinished"[..]);
        assert_eq!(read_line(&mut reader, 7).await.unwrap(), Some(b"abcdefg".to_vec()));
        assert_eq!(read_line(&mut reader, 7).await.unwrap(), Some(Vec::new()));
        assert_eq!(read_line(&mut reader, 7).await.unwrap(), Some(b"hi".to_vec()));
        assert_eq!(read_line(&mut reader, 70).await.unwrap(), None);

        let mut reader = BufReader::new(&b"abcdefgh\n"[..]);
        let error = read_line(&mut reader, 7).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
