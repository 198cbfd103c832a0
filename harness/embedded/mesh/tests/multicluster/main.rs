//! The service mirror on two and three embedded clusters.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing test shall say where it failed"
)]

mod defects;
mod gateway;
mod lifecycle;
mod mirroring;
mod removal;
mod support;
mod upstream;
