//! Services and clients: deployed where they are used, and reachable.

use super::network::{known, not_linked};
use super::world::{Sending, Workload, World};
use super::{File, each};
use crate::code;
use crate::diagnostic::{Diagnostic, closest};
use crate::scalar::Name;
use crate::scenario::Step;
use crate::structure::list;

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
