//! The traffic client and server that meshproof runs inside clusters.
//!
//! # What it is responsible for
//! One program with two halves that every pod of a scenario runs:
//! * the **server** answers HTTP/1.1, HTTP/2 (prior knowledge) and opaque TCP, says in every answer who it is
//!   (cluster, namespace, pod, run nonce) and what it saw (headers, peer), can be told to delay, fail, close or be
//!   unready, and keeps a ledger of every request it received;
//! * the **client** sends requests in a closed or an open loop, stamps each with an id and its *intended* start, and
//!   streams a ledger row for every single one.
//!
//! Both halves are driven over a small HTTP [`protocol`] on a control port, which the harness reaches by port-forward.
//!
//! The same program can be a [`relay`] instead: a TCP relay that counts, reads along and disturbs.
//!
//! # What it must not know
//! Kubernetes, meshes, scenarios, verdicts, and where it runs: the [`network::Network`] trait is the only way it touches
//! sockets, so that the same code runs in a container on the operating system's network and in process on a modelled one.

//!
//! # Limits, all of them documented where they are set
//! * The server keeps the newest [`server::LEDGER_CAPACITY`] rows; a reader is told which older ones are gone.
//! * A job has a bounded number of outstanding requests (`client::MAX_OUTSTANDING`, `client::MAX_CONNECTIONS`). Beyond it
//!   no request is skipped or invented: it starts late, and its row says how late.
//! * The client never repeats a request. Only one that could not be written because its kept connection turned out to be
//!   closed is sent on a new connection, once.

pub mod arguments;
pub mod call;
mod client;
pub mod control;
mod lines;
pub mod network;
pub mod os_network;
pub mod protocol;
pub mod relay;
pub mod server;

pub use os_network::OsNetwork;
pub use server::{LogSink, RunningAgent, Server, ServerConfig, StartError};
