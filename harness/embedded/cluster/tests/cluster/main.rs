//! Whole clusters, driven as their users drive them: through the API, the network and the agents in them.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may panic and print, and so may what helps it"
)]

mod bounds;
mod calls;
mod endpoints;
mod jobs;
mod kubectl;
mod lifecycle;
mod load_balancers;
mod pods;
mod sidecars;
mod support;
mod workloads;
