//! The service mirror on two and three embedded clusters.

mod gateway;
mod mirroring;
mod support;
