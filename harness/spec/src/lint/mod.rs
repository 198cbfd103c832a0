//! The rules of the language that types cannot express. One small function per rule; each finds all of its mistakes.

mod access;
mod catalogue;
mod checks;
mod clusters;
mod controls;
mod deadlines;
mod dialect;
mod files;
mod habits;
mod manifests;
mod matchers;
mod names;
mod network;
mod requirements;
mod rotation;
mod sightings;
mod steps;
mod topology;
mod upgrades;
mod workloads;
mod world;

use std::path::Path;

use crate::diagnostic::Diagnostic;
use crate::load::Library;
use crate::scalar::{Clusters, Name};
use crate::scenario::{Expect, Scenario, Step};
use crate::source::Span;
use crate::topology::Topology;
use crate::yaml::SourceMap;

pub(crate) use catalogue::{catalogue, deviations, neighbours, profiles};
pub(crate) use topology::topology;
use world::World;

/// A scenario's file, expanded and typed.
#[derive(Clone, Copy)]
pub(crate) struct File<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) places: &'a SourceMap,
    /// The whole file.
    pub(crate) root: &'a Span,
    pub(crate) library: &'a Library,
    pub(crate) folder: &'a Path,
    /// Steps are missing because of mistakes that are reported elsewhere: what seems undeclared may be declared there.
    pub(crate) incomplete: bool,
}

impl<'a> File<'a> {
    /// Place of a value.
    fn at(&self, pointer: &str) -> Span {
        self.places.value(pointer).unwrap_or(self.root).first_line()
    }

    /// Place of a key.
    fn key(&self, pointer: &str) -> Span {
        self.places.key(pointer).unwrap_or(self.root).first_line()
    }

    fn topology(&self) -> Option<&'a Topology> {
        self.library
            .topologies
            .as_ref()?
            .get(&self.scenario.topology.0)?
            .as_ref()
    }

    fn steps(&self) -> impl Iterator<Item = (usize, &'a Step)> {
        self.scenario.steps.iter().enumerate()
    }

    /// All checks with the pointer of each.
    fn expects(&self) -> impl Iterator<Item = (usize, String, &'a Expect)> {
        self.steps().filter_map(|(index, step)| match step {
            Step::Expect(expect) => Some((index, format!("/steps/{index}/expect"), expect.as_ref())),
            _ => None,
        })
    }
}

/// Each of some clusters with its pointer; one cluster may stand there without a list around it.
fn each<'a>(file: &File<'_>, pointer: &str, clusters: &'a Clusters) -> Vec<(String, &'a Name)> {
    clusters
        .0
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let own = format!("{pointer}/{index}");
            (
                if file.places.holds(&own) {
                    own
                } else {
                    pointer.to_owned()
                },
                name,
            )
        })
        .collect()
}

type Rule = fn(&File<'_>, &World, &mut Vec<Diagnostic>);

/// Every rule for scenarios. Those that look for declarations are left out when some steps could not be read.
const RULES: &[Rule] = &[
    names::duplicates,
    network::topology_exists,
    clusters::clusters_exist,
    network::links_exist,
    network::exports_have_a_way,
    requirements::known,
    requirements::every_check_names_one,
    checks::one_subject,
    checks::fields_fit_subject,
    checks::something_is_asserted,
    matchers::matchers_compare_once,
    matchers::places_and_comparisons_fit,
    matchers::counts_make_sense,
    access::rights_exist,
    checks::never_is_asked_of_single_requests,
    steps::one_of_several_fields,
    steps::numbers_make_sense,
    steps::namespaces_are_absent_first,
    rotation::rotations_make_sense,
    upgrades::upgrades_go_forward,
    deadlines::waits_have_deadlines,
    deadlines::deadlines_are_bounded,
    dialect::mesh_is_named,
    files::files_stay_below_the_folder,
    manifests::files_hold_objects,
    manifests::objects_are_objects,
    manifests::fields_are_known,
    habits::routes,
    habits::repetitions,
];

/// Rules that need all steps.
const RULES_OF_COMPLETE_FILES: &[Rule] = &[
    names::references,
    names::facts,
    workloads::services_exist,
    workloads::clients_exist,
    workloads::targets_are_reachable,
    workloads::routes_lead_somewhere,
    requirements::all_checks_are_decided,
    controls::negatives_are_controlled,
    sightings::absent_objects_have_names,
    sightings::negatives_look_at_places_that_exist,
    sightings::negatives_select_labels_that_exist,
    sightings::excluded_values_exist,
    sightings::denied_namespaces_exist,
    sightings::those_who_never_answer_could,
    sightings::something_happened_before,
    habits::everything_is_observed,
];

/// All that is wrong with a scenario beyond its structure.
pub(crate) fn scenario(file: &File<'_>) -> Vec<Diagnostic> {
    let world = World::of(file);
    let mut problems = Vec::new();
    for rule in RULES {
        rule(file, &world, &mut problems);
    }
    if !file.incomplete {
        for rule in RULES_OF_COMPLETE_FILES {
            rule(file, &world, &mut problems);
        }
    }
    problems
}
