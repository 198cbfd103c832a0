//! A fault of a relay, kept alive by this process.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use meshproof_agent::relay::Client;
use meshproof_agent::relay::protocol::Fault;
use meshproof_engine::environment::NetworkFault;
use meshproof_engine::problem::{self, Problem};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::container::RelaySpec;
use super::{CALL_TIME, call};

/// Renewals in the lifetime of a fault: so many may get lost.
const RENEWALS: u32 = 4;

/// A fault in force on one relay.
pub(super) struct RelayFault {
    relay: String,
    lifetime_s: u64,
    client: Client,
    id: u64,
    over: AtomicBool,
    _renewing: AbortOnDropHandle<()>,
}

impl RelayFault {
    pub(super) async fn begin(spec: &RelaySpec, client: Client, fault: Fault) -> Result<Self, Problem> {
        let id = call(&spec.name, client.impose(&fault)).await?;
        let (relay, pause) = (spec.name.clone(), spec.lifetime / RENEWALS);
        let renewing = tokio::spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                if let Err(problem) = call(&relay, client.renew()).await {
                    tracing::warn!(
                        "{}; its faults end by themselves unless it is reached again",
                        problem.message
                    );
                }
            }
        });
        Ok(Self {
            relay: spec.name.clone(),
            lifetime_s: spec.lifetime.as_secs(),
            client,
            id,
            over: AtomicBool::new(false),
            _renewing: AbortOnDropHandle::new(renewing),
        })
    }
}

#[async_trait]
impl NetworkFault for RelayFault {
    async fn heal(&self) -> Result<(), Problem> {
        if self.over.load(Ordering::Acquire) {
            return Ok(());
        }
        let healed = call(&self.relay, self.client.heal(self.id)).await?;
        let status = call(&self.relay, self.client.status()).await?;
        let Self { relay, id, .. } = self;
        if status.faults.iter().any(|active| active.id == *id) {
            return Err(problem::environment(
                "fault-not-healed",
                format!("the relay {relay} says that its fault {id} is still in force"),
                Some("bring the environment down and up again before the next run"),
            ));
        }
        let refuses = status.faults.iter().any(|active| active.fault == Fault::Refuse);
        if !refuses && status.listening.len() != status.forwards.len() {
            return Err(problem::environment(
                "fault-not-healed",
                format!(
                    "the relay {relay} takes connections on ports {:?} only after its fault {id} was healed",
                    status.listening
                ),
                Some("bring the environment down and up again before the next run"),
            ));
        }
        self.over.store(true, Ordering::Release);
        if healed {
            return Ok(());
        }
        Err(problem::environment(
            "fault-lost",
            format!(
                "the relay {relay} had ended its fault {id} by itself or was started anew; what was measured meanwhile does not count"
            ),
            Some(&format!(
                "see whether the machine was asleep or overloaded for more than {} s",
                self.lifetime_s
            )),
        ))
    }
}

impl Drop for RelayFault {
    fn drop(&mut self) {
        if self.over.load(Ordering::Acquire) {
            return;
        }
        // Outside of a runtime, and when this fails, the relay heals itself: nobody renews any more.
        if let Ok(runtime) = Handle::try_current() {
            let (client, id) = (self.client, self.id);
            runtime.spawn(async move {
                let _ = tokio::time::timeout(CALL_TIME, client.heal(id)).await;
            });
        }
    }
}
