//! `meshproof bench`: the harness measured, as a table. Times are of the machine at hand; ratios say more than numbers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use meshproof_agent::OsNetwork;
use meshproof_agent::control::Client;
use meshproof_agent::network::Network;
use meshproof_agent::protocol::{Identity, Job, JobEvent, Load, Protocol};
use meshproof_agent::server::{Server, ServerConfig};
use meshproof_embedded::environment::Embedded;
use meshproof_engine::bench::condition_to_step;
use meshproof_engine::plan::{Plan, Selection};
use meshproof_engine::{Engine, RunOptions};
use meshproof_mesh::defect::Defects;
use meshproof_spec::scalar::Name;
use meshproof_spec::suite::Suite;
use serde::Serialize;

use crate::args::{BenchArgs, Format};
use crate::exit_code::Exit;
use crate::place::Place;
use crate::signals::listen_once;
use crate::{output, planning, suite};

/// Checks of the waiting benchmark.
const ROUNDS: usize = 300;
/// Requests of each closed-loop measurement.
const REQUESTS: u64 = 20_000;
/// Rate of the open-loop measurement, requests per second.
const RATE: f64 = 1000.0;

/// A measured number.
#[derive(Debug, Serialize)]
struct Measure {
    benchmark: &'static str,
    measure: String,
    value: f64,
    unit: &'static str,
}

fn measure(benchmark: &'static str, measure: impl Into<String>, value: f64, unit: &'static str) -> Measure {
    Measure {
        benchmark,
        measure: measure.into(),
        value,
        unit,
    }
}

/// Measures and prints.
///
/// # Errors
/// The exit code of what is wrong with the suite or the arguments.
pub async fn run(args: &BenchArgs) -> Result<Exit, Exit> {
    let known = ["agent", "waiting", "suite"];
    if let Some(unknown) = args.names.iter().find(|name| !known.contains(&name.as_str())) {
        output::note(&format!(
            "error: there is no benchmark `{unknown}`; there are {}",
            known.join(", ")
        ));
        return Err(Exit::Usage);
    }
    let loaded = suite::load(&args.suite, &[])?;
    let wanted = |name: &str| args.names.is_empty() || args.names.iter().any(|wanted| wanted == name);
    let measured = async {
        let mut measures = Vec::new();
        if wanted("agent") {
            measures.extend(agent().await?);
        }
        if wanted("waiting") {
            measures.extend(waiting(&loaded).await?);
        }
        if wanted("suite") {
            measures.extend(whole_suite(&loaded).await?);
        }
        anyhow::Ok(measures)
    };
    let measured = tokio::select! {
        measured = Box::pin(measured) => measured,
        // What it made is in this process and in folders that go with it.
        () = listen_once() => return Ok(Exit::Interrupted),
    };
    let measures = measured.map_err(|problem| {
        output::note(&format!("error: {problem:#}"));
        Exit::Error
    })?;
    match args.format.format {
        Format::Json => output::json(&measures),
        Format::Text => {
            let rows: Vec<Vec<String>> = measures
                .iter()
                .map(|row| {
                    vec![
                        row.benchmark.to_owned(),
                        row.measure.clone(),
                        format!("{:>10.2} {}", row.value, row.unit),
                    ]
                })
                .collect();
            output::print(&output::columns(&rows));
        }
    }
    Ok(Exit::Success)
}

/// Time from a condition becoming true to its step being over, at normal pace.
async fn waiting(loaded: &Suite) -> Result<Vec<Measure>> {
    let topology = loaded
        .topologies
        .get(&Name("pair".to_owned()))
        .ok_or_else(|| anyhow!("there is no topology `pair`"))?;
    let environment = Arc::new(Embedded::new(1.0, Defects::default()));
    let made = Arc::clone(&environment);
    let folder = tempfile::tempdir()?;
    let latencies = condition_to_step(
        environment,
        Arc::new(move |request| made.driver(request)),
        topology.clone(),
        folder.path().join("run"),
        ROUNDS,
    )
    .await
    .map_err(|problem| anyhow!("{}", problem.message))?;
    let at = |share| latencies.quantile(share).map_or(f64::NAN, milliseconds);
    Ok(vec![
        measure("waiting", "condition to step, p50", at(0.5), "ms"),
        measure("waiting", "condition to step, p99", at(0.99), "ms"),
        measure(
            "waiting",
            format!("API requests made while {ROUNDS} checks waited"),
            float(latencies.api_requests),
            "requests",
        ),
    ])
}

/// All shipped scenarios.
async fn whole_suite(loaded: &Suite) -> Result<Vec<Measure>> {
    let place = Place::embedded(10.0, Defects::default());
    let selection = Selection {
        repeat: 1,
        ..Selection::default()
    };
    let plan = Plan::new(
        &suite::for_plan(loaded),
        &selection,
        planning::surroundings(&place),
        planning::identity(1, &place),
    )?;
    let scenarios = plan.scenarios.len();
    let folder = tempfile::tempdir()?;
    let began = Instant::now();
    let options = RunOptions::new(folder.path().join("run"));
    let summary = Box::pin(Engine::run(plan, place.environment, place.driver, options))
        .await
        .map_err(|problem| anyhow!("{}", problem.message))?;
    let took = began.elapsed();
    Ok(vec![
        measure(
            "suite",
            format!("{scenarios} scenarios ({:?})", summary.outcome).to_lowercase(),
            took.as_secs_f64(),
            "s",
        ),
        measure("suite", "peak memory of this process", peak_memory_mib(), "MiB"),
    ])
}

/// The client against the server, both in this process, on loopback.
async fn agent() -> Result<Vec<Measure>> {
    let network: Arc<dyn Network> = Arc::new(OsNetwork);
    let identity = Identity {
        cluster: "bench".into(),
        namespace: "bench".into(),
        workload: "bench".into(),
        pod: "bench".into(),
        nonce: "bench".into(),
    };
    let (http, tcp, control) = (free_port()?, free_port()?, free_port()?);
    let config = ServerConfig {
        http_ports: vec![http],
        tcp_ports: vec![tcp],
        control_port: control,
        ..ServerConfig::new(identity)
    };
    let running = Server::start(Arc::clone(&network), config).await?;
    let mut measures = Vec::new();
    for (protocol, port, name) in [
        (Protocol::Http1, http, "HTTP/1.1"),
        (Protocol::Http2, http, "HTTP/2"),
        (Protocol::Tcp, tcp, "TCP"),
    ] {
        let closed = Load::Closed {
            requests: REQUESTS,
            gap_ms: 0,
        };
        let (took, _) = traffic(&network, control, job(protocol, port, closed)).await?;
        measures.push(measure(
            "agent",
            format!("{name}, closed loop, 4 connections"),
            float(REQUESTS) / took.as_secs_f64(),
            "requests/s",
        ));
    }
    let open = Load::Open {
        per_second: RATE,
        requests: Some(5000),
    };
    let (_, mut late) = traffic(&network, control, job(Protocol::Http1, http, open)).await?;
    late.sort_unstable();
    let at = |share: f64| {
        late.get(((late.len() - 1) as f64 * share) as usize)
            .map_or(f64::NAN, |us| float(*us) / 1000.0)
    };
    measures.push(measure(
        "agent",
        format!("open loop at {RATE}/s, lateness p50"),
        at(0.5),
        "ms",
    ));
    measures.push(measure(
        "agent",
        format!("open loop at {RATE}/s, lateness p99"),
        at(0.99),
        "ms",
    ));
    running.shutdown().await;
    Ok(measures)
}

fn job(protocol: Protocol, port: u16, load: Load) -> Job {
    Job {
        name: "bench".into(),
        run: "bench".into(),
        host: "127.0.0.1".into(),
        port,
        protocol,
        load,
        connections: 4,
        timeout_ms: 10_000,
        path: "/".into(),
        headers: BTreeMap::new(),
        record: Vec::new(),
        until_seen: None,
        fresh_connections: false,
    }
}

/// Runs a job to its end: how long it took, and how late each request started (µs).
async fn traffic(network: &Arc<dyn Network>, control: u16, job: Job) -> Result<(Duration, Vec<u64>)> {
    use futures::StreamExt;
    let client = Client::connect(network.connect("127.0.0.1", control).await?).await?;
    let began = Instant::now();
    let mut events = client.start_job(&job).await?;
    let mut late = Vec::new();
    while let Some(event) = events.next().await {
        match event? {
            JobEvent::Row(row) => late.push(row.started_us.saturating_sub(row.intended_us)),
            JobEvent::Started { .. } => {}
            JobEvent::Ended { .. } => return Ok((began.elapsed(), late)),
        }
    }
    bail!("the traffic ended without saying so")
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn float(number: u64) -> f64 {
    number as f64
}

/// Peak resident memory of this process where the system tells it (Linux), else not a number.
fn peak_memory_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line
        .and_then(|line| line.split_whitespace().next())
        .and_then(|number| number.parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib / 1024.0)
}
