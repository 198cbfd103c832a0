//! Warnings: what is allowed and usually a mistake.

use super::{
    File,
    world::{Kind, World},
};
use crate::code;
use crate::diagnostic::Diagnostic;
use crate::scenario::Step;

/// Routes split something.
pub(super) fn routes(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    for (step, what) in file.steps() {
        let Step::Route(route) = what else { continue };
        let pointer = format!("/steps/{step}/route/backends");
        match route.backends.as_slice() {
            [] => problems.push(
                Diagnostic::error(code::EMPTY_LIST, "a route without a backend", file.key(&pointer))
                    .expected("at least one `{to: <target>, weight: <number>}`")
                    .help("to remove a route use `unroute`"),
            ),
            [_] => problems.push(
                Diagnostic::warning(
                    code::SUSPICIOUS,
                    "a route with a single backend splits nothing",
                    file.key(&pointer),
                )
                .help("add the other backend, with weight 0 if it must get nothing"),
            ),
            backends => {
                for (index, backend) in backends.iter().enumerate() {
                    let first = backends.iter().take(index).position(|other| other.to == backend.to);
                    if let Some(first) = first {
                        problems.push(
                            Diagnostic::warning(
                                code::SUSPICIOUS,
                                format!("`{}` is a backend twice", backend.to),
                                file.at(&format!("{pointer}/{index}/to")),
                            )
                            .also(file.at(&format!("{pointer}/{first}/to")), "first here")
                            .help("add the weights, or name another backend"),
                        );
                    }
                }
            }
        }
    }
}

/// Lists that name the same thing twice, and summaries that say nothing.
pub(super) fn repetitions(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    if file.scenario.summary.trim().is_empty() {
        problems.push(
            Diagnostic::error(code::EMPTY_TEXT, "the summary is empty", file.at("/summary"))
                .expected("one sentence for people: what is shown"),
        );
    }
    if file.scenario.steps.is_empty() && !file.incomplete {
        problems.push(
            Diagnostic::error(code::EMPTY_LIST, "the scenario does nothing", file.key("/steps"))
                .expected("at least one step"),
        );
    }
    for (index, tag) in file.scenario.tags.iter().enumerate() {
        if file.scenario.tags.iter().take(index).any(|other| other == tag) {
            problems.push(
                Diagnostic::warning(
                    code::SUSPICIOUS,
                    format!("the tag `{tag}` stands twice"),
                    file.at(&format!("/tags/{index}")),
                )
                .help("remove one"),
            );
        }
    }
    let setup = file.scenario.setup.as_ref();
    if setup.is_some_and(|setup| setup.bare && setup.unlinked) {
        problems.push(
            Diagnostic::warning(
                code::SUSPICIOUS,
                "`bare` includes `unlinked`",
                file.key("/setup/unlinked"),
            )
            .help("remove `unlinked`: where nothing is installed, nothing is linked"),
        );
    }
}

/// Calls, traffic and inventories are looked at.
pub(super) fn everything_is_observed(file: &File<'_>, world: &World, problems: &mut Vec<Diagnostic>) {
    for named in &world.names {
        let used = file.expects().any(|(_, _, expect)| {
            let controls = expect.control.contains(&named.name);
            match named.kind {
                Kind::Call => expect.call.as_ref() == Some(&named.name) || controls,
                Kind::Traffic => expect.traffic.as_ref() == Some(&named.name) || controls,
                Kind::Inventory => expect
                    .unchanged
                    .as_ref()
                    .is_some_and(|unchanged| unchanged.since == named.name),
                Kind::Fault | Kind::Check => true,
            }
        });
        if !used {
            problems.push(
                Diagnostic::warning(
                    code::UNOBSERVED,
                    format!("no check looks at the {} `{}`", named.kind.word(), named.name),
                    file.at(&named.pointer),
                )
                .help(match named.kind {
                    Kind::Inventory => "add `- expect: {id: ..., unchanged: {since: ..., in: ...}}`, or remove it",
                    _ => "add an `expect` about it, or remove it",
                }),
            );
        }
    }
}
