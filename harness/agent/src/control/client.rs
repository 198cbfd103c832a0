//! The harness's side of the control port, over any byte stream: a socket, or a port-forward through an API server.
//!
//! A connection carries one request at a time. The streams of a job and of a followed ledger therefore take the whole
//! connection, which is why [`Client::start_job`] and [`Client::follow_ledger`] consume the client; open another
//! connection for whatever is to be said meanwhile. Nothing here has a time-out: the caller knows its deadlines.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures::{FutureExt, Stream, StreamExt};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::task::AbortOnDropHandle;

use crate::network::BoxedStream;
use crate::protocol::{Behavior, DroppedRows, Identity, Job, JobEvent, LedgerLine, ProblemReport, ServerRow};

/// Longest answer that is not a stream, and longest line of a stream, in bytes.
const MAX_LENGTH: usize = 1024 * 1024;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection to the agent broke, or what came over it was not HTTP.
    #[error("the connection to the agent failed: {0}")]
    Connection(#[source] hyper::Error),
    /// The agent said no.
    #[error("the agent refused {request} with status {status}: {problem}")]
    Refused {
        /// Method and path.
        request: String,
        /// HTTP status.
        status: u16,
        /// The agent's own words, or the start of the body when something else answered.
        problem: String,
    },
    /// The agent's answer is not what the protocol says.
    #[error("the agent's answer to {request} is not understood: {detail}")]
    NotUnderstood {
        /// Method and path.
        request: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A stream ended before its last line: the agent was killed or the connection was cut.
    #[error("the agent's answer to {request} broke off before its end")]
    BrokenOff {
        /// Method and path.
        request: String,
    },
}

/// A connection to an agent's control port. Closed when dropped.
pub struct Client {
    sender: http1::SendRequest<Full<Bytes>>,
    connection: AbortOnDropHandle<()>,
}

impl Client {
    /// Takes a fresh connection into use. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Connection`].
    pub async fn connect(stream: BoxedStream) -> Result<Self, Error> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(Error::Connection)?;
        // How the connection ends is told to the requests on it.
        let connection = AbortOnDropHandle::new(tokio::spawn(connection.map(drop)));
        Ok(Self { sender, connection })
    }

    /// Who the agent is.
    ///
    /// # Errors
    /// See [`Error`]; likewise below.
    pub async fn identity(&mut self) -> Result<Identity, Error> {
        let (request, response) = self.call(Method::GET, "/identity", Bytes::new()).await?;
        let body = body(&request, response).await?;
        understand(&request, &body)
    }

    /// Whether the agent says that it is ready.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ready(&mut self) -> Result<bool, Error> {
        match self.call(Method::GET, "/ready", Bytes::new()).await {
            Ok((request, response)) => body(&request, response).await.map(|_| true),
            Err(Error::Refused { status: 503, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Tells the server how to treat requests from the next one on.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::Refused`] with status 400 when a value is out of range.
    pub async fn set_behavior(&mut self, behavior: &Behavior) -> Result<(), Error> {
        let (request, response) = self.call_json(Method::PUT, "/behavior", behavior).await?;
        body(&request, response).await.map(drop)
    }

    /// Starts a job. It stops when the stream is dropped.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::Refused`] with status 400 when the job makes no sense, 409 when its name is taken.
    pub async fn start_job(mut self, job: &Job) -> Result<JobStream, Error> {
        let (request, response) = self.call_json(Method::POST, "/jobs", job).await?;
        Ok(JobStream {
            lines: Lines::new(request, response, self.connection),
            ended: false,
        })
    }

    /// Stops a job. When this returns, the job has sent its last request and handed its last row over, so its stream has to
    /// be read meanwhile (some 65 000 rows wait for a slow reader). `false` when no such job runs (any more).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn stop_job(&mut self, name: &str) -> Result<bool, Error> {
        match self.call(Method::DELETE, &format!("/jobs/{name}"), Bytes::new()).await {
            Ok((request, response)) => body(&request, response).await.map(|_| true),
            Err(Error::Refused { status: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The requests that the server has received up to now, from row `since` on, of one run or of all.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn server_ledger(&mut self, run: Option<&str>, since: u64) -> Result<ServerLedger, Error> {
        let (request, response) = self
            .call(Method::GET, &ledger_path(run, since, false), Bytes::new())
            .await?;
        let mut lines = Lines::<LedgerLine, ()>::new(request, response, ());
        let mut ledger = ServerLedger::default();
        while let Some(line) = lines.next().await {
            match line? {
                LedgerLine::Row(row) => ledger.rows.push(row),
                LedgerLine::Dropped { dropped } => ledger.dropped = Some(dropped),
            }
        }
        Ok(ledger)
    }

    /// The same, followed by rows as they are written, until the agent stops or the stream is dropped.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn follow_ledger(mut self, run: Option<&str>, since: u64) -> Result<LedgerStream, Error> {
        let (request, response) = self
            .call(Method::GET, &ledger_path(run, since, true), Bytes::new())
            .await?;
        Ok(LedgerStream {
            lines: Lines::new(request, response, self.connection),
        })
    }

    pub(crate) async fn call_json(
        &mut self,
        method: Method,
        path: &str,
        value: &impl Serialize,
    ) -> Result<(String, Response<Incoming>), Error> {
        let body = serde_json::to_vec(value).map_err(|error| Error::NotUnderstood {
            request: format!("{method} {path}"),
            detail: error.to_string(),
        })?;
        self.call(method, path, body.into()).await
    }

    /// Sends a request; gives back its description and a successful response.
    pub(crate) async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(String, Response<Incoming>), Error> {
        let description = format!("{method} {path}");
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path
            .parse()
            .map_err(|error: http::uri::InvalidUri| Error::NotUnderstood {
                request: description.clone(),
                detail: error.to_string(),
            })?;
        request
            .headers_mut()
            .insert(header::HOST, HeaderValue::from_static("agent"));
        self.sender.ready().await.map_err(Error::Connection)?;
        let response = self.sender.send_request(request).await.map_err(Error::Connection)?;
        if response.status().is_success() {
            return Ok((description, response));
        }
        let status = response.status();
        let body = self::body(&description, response).await?;
        Err(Error::Refused {
            request: description,
            status: status.as_u16(),
            problem: problem(status, &body),
        })
    }
}

fn ledger_path(run: Option<&str>, since: u64, follow: bool) -> String {
    match run {
        Some(run) => format!("/ledger?run={run}&since={since}&follow={follow}"),
        None => format!("/ledger?since={since}&follow={follow}"),
    }
}

pub(crate) async fn body(request: &str, response: Response<Incoming>) -> Result<Bytes, Error> {
    match Limited::new(response.into_body(), MAX_LENGTH).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(match error.downcast::<hyper::Error>() {
            Ok(error) => Error::Connection(*error),
            Err(error) => Error::NotUnderstood {
                request: request.to_owned(),
                detail: error.to_string(),
            },
        }),
    }
}

fn problem(status: StatusCode, body: &[u8]) -> String {
    match serde_json::from_slice::<ProblemReport>(body) {
        Ok(report) => report.problem,
        Err(_) if body.is_empty() => status.canonical_reason().unwrap_or("no reason given").to_owned(),
        Err(_) => start_of(body),
    }
}

pub(crate) fn understand<T: DeserializeOwned>(request: &str, text: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(text).map_err(|error| Error::NotUnderstood {
        request: request.to_owned(),
        detail: format!("{error} in {}", start_of(text)),
    })
}

fn start_of(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(256)]).into_owned()
}

/// What a server received.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerLedger {
    /// In order of arrival.
    pub rows: Vec<ServerRow>,
    /// Rows that were asked for and that the server no longer holds. With `None`, nothing is missing.
    pub dropped: Option<DroppedRows>,
}

/// The events of a running job; the job stops when this is dropped. Ends after [`JobEvent::Ended`]; when the connection
/// is lost before, the last item is an error.
pub struct JobStream {
    lines: Lines<JobEvent, AbortOnDropHandle<()>>,
    ended: bool,
}

impl Stream for JobStream {
    type Item = Result<JobEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let item = match ready!(this.lines.poll_next_unpin(context)) {
            Some(item) => item,
            None => Err(Error::BrokenOff {
                request: this.lines.request.clone(),
            }),
        };
        this.ended = matches!(item, Err(_) | Ok(JobEvent::Ended { .. }));
        Poll::Ready(Some(item))
    }
}

/// A server's ledger as it grows. Ends when the agent stops; when the connection is lost before, the last item is an
/// error.
pub struct LedgerStream {
    lines: Lines<LedgerLine, AbortOnDropHandle<()>>,
}

impl Stream for LedgerStream {
    type Item = Result<LedgerLine, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().lines.poll_next_unpin(context)
    }
}

/// Newline-delimited JSON from a response's body.
struct Lines<T, C> {
    request: String,
    body: Incoming,
    buffer: BytesMut,
    /// Complete lines that have not been given out, and what came after them.
    parsed: VecDeque<T>,
    failed: Option<Error>,
    finished: bool,
    /// Keeps the connection open as long as it is read from.
    _connection: C,
}

impl<T: DeserializeOwned, C> Lines<T, C> {
    fn new(request: String, response: Response<Incoming>, connection: C) -> Self {
        Self {
            request,
            body: response.into_body(),
            buffer: BytesMut::new(),
            parsed: VecDeque::new(),
            failed: None,
            finished: false,
            _connection: connection,
        }
    }

    /// Takes the complete lines out of the buffer.
    fn parse(&mut self, new: &[u8]) -> Result<(), Error> {
        // Only what is new can hold a line feed that was not there before.
        let mut searched = self.buffer.len();
        self.buffer.extend_from_slice(new);
        while let Some(found) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(searched + found);
            self.buffer.advance(1);
            searched = 0;
            self.parsed.push_back(understand(&self.request, &line)?);
        }
        if self.buffer.len() > MAX_LENGTH {
            let detail = format!("a line is longer than {MAX_LENGTH} bytes");
            return Err(Error::NotUnderstood {
                request: self.request.clone(),
                detail,
            });
        }
        Ok(())
    }
}

impl<T: DeserializeOwned + Unpin, C: Unpin> Stream for Lines<T, C> {
    type Item = Result<T, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(value) = this.parsed.pop_front() {
                return Poll::Ready(Some(Ok(value)));
            }
            if let Some(error) = this.failed.take() {
                this.finished = true;
                return Poll::Ready(Some(Err(error)));
            }
            if this.finished {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        this.failed = this.parse(data).err();
                    }
                }
                Some(Err(error)) => this.failed = Some(Error::Connection(error)),
                None if this.buffer.is_empty() => this.finished = true,
                None => {
                    this.failed = Some(Error::BrokenOff {
                        request: this.request.clone(),
                    });
                }
            }
        }
    }
}
