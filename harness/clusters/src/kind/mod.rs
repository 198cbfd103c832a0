//! Clusters made with `kind`.
//!
//! | step | module |
//! |---|---|
//! | names, files and contents; everything that can be wrong with a request | [`blueprint`], [`config`], [`names`] |
//! | the commands, and what they answer | [`commands`], [`answers`] |
//! | what would be done, for people | [`plan`] |
//! | what stands on disk | [`record`] |
//! | making and removing | [`making`], [`removal`], [`sweep`](mod@sweep) |
//! | exposure of gateways, faults, relays | [`load_balancer`], [`faults`], [`relays`] |

mod answers;
mod blueprint;
mod commands;
mod config;
mod environment;
mod faults;
mod load_balancer;
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
pub use options::{KindOptions, LABEL, LOAD_BALANCER_CLASS, Waits};
pub use plan::{ImageSource, NeededImage, images};
pub use relays::{RelayPath, RelayRequest, RelaySet, Relays};
pub use sweep::{Swept, sweep};
