//! Clusters without containers: network, names, nodes, pods and controllers around an in-process API server.
//!
//! # What it is responsible for
//! * one [`fabric`] for all clusters of an environment: virtual pod, service, node and load-balancer addresses mapped to
//!   real loopback sockets, DNS names per cluster, and delays, drops, partitions, resets and taps per path;
//! * per cluster: a node whose kubelet runs pods as in-process [`program`]s on that network, probes their readiness and
//!   restarts them; the controllers that Kubernetes would run (Deployment, ReplicaSet, StatefulSet, Endpoints,
//!   EndpointSlice and its mirroring);
//! * the [`intercept`] point at which a mesh's sidecar takes over a pod's connections.
//!
//! # What it must not know
//! Any mesh, any scenario. A mesh comes in as programs, interceptors and objects, as it does on a real cluster.

mod cluster;
mod controllers;
mod dns;
mod events;
pub mod fabric;
pub mod intercept;
mod kubelet;
mod object;
pub mod pace;
mod pod_network;
pub mod program;
pub mod programs;
mod registry;
mod work_queue;

pub use cluster::{ClusterConfig, ClusterError, EmbeddedCluster};
pub use registry::ProgramRegistry;
