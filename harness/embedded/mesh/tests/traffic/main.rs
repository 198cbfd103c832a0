//! Traffic of agents in two embedded clusters with the whole mesh installed.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may panic, and so may what helps it"
)]

mod agents;
#[path = "../multicluster/support.rs"]
#[expect(dead_code, reason = "shared with the tests of the controllers, which use the rest")]
mod support;
