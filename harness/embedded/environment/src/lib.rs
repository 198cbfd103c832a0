//! The embedded environment: in-process clusters and the model mesh, behind the engine's traits.
//!
//! # What it is responsible for
//! Bringing a topology's clusters up in process ([`environment::Embedded`]), handing the model's manifests to the driver
//! ([`installer::ModelInstaller`]), and turning the engine's faults and taps into those of the network model.
//!
//! # What it must not know
//! Scenarios and verdicts. Nothing outside of this crate, and of the flag that chooses it, knows that an environment is
//! embedded.

pub mod environment;
pub mod installer;
mod running;
