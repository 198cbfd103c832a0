//! Whether a sequence of yes and no looks drawn: the runs test of Wald and Wolfowitz, exactly.
//!
//! Given how many of each kind there are, every order is equally probable when requests are drawn independently.
//! Too few runs: neighbours resemble each other (connections or periods stick to a server). Too many: they avoid each
//! other (rotation).

use super::ln_choose;

/// Result of a runs test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunsTest {
    /// Runs of equal neighbours.
    pub runs: u64,
    /// Runs to expect.
    pub expected: f64,
    /// Probability of no more runs than these.
    pub too_few_p: f64,
    /// Probability of no fewer runs than these.
    pub too_many_p: f64,
}

/// Tests a sequence; nothing can be said when it has only one kind.
#[must_use]
pub fn runs_test(sequence: impl IntoIterator<Item = bool>) -> Option<RunsTest> {
    let (mut yes, mut no, mut runs) = (0_u64, 0_u64, 0_u64);
    let mut last = None;
    for item in sequence {
        if item {
            yes += 1;
        } else {
            no += 1;
        }
        if last != Some(item) {
            runs += 1;
        }
        last = Some(item);
    }
    if yes == 0 || no == 0 {
        return None;
    }
    let most = 2 * yes.min(no) + 1;
    let too_few_p: f64 = (2..=runs).map(|r| probability(yes, no, r)).sum();
    let too_many_p: f64 = (runs..=most).map(|r| probability(yes, no, r)).sum();
    Some(RunsTest {
        runs,
        expected: 1.0 + 2.0 * yes as f64 * no as f64 / (yes + no) as f64,
        too_few_p: too_few_p.min(1.0),
        too_many_p: too_many_p.min(1.0),
    })
}

/// Probability of exactly `runs` runs.
fn probability(yes: u64, no: u64, runs: u64) -> f64 {
    let ln_orders = ln_choose(yes + no, yes);
    let ways = |a: u64, b: u64| (ln_choose(yes - 1, a) + ln_choose(no - 1, b) - ln_orders).exp();
    let half = runs / 2;
    if half == 0 {
        0.0
    } else if runs.is_multiple_of(2) {
        2.0 * ways(half - 1, half - 1)
    } else {
        ways(half - 1, half) + ways(half, half - 1)
    }
}
