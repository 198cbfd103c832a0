//! The catalogue: what a mesh must satisfy, which defects must turn it red, and what upstream is known to break.

pub use meshproof_terms::Level;
use meshproof_terms::VersionRange;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scalar::{Name, RequirementId};

/// `scenarios/catalogue/<area>.yaml`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// Area, e.g. `mirroring`.
    pub area: Name,
    /// Its requirements.
    pub requirements: Vec<Requirement>,
}

/// One sentence that a mesh must satisfy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// Stable id.
    pub id: RequirementId,
    /// MUST or SHOULD.
    pub level: Level,
    /// The sentence.
    pub text: String,
    /// Where it comes from: documentation, code, an issue.
    pub source: String,
    /// Releases of the mesh that it applies to, e.g. `2.14+`; it is not judged on others.
    pub versions: VersionRange,
    /// Defects of the embedded mesh that must turn it red; at least one.
    pub defects: Vec<Name>,
    /// Those of its defects under which the mesh is so wrong that no check is reached: a step or the clusters say so instead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused_by: Vec<Name>,
    /// Other requirements that its defects break in the same scenarios.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<RequirementId>,
}

/// `scenarios/deviations.yaml`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deviations {
    /// Known deviations.
    pub deviations: Vec<Deviation>,
}

/// A requirement that an upstream version is known to break.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deviation {
    /// The requirement.
    pub requirement: RequirementId,
    /// Releases of the mesh in which it was seen.
    pub versions: VersionRange,
    /// What was seen, with numbers.
    pub observed: String,
    /// Issue or commit upstream, or `not reported`.
    pub upstream: String,
    /// The defect that makes the embedded mesh do the same.
    pub defect: Name,
}

/// `scenarios/profiles.yaml`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profiles {
    /// Named sets of requirements.
    pub profiles: Vec<Profile>,
}

/// A named set of requirements that can be certified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Name, e.g. `gateway`.
    pub profile: Name,
    /// What it stands for.
    pub summary: String,
    /// Its requirements.
    pub requirements: Vec<RequirementId>,
}
