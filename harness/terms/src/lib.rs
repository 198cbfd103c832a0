//! Values with a meaning of their own that files, runs and verdicts share, each parsed in one place.
//!
//! Responsible for: what such a value is, how it is written, what is wrong with a text that is none.
//! Must not know: where a value stands, what is done with it, any mesh, any cluster.

mod level;
mod release;

/// Most steps of one scenario, those of its fragments included. It has no more checks than that.
pub const MOST_STEPS: usize = 1_000;

pub use level::Level;
pub use release::{Release, ReleaseError, VersionRange, VersionRangeError};
