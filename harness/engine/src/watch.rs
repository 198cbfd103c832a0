//! Shared watches: the only way in which the engine learns what changes in a cluster.
//!
//! One list and one watch per cluster, resource, namespace and selector serve everybody who wants to know. They start
//! with the first subscription and end with the last. A subscriber gets the complete current set at once and again at
//! *every* change, none left out, so that something that was there for a moment only is seen as well. While the cluster
//! cannot be seen, subscribers are told so ([`View::Blind`]); afterwards the set is listed anew.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::TryStreamExt;
use kube::api::{ListParams, WatchParams};
use kube::core::{ApiResource, WatchEvent};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::api::{self, ErrorClass, RequestError, classify, describe, dynamic};
use crate::environment::Cluster;

/// First pause before a lost watch is started again (wall time); it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// Longest pause before a lost watch is started again (wall time).
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Seconds after which the server ends a watch, which is then resumed.
const SERVER_TIMEOUT: u32 = 290;
/// A watch on which nothing comes for longer than this is dead (wall time).
const IDLE_TIMEOUT: Duration = Duration::from_secs(295);
/// A list that takes longer than this (wall time) is given up and tried again.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// Objects per page of a list.
const PAGE: u32 = 500;

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WatchKey {
    /// Name of the cluster.
    pub cluster: String,
    /// Resource.
    pub resource: ApiResource,
    /// Namespace; all of them (or cluster scope) when absent.
    pub namespace: Option<String>,
    /// Label selector; everything when absent.
    pub labels: Option<String>,
}

/// What is known about a watched set.
#[derive(Clone, Debug)]
pub enum View {
    /// All objects, complete, ordered by namespace and name.
    Objects(Arc<Vec<Arc<Value>>>),
    /// The cluster can't be seen from now on until the next view.
    Blind {
        /// Why.
        reason: String,
    },
    /// The server refuses for good; nothing follows.
    Refused(RequestError),
}

/// The watches of one environment. Clones share them.
#[derive(Clone)]
pub struct Watches(Arc<Inner>);

struct Inner {
    clusters: HashMap<String, kube::Client>,
    /// Why a cluster is known to be out of sight, by cluster.
    blindfolds: HashMap<String, watch::Sender<Option<String>>>,
    running: Mutex<HashMap<WatchKey, Running>>,
    requests: AtomicU64,
    next_subscriber: AtomicU64,
}

struct Running {
    shared: Arc<Mutex<Shared>>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Shared {
    latest: Option<View>,
    subscribers: BTreeMap<u64, mpsc::UnboundedSender<View>>,
}

impl Shared {
    fn publish(&mut self, view: &View) {
        self.latest = Some(view.clone());
        for subscriber in self.subscribers.values() {
            // A subscriber that is being dropped does not listen any more.
            let _ = subscriber.send(view.clone());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watches {
    /// Nothing is watched yet.
    #[must_use]
    pub fn new(clusters: &[Cluster]) -> Self {
        Self(Arc::new(Inner {
            clusters: clusters
                .iter()
                .map(|cluster| (cluster.name.clone(), cluster.client.clone()))
                .collect(),
            blindfolds: clusters
                .iter()
                .map(|cluster| (cluster.name.clone(), watch::Sender::new(None)))
                .collect(),
            running: Mutex::default(),
            requests: AtomicU64::new(0),
            next_subscriber: AtomicU64::new(0),
        }))
    }

    /// Watches `key` until the subscription is dropped. Must be called within a tokio runtime.
    #[must_use]
    pub fn subscribe(&self, key: WatchKey) -> Subscription {
        let id = self.0.next_subscriber.fetch_add(1, Ordering::Relaxed);
        let (sender, views) = mpsc::unbounded_channel();
        let mut running = lock(&self.0.running);
        match running.get(&key) {
            Some(watch) => {
                let mut shared = lock(&watch.shared);
                if let Some(latest) = &shared.latest {
                    let _ = sender.send(latest.clone());
                }
                shared.subscribers.insert(id, sender);
            }
            None => {
                let shared = Arc::new(Mutex::new(Shared {
                    latest: None,
                    subscribers: BTreeMap::from([(id, sender)]),
                }));
                let task = AbortOnDropHandle::new(tokio::spawn(keep_watching(
                    self.clone(),
                    key.clone(),
                    Arc::clone(&shared),
                )));
                running.insert(key.clone(), Running { shared, _task: task });
            }
        }
        drop(running);
        Subscription {
            watches: self.clone(),
            key,
            id,
            views,
        }
    }

    /// Says that a cluster is out of sight (a fault stopped its API server, whose open connections may look healthy), or
    /// in sight again.
    pub fn set_blind(&self, cluster: &str, reason: Option<String>) {
        if let Some(blindfold) = self.0.blindfolds.get(cluster) {
            blindfold.send_replace(reason);
        }
    }

    /// Why a cluster is known to be out of sight, now and from now on; nothing of a cluster that is not watched here.
    pub(crate) fn blindfold(&self, cluster: &str) -> Option<watch::Receiver<Option<String>>> {
        self.0.blindfolds.get(cluster).map(watch::Sender::subscribe)
    }

    /// Number of running watches.
    #[must_use]
    pub fn running(&self) -> usize {
        lock(&self.0.running).len()
    }

    /// Requests made to API servers up to now: lists and starts of watches.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::Relaxed)
    }

    fn unsubscribe(&self, key: &WatchKey, id: u64) {
        let mut running = lock(&self.0.running);
        let unused = running.get(key).is_some_and(|watch| {
            let mut shared = lock(&watch.shared);
            shared.subscribers.remove(&id);
            shared.subscribers.is_empty()
        });
        let ended = if unused { running.remove(key) } else { None };
        drop(running);
        // Its task may hold a subscription of its own, so it is ended without the lock.
        drop(ended);
    }
}

/// A place from which a set of objects is seen.
pub struct Subscription {
    watches: Watches,
    key: WatchKey,
    id: u64,
    views: mpsc::UnboundedReceiver<View>,
}

impl Subscription {
    /// The current view first, then every change. Cancel safe.
    pub async fn next(&mut self) -> View {
        match self.views.recv().await {
            Some(view) => view,
            // The sender lives as long as the watch, and that as long as this subscription.
            None => std::future::pending().await,
        }
    }

    /// Waits until the objects satisfy `condition`, and returns its answer. Views in which the cluster can't be seen are
    /// passed over.
    ///
    /// # Errors
    /// When the server refuses to show the objects.
    pub async fn until<T>(&mut self, mut condition: impl FnMut(&[Arc<Value>]) -> Option<T>) -> Result<T, RequestError> {
        loop {
            match self.next().await {
                View::Objects(objects) => {
                    if let Some(answer) = condition(&objects) {
                        return Ok(answer);
                    }
                }
                View::Blind { .. } => {}
                View::Refused(error) => return Err(error),
            }
        }
    }

    /// From now on only keeps the watch running, so that later subscribers find it warm. Nothing is delivered any more.
    pub fn hold(&mut self) {
        self.views.close();
        self.drain();
    }

    /// Passes over everything that was delivered already.
    pub fn drain(&mut self) {
        while self.views.try_recv().is_ok() {}
    }

    /// What is watched.
    #[must_use]
    pub fn key(&self) -> &WatchKey {
        &self.key
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.watches.unsubscribe(&self.key, self.id);
    }
}

type Objects = BTreeMap<(String, String), Arc<Value>>;

/// How a connection ended.
enum Ending {
    /// The server ended it in good order: it can be resumed.
    Resume(String),
    /// It broke, or the history is gone: list again.
    Lost(RequestError),
    /// The cluster is known to be out of sight.
    Blindfolded,
}

async fn keep_watching(watches: Watches, key: WatchKey, shared: Arc<Mutex<Shared>>) {
    let (Some(client), Some(blindfold)) = (
        watches.0.clusters.get(&key.cluster).cloned(),
        watches.0.blindfolds.get(&key.cluster),
    ) else {
        lock(&shared).publish(&View::Refused(RequestError {
            what: what(&key),
            class: ErrorClass::NotFound,
            message: format!("there is no cluster {}", key.cluster),
        }));
        return;
    };
    let watch = Watch {
        api: dynamic(&client, &key.resource, key.namespace.as_deref()),
        blindfold: blindfold.subscribe(),
        watches: watches.clone(),
        key,
        shared,
        blind: false,
    };
    watch.run().await;
}

struct Watch {
    api: kube::Api<kube::core::DynamicObject>,
    blindfold: watch::Receiver<Option<String>>,
    watches: Watches,
    key: WatchKey,
    shared: Arc<Mutex<Shared>>,
    /// Subscribers were told that nothing is seen.
    blind: bool,
}

impl Watch {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            self.wait_for_sight().await;
            let error = match self.list().await {
                Ok((mut objects, version)) => {
                    pause = FIRST_PAUSE;
                    self.publish(&objects);
                    match self.follow(&mut objects, version).await {
                        Ending::Blindfolded => continue,
                        Ending::Lost(error) => error,
                        Ending::Resume(_) => continue,
                    }
                }
                Err(error) => error,
            };
            match error.class {
                ErrorClass::NotFound => {
                    self.publish(&Objects::new());
                    if let Err(error) = self.wait_until_served().await {
                        lock(&self.shared).publish(&View::Refused(error));
                        return;
                    }
                }
                ErrorClass::Transient | ErrorClass::NotUnderstood | ErrorClass::AlreadyExists => {
                    self.publish_blind(&error.message);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                ErrorClass::Refused(_) => {
                    lock(&self.shared).publish(&View::Refused(error));
                    return;
                }
            }
        }
    }

    /// While the cluster is known to be out of sight, says so and waits.
    async fn wait_for_sight(&mut self) {
        loop {
            let reason = self.blindfold.borrow_and_update().clone();
            let Some(reason) = reason else { return };
            self.publish_blind(&reason);
            if self.blindfold.changed().await.is_err() {
                return;
            }
        }
    }

    async fn list(&self) -> Result<(Objects, String), RequestError> {
        let mut objects = Objects::new();
        let mut parameters = ListParams {
            label_selector: self.key.labels.clone(),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        loop {
            self.count_request();
            let page = tokio::time::timeout(LIST_TIMEOUT, self.api.list(&parameters))
                .await
                .map_err(|_| self.error(ErrorClass::Transient, "no answer"))?
                .map_err(|error| self.error(classify(&error), &describe(&error)))?;
            for object in page.items {
                self.insert(&mut objects, object);
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters.continue_token = Some(token),
                None => {
                    let version = page.metadata.resource_version.unwrap_or_default();
                    return Ok((objects, version));
                }
            }
        }
    }

    /// Follows the changes after a list, over as many connections as the server wants to end in good order.
    async fn follow(&mut self, objects: &mut Objects, mut version: String) -> Ending {
        loop {
            match self.follow_once(objects, version).await {
                Ending::Resume(next) => version = next,
                ending => return ending,
            }
        }
    }

    async fn follow_once(&mut self, objects: &mut Objects, mut version: String) -> Ending {
        let parameters = WatchParams {
            label_selector: self.key.labels.clone(),
            timeout: Some(SERVER_TIMEOUT),
            bookmarks: true,
            ..WatchParams::default()
        };
        self.count_request();
        let api = self.api.clone();
        let mut events = tokio::select! {
            biased;
            () = blindfolded(&mut self.blindfold) => return Ending::Blindfolded,
            started = tokio::time::timeout(LIST_TIMEOUT, api.watch(&parameters, &version)) => match started {
                Ok(Ok(events)) => Box::pin(events),
                Ok(Err(error)) => return Ending::Lost(self.error(classify(&error), &describe(&error))),
                Err(_) => return Ending::Lost(self.error(ErrorClass::Transient, "no answer")),
            },
        };
        loop {
            let event = tokio::select! {
                biased;
                () = blindfolded(&mut self.blindfold) => return Ending::Blindfolded,
                event = tokio::time::timeout(IDLE_TIMEOUT, events.try_next()) => event,
            };
            match event {
                Ok(Ok(Some(WatchEvent::Added(object) | WatchEvent::Modified(object)))) => {
                    version = object.metadata.resource_version.clone().unwrap_or(version);
                    self.insert(objects, object);
                    self.publish(objects);
                }
                Ok(Ok(Some(WatchEvent::Deleted(object)))) => {
                    version = object.metadata.resource_version.clone().unwrap_or(version);
                    let namespace = object.metadata.namespace.unwrap_or_default();
                    objects.remove(&(namespace, object.metadata.name.unwrap_or_default()));
                    self.publish(objects);
                }
                Ok(Ok(Some(WatchEvent::Bookmark(mark)))) => version = mark.metadata.resource_version,
                Ok(Ok(Some(WatchEvent::Error(status)))) => {
                    // Most often 410: the history since the last event is gone.
                    return Ending::Lost(self.error(ErrorClass::Transient, &status.message));
                }
                Ok(Ok(None)) => return Ending::Resume(version),
                Ok(Err(error)) => {
                    return Ending::Lost(self.error(ErrorClass::Transient, &describe(&error)));
                }
                Err(_) => {
                    return Ending::Lost(self.error(ErrorClass::Transient, "the watch went silent"));
                }
            }
        }
    }

    /// Waits until a definition of the kind appears.
    async fn wait_until_served(&self) -> Result<(), RequestError> {
        let definitions = ApiResource {
            group: "apiextensions.k8s.io".to_owned(),
            version: "v1".to_owned(),
            api_version: "apiextensions.k8s.io/v1".to_owned(),
            kind: "CustomResourceDefinition".to_owned(),
            plural: "customresourcedefinitions".to_owned(),
        };
        if self.key.resource == definitions {
            return Err(self.error(ErrorClass::NotFound, "the kind is not served"));
        }
        let name = format!("{}.{}", self.key.resource.plural, self.key.resource.group);
        let mut subscription = self.watches.subscribe(WatchKey {
            cluster: self.key.cluster.clone(),
            resource: definitions,
            namespace: None,
            labels: None,
        });
        subscription
            .until(|objects| {
                objects
                    .iter()
                    .find(|object| api::text_at(object, "/metadata/name") == name)
                    .filter(|object| established(object))
                    .map(|_| ())
            })
            .await
    }

    fn insert(&self, objects: &mut Objects, object: kube::core::DynamicObject) {
        let key = (
            object.metadata.namespace.clone().unwrap_or_default(),
            object.metadata.name.clone().unwrap_or_default(),
        );
        objects.insert(key, Arc::new(api::to_json(object, &self.key.resource)));
    }

    fn publish(&mut self, objects: &Objects) {
        self.blind = false;
        let view = View::Objects(Arc::new(objects.values().cloned().collect()));
        lock(&self.shared).publish(&view);
    }

    fn publish_blind(&mut self, reason: &str) {
        if !self.blind {
            self.blind = true;
            tracing::debug!(watch = what(&self.key), reason, "blind");
            lock(&self.shared).publish(&View::Blind {
                reason: reason.to_owned(),
            });
        }
    }

    fn count_request(&self) {
        self.watches.0.requests.fetch_add(1, Ordering::Relaxed);
    }

    fn error(&self, class: ErrorClass, message: &str) -> RequestError {
        RequestError {
            what: what(&self.key),
            class,
            message: message.to_owned(),
        }
    }
}

async fn blindfolded(blindfold: &mut watch::Receiver<Option<String>>) {
    if blindfold.wait_for(Option::is_some).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn established(definition: &Value) -> bool {
    definition
        .pointer("/status/conditions")
        .and_then(Value::as_array)
        .is_some_and(|conditions| {
            conditions.iter().any(|condition| {
                api::text_at(condition, "/type") == "Established" && api::text_at(condition, "/status") == "True"
            })
        })
}

fn what(key: &WatchKey) -> String {
    let place = key.namespace.as_deref().unwrap_or("all namespaces");
    format!("{}: watch {} in {place}", key.cluster, key.resource.plural)
}
