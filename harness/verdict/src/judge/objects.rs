//! Objects of a cluster: how many hold what is asked.

use serde_json::Value;

use super::timeline::{Resolution, Seen, Sighting, last_states, resolve};
use super::wording::{self, counted};
use super::{Assessment, Context, Finding};
use crate::comparison;
use crate::question::{Count, Matcher, ObjectsQuestion, Observation, Timing};
use crate::record::Outcome;
use meshproof_kinds::{Found, ObjectPath, ObjectPathError};

pub(crate) fn expectation(question: &ObjectsQuestion) -> String {
    let mut text = question.subject.clone();
    let count = wording::count(&question.count);
    if !count.is_empty() {
        text = format!("{text} {count}");
    }
    let each: Vec<String> = question
        .each
        .iter()
        .map(|matcher| format!("{} {}", matcher.path, wording::comparison(&matcher.holds)))
        .collect();
    if !each.is_empty() {
        text = format!("{text} where {}", each.join(" and "));
    }
    format!("{text}{}", wording::timing(&question.timing))
}

pub(crate) fn assess(question: &ObjectsQuestion, context: &Context<'_>) -> Assessment {
    let matchers = match ParsedMatcher::parse(&question.each) {
        Ok(matchers) => matchers,
        Err(error) => {
            let found = Finding::new(Outcome::Error, context.check.opened.at_us, error.to_string());
            return Assessment::settled(found);
        }
    };
    let sightings: Vec<Sighting> = context
        .observations()
        .filter_map(|(at_us, observation)| {
            let (state, text) = match observation {
                Observation::Objects(objects) => look(&question.count, &matchers, objects),
                Observation::Blind { reason } => (Seen::Blind, format!("not observable ({reason})")),
                _ => return None,
            };
            Some(Sighting { at_us, state, text })
        })
        .collect();
    over_time(&question.timing, &sightings, context)
}

/// Judges what was seen over time; for all questions with a timing.
pub(crate) fn over_time(timing: &Timing, sightings: &[Sighting], context: &Context<'_>) -> Assessment {
    let opened_us = context.check.opened.at_us;
    let finding = |outcome: Outcome, at_us: u64, happened: String| {
        Finding::new(outcome, at_us, happened)
            .observed(last_states(sightings, at_us))
            .measure("observations", sightings.len() as f64)
    };
    match resolve(opened_us, timing, sightings, context.now_us) {
        Resolution::Kept { at_us } => {
            let after_us = at_us.saturating_sub(opened_us);
            let happened = match (timing.never_for_us, timing.then_for_us) {
                (Some(_), _) => "it never came true".to_owned(),
                (None, Some(hold_us)) => {
                    format!(
                        "true after {} and held for {}",
                        wording::seconds(after_us),
                        wording::seconds(hold_us)
                    )
                }
                (None, None) => format!("true after {}", wording::seconds(after_us)),
            };
            let measure = if timing.never_for_us.is_some() {
                "watched_us"
            } else {
                "converged_after_us"
            };
            Assessment::settled(finding(Outcome::Pass, at_us, happened).measure(measure, after_us as f64))
        }
        Resolution::Broken { at_us, how } => {
            let seen = sightings
                .iter()
                .rev()
                .find(|sighting| sighting.at_us <= at_us && sighting.state != Seen::Blind);
            let happened = seen.map_or_else(|| how.clone(), |seen| format!("{how}: {}", seen.text));
            Assessment::settled(finding(Outcome::Fail, at_us, happened))
        }
        Resolution::Unclear { at_us, why } => Assessment::settled(finding(Outcome::Inconclusive, at_us, why)),
        Resolution::Open { until_us } => Assessment::Open {
            look_again_at_us: until_us,
            so_far: last_states(sightings, context.now_us),
        },
        Resolution::Contradiction => Assessment::settled(Finding::new(
            Outcome::Error,
            opened_us,
            "the question asks for `never for` together with `within` or `then for`; ask two questions",
        )),
    }
}

struct ParsedMatcher<'a> {
    path: ObjectPath,
    matcher: &'a Matcher,
}

impl<'a> ParsedMatcher<'a> {
    fn parse(matchers: &'a [Matcher]) -> Result<Vec<Self>, ObjectPathError> {
        matchers
            .iter()
            .map(|matcher| {
                Ok(Self {
                    path: ObjectPath::parse(&matcher.path)?,
                    matcher,
                })
            })
            .collect()
    }
}

/// Whether as many objects as must be hold what is asked, and what to say about them: when there are too few, the object
/// that came nearest and what it lacks.
fn look(count: &Count, matchers: &[ParsedMatcher<'_>], objects: &[Value]) -> (Seen, String) {
    let judged: Vec<(&Value, Vec<String>)> = objects
        .iter()
        .map(|object| {
            (
                object,
                matchers.iter().filter_map(|matcher| miss(matcher, object)).collect(),
            )
        })
        .collect();
    let matching: Vec<String> = judged
        .iter()
        .filter(|(_, missed)| missed.is_empty())
        .map(|(object, _)| name(object))
        .collect();
    let number = matching.len() as u64;
    let too_few = count.exactly.is_some_and(|exactly| number < exactly)
        || count.at_least.is_some_and(|bound| number < bound)
        // A promise about objects is not kept by there being none.
        || (*count == Count::default() && number == 0);
    let too_many =
        count.exactly.is_some_and(|exactly| number > exactly) || count.at_most.is_some_and(|bound| number > bound);
    let listed = if matching.is_empty() {
        "no such object".to_owned()
    } else {
        format!(
            "{} ({})",
            counted(number, "object"),
            wording::list(matching.iter().map(String::as_str))
        )
    };
    let nearest = judged
        .iter()
        .filter(|(_, missed)| !missed.is_empty())
        .min_by_key(|(_, missed)| missed.len());
    match nearest {
        Some((object, missed)) if too_few => (
            Seen::Lacks,
            format!("{listed}; nearest is {}: {}", name(object), missed.join("; ")),
        ),
        _ if too_few || too_many => (Seen::Lacks, listed),
        _ => (Seen::Holds, listed),
    }
}

/// Whether any object holds what is asked, whatever number is right.
pub(crate) fn any_matches(question: &ObjectsQuestion, objects: &[Value]) -> bool {
    ParsedMatcher::parse(&question.each).is_ok_and(|matchers| {
        objects
            .iter()
            .any(|object| matchers.iter().all(|matcher| miss(matcher, object).is_none()))
    })
}

/// What is wrong with an object, if anything is.
fn miss(matcher: &ParsedMatcher<'_>, object: &Value) -> Option<String> {
    let found = matcher.path.find(object);
    if comparison::holds(&matcher.matcher.holds, &found) {
        return None;
    }
    let value = match &found {
        Found::Nothing => "missing".to_owned(),
        _ if matcher.path.is_secret_in(object) => "something secret".to_owned(),
        Found::One(value) => wording::value(value),
        Found::Many(values) => wording::value(&Value::Array(values.iter().copied().cloned().collect())),
    };
    Some(format!("{} is {value}", matcher.matcher.path))
}

/// `Service shop/store-east`, as far as it is known.
fn name(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let kind = text("/kind").unwrap_or("object");
    let name = text("/metadata/name").unwrap_or("without name");
    match text("/metadata/namespace") {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}
