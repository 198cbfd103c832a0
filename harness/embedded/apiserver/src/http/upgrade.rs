//! Upgrades of a connection to streams: which way of carrying them a client and this server have in common.
//!
//! Kubernetes' clients know three: SPDY/3.1 (all versions), WebSocket messages that each begin with the number of a channel
//! (kube-rs, browsers, kubectl since 1.31 for `exec`), and SPDY inside of a WebSocket (kubectl since 1.31 for `port-forward`).

use super::body::{self, Body};
use crate::Status;
use crate::spdy::{self, Opened};
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderName, Response, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

/// Where SPDY's clients say what their streams mean.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const SPDY: &str = "SPDY/3.1";
/// Largest message that is taken from a client.
const MESSAGE_LIMIT: usize = 4 * 1024 * 1024;
/// Bytes that wait between a WebSocket and the SPDY in it.
const TUNNEL: usize = 64 * 1024;
/// How long a client may take to answer a close.
pub(crate) const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection whose messages carry channels.
pub(crate) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// What a request can be upgraded to.
pub(crate) struct Offer {
    /// What is to be done, for messages.
    pub(crate) what: &'static str,
    /// Subprotocols of WebSocket, best first.
    pub(crate) channels: &'static [&'static str],
    /// Meanings of SPDY's streams, best first.
    pub(crate) streams: &'static [&'static str],
    /// Subprotocol of WebSocket that carries SPDY.
    pub(crate) tunnel: Option<&'static str>,
}

/// How the streams will be carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// Numbered messages.
    Channels,
    /// SPDY on the connection itself.
    Spdy,
    /// SPDY in a WebSocket.
    Tunnel,
}

/// What a client and this server have in common, and the answer that says so.
#[derive(Debug)]
pub(crate) struct Agreed {
    pub(crate) carrier: Carrier,
    pub(crate) response: Response<Body>,
}

impl Offer {
    /// Chooses what a client wants first and this server knows.
    ///
    /// # Errors
    /// 400, with what is spoken here.
    pub(crate) fn agree(&self, headers: &HeaderMap) -> Result<Agreed, Status> {
        let upgrade = first(headers, &UPGRADE);
        if upgrade.eq_ignore_ascii_case(SPDY) {
            let wanted = all(headers, &STREAM_PROTOCOL);
            let Some(protocol) = self.streams.iter().find(|known| wanted.contains(*known)) else {
                return Err(self.unknown("stream protocols", &wanted, self.streams));
            };
            return Ok(Agreed {
                carrier: Carrier::Spdy,
                response: switching(&[(UPGRADE, SPDY), (STREAM_PROTOCOL, protocol)]),
            });
        }
        if !upgrade.eq_ignore_ascii_case("websocket") {
            return Err(Status::bad_request(format!(
                "Upgrade request required: {} needs an upgrade to a WebSocket or to {SPDY}, over HTTP/1.1",
                self.what
            )));
        }
        let wanted = all(headers, &SEC_WEBSOCKET_PROTOCOL);
        let known: Vec<&'static str> = self.channels.iter().copied().chain(self.tunnel).collect();
        let Some(protocol) = wanted
            .iter()
            .find_map(|wanted| known.iter().find(|known| *known == wanted))
        else {
            return Err(self.unknown("WebSocket subprotocols", &wanted, &known));
        };
        let key = derive_accept_key(first(headers, &SEC_WEBSOCKET_KEY).as_bytes());
        Ok(Agreed {
            carrier: if self.tunnel == Some(*protocol) {
                Carrier::Tunnel
            } else {
                Carrier::Channels
            },
            response: switching(&[
                (UPGRADE, "websocket"),
                (SEC_WEBSOCKET_PROTOCOL, protocol),
                (SEC_WEBSOCKET_ACCEPT, &key),
            ]),
        })
    }

    fn unknown(&self, what: &str, wanted: &[&str], known: &[&str]) -> Status {
        Status::bad_request(format!(
            "unsupported {what} {wanted:?}: {} speaks {}",
            self.what,
            known.join(" and ")
        ))
    }
}

fn first<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// The values of a header that may be repeated, or hold several.
fn all<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).collect()
}

fn switching(more: &[(HeaderName, &str)]) -> Response<Body> {
    let mut response = body::full(101, "", Bytes::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.clear();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    for (name, value) in more {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    response
}

/// The connection as a WebSocket.
pub(crate) async fn socket(upgraded: Upgraded) -> Socket {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_LIMIT))
        .max_frame_size(Some(MESSAGE_LIMIT));
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await
}

/// Clients take an end without this code for a breakdown.
fn goodbye_frame() -> CloseFrame {
    CloseFrame {
        code: CloseCode::Normal,
        reason: Utf8Bytes::default(),
    }
}

/// Says goodbye on every layer, so that the client sees an end and no breakdown.
pub(crate) async fn close(sink: SplitSink<Socket, Message>, source: SplitStream<Socket>) {
    let Ok(mut socket) = sink.reunite(source) else { return };
    let goodbye = async {
        // Errors mean that the client is gone already.
        let _ = socket.close(Some(goodbye_frame())).await;
        while let Some(Ok(_)) = socket.next().await {}
        let _ = socket.get_mut().shutdown().await;
    };
    let _ = tokio::time::timeout(GOODBYE_TIMEOUT, goodbye).await;
}

/// Serves the streams of SPDY in a WebSocket.
pub(crate) async fn tunnelled<F: Future<Output = ()>>(
    upgraded: Upgraded,
    user: impl FnOnce(mpsc::Receiver<Opened>) -> F,
) {
    let (mut sink, mut source) = socket(upgraded).await.split();
    let (near, far) = tokio::io::duplex(TUNNEL);
    let (mut from_session, mut to_session) = tokio::io::split(far);
    let mut inward = pin!(async move {
        while let Some(Ok(message)) = source.next().await {
            match message {
                Message::Binary(bytes) if to_session.write_all(&bytes).await.is_err() => break,
                Message::Close(_) => break,
                _ => {}
            }
        }
        let _ = to_session.shutdown().await;
    });
    let outward = async move {
        let mut buffer = vec![0; TUNNEL];
        while let Ok(n @ 1..) = from_session.read(&mut buffer).await {
            let message = Message::binary(Bytes::copy_from_slice(&buffer[..n]));
            if sink.send(message).await.is_err() {
                return;
            }
        }
        // The client may be gone already, which is what is wanted.
        let _ = sink.send(Message::Close(Some(goodbye_frame()))).await;
        let _ = sink.close().await;
    };
    let mut session = pin!(async { tokio::join!(spdy::serve(near, user), outward) });
    tokio::select! {
        _ = &mut session => {
            let _ = tokio::time::timeout(GOODBYE_TIMEOUT, inward).await;
        }
        () = &mut inward => {
            session.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const OFFER: Offer = Offer {
        what: "port-forward",
        channels: &["v5.channel.k8s.io", "v4.channel.k8s.io"],
        streams: &["portforward.k8s.io"],
        tunnel: Some("SPDY/3.1+portforward.k8s.io"),
    };

    fn agree(pairs: &[(&'static str, &'static str)]) -> Result<Agreed, Status> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        OFFER.agree(&headers)
    }

    #[rstest]
    #[case(&[("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", "portforward.k8s.io")], Carrier::Spdy, "portforward.k8s.io")]
    #[case(&[("upgrade", "websocket"), ("sec-websocket-protocol", "v4.channel.k8s.io")], Carrier::Channels, "v4.channel.k8s.io")]
    #[case(&[("upgrade", "WebSocket"), ("sec-websocket-protocol", "x, v5.channel.k8s.io, v4.channel.k8s.io")], Carrier::Channels, "v5.channel.k8s.io")]
    #[case(&[("upgrade", "websocket"), ("sec-websocket-protocol", "SPDY/3.1+portforward.k8s.io")], Carrier::Tunnel, "SPDY/3.1+portforward.k8s.io")]
    fn the_first_that_both_know_is_taken(
        #[case] pairs: &[(&'static str, &'static str)],
        #[case] carrier: Carrier,
        #[case] protocol: &str,
    ) {
        let agreed = agree(pairs).unwrap();
        assert_eq!((agreed.carrier, agreed.response.status().as_u16()), (carrier, 101));
        let told = agreed.response.headers();
        let told = told.get(STREAM_PROTOCOL).or_else(|| told.get(SEC_WEBSOCKET_PROTOCOL));
        assert_eq!(told.unwrap(), protocol);
    }

    #[rstest]
    #[case(&[], "Upgrade request required")]
    #[case(&[("upgrade", "h2c")], "Upgrade request required")]
    #[case(&[("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", "v9")], "port-forward speaks portforward.k8s.io")]
    #[case(&[("upgrade", "websocket")], "v4.channel.k8s.io and SPDY/3.1+portforward.k8s.io")]
    fn what_nobody_knows_is_refused_in_words(#[case] pairs: &[(&'static str, &'static str)], #[case] expected: &str) {
        let refused = agree(pairs).unwrap_err();
        assert_eq!(refused.code, 400);
        assert!(refused.message.contains(expected), "{}", refused.message);
    }
}
