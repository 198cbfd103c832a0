//! Connections that the application opens.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use meshproof_cluster::intercept::BoxedStream;
use rand::Rng as _;
use tokio::io::DuplexStream;
use tokio::time::Instant;

use super::CONTROL_PORTS;
use super::Proxy;
use super::detect::{Outcome, Protocol, detect};
use super::labels::{address_labels, connection_metrics, endpoint_labels, parent_labels};
use super::logical::{Logical, Side};
use super::messages::{Body, CLAIMED_CLIENT_ID, CLIENT_ID};
use super::stream::{Counted, ResetStream, join, put_back};
use super::transport_header::SessionProtocol;
use crate::defect::Defect;
use crate::destination::{EndpointTarget, Service, Transport};
use crate::metrics::Labels;

/// Bytes between the application and its proxy that are on their way.
const BUFFER: usize = 64 * 1024;
/// How long an opaque connection looks for an endpoint, in scenario time.
const FAILFAST: Duration = Duration::from_secs(3);
/// How long it waits between two attempts, in scenario time.
const RETRY: Duration = Duration::from_millis(100);

/// Takes a connection of the application to `destination`.
pub(super) async fn open(proxy: &Arc<Proxy>, destination: SocketAddr) -> io::Result<BoxedStream> {
    let port = destination.port();
    let own = destination.ip().is_loopback() || destination.ip() == proxy.sidecar.address();
    if own || CONTROL_PORTS.contains(&port) || proxy.config.skip_outbound_ports.contains(port) {
        return proxy.sidecar.connect_unmeshed(destination).await;
    }
    let discovery = tokio::time::timeout(proxy.pace.wall(FAILFAST), proxy.destinations.serving());
    if !proxy.knows(destination) && discovery.await.is_err() {
        // Nobody tells where it leads.
        return Ok(Box::new(ResetStream));
    }
    let service = proxy.destinations.view().service_at(destination.ip()).cloned();
    if service.as_ref().is_some_and(|service| service.port(port).is_none()) {
        return Ok(Box::new(ResetStream));
    }
    let (application, stream) = tokio::io::duplex(BUFFER);
    let labels = address_labels(&Labels::new(), &destination)
        .and(&Labels::from([("tls", "no_identity"), ("no_tls_reason", "loopback")]));
    let stream = Counted::new(stream, connection_metrics(&proxy.metrics, "outbound", "src", &labels));
    let proxy = proxy.clone();
    tokio::spawn(async move {
        match service {
            Some(service) => serve_service(&proxy, stream, destination, &service).await,
            None => {
                let target = proxy.destinations.view().direct_target(destination);
                serve_address(&proxy, stream, target).await;
            }
        }
    });
    Ok(Box::new(application))
}

type Accepted = Counted<DuplexStream>;

impl Proxy {
    /// Whether a destination is in use already; then nobody needs to be asked.
    fn knows(&self, destination: SocketAddr) -> bool {
        self.outbound
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(&destination)
    }

    fn logical(self: &Arc<Self>, destination: SocketAddr, service: &Service) -> Arc<Logical> {
        let mut known = self.outbound.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(logical) = known.get(&destination).filter(|logical| logical.is_for(service)) {
            return logical.clone();
        }
        let logical = Logical::new(self, Side::Application(destination), service, destination.port());
        if let Some(former) = known.insert(destination, logical.clone()) {
            former.stop();
        }
        logical
    }
}

async fn serve_service(proxy: &Arc<Proxy>, mut stream: Accepted, destination: SocketAddr, service: &Arc<Service>) {
    let key = (service.namespace.clone(), service.name.clone());
    let parent = parent_labels(&key, destination.port());
    let opaque = proxy.destinations.view().is_opaque(service, destination.port());
    count_protocol(proxy, &parent, if opaque { "opaque" } else { "detect" });
    let (outcome, read) = if opaque {
        (Outcome::NotHttp, Bytes::new())
    } else {
        match detect(&mut stream, Bytes::new(), proxy.detect_timeout()).await {
            Ok((outcome, read)) => {
                count_detection(proxy, &parent, outcome);
                (outcome, read)
            }
            Err(_) => return,
        }
    };
    let stream = put_back(read, Box::new(stream));
    match outcome.protocol() {
        Protocol::Opaque => serve_opaque(proxy, stream, service, destination.port()).await,
        protocol => serve_http(proxy.clone(), stream, proxy.logical(destination, service), protocol).await,
    }
}

async fn serve_http(proxy: Arc<Proxy>, stream: BoxedStream, logical: Arc<Logical>, protocol: Protocol) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (proxy, logical) = (proxy.clone(), logical.clone());
        async move {
            claim_identity(&proxy, request.headers_mut());
            Ok::<Response<Body>, std::convert::Infallible>(logical.call(&proxy, request).await)
        }
    });
    let stream = TokioIo::new(stream);
    // A connection that breaks is the application's doing; there is nobody to tell.
    if protocol == Protocol::Http2 {
        let _ = http2::Builder::new(TokioExecutor::new())
            .serve_connection(stream, service)
            .await;
    } else {
        let _ = http1::Builder::new()
            .half_close(true)
            .serve_connection(stream, service)
            .await;
    }
}

/// With the defect, an identity that the application claims is carried to the target, which believes it.
fn claim_identity(proxy: &Proxy, headers: &mut HeaderMap) {
    headers.remove(CLAIMED_CLIENT_ID);
    if proxy.model.has(Defect::ClientIdentityHeaderTrusted)
        && let Some(claim) = headers.get(CLIENT_ID).cloned()
    {
        headers.insert(CLAIMED_CLIENT_ID, claim);
    }
}

/// Passes an opaque connection to one of a Service's endpoints; closes it when there is none in time.
pub(super) async fn serve_opaque(proxy: &Arc<Proxy>, stream: BoxedStream, service: &Arc<Service>, port: u16) {
    let authority = proxy.config.authority(&service.namespace, &service.name, port);
    let deadline = Instant::now() + proxy.pace.wall(FAILFAST);
    while Instant::now() < deadline {
        let view = proxy.destinations.view();
        let mut targets = view.endpoints(service, port, &proxy.model.defects());
        while !targets.is_empty() {
            let drawn = proxy.random().random_range(0..targets.len());
            let target = targets.swap_remove(drawn);
            if let Ok(connection) = open_opaque(proxy, &target, &authority, deadline).await {
                join(stream, connection).await;
                return;
            }
        }
        tokio::time::sleep(proxy.pace.wall(RETRY)).await;
    }
}

async fn open_opaque(
    proxy: &Proxy,
    target: &EndpointTarget,
    authority: &str,
    deadline: Instant,
) -> io::Result<Counted<BoxedStream>> {
    let unencrypted = matches!(target.transport, Transport::Gateway { .. }) && proxy.model.has(Defect::PlaintextOnLink);
    let connect = proxy.connect(target, SessionProtocol::Opaque, unencrypted);
    let timed_out = |_| Err(io::ErrorKind::TimedOut.into());
    let connection = tokio::time::timeout_at(deadline, connect)
        .await
        .unwrap_or_else(timed_out);
    let connection = connection.inspect_err(|_| proxy.count_connect_failure(target))?;
    let labels = endpoint_labels(target, authority, unencrypted);
    Ok(Counted::new(
        connection,
        connection_metrics(&proxy.metrics, "outbound", "dst", &labels),
    ))
}

/// Passes a connection to an address that belongs to no Service.
async fn serve_address(proxy: &Arc<Proxy>, stream: Accepted, target: EndpointTarget) {
    let deadline = Instant::now() + proxy.pace.wall(FAILFAST);
    if let Ok(connection) = open_opaque(proxy, &target, "", deadline).await {
        join(stream, connection).await;
    }
}

fn count_protocol(proxy: &Proxy, parent: &Labels, protocol: &str) {
    proxy
        .metrics
        .counter(
            "outbound_tcp_protocol_connections_total",
            "Outbound TCP connections by protocol configuration.",
            &Labels::from([("protocol", protocol)]).and(parent),
        )
        .increment();
}

fn count_detection(proxy: &Proxy, parent: &Labels, outcome: Outcome) {
    proxy
        .metrics
        .counter(
            "outbound_tcp_detect_http_results_total",
            "Results of protocol detection.",
            &Labels::from([("result", outcome.label())]).and(parent),
        )
        .increment();
}
