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
//! # What it must not know
//! Kubernetes, meshes, scenarios, verdicts, and where it runs: the [`network::Network`] trait is the only way it touches
//! sockets, so that the same code runs in a container on the operating system's network and in process on a modelled one.

pub mod network;
pub mod protocol;
