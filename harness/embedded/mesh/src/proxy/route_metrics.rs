//! What is counted about a route and its backends; the client's proxy and the gateway use different names.

use http::StatusCode;

use super::Proxy;
use super::labels::{StatusMetrics, backend_labels, parent_labels};
use super::logical::Side;
use crate::destination::Key;
use crate::destination::route::BackendRef;
use crate::metrics::{Counter, Histogram, Labels, Registry};

/// Buckets of durations in seconds.
const DURATION_SECONDS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 10.0];

/// Counters of a route.
pub(super) enum RouteMetrics {
    Application {
        statuses: StatusMetrics,
        durations: Histogram,
    },
    Gateway {
        requests: [Counter; 2],
        registry: Registry,
        labels: Labels,
    },
}

/// Counters of a backend of a route.
pub(super) struct BackendMetrics {
    queued: Counter,
    /// None on a gateway.
    application: Option<ApplicationBackend>,
}

struct ApplicationBackend {
    requests: Counter,
    statuses: StatusMetrics,
    durations: Histogram,
}

impl RouteMetrics {
    /// Counters of the route with the labels `route` of a Service's port.
    pub(super) fn new(proxy: &Proxy, side: Side, service: &Key, port: u16, route: &Labels) -> Self {
        match side {
            Side::Application(_) => {
                let labels = parent_labels(service, port).and(route).with("hostname", "");
                Self::Application {
                    durations: proxy.metrics.histogram(
                        "outbound_http_route_request_duration_seconds",
                        "The time between request initialization and response completion.",
                        &labels,
                        DURATION_SECONDS,
                    ),
                    statuses: StatusMetrics::new(
                        &proxy.metrics,
                        "outbound_http_route_request_statuses_total",
                        "Completed request-response streams.",
                        labels,
                    ),
                }
            }
            Side::Gateway => {
                let (namespace, name) = service;
                let dst = proxy.config.authority(namespace, name, port);
                let labels = Labels::from([("direction", "outbound"), ("dst", dst.as_str())]);
                let counter = |name, help| proxy.metrics.counter(name, help, &labels);
                Self::Gateway {
                    requests: [
                        counter("route_request_total", "Total count of HTTP requests."),
                        counter("route_actual_request_total", "Total count of HTTP requests."),
                    ],
                    registry: proxy.metrics.clone(),
                    labels,
                }
            }
        }
    }

    /// Counts a request that took `seconds` and ended with a status or an error.
    pub(super) fn ended(&self, seconds: f64, (status, error): (StatusCode, &'static str)) {
        match self {
            Self::Application { statuses, durations } => {
                statuses.count(status, error);
                durations.observe(seconds);
            }
            Self::Gateway {
                requests,
                registry,
                labels,
            } => {
                for counter in requests {
                    counter.increment();
                }
                let classification = if status.is_server_error() { "failure" } else { "success" };
                let labels = labels
                    .with("status_code", status.as_str())
                    .with("classification", classification)
                    .with("grpc_status", "")
                    .with("error", error);
                for name in ["route_response_total", "route_actual_response_total"] {
                    registry
                        .counter(name, "Total count of HTTP responses.", &labels)
                        .increment();
                }
            }
        }
    }
}

impl BackendMetrics {
    /// Counters of `backend` under the route with the labels `route` of the parent Service's port.
    pub(super) fn new(
        proxy: &Proxy,
        side: Side,
        (service, port): (&Key, u16),
        backend: &BackendRef,
        route: &Labels,
    ) -> Self {
        let parent = parent_labels(service, port);
        let own = backend_labels(&backend.service, backend.port);
        let queued = proxy.metrics.counter(
            "outbound_http_balancer_queue_requests_total",
            "The total number of requests processed by an HTTP balancer queue.",
            &parent.and(&own),
        );
        let labels = parent.and(route).and(&own);
        let application = matches!(side, Side::Application(_)).then(|| ApplicationBackend {
            requests: proxy.metrics.counter(
                "outbound_http_route_backend_requests_total",
                "The total number of requests dispatched.",
                &labels,
            ),
            durations: proxy.metrics.histogram(
                "outbound_http_route_backend_response_duration_seconds",
                "The time between request completion and response completion.",
                &labels,
                DURATION_SECONDS,
            ),
            statuses: StatusMetrics::new(
                &proxy.metrics,
                "outbound_http_route_backend_response_statuses_total",
                "Completed responses.",
                labels,
            ),
        });
        Self { queued, application }
    }

    /// Counts a request that goes to the backend.
    pub(super) fn dispatched(&self) {
        self.queued.increment();
        if let Some(application) = &self.application {
            application.requests.increment();
        }
    }

    /// Counts how it ended after `seconds`: with a status or an error.
    pub(super) fn ended(&self, seconds: f64, (status, error): (StatusCode, &'static str)) {
        if let Some(application) = &self.application {
            application.statuses.count(status, error);
            application.durations.observe(seconds);
        }
    }
}
