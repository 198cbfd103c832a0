//! The agent end to end: a client and a server, driven through the control port as the harness does it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers included"
)]

mod behavior;
mod control;
mod failures;
mod hostile;
mod life;
mod networks;
mod program;
mod relay;
mod setup;
mod traffic;
