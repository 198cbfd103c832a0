//! How long a scenario takes, as far as its file tells.

use std::time::Duration;

use meshproof_spec::scenario::{Scenario, SplitSubject, Step};
use meshproof_verdict::question::ALPHA;
use meshproof_verdict::statistics::power::{POWER, requests_needed};
use serde::Serialize;

use crate::lower::DETECT_POINTS;

/// Scenario time that a scenario takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// What it takes even when every promise is kept at once: the sum of all `then_for` and `never_for`.
    #[serde(serialize_with = "seconds")]
    pub least: Duration,
    /// What its own deadlines add up to: `least` and the sum of all `within`.
    #[serde(serialize_with = "seconds")]
    pub most: Duration,
    /// Requests that its calls and split checks send one after another; background traffic is not counted.
    pub requests: u64,
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

impl Cost {
    pub(super) fn of(scenario: &Scenario) -> Self {
        let mut cost = Self::default();
        for step in &scenario.steps {
            if let Step::Call(call) = step {
                cost.requests = cost.requests.saturating_add(call.count.unwrap_or(1));
            }
            if let Step::Expect(expect) = step {
                cost.requests = cost.requests.saturating_add(expect.split.as_ref().map_or(0, requests));
                let holds = [expect.then_for, expect.never_for]
                    .into_iter()
                    .flatten()
                    .map(|span| span.0)
                    .sum();
                cost.least = cost.least.saturating_add(holds);
                let within = expect.within.map_or(Duration::ZERO, |span| span.0);
                cost.most = cost.most.saturating_add(holds).saturating_add(within);
            }
        }
        cost
    }
}

/// Requests of a split check; 0 when its weights make no sense, which is told when the scenario is lowered.
fn requests(split: &SplitSubject) -> u64 {
    let weights = split
        .weights
        .iter()
        .map(|(name, weight)| (name.0.clone(), *weight))
        .collect();
    requests_needed(&weights, split.detect_points.unwrap_or(DETECT_POINTS), ALPHA, POWER).unwrap_or(0)
}
