//! The topology and its links.

use super::File;
use super::world::World;
use crate::code;
use crate::diagnostic::{Diagnostic, closest};
use crate::scalar::Name;
use crate::scenario::{Component, ExportMode, Step};
use crate::structure::list;
use crate::topology::Network;

/// The topology is there.
pub(super) fn topology_exists(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    let Some(known) = &file.library.topologies else { return };
    let name = &file.scenario.topology.0;
    if known.contains_key(name) {
        return;
    }
    let names: Vec<&str> = known.keys().map(String::as_str).collect();
    problems.push(
        Diagnostic::error(
            code::UNKNOWN_TOPOLOGY,
            format!("unknown topology `{name}`"),
            file.at("/topology"),
        )
        .expected(list(&names))
        .did_you_mean(closest(name, names)),
    );
}

/// What speaks of a link speaks of one that there is.
pub(super) fn links_exist(file: &File<'_>, world: &World, problems: &mut Vec<Diagnostic>) {
    if file.topology().is_none() {
        return;
    }
    for (step, what) in file.steps() {
        let at = |field: &str| format!("/steps/{step}/{field}");
        let mut wanted: Vec<(String, &Name, &Name)> = Vec::new();
        match what {
            Step::Unlink(link) => wanted.push((at("unlink"), &link.from, &link.to)),
            Step::Rotate(rotate) => {
                let credentials = rotate.credentials.iter();
                wanted.extend(credentials.map(|link| (at("rotate/credentials"), &link.from, &link.to)));
            }
            Step::Fault(fault) => {
                wanted.extend(
                    fault
                        .steal_lease
                        .iter()
                        .map(|link| (at("fault/steal_lease"), &link.from, &link.to)),
                );
                wanted.extend(
                    fault
                        .deny_writes
                        .iter()
                        .map(|deny| (at("fault/deny_writes"), &deny.from, &deny.to)),
                );
            }
            Step::Scale(scale) if scale.component == Some(Component::Controller) => {
                wanted.extend(scale.of.iter().map(|of| (at("scale/of"), &scale.r#in, of)));
            }
            Step::Restart(restart) if restart.component == Some(Component::Controller) => {
                wanted.extend(restart.of.iter().map(|of| (at("restart/of"), &restart.r#in, of)));
            }
            Step::Expect(expect) => {
                wanted.extend(expect.link.iter().map(|link| (at("expect/link"), &link.from, &link.to)));
                let residue = expect.residue.as_ref().and_then(|residue| residue.link.as_ref());
                wanted.extend(residue.map(|link| (at("expect/residue/link"), &link.from, &link.to)));
            }
            Step::Link(link) => linked_already(file, world, step, &link.from, &link.to, problems),
            _ => {}
        }
        for (pointer, from, to) in wanted {
            if !file.incomplete && known(file, from) && known(file, to) && !world.linked(from, to, step) {
                problems.push(not_linked(file, world, &pointer, from, to, step));
            }
        }
    }
}

/// Without a gateway pods are called at their own addresses, which not every topology leads to.
pub(super) fn exports_have_a_way(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    let Some(topology) = file.topology().filter(|topology| topology.network != Network::Flat) else {
        return;
    };
    for (step, what) in file.steps() {
        let Step::Export(export) = what else { continue };
        if export.mode == ExportMode::Gateway {
            continue;
        }
        problems.push(
            Diagnostic::error(
                code::CONTRADICTION,
                format!(
                    "`{}` is exported without a gateway, and nothing else leads to its pods",
                    export.service
                ),
                file.at(&format!("/steps/{step}/export/mode")),
            )
            .also(
                file.at("/topology"),
                format!("pods of `{}` don't reach those of other clusters", topology.topology),
            )
            .help("choose a topology with `network: flat`"),
        );
    }
}

pub(super) fn known(file: &File<'_>, cluster: &Name) -> bool {
    file.topology()
        .is_some_and(|topology| topology.clusters.contains_key(cluster))
}

fn linked_already(file: &File<'_>, world: &World, step: usize, from: &Name, to: &Name, problems: &mut Vec<Diagnostic>) {
    if from == to {
        problems.push(
            Diagnostic::error(
                code::SELF_LINK,
                format!("`{from}` is linked to itself"),
                file.at(&format!("/steps/{step}/link")),
            )
            .help("`from` is the cluster that consumes, `to` another one that exports"),
        );
        return;
    }
    let unlinked = file.steps().take(step).any(|(_, what)| match what {
        Step::Unlink(link) => link.from == *from && link.to == *to,
        Step::Uninstall(_) => true,
        _ => false,
    });
    if !file.incomplete && !unlinked && world.linked(from, to, step) {
        problems.push(
            Diagnostic::error(
                code::DUPLICATE_LINK,
                format!("`{from}` is linked to `{to}` already"),
                file.at(&format!("/steps/{step}/link")),
            )
            .help("to link in the scenario itself, begin with `setup: {unlinked: true}`"),
        );
    }
}

pub(super) fn not_linked(
    file: &File<'_>,
    world: &World,
    pointer: &str,
    from: &Name,
    to: &Name,
    step: usize,
) -> Diagnostic {
    let diagnostic = Diagnostic::error(
        code::NOT_LINKED,
        format!("`{from}` is not linked to `{to}`"),
        file.at(pointer),
    )
    .label(format!("would need the link {from} -> {to}"));
    if world.linked(to, from, step) {
        return diagnostic.help(format!(
            "there is a link {to} -> {from}: `{to}` consumes and `{from}` exports. Is it meant the other way round?"
        ));
    }
    let setup = file.scenario.setup.as_ref();
    if setup.is_some_and(|setup| setup.bare || setup.unlinked) {
        return diagnostic
            .also(file.key("/setup"), "so nothing is linked at first")
            .help(format!("add a step before: `- link: {{from: {from}, to: {to}}}`"));
    }
    diagnostic
        .also(file.at("/topology"), "links are declared in the topology")
        .help("choose another topology, or link the clusters by a step")
}
