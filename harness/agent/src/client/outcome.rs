//! From what came back, or did not, to the outcome in a ledger row.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;

use bytes::Bytes;
use http::{HeaderMap, header};

use crate::protocol::{Answer, FailureKind, Job, Outcome, UntilSeen};

/// Longest text about a failure, and longest header value copied from an error response, in bytes.
const MAX_TEXT: usize = 256;
/// Most headers copied from an error response.
const MAX_ERROR_HEADERS: usize = 16;
/// Response headers that say nothing about an error.
const PLAIN_HEADERS: [header::HeaderName; 4] = [
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::DATE,
    header::CONNECTION,
];

/// Why there was no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) detail: String,
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
        }
    }

    /// An attempt to open a connection failed.
    pub(crate) fn connecting(error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => FailureKind::Name,
            io::ErrorKind::TimedOut => FailureKind::Timeout,
            kind if is_closed(kind) => FailureKind::Closed,
            _ => FailureKind::Refused,
        };
        Self::new(kind, error.to_string())
    }

    /// An open connection failed.
    pub(crate) fn connected(error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::TimedOut => FailureKind::Timeout,
            io::ErrorKind::InvalidData => FailureKind::Protocol,
            _ => FailureKind::Closed,
        };
        Self::new(kind, error.to_string())
    }

    /// An HTTP exchange failed.
    pub(crate) fn http(error: &hyper::Error) -> Self {
        let cause = causes(error);
        let kind = if let Some(error) = cause.io {
            return Self {
                detail: describe(error_chain(error)),
                ..Self::connected(error)
            };
        } else if let Some(error) = cause.h2 {
            // The peer ended the request or the connection, as against: what it sent is not HTTP/2.
            if error.is_remote() {
                FailureKind::Closed
            } else {
                FailureKind::Protocol
            }
        } else if error.is_timeout() {
            FailureKind::Timeout
        } else if error.is_incomplete_message() || error.is_canceled() || error.is_closed() || error.is_shutdown() {
            FailureKind::Closed
        } else {
            // It could not be parsed, or arrived before it was asked for.
            FailureKind::Protocol
        };
        Self::new(kind, describe(error_chain(error)))
    }

    /// As it stands in a ledger row.
    pub(crate) fn into_outcome(self) -> Outcome {
        Outcome::Failed {
            kind: self.kind,
            detail: bounded(&self.detail),
        }
    }
}

fn is_closed(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
    )
}

#[derive(Default)]
struct Causes<'a> {
    io: Option<&'a io::Error>,
    h2: Option<&'a h2::Error>,
}

/// The errors below hyper's own that say more than it does.
fn causes(error: &hyper::Error) -> Causes<'_> {
    let mut found = Causes::default();
    for cause in error_chain(error) {
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            found.io = Some(error);
        } else if let Some(error) = cause.downcast_ref::<h2::Error>() {
            found.io = error.get_io();
            found.h2 = Some(error);
        }
    }
    found
}

fn error_chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn describe<'a>(chain: impl Iterator<Item = &'a (dyn Error + 'static)>) -> String {
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// A complete answer, of whichever protocol.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// HTTP status; 200 for TCP.
    pub(crate) status: u16,
    /// HTTP response headers; none for TCP.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The outcome of a request, and whether it satisfies [`Job::until_seen`].
pub(crate) fn judge(reply: Result<Reply, Failure>, job: &Job, id: &str) -> (Outcome, bool) {
    let reply = match reply {
        Ok(reply) => reply,
        Err(failure) => return (failure.into_outcome(), false),
    };
    let answer: Option<Answer> = serde_json::from_slice(&reply.body).ok();
    if let Some(other) = answer.as_ref().and_then(|answer| answer.request.as_deref())
        && other != id
    {
        let detail = format!("the answer belongs to request {other}");
        return (Failure::new(FailureKind::Protocol, detail).into_outcome(), false);
    }
    let error_headers = if reply.status >= 400 {
        error_headers(&reply.headers)
    } else {
        BTreeMap::new()
    };
    let Some(answer) = answer else {
        let outcome = Outcome::Answered {
            status: reply.status,
            server: None,
            host: None,
            protocol: None,
            port: None,
            seen: BTreeMap::new(),
            error_headers,
        };
        return (outcome, false);
    };
    let held = job
        .until_seen
        .as_ref()
        .is_some_and(|until| holds(until, &answer.headers));
    let mut headers = answer.headers;
    let seen = job
        .record
        .iter()
        .filter_map(|name| headers.remove_entry(name))
        .collect();
    let outcome = Outcome::Answered {
        status: reply.status,
        server: Some(answer.server),
        host: Some(answer.host),
        protocol: Some(answer.protocol),
        port: Some(answer.port),
        seen,
        error_headers,
    };
    (outcome, held)
}

fn holds(until: &UntilSeen, headers: &BTreeMap<String, Vec<String>>) -> bool {
    headers
        .get(&until.header)
        .is_some_and(|values| values.contains(&until.value))
}

fn error_headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    headers
        .iter()
        .filter(|(name, _)| !PLAIN_HEADERS.contains(name))
        .take(MAX_ERROR_HEADERS)
        .map(|(name, value)| {
            (
                name.as_str().to_owned(),
                bounded(&String::from_utf8_lossy(value.as_bytes())),
            )
        })
        .collect()
}

fn bounded(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Identity, Load, Protocol};
    use rstest::rstest;

    #[rstest]
    #[case(io::ErrorKind::NotFound, FailureKind::Name, FailureKind::Closed)]
    #[case(io::ErrorKind::ConnectionRefused, FailureKind::Refused, FailureKind::Closed)]
    #[case(io::ErrorKind::HostUnreachable, FailureKind::Refused, FailureKind::Closed)]
    #[case(io::ErrorKind::AddrNotAvailable, FailureKind::Refused, FailureKind::Closed)]
    #[case(io::ErrorKind::TimedOut, FailureKind::Timeout, FailureKind::Timeout)]
    #[case(io::ErrorKind::ConnectionReset, FailureKind::Closed, FailureKind::Closed)]
    #[case(io::ErrorKind::BrokenPipe, FailureKind::Closed, FailureKind::Closed)]
    #[case(io::ErrorKind::UnexpectedEof, FailureKind::Closed, FailureKind::Closed)]
    #[case(io::ErrorKind::InvalidData, FailureKind::Refused, FailureKind::Protocol)]
    fn socket_errors_are_classified(
        #[case] kind: io::ErrorKind,
        #[case] connecting: FailureKind,
        #[case] connected: FailureKind,
    ) {
        let error = io::Error::new(kind, "it happened");
        assert_eq!(Failure::connecting(&error), Failure::new(connecting, "it happened"));
        assert_eq!(Failure::connected(&error), Failure::new(connected, "it happened"));
    }

    fn job() -> Job {
        Job {
            name: "j".to_owned(),
            run: "r".to_owned(),
            host: "h".to_owned(),
            port: 1,
            protocol: Protocol::Http1,
            load: Load::Closed { requests: 1, gap_ms: 0 },
            connections: 1,
            timeout_ms: 1,
            path: String::new(),
            headers: BTreeMap::new(),
            record: vec!["x-seen".to_owned(), "x-missing".to_owned()],
            until_seen: Some(UntilSeen {
                header: "x-meshproof-marker".to_owned(),
                value: "m2".to_owned(),
                consecutive: 1,
            }),
            fresh_connections: false,
        }
    }

    fn identity() -> Identity {
        Identity {
            cluster: "west".to_owned(),
            namespace: "default".to_owned(),
            workload: "store".to_owned(),
            pod: "store-0".to_owned(),
            nonce: "n".to_owned(),
        }
    }

    fn reply(status: u16, request: Option<&str>, markers: &[&str]) -> Reply {
        let text = |text: &&str| (*text).to_owned();
        let answer = Answer {
            server: identity(),
            request: request.map(str::to_owned),
            protocol: Protocol::Http1,
            port: 1,
            path: "/".to_owned(),
            host: "h".to_owned(),
            headers: [
                ("x-seen".to_owned(), vec!["1".to_owned(), "2".to_owned()]),
                ("x-other".to_owned(), vec!["3".to_owned()]),
                ("x-meshproof-marker".to_owned(), markers.iter().map(text).collect()),
            ]
            .into(),
            peer: "127.0.0.1".to_owned(),
        };
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "application/json".parse().unwrap());
        headers.insert("x-proxy-error", "e".repeat(MAX_TEXT + 1).parse().unwrap());
        Reply {
            status,
            headers,
            body: serde_json::to_vec(&answer).unwrap().into(),
        }
    }

    #[rstest]
    #[case(Some("j-0"))]
    #[case(None)]
    fn an_answer_yields_its_server_and_the_recorded_headers(#[case] request: Option<&str>) {
        let (outcome, _) = judge(Ok(reply(200, request, &[])), &job(), "j-0");
        let expected = Outcome::Answered {
            status: 200,
            server: Some(identity()),
            host: Some("h".to_owned()),
            protocol: Some(Protocol::Http1),
            port: Some(1),
            seen: [("x-seen".to_owned(), vec!["1".to_owned(), "2".to_owned()])].into(),
            error_headers: BTreeMap::new(),
        };
        assert_eq!(outcome, expected);
    }

    #[test]
    fn headers_of_an_error_are_kept_and_bounded() {
        let (outcome, _) = judge(Ok(reply(503, Some("j-0"), &[])), &job(), "j-0");
        let Outcome::Answered {
            status: 503,
            server: Some(_),
            error_headers,
            ..
        } = outcome
        else {
            panic!("{outcome:?}");
        };
        assert_eq!(
            error_headers,
            [("x-proxy-error".to_owned(), "e".repeat(MAX_TEXT))].into()
        );
    }

    #[test]
    fn a_body_that_is_no_answer_has_no_server() {
        let reply = Reply {
            status: 502,
            headers: HeaderMap::new(),
            body: "<h1>Bad gateway</h1>".into(),
        };
        let (outcome, held) = judge(Ok(reply), &job(), "j-0");
        assert!(matches!(
            outcome,
            Outcome::Answered {
                status: 502,
                server: None,
                host: None,
                ..
            }
        ));
        assert!(!held);
    }

    #[test]
    fn an_answer_to_another_request_is_a_protocol_failure() {
        let (outcome, held) = judge(Ok(reply(200, Some("j-1"), &["m2"])), &job(), "j-0");
        assert!(
            matches!(outcome, Outcome::Failed { kind: FailureKind::Protocol, ref detail } if detail.contains("j-1"))
        );
        assert!(!held);
    }

    #[rstest]
    #[case(&["m2"], true)]
    #[case(&["m1", "m2"], true)]
    #[case(&["m1"], false)]
    #[case(&[], false)]
    fn the_marker_is_found_among_equal_headers(#[case] markers: &[&str], #[case] expected: bool) {
        assert_eq!(judge(Ok(reply(200, Some("j-0"), markers)), &job(), "j-0").1, expected);
    }

    #[test]
    fn the_text_of_a_failure_is_bounded() {
        let failure = Failure::new(FailureKind::Closed, "é".repeat(MAX_TEXT));
        let Outcome::Failed { detail, .. } = failure.into_outcome() else {
            panic!()
        };
        assert_eq!(detail, "é".repeat(MAX_TEXT / 2));
    }
}
