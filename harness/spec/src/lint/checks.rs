//! The form of an `expect`: one subject, fields that fit it, and something that could fail. Also the form of steps that
//! take one of several fields.

use super::{File, world::World};
use crate::code;
use crate::diagnostic::Diagnostic;
use crate::scenario::{Component, Expect, HeaderMatcher, Matcher, Step};
use crate::structure::list;
use crate::yaml::escape;

/// What an `expect` looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Object,
    Objects,
    Call,
    Traffic,
    Split,
    Mtls,
    Link,
    Access,
    Rejected,
    Unchanged,
    Residue,
}

impl Subject {
    const ALL: [Self; 11] = [
        Self::Object,
        Self::Objects,
        Self::Call,
        Self::Traffic,
        Self::Split,
        Self::Mtls,
        Self::Link,
        Self::Access,
        Self::Rejected,
        Self::Unchanged,
        Self::Residue,
    ];

    /// Its field.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Objects => "objects",
            Self::Call => "call",
            Self::Traffic => "traffic",
            Self::Split => "split",
            Self::Mtls => "mtls",
            Self::Link => "link",
            Self::Access => "access",
            Self::Rejected => "rejected",
            Self::Unchanged => "unchanged",
            Self::Residue => "residue",
        }
    }

    /// Fields of an `expect` that say something about it.
    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Object => &["is", "where", "within", "then_for", "never_for"],
            Self::Objects => &["where", "count", "within", "then_for", "never_for"],
            Self::Call => &["answered", "fails", "refused"],
            Self::Traffic => &[
                "answered",
                "fails",
                "refused",
                "served_by",
                "lost_at_most",
                "lossless",
                "within",
                "then_for",
                "never_for",
            ],
            Self::Split | Self::Mtls | Self::Rejected => &[],
            Self::Link => &["alive", "within", "then_for", "never_for"],
            Self::Access => &["allowed"],
            Self::Unchanged | Self::Residue => &["within", "then_for"],
        }
    }

    /// Subjects that an `expect` names.
    pub(super) fn all_of(expect: &Expect) -> Vec<Self> {
        let given = |subject: &Self| match subject {
            Self::Object => expect.object.is_some(),
            Self::Objects => expect.objects.is_some(),
            Self::Call => expect.call.is_some(),
            Self::Traffic => expect.traffic.is_some(),
            Self::Split => expect.split.is_some(),
            Self::Mtls => expect.mtls.is_some(),
            Self::Link => expect.link.is_some(),
            Self::Access => expect.access.is_some(),
            Self::Rejected => expect.rejected.is_some(),
            Self::Unchanged => expect.unchanged.is_some(),
            Self::Residue => expect.residue.is_some(),
        };
        Self::ALL.into_iter().filter(given).collect()
    }

    /// The subject of an `expect`; `None` when it has none or several, which is reported by [`one_subject`].
    pub(super) fn of(expect: &Expect) -> Option<Self> {
        match Self::all_of(expect).as_slice() {
            [subject] => Some(*subject),
            _ => None,
        }
    }
}

/// An `expect` looks at exactly one thing.
pub(super) fn one_subject(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    for (_, base, expect) in file.expects() {
        let subjects = Subject::all_of(expect);
        match subjects.as_slice() {
            [] => {
                let names: Vec<&str> = Subject::ALL.iter().map(|subject| subject.field()).collect();
                problems.push(
                    Diagnostic::error(code::SUBJECT, "a check that looks at nothing", file.key(&base))
                        .label("has no subject")
                        .expected(list(&names)),
                );
            }
            [first, second, ..] => problems.push(
                Diagnostic::error(
                    code::SUBJECT,
                    format!(
                        "a check with two subjects: `{}` and `{}`",
                        first.field(),
                        second.field()
                    ),
                    file.key(&format!("{base}/{}", second.field())),
                )
                .label("a second subject")
                .also(file.key(&format!("{base}/{}", first.field())), "the first one")
                .help("write two checks"),
            ),
            [_] => {}
        }
    }
}

/// Fields that an `expect` gives, apart from its subject, its names and its control.
fn given(file: &File<'_>, base: &str) -> Vec<&'static str> {
    const FIELDS: &[&str] = &[
        "is",
        "where",
        "count",
        "answered",
        "fails",
        "refused",
        "served_by",
        "lost_at_most",
        "lossless",
        "alive",
        "allowed",
        "within",
        "then_for",
        "never_for",
    ];
    FIELDS
        .iter()
        .copied()
        .filter(|field| file.places.holds(&format!("{base}/{field}")))
        .collect()
}

/// Fields say something about the subject, and do not contradict each other.
pub(super) fn fields_fit_subject(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    for (_, base, expect) in file.expects() {
        let Some(subject) = Subject::of(expect) else { continue };
        let allowed = subject.fields();
        for field in given(file, &base) {
            if allowed.contains(&field) {
                continue;
            }
            let diagnostic = Diagnostic::error(
                code::NOT_FOR_SUBJECT,
                format!("`{field}` says nothing about `{}`", subject.field()),
                file.key(&format!("{base}/{field}")),
            )
            .also(file.key(&format!("{base}/{}", subject.field())), "the subject");
            let timing = matches!(field, "within" | "then_for" | "never_for");
            problems.push(
                if allowed.is_empty() || (timing && matches!(subject, Subject::Call | Subject::Access)) {
                    diagnostic.help(match subject {
                        Subject::Call => {
                            "a call is over when it is judged, so there is nothing to wait for; to wait use `traffic`"
                                .to_owned()
                        }
                        Subject::Access => "access is decided at once".to_owned(),
                        _ => format!("`{}` decides by itself; remove `{field}`", subject.field()),
                    })
                } else {
                    diagnostic.expected(list(allowed))
                },
            );
        }
        exclusive(file, &base, problems);
    }
}

/// Fields that exclude each other.
fn exclusive(file: &File<'_>, base: &str, problems: &mut Vec<Diagnostic>) {
    let outcomes: Vec<&str> = ["answered", "fails", "refused", "served_by", "lossless"]
        .into_iter()
        .filter(|field| file.places.holds(&format!("{base}/{field}")))
        .collect();
    if let [first, second, ..] = outcomes.as_slice() {
        problems.push(
            Diagnostic::error(
                code::CONTRADICTION,
                format!("`{first}` and `{second}` in one check"),
                file.key(&format!("{base}/{second}")),
            )
            .also(file.key(&format!("{base}/{first}")), "the other one")
            .help("write two checks"),
        );
    }
    if file.places.holds(&format!("{base}/lost_at_most")) && !outcomes.contains(&"served_by") {
        problems.push(
            Diagnostic::error(
                code::NOT_FOR_SUBJECT,
                "`lost_at_most` without `served_by`",
                file.key(&format!("{base}/lost_at_most")),
            )
            .help("it counts what is lost until `served_by` holds; to forbid any loss use `lossless: true`"),
        );
    }
}

/// An `expect` could fail.
pub(super) fn something_is_asserted(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    for (_, base, expect) in file.expects() {
        let Some(subject) = Subject::of(expect) else { continue };
        let nothing = |what: &str, help: &str| {
            Diagnostic::error(
                code::ASSERTS_NOTHING,
                format!("nothing is asserted about this {what}"),
                file.key(&format!("{base}/{}", subject.field())),
            )
            .label("what must hold?")
            .help(help.to_owned())
        };
        match subject {
            Subject::Call if expect.answered.is_none() && expect.fails.is_none() && !expect.refused => {
                problems.push(nothing(
                    "call",
                    "add `answered: {by: <cluster>}`, `fails: {}` or `refused: true`",
                ));
            }
            Subject::Traffic
                if expect.answered.is_none()
                    && expect.fails.is_none()
                    && !expect.refused
                    && expect.served_by.is_none()
                    && !expect.lossless =>
            {
                problems.push(nothing(
                    "traffic",
                    "add `served_by: {only: <cluster>}` with `within`, or `lossless: true`, `answered`, `fails` or `refused: true`",
                ));
            }
            Subject::Link if expect.alive.is_none() => {
                problems.push(nothing("link", "add `alive: true` or `alive: false`"));
            }
            Subject::Access if expect.allowed.is_none() => {
                problems.push(nothing("access", "add `allowed: true` or `allowed: false`"));
            }
            Subject::Split => {
                let weights = expect.split.as_ref().map(|split| &split.weights);
                if weights.is_some_and(|weights| weights.values().all(|weight| *weight == 0)) {
                    problems.push(
                        Diagnostic::error(
                            code::ASSERTS_NOTHING,
                            "a split without any share",
                            file.at(&format!("{base}/split/weights")),
                        )
                        .expected("a weight above 0 for at least one cluster"),
                    );
                }
            }
            _ => {}
        }
        for field in ["refused", "lossless"] {
            let pointer = format!("{base}/{field}");
            let said = if field == "refused" {
                expect.refused
            } else {
                expect.lossless
            };
            if file.places.holds(&pointer) && !said {
                problems.push(
                    Diagnostic::error(
                        code::ASSERTS_NOTHING,
                        format!("`{field}: false` asserts nothing"),
                        file.at(&pointer),
                    )
                    .help("remove it; say what must hold instead"),
                );
            }
        }
        if let Some(served) = &expect.served_by {
            let pointer = format!("{base}/served_by");
            match (&served.only, &served.each) {
                (None, None) => problems.push(
                    Diagnostic::error(code::ASSERTS_NOTHING, "`served_by` names nobody", file.at(&pointer))
                        .expected("`only: <cluster>` or `each: [<cluster>, <cluster>]`"),
                ),
                (Some(_), Some(_)) => problems.push(
                    Diagnostic::error(
                        code::CONTRADICTION,
                        "`only` and `each` in one check",
                        file.key(&format!("{pointer}/each")),
                    )
                    .also(file.key(&format!("{pointer}/only")), "the other one")
                    .help("`only` lists who may serve, `each` who must; write two checks"),
                ),
                _ => {}
            }
        }
    }
}

/// A matcher has a place and compares once.
pub(super) fn matchers_compare_once(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    for (_, base, expect) in file.expects() {
        for (index, matcher) in expect.r#where.iter().enumerate() {
            let pointer = format!("{base}/where/{index}");
            if matcher.path.trim().is_empty() {
                problems.push(
                    Diagnostic::error(code::MISSING_FIELD, "a matcher without `path`", file.at(&pointer))
                        .expected("the place in the object, e.g. `path: spec.ports[*].port`"),
                );
            } else if let Some(fault) = path_fault(&matcher.path) {
                problems.push(
                    Diagnostic::error(
                        code::BAD_VALUE,
                        format!("`{}` is no place in an object", matcher.path),
                        file.at(&format!("{pointer}/path")),
                    )
                    .label(fault)
                    .expected("words joined by `.`, e.g. `spec.ports[*].port`, `metadata.labels.\"a.b/c\"` or `status.conditions[type=Ready].status`"),
                );
            }
            compare_once(file, &pointer, &comparisons(matcher), &COMPARISONS, problems);
        }
        for (header, matcher) in expect.answered.iter().flat_map(|answered| &answered.seen) {
            let pointer = format!("{base}/answered/seen/{}", escape(header));
            compare_once(
                file,
                &pointer,
                &header_comparisons(matcher),
                &HEADER_COMPARISONS,
                problems,
            );
        }
    }
}

const COMPARISONS: [&str; 8] = [
    "equals", "one_of", "contains", "excludes", "exists", "at_least", "at_most", "length",
];
const HEADER_COMPARISONS: [&str; 4] = ["equals", "contains", "excludes", "exists"];

fn comparisons(matcher: &Matcher) -> Vec<&'static str> {
    let given = [
        matcher.equals.is_some(),
        matcher.one_of.is_some(),
        matcher.contains.is_some(),
        matcher.excludes.is_some(),
        matcher.exists.is_some(),
        matcher.at_least.is_some(),
        matcher.at_most.is_some(),
        matcher.length.is_some(),
    ];
    COMPARISONS
        .into_iter()
        .zip(given)
        .filter(|(_, given)| *given)
        .map(|(name, _)| name)
        .collect()
}

fn header_comparisons(matcher: &HeaderMatcher) -> Vec<&'static str> {
    let given = [
        matcher.equals.is_some(),
        matcher.contains.is_some(),
        matcher.excludes.is_some(),
        matcher.exists.is_some(),
    ];
    HEADER_COMPARISONS
        .into_iter()
        .zip(given)
        .filter(|(_, given)| *given)
        .map(|(name, _)| name)
        .collect()
}

fn compare_once(file: &File<'_>, pointer: &str, given: &[&str], known: &[&str], problems: &mut Vec<Diagnostic>) {
    match given {
        [_] => {}
        [] => {
            let null = known.iter().any(|name| file.places.holds(&format!("{pointer}/{name}")));
            let diagnostic = Diagnostic::error(
                code::COMPARISON,
                "a matcher that compares with nothing",
                file.at(pointer),
            )
            .expected(list(known));
            problems.push(if null {
                diagnostic.help("to want that nothing is there, write `exists: false`")
            } else {
                diagnostic
            });
        }
        [first, second, ..] => problems.push(
            Diagnostic::error(
                code::COMPARISON,
                format!("a matcher with two comparisons: `{first}` and `{second}`"),
                file.key(&format!("{pointer}/{second}")),
            )
            .also(file.key(&format!("{pointer}/{first}")), "the first one")
            .help("write a second matcher with the same place"),
        ),
    }
}

/// What is wrong with a path into an object.
fn path_fault(path: &str) -> Option<&'static str> {
    let mut quoted = false;
    let mut bracket = false;
    let mut previous = '.';
    for c in path.chars() {
        match c {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '[' if bracket => return Some("`[` within `[...]`"),
            '[' => bracket = true,
            ']' if !bracket => return Some("`]` without `[`"),
            ']' => {
                if previous == '[' {
                    return Some("`[]` without `*`, an index or a filter");
                }
                bracket = false;
            }
            _ if bracket => {}
            '.' if previous == '.' => return Some("an empty word between dots"),
            '/' => return Some("a word with `/` needs quotes: `metadata.labels.\"a.b/c\"`"),
            c if c.is_whitespace() => return Some("a space outside of quotes"),
            _ => {}
        }
        previous = c;
    }
    if quoted {
        Some("a quote that is not closed")
    } else if bracket {
        Some("`[` without `]`")
    } else if previous == '.' {
        Some("ends with a dot")
    } else {
        None
    }
}

/// Numbers of objects are possible.
pub(super) fn counts_make_sense(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    for (_, base, expect) in file.expects() {
        let Some(count) = &expect.count else { continue };
        let pointer = format!("{base}/count");
        match (count.exactly, count.at_least, count.at_most) {
            (None, None, None) => problems.push(
                Diagnostic::error(code::ASSERTS_NOTHING, "`count` without a number", file.at(&pointer))
                    .expected("`exactly`, `at_least` or `at_most`"),
            ),
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => problems.push(
                Diagnostic::error(
                    code::CONTRADICTION,
                    "`exactly` together with a bound",
                    file.key(&format!("{pointer}/exactly")),
                )
                .help("keep `exactly`, or `at_least` and `at_most`"),
            ),
            (None, Some(least), Some(most)) if least > most => problems.push(
                Diagnostic::error(
                    code::CONTRADICTION,
                    format!("no number is at least {least} and at most {most}"),
                    file.at(&pointer),
                )
                .help("exchange the two"),
            ),
            (None, Some(0), None) => problems.push(
                Diagnostic::error(
                    code::ASSERTS_NOTHING,
                    "`at_least: 0` is always true",
                    file.at(&format!("{pointer}/at_least")),
                )
                .help("give a number above 0, or `exactly: 0` to want none"),
            ),
            _ => {}
        }
    }
}

/// Steps that take exactly one of several fields.
pub(super) fn one_of_several_fields(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    for (step, what) in file.steps() {
        let base = format!("/steps/{step}");
        let mut one_of = |verb: &str, fields: &[&str]| exactly_one(file, &format!("{base}/{verb}"), fields, problems);
        match what {
            Step::Deploy(_) => one_of("deploy", &["service", "client"]),
            Step::Scale(_) => one_of("scale", &["service", "client", "component"]),
            Step::Restart(_) => one_of("restart", &["service", "client", "component"]),
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
                let wrong = path.is_some_and(|path| !path.starts_with('/') || path.contains([' ', '#']));
                range(
                    at("call/path"),
                    wrong,
                    "a path that no request can have",
                    "a path that begins with `/`, without spaces and `#`",
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
                let many = deploy.replicas.is_some_and(|replicas| replicas > 50);
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
            Step::Scale(scale) => range(at("scale/to"), scale.to > 50, "too many replicas", "at most 50"),
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
                let failed = expect.fails.iter().flat_map(|fails| &fails.status);
                let wrong = failed.clone().any(|status| !(100..=599).contains(status));
                range(at("expect/fails/status"), wrong, "no status of an answer", "100 to 599");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::path_fault;
    use rstest::rstest;

    #[rstest]
    #[case("spec.ports[*].port")]
    #[case("metadata.labels.\"a.b/c\"")]
    #[case("status.conditions[type=Ready].status")]
    #[case("subsets[0].addresses[*].ip")]
    #[case("status.mirrorServices[remoteRef.name=depot].conditions[*].status")]
    fn good_paths(#[case] path: &str) {
        assert_eq!(path_fault(path), None);
    }

    #[rstest]
    #[case("spec..ports")]
    #[case("spec.ports[*")]
    #[case("spec.ports[]")]
    #[case("spec.")]
    #[case(".spec")]
    #[case("metadata.labels.a/b")]
    #[case("metadata.labels.\"a")]
    #[case("spec ports")]
    fn bad_paths(#[case] path: &str) {
        assert!(path_fault(path).is_some());
    }
}
