//! The driver with the vendor's tools: fake ones that print what real ones print, embedded clusters without a mesh, and data
//! recorded on real clusters.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod accounts;
mod cli;
mod download;
mod flows;
mod helm;
mod plans;
mod preinstalled;
mod recorded;
mod world;
