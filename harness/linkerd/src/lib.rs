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
//! Facts are those of Linkerd 2.18 and later (controllers managed by the multicluster extension).

mod apply;
mod counters;
mod credentials;
pub mod driver;
mod gateway_alive;
pub mod installer;
pub mod names;
mod ownership;
mod resources;
mod routes;
pub mod trust;
