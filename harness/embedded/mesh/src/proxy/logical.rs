//! One destination of HTTP requests: a Service's port with the routes attached to it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use http::{Request, Response, StatusCode};
use http_body_util::Either;
use hyper::body::Incoming;
use rand::Rng as _;
use tokio::time::Instant;

use super::Proxy;
use super::balancer::{Balancer, BalancerError, Patience};
use super::labels::route_labels;
use super::messages::{Body, empty, is_grpc, own_error, wants_upgrade};
use super::route_metrics::{BackendMetrics, RouteMetrics};
use super::routing::{Candidate, draw};
use crate::defect::{Defect, Defects};
use crate::destination::route::{BackendRef, Filters, Match, Route};
use crate::destination::{Key, Service, View, rules_by_precedence};
use crate::metrics::Labels;

/// On whose behalf requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The application of this pod, which dialled this address: routes apply, errors are explained.
    Application(SocketAddr),
    /// Clients of another cluster: routes do not apply, errors are bare.
    Gateway,
}

pub(super) struct Logical {
    side: Side,
    service: Key,
    port: u16,
    table: RwLock<Arc<Table>>,
    balancers: Mutex<HashMap<(Key, u16), Arc<Balancer>>>,
}

/// The rules in the order in which a request is compared with them.
#[derive(Default)]
struct Table {
    rules: Vec<RuleEntry>,
    /// The routes that it was made from.
    routes: Vec<Arc<Route>>,
    /// The backends that it was made from.
    services: Vec<(Key, Option<Arc<Service>>)>,
}

struct RuleEntry {
    /// `default.http` or `HTTPRoute.<namespace>.<name>`.
    name: String,
    matches: Vec<Match>,
    filters: Filters,
    backends: Vec<BackendEntry>,
    metrics: RouteMetrics,
}

struct BackendEntry {
    weight: u32,
    filters: Filters,
    /// `Service.<namespace>.<name>:<port>`.
    name: String,
    target: BackendTarget,
    metrics: BackendMetrics,
}

enum BackendTarget {
    Balancer {
        balancer: Arc<Balancer>,
        mirror: bool,
    },
    /// There is no such Service, or it has no such port; what the client is told.
    Missing(String),
}

/// An error of the proxy's own.
struct Failure {
    status: StatusCode,
    message: String,
    close: bool,
    kind: &'static str,
}

impl Logical {
    pub(super) fn new(proxy: &Arc<Proxy>, side: Side, service: &Service, port: u16) -> Arc<Self> {
        let logical = Self {
            side,
            service: (service.namespace.clone(), service.name.clone()),
            port,
            table: RwLock::default(),
            balancers: Mutex::default(),
        };
        let view = proxy.destinations.view();
        logical.rebuild(proxy, &view, logical.routes(proxy, &view));
        Arc::new(logical)
    }

    fn balancers(&self) -> MutexGuard<'_, HashMap<(Key, u16), Arc<Balancer>>> {
        self.balancers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn table(&self) -> Arc<Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn routes(&self, proxy: &Proxy, view: &View) -> Vec<Arc<Route>> {
        match self.side {
            Side::Application(_) => view.routes_for(&self.service, self.port, &proxy.this.namespace),
            Side::Gateway => Vec::new(),
        }
    }

    /// Whether it stands for this Service.
    pub(super) fn is_for(&self, service: &Service) -> bool {
        self.service.0 == service.namespace && self.service.1 == service.name
    }

    /// Whether its Service is not there any more. Its balancers have no endpoints then, once it was refreshed.
    pub(super) fn is_gone(&self, view: &View) -> bool {
        !view.services.contains_key(&self.service)
    }

    /// Brings routes and endpoints up to date.
    pub(super) fn refresh(&self, proxy: &Arc<Proxy>, view: &View) {
        let table = self.table();
        let routes = self.routes(proxy, view);
        let same_routes =
            table.routes.len() == routes.len() && table.routes.iter().zip(&routes).all(|(a, b)| Arc::ptr_eq(a, b));
        let same_services = table
            .services
            .iter()
            .all(|(key, known)| match (known, view.services.get(key)) {
                (Some(known), Some(present)) => Arc::ptr_eq(known, present),
                (None, None) => true,
                _ => false,
            });
        if same_routes && same_services {
            self.update_endpoints(proxy, view);
        } else {
            self.rebuild(proxy, view, routes);
        }
    }

    /// Connects to all endpoints anew: a switched defect may concern connections.
    pub(super) fn reconnect(&self, proxy: &Arc<Proxy>, view: &View) {
        for balancer in self.balancers().values() {
            balancer.clear();
        }
        self.update_endpoints(proxy, view);
    }

    /// Closes everything.
    pub(super) fn stop(&self) {
        for (_, balancer) in self.balancers().drain() {
            balancer.clear();
        }
    }

    fn rebuild(&self, proxy: &Arc<Proxy>, view: &View, routes: Vec<Arc<Route>>) {
        let mut rules = Vec::new();
        for (route, rule) in rules_by_precedence(&routes) {
            let Some((route, rule)) = routes
                .get(route)
                .and_then(|route| Some((route, route.rules.get(rule)?)))
            else {
                continue;
            };
            let labels = route_labels(&route.group, "HTTPRoute", &route.namespace, &route.name);
            let backends = rule
                .backends
                .iter()
                .map(|backend| self.backend(proxy, view, backend, &labels));
            rules.push(RuleEntry {
                name: format!("HTTPRoute.{}.{}", route.namespace, route.name),
                matches: rule.matches.clone(),
                filters: rule.filters.clone(),
                backends: backends.collect(),
                metrics: RouteMetrics::new(proxy, self.side, &self.service, self.port, &labels),
            });
        }
        if routes.is_empty() {
            let labels = route_labels("", "default", "", "http");
            let filters = Filters::default();
            let own = BackendRef {
                service: self.service.clone(),
                port: self.port,
                weight: 1,
                filters,
            };
            rules.push(RuleEntry {
                name: "default.http".to_owned(),
                matches: Vec::new(),
                filters: Filters::default(),
                backends: vec![self.backend(proxy, view, &own, &labels)],
                metrics: RouteMetrics::new(proxy, self.side, &self.service, self.port, &labels),
            });
        }
        let named = routes
            .iter()
            .flat_map(|route| &route.rules)
            .flat_map(|rule| &rule.backends);
        let mut services: Vec<Key> = named.map(|backend| backend.service.clone()).collect();
        if routes.is_empty() {
            services.push(self.service.clone());
        }
        let services = services.into_iter().map(|key| {
            let service = view.services.get(&key).cloned();
            (key, service)
        });
        let table = Table {
            rules,
            routes,
            services: services.collect(),
        };
        self.drop_unused_balancers(&table);
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
        self.update_endpoints(proxy, view);
    }

    fn drop_unused_balancers(&self, table: &Table) {
        let backends = || table.rules.iter().flat_map(|rule| &rule.backends);
        self.balancers().retain(|_, known| {
            let used = backends().any(|backend| match &backend.target {
                BackendTarget::Balancer { balancer, .. } => Arc::ptr_eq(balancer, known),
                BackendTarget::Missing(_) => false,
            });
            if !used {
                known.clear();
            }
            used
        });
    }

    fn update_endpoints(&self, proxy: &Arc<Proxy>, view: &View) {
        let defects = proxy.model.defects();
        let balancers: Vec<_> = self
            .balancers()
            .iter()
            .map(|(key, balancer)| (key.clone(), balancer.clone()))
            .collect();
        for ((service, port), balancer) in balancers {
            match view.services.get(&service) {
                Some(service) => {
                    let targets = view.endpoints(service, port, &defects);
                    balancer.update(proxy, targets, view.has_unready_addresses(service));
                }
                None => balancer.update(proxy, Vec::new(), false),
            }
        }
    }

    fn backend(&self, proxy: &Arc<Proxy>, view: &View, backend: &BackendRef, route: &Labels) -> BackendEntry {
        let (namespace, name) = &backend.service;
        let service = view.services.get(&backend.service);
        // The Service that the client dialled may be gone meanwhile; then it is one without endpoints.
        let own = backend.service == self.service;
        let target = match service {
            None if !own => BackendTarget::Missing(format!("Service not found {name}")),
            Some(service) if !own && service.port(backend.port).is_none() => {
                BackendTarget::Missing(format!("Service {name} has no port {}", backend.port))
            }
            _ => {
                let key = (backend.service.clone(), backend.port);
                let authority = proxy.config.authority(namespace, name, backend.port);
                let mut balancers = self.balancers();
                let balancer = balancers
                    .entry(key)
                    .or_insert_with(|| Arc::new(Balancer::new(authority)));
                let mirror = service.is_some_and(|service| service.mirror.is_some());
                BackendTarget::Balancer {
                    balancer: balancer.clone(),
                    mirror,
                }
            }
        };
        BackendEntry {
            weight: backend.weight,
            filters: backend.filters.clone(),
            name: format!("Service.{namespace}.{name}:{}", backend.port),
            target,
            metrics: BackendMetrics::new(proxy, self.side, (&self.service, self.port), backend, route),
        }
    }

    /// Answers a request.
    pub(super) async fn call(&self, proxy: &Arc<Proxy>, mut request: Request<Incoming>) -> Response<Body> {
        let (version, grpc) = (request.version(), is_grpc(request.headers()));
        let table = self.table();
        let outcome = if wants_upgrade(&request) {
            Err(Failure::plain(
                StatusCode::NOT_IMPLEMENTED,
                "HTTP upgrades are not modelled",
            ))
        } else {
            match table.rules.iter().find(|rule| rule.matches(&request)) {
                None => Err(Failure::plain(StatusCode::NOT_FOUND, "no route found for request")),
                Some(rule) => {
                    let start = Instant::now();
                    rule.filters.request.apply(request.headers_mut());
                    let mut outcome = self.dispatch(proxy, rule, request).await;
                    if let Ok(response) = &mut outcome {
                        rule.filters.response.apply(response.headers_mut());
                    }
                    let elapsed = proxy.pace.scenario(start.elapsed()).as_secs_f64();
                    rule.metrics.ended(elapsed, end_of(&outcome));
                    outcome
                }
            }
        };
        match (outcome, self.side) {
            (Ok(response), _) => response.map(Either::Left),
            (Err(failure), Side::Gateway) => empty(failure.status),
            (Err(failure), Side::Application(_)) => {
                own_error(failure.status, &failure.message, failure.close, version, grpc)
            }
        }
    }

    async fn dispatch(
        &self,
        proxy: &Arc<Proxy>,
        rule: &RuleEntry,
        mut request: Request<Incoming>,
    ) -> Result<Response<Incoming>, Failure> {
        if rule.backends.is_empty() {
            let message = format!("{}route {}: no backends", self.prefix(), rule.name);
            return Err(Failure::plain(StatusCode::INTERNAL_SERVER_ERROR, &message));
        }
        let defects = proxy.model.defects();
        let Some(backend) = rule.choose(proxy, &defects) else {
            return Err(Failure {
                status: StatusCode::SERVICE_UNAVAILABLE,
                message: format!("{}route {}: service unavailable", self.prefix(), rule.name),
                close: true,
                kind: "LOAD_SHED",
            });
        };
        let balancer = match &backend.target {
            BackendTarget::Balancer { balancer, .. } => balancer,
            BackendTarget::Missing(message) => {
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                return Err(Failure {
                    kind: "INVALID_BACKEND",
                    ..Failure::plain(status, message)
                });
            }
        };
        backend.filters.request.apply(request.headers_mut());
        let start = Instant::now();
        backend.metrics.dispatched();
        let alone = rule.backends.len() == 1 && self.side != Side::Gateway;
        let patience = if alone && defects.has(Defect::FailfastNever) {
            Patience::Endless
        } else {
            Patience::FailFast
        };
        let mut outcome = balancer
            .send(proxy, request, patience)
            .await
            .map_err(|error| self.failure(rule, backend, &error));
        if let Ok(response) = &mut outcome {
            backend.filters.response.apply(response.headers_mut());
        }
        let elapsed = proxy.pace.scenario(start.elapsed()).as_secs_f64();
        backend.metrics.ended(elapsed, end_of(&outcome));
        outcome
    }

    fn prefix(&self) -> String {
        match self.side {
            Side::Application(address) => format!("logical service {address}: "),
            Side::Gateway => String::new(),
        }
    }

    fn failure(&self, rule: &RuleEntry, backend: &BackendEntry, error: &BalancerError) -> Failure {
        let route = format!("{}route {}: ", self.prefix(), rule.name);
        let name = &backend.name;
        match error {
            BalancerError::FailFast => Failure {
                status: StatusCode::GATEWAY_TIMEOUT,
                message: format!("{route}backend {name}: {name}: service in fail-fast"),
                close: true,
                kind: "FAIL_FAST",
            },
            BalancerError::Unavailable => Failure {
                status: StatusCode::SERVICE_UNAVAILABLE,
                message: format!("{route}service unavailable"),
                close: true,
                kind: "LOAD_SHED",
            },
            BalancerError::Endpoint(address, reason) => Failure {
                status: StatusCode::BAD_GATEWAY,
                message: format!("{route}backend {name}: endpoint {address}: {reason}"),
                close: true,
                kind: "UNEXPECTED",
            },
        }
    }
}

fn end_of(outcome: &Result<Response<Incoming>, Failure>) -> (StatusCode, &'static str) {
    match outcome {
        Ok(response) => (response.status(), ""),
        Err(failure) => (failure.status, failure.kind),
    }
}

impl Failure {
    fn plain(status: StatusCode, message: &str) -> Self {
        Self {
            status,
            message: message.to_owned(),
            close: false,
            kind: "UNEXPECTED",
        }
    }
}

impl RuleEntry {
    fn matches(&self, request: &Request<Incoming>) -> bool {
        let (method, path, headers) = (request.method(), request.uri().path(), request.headers());
        self.matches.is_empty() || self.matches.iter().any(|one| one.matches(method, path, headers))
    }

    fn choose(&self, proxy: &Proxy, defects: &Defects) -> Option<&BackendEntry> {
        if defects.has(Defect::MissingBackendFailsOthers) && proxy.random().random_bool(0.5) {
            let missing = |backend: &&BackendEntry| matches!(backend.target, BackendTarget::Missing(_));
            if let Some(missing) = self.backends.iter().find(missing) {
                return Some(missing);
            }
        }
        let candidates: Vec<_> = self.backends.iter().map(|backend| backend.candidate(defects)).collect();
        let chosen = draw(&candidates, defects, &mut *proxy.random())?;
        self.backends.get(chosen)
    }
}

impl BackendEntry {
    fn candidate(&self, defects: &Defects) -> Candidate {
        match &self.target {
            BackendTarget::Missing(_) => Candidate {
                weight: self.weight,
                available: true,
                came_back: false,
            },
            BackendTarget::Balancer { balancer, mirror } => Candidate {
                weight: self.weight,
                available: balancer.is_available() || is_kept(balancer, *mirror, defects),
                came_back: balancer.was_shut(),
            },
        }
    }
}

/// Whether a defect keeps an unavailable backend in the draw.
fn is_kept(balancer: &Balancer, mirror: bool, defects: &Defects) -> bool {
    let defect = if !mirror {
        Defect::DeadBackendKept
    } else if balancer.has_addresses() {
        Defect::DeadGatewayKeepsShare
    } else {
        Defect::RemoteEmptyKeepsShare
    };
    defects.has(defect)
}
