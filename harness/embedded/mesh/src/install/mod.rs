//! Manifests of the mesh: what the vendor's command line and chart print.
//!
//! Everything here is data for a client to apply or delete; nothing is written behind the API's back. Installation is
//! [`gateway_api_crds`], [`crds`], [`control_plane`], [`multicluster`] in this order, each applied (server-side apply is
//! fine, and applying again changes nothing) and, from the control plane on, waited for until its Deployments are
//! available: only a running injector injects. [`link_gen`] reads a target cluster and returns what its source cluster
//! has to apply. [`unlink`] and [`uninstall`] return what has to be deleted, in order. An upgrade applies the same manifests,
//! in the same order, as [`of_version`] changes them.
//!
//! # Not modelled
//! Webhook configurations (injection is part of the API server's admission here), the heartbeat, the viz extension, the
//! Helm chart's own bookkeeping, and proxies in control plane pods.

mod control_plane;
mod crds;
mod gateway_api;
#[cfg(test)]
mod known_kinds;
mod link_crd;
mod link_gen;
mod multicluster;
mod next_version;
mod removal;
mod schema;

pub use control_plane::{ControlPlaneValues, Trust, control_plane};
pub use crds::crds;
pub use gateway_api::gateway_api_crds;
pub use link_gen::{LinkGenError, LinkGenOptions, link_gen, link_side_effects};
pub use multicluster::{ControllerValues, GatewayServiceType, GatewayValues, MulticlusterValues, multicluster};
pub use next_version::of_version;
pub use removal::{RemovalError, uninstall, uninstall_control_plane, unlink};

use crate::names::{VERSION, annotation};

/// What the command line writes into `linkerd.io/created-by`.
fn created_by() -> (String, String) {
    (annotation::CREATED_BY.to_owned(), format!("linkerd/cli {VERSION}"))
}

/// A JSON object of string values.
fn strings<K: Into<String>, V: Into<String>>(entries: impl IntoIterator<Item = (K, V)>) -> serde_json::Value {
    entries
        .into_iter()
        .map(|(key, value)| (key.into(), serde_json::Value::String(value.into())))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
