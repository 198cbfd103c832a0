//! The destination and policy services of a control plane, as a program in its pod.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{BoxStream, SelectAll, StreamExt};
use futures::{FutureExt as _, stream};
use meshproof_apiserver::store::{Patch, WatchEvent, WatchKind};
use meshproof_apiserver::{Gvr, Selector, Store, gvr};
use meshproof_cluster::program::{ContainerContext, Exit, LogSink, Program};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::index::{HTTP_ROUTES, Index, Kind};
use super::objects::{Key, key};
use super::route::POLICY_CONTROLLER;
use crate::defect::{Defect, Defects};
use crate::model::Model;
use crate::names::VERSION;
use crate::unmodelled::unmodelled;
use crate::version;

/// How long a defective proxy withholds the mirrors of a restarted controller, in scenario time: longer than failfast, so
/// that requests fail.
const WITHHELD: Duration = Duration::from_secs(6);

/// Follows the cluster's API and tells the proxies.
pub struct DestinationProgram {
    model: Model,
}

impl DestinationProgram {
    /// The program for all clusters of `model`.
    #[must_use]
    pub fn new(model: Model) -> Self {
        Self { model }
    }
}

/// What the program waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Objects(Kind),
    /// Definitions of custom resources: a kind may become available.
    Definitions,
}

enum News {
    Event(Source, WatchEvent),
    Ended(Source),
}

struct Follower {
    store: Store,
    log: LogSink,
    /// Objects and annotations that were complained of.
    warned: BTreeSet<(Key, String)>,
    streams: SelectAll<BoxStream<'static, News>>,
    closed: BTreeSet<Source>,
    /// Sources whose present objects are not all known yet.
    pending: BTreeSet<Source>,
}

impl Follower {
    fn new(store: Store, log: LogSink) -> Self {
        let mut follower = Self {
            store,
            log,
            warned: BTreeSet::new(),
            streams: SelectAll::new(),
            closed: Kind::ALL
                .into_iter()
                .map(Source::Objects)
                .chain([Source::Definitions])
                .collect(),
            pending: BTreeSet::new(),
        };
        follower.open();
        follower
    }

    /// Opens every watch that is not open and whose resource is served.
    fn open(&mut self) {
        for source in self.closed.clone() {
            let gvr: Gvr = match source {
                Source::Objects(kind) => kind.gvr(),
                Source::Definitions => gvr::CUSTOM_RESOURCE_DEFINITIONS,
            };
            // Not served (yet): the definitions tell when to try again.
            let Ok(events) = self.store.informer(&gvr, None, &Selector::all()) else {
                continue;
            };
            let events = events.filter_map(move |event| async move { Some(News::Event(source, event.ok()?)) });
            let events = events.chain(stream::once(async move { News::Ended(source) }));
            self.streams.push(events.boxed());
            self.closed.remove(&source);
            self.pending.insert(source);
        }
    }
}

impl Follower {
    /// Brings one piece of news into the index.
    fn take(&mut self, news: News, index: &mut Index, defects: &Defects) {
        match news {
            News::Event(source, event) => match (source, event.kind) {
                (_, WatchKind::Bookmark) => {
                    self.pending.remove(&source);
                }
                (Source::Definitions, _) => self.open(),
                (Source::Objects(kind), WatchKind::Deleted) => index.remove(kind, &event.object, defects),
                (Source::Objects(kind), WatchKind::Added | WatchKind::Modified) => {
                    if matches!(kind, Kind::Service | Kind::Route) {
                        self.warn_of_unmodelled(&event.object);
                    }
                    index.set(kind, &event.object, defects);
                }
            },
            News::Ended(source) => {
                self.closed.insert(source);
                self.pending.remove(&source);
                if let Source::Objects(kind) = source {
                    index.clear(kind);
                }
            }
        }
    }
}

impl Follower {
    /// What has no effect must not look as if it had one.
    fn warn_of_unmodelled(&mut self, object: &Value) {
        for what in unmodelled(object) {
            let own = key(object);
            let told = format!(
                "level=warn msg=\"{}/{}: without effect in the model: {what}\"",
                own.0, own.1
            );
            if self.warned.insert((own, what)) {
                (self.log)(&told);
            }
        }
    }
}

#[async_trait]
impl Program for DestinationProgram {
    async fn run(&self, container: ContainerContext) -> Exit {
        let Some(cluster) = self.model.cluster(&container.cluster) else {
            return Exit::Failed(format!("cluster {} is not attached to the model", container.cluster));
        };
        let mut follower = Follower::new(cluster.store.with_manager("policy-controller"), container.log.clone());
        let mut index = Index::default();
        let mut controllers = Controllers::new(container.pace.wall(WITHHELD));
        let mut serving = None;
        let later = version::of_container(&container.pod, &container.container) != VERSION;
        let publish = |view| {
            if later {
                cluster.destinations.publish_of_later_version(view);
            } else {
                cluster.destinations.publish(view);
            }
        };
        loop {
            let news = tokio::select! {
                () = container.shutdown.cancelled() => return Exit::Done,
                news = follower.streams.next() => news,
                () = controllers.until_released() => {
                    publish(index.view(controllers.withheld()));
                    continue;
                }
            };
            let Some(news) = news else {
                return Exit::Failed("all watches ended".to_owned());
            };
            let defects = self.model.defects();
            follower.take(news, &mut index, &defects);
            // What is already there belongs to the same view.
            while let Some(Some(news)) = follower.streams.next().now_or_never() {
                follower.take(news, &mut index, &defects);
            }
            if !follower.pending.is_empty() {
                continue;
            }
            controllers.observe(
                index.ready_controllers(),
                defects.has(Defect::ControllerRestartDropsTraffic),
            );
            publish(index.view(controllers.withheld()));
            serving.get_or_insert_with(|| cluster.destinations.serve());
            container.started.cancel();
            write_route_statuses(&follower.store, &index, &container);
        }
    }
}

/// Notices restarts of mirror controllers, for the defect that makes traffic depend on them.
struct Controllers {
    pause: Duration,
    ready: BTreeMap<String, BTreeSet<Key>>,
    released: BTreeMap<String, Instant>,
}

impl Controllers {
    fn new(pause: Duration) -> Self {
        Self {
            pause,
            ready: BTreeMap::new(),
            released: BTreeMap::new(),
        }
    }

    fn observe(&mut self, ready: BTreeMap<String, BTreeSet<Key>>, defect: bool) {
        for (cluster, pods) in &self.ready {
            let gone = ready.get(cluster).is_none_or(|now| !pods.is_subset(now));
            if defect && gone {
                self.released.insert(cluster.clone(), Instant::now() + self.pause);
            }
        }
        self.ready = ready;
        if !defect {
            self.released.clear();
        }
    }

    fn withheld(&mut self) -> BTreeSet<String> {
        let now = Instant::now();
        self.released.retain(|_, released| *released > now);
        self.released.keys().cloned().collect()
    }

    /// Waits until the next link is released; for ever when none is withheld.
    async fn until_released(&self) {
        match self.released.values().min() {
            Some(next) => tokio::time::sleep_until(*next).await,
            None => std::future::pending().await,
        }
    }
}

/// Brings the statuses of all routes up to date. A route that is already right is not written.
fn write_route_statuses(store: &Store, index: &Index, container: &ContainerContext) {
    for (route, object) in index.routes() {
        if route.parents.is_empty() {
            continue;
        }
        let now = jiff::Timestamp::now();
        let now = now.round(jiff::Unit::Second).unwrap_or(now).to_string();
        let generation = object["metadata"]["generation"].as_i64();
        let own = route.status(generation, &now, |service| index.has_service(service));
        let present: Vec<Value> = object["status"]["parents"].as_array().cloned().unwrap_or_default();
        let (mine, others): (Vec<_>, Vec<_>) = present
            .into_iter()
            .partition(|parent| parent["controllerName"] == POLICY_CONTROLLER);
        if without_times(&mine) == without_times(&own) {
            continue;
        }
        let parents: Vec<_> = others.into_iter().chain(own).collect();
        let patch = Patch::Merge(json!({"status": {"parents": parents}}));
        if let Err(error) = store.patch_status(&HTTP_ROUTES, Some(&route.namespace), &route.name, &patch) {
            // A route that was deleted meanwhile needs no status.
            if error.code != 404 {
                (container.log)(&format!(
                    "level=error msg=\"status of HTTPRoute {}/{} not written\" error={:?}",
                    route.namespace,
                    route.name,
                    error.to_string()
                ));
            }
        }
    }
}

fn without_times(parents: &[Value]) -> Vec<Value> {
    let mut parents = parents.to_vec();
    for parent in &mut parents {
        for condition in parent["conditions"].as_array_mut().into_iter().flatten() {
            condition["lastTransitionTime"] = Value::Null;
        }
    }
    parents
}

#[cfg(test)]
mod tests {
    use super::Controllers;
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    fn ready(names: &[&str]) -> BTreeMap<String, BTreeSet<(String, String)>> {
        let pods = names.iter().map(|name| ("mc".to_owned(), (*name).to_owned())).collect();
        BTreeMap::from([("east".to_owned(), pods)])
    }

    #[tokio::test(start_paused = true)]
    async fn a_restarted_controller_withholds_its_link_for_a_while_with_the_defect_alone() {
        let mut controllers = Controllers::new(Duration::from_secs(6));
        controllers.observe(ready(&["a"]), false);
        controllers.observe(ready(&["b"]), false);
        assert!(controllers.withheld().is_empty());
        controllers.observe(ready(&["b", "c"]), true);
        assert!(controllers.withheld().is_empty(), "a second controller is no restart");
        controllers.observe(ready(&["c"]), true);
        assert_eq!(controllers.withheld(), BTreeSet::from(["east".to_owned()]));
        controllers.until_released().await;
        assert!(controllers.withheld().is_empty());
    }
}
