//! How long it takes from a condition becoming true to the step that waits for it being over, and what waiting costs the
//! API. Measured through the whole engine: watch, judge, journal on disk.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::PostParams;
use meshproof_spec::scenario::Scenario;
use meshproof_spec::topology::Topology;
use meshproof_verdict::record::{CheckOpened, Event, Outcome, Record};
use serde_json::json;
use tokio::sync::broadcast;

use crate::environment::Environment;
use crate::plan::{Plan, RunIdentity, Selection, Suite, SuiteScenario, Surroundings};
use crate::problem::{self, Problem};
use crate::session::{RunOptions, Session};
use crate::testbed::DriverFactory;

/// How long a check looks before its condition is made true (wall time), so that it really waits.
const WAITING: Duration = Duration::from_millis(5);
/// Name of the measuring scenario.
const SCENARIO: &str = "latency";

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Latencies {
    /// From sending the write to the check being closed and durable (wall time), sorted.
    pub samples: Vec<Duration>,
    /// Lists and starts of watches that the engine made while all checks together waited.
    pub api_requests: u64,
}

impl Latencies {
    /// The latency that this share (0 to 1) of the samples does not exceed.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let last = self.samples.len().checked_sub(1)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index of a short list"
        )]
        let index = ((share.clamp(0.0, 1.0) * last as f64).ceil() as usize).min(last);
        self.samples.get(index).copied()
    }
}

/// Runs one scenario of `rounds` checks on clusters of this topology, each waiting for an object that is made while it
/// waits.
///
/// # Errors
/// When the environment or the run fails; a check that does not pass is a problem, too.
pub async fn condition_to_step(
    environment: Arc<dyn Environment>,
    driver: Arc<DriverFactory>,
    topology: Topology,
    run_dir: PathBuf,
    rounds: usize,
) -> Result<Latencies, Problem> {
    let cluster = topology
        .clusters
        .keys()
        .next()
        .map(|name| name.0.clone())
        .unwrap_or_default();
    let plan = plan(environment.as_ref(), topology, &cluster, rounds)?;
    let Some(planned) = plan.scenarios.first() else {
        return Err(failed("the plan is empty"));
    };
    let (namespace, key) = (planned.namespace.clone(), planned.environment.clone());
    let session = Session::open(plan, environment, driver, RunOptions::new(run_dir)).await?;
    let testbed = session.testbed(&key).await?;
    let client = testbed.cluster(&cluster)?.client.clone();
    let records = session.records();
    let before = testbed.watches.requests();
    let writer = write_when_asked(records, Api::namespaced(client, &namespace), rounds);
    let (history, samples) = tokio::join!(session.run(SCENARIO), writer);
    let api_requests = testbed.watches.requests() - before;
    let outcome = history?.outcome();
    drop(testbed);
    session.close().await?;
    if outcome != Outcome::Pass {
        return Err(failed(&format!("the measuring scenario ended with {outcome:?}")));
    }
    let mut samples = samples?;
    samples.sort_unstable();
    Ok(Latencies { samples, api_requests })
}

fn failed(message: &str) -> Problem {
    problem::harness("benchmark", message, Some("see the journal in the run's folder"))
}

fn plan(environment: &dyn Environment, topology: Topology, cluster: &str, rounds: usize) -> Result<Plan, Problem> {
    let steps: Vec<_> = (0..rounds)
        .map(|round| {
            json!({"expect": {
                "id": "MC-BENCH-001",
                "object": {"in": cluster, "kind": "ConfigMap", "name": format!("round-{round}")},
                "within": "60s",
            }})
        })
        .collect();
    let scenario: Scenario = serde_json::from_value(json!({
        "scenario": SCENARIO,
        "summary": "Waits for objects that are made while it waits.",
        "topology": topology.topology,
        "checks": ["MC-BENCH-001"],
        "steps": steps,
    }))
    .map_err(|error| failed(&error.to_string()))?;
    let suite = Suite {
        scenarios: vec![Arc::new(SuiteScenario {
            id: SCENARIO.to_owned(),
            area: "benchmark".to_owned(),
            file: "benchmark".to_owned(),
            folder: PathBuf::new(),
            digest: String::new(),
            lines: Vec::new(),
            scenario,
        })],
        topologies: BTreeMap::from([(topology.topology.0.clone(), topology)]),
        ..Suite::default()
    };
    let surroundings = Surroundings {
        environment: environment.kind().to_owned(),
        certifies: false,
        pace: environment.pace(),
        environment_capabilities: environment.capabilities(),
        ..Surroundings::default()
    };
    let identity = RunIdentity {
        run: "benchmark".to_owned(),
        short: "bench".to_owned(),
        seed: 1,
        defects: Vec::new(),
    };
    Plan::new(&suite, &Selection::default(), surroundings, identity).map_err(|error| failed(&error.to_string()))
}

/// Makes each check's object a moment after the check was opened, and measures until it is closed.
async fn write_when_asked(
    mut records: broadcast::Receiver<Arc<Record>>,
    objects: Api<ConfigMap>,
    rounds: usize,
) -> Result<Vec<Duration>, Problem> {
    let mut samples = Vec::with_capacity(rounds);
    let mut written = None;
    while samples.len() < rounds {
        let record = records.recv().await.map_err(|error| failed(&error.to_string()))?;
        match &record.event {
            Event::CheckOpened(CheckOpened { check, .. }) => {
                tokio::time::sleep(WAITING).await;
                let mut object = ConfigMap::default();
                object.metadata.name = Some(format!("round-{check}"));
                written = Some(Instant::now());
                objects
                    .create(&PostParams::default(), &object)
                    .await
                    .map_err(|error| failed(&crate::api::describe(&error)))?;
            }
            Event::CheckClosed(_) => samples.extend(written.take().map(|written| written.elapsed())),
            Event::ScenarioEnded(_) => break,
            _ => {}
        }
    }
    Ok(samples)
}
