//! Rules for topology files.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::code;
use crate::diagnostic::{Diagnostic, closest};
use crate::load::Plain;
use crate::source::Span;
use crate::structure::list;
use crate::topology::{LinkSpec, Network, Topology};
use crate::yaml::escape;

/// All that is wrong with a topology in the folder `folder`.
pub(crate) fn topology(file: &Plain<Topology>, folder: &str) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    let topology = &file.value;
    if topology.topology.0 != folder {
        problems.push(
            Diagnostic::error(
                code::NAME_OF_FILE,
                format!("the topology `{}` is in the folder `{folder}`", topology.topology),
                at(file, "/topology"),
            )
            .did_you_mean(Some(folder)),
        );
    }
    if topology.summary.trim().is_empty() {
        problems.push(
            Diagnostic::error(code::EMPTY_TEXT, "the summary is empty", at(file, "/summary"))
                .expected("one sentence: what the topology is for"),
        );
    }
    if topology.clusters.is_empty() {
        problems.push(
            Diagnostic::error(code::NO_CLUSTERS, "a topology without clusters", at(file, "/clusters"))
                .expected("at least one cluster: `west: {pod_cidr: 10.10.0.0/16, service_cidr: 10.110.0.0/16}`"),
        );
    }
    for name in topology.clusters.keys() {
        if let Some(fault) = name.fault() {
            let place = file
                .places
                .key(&format!("/clusters/{}", escape(&name.0)))
                .unwrap_or(&file.root);
            problems.push(
                Diagnostic::error(
                    code::NAME_SYNTAX,
                    format!("`{name}` cannot be the name of a cluster"),
                    place.first_line(),
                )
                .label(fault)
                .did_you_mean(name.mended()),
            );
        }
    }
    nodes(file, &mut problems);
    ranges(file, &mut problems);
    links(file, &mut problems);
    lifetimes(file, &mut problems);
    problems
}

/// Shortest life of a workload's certificate. Proxies renew theirs after 70 % of it, no sooner than after 10 s, and clocks may
/// be 20 s apart (Linkerd's `identity.issuer.clockSkewAllowance` and its proxy's shortest refresh).
const SHORTEST_LIFE: Duration = Duration::from_secs(60);

/// Longest life of a certificate: 100 years, the ten times of what Linkerd's documentation gives its roots. GeneralizedTime, in
/// which certificates write dates, ends with the year 9999 (RFC 5280, 4.1.2.5.2), and so do the libraries that make them.
const LONGEST_LIFE: Duration = Duration::from_secs(876_000 * 3600);

/// What is signed ends no later than what signs it.
fn lifetimes(file: &Plain<Topology>, problems: &mut Vec<Diagnostic>) {
    let trust = &file.value.trust;
    let lives = [
        ("workload_lifetime", trust.workload_lifetime),
        ("issuer_lifetime", trust.issuer_lifetime),
        ("root_lifetime", trust.root_lifetime),
    ];
    let place = |field: &str| at(file, &format!("/trust/{field}"));
    let given: Vec<(&str, Duration)> = lives
        .iter()
        .filter_map(|(field, life)| life.map(|life| (*field, life.0)))
        .collect();
    for (field, life) in &given {
        if *life < SHORTEST_LIFE {
            problems.push(
                Diagnostic::error(
                    code::OUT_OF_RANGE,
                    format!("a `{field}` that is too short"),
                    place(field),
                )
                .expected("at least `1m`: certificates are renewed in time, and clocks may differ by some seconds"),
            );
        }
    }
    for (field, life) in &given {
        if *life > LONGEST_LIFE {
            problems.push(
                Diagnostic::error(
                    code::OUT_OF_RANGE,
                    format!("a `{field}` that is too long"),
                    place(field),
                )
                .expected("at most `876000h` (100 years): the dates of certificates end with the year 9999"),
            );
        }
    }
    for pair in given.windows(2) {
        if let [(signed, short), (signer, long)] = pair
            && short > long
        {
            problems.push(
                Diagnostic::error(
                    code::CONTRADICTION,
                    format!("the `{signed}` is longer than the `{signer}`"),
                    place(signed),
                )
                .also(place(signer), "what signs ends here")
                .expected("workload_lifetime ≤ issuer_lifetime ≤ root_lifetime"),
            );
        }
    }
}

fn at(file: &Plain<Topology>, pointer: &str) -> Span {
    file.places.value(pointer).unwrap_or(&file.root).first_line()
}

/// Most nodes of a cluster: what one machine may be asked to hold, and what names of nodes with one digit allow.
const MOST_NODES: u8 = 9;

fn nodes(file: &Plain<Topology>, problems: &mut Vec<Diagnostic>) {
    for (cluster, spec) in &file.value.clusters {
        if let Some(nodes) = spec.nodes.filter(|nodes| !(1..=MOST_NODES).contains(nodes)) {
            problems.push(
                Diagnostic::error(
                    code::OUT_OF_RANGE,
                    format!("`{cluster}` cannot have {nodes} nodes"),
                    at(file, &format!("/clusters/{}/nodes", escape(&cluster.0))),
                )
                .expected(format!(
                    "a number from 1 to {MOST_NODES}, the control plane's node among them"
                )),
            );
        }
    }
}

/// A range of addresses: first address and length of the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u32,
    prefix: u32,
}

impl Range {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "not of the form `10.1.0.0/16`".to_owned();
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let prefix: u32 = prefix.parse().map_err(|_| wrong())?;
        if !(8..=28).contains(&prefix) {
            return Err("the prefix is not from 8 to 28".to_owned());
        }
        let first = u32::from(address);
        let mask = u32::MAX << (32 - prefix);
        if first & !mask != 0 {
            return Err(format!(
                "bits are set behind the prefix; the range begins at {}",
                Ipv4Addr::from(first & mask)
            ));
        }
        Ok(Self { first, prefix })
    }

    fn overlaps(self, other: Self) -> bool {
        let mask = u32::MAX << (32 - self.prefix.min(other.prefix));
        self.first & mask == other.first & mask
    }
}

fn ranges(file: &Plain<Topology>, problems: &mut Vec<Diagnostic>) {
    let mut known: Vec<(String, String, Range)> = Vec::new();
    for (cluster, spec) in &file.value.clusters {
        for (field, text) in [("pod_cidr", &spec.pod_cidr), ("service_cidr", &spec.service_cidr)] {
            let pointer = format!("/clusters/{}/{field}", escape(&cluster.0));
            match Range::parse(text) {
                Err(fault) => problems.push(
                    Diagnostic::error(
                        code::CIDR,
                        format!("`{text}` is no range of addresses"),
                        at(file, &pointer),
                    )
                    .label(fault)
                    .expected("an IPv4 range such as `10.10.0.0/16`"),
                ),
                Ok(range) => {
                    if let Some((other, what, _)) = known.iter().find(|(_, _, other)| other.overlaps(range)) {
                        problems.push(
                            Diagnostic::error(
                                code::CIDR_OVERLAP,
                                format!("the `{field}` of `{cluster}` overlaps {what}"),
                                at(file, &pointer),
                            )
                            .also(at(file, other), "the other range")
                            .help("give every cluster ranges of its own: all of them are disjoint"),
                        );
                    }
                    known.push((pointer, format!("the `{field}` of `{cluster}`"), range));
                }
            }
        }
    }
}

fn links(file: &Plain<Topology>, problems: &mut Vec<Diagnostic>) {
    let clusters: Vec<&str> = file.value.clusters.keys().map(|name| name.0.as_str()).collect();
    for (index, link) in file.value.links.iter().enumerate() {
        let base = format!("/links/{index}");
        for (field, name) in [("from", &link.from), ("to", &link.to)] {
            if !file.value.clusters.contains_key(name) {
                problems.push(
                    Diagnostic::error(
                        code::UNKNOWN_CLUSTER,
                        format!("unknown cluster `{name}`"),
                        at(file, &format!("{base}/{field}")),
                    )
                    .label("not in `clusters`")
                    .expected(list(&clusters))
                    .did_you_mean(closest(&name.0, clusters.iter().copied())),
                );
            }
        }
        if link.from == link.to {
            problems.push(
                Diagnostic::error(
                    code::SELF_LINK,
                    format!("`{}` is linked to itself", link.from),
                    at(file, &base),
                )
                .help("`from` is the cluster that consumes, `to` another one that exports"),
            );
        }
        let same = |other: &LinkSpec| (&other.from, &other.to) == (&link.from, &link.to);
        if let Some(first) = file.value.links.iter().take(index).position(same) {
            problems.push(
                Diagnostic::error(
                    code::DUPLICATE_LINK,
                    format!("the link {} -> {} is written twice", link.from, link.to),
                    at(file, &base),
                )
                .also(at(file, &format!("/links/{first}")), "first here")
                .help("remove one; the other direction is `from` and `to` exchanged"),
            );
        }
        let target = file.value.clusters.get(&link.to);
        let through_gateway = file.value.network == Network::GatewayOnly;
        if through_gateway && target.is_some_and(|cluster| cluster.gateway == Some(false)) {
            problems.push(
                Diagnostic::warning(
                    code::NO_GATEWAY,
                    format!("`{}` has no gateway to be reached through", link.to),
                    at(file, &format!("{base}/to")),
                )
                .also(at(file, &format!("/clusters/{}/gateway", link.to)), "switched off here")
                .help("only exports that need no gateway can be reached over this link"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Range;
    use rstest::rstest;

    #[rstest]
    #[case("10.0.0.0/8", "10.1.0.0/16", true)]
    #[case("10.1.0.0/16", "10.0.0.0/8", true)]
    #[case("10.1.0.0/16", "10.2.0.0/16", false)]
    #[case("10.1.0.0/16", "10.1.0.0/16", true)]
    fn overlaps(#[case] a: &str, #[case] b: &str, #[case] expected: bool) {
        assert_eq!(Range::parse(a).unwrap().overlaps(Range::parse(b).unwrap()), expected);
    }

    #[rstest]
    #[case("10.1.0.0")]
    #[case("10.1.0.0/33")]
    #[case("10.1.0.0/4")]
    #[case("10.1.0.1/16")]
    #[case("10.256.0.0/16")]
    #[case("fd00::/64")]
    fn no_ranges(#[case] text: &str) {
        assert!(Range::parse(text).is_err());
    }
}
