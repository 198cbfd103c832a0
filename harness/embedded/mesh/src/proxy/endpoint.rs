//! One endpoint of a balancer: its connections and its counters.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Authority;
use http::{Request, Response, Version};
use http_body_util::{Either, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use meshproof_cluster::intercept::BoxedStream;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Proxy;
use super::http1_pool::Http1Pool;
use super::labels::{ResponseMetrics, connection_metrics, endpoint_labels};
use super::messages::{fit_response, onto_http1, onto_http2};
use super::stream::{ConnectionMetrics, Counted};
use super::transport_header::SessionProtocol;
use crate::defect::Defect;
use crate::destination::{EndpointTarget, Transport};
use crate::metrics::{Counter, Labels};

/// Reconnect pauses of the real proxy, in scenario time.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));
/// A connection must be made within this scenario time …
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// … but no sooner than this wall time, because a busy machine is not a dead peer.
const SHORTEST_CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Pings on idle HTTP/2 connections: period and patience, in scenario time.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3));
/// No ping is given up sooner than after this wall time.
const SHORTEST_KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a request that the peer did not process waits for the next connection, in scenario time: as long as failfast.
const PATIENCE: Duration = Duration::from_secs(3);
/// Flow-control windows, large enough not to matter.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// A request's body; nothing when a request without one is sent again.
type Outgoing = Either<Incoming, Empty<Bytes>>;
type Http2Sender = http2::SendRequest<Outgoing>;

pub(super) struct Endpoint {
    pub(super) target: EndpointTarget,
    /// Under a defect the endpoint is spoken to without TLS although it has an identity, and then in the client's own
    /// protocol: the compressed headers of HTTP/2 would hide again what the defect gives away.
    unencrypted: bool,
    fallback_authority: Authority,
    override_authority: Option<Authority>,
    http2: Mutex<Option<Http2Sender>>,
    /// Tells of each new lasting connection.
    connected: Notify,
    http1: Http1Pool,
    ready: AtomicBool,
    in_flight: AtomicUsize,
    requests: Counter,
    responses: ResponseMetrics,
    connections: ConnectionMetrics,
    stop: CancellationToken,
}

/// Why a request was not answered.
pub(super) enum SendError {
    /// It never left: it may go elsewhere.
    Unsent(Box<Request<Incoming>>),
    /// Something happened to it on its way.
    Failed(String),
}

impl Endpoint {
    /// An endpoint for HTTP; `authority` is the logical name in metrics. Connections to proxies are made at once and kept.
    pub(super) fn start(
        proxy: &Arc<Proxy>,
        target: EndpointTarget,
        authority: &str,
        changed: Arc<Notify>,
    ) -> Arc<Self> {
        let gateway = matches!(target.transport, Transport::Gateway { .. });
        let unencrypted = gateway && proxy.model.has(Defect::PlaintextOnLink);
        let base = endpoint_labels(&target, authority, unencrypted);
        let override_authority = match &target.transport {
            Transport::Gateway { host, port, .. } if !proxy.model.has(Defect::HostNotRewritten) => {
                format!("{host}:{port}").parse().ok()
            }
            _ => None,
        };
        let address = target.address.to_string();
        let endpoint = Arc::new(Self {
            unencrypted,
            fallback_authority: address.parse().unwrap_or_else(|_| Authority::from_static("localhost")),
            override_authority,
            http2: Mutex::new(None),
            connected: Notify::new(),
            http1: Http1Pool::default(),
            ready: AtomicBool::new(unencrypted || target.transport == Transport::Plain),
            in_flight: AtomicUsize::new(0),
            requests: proxy.metrics.counter(
                "request_total",
                "Total count of HTTP requests.",
                &Labels::from([("direction", "outbound")]).and(&base),
            ),
            connections: connection_metrics(&proxy.metrics, "outbound", "dst", &base),
            responses: ResponseMetrics::new(proxy, base),
            stop: proxy.closed.child_token(),
            target,
        });
        if endpoint.has_lasting_connection() {
            tokio::spawn(keep_connected(proxy.clone(), endpoint.clone(), changed));
        }
        endpoint
    }

    fn has_lasting_connection(&self) -> bool {
        !self.unencrypted && self.target.transport != Transport::Plain
    }

    /// Takes no more requests; those under way are finished.
    pub(super) fn stop(&self) {
        self.ready.store(false, Ordering::Release);
        self.stop.cancel();
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Requests that wait for an answer.
    pub(super) fn load(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn sender(&self) -> Option<Http2Sender> {
        self.http2.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_sender(&self, sender: Option<Http2Sender>) {
        let ready = sender.is_some();
        *self.http2.lock().unwrap_or_else(PoisonError::into_inner) = sender;
        self.ready.store(ready, Ordering::Release);
        if ready {
            self.connected.notify_waiters();
        }
    }

    /// Sends a request and waits for the head of its response, which comes back in the request's own version.
    pub(super) async fn send(
        &self,
        proxy: &Arc<Proxy>,
        mut request: Request<Incoming>,
    ) -> Result<Response<Incoming>, SendError> {
        let version = request.version();
        let start = Instant::now();
        let _load = Load::new(&self.in_flight);
        if let Some(authority) = &self.override_authority {
            super::messages::set_authority(&mut request, authority.clone());
        }
        let outcome = if self.has_lasting_connection() {
            onto_http2(&mut request, &self.fallback_authority);
            self.send_to_proxy(proxy, request).await
        } else {
            self.send_plain(proxy, request).await
        };
        let mut response = outcome?;
        let latency = proxy.pace.scenario(start.elapsed());
        self.responses.count(response.status(), latency);
        fit_response(&mut response, version);
        Ok(response)
    }

    async fn send_to_proxy(&self, proxy: &Proxy, request: Request<Incoming>) -> Result<Response<Incoming>, SendError> {
        let Some(mut sender) = self.sender() else {
            return Err(SendError::Unsent(Box::new(request)));
        };
        let again = without_body(&request);
        match sender.try_send_request(request.map(Either::Left)).await {
            Ok(response) => {
                self.requests.increment();
                Ok(response)
            }
            Err(mut error) => {
                if let Some(unsent) = error.take_message().and_then(with_body) {
                    self.ready.store(false, Ordering::Release);
                    return Err(SendError::Unsent(Box::new(unsent)));
                }
                self.requests.increment();
                match again.filter(|_| is_unprocessed(error.error())) {
                    Some(again) => self.send_again(proxy, sender, again).await,
                    None => Err(SendError::Failed(error.error().to_string())),
                }
            }
        }
    }

    /// Sends a request over the next connection, when the peer closed the one before in good order and did not process it:
    /// frames that were under way when it said goodbye.
    async fn send_again(
        &self,
        proxy: &Proxy,
        last: Http2Sender,
        mut request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, SendError> {
        drop(last);
        let next = async {
            loop {
                let connected = self.connected.notified();
                let Some(mut sender) = self.sender().filter(|sender| !sender.is_closed()) else {
                    connected.await;
                    continue;
                };
                match sender.try_send_request(request).await {
                    Ok(response) => return Ok(response),
                    Err(mut error) => match error.take_message() {
                        // It was closing, too.
                        Some(unsent) => request = unsent,
                        None => return Err(SendError::Failed(error.error().to_string())),
                    },
                }
                drop(sender);
                connected.await;
            }
        };
        tokio::time::timeout(proxy.pace.wall(PATIENCE), next)
            .await
            .unwrap_or_else(|_| Err(SendError::Failed("no new connection in time".to_owned())))
    }

    async fn send_plain(
        &self,
        proxy: &Arc<Proxy>,
        mut request: Request<Incoming>,
    ) -> Result<Response<Incoming>, SendError> {
        let protocol = match request.version() {
            Version::HTTP_2 => SessionProtocol::Http2,
            _ => SessionProtocol::Http1,
        };
        let connect = || async {
            let stream = self.connect(proxy, protocol).await?;
            Ok::<_, io::Error>(Box::new(Counted::new(stream, self.connections.clone())) as BoxedStream)
        };
        self.requests.increment();
        let outcome = if request.version() == Version::HTTP_2 {
            self.http1.send_http2(request, connect).await
        } else {
            onto_http1(&mut request);
            self.http1.send(request, connect).await
        };
        outcome.map_err(|error| SendError::Failed(error.to_string()))
    }

    async fn connect(&self, proxy: &Proxy, protocol: SessionProtocol) -> io::Result<BoxedStream> {
        let timeout = proxy.pace.wall(CONNECT_TIMEOUT).max(SHORTEST_CONNECT_TIMEOUT);
        let connect = proxy.connect(&self.target, protocol, self.unencrypted);
        tokio::time::timeout(timeout, connect)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// The same request, if it has no body.
fn without_body(request: &Request<Incoming>) -> Option<Request<Outgoing>> {
    if !request.body().is_end_stream() {
        return None;
    }
    let mut again = Request::new(Either::Right(Empty::new()));
    request.method().clone_into(again.method_mut());
    request.uri().clone_into(again.uri_mut());
    *again.version_mut() = request.version();
    request.headers().clone_into(again.headers_mut());
    Some(again)
}

/// A request as it was before it was to be sent.
fn with_body(request: Request<Outgoing>) -> Option<Request<Incoming>> {
    let (parts, body) = request.into_parts();
    match body {
        Either::Left(body) => Some(Request::from_parts(parts, body)),
        Either::Right(_) => None,
    }
}

/// Whether the peer says that it did nothing with a request (RFC 9113, 8.7): it may be sent again.
fn is_unprocessed(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| {
        let refused = cause.reason() == Some(h2::Reason::REFUSED_STREAM);
        refused || (cause.is_go_away() && cause.reason() == Some(h2::Reason::NO_ERROR))
    })
}

/// Counts a request as under way until it is dropped.
struct Load<'a>(&'a AtomicUsize);

impl<'a> Load<'a> {
    fn new(load: &'a AtomicUsize) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        Self(load)
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Keeps one HTTP/2 connection to the endpoint's proxy until the endpoint is stopped.
async fn keep_connected(proxy: Arc<Proxy>, endpoint: Arc<Endpoint>, changed: Arc<Notify>) {
    let mut pause = BACKOFF.0;
    loop {
        let attempt = tokio::select! {
            () = endpoint.stop.cancelled() => return,
            attempt = open_http2(&proxy, &endpoint) => attempt,
        };
        match attempt {
            Ok((sender, connection)) => {
                let since = Instant::now();
                endpoint.set_sender(Some(sender));
                if endpoint.stop.is_cancelled() {
                    endpoint.set_sender(None);
                    return;
                }
                changed.notify_waiters();
                let mut connection = Box::pin(connection);
                tokio::select! {
                    _ = &mut connection => endpoint.set_sender(None),
                    () = endpoint.stop.cancelled() => {
                        endpoint.set_sender(None);
                        // Without senders the connection ends by itself when its last request is answered.
                        tokio::spawn(connection);
                        return;
                    }
                }
                changed.notify_waiters();
                // A connection that worked is made again at once; one that was cut off right away counts as failed.
                if since.elapsed() > proxy.pace.wall(BACKOFF.1) {
                    pause = BACKOFF.0;
                    continue;
                }
            }
            Err(error) => {
                tracing::debug!(endpoint = %endpoint.target.address, %error, "no connection");
                proxy.count_connect_failure(&endpoint.target);
            }
        }
        tokio::select! {
            () = endpoint.stop.cancelled() => return,
            () = tokio::time::sleep(proxy.pace.wall(pause)) => pause = (pause * 2).min(BACKOFF.1),
        }
    }
}

async fn open_http2(
    proxy: &Proxy,
    endpoint: &Endpoint,
) -> io::Result<(Http2Sender, impl Future<Output = hyper::Result<()>> + Send + 'static)> {
    let stream = endpoint.connect(proxy, SessionProtocol::Http2).await?;
    let stream = TokioIo::new(Counted::new(stream, endpoint.connections.clone()));
    let (interval, patience) = KEEP_ALIVE;
    http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(proxy.pace.wall(interval))
        .keep_alive_timeout(proxy.pace.wall(patience).max(SHORTEST_KEEP_ALIVE_TIMEOUT))
        .keep_alive_while_idle(true)
        .handshake(stream)
        .await
        .map_err(io::Error::other)
}
