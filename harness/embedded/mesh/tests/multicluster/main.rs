//! The service mirror on two and three embedded clusters.

mod mirroring;
mod support;
