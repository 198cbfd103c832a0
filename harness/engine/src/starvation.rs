//! Whether clusters that share the harness's processors had enough of one. A machine on which others run as well lets every timer
//! fire almost in time and still gives the process a fraction of the time that it needs: then all takes several times as
//! long, and promises with a deadline break that would have been kept.
//!
//! Linux counts for every thread how long it ran and how long it waited for a processor although it could have run
//! (`/proc/PID/task/TID/schedstat`). Elsewhere nothing is known, and nothing is said.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::{Clock, micros};

/// How often is counted (wall time).
const PERIOD: Duration = Duration::from_millis(100);
/// Who waits so many times as long as it runs gets a third of the time that it needs. Less happens wherever several of us run
/// side by side, and is survived.
const STARVES: u32 = 2;
/// Waiting for less than this share of a period hurts nobody, however little was run.
const HURTS: f64 = 0.1;
/// Periods that are remembered, at most: the last two hours.
const REMEMBERED: usize = 72_000;

/// Remembers when the process waited at least twice as long for a processor as it had one, as long as it lives.
pub(crate) struct Starvation {
    periods: Arc<Mutex<VecDeque<Starved>>>,
    _counting: AbortOnDropHandle<()>,
}

/// A period in which the process starved.
struct Starved {
    /// When it ended, scenario µs.
    until_us: u64,
    /// How long it was, scenario µs.
    for_us: u64,
}

impl Starvation {
    /// Counts from now on.
    pub(crate) fn watch(clock: Clock) -> Self {
        let periods = Arc::new(Mutex::default());
        let remembered = Arc::clone(&periods);
        let counting = tokio::spawn(async move {
            let mut meter = Meter::default();
            meter.read();
            loop {
                let began = Instant::now();
                tokio::time::sleep(PERIOD).await;
                let used = meter.read();
                let length = began.elapsed();
                if used.starves(length) {
                    let mut remembered = lock(&remembered);
                    if remembered.len() == REMEMBERED {
                        remembered.pop_front();
                    }
                    remembered.push_back(Starved {
                        until_us: clock.now_us(),
                        for_us: micros(clock.scenario(length)),
                    });
                }
            }
        });
        Self {
            periods,
            _counting: AbortOnDropHandle::new(counting),
        }
    }

    /// For how long the process starved since a scenario time, all in all, µs of scenario time.
    pub(crate) fn since(&self, since_us: u64) -> u64 {
        let periods = lock(&self.periods);
        let since = periods.iter().rev().take_while(|period| period.until_us >= since_us);
        since.map(|period| period.for_us).sum()
    }
}

fn lock(periods: &Mutex<VecDeque<Starved>>) -> MutexGuard<'_, VecDeque<Starved>> {
    periods.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Time on a processor, and time spent waiting for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct CpuTime {
    ran: Duration,
    waited: Duration,
}

impl CpuTime {
    /// Whether who had so much of it in a period of this length starved.
    fn starves(self, length: Duration) -> bool {
        self.waited >= self.ran * STARVES && self.waited >= length.mul_f64(HURTS)
    }

    /// Reads a line of `schedstat`: nanoseconds run, nanoseconds waited, number of times run.
    fn parse(schedstat: &str) -> Option<Self> {
        let mut numbers = schedstat.split_ascii_whitespace().map(|number| number.parse().ok());
        Some(Self {
            ran: Duration::from_nanos(numbers.next()??),
            waited: Duration::from_nanos(numbers.next()??),
        })
    }
}

/// Counts what all threads of the process had. What a thread had since the last reading and before it ended is lost.
#[derive(Default)]
struct Meter {
    threads: BTreeMap<std::ffi::OsString, CpuTime>,
}

impl Meter {
    /// What was had since the last reading; all of it at the first one.
    fn read(&mut self) -> CpuTime {
        let mut threads = BTreeMap::new();
        let mut used = CpuTime::default();
        let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        for task in tasks {
            let stat = fs::read_to_string(task.path().join("schedstat"));
            let Some(now) = stat.ok().and_then(|stat| CpuTime::parse(&stat)) else {
                continue;
            };
            let before = self.threads.get(&task.file_name()).copied().unwrap_or_default();
            used.ran += now.ran.saturating_sub(before.ran);
            used.waited += now.waited.saturating_sub(before.waited);
            threads.insert(task.file_name(), now);
        }
        self.threads = threads;
        used
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;

    use super::{CpuTime, Meter, PERIOD};

    #[rstest]
    #[case::idle(0, 0, false)]
    #[case::busy(95, 5, false)]
    #[case::busy_on_two_processors(190, 20, false)]
    #[case::little_to_do(2, 8, false)]
    #[case::half(60, 60, false)]
    #[case::a_third(60, 120, true)]
    #[case::a_quarter(50, 160, true)]
    fn who_waits_much_longer_than_it_runs_starves(#[case] ran: u64, #[case] waited: u64, #[case] expected: bool) {
        let used = CpuTime {
            ran: Duration::from_millis(ran),
            waited: Duration::from_millis(waited),
        };
        assert_eq!(used.starves(PERIOD), expected);
    }

    #[rstest]
    #[case::a_line("1200000000 3400000 77\n", Some((1_200_000_000, 3_400_000)))]
    #[case::half_a_line("1200000000", None)]
    #[case::something_else("1.5 s 3", None)]
    #[case::nothing("", None)]
    fn lines_of_the_kernel_are_read(#[case] line: &str, #[case] expected: Option<(u64, u64)>) {
        let read = CpuTime::parse(line);
        assert_eq!(
            read.map(|time| (time.ran.as_nanos(), time.waited.as_nanos())),
            expected.map(|(ran, waited)| (ran.into(), waited.into()))
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_runs_is_counted_once() {
        let mut meter = Meter::default();
        meter.read();
        let began = std::time::Instant::now();
        let mut spun = 0_u64;
        while meter.threads.is_empty() || began.elapsed() < Duration::from_millis(50) {
            spun = std::hint::black_box(spun + 1);
        }
        let first = meter.read();
        assert!(first.ran + first.waited >= Duration::from_millis(20), "{first:?}");
        let second = meter.read();
        assert!(second.ran < first.ran, "{second:?}");
    }
}
