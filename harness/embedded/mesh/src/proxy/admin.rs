//! The proxy's own port for health and metrics.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use meshproof_cluster::intercept::BoxedStream;
use tokio::time::Instant;

use super::Proxy;
use super::access::Access;
use super::detect::{Protocol, detect};
use super::inbound::{Peer, serve_http, terminate_own_tls};
use super::messages::{Body, ORIG_PROTO, empty, text};
use super::stream::put_back;
use crate::defect::Defect;
use crate::names::PROXY_ADMIN_PORT;

/// Serves one connection. `/ready` and `/live` are for anybody; the rest is subject to policy.
pub(super) async fn serve(proxy: &Arc<Proxy>, stream: BoxedStream, address: SocketAddr) {
    if let Some((stream, peer)) = terminate_own_tls(proxy, stream, address).await {
        serve_peer(proxy, stream, peer).await;
    }
}

/// Serves one connection of a known peer.
pub(super) async fn serve_peer(proxy: &Arc<Proxy>, mut stream: BoxedStream, peer: Peer) {
    let Ok((outcome, read)) = detect(&mut stream, Bytes::new(), proxy.detect_timeout()).await else {
        return;
    };
    let protocol = outcome.protocol();
    if protocol == Protocol::Opaque {
        return;
    }
    // Metrics name the address that the port is bound to.
    let bound = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PROXY_ADMIN_PORT);
    let access = Access::new(bound, peer);
    let stream = access.count_connection(proxy, put_back(read, stream));
    let handler = proxy.clone();
    serve_http(proxy, stream, protocol, move |request| {
        let (proxy, access) = (handler.clone(), access.clone());
        async move { answer(&proxy, &access, &request) }
    })
    .await;
}

fn answer(proxy: &Arc<Proxy>, access: &Access, request: &Request<Incoming>) -> Response<Body> {
    let start = Instant::now();
    let (method, path) = (request.method(), request.uri().path());
    let open = proxy.config.gateway && proxy.model.has(Defect::AdminPortOpen);
    let route = access.authorize(proxy, method, path);
    if route.is_none() && !open {
        return empty(StatusCode::FORBIDDEN);
    }
    if let Some(route) = &route {
        route.requested();
    }
    let mut response = match (method, path) {
        (&Method::GET, "/ready") => text(StatusCode::OK, "ready\n"),
        (&Method::GET, "/live") => text(StatusCode::OK, "live\n"),
        (&Method::GET, "/metrics") => text(StatusCode::OK, proxy.metrics()),
        (_, "/ready" | "/live" | "/metrics") => empty(StatusCode::METHOD_NOT_ALLOWED),
        _ => text(
            StatusCode::NOT_FOUND,
            "unsupported: the model serves /ready, /live and /metrics\n",
        ),
    };
    response.headers_mut().remove(ORIG_PROTO);
    if let Some(route) = &route {
        route.answered(response.status(), proxy.pace.scenario(start.elapsed()));
    }
    response
}
