//! Kubernetes clients whose connections go through the pod's network, and whose requests keep to client-go's rate.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::{Body, ConfigExt};
use kube::config::Kubeconfig;
use kube::{Client, Config};
use meshproof_cluster::intercept::BoxedStream;
use meshproof_cluster::pace::Pace;
use meshproof_cluster::program::SidecarAccess;
use meshproof_kubeconfig::Proxies;
use tokio::time::Instant;
use tower::{BoxError, Service, ServiceBuilder};

/// client-go's defaults: sustained requests per second, and how many may come at once after a pause.
const REQUESTS_PER_SECOND: f64 = 5.0;
const BURST: f64 = 10.0;
/// How long client-go waits for a connection, scenario time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// A client for the API server in `kubeconfig`, with a rate limit of its own.
///
/// # Errors
/// Says what is wrong with the kubeconfig, never what is in it.
pub(super) async fn connect(kubeconfig: &str, sidecar: &Arc<dyn SidecarAccess>, pace: Pace) -> Result<Client, String> {
    let parsed =
        Kubeconfig::from_yaml(kubeconfig).map_err(|_| "unable to parse kube config: it is no kubeconfig".to_owned())?;
    let config = meshproof_kubeconfig::config(&parsed, None, &Proxies::none())
        .map_err(|error| format!("unable to parse kube config: {error}"))?;
    build(config, sidecar, pace).map_err(|error| format!("unable to parse kube config: {error}"))
}

fn build(config: Config, sidecar: &Arc<dyn SidecarAccess>, pace: Pace) -> kube::Result<Client> {
    let connector = config.rustls_https_connector_with_connector(PodConnector {
        sidecar: sidecar.clone(),
        timeout: pace.wall(CONNECT_TIMEOUT),
    })?;
    let transport = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build::<_, Body>(connector);
    let bucket = Arc::new(Bucket::new(pace));
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .layer_fn(move |inner| Throttled {
            inner,
            bucket: bucket.clone(),
        })
        .map_err(BoxError::from)
        .service(transport);
    Ok(Client::new(service, config.default_namespace))
}

/// Opens connections as the pod, past its sidecar.
#[derive(Clone)]
struct PodConnector {
    sidecar: Arc<dyn SidecarAccess>,
    timeout: Duration,
}

impl Service<Uri> for PodConnector {
    type Response = PodStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<PodStream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let host = uri
                .host()
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a URL without a host"))?
                .trim_matches(['[', ']'])
                .to_owned();
            let port = uri.port_u16().unwrap_or(443);
            let open = async {
                let ip = match host.parse::<IpAddr>() {
                    Ok(ip) => ip,
                    Err(_) => connector
                        .sidecar
                        .resolve(&host)
                        .await?
                        .into_iter()
                        .next()
                        .ok_or_else(|| {
                            io::Error::new(io::ErrorKind::NotFound, format!("lookup {host}: no such host"))
                        })?,
                };
                connector.sidecar.connect_unmeshed(SocketAddr::new(ip, port)).await
            };
            let stream = tokio::time::timeout(connector.timeout, open).await.map_err(|_| {
                io::Error::new(io::ErrorKind::TimedOut, format!("dial tcp {host}:{port}: i/o timeout"))
            })??;
            Ok(PodStream(TokioIo::new(stream)))
        })
    }
}

/// A connection of the pod, as hyper wants it.
struct PodStream(TokioIo<BoxedStream>);

impl Connection for PodStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for PodStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl Write for PodStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Lets each request wait for its turn.
#[derive(Clone)]
struct Throttled<S> {
    inner: S,
    bucket: Arc<Bucket>,
}

impl<S> Service<Request<Body>> for Throttled<S>
where
    S: Service<Request<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The instance that was polled ready has to take the call.
        let fresh = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, fresh);
        let turn = self.bucket.take();
        Box::pin(async move {
            tokio::time::sleep_until(turn).await;
            ready.call(request).await
        })
    }
}

/// A token bucket that runs at the environment's pace.
struct Bucket {
    /// Wall time that one token takes.
    interval: Duration,
    /// When the bucket was, or will be, empty of debts: tokens are counted as time.
    paid_until: Mutex<Instant>,
}

impl Bucket {
    fn new(pace: Pace) -> Self {
        let interval = pace.wall(Duration::from_secs_f64(1.0 / REQUESTS_PER_SECOND));
        let now = Instant::now();
        Self {
            interval,
            paid_until: Mutex::new(now.checked_sub(interval.mul_f64(BURST)).unwrap_or(now)),
        }
    }

    /// When the caller may go on. Callers are served in order.
    fn take(&self) -> Instant {
        let now = Instant::now();
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        let full = now.checked_sub(self.interval.mul_f64(BURST)).unwrap_or(now);
        *paid_until = (*paid_until).max(full) + self.interval;
        (*paid_until).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::Bucket;
    use meshproof_cluster::pace::Pace;
    use std::time::Duration;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn ten_requests_go_at_once_and_then_five_a_second() {
        tokio::time::advance(Duration::from_secs(60)).await;
        let bucket = Bucket::new(Pace::NORMAL);
        let start = Instant::now();
        let waits: Vec<u128> = (0..15)
            .map(|_| bucket.take().duration_since(start).as_millis())
            .collect();
        assert_eq!(waits[..10], [0; 10]);
        assert_eq!(waits[10..], [200, 400, 600, 800, 1000]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_fills_the_bucket_again_and_the_pace_shrinks_the_waits() {
        tokio::time::advance(Duration::from_secs(60)).await;
        let bucket = Bucket::new(Pace::new(10.0));
        for _ in 0..12 {
            bucket.take();
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        let start = Instant::now();
        let waits: Vec<u128> = (0..11)
            .map(|_| bucket.take().duration_since(start).as_millis())
            .collect();
        assert_eq!(waits[..10], [0; 10]);
        assert_eq!(waits[10], 20);
    }
}
