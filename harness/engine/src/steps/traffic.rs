//! `call`, `traffic`, `stop`: jobs of agents, and their rows on the way into ledgers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use meshproof_agent::control::JobStream;
use meshproof_agent::protocol::{ClientRow, FailureKind, Job, JobEvent, Load, Outcome, Protocol};
use meshproof_spec::scalar::Target;
use meshproof_spec::scenario::{Call, CallProtocol, Expect, Step, Stop, Traffic};
use meshproof_verdict::ledger::{Answered, RequestResult, Row};
use tokio_util::task::AbortOnDropHandle;

use crate::agents::{self, AgentPod, unreachable_agent};
use crate::clock::{Clock, micros};
use crate::ledgers::LedgerBook;
use crate::lower::{Surroundings, protocol_name};
use crate::problem::{self, Problem};
use crate::reconcile::ServersBefore;
use crate::scene::{CallFlow, REQUEST_TIME, Scene};

/// Time for one request unless the scenario says otherwise (scenario time).
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections of background traffic unless the scenario says otherwise.
const TRAFFIC_CONNECTIONS: u32 = 4;
/// Time that is added to what a closed loop may take at worst (scenario time).
const CALL_SLACK: Duration = Duration::from_secs(30);
/// Rows that are written to a ledger at once, at most.
const ROWS_AT_ONCE: usize = 512;

/// Requests to be sent by one pod.
#[derive(Clone, Debug)]
pub(crate) struct Sending {
    /// Ledger that takes the rows.
    pub(crate) ledger: String,
    /// The client.
    pub(crate) pod: AgentPod,
    /// What is called.
    pub(crate) target: Target,
    /// Port of the Service.
    pub(crate) port: u16,
    /// What is spoken.
    pub(crate) protocol: CallProtocol,
    /// How many, and how fast (scenario time).
    pub(crate) pace: Pace,
    /// Connections.
    pub(crate) connections: u32,
    /// Per request (scenario time).
    pub(crate) timeout: Duration,
    /// Request path.
    pub(crate) path: String,
    /// Additional request headers.
    pub(crate) headers: BTreeMap<String, String>,
    /// Request headers to keep as the server saw them.
    pub(crate) record: Vec<String>,
}

impl Sending {
    fn flow(&self) -> CallFlow {
        CallFlow {
            cluster: self.pod.cluster.clone(),
            client: self.pod.workload.clone(),
            target: self.target.clone(),
            port: self.port,
        }
    }
}

/// How many requests, and how fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// In a closed loop, this many.
    Closed(u64),
    /// In an open loop, this many per second of scenario time, until stopped.
    Open(f64),
}

/// A job that runs.
pub(crate) struct RunningJob {
    /// Its name at the agent; prefix of its requests' ids.
    pub(crate) name: String,
    /// The pod that sends.
    pub(crate) pod: AgentPod,
    /// When it started (scenario µs).
    pub(crate) started_us: u64,
    stream: JobStream,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct JobEnd {
    /// Largest lateness of a start against its intended time (scenario µs).
    pub(crate) max_late_us: u64,
}

/// Background traffic.
pub(crate) struct RunningTraffic {
    /// When it started (scenario µs).
    pub(crate) started_us: u64,
    /// Name of the job at the agent.
    pub(crate) job: String,
    /// The pod that sends.
    pub(crate) pod: AgentPod,
    /// Servers there were when it started.
    pub(crate) servers: ServersBefore,
    /// Writes rows until the job ends; absent when it was stopped, or was being stopped.
    pub(crate) pump: Option<AbortOnDropHandle<Result<JobEnd, Problem>>>,
    /// Whether its ledger was closed.
    pub(crate) closed: bool,
}

/// `call`
pub(crate) async fn call(scene: &mut Scene, call: &Call) -> Result<(), Problem> {
    let cluster = scene.client_cluster(&call.from, call.r#in.as_ref())?;
    let pod = scene.sender(&cluster, &call.from.0).await?;
    let count = call.count.unwrap_or(1);
    let sending = Sending {
        ledger: call.name.0.clone(),
        pod,
        port: call.port.map_or_else(|| scene.port_of(&call.to), Ok)?,
        target: call.to.clone(),
        protocol: call.protocol,
        pace: Pace::Closed(count),
        connections: call.connections.unwrap_or(1),
        timeout: call.timeout.map_or(REQUEST_TIMEOUT, |span| span.0),
        path: call.path.clone().unwrap_or_else(|| "/".to_owned()),
        headers: call.headers.clone(),
        record: recorded_headers(scene, &call.name.0),
    };
    let text = format!(
        "{} ({cluster}) → {}, {count} requests over {}",
        call.from,
        call.to,
        protocol_name(call.protocol)
    );
    send_all(scene, sending, &text).await
}

/// Opens a ledger, sends all requests of a closed loop, and closes the ledger.
pub(crate) async fn send_all(scene: &mut Scene, sending: Sending, text: &str) -> Result<(), Problem> {
    scene.flows.insert(sending.ledger.clone(), sending.flow());
    scene.ledgers.open(&sending.ledger, text)?;
    let servers = scene.servers_before().await?;
    let ledger = sending.ledger.clone();
    let job = start(scene, &sending).await?;
    let name = job.name.clone();
    let requests = match sending.pace {
        Pace::Closed(count) => count.div_ceil(u64::from(sending.connections.max(1))),
        Pace::Open(_) => 1,
    };
    let worst = sending
        .timeout
        .saturating_mul(u32::try_from(requests).unwrap_or(u32::MAX))
        .saturating_add(CALL_SLACK);
    let clock = scene.clock();
    let pumped = clock
        .within(worst, pump(job, &scene.ledgers, &ledger, clock, &scene.run.nonce))
        .await;
    let end = match pumped {
        Ok(end) => end,
        Err(_) => Err(problem::harness(
            "step-deadline",
            format!("`{ledger}` did not end within {} s", worst.as_secs()),
            Some("see the log of the client's pod in the evidence"),
        )),
    };
    // Also of a call that broke off, what servers saw is worth knowing.
    let closed = scene
        .close_ledger(&ledger, &name, &servers, end.as_ref().map_or(0, |end| end.max_late_us))
        .await;
    end?;
    closed
}

/// `traffic`
pub(crate) async fn traffic(scene: &mut Scene, traffic: &Traffic) -> Result<(), Problem> {
    let cluster = scene.client_cluster(&traffic.from, traffic.r#in.as_ref())?;
    let pod = scene.sender(&cluster, &traffic.from.0).await?;
    let name = traffic.name.0.clone();
    let sending = Sending {
        ledger: name.clone(),
        pod: pod.clone(),
        port: traffic.port.map_or_else(|| scene.port_of(&traffic.to), Ok)?,
        target: traffic.to.clone(),
        protocol: traffic.protocol,
        pace: Pace::Open(traffic.rate.0),
        connections: traffic.connections.unwrap_or(TRAFFIC_CONNECTIONS),
        timeout: traffic.timeout.map_or(REQUEST_TIMEOUT, |span| span.0),
        path: "/".to_owned(),
        headers: BTreeMap::new(),
        record: recorded_headers(scene, &name),
    };
    scene.flows.insert(name.clone(), sending.flow());
    let text = format!(
        "{} ({cluster}) → {}, {}/s over {}",
        traffic.from,
        traffic.to,
        traffic.rate.0,
        protocol_name(traffic.protocol)
    );
    scene.ledgers.open(&name, &text)?;
    let servers = scene.servers_before().await?;
    let job = start(scene, &sending).await?;
    let (started_us, job_name) = (job.started_us, job.name.clone());
    let (ledgers, clock, nonce) = (Arc::clone(&scene.ledgers), scene.clock(), scene.run.nonce.clone());
    let ledger = name.clone();
    let pump = tokio::spawn(async move { pump(job, &ledgers, &ledger, clock, &nonce).await });
    scene.traffic.insert(
        name,
        RunningTraffic {
            started_us,
            job: job_name,
            pod,
            servers,
            pump: Some(AbortOnDropHandle::new(pump)),
            closed: false,
        },
    );
    Ok(())
}

/// `stop`
pub(crate) async fn stop(scene: &mut Scene, stop: &Stop) -> Result<(), Problem> {
    stop_traffic(scene, &stop.traffic.0).await
}

/// Stops background traffic and closes its ledger. Does nothing when it was stopped before.
pub(crate) async fn stop_traffic(scene: &mut Scene, name: &str) -> Result<(), Problem> {
    let Some(running) = scene.traffic.get_mut(name) else {
        return Err(problem::harness(
            "unknown-traffic",
            format!("there is no traffic `{name}`"),
            Some("run `meshproof lint` on the file"),
        ));
    };
    if running.closed {
        return Ok(());
    }
    let (pod, job, servers) = (running.pod.clone(), running.job.clone(), running.servers.clone());
    // Without it somebody gave up while stopping: the job went with its connection, and its ledger is still open.
    let pump = running.pump.take();
    let clock = scene.clock();
    let stopped = clock
        .within(REQUEST_TIME, async {
            let Some(pump) = pump else {
                return Ok(JobEnd::default());
            };
            if !pump.is_finished() {
                let mut client = agents::connect(scene.cluster(&pod.cluster)?, &pod, &scene.run.requests).await?;
                client
                    .stop_job(&job)
                    .await
                    .map_err(|error| unreachable_agent(&pod, &error.to_string()))?;
            }
            pump.await
                .unwrap_or_else(|error| Err(unreachable_agent(&pod, &error.to_string())))
        })
        .await
        .unwrap_or_else(|_| Err(unreachable_agent(&pod, "it did not stop its traffic in time")));
    let late = stopped.as_ref().map_or(0, |end| end.max_late_us);
    let closed = scene.close_ledger(name, &job, &servers, late).await;
    if let Some(running) = scene.traffic.get_mut(name) {
        running.closed = true;
    }
    stopped?;
    closed
}

/// Starts a job at its agent. The job stops when the result is dropped.
pub(crate) async fn start(scene: &Scene, sending: &Sending) -> Result<RunningJob, Problem> {
    let clock = scene.clock();
    let cluster = scene.cluster(&sending.pod.cluster)?;
    let client = agents::connect(cluster, &sending.pod, &scene.run.requests).await?;
    let job = Job {
        name: format!("{}.{}.{}", scene.namespace(), sending.ledger, sending.pod.cluster),
        run: scene.run.nonce.clone(),
        host: scene.host_of(&sending.pod.cluster, &sending.target),
        port: sending.port,
        protocol: protocol(sending.protocol),
        load: match sending.pace {
            Pace::Closed(requests) => Load::Closed { requests, gap_ms: 0 },
            Pace::Open(per_second) => Load::Open {
                per_second: per_second * clock.pace(),
                requests: None,
            },
        },
        connections: sending.connections,
        timeout_ms: wall_ms(clock, sending.timeout),
        path: sending.path.clone(),
        headers: sending.headers.clone(),
        record: sending.record.clone(),
        until_seen: None,
        fresh_connections: false,
    };
    run_job(client, &sending.pod, &job, clock).await
}

/// Hands a job to an agent and waits until it has started.
pub(crate) async fn run_job(
    client: meshproof_agent::control::Client,
    pod: &AgentPod,
    job: &Job,
    clock: Clock,
) -> Result<RunningJob, Problem> {
    let lost = |error: &dyn std::fmt::Display| unreachable_agent(pod, &error.to_string());
    let asked_us = epoch_us();
    let started = clock.within(REQUEST_TIME, async {
        let mut stream = client.start_job(job).await.map_err(|error| lost(&error))?;
        match stream.next().await {
            Some(Ok(JobEvent::Started { epoch_us })) => Ok((stream, epoch_us)),
            Some(Ok(other)) => Err(lost(&format!("it began with {other:?}"))),
            Some(Err(error)) => Err(lost(&error)),
            None => Err(lost(&"it said nothing")),
        }
    });
    let (stream, began_us) = started
        .await
        .unwrap_or_else(|_| Err(unreachable_agent(pod, "it did not start the job in time")))?;
    // The clocks of two machines differ; the job began between the request and the answer.
    let began_us = began_us.clamp(asked_us, epoch_us().max(asked_us));
    Ok(RunningJob {
        name: job.name.clone(),
        pod: pod.clone(),
        started_us: clock.at_epoch_us(began_us),
        stream,
    })
}

fn epoch_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, micros)
}

/// Writes the rows of a job into a ledger until the job ends.
async fn pump(
    job: RunningJob,
    ledgers: &LedgerBook,
    ledger: &str,
    clock: Clock,
    nonce: &str,
) -> Result<JobEnd, Problem> {
    let RunningJob {
        pod,
        started_us,
        stream,
        ..
    } = job;
    let client = pod.to_string();
    let mut end = None;
    let mut chunks = stream.ready_chunks(ROWS_AT_ONCE);
    while let Some(events) = chunks.next().await {
        let mut rows = Vec::with_capacity(events.len());
        let mut lost = None;
        for event in events {
            match event {
                Ok(JobEvent::Row(row)) => rows.push(to_row(row, started_us, clock, &client, nonce)),
                Ok(JobEvent::Ended { max_late_us, .. }) => {
                    end = Some(JobEnd {
                        max_late_us: scenario_us(clock, max_late_us),
                    });
                }
                Ok(JobEvent::Started { .. }) => {}
                Err(error) => lost = Some(unreachable_agent(&pod, &error.to_string())),
            }
        }
        ledgers.append(ledger, rows)?;
        if let Some(problem) = lost {
            return Err(problem);
        }
    }
    end.ok_or_else(|| unreachable_agent(&pod, "its rows broke off"))
}

impl RunningJob {
    /// The next row, for jobs that are no measurement. Nothing when the job ended.
    ///
    /// # Errors
    /// When the agent is lost.
    pub(crate) async fn next_row(&mut self) -> Result<Option<ClientRow>, Problem> {
        loop {
            match self.stream.next().await {
                Some(Ok(JobEvent::Row(row))) => return Ok(Some(row)),
                Some(Ok(JobEvent::Started { .. })) => {}
                Some(Ok(JobEvent::Ended { .. })) | None => return Ok(None),
                Some(Err(error)) => return Err(unreachable_agent(&self.pod, &error.to_string())),
            }
        }
    }
}

fn scenario_us(clock: Clock, wall_us: u64) -> u64 {
    micros(clock.scenario(Duration::from_micros(wall_us)))
}

/// Wall milliseconds of a scenario time, at least one.
pub(crate) fn wall_ms(clock: Clock, scenario: Duration) -> u64 {
    u64::try_from(clock.wall(scenario).as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
}

fn protocol(protocol: CallProtocol) -> Protocol {
    match protocol {
        CallProtocol::Http1 => Protocol::Http1,
        CallProtocol::Http2 => Protocol::Http2,
        CallProtocol::Tcp => Protocol::Tcp,
    }
}

/// An agent's row as a row of a ledger: in scenario time since the start of the run.
fn to_row(row: ClientRow, zero_us: u64, clock: Clock, client: &str, nonce: &str) -> Row {
    let at = |wall_us: u64| zero_us.saturating_add(scenario_us(clock, wall_us));
    let result = match row.outcome {
        Outcome::Answered {
            status,
            server,
            host,
            protocol,
            port,
            seen,
            error_headers,
        } => RequestResult::Answered(Answered {
            status,
            nonce_matches: server.as_ref().is_some_and(|server| server.nonce == nonce),
            cluster: server.as_ref().map(|server| server.cluster.clone()),
            pod: server.map(|server| server.pod),
            host,
            protocol: protocol.map(|protocol| {
                match protocol {
                    Protocol::Http1 => "http1",
                    Protocol::Http2 => "http2",
                    Protocol::Tcp => "tcp",
                }
                .to_owned()
            }),
            port,
            seen,
            error_headers,
        }),
        Outcome::Failed { kind, detail } => RequestResult::Failed {
            kind: failure_name(kind).to_owned(),
            detail,
        },
    };
    Row {
        id: row.id,
        intended_us: at(row.intended_us),
        started_us: at(row.started_us),
        ended_us: at(row.ended_us),
        client: client.to_owned(),
        connection: row.connection,
        result,
    }
}

fn failure_name(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Name => "name",
        FailureKind::Refused => "refused",
        FailureKind::Closed => "closed",
        FailureKind::Timeout => "timeout",
        FailureKind::Protocol => "protocol",
        FailureKind::Stopped => "stopped",
    }
}

/// Request headers that checks of this call or traffic look at.
fn recorded_headers(scene: &Scene, ledger: &str) -> Vec<String> {
    let looks_at = |expect: &Expect| {
        expect.call.as_ref().is_some_and(|name| name.0 == ledger)
            || expect.traffic.as_ref().is_some_and(|name| name.0 == ledger)
    };
    let mut headers: Vec<String> = scene
        .plan
        .scenario
        .scenario
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Expect(expect) if looks_at(expect) => expect.answered.as_ref(),
            _ => None,
        })
        .flat_map(|answered| answered.seen.keys())
        .map(|header| header.to_ascii_lowercase())
        .collect();
    headers.sort_unstable();
    headers.dedup();
    headers
}
