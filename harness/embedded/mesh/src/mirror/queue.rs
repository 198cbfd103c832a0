//! The events that one worker works off, and their place in line.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Endpoints, Service};
use kube::ResourceExt;
use meshproof_cluster::pace::Pace;
use tokio::sync::mpsc;

/// First pause before a quick retry; each further one is twice as long. Wall time: it is the time that a cache needs to
/// catch up, which does not depend on the pace.
const QUICK_RETRY: Duration = Duration::from_millis(5);
/// First and longest pause before a Service is looked at again after the quick retries, scenario time.
const SLOW_RETRY: Duration = Duration::from_secs(10);
const SLOWEST_RETRY: Duration = Duration::from_secs(60);

/// Something to do.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A remote Service appeared, or was there at start.
    OnAdd(Arc<Service>),
    /// A remote Service changed, or is shown again by a resync.
    OnUpdate(Arc<Service>),
    /// A remote Service went.
    OnDelete(Arc<Service>),
    /// Endpoints of a remote Service changed.
    OnEndpoints(Arc<Endpoints>),
    /// A remote Service needs a mirror.
    Exported(Arc<Service>),
    /// A mirror is not up to date.
    ExportedUpdated(Arc<Service>),
    /// A mirror has to go.
    Unexported {
        /// Namespace on both sides.
        namespace: String,
        /// Name of the remote Service.
        name: String,
        /// Because the remote Service went, not only its label.
        deleted: bool,
    },
    /// Mirrors of remote Services that do not exist any more have to go.
    CollectOrphans,
    /// Endpoints have to be compared with what they should be.
    Repair {
        /// Because it is time, not because the gateway's state changed.
        periodic: bool,
    },
    /// Endpoints of one mirror are gone.
    RestoreEndpoints {
        /// Namespace of the mirror.
        namespace: String,
        /// Name of the mirror.
        name: String,
    },
    /// A namespace appeared in the own cluster.
    NamespaceAdded(String),
    /// A remote Service has to be looked at again, however it is now.
    Reconsider {
        /// Namespace on both sides.
        namespace: String,
        /// Name of the remote Service.
        name: String,
    },
}

impl Event {
    /// The remote Service that this is about, if it is about one.
    pub(super) fn subject(&self) -> Option<(String, String)> {
        match self {
            Self::OnAdd(service)
            | Self::OnUpdate(service)
            | Self::OnDelete(service)
            | Self::Exported(service)
            | Self::ExportedUpdated(service) => Some((service.namespace().unwrap_or_default(), service.name_any())),
            Self::OnEndpoints(endpoints) => Some((endpoints.namespace().unwrap_or_default(), endpoints.name_any())),
            Self::Unexported { namespace, name, .. } | Self::Reconsider { namespace, name } => {
                Some((namespace.clone(), name.clone()))
            }
            Self::CollectOrphans | Self::Repair { .. } | Self::RestoreEndpoints { .. } | Self::NamespaceAdded(_) => {
                None
            }
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnAdd(service) => write!(f, "OnAddCalled: {{svc: {}}}", Shown(service)),
            Self::OnUpdate(service) => write!(f, "OnUpdateCalled: {{svc: {}}}", Shown(service)),
            Self::OnDelete(service) => write!(f, "OnDeleteCalled: {{svc: {}}}", Shown(service)),
            Self::OnEndpoints(endpoints) => write!(
                f,
                "OnUpdateEndpointsCalled: {{ep: {}/{}}}",
                endpoints.namespace().unwrap_or_default(),
                endpoints.name_any()
            ),
            Self::Exported(service) => {
                write!(f, "RemoteServiceExported: {{service: {}}}", Shown(service))
            }
            Self::ExportedUpdated(service) => {
                write!(f, "RemoteExportedServiceUpdated: {{remoteUpdate: {}}}", Shown(service))
            }
            Self::Unexported { namespace, name, .. } => {
                write!(f, "RemoteServiceUnexported: {{name: {name}, namespace: {namespace} }}")
            }
            Self::CollectOrphans => f.write_str("OrphanedServicesGcTriggered: {}"),
            Self::Repair { .. } => f.write_str("RepairEndpoints"),
            Self::RestoreEndpoints { namespace, name } => {
                write!(f, "RestoreEndpoints: {{name: {name}, namespace: {namespace}}}")
            }
            Self::NamespaceAdded(namespace) => {
                write!(f, "OnLocalNamespaceAdded: {{namespace: {namespace}}}")
            }
            Self::Reconsider { namespace, name } => {
                write!(f, "Reconsider: {{name: {name}, namespace: {namespace}}}")
            }
        }
    }
}

/// A Service as the real controller logs it: only metadata of the mesh is shown.
struct Shown<'a>(&'a Service);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |metadata: &std::collections::BTreeMap<String, String>| {
            let pairs: Vec<String> = metadata
                .iter()
                .filter(|(key, _)| key.starts_with("linkerd.io") || key.starts_with("config.linkerd.io"))
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            pairs.join(",")
        };
        write!(
            f,
            "Service: {{name: {}, namespace: {}, annotations: [[{}]], labels [[{}]]}}",
            self.0.name_any(),
            self.0.namespace().unwrap_or_default(),
            shown(self.0.annotations()),
            shown(self.0.labels())
        )
    }
}

/// An event and how often it has failed.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) event: Event,
    pub(super) failures: u32,
}

/// The sending end of the line. Everything is served in order of arrival, by one worker.
#[derive(Clone)]
pub(super) struct Queue {
    sender: mpsc::UnboundedSender<Queued>,
    pace: Pace,
}

impl Queue {
    pub(super) fn new(pace: Pace) -> (Self, mpsc::UnboundedReceiver<Queued>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender, pace }, receiver)
    }

    /// Puts a new event at the end.
    pub(super) fn push(&self, event: Event) {
        // Without a worker nothing is to be done any more.
        let _ = self.sender.send(Queued { event, failures: 0 });
    }

    /// Puts an event that failed `failures` times at the end after a short pause.
    pub(super) fn retry_quickly(&self, event: Event, failures: u32) {
        let pause = QUICK_RETRY * 2_u32.saturating_pow(failures.saturating_sub(1).min(10));
        self.push_after(pause, Queued { event, failures });
    }

    /// Puts an event at the end after `pause` of scenario time.
    pub(super) fn push_later(&self, pause: Duration, event: Event) {
        self.push_after(self.pace.wall(pause), Queued { event, failures: 0 });
    }

    /// Scenario time to wait before a Service is looked at for the `round`th time, from 0.
    pub(super) fn slow_pause(round: u32) -> Duration {
        (SLOW_RETRY * 2_u32.saturating_pow(round.min(10))).min(SLOWEST_RETRY)
    }

    fn push_after(&self, pause: Duration, queued: Queued) {
        let sender = self.sender.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(pause) => {
                    let _ = sender.send(queued);
                }
                () = sender.closed() => {}
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, Queue};
    use k8s_openapi::api::core::v1::Service;
    use meshproof_cluster::pace::Pace;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::time::Instant;

    #[test]
    fn events_are_shown_as_the_recorded_ones() {
        let service: Service = serde_json::from_value(serde_json::json!({"metadata": {
            "name": "echotcp",
            "namespace": "lab",
            "labels": {"app": "echo"},
            "annotations": {"config.linkerd.io/opaque-ports": "9000"}
        }}))
        .unwrap();
        assert_eq!(
            Event::Exported(Arc::new(service)).to_string(),
            "RemoteServiceExported: {service: Service: {name: echotcp, namespace: lab, \
             annotations: [[config.linkerd.io/opaque-ports=9000]], labels [[]]}}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn retries_come_after_growing_pauses() {
        let (queue, mut receiver) = Queue::new(Pace::new(10.0));
        let start = Instant::now();
        for failures in 1..=3 {
            queue.retry_quickly(Event::CollectOrphans, failures);
            let queued = receiver.recv().await.unwrap();
            assert_eq!(queued.failures, failures);
        }
        assert!(start.elapsed() >= Duration::from_millis(35));
        assert_eq!(Queue::slow_pause(0), Duration::from_secs(10));
        assert_eq!(Queue::slow_pause(1), Duration::from_secs(20));
        assert_eq!(Queue::slow_pause(9), Duration::from_secs(60));
        let start = Instant::now();
        queue.push_later(Duration::from_secs(10), Event::CollectOrphans);
        receiver.recv().await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(1));
    }
}
