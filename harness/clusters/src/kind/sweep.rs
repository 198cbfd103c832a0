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
    /// Clusters and containers that have our names or label, but that this state folder has no record of, which were left: a
    /// run with another state folder may be using them.
    pub unrecorded: Vec<String>,
    /// What is in the state folder and is not of our making, with the reason; it was left.
    pub strangers: Vec<String>,
}

/// What is removed only when somebody says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Also {
    /// What caches of registries pulled, when nobody uses it.
    pub caches: bool,
    /// Clusters and containers of our names and label that the state folder has no record of.
    pub unrecorded: bool,
}

/// Removes everything of ours that no living process uses: what the state folder has records of, and docker networks of our
/// making. Nothing else is touched, unless `also` says so. Kept clusters are removed, too.
///
/// # Errors
/// All that could not be removed, after everything was tried.
pub async fn sweep(tools: &Tools, options: &KindOptions, also: Also) -> Result<Swept, Problem> {
    record::remove_unfinished_marks(&options.state);
    let mut sweep = Sweep {
        tools,
        options,
        also,
        commands: Commands::new(options),
        swept: Swept {
            strangers: record::strangers(&options.state),
            ..Swept::default()
        },
        spared: BTreeSet::new(),
        problems: Vec::new(),
    };
    let recorded = sweep.recorded(|_| true).await?;
    match sweep.unrecorded().await {
        // Without the tools, and without a record, nothing of ours can be there.
        Err(problem) if problem.code == "tool-missing" && !recorded => return Ok(sweep.swept),
        Err(problem) => sweep.problems.push(problem.message),
        Ok(()) => {
            if let Err(problem) = sweep.caches().await {
                sweep.problems.push(problem.message);
            }
        }
    }
    sweep.networks().await;
    if sweep.problems.is_empty() {
        return Ok(sweep.swept);
    }
    let mut told = sweep.problems;
    told.extend(sweep.swept.removed.iter().map(|name| format!("{name} was removed")));
    Err(problem::environment(
        "clusters-left",
        told.join("; "),
        Some("see `kind get clusters` and `docker ps --all`"),
    ))
}

/// Removes the environments of this state folder that a killed run left, before another one makes clusters: theirs take memory
/// and addresses that it may need. What was to stay up for the next run stays, and what no record tells of.
///
/// # Errors
/// `clusters-left` with all that could not be removed, after everything was tried.
pub(super) async fn sweep_killed(tools: &Tools, options: &KindOptions) -> Result<Vec<String>, Problem> {
    let mut sweep = Sweep {
        tools,
        options,
        also: Also::default(),
        commands: Commands::new(options),
        swept: Swept::default(),
        spared: BTreeSet::new(),
        problems: Vec::new(),
    };
    sweep.recorded(|record| !record.is_some_and(Record::stays)).await?;
    if sweep.problems.is_empty() {
        return Ok(sweep.swept.removed);
    }
    Err(problem::environment(
        "clusters-left",
        sweep.problems.join("; "),
        Some("`meshproof gc` tries again; see `kind get clusters` and `docker ps --all`"),
    ))
}

struct Sweep<'a> {
    tools: &'a Tools,
    options: &'a KindOptions,
    also: Also,
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

    /// Environments of the state folder that no process uses, as far as they are meant; whether there were any.
    async fn recorded(&mut self, meant: impl Fn(Option<&Record>) -> bool) -> Result<bool, Problem> {
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
                    self.spare(environment, record::read_record(&folder));
                    continue;
                }
                Err(problem) => {
                    self.problems.push(problem.message);
                    continue;
                }
            };
            // One that can't be read is a trouble of removing it.
            if claim.record().is_ok_and(|record| !meant(record.as_ref())) {
                continue;
            }
            match removal::remove(self.tools, &self.commands, state, claim, Certainty::Killed).await {
                Ok(()) => self.swept.removed.push(environment.clone()),
                Err(problem) => self.problems.push(problem.message),
            }
        }
        Ok(!environments.is_empty())
    }

    /// Leaves an environment that is in use, with its clusters.
    fn spare(&mut self, environment: &str, record: Result<Option<Record>, Problem>) {
        match record {
            Ok(record) => {
                let clusters = record.map(|record| record.clusters).unwrap_or_default();
                self.spared
                    .extend(clusters.into_iter().map(|cluster| cluster.kind_name));
            }
            Err(problem) => self.problems.push(problem.message),
        }
        self.swept.in_use.push(environment.to_owned());
    }

    /// What no record tells of: the state folder may be lost, or is another one, of a run that may be alive.
    async fn unrecorded(&mut self) -> Result<(), Problem> {
        let asked = self.commands.clusters();
        let clusters = answers::names(&asked, &self.tools.run(&asked).await?.stdout)?;
        for cluster in clusters {
            if !self.is_ours(&cluster) || self.spared.contains(&cluster) {
                continue;
            }
            if !self.also.unrecorded {
                self.swept.unrecorded.push(format!("kind cluster {cluster}"));
                continue;
            }
            let record = Record {
                environment: cluster.clone(),
                network: self.options.network.clone(),
                digest: String::new(),
                complete: false,
                kept: false,
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
        if !self.also.unrecorded {
            let left = ours.iter().map(|container| format!("container {container}"));
            self.swept.unrecorded.extend(left);
        } else if !ours.is_empty() {
            self.tools.run(&self.commands.remove_containers(&ours)).await?;
            self.swept.removed.extend(ours);
        }
        Ok(())
    }

    /// What caches pulled; whoever is in use may be using it.
    async fn caches(&mut self) -> Result<(), Problem> {
        let asked = self.commands.cache_volumes();
        let volumes = answers::labelled(&asked, &self.tools.run(&asked).await?.stdout)?;
        let ours: Vec<String> = volumes
            .into_iter()
            .map(|(_, volume)| volume)
            .filter(|volume| self.is_ours(volume))
            .collect();
        if ours.is_empty() || !self.also.caches || !self.swept.in_use.is_empty() {
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
