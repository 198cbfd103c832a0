//! Connections of a job: opened through the agent's network, one request at a time or many.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio_util::task::AbortOnDropHandle;

use super::outcome::{Failure, Reply};
use super::request::Template;
use crate::lines::read_line;
use crate::network::{BoxedStream, Network};
use crate::protocol::{FailureKind, Protocol};

/// Longest answer in bytes. An agent's answer repeats the request's headers and little else.
const MAX_ANSWER: usize = 1024 * 1024;

/// What an exchange on an open connection can end with, apart from a reply.
pub(crate) enum ExchangeError {
    /// The connection had already failed, and nothing of the request was written to it.
    NotSent(Failure),
    /// The request was sent, at least in part.
    Failed(Failure),
}

/// Opens connections to the job's target and numbers them.
pub(crate) struct Opener {
    pub(crate) network: Arc<dyn Network>,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    numbers: AtomicU32,
}

impl Opener {
    pub(crate) fn new(network: Arc<dyn Network>, host: String, port: u16, protocol: Protocol) -> Self {
        Self {
            network,
            host,
            port,
            protocol,
            numbers: AtomicU32::new(0),
        }
    }

    /// The number of the connection that will be tried next, from 0 in order of opening.
    pub(crate) fn next_number(&self) -> u32 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    async fn connect(&self) -> Result<BoxedStream, Failure> {
        self.network
            .connect(&self.host, self.port)
            .await
            .map_err(|error| Failure::connecting(&error))
    }

    /// Opens a connection that carries one request at a time.
    pub(crate) async fn open_sequential(&self) -> Result<Sequential, Failure> {
        let stream = self.connect().await?;
        match self.protocol {
            Protocol::Tcp => Ok(Sequential::Tcp(BufStream::new(stream))),
            Protocol::Http1 | Protocol::Http2 => {
                let (sender, connection) = http1::handshake(TokioIo::new(stream))
                    .await
                    .map_err(|error| Failure::http(&error))?;
                // How the connection ends is told to the requests on it.
                let task = tokio::spawn(connection.map(drop));
                Ok(Sequential::Http(Http1 {
                    sender,
                    _task: AbortOnDropHandle::new(task),
                }))
            }
        }
    }

    /// Opens an HTTP/2 connection.
    pub(crate) async fn open_multiplexed(&self) -> Result<Multiplexed, Failure> {
        let stream = self.connect().await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Failure::http(&error))?;
        let task = tokio::spawn(connection.map(drop));
        Ok(Multiplexed {
            sender,
            _task: Arc::new(AbortOnDropHandle::new(task)),
        })
    }
}

/// A connection that carries one request at a time. Closed when dropped.
pub(crate) enum Sequential {
    Http(Http1),
    Tcp(BufStream<BoxedStream>),
}

pub(crate) struct Http1 {
    sender: http1::SendRequest<Empty<Bytes>>,
    _task: AbortOnDropHandle<()>,
}

impl Sequential {
    /// Whether the connection is known to be closed.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Http(connection) => connection.sender.is_closed(),
            Self::Tcp(_) => false,
        }
    }

    /// Sends a request and waits for the complete answer. If this is dropped in between, so must be the connection.
    pub(crate) async fn exchange(&mut self, template: &Template, id: &str) -> Result<Reply, ExchangeError> {
        match self {
            Self::Http(connection) => {
                let request = http_request(template, id)?;
                connection
                    .sender
                    .ready()
                    .await
                    .map_err(|error| ExchangeError::NotSent(Failure::http(&error)))?;
                read_reply(connection.sender.try_send_request(request).await).await
            }
            Self::Tcp(stream) => exchange_lines(stream, template, id).await,
        }
    }
}

/// An HTTP/2 connection: a handle that can be cloned. Closed when the last handle is dropped.
#[derive(Clone)]
pub(crate) struct Multiplexed {
    sender: http2::SendRequest<Empty<Bytes>>,
    _task: Arc<AbortOnDropHandle<()>>,
}

impl Multiplexed {
    /// Whether the connection is known to be closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a request and waits for the complete answer. Dropping this resets the request's stream only.
    pub(crate) async fn exchange(&mut self, template: &Template, id: &str) -> Result<Reply, ExchangeError> {
        let request = http_request(template, id)?;
        self.sender
            .ready()
            .await
            .map_err(|error| ExchangeError::NotSent(Failure::http(&error)))?;
        read_reply(self.sender.try_send_request(request).await).await
    }
}

fn http_request(template: &Template, id: &str) -> Result<Request<Empty<Bytes>>, ExchangeError> {
    template.http_request(id).ok_or_else(not_a_request)
}

/// Unreachable as long as jobs are checked before they start; kept as an outcome rather than a panic.
fn not_a_request() -> ExchangeError {
    ExchangeError::Failed(Failure::new(FailureKind::Protocol, "the request could not be written"))
}

async fn read_reply(
    sent: Result<Response<Incoming>, TrySendError<Request<Empty<Bytes>>>>,
) -> Result<Reply, ExchangeError> {
    let response = match sent {
        Ok(response) => response,
        Err(error) => {
            let failure = Failure::http(error.error());
            return Err(match error.message() {
                Some(_) => ExchangeError::NotSent(failure),
                None => ExchangeError::Failed(failure),
            });
        }
    };
    let (parts, body) = response.into_parts();
    let body = match Limited::new(body, MAX_ANSWER).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            let failure = match error.downcast_ref::<hyper::Error>() {
                Some(error) => Failure::http(error),
                None if error.is::<LengthLimitError>() => Failure::new(
                    FailureKind::Protocol,
                    format!("the answer is longer than {MAX_ANSWER} bytes"),
                ),
                None => Failure::new(FailureKind::Closed, error.to_string()),
            };
            return Err(ExchangeError::Failed(failure));
        }
    };
    Ok(Reply {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body,
    })
}

async fn exchange_lines(
    stream: &mut BufStream<BoxedStream>,
    template: &Template,
    id: &str,
) -> Result<Reply, ExchangeError> {
    let mut line = template.tcp_line(id).ok_or_else(not_a_request)?;
    line.push(b'\n');
    // Between two requests the server has nothing to say but good-bye.
    if let Some(arrived) = stream.fill_buf().now_or_never() {
        return Err(ExchangeError::NotSent(match arrived {
            Ok([]) => Failure::new(
                FailureKind::Closed,
                "the connection was closed before the request was sent",
            ),
            Ok(_) => Failure::new(FailureKind::Protocol, "the server spoke before it was asked"),
            Err(error) => Failure::connected(&error),
        }));
    }
    let exchange = async {
        stream.write_all(&line).await?;
        stream.flush().await?;
        read_line(stream, MAX_ANSWER).await
    };
    let body = match exchange.await {
        Ok(Some(line)) => Bytes::from(line),
        Ok(None) => {
            let failure = Failure::new(
                FailureKind::Closed,
                "the connection was closed before an answer arrived",
            );
            return Err(ExchangeError::Failed(failure));
        }
        Err(error) => return Err(ExchangeError::Failed(Failure::connected(&error))),
    };
    // Unlike over HTTP there is no proxy that could rightfully answer something else.
    if serde_json::from_slice::<crate::protocol::Answer>(&body).is_err() {
        let start = String::from_utf8_lossy(&body[..body.len().min(128)]).into_owned();
        let failure = Failure::new(FailureKind::Protocol, format!("the line back is no answer: {start}"));
        return Err(ExchangeError::Failed(failure));
    }
    Ok(Reply {
        status: 200,
        headers: http::HeaderMap::new(),
        body,
    })
}
