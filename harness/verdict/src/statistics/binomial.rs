//! The binomial distribution, exactly: test, tails, interval.

use super::ln_choose;

/// Terms of a tail below this share of their sum are left out.
const NEGLIGIBLE: f64 = 1e-17;

/// Probability of exactly `k` successes in `n` trials that succeed with probability `p`.
#[must_use]
pub fn probability(n: u64, k: u64, p: f64) -> f64 {
    ln_probability(n, k, p).exp()
}

fn ln_probability(n: u64, k: u64, p: f64) -> f64 {
    if k > n {
        return f64::NEG_INFINITY;
    }
    let successes = if k == 0 { 0.0 } else { k as f64 * p.ln() };
    let failures = if k == n { 0.0 } else { (n - k) as f64 * (-p).ln_1p() };
    ln_choose(n, k) + successes + failures
}

/// Probability of at least `k` successes.
#[must_use]
pub fn at_least(n: u64, k: u64, p: f64) -> f64 {
    if k == 0 {
        1.0
    } else if k > n || p <= 0.0 {
        0.0
    } else if p >= 1.0 {
        1.0
    } else if k as f64 >= n as f64 * p {
        outward(n, k, p)
    } else {
        (1.0 - outward(n, n - (k - 1), 1.0 - p)).max(0.0)
    }
}

/// Probability of at most `k` successes.
#[must_use]
pub fn at_most(n: u64, k: u64, p: f64) -> f64 {
    if k >= n { 1.0 } else { at_least(n, n - k, 1.0 - p) }
}

/// Sum over `k..=n`, which lies above the mean, so that the terms fall.
fn outward(n: u64, k: u64, p: f64) -> f64 {
    let odds = p / (1.0 - p);
    let first = ln_probability(n, k, p).exp();
    let (mut sum, mut term) = (first, first);
    for i in k..n {
        term *= (n - i) as f64 / (i + 1) as f64 * odds;
        sum += term;
        if term <= sum * NEGLIGIBLE {
            break;
        }
    }
    sum.min(1.0)
}

/// Two-sided p-value of `k` successes in `n` trials when each succeeds with probability `p`: the probability of all
/// outcomes that are not more probable than this one (as R's `binom.test`).
#[must_use]
pub fn two_sided_p(n: u64, k: u64, p: f64) -> f64 {
    if p <= 0.0 || p >= 1.0 {
        let certain = if p <= 0.0 { 0 } else { n };
        return if k == certain { 1.0 } else { 0.0 };
    }
    // Equal probabilities must count as equal although they were rounded.
    let limit = ln_probability(n, k, p) + 1e-7;
    let mode = (((n + 1) as f64 * p).floor() as u64).min(n);
    if ln_probability(n, mode, p) <= limit {
        return 1.0;
    }
    let both = if k > mode {
        // Largest outcome below the mode that is as improbable.
        let below = partition(0, mode, |i| ln_probability(n, i, p) <= limit);
        at_least(n, k, p) + if below == 0 { 0.0 } else { at_most(n, below - 1, p) }
    } else {
        let above = partition(mode, n + 1, |i| ln_probability(n, i, p) > limit);
        at_most(n, k, p) + at_least(n, above, p)
    };
    both.min(1.0)
}

/// First number of `low..high` for which `holds` is false, when it is true for all before and false for all behind.
pub(crate) fn partition(mut low: u64, mut high: u64, holds: impl Fn(u64) -> bool) -> u64 {
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Clopper–Pearson interval of the probability behind `k` successes in `n` trials: it covers with at least the given
/// confidence (e.g. 0.999).
#[must_use]
pub fn interval(n: u64, k: u64, confidence: f64) -> (f64, f64) {
    let tail = (1.0 - confidence) / 2.0;
    let low = if k == 0 {
        0.0
    } else {
        root(|p| at_least(n, k, p) < tail)
    };
    let high = if k >= n { 1.0 } else { root(|p| at_most(n, k, p) > tail) };
    (low, high)
}

/// The point between 0 and 1 at which `below` turns from true to false.
fn root(below: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if below(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * b.abs().max(1e-300)
    }

    // Computed with exact fractions.
    #[rstest]
    #[case(10, 8, 0.5, 0.109375)]
    #[case(20, 3, 0.3, 0.2204182673807094)]
    #[case(100, 30, 0.2, 0.01694535967678514)]
    #[case(500, 350, 0.7, 1.0)]
    #[case(60, 0, 0.1, 0.0038252234911566843)]
    #[case(5, 5, 0.9, 1.0)]
    #[case(50, 40, 0.7, 0.16365322337688204)]
    #[case(7, 0, 0.0, 1.0)]
    #[case(7, 1, 0.0, 0.0)]
    #[case(7, 7, 1.0, 1.0)]
    #[case(7, 6, 1.0, 0.0)]
    fn two_sided_test(#[case] n: u64, #[case] k: u64, #[case] p: f64, #[case] expected: f64) {
        let found = two_sided_p(n, k, p);
        assert!(close(found, expected), "{found}");
    }

    // Counts measured on a real mesh: chi-square 2.99, 0.20 and 1.90 with one degree of freedom.
    #[rstest]
    #[case(5000, 3556, 0.7, 0.084)]
    #[case(5000, 2484, 0.5, 0.66)]
    #[case(5000, 4039, 0.8, 0.17)]
    fn measured_splits_are_unremarkable(#[case] n: u64, #[case] k: u64, #[case] p: f64, #[case] expected: f64) {
        assert!(
            (two_sided_p(n, k, p) - expected).abs() < 0.01,
            "{}",
            two_sided_p(n, k, p)
        );
    }

    // Tables of Clopper and Pearson.
    #[rstest]
    #[case(10, 3, 0.95, 0.066_739_5, 0.652_452_9)]
    #[case(20, 0, 0.95, 0.0, 0.168_433_5)]
    #[case(20, 20, 0.95, 0.831_566_5, 1.0)]
    #[case(5000, 0, 0.999, 0.0, 0.001_519_04)]
    fn intervals(#[case] n: u64, #[case] k: u64, #[case] confidence: f64, #[case] low: f64, #[case] high: f64) {
        let found = interval(n, k, confidence);
        assert!(
            (found.0 - low).abs() < 1e-6 && (found.1 - high).abs() < 1e-6,
            "{found:?}"
        );
    }

    #[rstest]
    #[case(200, 0.03, 0.999)]
    #[case(200, 0.3, 0.999)]
    #[case(50, 0.5, 0.95)]
    #[case(1000, 0.01, 0.95)]
    fn intervals_cover(#[case] n: u64, #[case] p: f64, #[case] confidence: f64) {
        let covered: f64 = (0..=n)
            .filter(|k| {
                let (low, high) = interval(n, *k, confidence);
                low <= p && p <= high
            })
            .map(|k| probability(n, k, p))
            .sum();
        assert!(
            covered >= confidence && covered < 1.0 - (1.0 - confidence) / 20.0,
            "{covered}"
        );
    }

    /// 100 000 clean splits of 5 000 requests: p-values are uniform, and no more than α of them are below α.
    #[test]
    fn clean_splits_stay_within_the_budget() {
        let (n, p) = (5000_u64, 0.7);
        let mut cumulated = Vec::new();
        let mut sum = 0.0;
        for k in 0..=n {
            sum += probability(n, k, p);
            cumulated.push(sum);
        }
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut unit = || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64
        };
        let mut known = std::collections::HashMap::new();
        let mut below = [0_u32; 5];
        let limits = [0.001, 0.01, 0.1, 0.5, 0.9];
        let runs = 100_000;
        for _ in 0..runs {
            let draw = unit();
            let k = cumulated.partition_point(|c| *c < draw).min(n as usize) as u64;
            let p_value = *known.entry(k).or_insert_with(|| two_sided_p(n, k, p));
            for (count, limit) in below.iter_mut().zip(limits) {
                *count += u32::from(p_value < limit);
            }
        }
        for (count, limit) in below.into_iter().zip(limits) {
            let (expected, spread) = (
                f64::from(runs) * limit,
                (f64::from(runs) * limit * (1.0 - limit)).sqrt(),
            );
            let count = f64::from(count);
            assert!(count < expected + 4.0 * spread, "{count} of {runs} below {limit}");
            // Counts are whole numbers, so that p-values are a little too large, but not much.
            assert!(count > 0.9 * expected - 4.0 * spread, "{count} of {runs} below {limit}");
        }
    }

    proptest! {
        #[test]
        fn tails_add_up(n in 1_u64..400, k in 0_u64..400, p in 0.0_f64..=1.0) {
            let k = k.min(n);
            let both = at_most(n, k, p) + at_least(n, k, p);
            let inside = if p == 0.0 || p == 1.0 {
                f64::from(u8::from(k == if p == 0.0 { 0 } else { n }))
            } else {
                probability(n, k, p)
            };
            prop_assert!((both - 1.0 - inside).abs() < 1e-9, "{both} {inside}");
        }

        #[test]
        fn the_test_agrees_with_the_plain_sum(n in 1_u64..60, k in 0_u64..60, p in 0.01_f64..0.99) {
            let k = k.min(n);
            let here = probability(n, k, p);
            let sum: f64 = (0..=n).map(|i| probability(n, i, p)).filter(|other| *other <= here * (1.0 + 1e-7)).sum();
            prop_assert!((two_sided_p(n, k, p) - sum.min(1.0)).abs() < 1e-9);
        }

        #[test]
        fn an_interval_contains_its_share(n in 1_u64..2000, k in 0_u64..2000, confidence in 0.5_f64..0.9999) {
            let k = k.min(n);
            let (low, high) = interval(n, k, confidence);
            let share = k as f64 / n as f64;
            prop_assert!(0.0 <= low && low <= share && share <= high && high <= 1.0);
        }
    }
}
