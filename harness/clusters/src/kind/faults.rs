//! Faults inside of nodes. A node is a container with the tools of a Linux router, so nothing has to be installed.
//!
//! * **Partition**: packets that arrive from the peer's nodes are dropped in `raw PREROUTING`, before connection tracking and
//!   address translation, so that it does not matter whether they are for the node, a pod or a forwarded Service, or belong
//!   to a connection that exists. Pods' packets count too: kind's network plugin gives them their node's address when they
//!   leave for another cluster.
//! * **Paused API server**: packets to port 6443 are dropped at the control plane's node, except those of the node itself.
//!   `docker pause` would stop all pods of a single-node cluster. Stopping the process (`SIGSTOP`) is undone by the kubelet's
//!   liveness probe after some two minutes. Moving the static pod's manifest away takes up to 20 s to act, as long to come
//!   back, and refuses connections where a paused server is silent. With the node's own components cut off as well, the
//!   controller manager and the scheduler lose their leases, exit, and come back with a back-off of up to 5 minutes, long
//!   after the fault.
//! * A fault ends with the harness, however that ends: see [`super::dead_man`].
//! * **Delay**: `netem` in a band of its own on the way out, into which a filter puts only packets to the peer's nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kube::Client;
use meshproof_engine::environment::NetworkFault;
use meshproof_engine::problem::{self, Problem};
use meshproof_engine::tool::{Invocation, Tools};
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;

use super::answers::{self, Node};
use super::commands::{Commands, handle};
use super::dead_man::DeadMan;

/// Bands for delays: the first is everybody's, and there are 16.
const BANDS: std::ops::RangeInclusive<u8> = 2..=16;
/// Between two looks at whether an API server answers.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// For one look.
const ONE_LOOK: Duration = Duration::from_secs(2);

/// What the faults of an environment share.
#[derive(Debug)]
pub(super) struct FaultContext {
    pub(super) tools: Tools,
    pub(super) commands: Commands,
    /// Where healing goes on after a fault was dropped.
    pub(super) tracker: TaskTracker,
    /// Bands in use, by node.
    bands: Mutex<BTreeMap<String, BTreeSet<u8>>>,
    count: AtomicU32,
}

impl FaultContext {
    pub(super) fn new(tools: Tools, commands: Commands, tracker: TaskTracker) -> Self {
        Self {
            tools,
            commands,
            tracker,
            bands: Mutex::default(),
            count: AtomicU32::default(),
        }
    }

    /// A comment that no other rule has.
    fn tag(&self, fault: &str) -> String {
        format!("meshproof-{fault}-{}", self.count.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// A packet filter's rule.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    node: String,
    table: &'static str,
    chain: &'static str,
    matches: Vec<String>,
    target: &'static str,
}

impl Rule {
    /// The command that puts it in front (`-I`) or removes it (`-D`). `-w`: kube-proxy holds the lock now and then.
    fn command(&self, commands: &Commands, verb: &str, tag: &str) -> Invocation {
        let mut arguments = vec!["iptables", "-w", "10", "-t", self.table, verb, self.chain];
        arguments.extend(self.matches.iter().map(String::as_str));
        arguments.extend(["-m", "comment", "--comment", tag, "-j", self.target]);
        commands.exec(&self.node, arguments)
    }

    fn listing(&self, commands: &Commands) -> Invocation {
        commands.exec(&self.node, ["iptables", "-w", "10", "-t", self.table, "-S", self.chain])
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(ToOwned::to_owned).collect()
}

/// Rules that let all packets between two sets of nodes vanish.
fn partition_rules(one: &[Node], other: &[Node]) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (here, there) in [(one, other), (other, one)] {
        for node in here {
            rules.extend(there.iter().map(|peer| Rule {
                node: node.name.clone(),
                table: "raw",
                chain: "PREROUTING",
                matches: words(&format!("-s {}", peer.address)),
                target: "DROP",
            }));
        }
    }
    rules
}

/// Rules that keep everybody but the cluster's own nodes from its API server, in the order in which they are put in front of
/// each other.
fn pause_rules(nodes: &[Node]) -> Vec<Rule> {
    let rule = |node: &Node, chain, matches: String, target| Rule {
        node: node.name.clone(),
        table: "filter",
        chain,
        matches: words(&matches),
        target,
    };
    let mut rules = Vec::new();
    for control_plane in nodes.iter().filter(|node| node.control_plane) {
        rules.push(rule(
            control_plane,
            "INPUT",
            "! -i lo -p tcp --dport 6443".to_owned(),
            "DROP",
        ));
        for worker in nodes.iter().filter(|node| !node.control_plane) {
            let from = format!("-s {} -p tcp --dport 6443", worker.address);
            rules.push(rule(control_plane, "INPUT", from, "ACCEPT"));
            // Pods there have their node's address by the time they arrive, so they are stopped on the way out.
            let to = format!("-d {} -p tcp --dport 6443", control_plane.address);
            rules.push(rule(worker, "FORWARD", to, "DROP"));
        }
    }
    rules
}

/// Rules that are in force.
struct Rules {
    context: Arc<FaultContext>,
    tag: String,
    rules: Vec<Rule>,
}

impl Rules {
    async fn impose(&self) -> Result<(), Problem> {
        let FaultContext { tools, commands, .. } = &*self.context;
        for rule in &self.rules {
            tools.run(&rule.command(commands, "-I", &self.tag)).await?;
        }
        for rule in &self.rules {
            if !self.listed(rule).await? {
                return Err(problem::environment(
                    "fault-not-imposed",
                    format!("{} is not among the rules of {} {}", self.tag, rule.node, rule.chain),
                    Some("see `docker exec <node> iptables-save`"),
                ));
            }
        }
        Ok(())
    }

    /// The commands that remove them.
    fn removal(&self) -> Vec<Invocation> {
        let remove = |rule: &Rule| rule.command(&self.context.commands, "-D", &self.tag);
        self.rules.iter().rev().map(remove).collect()
    }

    async fn undo(&self) -> Result<(), Problem> {
        let FaultContext { tools, .. } = &*self.context;
        for command in self.removal() {
            // One that was never put in can't be removed; what counts is what is listed afterwards.
            tools.try_run(&command).await?;
        }
        for rule in &self.rules {
            if self.listed(rule).await? {
                return Err(not_healed(&rule.node, &self.tag));
            }
        }
        Ok(())
    }

    async fn listed(&self, rule: &Rule) -> Result<bool, Problem> {
        let asked = rule.listing(&self.context.commands);
        let answer = self.context.tools.run(&asked).await?;
        Ok(answers::has_rule(&answer.stdout, &self.tag))
    }
}

/// A fault made of packet filter rules.
struct Filtered {
    rules: Arc<Rules>,
    healed: AtomicBool,
    /// Of a cluster whose API server must answer again, and how long that may take.
    resumes: Option<(String, Client, Duration)>,
    /// Removes the rules when this process can't.
    dead_man: Mutex<DeadMan>,
}

/// Lets all packets between the nodes of two clusters vanish.
pub(super) async fn partition(
    context: &Arc<FaultContext>,
    one: &[Node],
    other: &[Node],
) -> Result<Box<dyn NetworkFault>, Problem> {
    filter(context, "partition", partition_rules(one, other), None).await
}

/// Keeps everybody but its own nodes from a cluster's API server.
pub(super) async fn pause_api(
    context: &Arc<FaultContext>,
    cluster: &str,
    client: &Client,
    nodes: &[Node],
    resume: Duration,
) -> Result<Box<dyn NetworkFault>, Problem> {
    let resumes = Some((cluster.to_owned(), client.clone(), resume));
    filter(context, "pause-api", pause_rules(nodes), resumes).await
}

async fn filter(
    context: &Arc<FaultContext>,
    name: &str,
    rules: Vec<Rule>,
    resumes: Option<(String, Client, Duration)>,
) -> Result<Box<dyn NetworkFault>, Problem> {
    let rules = Rules {
        context: Arc::clone(context),
        tag: context.tag(name),
        rules,
    };
    let dead_man = DeadMan::arm(&context.tools, &context.commands, &rules.removal()).await?;
    // It exists before its rules do: whatever happens from here on, dropping it removes them.
    let fault = Filtered {
        rules: Arc::new(rules),
        healed: AtomicBool::new(false),
        resumes,
        dead_man: Mutex::new(dead_man),
    };
    fault.rules.impose().await?;
    Ok(Box::new(fault))
}

#[async_trait]
impl NetworkFault for Filtered {
    async fn heal(&self) -> Result<(), Problem> {
        self.rules.undo().await?;
        std::mem::take(&mut *self.dead_man.lock().await).end().await;
        self.healed.store(true, Ordering::Relaxed);
        let Some((cluster, client, within)) = &self.resumes else {
            return Ok(());
        };
        let answers = async {
            loop {
                if let Ok(Ok(_)) = tokio::time::timeout(ONE_LOOK, client.apiserver_version()).await {
                    break;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(*within, answers).await.map_err(|_| {
            problem::environment(
                "api-not-back",
                format!(
                    "cluster {cluster}: the API server does not answer {} s after its pause",
                    within.as_secs()
                ),
                Some("see `docker logs` of its control-plane node"),
            )
        })
    }
}

impl Drop for Filtered {
    fn drop(&mut self) {
        if !self.healed.load(Ordering::Relaxed) {
            let rules = Arc::clone(&self.rules);
            in_background(&self.rules.context, async move { rules.undo().await });
        }
    }
}

/// Where packets are delayed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    node: String,
    band: u8,
}

/// A delay that is in force.
struct Delays {
    context: Arc<FaultContext>,
    places: Mutex<Vec<Place>>,
    /// Remove them when this process can't.
    dead_men: Mutex<Vec<DeadMan>>,
}

impl Delays {
    async fn impose(&self, from: &[Node], to: &[Ipv4Addr], by: Duration) -> Result<(), Problem> {
        let FaultContext { tools, commands, .. } = &*self.context;
        let mut bands = self.context.bands.lock().await;
        let mut places = self.places.lock().await;
        for node in from {
            let used = bands.entry(node.name.clone()).or_default();
            let first = used.is_empty();
            let band = BANDS.into_iter().find(|band| !used.contains(band)).ok_or_else(|| {
                problem::environment(
                    "too-many-delays",
                    format!("node {} has no band left for another delay", node.name),
                    Some("heal some of the delays first"),
                )
            })?;
            used.insert(band);
            places.push(Place {
                node: node.name.clone(),
                band,
            });
            // Bands that another delay still uses stay; without a delay in them they change nothing.
            let healing = [
                commands.remove_filters(&node.name, band),
                commands.remove_delay(&node.name, band),
            ];
            let dead_man = DeadMan::arm(tools, commands, &healing).await?;
            self.dead_men.lock().await.push(dead_man);
            if first {
                tools.run(&commands.add_bands(&node.name)).await?;
            }
            tools.run(&commands.add_delay(&node.name, band, by)).await?;
            for address in to {
                tools.run(&commands.add_filter(&node.name, band, *address)).await?;
            }
        }
        for place in places.iter() {
            if !self.listed(place).await? {
                return Err(problem::environment(
                    "fault-not-imposed",
                    format!("node {} does not show the delay", place.node),
                    Some("see `docker exec <node> tc qdisc show`; the kernel needs the module sch_netem"),
                ));
            }
        }
        Ok(())
    }

    async fn undo(&self) -> Result<(), Problem> {
        let FaultContext { tools, commands, .. } = &*self.context;
        let mut bands = self.context.bands.lock().await;
        let mut places = self.places.lock().await;
        // Before their bands are free for others.
        for dead_man in std::mem::take(&mut *self.dead_men.lock().await) {
            dead_man.end().await;
        }
        while let Some(place) = places.last().cloned() {
            // What was never put in can't be removed; what counts is what is listed afterwards.
            tools.try_run(&commands.remove_filters(&place.node, place.band)).await?;
            tools.try_run(&commands.remove_delay(&place.node, place.band)).await?;
            if self.listed(&place).await? {
                return Err(not_healed(&place.node, &format!("netem {}", handle(place.band))));
            }
            let used = bands.entry(place.node.clone()).or_default();
            if used.len() == 1 {
                tools.try_run(&commands.remove_bands(&place.node)).await?;
            }
            used.remove(&place.band);
            places.pop();
        }
        Ok(())
    }

    async fn listed(&self, place: &Place) -> Result<bool, Problem> {
        let asked = self.context.commands.disciplines(&place.node);
        let answer = self.context.tools.run(&asked).await?;
        Ok(answers::has_netem(&answer.stdout, &handle(place.band)))
    }
}

struct Delayed {
    delays: Arc<Delays>,
    healed: AtomicBool,
}

/// Delays everything that nodes of one cluster send to those of another.
pub(super) async fn delay(
    context: &Arc<FaultContext>,
    from: &[Node],
    to: &[Node],
    by: Duration,
) -> Result<Box<dyn NetworkFault>, Problem> {
    let fault = Delayed {
        delays: Arc::new(Delays {
            context: Arc::clone(context),
            places: Mutex::default(),
            dead_men: Mutex::default(),
        }),
        healed: AtomicBool::new(false),
    };
    let to: Vec<Ipv4Addr> = to.iter().map(|node| node.address).collect();
    fault.delays.impose(from, &to, by).await?;
    Ok(Box::new(fault))
}

#[async_trait]
impl NetworkFault for Delayed {
    async fn heal(&self) -> Result<(), Problem> {
        self.delays.undo().await?;
        self.healed.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Delayed {
    fn drop(&mut self) {
        if !self.healed.load(Ordering::Relaxed) {
            let delays = Arc::clone(&self.delays);
            in_background(&self.delays.context, async move { delays.undo().await });
        }
    }
}

fn in_background(context: &FaultContext, undo: impl Future<Output = Result<(), Problem>> + Send + 'static) {
    // Without a runtime the process is about to end; the clusters are removed, or not taken over with a fault in them.
    if tokio::runtime::Handle::try_current().is_ok() {
        context.tracker.spawn(async move {
            if let Err(problem) = undo.await {
                tracing::warn!(
                    problem = problem.message,
                    "a fault that was dropped may still be in force"
                );
            }
        });
    }
}

fn not_healed(node: &str, what: &str) -> Problem {
    problem::environment(
        "fault-not-healed",
        format!("{what} is still in force on {node}"),
        Some("bring the clusters down: the fault goes with them"),
    )
}

#[cfg(test)]
mod tests {
    use meshproof_engine::tool::Invocation;

    use super::{Node, Rule, partition_rules, pause_rules};
    use crate::kind::KindOptions;
    use crate::kind::commands::Commands;

    fn nodes(cluster: &str, addresses: &[u8]) -> Vec<Node> {
        addresses
            .iter()
            .enumerate()
            .map(|(index, last)| Node {
                name: if index == 0 {
                    format!("{cluster}-control-plane")
                } else {
                    format!("{cluster}-worker")
                },
                address: [172, 18, 0, *last].into(),
                control_plane: index == 0,
            })
            .collect()
    }

    fn printed(rules: &[Rule], verb: &str) -> String {
        let commands = Commands::new(&KindOptions::new("/configs", "/state"));
        let lines: Vec<String> = rules
            .iter()
            .map(|rule| Invocation::to_string(&rule.command(&commands, verb, "meshproof-fault-1")))
            .collect();
        lines.join("\n")
    }

    #[test]
    fn both_sides_of_a_partition_drop_what_arrives() {
        insta::assert_snapshot!(printed(
            &partition_rules(&nodes("west", &[2]), &nodes("east", &[3, 4])),
            "-I"
        ));
    }

    #[test]
    fn a_paused_api_server_still_serves_its_own_nodes() {
        insta::assert_snapshot!(printed(&pause_rules(&nodes("west", &[2, 5])), "-I"));
        insta::assert_snapshot!(printed(&pause_rules(&nodes("west", &[2])), "-D"));
    }

    #[test]
    fn delays_get_a_band_of_their_own() {
        let commands = Commands::new(&KindOptions::new("/configs", "/state"));
        let by = std::time::Duration::from_millis(150);
        let lines = [
            commands.add_bands("west"),
            commands.add_delay("west", 2, by),
            commands.add_filter("west", 2, [172, 18, 0, 3].into()),
            commands.add_delay("west", 10, by),
            commands.add_filter("west", 10, [172, 18, 0, 4].into()),
            commands.disciplines("west"),
            commands.remove_filters("west", 10),
            commands.remove_delay("west", 10),
            commands.remove_bands("west"),
        ];
        insta::assert_snapshot!(lines.map(|line| line.to_string()).join("\n"));
    }
}
