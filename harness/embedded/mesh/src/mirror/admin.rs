//! The controller's admin port: liveness, readiness and metrics.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use meshproof_cluster::program::Network;

use crate::metrics::Registry;
use crate::names::CONTROLLER_ADMIN_PORT;

/// Serves until dropped.
///
/// # Errors
/// When the port cannot be listened on or goes away.
pub(super) async fn serve(network: Arc<dyn Network>, registry: Registry, ready: Arc<AtomicBool>) -> io::Result<()> {
    let mut listener = network.listen(CONTROLLER_ADMIN_PORT).await?;
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        let (registry, ready) = (registry.clone(), ready.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = answer(request.uri().path(), &registry, &ready);
            async move { Ok::<_, Infallible>(answer) }
        });
        connections.spawn(async move {
            // A client that goes away in the middle is its own affair.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

fn answer(path: &str, registry: &Registry, ready: &AtomicBool) -> Response<Full<Bytes>> {
    let (status, content_type, body) = match path {
        "/metrics" => (
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            registry.render(),
        ),
        "/ping" => (StatusCode::OK, "text/plain; charset=utf-8", "pong\n".to_owned()),
        "/ready" if ready.load(Ordering::Relaxed) => (StatusCode::OK, "text/plain; charset=utf-8", "ok\n".to_owned()),
        "/ready" => (
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain; charset=utf-8",
            "service unavailable\n".to_owned(),
        ),
        _ => (
            StatusCode::NOT_FOUND,
            "text/plain; charset=utf-8",
            "404 page not found\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::answer;
    use crate::metrics::Registry;
    use rstest::rstest;
    use std::sync::atomic::AtomicBool;

    #[rstest]
    #[case("/metrics", false, 200)]
    #[case("/ping", false, 200)]
    #[case("/ready", false, 503)]
    #[case("/ready", true, 200)]
    #[case("/debug/pprof", true, 404)]
    fn paths_answer_as_the_real_admin_server(#[case] path: &str, #[case] ready: bool, #[case] status: u16) {
        let response = answer(path, &Registry::new(), &AtomicBool::new(ready));
        assert_eq!(response.status(), status);
    }
}
