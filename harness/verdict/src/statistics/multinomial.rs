//! Whether counts of several kinds fit to declared shares.
//!
//! | kinds | method | limits |
//! |---|---|---|
//! | 1 | nothing to test: p = 1 | |
//! | 2 | exact binomial, two-sided | none |
//! | 3 or more, at most [`ENUMERATED`] outcomes | exact multinomial by enumeration | none |
//! | 3 or more, each expected at least [`EXPECTED`] times | G-test with Williams' correction | approximate: the tail beyond 1e-5 is right to about a factor of 2 |
//! | otherwise | exact binomial for each kind, Bonferroni | exact bound, less power |

use statrs::function::gamma::gamma_ur;

use super::{binomial, ln_factorial};

/// Most outcomes that are enumerated.
pub const ENUMERATED: f64 = 200_000.0;

/// Smallest expected count with which the G-test is used.
pub const EXPECTED: f64 = 50.0;

/// How a p-value was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// There is only one kind.
    Certain,
    /// Exact binomial.
    ExactBinomial,
    /// Exact multinomial.
    ExactMultinomial,
    /// G-test with Williams' correction.
    GTest,
    /// Exact binomial for each kind, Bonferroni.
    Bonferroni,
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Certain => "one kind only",
            Self::ExactBinomial => "exact binomial test",
            Self::ExactMultinomial => "exact multinomial test",
            Self::GTest => "G-test with Williams' correction",
            Self::Bonferroni => "exact binomial tests with Bonferroni's correction",
        })
    }
}

/// p-value of counts under shares (all positive, adding up to 1), and how it was found.
#[must_use]
pub fn p_value(counts: &[u64], shares: &[f64]) -> (f64, Method) {
    let n: u64 = counts.iter().sum();
    match counts {
        [] | [_] => (1.0, Method::Certain),
        [first, _] => (binomial::two_sided_p(n, *first, shares[0]), Method::ExactBinomial),
        _ if outcomes(n, counts.len()) <= ENUMERATED => (exact_p(counts, shares), Method::ExactMultinomial),
        _ if shares.iter().all(|share| share * n as f64 >= EXPECTED) => (g_test_p(counts, shares), Method::GTest),
        _ => (bonferroni_p(counts, shares), Method::Bonferroni),
    }
}

/// Number of ways to split `n` over `kinds`.
fn outcomes(n: u64, kinds: usize) -> f64 {
    (1..kinds).map(|i| (n + i as u64) as f64 / i as f64).product()
}

/// Probability of all outcomes that are not more probable than this one.
#[must_use]
pub fn exact_p(counts: &[u64], shares: &[f64]) -> f64 {
    let n: u64 = counts.iter().sum();
    let ln_shares: Vec<f64> = shares.iter().map(|share| share.ln()).collect();
    let ln_factorials: Vec<f64> = (0..=n).map(ln_factorial).collect();
    let term = |count: u64, kind: usize| count as f64 * ln_shares[kind] - ln_factorials[count as usize];
    let observed: f64 = counts.iter().enumerate().map(|(kind, count)| term(*count, kind)).sum();
    let limit = observed + 1e-7;
    let ln_n = ln_factorials[n as usize];
    let mut sum = 0.0;
    // Depth first: (kind, what is left for it and those behind it, logarithm so far).
    let mut open = vec![(0, n, 0.0)];
    while let Some((kind, left, ln_so_far)) = open.pop() {
        if kind + 1 == counts.len() {
            let ln = ln_so_far + term(left, kind);
            if ln <= limit {
                sum += (ln_n + ln).exp();
            }
        } else {
            open.extend((0..=left).map(|count| (kind + 1, left - count, ln_so_far + term(count, kind))));
        }
    }
    sum.min(1.0)
}

/// G statistic with Williams' correction, against the chi-square distribution.
#[must_use]
pub fn g_test_p(counts: &[u64], shares: &[f64]) -> f64 {
    let n = counts.iter().sum::<u64>() as f64;
    let freedom = counts.len().saturating_sub(1) as f64;
    if n == 0.0 || freedom == 0.0 {
        return 1.0;
    }
    let g: f64 = 2.0
        * counts
            .iter()
            .zip(shares)
            .filter(|(count, _)| **count > 0)
            .map(|(count, share)| *count as f64 * (*count as f64 / (n * share)).ln())
            .sum::<f64>();
    let williams = 1.0 + (shares.iter().map(|share| 1.0 / share).sum::<f64>() - 1.0) / (6.0 * n * freedom);
    let statistic = (g / williams).max(0.0);
    if statistic == 0.0 {
        1.0
    } else {
        gamma_ur(freedom / 2.0, statistic / 2.0)
    }
}

fn bonferroni_p(counts: &[u64], shares: &[f64]) -> f64 {
    let n: u64 = counts.iter().sum();
    let smallest = counts
        .iter()
        .zip(shares)
        .map(|(count, share)| binomial::two_sided_p(n, *count, *share))
        .fold(1.0, f64::min);
    (smallest * counts.len() as f64).min(1.0)
}
