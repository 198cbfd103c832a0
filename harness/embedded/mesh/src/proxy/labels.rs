//! Names and labels of a proxy's metrics, as the real proxy prints them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;

use super::Proxy;
use super::stream::ConnectionMetrics;
use crate::destination::{EndpointTarget, Key};
use crate::metrics::{Counter, Histogram, Labels, Registry};

/// Buckets of latencies in milliseconds.
const LATENCY_MS: &[f64] = &[
    1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 100.0, 200.0, 300.0, 400.0, 500.0, 1000.0, 2000.0, 3000.0,
    4000.0, 5000.0, 10000.0, 20000.0, 30000.0, 40000.0, 50000.0,
];

/// `tls` and what belongs to it, on the side of the client.
fn server_tls(target: &EndpointTarget, unencrypted: bool) -> Labels {
    match target.transport.identity() {
        Some(identity) if !unencrypted => Labels::from([("tls", "true"), ("server_id", identity)]),
        _ => Labels::from([
            ("tls", "no_identity"),
            ("no_tls_reason", "not_provided_by_service_discovery"),
        ]),
    }
}

/// Labels of one outbound endpoint, without the direction.
pub(super) fn endpoint_labels(target: &EndpointTarget, authority: &str, unencrypted: bool) -> Labels {
    address_labels(&Labels::from([("authority", authority)]), &target.address)
        .and(&server_tls(target, unencrypted))
        .and(&target.labels)
}

/// `target_addr`, `target_ip`, `target_port` after `before`.
pub(super) fn address_labels(before: &Labels, address: &std::net::SocketAddr) -> Labels {
    before
        .with("target_addr", &address.to_string())
        .with("target_ip", &address.ip().to_string())
        .with("target_port", &address.port().to_string())
}

/// `tls` and what belongs to it, on the side of the server.
pub(super) fn client_tls(encrypted: bool, identity: Option<&str>) -> Labels {
    if encrypted {
        Labels::from([("tls", "true"), ("client_id", identity.unwrap_or_default())])
    } else {
        Labels::from([("tls", "no_identity"), ("no_tls_reason", "no_tls_from_remote")])
    }
}

/// The counters of connections with these labels.
pub(super) fn connection_metrics(
    registry: &Registry,
    direction: &'static str,
    peer: &'static str,
    labels: &Labels,
) -> ConnectionMetrics {
    let labels = Labels::from([("direction", direction), ("peer", peer)]).and(labels);
    let counter = |name, help| registry.counter(name, help, &labels);
    ConnectionMetrics {
        opened: counter("tcp_open_total", "Total count of opened connections."),
        open: registry.gauge("tcp_open_connections", "Number of currently-open connections.", &labels),
        closed: registry.counter(
            "tcp_close_total",
            "Total count of closed connections.",
            &labels.with("errno", ""),
        ),
        read: counter("tcp_read_bytes_total", "Total count of bytes read from peers."),
        written: counter("tcp_write_bytes_total", "Total count of bytes written to peers."),
    }
}

/// Responses by status.
pub(super) struct ResponseMetrics {
    registry: Registry,
    labels: Labels,
    by_status: Mutex<Vec<(StatusCode, Counter, Histogram)>>,
}

impl ResponseMetrics {
    /// For outbound responses; `labels` lack the direction.
    pub(super) fn new(proxy: &Arc<Proxy>, labels: Labels) -> Self {
        Self::with_labels(&proxy.metrics, Labels::from([("direction", "outbound")]).and(&labels))
    }

    pub(super) fn with_labels(registry: &Registry, labels: Labels) -> Self {
        Self {
            registry: registry.clone(),
            labels,
            by_status: Mutex::default(),
        }
    }

    pub(super) fn count(&self, status: StatusCode, latency: Duration) {
        let mut known = self.by_status.lock().unwrap_or_else(PoisonError::into_inner);
        let place = known
            .iter()
            .position(|(known, _, _)| *known == status)
            .unwrap_or_else(|| {
                known.push(self.create(status));
                known.len() - 1
            });
        if let Some((_, total, latencies)) = known.get(place) {
            total.increment();
            latencies.observe(latency.as_secs_f64() * 1000.0);
        }
    }

    fn create(&self, status: StatusCode) -> (StatusCode, Counter, Histogram) {
        let with_status = self.labels.with("status_code", status.as_str());
        let classification = if status.is_server_error() { "failure" } else { "success" };
        let labels = with_status
            .with("classification", classification)
            .with("grpc_status", "")
            .with("error", "");
        let total = self
            .registry
            .counter("response_total", "Total count of HTTP responses.", &labels);
        let latencies = self.registry.histogram(
            "response_latency_ms",
            "Elapsed times between a request's headers being received and its response stream completing",
            &with_status,
            LATENCY_MS,
        );
        (status, total, latencies)
    }
}

/// Requests by the way in which they ended: a status, or an error of the proxy's own.
pub(super) struct StatusMetrics {
    registry: Registry,
    name: &'static str,
    help: &'static str,
    labels: Labels,
    by_end: Mutex<Vec<((StatusCode, &'static str), Counter)>>,
}

impl StatusMetrics {
    pub(super) fn new(registry: &Registry, name: &'static str, help: &'static str, labels: Labels) -> Self {
        Self {
            registry: registry.clone(),
            name,
            help,
            labels,
            by_end: Mutex::default(),
        }
    }

    /// Counts a request; with an `error` there is no status.
    pub(super) fn count(&self, status: StatusCode, error: &'static str) {
        let mut known = self.by_end.lock().unwrap_or_else(PoisonError::into_inner);
        let place = known
            .iter()
            .position(|(end, _)| *end == (status, error))
            .unwrap_or_else(|| {
                let text = if error.is_empty() { status.as_str() } else { "" };
                let labels = self.labels.with("http_status", text).with("error", error);
                known.push(((status, error), self.registry.counter(self.name, self.help, &labels)));
                known.len() - 1
            });
        if let Some((_, counter)) = known.get(place) {
            counter.increment();
        }
    }
}

/// Labels of a Service in the role of a route's parent.
pub(super) fn parent_labels(service: &Key, port: u16) -> Labels {
    service_labels("parent", service, port)
}

/// Labels of a Service in the role of a route's backend.
pub(super) fn backend_labels(service: &Key, port: u16) -> Labels {
    service_labels("backend", service, port)
}

fn service_labels(role: &str, (namespace, name): &Key, port: u16) -> Labels {
    Labels::new()
        .with(&format!("{role}_group"), "core")
        .with(&format!("{role}_kind"), "Service")
        .with(&format!("{role}_namespace"), namespace)
        .with(&format!("{role}_name"), name)
        .with(&format!("{role}_port"), &port.to_string())
        .with(&format!("{role}_section_name"), "")
}

/// Labels of a route; the default one has neither group nor namespace.
pub(super) fn route_labels(group: &str, kind: &str, namespace: &str, name: &str) -> Labels {
    Labels::from([
        ("route_group", group),
        ("route_kind", kind),
        ("route_namespace", namespace),
        ("route_name", name),
    ])
}
