//! Every wait has a deadline, and no deadline hides that something hangs.

use std::time::Duration;

use super::checks::Subject;
use super::{File, world::World};
use crate::code;
use crate::diagnostic::Diagnostic;
use crate::scalar::TimeSpan;
use crate::scenario::Step;

/// Longest time in which something may become true.
const WITHIN: Duration = Duration::from_secs(15 * 60);
/// Longest time for which something may have to stay true, and longest timeout of a request.
const HOLDING: Duration = Duration::from_secs(10 * 60);

/// What is observed over time says how long.
pub(super) fn waits_have_deadlines(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    for (_, base, expect) in file.expects() {
        let Some(subject) = Subject::of(expect) else { continue };
        let observed = match subject {
            Subject::Object | Subject::Objects | Subject::Link => true,
            Subject::Traffic => expect.served_by.is_some(),
            _ => false,
        };
        let (within, then_for, never_for) = (
            expect.within.is_some(),
            expect.then_for.is_some(),
            expect.never_for.is_some(),
        );
        if observed && !within && !never_for && !then_for {
            problems.push(
                Diagnostic::error(
                    code::NO_DEADLINE,
                    "a check that does not say how long to wait",
                    file.key(&format!("{base}/{}", subject.field())),
                )
                .label("observed over time")
                .expected("`within` (becomes true in that time, optionally `then_for` so long) or `never_for` (never becomes true)")
                .help("add e.g. `within: 30s`"),
            );
        }
        if then_for && !within {
            problems.push(
                Diagnostic::error(
                    code::THEN_FOR_ALONE,
                    "`then_for` without `within`",
                    file.key(&format!("{base}/then_for")),
                )
                .label("begins when the check holds")
                .help("add until when it must hold, e.g. `within: 1s`"),
            );
        }
        if never_for && (within || then_for) {
            let other = if within { "within" } else { "then_for" };
            problems.push(
                Diagnostic::error(
                    code::NEVER_AND_WITHIN,
                    format!("`never_for` together with `{other}`"),
                    file.key(&format!("{base}/never_for")),
                )
                .also(file.key(&format!("{base}/{other}")), "wants the opposite")
                .help("write two checks"),
            );
        }
    }
}

/// Deadlines are above zero and not endless.
pub(super) fn deadlines_are_bounded(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    let mut bound = |pointer: String, field: &str, span: Option<TimeSpan>, longest: Duration| {
        let Some(span) = span else { return };
        let minutes = longest.as_secs() / 60;
        let message = if span.0.is_zero() {
            format!("`{field}` is zero")
        } else if span.0 > longest {
            format!("`{field}` is longer than {minutes} minutes")
        } else {
            return;
        };
        problems.push(
            Diagnostic::error(code::DEADLINE_RANGE, message, file.at(&pointer))
                .expected(format!("more than 0 and at most {minutes}m")),
        );
    };
    for (step, what) in file.steps() {
        let at = |field: &str| format!("/steps/{step}/{field}");
        match what {
            Step::Expect(expect) => {
                bound(at("expect/within"), "within", expect.within, WITHIN);
                bound(at("expect/then_for"), "then_for", expect.then_for, HOLDING);
                bound(at("expect/never_for"), "never_for", expect.never_for, HOLDING);
                let faster = expect.fails.as_ref().and_then(|fails| fails.faster_than);
                bound(at("expect/fails/faster_than"), "faster_than", faster, HOLDING);
            }
            Step::Call(call) => bound(at("call/timeout"), "timeout", call.timeout, HOLDING),
            Step::Traffic(traffic) => bound(at("traffic/timeout"), "timeout", traffic.timeout, HOLDING),
            Step::Behave(behave) => bound(at("behave/delay"), "delay", behave.delay, HOLDING),
            Step::Fault(fault) => {
                bound(
                    at("fault/delay/by"),
                    "by",
                    fault.delay.as_ref().map(|delay| delay.by),
                    HOLDING,
                );
            }
            _ => {}
        }
    }
}
