//! Whole clusters, driven as their users drive them: through the API, the network and the agents in them.

mod calls;
mod endpoints;
mod lifecycle;
mod pods;
mod support;
mod workloads;
