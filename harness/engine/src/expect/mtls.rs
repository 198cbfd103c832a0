//! `expect: {mtls: …}`: a proof in four legs. The target names its peer, the proxies' counters move by exactly the requests
//! that were sent, a client without the mesh reaches nobody, and a canary in the requests is not seen on the wire while
//! that of a plaintext control is.
//!
//! Without a tap (the environment has no `relay`, or nothing leaves the cluster) the last leg is missing, and the question
//! says so.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use meshproof_agent::protocol::CANARY_HEADER;
use meshproof_spec::scenario::CallProtocol;
use meshproof_verdict::question::{Observation, SecurityEvidence};
use rand::Rng;

use crate::driver::Counter;
use crate::environment::Tap;
use crate::lower::{MTLS_REQUESTS, MtlsLook};
use crate::metrics;
use crate::problem::{self, Problem};
use crate::scene::{REQUEST_TIME, Scene};
use crate::steps::traffic::{Pace, REQUEST_TIMEOUT, Sending, send_all};

/// Requests before the counters are read: the first after idleness pays for discovery, and counts differently.
const WARM_UP: u64 = 2;
/// Characters of a canary.
const CANARY_LENGTH: usize = 32;

pub(super) async fn measure(scene: &mut Scene, look: &MtlsLook) -> Result<Observation, Problem> {
    let flow = &look.flow;
    let tap = if look.tap {
        Some(
            scene
                .testbed
                .running
                .tap(&flow.client_cluster, &flow.server_cluster)
                .await?,
        )
    } else {
        None
    };
    let mut warm_up = sending(scene, look, &flow.client, &format!("{}-warm-up", look.ledger)).await?;
    warm_up.pace = Pace::Closed(WARM_UP);
    send(scene, warm_up).await?;

    let (canary, control) = (canary(), canary());
    if let Some(tap) = &tap {
        tap.look_for(canary.as_bytes()).await;
        tap.look_for(control.as_bytes()).await;
    }
    let before = read(scene, &look.counters).await?;
    let tapped_before = bytes(tap.as_deref()).await;
    let mut proof = sending(scene, look, &flow.client, &look.ledger).await?;
    proof.headers.insert(CANARY_HEADER.to_owned(), canary.clone());
    proof.record.extend(look.peer_header.iter().cloned());
    send(scene, proof).await?;
    let tapped_after = bytes(tap.as_deref()).await;
    let after = read(scene, &look.counters).await?;

    let mut stranger = sending(scene, look, &look.stranger, &look.stranger_ledger).await?;
    // What the stranger sends is in plaintext: its canary is the control.
    stranger.headers.insert(CANARY_HEADER.to_owned(), control.clone());
    send(scene, stranger).await?;

    let evidence = SecurityEvidence {
        counters: after
            .iter()
            .map(|(name, value)| (name.clone(), value - before.get(name).copied().unwrap_or(0.0)))
            .collect(),
        tapped_bytes: tapped_after
            .zip(tapped_before)
            .map(|(after, before)| after.saturating_sub(before)),
        canary_on_wire: saw(tap.as_deref(), &canary).await,
        control_canary_on_wire: saw(tap.as_deref(), &control).await,
    };
    Ok(Observation::Security(evidence))
}

async fn sending(scene: &Scene, look: &MtlsLook, client: &str, ledger: &str) -> Result<Sending, Problem> {
    Ok(Sending {
        ledger: ledger.to_owned(),
        pod: scene.sender(&look.flow.client_cluster, client).await?,
        target: look.target.clone(),
        port: look.flow.port,
        protocol: CallProtocol::Http1,
        pace: Pace::Closed(MTLS_REQUESTS),
        connections: 1,
        timeout: REQUEST_TIMEOUT,
        path: "/".to_owned(),
        headers: BTreeMap::new(),
        record: Vec::new(),
    })
}

async fn send(scene: &mut Scene, sending: Sending) -> Result<(), Problem> {
    let text = format!(
        "{} ({}) → {}",
        sending.pod.workload, sending.pod.cluster, sending.target
    );
    send_all(scene, sending, &text).await
}

fn canary() -> String {
    rand::rng()
        .sample_iter(rand::distr::Alphanumeric)
        .take(CANARY_LENGTH)
        .map(char::from)
        .collect()
}

async fn bytes(tap: Option<&dyn Tap>) -> Option<u64> {
    match tap {
        Some(tap) => Some(tap.bytes().await),
        None => None,
    }
}

async fn saw(tap: Option<&dyn Tap>, canary: &str) -> Option<bool> {
    match tap {
        Some(tap) => Some(tap.saw(canary.as_bytes()).await),
        None => None,
    }
}

/// The present values of counters: of each, the sum over all its pods.
async fn read(scene: &Scene, counters: &[Counter]) -> Result<BTreeMap<String, f64>, Problem> {
    let read = try_join_all(counters.iter().map(|counter| async move {
        let cluster = scene.cluster(&counter.cluster)?;
        let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &counter.namespace);
        let parameters = ListParams::default().labels(&counter.selector);
        let what = format!("{}: list pods with {}", cluster.name, counter.selector);
        let pods = scene
            .run
            .requests
            .send(&what, REQUEST_TIME, || pods.list(&parameters))
            .await?;
        if pods.items.is_empty() {
            return Err(problem::environment(
                "no-ready-pod",
                format!(
                    "{what} in {}: none, so that `{}` can't be read",
                    counter.namespace, counter.name
                ),
                Some("see whether the proxy's pods run"),
            ));
        }
        let mut value = 0.0;
        for pod in pods.items {
            let name = pod.metadata.name.unwrap_or_default();
            let page = metrics::fetch(cluster, &counter.namespace, &name, counter.port, &scene.run.requests).await?;
            value += metrics::sum(&metrics::parse(&page), &counter.metric, &counter.labels);
        }
        Ok((counter.name.clone(), value))
    }))
    .await?;
    Ok(read.into_iter().collect())
}
