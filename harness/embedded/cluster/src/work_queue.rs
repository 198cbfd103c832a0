//! How controllers run: watches put keys into a queue, a worker reconciles one key after the other.
//!
//! Watches are only triggers. A reconciliation reads the present state from the store, so it never acts on an old one; a key
//! that is queued several times is worked off once; an error puts the key back with a growing pause. Nothing polls.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{SelectAll, StreamExt};
use meshproof_apiserver::store::{WatchEvent, WatchKind};
use meshproof_apiserver::{Gvr, Selector, Status, Store};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::object::Key;

/// First pause after an error, wall time; doubled each time. As client-go's work queue.
const FIRST_RETRY: Duration = Duration::from_millis(5);
const LAST_RETRY: Duration = Duration::from_secs(2);

/// A controller: which changes concern which keys, and how to bring one key into order.
pub(crate) trait Controller: Send + 'static {
    /// Name in logs and in `metadata.managedFields`.
    fn name(&self) -> &'static str;

    /// Resources whose changes matter.
    fn watches(&self) -> Vec<Gvr>;

    /// Whether changes of this sort matter. All do, unless a controller says otherwise.
    fn cares(&self, _gvr: &Gvr, _change: WatchKind) -> bool {
        true
    }

    /// Keys to reconcile because of a change of `object`.
    fn keys(&self, gvr: &Gvr, object: &Value) -> Vec<Key>;

    /// Brings one key into order. Returns after how much wall time to look again, if time alone can change something.
    ///
    /// # Errors
    /// What the store said; the key is tried again after a pause.
    fn reconcile(&mut self, key: &Key) -> Result<Option<Duration>, Status>;
}

/// Runs a controller until `shutdown`.
pub(crate) async fn run(mut controller: impl Controller, store: Store, shutdown: CancellationToken) {
    let mut changes = SelectAll::new();
    for gvr in controller.watches() {
        match store.informer(&gvr, None, &Selector::all()) {
            Ok(stream) => changes.push(stream.map(move |event| (gvr.clone(), event)).boxed()),
            Err(status) => {
                tracing::error!(controller = controller.name(), %gvr, %status, "cannot watch");
                return;
            }
        }
    }
    let mut queue = Queue::default();
    loop {
        while let Some(Some(change)) = changes.next().now_or_never() {
            queue.changed(&controller, change);
        }
        queue.add_due();
        if let Some(key) = queue.next() {
            let result = controller.reconcile(&key);
            if let Err(status) = &result {
                tracing::debug!(controller = controller.name(), %key, %status, "will try again");
            }
            queue.done(&key, &result);
            // Let others run between two keys, and notice a shutdown.
            tokio::task::yield_now().await;
            if shutdown.is_cancelled() {
                return;
            }
            continue;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep_until(queue.next_due()) => {}
            change = changes.next() => match change {
                Some(change) => queue.changed(&controller, change),
                None => return,
            },
        }
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Keys that wait, each at most once, and keys that are due later.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Key>,
    queued: HashSet<Key>,
    /// Keys by the time at which they are due; the number keeps equal times apart.
    later: BTreeMap<(Instant, u64), Key>,
    due_of: HashMap<Key, (Instant, u64)>,
    failures: HashMap<Key, u32>,
    counter: u64,
}

impl Queue {
    fn changed(&mut self, controller: &impl Controller, (gvr, event): (Gvr, Result<WatchEvent, Status>)) {
        // An informer lists again by itself; other errors end its stream.
        if let Ok(event) = event
            && event.kind != WatchKind::Bookmark
            && controller.cares(&gvr, event.kind)
        {
            for key in controller.keys(&gvr, &event.object) {
                self.add(key);
            }
        }
    }

    fn add(&mut self, key: Key) {
        if self.queued.insert(key.clone()) {
            self.waiting.push_back(key);
        }
    }

    fn next(&mut self) -> Option<Key> {
        let key = self.waiting.pop_front()?;
        self.queued.remove(&key);
        Some(key)
    }

    fn add_later(&mut self, key: &Key, pause: Duration) {
        let due = Instant::now() + pause;
        if let Some(old) = self.due_of.get(key).copied() {
            if old.0 <= due {
                return;
            }
            self.later.remove(&old);
        }
        self.counter += 1;
        self.later.insert((due, self.counter), key.clone());
        self.due_of.insert(key.clone(), (due, self.counter));
    }

    fn next_due(&self) -> Option<Instant> {
        self.later.keys().next().map(|(due, _)| *due)
    }

    fn add_due(&mut self) {
        let now = Instant::now();
        while let Some(first) = self.later.first_entry() {
            if first.key().0 > now {
                return;
            }
            let key = first.remove();
            self.due_of.remove(&key);
            self.add(key);
        }
    }

    fn done(&mut self, key: &Key, result: &Result<Option<Duration>, Status>) {
        match result {
            Ok(again) => {
                self.failures.remove(key);
                if let Some(pause) = again {
                    self.add_later(key, *pause);
                }
            }
            Err(_) => {
                let failures = self.failures.entry(key.clone()).or_default();
                let pause = FIRST_RETRY * 2u32.saturating_pow(*failures);
                *failures += 1;
                self.add_later(key, pause.min(LAST_RETRY));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_waits_once_and_an_earlier_time_wins() {
        let mut queue = Queue::default();
        let key = Key::new("demo", "web");
        queue.add(key.clone());
        queue.add(key.clone());
        assert_eq!(queue.next(), Some(key.clone()));
        assert_eq!(queue.next(), None);
        queue.add_later(&key, Duration::from_secs(60));
        queue.add_later(&key, Duration::ZERO);
        queue.add_later(&key, Duration::from_secs(5));
        queue.add_due();
        assert_eq!(queue.next(), Some(key));
        assert!(queue.later.is_empty() && queue.due_of.is_empty());
    }

    #[test]
    fn pauses_grow_with_failures_and_start_over_after_success() {
        let mut queue = Queue::default();
        let key = Key::new("demo", "web");
        let failed = Err(Status::internal("no"));
        let mut pauses = Vec::new();
        for _ in 0..12 {
            queue.done(&key, &failed);
            pauses.push(queue.next_due().unwrap() - Instant::now());
            queue.later.clear();
            queue.due_of.clear();
        }
        assert!(pauses[0] <= FIRST_RETRY);
        assert!(pauses[5] > FIRST_RETRY * 16);
        assert!(pauses[11] <= LAST_RETRY && pauses[11] > LAST_RETRY / 2);
        queue.done(&key, &Ok(None));
        assert!(queue.failures.is_empty() && queue.next_due().is_none());
    }
}
