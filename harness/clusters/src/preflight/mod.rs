//! What has to be true of the host and the clusters before a run: findings with stable codes and fixes.
//!
//! Looking changes nothing. What can't be found out is a warning that says so, never an `ok`.

pub(crate) mod access;
mod cidr;
mod clock;
mod clusters;
mod finding;
mod host;
mod plan;

pub use clusters::{contexts, look_at};
pub use finding::{Finding, Level, explain};
pub use host::{MeshTools, base, kind_resources, kind_tools, proxies};
pub use plan::{Needs, of_plan};
