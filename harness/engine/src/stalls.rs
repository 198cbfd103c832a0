//! Whether the harness itself keeps time. A machine with too much to do lets timers fire late: requests go out late, leases
//! are lost, and a mesh that shares the machine (as an embedded one does) breaks promises that it would have kept. A process
//! that was stopped is late by as long as it was; a machine that slept shows by its wall clock, which went on.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::lateness::Lateness;

/// How often a timer is set (wall time).
const PERIOD: Duration = Duration::from_millis(20);

/// Remembers when timers fired late, as long as it lives.
pub(crate) struct Stalls {
    lateness: Arc<Lateness>,
    watching: AbortHandle,
}

impl Stalls {
    /// Watches from now on.
    pub(crate) fn watch(clock: Clock) -> Self {
        let lateness = Arc::new(Lateness::new(clock));
        let remembered = Arc::clone(&lateness);
        let watching = tokio::spawn(async move {
            loop {
                let (began, wall) = (Instant::now(), SystemTime::now());
                let due = began + PERIOD;
                remembered.expect(due);
                tokio::time::sleep_until(due).await;
                remembered.came();
                remembered.note(slept(began.elapsed(), wall.elapsed().map_err(|error| error.duration())));
            }
        });
        Self {
            lateness,
            watching: watching.abort_handle(),
        }
    }

    /// The longest lateness since a scenario time, µs of scenario time; 0 when all timers were in time.
    pub(crate) fn longest_since(&self, since_us: u64) -> u64 {
        self.lateness.longest_since(since_us)
    }
}

/// By how much the wall clock went on without the clock of timers, which stands still while a machine sleeps; a wall clock
/// that was set, forward or back, shows in the same way.
fn slept(timers: Duration, wall: Result<Duration, Duration>) -> Duration {
    match wall {
        Ok(forward) => forward.abs_diff(timers),
        Err(back) => back + timers,
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;

    use super::{Stalls, slept};
    use crate::clock::Clock;

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "blocking the runtime is the subject")]
    async fn a_blocked_thread_is_noticed_and_forgotten_by_later_checks() {
        let clock = Clock::start(10.0);
        let stalls = Stalls::watch(clock);
        tokio::time::sleep(Duration::from_millis(50)).await;
        // This runtime has one thread, and this is what a busy machine does to it.
        std::thread::sleep(Duration::from_millis(300));
        assert!(
            stalls.longest_since(0) >= 2_000_000,
            "who asks before the watch itself goes on is told: {}",
            stalls.longest_since(0)
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(stalls.longest_since(0) >= 2_000_000, "{}", stalls.longest_since(0));
        assert_eq!(stalls.longest_since(clock.now_us() + 1), 0);
    }

    #[rstest]
    #[case::awake(20, Ok(21), 1)]
    #[case::asleep(20, Ok(60_020), 60_000)]
    #[case::set_back(20, Err(3_600_000), 3_600_020)]
    fn a_machine_that_slept_shows_by_its_wall_clock(
        #[case] timers: u64,
        #[case] wall: Result<u64, u64>,
        #[case] expected: u64,
    ) {
        let wall = wall.map(Duration::from_millis).map_err(Duration::from_millis);
        assert_eq!(
            slept(Duration::from_millis(timers), wall),
            Duration::from_millis(expected)
        );
    }
}
