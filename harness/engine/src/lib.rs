//! The engine: from a suite to a journal.
//!
//! # What it is responsible for
//! * the [`plan`](self): which scenarios, on which clusters, with which capabilities and locks — pure and printable;
//! * the scheduler: scenarios in parallel, exclusive where they touch the same link, gateway or control plane;
//! * steps, on watches and not on polling; change markers; positive controls; faults and their healing; cleanup;
//! * writing everything down in the journal and ledgers before it is judged;
//! * the traits [`environment::Environment`] and [`driver::MeshDriver`] behind which clusters and meshes stand.
//!
//! # What it must not know
//! Any particular mesh, and whether an environment is real or embedded. Verdicts are asked of `meshproof-verdict` and
//! never made here; reports read the journal and never the engine.

pub mod action;
pub mod agents;
pub mod api;
pub mod bench;
mod cleanup;
pub mod clock;
mod describe;
mod disturbance;
pub mod driver;
pub mod environment;
mod evidence;
mod expect;
mod hindrance;
pub mod interrupts;
pub mod inventory;
mod inventory_watch;
pub mod journal;
pub mod kinds;
mod lateness;
mod ledgers;
mod lower;
pub mod metrics;
pub mod ownership;
mod panics;
pub mod plain_file;
pub mod plan;
pub mod private_files;
pub mod problem;
mod pulse;
mod reconcile;
pub mod redaction;
mod references;
pub mod restoring;
pub mod revocation;
mod rung;
mod scenario_run;
mod scene;
mod scheduler;
mod session;
mod stalls;
mod starvation;
mod steps;
pub mod testbed;
pub mod tool;
mod undo;
pub mod watch;

pub use interrupts::Interrupts;
pub use panics::ProvokedPanics;
pub use plan::Plan;
pub use scenario_run::Keep;
pub use scheduler::Engine;
pub use session::{AGENT_IMAGE, Kept, RunOptions, RunSummary, Session};
