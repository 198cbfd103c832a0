//! Who may reach a port of a pod: Servers, AuthorizationPolicies and the default policies.

use std::net::IpAddr;

use serde_json::Value;

use super::objects::{Key, Pod, key};
use super::view::View;
use crate::identity::workload_name;
use crate::metrics::Labels;

/// A network in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads `10.0.0.0/8`, or a single address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address.trim().parse().ok()?, Some(prefix.trim().parse().ok()?)),
            None => (text.trim().parse().ok()?, None),
        };
        let longest = match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        let prefix = prefix.unwrap_or(longest);
        (prefix <= longest).then_some(Self { address, prefix })
    }

    /// Whether `address` lies in the network.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let same = |a: u128, b: u128, width: u32| {
            let cut = width.saturating_sub(u32::from(self.prefix));
            a.checked_shr(cut).unwrap_or(0) == b.checked_shr(cut).unwrap_or(0)
        };
        match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(u32::from(a).into(), u32::from(b).into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.into(), b.into(), 128),
            _ => false,
        }
    }
}

/// The networks that count as the cluster's own: all private ones, as the chart's default says.
#[must_use]
pub fn cluster_networks() -> Vec<Network> {
    [
        "10.0.0.0/8",
        "100.64.0.0/10",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "fd00::/8",
    ]
    .into_iter()
    .filter_map(Network::parse)
    .collect()
}

/// A `Server`: a port of some pods that has a policy of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    pub(super) key: Key,
    pod_selector: Value,
    port: Value,
    access_policy: String,
}

/// An `AuthorizationPolicy`.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthorizationPolicy {
    pub(super) key: Key,
    target_kind: String,
    target_name: String,
    required: Vec<AuthenticationRef>,
}

#[derive(Clone, Debug, PartialEq)]
struct AuthenticationRef {
    kind: String,
    target: Key,
}

/// A `MeshTLSAuthentication`: patterns of identities.
#[derive(Clone, Debug, PartialEq)]
pub struct MeshTlsAuthentication {
    pub(super) key: Key,
    identities: Vec<String>,
}

/// A `NetworkAuthentication`: networks with exceptions.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkAuthentication {
    pub(super) key: Key,
    networks: Vec<(Network, Vec<Network>)>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

impl Server {
    pub(super) fn read(object: &Value) -> Self {
        Self {
            key: key(object),
            pod_selector: object["spec"]["podSelector"].clone(),
            port: object["spec"]["port"].clone(),
            access_policy: object["spec"]["accessPolicy"].as_str().unwrap_or("deny").to_owned(),
        }
    }

    fn selects(&self, pod: &Value, port: u16) -> bool {
        if pod["metadata"]["namespace"] != self.key.0.as_str() || self.pod_selector.is_null() {
            return false;
        }
        selector_matches(&self.pod_selector, &pod["metadata"]["labels"])
            && match &self.port {
                Value::Number(number) => number.as_u64() == Some(port.into()),
                Value::String(name) => {
                    name.parse() == Ok(port) || named_ports(pod).any(|(known, number)| known == name && number == port)
                }
                _ => false,
            }
    }
}

fn named_ports(pod: &Value) -> impl Iterator<Item = (&str, u16)> {
    ["containers", "initContainers"]
        .into_iter()
        .flat_map(|list| array(&pod["spec"][list]))
        .flat_map(|container| array(&container["ports"]))
        .filter_map(|port| {
            Some((
                port["name"].as_str()?,
                u16::try_from(port["containerPort"].as_u64()?).ok()?,
            ))
        })
}

fn selector_matches(selector: &Value, labels: &Value) -> bool {
    let label = |name: &str| labels[name].as_str();
    let equal = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .all(|(name, value)| label(name) == value.as_str());
    equal
        && array(&selector["matchExpressions"]).all(|expression| {
            let present = label(expression["key"].as_str().unwrap_or_default());
            let listed = || array(&expression["values"]).any(|value| value.as_str() == present);
            match expression["operator"].as_str().unwrap_or_default() {
                "In" => present.is_some() && listed(),
                "NotIn" => present.is_none() || !listed(),
                "Exists" => present.is_some(),
                "DoesNotExist" => present.is_none(),
                _ => false,
            }
        })
}

impl AuthorizationPolicy {
    pub(super) fn read(object: &Value) -> Self {
        let own = key(object);
        let required = array(&object["spec"]["requiredAuthenticationRefs"]).map(|reference| AuthenticationRef {
            kind: text(&reference["kind"]),
            target: (
                reference["namespace"].as_str().unwrap_or(&own.0).to_owned(),
                text(&reference["name"]),
            ),
        });
        Self {
            required: required.collect(),
            target_kind: text(&object["spec"]["targetRef"]["kind"]),
            target_name: text(&object["spec"]["targetRef"]["name"]),
            key: own,
        }
    }

    fn covers(&self, server: &Key) -> bool {
        self.key.0 == server.0
            && match self.target_kind.as_str() {
                "Server" => self.target_name == server.1,
                "Namespace" => self.target_name == server.0,
                // A policy for a single inbound route is not modelled; it allows nothing.
                _ => false,
            }
    }

    fn allows(&self, view: &View, client: &Client<'_>) -> bool {
        self.required.iter().all(|reference| match reference.kind.as_str() {
            "MeshTLSAuthentication" => client.identity.is_some_and(|identity| {
                view.mesh_tls_authentications
                    .get(&reference.target)
                    .is_some_and(|known| known.includes(identity))
            }),
            "NetworkAuthentication" => view
                .network_authentications
                .get(&reference.target)
                .is_some_and(|known| known.includes(client.address)),
            "ServiceAccount" => {
                let (namespace, name) = &reference.target;
                client.identity == Some(workload_name(name, namespace).as_str())
            }
            _ => false,
        })
    }
}

impl MeshTlsAuthentication {
    pub(super) fn read(object: &Value) -> Self {
        let own = key(object);
        let mut identities: Vec<_> = array(&object["spec"]["identities"])
            .filter_map(|one| one.as_str().map(str::to_owned))
            .collect();
        for reference in array(&object["spec"]["identityRefs"]) {
            let namespace = reference["namespace"].as_str().unwrap_or(&own.0);
            match (reference["kind"].as_str(), reference["name"].as_str()) {
                (Some("ServiceAccount"), Some(name)) => identities.push(workload_name(name, namespace)),
                (Some("Namespace"), Some(name)) => identities.push(format!("*{}", workload_name("", name))),
                _ => {}
            }
        }
        Self { key: own, identities }
    }

    fn includes(&self, identity: &str) -> bool {
        self.identities.iter().any(|pattern| match pattern.strip_prefix('*') {
            Some(suffix) => identity.ends_with(suffix),
            None => pattern == identity,
        })
    }
}

impl NetworkAuthentication {
    pub(super) fn read(object: &Value) -> Self {
        let networks = array(&object["spec"]["networks"]).filter_map(|network| {
            let except = array(&network["except"]).filter_map(|one| Network::parse(one.as_str()?));
            Some((Network::parse(network["cidr"].as_str()?)?, except.collect()))
        });
        Self {
            networks: networks.collect(),
            key: key(object),
        }
    }

    fn includes(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|(network, except)| {
            network.contains(address) && !except.iter().any(|exception| exception.contains(address))
        })
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Address that the connection comes from.
    pub address: IpAddr,
    /// Identity that it has proved.
    pub identity: Option<&'a str>,
}

/// The answer of the policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the client may go on.
    pub allowed: bool,
    /// Labels that name the server: `srv_group`, `srv_kind`, `srv_name`, `srv_port`.
    pub server: Labels,
    /// Group, kind and name of the server, for metrics that call it the parent.
    pub server_name: (&'static str, &'static str, String),
    /// The port.
    pub port: u16,
    /// Labels that name what allowed it: `authz_group`, `authz_kind`, `authz_name`; empty when denied.
    pub authorization: Labels,
}

/// A pod's say on what no `Server` speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultPolicy(pub String);

impl Default for DefaultPolicy {
    fn default() -> Self {
        Self("all-unauthenticated".to_owned())
    }
}

impl DefaultPolicy {
    fn allows(&self, client: &Client<'_>) -> bool {
        let in_cluster = || {
            cluster_networks()
                .iter()
                .any(|network| network.contains(client.address))
        };
        match self.0.as_str() {
            "all-unauthenticated" | "audit" => true,
            "all-authenticated" => client.identity.is_some(),
            "cluster-unauthenticated" => in_cluster(),
            "cluster-authenticated" => client.identity.is_some() && in_cluster(),
            // `deny`, and any word that is no policy: fail closed.
            _ => false,
        }
    }
}

fn server_labels(group: &str, kind: &str, name: &str, port: u16) -> Labels {
    Labels::from([
        ("srv_group", group),
        ("srv_kind", kind),
        ("srv_name", name),
        ("srv_port", &port.to_string()),
    ])
}

fn authorization_labels(group: &str, kind: &str, name: &str) -> Labels {
    Labels::from([("authz_group", group), ("authz_kind", kind), ("authz_name", name)])
}

impl Decision {
    /// The same decision, but allowed by one of the proxy's own rules (`probe`, `localhost`).
    #[must_use]
    pub fn allowed_by(&self, rule: &str) -> Self {
        Self {
            allowed: true,
            authorization: authorization_labels("", "default", rule),
            ..self.clone()
        }
    }
}

/// Decides whether `client` may reach `port` of `pod` (the object as it is in the API).
#[must_use]
pub fn decide(view: &View, pod: &Value, port: u16, default: &DefaultPolicy, client: &Client<'_>) -> Decision {
    const GROUP: &str = "policy.linkerd.io";
    let Some(server) = view.servers.values().find(|server| server.selects(pod, port)) else {
        let allowed = default.allows(client);
        return Decision {
            allowed,
            server: server_labels("", "default", &default.0, port),
            server_name: ("", "default", default.0.clone()),
            port,
            authorization: if allowed {
                authorization_labels("", "default", &default.0)
            } else {
                Labels::new()
            },
        };
    };
    let policy = view
        .authorization_policies
        .values()
        .find(|policy| policy.covers(&server.key) && policy.allows(view, client));
    let access = DefaultPolicy(server.access_policy.clone());
    let authorization = match policy {
        Some(policy) => Some(authorization_labels(GROUP, "authorizationpolicy", &policy.key.1)),
        None if access.allows(client) => Some(authorization_labels("", "default", &access.0)),
        None => None,
    };
    Decision {
        allowed: authorization.is_some(),
        server: server_labels(GROUP, "server", &server.key.1, port),
        server_name: (GROUP, "server", server.key.1.clone()),
        port,
        authorization: authorization.unwrap_or_default(),
    }
}

/// The default policy of a pod: its own annotation, then its namespace's, then the mesh's.
#[must_use]
pub fn default_policy(own: Option<&str>, view: &View, pod: &Pod) -> DefaultPolicy {
    let namespace = view.namespaces.get(&pod.namespace);
    own.map(str::to_owned)
        .or_else(|| namespace.and_then(|namespace| namespace.default_inbound_policy.clone()))
        .map_or_else(DefaultPolicy::default, DefaultPolicy)
}

#[cfg(test)]
mod tests {
    use super::{Client, DefaultPolicy, Network, decide};
    use crate::destination::View;
    use crate::destination::index::tests::view_of;
    use serde_json::{Value, json};

    const GATEWAY: &str = "linkerd-gateway.linkerd-multicluster.serviceaccount.identity.linkerd.cluster.local";

    fn gateway_pod() -> Value {
        json!({
            "metadata": {"namespace": "linkerd-multicluster", "name": "gw", "labels": {"app": "linkerd-gateway"}},
            "spec": {"initContainers": [{"name": "linkerd-proxy", "ports": [
                {"name": "linkerd-proxy", "containerPort": 4143}, {"name": "linkerd-admin", "containerPort": 4191}]}]},
        })
    }

    fn gateway_policies() -> Vec<Value> {
        let meta = |name: &str| json!({"namespace": "linkerd-multicluster", "name": name});
        let own = |kind: &str, name: &str| json!({"kind": kind, "name": name, "namespace": "linkerd-multicluster"});
        vec![
            json!({"kind": "Server", "metadata": meta("linkerd-gateway"), "spec": {
                "podSelector": {"matchLabels": {"app": "linkerd-gateway"}}, "port": "linkerd-proxy"}}),
            json!({"kind": "AuthorizationPolicy", "metadata": meta("linkerd-gateway"), "spec": {
                "targetRef": {"group": "policy.linkerd.io", "kind": "Server", "name": "linkerd-gateway"},
                "requiredAuthenticationRefs": [
                    own("MeshTLSAuthentication", "any-meshed"), own("NetworkAuthentication", "source-cluster")]}}),
            json!({"kind": "MeshTLSAuthentication", "metadata": meta("any-meshed"), "spec": {"identities": ["*"]}}),
            json!({"kind": "NetworkAuthentication", "metadata": meta("source-cluster"), "spec": {
                "networks": [{"cidr": "0.0.0.0/0", "except": ["10.9.0.0/16"]}, {"cidr": "::/0"}]}}),
        ]
    }

    fn allowed(view: &View, address: &str, identity: Option<&str>) -> bool {
        let client = Client {
            address: address.parse().unwrap(),
            identity,
        };
        decide(view, &gateway_pod(), 4143, &DefaultPolicy::default(), &client).allowed
    }

    #[test]
    fn the_gateway_wants_identity_and_network_together() {
        let view = view_of(&gateway_policies());
        assert!(allowed(&view, "10.22.0.5", Some("client.lab")));
        assert!(!allowed(&view, "10.22.0.5", None));
        assert!(!allowed(&view, "10.9.1.1", Some("client.lab")));
    }

    #[test]
    fn a_server_without_authorization_denies() {
        let view = view_of(&gateway_policies()[..1]);
        assert!(!allowed(&view, "10.22.0.5", Some("client.lab")));
    }

    #[test]
    fn labels_name_server_and_authorization() {
        let client = Client {
            address: "10.22.0.5".parse().unwrap(),
            identity: Some(GATEWAY),
        };
        let view = view_of(&gateway_policies());
        let decision = decide(&view, &gateway_pod(), 4143, &DefaultPolicy::default(), &client);
        assert_eq!(
            decision.server.and(&decision.authorization).as_str(),
            "srv_group=\"policy.linkerd.io\",srv_kind=\"server\",srv_name=\"linkerd-gateway\",srv_port=\"4143\",\
             authz_group=\"policy.linkerd.io\",authz_kind=\"authorizationpolicy\",authz_name=\"linkerd-gateway\""
        );
        let other = decide(&view, &gateway_pod(), 8080, &DefaultPolicy::default(), &client);
        assert!(other.allowed);
        assert!(
            other
                .server
                .as_str()
                .contains("srv_kind=\"default\",srv_name=\"all-unauthenticated\"")
        );
    }

    #[test]
    fn default_policies() {
        for (policy, address, identity, expected) in [
            ("all-unauthenticated", "8.8.8.8", None, true),
            ("all-authenticated", "10.0.0.1", None, false),
            ("all-authenticated", "8.8.8.8", Some("x"), true),
            ("cluster-unauthenticated", "10.0.0.1", None, true),
            ("cluster-unauthenticated", "8.8.8.8", None, false),
            ("cluster-authenticated", "10.0.0.1", None, false),
            ("deny", "10.0.0.1", Some("x"), false),
            ("nonsense", "10.0.0.1", Some("x"), false),
        ] {
            let client = Client {
                address: address.parse().unwrap(),
                identity,
            };
            assert_eq!(
                DefaultPolicy(policy.into()).allows(&client),
                expected,
                "{policy} {address}"
            );
        }
    }

    #[test]
    fn networks() {
        let network = Network::parse("10.22.0.0/16").unwrap();
        assert!(network.contains("10.22.255.1".parse().unwrap()));
        assert!(!network.contains("10.23.0.1".parse().unwrap()));
        assert!(
            Network::parse("0.0.0.0/0")
                .unwrap()
                .contains("1.2.3.4".parse().unwrap())
        );
        assert!(!Network::parse("0.0.0.0/0").unwrap().contains("::1".parse().unwrap()));
        assert!(Network::parse("::/0").unwrap().contains("fd00::1".parse().unwrap()));
        assert_eq!(Network::parse("10.0.0.0/33"), None);
    }
}
