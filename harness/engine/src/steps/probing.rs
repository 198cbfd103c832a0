//! Requests that are no measurement: one after another until enough was seen. They belong to no ledger.

use std::collections::BTreeMap;
use std::time::Duration;

use meshproof_agent::protocol::{ClientRow, Job, Load, Protocol};

use super::traffic::{run_job, wall_ms};
use crate::agents::{self, AgentPod};
use crate::problem::Problem;
use crate::scene::Scene;

/// More requests than any caller's time allows.
const NO_END: u64 = 1_000_000;

/// What is sent, over one connection.
pub(crate) struct Probing {
    /// Name of the job at the agent.
    pub(crate) name: String,
    /// Name that is called.
    pub(crate) host: String,
    /// Port of the Service.
    pub(crate) port: u16,
    /// Pause between two requests (scenario time).
    pub(crate) gap: Duration,
    /// Per request (scenario time).
    pub(crate) timeout: Duration,
    /// Request headers to keep as the server saw them.
    pub(crate) record: Vec<String>,
}

/// Sends until `enough` says so of the last request. Has no deadline of its own.
///
/// # Errors
/// When the agent can't be reached or stops sending.
pub(crate) async fn send_until(
    scene: &Scene,
    pod: &AgentPod,
    probing: Probing,
    mut enough: impl FnMut(&ClientRow) -> bool,
) -> Result<(), Problem> {
    let clock = scene.clock();
    let job = Job {
        name: probing.name,
        run: scene.run.nonce.clone(),
        host: probing.host,
        port: probing.port,
        protocol: Protocol::Http1,
        load: Load::Closed {
            requests: NO_END,
            gap_ms: wall_ms(clock, probing.gap),
        },
        connections: 1,
        timeout_ms: wall_ms(clock, probing.timeout),
        path: "/".to_owned(),
        headers: BTreeMap::new(),
        record: probing.record,
        until_seen: None,
        fresh_connections: false,
    };
    let client = agents::connect(scene.cluster(&pod.cluster)?, pod, &scene.run.requests).await?;
    let mut running = run_job(client, pod, &job, clock).await?;
    while let Some(row) = running.next_row().await? {
        if enough(&row) {
            return Ok(());
        }
    }
    Err(agents::unreachable_agent(pod, "it stopped sending"))
}
