//! Clusters, links, and what is deployed where.

use super::world::{Sending, Workload, World};
use super::{File, each};
use crate::code;
use crate::diagnostic::{Diagnostic, closest};
use crate::scalar::{Clusters, Name};
use crate::scenario::{Component, Expect, Step};
use crate::structure::list;
use crate::yaml::escape;

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
            Step::Uninstall(install) => self.several(&at("uninstall/in"), &install.r#in),
            Step::Rotate(rotate) => {
                self.pair(
                    &at("rotate/credentials"),
                    &rotate.credentials.from,
                    &rotate.credentials.to,
                );
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
                wanted.push((
                    at("rotate/credentials"),
                    &rotate.credentials.from,
                    &rotate.credentials.to,
                ));
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

fn known(file: &File<'_>, cluster: &Name) -> bool {
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

fn not_linked(file: &File<'_>, world: &World, pointer: &str, from: &Name, to: &Name, step: usize) -> Diagnostic {
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

/// Services that steps change are deployed where they are changed.
pub(super) fn services_exist(file: &File<'_>, world: &World, problems: &mut Vec<Diagnostic>) {
    let mut check = |name: &Name, clusters: Vec<(String, &Name)>, step: usize, pointer: &str| {
        for (place, cluster) in clusters {
            if known(file, cluster) || file.topology().is_none() {
                service_is_there(file, world, name, cluster, step, pointer, &place, problems);
            }
        }
    };
    for (step, what) in file.steps() {
        let at = |field: &str| format!("/steps/{step}/{field}");
        match what {
            Step::Export(export) => {
                check(
                    &export.service,
                    each(file, &at("export/from"), &export.from),
                    step,
                    &at("export/service"),
                );
            }
            Step::Unexport(unexport) => {
                check(
                    &unexport.service,
                    each(file, &at("unexport/from"), &unexport.from),
                    step,
                    &at("unexport/service"),
                );
            }
            Step::Behave(behave) => {
                check(
                    &behave.service,
                    each(file, &at("behave/in"), &behave.r#in),
                    step,
                    &at("behave/service"),
                );
            }
            Step::Route(route) => {
                check(
                    &route.service,
                    vec![(at("route/in"), &route.r#in)],
                    step,
                    &at("route/service"),
                );
            }
            Step::Scale(scale) => {
                if let Some(service) = &scale.service {
                    check(service, vec![(at("scale/in"), &scale.r#in)], step, &at("scale/service"));
                }
            }
            Step::Restart(restart) => {
                if let Some(service) = &restart.service {
                    check(
                        service,
                        vec![(at("restart/in"), &restart.r#in)],
                        step,
                        &at("restart/service"),
                    );
                }
            }
            _ => {}
        }
    }
    routes_and_exports_are_ended_once(file, problems);
}

#[expect(clippy::too_many_arguments, reason = "all of it is needed to say where and why")]
fn service_is_there(
    file: &File<'_>,
    world: &World,
    name: &Name,
    cluster: &Name,
    step: usize,
    pointer: &str,
    cluster_pointer: &str,
    problems: &mut Vec<Diagnostic>,
) {
    if world.has_service(name, cluster, step) {
        return;
    }
    let elsewhere = world.before(Workload::Service, step).find(|other| other.name == *name);
    if let Some(elsewhere) = elsewhere {
        let clusters: Vec<&str> = world
            .before(Workload::Service, step)
            .filter(|other| other.name == *name)
            .map(|other| other.cluster.0.as_str())
            .collect();
        problems.push(
            Diagnostic::error(
                code::NOT_DEPLOYED,
                format!("`{name}` is not deployed in `{cluster}`"),
                file.at(cluster_pointer),
            )
            .also(file.at(&elsewhere.pointer), format!("deployed in {}", list(&clusters)))
            .help(format!(
                "deploy it there by a step before, or name {} here",
                list(&clusters)
            )),
        );
        return;
    }
    problems.push(unknown_service(file, world, name, cluster, step, pointer));
}

fn unknown_service(
    file: &File<'_>,
    world: &World,
    name: &Name,
    cluster: &Name,
    step: usize,
    pointer: &str,
) -> Diagnostic {
    let mut known: Vec<&str> = world
        .before(Workload::Service, step)
        .map(|deployed| deployed.name.0.as_str())
        .collect();
    known.sort_unstable();
    known.dedup();
    let place = file.at(pointer).find(&name.0);
    let later = world
        .before(Workload::Service, usize::MAX)
        .find(|other| other.name == *name);
    let client = world.before(Workload::Client, step).find(|other| other.name == *name);
    let diagnostic = Diagnostic::error(code::UNKNOWN_SERVICE, format!("unknown service `{name}`"), place)
        .did_you_mean(closest(&name.0, known.iter().copied()));
    if let Some(later) = later {
        diagnostic
            .also(file.at(&later.pointer), "deployed later")
            .help("deploy it before it is used")
    } else if let Some(client) = client {
        diagnostic
            .also(file.at(&client.pointer), "a client")
            .help("a client only sends; deploy a service to be called")
    } else if known.is_empty() {
        diagnostic.help(format!(
            "add a step before: `- deploy: {{service: {name}, in: {cluster}}}`"
        ))
    } else {
        diagnostic.label("no earlier step deploys it").expected(list(&known))
    }
}

fn routes_and_exports_are_ended_once(file: &File<'_>, problems: &mut Vec<Diagnostic>) {
    let mut routes: Vec<(&Name, &Name)> = Vec::new();
    let mut exports: Vec<(&Name, &Name)> = Vec::new();
    for (step, what) in file.steps() {
        match what {
            Step::Route(route) => routes.push((&route.service, &route.r#in)),
            Step::Export(export) => exports.extend(export.from.0.iter().map(|cluster| (&export.service, cluster))),
            // Labels of a Service can export it as well.
            Step::Patch(patch) => exports.extend(file.steps().filter_map(|(_, other)| match other {
                Step::Deploy(deploy) => deploy.service.as_ref().map(|service| (service, &patch.r#in)),
                _ => None,
            })),
            Step::Unroute(unroute) => {
                let wanted = (&unroute.service, &unroute.r#in);
                match routes.iter().position(|route| *route == wanted) {
                    Some(_) => routes.retain(|route| *route != wanted),
                    None => problems.push(
                        Diagnostic::error(
                            code::NOT_STARTED,
                            format!("there is no route for `{}` in `{}`", unroute.service, unroute.r#in),
                            file.at(&format!("/steps/{step}/unroute")),
                        )
                        .help("`unroute` ends what an earlier `route` began"),
                    ),
                }
            }
            Step::Unexport(unexport) => {
                for (pointer, cluster) in each(file, &format!("/steps/{step}/unexport/from"), &unexport.from) {
                    let wanted = (&unexport.service, cluster);
                    let labelled = file.steps().take(step).any(|(_, other)| {
                        matches!(other, Step::Deploy(deploy)
                            if deploy.service.as_ref() == Some(&unexport.service) && !deploy.labels.is_empty())
                    });
                    if exports.contains(&wanted) {
                        exports.retain(|export| *export != wanted);
                    } else if !labelled {
                        problems.push(
                            Diagnostic::error(
                                code::NOT_STARTED,
                                format!("`{}` is not exported from `{cluster}`", unexport.service),
                                file.at(&pointer),
                            )
                            .help("`unexport` ends what an earlier `export` began"),
                        );
                    }
                }
            }
            _ => {}
        }
    }
}

/// Clients that send are deployed, and it is clear from which cluster they send.
pub(super) fn clients_exist(file: &File<'_>, world: &World, problems: &mut Vec<Diagnostic>) {
    for sending in &world.sendings {
        client_is_there(file, world, sending, problems);
    }
    for (step, what) in file.steps() {
        let (client, cluster, verb) = match what {
            Step::Scale(scale) => (scale.client.as_ref(), &scale.r#in, "scale"),
            Step::Restart(restart) => (restart.client.as_ref(), &restart.r#in, "restart"),
            _ => continue,
        };
        if let Some(client) = client {
            let clients: Vec<_> = world.before(Workload::Client, step).collect();
            if !clients
                .iter()
                .any(|other| other.name == *client && other.cluster == *cluster)
            {
                problems.push(unknown_client(
                    file,
                    world,
                    client,
                    step,
                    &format!("/steps/{step}/{verb}/client"),
                ));
            }
        }
    }
    strangers(file, world, problems);
}

fn client_is_there(file: &File<'_>, world: &World, sending: &Sending, problems: &mut Vec<Diagnostic>) {
    let clusters: Vec<&Name> = world
        .before(Workload::Client, sending.step)
        .filter(|client| client.name == sending.from)
        .map(|client| &client.cluster)
        .collect();
    if clusters.is_empty() {
        let pointer = format!("{}/from", sending.pointer);
        problems.push(unknown_client(file, world, &sending.from, sending.step, &pointer));
        return;
    }
    let names: Vec<&str> = clusters.iter().map(|cluster| cluster.0.as_str()).collect();
    match &sending.cluster {
        Some(cluster) if !clusters.contains(&cluster) && (known(file, cluster) || file.topology().is_none()) => {
            problems.push(
                Diagnostic::error(
                    code::UNKNOWN_CLIENT,
                    format!("the client `{}` is not deployed in `{cluster}`", sending.from),
                    file.at(&format!("{}/in", sending.pointer)),
                )
                .expected(list(&names)),
            );
        }
        None if clusters.len() > 1 => problems.push(
            Diagnostic::error(
                code::AMBIGUOUS_CLIENT,
                format!(
                    "the client `{}` is deployed in {} clusters",
                    sending.from,
                    clusters.len()
                ),
                file.at(&format!("{}/from", sending.pointer)),
            )
            .label("which of them sends?")
            .expected(format!("`in` with one of {}", list(&names)))
            .help(format!("add `in: {}`", names.first().copied().unwrap_or_default())),
        ),
        _ => {}
    }
}

fn unknown_client(file: &File<'_>, world: &World, name: &Name, step: usize, pointer: &str) -> Diagnostic {
    let mut known: Vec<&str> = world
        .before(Workload::Client, step)
        .map(|client| client.name.0.as_str())
        .collect();
    known.sort_unstable();
    known.dedup();
    let diagnostic = Diagnostic::error(
        code::UNKNOWN_CLIENT,
        format!("unknown client `{name}`"),
        file.at(pointer),
    )
    .did_you_mean(closest(&name.0, known.iter().copied()));
    if let Some(service) = world.before(Workload::Service, step).find(|other| other.name == *name) {
        return diagnostic
            .also(file.at(&service.pointer), "a service")
            .help("a service only answers; requests are sent by clients: `- deploy: {client: shopper, in: west}`");
    }
    if known.is_empty() {
        return diagnostic.help(format!(
            "add a step before: `- deploy: {{client: {name}, in: <cluster>}}`"
        ));
    }
    diagnostic
        .label("no earlier step deploys it in this cluster")
        .expected(list(&known))
}

/// The stranger of a proof of mutual TLS has no sidecar, the client has one, and both send from the same cluster.
fn strangers(file: &File<'_>, world: &World, problems: &mut Vec<Diagnostic>) {
    for (step, base, expect) in file.expects() {
        let Some(mtls) = &expect.mtls else { continue };
        let sending = world.sendings.iter().find(|sending| sending.step == step);
        let cluster = sending.and_then(|sending| world.cluster_of(sending));
        let Some(cluster) = cluster else { continue };
        let here = |name: &Name| {
            world
                .before(Workload::Client, step)
                .find(|client| client.name == *name && client.cluster == cluster)
        };
        match here(&mtls.stranger) {
            None => problems.push(
                unknown_client(file, world, &mtls.stranger, step, &format!("{base}/mtls/stranger")).help(format!(
                    "the stranger sends from the client's cluster: `- deploy: {{client: {}, in: {cluster}, meshed: false}}`",
                    mtls.stranger
                )),
            ),
            Some(stranger) if stranger.meshed => problems.push(
                Diagnostic::error(
                    code::CONTRADICTION,
                    format!("the stranger `{}` belongs to the mesh", mtls.stranger),
                    file.at(&format!("{base}/mtls/stranger")),
                )
                .also(file.at(&stranger.pointer), "deployed with a sidecar")
                .help("deploy it with `meshed: false`: it must be refused because it has no identity"),
            ),
            Some(_) => {}
        }
        if let Some(client) = here(&mtls.from).filter(|client| !client.meshed) {
            problems.push(
                Diagnostic::error(
                    code::CONTRADICTION,
                    format!("the client `{}` is not in the mesh", mtls.from),
                    file.at(&format!("{base}/mtls/from")),
                )
                .also(file.at(&client.pointer), "deployed without a sidecar")
                .help("mutual TLS is proven from a client with an identity; the one without is the `stranger`"),
            );
        }
    }
}

/// What is called is there: a local service in the client's cluster, or one of a cluster that the client's is linked to.
pub(super) fn targets_are_reachable(file: &File<'_>, world: &World, problems: &mut Vec<Diagnostic>) {
    for sending in &world.sendings {
        let Some(here) = world.cluster_of(sending) else {
            continue;
        };
        let pointer = format!("{}/to", sending.pointer);
        let service = &sending.to.service;
        match &sending.to.cluster {
            None => {
                if world.has_service(service, &here, sending.step) {
                    port_is_there(file, world, sending, &here, problems);
                } else {
                    let there = world
                        .before(Workload::Service, sending.step)
                        .find(|other| other.name == *service);
                    problems.push(match there {
                        None => unknown_service(file, world, service, &here, sending.step, &pointer),
                        Some(there) => Diagnostic::error(
                            code::NOT_DEPLOYED,
                            format!("`{service}` is not deployed in the client's cluster `{here}`"),
                            file.at(&pointer),
                        )
                        .also(file.at(&there.pointer), format!("deployed in `{}`", there.cluster))
                        .did_you_mean(Some(format!("{service}@{}", there.cluster))),
                    });
                }
            }
            Some(there) if *there == here => problems.push(
                Diagnostic::error(
                    code::NOT_LINKED,
                    format!("the client's own cluster `{here}` is no other cluster"),
                    file.at(&pointer),
                )
                .label(format!("`{there}` is where the client is"))
                .did_you_mean(Some(service.0.clone())),
            ),
            Some(there) if known(file, there) && known(file, &here) => {
                if !world.linked(&here, there, sending.step) {
                    problems.push(not_linked(file, world, &pointer, &here, there, sending.step));
                } else if world.has_service(service, there, sending.step) {
                    port_is_there(file, world, sending, there, problems);
                } else {
                    service_is_there(file, world, service, there, sending.step, &pointer, &pointer, problems);
                }
            }
            Some(_) => {}
        }
    }
}

/// A port that is called is one of the service's.
fn port_is_there(file: &File<'_>, world: &World, sending: &Sending, cluster: &Name, problems: &mut Vec<Diagnostic>) {
    let Some(port) = sending.port else { return };
    let deployed = world
        .before(Workload::Service, sending.step)
        .filter(|other| other.name == sending.to.service && other.cluster == *cluster)
        .last();
    let Some(deployed) = deployed else { return };
    // Ports may be changed by a patch or by a fresh object.
    let changed = file.steps().take(sending.step).any(|(_, what)| match what {
        Step::Patch(patch) => patch.object.name == sending.to.service.0,
        Step::Apply(_) => true,
        _ => false,
    });
    let Some(Step::Deploy(deploy)) = file.scenario.steps.get(deployed.step) else {
        return;
    };
    let mut ports: Vec<u16> = deploy.ports.iter().map(|port| port.port).collect();
    if ports.is_empty() {
        ports.push(80);
    }
    if !changed && !ports.contains(&port) {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
        problems.push(
            Diagnostic::error(
                code::UNKNOWN_SERVICE,
                format!("`{}` has no port {port}", sending.to.service),
                file.at(&format!("{}/port", sending.pointer)),
            )
            .also(file.at(&deployed.pointer), "deployed here")
            .expected(list(&ports)),
        );
    }
}

/// Backends of a route are there, or said to be missing.
pub(super) fn routes_lead_somewhere(file: &File<'_>, world: &World, problems: &mut Vec<Diagnostic>) {
    for (step, what) in file.steps() {
        let Step::Route(route) = what else { continue };
        for (index, backend) in route.backends.iter().enumerate() {
            let pointer = format!("/steps/{step}/route/backends/{index}/to");
            let cluster = backend.to.cluster.as_ref().unwrap_or(&route.r#in);
            if !known(file, cluster) {
                continue;
            }
            let there = world.has_service(&backend.to.service, cluster, step);
            if backend.missing {
                if there && backend.to.cluster.is_none() {
                    problems.push(
                        Diagnostic::error(
                            code::CONTRADICTION,
                            format!("`{}` is said to be missing, and is deployed", backend.to),
                            file.key(&format!("/steps/{step}/route/backends/{index}/missing")),
                        )
                        .help("remove `missing`, or name a service that does not exist"),
                    );
                }
                continue;
            }
            if !there {
                let mut found = Vec::new();
                service_is_there(
                    file,
                    world,
                    &backend.to.service,
                    cluster,
                    step,
                    &pointer,
                    &pointer,
                    &mut found,
                );
                problems.extend(found.into_iter().map(|diagnostic| {
                    let help = match &diagnostic.help {
                        Some(help) => format!("{help}; if it is meant not to exist, say `missing: true`"),
                        None => "if it is meant not to exist, say `missing: true`".to_owned(),
                    };
                    diagnostic.help(help)
                }));
            } else if let Some(other) = &backend.to.cluster
                && known(file, &route.r#in)
                && !world.linked(&route.r#in, other, step)
            {
                problems.push(not_linked(file, world, &pointer, &route.r#in, other, step));
            }
        }
    }
}
