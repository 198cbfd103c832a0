//! Networks of addresses, and which of them overlap. Pure.

use std::net::IpAddr;

use ipnet::IpNet;

/// Reads `10.1.0.0/16`, or a single address.
fn network(text: &str) -> Option<IpNet> {
    let text = text.trim();
    let single = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(single).map(|network: IpNet| network.trunc())
}

/// Whether some address is in both: networks are nested or disjoint.
fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

/// Pairs of networks of different clusters that overlap, each told once. `networks`: cluster and network.
#[must_use]
pub(super) fn overlaps(networks: &[(String, String)]) -> Vec<String> {
    let mut found = Vec::new();
    for (index, (cluster, text)) in networks.iter().enumerate() {
        for (other_cluster, other) in networks.iter().skip(index + 1) {
            let both = network(text).zip(network(other));
            if cluster != other_cluster && both.is_some_and(|(one, other)| overlap(&one, &other)) {
                found.push(format!("{cluster} {text} and {other_cluster} {other}"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::{network, overlap, overlaps};

    #[rstest]
    #[case("10.1.0.0/16", "10.1.128.0/17", true)]
    #[case("10.1.0.0/16", "10.2.0.0/16", false)]
    #[case("0.0.0.0/0", "192.0.2.1", true)]
    #[case("10.96.0.1", "10.96.0.1", true)]
    #[case("fd00::/8", "fd00:1::/64", true)]
    #[case("::/0", "10.0.0.0/8", false)]
    #[case("10.1.2.3/16", "10.1.0.0/24", true)]
    fn networks_overlap_or_not(#[case] one: &str, #[case] other: &str, #[case] expected: bool) {
        let (one, other) = (network(one).unwrap(), network(other).unwrap());
        assert_eq!(overlap(&one, &other), expected);
        assert_eq!(overlap(&other, &one), expected);
    }

    #[test]
    fn only_networks_of_different_clusters_are_told() {
        let of = |cluster: &str, network: &str| (cluster.to_owned(), network.to_owned());
        let found = overlaps(&[
            of("west", "10.1.0.0/24"),
            of("west", "10.1.0.0/16"),
            of("east", "10.1.0.0/16"),
            of("north", "not a network"),
        ]);
        assert_eq!(
            found,
            [
                "west 10.1.0.0/24 and east 10.1.0.0/16",
                "west 10.1.0.0/16 and east 10.1.0.0/16"
            ]
        );
    }

    #[rstest]
    #[case("10.0.0.0/33")]
    #[case("10.0.0/8")]
    #[case("")]
    #[case("/8")]
    fn what_is_no_network_is_none(#[case] text: &str) {
        assert_eq!(network(text), None);
    }
}
