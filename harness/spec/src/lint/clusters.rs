//! Every cluster that a scenario names.

use super::world::World;
use super::{File, each};
use crate::code;
use crate::diagnostic::{Diagnostic, closest};
use crate::scalar::{Clusters, Name};
use crate::scenario::{Expect, Step};
use crate::structure::list;
use crate::yaml::escape;

/// Every cluster that is named is in the topology.
pub(super) fn clusters_exist(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    let Some(topology) = file.topology() else { return };
    let known: Vec<&str> = topology.clusters.keys().map(|name| name.0.as_str()).collect();
    let mut mentions = Mentions {
        file,
        found: Vec::new(),
    };
    if let Some(clusters) = &file.scenario.namespace.absent_in {
        mentions.several("/namespace/absent_in", clusters);
    }
    for (index, step) in file.steps() {
        mentions.step(&format!("/steps/{index}"), step);
    }
    for (pointer, name, is_key) in mentions.found {
        if known.contains(&name.as_str()) {
            continue;
        }
        let place = if is_key {
            file.key(&pointer)
        } else {
            file.at(&pointer).find(&name)
        };
        problems.push(
            Diagnostic::error(code::UNKNOWN_CLUSTER, format!("unknown cluster `{name}`"), place)
                .label(format!("not in the topology `{}`", file.scenario.topology))
                .also(file.at("/topology"), "the topology")
                .expected(list(&known))
                .did_you_mean(closest(&name, known.iter().copied())),
        );
    }
}

/// Pointer, name, and whether the name is the key of a mapping.
struct Mentions<'f, 'a> {
    file: &'f File<'a>,
    found: Vec<(String, String, bool)>,
}

impl Mentions<'_, '_> {
    fn one(&mut self, pointer: &str, name: &Name) {
        self.found.push((pointer.to_owned(), name.0.clone(), false));
    }

    fn some(&mut self, pointer: &str, name: Option<&Name>) {
        if let Some(name) = name {
            self.one(pointer, name);
        }
    }

    fn several(&mut self, pointer: &str, clusters: &Clusters) {
        for (pointer, name) in each(self.file, pointer, clusters) {
            self.one(&pointer, name);
        }
    }

    fn pair(&mut self, pointer: &str, from: &Name, to: &Name) {
        self.one(&format!("{pointer}/from"), from);
        self.one(&format!("{pointer}/to"), to);
    }

    fn step(&mut self, base: &str, step: &Step) {
        let at = |field: &str| format!("{base}/{field}");
        match step {
            Step::Deploy(deploy) => self.several(&at("deploy/in"), &deploy.r#in),
            Step::Export(export) => self.several(&at("export/from"), &export.from),
            Step::Unexport(unexport) => self.several(&at("unexport/from"), &unexport.from),
            Step::Route(route) => {
                self.one(&at("route/in"), &route.r#in);
                for (index, backend) in route.backends.iter().enumerate() {
                    self.some(&at(&format!("route/backends/{index}/to")), backend.to.cluster.as_ref());
                }
            }
            Step::Unroute(unroute) => self.one(&at("unroute/in"), &unroute.r#in),
            Step::Scale(scale) => {
                self.one(&at("scale/in"), &scale.r#in);
                self.some(&at("scale/of"), scale.of.as_ref());
            }
            Step::Restart(restart) => {
                self.one(&at("restart/in"), &restart.r#in);
                self.some(&at("restart/of"), restart.of.as_ref());
            }
            Step::Behave(behave) => self.several(&at("behave/in"), &behave.r#in),
            Step::Call(call) => {
                self.some(&at("call/in"), call.r#in.as_ref());
                self.some(&at("call/to"), call.to.cluster.as_ref());
            }
            Step::Traffic(traffic) => {
                self.some(&at("traffic/in"), traffic.r#in.as_ref());
                self.some(&at("traffic/to"), traffic.to.cluster.as_ref());
            }
            Step::Fault(fault) => {
                let pairs = [
                    ("partition", &fault.partition),
                    ("reset", &fault.reset),
                    ("steal_lease", &fault.steal_lease),
                ];
                for (kind, link) in pairs {
                    if let Some(link) = link {
                        self.pair(&at(&format!("fault/{kind}")), &link.from, &link.to);
                    }
                }
                if let Some(delay) = &fault.delay {
                    self.pair(&at("fault/delay"), &delay.from, &delay.to);
                }
                if let Some(deny) = &fault.deny_writes {
                    self.pair(&at("fault/deny_writes"), &deny.from, &deny.to);
                }
                self.some(&at("fault/pause_api"), fault.pause_api.as_ref());
            }
            Step::Link(link) => self.pair(&at("link"), &link.from, &link.to),
            Step::Unlink(link) => self.pair(&at("unlink"), &link.from, &link.to),
            Step::Install(install) => self.several(&at("install/in"), &install.r#in),
            Step::Upgrade(install) => self.several(&at("upgrade/in"), &install.r#in),
            Step::Uninstall(install) => self.several(&at("uninstall/in"), &install.r#in),
            Step::Rotate(rotate) => {
                if let Some(link) = &rotate.credentials {
                    self.pair(&at("rotate/credentials"), &link.from, &link.to);
                }
                if let Some(clusters) = &rotate.r#in {
                    self.several(&at("rotate/in"), clusters);
                }
            }
            Step::Inventory(inventory) => self.several(&at("inventory/in"), &inventory.r#in),
            Step::Namespace(namespace) => self.several(&at("namespace/create_in"), &namespace.create_in),
            Step::Apply(apply) => self.several(&at("apply/in"), &apply.r#in),
            Step::Patch(patch) => self.one(&at("patch/in"), &patch.r#in),
            Step::Delete(delete) => self.one(&at("delete/in"), &delete.r#in),
            Step::Expect(expect) => self.expect(&at("expect"), expect),
            Step::Stop(_) | Step::Heal(_) | Step::Use(_) => {}
        }
    }

    fn expect(&mut self, base: &str, expect: &Expect) {
        let at = |field: &str| format!("{base}/{field}");
        self.some(&at("object/in"), expect.object.as_ref().map(|subject| &subject.r#in));
        self.some(&at("objects/in"), expect.objects.as_ref().map(|subject| &subject.r#in));
        self.some(&at("access/in"), expect.access.as_ref().map(|subject| &subject.r#in));
        self.some(
            &at("rejected/in"),
            expect.rejected.as_ref().map(|subject| &subject.r#in),
        );
        if let Some(split) = &expect.split {
            self.some(&at("split/in"), split.r#in.as_ref());
            for cluster in split.weights.keys() {
                self.found.push((
                    at(&format!("split/weights/{}", escape(&cluster.0))),
                    cluster.0.clone(),
                    true,
                ));
            }
        }
        if let Some(mtls) = &expect.mtls {
            self.some(&at("mtls/in"), mtls.r#in.as_ref());
            self.some(&at("mtls/to"), mtls.to.cluster.as_ref());
        }
        if let Some(link) = &expect.link {
            self.pair(&at("link"), &link.from, &link.to);
        }
        if let Some(unchanged) = &expect.unchanged {
            self.several(&at("unchanged/in"), &unchanged.r#in);
        }
        if let Some(residue) = &expect.residue {
            if let Some(link) = &residue.link {
                self.pair(&at("residue/link"), &link.from, &link.to);
            }
            if let Some(clusters) = &residue.mesh {
                self.several(&at("residue/mesh"), clusters);
            }
        }
        if let Some(clusters) = expect.answered.as_ref().and_then(|answered| answered.by.as_ref()) {
            self.several(&at("answered/by"), clusters);
        }
        if let Some(served) = &expect.served_by {
            for (field, clusters) in [("only", &served.only), ("each", &served.each)] {
                if let Some(clusters) = clusters {
                    self.several(&at(&format!("served_by/{field}")), clusters);
                }
            }
        }
    }
}
