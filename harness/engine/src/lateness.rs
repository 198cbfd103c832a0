//! How late things came that were due: timers of the harness, answers of an API.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meshproof_verdict::wakefulness::STALLED_US;
use tokio::time::Instant;

use crate::clock::{Clock, micros};

/// Lateness that is always worth remembering (wall time).
const NOTABLE: Duration = Duration::from_millis(20);

/// So many are remembered, the last ones.
const REMEMBERED: usize = 65_536;

/// Remembers when something came late. Something is due at one time at most.
pub(crate) struct Lateness {
    clock: Clock,
    notable: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    seen: VecDeque<Late>,
    due: Option<Instant>,
}

/// Something that came late.
#[derive(Clone, Copy, Debug)]
struct Late {
    /// When it came, scenario µs.
    until_us: u64,
    /// How late, scenario µs.
    late_us: u64,
}

impl Lateness {
    /// Nothing was late yet, and nothing is due.
    pub(crate) fn new(clock: Clock) -> Self {
        // At a fast pace a stall that counts is short; a tenth of it is remembered.
        let notable = NOTABLE.min(clock.wall(Duration::from_micros(STALLED_US / 10)));
        Self {
            clock,
            notable,
            state: Mutex::default(),
        }
    }

    /// Something will be due at this instant.
    pub(crate) fn expect(&self, due: Instant) {
        self.lock().due = Some(due);
    }

    /// It came.
    pub(crate) fn came(&self) {
        let due = self.lock().due.take();
        if let Some(due) = due {
            self.note(due.elapsed());
        }
    }

    /// Nothing is due any more, and whether it was late is of no interest.
    pub(crate) fn forget(&self) {
        self.lock().due = None;
    }

    /// Remembers a lateness that ends now.
    pub(crate) fn note(&self, late: Duration) {
        if late >= self.notable {
            let late = Late {
                until_us: self.clock.now_us(),
                late_us: micros(self.clock.scenario(late)),
            };
            let mut state = self.lock();
            if state.seen.len() == REMEMBERED {
                state.seen.pop_front();
            }
            state.seen.push_back(late);
        }
    }

    /// The longest lateness since a scenario time, µs of scenario time; 0 when nothing notable was late. What is overdue at
    /// present counts as well: after a stop of the whole process nobody can tell which of its tasks goes on first.
    pub(crate) fn longest_since(&self, since_us: u64) -> u64 {
        let state = self.lock();
        let overdue = state.due.map(|due| due.elapsed()).filter(|late| *late >= self.notable);
        let late = state.seen.iter().rev().take_while(|late| late.until_us >= since_us);
        late.map(|late| late.late_us)
            .chain(overdue.map(|late| micros(self.clock.scenario(late))))
            .max()
            .unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, advance};

    use super::Lateness;
    use crate::clock::Clock;

    #[tokio::test(start_paused = true)]
    async fn what_came_late_is_remembered_and_what_is_overdue_counts_already() {
        let clock = Clock::start(10.0);
        let lateness = Lateness::new(clock);
        lateness.expect(Instant::now() + Duration::from_secs(1));
        advance(Duration::from_secs(1)).await;
        assert_eq!(lateness.longest_since(0), 0);
        advance(Duration::from_secs(2)).await;
        assert_eq!(lateness.longest_since(0), 20_000_000, "it is overdue");
        lateness.came();
        assert_eq!(lateness.longest_since(0), 20_000_000);
        assert_eq!(
            lateness.longest_since(clock.now_us() + 1),
            0,
            "later windows were in time"
        );
        lateness.expect(Instant::now());
        advance(Duration::from_secs(9)).await;
        lateness.forget();
        assert_eq!(lateness.longest_since(0), 20_000_000, "that was nobody's lateness");
    }
}
