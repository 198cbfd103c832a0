//! How many requests a split check needs: enough that the smallest wrong share that matters is noticed almost surely.

use std::collections::BTreeMap;

use statrs::function::gamma::gamma_ur;

use super::binomial::{at_least, at_most, partition, two_sided_p};
use super::ln_factorial;

/// Power that split checks are planned with.
pub const POWER: f64 = 0.99;

/// Most requests that are planned.
pub const MOST_REQUESTS: u64 = 1_000_000;

/// Plans are multiples of this.
const STEP: u64 = 100;

/// Why a number of requests can't be found.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// No weight is above zero.
    #[error("no weight is above 0; give at least one backend a weight")]
    NoWeight,
    /// The difference makes no sense.
    #[error("the smallest difference to notice is {0} points; it must be above 0 and below 100")]
    Difference(f64),
    /// A probability makes no sense.
    #[error("{name} is {value}; it must be above 0 and below 1")]
    Probability {
        /// Which one.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// Too many would be needed.
    #[error("more than {MOST_REQUESTS} requests are needed to notice {points} points; ask for a larger difference")]
    TooMany {
        /// The difference.
        points: f64,
    },
}

/// Smallest multiple of 100 requests with which a split check at `alpha` notices with at least `power` that the share of
/// any one backend is wrong by `detect_points` percentage points (the others changed in proportion).
///
/// # Errors
/// When an argument makes no sense, or more than [`MOST_REQUESTS`] would be needed.
pub fn requests_needed(
    weights: &BTreeMap<String, u32>,
    detect_points: f64,
    alpha: f64,
    power: f64,
) -> Result<u64, PlanError> {
    if !(power > 0.0 && power < 1.0) {
        return Err(PlanError::Probability {
            name: "power",
            value: power,
        });
    }
    let enough = |n: u64| Ok(power_of(weights, n, detect_points, alpha)? >= power);
    // Power grows with n apart from small steps back: find the region by doubling, then walk up from below it.
    let mut high = STEP;
    while !enough(high)? {
        high *= 2;
        if high > 2 * MOST_REQUESTS {
            return Err(PlanError::TooMany { points: detect_points });
        }
    }
    let (mut low, mut high) = (high / 2 / STEP, high / STEP);
    while high - low > 8 {
        let middle = low + (high - low) / 2;
        if enough(middle * STEP)? {
            high = middle;
        } else {
            low = middle;
        }
    }
    for steps in low.max(1)..=high {
        if enough(steps * STEP)? {
            let n = steps * STEP;
            return if n > MOST_REQUESTS {
                Err(PlanError::TooMany { points: detect_points })
            } else {
                Ok(n)
            };
        }
    }
    Err(PlanError::TooMany { points: detect_points })
}

/// Probability that a split check of `n` requests at `alpha` notices the least noticeable wrong share of
/// `detect_points` percentage points. Exact for two backends; for more, the noncentral chi-square distribution of the
/// G statistic.
///
/// # Errors
/// When an argument makes no sense.
pub fn power_of(weights: &BTreeMap<String, u32>, n: u64, detect_points: f64, alpha: f64) -> Result<f64, PlanError> {
    if !(detect_points > 0.0 && detect_points < 100.0) {
        return Err(PlanError::Difference(detect_points));
    }
    if !(alpha > 0.0 && alpha < 1.0) {
        return Err(PlanError::Probability {
            name: "alpha",
            value: alpha,
        });
    }
    let total: u64 = weights.values().map(|weight| u64::from(*weight)).sum();
    if total == 0 {
        return Err(PlanError::NoWeight);
    }
    let difference = detect_points / 100.0;
    let shares: Vec<f64> = weights
        .values()
        .map(|weight| f64::from(*weight) / total as f64)
        .collect();
    let served = shares.iter().filter(|share| **share > 0.0).count();
    // One request to a backend of weight 0 is noticed, and so is one to a backend that is none.
    let stray = 1.0 - (1.0 - difference).powf(n as f64);
    let mut least = stray;
    for share in shares.iter().copied().filter(|share| *share > 0.0 && *share < 1.0) {
        for wrong in [share - difference, share + difference] {
            // Rounding must not hide a share of exactly 0 or 1.
            let wrong = if wrong.abs() < 1e-12 { 0.0 } else { wrong };
            if (0.0..=1.0).contains(&wrong) {
                let noticed = match served {
                    2 => binomial_power(n, share, wrong, alpha),
                    _ => g_test_power(n, share, wrong, alpha, served - 1),
                };
                least = least.min(noticed);
            }
        }
    }
    Ok(least)
}

/// Probability that the exact binomial test of `share` at `alpha` rejects when the truth is `wrong`.
#[must_use]
pub fn binomial_power(n: u64, share: f64, wrong: f64, alpha: f64) -> f64 {
    let mode = (((n + 1) as f64 * share).floor() as u64).min(n);
    let accepted_from = partition(0, mode, |k| two_sided_p(n, k, share) < alpha);
    let rejected_from = partition(mode, n + 1, |k| two_sided_p(n, k, share) >= alpha);
    let below = if accepted_from == 0 {
        0.0
    } else {
        at_most(n, accepted_from - 1, wrong)
    };
    (below + at_least(n, rejected_from, wrong)).min(1.0)
}

/// Approximate probability that a G-test at `alpha` rejects when one share is `wrong`.
fn g_test_power(n: u64, share: f64, wrong: f64, alpha: f64, freedom: usize) -> f64 {
    let part = |p: f64, q: f64| if p == 0.0 { 0.0 } else { p * (p / q).ln() };
    let distance = part(wrong, share) + part(1.0 - wrong, 1.0 - share);
    let half_freedom = freedom as f64 / 2.0;
    let half_critical = critical_half(half_freedom, alpha);
    // Poisson mixture of central distributions.
    let half_noncentrality = n as f64 * distance;
    let centre = half_noncentrality.floor();
    let reach = 12.0 * half_noncentrality.sqrt() + 30.0;
    let first = (centre - reach).max(0.0) as u64;
    let mut power = 0.0;
    for j in first..=(centre + reach) as u64 {
        let weight = (j as f64 * half_noncentrality.ln() - half_noncentrality - ln_factorial(j)).exp();
        power += weight * gamma_ur(half_freedom + j as f64, half_critical);
    }
    power.min(1.0)
}

/// Half of the chi-square value that is exceeded with probability `alpha`.
fn critical_half(half_freedom: f64, alpha: f64) -> f64 {
    let (mut low, mut high) = (1e-9, 1e4);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if gamma_ur(half_freedom, middle) > alpha {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn weights(weights: &[u32]) -> BTreeMap<String, u32> {
        weights
            .iter()
            .enumerate()
            .map(|(i, weight)| (format!("c{i}"), *weight))
            .collect()
    }

    // Computed separately by adding up all outcomes.
    #[rstest]
    #[case(5000, 0.7, 0.65, 0.9991602413)]
    #[case(5000, 0.7, 0.75, 0.9997506785)]
    #[case(3000, 0.7, 0.65, 0.9247145346)]
    #[case(3000, 0.7, 0.75, 0.9555393229)]
    #[case(500, 0.7, 0.65, 0.0225955795)]
    #[case(5000, 0.5, 0.55, 0.9960381696)]
    #[case(5000, 0.9, 0.87, 0.9884485762)]
    #[case(5000, 0.9, 0.93, 0.9992433715)]
    #[case(10_000, 0.5, 0.53, 0.9420893961)]
    fn table_at_alpha_1e_5(#[case] n: u64, #[case] share: f64, #[case] wrong: f64, #[case] expected: f64) {
        let power = binomial_power(n, share, wrong, 1e-5);
        assert!((power - expected).abs() < 1e-7, "{power}");
    }

    #[rstest]
    #[case(&[50, 50], 5.0, 4600)]
    #[case(&[70, 30], 5.0, 4000)]
    #[case(&[1, 1], 5.0, 4600)]
    fn plans(#[case] shares: &[u32], #[case] points: f64, #[case] expected: u64) {
        assert_eq!(requests_needed(&weights(shares), points, 1e-5, POWER), Ok(expected));
    }

    #[rstest]
    #[case(&[70, 30], 2.0)]
    #[case(&[90, 10], 3.0)]
    #[case(&[99, 1], 1.0)]
    #[case(&[50, 30, 20], 5.0)]
    #[case(&[50, 50, 0], 5.0)]
    #[case(&[100, 0], 5.0)]
    #[case(&[100], 5.0)]
    fn a_plan_is_enough_and_not_much_more(#[case] shares: &[u32], #[case] points: f64) {
        let n = requests_needed(&weights(shares), points, 1e-5, POWER).unwrap();
        let power = |n: u64| power_of(&weights(shares), n, points, 1e-5).unwrap();
        assert!(power(n) >= POWER, "{n}");
        assert!(n == STEP || power(n * 9 / 10) < POWER, "{n}");
    }

    /// The approximation for three against drawn splits: five points off are noticed as often as promised.
    #[test]
    fn three_backends_are_noticed_as_promised() {
        let n = requests_needed(&weights(&[50, 30, 20]), 5.0, 1e-5, POWER).unwrap();
        let mut state = 0xDEAD_BEEF_CAFE_F00D_u64;
        let (mut noticed, runs) = (0, 400);
        for _ in 0..runs {
            let mut counts = [0_u64; 3];
            for _ in 0..n {
                state ^= state >> 12;
                state ^= state << 25;
                state ^= state >> 27;
                let unit = (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64;
                counts[if unit < 0.45 {
                    0
                } else if unit < 0.78 {
                    1
                } else {
                    2
                }] += 1;
            }
            noticed += u32::from(super::super::multinomial::g_test_p(&counts, &[0.5, 0.3, 0.2]) < 1e-5);
        }
        assert!(noticed >= runs * 97 / 100, "{noticed} of {runs} with {n} requests");
    }

    #[rstest]
    #[case(&[0, 0], 5.0, 1e-5, 0.99, PlanError::NoWeight)]
    #[case(&[], 5.0, 1e-5, 0.99, PlanError::NoWeight)]
    #[case(&[1, 1], 0.0, 1e-5, 0.99, PlanError::Difference(0.0))]
    #[case(&[1, 1], 100.0, 1e-5, 0.99, PlanError::Difference(100.0))]
    #[case(&[1, 1], 5.0, 0.0, 0.99, PlanError::Probability { name: "alpha", value: 0.0 })]
    #[case(&[1, 1], 5.0, 1e-5, 1.0, PlanError::Probability { name: "power", value: 1.0 })]
    #[case(&[1, 1], 0.01, 1e-5, 0.99, PlanError::TooMany { points: 0.01 })]
    fn nonsense_is_refused(
        #[case] shares: &[u32],
        #[case] points: f64,
        #[case] alpha: f64,
        #[case] power: f64,
        #[case] expected: PlanError,
    ) {
        assert_eq!(requests_needed(&weights(shares), points, alpha, power), Err(expected));
    }

    #[test]
    fn what_is_not_a_number_is_refused() {
        assert!(requests_needed(&weights(&[1, 1]), f64::NAN, 1e-5, 0.99).is_err());
        assert!(requests_needed(&weights(&[1, 1]), 5.0, f64::NAN, 0.99).is_err());
    }
}
