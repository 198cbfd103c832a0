//! HTTP/1.1 and HTTP/2 with prior knowledge, on the same port.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio_util::sync::CancellationToken;

use super::Agent;
use crate::network::BoxedStream;
use crate::protocol::{Answer, ProblemReport, Protocol, REQUEST_ID_HEADER, RUN_HEADER};

/// Requests that one HTTP/2 connection may carry at a time, and resets of such requests that are taken calmly: more than
/// one client job ever has outstanding, so that this server is not what limits an open loop.
const MAX_STREAMS: u32 = 8192;

/// Serves one connection until the peer or the agent ends it.
pub(crate) async fn serve(
    agent: Arc<Agent>,
    port: u16,
    stream: BoxedStream,
    peer: SocketAddr,
    drain: CancellationToken,
) {
    let close = CancellationToken::new();
    let service = service_fn({
        let close = close.clone();
        move |request| answer(Arc::clone(&agent), port, peer, close.clone(), request)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_STREAMS as usize)
        .max_local_error_reset_streams(MAX_STREAMS as usize);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // Errors are the peer's doing (not HTTP, reset, gone) and of no interest to anyone here.
    tokio::select! {
        biased;
        () = close.cancelled() => return,
        _ = connection.as_mut() => return,
        () = drain.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        biased;
        () = close.cancelled() => {}
        _ = connection => {}
    }
}

async fn answer(
    agent: Arc<Agent>,
    port: u16,
    peer: SocketAddr,
    close: CancellationToken,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    if !read_to_end(body).await {
        // The request never became complete, so it was not received; the connection is broken or about to be.
        return Ok(problem(
            StatusCode::BAD_REQUEST,
            "the request's body did not arrive completely",
        ));
    }
    let protocol = if parts.version == Version::HTTP_2 {
        Protocol::Http2
    } else {
        Protocol::Http1
    };
    let id = text(&parts.headers, REQUEST_ID_HEADER);
    let run = text(&parts.headers, RUN_HEADER);
    let treatment = agent.receive(protocol, port, id.as_deref(), run.as_deref());
    if !treatment.delay.is_zero() {
        tokio::time::sleep(treatment.delay).await;
    }
    let Some(status) = treatment.status else {
        close.cancel();
        return std::future::pending().await;
    };
    let answer = Answer {
        server: agent.identity.clone(),
        request: id,
        protocol,
        port,
        path: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        host: text(&parts.headers, header::HOST.as_str())
            .or_else(|| parts.uri.authority().map(ToString::to_string))
            .unwrap_or_default(),
        headers: all_headers(&parts.headers),
        peer: peer.ip().to_canonical().to_string(),
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Ok(match serde_json::to_vec(&answer) {
        Ok(_)
            if matches!(
                status,
                StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED
            ) =>
        {
            let mut response = Response::new(Full::default());
            *response.status_mut() = status;
            response
        }
        Ok(body) => json(status, body),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    })
}

/// Reads and forgets a body. `false` when it broke off.
async fn read_to_end(mut body: Incoming) -> bool {
    while !body.is_end_stream() {
        match body.frame().await {
            Some(Ok(_)) => {}
            Some(Err(_)) => return false,
            None => break,
        }
    }
    true
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get(name)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn all_headers(headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        all.entry(name.as_str().to_owned())
            .or_default()
            .push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    all
}

/// A response with a JSON body.
fn json(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn problem(status: StatusCode, problem: &str) -> Response<Full<Bytes>> {
    let report = ProblemReport {
        problem: problem.to_owned(),
    };
    json(status, serde_json::to_vec(&report).unwrap_or_default())
}
