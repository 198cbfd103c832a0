//! Leader election over a Lease, as client-go does it with the real controller's settings.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::PostParams;
use meshproof_cluster::pace::Pace;
use rand::Rng;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::log::Logger;

/// How long others respect a lease that nobody renews, scenario time.
const LEASE_DURATION: Duration = Duration::from_secs(30);
/// How long a leader tries to renew before it steps down, scenario time.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Pause between two tries, scenario time.
const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// How long one try may take at any pace, wall time.
const LEAST_PATIENCE: Duration = Duration::from_millis(500);

/// One candidate for one Lease.
pub(super) struct Elector {
    leases: Api<Lease>,
    name: String,
    identity: String,
    pace: Pace,
    log: Logger,
    rng: StdRng,
    observed: Option<Observed>,
}

/// A state of the Lease and when this candidate first saw it: clocks of others do not count.
struct Observed {
    spec: LeaseSpec,
    at: Instant,
}

impl Elector {
    pub(super) fn new(
        leases: Api<Lease>,
        lock: (&str, &str),
        identity: &str,
        pace: Pace,
        log: &Logger,
        rng: StdRng,
    ) -> Self {
        let (namespace, name) = lock;
        Self {
            leases,
            name: name.to_owned(),
            identity: identity.to_owned(),
            pace,
            log: log.with("lock", &format!("{namespace}/{name}")),
            rng,
            observed: None,
        }
    }

    /// Returns when this candidate holds the Lease.
    pub(super) async fn acquire(&mut self) {
        self.log.info("Attempting to acquire leader lease...");
        // A new term starts without memories, as a new elector would.
        self.observed = None;
        while !self.try_acquire_or_renew().await {
            let jitter: f64 = self.rng.random_range(1.0..2.2);
            tokio::time::sleep(self.pace.wall(RETRY_PERIOD.mul_f64(jitter))).await;
        }
        self.log.info("Successfully acquired lease");
    }

    /// Renews until that fails for [`RENEW_DEADLINE`], whoever's fault it is.
    pub(super) async fn renew_until_lost(&mut self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(self.pace.wall(RETRY_PERIOD)).await;
            let deadline = renewed + self.pace.wall(RENEW_DEADLINE);
            // A machine that was too busy to wake this task in time has not lost anything yet.
            let patience = deadline.max(Instant::now() + LEAST_PATIENCE);
            match tokio::time::timeout_at(patience, self.try_acquire_or_renew()).await {
                Ok(true) => renewed = Instant::now(),
                Ok(false) if Instant::now() < deadline => {}
                _ => {
                    self.log.with("err", "{}").info("Failed to renew lease");
                    return;
                }
            }
        }
    }

    /// Gives the Lease up, so that a successor need not wait for its end.
    pub(super) async fn release(&mut self) {
        let Ok(Some(mut lease)) = self.leases.get_opt(&self.name).await else {
            return;
        };
        let Some(spec) = &mut lease.spec else { return };
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return;
        }
        let now = MicroTime(Timestamp::now());
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(now.clone());
        spec.acquire_time = Some(now);
        // Failing is no harm: the Lease then ends by itself.
        let _ = self.leases.replace(&self.name, &PostParams::default(), &lease).await;
    }

    async fn try_acquire_or_renew(&mut self) -> bool {
        match self.attempt().await {
            Ok(held) => held,
            Err(error) => {
                self.log
                    .error(format!("error retrieving or updating resource lock: {error}"));
                false
            }
        }
    }

    async fn attempt(&mut self) -> kube::Result<bool> {
        let now = MicroTime(Timestamp::now());
        let identity = self.identity.clone();
        let mine = |transitions, acquired| LeaseSpec {
            holder_identity: Some(identity.clone()),
            lease_duration_seconds: Some(30),
            acquire_time: Some(acquired),
            renew_time: Some(now.clone()),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        };
        let Some(mut lease) = self.leases.get_opt(&self.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(mine(0, now.clone())),
            };
            let created = self.leases.create(&PostParams::default(), &lease).await?;
            self.observe(created.spec.unwrap_or_default());
            return Ok(true);
        };
        let current = lease.spec.clone().unwrap_or_default();
        let holder = current.holder_identity.clone().unwrap_or_default();
        self.observe(current.clone());
        let transitions = current.lease_transitions.unwrap_or(0);
        lease.spec = Some(if holder == self.identity {
            let mut renewed = current.clone();
            renewed.renew_time = Some(now.clone());
            renewed.lease_duration_seconds = Some(30);
            renewed
        } else if holder.is_empty() || self.has_expired() {
            mine(transitions + 1, now.clone())
        } else {
            return Ok(false);
        });
        let replaced = self.leases.replace(&self.name, &PostParams::default(), &lease).await?;
        self.observe(replaced.spec.unwrap_or_default());
        Ok(true)
    }

    fn observe(&mut self, spec: LeaseSpec) {
        if self.observed.as_ref().is_none_or(|observed| observed.spec != spec) {
            self.observed = Some(Observed {
                spec,
                at: Instant::now(),
            });
        }
    }

    fn has_expired(&self) -> bool {
        self.observed
            .as_ref()
            .is_some_and(|observed| observed.at.elapsed() >= self.pace.wall(LEASE_DURATION))
    }
}
