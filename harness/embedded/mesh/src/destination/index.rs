//! The index from which views are made: every object of interest, kept up to date by events.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use meshproof_apiserver::{Gvr, gvr};
use serde_json::Value;

use super::objects::{Key, Namespace, Pod, Service, Slice, key};
use super::policy::{AuthorizationPolicy, MeshTlsAuthentication, NetworkAuthentication, Server};
use super::route::Route;
use super::view::View;
use crate::defect::{Defect, Defects};

/// A kind of object that the index follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Namespaces.
    Namespace,
    /// Services.
    Service,
    /// EndpointSlices.
    Slice,
    /// Pods.
    Pod,
    /// HTTPRoutes of the Gateway API.
    Route,
    /// Servers.
    Server,
    /// AuthorizationPolicies.
    AuthorizationPolicy,
    /// MeshTLSAuthentications.
    MeshTls,
    /// NetworkAuthentications.
    Network,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::Namespace,
        Self::Service,
        Self::Slice,
        Self::Pod,
        Self::Route,
        Self::Server,
        Self::AuthorizationPolicy,
        Self::MeshTls,
        Self::Network,
    ];

    /// The resource to watch.
    #[must_use]
    pub fn gvr(self) -> Gvr {
        match self {
            Self::Namespace => gvr::NAMESPACES,
            Self::Service => gvr::SERVICES,
            Self::Slice => gvr::ENDPOINT_SLICES,
            Self::Pod => gvr::PODS,
            Self::Route => HTTP_ROUTES,
            Self::Server => Gvr::constant("policy.linkerd.io", "v1beta3", "servers"),
            Self::AuthorizationPolicy => Gvr::constant("policy.linkerd.io", "v1alpha1", "authorizationpolicies"),
            Self::MeshTls => Gvr::constant("policy.linkerd.io", "v1alpha1", "meshtlsauthentications"),
            Self::Network => Gvr::constant("policy.linkerd.io", "v1alpha1", "networkauthentications"),
        }
    }
}

/// HTTPRoutes of the Gateway API.
pub const HTTP_ROUTES: Gvr = Gvr::constant("gateway.networking.k8s.io", "v1", "httproutes");

/// Every object of interest of one cluster.
#[derive(Default)]
pub struct Index {
    view: View,
    slices: BTreeMap<Key, Arc<Slice>>,
    pods: BTreeMap<Key, Arc<Pod>>,
    routes: BTreeMap<Key, KnownRoute>,
}

struct KnownRoute {
    route: Arc<Route>,
    object: Arc<Value>,
    /// Kept by a defect although it was deleted.
    removed: bool,
}

impl Index {
    /// Takes a new or changed object.
    pub fn set(&mut self, kind: Kind, object: &Arc<Value>, defects: &Defects) {
        let own = key(object);
        match kind {
            Kind::Namespace => {
                Arc::make_mut(&mut self.view.namespaces).insert(own.1, Arc::new(Namespace::read(object)));
            }
            Kind::Service => {
                Arc::make_mut(&mut self.view.services).insert(own, Arc::new(Service::read(object)));
                self.arrange_services();
            }
            Kind::Slice => {
                match Slice::read(object) {
                    Some(slice) => self.slices.insert(own, Arc::new(slice)),
                    None => self.slices.remove(&own),
                };
                self.arrange_slices();
            }
            Kind::Pod => {
                let pod = Arc::new(Pod::read(object));
                // Most changes of a pod's object are no changes here.
                if self.pods.insert(own, pod.clone()).as_ref() != Some(&pod) {
                    self.arrange_pods();
                }
            }
            Kind::Route => {
                let mut route = Route::read(object);
                if let Some(known) = self.routes.get(&own)
                    && defects.has(Defect::WeightChangesIgnored)
                {
                    keep_weights(&mut route, &known.route);
                }
                let known = KnownRoute {
                    route: Arc::new(route),
                    object: object.clone(),
                    removed: false,
                };
                self.routes.insert(own, known);
                self.arrange_routes();
            }
            Kind::Server => {
                Arc::make_mut(&mut self.view.servers).insert(own, Server::read(object));
            }
            Kind::AuthorizationPolicy => {
                Arc::make_mut(&mut self.view.authorization_policies).insert(own, AuthorizationPolicy::read(object));
            }
            Kind::MeshTls => {
                Arc::make_mut(&mut self.view.mesh_tls_authentications).insert(own, MeshTlsAuthentication::read(object));
            }
            Kind::Network => {
                Arc::make_mut(&mut self.view.network_authentications).insert(own, NetworkAuthentication::read(object));
            }
        }
    }

    /// Takes an object out.
    pub fn remove(&mut self, kind: Kind, object: &Value, defects: &Defects) {
        self.remove_key(kind, &key(object), defects);
    }

    fn remove_key(&mut self, kind: Kind, own: &Key, defects: &Defects) {
        match kind {
            Kind::Namespace => {
                Arc::make_mut(&mut self.view.namespaces).remove(&own.1);
            }
            Kind::Service => {
                Arc::make_mut(&mut self.view.services).remove(own);
                self.arrange_services();
                // A route outlives its deletion only as long as its Services do.
                self.routes.retain(|_, known| {
                    !known.removed || known.route.parents.iter().all(|parent| parent.service != *own)
                });
                self.arrange_routes();
            }
            Kind::Slice => {
                self.slices.remove(own);
                self.arrange_slices();
            }
            Kind::Pod => {
                self.pods.remove(own);
                self.arrange_pods();
            }
            Kind::Route => {
                match self.routes.get_mut(own) {
                    Some(known) if defects.has(Defect::RouteRemovalIgnored) => known.removed = true,
                    _ => {
                        self.routes.remove(own);
                    }
                }
                self.arrange_routes();
            }
            Kind::Server => {
                Arc::make_mut(&mut self.view.servers).remove(own);
            }
            Kind::AuthorizationPolicy => {
                Arc::make_mut(&mut self.view.authorization_policies).remove(own);
            }
            Kind::MeshTls => {
                Arc::make_mut(&mut self.view.mesh_tls_authentications).remove(own);
            }
            Kind::Network => {
                Arc::make_mut(&mut self.view.network_authentications).remove(own);
            }
        }
    }

    /// Takes all objects of a kind out: the kind is no longer served.
    pub fn clear(&mut self, kind: Kind) {
        let keys: Vec<Key> = match kind {
            Kind::Route => self.routes.keys().cloned().collect(),
            Kind::Server => self.view.servers.keys().cloned().collect(),
            Kind::AuthorizationPolicy => self.view.authorization_policies.keys().cloned().collect(),
            Kind::MeshTls => self.view.mesh_tls_authentications.keys().cloned().collect(),
            Kind::Network => self.view.network_authentications.keys().cloned().collect(),
            // Built-in kinds are always served.
            Kind::Namespace | Kind::Service | Kind::Slice | Kind::Pod => Vec::new(),
        };
        for own in keys {
            self.remove_key(kind, &own, &Defects::default());
        }
    }

    /// The present view; mirrors of the clusters in `withheld` have no endpoints in it.
    #[must_use]
    pub fn view(&self, withheld: BTreeSet<String>) -> View {
        View {
            withheld: Arc::new(withheld),
            ..self.view.clone()
        }
    }

    /// Ready mirror controllers by target cluster.
    #[must_use]
    pub fn ready_controllers(&self) -> BTreeMap<String, BTreeSet<Key>> {
        let mut controllers: BTreeMap<String, BTreeSet<Key>> = BTreeMap::new();
        for (own, pod) in self.pods.iter().filter(|(_, pod)| pod.ready) {
            if let Some(cluster) = &pod.controller_of {
                controllers.entry(cluster.clone()).or_default().insert(own.clone());
            }
        }
        controllers
    }

    /// The routes with the objects that they were read from.
    pub fn routes(&self) -> impl Iterator<Item = (&Arc<Route>, &Arc<Value>)> {
        self.routes
            .values()
            .filter(|known| !known.removed)
            .map(|known| (&known.route, &known.object))
    }

    /// Whether a Service exists.
    #[must_use]
    pub fn has_service(&self, service: &Key) -> bool {
        self.view.services.contains_key(service)
    }

    fn arrange_services(&mut self) {
        let by_ip = self.view.services.values();
        let by_ip = by_ip.filter_map(|service| Some((service.cluster_ip?, service.clone())));
        self.view.by_cluster_ip = Arc::new(by_ip.collect());
    }

    fn arrange_slices(&mut self) {
        let mut by_service: HashMap<Key, Vec<Arc<Slice>>> = HashMap::new();
        for slice in self.slices.values() {
            by_service.entry(slice.service.clone()).or_default().push(slice.clone());
        }
        self.view.slices = Arc::new(by_service);
    }

    fn arrange_pods(&mut self) {
        let by_ip = self.pods.values().filter_map(|pod| Some((pod.ip?, pod.clone())));
        self.view.pods = Arc::new(by_ip.collect());
    }

    fn arrange_routes(&mut self) {
        let mut by_parent: HashMap<Key, Vec<Arc<Route>>> = HashMap::new();
        for known in self.routes.values() {
            let parents: BTreeSet<_> = known
                .route
                .parents
                .iter()
                .map(|parent| parent.service.clone())
                .collect();
            for parent in parents {
                by_parent.entry(parent).or_default().push(known.route.clone());
            }
        }
        self.view.routes = Arc::new(by_parent);
    }
}

/// Gives the backends that `route` has in common with its former self their former weights.
fn keep_weights(route: &mut Route, former: &Route) {
    for (rule, former) in route.rules.iter_mut().zip(&former.rules) {
        for backend in &mut rule.backends {
            let same =
                |other: &&super::route::BackendRef| other.service == backend.service && other.port == backend.port;
            if let Some(former) = former.backends.iter().find(same) {
                backend.weight = former.weight;
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Index, Kind};
    use crate::defect::{Defect, Defects};
    use crate::destination::{Transport, View};
    use serde_json::{Value, json};
    use std::collections::BTreeSet;
    use std::sync::Arc;

    pub(crate) fn kind_of(object: &Value) -> Kind {
        match object["kind"].as_str().unwrap() {
            "Namespace" => Kind::Namespace,
            "Service" => Kind::Service,
            "EndpointSlice" => Kind::Slice,
            "Pod" => Kind::Pod,
            "HTTPRoute" => Kind::Route,
            "Server" => Kind::Server,
            "AuthorizationPolicy" => Kind::AuthorizationPolicy,
            "MeshTLSAuthentication" => Kind::MeshTls,
            "NetworkAuthentication" => Kind::Network,
            other => panic!("the index does not follow {other}"),
        }
    }

    pub(crate) fn index_of(objects: &[Value]) -> Index {
        let mut index = Index::default();
        for object in objects {
            index.set(kind_of(object), &Arc::new(object.clone()), &Defects::default());
        }
        index
    }

    pub(crate) fn view_of(objects: &[Value]) -> View {
        index_of(objects).view(BTreeSet::new())
    }

    fn mirror() -> Vec<Value> {
        let ports = json!([{"name": "http", "port": 8080}, {"name": "admin", "port": 9000}]);
        vec![
            json!({"kind": "Service", "metadata": {"namespace": "lab", "name": "echo-east",
                "labels": {"mirror.linkerd.io/mirrored-service": "true", "mirror.linkerd.io/cluster-name": "east"},
                "annotations": {"mirror.linkerd.io/remote-svc-fq-name": "echo.lab.svc.cluster.local"}},
                "spec": {"clusterIP": "10.42.0.9", "ports": ports}}),
            json!({"kind": "EndpointSlice", "metadata": {"namespace": "lab", "name": "echo-east-1",
                "labels": {"kubernetes.io/service-name": "echo-east"}, "annotations": {
                    "mirror.linkerd.io/remote-gateway-identity": "gw.identity",
                    "mirror.linkerd.io/remote-svc-fq-name": "echo.lab.svc.cluster.local"}},
                "endpoints": [{"addresses": ["172.18.0.3"], "conditions": {"ready": true}}],
                "ports": [{"name": "http", "port": 4143}, {"name": "admin", "port": 4143}]}),
        ]
    }

    fn remote_port(view: &View, port: u16, defects: &[Defect]) -> u16 {
        let service = view.service_at("10.42.0.9".parse().unwrap()).unwrap();
        let targets = view.endpoints(service, port, &defects.iter().copied().collect());
        match &targets[0].transport {
            Transport::Gateway { host, port, .. } => {
                assert_eq!(host, "echo.lab.svc.cluster.local");
                *port
            }
            other => panic!("expected a gateway, found {other:?}"),
        }
    }

    #[test]
    fn a_mirror_leads_to_the_gateway_with_the_remote_name_and_port() {
        let view = view_of(&mirror());
        assert_eq!(remote_port(&view, 8080, &[]), 8080);
        assert_eq!(remote_port(&view, 9000, &[]), 9000);
        assert_eq!(remote_port(&view, 9000, &[Defect::EveryPortToTheFirst]), 8080);
    }

    #[test]
    fn a_mirror_answers_locally_only_with_the_defect() {
        let mut objects = mirror();
        objects.push(
            json!({"kind": "Service", "metadata": {"namespace": "lab", "name": "echo"},
            "spec": {"clusterIP": "10.42.0.8", "ports": [{"name": "http", "port": 8080}]}}),
        );
        objects.push(
            json!({"kind": "EndpointSlice", "metadata": {"namespace": "lab", "name": "echo-1",
            "labels": {"kubernetes.io/service-name": "echo"}},
            "endpoints": [{"addresses": ["10.22.0.20"]}], "ports": [{"name": "http", "port": 8080}]}),
        );
        let view = view_of(&objects);
        assert_eq!(remote_port(&view, 8080, &[]), 8080);
        let service = view.service_at("10.42.0.9".parse().unwrap()).unwrap();
        let defects = [Defect::MirrorAnswersLocally].into_iter().collect();
        let targets = view.endpoints(service, 8080, &defects);
        assert_eq!(targets[0].transport, Transport::Plain);
        assert_eq!(targets[0].address, "10.22.0.20:8080".parse().unwrap());
    }

    #[test]
    fn withheld_links_have_no_endpoints() {
        let index = index_of(&mirror());
        let view = index.view(BTreeSet::from(["east".to_owned()]));
        let service = view.service_at("10.42.0.9".parse().unwrap()).unwrap();
        assert!(view.endpoints(service, 8080, &Defects::default()).is_empty());
    }

    fn route(weights: (u32, u32)) -> Arc<Value> {
        Arc::new(
            json!({"kind": "HTTPRoute", "apiVersion": "gateway.networking.k8s.io/v1",
            "metadata": {"namespace": "lab", "name": "split"}, "spec": {
                "parentRefs": [{"group": "core", "kind": "Service", "name": "split", "port": 8080}],
                "rules": [{"backendRefs": [
                    {"name": "echo", "port": 8080, "weight": weights.0},
                    {"name": "echo-east", "port": 8080, "weight": weights.1}]}]}}),
        )
    }

    fn weights(index: &Index) -> Option<Vec<u32>> {
        let view = index.view(BTreeSet::new());
        let routes = view.routes_for(&("lab".into(), "split".into()), 8080, "other");
        let route = routes.first()?;
        Some(route.rules[0].backends.iter().map(|backend| backend.weight).collect())
    }

    #[test]
    fn changed_weights_and_removed_routes_are_noticed_unless_a_defect_ignores_them() {
        let mut index = index_of(&[]);
        let none = Defects::default();
        let ignore = [Defect::WeightChangesIgnored, Defect::RouteRemovalIgnored]
            .into_iter()
            .collect();
        index.set(Kind::Route, &route((70, 30)), &none);
        index.set(Kind::Route, &route((30, 70)), &ignore);
        assert_eq!(weights(&index), Some(vec![70, 30]));
        index.set(Kind::Route, &route((30, 70)), &none);
        assert_eq!(weights(&index), Some(vec![30, 70]));
        index.remove(Kind::Route, &route((30, 70)), &ignore);
        assert_eq!(weights(&index), Some(vec![30, 70]));
        index.remove(Kind::Route, &route((30, 70)), &none);
        assert_eq!(weights(&index), None);
    }

    #[test]
    fn a_consumers_route_replaces_the_producers() {
        let mut index = index_of(&[]);
        index.set(Kind::Route, &route((70, 30)), &Defects::default());
        let mut own = (*route((1, 0))).clone();
        own["metadata"]["namespace"] = json!("shop");
        own["spec"]["parentRefs"][0]["namespace"] = json!("lab");
        index.set(Kind::Route, &Arc::new(own), &Defects::default());
        let view = index.view(BTreeSet::new());
        let namespace_of = |client: &str| {
            view.routes_for(&("lab".into(), "split".into()), 8080, client)[0]
                .namespace
                .clone()
        };
        assert_eq!(namespace_of("shop"), "shop");
        assert_eq!(namespace_of("elsewhere"), "lab");
        assert!(view.routes_for(&("lab".into(), "split".into()), 9000, "lab").is_empty());
    }
}
