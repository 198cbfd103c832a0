//! The engine against real API servers and pods, without a mesh.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod endings;
mod isolation;
mod scenarios;
mod undoing;
mod watching;
mod world;
