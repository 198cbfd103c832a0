//! HTTP connections to something that has no proxy in front of it: an application, or an unmeshed pod.

use std::io;
use std::sync::{Mutex, PoisonError};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use meshproof_cluster::intercept::BoxedStream;

/// Keep-alive connections over HTTP/1, and at most one over HTTP/2.
#[derive(Default)]
pub(super) struct Http1Pool {
    idle: Mutex<Vec<http1::SendRequest<Incoming>>>,
    http2: Mutex<Option<http2::SendRequest<Incoming>>>,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum PoolError {
    #[error("connect error: {0}")]
    Connect(#[from] io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
}

impl Http1Pool {
    /// A connection that is free right now. Those whose response is still being read stay; closed ones go.
    fn take(&self) -> Option<http1::SendRequest<Incoming>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|sender| !sender.is_closed());
        let free = idle.iter().rposition(http1::SendRequest::is_ready)?;
        Some(idle.swap_remove(free))
    }

    fn put(&self, sender: http1::SendRequest<Incoming>) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
    }

    /// Sends an HTTP/1 request over a free connection, or over a new one.
    pub(super) async fn send<F, C>(
        &self,
        mut request: Request<Incoming>,
        connect: F,
    ) -> Result<Response<Incoming>, PoolError>
    where
        F: Fn() -> C,
        C: Future<Output = io::Result<BoxedStream>>,
    {
        while let Some(mut sender) = self.take() {
            match sender.try_send_request(request).await {
                Ok(response) => {
                    self.put(sender);
                    return Ok(response);
                }
                // The peer closed the connection while it was idle; the request never left.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error().into()),
                },
            }
        }
        let (mut sender, connection) = http1::handshake(TokioIo::new(connect().await?)).await?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        self.put(sender);
        Ok(response)
    }

    /// Sends an HTTP/2 request.
    pub(super) async fn send_http2<F, C>(
        &self,
        mut request: Request<Incoming>,
        connect: F,
    ) -> Result<Response<Incoming>, PoolError>
    where
        F: Fn() -> C,
        C: Future<Output = io::Result<BoxedStream>>,
    {
        let present = self.http2.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(mut sender) = present.filter(|sender| !sender.is_closed()) {
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error().into()),
                },
            }
        }
        let stream = TokioIo::new(connect().await?);
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        tokio::spawn(connection);
        *self.http2.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender.clone());
        Ok(sender.send_request(request).await?)
    }
}
