//! Which scenarios of a suite are wanted.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use meshproof_spec::diagnostic::closest;

use super::suite::{Suite, SuiteScenario};

/// What the user asked for. Everything that is given must hold; nothing given selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Names; `*` stands for any text. A name is an id, an id behind its area (`failover/gateway-dies`), the name of a
    /// scenario with rows, or an area (`failover/`), as they are printed; also with the number of a repetition behind it.
    /// Each must match something, and a scenario is wanted when one of them, or one of the files, matches it.
    pub ids: Vec<String>,
    /// Files. Each must hold a scenario.
    pub files: Vec<FileSelector>,
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

/// Files that one word on the command line stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSelector {
    /// The word.
    pub asked: String,
    /// The files, by the paths that scenarios have.
    pub files: Vec<String>,
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
    /// Something that was asked for matches nothing, whatever else matches.
    #[error("no scenario is selected by {}; `meshproof list` shows ids, areas and tags", .0.join(" and by "))]
    Unmatched(Vec<String>),
    /// Nothing matches all that was asked for.
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
        let unmatched = self.unmatched(suite, profile);
        if !unmatched.is_empty() {
            return Err(SelectionError::Unmatched(unmatched));
        }
        let areas: Vec<&str> = self.ids.iter().filter_map(|name| area_named(name, suite)).collect();
        let mut selected: Vec<_> = suite
            .scenarios
            .iter()
            .filter(|scenario| self.wants(scenario, &areas, profile))
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

    /// What was asked for and is not there, with what was probably meant.
    fn unmatched(&self, suite: &Suite, profile: Option<&Vec<String>>) -> Vec<String> {
        let any = |wanted: &dyn Fn(&SuiteScenario) -> bool| suite.scenarios.iter().any(|scenario| wanted(scenario));
        let mut told = Vec::new();
        for name in &self.ids {
            if area_named(name, suite).is_none() && !any(&|scenario| named(name, scenario)) {
                told.push(format!("`{name}`{}", hint(name, names(suite))));
            }
        }
        for selector in &self.files {
            if !any(&|scenario| selector.files.contains(&scenario.file)) {
                told.push(format!("`{}`, which holds none", selector.asked));
            }
        }
        for tag in &self.tags {
            if !any(&|scenario| tagged(tag, scenario)) {
                let known = suite
                    .scenarios
                    .iter()
                    .flat_map(|scenario| tags(scenario).map(ToOwned::to_owned));
                told.push(format!("--tag {tag}{}", hint(tag, known.collect())));
            }
        }
        for id in &self.requirements {
            if !any(&|scenario| decides(std::slice::from_ref(id), scenario)) {
                told.push(format!("--requirement {id}, which none of them decides"));
            }
        }
        if let (Some(name), Some(ids)) = (&self.profile, profile)
            && !any(&|scenario| decides(ids, scenario))
        {
            told.push(format!("--profile {name}, of which none of them decides a requirement"));
        }
        told
    }

    fn wants(&self, scenario: &SuiteScenario, areas: &[&str], profile: Option<&Vec<String>>) -> bool {
        let chosen = self.ids.iter().any(|name| named(name, scenario))
            || areas.contains(&scenario.area.as_str())
            || self
                .files
                .iter()
                .any(|selector| selector.files.contains(&scenario.file));
        ((self.ids.is_empty() && self.files.is_empty()) || chosen)
            && (self.tags.is_empty() || self.tags.iter().any(|tag| tagged(tag, scenario)))
            && (self.requirements.is_empty() || decides(&self.requirements, scenario))
            && profile.is_none_or(|ids| decides(ids, scenario))
    }
}

/// Whether a name means this scenario: `gateway-dies`, `failover/gateway-dies`, `gateway-dies#2`, `fail*`, or the name that all
/// rows of one have.
fn named(name: &str, scenario: &SuiteScenario) -> bool {
    let name = without_repetition(name);
    [&scenario.id, &scenario.scenario.scenario.0]
        .into_iter()
        .any(|id| matches(name, id) || matches(name, &format!("{}/{id}", scenario.area)))
}

/// The area that a name means: `failover/`, or `failover` when no scenario is called so.
fn area_named<'a>(name: &'a str, suite: &Suite) -> Option<&'a str> {
    let area = match name.strip_suffix('/') {
        Some(area) => area,
        None if suite.scenarios.iter().any(|scenario| named(name, scenario)) => return None,
        None => name,
    };
    suite
        .scenarios
        .iter()
        .any(|scenario| scenario.area == area)
        .then_some(area)
}

/// `gateway-dies` of `gateway-dies#2`.
fn without_repetition(name: &str) -> &str {
    match name.rsplit_once('#') {
        Some((id, number)) if number.parse::<u32>().is_ok() => id,
        _ => name,
    }
}

fn tags(scenario: &SuiteScenario) -> impl Iterator<Item = &str> {
    let own = scenario.scenario.tags.iter().map(|tag| tag.0.as_str());
    own.chain(std::iter::once(scenario.area.as_str()))
}

fn tagged(tag: &str, scenario: &SuiteScenario) -> bool {
    tags(scenario).any(|own| own == tag)
}

fn decides(ids: &[String], scenario: &SuiteScenario) -> bool {
    scenario.scenario.checks.iter().any(|check| ids.contains(&check.0))
}

/// All names that select something, in the forms in which they are printed.
fn names(suite: &Suite) -> Vec<String> {
    let scenarios = suite.scenarios.iter();
    scenarios
        .flat_map(|scenario| {
            let (id, area) = (&scenario.id, &scenario.area);
            [id.clone(), format!("{area}/{id}"), format!("{area}/")]
        })
        .collect()
}

fn hint(asked: &str, known: Vec<String>) -> String {
    closest(asked, known.iter().map(String::as_str))
        .map(|near| format!(" (did you mean `{near}`?)"))
        .unwrap_or_default()
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let files: Vec<String> = self.files.iter().map(|selector| selector.asked.clone()).collect();
        for (name, values) in [
            ("id", &self.ids),
            ("file", &files),
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
