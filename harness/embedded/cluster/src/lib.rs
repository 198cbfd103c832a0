//! Clusters without containers: network, names, nodes, pods and controllers around an in-process API server.
//!
//! # What it is responsible for
//! * one [`fabric`] for all clusters of an environment: virtual pod, service, node and load-balancer addresses mapped to
//!   real loopback sockets, DNS names per cluster, and delays, drops, partitions, resets and taps per path;
//! * per cluster: a node whose kubelet runs pods as in-process [`program`]s on that network, probes their readiness and
//!   restarts them; the controllers that Kubernetes would run (Deployment, ReplicaSet, StatefulSet, Job, Endpoints,
//!   EndpointSlice and its mirroring, load balancers);
//! * the [`intercept`] point at which a mesh's sidecar takes over a pod's connections.
//!
//! # Use
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use meshproof_cluster::fabric::{Effect, Fabric, FabricConfig, PathSelector};
//! use meshproof_cluster::pace::Pace;
//! use meshproof_cluster::{ClusterConfig, EmbeddedCluster, ProgramRegistry};
//!
//! let fabric = Fabric::new(FabricConfig::new(Pace::new(10.0)));
//! let programs = ProgramRegistry::standard();
//! let west = EmbeddedCluster::start(ClusterConfig::numbered("west", 0), &fabric, &programs).await?;
//! let east = EmbeddedCluster::start(ClusterConfig::numbered("east", 1), &fabric, &programs).await?;
//! let cut = fabric.impose(PathSelector::between("west", "east"), Effect::Blackhole);
//! drop(cut); // heals
//! west.shutdown().await;
//! east.shutdown().await;
//! # Ok(()) }
//! ```
//!
//! # How it is made
//! A change to an object wakes controllers (`work_queue`), which read the store and write what follows from it. The
//! kubelet binds a new pod, opens its listener on the fabric and supervises its containers; what they do becomes the pod's
//! status. From Services and EndpointSlices, `controllers::service_proxy` derives what the fabric translates and what the
//! cluster's DNS answers. Nothing polls; probes, the node's heartbeat and what a Job has of time are the only clockwork.
//!
//! # What it does not model
//! Refused with an event: DaemonSets, indexed Jobs, `hostNetwork`, `command`, claim templates, probes and hooks that run commands,
//! gRPC and HTTPS probes. Accepted without effect: volumes, resources, node selection, security contexts, session affinity,
//! traffic policies, `initialDelaySeconds`, startup probes (a program says itself that it has started). One node per
//! cluster, TCP over IPv4 only. ReplicaSets of a Deployment that is scaled during a rollout are not scaled in proportion;
//! StatefulSets keep no ControllerRevisions.
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
