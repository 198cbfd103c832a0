//! The form of an `expect`: one subject, fields that fit it, and something that could fail.

use super::{File, world::World};
use crate::code;
use crate::diagnostic::Diagnostic;
use crate::scenario::Expect;
use crate::structure::list;

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

/// `never_for` is the opposite of *once*: what no single request can be is not asked that way. A refusal says why.
pub(super) fn never_is_asked_of_single_requests(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    for (_, base, expect) in file.expects() {
        if expect
            .rejected
            .as_ref()
            .is_some_and(|rejected| rejected.message.trim().is_empty())
        {
            problems.push(
                Diagnostic::error(
                    code::EMPTY_TEXT,
                    "any refusal has an empty text in it",
                    file.at(&format!("{base}/rejected/message")),
                )
                .help("write a word that only the right refusal has"),
            );
        }
        if expect.traffic.is_none() || expect.never_for.is_none() {
            continue;
        }
        let each = expect.served_by.as_ref().is_some_and(|served| served.each.is_some());
        let share = expect.fails.as_ref().is_some_and(|fails| fails.share.is_some());
        let field = match (each, share, expect.lossless) {
            (true, _, _) => "served_by/each",
            (_, true, _) => "fails/share",
            (_, _, true) => "lossless",
            _ => continue,
        };
        problems.push(
            Diagnostic::error(
                code::CONTRADICTION,
                format!(
                    "`never_for` of something that no single request can be: `{}`",
                    field.replace('/', ".")
                ),
                file.key(&format!("{base}/{field}")),
            )
            .also(file.key(&format!("{base}/never_for")), "means: not one request")
            .help("say what no request may be, e.g. `served_by: {only: east}`, `answered: {}` or `fails: {}`"),
        );
    }
}
