//! Control over paths: which connections an effect is about, and what it does to them.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use super::routes::ServiceRef;

/// Chooses connections. A part that is `None` chooses all; the default chooses every connection of the fabric.
///
/// A path is directed from the cluster that *opens* the connection to the cluster in which it ends, as a stateful
/// firewall between them would see it: what is done to `west` → `east` concerns both directions of the bytes on
/// connections that west opened, and leaves connections that east opened to west alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathSelector {
    /// Cluster that opens the connection.
    pub from: Option<String>,
    /// Cluster in which the connection ends.
    pub to: Option<String>,
    /// A port on the way: as dialled, or after any translation.
    pub port: Option<u16>,
    /// An address on the way: as dialled, or after any translation.
    pub address: Option<Ipv4Addr>,
    /// A Service on the way, in the dialling or the answering cluster: namespace and name.
    pub service: Option<(String, String)>,
    /// Address of the pod that opens the connection (the node's address for connections from outside of pods).
    pub source: Option<Ipv4Addr>,
}

impl PathSelector {
    /// Connections that `from` opens to `to`; equal names choose the connections inside the cluster.
    #[must_use]
    pub fn between(from: &str, to: &str) -> Self {
        Self {
            from: Some(from.to_owned()),
            to: Some(to.to_owned()),
            ..Self::default()
        }
    }

    /// Only those over this port.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        Self {
            port: Some(port),
            ..self
        }
    }

    /// Only those over this address.
    #[must_use]
    pub fn address(self, address: Ipv4Addr) -> Self {
        Self {
            address: Some(address),
            ..self
        }
    }

    /// Only those over this Service.
    #[must_use]
    pub fn service(self, namespace: &str, name: &str) -> Self {
        Self {
            service: Some((namespace.to_owned(), name.to_owned())),
            ..self
        }
    }

    /// Only those that this address opened.
    #[must_use]
    pub fn source(self, source: Ipv4Addr) -> Self {
        Self {
            source: Some(source),
            ..self
        }
    }

    /// Whether the connection is one of the chosen.
    #[must_use]
    pub fn chooses(&self, connection: &ConnectionInfo) -> bool {
        let same = |wanted: &Option<String>, actual: &String| wanted.as_ref().is_none_or(|w| w == actual);
        same(&self.from, &connection.from)
            && same(&self.to, &connection.to)
            && self.source.is_none_or(|s| *connection.source.ip() == s)
            && self.port.is_none_or(|p| connection.hops.iter().any(|h| h.port() == p))
            && self
                .address
                .is_none_or(|a| connection.hops.iter().any(|h| *h.ip() == a))
            && self.service.as_ref().is_none_or(|(namespace, name)| {
                connection
                    .services
                    .iter()
                    .any(|s| s.namespace == *namespace && s.name == *name)
            })
    }
}

impl fmt::Display for PathSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |part: &Option<String>| part.clone().unwrap_or_else(|| "*".into());
        write!(f, "{} → {}", name(&self.from), name(&self.to))?;
        if let Some(address) = self.address {
            write!(f, " address {address}")?;
        }
        if let Some(port) = self.port {
            write!(f, " port {port}")?;
        }
        if let Some((namespace, name)) = &self.service {
            write!(f, " service {namespace}/{name}")?;
        }
        if let Some(source) = self.source {
            write!(f, " from {source}")?;
        }
        Ok(())
    }
}

/// A connection on the fabric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Number, unique on the fabric.
    pub id: u64,
    /// Cluster that opened it.
    pub from: String,
    /// Cluster in which it ends.
    pub to: String,
    /// Virtual address that opened it. The port is 0 until the connection is established.
    pub source: SocketAddrV4,
    /// The source address that the other side sees: the source node's where the network translates.
    pub seen_source: Ipv4Addr,
    /// Every address on the way: as dialled, and after each translation.
    pub hops: Vec<SocketAddrV4>,
    /// Services whose addresses were translated.
    pub services: Vec<ServiceRef>,
}

impl ConnectionInfo {
    /// The address that was dialled.
    #[must_use]
    pub fn dialled(&self) -> Option<SocketAddr> {
        self.hops.first().copied().map(SocketAddr::V4)
    }

    /// The address at which it ended after all translations.
    #[must_use]
    pub fn target(&self) -> Option<SocketAddr> {
        self.hops.last().copied().map(SocketAddr::V4)
    }
}

/// What is done to the chosen connections while the effect lasts. Durations are scenario time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Every byte takes longer, and opening a connection takes two such delays. Several delays add up.
    Delay {
        /// Added in each direction.
        each_way: Duration,
        /// Up to so much more, drawn evenly for each piece of data; the order of bytes stays.
        jitter: Duration,
    },
    /// Packets vanish: open connections stall until healed (nothing is lost, as TCP would retransmit), new ones time out.
    Blackhole,
    /// New connections are refused; open ones are left alone.
    Refuse,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delay { each_way, jitter } => {
                write!(f, "delay {each_way:?} each way, jitter {jitter:?}")
            }
            Self::Blackhole => f.write_str("blackhole"),
            Self::Refuse => f.write_str("refuse"),
        }
    }
}

/// Something that is in force on the fabric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveControl {
    /// Number by which it can be removed.
    pub id: u64,
    /// The connections it is about.
    pub selector: PathSelector,
    /// What it is.
    pub kind: ControlKind,
}

/// Kind of an [`ActiveControl`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlKind {
    /// An effect.
    Effect(Effect),
    /// A tap.
    Tap,
}

#[cfg(test)]
mod tests {
    use super::{ConnectionInfo, PathSelector};
    use crate::fabric::routes::ServiceRef;

    fn connection() -> ConnectionInfo {
        ConnectionInfo {
            id: 1,
            from: "west".into(),
            to: "east".into(),
            source: "10.10.0.7:4711".parse().unwrap(),
            seen_source: [172, 18, 0, 2].into(),
            hops: ["10.20.0.5:8080", "172.18.0.3:4143", "10.11.0.4:4143"]
                .iter()
                .map(|h| h.parse().unwrap())
                .collect(),
            services: vec![ServiceRef {
                cluster: "west".into(),
                namespace: "demo".into(),
                name: "store-east".into(),
            }],
        }
    }

    #[test]
    fn every_given_part_must_fit() {
        let c = connection();
        let path = PathSelector::between("west", "east");
        assert!(PathSelector::default().chooses(&c));
        assert!(path.chooses(&c));
        assert!(
            !PathSelector::between("east", "west").chooses(&c),
            "the direction is that of opening"
        );
        for port in [8080, 4143] {
            assert!(path.clone().port(port).chooses(&c));
        }
        assert!(!path.clone().port(80).chooses(&c));
        assert!(path.clone().address([172, 18, 0, 3].into()).chooses(&c));
        assert!(!path.clone().address([172, 18, 0, 2].into()).chooses(&c));
        assert!(path.clone().service("demo", "store-east").chooses(&c));
        assert!(!path.clone().service("demo", "store").chooses(&c));
        assert!(path.clone().source([10, 10, 0, 7].into()).chooses(&c));
        assert!(!path.source([10, 10, 0, 8].into()).chooses(&c));
    }

    #[test]
    fn a_selector_reads_well() {
        let text = PathSelector::between("west", "east")
            .port(4143)
            .service("demo", "store")
            .to_string();
        assert_eq!(text, "west → east port 4143 service demo/store");
        assert_eq!(PathSelector::default().to_string(), "* → *");
    }
}
