//! The access of one peer to one port: policy, and what is counted about it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};
use meshproof_cluster::intercept::BoxedStream;

use super::Proxy;
use super::inbound::Peer;
use super::labels::{ResponseMetrics, address_labels, connection_metrics};
use super::stream::Counted;
use crate::destination::View;
use crate::destination::policy::{Decision, decide};
use crate::metrics::{Counter, Labels, Registry};

/// One peer's access to one port.
#[derive(Clone)]
pub(super) struct Access {
    shared: Arc<Shared>,
}

struct Shared {
    /// The port, with the address under which metrics name it.
    address: SocketAddr,
    peer: Peer,
    /// The last decision and the view that it was made from.
    decided: Mutex<Option<(Arc<View>, Arc<Grant>)>>,
}

/// A decision and its counters.
struct Grant {
    decision: Decision,
    registry: Registry,
    /// `target_…` labels.
    target: Labels,
    /// `tls` labels.
    tls: Labels,
    routes: [OnceLock<Arc<RouteMetrics>>; 3],
}

/// The inbound routes that every port has.
#[derive(Clone, Copy)]
enum InboundRoute {
    Default,
    /// Probes of the kubelet: open to anybody.
    Probe,
    /// From within the pod: always allowed.
    Localhost,
}

/// What is counted about the requests of a peer on a route.
pub(super) struct RouteMetrics {
    registry: Registry,
    allowed: Counter,
    requests: Counter,
    responses: ResponseMetrics,
    http_requests: Counter,
    parent: Labels,
    statuses: Mutex<Vec<(StatusCode, Counter)>>,
}

impl Access {
    pub(super) fn new(address: SocketAddr, peer: Peer) -> Self {
        Self {
            shared: Arc::new(Shared {
                address,
                peer,
                decided: Mutex::new(None),
            }),
        }
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.shared.peer
    }

    fn grant(&self, proxy: &Proxy) -> Arc<Grant> {
        let view = proxy.destinations.view();
        let mut decided = self.shared.decided.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, grant)) = decided.as_ref()
            && Arc::ptr_eq(known, &view)
        {
            return grant.clone();
        }
        let port = self.shared.address.port();
        let client = self.shared.peer.client();
        let decision = decide(&view, &proxy.config.pod, port, &proxy.default_policy(), &client);
        let grant = match decided.take() {
            Some((_, grant)) if grant.decision == decision => grant,
            _ => Arc::new(Grant {
                decision,
                registry: proxy.metrics.clone(),
                target: address_labels(&Labels::new(), &self.shared.address),
                tls: self.shared.peer.tls_labels(),
                routes: Default::default(),
            }),
        };
        *decided = Some((view, grant.clone()));
        grant
    }

    fn is_this_pod(&self, proxy: &Proxy) -> bool {
        let ip = self.shared.peer.address.ip();
        ip.is_loopback() || ip == proxy.sidecar.address()
    }

    /// Whether a request may go on; counts it either way.
    pub(super) fn authorize(&self, proxy: &Proxy, method: &Method, path: &str) -> Option<Arc<RouteMetrics>> {
        let grant = self.grant(proxy);
        let port = self.shared.address.port();
        let is_probe = *method == Method::GET
            && proxy
                .probes
                .iter()
                .any(|(known, probe)| *known == port && probe == path);
        let route = if is_probe {
            InboundRoute::Probe
        } else if grant.decision.allowed {
            InboundRoute::Default
        } else if self.is_this_pod(proxy) {
            InboundRoute::Localhost
        } else {
            grant.count_denied_request();
            return None;
        };
        let metrics = grant.route(route);
        metrics.allowed.increment();
        Some(metrics)
    }

    /// Whether an opaque connection may go on; counts it either way.
    pub(super) fn allow_connection(&self, proxy: &Proxy) -> bool {
        let grant = self.grant(proxy);
        let allowed = grant.decision.allowed || self.is_this_pod(proxy);
        let target = grant.target.and(&grant.decision.server);
        let (name, help, labels) = if allowed {
            let labels = target.and(&grant.decision.authorization).and(&grant.tls);
            (
                "inbound_tcp_authz_allow_total",
                "The total number of TCP connections that were authorized",
                labels,
            )
        } else {
            let labels = target.and(&grant.tls);
            (
                "inbound_tcp_authz_deny_total",
                "The total number of TCP connections that were denied",
                labels,
            )
        };
        grant.registry.counter(name, help, &labels).increment();
        allowed
    }

    /// Counts the connection itself.
    pub(super) fn count_connection(&self, proxy: &Proxy, stream: BoxedStream) -> BoxedStream {
        let grant = self.grant(proxy);
        let labels = grant.target.and(&grant.tls).and(&grant.decision.server);
        Box::new(Counted::new(
            stream,
            connection_metrics(&proxy.metrics, "inbound", "src", &labels),
        ))
    }

    /// Counts a request that ended in an error of this proxy.
    pub(super) fn count_error(&self, proxy: &Proxy, error: &str) {
        let grant = self.grant(proxy);
        let labels = Labels::from([("error", error)])
            .and(&grant.target)
            .and(&grant.decision.server);
        let help = "The total number of inbound HTTP requests that could not be processed due to a proxy error.";
        grant
            .registry
            .counter("inbound_http_errors_total", help, &labels)
            .increment();
    }
}

fn route_labels(name: &str) -> Labels {
    Labels::from([("route_group", ""), ("route_kind", "default"), ("route_name", name)])
}

impl Grant {
    fn count_denied_request(&self) {
        let labels = self
            .target
            .and(&self.decision.server)
            .and(&route_labels("default"))
            .and(&self.tls);
        let help = "The total number of inbound HTTP requests denied by a policy";
        self.registry
            .counter("inbound_http_authz_deny_total", help, &labels)
            .increment();
    }

    fn route(&self, route: InboundRoute) -> Arc<RouteMetrics> {
        let (place, name, rule) = match route {
            InboundRoute::Default => (&self.routes[0], "default", None),
            InboundRoute::Probe => (&self.routes[1], "probe", Some("probe")),
            InboundRoute::Localhost => (&self.routes[2], "default", Some("localhost")),
        };
        place
            .get_or_init(|| {
                let decision = rule.map_or_else(|| self.decision.clone(), |rule| self.decision.allowed_by(rule));
                Arc::new(self.create(name, &decision))
            })
            .clone()
    }

    fn create(&self, route_name: &str, decision: &Decision) -> RouteMetrics {
        let route = route_labels(route_name);
        let counter = |name, help, labels: &Labels| self.registry.counter(name, help, labels);
        let allowed = self
            .target
            .and(&decision.server)
            .and(&route)
            .and(&decision.authorization)
            .and(&self.tls);
        let request = Labels::from([("direction", "inbound")])
            .and(&self.target)
            .and(&self.tls)
            .and(&decision.server)
            .and(&route)
            .and(&decision.authorization);
        let (group, kind, name) = &decision.server_name;
        let parent = Labels::from([
            ("parent_group", *group),
            ("parent_kind", *kind),
            ("parent_name", name.as_str()),
            ("parent_port", &decision.port.to_string()),
        ])
        .and(&route);
        RouteMetrics {
            registry: self.registry.clone(),
            allowed: counter(
                "inbound_http_authz_allow_total",
                "The total number of inbound HTTP requests allowed by a policy",
                &allowed,
            ),
            requests: counter("request_total", "Total count of HTTP requests.", &request),
            responses: ResponseMetrics::with_labels(&self.registry, request),
            http_requests: counter(
                "inbound_http_requests_total",
                "The total number of requests dispatched.",
                &parent,
            ),
            parent,
            statuses: Mutex::default(),
        }
    }
}

impl RouteMetrics {
    /// Counts a request that goes on.
    pub(super) fn requested(&self) {
        self.requests.increment();
        self.http_requests.increment();
    }

    /// Counts its response.
    pub(super) fn answered(&self, status: StatusCode, latency: Duration) {
        self.responses.count(status, latency);
        let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, counter)) = statuses.iter().find(|(known, _)| *known == status) {
            counter.increment();
            return;
        }
        let labels = self.parent.with("status", status.as_str());
        let counter = self
            .registry
            .counter("inbound_http_statuses_total", "Completed responses.", &labels);
        counter.increment();
        statuses.push((status, counter));
    }
}
