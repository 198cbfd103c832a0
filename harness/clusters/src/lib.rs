//! Environments on real clusters.
//!
//! # What it is responsible for
//! * [`kind`]: clusters made with `kind` and Docker from `kind-configs/`, their network, images, faults and removal;
//! * [`contexts`]: clusters that exist already, of which nothing is changed that the harness did not make;
//! * [`relay`]: a container between a gateway and its clients, on kind;
//! * [`agent_image`]: the image of the traffic agent, around a static binary;
//! * [`claim`]: folders of state that one process at a time has, and what in them is ours;
//! * [`preflight`]: what has to be true of the host and the clusters, each finding with a code and a fix.
//!
//! # What it must not know
//! Any particular mesh, scenarios, verdicts.

pub mod agent_image;
pub mod claim;
pub mod contexts;
pub mod kind;
pub mod preflight;
pub mod relay;
