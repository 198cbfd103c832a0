//! A local copy of all objects of one kind, kept up to date by a watch, with subscribers and a periodic resync.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource, ResourceExt};
use meshproof_cluster::pace::Pace;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};

use super::log::Logger;

/// How often subscribers are shown everything again, scenario time (client-go's resync period in the real controller).
const RESYNC_PERIOD: Duration = Duration::from_secs(600);
/// How long a watch lasts, scenario time; client-go draws 5 to 10 minutes.
const WATCH_TIMEOUT: Duration = Duration::from_secs(290);
/// First and longest pause after a failed list or watch, scenario time (client-go's reflector).
const FIRST_BACKOFF: Duration = Duration::from_millis(800);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// Namespace and name.
pub(super) type Key = (String, String);

/// Something that happened to an object.
#[derive(Clone, Debug)]
pub(super) enum Change<K> {
    /// It is there; for a new subscriber: it has been there.
    Added(Arc<K>),
    /// It is like this now, or still (resync).
    Updated(Arc<K>),
    /// It is gone; its last known state.
    Deleted(Arc<K>),
}

/// The copy. Cheap to clone; ends its watch when the last clone is dropped.
pub(super) struct Informer<K> {
    shared: Arc<Shared<K>>,
    synced: watch::Receiver<bool>,
    _watch: Arc<AbortOnDrop>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            synced: self.synced.clone(),
            _watch: self._watch.clone(),
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Shared<K> {
    state: Mutex<State<K>>,
}

struct State<K> {
    objects: BTreeMap<Key, Arc<K>>,
    /// Uids of objects that went lately: the answer to a write may come after the news that its object is gone.
    gone: VecDeque<String>,
    subscribers: Vec<mpsc::UnboundedSender<Change<K>>>,
}

/// How many gone objects are remembered.
const GONE_REMEMBERED: usize = 256;

impl<K> Informer<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// Starts watching. `fields` restricts the watch to some objects.
    pub(super) fn start(api: Api<K>, fields: Option<&str>, pace: Pace, log: Logger) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                objects: BTreeMap::new(),
                gone: VecDeque::new(),
                subscribers: Vec::new(),
            }),
        });
        let (synced_sender, synced) = watch::channel(false);
        let seconds = pace.wall(WATCH_TIMEOUT).as_secs().max(1);
        let mut config = watcher::Config::default().timeout(u32::try_from(seconds).unwrap_or(290));
        if let Some(fields) = fields {
            config = config.fields(fields);
        }
        let task = tokio::spawn(keep(api, config, shared.clone(), synced_sender, pace, log));
        Self {
            shared,
            synced,
            _watch: Arc::new(AbortOnDrop(task)),
        }
    }

    /// Waits until the first list is complete.
    pub(super) async fn synced(&self) {
        // The sender lives as long as the watch, and the watch as long as `self`.
        let _ = self.synced.clone().wait_for(|synced| *synced).await;
    }

    /// One object.
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.shared
            .lock()
            .objects
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// All objects for which `wanted` holds.
    pub(super) fn filter(&self, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        self.shared
            .lock()
            .objects
            .values()
            .filter(|object| wanted(object))
            .cloned()
            .collect()
    }

    /// Everything that is there as [`Change::Added`], and then every change.
    pub(super) fn subscribe(&self) -> mpsc::UnboundedReceiver<Change<K>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.shared.lock();
        for object in state.objects.values() {
            // The receiver is still here.
            let _ = sender.send(Change::Added(object.clone()));
        }
        state.subscribers.push(sender);
        receiver
    }

    /// Notes an object as just written, so that the next decision does not wait for the watch.
    pub(super) fn written(&self, object: K) {
        self.shared.lock().written(object);
    }

    /// Notes an object as just deleted.
    pub(super) fn deleted(&self, namespace: &str, name: &str) {
        self.shared
            .lock()
            .objects
            .remove(&(namespace.to_owned(), name.to_owned()));
    }
}

impl<K> Shared<K> {
    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Resource<DynamicType = ()>> State<K> {
    fn tell(&mut self, change: &Change<K>)
    where
        Change<K>: Clone,
    {
        self.subscribers
            .retain(|subscriber| subscriber.send(change.clone()).is_ok());
    }

    fn apply(&mut self, object: K)
    where
        Change<K>: Clone,
    {
        let key = key(&object);
        let change = match self.objects.get(&key) {
            Some(known) if known.resource_version() == object.resource_version() => return,
            Some(known) if !is_newer(&object, known) => return,
            Some(known) if known.uid() != object.uid() => {
                // Deleted and created again between two looks: subscribers see both.
                let gone = Change::Deleted(known.clone());
                self.tell(&gone);
                Change::Added(Arc::new(object))
            }
            Some(_) => Change::Updated(Arc::new(object)),
            None => Change::Added(Arc::new(object)),
        };
        if let Change::Added(object) | Change::Updated(object) = &change {
            self.objects.insert(key, object.clone());
        }
        self.tell(&change);
    }

    fn remove(&mut self, key: &Key)
    where
        Change<K>: Clone,
    {
        if let Some(object) = self.objects.remove(key) {
            self.gone.extend(object.uid());
            if self.gone.len() > GONE_REMEMBERED {
                self.gone.pop_front();
            }
            self.tell(&Change::Deleted(object));
        }
    }

    fn written(&mut self, object: K) {
        let key = key(&object);
        let is_gone = object.uid().is_some_and(|uid| self.gone.contains(&uid));
        let is_old = self.objects.get(&key).is_some_and(|known| !is_newer(&object, known));
        if !is_gone && !is_old {
            self.objects.insert(key, Arc::new(object));
        }
    }

    fn resync(&mut self)
    where
        Change<K>: Clone,
    {
        let all: Vec<Arc<K>> = self.objects.values().cloned().collect();
        for object in all {
            self.tell(&Change::Updated(object));
        }
    }
}

fn key<K: Resource<DynamicType = ()>>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Resource versions grow within one cluster; ones that are no numbers are taken as they come.
fn is_newer<K: Resource<DynamicType = ()>>(object: &K, known: &K) -> bool {
    let version = |object: &K| object.resource_version().and_then(|text| text.parse::<u64>().ok());
    match (version(object), version(known)) {
        (Some(new), Some(old)) => new >= old,
        _ => true,
    }
}

/// Runs the watch for ever.
async fn keep<K>(
    api: Api<K>,
    config: watcher::Config,
    shared: Arc<Shared<K>>,
    synced: watch::Sender<bool>,
    pace: Pace,
    log: Logger,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let mut events = std::pin::pin!(watcher(api, config));
    let mut resync = tokio::time::interval_at(
        tokio::time::Instant::now() + pace.wall(RESYNC_PERIOD),
        pace.wall(RESYNC_PERIOD),
    );
    let mut backoff = FIRST_BACKOFF;
    let mut listed: Option<BTreeMap<Key, K>> = None;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            _ = resync.tick() => {
                shared.lock().resync();
                continue;
            }
        };
        match event {
            None => return,
            Some(Err(error)) => {
                log.error(failure_text::<K>(&error));
                tokio::time::sleep(pace.wall(backoff)).await;
                backoff = (backoff * 2).min(LONGEST_BACKOFF);
            }
            Some(Ok(event)) => {
                // The first event of a list comes before the server has answered.
                if !matches!(event, Event::Init) {
                    backoff = FIRST_BACKOFF;
                }
                match event {
                    Event::Init => listed = Some(BTreeMap::new()),
                    Event::InitApply(object) => {
                        if let Some(listed) = &mut listed {
                            listed.insert(key(&object), object);
                        }
                    }
                    Event::InitDone => {
                        replace(&shared, listed.take().unwrap_or_default());
                        synced.send_replace(true);
                    }
                    Event::Apply(object) => shared.lock().apply(object),
                    Event::Delete(object) => shared.lock().remove(&key(&object)),
                }
            }
        }
    }
}

fn replace<K: Resource<DynamicType = ()>>(shared: &Shared<K>, listed: BTreeMap<Key, K>)
where
    Change<K>: Clone,
{
    let mut state = shared.lock();
    let gone: Vec<Key> = state
        .objects
        .keys()
        .filter(|key| !listed.contains_key(*key))
        .cloned()
        .collect();
    for key in gone {
        state.remove(&key);
    }
    for object in listed.into_values() {
        state.apply(object);
    }
}

fn failure_text<K: Resource<DynamicType = ()>>(error: &watcher::Error) -> String {
    let kind = K::kind(&());
    match api_status(error) {
        Some(401) => format!("Failed to watch *v1.{kind}: failed to list *v1.{kind}: Unauthorized"),
        _ => format!("Failed to watch *v1.{kind}: {error}"),
    }
}

/// The HTTP status behind a failure, if the server answered at all.
fn api_status(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => match error {
            kube::Error::Api(status) => Some(status.code),
            _ => None,
        },
        watcher::Error::WatchError(status) => Some(status.code),
        watcher::Error::NoResourceVersion => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, Key, Shared, State, replace};
    use k8s_openapi::api::core::v1::Service;
    use kube::ResourceExt;
    use std::collections::{BTreeMap, VecDeque};
    use std::sync::Mutex;
    use tokio::sync::mpsc;

    fn service(name: &str, uid: &str, version: &str) -> Service {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "namespace": "lab", "uid": uid, "resourceVersion": version}
        }))
        .unwrap()
    }

    fn key(name: &str) -> Key {
        ("lab".to_owned(), name.to_owned())
    }

    fn shared() -> (Shared<Service>, mpsc::UnboundedReceiver<Change<Service>>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let state = State {
            objects: BTreeMap::new(),
            gone: VecDeque::new(),
            subscribers: vec![sender],
        };
        (
            Shared {
                state: Mutex::new(state),
            },
            receiver,
        )
    }

    fn drain(receiver: &mut mpsc::UnboundedReceiver<Change<Service>>) -> Vec<String> {
        let mut seen = Vec::new();
        while let Ok(change) = receiver.try_recv() {
            let (word, object) = match change {
                Change::Added(object) => ("added", object),
                Change::Updated(object) => ("updated", object),
                Change::Deleted(object) => ("deleted", object),
            };
            seen.push(format!("{word} {} {}", object.name_any(), object.uid().unwrap()));
        }
        seen
    }

    #[test]
    fn a_list_is_told_as_differences() {
        let (shared, mut changes) = shared();
        let list = |services: &[Service]| -> BTreeMap<Key, Service> {
            services
                .iter()
                .map(|service| (key(&service.name_any()), service.clone()))
                .collect()
        };
        replace(&shared, list(&[service("a", "1", "1"), service("b", "2", "2")]));
        assert_eq!(drain(&mut changes), ["added a 1", "added b 2"]);
        replace(&shared, list(&[service("b", "2", "5"), service("c", "3", "6")]));
        assert_eq!(drain(&mut changes), ["deleted a 1", "updated b 2", "added c 3"]);
        replace(&shared, list(&[service("b", "2", "5"), service("c", "9", "8")]));
        assert_eq!(drain(&mut changes), ["deleted c 3", "added c 9"]);
    }

    #[test]
    fn a_late_event_does_not_undo_a_newer_state() {
        let (shared, mut changes) = shared();
        shared.lock().apply(service("a", "1", "7"));
        shared.lock().apply(service("a", "1", "6"));
        shared.lock().apply(service("a", "1", "7"));
        assert_eq!(drain(&mut changes), ["added a 1"]);
        assert_eq!(shared.lock().objects[&key("a")].resource_version().unwrap(), "7");
    }

    #[test]
    fn the_answer_to_a_write_does_not_bring_a_gone_object_back() {
        let (shared, _changes) = shared();
        shared.lock().apply(service("a", "1", "1"));
        shared.lock().written(service("a", "1", "2"));
        assert_eq!(shared.lock().objects[&key("a")].resource_version().unwrap(), "2");
        shared.lock().remove(&key("a"));
        shared.lock().written(service("a", "1", "3"));
        assert!(shared.lock().objects.is_empty());
        shared.lock().written(service("a", "2", "4"));
        assert_eq!(shared.lock().objects.len(), 1);
    }

    #[test]
    fn a_resync_shows_everything_again() {
        let (shared, mut changes) = shared();
        shared.lock().apply(service("a", "1", "1"));
        shared.lock().remove(&key("nosuch"));
        drain(&mut changes);
        shared.lock().resync();
        assert_eq!(drain(&mut changes), ["updated a 1"]);
    }
}
