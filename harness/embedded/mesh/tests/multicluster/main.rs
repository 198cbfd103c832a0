//! The service mirror on two and three embedded clusters.

mod defects;
mod gateway;
mod lifecycle;
mod mirroring;
mod removal;
mod support;
