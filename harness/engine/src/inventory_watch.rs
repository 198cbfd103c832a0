//! How an inventory differs from what it should be, over time and without polling.
//!
//! Everything is listed once. As long as something differs, the kinds that differ are watched, and everything is listed
//! again when one of them changes. When nothing differs, the kinds of the mesh are watched for something to appear.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{FuturesUnordered, unfold};
use meshproof_verdict::question::Observation;
use serde_json::Value;

use crate::driver::MeshDriver;
use crate::expect::{Seen, Source};
use crate::inventory::{self, Inventory, difference, differing};
use crate::scene::{RunContext, Scene};
use crate::testbed::Testbed;
use crate::watch::{Subscription, View, WatchKey};

/// Changes come in bursts; everything is listed again once a burst has lasted this long (wall time).
const SETTLE: Duration = Duration::from_millis(20);

type Wanted = Arc<dyn Fn(&dyn MeshDriver, &str, &Value) -> bool + Send + Sync>;

struct Looking {
    testbed: Arc<Testbed>,
    run: RunContext,
    clusters: Vec<String>,
    expected: Inventory,
    wanted: Wanted,
    watched: BTreeSet<(String, String)>,
    subscriptions: Vec<Subscription>,
    last: Option<Observation>,
}

/// The difference now, and whenever it changes.
pub(crate) fn differences(
    scene: &Scene,
    clusters: Vec<String>,
    expected: Inventory,
    wanted: impl Fn(&dyn MeshDriver, &str, &Value) -> bool + Send + Sync + 'static,
) -> Source {
    let looking = Looking {
        testbed: Arc::clone(&scene.testbed),
        run: scene.run.clone(),
        clusters,
        expected,
        wanted: Arc::new(wanted),
        watched: BTreeSet::new(),
        subscriptions: Vec::new(),
        last: None,
    };
    unfold(Some(looking), |looking| async move {
        let mut looking = looking?;
        loop {
            if looking.last.is_some() {
                looking.wait_for_change().await;
            }
            let driver = Arc::clone(&looking.testbed.driver);
            let wanted = Arc::clone(&looking.wanted);
            let found = inventory::take(
                &looking.testbed,
                &looking.run.requests,
                &looking.clusters,
                move |cluster, object| wanted(driver.as_ref(), cluster, object),
            )
            .await;
            let found = match found {
                Ok(found) => found,
                Err(problem) => return Some((Seen::Lost(problem), None)),
            };
            looking.watch_for(&found);
            let observation = difference(&looking.expected, &found);
            if looking.last.as_ref() != Some(&observation) {
                looking.last = Some(observation.clone());
                return Some((Seen::Saw(observation), Some(looking)));
            }
        }
    })
    .boxed()
}

impl Looking {
    /// Subscribes to the kinds that differ, or to those of the mesh when none does.
    fn watch_for(&mut self, found: &Inventory) {
        let mut kinds = differing(&self.expected, found);
        let mut resources = found.resources.clone();
        resources.extend(self.expected.resources.clone());
        if kinds.is_empty() {
            for resource in self.testbed.driver.kinds() {
                kinds.extend(
                    self.clusters
                        .iter()
                        .map(|cluster| (cluster.clone(), resource.kind.clone())),
                );
                resources.entry(resource.kind.clone()).or_insert(resource);
            }
        }
        if kinds == self.watched {
            return;
        }
        self.subscriptions = kinds
            .iter()
            .filter_map(|(cluster, kind)| {
                Some(self.testbed.watches.subscribe(WatchKey {
                    cluster: cluster.clone(),
                    resource: resources.get(kind)?.clone(),
                    namespace: None,
                    labels: None,
                }))
            })
            .collect();
        self.watched = kinds;
    }

    /// Waits for a change of anything that is watched. The first view of a new watch counts as one: something may have
    /// changed between the list and the watch.
    async fn wait_for_change(&mut self) {
        let mut next: FuturesUnordered<_> = self
            .subscriptions
            .iter_mut()
            .map(|subscription| async move {
                loop {
                    if let View::Objects(_) = subscription.next().await {
                        return;
                    }
                }
            })
            .collect();
        if next.next().await.is_none() {
            std::future::pending::<()>().await;
        }
        drop(next);
        tokio::time::sleep(SETTLE).await;
        for subscription in &mut self.subscriptions {
            subscription.drain();
        }
    }
}
