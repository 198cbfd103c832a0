//! What the harness and an agent say to each other, and what an agent answers to traffic. All of it is JSON.
//!
//! # Control port (HTTP/1.1, port [`CONTROL_PORT`] unless told otherwise)
//! | request | answer |
//! |---|---|
//! | `GET /identity` | [`Identity`] |
//! | `GET /ready` | 200 when ready, 503 when told to be unready (the pod's readiness probe) |
//! | `PUT /behavior` with [`Behavior`] | 204; takes effect for the next request |
//! | `POST /jobs` with [`Job`] | 201 with a stream of newline-delimited [`JobEvent`]s until the job ended |
//! | `DELETE /jobs/<name>` | 204 once no further request of the job will be sent |
//! | `GET /ledger?run=<nonce>&since=<index>&follow=<bool>` | newline-delimited [`LedgerLine`]s: [`ServerRow`]s, all parameters optional |
//!
//! Errors are [`ProblemReport`] with a 4xx or 5xx status. Closing the stream of a job stops the job.
//!
//! # Time
//! Every `*_us` field is microseconds of the agent's monotonic clock since the start of the job (client rows) or of the
//! agent (server rows). The harness turns them into scenario time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Port of the control API.
pub const CONTROL_PORT: u16 = 4180;
/// Port on which the server answers HTTP/1.1 and HTTP/2 unless told otherwise.
pub const HTTP_PORT: u16 = 8080;
/// Port on which the server answers opaque TCP unless told otherwise.
pub const TCP_PORT: u16 = 9090;
/// Request header that carries the request id.
pub const REQUEST_ID_HEADER: &str = "x-meshproof-request";
/// Request header that carries the nonce of the run.
pub const RUN_HEADER: &str = "x-meshproof-run";
/// Request header that a new route adds, so that a client can tell when exactly this route is live.
pub const MARKER_HEADER: &str = "x-meshproof-marker";
/// Request header that carries the canary of an encryption proof.
pub const CANARY_HEADER: &str = "x-meshproof-canary";

/// Who an agent is. Given to it at start, repeated in every answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Cluster name of the topology, e.g. `west`.
    pub cluster: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Workload (the service or client of the scenario), e.g. `store`.
    pub workload: String,
    /// Pod name.
    pub pod: String,
    /// Nonce of the run that created the pod: an answer with another nonce comes from a stale pod.
    pub nonce: String,
}

/// Application protocol of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1 with keep-alive.
    Http1,
    /// HTTP/2 with prior knowledge (no TLS of the application's own).
    Http2,
    /// Opaque TCP: one JSON line there, one JSON line back, then the next.
    Tcp,
}

/// The body of every answer of the server (HTTP: response body; TCP: the line back).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Who answers.
    pub server: Identity,
    /// The id that the request carried.
    pub request: Option<String>,
    /// Protocol as the server saw it.
    pub protocol: Protocol,
    /// Port on which the request arrived at the application.
    pub port: u16,
    /// Request target (path and query); empty for TCP.
    pub path: String,
    /// `Host` header or `:authority`; empty for TCP.
    pub host: String,
    /// All request headers, lower-case names, values in order of arrival.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Source address as the application sees it, without port.
    pub peer: String,
}

/// A request over opaque TCP: one line of JSON. The answer is an [`Answer`] on one line, or a [`ProblemReport`] on one
/// line after which the server closes the connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TcpRequest {
    /// Request id, as in [`REQUEST_ID_HEADER`].
    pub id: Option<String>,
    /// Nonce of the run, as in [`RUN_HEADER`].
    pub run: Option<String>,
    /// What an HTTP request would carry as headers.
    pub headers: BTreeMap<String, String>,
}

/// How the server treats requests from now on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Behavior {
    /// Wait before answering, milliseconds of the agent's clock.
    pub delay_ms: u64,
    /// Answer with this status (200..=599) instead of 200. HTTP only: an answer over opaque TCP has no status.
    pub status: Option<u16>,
    /// Share of requests (0..=1) that `status` applies to; all when absent. Every n-th, not drawn.
    pub status_share: Option<f64>,
    /// Close the connection instead of answering (after `delay_ms`); over HTTP/2 this ends every request on it.
    pub close: bool,
    /// Answer `GET /ready` with 503.
    pub unready: bool,
}

/// A piece of traffic that the client sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Unique among the running jobs of the agent; prefix of the request ids.
    pub name: String,
    /// Nonce of the run, sent in [`RUN_HEADER`].
    pub run: String,
    /// DNS name or address to call.
    pub host: String,
    /// Port to call.
    pub port: u16,
    /// Protocol to speak.
    pub protocol: Protocol,
    /// How requests are paced.
    pub load: Load,
    /// Connections kept open; requests are dealt to them in turn.
    pub connections: u32,
    /// A request without an answer after this many milliseconds counts as timed out.
    pub timeout_ms: u64,
    /// Request target, e.g. `/`; unused for TCP.
    #[serde(default)]
    pub path: String,
    /// Additional request headers; for TCP they travel in the request line.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Names of request headers, as the server saw them, to copy into each row's `seen`.
    #[serde(default)]
    pub record: Vec<String>,
    /// Stop early once this held.
    #[serde(default)]
    pub until_seen: Option<UntilSeen>,
    /// Close and reopen the connection before each request.
    #[serde(default)]
    pub fresh_connections: bool,
}

/// How requests are paced.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Load {
    /// Each connection sends its next request when the last one ended, `requests` in total, at least `gap_ms` apart.
    Closed {
        /// Total number of requests.
        requests: u64,
        /// Pause after each answer, milliseconds.
        gap_ms: u64,
    },
    /// Requests start at fixed intended times whatever happens to earlier ones, until stopped or `requests` were sent.
    Open {
        /// Requests per second of the agent's clock, over all connections.
        per_second: f64,
        /// End after this many; unlimited when absent.
        requests: Option<u64>,
    },
}

/// A condition on answers that ends a job early: `consecutive` answers in a row whose seen `header` equals `value`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UntilSeen {
    /// Request header as echoed by the server, lower case.
    pub header: String,
    /// Value it must have (any of several equal headers counts).
    pub value: String,
    /// How many answers in a row, at least 1.
    pub consecutive: u32,
}

/// One line of a job's stream.
#[expect(clippy::large_enum_variant, reason = "nearly every event is a row")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobEvent {
    /// First line: the job runs. Carries the wall clock (Unix epoch, µs) of the job's time zero.
    Started {
        /// Microseconds since the Unix epoch.
        epoch_us: u64,
    },
    /// A request ended.
    Row(ClientRow),
    /// Last line: no request is outstanding and none will follow.
    Ended {
        /// Requests sent.
        sent: u64,
        /// Whether [`Job::until_seen`] held.
        seen: bool,
        /// Largest lateness of a start against its intended time, microseconds (open loop).
        max_late_us: u64,
    },
}

/// What became of one request, as the client saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientRow {
    /// `<job>-<n>`, unique in the run.
    pub id: String,
    /// When the request should have started.
    pub intended_us: u64,
    /// When it did start.
    pub started_us: u64,
    /// When its outcome was known.
    pub ended_us: u64,
    /// Index of the connection that carried it.
    pub connection: u32,
    /// What happened.
    pub outcome: Outcome,
}

/// Outcome of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A complete answer arrived.
    Answered {
        /// HTTP status; 200 for TCP.
        status: u16,
        /// The server that answered; absent when the body was not an [`Answer`] (a proxy's own error page).
        server: Option<Identity>,
        /// `Host` that the server saw.
        host: Option<String>,
        /// Protocol as the server saw it.
        #[serde(default)]
        protocol: Option<Protocol>,
        /// Port on which the request arrived at the application.
        #[serde(default)]
        port: Option<u16>,
        /// Requested headers as the server saw them ([`Job::record`]).
        #[serde(default)]
        seen: BTreeMap<String, Vec<String>>,
        /// Response headers that explain an error, e.g. a proxy's own; only for status 400 and above, bounded in size.
        #[serde(default)]
        error_headers: BTreeMap<String, String>,
    },
    /// No complete answer.
    Failed {
        /// Class of the failure.
        kind: FailureKind,
        /// Text for people, bounded in size.
        detail: String,
    },
}

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The name did not resolve.
    Name,
    /// The connection was refused or could not be opened.
    Refused,
    /// The connection ended before a complete answer: closed or reset by the peer.
    Closed,
    /// No answer within the time-out.
    Timeout,
    /// Something arrived that is not the protocol.
    Protocol,
    /// The job was stopped while the request was outstanding.
    Stopped,
}

/// What the server saw of one request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerRow {
    /// Position in the server's ledger, from 0.
    pub index: u64,
    /// Request id, if it carried one.
    pub id: Option<String>,
    /// Run nonce that the request carried.
    pub run: Option<String>,
    /// When the request was complete.
    pub received_us: u64,
    /// Status that was answered; absent when the connection was closed on purpose.
    pub status: Option<u16>,
    /// Protocol as the server saw it.
    pub protocol: Protocol,
    /// Port on which it arrived.
    pub port: u16,
}

/// One line of the server's ledger as the control port streams it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LedgerLine {
    /// A request that the server received.
    Row(ServerRow),
    /// Rows that were asked for are no longer held.
    Dropped {
        /// Which rows.
        dropped: DroppedRows,
    },
}

/// A gap in the server's ledger: the server keeps a bounded number of rows and gives the oldest up first. A reader that
/// follows the ledger has already received them and sees no gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedRows {
    /// Index of the first row that is gone.
    pub from: u64,
    /// Index of the first row after the gap.
    pub to: u64,
}

/// Body of an error answer of the control port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemReport {
    /// What was wrong, with the place, and what to do.
    pub problem: String,
}
