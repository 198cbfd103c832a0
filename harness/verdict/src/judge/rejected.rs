//! An object that must not be admitted. Decided by the first answer.
//!
//! Only an answer of the 4xx class is a refusal of this object. No answer (status 0), 401, 408, 429 and the 5xx class
//! say that the server could not be asked: an error of the environment.

use super::{Assessment, Context, Finding, wording};
use crate::question::{Observation, RejectedQuestion};
use crate::record::Outcome;

pub(crate) fn expectation(question: &RejectedQuestion) -> String {
    format!("{} is rejected with \"{}\"", question.subject, question.message)
}

pub(crate) fn assess(question: &RejectedQuestion, context: &Context<'_>) -> Assessment {
    let mut trouble = String::new();
    for (at_us, observation) in context.observations() {
        match observation {
            Observation::Admission {
                accepted,
                status,
                message,
            } => {
                let said = wording::cut(message);
                let (outcome, happened) = match (*accepted, *status) {
                    (true, status) => (Outcome::Fail, format!("it was accepted (status {status})")),
                    (false, 0 | 401 | 408 | 429 | 500..) => (
                        Outcome::Error,
                        format!("the server could not be asked (status {status}): {said}"),
                    ),
                    (false, 400..) if message.contains(&question.message) => {
                        (Outcome::Pass, format!("rejected (status {status}): {said}"))
                    }
                    (false, 400..) => (
                        Outcome::Fail,
                        format!("it was rejected with another message (status {status}): {said}"),
                    ),
                    (false, _) => (
                        Outcome::Error,
                        format!("the server's answer is no refusal (status {status}): {said}"),
                    ),
                };
                return Assessment::settled(Finding::new(outcome, at_us, happened));
            }
            Observation::Blind { reason } => trouble = format!("no answer ({reason})"),
            _ => {}
        }
    }
    Assessment::open(trouble)
}
