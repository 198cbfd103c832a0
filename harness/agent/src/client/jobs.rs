//! The jobs that run on an agent, by name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Run;
use super::request::Template;
use crate::protocol::{Job, JobEvent, Load};
use crate::server::{Agent, Life};

/// Most jobs that an agent runs at a time.
const MAX_JOBS: usize = 256;

/// The running jobs.
#[derive(Default)]
pub(crate) struct Jobs {
    running: Mutex<HashMap<String, Handle>>,
}

struct Handle {
    stop: CancellationToken,
    ended: CancellationToken,
}

/// Why a job was not started.
pub(crate) enum StartJobError {
    /// The job makes no sense.
    Invalid(String),
    /// A job of this name runs.
    NameTaken,
    /// Too many jobs run.
    TooMany,
    /// The agent is stopping.
    Stopping,
}

impl Jobs {
    /// Starts a job. Its events must be read; when the receiver is dropped, the job stops.
    pub(crate) fn start(agent: &Arc<Agent>, life: &Life, job: Job) -> Result<mpsc::Receiver<JobEvent>, StartJobError> {
        let template = Template::new(&job).map_err(StartJobError::Invalid)?;
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        {
            let mut running = agent.jobs.lock();
            // Looked at under the lock, so that no job slips in after `stop_all`.
            if life.is_draining() {
                return Err(StartJobError::Stopping);
            }
            if running.contains_key(&job.name) {
                return Err(StartJobError::NameTaken);
            }
            if running.len() >= MAX_JOBS {
                return Err(StartJobError::TooMany);
            }
            running.insert(
                job.name.clone(),
                Handle {
                    stop: stop.clone(),
                    ended: ended.clone(),
                },
            );
        }
        agent.log(&format!("job {} started: {}", job.name, describe(&job)));
        let (run, events) = Run::new(Arc::clone(&agent.network), job, template, stop);
        let registration = Registration {
            agent: Arc::clone(agent),
            name: run.name().to_owned(),
            ended,
        };
        let agent = Arc::clone(agent);
        life.spawn(async move {
            let (name, last) = (run.name().to_owned(), run.events());
            let summary = run.drive().await;
            // Whoever learns that the job has ended can take its name again.
            drop(registration);
            agent.log(&format!(
                "job {name} ended: {} requests sent, {} answered, {} failed",
                summary.sent, summary.answered, summary.failed
            ));
            // Without a reader there is nobody to tell.
            let _ = last.send(summary.event()).await;
        });
        Ok(events)
    }

    /// Stops a job and waits until it has ended. `false` when no such job runs.
    pub(crate) async fn stop(&self, name: &str) -> bool {
        let ended = {
            let running = self.lock();
            let Some(handle) = running.get(name) else {
                return false;
            };
            handle.stop.cancel();
            handle.ended.clone()
        };
        ended.cancelled().await;
        true
    }

    /// Tells all jobs to stop.
    pub(crate) fn stop_all(&self) {
        for handle in self.lock().values() {
            handle.stop.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Handle>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the job off the list when it ends, also when it is killed.
struct Registration {
    agent: Arc<Agent>,
    name: String,
    ended: CancellationToken,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.agent.jobs.lock().remove(&self.name);
        self.ended.cancel();
    }
}

fn describe(job: &Job) -> String {
    let load = match job.load {
        Load::Closed { requests, gap_ms } => {
            format!("{requests} requests, closed loop, gap {gap_ms} ms")
        }
        Load::Open {
            per_second,
            requests: None,
        } => format!("{per_second} requests per second"),
        Load::Open {
            per_second,
            requests: Some(requests),
        } => {
            format!("{requests} requests, {per_second} per second")
        }
    };
    format!(
        "{:?} to {}:{}, {load}, {} connections",
        job.protocol, job.host, job.port, job.connections
    )
}
