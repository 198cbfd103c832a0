//! The control port: the agent's side, and the harness's.

pub(crate) mod answer;
pub mod client;
pub(crate) mod server;

pub use client::{Client, Error, JobStream, LedgerStream, ServerLedger};
