//! What a plan needs to know of a suite of files.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use meshproof_spec::load::ExpandedScenario;
use meshproof_spec::scenario::Scenario;
use meshproof_spec::suite;
use meshproof_spec::topology::Topology;
use meshproof_verdict::record::{DeviationRow, RequirementRow};

/// A suite: scenarios, and what they refer to.
#[derive(Clone, Debug, Default)]
pub struct Suite {
    /// Expanded scenarios, every one with an id of its own.
    pub scenarios: Vec<Arc<SuiteScenario>>,
    /// Topologies by name.
    pub topologies: BTreeMap<String, Topology>,
    /// Requirements of the catalogue.
    pub requirements: Vec<RequirementRow>,
    /// Requirements of each profile.
    pub profiles: BTreeMap<String, Vec<String>>,
    /// Deviations of releases of the mesh that are known.
    pub deviations: Vec<DeviationRow>,
    /// SHA-256 (hex) over all files.
    pub digest: String,
}

/// A scenario after expansion.
#[derive(Clone, Debug, PartialEq)]
pub struct SuiteScenario {
    /// Id: `<scenario>` or `<scenario>.<row>`.
    pub id: String,
    /// Area (folder below the suite).
    pub area: String,
    /// File, relative to the suite.
    pub file: String,
    /// Folder of the file, below which files that steps name must lie.
    pub folder: PathBuf,
    /// SHA-256 (hex) of the file.
    pub digest: String,
    /// Line of each step in the file, from 1.
    pub lines: Vec<u32>,
    /// What is done.
    pub scenario: Scenario,
}

impl SuiteScenario {
    /// Line of a step, from 1; 1 when it is not known.
    #[must_use]
    pub fn line(&self, step: usize) -> u32 {
        self.lines.get(step).copied().unwrap_or(1)
    }
}

impl From<suite::Suite> for Suite {
    fn from(suite: suite::Suite) -> Self {
        let requirements = suite.catalogue.into_iter().flat_map(|catalogue| catalogue.requirements);
        Self {
            scenarios: suite
                .scenarios
                .into_iter()
                .map(|scenario| Arc::new(scenario.into()))
                .collect(),
            topologies: suite
                .topologies
                .into_iter()
                .map(|(name, topology)| (name.0, topology))
                .collect(),
            requirements: requirements
                .map(|requirement| RequirementRow {
                    id: requirement.id.0,
                    level: requirement.level,
                    text: requirement.text,
                    versions: requirement.versions,
                })
                .collect(),
            profiles: suite
                .profiles
                .into_iter()
                .map(|profile| {
                    (
                        profile.profile.0,
                        profile.requirements.into_iter().map(|id| id.0).collect(),
                    )
                })
                .collect(),
            deviations: suite
                .deviations
                .into_iter()
                .map(|deviation| DeviationRow {
                    requirement: deviation.requirement.0,
                    versions: deviation.versions,
                    observed: deviation.observed,
                    upstream: deviation.upstream,
                })
                .collect(),
            digest: suite.digest,
        }
    }
}

impl From<ExpandedScenario> for SuiteScenario {
    fn from(expanded: ExpandedScenario) -> Self {
        Self {
            id: expanded.id,
            area: expanded.area,
            file: expanded.file.display().to_string(),
            folder: expanded.folder,
            digest: expanded.digest,
            lines: expanded.places.into_iter().map(|place| place.line).collect(),
            scenario: expanded.scenario,
        }
    }
}
