//! What `${…}` may refer to besides variables: facts that only the mesh's driver or the run knows.

use std::fmt;

use crate::scalar::Name;

/// A fact, as a scenario refers to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fact {
    /// `${namespace}`: the scenario's namespace.
    Namespace,
    /// `${mirror.store.east}`: name of the object by which other clusters see east's `store`.
    Mirror {
        /// A deployed service.
        service: Name,
        /// Exporting cluster.
        cluster: Name,
    },
    /// `${mesh.namespace}`, `${mesh.<fact>.<cluster>}`: whatever else a driver offers by a name of its own.
    Mesh {
        /// Name of the fact; words joined by `-` or `_`.
        fact: String,
        /// Cluster, where the fact differs between clusters.
        cluster: Option<Name>,
    },
    /// `${identity.gateway.east}`: identity of a cluster's gateway.
    GatewayIdentity {
        /// Cluster.
        cluster: Name,
    },
    /// `${identity.workload.shopper.west}`: identity of a deployed service or client.
    WorkloadIdentity {
        /// Name of the service or client.
        workload: Name,
        /// Its cluster.
        cluster: Name,
    },
    /// `${address.node.east}`: address of a node of a cluster.
    NodeAddress {
        /// Cluster.
        cluster: Name,
    },
}

impl Fact {
    /// Forms of all facts, for messages.
    pub const FORMS: &'static [&'static str] = &[
        "namespace",
        "mirror.<service>.<cluster>",
        "mesh.<fact>",
        "mesh.<fact>.<cluster>",
        "identity.gateway.<cluster>",
        "identity.workload.<name>.<cluster>",
        "address.node.<cluster>",
    ];

    /// The fact that stands between `${` and `}`; `None` when it has none of the [`Fact::FORMS`].
    pub fn parse(text: &str) -> Option<Self> {
        let name = |text: &str| {
            let name = Name(text.to_owned());
            name.fault().is_none().then_some(name)
        };
        let words: Vec<&str> = text.split('.').collect();
        Some(match words.as_slice() {
            ["namespace"] => Self::Namespace,
            ["mirror", service, cluster] => Self::Mirror {
                service: name(service)?,
                cluster: name(cluster)?,
            },
            ["mesh", fact, rest @ ..] if is_fact(fact) && rest.len() < 2 => Self::Mesh {
                fact: (*fact).to_owned(),
                cluster: match rest {
                    [cluster] => Some(name(cluster)?),
                    _ => None,
                },
            },
            ["identity", "gateway", cluster] => Self::GatewayIdentity {
                cluster: name(cluster)?,
            },
            ["identity", "workload", workload, cluster] => Self::WorkloadIdentity {
                workload: name(workload)?,
                cluster: name(cluster)?,
            },
            ["address", "node", cluster] => Self::NodeAddress {
                cluster: name(cluster)?,
            },
            _ => return None,
        })
    }

    /// The cluster that it speaks of.
    pub fn cluster(&self) -> Option<&Name> {
        match self {
            Self::Namespace => None,
            Self::Mesh { cluster, .. } => cluster.as_ref(),
            Self::Mirror { cluster, .. }
            | Self::GatewayIdentity { cluster }
            | Self::WorkloadIdentity { cluster, .. }
            | Self::NodeAddress { cluster } => Some(cluster),
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace => f.write_str("namespace"),
            Self::Mirror { service, cluster } => write!(f, "mirror.{service}.{cluster}"),
            Self::Mesh { fact, cluster: None } => write!(f, "mesh.{fact}"),
            Self::Mesh {
                fact,
                cluster: Some(cluster),
            } => write!(f, "mesh.{fact}.{cluster}"),
            Self::GatewayIdentity { cluster } => write!(f, "identity.gateway.{cluster}"),
            Self::WorkloadIdentity { workload, cluster } => {
                write!(f, "identity.workload.{workload}.{cluster}")
            }
            Self::NodeAddress { cluster } => write!(f, "address.node.{cluster}"),
        }
    }
}

fn is_fact(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

/// A part of a text with references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'t> {
    /// Text that stands for itself.
    Literal(&'t str),
    /// What stands between `${` and `}`.
    Reference(&'t str),
    /// From a `${` without `}` to the end.
    Unclosed(&'t str),
}

/// Splits text at its `${…}`. What stands between the braces may hold references itself.
pub fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if start > 0 {
            parts.push(Part::Literal(&rest[..start]));
        }
        let inside = &rest[start + 2..];
        let Some(end) = closing(inside) else {
            parts.push(Part::Unclosed(&rest[start..]));
            return parts;
        };
        parts.push(Part::Reference(&inside[..end]));
        rest = &inside[end + 1..];
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest));
    }
    parts
}

/// Offset of the `}` that ends a reference whose inside begins here.
fn closing(inside: &str) -> Option<usize> {
    let mut open = 0;
    for (offset, c) in inside.char_indices() {
        match c {
            '{' if inside[..offset].ends_with('$') => open += 1,
            '}' if open == 0 => return Some(offset),
            '}' => open -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Fact, Part, parts};
    use rstest::rstest;

    #[rstest]
    #[case("namespace")]
    #[case("mirror.store.east")]
    #[case("mesh.namespace")]
    #[case("mesh.gateway_name.east")]
    #[case("identity.gateway.east")]
    #[case("identity.workload.shopper.west")]
    #[case("address.node.east")]
    fn facts_read_back(#[case] text: &str) {
        assert_eq!(Fact::parse(text).unwrap().to_string(), text);
    }

    #[rstest]
    #[case("")]
    #[case("mirror.store")]
    #[case("mesh")]
    #[case("mesh.a.b.c")]
    #[case("identity.east")]
    #[case("address.pod.east")]
    #[case("env.HOME")]
    #[case(" namespace")]
    fn anything_else_is_no_fact(#[case] text: &str) {
        assert_eq!(Fact::parse(text), None);
    }

    #[test]
    fn text_is_split_at_references() {
        use Part::{Literal, Reference, Unclosed};
        assert_eq!(parts("a"), [Literal("a")]);
        assert_eq!(
            parts("a${b}c${d}"),
            [Literal("a"), Reference("b"), Literal("c"), Reference("d")]
        );
        assert_eq!(parts("$x ${a"), [Literal("$x "), Unclosed("${a")]);
        assert_eq!(parts(""), []);
        assert_eq!(parts("${a.${b}.c}d"), [Reference("a.${b}.c"), Literal("d")]);
        assert_eq!(parts("${a.${b}"), [Unclosed("${a.${b}")]);
    }
}
