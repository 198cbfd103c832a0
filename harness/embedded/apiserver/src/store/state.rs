//! The state behind the store's lock, and its two primitive writes: put and remove.

use super::history::{Change, History};
use super::{Mutator, StoreConfig, quota};
use crate::Gvr;
use crate::auth::token::TokenTable;
use crate::resource::{Registry, ResourceType, StorageKey};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use tokio::sync::watch;

/// Where an object is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ObjectKey {
    pub(crate) storage: StorageKey,
    /// Empty for objects of the cluster.
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// The objects of one resource.
pub(crate) struct Table {
    pub(crate) objects: BTreeMap<(String, String), Arc<Value>>,
    pub(crate) history: History,
    /// Holds the revision of the last change; watchers wait on it. Closed when the resource type goes away.
    pub(crate) changed: watch::Sender<u64>,
}

/// A consequence of a write that is still to be worked off, see [`super::consequences`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Consequence {
    /// An object with this uid is gone: its dependents follow.
    OwnerGone(String),
    /// A dependent of an object that waits for its dependents is gone.
    DependentGone { owner_uid: String },
    /// An object was created or changed and may refer to owners that do not exist.
    CheckOwners(ObjectKey),
    /// A namespace was deleted, and it is time for its content to go.
    EmptyNamespace(String),
    /// Something in a namespace is gone; it may be empty now.
    NamespaceContentGone(String),
    /// An object of a kind with consequences of its own was written.
    Written(ObjectKey),
    /// The same for a removed object.
    Removed(ObjectKey, Arc<Value>),
}

pub(crate) struct State {
    pub(crate) config: StoreConfig,
    revision: u64,
    pub(crate) registry: Registry,
    tables: HashMap<StorageKey, Table>,
    /// Size of all objects, see [`super::quota`].
    bytes: usize,
    /// Events in the order in which they were made. Some may be gone.
    events: VecDeque<ObjectKey>,
    uids: HashMap<String, ObjectKey>,
    /// Owner uid → objects that refer to it.
    dependents: HashMap<String, BTreeSet<ObjectKey>>,
    pub(crate) pending: VecDeque<Consequence>,
    /// Uids of the namespaces whose content is being deleted.
    pub(super) emptying: HashSet<String>,
    pub(crate) tokens: TokenTable,
    /// Where the search for a free cluster IP starts, so that addresses are not reused at once.
    pub(crate) next_cluster_ip: u32,
    pub(crate) next_node_port: u16,
    pub(crate) mutators: Vec<(Gvr, Arc<dyn Mutator>)>,
}

impl State {
    pub(crate) fn new(config: StoreConfig) -> Self {
        Self {
            next_node_port: *config.node_ports.start(),
            tokens: TokenTable::new(config.token_success_cache_ttl),
            config,
            revision: 1,
            registry: Registry::built_in(),
            tables: HashMap::new(),
            bytes: 0,
            events: VecDeque::new(),
            uids: HashMap::new(),
            dependents: HashMap::new(),
            pending: VecDeque::new(),
            emptying: HashSet::new(),
            next_cluster_ip: 1,
            mutators: Vec::new(),
        }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn object(&self, key: &ObjectKey) -> Option<&Arc<Value>> {
        self.tables
            .get(&key.storage)?
            .objects
            .get(&(key.namespace.clone(), key.name.clone()))
    }

    pub(crate) fn by_uid(&self, uid: &str) -> Option<&ObjectKey> {
        self.uids.get(uid)
    }

    pub(crate) fn dependents(&self, owner_uid: &str) -> Vec<ObjectKey> {
        self.dependents.get(owner_uid).into_iter().flatten().cloned().collect()
    }

    pub(crate) fn table(&self, key: &StorageKey) -> Option<&Table> {
        self.tables.get(key)
    }

    pub(crate) fn tables(&self) -> impl Iterator<Item = (&StorageKey, &Table)> {
        self.tables.iter()
    }

    /// The table of a resource, made on first use.
    pub(crate) fn table_mut(&mut self, key: &StorageKey) -> &mut Table {
        let (capacity, revision) = (self.config.watch_history, self.revision);
        self.tables.entry(key.clone()).or_insert_with(|| Table {
            objects: BTreeMap::new(),
            // A table that is made late has had no changes before, so every earlier revision can be served from it.
            history: History::new(capacity, 0),
            changed: watch::channel(revision).0,
        })
    }

    /// Ends the watches of a resource after the changes so far.
    pub(crate) fn close_watches(&mut self, key: &StorageKey) {
        let revision = self.revision;
        if let Some(table) = self.tables.get_mut(key) {
            table.changed = watch::channel(revision).0;
        }
    }

    /// Writes an object under the next revision.
    pub(crate) fn put(&mut self, key: &ObjectKey, mut object: Value) -> Arc<Value> {
        self.revision += 1;
        let revision = self.revision;
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        let object = Arc::new(object);
        let table = self.table_mut(&key.storage);
        let before = table
            .objects
            .insert((key.namespace.clone(), key.name.clone()), object.clone());
        let size = quota::size(&object);
        let change = Change {
            revision,
            before: before.clone(),
            after: Some(object.clone()),
            removed: None,
        };
        table.history.push(change, size);
        table.changed.send_replace(revision);
        self.bytes += size;
        if let Some(before) = &before {
            self.bytes -= quota::size(before);
            self.unindex(key, before);
        } else if *key.storage.resource == *"events" && key.storage.group.is_empty() {
            self.events.push_back(key.clone());
            if self.events.len() > quota::MAX_EVENTS
                && let Some(oldest) = self.events.pop_front()
            {
                self.remove(&oldest);
            }
        }
        self.index(key, &object);
        if !owner_uids(&object).is_empty() {
            self.pending.push_back(Consequence::CheckOwners(key.clone()));
        }
        self.pending.push_back(Consequence::Written(key.clone()));
        object
    }

    /// Removes an object under the next revision and returns its last state.
    pub(crate) fn remove(&mut self, key: &ObjectKey) -> Option<Arc<Value>> {
        let table = self.tables.get_mut(&key.storage)?;
        let before = table.objects.remove(&(key.namespace.clone(), key.name.clone()))?;
        self.revision += 1;
        let revision = self.revision;
        let mut last = (*before).clone();
        last["metadata"]["resourceVersion"] = json!(revision.to_string());
        let last = Arc::new(last);
        let size = quota::size(&before);
        let change = Change {
            revision,
            before: Some(before.clone()),
            after: None,
            removed: Some(last.clone()),
        };
        table.history.push(change, size);
        table.changed.send_replace(revision);
        self.bytes -= size;
        self.unindex(key, &before);
        if let Some(uid) = before["metadata"]["uid"].as_str() {
            self.pending.push_back(Consequence::OwnerGone(uid.to_owned()));
        }
        for owner_uid in owner_uids(&before) {
            self.pending.push_back(Consequence::DependentGone { owner_uid });
        }
        if !key.namespace.is_empty() {
            self.pending
                .push_back(Consequence::NamespaceContentGone(key.namespace.clone()));
        }
        self.pending.push_back(Consequence::Removed(key.clone(), last.clone()));
        Some(last)
    }

    fn index(&mut self, key: &ObjectKey, object: &Value) {
        if let Some(uid) = object["metadata"]["uid"].as_str() {
            self.uids.insert(uid.to_owned(), key.clone());
        }
        for uid in owner_uids(object) {
            self.dependents.entry(uid).or_default().insert(key.clone());
        }
    }

    fn unindex(&mut self, key: &ObjectKey, object: &Value) {
        if let Some(uid) = object["metadata"]["uid"].as_str() {
            self.uids.remove(uid);
        }
        for uid in owner_uids(object) {
            if let Some(set) = self.dependents.get_mut(&uid) {
                set.remove(key);
                if set.is_empty() {
                    self.dependents.remove(&uid);
                }
            }
        }
    }
}

/// The uids in `metadata.ownerReferences`.
pub(crate) fn owner_uids(object: &Value) -> Vec<String> {
    let owners = object["metadata"]["ownerReferences"].as_array();
    owners
        .into_iter()
        .flatten()
        .filter_map(|o| o["uid"].as_str().map(str::to_owned))
        .collect()
}

/// The key of an object that came out of the store.
pub(crate) fn key_of(resource: &ResourceType, object: &Value) -> ObjectKey {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    ObjectKey {
        storage: resource.storage.clone(),
        namespace: text("namespace"),
        name: text("name"),
    }
}

/// An object as it is shown in a version. Objects are kept in the storage version, and versions differ only in name, except
/// for events, which two groups show in two forms.
pub(crate) fn shown(resource: &ResourceType, version: &str, object: &Arc<Value>) -> Arc<Value> {
    let api_version = resource.api_version(version);
    if object["apiVersion"] == api_version.as_str() {
        return object.clone();
    }
    let mut copy = (**object).clone();
    if resource.group == "events.k8s.io" {
        crate::admission::events::to_events_group(&mut copy);
    }
    copy["apiVersion"] = json!(api_version);
    Arc::new(copy)
}

pub(super) fn namespace_key(name: &str) -> ObjectKey {
    ObjectKey {
        storage: StorageKey::new("", "namespaces"),
        namespace: String::new(),
        name: name.to_owned(),
    }
}
