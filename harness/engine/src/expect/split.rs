//! `expect: {split: …}`: one measurement, its size fixed beforehand.
//!
//! A split is only defined while all backends are ready, and a proxy that has never called a backend, or whose connection
//! to it broke, sends its share to the others without any error until it is connected. So each backend must have answered
//! once before counting begins; requests until then belong to no ledger. A backend that does not answer in
//! [`WARM_UP_TIME`] is left to the measurement to find wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meshproof_agent::protocol::{ClientRow, Job, Load, Outcome, Protocol};
use meshproof_spec::scalar::{Name, Target};
use meshproof_spec::scenario::CallProtocol;

use crate::agents::{self, AgentPod};
use crate::lower::SplitLook;
use crate::problem::Problem;
use crate::scene::Scene;
use crate::steps::traffic::{Pace, REQUEST_TIMEOUT, Sending, run_job, send_all, wall_ms};

/// Time for every backend to answer once (scenario time).
const WARM_UP_TIME: Duration = Duration::from_secs(10);
/// Pause between two requests of the warm-up (scenario time): some thousand requests fit, enough for a share of 1 %.
const WARM_UP_GAP: Duration = Duration::from_millis(5);

/// Sends the requests. Routes are live already: the step that made them has waited for their marker.
pub(super) async fn measure(scene: &mut Scene, look: &SplitLook) -> Result<(), Problem> {
    let pod = scene.sender(&look.cluster, &look.client).await?;
    warm_up(scene, &pod, look).await?;
    let text = format!(
        "{} ({}) → {}, {} requests for shares",
        look.client, look.cluster, look.service, look.requests
    );
    let sending = Sending {
        ledger: look.ledger.clone(),
        pod,
        target: Target {
            service: Name(look.service.clone()),
            cluster: None,
        },
        port: look.port,
        protocol: CallProtocol::Http1,
        pace: Pace::Closed(look.requests),
        connections: look.connections,
        timeout: REQUEST_TIMEOUT,
        path: "/".to_owned(),
        headers: BTreeMap::new(),
        record: Vec::new(),
    };
    send_all(scene, sending, &text).await
}

/// Sends requests until every backend that has a share has answered once, or the time is over.
async fn warm_up(scene: &Scene, pod: &AgentPod, look: &SplitLook) -> Result<(), Problem> {
    let clock = scene.clock();
    let job = Job {
        name: format!("{}.{}.warm-up", scene.namespace(), look.ledger),
        run: scene.run.nonce.clone(),
        host: look.service.clone(),
        port: look.port,
        protocol: Protocol::Http1,
        load: Load::Closed {
            requests: 1_000_000,
            gap_ms: wall_ms(clock, WARM_UP_GAP),
        },
        connections: 1,
        timeout_ms: wall_ms(clock, REQUEST_TIMEOUT),
        path: "/".to_owned(),
        headers: BTreeMap::new(),
        record: Vec::new(),
        until_seen: None,
        fresh_connections: false,
    };
    let mut missing = look.backends.clone();
    let warming = async {
        let client = agents::connect(scene.cluster(&pod.cluster)?, pod, &scene.run.requests).await?;
        let mut running = run_job(client, pod, &job, clock).await?;
        while !missing.is_empty() {
            match running.next_row().await? {
                Some(row) => strike_out(&mut missing, &row),
                None => break,
            }
        }
        Ok(())
    };
    clock.within(WARM_UP_TIME, warming).await.unwrap_or(Ok(()))
}

fn strike_out(missing: &mut BTreeSet<String>, row: &ClientRow) {
    if let Outcome::Answered {
        server: Some(server), ..
    } = &row.outcome
    {
        missing.remove(&server.cluster);
    }
}
