//! Which scenarios of a suite are wanted.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::suite::{Suite, SuiteScenario};

/// What the user asked for. Everything that is given must hold; nothing given selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Ids; `*` stands for any text. One of them must match.
    pub ids: Vec<String>,
    /// Tags or areas. One of them must be there.
    pub tags: Vec<String>,
    /// Requirements. One of them must be decided.
    pub requirements: Vec<String>,
    /// Profile: one of its requirements must be decided.
    pub profile: Option<String>,
    /// Part of what is left.
    pub partition: Option<Partition>,
    /// How often each scenario runs; 0 counts as 1.
    pub repeat: u32,
}

/// One of several parts of equal size, `1/3` to `3/3`. Together the parts are everything, and nothing is in two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    index: usize,
    of: usize,
}

impl Partition {
    /// Part `index` (from 1) of `of`; nothing when there is no such part.
    #[must_use]
    pub fn new(index: usize, of: usize) -> Option<Self> {
        (1..=of).contains(&index).then_some(Self { index, of })
    }

    fn take<T>(self, all: Vec<T>) -> Vec<T> {
        all.into_iter().skip(self.index - 1).step_by(self.of).collect()
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for Partition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split_once('/')
            .and_then(|(index, of)| Self::new(index.parse().ok()?, of.parse().ok()?))
            .ok_or_else(|| format!("`{text}` is not a partition; write `1/3` for the first of three parts"))
    }
}

/// Why nothing was selected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// The suite has no scenario at all.
    #[error("the suite has no scenario")]
    EmptySuite,
    /// There is no such profile.
    #[error("there is no profile `{name}`; known are {known}")]
    UnknownProfile {
        /// The name given.
        name: String,
        /// All names.
        known: String,
    },
    /// There is no such requirement.
    #[error("there is no requirement `{name}` in the catalogue; `meshproof coverage` lists all")]
    UnknownRequirement {
        /// The id given.
        name: String,
    },
    /// Nothing matches.
    #[error("no scenario is selected: none of {scenarios} matches {asked}; `meshproof list` shows ids and tags")]
    NothingSelected {
        /// Number of scenarios in the suite.
        scenarios: usize,
        /// What was asked for.
        asked: String,
    },
}

impl Selection {
    /// The scenarios that are wanted, ordered by area and id.
    ///
    /// # Errors
    /// When that is none, or a name is not known.
    pub fn apply(&self, suite: &Suite) -> Result<Vec<Arc<SuiteScenario>>, SelectionError> {
        if suite.scenarios.is_empty() {
            return Err(SelectionError::EmptySuite);
        }
        let known: BTreeSet<&str> = suite.requirements.iter().map(|row| row.id.as_str()).collect();
        if let Some(unknown) = self.requirements.iter().find(|id| !known.contains(id.as_str())) {
            return Err(SelectionError::UnknownRequirement { name: unknown.clone() });
        }
        let profile = match &self.profile {
            None => None,
            Some(name) => Some(suite.profiles.get(name).ok_or_else(|| SelectionError::UnknownProfile {
                name: name.clone(),
                known: suite.profiles.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
            })?),
        };
        let mut selected: Vec<_> = suite
            .scenarios
            .iter()
            .filter(|scenario| self.wants(scenario, profile))
            .cloned()
            .collect();
        selected.sort_by(|one, other| (&one.area, &one.id).cmp(&(&other.area, &other.id)));
        let selected = match self.partition {
            Some(partition) => partition.take(selected),
            None => selected,
        };
        if selected.is_empty() {
            return Err(SelectionError::NothingSelected {
                scenarios: suite.scenarios.len(),
                asked: self.to_string(),
            });
        }
        Ok(selected)
    }

    fn wants(&self, scenario: &SuiteScenario, profile: Option<&Vec<String>>) -> bool {
        let checks = &scenario.scenario.checks;
        let decides = |ids: &[String]| checks.iter().any(|check| ids.contains(&check.0));
        let tagged = |tag: &String| *tag == scenario.area || scenario.scenario.tags.iter().any(|own| own.0 == *tag);
        (self.ids.is_empty() || self.ids.iter().any(|glob| matches(glob, &scenario.id)))
            && (self.tags.is_empty() || self.tags.iter().any(tagged))
            && (self.requirements.is_empty() || decides(&self.requirements))
            && profile.is_none_or(|ids| decides(ids))
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        for (name, values) in [
            ("id", &self.ids),
            ("tag", &self.tags),
            ("requirement", &self.requirements),
        ] {
            if !values.is_empty() {
                parts.push(format!("{name} {}", values.join(" or ")));
            }
        }
        parts.extend(self.profile.iter().map(|profile| format!("profile {profile}")));
        parts.extend(self.partition.iter().map(|partition| format!("partition {partition}")));
        if parts.is_empty() {
            parts.push("everything".to_owned());
        }
        f.write_str(&parts.join(" and "))
    }
}

/// Whether `text` is what `glob` says, where `*` stands for any text, also none.
fn matches(glob: &str, text: &str) -> bool {
    let mut parts = glob.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    if !glob.contains('*') {
        return rest.is_empty();
    }
    let mut parts: Vec<&str> = parts.collect();
    let last = parts.pop().unwrap_or("");
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::{Partition, matches};
    use rstest::rstest;

    #[rstest]
    #[case("failover", "failover", true)]
    #[case("failover", "failover-2", false)]
    #[case("fail*", "failover-2", true)]
    #[case("*-2", "failover-2", true)]
    #[case("f*o*-2", "failover-2", true)]
    #[case("f*x*", "failover-2", false)]
    #[case("ab*b", "ab", false)]
    #[case("*", "", true)]
    fn a_star_stands_for_any_text(#[case] glob: &str, #[case] text: &str, #[case] expected: bool) {
        assert_eq!(matches(glob, text), expected);
    }

    #[rstest]
    #[case("0/3")]
    #[case("4/3")]
    #[case("1")]
    #[case("a/b")]
    #[case("1/0")]
    fn a_part_must_exist(#[case] text: &str) {
        assert!(text.parse::<Partition>().is_err());
    }

    #[test]
    fn the_parts_together_are_everything_once() {
        for of in 1..=7 {
            for length in 0..30_usize {
                let mut together: Vec<usize> = (1..=of)
                    .flat_map(|index| Partition::new(index, of).unwrap().take((0..length).collect()))
                    .collect();
                together.sort_unstable();
                assert_eq!(together, (0..length).collect::<Vec<_>>());
            }
        }
    }
}
