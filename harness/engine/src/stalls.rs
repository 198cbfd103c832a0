//! Whether the harness itself keeps time. A machine with too much to do lets timers fire late: requests go out late, leases
//! are lost, and a mesh that shares the machine (as an embedded one does) breaks promises that it would have kept.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::clock::Clock;

/// How often a timer is set (wall time).
const PERIOD: Duration = Duration::from_millis(20);
/// Lateness that is worth remembering (wall time).
const NOTABLE: Duration = Duration::from_millis(20);

/// Remembers when timers fired late, as long as it lives.
pub(crate) struct Stalls {
    seen: Arc<Mutex<Vec<Stall>>>,
    watching: AbortHandle,
}

/// A timer that fired late.
#[derive(Clone, Copy, Debug)]
struct Stall {
    /// When it fired, scenario µs.
    until_us: u64,
    /// How late, scenario µs.
    late_us: u64,
}

impl Stalls {
    /// Watches from now on.
    pub(crate) fn watch(clock: Clock) -> Self {
        let seen: Arc<Mutex<Vec<Stall>>> = Arc::default();
        let remembered = Arc::clone(&seen);
        let watching = tokio::spawn(async move {
            loop {
                let due = Instant::now() + PERIOD;
                tokio::time::sleep_until(due).await;
                let late = due.elapsed();
                if late >= NOTABLE {
                    let stall = Stall {
                        until_us: clock.now_us(),
                        late_us: crate::clock::micros(clock.scenario(late)),
                    };
                    remembered.lock().unwrap_or_else(PoisonError::into_inner).push(stall);
                }
            }
        });
        Self {
            seen,
            watching: watching.abort_handle(),
        }
    }

    /// The longest lateness since a scenario time, µs of scenario time; 0 when all timers were in time.
    pub(crate) fn longest_since(&self, since_us: u64) -> u64 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let late = seen.iter().rev().take_while(|stall| stall.until_us >= since_us);
        late.map(|stall| stall.late_us).max().unwrap_or(0)
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

    use super::Stalls;
    use crate::clock::Clock;

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "blocking the runtime is the subject")]
    async fn a_blocked_thread_is_noticed_and_forgotten_by_later_checks() {
        let clock = Clock::start(10.0);
        let stalls = Stalls::watch(clock);
        tokio::time::sleep(Duration::from_millis(50)).await;
        // This runtime has one thread, and this is what a busy machine does to it.
        std::thread::sleep(Duration::from_millis(300));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(stalls.longest_since(0) >= 2_000_000, "{}", stalls.longest_since(0));
        assert_eq!(stalls.longest_since(clock.now_us() + 1), 0);
    }
}
