//! A tap on a relay.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use meshproof_agent::relay::Client;
use meshproof_agent::relay::protocol::Status;
use meshproof_engine::environment::Tap;
use meshproof_engine::problem::Problem;
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::{CALL_TIME, call};

/// Watches what crosses a relay.
///
/// Once a call has failed, the tap has seen nothing and sees nothing more: that a pattern is absent must not be concluded
/// from a relay that was not asked. A control pattern is missed then, too.
pub(super) struct RelayTap {
    relay: String,
    client: Client,
    /// Bytes that had crossed before.
    before: u64,
    /// Bytes that had crossed when the relay last answered.
    latest: AtomicU64,
    patterns: Mutex<BTreeMap<Vec<u8>, u64>>,
    broken: AtomicBool,
}

impl RelayTap {
    pub(super) async fn begin(relay: &str, client: Client) -> Result<Self, Problem> {
        let before = crossed(&call(relay, client.status()).await?);
        Ok(Self {
            relay: relay.to_owned(),
            client,
            before,
            latest: AtomicU64::new(before),
            patterns: Mutex::default(),
            broken: AtomicBool::new(false),
        })
    }

    async fn ask<T, E: std::fmt::Display>(&self, question: impl Future<Output = Result<T, E>>) -> Option<T> {
        if self.broken.load(Ordering::Acquire) {
            return None;
        }
        match call(&self.relay, question).await {
            Ok(answer) => Some(answer),
            Err(problem) => {
                tracing::warn!("the tap is blind from now on: {}", problem.message);
                self.broken.store(true, Ordering::Release);
                None
            }
        }
    }
}

fn crossed(status: &Status) -> u64 {
    status.bytes_to_target + status.bytes_to_client
}

#[async_trait]
impl Tap for RelayTap {
    async fn bytes(&self) -> u64 {
        if let Some(status) = self.ask(self.client.status()).await {
            self.latest.store(crossed(&status), Ordering::Release);
        }
        self.latest.load(Ordering::Acquire).saturating_sub(self.before)
    }

    async fn look_for(&self, pattern: &[u8]) {
        let mut patterns = self.patterns.lock().await;
        if patterns.contains_key(pattern) {
            return;
        }
        if let Some(id) = self.ask(self.client.look_for(pattern)).await {
            patterns.insert(pattern.to_vec(), id);
        }
    }

    async fn saw(&self, pattern: &[u8]) -> bool {
        let Some(id) = self.patterns.lock().await.get(pattern).copied() else {
            return false;
        };
        let seen = self.ask(self.client.seen(id)).await;
        seen.is_some_and(|seen| seen.to_target || seen.to_client)
    }
}

impl Drop for RelayTap {
    fn drop(&mut self) {
        let patterns = std::mem::take(self.patterns.get_mut());
        if let (false, Ok(runtime)) = (patterns.is_empty(), Handle::try_current()) {
            let client = self.client;
            runtime.spawn(async move {
                // One that stays costs the relay a little time and nothing else.
                for id in patterns.into_values() {
                    let _ = tokio::time::timeout(CALL_TIME, client.forget(id)).await;
                }
            });
        }
    }
}
