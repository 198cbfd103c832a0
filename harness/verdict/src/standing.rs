//! What a judgement counts for: whether the requirement applies to the release of the mesh that was judged, and what
//! excuses a broken promise.
//!
//! Releases are those that the clusters had when the check was closed, also after upgrades. A requirement applies when every
//! cluster with a mesh has a release that it names; a deviation is known when the release of any of them is named by it,
//! because what either end of a link does wrong breaks the promise of the link.

use meshproof_terms::{Level, Release, VersionRange};

use crate::history::At;
use crate::record::{ClusterFacts, DeviationRow, Excuse, Judgement, MeshUpgraded, Outcome, RequirementRow, RunStarted};

/// Code of what is not judged because the requirement does not name the release.
pub const NOT_IN_VERSION: &str = "not-in-version";

/// What a run knows about a requirement on given clusters at a given time.
#[derive(Clone, Debug)]
pub struct Standing<'a> {
    requirement: Option<&'a RequirementRow>,
    deviations: Vec<&'a DeviationRow>,
    clusters: Vec<Running>,
    strict: bool,
}

/// What runs in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Running {
    cluster: String,
    /// Mesh and version, as the mesh calls it.
    mesh: String,
    release: Option<Release>,
}

impl<'a> Standing<'a> {
    /// What holds for `requirement` on `clusters`, which were upgraded like this, at a scenario time (µs).
    #[must_use]
    pub fn of(
        started: Option<&'a RunStarted>,
        clusters: &[ClusterFacts],
        upgrades: &[At<MeshUpgraded>],
        requirement: &str,
        at_us: u64,
    ) -> Self {
        let running = |facts: &ClusterFacts| {
            let mut upgrades = upgrades.iter().rev();
            let last = upgrades.find(|upgrade| upgrade.cluster == facts.name && upgrade.at_us <= at_us);
            Running {
                cluster: facts.name.clone(),
                mesh: last.map_or(&facts.mesh, |upgrade| &upgrade.to).clone(),
                release: last.map_or(facts.release, |upgrade| upgrade.release),
            }
        };
        Self {
            requirement: started.and_then(|run| run.requirements.iter().find(|row| row.id == requirement)),
            deviations: started.map_or_else(Vec::new, |run| {
                let rows = run.deviations.iter();
                rows.filter(|row| row.requirement == requirement).collect()
            }),
            clusters: clusters.iter().map(running).collect(),
            strict: started.is_some_and(|run| run.strict),
        }
    }

    fn versions(&self) -> VersionRange {
        self.requirement.map_or(VersionRange::ALL, |row| row.versions)
    }

    /// Why the requirement is not judged, if it is not.
    #[must_use]
    pub fn outside(&self) -> Option<String> {
        let (requirement, versions) = (self.requirement?, self.versions());
        let outside: Vec<String> = self
            .clusters
            .iter()
            .filter(|running| !versions.holds(running.release))
            .map(|running| {
                let mesh = if running.mesh.is_empty() {
                    "no mesh yet"
                } else {
                    &running.mesh
                };
                let release = running
                    .release
                    .map_or_else(String::new, |release| format!(" (release {release})"));
                format!("{} has {mesh}{release}", running.cluster)
            })
            .collect();
        (!outside.is_empty()).then(|| {
            format!(
                "{NOT_IN_VERSION}: {} is a promise of releases {versions}; {}",
                requirement.id,
                outside.join(", ")
            )
        })
    }

    /// The deviation that is known of a release that the clusters have.
    #[must_use]
    pub fn known(&self) -> Option<&'a DeviationRow> {
        let held = |row: &&&DeviationRow| {
            let mut clusters = self.clusters.iter();
            self.clusters.is_empty() || clusters.any(|running| row.versions.holds(running.release))
        };
        self.deviations.iter().find(held).copied()
    }

    /// What a judgement counts for.
    #[must_use]
    pub fn applied(&self, mut judgement: Judgement) -> Judgement {
        if let Some(why) = self.outside() {
            return Judgement {
                outcome: Outcome::Skip,
                summary: why.clone(),
                observed: why,
                measures: std::collections::BTreeMap::new(),
                requests: Vec::new(),
                ..judgement
            };
        }
        if judgement.outcome != Outcome::Fail || self.strict {
            return judgement;
        }
        if let Some(known) = self.known() {
            judgement.outcome = Outcome::Deviates;
            judgement.excuse = Some(Excuse::KnownDeviation {
                versions: known.versions,
                upstream: known.upstream.clone(),
            });
        } else if self.requirement.is_some_and(|row| row.level == Level::Should) {
            judgement.excuse = Some(Excuse::Should);
        }
        judgement
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::specimen;

    fn started(versions: &str, level: Level, deviations: &[&str], strict: bool) -> RunStarted {
        let mut started = specimen::started();
        started.requirements = vec![RequirementRow {
            id: "MC-X-001".to_owned(),
            level,
            text: String::new(),
            versions: versions.parse().unwrap(),
        }];
        started.deviations = deviations
            .iter()
            .map(|versions| DeviationRow {
                requirement: "MC-X-001".to_owned(),
                versions: versions.parse().unwrap(),
                observed: format!("seen in {versions}"),
                upstream: "not reported".to_owned(),
            })
            .collect();
        started.strict = strict;
        started
    }

    fn clusters(releases: [&str; 2]) -> Vec<ClusterFacts> {
        let of = |(name, release): (&str, &str)| ClusterFacts {
            name: name.to_owned(),
            mesh: format!("mesh {release}"),
            release: release.parse().ok(),
            ..ClusterFacts::default()
        };
        ["west", "east"].into_iter().zip(releases).map(of).collect()
    }

    fn judged(started: &RunStarted, releases: [&str; 2], outcome: Outcome) -> Judgement {
        let judgement = Judgement {
            outcome,
            summary: "it broke".to_owned(),
            expected: String::new(),
            observed: String::new(),
            at_us: 7,
            measures: std::collections::BTreeMap::from([("lost".to_owned(), 3.0)]),
            requests: vec!["a-1".to_owned()],
            excuse: None,
        };
        Standing::of(Some(started), &clusters(releases), &[], "MC-X-001", 10).applied(judgement)
    }

    #[rstest]
    #[case::inside("2.14+", ["2.18", "2.19"], Outcome::Fail)]
    #[case::one_end_outside("2.18+", ["2.17.3", "2.19"], Outcome::Skip)]
    #[case::both_outside("2.14-2.17", ["2.18", "2.18"], Outcome::Skip)]
    #[case::a_development_build("2.18+", ["git", "2.18"], Outcome::Fail)]
    fn a_requirement_is_judged_on_its_releases_only(
        #[case] versions: &str,
        #[case] releases: [&str; 2],
        #[case] outcome: Outcome,
    ) {
        let started = started(versions, Level::Must, &[], false);
        assert_eq!(judged(&started, releases, Outcome::Fail).outcome, outcome);
    }

    #[test]
    fn what_is_not_judged_says_why() {
        let started = started("2.18+", Level::Must, &[], false);
        let judgement = judged(&started, ["2.17.3", "2.18"], Outcome::Pass);
        assert_eq!(
            judgement.summary,
            "not-in-version: MC-X-001 is a promise of releases 2.18+; west has mesh 2.17.3 (release 2.17.3)"
        );
        assert!(judgement.measures.is_empty() && judgement.requests.is_empty());
    }

    #[rstest]
    #[case::its_release(&["2.19+"], "2.19", Outcome::Deviates, Some("2.19+"))]
    #[case::another_release(&["2.19+"], "2.18", Outcome::Fail, None)]
    #[case::the_second_of_two(&["2.14-2.17", "2.19+"], "2.20", Outcome::Deviates, Some("2.19+"))]
    #[case::the_first_of_two(&["2.14-2.17", "2.19+"], "2.15", Outcome::Deviates, Some("2.14-2.17"))]
    fn a_known_deviation_is_told_from_a_failure_by_release(
        #[case] deviations: &[&str],
        #[case] release: &str,
        #[case] outcome: Outcome,
        #[case] excused_by: Option<&str>,
    ) {
        let started = started("2.14+", Level::Must, deviations, false);
        let judgement = judged(&started, [release, release], Outcome::Fail);
        let versions = match judgement.excuse {
            Some(Excuse::KnownDeviation { versions, .. }) => Some(versions.to_string()),
            _ => None,
        };
        assert_eq!((judgement.outcome, versions.as_deref()), (outcome, excused_by));
    }

    #[test]
    fn one_end_of_a_link_is_enough_for_a_known_deviation() {
        let started = started("2.14+", Level::Must, &["2.19+"], false);
        assert_eq!(
            judged(&started, ["2.18", "2.19"], Outcome::Fail).outcome,
            Outcome::Deviates
        );
    }

    #[rstest]
    #[case(Outcome::Pass)]
    #[case(Outcome::Inconclusive)]
    #[case(Outcome::Error)]
    fn only_a_broken_promise_can_be_a_known_deviation(#[case] outcome: Outcome) {
        let started = started("2.14+", Level::Should, &["2.14+"], false);
        let judgement = judged(&started, ["2.19", "2.19"], outcome);
        assert_eq!((judgement.outcome, judgement.excuse), (outcome, None));
    }

    #[rstest]
    #[case::must(Level::Must, None)]
    #[case::should(Level::Should, Some(Excuse::Should))]
    fn a_broken_should_is_excused(#[case] level: Level, #[case] excuse: Option<Excuse>) {
        let started = started("2.14+", level, &[], false);
        let judgement = judged(&started, ["2.19", "2.19"], Outcome::Fail);
        assert_eq!((judgement.outcome, judgement.excuse), (Outcome::Fail, excuse));
    }

    #[rstest]
    #[case(Level::Must, &["2.14+"])]
    #[case(Level::Should, &[])]
    fn a_strict_run_excuses_nothing(#[case] level: Level, #[case] deviations: &[&str]) {
        let started = started("2.14+", level, deviations, true);
        let judgement = judged(&started, ["2.19", "2.19"], Outcome::Fail);
        assert_eq!((judgement.outcome, judgement.excuse), (Outcome::Fail, None));
    }

    #[test]
    fn upgrades_up_to_the_check_count() {
        let started = started("2.19+", Level::Must, &[], false);
        let upgrade = |at_us, release: &str| {
            At::new(
                at_us,
                MeshUpgraded {
                    scenario: String::new(),
                    step: 1,
                    cluster: "west".to_owned(),
                    from: String::new(),
                    to: format!("mesh {release}"),
                    release: release.parse().ok(),
                },
            )
        };
        let upgrades = [upgrade(100, "2.19"), upgrade(200, "2.18")];
        let clusters = clusters(["2.18", "2.19"]);
        let outside = |at_us| Standing::of(Some(&started), &clusters, &upgrades, "MC-X-001", at_us).outside();
        assert!(outside(99).is_some());
        assert_eq!(outside(100), None);
        assert!(outside(200).is_some());
    }
}
