//! What a job's requests look like on the wire; and whether a job makes sense at all.

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Request, Uri, header};
use http_body_util::Empty;

use crate::protocol::{Job, Load, Protocol, REQUEST_ID_HEADER, RUN_HEADER, TcpRequest};

/// Most connections that a job may keep open.
const MAX_KEPT_CONNECTIONS: u32 = 1024;
/// Longest time-out and gap: one hour.
const MAX_WAIT_MS: u64 = 3_600_000;
/// Highest rate of an open loop.
const MAX_PER_SECOND: f64 = 100_000.0;
/// Longest job name and run nonce.
const MAX_NAME: usize = 128;
/// Headers that belong to the connection or to the agent and not to the job.
const RESERVED_HEADERS: [&str; 10] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    REQUEST_ID_HEADER,
    RUN_HEADER,
];

/// The part of a request that is the same for all requests of a job.
pub(crate) enum Template {
    /// HTTP/1.1 or HTTP/2.
    Http { uri: Uri, headers: HeaderMap },
    /// Opaque TCP.
    Tcp(TcpRequest),
}

impl Template {
    /// Checks the whole job.
    ///
    /// # Errors
    /// A sentence that names the field, what it holds and what was expected.
    pub(crate) fn new(job: &Job) -> Result<Self, String> {
        check_name("name", &job.name)?;
        check_name("run", &job.run)?;
        if job.port == 0 {
            return Err("`port` is 0; expected 1 to 65535".to_owned());
        }
        check_range(
            "connections",
            u64::from(job.connections),
            u64::from(MAX_KEPT_CONNECTIONS),
        )?;
        check_range("timeout_ms", job.timeout_ms, MAX_WAIT_MS)?;
        check_load(job.load)?;
        if let Some(until) = &job.until_seen {
            check_range(
                "until_seen.consecutive",
                u64::from(until.consecutive),
                u64::from(u32::MAX),
            )?;
            check_lower_case("until_seen.header", &until.header)?;
        }
        for name in &job.record {
            check_lower_case("record", name)?;
        }
        let authority = authority(job)?;
        let headers = headers(job)?;
        Ok(match job.protocol {
            Protocol::Http1 | Protocol::Http2 => http(job, authority, headers)?,
            Protocol::Tcp => Self::Tcp(TcpRequest {
                id: None,
                run: Some(job.run.clone()),
                headers: job.headers.clone(),
            }),
        })
    }

    /// The HTTP request with this id. `None` for TCP.
    pub(crate) fn http_request(&self, id: &str) -> Option<Request<Empty<Bytes>>> {
        let Self::Http { uri, headers } = self else {
            return None;
        };
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri.clone();
        request.headers_mut().clone_from(headers);
        // The job's name was checked to consist of characters that headers may hold.
        request
            .headers_mut()
            .insert(REQUEST_ID_HEADER, HeaderValue::from_str(id).ok()?);
        Some(request)
    }

    /// The TCP request line with this id, without line feed. `None` for HTTP.
    pub(crate) fn tcp_line(&self, id: &str) -> Option<Vec<u8>> {
        let Self::Tcp(request) = self else {
            return None;
        };
        serde_json::to_vec(&TcpRequest {
            id: Some(id.to_owned()),
            ..request.clone()
        })
        .ok()
    }
}

fn http(job: &Job, authority: Authority, mut headers: HeaderMap) -> Result<Template, String> {
    let path = if job.path.is_empty() { "/" } else { job.path.as_str() };
    if !path.starts_with('/') {
        return Err(format!(
            "`path` is {path:?}; expected a request target that starts with `/`"
        ));
    }
    let path = PathAndQuery::try_from(path).map_err(|error| format!("`path` is {path:?}: {error}"))?;
    let host = match headers.remove(header::HOST) {
        Some(host) => host,
        None => HeaderValue::from_str(authority.as_str()).map_err(|error| format!("`host`: {error}"))?,
    };
    let mut uri = http::uri::Parts::default();
    uri.path_and_query = Some(path);
    if job.protocol == Protocol::Http2 {
        let authority =
            Authority::try_from(host.as_bytes()).map_err(|error| format!("header `host` is {host:?}: {error}"))?;
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(authority);
    } else {
        headers.insert(header::HOST, host);
    }
    let run = HeaderValue::from_str(&job.run).map_err(|error| format!("`run`: {error}"))?;
    headers.insert(RUN_HEADER, run);
    let uri = Uri::from_parts(uri).map_err(|error| format!("`path` is {:?}: {error}", job.path))?;
    Ok(Template::Http { uri, headers })
}

/// What goes into `Host`: the port is left out where it is HTTP's own.
fn authority(job: &Job) -> Result<Authority, String> {
    let host = if job.host.contains(':') {
        format!("[{}]", job.host)
    } else {
        job.host.clone()
    };
    let authority = if job.port == 80 {
        host
    } else {
        format!("{host}:{}", job.port)
    };
    Authority::try_from(authority.as_str())
        .ok()
        .filter(|_| !job.host.is_empty() && !job.host.contains('@'))
        .ok_or_else(|| {
            format!(
                "`host` is {:?}; expected a DNS name or an IP address without port",
                job.host
            )
        })
}

fn headers(job: &Job) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in &job.headers {
        let parsed = HeaderName::try_from(name).map_err(|error| format!("header {name:?}: {error}"))?;
        if RESERVED_HEADERS.contains(&parsed.as_str()) {
            return Err(format!("header {name:?} is set by the agent itself; leave it out"));
        }
        let value = HeaderValue::from_str(value).map_err(|error| format!("value of header {name:?}: {error}"))?;
        headers.insert(parsed, value);
    }
    Ok(headers)
}

fn check_load(load: Load) -> Result<(), String> {
    match load {
        Load::Closed { requests: 0, .. } => Err("`load.closed.requests` is 0; expected at least 1".to_owned()),
        Load::Closed { gap_ms, .. } if gap_ms > MAX_WAIT_MS => Err(format!(
            "`load.closed.gap_ms` is {gap_ms}; expected at most {MAX_WAIT_MS} (one hour)"
        )),
        Load::Open { requests: Some(0), .. } => {
            Err("`load.open.requests` is 0; expected at least 1, or none for no limit".to_owned())
        }
        Load::Open { per_second, .. } if !(per_second > 0.0 && per_second <= MAX_PER_SECOND) => Err(format!(
            "`load.open.per_second` is {per_second}; expected a rate above 0 and at most {MAX_PER_SECOND}"
        )),
        Load::Closed { .. } | Load::Open { .. } => Ok(()),
    }
}

fn check_range(field: &str, value: u64, most: u64) -> Result<(), String> {
    if (1..=most).contains(&value) {
        Ok(())
    } else {
        Err(format!("`{field}` is {value}; expected 1 to {most}"))
    }
}

/// Names travel in headers and in the control port's request targets.
fn check_name(field: &str, name: &str) -> Result<(), String> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(fine) {
        Ok(())
    } else {
        Err(format!(
            "`{field}` is {name:?}; expected 1 to {MAX_NAME} of the characters A-Z a-z 0-9 . _ -"
        ))
    }
}

fn check_lower_case(field: &str, name: &str) -> Result<(), String> {
    match HeaderName::try_from(name) {
        Ok(parsed) if parsed.as_str() == name => Ok(()),
        Ok(parsed) => Err(format!(
            "`{field}` names header {name:?}; write it in lower case: {:?}",
            parsed.as_str()
        )),
        Err(error) => Err(format!("`{field}` names header {name:?}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::UntilSeen;
    use rstest::rstest;

    fn job(change: impl FnOnce(&mut Job)) -> Job {
        let mut job = Job {
            name: "steady".to_owned(),
            run: "r1".to_owned(),
            host: "store.default".to_owned(),
            port: 8080,
            protocol: Protocol::Http1,
            load: Load::Closed { requests: 1, gap_ms: 0 },
            connections: 1,
            timeout_ms: 1000,
            path: "/cart?x=1".to_owned(),
            headers: [("X-Extra".to_owned(), "1".to_owned())].into(),
            record: vec![],
            until_seen: None,
            fresh_connections: false,
        };
        change(&mut job);
        job
    }

    #[rstest]
    #[case(Protocol::Http1, 8080, "store.default", "/cart?x=1", Some("store.default:8080"))]
    #[case(Protocol::Http1, 80, "store.default", "/cart?x=1", Some("store.default"))]
    #[case(Protocol::Http1, 8080, "fd00::1", "/cart?x=1", Some("[fd00::1]:8080"))]
    #[case(Protocol::Http2, 8080, "store.default", "http://store.default:8080/cart?x=1", None)]
    #[case(Protocol::Http2, 80, "10.0.0.1", "http://10.0.0.1/cart?x=1", None)]
    fn requests_name_their_host_as_the_protocol_wants(
        #[case] protocol: Protocol,
        #[case] port: u16,
        #[case] host: &str,
        #[case] uri: &str,
        #[case] host_header: Option<&str>,
    ) {
        let job = job(|job| {
            job.protocol = protocol;
            job.port = port;
            job.host = host.to_owned();
        });
        let request = Template::new(&job).unwrap().http_request("steady-3").unwrap();
        assert_eq!(request.uri().to_string(), uri);
        let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("host"), host_header);
        assert_eq!(header("x-extra"), Some("1"));
        assert_eq!(header(REQUEST_ID_HEADER), Some("steady-3"));
        assert_eq!(header(RUN_HEADER), Some("r1"));
    }

    #[rstest]
    #[case(Protocol::Http1)]
    #[case(Protocol::Http2)]
    fn a_host_header_of_the_job_wins(#[case] protocol: Protocol) {
        let job = job(|job| {
            job.protocol = protocol;
            job.headers.insert("Host".to_owned(), "other.example".to_owned());
        });
        let request = Template::new(&job).unwrap().http_request("x").unwrap();
        let named = match protocol {
            Protocol::Http2 => request.uri().authority().unwrap().as_str(),
            _ => request.headers()["host"].to_str().unwrap(),
        };
        assert_eq!(named, "other.example");
    }

    #[test]
    fn a_tcp_line_carries_id_run_and_headers() {
        let job = job(|job| job.protocol = Protocol::Tcp);
        let line = Template::new(&job).unwrap().tcp_line("steady-0").unwrap();
        let request: TcpRequest = serde_json::from_slice(&line).unwrap();
        assert_eq!(request.id.as_deref(), Some("steady-0"));
        assert_eq!(request.run.as_deref(), Some("r1"));
        assert_eq!(request.headers["X-Extra"], "1");
    }

    #[rstest]
    #[case("`name`", |job: &mut Job| job.name = String::new())]
    #[case("`name`", |job: &mut Job| job.name = "a/b".to_owned())]
    #[case("`name`", |job: &mut Job| job.name = "x".repeat(129))]
    #[case("`run`", |job: &mut Job| job.run = "r 1".to_owned())]
    #[case("`port`", |job: &mut Job| job.port = 0)]
    #[case("`host`", |job: &mut Job| job.host = String::new())]
    #[case("`host`", |job: &mut Job| job.host = "a b".to_owned())]
    #[case("`host`", |job: &mut Job| job.host = "user@host".to_owned())]
    #[case("`connections`", |job: &mut Job| job.connections = 0)]
    #[case("`connections`", |job: &mut Job| job.connections = 1025)]
    #[case("`timeout_ms`", |job: &mut Job| job.timeout_ms = 0)]
    #[case("`path`", |job: &mut Job| job.path = "cart".to_owned())]
    #[case("`path`", |job: &mut Job| job.path = "/a b".to_owned())]
    #[case("header \"a b\"", |job: &mut Job| drop(job.headers.insert("a b".to_owned(), String::new())))]
    #[case("value of header", |job: &mut Job| drop(job.headers.insert("a".to_owned(), "\n".to_owned())))]
    #[case("set by the agent", |job: &mut Job| drop(job.headers.insert("Connection".to_owned(), "close".to_owned())))]
    #[case("set by the agent", |job: &mut Job| drop(job.headers.insert(RUN_HEADER.to_owned(), "r".to_owned())))]
    #[case("`record`", |job: &mut Job| job.record = vec!["X-Upper".to_owned()])]
    #[case("`until_seen.consecutive`", |job: &mut Job| job.until_seen = Some(UntilSeen { header: "a".to_owned(), value: String::new(), consecutive: 0 }))]
    #[case("`until_seen.header`", |job: &mut Job| job.until_seen = Some(UntilSeen { header: "A".to_owned(), value: String::new(), consecutive: 1 }))]
    #[case("`load.closed.requests`", |job: &mut Job| job.load = Load::Closed { requests: 0, gap_ms: 0 })]
    #[case("`load.closed.gap_ms`", |job: &mut Job| job.load = Load::Closed { requests: 1, gap_ms: u64::MAX })]
    #[case("`load.open.requests`", |job: &mut Job| job.load = Load::Open { per_second: 1.0, requests: Some(0) })]
    #[case("`load.open.per_second`", |job: &mut Job| job.load = Load::Open { per_second: 0.0, requests: None })]
    #[case("`load.open.per_second`", |job: &mut Job| job.load = Load::Open { per_second: -1.0, requests: None })]
    #[case("`load.open.per_second`", |job: &mut Job| job.load = Load::Open { per_second: f64::NAN, requests: None })]
    #[case("`load.open.per_second`", |job: &mut Job| job.load = Load::Open { per_second: 1e9, requests: None })]
    fn a_job_that_makes_no_sense_is_refused_with_the_field(#[case] field: &str, #[case] change: fn(&mut Job)) {
        let problem = Template::new(&job(change)).err().expect("refused");
        assert!(problem.contains(field), "{problem}");
    }
}
