//! What a proxy says to another proxy's inbound port before the traffic itself.
//!
//! The real proxies send a protobuf message; the model's framing is its own: a four-byte big-endian length, then JSON with the
//! fields of [`TransportHeader`]. Both come after the TLS handshake and are announced by ALPN.

use std::io;

use bytes::{BufMut, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest header that is accepted.
const LONGEST: usize = 4 * 1024;
/// What precedes a header that is sent without TLS; only a defective proxy sends or accepts one.
pub(super) const UNENCRYPTED_PREFACE: &[u8] = b"transport.l5d.io/v1 plaintext\r\n";

/// Protocol of the traffic that follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum SessionProtocol {
    /// HTTP/2; it also carries HTTP/1 requests, marked by a header.
    #[serde(rename = "http/2")]
    Http2,
    /// HTTP/1; only a defective proxy sends it without HTTP/2 around it.
    #[serde(rename = "http/1")]
    Http1,
    /// Any bytes.
    #[serde(rename = "")]
    Opaque,
}

impl SessionProtocol {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Http2 => "http/2",
            Self::Http1 => "http/1",
            Self::Opaque => "",
        }
    }
}

/// The target of a connection between proxies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TransportHeader {
    /// Name of the target Service; absent when the connection is for the pod itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// Port of the Service, or of the pod.
    pub(super) port: u16,
    /// What follows.
    pub(super) protocol: SessionProtocol,
    /// Identity of the client, where no certificate can tell it; only a defective proxy says or believes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) client: Option<String>,
    /// Version of the proxy that sends it; only a defective proxy says it or minds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<String>,
}

impl TransportHeader {
    /// Sends the header.
    pub(super) async fn write<S: AsyncWrite + Unpin>(&self, stream: &mut S) -> io::Result<()> {
        let json = serde_json::to_vec(self)?;
        let mut frame = BytesMut::with_capacity(json.len() + 4);
        frame.put_u32(u32::try_from(json.len()).map_err(io::Error::other)?);
        frame.put_slice(&json);
        stream.write_all(&frame).await?;
        stream.flush().await
    }

    /// Receives a header, and not a byte more.
    pub(super) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Self> {
        let invalid = |problem: String| io::Error::new(io::ErrorKind::InvalidData, problem);
        let length = usize::try_from(stream.read_u32().await?).unwrap_or(usize::MAX);
        if length > LONGEST {
            return Err(invalid(format!(
                "a transport header of {length} bytes; at most {LONGEST} are accepted"
            )));
        }
        let mut json = vec![0; length];
        stream.read_exact(&mut json).await?;
        serde_json::from_slice(&json).map_err(|error| invalid(format!("no transport header: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::{SessionProtocol, TransportHeader};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_header_arrives_and_leaves_what_follows() {
        let (mut a, mut b) = tokio::io::duplex(1024);
        let header = TransportHeader {
            name: Some("echo.lab.svc.cluster.local".into()),
            port: 8080,
            protocol: SessionProtocol::Http2,
            client: None,
            version: None,
        };
        header.write(&mut a).await.unwrap();
        a.write_all(b"after").await.unwrap();
        drop(a);
        assert_eq!(TransportHeader::read(&mut b).await.unwrap(), header);
        let mut rest = String::new();
        b.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "after");
    }

    #[tokio::test]
    async fn a_header_that_is_too_long_is_refused_before_it_is_read() {
        let (mut a, mut b) = tokio::io::duplex(64);
        a.write_u32(1 << 30).await.unwrap();
        let error = TransportHeader::read(&mut b).await.unwrap_err();
        assert!(error.to_string().contains("at most"), "{error}");
    }
}
