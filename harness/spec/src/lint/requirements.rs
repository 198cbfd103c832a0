//! Requirements: known, promised in `checks`, and decided.

use super::{File, world::World};
use crate::code;
use crate::diagnostic::{Diagnostic, closest};
use crate::structure::list;
use crate::suite::closest_requirement;

/// Requirements are in the catalogue.
pub(super) fn known(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    if file.scenario.checks.is_empty() {
        problems.push(
            Diagnostic::error(
                code::EMPTY_LIST,
                "the scenario promises to decide nothing",
                file.key("/checks"),
            )
            .expected("at least one requirement of `scenarios/catalogue/`"),
        );
    }
    let Some(known) = &file.library.requirements else {
        return;
    };
    for (index, id) in file.scenario.checks.iter().enumerate() {
        if !known.contains_key(&id.0) {
            problems.push(
                Diagnostic::error(
                    code::UNKNOWN_REQUIREMENT,
                    format!("unknown requirement `{id}`"),
                    file.at(&format!("/checks/{index}")),
                )
                .label("in no file of the catalogue")
                .did_you_mean(closest_requirement(&id.0, known))
                .help("requirements are listed in `scenarios/catalogue/`; a new one is added there first"),
            );
        }
    }
}

/// Every check says which requirement it decides, and the scenario promises that one.
pub(super) fn every_check_names_one(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    let checks = &file.scenario.checks;
    let promised: Vec<&str> = checks.iter().map(|id| id.0.as_str()).collect();
    for (_, base, expect) in file.expects() {
        match &expect.id {
            None => {
                let mut diagnostic = Diagnostic::error(
                    code::NO_REQUIREMENT,
                    "a check that decides no requirement",
                    file.key(&base),
                )
                .label("has no `id`");
                if !promised.is_empty() {
                    diagnostic = diagnostic.expected(format!("`id` with one of `checks`: {}", list(&promised)));
                }
                problems.push(diagnostic.help(match promised.first() {
                    Some(first) => format!("add `id: {first}`"),
                    None => "add `id: <requirement>`".to_owned(),
                }));
            }
            Some(id) if !checks.contains(id) => {
                let place = file.at(&format!("{base}/id"));
                let unknown = file
                    .library
                    .requirements
                    .as_ref()
                    .is_some_and(|known| !known.contains_key(&id.0));
                let meant = closest(&id.0, promised.iter().copied());
                problems.push(if unknown {
                    Diagnostic::error(code::UNKNOWN_REQUIREMENT, format!("unknown requirement `{id}`"), place)
                        .label("in no file of the catalogue")
                        .expected(format!("one of `checks`: {}", list(&promised)))
                        .did_you_mean(meant)
                } else {
                    Diagnostic::error(
                        code::NOT_IN_CHECKS,
                        format!("`{id}` is decided but not promised"),
                        place,
                    )
                    .also(file.key("/checks"), "not in this list")
                    .help(format!("add `{id}` to `checks`"))
                });
            }
            Some(_) => {}
        }
    }
}

/// What `checks` promises is decided.
pub(super) fn all_checks_are_decided(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    for (index, id) in file.scenario.checks.iter().enumerate() {
        if !file.expects().any(|(_, _, expect)| expect.id.as_ref() == Some(id)) {
            problems.push(
                Diagnostic::error(
                    code::NEVER_DECIDED,
                    format!("`{id}` is promised and never decided"),
                    file.at(&format!("/checks/{index}")),
                )
                .help(format!("add an `expect` with `id: {id}`, or remove it from `checks`")),
            );
        }
    }
}
