//! What a run records, and how that is judged.
//!
//! # What it is responsible for
//! * the [`record`]s of a journal and the rows of a [`ledger`]: the only things that verdicts and reports are made from;
//! * the [`question`]s that checks ask, complete in themselves, so that an answer can be recomputed years later;
//! * the judges: pure functions from question, observations and ledgers to one of five outcomes, the same code while a
//!   run is going on and in `recheck`;
//! * the statistics behind them.
//!
//! # What it must not know
//! Scenarios' syntax, clusters, meshes, clocks, the network. No async. All times are microseconds of scenario time since
//! the start of the run.

pub mod comparison;
pub mod consistency;
pub mod disturbance;
pub mod history;
pub mod journal;
pub mod judge;
pub mod latency;
pub mod ledger;
pub mod ledger_file;
pub mod question;
pub mod recheck;
pub mod reconcile;
pub mod record;
pub mod standing;
pub mod statistics;
pub mod wakefulness;

/// How a place in an object is written, and what is found there.
pub use meshproof_kinds::{Found, ObjectPath, ObjectPathError};

#[cfg(test)]
mod specimen;
