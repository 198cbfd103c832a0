//! When the requests of an open loop should start.

/// Fixed intended times: request `n` (from 0) is due `n / per_second` seconds after the start of the job. Each time is
/// computed from the start and not from the one before, so that rounding never adds up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    per_second: f64,
}

impl Schedule {
    /// `per_second` must be finite and above zero.
    pub(crate) fn new(per_second: f64) -> Self {
        Self { per_second }
    }

    /// Intended start of request `number`, microseconds since the start of the job.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float that is too large saturates, which means never"
    )]
    pub(crate) fn intended_us(self, number: u64) -> u64 {
        (number as f64 * 1e6 / self.per_second).round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert, proptest};
    use rstest::rstest;

    #[rstest]
    #[case(1.0, 3, 3_000_000)]
    #[case(1000.0, 1, 1_000)]
    #[case(3.0, 1, 333_333)]
    #[case(3.0, 2, 666_667)]
    #[case(3.0, 3, 1_000_000)]
    #[case(0.1, 1, 10_000_000)]
    #[case(7.0, 7_000_000, 1_000_000_000_000)]
    fn times_are_multiples_of_the_period(#[case] per_second: f64, #[case] number: u64, #[case] expected: u64) {
        assert_eq!(Schedule::new(per_second).intended_us(number), expected);
    }

    proptest! {
        #[test]
        fn times_never_decrease_and_do_not_drift(per_second in 0.01f64..100_000.0, number in 0u64..10_000_000) {
            let schedule = Schedule::new(per_second);
            let (this, next) = (schedule.intended_us(number), schedule.intended_us(number + 1));
            prop_assert!(this <= next);
            let exact = number as f64 / per_second * 1e6;
            prop_assert!((this as f64 - exact).abs() <= 1.0 + exact * 1e-12, "{this} against {exact}");
        }
    }
}
