//! A program that only waits, as the gateway's application does.

use async_trait::async_trait;
use meshproof_cluster::program::{ContainerContext, Exit, Program};

/// Runs until its pod stops.
pub(crate) struct Waiting;

#[async_trait]
impl Program for Waiting {
    async fn run(&self, container: ContainerContext) -> Exit {
        container.started.cancel();
        container.shutdown.cancelled().await;
        Exit::Done
    }
}
