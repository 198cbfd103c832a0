//! `meshproof-agent call`: some requests by hand, from wherever the agent's program is.
//!
//! For people: `kubectl exec deploy/shopper -- meshproof-agent call http://store:8080/`. It sends what the agent's client sends
//! and prints the same rows, so that a finding of a scenario can be looked into from the very pod.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::arguments::{number, port};
use crate::client::{Run, Template};
use crate::network::Network;
use crate::protocol::{HTTP_PORT, Job, JobEvent, Load, Outcome, Protocol, TCP_PORT};

/// What `call --help` prints.
pub const HELP: &str = "\
meshproof-agent call: sends requests and prints what became of each, one JSON object a line

Usage: meshproof-agent call <url> [options]

<url> is <host>[:<port>][/<path>], with http:// (HTTP/1.1, the default), http2:// (HTTP/2 with prior knowledge) or tcp:// before it.
The port is 8080 for HTTP and 9090 for TCP unless given.

Options:
  --count <n>              requests, one after the other               [default: 1]
  --header <name>=<value>  send a header; may be repeated
  --record <name>          print a request header as the server saw it; may be repeated
  --fresh                  a new connection for each request
  --timeout-ms <ms>        how long to wait for each answer            [default: 10000]
  -h, --help               print this and exit

Exit codes: 0 every request was answered with a status below 400, 1 one was not, 2 wrong arguments.

Example:
  meshproof-agent call store-east:8080 --count 5
";

/// Lines that wait to be read, where callers have no better number.
pub const LINES_WAITING: usize = 64;

/// Most requests of a call.
const MAX_COUNT: u64 = 100_000;

/// Reads the arguments after `call`; `None` when help is asked for.
///
/// # Errors
/// A sentence that names the argument, what it holds and what was expected.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Option<Job>, String> {
    let mut url = None;
    let mut job = Job {
        name: "call".to_owned(),
        run: "by-hand".to_owned(),
        host: String::new(),
        port: 0,
        protocol: Protocol::Http1,
        load: Load::Closed { requests: 1, gap_ms: 0 },
        connections: 1,
        timeout_ms: 10_000,
        path: "/".to_owned(),
        headers: BTreeMap::new(),
        record: Vec::new(),
        until_seen: None,
        fresh_connections: false,
    };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let (name, inline) = match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
            _ => (argument.clone(), None),
        };
        let mut value = || {
            inline
                .clone()
                .or_else(|| arguments.next())
                .ok_or_else(|| format!("{name} needs a value"))
        };
        match name.as_str() {
            "-h" | "--help" => return Ok(None),
            "--fresh" => job.fresh_connections = true,
            "--count" => {
                let requests = number(&name, &value()?)?;
                if !(1..=MAX_COUNT).contains(&requests) {
                    return Err(format!("{name}: {requests} is out of range; expected 1 to {MAX_COUNT}"));
                }
                job.load = Load::Closed { requests, gap_ms: 0 };
            }
            "--timeout-ms" => job.timeout_ms = number(&name, &value()?)?,
            "--record" => job.record.push(value()?.to_lowercase()),
            "--header" => {
                let text = value()?;
                let (header, value) = text
                    .split_once('=')
                    .ok_or_else(|| format!("{name}: {text:?} is no <name>=<value>"))?;
                job.headers.insert(header.to_owned(), value.to_owned());
            }
            _ if name.starts_with('-') => return Err(format!("unknown argument {name:?}")),
            _ if url.is_some() => return Err(format!("{argument:?} is one url too many; a call has one")),
            _ => url = Some(argument),
        }
    }
    let url = url.ok_or("the url is missing, e.g. store:8080")?;
    address(&url, &mut job)?;
    // What makes no sense is told before anything is sent.
    Template::new(&job)?;
    Ok(Some(job))
}

fn address(url: &str, job: &mut Job) -> Result<(), String> {
    let (protocol, rest) = match url.split_once("://") {
        None => (Protocol::Http1, url),
        Some(("http", rest)) => (Protocol::Http1, rest),
        Some(("http2", rest)) => (Protocol::Http2, rest),
        Some(("tcp", rest)) => (Protocol::Tcp, rest),
        Some((other, _)) => return Err(format!("{url:?}: {other:?} is not spoken; expected http, http2 or tcp")),
    };
    job.protocol = protocol;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
    path.clone_into(&mut job.path);
    let usual = if protocol == Protocol::Tcp { TCP_PORT } else { HTTP_PORT };
    let (host, given) = match authority.rsplit_once(':') {
        Some((host, text)) if !text.ends_with(']') => (host, port(url, text)?),
        _ => (authority, usual),
    };
    job.host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    job.port = given;
    if job.host.is_empty() {
        return Err(format!("{url:?} names no host"));
    }
    Ok(())
}

/// Sends the requests of `job` and hands each row over as a line of JSON. Tells whether every one was answered with a status
/// below 400. It ends early when `stop` is cancelled, or when nobody reads the lines any more.
///
/// # Errors
/// A sentence when the job makes no sense.
pub async fn run(
    network: Arc<dyn Network>,
    job: Job,
    stop: CancellationToken,
    lines: mpsc::Sender<String>,
) -> Result<bool, String> {
    let template = Template::new(&job)?;
    let (run, mut events) = Run::new(network, job, template, stop);
    // Dropped with it, the events' receiver ends the job.
    let read = async move {
        let mut all_well = true;
        while let Some(event) = events.recv().await {
            if let JobEvent::Row(row) = event {
                all_well &= matches!(row.outcome, Outcome::Answered { status, .. } if status < 400);
                let line = serde_json::to_string(&row).unwrap_or_default();
                if lines.send(line).await.is_err() {
                    return false;
                }
            }
        }
        all_well
    };
    // The events end with the run, which `drive` consumes.
    let (_, all_well) = tokio::join!(run.drive(), read);
    Ok(all_well)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn parsed(text: &str) -> Result<Option<Job>, String> {
        parse(text.split_whitespace().map(str::to_owned))
    }

    #[rstest]
    #[case("store", Protocol::Http1, "store", 8080, "/")]
    #[case("http://store:80/a?b=c", Protocol::Http1, "store", 80, "/a?b=c")]
    #[case(
        "http2://store.shop.svc.cluster.local:8081",
        Protocol::Http2,
        "store.shop.svc.cluster.local",
        8081,
        "/"
    )]
    #[case("tcp://10.0.0.7", Protocol::Tcp, "10.0.0.7", 9090, "/")]
    fn urls_are_read(
        #[case] url: &str,
        #[case] protocol: Protocol,
        #[case] host: &str,
        #[case] port: u16,
        #[case] path: &str,
    ) {
        let job = parsed(url).unwrap().unwrap();
        assert_eq!(
            (job.protocol, job.host.as_str(), job.port, job.path.as_str()),
            (protocol, host, port, path)
        );
    }

    #[test]
    fn options_are_read() {
        let job = parsed("store --count=3 --header x-a=b=c --record X-Seen --fresh --timeout-ms 50")
            .unwrap()
            .unwrap();
        assert_eq!(job.load, Load::Closed { requests: 3, gap_ms: 0 });
        assert_eq!((job.headers["x-a"].as_str(), job.timeout_ms), ("b=c", 50));
        assert!(job.fresh_connections && job.record == ["x-seen"]);
        assert_eq!(parsed("--help"), Ok(None));
    }

    #[rstest]
    #[case("", "the url is missing")]
    #[case("a b", "one url too many")]
    #[case("ftp://a", "\"ftp\" is not spoken")]
    #[case("a:0", "not a port")]
    #[case(":80", "names no host")]
    #[case("a --count 0", "out of range")]
    #[case("a --count 100001", "out of range")]
    #[case("a --header x", "no <name>=<value>")]
    #[case("a --nonsense", "unknown argument")]
    #[case("a --count", "needs a value")]
    fn mistakes_are_told(#[case] text: &str, #[case] expected: &str) {
        let told = parsed(text).unwrap_err();
        assert!(told.contains(expected), "{told}");
    }
}
