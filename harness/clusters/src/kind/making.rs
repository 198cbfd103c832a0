//! Making clusters, or taking them over from an earlier run.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use k8s_openapi::api::core::v1::Node as KubeNode;
use kube::api::{Api, ListParams};
use kube::config::Kubeconfig;
use kube::{Client, ResourceExt as _};
use meshproof_engine::environment::Cluster;
use meshproof_engine::problem::{self, Problem};
use meshproof_engine::tool::{Invocation, Tools, failed};
use meshproof_kubeconfig::Proxies;

use super::answers::{self, Node};
use super::blueprint::{Blueprint, ClusterBlueprint};
use super::caches;
use super::clearing;
use super::commands::Commands;
use super::config;
use super::contents::{Contents, Note};
use super::options::KindOptions;
use super::record::{self, Claim, Record, RecordedCluster};
use super::removal::{self, Certainty};

/// Between two looks at whether nodes are ready.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// For one look.
const ONE_LOOK: Duration = Duration::from_secs(10);

/// Clusters that are up.
pub(super) struct Made {
    /// In the topology's order.
    pub(super) clusters: Vec<Cluster>,
    /// Nodes of each cluster, the control plane's first.
    pub(super) nodes: BTreeMap<String, Vec<Node>>,
}

/// What is needed to make clusters.
pub(super) struct Maker<'a> {
    pub(super) options: &'a KindOptions,
    pub(super) tools: &'a Tools,
    pub(super) commands: &'a Commands,
    pub(super) blueprint: &'a Blueprint,
    /// Whether anything was changed: then it has to be removed again when it fails.
    pub(super) begun: AtomicBool,
    /// What people should know although nothing failed.
    pub(super) notes: &'a Mutex<Vec<String>>,
}

impl Maker<'_> {
    /// Makes the clusters, or takes them over. From the moment at which something may exist, the claim's record names it;
    /// removing it again when this fails or is dropped is up to the caller, who sees by [`Maker::begun`] whether it must.
    ///
    /// # Errors
    /// What went wrong first.
    pub(super) async fn make(&self, claim: &Claim) -> Result<Made, Problem> {
        let asked = self.commands.version();
        let version = answers::kind_version(&asked, &self.tools.run(&asked).await?.stdout)?;
        let subnets = network_subnets(self.tools, self.commands).await?;
        self.blueprint.check_disjoint(subnets.as_deref().unwrap_or_default())?;
        let digest = format!("{} {version}", self.blueprint.digest);
        if let Some(earlier) = claim.record()? {
            match self.take_over(&earlier, &digest).await {
                Ok(made) => return Ok(made),
                Err(why) => self.not_taken_over(&earlier.environment, &why),
            }
            self.begun.store(true, Ordering::Relaxed);
            removal::clusters(self.tools, self.commands, &earlier, Certainty::Ended).await?;
        }
        self.check_free().await?;
        self.begun.store(true, Ordering::Relaxed);
        if subnets.is_none() {
            record::mark_network(&self.options.state, &self.blueprint.network)?;
        }
        let mut record = self.record(digest);
        claim.write_record(&record)?;
        self.create().await?;
        if subnets.is_none() {
            // Docker chose them only now.
            let subnets = network_subnets(self.tools, self.commands).await?;
            self.blueprint.check_disjoint(&subnets.unwrap_or_default())?;
        }
        let nodes = self.nodes().await?;
        for (cluster, recorded) in self.blueprint.clusters.iter().zip(&mut record.clusters) {
            recorded.set_nodes(nodes.get(&cluster.name).map(Vec::as_slice).unwrap_or_default());
        }
        claim.write_record(&record)?;
        self.caches().await?;
        self.mirrors().await?;
        let made = self.finish(nodes).await?;
        let notes = join_all(made.clusters.iter().map(note)).await;
        for (recorded, note) in record.clusters.iter_mut().zip(notes) {
            recorded.contents = Some(note?);
        }
        record.complete = true;
        claim.write_record(&record)?;
        Ok(made)
    }

    fn record(&self, digest: String) -> Record {
        let clusters = self.blueprint.clusters.iter().map(|cluster| RecordedCluster {
            kind_name: cluster.kind_name.clone(),
            kubeconfig: cluster.kubeconfig_path.clone(),
            nodes: Vec::new(),
            contents: None,
        });
        Record {
            environment: self.blueprint.environment.clone(),
            network: self.blueprint.network.clone(),
            digest,
            complete: false,
            kept: self.options.keep,
            clusters: clusters.collect(),
        }
    }

    fn not_taken_over(&self, environment: &str, why: &str) {
        tracing::info!(environment, why, "earlier clusters are not taken over");
        if self.options.reuse {
            let note = format!("clusters of {environment} are made anew: {why}");
            self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(note);
        }
    }

    /// Whether the names are free: a cluster that no record of ours knows is not ours to remove.
    async fn check_free(&self) -> Result<(), Problem> {
        let asked = self.commands.clusters();
        let there = answers::names(&asked, &self.tools.run(&asked).await?.stdout)?;
        let taken: Vec<String> = self
            .blueprint
            .kind_names()
            .into_iter()
            .filter(|name| there.contains(name))
            .collect();
        if taken.is_empty() {
            return Ok(());
        }
        Err(problem::environment(
            "cluster-exists",
            format!(
                "kind has clusters with these names already, which {} knows nothing of: {}",
                self.options.state.display(),
                taken.join(", ")
            ),
            Some(
                "if nobody needs them: `meshproof gc`, or `kind delete cluster --name <cluster>`; otherwise use another prefix",
            ),
        ))
    }

    async fn create(&self) -> Result<(), Problem> {
        for cluster in &self.blueprint.clusters {
            record::write_private(&cluster.config_path, &cluster.config)?;
        }
        // All are waited for, also when one fails: kind removes what it began, and nothing is made behind our back.
        let creating = self
            .blueprint
            .clusters
            .iter()
            .map(|cluster| self.commands.create(cluster));
        self.all(creating.collect()).await
    }

    /// Runs commands at once and waits for all of them.
    async fn all(&self, commands: Vec<Invocation>) -> Result<(), Problem> {
        let ended = join_all(commands.iter().map(|command| self.tools.run(command))).await;
        ended.into_iter().collect::<Result<Vec<_>, _>>().map(drop)
    }

    async fn nodes(&self) -> Result<BTreeMap<String, Vec<Node>>, Problem> {
        try_join_all(self.blueprint.clusters.iter().map(|cluster| async move {
            let asked = self.commands.inspect_nodes(&cluster.nodes);
            let answer = self.tools.run(&asked).await?.stdout;
            let nodes = answers::nodes(&asked, &answer, &cluster.nodes, &self.blueprint.network)?;
            Ok((cluster.name.clone(), nodes))
        }))
        .await
        .map(|nodes| nodes.into_iter().collect())
    }

    /// Caches are on the docker network, which is there when a cluster is.
    async fn caches(&self) -> Result<(), Problem> {
        let blueprint = self.blueprint;
        caches::start(
            self.tools,
            self.commands,
            self.options,
            &blueprint.environment,
            &blueprint.caches,
        )
        .await
    }

    async fn mirrors(&self) -> Result<(), Problem> {
        for node in self.blueprint.clusters.iter().flat_map(|cluster| &cluster.nodes) {
            for (registry, url) in &self.blueprint.mirrors {
                for command in self.commands.mirror(node, registry, config::hosts_toml(url)) {
                    self.tools.run(&command).await?;
                }
            }
        }
        Ok(())
    }

    /// What is done with new clusters and with those that are taken over.
    async fn finish(&self, nodes: BTreeMap<String, Vec<Node>>) -> Result<Made, Problem> {
        let clusters = try_join_all(self.blueprint.clusters.iter().map(|cluster| async {
            self.load(cluster).await?;
            let nodes = nodes.get(&cluster.name).map(Vec::as_slice).unwrap_or_default();
            let made = engine_cluster(cluster, nodes).await?;
            self.await_nodes(&made, cluster.nodes.len()).await?;
            Ok::<_, Problem>(made)
        }))
        .await?;
        let made = Made { clusters, nodes };
        if self.blueprint.flat {
            self.routes(&made).await?;
        }
        Ok(made)
    }

    async fn load(&self, cluster: &ClusterBlueprint) -> Result<(), Problem> {
        let images = self.options.loaded();
        if !images.is_empty() {
            self.tools
                .run(&self.commands.load_images(&cluster.kind_name, &images))
                .await?;
        }
        for archive in &self.options.archives {
            self.tools
                .run(&self.commands.load_archive(&cluster.kind_name, archive))
                .await?;
        }
        Ok(())
    }

    /// Waits until all nodes are ready: kind itself only warns when they are not in time.
    async fn await_nodes(&self, cluster: &Cluster, number: usize) -> Result<(), Problem> {
        let deadline = tokio::time::Instant::now() + self.options.waits.nodes;
        loop {
            let why = match tokio::time::timeout(ONE_LOOK, kube_nodes(&cluster.client)).await {
                Ok(Ok(nodes)) => {
                    let ready = nodes.iter().filter(|node| is_ready(node)).count();
                    if ready >= number {
                        return Ok(());
                    }
                    format!("{ready} of {number} nodes are ready")
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the API server does not answer".to_owned(),
            };
            if tokio::time::Instant::now() >= deadline {
                let seconds = self.options.waits.nodes.as_secs();
                return Err(problem::environment(
                    "nodes-not-ready",
                    format!(
                        "cluster {}: not ready {seconds} s after it was created: {why}",
                        cluster.name
                    ),
                    Some("see whether the machine is short of memory or inotify instances: `meshproof doctor`"),
                ));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Leads to the pods of all other clusters through their nodes.
    async fn routes(&self, made: &Made) -> Result<(), Problem> {
        let mut pods: Vec<(&str, String, String)> = Vec::new();
        for cluster in &made.clusters {
            let listed = kube_nodes(&cluster.client).await.map_err(|error| {
                problem::environment("api-unreachable", format!("cluster {}: {error}", cluster.name), None)
            })?;
            for node in made.nodes.get(&cluster.name).into_iter().flatten() {
                let range = listed
                    .iter()
                    .find(|listed| listed.name_any() == node.name)
                    .and_then(|listed| listed.spec.as_ref()?.pod_cidr.clone());
                let range = range.ok_or_else(|| {
                    problem::environment(
                        "no-pod-range",
                        format!("node {} has no spec.podCIDR, so that no route to its pods can be made", node.name),
                        Some("use kind's own network plugin (no disableDefaultCNI), or a topology without `network: flat`"),
                    )
                })?;
                pods.push((&cluster.name, range, node.address.to_string()));
            }
        }
        for (cluster, nodes) in &made.nodes {
            for node in nodes {
                for (_, range, via) in pods.iter().filter(|(of, ..)| of != cluster) {
                    self.tools.run(&self.commands.route(&node.name, range, via)).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes clusters over that an earlier run left up, or tells why not.
    async fn take_over(&self, earlier: &Record, digest: &str) -> Result<Made, String> {
        if !self.options.reuse {
            return Err("it was not asked for".to_owned());
        }
        if !earlier.complete {
            return Err("they were never finished".to_owned());
        }
        if earlier.digest != digest {
            return Err("what they were made from has changed".to_owned());
        }
        let notes: Option<Vec<&Note>> = earlier.clusters.iter().map(|one| one.contents.as_ref()).collect();
        let notes = notes.ok_or("what was in them when they were new is not known: another version made them")?;
        let nodes = self.nodes().await.map_err(|problem| problem.message)?;
        for (cluster, recorded) in self.blueprint.clusters.iter().zip(&earlier.clusters) {
            let mut now = recorded.clone();
            now.set_nodes(nodes.get(&cluster.name).map(Vec::as_slice).unwrap_or_default());
            if now != *recorded {
                // Docker gives addresses anew when it starts, and certificates and kubeconfigs hold the old ones.
                return Err(format!("addresses of nodes of {} have changed", cluster.name));
            }
        }
        for node in nodes.values().flatten() {
            for asked in [
                self.commands.all_rules(&node.name),
                self.commands.disciplines(&node.name),
            ] {
                let answer = self.tools.run(&asked).await.map_err(|problem| problem.message)?;
                if let Some(trace) = answers::traces_of_faults(&answer.stdout).first() {
                    return Err(format!("a fault is still in force on {}: {trace}", node.name));
                }
            }
        }
        self.caches().await.map_err(|problem| problem.message)?;
        let made = self.finish(nodes).await.map_err(|problem| problem.message)?;
        let within = self.options.waits.clear;
        let cleared = made
            .clusters
            .iter()
            .zip(notes)
            .map(|(cluster, note)| clearing::clear(cluster, note, within));
        join_all(cleared).await.into_iter().collect::<Result<(), String>>()?;
        Ok(made)
    }
}

/// What is in a cluster that is new.
async fn note(cluster: &Cluster) -> Result<Note, Problem> {
    Ok(Contents::of(&clearing::requests(), cluster).await?.note())
}

/// Subnets of the docker network; `None` when there is no such network yet.
///
/// # Errors
/// When docker says something else.
pub(super) async fn network_subnets(
    tools: &Tools,
    commands: &Commands,
) -> Result<Option<Vec<ipnet::Ipv4Net>>, Problem> {
    let asked = commands.inspect_network();
    let output = tools.try_run(&asked).await?;
    if output.success() {
        answers::subnets(&asked, &output.stdout).map(Some)
    } else if removal::is_absent(&output.stderr) {
        Ok(None)
    } else {
        Err(failed(&asked, &output))
    }
}

async fn kube_nodes(client: &Client) -> Result<Vec<KubeNode>, kube::Error> {
    let nodes: Api<KubeNode> = Api::all(client.clone());
    Ok(nodes.list(&ListParams::default()).await?.items)
}

fn is_ready(node: &KubeNode) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref());
    conditions
        .unwrap_or_default()
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

async fn engine_cluster(cluster: &ClusterBlueprint, nodes: &[Node]) -> Result<Cluster, Problem> {
    let path = &cluster.kubeconfig_path;
    let unusable = |error: String| {
        problem::environment(
            "kubeconfig-unusable",
            format!("{}: {error}", path.display()),
            Some("check kind's version with `meshproof doctor`"),
        )
    };
    let control_plane = nodes.iter().find(|node| node.control_plane).ok_or_else(|| {
        problem::environment(
            "node-not-running",
            format!("cluster {} has no control-plane node", cluster.name),
            Some("see `docker ps --all`"),
        )
    })?;
    // kind makes it private, too; this is not left to it.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(|error| unusable(error.to_string()))?;
    let kubeconfig = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    let parsed = Kubeconfig::from_yaml(&kubeconfig).map_err(|error| unusable(error.to_string()))?;
    let config = meshproof_kubeconfig::config(&parsed, None, &Proxies::of_environment())
        .map_err(|error| unusable(error.to_string()))?;
    let client = meshproof_kubeconfig::client(config)
        .await
        .map_err(|error| unusable(error.to_string()))?;
    Ok(Cluster {
        name: cluster.name.clone(),
        client,
        kubeconfig,
        api_from_peers: format!("https://{}:6443", control_plane.address),
        gateway_from: std::collections::BTreeMap::new(),
        node_address: control_plane.address.to_string(),
        domain: cluster.domain.clone(),
    })
}
