//! The listener and its connections: TCP, TLS, HTTP/1.1 and HTTP/2.

use super::handler;
use crate::server::ServerState;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// A client that does not finish its handshake in this time is dropped.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// An HTTP/2 connection on which nothing came for this time is asked whether anybody is there, as kube-apiserver does.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// Connections that are open at once. Others wait until one ends.
const CONNECTIONS_LIMIT: usize = 4096;

/// Requests that run at once on one HTTP/2 connection. Clients send all their watches over one, and wait for ever when there is no
/// room, so that there must be plenty.
const STREAMS_LIMIT: u32 = 4096;

/// Serves connections until `stopped` says so or its sender is gone. Connections end with the loop.
pub(crate) async fn accept_loop(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    state: Arc<ServerState>,
    mut stopped: watch::Receiver<bool>,
) {
    let acceptor = TlsAcceptor::from(tls);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_LIMIT => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, acceptor.clone(), state.clone()));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: give connections time to end instead of spinning.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            _ = stopped.changed() => break,
        }
    }
    connections.shutdown().await;
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, state: Arc<ServerState>) {
    state.wait_while_paused().await;
    // A socket without the option only answers later.
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let header_timeout = state.header_timeout;
    let service = service_fn(move |request| {
        let state = state.clone();
        async move { Ok::<_, Infallible>(Box::pin(handler::handle(state, request)).await) }
    });
    // What was agreed on is spoken. Finding it out from the first bytes would wait for them without end.
    let speaks_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let served = if speaks_http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .max_concurrent_streams(STREAMS_LIMIT);
        builder.serve_connection(TokioIo::new(stream), service).await
    } else {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(header_timeout);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        connection.with_upgrades().await
    };
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended");
    }
}
