//! The form of steps other than `expect`: one of several fields, and numbers that make sense.

use super::{File, each, world::World};
use crate::code;
use crate::diagnostic::Diagnostic;
use crate::scenario::{Component, Step};
use crate::structure::list;

/// Pods of one workload.
pub(super) const MOST_REPLICAS: u32 = 50;

/// Steps that take exactly one of several fields.
pub(super) fn one_of_several_fields(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    for (step, what) in file.steps() {
        let base = format!("/steps/{step}");
        let mut one_of = |verb: &str, fields: &[&str]| exactly_one(file, &format!("{base}/{verb}"), fields, problems);
        match what {
            Step::Deploy(_) => one_of("deploy", &["service", "client"]),
            Step::Scale(_) => one_of("scale", &["service", "client", "component"]),
            Step::Restart(_) => one_of("restart", &["service", "client", "component"]),
            Step::Rotate(_) => one_of("rotate", &["credentials", "trust"]),
            Step::Apply(_) => one_of("apply", &["manifest", "file"]),
            Step::Fault(_) => one_of(
                "fault",
                &["partition", "delay", "reset", "steal_lease", "deny_writes", "pause_api"],
            ),
            Step::Expect(expect) => {
                if expect.rejected.is_some() {
                    one_of("expect/rejected", &["manifest", "file", "uninstall"]);
                }
                if expect.residue.is_some() {
                    one_of("expect/residue", &["link", "mesh"]);
                }
            }
            _ => {}
        }
        controllers_name_their_link(file, &base, what, problems);
        clients_are_no_services(file, &base, what, problems);
    }
}

fn exactly_one(file: &File<'_>, base: &str, fields: &[&str], problems: &mut Vec<Diagnostic>) {
    let given: Vec<&str> = fields
        .iter()
        .copied()
        .filter(|field| file.places.holds(&format!("{base}/{field}")))
        .collect();
    let verb = base.rsplit('/').next().unwrap_or_default();
    match given.as_slice() {
        [_] => {}
        [] => problems.push(
            Diagnostic::error(
                code::EXACTLY_ONE_OF,
                format!("`{verb}` names none of {}", list(fields)),
                file.key(base),
            )
            .expected(format!("exactly one of {}", list(fields))),
        ),
        [first, second, ..] => problems.push(
            Diagnostic::error(
                code::EXACTLY_ONE_OF,
                format!("both `{first}` and `{second}`"),
                file.key(&format!("{base}/{second}")),
            )
            .label("a second one")
            .also(file.key(&format!("{base}/{first}")), "the first one")
            .expected(format!("exactly one of {}", list(fields)))
            .help("write two steps"),
        ),
    }
}

fn controllers_name_their_link(file: &File<'_>, base: &str, step: &Step, problems: &mut Vec<Diagnostic>) {
    let (verb, component, of) = match step {
        Step::Scale(scale) => ("scale", scale.component, &scale.of),
        Step::Restart(restart) => ("restart", restart.component, &restart.of),
        _ => return,
    };
    match (component, of) {
        (Some(Component::Controller), None) => problems.push(
            Diagnostic::error(
                code::MISSING_FIELD,
                "a controller without `of`",
                file.at(&format!("{base}/{verb}/component")),
            )
            .help("each link has a controller of its own: `of: <cluster>` names the cluster that it mirrors"),
        ),
        (Some(Component::Gateway) | None, Some(_)) => problems.push(
            Diagnostic::error(
                code::NOT_FOR_SUBJECT,
                "`of` belongs to `component: controller` only",
                file.key(&format!("{base}/{verb}/of")),
            )
            .help("remove it"),
        ),
        _ => {}
    }
}

/// Clients have no Service, so nothing of a Service fits them.
fn clients_are_no_services(file: &File<'_>, base: &str, step: &Step, problems: &mut Vec<Diagnostic>) {
    let Step::Deploy(deploy) = step else { return };
    if deploy.client.is_none() || deploy.service.is_some() {
        return;
    }
    for field in ["ports", "labels", "annotations"] {
        let pointer = format!("{base}/deploy/{field}");
        if file.places.holds(&pointer) {
            problems.push(
                Diagnostic::error(
                    code::NOT_FOR_SUBJECT,
                    format!("`{field}` belongs to services only"),
                    file.key(&pointer),
                )
                .also(file.key(&format!("{base}/deploy/client")), "a client has no Service")
                .help("remove it"),
            );
        }
    }
    if deploy.replicas == Some(0) {
        problems.push(
            Diagnostic::error(
                code::OUT_OF_RANGE,
                "a client without pods",
                file.at(&format!("{base}/deploy/replicas")),
            )
            .expected("1 or more"),
        );
    }
}

/// Numbers that a type allows and the language does not.
pub(super) fn numbers_make_sense(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    let mut range = |pointer: String, wrong: bool, what: &str, expected: &str| {
        if wrong {
            problems.push(
                Diagnostic::error(code::OUT_OF_RANGE, what.to_owned(), file.at(&pointer)).expected(expected.to_owned()),
            );
        }
    };
    for (step, what) in file.steps() {
        let at = |field: &str| format!("/steps/{step}/{field}");
        match what {
            Step::Call(call) => {
                let count = call.count.unwrap_or(1);
                let much = "1 to 1000000 requests";
                range(
                    at("call/count"),
                    count == 0 || count > 1_000_000,
                    "a number of requests out of range",
                    much,
                );
                let connections = call.connections.unwrap_or(1);
                let few = "1 to 1000 connections";
                range(
                    at("call/connections"),
                    connections == 0 || connections > 1000,
                    "a number of connections out of range",
                    few,
                );
                range(
                    at("call/port"),
                    call.port == Some(0),
                    "port 0",
                    "a port from 1 to 65535",
                );
                let path = call.path.as_ref();
                let wrong = path.is_some_and(|path| !is_path(path));
                range(
                    at("call/path"),
                    wrong,
                    "a path that no request can have",
                    "a path that begins with `/`, of printable ASCII without spaces and any of `\"#<>\\^`{|}`; others as `%20`",
                );
            }
            Step::Traffic(traffic) => {
                range(
                    at("traffic/rate"),
                    traffic.rate.0 > 10_000.0,
                    "a rate that no agent sends",
                    "at most 10000/s",
                );
                let connections = traffic.connections.unwrap_or(4);
                range(
                    at("traffic/connections"),
                    connections == 0 || connections > 1000,
                    "a number of connections out of range",
                    "1 to 1000 connections",
                );
                range(
                    at("traffic/port"),
                    traffic.port == Some(0),
                    "port 0",
                    "a port from 1 to 65535",
                );
            }
            Step::Deploy(deploy) => {
                let many = deploy.replicas.is_some_and(|replicas| replicas > MOST_REPLICAS);
                range(at("deploy/replicas"), many, "too many replicas", "at most 50");
                for (index, port) in deploy.ports.iter().enumerate() {
                    let zero = port.port == 0 || port.target == Some(0);
                    range(
                        at(&format!("deploy/ports/{index}")),
                        zero,
                        "port 0",
                        "ports from 1 to 65535",
                    );
                    let earlier = deploy.ports.iter().take(index);
                    let twice = earlier
                        .clone()
                        .any(|other| other.port == port.port || other.name == port.name);
                    range(
                        at(&format!("deploy/ports/{index}")),
                        twice,
                        "a port that is there already",
                        "ports with different names and numbers",
                    );
                }
            }
            Step::Scale(scale) => range(
                at("scale/to"),
                scale.to > MOST_REPLICAS,
                "too many replicas",
                "at most 50",
            ),
            Step::Behave(behave) => {
                let status = behave.status.is_some_and(|status| !(200..=599).contains(&status));
                range(at("behave/status"), status, "no status of an answer", "200 to 599");
            }
            Step::Fault(fault) => {
                let verbs = fault
                    .deny_writes
                    .as_ref()
                    .map(|deny| deny.verbs.as_slice())
                    .unwrap_or_default();
                for (index, verb) in verbs.iter().enumerate() {
                    let known = ["create", "update", "patch", "delete"].contains(&verb.as_str());
                    range(
                        at(&format!("fault/deny_writes/verbs/{index}")),
                        !known,
                        &format!("`{verb}` is no verb that writes"),
                        "`create`, `update`, `patch` or `delete`",
                    );
                }
                let none = fault.deny_writes.is_some() && verbs.is_empty();
                range(
                    at("fault/deny_writes/verbs"),
                    none,
                    "no verb is denied",
                    "`create`, `update`, `patch` or `delete`",
                );
            }
            Step::Expect(expect) => {
                let share = expect.fails.as_ref().and_then(|fails| fails.share);
                let wrong = share.is_some_and(|share| !(share > 0.0 && share <= 1.0));
                range(
                    at("expect/fails/share"),
                    wrong,
                    "a share out of range",
                    "above 0 and at most 1",
                );
                let points = expect.split.as_ref().and_then(|split| split.detect_points);
                let wrong = points.is_some_and(|points| !(0.5..=50.0).contains(&points));
                range(
                    at("expect/split/detect_points"),
                    wrong,
                    "a difference out of range",
                    "0.5 to 50 percentage points",
                );
                let answered = expect.answered.iter().flat_map(|answered| &answered.status);
                let wrong = answered.clone().any(|status| !(100..=599).contains(status));
                range(
                    at("expect/answered/status"),
                    wrong,
                    "no status of an answer",
                    "100 to 599",
                );
                let both = expect.answered.as_ref().is_some_and(|answered| {
                    let of_a_server = answered.by.is_some()
                        || answered.host.is_some()
                        || answered.protocol.is_some()
                        || answered.port.is_some()
                        || !answered.seen.is_empty();
                    answered.by_mesh && of_a_server
                });
                range(
                    at("expect/answered/by_mesh"),
                    both,
                    "the mesh's own answers tell nothing that a deployed service would",
                    "`by_mesh` with nothing but `status`",
                );
                let failed = expect.fails.iter().flat_map(|fails| &fails.status);
                let wrong = failed.clone().any(|status| !(100..=599).contains(status));
                range(at("expect/fails/status"), wrong, "no status of an answer", "100 to 599");
            }
            _ => {}
        }
    }
}

/// The scenario's namespace is created where it is absent.
pub(super) fn namespaces_are_absent_first(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    let absent = file.scenario.namespace.absent_in.as_ref();
    for (step, what) in file.steps() {
        let Step::Namespace(namespace) = what else { continue };
        for (pointer, cluster) in each(
            file,
            &format!("/steps/{step}/namespace/create_in"),
            &namespace.create_in,
        ) {
            if !absent.is_some_and(|absent| absent.0.contains(cluster)) {
                problems.push(
                    Diagnostic::error(
                        code::CONTRADICTION,
                        format!("the scenario's namespace exists in `{cluster}` from the beginning"),
                        file.at(&pointer),
                    )
                    .help(format!(
                        "remove the step, or begin without it: `namespace: {{absent_in: {cluster}}}` at the top"
                    )),
                );
            }
        }
    }
}

/// Whether a request can have this path, with its query (RFC 3986, and what HTTP implementations take beside it). What stands
/// for something else (`${…}`) is known only later.
fn is_path(path: &str) -> bool {
    let taken = |c: char| c.is_ascii_graphic() && !"\"#<>\\^`{|}".contains(c);
    path.starts_with('/') && (path.contains("${") || path.chars().all(taken))
}

#[cfg(test)]
mod tests {
    #[rstest::rstest]
    #[case("/", true)]
    #[case("/a?b=c&d=%20e;f:g@h", true)]
    #[case("/orders/${client}", true)]
    #[case("/a?b=<x>", false)]
    #[case("/a b", false)]
    #[case("/a#b", false)]
    #[case("/a\"b", false)]
    #[case("/\u{e9}", false)]
    #[case("/a\tb", false)]
    #[case("a", false)]
    #[case("", false)]
    fn paths_are_what_requests_can_carry(#[case] path: &str, #[case] good: bool) {
        assert_eq!(super::is_path(path), good);
    }
}
