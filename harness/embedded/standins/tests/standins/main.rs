//! The commands as a harness meets them: through symbolic links, with real processes.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing test shall say where it failed"
)]

mod docker;
mod faults;
mod kind;
mod mesh;
mod support;
