//! Existing clusters while a run uses them. They came from somebody else, and go back as they are.

use std::time::Duration;

use async_trait::async_trait;
use meshproof_engine::environment::{Cluster, NetworkFault, RunningEnvironment, Tap};
use meshproof_engine::problem::{self, Problem};

pub(super) struct Running {
    clusters: Vec<Cluster>,
}

impl Running {
    pub(super) fn new(clusters: Vec<Cluster>) -> Self {
        Self { clusters }
    }
}

/// Scenarios that need it are skipped by the plan; this is for whoever asks all the same.
fn not_ours(what: &str) -> Problem {
    problem::environment(
        "capability-missing",
        format!("{what} of existing clusters is not the harness' to disturb or to watch"),
        Some("run the scenario on kind or embedded clusters"),
    )
}

#[async_trait]
impl RunningEnvironment for Running {
    fn clusters(&self) -> &[Cluster] {
        &self.clusters
    }

    async fn partition(&self, _: &str, _: &str) -> Result<Box<dyn NetworkFault>, Problem> {
        Err(not_ours("the network"))
    }

    async fn delay(&self, _: &str, _: &str, _: Duration) -> Result<Box<dyn NetworkFault>, Problem> {
        Err(not_ours("the network"))
    }

    async fn reset(&self, _: &str, _: &str) -> Result<(), Problem> {
        Err(not_ours("the network"))
    }

    async fn pause_api(&self, _: &str) -> Result<Box<dyn NetworkFault>, Problem> {
        Err(not_ours("the API server"))
    }

    async fn tap(&self, _: &str, _: &str) -> Result<Box<dyn Tap>, Problem> {
        Err(not_ours("the network"))
    }

    async fn down(&self) -> Result<(), Problem> {
        Ok(())
    }
}
