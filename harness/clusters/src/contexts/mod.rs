//! Clusters that exist already, by kubeconfig context. Nothing is made, changed or removed here: coming up means to look
//! whether they are there, and going down means to let go of them.
//!
//! * Scenarios work in namespaces of their own. What disturbs others (scaling the gateway, stealing a lease, objects of the
//!   whole cluster …) takes the user's consent ([`ContextsOptions::disruptive`]); without it such scenarios are skipped.
//! * The network between the clusters is nobody's to disturb: there is no `partition`, `delay`, `reset`, `relay` and
//!   `pause-api`, consent or not.
//! * Scenarios that prepare clusters in their own way (`setup:`) need clusters of their own. There are none (no
//!   `disposable`), also with consent: a cluster of somebody's is never uninstalled and installed anew to suit a scenario.
//! * Every scenario removes what it made, and [`sweep`] what killed runs left. A mesh that the harness installed stays.

mod connect;
mod environment;
mod options;
mod restore;
mod running;
mod sweep;

pub use environment::Contexts;
pub use options::{ContextRef, ContextsOptions};
pub use restore::restore_all;
pub use sweep::{Liveness, Swept, sweep};
