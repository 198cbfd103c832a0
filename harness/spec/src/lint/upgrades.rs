//! Upgrades of the mesh.

use super::{File, each, world::World};
use crate::code;
use crate::diagnostic::Diagnostic;
use crate::scalar::Name;
use crate::scenario::Step;

/// What became of a cluster's mesh, and the place that says so; `None`: what the setup says.
type Since = Option<String>;

/// A cluster's mesh is upgraded where there is one, and once: a run knows one version to go to.
pub(super) fn upgrades_go_forward(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    for (index, what) in file.steps() {
        let Step::Upgrade(upgrade) = what else { continue };
        let clusters = each(file, &format!("/steps/{index}/upgrade/in"), &upgrade.r#in);
        for (position, (pointer, cluster)) in clusters.iter().enumerate() {
            let twice = clusters.iter().take(position).find(|(_, other)| other == cluster);
            let mesh = match twice {
                Some((first, _)) => Mesh::Upgraded(Some(first.clone())),
                None => Mesh::before(file, cluster, index),
            };
            let (problem, since, label, help) = match mesh {
                Mesh::Installed => continue,
                Mesh::Absent(since) => (
                    format!("there is no mesh in `{cluster}`"),
                    since,
                    "uninstalled here",
                    format!("add a step before: `- install: {{in: {cluster}}}`"),
                ),
                Mesh::Upgraded(since) => (
                    format!("the mesh in `{cluster}` is upgraded already"),
                    since,
                    "upgraded here",
                    "leave the cluster out here: a run knows one version to go to".to_owned(),
                ),
            };
            let diagnostic = Diagnostic::error(code::NOTHING_TO_UPGRADE, problem, file.at(pointer));
            let diagnostic = match since {
                Some(place) => diagnostic.also(file.at(&place), label),
                None => diagnostic.also(file.key("/setup"), "so nothing is installed at first"),
            };
            problems.push(diagnostic.help(help));
        }
    }
}

/// What is in a cluster.
enum Mesh {
    Installed,
    Absent(Since),
    Upgraded(Since),
}

impl Mesh {
    /// What the steps before this one left.
    fn before(file: &File<'_>, cluster: &Name, step: usize) -> Self {
        let bare = file.scenario.setup.as_ref().is_some_and(|setup| setup.bare);
        let first = if bare { Self::Absent(None) } else { Self::Installed };
        file.steps().take(step).fold(first, |mesh, (index, what)| {
            let at = |verb: &str| Some(format!("/steps/{index}/{verb}/in"));
            match what {
                Step::Install(step) if step.r#in.0.contains(cluster) => Self::Installed,
                Step::Uninstall(step) if step.r#in.0.contains(cluster) => Self::Absent(at("uninstall")),
                Step::Upgrade(step) if step.r#in.0.contains(cluster) => Self::Upgraded(at("upgrade")),
                _ => mesh,
            }
        })
    }
}
