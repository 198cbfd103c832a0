//! Names inside a cluster, as its DNS server and a pod's resolver answer them.
//!
//! Served: `service.namespace.svc.<domain>`, for headless Services every ready pod and `hostname.service.namespace.svc.…`,
//! ExternalName Services, `a-b-c-d.namespace.pod.<domain>`, and the names of hosts outside of the clusters. A pod's resolver
//! has the search list of real pods (`<namespace>.svc.<domain>`, `svc.<domain>`, `<domain>`) and `ndots:5`.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, PoisonError, RwLock};

use crate::fabric::Fabric;

/// A name with so many dots is tried as it is first.
const NDOTS: usize = 5;
/// How many aliases may follow each other.
const MAX_ALIASES: usize = 8;

/// What a Service's name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ServiceName {
    /// Its ClusterIP.
    Address(Ipv4Addr),
    /// Its pods, each with its host name if it has one.
    Headless(Vec<(Ipv4Addr, Option<String>)>),
    /// Another name.
    External(String),
}

/// The names of one cluster.
pub(crate) struct Zone {
    domain: String,
    fabric: Fabric,
    services: RwLock<HashMap<(String, String), ServiceName>>,
}

impl Zone {
    pub(crate) fn new(domain: &str, fabric: Fabric) -> Arc<Self> {
        Arc::new(Self {
            domain: domain.to_ascii_lowercase(),
            fabric,
            services: RwLock::default(),
        })
    }

    pub(crate) fn set(&self, namespace: &str, service: &str, name: Option<ServiceName>) {
        let key = (namespace.to_owned(), service.to_owned());
        let mut services = self.services.write().unwrap_or_else(PoisonError::into_inner);
        match name {
            Some(name) => services.insert(key, name),
            None => services.remove(&key),
        };
    }

    /// Addresses of a complete name; empty when there is none.
    fn lookup(&self, name: &str, aliases: usize) -> Vec<Ipv4Addr> {
        let Some(inside) = name.strip_suffix(&self.domain).and_then(|n| n.strip_suffix('.')) else {
            return self.fabric.host(name).into_iter().collect();
        };
        let labels: Vec<&str> = inside.split('.').collect();
        let (host, service, namespace) = match *labels.as_slice() {
            [service, namespace, "svc"] => (None, service, namespace),
            [host, service, namespace, "svc"] => (Some(host), service, namespace),
            [address, _, "pod"] => {
                return address.replace('-', ".").parse().into_iter().collect();
            }
            _ => return Vec::new(),
        };
        let key = (namespace.to_owned(), service.to_owned());
        let found = {
            let services = self.services.read().unwrap_or_else(PoisonError::into_inner);
            services.get(&key).cloned()
        };
        match (found, host) {
            (Some(ServiceName::Address(address)), None) => vec![address],
            (Some(ServiceName::Headless(pods)), None) => pods.into_iter().map(|(a, _)| a).collect(),
            (Some(ServiceName::Headless(pods)), Some(host)) => pods
                .into_iter()
                .filter(|(_, h)| h.as_deref() == Some(host))
                .map(|(a, _)| a)
                .collect(),
            (Some(ServiceName::External(other)), None) if aliases > 0 => {
                let other = other.trim_end_matches('.').to_ascii_lowercase();
                self.lookup(&other, aliases - 1)
            }
            _ => Vec::new(),
        }
    }

    /// Resolves a name as a pod in `namespace` would.
    ///
    /// # Errors
    /// `NotFound` when the name does not exist.
    pub(crate) fn resolve(&self, namespace: &str, name: &str) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        let name = name.to_ascii_lowercase();
        if name == "localhost" {
            return Ok(vec![Ipv4Addr::LOCALHOST.into()]);
        }
        let search = [
            format!("{name}.{namespace}.svc.{}", self.domain),
            format!("{name}.svc.{}", self.domain),
            format!("{name}.{}", self.domain),
        ];
        let mut tries: Vec<&str> = Vec::new();
        if let Some(complete) = name.strip_suffix('.') {
            tries.push(complete);
        } else if name.matches('.').count() >= NDOTS {
            tries.push(&name);
            tries.extend(search.iter().map(String::as_str));
        } else {
            tries.extend(search.iter().map(String::as_str));
            tries.push(&name);
        }
        for complete in tries {
            let found = self.lookup(complete, MAX_ALIASES);
            if !found.is_empty() {
                return Ok(found.into_iter().map(IpAddr::V4).collect());
            }
        }
        Err(io::Error::new(io::ErrorKind::NotFound, format!("no such host: {name}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fabric::FabricConfig;
    use crate::pace::Pace;

    fn zone() -> Arc<Zone> {
        let fabric = Fabric::new(FabricConfig::new(Pace::NORMAL));
        fabric.add_host("east-control-plane", [172, 18, 0, 3].into());
        let zone = Zone::new("cluster.local", fabric);
        let address = |last| Ipv4Addr::new(10, 20, 0, last);
        zone.set("demo", "store", Some(ServiceName::Address(address(1))));
        zone.set("other", "store", Some(ServiceName::Address(address(2))));
        zone.set(
            "demo",
            "db",
            Some(ServiceName::Headless(vec![
                (address(10), Some("db-0".into())),
                (address(11), Some("db-1".into())),
            ])),
        );
        let alias = |to: &str| Some(ServiceName::External(to.into()));
        zone.set("demo", "alias", alias("store.other.svc.cluster.local."));
        zone.set("demo", "circle", alias("circle.demo.svc.cluster.local"));
        zone
    }

    fn last_bytes(name: &str) -> Vec<u8> {
        match zone().resolve("demo", name) {
            Ok(found) => found
                .iter()
                .map(|a| a.to_string().rsplit('.').next().unwrap().parse().unwrap())
                .collect(),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::NotFound);
                Vec::new()
            }
        }
    }

    #[test]
    fn services_have_short_and_long_names() {
        for name in [
            "store",
            "Store",
            "store.demo",
            "store.demo.svc",
            "store.demo.svc.cluster.local",
            "store.demo.svc.cluster.local.",
        ] {
            assert_eq!(last_bytes(name), [1], "{name}");
        }
        assert_eq!(last_bytes("store.other"), [2]);
    }

    #[test]
    fn unknown_names_do_not_exist() {
        for name in [
            "nosuch",
            "store.nosuch",
            "store.",
            "store.demo.svc.",
            "x.store.demo.svc.cluster.local",
            "demo.svc.cluster.local",
            "circle",
            "",
            ".",
            "cluster.local",
        ] {
            assert_eq!(last_bytes(name), Vec::<u8>::new(), "{name}");
        }
    }

    #[test]
    fn headless_services_name_their_pods() {
        assert_eq!(last_bytes("db"), [10, 11]);
        assert_eq!(last_bytes("db-1.db"), [11]);
        assert_eq!(last_bytes("db-0.db.demo.svc.cluster.local"), [10]);
        assert_eq!(last_bytes("db-2.db"), Vec::<u8>::new());
    }

    #[test]
    fn aliases_hosts_pods_and_addresses_resolve() {
        assert_eq!(last_bytes("alias"), [2]);
        assert_eq!(last_bytes("east-control-plane"), [3]);
        assert_eq!(last_bytes("10-1-2-3.demo.pod"), [3]);
        assert_eq!(last_bytes("192.0.2.7"), [7]);
        assert_eq!(last_bytes("localhost"), [1]);
    }
}
