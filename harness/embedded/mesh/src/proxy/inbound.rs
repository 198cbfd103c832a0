//! Connections that arrive at the pod.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::HeaderValue;
use http::{Request, Response, StatusCode, Version};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use meshproof_cluster::intercept::BoxedStream;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::access::Access;
use super::detect::{Protocol, detect, detect_tls};
use super::labels::{client_tls, connection_metrics};
use super::messages::{Body, CLAIMED_CLIENT_ID, CLIENT_ID, ORIG_PROTO, empty, fit_response, onto_http1, wants_upgrade};
use super::stream::{Counted, join, put_back};
use super::transport_header::{SessionProtocol, TransportHeader, UNENCRYPTED_PREFACE};
use super::{CONTROL_PORTS, Proxy, admin, gateway};
use crate::defect::Defect;
use crate::destination::policy::Client;
use crate::identity::{TRANSPORT_HEADER_ALPN, peer_identity};
use crate::metrics::Labels;
use crate::names::PROXY_ADMIN_PORT;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    pub(super) encrypted: bool,
    pub(super) identity: Option<Arc<str>>,
}

impl Peer {
    pub(super) fn plain(address: SocketAddr) -> Self {
        Self {
            address,
            encrypted: false,
            identity: None,
        }
    }

    pub(super) fn client(&self) -> Client<'_> {
        Client {
            address: self.address.ip(),
            identity: self.identity.as_deref(),
        }
    }

    pub(super) fn tls_labels(&self) -> Labels {
        client_tls(self.encrypted, self.identity.as_deref())
    }
}

/// Port and path of every HTTP probe in the pod's object.
pub(super) fn probe_paths(pod: &Value) -> Vec<(u16, String)> {
    let containers = ["containers", "initContainers"]
        .into_iter()
        .filter_map(|list| pod["spec"][list].as_array())
        .flatten();
    let mut probes = vec![
        (PROXY_ADMIN_PORT, "/live".to_owned()),
        (PROXY_ADMIN_PORT, "/ready".to_owned()),
    ];
    for container in containers {
        for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
            let probe = &container[kind]["httpGet"];
            let port = match &probe["port"] {
                Value::String(name) => {
                    let ports = container["ports"].as_array();
                    ports.and_then(|ports| {
                        let named = ports.iter().find(|port| port["name"] == name.as_str())?;
                        named["containerPort"].as_u64()
                    })
                }
                number => number.as_u64(),
            };
            if let Some(port) = port.and_then(|port| u16::try_from(port).ok()) {
                let path = probe["path"].as_str().unwrap_or("/");
                let path = path.split('?').next().unwrap_or("/");
                probes.push((port, path.to_owned()));
            }
        }
    }
    probes
}

/// Serves the port that other proxies connect to.
pub(super) async fn serve_proxy_port(proxy: &Arc<Proxy>, mut stream: BoxedStream, address: SocketAddr) {
    let Ok((name, read)) = detect_tls(&mut stream, proxy.detect_timeout()).await else {
        return;
    };
    let mut stream = put_back(read.clone(), stream);
    if name.is_none() {
        if read.starts_with(UNENCRYPTED_PREFACE) && proxy.model.has(Defect::PlaintextOnLink) {
            let mut preface = [0; UNENCRYPTED_PREFACE.len()];
            if stream.read_exact(&mut preface).await.is_ok() {
                serve_transport_header(proxy, stream, Peer::plain(address)).await;
            }
        } else if proxy.config.gateway && proxy.model.has(Defect::GatewayAcceptsUnauthenticated) {
            gateway::serve_unauthenticated(proxy, stream, Peer::plain(address)).await;
        }
        // Anything else than TLS is cut off without a word.
        return;
    }
    let Some((stream, peer, alpn)) = accept_tls(proxy, stream, address).await else {
        return;
    };
    if alpn {
        serve_transport_header(proxy, stream, peer).await;
    }
}

/// Completes a TLS handshake. Tells who the client is and whether a transport header follows.
async fn accept_tls(proxy: &Proxy, stream: BoxedStream, address: SocketAddr) -> Option<(BoxedStream, Peer, bool)> {
    let config = proxy.identity.configs().server.clone();
    let accept = tokio::time::timeout(proxy.detect_timeout(), TlsAcceptor::from(config).accept(stream));
    let stream = match accept.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "TLS handshake failed");
            count_tcp_error(proxy, "tls");
            return None;
        }
        Err(_) => {
            count_tcp_error(proxy, "tls detection timeout");
            return None;
        }
    };
    let session = stream.get_ref().1;
    let alpn = session.alpn_protocol() == Some(TRANSPORT_HEADER_ALPN);
    let identity = peer_identity(session.peer_certificates()).map(Arc::from);
    Some((
        Box::new(stream),
        Peer {
            address,
            encrypted: true,
            identity,
        },
        alpn,
    ))
}

pub(super) fn count_tcp_error(proxy: &Proxy, error: &str) {
    proxy
        .metrics
        .counter(
            "inbound_tcp_errors_total",
            "The total number of inbound TCP connections that could not be processed due to a proxy error.",
            &Labels::from([("error", error)]),
        )
        .increment();
}

async fn serve_transport_header(proxy: &Arc<Proxy>, mut stream: BoxedStream, mut peer: Peer) {
    let read = tokio::time::timeout(proxy.detect_timeout(), TransportHeader::read(&mut stream));
    let Ok(Ok(header)) = read.await else {
        count_tcp_error(proxy, "unexpected");
        return;
    };
    if !peer.encrypted {
        // Only the defect that sends plaintext leads here.
        peer.identity = header.client.as_deref().map(Arc::from);
    }
    // Proxies authenticate each other; only defects let others in.
    let open = proxy.config.gateway && proxy.model.has(Defect::GatewayAcceptsUnauthenticated);
    if peer.identity.is_none() && !open {
        count_tcp_error(proxy, "unexpected");
        return;
    }
    count_transport_header(proxy, &header, &peer);
    if header.name.is_some() {
        let version = header.version.as_deref();
        let newer = version.is_some_and(|version| version > proxy.config.version.as_str());
        if proxy.config.gateway && !newer {
            gateway::serve(proxy, stream, header, peer).await;
        } else {
            count_tcp_error(proxy, "unexpected");
        }
        return;
    }
    let protocol = match header.protocol {
        SessionProtocol::Http1 => Protocol::Http1,
        SessionProtocol::Http2 => Protocol::Http2,
        SessionProtocol::Opaque => Protocol::Opaque,
    };
    if header.port == PROXY_ADMIN_PORT {
        admin::serve_peer(proxy, stream, peer).await;
    } else {
        serve_application(proxy, stream, header.port, peer, protocol).await;
    }
}

fn count_transport_header(proxy: &Proxy, header: &TransportHeader, peer: &Peer) {
    let labels = Labels::new()
        .with("session_protocol", header.protocol.label())
        .with("target_port", &header.port.to_string())
        .with("target_name", header.name.as_deref().unwrap_or_default())
        .with("client_id", peer.identity.as_deref().unwrap_or_default());
    proxy
        .metrics
        .counter(
            "inbound_tcp_transport_header_connections_total",
            "TCP connections with transport headers.",
            &labels,
        )
        .increment();
}

/// Serves any other port of the pod.
pub(super) async fn serve_port(proxy: &Arc<Proxy>, stream: BoxedStream, port: u16, address: SocketAddr) {
    if CONTROL_PORTS.contains(&port) || proxy.config.skip_inbound_ports.contains(port) {
        if let Ok(application) = proxy.sidecar.connect_application(port, address).await {
            join(stream, application).await;
        }
        return;
    }
    let opaque = proxy.destinations.view().is_opaque_in_pod(&proxy.this, port);
    if opaque {
        serve_application(proxy, stream, port, Peer::plain(address), Protocol::Opaque).await;
        return;
    }
    let Some((mut stream, peer)) = terminate_own_tls(proxy, stream, address).await else {
        return;
    };
    let Ok((outcome, read)) = detect(&mut stream, Bytes::new(), proxy.detect_timeout()).await else {
        return;
    };
    serve_application(proxy, put_back(read, stream), port, peer, outcome.protocol()).await;
}

/// Ends TLS that is meant for this pod's identity. Any other TLS is the application's own and passes as it is.
pub(super) async fn terminate_own_tls(
    proxy: &Proxy,
    mut stream: BoxedStream,
    address: SocketAddr,
) -> Option<(BoxedStream, Peer)> {
    let (name, read) = detect_tls(&mut stream, proxy.detect_timeout()).await.ok()?;
    let stream = put_back(read, stream);
    if name.as_deref() != Some(proxy.identity.name()) {
        return Some((stream, Peer::plain(address)));
    }
    let (stream, peer, _) = accept_tls(proxy, stream, address).await?;
    Some((stream, peer))
}

async fn serve_application(proxy: &Arc<Proxy>, stream: BoxedStream, port: u16, peer: Peer, protocol: Protocol) {
    if proxy.config.require_identity_ports.contains(port) && peer.identity.is_none() {
        count_tcp_error(proxy, "unauthorized");
        return;
    }
    let access = Access::new(proxy.own_address(port), peer);
    let stream = access.count_connection(proxy, stream);
    match protocol {
        Protocol::Opaque => {
            if access.allow_connection(proxy)
                && let Ok(application) = connect_application(proxy, port).await
            {
                join(stream, application).await;
            }
        }
        protocol => {
            let handler = proxy.clone();
            serve_http(proxy, stream, protocol, move |request| {
                let (proxy, access) = (handler.clone(), access.clone());
                async move { call_application(&proxy, &access, port, request).await }
            })
            .await;
        }
    }
}

/// The application sees its own pod as the source of all its connections.
async fn connect_application(proxy: &Proxy, port: u16) -> std::io::Result<BoxedStream> {
    let labels = Labels::from([("tls", "no_identity"), ("no_tls_reason", "loopback")]);
    let stream = proxy.sidecar.connect_application(port, proxy.own_address(0)).await?;
    Ok(Box::new(Counted::new(
        stream,
        connection_metrics(&proxy.metrics, "inbound", "dst", &labels),
    )))
}

/// Serves HTTP until the peer is done or the proxy stops; then requests under way are still answered.
pub(super) async fn serve_http<H, F>(proxy: &Proxy, stream: BoxedStream, protocol: Protocol, handler: H)
where
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    const STREAM_WINDOW: u32 = 1 << 20;
    const CONNECTION_WINDOW: u32 = 8 << 20;
    const STREAMS: u32 = 10_000;
    let stream = TokioIo::new(stream);
    let service = service_fn(|request| {
        let answer = handler(request);
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    // A connection that breaks is the peer's doing; there is nobody to tell.
    if protocol == Protocol::Http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(STREAMS);
        let mut connection = std::pin::pin!(builder.serve_connection(stream, service));
        tokio::select! {
            _ = connection.as_mut() => return,
            () = proxy.shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    } else {
        let mut builder = http1::Builder::new();
        builder.half_close(true);
        let mut connection = std::pin::pin!(builder.serve_connection(stream, service));
        tokio::select! {
            _ = connection.as_mut() => return,
            () = proxy.shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }
}

/// Hands a request to the application, in the protocol in which it was made.
async fn call_application(
    proxy: &Arc<Proxy>,
    access: &Access,
    port: u16,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let Some(route) = access.authorize(proxy, request.method(), request.uri().path()) else {
        return empty(StatusCode::FORBIDDEN);
    };
    if wants_upgrade(&request) {
        return empty(StatusCode::NOT_IMPLEMENTED);
    }
    let start = Instant::now();
    route.requested();
    let version = request.version();
    set_client_id(proxy, access.peer(), &mut request);
    let pool = proxy.application(port);
    let connect = || connect_application(proxy, port);
    let carried_http1 = request.headers().contains_key(ORIG_PROTO);
    let outcome = if version == Version::HTTP_2 && !carried_http1 {
        pool.send_http2(request, connect).await
    } else {
        onto_http1(&mut request);
        pool.send(request, connect).await
    };
    let response = match outcome {
        Ok(mut response) => {
            fit_response(&mut response, version);
            response.map(Either::Left)
        }
        Err(error) => {
            tracing::debug!(port, %error, "the application did not answer");
            empty(StatusCode::BAD_GATEWAY)
        }
    };
    route.answered(response.status(), proxy.pace.scenario(start.elapsed()));
    response
}

/// Says who the verified client is. What the client itself sent is replaced, or taken out when there is no verified client.
pub(super) fn set_client_id(proxy: &Proxy, peer: &Peer, request: &mut Request<Incoming>) {
    let headers = request.headers_mut();
    let claimed = headers.remove(CLAIMED_CLIENT_ID);
    headers.remove(CLIENT_ID);
    if let Some(identity) = peer
        .identity
        .as_deref()
        .and_then(|identity| HeaderValue::from_str(identity).ok())
    {
        headers.insert(CLIENT_ID, identity);
    }
    if let Some(claimed) = claimed.filter(|_| proxy.model.has(Defect::ClientIdentityHeaderTrusted)) {
        headers.insert(CLIENT_ID, claimed);
    }
}
