//! Scenario time: the one clock of a run.
//!
//! *Scenario time* is wall time multiplied by the environment's pace. Deadlines, durations and all times in a journal are
//! scenario time; only here are they turned into waits.

use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The clock of a run. Copies tell the same time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    start_epoch: Duration,
    pace: f64,
}

/// A wait that took longer than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl Clock {
    /// A clock that starts now and runs `pace` times as fast as the wall's. A pace that is not a positive number counts
    /// as 1.
    #[must_use]
    pub fn start(pace: f64) -> Self {
        Self {
            start: Instant::now(),
            start_epoch: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            pace: if pace.is_finite() && pace > 0.0 { pace } else { 1.0 },
        }
    }

    /// Scenario seconds per wall second.
    #[must_use]
    pub fn pace(&self) -> f64 {
        self.pace
    }

    /// Scenario time since the start of the run, µs.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.at_us(Instant::now())
    }

    /// Scenario time of an instant, µs; 0 for one before the start.
    #[must_use]
    pub fn at_us(&self, instant: Instant) -> u64 {
        micros(self.scenario(instant.saturating_duration_since(self.start)))
    }

    /// Scenario time at which the wall clock showed this many µs since the Unix epoch.
    #[must_use]
    pub fn at_epoch_us(&self, epoch_us: u64) -> u64 {
        let since = Duration::from_micros(epoch_us).saturating_sub(self.start_epoch);
        micros(self.scenario(since))
    }

    /// Wall time that this much scenario time takes.
    #[must_use]
    pub fn wall(&self, scenario: Duration) -> Duration {
        scenario.div_f64(self.pace)
    }

    /// Scenario time that passes in this much wall time.
    #[must_use]
    pub fn scenario(&self, wall: Duration) -> Duration {
        wall.mul_f64(self.pace)
    }

    /// The instant at which scenario time is `at_us`.
    #[must_use]
    pub fn instant(&self, at_us: u64) -> Instant {
        self.start + self.wall(Duration::from_micros(at_us))
    }

    /// Waits for this much scenario time.
    pub async fn sleep(&self, scenario: Duration) {
        tokio::time::sleep(self.wall(scenario)).await;
    }

    /// Waits until scenario time is `at_us`.
    pub async fn sleep_until(&self, at_us: u64) {
        tokio::time::sleep_until(self.instant(at_us)).await;
    }

    /// Waits for `future`, but no longer than this much scenario time.
    ///
    /// # Errors
    /// [`Elapsed`] when it takes longer.
    pub async fn within<F: Future>(&self, scenario: Duration, future: F) -> Result<F::Output, Elapsed> {
        tokio::time::timeout(self.wall(scenario), future)
            .await
            .map_err(|_| Elapsed)
    }
}

/// A duration in µs.
#[must_use]
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Clock, Elapsed};
    use std::time::Duration;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn ten_scenario_seconds_take_one_wall_second_at_pace_ten() {
        let clock = Clock::start(10.0);
        let before = Instant::now();
        clock.sleep(Duration::from_secs(10)).await;
        assert_eq!(before.elapsed(), Duration::from_secs(1));
        assert_eq!(clock.now_us(), 10_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_shrinks_with_the_pace() {
        let clock = Clock::start(20.0);
        let before = Instant::now();
        let outcome = clock
            .within(Duration::from_secs(30), std::future::pending::<()>())
            .await;
        assert_eq!(outcome, Err(Elapsed));
        assert_eq!(before.elapsed(), Duration::from_millis(1500));
        assert_eq!(clock.within(Duration::from_secs(1), async { 7 }).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn sleeping_until_a_time_that_is_over_returns_at_once() {
        let clock = Clock::start(10.0);
        clock.sleep_until(5_000_000).await;
        assert_eq!(clock.now_us(), 5_000_000);
        clock.sleep_until(1_000_000).await;
        assert_eq!(clock.now_us(), 5_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_senseless_pace_counts_as_one() {
        for pace in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!((Clock::start(pace).pace() - 1.0).abs() < f64::EPSILON);
        }
    }
}
