//! Event objects: what controllers and the kubelet tell people about an object.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use meshproof_apiserver::store::Subresource;
use meshproof_apiserver::{Store, gvr};
use serde_json::{Value, json};

use crate::object::{self, name, namespace, text, uid};

/// `type` of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Severity {
    Normal,
    Warning,
}

/// Writes events of one component. The same event about the same object is counted, not repeated.
#[derive(Clone)]
pub(crate) struct Recorder {
    store: Store,
    component: &'static str,
    host: Option<String>,
    known: Arc<Mutex<HashMap<Known, String>>>,
}

/// Object uid, reason, message.
type Known = (String, String, String);

/// Events that a recorder remembers; beyond that it starts over, at the price of a repeated event.
const MEMORY: usize = 4096;

impl Recorder {
    pub(crate) fn new(store: &Store, component: &'static str, host: Option<&str>) -> Self {
        Self {
            store: store.with_manager(component),
            component,
            host: host.map(str::to_owned),
            known: Arc::default(),
        }
    }

    /// Tells something about `about`. An event that cannot be written is dropped: its namespace is going away.
    pub(crate) fn event(&self, about: &Value, field: Option<&str>, severity: Severity, reason: &str, message: &str) {
        let namespace = match namespace(about) {
            "" => "default",
            namespace => namespace,
        };
        let known = (uid(about).to_owned(), reason.to_owned(), message.to_owned());
        let earlier = self.known().get(&known).cloned();
        if let Some(name) = earlier {
            let counted = self
                .store
                .modify(&gvr::EVENTS, Some(namespace), &name, Subresource::Main, |event| {
                    event["count"] = json!(object::count(&event["count"]) + 1);
                    event["lastTimestamp"] = object::now();
                    true
                });
            if counted.is_ok() {
                return;
            }
        }
        let mut involved = json!({
            "kind": about["kind"],
            "apiVersion": about["apiVersion"],
            "name": name(about),
            "uid": uid(about),
            "resourceVersion": about["metadata"]["resourceVersion"],
        });
        if !text(&about["metadata"]["namespace"]).is_empty() {
            involved["namespace"] = json!(namespace);
        }
        if let Some(field) = field {
            involved["fieldPath"] = json!(field);
        }
        let mut source = json!({"component": self.component});
        if let Some(host) = &self.host {
            source["host"] = json!(host);
        }
        let event = json!({
            "metadata": {
                "name": format!("{}.{:016x}", name(about), rand::random::<u64>()),
                "namespace": namespace,
            },
            "involvedObject": involved,
            "reason": reason,
            "message": message,
            "type": match severity { Severity::Normal => "Normal", Severity::Warning => "Warning" },
            "source": source,
            "reportingComponent": self.component,
            "reportingInstance": self.host.clone().unwrap_or_default(),
            "count": 1,
            "firstTimestamp": object::now(),
            "lastTimestamp": object::now(),
        });
        if let Ok(created) = self.store.create(&gvr::EVENTS, Some(namespace), event) {
            let mut memory = self.known();
            if memory.len() >= MEMORY {
                memory.clear();
            }
            memory.insert(known, name(&created).to_owned());
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Known, String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
