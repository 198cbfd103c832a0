//! Kubernetes Events that the controller leaves in the *target* cluster.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;

use super::log::Logger;

/// Writes Events about remote Services; a repeated one counts up instead of piling up.
pub(super) struct Recorder {
    client: Client,
    component: String,
    known: Mutex<HashMap<(String, String), Recorded>>,
    log: Logger,
}

#[derive(Clone)]
struct Recorded {
    name: String,
    count: i32,
}

impl Recorder {
    pub(super) fn new(client: Client, target_cluster: &str, log: Logger) -> Self {
        Self {
            client,
            component: format!("linkerd-service-mirror-{target_cluster}"),
            known: Mutex::default(),
            log,
        }
    }

    /// Tells that `service` is not mirrored for want of a namespace. Failing is logged and nothing else, as client-go
    /// does.
    pub(super) async fn skipped(&self, service: &Service) {
        let result = self
            .record(
                service,
                "ServiceMirroringSkipped",
                "Skipped mirroring service: namespace does not exist",
            )
            .await;
        if let Err(error) = result {
            self.log
                .error(format!("Server rejected event (will not retry!): {error}"));
        }
    }

    async fn record(&self, service: &Service, reason: &str, message: &str) -> kube::Result<()> {
        let namespace = service.namespace().unwrap_or_default();
        let api = Api::<Event>::namespaced(self.client.clone(), &namespace);
        let key = (service.uid().unwrap_or_default(), format!("{reason}: {message}"));
        let now = Time(Timestamp::now());
        let known = self.known().get(&key).cloned();
        if let Some(known) = known {
            let patch = json!({"count": known.count + 1, "lastTimestamp": now});
            match api
                .patch(&known.name, &PatchParams::default(), &Patch::Merge(&patch))
                .await
            {
                Ok(_) => {
                    let next = Recorded {
                        count: known.count + 1,
                        ..known
                    };
                    self.known().insert(key, next);
                    return Ok(());
                }
                // Events end after a while; then the next one is a new one.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        let name = format!("{}.{:x}", service.name_any(), Timestamp::now().as_nanosecond());
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            type_: Some("Normal".to_owned()),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            count: Some(1),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            source: Some(EventSource {
                component: Some(self.component.clone()),
                host: None,
            }),
            reporting_component: Some(self.component.clone()),
            involved_object: ObjectReference {
                api_version: Some(Service::api_version(&()).into_owned()),
                kind: Some(Service::kind(&()).into_owned()),
                name: Some(service.name_any()),
                namespace: Some(namespace),
                uid: service.uid(),
                resource_version: service.resource_version(),
                field_path: None,
            },
            ..Event::default()
        };
        api.create(&PostParams::default(), &event).await?;
        self.known().insert(key, Recorded { name, count: 1 });
        Ok(())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Recorded>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
