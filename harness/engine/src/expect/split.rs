//! `expect: {split: …}`: one measurement, its size fixed beforehand.
//!
//! A split is only defined while all backends are ready, and a proxy that has never called a backend, or whose connection
//! to it broke, sends its share to the others without any error until it is connected. So each backend must have answered
//! once before counting begins; requests until then belong to no ledger. A backend that does not answer in
//! [`WARM_UP_TIME`] is left to the measurement to find wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meshproof_agent::protocol::{ClientRow, Outcome};
use meshproof_spec::scalar::{Name, Target};
use meshproof_spec::scenario::CallProtocol;

use crate::agents::AgentPod;
use crate::lower::SplitLook;
use crate::problem::Problem;
use crate::scene::Scene;
use crate::steps::probing::{Probing, send_until};
use crate::steps::traffic::{Pace, REQUEST_TIMEOUT, Sending, send_all};

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
    let probing = Probing {
        name: format!("{}.{}.warm-up", scene.namespace(), look.ledger),
        host: look.service.clone(),
        port: look.port,
        gap: WARM_UP_GAP,
        timeout: REQUEST_TIMEOUT,
        record: Vec::new(),
    };
    let mut missing = look.backends.clone();
    let warming = send_until(scene, pod, probing, |row| {
        strike_out(&mut missing, row);
        missing.is_empty()
    });
    scene.clock().within(WARM_UP_TIME, warming).await.unwrap_or(Ok(()))
}

fn strike_out(missing: &mut BTreeSet<String>, row: &ClientRow) {
    if let Outcome::Answered {
        server: Some(server), ..
    } = &row.outcome
    {
        missing.remove(&server.cluster);
    }
}
