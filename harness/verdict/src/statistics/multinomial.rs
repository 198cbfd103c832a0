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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    // Computed with exact fractions.
    #[rstest]
    #[case(&[3, 5, 12], &[0.25, 0.25, 0.5], 0.6733143348246813)]
    #[case(&[10, 1, 9], &[0.5, 0.3, 0.2], 0.004592663797550781)]
    #[case(&[0, 0, 6], &[1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0], 0.00411522633744856)]
    fn enumeration(#[case] counts: &[u64], #[case] shares: &[f64], #[case] expected: f64) {
        assert!(
            (exact_p(counts, shares) - expected).abs() < 1e-9,
            "{}",
            exact_p(counts, shares)
        );
    }

    // With two degrees of freedom the tail is exp(-x / 2).
    #[rstest]
    #[case(&[530, 270, 200], &[0.5, 0.3, 0.2], 0.0877477094966726)]
    #[case(&[2600, 1450, 950], &[0.5, 0.3, 0.2], 0.016783839461208972)]
    #[case(&[500, 300, 200], &[0.5, 0.3, 0.2], 1.0)]
    fn g_test(#[case] counts: &[u64], #[case] shares: &[f64], #[case] expected: f64) {
        assert!(
            (g_test_p(counts, shares) - expected).abs() < 1e-9,
            "{}",
            g_test_p(counts, shares)
        );
    }

    #[test]
    fn the_g_test_agrees_with_enumeration_where_both_work() {
        let shares = [0.5, 0.3, 0.2];
        for counts in [[180, 100, 70], [190, 100, 60], [200, 90, 60], [160, 110, 80]] {
            let (exact, approximate) = (exact_p(&counts, &shares), g_test_p(&counts, &shares));
            assert!(
                (exact - approximate).abs() < 0.1 * exact.max(0.05),
                "{counts:?}: {exact} {approximate}"
            );
        }
    }

    #[rstest]
    #[case(&[5000], &[1.0], Method::Certain)]
    #[case(&[3500, 1500], &[0.7, 0.3], Method::ExactBinomial)]
    #[case(&[50, 30, 20], &[0.5, 0.3, 0.2], Method::ExactMultinomial)]
    #[case(&[2500, 1500, 1000], &[0.5, 0.3, 0.2], Method::GTest)]
    #[case(&[4950, 30, 20], &[0.99, 0.006, 0.004], Method::Bonferroni)]
    fn the_method_fits_the_counts(#[case] counts: &[u64], #[case] shares: &[f64], #[case] expected: Method) {
        let (p, method) = p_value(counts, shares);
        assert_eq!(method, expected);
        assert!(p > 0.9, "what was expected is unremarkable: {p}");
    }

    #[test]
    fn what_is_far_off_is_improbable_by_every_method() {
        assert!(p_value(&[3250, 1750], &[0.7, 0.3]).0 < 1e-10);
        assert!(p_value(&[20, 30, 50], &[0.5, 0.3, 0.2]).0 < 1e-8);
        assert!(p_value(&[2250, 1650, 1100], &[0.5, 0.3, 0.2]).0 < 1e-10);
        assert!(p_value(&[4850, 30, 120], &[0.99, 0.006, 0.004]).0 < 1e-10);
    }

    /// 20 000 clean splits over three: no more than α are below α.
    #[test]
    fn clean_splits_over_three_stay_within_the_budget() {
        let shares = [0.5, 0.3, 0.2];
        let mut state = 0x1234_5678_9ABC_DEF1_u64;
        let mut below = 0;
        for _ in 0..20_000 {
            let mut counts = [0_u64; 3];
            for _ in 0..300 {
                state ^= state >> 12;
                state ^= state << 25;
                state ^= state >> 27;
                let unit = (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64;
                counts[if unit < 0.5 {
                    0
                } else if unit < 0.8 {
                    1
                } else {
                    2
                }] += 1;
            }
            below += u32::from(g_test_p(&counts, &shares) < 1e-3);
        }
        assert!((5..=40).contains(&below), "{below} of 20000 below 0.001");
    }
}
