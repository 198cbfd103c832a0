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
