//! Which protocol a connection speaks, told by its first bytes.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::Instant;

/// What an HTTP/2 client says first.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// No request line is longer.
const LONGEST_REQUEST_LINE: usize = 8 * 1024;
/// First byte of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// A protocol that a proxy distinguishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
    Opaque,
}

/// How detection ended, as metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Http1,
    Http2,
    NotHttp,
    ReadTimeout,
}

impl Outcome {
    pub(super) fn protocol(self) -> Protocol {
        match self {
            Self::Http1 => Protocol::Http1,
            Self::Http2 => Protocol::Http2,
            Self::NotHttp | Self::ReadTimeout => Protocol::Opaque,
        }
    }

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Http1 => "http/1",
            Self::Http2 => "http/2",
            Self::NotHttp => "not_http",
            Self::ReadTimeout => "read_timeout",
        }
    }
}

/// Judges the first bytes; `None` when they do not suffice.
fn judge(bytes: &[u8]) -> Option<Outcome> {
    let length = bytes.len().min(HTTP2_PREFACE.len());
    if bytes.get(..length) == HTTP2_PREFACE.get(..length) {
        return (length == HTTP2_PREFACE.len()).then_some(Outcome::Http2);
    }
    let line_end = bytes.windows(2).position(|pair| pair == b"\r\n");
    if let Some(line) = line_end.and_then(|end| bytes.get(..end)) {
        let is_http = line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0");
        return Some(if is_http { Outcome::Http1 } else { Outcome::NotHttp });
    }
    let plausible = |byte: &u8| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\r');
    if bytes.len() > LONGEST_REQUEST_LINE || !bytes.iter().all(plausible) {
        return Some(Outcome::NotHttp);
    }
    None
}

/// Reads until the protocol is known, the peer ends its side, or `timeout` has passed. Gives back what was read.
pub(super) async fn detect<S: AsyncRead + Unpin>(
    stream: &mut S,
    read: Bytes,
    timeout: Duration,
) -> io::Result<(Outcome, Bytes)> {
    let deadline = Instant::now() + timeout;
    let mut buffer = BytesMut::from(read.as_ref());
    loop {
        if !buffer.is_empty()
            && let Some(outcome) = judge(&buffer)
        {
            return Ok((outcome, buffer.freeze()));
        }
        match tokio::time::timeout_at(deadline, stream.read_buf(&mut buffer)).await {
            Err(_) => return Ok((Outcome::ReadTimeout, buffer.freeze())),
            Ok(Ok(0)) => return Ok((Outcome::NotHttp, buffer.freeze())),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
        }
    }
}

/// Whether a TLS handshake begins, and for which server name. Waits for the first bytes until `timeout` has passed.
pub(super) async fn detect_tls<S: AsyncRead + Unpin>(
    stream: &mut S,
    timeout: Duration,
) -> io::Result<(Option<String>, Bytes)> {
    let deadline = Instant::now() + timeout;
    let mut buffer = BytesMut::with_capacity(2048);
    let mut acceptor = rustls::server::Acceptor::default();
    let mut fed = 0;
    loop {
        match tokio::time::timeout_at(deadline, stream.read_buf(&mut buffer)).await {
            Err(_) | Ok(Ok(0)) => return Ok((None, buffer.freeze())),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
        }
        if buffer.first() != Some(&TLS_HANDSHAKE) {
            return Ok((None, buffer.freeze()));
        }
        while let Some(mut rest) = buffer.get(fed..).filter(|rest| !rest.is_empty()) {
            fed += acceptor.read_tls(&mut rest)?;
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let name = accepted.client_hello().server_name().map(str::to_owned);
                return Ok((name, buffer.freeze()));
            }
            Err(_) => return Ok((None, buffer.freeze())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{HTTP2_PREFACE, Outcome, detect, judge};
    use bytes::Bytes;
    use rstest::rstest;
    use std::time::Duration;
    use tokio::io::AsyncWriteExt;

    #[rstest]
    #[case(HTTP2_PREFACE, Some(Outcome::Http2))]
    #[case(b"PRI * HT", None)]
    #[case(b"GET / HTTP/1.1\r\nHost: x\r\n", Some(Outcome::Http1))]
    #[case(b"GET / HTTP/1.0\r\n", Some(Outcome::Http1))]
    #[case(b"GET / HT", None)]
    #[case(b"HELO mail\r\n", Some(Outcome::NotHttp))]
    #[case(b"\x00\x01\x02", Some(Outcome::NotHttp))]
    #[case(b"PING\n", Some(Outcome::NotHttp))]
    fn first_bytes(#[case] bytes: &[u8], #[case] expected: Option<Outcome>) {
        assert_eq!(judge(bytes), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_opaque_after_the_timeout() {
        let (_client, mut server) = tokio::io::duplex(64);
        let (outcome, read) = detect(&mut server, Bytes::new(), Duration::from_secs(10))
            .await
            .unwrap();
        assert_eq!((outcome, read.len()), (Outcome::ReadTimeout, 0));
    }

    #[tokio::test]
    async fn what_was_read_is_given_back() {
        let (mut client, mut server) = tokio::io::duplex(64);
        client.write_all(b"GET / HT").await.unwrap();
        let rest = tokio::spawn(async move {
            client.write_all(b"TP/1.1\r\nHost").await.unwrap();
            client
        });
        let (outcome, read) = detect(&mut server, Bytes::new(), Duration::from_secs(10))
            .await
            .unwrap();
        assert_eq!(outcome, Outcome::Http1);
        assert_eq!(read, &b"GET / HTTP/1.1\r\nHost"[..read.len()]);
        drop(rest.await);
    }
}
