//! In which order the scenarios of a plan are started.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use super::{Plan, ScenarioPlan};

/// Times that a request of a closed loop and a step are taken to need when scenarios are ordered (scenario time). Only the
/// order rests on them.
const REQUEST_TIME: Duration = Duration::from_millis(5);
const STEP_TIME: Duration = Duration::from_secs(2);

/// The scenarios in the order in which they are started: one repetition after the other, in each of them those that take
/// longest first, so that none of them is left for the end; otherwise in the plan's order. One scenario goes before all: the
/// clusters with the most work come up first, because what is done there fills the time that others spend waiting.
pub(crate) fn start_order(plan: &Plan) -> Vec<&ScenarioPlan> {
    let takes = |scenario: &ScenarioPlan| {
        let requests = u32::try_from(scenario.cost.requests).unwrap_or(u32::MAX);
        let steps = u32::try_from(scenario.scenario.scenario.steps.len()).unwrap_or(u32::MAX);
        scenario
            .cost
            .least
            .saturating_add(REQUEST_TIME.saturating_mul(requests))
            .saturating_add(STEP_TIME.saturating_mul(steps))
    };
    let mut work: BTreeMap<&str, Duration> = BTreeMap::new();
    for scenario in plan.scenarios.iter().filter(|scenario| scenario.skip.is_none()) {
        *work.entry(&scenario.environment).or_default() += takes(scenario);
    }
    let busiest = work.iter().max_by_key(|(_, work)| **work).map(|(key, _)| *key);
    let mut scenarios: Vec<&ScenarioPlan> = plan.scenarios.iter().collect();
    scenarios.sort_by_key(|scenario| (scenario.repetition, Reverse(takes(scenario))));
    if let Some(first) = scenarios
        .iter()
        .position(|scenario| scenario.skip.is_none() && Some(scenario.environment.as_str()) == busiest)
    {
        scenarios[..=first].rotate_right(1);
    }
    scenarios
}
