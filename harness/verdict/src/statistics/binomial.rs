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
