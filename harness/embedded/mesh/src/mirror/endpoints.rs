//! Endpoints of mirrors and of the probe Service.

use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointSubset, Endpoints, Service};
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};

use super::desired::{Readiness, holds_no_address, holds_no_ready_address, present_readiness};
use super::failure::{Failure, retry, status_code, text};
use super::link_status::Outcome;
use super::report::StatusList;
use super::watcher::Watcher;
use crate::defect::Defect;

impl Watcher {
    /// Makes the Endpoints of the new mirror of `remote`; its own failure ends in the Link's status.
    pub(super) async fn create_endpoints(
        &self,
        remote: &Service,
        mirror: &Service,
        key: &(String, String),
    ) -> Result<(), Failure> {
        let result = async {
            let gateway = self.gateway_addresses().await?;
            self.log.info(format!(
                "Resolved gateway [{gateway:?}:{}] for {}/{}",
                self.link.spec.gateway_port, key.0, key.1
            ));
            let empty = self.is_remote_empty(&key.0, &key.1);
            if empty {
                self.log.warn(format!("exported service {}/{} is empty", key.0, key.1));
            }
            let existing = if self.has(Defect::UpstreamQueuedExportsCollide) {
                None
            } else {
                self.local.endpoints.get(&key.0, &mirror.name_any())
            };
            let written = self
                .set_endpoints(mirror, existing, Some(remote), &gateway, empty)
                .await;
            if let Err(NotWritten::Denied { status, .. }) = &written
                && self.undoes_mirror(*status)
                && let Err(failure) = self.delete_service(&key.0, &mirror.name_any()).await
            {
                self.log.error(format!(
                    "Failed to delete service {} after endpoints creation failed: {}",
                    mirror.name_any(),
                    failure.text()
                ));
            }
            written.map_err(|failure| self.of_creation(failure))
        };
        match result.await {
            Ok(()) => Ok(()),
            Err(failure) => {
                let text = format!("Failed to create mirror endpoints: {failure}");
                self.report(StatusList::Mirrors, key, Some(Outcome::Error(text))).await;
                Err(failure)
            }
        }
    }

    /// The real controller takes its mirror away when the Endpoints cannot be created, whatever the reason.
    fn undoes_mirror(&self, status: Option<u16>) -> bool {
        match status {
            Some(409) => self.has(Defect::UpstreamQueuedExportsCollide),
            _ => self.has(Defect::UpstreamDeniedEndpointsUndoMirror),
        }
    }

    fn of_creation(&self, failure: NotWritten) -> Failure {
        match failure {
            NotWritten::Denied { status, text } if self.undoes_mirror(status) => Failure::RetryQuickly(text),
            failure => failure.into(),
        }
    }

    /// Corrects the Endpoints of a mirror of `remote` that changed, or makes them; its own failure ends in the Link's status.
    pub(super) async fn update_endpoints(
        &self,
        remote: &Service,
        mirror: &Service,
        key: &(String, String),
    ) -> Result<(), Failure> {
        let Some(existing) = self.local.endpoints.get(&key.0, &mirror.name_any()) else {
            return self.create_endpoints(remote, mirror, key).await;
        };
        let told = |what: &str, why: &dyn Display| Some(Outcome::Error(format!("Failed to {what}: {why}")));
        let gateway = match self.gateway_addresses().await {
            Ok(gateway) => gateway,
            Err(failure) => {
                let outcome = told("get gateway address", &failure);
                self.report(StatusList::Mirrors, key, outcome).await;
                return Err(failure);
            }
        };
        let empty = self.is_remote_empty(&key.0, &key.1) && !self.has(Defect::UpstreamUpdateFillsEmptyEndpoints);
        let written = self
            .set_endpoints(mirror, Some(existing), Some(remote), &gateway, empty)
            .await;
        if let Err(NotWritten::Denied { text, .. }) = &written {
            let outcome = told("update mirror endpoints", text);
            self.report(StatusList::Mirrors, key, outcome).await;
        }
        Ok(written?)
    }

    /// Follows a remote Service that lost its last or got its first pod.
    pub(super) async fn on_endpoints(&self, remote_endpoints: &Endpoints) -> Result<(), Failure> {
        let defects = self.defects();
        let desired = self.desired(&defects);
        let (namespace, name) = (
            remote_endpoints.namespace().unwrap_or_default(),
            remote_endpoints.name_any(),
        );
        let Some(remote) = self.remote.services.get(&namespace, &name) else {
            return Ok(());
        };
        let mirror_name = self.local_name(&remote);
        let Some(mirror) = self
            .local
            .services
            .get(&namespace, &mirror_name)
            .filter(|local| desired.is_own_mirror(local))
        else {
            // Exporting will look at the Endpoints itself.
            return Ok(());
        };
        let Some(endpoints) = self.local.endpoints.get(&namespace, &mirror_name) else {
            return Err(Failure::RetryQuickly(format!("endpoints \"{mirror_name}\" not found")));
        };
        // The newest state counts, not the one that the event carried.
        let empty = self.is_remote_empty(&namespace, &name);
        let is_empty = if self.has(Defect::UpstreamRemoteEndpointsMissed) {
            holds_no_ready_address(&endpoints)
        } else {
            holds_no_address(&endpoints)
        };
        if is_empty == empty {
            return Ok(());
        }
        self.log
            .info(format!("Updating subsets for mirror endpoint {namespace}/{name}"));
        let gateway = self.gateway_addresses().await?;
        Ok(self
            .set_endpoints(&mirror, Some(endpoints), Some(&remote), &gateway, empty)
            .await?)
    }

    /// Compares all Endpoints with what they should be, starting with those of the probe Service.
    pub(super) async fn repair(&self, periodic: bool) -> Result<(), Failure> {
        self.metrics.repairs().increment();
        let gateway = self.gateway_addresses().await?;
        if let Err(error) = self.set_probe_endpoints(&gateway).await {
            self.log
                .error(format!("Failed to create/update gateway mirror endpoints: {error}"));
        }
        if periodic && self.has(Defect::EndpointsRepairOff) {
            return Ok(());
        }
        let defects = self.defects();
        let selector = self.desired(&defects).mirror_selector();
        let mirrors = Api::<Service>::all(self.local.client.clone())
            .list(&ListParams::default().labels(&selector))
            .await
            .map_err(|error| Failure::RetryQuickly(format!("Failed to list mirror services: {}", text(&error))))?;
        for mirror in mirrors.items {
            let namespace = mirror.namespace().unwrap_or_default();
            let name = self.remote_name(&mirror);
            let remote = self.remote.services.get(&namespace, &name);
            let empty = self.is_remote_empty(&namespace, &name);
            if empty {
                self.log.warn(format!("Exported service {namespace}/{name} is empty"));
            }
            let existing = self.local.endpoints.get(&namespace, &mirror.name_any());
            let left_alone =
                self.has(Defect::UpstreamDeletedEndpointsStay) || self.has(Defect::UpstreamUnfinishedExportForgotten);
            if existing.is_none() && left_alone {
                let mirror = mirror.name_any();
                self.log.error(format!(
                    "Failed to get local endpoints {namespace}/{mirror}: endpoints \"{mirror}\" not found"
                ));
                continue;
            }
            let set = self.set_endpoints(&mirror, existing, remote.as_deref(), &gateway, empty);
            if let Err(failure) = set.await {
                self.log.error(Failure::from(failure).text());
            }
        }
        Ok(())
    }

    /// Makes Endpoints again that somebody deleted while their mirror stays.
    pub(super) async fn restore_endpoints(&self, namespace: &str, name: &str) -> Result<(), Failure> {
        if self.has(Defect::EndpointsRepairOff) {
            return Ok(());
        }
        let defects = self.defects();
        let Some(mirror) = self
            .local
            .services
            .get(namespace, name)
            .filter(|local| self.desired(&defects).is_own_mirror(local))
        else {
            return Ok(());
        };
        let remote_name = self.remote_name(&mirror);
        let Some(remote) = self.remote.services.get(namespace, &remote_name) else {
            return Ok(());
        };
        // The copy may lag behind the deletion of the mirror itself.
        let still_there = Api::<Service>::namespaced(self.local.client.clone(), namespace)
            .get_opt(name)
            .await
            .map_err(|error| retry(&error))?
            .is_some_and(|live| live.metadata.deletion_timestamp.is_none());
        if !still_there {
            return Ok(());
        }
        let gateway = self.gateway_addresses().await?;
        let empty = self.is_remote_empty(namespace, &remote_name);
        let existing = self.local.endpoints.get(namespace, name);
        Ok(self
            .set_endpoints(&mirror, existing, Some(&remote), &gateway, empty)
            .await?)
    }

    /// Brings the Endpoints of `mirror` into the right state: `existing` ones, or new ones, which `remote` is needed for.
    async fn set_endpoints(
        &self,
        mirror: &Service,
        existing: Option<Arc<Endpoints>>,
        remote: Option<&Service>,
        gateway: &[IpAddr],
        empty: bool,
    ) -> Result<(), NotWritten> {
        let defects = self.defects();
        let desired = self.desired(&defects);
        let (namespace, name) = (mirror.namespace().unwrap_or_default(), mirror.name_any());
        let verb = if existing.is_some() { "update" } else { "create" };
        let readiness = self.readiness(existing.as_deref());
        if readiness == Readiness::NotReady {
            self.log.warn(format!(
                "gateway for {namespace}/{name} does not have ready addresses; setting addresses to not ready"
            ));
        }
        let subsets = desired
            .subsets(mirror, gateway, empty, readiness)
            .map_err(NotWritten::BadPort)?;
        let api = Api::<Endpoints>::namespaced(self.local.client.clone(), &namespace);
        let params = PostParams::default();
        let result = match (existing, remote) {
            (Some(existing), _) => {
                let mut endpoints = (*existing).clone();
                desired.annotate_identity(endpoints.metadata.annotations.get_or_insert_default());
                endpoints.subsets = Some(subsets);
                if is_same(&endpoints, &existing) {
                    return Ok(());
                }
                api.replace(&name, &params, &endpoints).await
            }
            (None, Some(remote)) => {
                let mut endpoints = desired.endpoints(remote, subsets);
                endpoints.metadata.name = Some(name.clone());
                self.log.info(format!(
                    "Creating a new endpoints for {namespace}/{}",
                    remote.name_any()
                ));
                api.create(&params, &endpoints).await
            }
            (None, None) => return Ok(()),
        };
        match result {
            Ok(written) => {
                self.local.endpoints.written(written);
                Ok(())
            }
            Err(error) => {
                match status_code(&error) {
                    // The copy is behind; the next try sees what is there.
                    Some(409) => {
                        if let Ok(Some(fresh)) = api.get_opt(&name).await {
                            self.local.endpoints.written(fresh);
                        }
                    }
                    Some(404) => self.local.endpoints.deleted(&namespace, &name),
                    _ => {}
                }
                Err(NotWritten::Denied {
                    status: status_code(&error),
                    text: format!(
                        "failed to {verb} mirror endpoints for {namespace}/{name}: {}",
                        text(&error)
                    ),
                })
            }
        }
    }

    async fn set_probe_endpoints(&self, gateway: &[IpAddr]) -> Result<(), String> {
        let defects = self.defects();
        let arguments = &self.place.arguments;
        if arguments.probe_service.is_empty() {
            return Ok(());
        }
        let wanted = self
            .desired(&defects)
            .probe_endpoints(&arguments.namespace, &arguments.probe_service, gateway)?;
        let existing = self.local.endpoints.get(&arguments.namespace, &arguments.probe_service);
        let api = Api::<Endpoints>::namespaced(self.local.client.clone(), &arguments.namespace);
        let params = PostParams::default();
        let result = match existing {
            None => api.create(&params, &wanted).await,
            Some(existing) => {
                let mut endpoints = (*existing).clone();
                endpoints.metadata.labels = wanted.metadata.labels;
                endpoints.metadata.annotations = wanted.metadata.annotations;
                endpoints.subsets = wanted.subsets;
                if is_same(&endpoints, &existing) {
                    return Ok(());
                }
                api.replace(&arguments.probe_service, &params, &endpoints).await
            }
        };
        match result {
            Ok(written) => {
                self.local.endpoints.written(written);
                Ok(())
            }
            Err(error) => Err(text(&error)),
        }
    }

    /// The gateway's addresses, sorted as text. What does not resolve is logged and left out; only when nothing does is it a
    /// failure.
    async fn gateway_addresses(&self) -> Result<Vec<IpAddr>, Failure> {
        let defects = self.defects();
        let mut addresses: Vec<IpAddr> = Vec::new();
        let mut errors = Vec::new();
        for host in self.desired(&defects).gateway_hosts() {
            if let Ok(ip) = host.parse() {
                addresses.push(ip);
                continue;
            }
            // Neither nothing nor a name with a port is a name.
            let found = if host.is_empty() || host.contains(':') {
                None
            } else {
                self.place.sidecar.resolve(host).await.ok()
            };
            match found {
                Some(found) => addresses.extend(found),
                None => {
                    let error = format!("Error resolving '{host}': lookup {host}: no such host");
                    self.log.warn(&error);
                    errors.push(error);
                }
            }
        }
        if addresses.is_empty() {
            let errors = errors.join("\n\t");
            return Err(if self.has(Defect::UpstreamUnfinishedExportForgotten) {
                Failure::RetryQuickly(errors)
            } else {
                Failure::Retry(errors)
            });
        }
        addresses.sort_by_key(ToString::to_string);
        Ok(addresses)
    }

    fn readiness(&self, existing: Option<&Endpoints>) -> Readiness {
        match self.memory().gateway_alive {
            Some(true) => Readiness::Ready,
            Some(false) => Readiness::NotReady,
            None => existing.map_or(Readiness::Ready, present_readiness),
        }
    }

    fn is_remote_empty(&self, namespace: &str, name: &str) -> bool {
        let defects = self.defects();
        let endpoints = self.remote.endpoints.get(namespace, name);
        self.desired(&defects).is_empty(endpoints.as_deref())
    }
}

/// Why Endpoints are not as they should be.
enum NotWritten {
    /// The Link names no port of a gateway.
    BadPort(String),
    /// The API server did not take them.
    Denied {
        /// What it answered with, if it did.
        status: Option<u16>,
        text: String,
    },
}

impl From<NotWritten> for Failure {
    fn from(failure: NotWritten) -> Self {
        match failure {
            NotWritten::BadPort(text) => Self::Final(text),
            NotWritten::Denied { text, .. } => Self::Retry(text),
        }
    }
}

/// Whether writing would change nothing. An API server leaves out empty lists, which we may have written.
fn is_same(a: &Endpoints, b: &Endpoints) -> bool {
    let subsets = |endpoints: &Endpoints| -> Vec<EndpointSubset> {
        let mut subsets = endpoints.subsets.clone().unwrap_or_default();
        for subset in &mut subsets {
            if subset.addresses.as_ref().is_some_and(Vec::is_empty) {
                subset.addresses = None;
            }
            if subset.not_ready_addresses.as_ref().is_some_and(Vec::is_empty) {
                subset.not_ready_addresses = None;
            }
        }
        subsets
    };
    a.metadata.labels == b.metadata.labels
        && a.metadata.annotations == b.metadata.annotations
        && subsets(a) == subsets(b)
}
