//! The service mirror: one controller per Link that keeps mirrors of another cluster's exported Services.
//!
//! It runs as a [`Program`] in the pod of a `controller-<link>` Deployment, knows its own cluster through its
//! ServiceAccount, and the target only through the API server in the Link's credentials; both over the pod's network, so
//! that what happens to the network happens to it.
//!
//! | file | subject |
//! |---|---|
//! | `controller` | life of the process: caches, leadership, which Link with which credentials |
//! | `election` | the Lease |
//! | `watcher` | one target: copies, queue, retries |
//! | `worker`, `endpoints`, `failure` | what each event does to mirror Services and to Endpoints, and what becomes of failures |
//! | `desired` | what a mirror should look like |
//! | `link`, `link_status`, `report`, `selector` | the Link resource and its status |
//! | `probe`, `probe_metrics` | the gateway's liveness |
//! | `stale_content`, `unasked` | what only defects need |
//! | `client`, `informer`, `queue`, `events`, `admin`, `log`, `arguments` | what client-go and the real program's frame give |
//!
//! # Not modelled
//! Flat and federated exports (refused in `Link.status` and in the log), headless mirroring (refused at start), CPU use
//! of the busy loop after a lost lease.

mod admin;
mod arguments;
mod client;
mod controller;
mod desired;
mod election;
mod endpoints;
mod events;
mod failure;
mod informer;
mod link;
mod link_status;
mod log;
mod probe;
mod probe_metrics;
mod queue;
mod report;
mod selector;
mod stale_content;
mod unasked;
mod watcher;
mod worker;

use async_trait::async_trait;
use meshproof_cluster::program::{ContainerContext, Exit, Program};

use crate::model::Model;

pub(crate) use stale_content::StaleContent;

/// The program behind the controller image.
pub(crate) struct ServiceMirror {
    model: Model,
}

impl ServiceMirror {
    pub(crate) fn new(model: Model) -> Self {
        Self { model }
    }
}

#[async_trait]
impl Program for ServiceMirror {
    async fn run(&self, container: ContainerContext) -> Exit {
        controller::run(self.model.clone(), container).await
    }
}
