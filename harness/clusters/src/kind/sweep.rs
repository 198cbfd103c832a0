//! Finding and removing what killed processes left.

use std::collections::BTreeSet;

use meshproof_engine::problem::{self, Problem};
use meshproof_engine::tool::Tools;

use super::answers;
use super::commands::Commands;
use super::options::KindOptions;
use super::record::{self, Claim, Record, RecordedCluster};
use super::removal::{self, Certainty};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Removed: environments, clusters, containers and networks, by name.
    pub removed: Vec<String>,
    /// Environments that a living process uses; nothing was done to them.
    pub in_use: Vec<String>,
    /// Docker volumes with what caches of registries pulled, which were left.
    pub caches: Vec<String>,
}

/// Removes everything of ours that no living process uses: what the state folder has records of, kind clusters whose names
/// begin with the prefix, containers with our label, and docker networks of our making. Nothing else is touched. Kept
/// clusters are removed, too. What caches of registries pulled goes only when `caches` says so, and nobody uses it.
///
/// # Errors
/// All that could not be removed, after everything was tried.
pub async fn sweep(tools: &Tools, options: &KindOptions, caches: bool) -> Result<Swept, Problem> {
    let mut sweep = Sweep {
        tools,
        options,
        commands: Commands::new(options),
        swept: Swept::default(),
        spared: BTreeSet::new(),
        problems: Vec::new(),
    };
    let recorded = sweep.recorded().await?;
    match sweep.unrecorded().await {
        // Without the tools, and without a record, nothing of ours can be there.
        Err(problem) if problem.code == "tool-missing" && !recorded => return Ok(sweep.swept),
        Err(problem) => sweep.problems.push(problem.message),
        Ok(()) => {
            if let Err(problem) = sweep.caches(caches).await {
                sweep.problems.push(problem.message);
            }
        }
    }
    sweep.networks().await;
    if sweep.problems.is_empty() {
        return Ok(sweep.swept);
    }
    Err(problem::environment(
        "clusters-left",
        sweep.problems.join("; "),
        Some("see `kind get clusters` and `docker ps --all`"),
    ))
}

struct Sweep<'a> {
    tools: &'a Tools,
    options: &'a KindOptions,
    commands: Commands,
    swept: Swept,
    /// kind clusters of environments that are in use.
    spared: BTreeSet<String>,
    problems: Vec<String>,
}

impl Sweep<'_> {
    fn is_ours(&self, name: &str) -> bool {
        name.strip_prefix(&self.options.prefix)
            .is_some_and(|rest| rest.starts_with('-'))
    }

    /// Environments of the state folder; whether there were any.
    async fn recorded(&mut self) -> Result<bool, Problem> {
        let state = &self.options.state;
        let environments = record::environments(state)?;
        for environment in &environments {
            if !self.is_ours(environment) {
                continue;
            }
            let folder = state.join(environment);
            let claim = match Claim::take(&folder) {
                Ok(claim) => claim,
                Err(problem) if problem.code == "environment-in-use" => {
                    let clusters = record::read_record(&folder)?
                        .map(|record| record.clusters)
                        .unwrap_or_default();
                    self.spared
                        .extend(clusters.into_iter().map(|cluster| cluster.kind_name));
                    self.swept.in_use.push(environment.clone());
                    continue;
                }
                Err(problem) => return Err(problem),
            };
            match removal::remove(self.tools, &self.commands, state, claim, Certainty::Killed).await {
                Ok(()) => self.swept.removed.push(environment.clone()),
                Err(problem) => self.problems.push(problem.message),
            }
        }
        Ok(!environments.is_empty())
    }

    /// What no record tells of: the state folder may be lost, or was another one.
    async fn unrecorded(&mut self) -> Result<(), Problem> {
        let asked = self.commands.clusters();
        let clusters = answers::names(&asked, &self.tools.run(&asked).await?.stdout)?;
        for cluster in clusters {
            if !self.is_ours(&cluster) || self.spared.contains(&cluster) {
                continue;
            }
            let record = Record {
                environment: cluster.clone(),
                network: self.options.network.clone(),
                digest: String::new(),
                complete: false,
                clusters: vec![RecordedCluster {
                    kubeconfig: self.options.state.join(format!("{cluster}.kubeconfig")),
                    kind_name: cluster.clone(),
                    nodes: Vec::new(),
                    contents: None,
                }],
            };
            match removal::clusters(self.tools, &self.commands, &record, Certainty::Ended).await {
                Ok(()) => self.swept.removed.push(cluster),
                Err(problem) => self.problems.push(problem.message),
            }
        }
        let asked = self.commands.labelled_containers();
        let containers = answers::labelled(&asked, &self.tools.run(&asked).await?.stdout)?;
        let ours: Vec<String> = containers
            .into_iter()
            .filter(|(environment, _)| self.is_ours(environment) && !self.swept.in_use.contains(environment))
            .map(|(_, container)| container)
            .collect();
        if !ours.is_empty() {
            self.tools.run(&self.commands.remove_containers(&ours)).await?;
            self.swept.removed.extend(ours);
        }
        Ok(())
    }

    /// What caches pulled; whoever is in use may be using it.
    async fn caches(&mut self, remove: bool) -> Result<(), Problem> {
        let asked = self.commands.cache_volumes();
        let volumes = answers::labelled(&asked, &self.tools.run(&asked).await?.stdout)?;
        let ours: Vec<String> = volumes
            .into_iter()
            .map(|(_, volume)| volume)
            .filter(|volume| self.is_ours(volume))
            .collect();
        if ours.is_empty() || !remove || !self.swept.in_use.is_empty() {
            self.swept.caches = ours;
            return Ok(());
        }
        self.tools.run(&self.commands.remove_volumes(&ours)).await?;
        self.swept.removed.extend(ours);
        Ok(())
    }

    async fn networks(&mut self) {
        for network in record::own_networks(&self.options.state) {
            let commands = self.commands.on_network(&network);
            if let Err(problem) = removal::network(self.tools, &commands, &self.options.state).await {
                self.problems.push(problem.message);
            } else if !record::network_is_ours(&self.options.state, &network) {
                self.swept.removed.push(format!("network {network}"));
            }
        }
    }
}
