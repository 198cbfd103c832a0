//! How far a server's clock is from ours, and clusters' clocks from each other. Pure.

use std::time::SystemTime;

/// A clock seen over the network: the offset lies surely between these, milliseconds ahead of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offset {
    /// It is ahead by at least this.
    pub(super) least_ms: i64,
    /// It is ahead by at most this.
    pub(super) most_ms: i64,
}

/// The offset of a server that dated its answer `date` (of which the fraction of a second was cut off) to a question
/// that left here at `sent` and came back at `received`: the date was read in between.
#[must_use]
pub(super) fn offset(date: SystemTime, sent: SystemTime, received: SystemTime) -> Offset {
    let date_ms = millis(date);
    Offset {
        least_ms: date_ms.saturating_sub(millis(received)),
        most_ms: date_ms.saturating_add(1000).saturating_sub(millis(sent)),
    }
}

/// By how much two clocks differ at least, milliseconds: 0 when they may agree.
#[must_use]
pub(super) fn apart_ms(one: Offset, other: Offset) -> u64 {
    let gap = (one.least_ms.saturating_sub(other.most_ms)).max(other.least_ms.saturating_sub(one.most_ms));
    u64::try_from(gap).unwrap_or(0)
}

fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;

    use super::{apart_ms, offset};

    fn at(ms: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(ms)
    }

    /// What an API server writes at this time: whole seconds.
    fn date_of(ms: i64) -> SystemTime {
        at(u64::try_from(ms.div_euclid(1000) * 1000).unwrap())
    }

    #[test]
    fn clocks_that_may_agree_are_not_apart() {
        let one = offset(at(100_000), at(100_200), at(100_300));
        let other = offset(at(100_000), at(100_900), at(101_100));
        assert_eq!(apart_ms(one, other), 0);
    }

    #[test]
    fn clocks_that_can_not_agree_are_apart_by_at_least_so_much() {
        let right = offset(at(100_000), at(100_200), at(100_300));
        let ahead = offset(at(130_000), at(100_200), at(100_300));
        // 30 s, less what rounding and the way may explain.
        assert_eq!(apart_ms(right, ahead), 28_900);
        assert_eq!(apart_ms(ahead, right), 28_900);
    }

    proptest! {
        #[test]
        fn the_true_offset_lies_between_the_bounds(
            now_ms in 10_000_000..2_000_000_000_000_u64, skew_ms in -5_000_000..5_000_000_i64, way in 0..3_000_u64, back in 0..3_000_u64,
        ) {
            let read = i64::try_from(now_ms + way).unwrap() + skew_ms;
            let seen = offset(date_of(read), at(now_ms), at(now_ms + way + back));
            prop_assert!(seen.least_ms <= skew_ms && skew_ms <= seen.most_ms, "{seen:?} {skew_ms}");
        }

        #[test]
        fn clocks_are_never_told_to_be_further_apart_than_they_are(
            now_ms in 10_000_000..2_000_000_000_000_u64, one in -100_000..100_000_i64, other in -100_000..100_000_i64, way in 0..3_000_u64,
        ) {
            let seen = |skew: i64| {
                let read = i64::try_from(now_ms + way).unwrap() + skew;
                offset(date_of(read), at(now_ms), at(now_ms + way))
            };
            prop_assert!(apart_ms(seen(one), seen(other)) <= one.abs_diff(other));
        }
    }
}
