//! The Linkerd driver: how Linkerd multicluster is installed, linked and spoken to.
//!
//! # What it is responsible for
//! Everything that the engine asks of a mesh ([`meshproof_engine::driver::MeshDriver`]), in Linkerd's words: names,
//! labels and annotations, identities, routes, which objects belong to what, which counters prove a flow, and the order
//! of installing, linking, unlinking and uninstalling. Where the manifests come from is behind
//! [`installer::Installer`]: the vendor's CLI or chart on real clusters, the model's on embedded ones.
//!
//! # What it must not know
//! Whether its clusters are real, scenarios' syntax beyond the few words of the driver's interface, verdicts.
//!
//! Both of Linkerd's object models are known ([`version::ObjectModel`]): that of 2.18 and later, where the extension's chart
//! manages the controllers, and the one before it. Readers of what Linkerd says of itself are in [`readiness`].

mod apply;
mod cli;
mod counters;
mod credentials;
mod denied_writes;
pub mod download;
pub mod driver;
mod exposure;
mod gateway_alive;
mod gateway_api;
mod helm;
pub mod installer;
mod link_gen;
pub mod manifests;
pub mod names;
mod ownership;
mod permissions;
mod plan;
mod preinstalled;
pub mod readiness;
mod removal;
mod resources;
mod rotation;
mod routes;
mod secret_file;
pub mod trust;
pub mod version;
mod webhooks;

pub use cli::{CliInstaller, CliOptions};
pub use driver::Linkerd;
pub use helm::{Chart, HelmInstaller, HelmOptions, NextCharts};
pub use preinstalled::Preinstalled;
