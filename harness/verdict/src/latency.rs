//! Latency of requests, from their *intended* times: what a request waited before it was sent counts, so that a client
//! that falls behind can't hide what a server does.

use hdrhistogram::Histogram;

use crate::ledger::Row;
use crate::statistics::binomial::{at_least, at_most, partition};

/// Confidence of each of the two bounds of a quantile.
pub const CONFIDENCE: f64 = 0.95;

/// Longest latency that is told apart, µs. Longer ones count as this.
const LONGEST_US: u64 = 3_600_000_000;

/// Significant decimal digits.
const DIGITS: u8 = 3;

/// Latencies of the requests that were answered with success.
#[derive(Clone, Debug)]
pub struct Latency {
    histogram: Histogram<u64>,
}

/// A quantile with its bounds, which hold for any distribution: order statistics whose ranks come from the binomial
/// distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantile {
    /// Which one, e.g. 0.99.
    pub quantile: f64,
    /// Its value, µs.
    pub value_us: u64,
    /// The true value is not below this with a probability of [`CONFIDENCE`], µs; absent with too few requests.
    pub low_us: Option<u64>,
    /// The true value is not above this with a probability of [`CONFIDENCE`], µs; absent with too few requests (the 99th
    /// percentile needs 299).
    pub high_us: Option<u64>,
}

impl Latency {
    /// Latencies of all successful requests among these; absent when there is none.
    pub fn of<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Option<Self> {
        let mut histogram = Histogram::new_with_bounds(1, LONGEST_US, DIGITS).ok()?;
        for row in rows.into_iter().filter(|row| row.succeeded()) {
            histogram.saturating_record(row.ended_us.saturating_sub(row.intended_us));
        }
        (!histogram.is_empty()).then_some(Self { histogram })
    }

    /// Number of requests.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Longest latency, µs.
    #[must_use]
    pub fn max_us(&self) -> u64 {
        self.histogram.max()
    }

    /// A quantile (0 < q < 1) with its bounds.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Quantile {
        let n = self.count();
        let rank = (quantile * n as f64).ceil().max(1.0) as u64;
        // P(the r-th smallest ≤ true value) = P(at least r of n fall below it).
        let low_rank = partition(1, n + 1, |r| at_least(n, r, quantile) >= CONFIDENCE) - 1;
        let high_rank = partition(1, n + 1, |r| at_most(n, r - 1, quantile) < CONFIDENCE);
        Quantile {
            quantile,
            value_us: self.value_at_rank(rank.min(n)),
            low_us: (low_rank >= 1).then(|| self.value_at_rank(low_rank)),
            high_us: (high_rank <= n).then(|| self.value_at_rank(high_rank)),
        }
    }

    /// The whole curve: share of requests and the latency that they did not exceed, µs, at every latency that occurred.
    #[must_use]
    pub fn curve(&self) -> Vec<(f64, u64)> {
        let n = self.count() as f64;
        let mut below = 0;
        self.histogram
            .iter_recorded()
            .map(|step| {
                below += step.count_since_last_iteration();
                (below as f64 / n, step.value_iterated_to().min(self.max_us()))
            })
            .collect()
    }

    fn value_at_rank(&self, rank: u64) -> u64 {
        let mut below = 0;
        for step in self.histogram.iter_recorded() {
            below += step.count_since_last_iteration();
            if below >= rank {
                return step.value_iterated_to().min(self.max_us());
            }
        }
        self.max_us()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::ledger::{Answered, RequestResult};

    fn row(intended_us: u64, started_us: u64, ended_us: u64, served: bool) -> Row {
        Row {
            id: String::new(),
            intended_us,
            started_us,
            ended_us,
            client: String::new(),
            connection: 0,
            result: if served {
                RequestResult::Answered(Answered {
                    status: 200,
                    cluster: Some("east".to_owned()),
                    ..Answered::default()
                })
            } else {
                RequestResult::Failed {
                    kind: "timeout".to_owned(),
                    detail: String::new(),
                }
            },
        }
    }

    /// Latencies of 1 ms, 2 ms, … n ms.
    fn ramp(n: u64) -> Latency {
        let rows: Vec<Row> = (1..=n).map(|i| row(0, 0, i * 1000, true)).collect();
        Latency::of(&rows).unwrap()
    }

    fn near(value_us: u64, expected_ms: u64) -> bool {
        value_us.abs_diff(expected_ms * 1000) <= expected_ms + 1
    }

    #[test]
    fn waiting_before_the_start_counts_and_failures_do_not() {
        let rows = [row(1000, 5000, 6000, true), row(0, 0, 9_000_000, false)];
        let latency = Latency::of(&rows).unwrap();
        assert_eq!(latency.count(), 1);
        assert!(near(latency.max_us(), 5));
        assert!(Latency::of(&rows[1..]).is_none());
    }

    #[rstest]
    #[case(1000, 0.5, 500)]
    #[case(1000, 0.99, 990)]
    #[case(1000, 0.999, 999)]
    #[case(1, 0.99, 1)]
    fn quantiles(#[case] n: u64, #[case] quantile: f64, #[case] expected_ms: u64) {
        let found = ramp(n).quantile(quantile);
        assert!(near(found.value_us, expected_ms), "{found:?}");
    }

    // 299 requests are the fewest that bound the 99th percentile at 95 %, 2995 the 99.9th, 5 the median, 59 the 95th.
    #[rstest]
    #[case(0.99, 299)]
    #[case(0.999, 2995)]
    #[case(0.5, 5)]
    #[case(0.95, 59)]
    fn an_upper_bound_needs_enough_requests(#[case] quantile: f64, #[case] fewest: u64) {
        assert_eq!(ramp(fewest - 1).quantile(quantile).high_us, None);
        let high_us = ramp(fewest).quantile(quantile).high_us.unwrap();
        assert!(near(high_us, fewest), "{high_us}");
    }

    #[test]
    fn bounds_enclose_the_value_and_tighten() {
        let width = |n: u64| {
            let found = ramp(n).quantile(0.9);
            let (low, high) = (found.low_us.unwrap(), found.high_us.unwrap());
            assert!(low <= found.value_us && found.value_us <= high, "{found:?}");
            (high - low) as f64 / found.value_us as f64
        };
        assert!(width(10_000) < width(1000) && width(1000) < width(100));
    }

    // Tables of the binomial distribution: 95 % bounds of the median of 20 are the 6th and the 15th value.
    #[test]
    fn bounds_of_the_median_of_twenty() {
        let found = ramp(20).quantile(0.5);
        assert!(
            near(found.low_us.unwrap(), 6) && near(found.high_us.unwrap(), 15),
            "{found:?}"
        );
    }

    #[test]
    fn the_curve_rises_to_all_requests() {
        let curve = ramp(100).curve();
        assert_eq!(curve.len(), 100);
        assert!(
            curve
                .windows(2)
                .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1)
        );
        assert!((curve[99].0 - 1.0).abs() < 1e-12 && near(curve[99].1, 100));
    }
}
