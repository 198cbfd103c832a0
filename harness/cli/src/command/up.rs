//! `meshproof up`, `down` and `status`: embedded clusters that serve until somebody stops them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use meshproof_engine::environment::{EnvironmentRequest, RunningEnvironment};
use meshproof_engine::problem::Problem;
use meshproof_spec::scalar::Name;
use meshproof_spec::scenario::Setup;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::args::{Format, On, StateArgs, StatusArgs, UpArgs};
use crate::exit_code::Exit;
use crate::place::Place;
use crate::signals::Signals;
use crate::state::{Served, State, StateFile};
use crate::{output, suite};

/// Brings a topology up and serves it until interrupted, or until `meshproof down`.
///
/// # Errors
/// The exit code of what is wrong with the suite or the arguments.
pub async fn up(args: &UpArgs) -> Result<Exit, Exit> {
    if args.environment.on != On::Embedded {
        output::note(
            "error: `up` serves embedded clusters only; `run --on kind --reuse` leaves its clusters up for the next run",
        );
        return Err(Exit::Usage);
    }
    let place = Place::of(&args.environment, &args.state.folder, &args.suite.topologies).await?;
    let loaded = suite::load(&args.suite, &[])?;
    let Some(topology) = loaded.topologies.get(&Name(args.topology.clone())) else {
        let known: Vec<&str> = loaded.topologies.keys().map(|name| name.0.as_str()).collect();
        output::note(&format!(
            "error: there is no topology `{}`; there are {}",
            args.topology,
            known.join(", ")
        ));
        return Err(Exit::Usage);
    };
    let request = EnvironmentRequest {
        key: args.topology.clone(),
        topology: topology.clone(),
        setup: Setup::default(),
        seed: args.environment.seed.unwrap_or(1),
    };
    Box::pin(serve(args, &place, &request)).await.map_err(|problem| {
        output::note(&format!("error: {problem:#}"));
        Exit::Error
    })
}

async fn serve(args: &UpArgs, place: &Place, request: &EnvironmentRequest) -> Result<Exit> {
    let mut signals = Signals::listen()?;
    let held = State::at(args.state.folder.state.as_deref())?.hold(&args.state.name)?;
    let driver = (place.driver)(request);
    // What is dropped half-way takes its clusters with it.
    let running = tokio::select! {
        running = place.environment.up(request) => running.map_err(said)?,
        () = signals.next() => return Ok(Exit::Interrupted),
    };
    if !args.bare {
        output::note("installing the mesh …");
        let installed = tokio::select! {
            installed = install(running.as_ref(), driver.as_ref(), request) => installed.map(|()| true),
            () = signals.next() => Ok(false),
        };
        if !matches!(installed, Ok(true)) {
            running.down().await.map_err(said)?;
            return installed.map(|_| Exit::Interrupted);
        }
    }

    let kubeconfig = held.write(&StateFile::Kubeconfig, &merged_kubeconfig(running.as_ref())?)?;
    let (control, token, stop) = control().await?;
    let served = Served {
        process: std::process::id(),
        topology: args.topology.clone(),
        clusters: running
            .clusters()
            .iter()
            .map(|cluster| (cluster.name.clone(), server(&cluster.kubeconfig)))
            .collect(),
        kubeconfig: kubeconfig.clone(),
        control,
        token,
    };
    held.write(&StateFile::Served, &serde_json::to_string_pretty(&served)?)?;
    output::line(&format!("export KUBECONFIG={}", kubeconfig.display()));
    for (name, url) in &served.clusters {
        output::line(&format!("# kubectl --context {name} get pods -A    ({url})"));
    }
    output::note("serving until interrupted, or until `meshproof down`");
    tokio::select! {
        () = signals.next() => {}
        () = stop.notified() => {}
    }
    running.down().await.map_err(said)?;
    drop(held);
    Ok(Exit::Success)
}

async fn install(
    running: &dyn RunningEnvironment,
    driver: &dyn meshproof_engine::driver::MeshDriver,
    request: &EnvironmentRequest,
) -> Result<()> {
    for cluster in running.clusters() {
        driver
            .install(cluster, &request.topology, &request.setup)
            .await
            .map_err(said)?;
    }
    let find = |name: &Name| {
        running
            .clusters()
            .iter()
            .find(|cluster| cluster.name == name.0)
            .ok_or_else(|| anyhow!("the topology has no cluster `{name}`"))
    };
    for link in &request.topology.links {
        driver
            .link(find(&link.from)?, find(&link.to)?, &request.setup)
            .await
            .map_err(said)?;
    }
    for link in &request.topology.links {
        driver
            .await_link(find(&link.from)?, find(&link.to)?, &request.setup)
            .await
            .map_err(said)?;
    }
    Ok(())
}

fn said(problem: Problem) -> anyhow::Error {
    match problem.remedy {
        Some(remedy) => anyhow!("{} ({}); {remedy}", problem.message, problem.code),
        None => anyhow!("{} ({})", problem.message, problem.code),
    }
}

/// One kubeconfig with a context per cluster.
fn merged_kubeconfig(running: &dyn RunningEnvironment) -> Result<String> {
    let mut merged = json!({"apiVersion": "v1", "kind": "Config", "clusters": [], "users": [], "contexts": []});
    for cluster in running.clusters() {
        let one: serde_json::Value = serde_yaml::from_str(&cluster.kubeconfig)?;
        let name = &cluster.name;
        for (list, inner) in [("clusters", "cluster"), ("users", "user")] {
            let value = one[list][0][inner].clone();
            if let Some(entries) = merged[list].as_array_mut() {
                entries.push(json!({"name": name, inner: value}));
            }
        }
        if let Some(contexts) = merged["contexts"].as_array_mut() {
            contexts.push(json!({"name": name, "context": {"cluster": name, "user": name}}));
        }
    }
    if let Some(first) = running.clusters().first() {
        merged["current-context"] = json!(first.name);
    }
    Ok(serde_yaml::to_string(&merged)?)
}

fn server(kubeconfig: &str) -> String {
    let parsed: serde_yaml::Value = serde_yaml::from_str(kubeconfig).unwrap_or_default();
    parsed["clusters"][0]["cluster"]["server"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// A loopback endpoint that takes `POST /down` with the right token.
async fn control() -> Result<(String, String, Arc<Notify>)> {
    let listener = TcpListener::bind(("127.0.0.1", 0))
        .await
        .context("can't listen on loopback")?;
    let url = format!("http://{}/down", listener.local_addr()?);
    let token = format!("{:032x}", rand::random::<u128>());
    let stop = Arc::new(Notify::new());
    let (expected, notify) = (format!("Bearer {token}"), Arc::clone(&stop));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (expected, notify) = (expected.clone(), Arc::clone(&notify));
            let service = service_fn(move |request: Request<Incoming>| {
                let allowed = request
                    .headers()
                    .get("authorization")
                    .is_some_and(|value| value.as_bytes() == expected.as_bytes());
                let status = match (allowed, request.method(), request.uri().path()) {
                    (false, _, _) => StatusCode::UNAUTHORIZED,
                    (true, &Method::POST, "/down") => {
                        notify.notify_one();
                        StatusCode::NO_CONTENT
                    }
                    (true, _, _) => StatusCode::NOT_FOUND,
                };
                let mut response = Response::new(Empty::<Bytes>::new());
                *response.status_mut() = status;
                async move { Ok::<_, Infallible>(response) }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    Ok((url, token, stop))
}

/// Stops what `up` serves, and waits until it is gone.
pub async fn down(args: &StateArgs) -> Exit {
    match Box::pin(stop(args)).await {
        Ok(message) => {
            output::line(&message);
            Exit::Success
        }
        Err(problem) => {
            output::note(&format!("error: {problem:#}"));
            Exit::Error
        }
    }
}

async fn stop(args: &StateArgs) -> Result<String> {
    let state = State::at(args.folder.state.as_deref())?;
    let Some(served) = state.served(&args.name)? else {
        return Ok(format!("nothing is served under `{}`", args.name));
    };
    let answer = client()?.post(&served.control).bearer_auth(&served.token).send().await;
    match answer {
        Ok(answer) if answer.status().is_success() => {}
        Ok(answer) => bail!(
            "the process that serves `{}` refuses to stop: {}",
            args.name,
            answer.status()
        ),
        Err(error) => bail!(
            "the process that serves `{}` does not answer: {error}; end process {}",
            args.name,
            served.process
        ),
    }
    for _ in 0..300 {
        if !state.alive(&args.name) {
            return Ok(format!("`{}` is down", args.name));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("process {} was told to stop but still lives after 30 s", served.process)
}

fn client() -> Result<reqwest::Client> {
    reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .no_proxy()
        .build()
        .context("can't make an HTTP client")
}

/// Tells what is up.
pub async fn status(args: &StatusArgs) -> Exit {
    match Box::pin(look(args)).await {
        Ok(exit) => exit,
        Err(problem) => {
            output::note(&format!("error: {problem:#}"));
            Exit::Error
        }
    }
}

async fn look(args: &StatusArgs) -> Result<Exit> {
    let state = State::at(args.state.folder.state.as_deref())?;
    let Some(served) = state.served(&args.state.name)? else {
        match args.format.format {
            Format::Json => output::json(&json!({"name": args.state.name, "up": false})),
            Format::Text => output::line(&format!("nothing is served under `{}`", args.state.name)),
        }
        return Ok(Exit::NothingRun);
    };
    let mut rows = Vec::new();
    for (name, url) in &served.clusters {
        rows.push((name.clone(), url.clone(), ready(&served, name, url).await));
    }
    let all = rows.iter().all(|(_, _, ready)| ready.is_ok());
    match args.format.format {
        Format::Json => output::json(&json!({
            "name": args.state.name, "up": true, "process": served.process, "topology": served.topology,
            "kubeconfig": served.kubeconfig,
            "clusters": rows.iter().map(|(name, url, ready)| json!({"name": name, "url": url, "ready": ready.is_ok()})).collect::<Vec<_>>(),
        })),
        Format::Text => {
            output::line(&format!(
                "`{}` serves topology {} in process {}",
                args.state.name, served.topology, served.process
            ));
            for (name, url, ready) in rows {
                let state = ready.map_or_else(|problem| format!("not ready: {problem:#}"), |()| "ready".to_owned());
                output::line(&format!("  {name}  {url}  {state}"));
            }
        }
    }
    Ok(if all { Exit::Success } else { Exit::Error })
}

/// Asks a cluster's API server whether it is ready.
async fn ready(served: &Served, name: &str, url: &str) -> Result<()> {
    let config: serde_yaml::Value = serde_yaml::from_str(&std::fs::read_to_string(&served.kubeconfig)?)?;
    let find = |list: &str| {
        config[list]
            .as_sequence()
            .and_then(|entries| entries.iter().find(|entry| entry["name"] == name))
            .cloned()
    };
    let cluster = find("clusters").context("the kubeconfig lacks the cluster")?;
    let user = find("users").context("the kubeconfig lacks the user")?;
    let authority = cluster["cluster"]["certificate-authority-data"]
        .as_str()
        .context("no certificate authority")?;
    let pem = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, authority)?;
    let client = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(&pem)?])
        .timeout(Duration::from_secs(10))
        .no_proxy()
        .build()?;
    let token = user["user"]["token"].as_str().unwrap_or_default();
    client
        .get(format!("{url}/readyz"))
        .bearer_auth(token)
        .send()
        .await?
        .error_for_status()?;
    Ok(())
}
