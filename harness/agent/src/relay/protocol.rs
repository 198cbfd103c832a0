//! What the harness and a relay say to each other. All of it is JSON over HTTP/1.1.
//!
//! | request | answer |
//! |---|---|
//! | `GET /status` | [`Status`] |
//! | `POST /renew` | 204; the faults live for another [`Status::lifetime_ms`] |
//! | `POST /faults` with [`Fault`] | 201 with [`Made`]; renews as well |
//! | `DELETE /faults/<id>` | 204 once the fault is over, 404 when there is none (any more); renews as well |
//! | `POST /reset` | [`WereReset`]: all connections are reset, once |
//! | `POST /patterns` with [`Pattern`] | 201 with [`Made`] |
//! | `GET /patterns/<id>` | [`Seen`], 404 when the relay does not look for it |
//! | `DELETE /patterns/<id>` | 204, 404 |
//! | `GET /samples` | a list of [`Sample`]s |
//!
//! Errors are [`crate::protocol::ProblemReport`] with a 4xx or 5xx status.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long faults live without being renewed, unless told otherwise: after it the harness counts as dead.
pub const LIFETIME: Duration = Duration::from_secs(30);
/// Most faults at the same time.
pub const MAX_FAULTS: usize = 64;
/// Most patterns at the same time.
pub const MAX_PATTERNS: usize = 256;
/// Longest pattern in bytes.
pub const MAX_PATTERN: usize = 4096;
/// Connections of which a sample is kept: the newest ones.
pub const SAMPLED_CONNECTIONS: usize = 16;
/// Bytes in a sample, each way.
pub const SAMPLE: usize = 64;

/// Something that is done to all connections until it is healed, by the harness or because the harness is gone.
///
/// A relay ends the client's TCP connection itself. So it can't let a client's handshake fail or wait: a new connection is
/// accepted at once, and the fault shows in what comes (or does not come) after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// Every byte takes longer, and what follows the opening of a connection two such delays more. Delays add up.
    Delay {
        /// Added in each direction, in microseconds.
        each_way_us: u64,
        /// Up to so much more, in microseconds, drawn evenly for each piece of data; the order of bytes stays.
        jitter_us: u64,
    },
    /// Nothing is forwarded, neither data nor the end of a connection. Up to 1 MiB each way of what arrives is taken in and
    /// forwarded after the heal, as TCP would retransmit it: nothing is lost, nothing is out of order.
    Blackhole,
    /// New connections are refused; open ones are left alone.
    Refuse,
    /// The target has forgotten all connections that are open now, and the clients do not know: what they send vanishes.
    /// After the heal they learn it by a reset. New connections are left alone.
    HalfOpen,
}

/// The number of a fault or pattern that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Never used twice by the same relay.
    pub id: u64,
}

/// A fault in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveFault {
    /// Its number.
    pub id: u64,
    /// What it is.
    pub fault: Fault,
}

/// How many connections were reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WereReset {
    /// Open connections.
    pub connections: u64,
}

/// Bytes to look for from now on, in both directions of all connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// 1 to [`MAX_PATTERN`] of them.
    pub bytes: Vec<u8>,
}

/// Whether a pattern has crossed since it was first looked for, also in pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// From a client.
    pub to_target: bool,
    /// To a client.
    pub to_client: bool,
}

/// The first bytes of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Number of the connection.
    pub connection: u64,
    /// From the client, at most [`SAMPLE`].
    pub to_target: Vec<u8>,
    /// To the client, at most [`SAMPLE`].
    pub to_client: Vec<u8>,
}

/// A port and where its connections go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Forward {
    /// Port that the relay listens on.
    pub port: u16,
    /// Name or address of the host behind it.
    pub host: String,
    /// Port there.
    pub to_port: u16,
}

impl std::fmt::Display for Forward {
    /// As on the command line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "{}=[{}]:{}", self.port, self.host, self.to_port)
        } else {
            write!(f, "{}={}:{}", self.port, self.host, self.to_port)
        }
    }
}

/// How a relay is, and what crossed it since it was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What it forwards.
    pub forwards: Vec<Forward>,
    /// Those of its ports that take connections now: all, unless [`Fault::Refuse`] is in force.
    pub listening: Vec<u16>,
    /// Faults in force, in the order in which they were made.
    pub faults: Vec<ActiveFault>,
    /// How long faults live without being renewed, in milliseconds.
    pub lifetime_ms: u64,
    /// Faults that were healed because nobody renewed them.
    pub healed_unasked: u64,
    /// Connections that were accepted.
    pub connections: u64,
    /// Those of them that are open now.
    pub open: u64,
    /// Those of them that were reset because the target did not take them.
    pub unreachable: u64,
    /// Bytes that clients sent.
    pub bytes_to_target: u64,
    /// Bytes that targets sent.
    pub bytes_to_client: u64,
}
