//! The plan of a run: which scenarios, on which clusters, under which locks. Pure; nothing is asked of any cluster.

mod cost;
pub mod locks;
mod needs;
mod order;
pub mod permission;
mod print;
pub mod rbac;
mod selection;
mod suite;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshproof_spec::scenario::{Setup, Step};
use meshproof_spec::topology::Topology;
use meshproof_verdict::record::{DeviationRow, RequirementRow};
use sha2::{Digest, Sha256};

pub use cost::Cost;
pub use locks::{Locks, Thing, Use};
pub(crate) use order::start_order;
pub use selection::{FileSelector, Partition, Selection, SelectionError};
pub use suite::{Suite, SuiteScenario};

/// Longest name of a namespace.
const LONGEST_NAMESPACE: usize = 63;

/// What a plan meets: the environment and the mesh.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Surroundings {
    /// Kind of environment, e.g. `kind`.
    pub environment: String,
    /// Whether a run on it can certify anything.
    pub certifies: bool,
    /// Scenario seconds per wall second.
    pub pace: f64,
    /// Clusters that there are; any that a topology names when absent.
    pub clusters: Option<BTreeSet<String>>,
    /// What the environment can do.
    pub environment_capabilities: BTreeSet<String>,
    /// Name of the mesh.
    pub mesh: String,
    /// What its driver can do.
    pub mesh_capabilities: BTreeSet<String>,
}

/// What distinguishes this run from others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunIdentity {
    /// Id, also the name of the run's folder.
    pub run: String,
    /// At most eight lower-case letters and digits, part of the names of namespaces.
    pub short: String,
    /// Seed of everything drawn at random.
    pub seed: u64,
    /// Defects that are switched on.
    pub defects: Vec<String>,
}

/// Which scenarios run where, in which order.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What distinguishes the run.
    pub identity: RunIdentity,
    /// What it meets.
    pub surroundings: Surroundings,
    /// Clusters that are needed, by key.
    pub environments: BTreeMap<String, EnvironmentPlan>,
    /// All selected scenarios in order, also those that will be skipped.
    pub scenarios: Vec<ScenarioPlan>,
    /// Requirements of the catalogue.
    pub requirements: Vec<RequirementRow>,
    /// Deviations that are known.
    pub deviations: Vec<DeviationRow>,
    /// SHA-256 (hex) over all files of the suite.
    pub suite_digest: String,
    /// Selected part of the suite.
    pub partition: Option<Partition>,
}

/// Clusters that are brought up together.
#[derive(Clone, Debug, PartialEq)]
pub struct EnvironmentPlan {
    /// Key: scenarios with the same key share these clusters.
    pub key: String,
    /// Clusters and links.
    pub topology: Topology,
    /// How they differ from the usual.
    pub setup: Setup,
    /// Only one scenario ever uses them, so that it may do with them what it wants.
    pub own: bool,
}

/// A scenario of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct ScenarioPlan {
    /// Run-unique key: `<id>` or `<id>#<repetition>`.
    pub key: String,
    /// Which of its repetitions, from 1.
    pub repetition: u32,
    /// The scenario.
    pub scenario: Arc<SuiteScenario>,
    /// Key of its environment.
    pub environment: String,
    /// Its namespace in the clusters.
    pub namespace: String,
    /// What it must not share.
    pub locks: Locks,
    /// Why it is not run.
    pub skip: Option<Skip>,
    /// How long it takes.
    pub cost: Cost,
}

/// Why a scenario is not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// Stable code: `capability-missing`, `cluster-missing`, `consent-missing`, `other-mesh`.
    pub code: String,
    /// For people.
    pub reason: String,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nothing is selected: an error of its own, never a success.
    #[error(transparent)]
    Selection(#[from] SelectionError),
    /// Scenarios that can't be planned, each with place and remedy.
    #[error("{}", .0.join("\n"))]
    Impossible(Vec<String>),
}

impl Plan {
    /// Plans a run.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn new(
        suite: &Suite,
        selection: &Selection,
        surroundings: Surroundings,
        identity: RunIdentity,
    ) -> Result<Self, PlanError> {
        let selected = selection.apply(suite)?;
        let problems: Vec<String> = selected
            .iter()
            .flat_map(|scenario| impossible(scenario, suite))
            .collect();
        if !problems.is_empty() {
            return Err(PlanError::Impossible(problems));
        }
        let mut environments = BTreeMap::new();
        let mut scenarios = Vec::new();
        let repeat = selection.repeat.max(1);
        for repetition in 1..=repeat {
            for scenario in &selected {
                let Some(topology) = suite.topologies.get(&scenario.scenario.topology.0) else {
                    continue;
                };
                let key = match repeat {
                    1 => scenario.id.clone(),
                    _ => format!("{}#{repetition}", scenario.id),
                };
                let environment = environment_of(scenario, &key, topology);
                let locks = Locks::of(&scenario.scenario, topology);
                let skip = needs::missing(scenario, topology, &locks, &surroundings);
                scenarios.push(ScenarioPlan {
                    namespace: namespace(&identity.short, &scenario.id, (repeat > 1).then_some(repetition)),
                    locks,
                    cost: Cost::of(&scenario.scenario),
                    environment: environment.key.clone(),
                    scenario: Arc::clone(scenario),
                    key,
                    repetition,
                    skip: skip.clone(),
                });
                if skip.is_none() {
                    environments.insert(environment.key.clone(), environment);
                }
            }
        }
        Ok(Self {
            identity,
            surroundings,
            environments,
            scenarios,
            requirements: suite.requirements.clone(),
            deviations: suite.deviations.clone(),
            suite_digest: suite.digest.clone(),
            partition: selection.partition,
        })
    }

    /// The scenario with this key.
    #[must_use]
    pub fn scenario(&self, key: &str) -> Option<&ScenarioPlan> {
        self.scenarios.iter().find(|scenario| scenario.key == key)
    }
}

/// Scenarios that prepare their clusters in their own way get clusters of their own.
fn environment_of(scenario: &SuiteScenario, key: &str, topology: &Topology) -> EnvironmentPlan {
    match &scenario.scenario.setup {
        None => EnvironmentPlan {
            key: topology.topology.0.clone(),
            topology: topology.clone(),
            setup: Setup::default(),
            own: false,
        },
        Some(setup) => EnvironmentPlan {
            key: format!("{}.{key}", topology.topology),
            topology: topology.clone(),
            setup: setup.clone(),
            own: true,
        },
    }
}

/// What can't be planned in a scenario, each finding with place and remedy.
fn impossible(scenario: &SuiteScenario, suite: &Suite) -> Vec<String> {
    let mut findings = Vec::new();
    let place = |step: usize| format!("{}:{}", scenario.file, scenario.line(step));
    let topology = &scenario.scenario.topology.0;
    if !suite.topologies.contains_key(topology) {
        let known: Vec<&str> = suite.topologies.keys().map(String::as_str).collect();
        findings.push(format!(
            "{}: {}: there is no topology `{topology}`; known are {}",
            scenario.file,
            scenario.id,
            known.join(", ")
        ));
    }
    for (index, step) in scenario.scenario.steps.iter().enumerate() {
        let verb = match step {
            Step::Link(_) => "link",
            Step::Unlink(_) => "unlink",
            Step::Install(_) => "install",
            Step::Upgrade(_) => "upgrade",
            Step::Uninstall(_) => "uninstall",
            Step::Rotate(rotate) if rotate.trust.is_some() => "rotate: {trust: …}",
            Step::Use(_) => {
                findings.push(format!(
                    "{}: the fragment was not expanded; this is a defect of meshproof",
                    place(index)
                ));
                continue;
            }
            _ => continue,
        };
        if scenario.scenario.setup.is_none() {
            findings.push(format!(
                "{}: `{verb}` changes clusters that other scenarios share; give the scenario clusters of its own with `setup: {{}}`",
                place(index)
            ));
        }
    }
    findings
}

/// `mp-<run>-<scenario>[-<repetition>]`, as a valid and distinct name of a namespace.
fn namespace(short: &str, id: &str, repetition: Option<u32>) -> String {
    let suffix = repetition.map_or_else(String::new, |repetition| format!("-{repetition}"));
    let plain = format!("mp-{short}-{}", id.replace('.', "-"));
    // A dot and a dash would look the same, so an id with a dot is told apart by its digest.
    if plain.len() + suffix.len() <= LONGEST_NAMESPACE && !id.contains('.') {
        return format!("{plain}{suffix}");
    }
    let digest = format!("-{}", &hex(&Sha256::digest(id.as_bytes()))[..6]);
    let room = LONGEST_NAMESPACE.saturating_sub(digest.len() + suffix.len());
    let kept = plain
        .get(..room.min(plain.len()))
        .unwrap_or(&plain)
        .trim_end_matches('-');
    format!("{kept}{digest}{suffix}")
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests;
