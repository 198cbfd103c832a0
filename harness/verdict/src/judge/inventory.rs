//! What is left or has changed.

use super::objects::over_time;
use super::timeline::{Seen, Sighting};
use super::{Assessment, Context, wording};
use crate::question::{InventoryQuestion, Observation};

pub(crate) fn expectation(question: &InventoryQuestion) -> String {
    format!(
        "{}: nothing unexpected and nothing missing{}",
        question.subject,
        wording::timing(&question.timing)
    )
}

pub(crate) fn assess(question: &InventoryQuestion, context: &Context<'_>) -> Assessment {
    let sightings: Vec<Sighting> = context
        .observations()
        .filter_map(|(at_us, observation)| {
            let (state, text) = match observation {
                Observation::Inventory { unexpected, missing } => look(unexpected, missing),
                Observation::Blind { reason } => (Seen::Blind, format!("not observable ({reason})")),
                _ => return None,
            };
            Some(Sighting { at_us, state, text })
        })
        .collect();
    over_time(&question.timing, &sightings, context)
}

fn look(unexpected: &[String], missing: &[String]) -> (Seen, String) {
    let mut parts = Vec::new();
    if !unexpected.is_empty() {
        parts.push(format!(
            "{} unexpected: {}",
            unexpected.len(),
            wording::list(unexpected.iter().map(String::as_str))
        ));
    }
    if !missing.is_empty() {
        parts.push(format!(
            "{} missing: {}",
            missing.len(),
            wording::list(missing.iter().map(String::as_str))
        ));
    }
    if parts.is_empty() {
        (Seen::Holds, "no difference".to_owned())
    } else {
        (Seen::Lacks, parts.join("; "))
    }
}
