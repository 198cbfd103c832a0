//! Watches: a cursor into a resource's history that waits for the next change.

use super::state::shown;
use super::{Store, list};
use crate::resource::ResourceType;
use crate::{Gvr, Selector, Status};
use futures::Stream;
use futures::stream::{self, BoxStream, StreamExt};
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchKind {
    /// It came into being, or began to match the selector.
    Added,
    /// It changed.
    Modified,
    /// It is gone, or ceased to match the selector; the object is its last state.
    Deleted,
    /// Nothing; the object carries only a resource version up to which everything was told.
    Bookmark,
}

impl WatchKind {
    /// As it stands in the `type` of a watch event.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
            Self::Bookmark => "BOOKMARK",
        }
    }
}

/// One event of a watch.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchEvent {
    /// What happened.
    pub kind: WatchKind,
    /// To which object.
    pub object: Arc<Value>,
}

/// Where a watch starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WatchStart {
    /// With the next change.
    #[default]
    Now,
    /// After this resource version, taken from a list or an event.
    After(u64),
    /// With every present object as `Added`, then changes.
    WithExisting,
}

/// How to watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchOptions {
    /// Where to start.
    pub start: WatchStart,
    /// Send a bookmark when nothing happened for so long.
    pub bookmark_interval: Option<Duration>,
    /// After the present objects of [`WatchStart::WithExisting`], send a bookmark with the annotation
    /// `k8s.io/initial-events-end`.
    pub initial_events_end: bool,
}

/// A running watch.
pub type WatchStream = BoxStream<'static, Result<WatchEvent, Status>>;

struct Cursor {
    store: Store,
    resource: Arc<ResourceType>,
    version: String,
    namespace: Option<String>,
    selector: Selector,
    changed: watch::Receiver<u64>,
    /// Everything up to this revision was told.
    seen: u64,
    queue: VecDeque<WatchEvent>,
    bookmark_interval: Option<Duration>,
    /// An error was told; nothing can follow.
    failed: bool,
    /// The resource type is gone; only the queue is left.
    ended: bool,
}

pub(super) fn watch(
    store: Store,
    gvr: &Gvr,
    namespace: Option<&str>,
    selector: &Selector,
    options: WatchOptions,
) -> Result<WatchStream, Status> {
    let mut cursor = open(store, gvr, namespace, selector)?;
    cursor.bookmark_interval = options.bookmark_interval;
    match options.start {
        WatchStart::Now => {}
        WatchStart::After(revision) => {
            if revision > cursor.seen {
                return Err(Status::too_large_resource_version(revision, cursor.seen));
            }
            cursor.seen = revision;
            let state = cursor.store.lock();
            if let Some(table) = state.table(&cursor.resource.storage) {
                table.history.since(revision).map(|_| ())?;
            }
        }
        WatchStart::WithExisting => {
            let present = list::list(
                &cursor.store.lock(),
                gvr,
                namespace,
                selector,
                &list::ListOptions::default(),
            )?;
            cursor.seen = present.resource_version;
            cursor.queue = present
                .items
                .into_iter()
                .map(|object| WatchEvent {
                    kind: WatchKind::Added,
                    object,
                })
                .collect();
            if options.initial_events_end {
                let end = cursor.bookmark(true);
                cursor.queue.push_back(end);
            }
        }
    }
    Ok(cursor.into_stream().boxed())
}

fn open(store: Store, gvr: &Gvr, namespace: Option<&str>, selector: &Selector) -> Result<Cursor, Status> {
    let (resource, changed, seen) = {
        let mut state = store.lock();
        let resource = state.registry.lookup(gvr)?;
        let changed = state.table_mut(&resource.storage).changed.subscribe();
        (resource, changed, state.revision())
    };
    Ok(Cursor {
        namespace: namespace
            .filter(|n| !n.is_empty() && resource.namespaced)
            .map(str::to_owned),
        version: gvr.version.to_string(),
        selector: selector.clone(),
        queue: VecDeque::new(),
        bookmark_interval: None,
        failed: false,
        ended: false,
        store,
        resource,
        changed,
        seen,
    })
}

impl Cursor {
    fn into_stream(self) -> impl Stream<Item = Result<WatchEvent, Status>> + Send {
        stream::unfold(self, |mut cursor| async move {
            cursor.next().await.map(|item| (item, cursor))
        })
    }

    async fn next(&mut self) -> Option<Result<WatchEvent, Status>> {
        if self.failed {
            return None;
        }
        let deadline = self.bookmark_interval.map(|interval| Instant::now() + interval);
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(Ok(event));
            }
            if self.ended {
                return None;
            }
            // Mark as seen before reading, so that a change in between wakes us again.
            self.changed.borrow_and_update();
            if let Err(status) = self.read_changes() {
                self.failed = true;
                return Some(Err(status));
            }
            if !self.queue.is_empty() {
                continue;
            }
            let wake = match deadline {
                Some(deadline) => match tokio::time::timeout_at(deadline, self.changed.changed()).await {
                    Ok(wake) => wake,
                    Err(_) => {
                        // Read once more: the bookmark's version must not skip a change.
                        if let Err(status) = self.read_changes() {
                            self.failed = true;
                            return Some(Err(status));
                        }
                        if self.queue.is_empty() {
                            return Some(Ok(self.bookmark(false)));
                        }
                        continue;
                    }
                },
                None => self.changed.changed().await,
            };
            if wake.is_err() {
                // The resource type is gone: tell its last changes, then end.
                if let Err(status) = self.read_changes() {
                    self.failed = true;
                    return Some(Err(status));
                }
                self.ended = true;
            }
        }
    }

    /// Moves the changes since `seen` into the queue.
    fn read_changes(&mut self) -> Result<(), Status> {
        let state = self.store.lock();
        let Some(table) = state.table(&self.resource.storage) else {
            return Ok(());
        };
        for change in table.history.since(self.seen)? {
            let visible = |object: &Option<Arc<Value>>| {
                object
                    .as_ref()
                    .filter(|o| self.in_namespace(o))
                    .map(|o| shown(&self.resource, &self.version, o))
                    .filter(|o| self.selector.matches(o))
            };
            let (before, after) = (visible(&change.before), visible(&change.after));
            let event = match (before, after) {
                (None, Some(object)) => WatchEvent {
                    kind: WatchKind::Added,
                    object,
                },
                (Some(_), Some(object)) => WatchEvent {
                    kind: WatchKind::Modified,
                    object,
                },
                (Some(before), None) => WatchEvent {
                    kind: WatchKind::Deleted,
                    object: self.last_state(before, change.removed.as_ref(), change.revision),
                },
                (None, None) => continue,
            };
            self.queue.push_back(event);
        }
        self.seen = state.revision();
        Ok(())
    }

    /// What a `Deleted` event shows: the state before, with the revision of the change.
    fn last_state(&self, before: Arc<Value>, removed: Option<&Arc<Value>>, revision: u64) -> Arc<Value> {
        match removed {
            Some(removed) => shown(&self.resource, &self.version, removed),
            None => {
                let mut object = (*before).clone();
                object["metadata"]["resourceVersion"] = json!(revision.to_string());
                Arc::new(object)
            }
        }
    }

    fn in_namespace(&self, object: &Value) -> bool {
        self.namespace
            .as_deref()
            .is_none_or(|n| object["metadata"]["namespace"] == n)
    }

    fn bookmark(&self, initial_events_end: bool) -> WatchEvent {
        let mut object = json!({
            "apiVersion": self.resource.api_version(&self.version),
            "kind": self.resource.kind,
            "metadata": {"resourceVersion": self.seen.to_string(), "creationTimestamp": null},
        });
        if initial_events_end {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        WatchEvent {
            kind: WatchKind::Bookmark,
            object: Arc::new(object),
        }
    }
}

/// What the informer's reader knows: enough to tell the differences after a new list.
type Known = HashMap<(String, String), Arc<Value>>;

struct Informer {
    cursor: Cursor,
    gvr: Gvr,
    known: Known,
}

pub(super) fn informer(
    store: Store,
    gvr: &Gvr,
    namespace: Option<&str>,
    selector: &Selector,
) -> Result<WatchStream, Status> {
    let mut informer = Informer {
        cursor: open(store, gvr, namespace, selector)?,
        gvr: gvr.clone(),
        known: Known::new(),
    };
    informer.relist()?;
    let end = informer.cursor.bookmark(true);
    informer.cursor.queue.push_back(end);
    let stream = stream::unfold(informer, |mut informer| async move {
        let event = informer.next().await?;
        Some((Ok(event), informer))
    });
    Ok(stream.boxed())
}

impl Informer {
    async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            match self.cursor.next().await? {
                Ok(event) => {
                    self.remember(&event);
                    return Some(event);
                }
                // The history does not reach back far enough: list again. Anything else means that the type is gone.
                Err(status) if status.code == 410 => {
                    self.cursor.failed = false;
                    self.relist().ok()?;
                }
                Err(_) => return None,
            }
        }
    }

    fn remember(&mut self, event: &WatchEvent) {
        match event.kind {
            WatchKind::Added | WatchKind::Modified => {
                self.known.insert(name_of(&event.object), event.object.clone());
            }
            WatchKind::Deleted => {
                self.known.remove(&name_of(&event.object));
            }
            WatchKind::Bookmark => {}
        }
    }

    /// Queues the differences between what the reader knows and what there is.
    fn relist(&mut self) -> Result<(), Status> {
        let cursor = &mut self.cursor;
        let present = list::list(
            &cursor.store.lock(),
            &self.gvr,
            cursor.namespace.as_deref(),
            &cursor.selector,
            &list::ListOptions::default(),
        )?;
        cursor.seen = present.resource_version;
        let mut gone = self.known.clone();
        for object in present.items {
            match gone.remove(&name_of(&object)) {
                Some(known) if known["metadata"]["resourceVersion"] == object["metadata"]["resourceVersion"] => {}
                Some(known) if known["metadata"]["uid"] == object["metadata"]["uid"] => {
                    cursor.queue.push_back(WatchEvent {
                        kind: WatchKind::Modified,
                        object,
                    });
                }
                // The same name, another object: the old one was deleted in between.
                Some(known) => {
                    cursor.queue.push_back(WatchEvent {
                        kind: WatchKind::Deleted,
                        object: known,
                    });
                    cursor.queue.push_back(WatchEvent {
                        kind: WatchKind::Added,
                        object,
                    });
                }
                None => cursor.queue.push_back(WatchEvent {
                    kind: WatchKind::Added,
                    object,
                }),
            }
        }
        for object in gone.into_values() {
            cursor.queue.push_back(WatchEvent {
                kind: WatchKind::Deleted,
                object,
            });
        }
        Ok(())
    }
}

fn name_of(object: &Value) -> (String, String) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}
