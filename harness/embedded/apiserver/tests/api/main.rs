//! The server as its clients see it: kube-rs, kubectl and anything that sends bytes.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that cannot go on says so; helpers are not recognised as test code"
)]

mod access;
mod bounds;
mod clients;
mod kubectl;
mod objects;
mod pods;
mod robustness;
mod strictness;
mod support;
