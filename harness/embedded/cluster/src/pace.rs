//! The one factor by which an embedded environment is faster than the real thing.

use std::time::Duration;

/// Scenario seconds per wall second, at least 1. A 3 s probe period at pace 10 takes 0.3 s of wall time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace(f64);

/// Longer than anything that is waited for.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl Pace {
    /// Real time.
    pub const NORMAL: Self = Self(1.0);

    /// A pace of `factor`, clamped to 1..=100: slower than real is pointless, faster drowns in scheduling noise.
    #[must_use]
    pub fn new(factor: f64) -> Self {
        Self(if factor.is_finite() {
            factor.clamp(1.0, 100.0)
        } else {
            1.0
        })
    }

    /// The factor.
    #[must_use]
    pub fn factor(self) -> f64 {
        self.0
    }

    /// Wall time that `scenario` time takes, at most ten years: objects may ask for any number of seconds, and a time that far
    /// away can still be added to a clock.
    #[must_use]
    pub fn wall(self, scenario: Duration) -> Duration {
        scenario.min(LONGEST).div_f64(self.0)
    }

    /// Scenario time that has passed after `wall` time.
    #[must_use]
    pub fn scenario(self, wall: Duration) -> Duration {
        wall.mul_f64(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;
    use std::time::Duration;

    #[test]
    fn a_probe_period_shrinks_and_comes_back() {
        let pace = Pace::new(10.0);
        let wall = pace.wall(Duration::from_secs(3));
        assert_eq!(wall, Duration::from_millis(300));
        assert_eq!(pace.scenario(wall), Duration::from_secs(3));
    }

    #[test]
    fn times_without_end_can_be_waited_for() {
        let endless = Pace::NORMAL.wall(Duration::MAX);
        assert!(std::time::Instant::now().checked_add(endless).is_some());
        assert_eq!(endless, Pace::NORMAL.wall(Duration::from_secs(u64::MAX)));
    }

    #[test]
    fn a_pace_out_of_range_is_clamped() {
        assert_eq!(Pace::new(0.1).factor(), 1.0);
        assert_eq!(Pace::new(f64::NAN).factor(), 1.0);
        assert_eq!(Pace::new(1e9).factor(), 100.0);
    }
}
