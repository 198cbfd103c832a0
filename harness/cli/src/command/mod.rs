//! The commands, one file each.

pub mod bench;
pub mod coverage;
pub mod doctor;
pub mod explain;
pub mod gc;
pub mod images;
pub mod lint;
pub mod list;
pub mod plan;
pub mod prove;
pub mod recheck;
pub mod report;
pub mod run;
pub mod schema;
pub mod up;
mod vacuity;
