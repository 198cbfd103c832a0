//! Clusters made with `kind`.
//!
//! | step | module |
//! |---|---|
//! | names, files and contents; everything that can be wrong with a request | [`blueprint`], [`config`], [`names`] |
//! | the commands, and what they answer | [`commands`], [`answers`] |
//! | whether it can be done at all | [`feasibility`] |
//! | what would be done, for people | [`plan`] |
//! | what stands on disk | [`record`] |
//! | making and removing | [`making`], [`removal`], [`sweep`](mod@sweep) |
//! | what is in a cluster, and removing what was put into it | [`contents`], [`clearing`] |
//! | exposure of gateways, faults, relays | [`load_balancer`], [`faults`], [`relays`] |
//! | what nodes logged | [`logs`] |
//! | registries that keep what nodes pull | [`caches`] |

mod answers;
mod blueprint;
mod caches;
mod clearing;
mod commands;
mod config;
mod connections;
mod contents;
mod dead_man;
mod environment;
mod faults;
mod feasibility;
mod load_balancer;
mod logs;
mod making;
mod names;
mod options;
mod plan;
mod record;
mod relays;
mod removal;
mod running;
mod sweep;
#[cfg(test)]
mod tests;

pub use answers::Node;
pub use environment::Kind;
pub use options::{CACHE_LABEL, KindOptions, LABEL, LOAD_BALANCER_CLASS, Waits};
pub use plan::{ImageSource, NeededImage, images};
pub use relays::{RelayPath, RelayRequest, RelaySet, Relays};
pub use sweep::{Also, Swept, sweep};
