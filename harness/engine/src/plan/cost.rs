//! How long a scenario takes, as far as its file tells.

use std::time::Duration;

use meshproof_spec::scenario::{Scenario, Step};
use serde::Serialize;

/// Scenario time that a scenario takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// What it takes even when every promise is kept at once: the sum of all `then_for` and `never_for`.
    #[serde(serialize_with = "seconds")]
    pub least: Duration,
    /// What its own deadlines add up to: `least` and the sum of all `within`.
    #[serde(serialize_with = "seconds")]
    pub most: Duration,
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

impl Cost {
    pub(super) fn of(scenario: &Scenario) -> Self {
        let mut cost = Self::default();
        for step in &scenario.steps {
            if let Step::Expect(expect) = step {
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
