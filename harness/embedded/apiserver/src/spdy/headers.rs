//! Blocks of headers: names and values, compressed as one zlib stream for each direction of a connection.

use bytes::Bytes;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use std::collections::BTreeMap;

/// Names and values of a stream.
pub(crate) type Headers = BTreeMap<String, String>;

/// Largest block, decompressed. Kubernetes' clients send some 60 bytes.
const MAX_BLOCK: usize = 16 * 1024;
/// Window of the compression.
const WINDOW: usize = 32 * 1024;
/// Begin of a zlib stream: method and flags, of which one says that a dictionary is meant, and that dictionary's checksum.
const DICTIONARY_FLAG: u8 = 0x20;

/// The words that every compressor knows beforehand (section 2.6.10.1): first these, each behind its length …
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age \
    allow authorization cache-control connection content-base content-encoding content-language content-length \
    content-location content-md5 content-range content-type date etag expect expires from host if-match if-modified-since \
    if-none-match if-range if-unmodified-since last-modified location max-forwards pragma proxy-authenticate \
    proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade user-agent vary via warning \
    www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie keep-alive origin";
/// … then this text.
const TEXT: &str = "10010120120220520630030230330430530630740240540640740840941041141241341441541641750250450\
    5203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden\
    404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable\
    Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT\
    chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,\
    publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

fn dictionary() -> Vec<u8> {
    let mut all = Vec::new();
    for word in WORDS.split_whitespace() {
        push(&mut all, &word.replace('_', " "));
    }
    all.extend_from_slice(TEXT.as_bytes());
    all
}

fn push(block: &mut Vec<u8>, text: &str) {
    block.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    block.extend_from_slice(text.as_bytes());
}

/// Why a block can't be read. The connection can't be understood any further then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("a block of headers is not compressed as zlib does")]
    Compression,
    #[error("a block of headers is larger than {MAX_BLOCK} bytes")]
    TooLarge,
    #[error("a block of headers ends too early")]
    Truncated,
}

/// Reads the blocks of one direction, in order.
pub(super) struct Reader {
    state: Box<DecompressorOxide>,
    window: Box<[u8]>,
    at: usize,
    begun: bool,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            state: Box::default(),
            window: vec![0; WINDOW].into_boxed_slice(),
            at: 0,
            begun: false,
        }
    }

    /// The headers in the next block.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<Headers, HeaderError> {
        let compressed = if self.begun { block } else { self.begin(block)? };
        parse(&self.inflate(compressed)?)
    }

    /// Takes the head of the zlib stream off its first block. The dictionary is as good as text that came before.
    fn begin<'a>(&mut self, block: &'a [u8]) -> Result<&'a [u8], HeaderError> {
        let (head, rest) = block.split_at_checked(2).ok_or(HeaderError::Truncated)?;
        if head[0] & 0x0f != 8 || u16::from_be_bytes([head[0], head[1]]) % 31 != 0 {
            return Err(HeaderError::Compression);
        }
        self.begun = true;
        if head[1] & DICTIONARY_FLAG == 0 {
            return Ok(rest);
        }
        let words = dictionary();
        self.window[..words.len()].copy_from_slice(&words);
        self.at = words.len();
        let (_checksum, rest) = rest.split_at_checked(4).ok_or(HeaderError::Truncated)?;
        Ok(rest)
    }

    fn inflate(&mut self, mut compressed: &[u8]) -> Result<Vec<u8>, HeaderError> {
        let mut plain = Vec::new();
        loop {
            let (status, read, written) = decompress(
                &mut self.state,
                compressed,
                &mut self.window,
                self.at,
                TINFL_FLAG_HAS_MORE_INPUT,
            );
            compressed = compressed.get(read..).unwrap_or_default();
            plain.extend_from_slice(self.window.get(self.at..self.at + written).unwrap_or_default());
            self.at = (self.at + written) % WINDOW;
            if plain.len() > MAX_BLOCK {
                return Err(HeaderError::TooLarge);
            }
            match status {
                TINFLStatus::NeedsMoreInput if compressed.is_empty() => return Ok(plain),
                TINFLStatus::HasMoreOutput => {}
                // An end of the stream would be one of the connection.
                _ => return Err(HeaderError::Compression),
            }
        }
    }
}

fn parse(block: &[u8]) -> Result<Headers, HeaderError> {
    let mut rest = block;
    let number = |rest: &mut &[u8]| -> Result<usize, HeaderError> {
        let (bytes, more) = rest.split_first_chunk::<4>().ok_or(HeaderError::Truncated)?;
        *rest = more;
        usize::try_from(u32::from_be_bytes(*bytes)).map_err(|_| HeaderError::TooLarge)
    };
    let text = |rest: &mut &[u8]| -> Result<String, HeaderError> {
        let size = number(rest)?;
        let (bytes, more) = rest.split_at_checked(size).ok_or(HeaderError::Truncated)?;
        *rest = more;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    };
    let mut headers = Headers::new();
    for _ in 0..number(&mut rest)? {
        let name = text(&mut rest)?.to_lowercase();
        let value = text(&mut rest)?;
        headers.insert(name, value);
    }
    Ok(headers)
}

/// The empty blocks of this side's replies: stored as they are, which every decompressor reads.
#[derive(Default)]
pub(super) struct EmptyBlocks {
    begun: bool,
}

impl EmptyBlocks {
    pub(super) fn next(&mut self) -> Bytes {
        // The head of a stored block of 4 bytes, which say that there is no header; then the empty block of a flush, without which
        // Go's decompressor waits for more.
        const STORED: [u8; 14] = [0, 4, 0, !4, !0, 0, 0, 0, 0, 0, 0, 0, !0, !0];
        if std::mem::replace(&mut self.begun, true) {
            return Bytes::from_static(&STORED);
        }
        Bytes::from([&[0x78, 0x01], &STORED[..]].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What zlib itself makes of the headers that kubectl sends, with the dictionary.
    const ERROR_STREAM: &str =
        "78f9e3c6a7c202253a48f95b044aab4c16064092b308125b99a054cc68004e872545a989b9d0a2863515141100000000ffff";
    const DATA_STREAM: &str = "224b2ba8944a04000000ffff";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
            .collect()
    }

    fn headers(kind: &str) -> Headers {
        [("port", "80"), ("requestid", "0"), ("streamtype", kind)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn the_dictionary_is_the_one_of_the_specification() {
        let words = dictionary();
        let (a, b) = words.iter().fold((1_u32, 0_u32), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65521;
            (a, (b + a) % 65521)
        });
        assert_eq!((words.len(), b << 16 | a), (1423, 0xe3c6_a7c2));
    }

    #[test]
    fn blocks_of_a_client_are_read_in_order() {
        let mut reader = Reader::new();
        assert_eq!(reader.read(&bytes(ERROR_STREAM)), Ok(headers("error")));
        assert_eq!(reader.read(&bytes(DATA_STREAM)), Ok(headers("data")));
    }

    #[test]
    fn our_own_blocks_are_read_as_empty() {
        let (mut reader, mut blocks) = (Reader::new(), EmptyBlocks::default());
        for _ in 0..3 {
            assert_eq!(reader.read(&blocks.next()), Ok(Headers::new()));
        }
    }

    #[test]
    fn a_small_block_can_not_become_a_large_one() {
        let mut reader = Reader::new();
        let plain = vec![0; 1 << 20];
        let bomb = miniz_oxide::deflate::compress_to_vec_zlib(&plain, 9);
        assert!(bomb.len() < 4096);
        assert_eq!(reader.read(&bomb), Err(HeaderError::TooLarge));
    }

    #[test]
    fn long_connections_wrap_the_window() {
        let (mut reader, mut begun) = (Reader::new(), false);
        for number in 0..2000 {
            let mut plain = 1_u32.to_be_bytes().to_vec();
            push(&mut plain, "requestid");
            push(&mut plain, &format!("{number:060}"));
            let size = u16::try_from(plain.len()).unwrap();
            let mut block = if std::mem::replace(&mut begun, true) {
                vec![]
            } else {
                vec![0x78, 0x01]
            };
            block.push(0);
            block.extend_from_slice(&size.to_le_bytes());
            block.extend_from_slice(&(!size).to_le_bytes());
            block.extend_from_slice(&plain);
            assert_eq!(reader.read(&block).unwrap()["requestid"], format!("{number:060}"));
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 1..4)) {
            let mut reader = Reader::new();
            for (number, mut block) in blocks.into_iter().enumerate() {
                if number == 0 {
                    block.splice(0..0, [0x78, 0xbb]);
                }
                if reader.read(&block).is_err() {
                    break;
                }
            }
            let _ = parse(&[0, 0, 0, 9, 0xff, 0xff, 0xff, 0xff]);
        }
    }
}
