//! The agent's side of the control port: the table in [`crate::protocol`], call by call.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::client::{Jobs, StartJobError};
use crate::control::answer::{Problem, Reply, empty, json, read_json, streamed};
use crate::network::BoxedStream;
use crate::protocol::{Behavior, Job, JobEvent};
use crate::server::{Agent, Life, Reader};

/// A job's events are collected for so long before they are written, to save system calls …
const BATCH_TIME: Duration = Duration::from_millis(2);
/// … unless there are so many of them.
const BATCH_EVENTS: usize = 256;

/// Serves one connection until the harness or the agent ends it.
pub(crate) async fn serve(agent: Arc<Agent>, life: Life, stream: BoxedStream) {
    let drain = life.drain_control.clone();
    let service = service_fn(move |request| {
        let (agent, life) = (Arc::clone(&agent), life.clone());
        async move { Ok::<_, Infallible>(route(agent, life, request).await.unwrap_or_else(Problem::into_response)) }
    });
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    // Errors are the peer's doing (not HTTP, reset, gone) and of no interest to anyone here.
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        () = drain.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn route(agent: Arc<Agent>, life: Life, request: Request<Incoming>) -> Reply {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let only = |allowed: &'static str| {
        if method.as_str() == allowed {
            Ok(())
        } else {
            Err(Problem::method(&method, &path, allowed))
        }
    };
    match path.as_str() {
        "/identity" => {
            only("GET")?;
            json(&agent.identity)
        }
        "/ready" => {
            only("GET")?;
            Ok(empty(if agent.behavior.is_ready() {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            }))
        }
        "/behavior" => {
            only("PUT")?;
            let behavior: Behavior = read_json(request).await?;
            agent.set_behavior(behavior).map_err(Problem::bad_request)?;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        "/jobs" => {
            only("POST")?;
            let job: Job = read_json(request).await?;
            let name = job.name.clone();
            let events = Jobs::start(&agent, &life, job).map_err(|error| not_started(&name, error))?;
            Ok(streamed(StatusCode::CREATED, job_lines(events)))
        }
        "/ledger" => {
            only("GET")?;
            let query = LedgerQuery::parse(request.uri().query().unwrap_or_default()).map_err(Problem::bad_request)?;
            let reader = agent.ledger.reader(query.since, query.run);
            Ok(streamed(StatusCode::OK, ledger_lines(agent, reader, query.follow)))
        }
        _ => match path.strip_prefix("/jobs/") {
            Some(name) => {
                only("DELETE")?;
                if agent.jobs.stop(name).await {
                    Ok(empty(StatusCode::NO_CONTENT))
                } else {
                    Err(Problem::new(
                        StatusCode::NOT_FOUND,
                        format!("no job named {name:?} is running; it may have ended"),
                    ))
                }
            }
            None => {
                let known = "/identity, /ready, /behavior, /jobs, /jobs/<name>, /ledger";
                Err(Problem::new(
                    StatusCode::NOT_FOUND,
                    format!("{path:?} is unknown; known are {known}"),
                ))
            }
        },
    }
}

/// Why a job does not run.
fn not_started(name: &str, error: StartJobError) -> Problem {
    match error {
        StartJobError::Invalid(text) => Problem::bad_request(format!("job {name:?}: {text}")),
        StartJobError::NameTaken => Problem::new(
            StatusCode::CONFLICT,
            format!("a job named {name:?} is running; stop it or choose another name"),
        ),
        StartJobError::TooMany => Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too many jobs are running; stop some first".to_owned(),
        ),
        StartJobError::Stopping => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping".to_owned()),
    }
}

/// The parameters of `GET /ledger`.
#[derive(Debug, Default, PartialEq, Eq)]
struct LedgerQuery {
    run: Option<String>,
    since: u64,
    follow: bool,
}

impl LedgerQuery {
    fn parse(query: &str) -> Result<Self, String> {
        let mut parsed = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "run" if value.contains(['%', '+']) => {
                    return Err(format!(
                        "`run` is {value:?}; nonces have no characters that need escapes"
                    ));
                }
                "run" => parsed.run = Some(value.to_owned()),
                "since" => {
                    parsed.since = value
                        .parse()
                        .map_err(|_| format!("`since` is {value:?}; expected an index, 0 or more"))?;
                }
                "follow" => {
                    parsed.follow = value
                        .parse()
                        .map_err(|_| format!("`follow` is {value:?}; expected true or false"))?;
                }
                other => {
                    return Err(format!("parameter {other:?} is unknown; known are run, since, follow"));
                }
            }
        }
        Ok(parsed)
    }
}

/// A job's events as lines, several at a time.
fn job_lines(events: mpsc::Receiver<JobEvent>) -> impl futures::Stream<Item = Bytes> + Send {
    stream::unfold(events, async |mut events| {
        let mut batch = Vec::new();
        if events.recv_many(&mut batch, BATCH_EVENTS).await == 0 {
            return None;
        }
        let deadline = Instant::now() + BATCH_TIME;
        while batch.len() < BATCH_EVENTS && matches!(batch.last(), Some(JobEvent::Row(_))) {
            match timeout_at(deadline, events.recv()).await {
                Ok(Some(event)) => batch.push(event),
                Ok(None) | Err(_) => break,
            }
        }
        Some((lines(&batch), events))
    })
}

/// The ledger's lines from the reader's position on; with `follow`, until the agent stops.
fn ledger_lines(agent: Arc<Agent>, reader: Reader, follow: bool) -> impl futures::Stream<Item = Bytes> + Send {
    stream::unfold((agent, reader), move |(agent, mut reader)| async move {
        loop {
            match reader.read(&agent.ledger) {
                Some(rows) if rows.is_empty() => {}
                Some(rows) => return Some((lines(&rows), (agent, reader))),
                None if follow && reader.more().await => {}
                None => return None,
            }
        }
    })
}

fn lines<T: Serialize>(values: &[T]) -> Bytes {
    let mut bytes = Vec::with_capacity(values.len() * 256);
    for value in values {
        // Every value is of a type whose serialisation cannot fail: string keys, no custom code.
        if serde_json::to_writer(&mut bytes, value).is_ok() {
            bytes.push(b'\n');
        }
    }
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("", LedgerQuery::default())]
    #[case("run=r1", LedgerQuery { run: Some("r1".to_owned()), ..LedgerQuery::default() })]
    #[case("since=7&follow=true", LedgerQuery { since: 7, follow: true, run: None })]
    #[case("follow=false&", LedgerQuery::default())]
    fn ledger_parameters_are_read(#[case] query: &str, #[case] expected: LedgerQuery) {
        assert_eq!(LedgerQuery::parse(query).unwrap(), expected);
    }

    #[rstest]
    #[case("since=-1", "`since` is \"-1\"")]
    #[case("since", "`since` is \"\"")]
    #[case("follow=yes", "`follow` is \"yes\"")]
    #[case("run=a%20b", "`run`")]
    #[case("folow=true", "\"folow\" is unknown")]
    fn wrong_ledger_parameters_are_named(#[case] query: &str, #[case] message: &str) {
        let problem = LedgerQuery::parse(query).unwrap_err();
        assert!(problem.contains(message), "{problem}");
    }

    #[tokio::test]
    async fn events_that_come_together_are_written_together() {
        let (sender, receiver) = mpsc::channel(1000);
        let row = || {
            JobEvent::Row(crate::protocol::ClientRow {
                id: "j-0".to_owned(),
                intended_us: 0,
                started_us: 0,
                ended_us: 0,
                connection: 0,
                outcome: crate::protocol::Outcome::Failed {
                    kind: crate::protocol::FailureKind::Closed,
                    detail: String::new(),
                },
            })
        };
        sender.send(JobEvent::Started { epoch_us: 1 }).await.unwrap();
        for _ in 0..BATCH_EVENTS + 10 {
            sender.send(row()).await.unwrap();
        }
        sender
            .send(JobEvent::Ended {
                sent: 266,
                seen: false,
                max_late_us: 0,
            })
            .await
            .unwrap();
        drop(sender);
        let chunks: Vec<Bytes> = futures::StreamExt::collect(job_lines(receiver)).await;
        let counts: Vec<usize> = chunks
            .iter()
            .map(|chunk| chunk.iter().filter(|byte| **byte == b'\n').count())
            .collect();
        assert_eq!(counts, [BATCH_EVENTS, 12]);
    }
}
