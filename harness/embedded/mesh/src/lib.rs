//! A model of Linkerd multicluster for embedded clusters.
//!
//! # What it is responsible for
//! The same objects, labels, annotations, statuses, events, metrics and timing rules as the real mesh, as far as gateway
//! mode goes: control plane and extension manifests, injection, identities and real mutual TLS between sidecars, the
//! gateway, one service-mirror controller per Link that reaches the other cluster only through its API server and the
//! Link's credentials, weighted routes, balancing, failfast and authorization, and the named [`defect`]s.
//!
//! # What it must not know
//! Scenarios, verdicts, the harness. What it does not model it refuses with a clear error; it never pretends.

pub mod defect;
pub mod destination;
mod duration;
pub mod identity;
pub mod injector;
pub mod install;
pub mod metrics;
pub mod mirror;
pub mod model;
pub mod names;
pub mod proxy;
pub mod unmodelled;
mod version;
mod waiting;
