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

pub mod driver;
pub mod environment;
pub mod problem;
