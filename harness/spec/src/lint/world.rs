//! What the steps of a scenario declare, and when: services, clients, links and names.

use std::rc::Rc;

use serde_json::Value;

use super::{File, each, manifests};
use crate::manifests::{is_list, items};
use crate::scalar::{Name, Target};
use crate::scenario::{Apply, CallProtocol, Scenario, Step};
use crate::source::Span;
use crate::yaml::SourceMap;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Call,
    Traffic,
    Inventory,
    Fault,
    Check,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Traffic => "traffic",
            Self::Inventory => "inventory",
            Self::Fault => "fault",
            Self::Check => "check",
        }
    }
}

/// A name that a step gives.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) kind: Kind,
    pub(super) name: Name,
    pub(super) step: usize,
    pub(super) pointer: String,
}

/// What is deployed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Workload {
    Service,
    Client,
}

/// A service or client in one cluster.
#[derive(Clone, Debug)]
pub(super) struct Deployed {
    pub(super) workload: Workload,
    pub(super) name: Name,
    pub(super) cluster: Name,
    pub(super) meshed: bool,
    pub(super) step: usize,
    pub(super) pointer: String,
}

/// A link, and the step that made it (`None`: the topology).
#[derive(Clone, Debug)]
pub(super) struct Linked {
    pub(super) from: Name,
    pub(super) to: Name,
    pub(super) step: Option<usize>,
}

/// A Service that a step applies as a plain object.
#[derive(Clone, Debug)]
struct Applied {
    cluster: Name,
    /// `None`: a file that can't be read, or a name that is only known in the run.
    name: Option<String>,
    step: usize,
}

/// An object that a step writes, or shows to be rejected.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) step: usize,
    /// Whether it is applied.
    pub(super) applied: bool,
    pub(super) value: Value,
    /// Where it stands in its document.
    pointer: String,
    /// Places of its document, when that is not the scenario's.
    elsewhere: Option<Rc<(SourceMap, Span)>>,
}

impl Written {
    /// The object at a pointer, or the items of the list that stands there.
    pub(super) fn all(
        step: usize,
        applied: bool,
        pointer: &str,
        object: Value,
        elsewhere: Option<&Rc<(SourceMap, Span)>>,
    ) -> Vec<Self> {
        let is_list = is_list(&object);
        items(object)
            .into_iter()
            .enumerate()
            .map(|(index, value)| Self {
                step,
                applied,
                value,
                pointer: if is_list {
                    format!("{pointer}/items/{index}")
                } else {
                    pointer.to_owned()
                },
                elsewhere: elsewhere.cloned(),
            })
            .collect()
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.value.pointer("/metadata/name").and_then(Value::as_str)
    }

    /// Whether it stands in a file of its own.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.elsewhere.is_some()
    }

    /// Place of a value below it.
    pub(super) fn at(&self, file: &File<'_>, below: &str) -> Span {
        let pointer = format!("{}{below}", self.pointer);
        match &self.elsewhere {
            None => file.at(&pointer),
            Some(there) => there.0.value(&pointer).unwrap_or(&there.1).first_line(),
        }
    }

    /// Place of the key of a value below it.
    pub(super) fn key(&self, file: &File<'_>, below: &str) -> Span {
        let pointer = format!("{}{below}", self.pointer);
        match &self.elsewhere {
            None => file.key(&pointer),
            Some(there) => there.0.key(&pointer).unwrap_or(&there.1).first_line(),
        }
    }
}

/// Somebody who sends.
#[derive(Clone, Debug)]
pub(super) struct Sending {
    pub(super) step: usize,
    /// Pointer of the verb's or subject's fields.
    pub(super) pointer: String,
    pub(super) from: Name,
    pub(super) cluster: Option<Name>,
    pub(super) to: Target,
    /// Name by which checks refer to it.
    pub(super) name: Option<Name>,
    /// Port of the Service.
    pub(super) port: Option<u16>,
    /// What is spoken.
    pub(super) protocol: CallProtocol,
}

/// All declarations of a scenario.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    pub(super) names: Vec<Named>,
    pub(super) deployed: Vec<Deployed>,
    pub(super) links: Vec<Linked>,
    pub(super) sendings: Vec<Sending>,
    applied: Vec<Applied>,
    /// Objects that steps apply, or show to be rejected.
    pub(super) written: Vec<Written>,
}

impl World {
    pub(super) fn of(file: &File<'_>) -> Self {
        let mut world = Self::default();
        world.links_of_topology(file);
        for (step, what) in file.steps() {
            let written = manifests::written(file, step, what);
            if let Step::Apply(apply) = what {
                world.apply(step, apply, &written);
            }
            world.written.extend(written);
            world.add(file, step, what);
        }
        world
    }

    fn links_of_topology(&mut self, file: &File<'_>) {
        let Scenario { setup, .. } = file.scenario;
        let unlinked = setup.as_ref().is_some_and(|setup| setup.bare || setup.unlinked);
        if let Some(topology) = file.topology().filter(|_| !unlinked) {
            self.links.extend(topology.links.iter().map(|link| Linked {
                from: link.from.clone(),
                to: link.to.clone(),
                step: None,
            }));
        }
    }

    fn name(&mut self, kind: Kind, name: &Name, step: usize, pointer: String) {
        self.names.push(Named {
            kind,
            name: name.clone(),
            step,
            pointer,
        });
    }

    fn add(&mut self, file: &File<'_>, step: usize, what: &Step) {
        let at = |verb: &str| format!("/steps/{step}/{verb}");
        match what {
            Step::Deploy(deploy) => {
                let parts = [
                    (Workload::Service, "service", &deploy.service),
                    (Workload::Client, "client", &deploy.client),
                ];
                for (workload, field, name) in parts {
                    for (_, cluster) in each(file, &at("deploy/in"), &deploy.r#in) {
                        self.deployed.extend(name.as_ref().map(|name| Deployed {
                            workload,
                            name: name.clone(),
                            cluster: cluster.clone(),
                            meshed: deploy.meshed.unwrap_or(true),
                            step,
                            pointer: at(&format!("deploy/{field}")),
                        }));
                    }
                }
            }
            Step::Link(link) => self.links.push(Linked {
                from: link.from.clone(),
                to: link.to.clone(),
                step: Some(step),
            }),
            Step::Call(call) => {
                self.name(Kind::Call, &call.name, step, at("call/name"));
                self.sendings.push(Sending {
                    step,
                    pointer: at("call"),
                    from: call.from.clone(),
                    cluster: call.r#in.clone(),
                    to: call.to.clone(),
                    name: Some(call.name.clone()),
                    port: call.port,
                    protocol: call.protocol,
                });
            }
            Step::Traffic(traffic) => {
                self.name(Kind::Traffic, &traffic.name, step, at("traffic/name"));
                self.sendings.push(Sending {
                    step,
                    pointer: at("traffic"),
                    from: traffic.from.clone(),
                    cluster: traffic.r#in.clone(),
                    to: traffic.to.clone(),
                    name: Some(traffic.name.clone()),
                    port: traffic.port,
                    protocol: traffic.protocol,
                });
            }
            Step::Fault(fault) => self.name(Kind::Fault, &fault.name, step, at("fault/name")),
            Step::Inventory(inventory) => self.name(Kind::Inventory, &inventory.name, step, at("inventory/name")),
            Step::Expect(expect) => {
                if let Some(name) = &expect.name {
                    self.name(Kind::Check, name, step, at("expect/name"));
                }
                if let Some(split) = &expect.split {
                    self.sendings.push(Sending {
                        step,
                        pointer: at("expect/split"),
                        from: split.from.clone(),
                        cluster: split.r#in.clone(),
                        to: Target {
                            service: split.to.clone(),
                            cluster: None,
                        },
                        name: None,
                        port: None,
                        protocol: CallProtocol::default(),
                    });
                }
                if let Some(mtls) = &expect.mtls {
                    self.sendings.push(Sending {
                        step,
                        pointer: at("expect/mtls"),
                        from: mtls.from.clone(),
                        cluster: mtls.r#in.clone(),
                        to: mtls.to.clone(),
                        name: None,
                        port: None,
                        protocol: CallProtocol::default(),
                    });
                }
            }
            _ => {}
        }
    }

    fn apply(&mut self, step: usize, apply: &Apply, written: &[Written]) {
        let services = written
            .iter()
            .filter(|object| object.value.get("kind").and_then(Value::as_str) == Some("Service"));
        let mut names: Vec<Option<&str>> = services
            .map(|service| service.name().filter(|name| !name.contains("${")))
            .collect();
        if written.is_empty() {
            names.push(None);
        }
        for cluster in &apply.r#in.0 {
            self.applied.extend(names.iter().map(|name| Applied {
                cluster: cluster.clone(),
                name: name.map(str::to_owned),
                step,
            }));
        }
    }

    /// What is deployed before a step.
    pub(super) fn before(&self, workload: Workload, step: usize) -> impl Iterator<Item = &Deployed> {
        self.deployed
            .iter()
            .filter(move |deployed| deployed.workload == workload && deployed.step < step)
    }

    /// Whether a service is there before a step, deployed or applied as an object.
    pub(super) fn has_service(&self, name: &Name, cluster: &Name, step: usize) -> bool {
        let deployed = self
            .before(Workload::Service, step)
            .any(|other| other.name == *name && other.cluster == *cluster);
        deployed
            || self.applied.iter().any(|applied| {
                applied.step < step
                    && applied.cluster == *cluster
                    && applied.name.as_ref().is_none_or(|other| *other == name.0)
            })
    }

    /// The cluster from which a client sends; `None` when that is not clear.
    pub(super) fn cluster_of(&self, sending: &Sending) -> Option<Name> {
        if let Some(cluster) = &sending.cluster {
            return Some(cluster.clone());
        }
        let mut clusters: Vec<&Name> = self
            .before(Workload::Client, sending.step)
            .filter(|client| client.name == sending.from)
            .map(|client| &client.cluster)
            .collect();
        clusters.sort();
        clusters.dedup();
        match clusters.as_slice() {
            [cluster] => Some((*cluster).clone()),
            _ => None,
        }
    }

    /// Whether one cluster was ever linked to another before a step. A link that was removed counts: calling over it
    /// and being refused is a check like any other.
    pub(super) fn linked(&self, from: &Name, to: &Name, step: usize) -> bool {
        self.links
            .iter()
            .any(|link| link.from == *from && link.to == *to && link.step.is_none_or(|made| made < step))
    }
}
