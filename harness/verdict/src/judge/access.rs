//! What a user may do. Decided by the first answer.

use super::{Assessment, Context, Finding};
use crate::question::{AccessQuestion, Observation};
use crate::record::Outcome;

pub(crate) fn expectation(question: &AccessQuestion) -> String {
    format!("{} is {}", question.subject, word(question.allowed))
}

fn word(allowed: bool) -> &'static str {
    if allowed { "allowed" } else { "denied" }
}

pub(crate) fn assess(question: &AccessQuestion, context: &Context<'_>) -> Assessment {
    let mut trouble = String::new();
    for (at_us, observation) in context.observations() {
        match observation {
            Observation::Access { allowed, reason } => {
                let outcome = if *allowed == question.allowed {
                    Outcome::Pass
                } else {
                    Outcome::Fail
                };
                let happened = if reason.is_empty() {
                    word(*allowed).to_owned()
                } else {
                    format!("{} ({reason})", word(*allowed))
                };
                return Assessment::settled(Finding::new(outcome, at_us, happened));
            }
            Observation::Blind { reason } => trouble = format!("no answer ({reason})"),
            _ => {}
        }
    }
    Assessment::open(trouble)
}
