//! What `iptables` and `tc` on a node do to its network: parsing, state, what they print, and which effects follow. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::time::Duration;

use meshproof_cluster::fabric::EffectGuard;

use crate::exchange::{Failure, not_modelled};

/// Chains that packets of other nodes pass.
const CHAINS: [(&str, &[&str]); 2] = [
    ("raw", &["PREROUTING", "OUTPUT"]),
    ("filter", &["INPUT", "FORWARD", "OUTPUT"]),
];
/// The API server's port on a node.
const API_PORT: u16 = 6443;

/// A consequence for the network between clusters, as this node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Consequence {
    /// No packet between this node and that address gets through.
    Cut(Ipv4Addr),
    /// Packets from this node to that address take longer.
    Late(Ipv4Addr, Duration),
    /// Nothing reaches the node's API server from outside of the node.
    ApiUnreachable,
}

/// Rules and queueing disciplines of one node, and the effects in force because of them.
#[derive(Default)]
pub(crate) struct NodeNetwork {
    rules: BTreeMap<(String, String), Vec<Rule>>,
    queues: Queues,
    /// Whether the API server's process was told to stop.
    pub(crate) api_stopped: bool,
    /// Guards of the effects, by what they are the consequence of.
    pub(crate) effects: BTreeMap<Consequence, Vec<EffectGuard>>,
}

/// A rule, as far as modelled.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    source: Option<Ipv4Addr>,
    destination: Option<Ipv4Addr>,
    not_loopback: bool,
    port: Option<u16>,
    comment: Option<String>,
}

/// A prio root with one netem per band, and filters that send addresses to bands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Queues {
    root: bool,
    /// Band → handle and delay.
    late: BTreeMap<u32, (u32, Duration)>,
    /// Band → addresses.
    filters: BTreeMap<u32, Vec<Ipv4Addr>>,
}

impl NodeNetwork {
    /// Forgets everything; effects end.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// What follows from all rules and queues.
    pub(crate) fn consequences(&self) -> BTreeSet<Consequence> {
        let mut found = BTreeSet::new();
        if self.api_stopped {
            found.insert(Consequence::ApiUnreachable);
        }
        for rule in self.rules.values().flatten() {
            if rule.port.is_some() {
                found.insert(Consequence::ApiUnreachable);
            }
            // A packet that is lost in one direction ends the conversation in both.
            found.extend(rule.source.or(rule.destination).map(Consequence::Cut));
        }
        for (band, addresses) in &self.queues.filters {
            if let Some((_, delay)) = self.queues.late.get(band) {
                found.extend(addresses.iter().map(|address| Consequence::Late(*address, *delay)));
            }
        }
        found
    }

    /// Runs `iptables` with these arguments and returns what it prints.
    pub(crate) fn iptables(&mut self, arguments: &[&str]) -> Result<String, Failure> {
        let mut words = arguments.iter().copied().peekable();
        let mut table = "filter";
        loop {
            match words.peek().copied() {
                Some("-w") => {
                    words.next();
                    words.next_if(|word| word.parse::<u32>().is_ok());
                }
                Some("-t") => {
                    words.next();
                    table = words.next().unwrap_or_default();
                }
                _ => break,
            }
        }
        let operation = words.next().unwrap_or_default();
        let chain = words.next().unwrap_or_default();
        if !CHAINS
            .iter()
            .any(|(name, chains)| *name == table && chains.contains(&chain))
        {
            return Err(not_modelled(&format!("iptables table `{table}` chain `{chain}`")));
        }
        let rest: Vec<&str> = words.collect();
        let rules = self.rules.entry((table.to_owned(), chain.to_owned())).or_default();
        match operation {
            "-S" if rest.is_empty() => return Ok(listing(chain, rules)),
            "-I" => rules.insert(0, Rule::parse(&rest, chain)?),
            "-A" => rules.push(Rule::parse(&rest, chain)?),
            "-D" => {
                let rule = Rule::parse(&rest, chain)?;
                let at = rules
                    .iter()
                    .position(|other| *other == rule)
                    .ok_or_else(|| Failure::new("iptables: Bad rule (does a matching rule exist in that chain?)."))?;
                rules.remove(at);
            }
            other => return Err(not_modelled(&format!("`iptables {other}`"))),
        }
        Ok(String::new())
    }

    /// What `iptables-save` prints.
    pub(crate) fn iptables_save(&self) -> String {
        let mut text = String::new();
        for (table, chains) in CHAINS {
            // Writing to a String does not fail.
            let _ = writeln!(text, "# Generated by iptables-save v1.8.9 (nf_tables)\n*{table}");
            for chain in chains {
                let _ = writeln!(text, ":{chain} ACCEPT [0:0]");
            }
            for chain in chains {
                let key = (table.to_owned(), (*chain).to_owned());
                for rule in self.rules.get(&key).into_iter().flatten() {
                    let _ = writeln!(text, "-A {chain}{}", rule.text());
                }
            }
            text.push_str("COMMIT\n");
        }
        text
    }

    /// Runs `tc` with these arguments and returns what it prints.
    pub(crate) fn tc(&mut self, arguments: &[&str]) -> Result<String, Failure> {
        let queues = &mut self.queues;
        match arguments {
            ["qdisc", "show", "dev", "eth0"] => return Ok(queues.listing()),
            [
                "qdisc",
                "add",
                "dev",
                "eth0",
                "root",
                "handle",
                "1:",
                "prio",
                "bands",
                "16",
                "priomap",
                map @ ..,
            ] if map.len() == 16 && map.iter().all(|band| *band == "0") => {
                if queues.root {
                    return Err(tc_error("Error: Exclusivity flag on, cannot modify."));
                }
                queues.root = true;
            }
            [
                "qdisc",
                "add",
                "dev",
                "eth0",
                "parent",
                parent,
                "handle",
                handle,
                "netem",
                "delay",
                delay,
                "limit",
                _,
            ] => {
                let (band, handle) = (band(parent)?, hexadecimal(handle.trim_end_matches(':'))?);
                let delay = microseconds(delay)?;
                if !queues.root {
                    return Err(tc_error("Error: Failed to find specified qdisc."));
                }
                if queues.late.contains_key(&band) {
                    return Err(tc_error("Error: Exclusivity flag on, cannot modify."));
                }
                queues.late.insert(band, (handle, delay));
            }
            [
                "filter",
                "add",
                "dev",
                "eth0",
                "parent",
                "1:",
                "protocol",
                "ip",
                "prio",
                priority,
                "u32",
                "match",
                "ip",
                "dst",
                address,
                "flowid",
                flow,
            ] => {
                let band_of_flow = band(flow)?;
                if !queues.root {
                    return Err(tc_error(
                        "Error: Parent Qdisc doesn't exists.\nWe have an error talking to the kernel",
                    ));
                }
                let address = address
                    .strip_suffix("/32")
                    .and_then(|address| address.parse().ok())
                    .ok_or_else(|| not_modelled(&format!("a tc filter for `{address}`")))?;
                if decimal(priority)? != band_of_flow {
                    return Err(not_modelled("a tc filter whose priority is not its band"));
                }
                queues.filters.entry(band_of_flow).or_default().push(address);
            }
            [
                "filter",
                "del",
                "dev",
                "eth0",
                "parent",
                "1:",
                "protocol",
                "ip",
                "prio",
                priority,
                "u32",
            ] => {
                if queues.filters.remove(&decimal(priority)?).is_none() {
                    return Err(tc_error(
                        "Error: Cannot find specified filter chain.\nWe have an error talking to the kernel",
                    ));
                }
            }
            ["qdisc", "del", "dev", "eth0", "parent", parent, "handle", _] => {
                if queues.late.remove(&band(parent)?).is_none() {
                    return Err(tc_error("Error: Invalid handle."));
                }
            }
            ["qdisc", "del", "dev", "eth0", "root"] => {
                if !std::mem::take(queues).root {
                    return Err(tc_error("Error: Cannot delete qdisc with handle of zero."));
                }
            }
            other => return Err(not_modelled(&format!("`tc {}`", other.join(" ")))),
        }
        Ok(String::new())
    }
}

fn tc_error(message: &str) -> Failure {
    Failure {
        code: 2,
        message: message.to_owned(),
    }
}

fn listing(chain: &str, rules: &[Rule]) -> String {
    let mut text = format!("-P {chain} ACCEPT\n");
    for rule in rules {
        // Writing to a String does not fail.
        let _ = writeln!(text, "-A {chain}{}", rule.text());
    }
    text
}

impl Rule {
    /// A rule that drops what comes from or goes to one address, or what is for the API server.
    fn parse(words: &[&str], chain: &str) -> Result<Self, Failure> {
        let unknown = || not_modelled(&format!("the iptables rule `{chain} {}`", words.join(" ")));
        let address = |text: &str| text.trim_end_matches("/32").parse::<Ipv4Addr>().map_err(|_| unknown());
        let mut rule = Self {
            source: None,
            destination: None,
            not_loopback: false,
            port: None,
            comment: None,
        };
        let mut target = None;
        let mut rest = words;
        loop {
            rest = match rest {
                [] => break,
                ["-s", source, rest @ ..] => {
                    rule.source = Some(address(source)?);
                    rest
                }
                ["-d", destination, rest @ ..] => {
                    rule.destination = Some(address(destination)?);
                    rest
                }
                ["!", "-i", "lo", rest @ ..] => {
                    rule.not_loopback = true;
                    rest
                }
                ["-p", "tcp", rest @ ..] | ["-m", "tcp" | "comment", rest @ ..] => rest,
                ["--dport", port, rest @ ..] => {
                    rule.port = Some(port.parse().map_err(|_| unknown())?);
                    rest
                }
                ["--comment", comment, rest @ ..] => {
                    rule.comment = Some((*comment).to_owned());
                    rest
                }
                ["-j", to, rest @ ..] => {
                    target = Some(*to);
                    rest
                }
                _ => return Err(unknown()),
            };
        }
        let by_address =
            rule.source.is_some() != rule.destination.is_some() && rule.port.is_none() && !rule.not_loopback;
        let api = rule.port == Some(API_PORT)
            && rule.source.is_none()
            && rule.destination.is_none()
            && rule.not_loopback
            && chain == "INPUT";
        if target == Some("DROP") && (by_address || api) {
            Ok(rule)
        } else {
            Err(unknown())
        }
    }

    /// As `iptables -S` prints it, after the chain.
    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        if let Some(source) = self.source {
            let _ = write!(text, " -s {source}/32");
        }
        if let Some(destination) = self.destination {
            let _ = write!(text, " -d {destination}/32");
        }
        if self.not_loopback {
            text.push_str(" ! -i lo");
        }
        if let Some(port) = self.port {
            let _ = write!(text, " -p tcp -m tcp --dport {port}");
        }
        if let Some(comment) = &self.comment {
            let _ = write!(text, " -m comment --comment {comment}");
        }
        text.push_str(" -j DROP");
        text
    }
}

impl Queues {
    fn listing(&self) -> String {
        if !self.root {
            return "qdisc noqueue 0: root refcnt 2\n".to_owned();
        }
        let mut text = format!("qdisc prio 1: root refcnt 2 bands 16 priomap {}\n", ["0"; 16].join(" "));
        for (band, (handle, delay)) in &self.late {
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "qdisc netem {handle:x}: parent 1:{band:x} limit 100000 delay {}ms",
                delay.as_secs_f64() * 1000.0
            );
        }
        text
    }
}

/// `1:a` as 10.
fn band(class: &str) -> Result<u32, Failure> {
    let band = class.strip_prefix("1:").map(hexadecimal);
    band.unwrap_or_else(|| Err(not_modelled(&format!("the tc class `{class}`"))))
}

fn hexadecimal(text: &str) -> Result<u32, Failure> {
    u32::from_str_radix(text, 16).map_err(|_| not_modelled(&format!("the tc handle `{text}`")))
}

fn decimal(text: &str) -> Result<u32, Failure> {
    text.parse()
        .map_err(|_| not_modelled(&format!("the tc priority `{text}`")))
}

fn microseconds(text: &str) -> Result<Duration, Failure> {
    text.strip_suffix("us")
        .and_then(|number| number.parse().ok())
        .map(Duration::from_micros)
        .ok_or_else(|| not_modelled(&format!("the tc delay `{text}`")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Consequence, NodeNetwork};

    fn words(line: &str) -> Vec<&str> {
        line.split(' ').collect()
    }

    #[test]
    fn a_partition_comes_and_goes_with_its_rule() {
        let mut node = NodeNetwork::default();
        let rule = "-w 10 -t raw -I PREROUTING -s 172.18.0.3 -m comment --comment meshproof-partition-1 -j DROP";
        node.iptables(&words(rule)).unwrap();
        assert_eq!(
            node.iptables(&words("-w 10 -t raw -S PREROUTING")).unwrap(),
            "-P PREROUTING ACCEPT\n-A PREROUTING -s 172.18.0.3/32 -m comment --comment meshproof-partition-1 -j DROP\n"
        );
        assert!(node.iptables_save().contains("--comment meshproof-partition-1"));
        assert_eq!(
            Vec::from_iter(node.consequences()),
            [Consequence::Cut([172, 18, 0, 3].into())]
        );
        let removal = rule.replace("-I", "-D");
        node.iptables(&words(&removal)).unwrap();
        assert!(node.consequences().is_empty());
        let again = node.iptables(&words(&removal)).unwrap_err();
        assert_eq!((again.code, again.message.contains("Bad rule")), (1, true));
    }

    #[test]
    fn a_pause_is_a_rule_about_the_api_servers_port() {
        let mut node = NodeNetwork::default();
        let rule = "-w 10 -t filter -I INPUT ! -i lo -p tcp --dport 6443 -m comment --comment t -j DROP";
        node.iptables(&words(rule)).unwrap();
        assert_eq!(Vec::from_iter(node.consequences()), [Consequence::ApiUnreachable]);
        let printed = node.iptables(&words("-w 10 -t filter -S INPUT")).unwrap();
        assert!(printed.contains("! -i lo -p tcp -m tcp --dport 6443 -m comment --comment t -j DROP"));
    }

    #[test]
    fn a_delay_needs_root_netem_and_filter() {
        let mut node = NodeNetwork::default();
        let root = "qdisc add dev eth0 root handle 1: prio bands 16 priomap 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0";
        let late = "qdisc add dev eth0 parent 1:a handle a0: netem delay 150000us limit 100000";
        let filter = "filter add dev eth0 parent 1: protocol ip prio 10 u32 match ip dst 172.18.0.3/32 flowid 1:a";
        assert_eq!(node.tc(&words(late)).unwrap_err().code, 2);
        node.tc(&words(root)).unwrap();
        assert_eq!(node.tc(&words(root)).unwrap_err().code, 2);
        node.tc(&words(late)).unwrap();
        assert!(node.consequences().is_empty(), "no packet is sent to the band yet");
        node.tc(&words(filter)).unwrap();
        let delayed = Consequence::Late([172, 18, 0, 3].into(), Duration::from_millis(150));
        assert_eq!(Vec::from_iter(node.consequences()), [delayed]);
        assert!(
            node.tc(&words("qdisc show dev eth0"))
                .unwrap()
                .contains("netem a0: parent 1:a")
        );
        node.tc(&words("filter del dev eth0 parent 1: protocol ip prio 10 u32"))
            .unwrap();
        node.tc(&words("qdisc del dev eth0 parent 1:a handle a0:")).unwrap();
        assert!(!node.tc(&words("qdisc show dev eth0")).unwrap().contains("netem"));
        node.tc(&words("qdisc del dev eth0 root")).unwrap();
        assert_eq!(node.tc(&words("qdisc del dev eth0 root")).unwrap_err().code, 2);
    }

    #[test]
    fn what_has_no_effect_here_is_refused() {
        let mut node = NodeNetwork::default();
        for line in [
            "-t nat -A PREROUTING -s 172.18.0.3 -j DROP",
            "-A INPUT -s 172.18.0.3 -j ACCEPT",
            "-A INPUT -p tcp --dport 4143 -j DROP",
            "-A INPUT -s 10.0.0.0/8 -j DROP",
            "-F INPUT",
        ] {
            assert_eq!(node.iptables(&words(line)).unwrap_err().code, 126, "{line}");
        }
        assert_eq!(
            node.tc(&words("qdisc add dev eth0 root netem loss 1%"))
                .unwrap_err()
                .code,
            126
        );
    }
}
