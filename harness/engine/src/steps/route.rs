//! `route` and `unroute`: splits, and the marker that tells when a split is live.
//!
//! A new route adds a request header with a value of its own (the marker), which agents echo. The step ends when *every*
//! meshed client of the cluster has seen it in [`IN_A_ROW`] answers in a row; nothing is measured before. Only answers of
//! agents count: a request that no agent answered (a dead or missing backend beside a live one) neither helps nor breaks
//! the row, an agent's answer without the marker breaks it. Where no backend with a weight is meant to exist (all of them
//! are `missing`), no answer can carry a marker; then the route is live when that many requests in a row are answered by
//! no agent, which only this route can cause as long as something answered before. When all backends exist and all are
//! dead, nothing can tell the new route from the old one: the step fails with `route-not-live` after its time.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use meshproof_agent::protocol::{ClientRow, Outcome};
use meshproof_spec::scalar::Target;
use meshproof_spec::scenario::{Route, Unroute};
use meshproof_verdict::record::{Event, MarkerSeen};
use meshproof_verdict::wakefulness::Diligence;
use serde_json::Value;

use super::probing::{Probing, send_until};
use crate::agents::AgentPod;
use crate::api::{dynamic, text_at};
use crate::clock::micros;
use crate::driver::{MARKER_HEADER, RouteRequest};
use crate::lower::Surroundings;
use crate::ownership::labelled;
use crate::problem::{self, Problem};
use crate::scene::{REQUEST_TIME, Scene};

/// Answers in a row that must carry the marker.
const IN_A_ROW: u32 = 20;
/// Time for a route to be live at every client (scenario time).
const LIVE_TIME: Duration = Duration::from_secs(30);
/// A request of the barrier is given up after this (scenario time), so that a dead backend does not use the time up.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// Pause of the barrier between two requests (scenario time).
const GAP: Duration = Duration::from_millis(20);

pub(crate) async fn route(scene: &mut Scene, step: &Route) -> Result<(), Problem> {
    let cluster = step.r#in.0.clone();
    let target = Target {
        service: step.service.clone(),
        cluster: None,
    };
    let marker = format!("{}.{}", scene.namespace(), scene.step);
    let request = RouteRequest {
        namespace: scene.namespace().to_owned(),
        service: step.service.0.clone(),
        port: scene.port_of(&target)?,
        backends: step
            .backends
            .iter()
            .map(|backend| (scene.host_of(&cluster, &backend.to), backend.weight))
            .collect(),
        marker: marker.clone(),
    };
    let objects = scene.testbed.driver.route(&request).map_err(|message| {
        problem::harness(
            "unsupported-route",
            message,
            Some("write a route that the mesh can express"),
        )
    })?;
    scene
        .routes
        .insert((cluster.clone(), step.service.0.clone()), objects.clone());
    for object in &objects {
        apply(scene, &cluster, object).await?;
    }
    let clients = meshed_clients(scene, &cluster).await?;
    if clients.is_empty() {
        return Err(problem::harness(
            "route-no-client",
            format!("{cluster}: no meshed client is deployed that could tell when the route is live"),
            Some("deploy a client in this cluster before the `route` step"),
        ));
    }
    let weighted = || step.backends.iter().filter(|backend| backend.weight > 0);
    let sign = if weighted().all(|backend| backend.missing) {
        Sign::NoAgentAnswers
    } else {
        Sign::Marker
    };
    let scene = &*scene;
    let (marker, host, port) = (marker.as_str(), step.service.0.as_str(), request.port);
    try_join_all(
        clients
            .iter()
            .map(|pod| await_live(scene, pod, host, port, marker, sign)),
    )
    .await
    .map(drop)
}

pub(crate) async fn unroute(scene: &mut Scene, step: &Unroute) -> Result<(), Problem> {
    let key = (step.r#in.0.clone(), step.service.0.clone());
    let objects = scene.routes.remove(&key).ok_or_else(|| {
        problem::harness(
            "unknown-route",
            format!("{}: there is no route of `{}`", step.r#in, step.service),
            Some("run `meshproof lint` on the file"),
        )
    })?;
    for object in &objects {
        delete(scene, &key.0, object).await?;
    }
    Ok(())
}

/// What tells that a route is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    /// Agents echo the marker.
    Marker,
    /// No agent answers any more.
    NoAgentAnswers,
}

/// What one request of the barrier says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Live,
    NotLive,
    Nothing,
}

fn says(row: &ClientRow, marker: &str, sign: Sign) -> Says {
    let seen = match &row.outcome {
        Outcome::Answered {
            server: Some(_), seen, ..
        } => Some(seen),
        Outcome::Answered { server: None, .. } | Outcome::Failed { .. } => None,
    };
    match (sign, seen) {
        (Sign::Marker, None) => Says::Nothing,
        (Sign::Marker, Some(seen)) => {
            let echoed = seen
                .get(MARKER_HEADER)
                .is_some_and(|values| values.iter().any(|value| value == marker));
            if echoed { Says::Live } else { Says::NotLive }
        }
        (Sign::NoAgentAnswers, None) => Says::Live,
        (Sign::NoAgentAnswers, Some(_)) => Says::NotLive,
    }
}

/// Sends requests from one client until the route is live there.
async fn await_live(
    scene: &Scene,
    pod: &AgentPod,
    host: &str,
    port: u16,
    marker: &str,
    sign: Sign,
) -> Result<(), Problem> {
    let probing = Probing {
        name: format!("{marker}.barrier.{}", pod.pod),
        host: host.to_owned(),
        port,
        gap: GAP,
        timeout: REQUEST_LIMIT,
        record: vec![MARKER_HEADER.to_owned()],
    };
    let (mut did, mut in_a_row, mut last) = (Diligence::default(), 0_u32, String::from("no answer"));
    let clock = scene.clock();
    let waiting = send_until(scene, pod, probing, |row| {
        did.sent += 1;
        let late = Duration::from_micros(row.started_us.saturating_sub(row.intended_us));
        did.late_us = did.late_us.max(micros(clock.scenario(late)));
        match says(row, marker, sign) {
            Says::Live => in_a_row += 1,
            Says::NotLive => in_a_row = 0,
            Says::Nothing => {}
        }
        last = format!("{:?}", row.outcome);
        in_a_row == IN_A_ROW
    });
    match clock.within(LIVE_TIME, waiting).await {
        Ok(done) => done?,
        Err(_) => {
            scene.sent(pod, did);
            last.truncate(last.char_indices().nth(400).map_or(last.len(), |(end, _)| end));
            return Err(problem::mesh(
                "route-not-live",
                format!(
                    "{}: the route of `{host}` is not live at {pod} after {} s and {} requests; the last one: {last}",
                    pod.cluster,
                    LIVE_TIME.as_secs(),
                    did.sent,
                ),
                Some("see whether the mesh accepted the route (its status) and whether a backend answers"),
            ));
        }
    }
    scene.run.journal.note(Event::MarkerSeen(MarkerSeen {
        scenario: scene.key().to_owned(),
        step: scene.step,
        client: pod.to_string(),
        marker: marker.to_owned(),
        requests: did.sent,
    }));
    Ok(())
}

async fn meshed_clients(scene: &Scene, cluster: &str) -> Result<Vec<AgentPod>, Problem> {
    let mut pods = Vec::new();
    for workload in &scene.workloads {
        if workload.is_client && workload.meshed && workload.cluster == cluster {
            let ready = scene.pods(cluster, &workload.name).await?;
            pods.extend(ready.into_iter().filter(|(_, ready)| *ready).map(|(pod, _)| pod));
        }
    }
    Ok(pods)
}

/// Applies an object of the scenario's namespace.
async fn apply(scene: &Scene, cluster: &str, object: &Value) -> Result<(), Problem> {
    let kind = scene
        .kind(cluster, text_at(object, "/kind"), Some(text_at(object, "/apiVersion")))
        .await?;
    let api = dynamic(
        &scene.cluster(cluster)?.client,
        &kind.resource,
        kind.namespace(scene.namespace()),
    );
    let name = text_at(object, "/metadata/name");
    let what = format!("{cluster}: apply {} {}/{name}", kind.resource.kind, scene.namespace());
    scene
        .run
        .requests
        .apply(&what, REQUEST_TIME, &api, name, &labelled(object, &scene.run.run))
        .await?;
    Ok(())
}

/// Deletes an object of the scenario's namespace and waits until it is gone.
async fn delete(scene: &Scene, cluster: &str, object: &Value) -> Result<(), Problem> {
    let kind = scene
        .kind(cluster, text_at(object, "/kind"), Some(text_at(object, "/apiVersion")))
        .await?;
    let api = dynamic(
        &scene.cluster(cluster)?.client,
        &kind.resource,
        kind.namespace(scene.namespace()),
    );
    let name = text_at(object, "/metadata/name").to_owned();
    let what = format!("{cluster}: delete {} {}/{name}", kind.resource.kind, scene.namespace());
    if !scene.run.requests.delete(&what, REQUEST_TIME, &api, &name).await? {
        return Ok(());
    }
    let mut watch = scene.testbed.watches.subscribe(crate::watch::WatchKey {
        cluster: cluster.to_owned(),
        namespace: kind.namespace(scene.namespace()).map(ToOwned::to_owned),
        resource: kind.resource.clone(),
        labels: None,
    });
    let gone = |objects: &[Arc<Value>]| {
        (!objects.iter().any(|object| text_at(object, "/metadata/name") == name)).then_some(())
    };
    match scene.clock().within(REQUEST_TIME, watch.until(gone)).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(problem::environment(
            "step-deadline",
            format!("{what}: it is not gone after {} s", REQUEST_TIME.as_secs()),
            Some("see whether it has a finalizer whose controller does not answer"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::{Says, Sign, says};
    use meshproof_agent::protocol::{ClientRow, Identity, MARKER_HEADER, Outcome};
    use rstest::rstest;

    fn row(marker: Option<&str>, agent: bool) -> ClientRow {
        let server = Identity {
            cluster: "west".to_owned(),
            namespace: "n".to_owned(),
            workload: "store".to_owned(),
            pod: "store-0".to_owned(),
            nonce: "1".to_owned(),
        };
        ClientRow {
            id: "j-0".to_owned(),
            intended_us: 0,
            started_us: 0,
            ended_us: 1,
            connection: 0,
            outcome: Outcome::Answered {
                status: 200,
                server: agent.then_some(server),
                host: None,
                protocol: None,
                port: None,
                seen: marker
                    .map(|marker| (MARKER_HEADER.to_owned(), vec![marker.to_owned()]))
                    .into_iter()
                    .collect(),
                error_headers: [].into(),
            },
        }
    }

    #[rstest]
    #[case::the_marker(Some("m"), true, Sign::Marker, Says::Live)]
    #[case::the_marker_of_an_older_route(Some("old"), true, Sign::Marker, Says::NotLive)]
    #[case::no_marker(None, true, Sign::Marker, Says::NotLive)]
    #[case::a_proxys_error(None, false, Sign::Marker, Says::Nothing)]
    #[case::nobody_is_meant_to_answer(None, false, Sign::NoAgentAnswers, Says::Live)]
    #[case::but_somebody_does(None, true, Sign::NoAgentAnswers, Says::NotLive)]
    fn only_agents_tell(#[case] marker: Option<&str>, #[case] agent: bool, #[case] sign: Sign, #[case] expected: Says) {
        assert_eq!(says(&row(marker, agent), "m", sign), expected);
    }
}
