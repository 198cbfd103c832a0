//! The relay's side of its control port: the table in [`super::protocol`], call by call.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::protocol::{Fault, Made, Pattern, WereReset};
use super::state::State;
use crate::control::answer::{Problem, Reply, created, empty, json, read_json};
use crate::server::LogSink;

/// How long ports may take to be listened on again when a refusal is healed.
const LISTEN_TIME: Duration = Duration::from_secs(5);

/// Serves one connection until the harness or the relay ends it.
pub(crate) async fn serve(state: Arc<State>, log: LogSink, stream: TcpStream) {
    let service = service_fn(move |request| {
        let (state, log) = (Arc::clone(&state), Arc::clone(&log));
        async move {
            Ok::<_, Infallible>(
                route(&state, &log, request)
                    .await
                    .unwrap_or_else(Problem::into_response),
            )
        }
    });
    // Errors are the peer's doing (not HTTP, reset, gone) and of no interest to anyone here.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn route(state: &State, log: &LogSink, request: Request<Incoming>) -> Reply {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match (method.as_str(), parts.as_slice()) {
        ("GET", ["status"]) => json(&state.status()),
        ("GET", ["samples"]) => json(&state.tap.samples()),
        ("POST", ["renew"]) => {
            state.renew();
            Ok(empty(StatusCode::NO_CONTENT))
        }
        ("POST", ["reset"]) => {
            let connections = state.reset();
            log(&format!("reset {connections} connections"));
            json(&WereReset { connections })
        }
        ("POST", ["faults"]) => {
            let fault: Fault = read_json(request).await?;
            let id = state.impose(fault).map_err(too_many)?;
            log(&format!("fault {id}: {fault:?}"));
            created(&Made { id })
        }
        ("DELETE", ["faults", id]) => {
            if !state.heal(number(id)?) {
                return Err(none(&path));
            }
            log(&format!("fault {id} healed"));
            if !state.listens_again(LISTEN_TIME).await {
                let text = format!("not all ports are listened on again within {} s", LISTEN_TIME.as_secs());
                return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, text));
            }
            Ok(empty(StatusCode::NO_CONTENT))
        }
        ("POST", ["patterns"]) => {
            let Pattern { bytes } = read_json(request).await?;
            let id = state.next_id();
            state.tap.look_for(id, &bytes).map_err(Problem::bad_request)?;
            created(&Made { id })
        }
        ("GET", ["patterns", id]) => match state.tap.seen(number(id)?) {
            Some(seen) => json(&seen),
            None => Err(none(&path)),
        },
        ("DELETE", ["patterns", id]) => {
            if state.tap.forget(number(id)?) {
                Ok(empty(StatusCode::NO_CONTENT))
            } else {
                Err(none(&path))
            }
        }
        (_, ["status" | "samples"]) => Err(Problem::method(&method, &path, "GET")),
        (_, ["renew" | "reset" | "faults" | "patterns"]) => Err(Problem::method(&method, &path, "POST")),
        (_, ["faults", _]) => Err(Problem::method(&method, &path, "DELETE")),
        (_, ["patterns", _]) => Err(Problem::method(&method, &path, "GET, DELETE")),
        _ => {
            let known = "/status, /renew, /reset, /faults, /faults/<id>, /patterns, /patterns/<id>, /samples";
            let text = format!("{path:?} is unknown; known are {known}");
            Err(Problem::new(StatusCode::NOT_FOUND, text))
        }
    }
}

fn number(id: &str) -> Result<u64, Problem> {
    id.parse()
        .map_err(|_| Problem::bad_request(format!("{id:?} is not a number of a fault or pattern")))
}

fn none(path: &str) -> Problem {
    let text = format!("there is no {path} (any more)");
    Problem::new(StatusCode::NOT_FOUND, text)
}

fn too_many(text: String) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, text)
}
