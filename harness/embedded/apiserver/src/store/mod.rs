//! The store: all objects of one cluster behind one lock, and the operations on them.
//!
//! Every write, from HTTP or in process, runs the same way: admission → write → consequences (garbage collection, namespace
//! life cycle, token secrets) → watch events, all under one lock, so that a reader never sees a half-done step. There is one
//! resource version counter for the whole cluster.

mod consequences;
mod delete;
mod history;
mod identity;
mod list;
mod mutator;
pub(crate) mod namespaces;
mod quota;
mod state;
mod token_secrets;
mod watch;
mod write;

pub use list::{ListOptions, ObjectList};
pub use mutator::{Lookup, Mutator};
pub use namespaces::NAMESPACE_DELETION_GRACE;
pub use watch::{WatchEvent, WatchKind, WatchOptions, WatchStart, WatchStream};

pub(crate) use state::{ObjectKey, State};

use crate::resource::ResourceType;
use crate::{Gvr, Selector, Status};
use serde_json::Value;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What kube-apiserver sets: `TokenSuccessCacheTTL` in `pkg/kubeapiserver/options/authentication.go`.
pub const TOKEN_SUCCESS_CACHE_TTL: Duration = Duration::from_secs(10);

/// Settings of a store.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Events kept per resource; a watch that asks for an older version gets 410.
    pub watch_history: usize,
    /// First address and prefix length from which cluster IPs are taken.
    pub service_cidr: (Ipv4Addr, u8),
    /// Ports from which node ports are taken.
    pub node_ports: RangeInclusive<u16>,
    /// For so long a token that was accepted is accepted without another look, revoked or not (wall time).
    pub token_success_cache_ttl: Duration,
    /// How long the content of a deleted namespace stays (wall time). Zero empties it within the deletion; any other time needs
    /// the server's own task, which [`crate::ApiServer::start`] runs.
    pub namespace_deletion_grace: Duration,
    /// The cluster's CA, published in `kube-root-ca.crt` and in token secrets.
    pub ca_pem: String,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            watch_history: 64,
            service_cidr: (Ipv4Addr::new(10, 96, 0, 0), 16),
            node_ports: 30000..=32767,
            token_success_cache_ttl: TOKEN_SUCCESS_CACHE_TTL,
            namespace_deletion_grace: Duration::ZERO,
            ca_pem: String::new(),
        }
    }
}

/// Who writes and how. In-process callers set the manager with [`Store::with_manager`].
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    /// Name in `metadata.managedFields`.
    pub(crate) manager: String,
    /// Do everything but keep the result.
    pub(crate) dry_run: bool,
}

/// What a patch does.
#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// RFC 7386.
    Merge(Value),
    /// RFC 6902.
    Json(Value),
    /// Kubernetes' strategic merge: lists of built-in types are merged by key.
    Strategic(Value),
    /// Server-side apply; creates the object when it is missing.
    Apply {
        /// The applied configuration.
        object: Value,
        /// The field manager.
        manager: String,
        /// Take over fields that other managers own.
        force: bool,
    },
}

/// The part of an object that a request is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subresource {
    /// The object itself, without its status.
    #[default]
    Main,
    /// Only the status.
    Status,
    /// Any part, including fields that clients may not change. For the server itself.
    #[doc(hidden)]
    Internal,
}

/// What happens to the objects that a deleted object owns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted after it.
    #[default]
    Background,
    /// They are deleted before it.
    Foreground,
    /// They stay and lose the reference.
    Orphan,
}

/// How to delete.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeleteOptions {
    /// Only if the object has this uid.
    pub uid: Option<String>,
    /// Only if the object has this resource version.
    pub resource_version: Option<String>,
    /// Fate of owned objects.
    pub propagation: Propagation,
    /// For pods: seconds until the kubelet must have stopped it; 0 removes it at once. `None` takes the pod's own.
    pub grace_period_seconds: Option<u64>,
}

impl DeleteOptions {
    /// Without a grace period: what a kubelet does when a pod has stopped.
    pub fn now() -> Self {
        Self {
            grace_period_seconds: Some(0),
            ..Self::default()
        }
    }
}

/// What a deletion did.
#[derive(Clone, Debug, PartialEq)]
pub enum Deleted {
    /// The object is gone; its last state.
    Gone(Arc<Value>),
    /// The object waits for finalizers or for its kubelet; its present state.
    Waiting(Arc<Value>),
}

impl Deleted {
    /// The object's last or present state.
    pub fn object(&self) -> &Arc<Value> {
        match self {
            Self::Gone(object) | Self::Waiting(object) => object,
        }
    }
}

/// Trusted in-process access to a cluster's objects. Cheap to clone; clones see the same objects.
///
/// Everything behaves as over HTTPS except that there is no authentication and no RBAC. Objects come back with `apiVersion`
/// and `kind` of the version that the [`Gvr`] names.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    writer: Writer,
}

struct Shared {
    state: Mutex<State>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("manager", &self.writer.manager)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// An empty cluster: the namespaces, service accounts, roles and the Service that every cluster starts with. Public for
    /// tests of controllers that need no HTTPS; clusters get theirs from [`crate::ApiServer::store`].
    pub fn new(config: StoreConfig) -> Self {
        let mut state = State::new(config);
        state.bootstrap();
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
            }),
            writer: Writer {
                manager: "in-process".into(),
                dry_run: false,
            },
        }
    }

    /// The same store, writing under another name in `metadata.managedFields`.
    #[must_use]
    pub fn with_manager(&self, manager: &str) -> Self {
        Self {
            shared: self.shared.clone(),
            writer: Writer {
                manager: manager.to_owned(),
                ..self.writer.clone()
            },
        }
    }

    /// The same store, whose writes are checked and answered but not kept.
    #[must_use]
    pub fn dry_run(&self, dry_run: bool) -> Self {
        Self {
            shared: self.shared.clone(),
            writer: Writer {
                dry_run,
                ..self.writer.clone()
            },
        }
    }

    /// Lets `mutator` change every object of `gvr` that is created from now on.
    pub fn add_mutator(&self, gvr: Gvr, mutator: Arc<dyn Mutator>) {
        self.lock().mutators.push((gvr, mutator));
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The resource version of the last write.
    pub fn resource_version(&self) -> u64 {
        self.lock().revision()
    }

    /// One object.
    ///
    /// # Errors
    /// 404 when the resource is not served or the object does not exist.
    pub fn get(&self, gvr: &Gvr, namespace: Option<&str>, name: &str) -> Result<Arc<Value>, Status> {
        let state = self.lock();
        let resource = state.registry.lookup(gvr)?;
        let key = object_key(&resource, namespace, name)?;
        let object = state.object(&key).ok_or_else(|| resource.not_found(name))?;
        Ok(state::shown(&resource, &gvr.version, object))
    }

    /// All chosen objects, of one namespace or (`None`) of all, ordered by namespace and name.
    ///
    /// # Errors
    /// 404 when the resource is not served.
    pub fn list(&self, gvr: &Gvr, namespace: Option<&str>, selector: &Selector) -> Result<ObjectList, Status> {
        self.list_page(gvr, namespace, selector, &ListOptions::default())
    }

    /// One page of [`Self::list`].
    ///
    /// # Errors
    /// As [`Self::list`]; 400 for a bad continue token, 410 when its snapshot is no longer in the history.
    pub fn list_page(
        &self,
        gvr: &Gvr,
        namespace: Option<&str>,
        selector: &Selector,
        options: &ListOptions,
    ) -> Result<ObjectList, Status> {
        list::list(&self.lock(), gvr, namespace, selector, options)
    }

    /// Creates an object. `namespace` may be left out when the object names it.
    ///
    /// # Errors
    /// 404 for a missing namespace, 409 for a taken name, 403 in a terminating namespace, 400 and 422 for bad objects.
    pub fn create(&self, gvr: &Gvr, namespace: Option<&str>, object: Value) -> Result<Arc<Value>, Status> {
        let mut state = self.lock();
        let result = write::create(&mut state, &self.writer, gvr, namespace, object);
        state.settle();
        result
    }

    /// Replaces an object, except its status where the type has a status subresource. A `metadata.resourceVersion` in the
    /// object makes the write conditional.
    ///
    /// # Errors
    /// 404, 409 when the resource version is stale, 400 and 422 for bad objects.
    pub fn update(&self, gvr: &Gvr, namespace: Option<&str>, object: Value) -> Result<Arc<Value>, Status> {
        self.update_part(gvr, namespace, object, Subresource::Main)
    }

    /// Replaces an object's status and nothing else.
    ///
    /// # Errors
    /// As [`Self::update`]; 404 when the type has no status subresource.
    pub fn update_status(&self, gvr: &Gvr, namespace: Option<&str>, object: Value) -> Result<Arc<Value>, Status> {
        self.update_part(gvr, namespace, object, Subresource::Status)
    }

    pub(crate) fn update_part(
        &self,
        gvr: &Gvr,
        namespace: Option<&str>,
        object: Value,
        part: Subresource,
    ) -> Result<Arc<Value>, Status> {
        let mut state = self.lock();
        let result = write::update(&mut state, &self.writer, gvr, namespace, object, part);
        state.settle();
        result
    }

    /// Reads, changes and writes an object in one step, so that there is no conflict. `change` gets the whole object and
    /// returns whether anything is to be written.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub fn modify(
        &self,
        gvr: &Gvr,
        namespace: Option<&str>,
        name: &str,
        part: Subresource,
        change: impl FnOnce(&mut Value) -> bool,
    ) -> Result<Arc<Value>, Status> {
        let mut state = self.lock();
        let result = write::modify(&mut state, &self.writer, gvr, namespace, name, part, |object| {
            Ok(change(object))
        });
        state.settle();
        result
    }

    /// Patches an object.
    ///
    /// # Errors
    /// As [`Self::update`]; 409 with a cause per field when a server-side apply conflicts with another manager.
    pub fn patch(&self, gvr: &Gvr, namespace: Option<&str>, name: &str, patch: &Patch) -> Result<Arc<Value>, Status> {
        self.patch_part(gvr, namespace, name, patch, Subresource::Main)
            .map(|(object, _)| object)
    }

    /// Patches an object's status.
    ///
    /// # Errors
    /// As [`Self::patch`].
    pub fn patch_status(
        &self,
        gvr: &Gvr,
        namespace: Option<&str>,
        name: &str,
        patch: &Patch,
    ) -> Result<Arc<Value>, Status> {
        self.patch_part(gvr, namespace, name, patch, Subresource::Status)
            .map(|(object, _)| object)
    }

    /// Patches a part; tells whether the object was created (by a server-side apply).
    pub(crate) fn patch_part(
        &self,
        gvr: &Gvr,
        namespace: Option<&str>,
        name: &str,
        patch: &Patch,
        part: Subresource,
    ) -> Result<(Arc<Value>, bool), Status> {
        let mut state = self.lock();
        let result = write::patch(&mut state, &self.writer, gvr, namespace, name, patch, part);
        state.settle();
        result
    }

    /// Deletes an object, or marks it for deletion when finalizers or a kubelet come first.
    ///
    /// # Errors
    /// 404; 409 when a precondition does not hold.
    pub fn delete(
        &self,
        gvr: &Gvr,
        namespace: Option<&str>,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, Status> {
        let mut state = self.lock();
        let resource = state.registry.lookup(gvr)?;
        let key = object_key(&resource, namespace, name)?;
        let result = delete::delete(&mut state, &key, options, self.writer.dry_run);
        state.settle();
        let shown = |object: &Arc<Value>| state::shown(&resource, &gvr.version, object);
        result.map(|deleted| match deleted {
            Deleted::Gone(object) => Deleted::Gone(shown(&object)),
            Deleted::Waiting(object) => Deleted::Waiting(shown(&object)),
        })
    }

    /// Deletes all chosen objects and returns them as they were.
    ///
    /// # Errors
    /// As [`Self::delete`].
    pub fn delete_collection(
        &self,
        gvr: &Gvr,
        namespace: Option<&str>,
        selector: &Selector,
        options: &DeleteOptions,
    ) -> Result<ObjectList, Status> {
        let mut state = self.lock();
        let chosen = list::list(&state, gvr, namespace, selector, &ListOptions::default())?;
        let resource = state.registry.lookup(gvr)?;
        for object in &chosen.items {
            let key = state::key_of(&resource, object);
            match delete::delete(&mut state, &key, options, self.writer.dry_run) {
                Err(status) if !status.is_not_found() => return Err(status),
                _ => {}
            }
        }
        state.settle();
        Ok(chosen)
    }

    /// Changes of the chosen objects, from the given version on. Objects that begin or cease to match the selector show as
    /// added or deleted. The stream ends after an error and when the resource type goes away.
    ///
    /// # Errors
    /// 404 when the resource is not served, 410 when the version is no longer in the history.
    pub fn watch(
        &self,
        gvr: &Gvr,
        namespace: Option<&str>,
        selector: &Selector,
        options: WatchOptions,
    ) -> Result<WatchStream, Status> {
        watch::watch(self.clone(), gvr, namespace, selector, options)
    }

    /// A watch that never needs care: first every present object as `Added`, then one `Bookmark`, then every change. Should
    /// the reader be too slow for the history, it lists again and tells the differences. Ends only when the resource type
    /// goes away.
    ///
    /// # Errors
    /// 404 when the resource is not served.
    pub fn informer(&self, gvr: &Gvr, namespace: Option<&str>, selector: &Selector) -> Result<WatchStream, Status> {
        watch::informer(self.clone(), gvr, namespace, selector)
    }

    /// A bearer token of a service account, valid until the account is deleted.
    ///
    /// # Errors
    /// 404 when there is no such account.
    pub(crate) fn issue_token(&self, namespace: &str, name: &str) -> Result<String, Status> {
        token_secrets::issue(&mut self.lock(), namespace, name, None)
    }
}

/// Checks that a namespace is given exactly where the type needs one.
pub(crate) fn object_key(resource: &ResourceType, namespace: Option<&str>, name: &str) -> Result<ObjectKey, Status> {
    let namespace = match (resource.namespaced, namespace.filter(|n| !n.is_empty())) {
        (true, Some(namespace)) => namespace,
        (true, None) => {
            return Err(Status::bad_request(format!(
                "an empty namespace may not be set for {}",
                resource.plural
            )));
        }
        (false, _) => "",
    };
    Ok(ObjectKey {
        storage: resource.storage.clone(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

pub(crate) use write::{now, remove as remove_field, set_or_remove, time_text};

#[cfg(test)]
mod tests;
