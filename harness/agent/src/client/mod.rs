//! The client: runs a job, which is a piece of traffic, and accounts for each of its requests.

mod connection;
mod jobs;
mod outcome;
mod pacing;
mod pool;
mod request;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::connection::Opener;
use self::outcome::Failure;
use self::pacing::Schedule;
use self::pool::Pool;
pub(crate) use self::request::Template;
use crate::network::Network;
use crate::protocol::{ClientRow, FailureKind, Job, JobEvent, Load, Outcome, Protocol};

pub(crate) use jobs::{Jobs, StartJobError};

/// Most requests that an open loop over HTTP/2 has outstanding. When all are, the next request waits and starts late.
pub(crate) const MAX_OUTSTANDING: u32 = 4096;
/// The same over HTTP/1.1 and TCP, and for fresh connections, where each outstanding request has a connection of its own.
pub(crate) const MAX_CONNECTIONS: u32 = 1024;
/// How long a job that is told to stop waits for the answers to outstanding requests.
const STOP_GRACE: Duration = Duration::from_millis(250);
/// Rows that wait for a slow reader. When there are more, requests end, and so start, later; their rows say so.
const MAX_WAITING_ROWS: usize = 65_536;

/// A job and everything its requests share.
pub(crate) struct Run {
    job: Job,
    template: Template,
    pool: Pool,
    zero: Instant,
    /// No further request starts.
    stop: CancellationToken,
    /// Outstanding requests end as [`FailureKind::Stopped`].
    abort: CancellationToken,
    events: mpsc::Sender<JobEvent>,
    progress: Mutex<Progress>,
    /// Requests of a closed loop that have been given to a connection.
    dealt: AtomicU64,
}

#[derive(Default)]
struct Progress {
    summary: Summary,
    /// Answers in a row that satisfied [`Job::until_seen`].
    in_a_row: u32,
}

/// What a job came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    max_late_us: u64,
    seen: bool,
}

impl Summary {
    /// The last event of the job.
    pub(crate) fn event(&self) -> JobEvent {
        JobEvent::Ended {
            sent: self.sent,
            seen: self.seen,
            max_late_us: self.max_late_us,
        }
    }
}

impl Run {
    /// A job that is ready to run. `stop` ends it early.
    pub(crate) fn new(
        network: Arc<dyn Network>,
        job: Job,
        template: Template,
        stop: CancellationToken,
    ) -> (Self, mpsc::Receiver<JobEvent>) {
        let opener = Opener::new(network, job.host.clone(), job.port, job.protocol);
        let pool = Pool::new(opener, job.connections, job.fresh_connections);
        let (events, receiver) = mpsc::channel(MAX_WAITING_ROWS);
        let run = Self {
            job,
            template,
            pool,
            zero: Instant::now(),
            stop,
            abort: CancellationToken::new(),
            events,
            progress: Mutex::default(),
            dealt: AtomicU64::new(0),
        };
        (run, receiver)
    }

    pub(crate) fn name(&self) -> &str {
        &self.job.name
    }

    /// Runs the job to its end: when this returns, no request is outstanding and all rows have been handed over. The last
    /// event, [`Summary::event`], is left to the caller, who may have something to do before it is seen.
    pub(crate) async fn drive(mut self) -> Summary {
        self.zero = Instant::now();
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // When nobody reads any more, the select below ends the job.
        let _ = self
            .events
            .send(JobEvent::Started {
                epoch_us: micros(epoch),
            })
            .await;

        let run = Arc::new(self);
        // Requests must not outlive the job, also when it is killed.
        let _abort = run.abort.clone().drop_guard();
        let requests = TaskTracker::new();
        tokio::select! {
            biased;
            () = run.events.closed() => run.abort.cancel(),
            () = run.stop.cancelled() => {}
            () = start_requests(&run, &requests) => {}
        }
        requests.close();
        tokio::select! {
            biased;
            () = run.events.closed() => run.abort.cancel(),
            () = run.stop.cancelled() => {
                if timeout(STOP_GRACE, requests.wait()).await.is_err() {
                    run.abort.cancel();
                }
            }
            () = requests.wait() => {}
        }
        requests.wait().await;

        run.lock().summary
    }

    /// Where the job's events go.
    pub(crate) fn events(&self) -> mpsc::Sender<JobEvent> {
        self.events.clone()
    }

    /// Whether requests may still start.
    fn goes_on(&self) -> bool {
        !self.stop.is_cancelled() && !self.abort.is_cancelled()
    }

    fn elapsed_us(&self) -> u64 {
        micros(self.zero.elapsed())
    }

    /// Sends request `number` and hands its row over.
    async fn perform(&self, number: u64, intended_us: u64) {
        let id = format!("{}-{number}", self.job.name);
        let started_us = self.elapsed_us();
        let time_limit = Duration::from_millis(self.job.timeout_ms);
        let mut lease = self.pool.lease();
        let reply = tokio::select! {
            biased;
            reply = timeout(time_limit, lease.exchange(&self.template, &id)) => reply.unwrap_or_else(|_| {
                let detail = format!("no answer within {} ms", self.job.timeout_ms);
                Err(Failure::new(FailureKind::Timeout, detail))
            }),
            () = self.abort.cancelled() => Err(Failure::new(FailureKind::Stopped, "the job was stopped")),
        };
        let ended_us = self.elapsed_us();
        let connection = lease.connection();
        drop(lease);
        let (outcome, held) = outcome::judge(reply, &self.job, &id);
        self.account(started_us.saturating_sub(intended_us), &outcome, held);
        let row = ClientRow {
            id,
            intended_us,
            started_us,
            ended_us,
            connection,
            outcome,
        };
        // Without a reader the job is being aborted.
        let _ = self.events.send(JobEvent::Row(row)).await;
    }

    fn account(&self, late_us: u64, outcome: &Outcome, held: bool) {
        let mut progress = self.lock();
        progress.summary.sent += 1;
        match outcome {
            Outcome::Answered { .. } => progress.summary.answered += 1,
            Outcome::Failed { .. } => progress.summary.failed += 1,
        }
        if matches!(self.job.load, Load::Open { .. }) {
            progress.summary.max_late_us = progress.summary.max_late_us.max(late_us);
        }
        // A failed request in between breaks the row as well.
        progress.in_a_row = if held { progress.in_a_row.saturating_add(1) } else { 0 };
        if self
            .job
            .until_seen
            .as_ref()
            .is_some_and(|until| progress.in_a_row >= until.consecutive)
        {
            progress.summary.seen = true;
            self.stop.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts all requests of the job at their times. Returns when the last has started (open loop) or ended (closed loop).
async fn start_requests(run: &Arc<Run>, requests: &TaskTracker) {
    match run.job.load {
        Load::Open {
            per_second,
            requests: total,
        } => {
            open_loop(run, requests, Schedule::new(per_second), total.unwrap_or(u64::MAX)).await;
        }
        Load::Closed {
            requests: total,
            gap_ms,
        } => {
            for _ in 0..u64::from(run.job.connections).min(total) {
                let run = Arc::clone(run);
                requests.spawn(async move { closed_loop(&run, total, Duration::from_millis(gap_ms)).await });
            }
            requests.close();
            requests.wait().await;
        }
    }
}

/// Starts every request that is due whenever the timer (of 1 ms granularity) ticks, whatever became of earlier ones.
async fn open_loop(run: &Arc<Run>, requests: &TaskTracker, schedule: Schedule, total: u64) {
    let outstanding = match run.job.protocol {
        Protocol::Http2 if !run.job.fresh_connections => MAX_OUTSTANDING,
        Protocol::Http1 | Protocol::Http2 | Protocol::Tcp => MAX_CONNECTIONS,
    };
    let outstanding = Arc::new(Semaphore::new(outstanding as usize));
    for number in 0..total {
        let intended_us = schedule.intended_us(number);
        if intended_us > run.elapsed_us() {
            sleep_until(run.zero + Duration::from_micros(intended_us)).await;
        }
        let Ok(permit) = Arc::clone(&outstanding).acquire_owned().await else {
            return;
        };
        let run = Arc::clone(run);
        requests.spawn(async move {
            run.perform(number, intended_us).await;
            drop(permit);
        });
    }
}

/// One of the loops that send the next request when the last one has ended. A request is intended to start when the gap
/// after the last one is over.
async fn closed_loop(run: &Run, total: u64, gap: Duration) {
    let mut intended_us = 0;
    while run.goes_on() {
        let number = run.dealt.fetch_add(1, Ordering::Relaxed);
        if number >= total {
            return;
        }
        run.perform(number, intended_us).await;
        intended_us = run.elapsed_us() + micros(gap);
        if !gap.is_zero() {
            tokio::select! {
                () = sleep(gap) => {}
                () = run.stop.cancelled() => return,
                () = run.abort.cancelled() => return,
            }
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
