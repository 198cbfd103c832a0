//! Says of workloads that no controller here cares for that none does.

use std::time::Duration;

use meshproof_apiserver::{Gvr, Status, Store, gvr};
use serde_json::Value;

use crate::events::{Recorder, Severity};
use crate::object::{Key, text};
use crate::work_queue::Controller;

/// Puts a warning event on every DaemonSet.
pub(crate) struct UnsupportedWorkloads {
    store: Store,
    events: Recorder,
}

impl UnsupportedWorkloads {
    pub(crate) fn new(store: &Store) -> Self {
        Self {
            store: store.clone(),
            events: Recorder::new(store, "embedded-cluster", None),
        }
    }
}

impl Controller for UnsupportedWorkloads {
    fn name(&self) -> &'static str {
        "unsupported-workloads"
    }

    fn watches(&self) -> Vec<Gvr> {
        vec![gvr::DAEMON_SETS]
    }

    fn keys(&self, _: &Gvr, changed: &Value) -> Vec<Key> {
        // Once is enough, however often the object changes.
        let is_new = changed["metadata"]["generation"].as_i64() == Some(1);
        if is_new { vec![Key::of(changed)] } else { Vec::new() }
    }

    fn reconcile(&mut self, key: &Key) -> Result<Option<Duration>, Status> {
        for gvr in self.watches() {
            if let Ok(object) = self.store.get(&gvr, Some(&key.namespace), &key.name) {
                let kind = text(&object["kind"]);
                let message = format!(
                    "unsupported: the embedded cluster has no controller for {kind}; use a Deployment, a StatefulSet or a Pod"
                );
                self.events
                    .event(&object, None, Severity::Warning, "Unsupported", &message);
            }
        }
        Ok(None)
    }
}
