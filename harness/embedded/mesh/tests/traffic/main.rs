//! Traffic of agents in two embedded clusters with the whole mesh installed.

mod agents;
#[path = "../multicluster/support.rs"]
#[expect(dead_code, reason = "shared with the tests of the controllers, which use the rest")]
mod support;
