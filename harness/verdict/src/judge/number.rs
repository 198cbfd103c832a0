//! A number that the mesh publishes.

use serde_json::Value;

use super::objects::over_time;
use super::timeline::{Seen, Sighting};
use super::{Assessment, Context, wording};
use crate::comparison;
use crate::question::{NumberQuestion, Observation};
use meshproof_kinds::Found;

pub(crate) fn expectation(question: &NumberQuestion) -> String {
    format!(
        "{} {}{}",
        question.subject,
        wording::comparison(&question.holds),
        wording::timing(&question.timing)
    )
}

pub(crate) fn assess(question: &NumberQuestion, context: &Context<'_>) -> Assessment {
    let sightings: Vec<Sighting> = context
        .observations()
        .filter_map(|(at_us, observation)| {
            let (state, text) = match observation {
                Observation::Number(number) => {
                    let value = number.map(Value::from);
                    let found = value
                        .as_ref()
                        .filter(|value| !value.is_null())
                        .map_or(Found::Nothing, Found::One);
                    let holds = comparison::holds(&question.holds, &found);
                    let text = number.map_or_else(|| "not published".to_owned(), wording::number);
                    (if holds { Seen::Holds } else { Seen::Lacks }, text)
                }
                Observation::Blind { reason } => (Seen::Blind, format!("not observable ({reason})")),
                _ => return None,
            };
            Some(Sighting { at_us, state, text })
        })
        .collect();
    over_time(&question.timing, &sightings, context)
}
