//! What the worker does with each event.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EndpointSubset, Endpoints, Namespace, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::desired::{Export, Readiness, holds_no_address, present_readiness};
use super::link::{Link, ServiceStatus};
use super::link_status::{self, Outcome};
use super::queue::Event;
use super::stale_content::Content;
use super::unasked;
use super::watcher::Watcher;
use crate::defect::Defect;
use crate::names::{annotation, label};

/// When an unexported mirror comes back under the defect that brings it back, scenario time.
const RETURN_AFTER: Duration = Duration::from_secs(10);
/// How often a wedged queue tries the same event again, scenario time.
const WEDGED_RETRY: Duration = Duration::from_secs(1);

/// Why an event was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// Trying again may help, if need be much later.
    Retry(String),
    /// Trying again may help at once or never.
    RetryQuickly(String),
    /// Trying again cannot help.
    Final(String),
}

/// Which list of `Link.status` an entry belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StatusList {
    Mirrors,
    Federated,
}

impl Watcher {
    pub(super) async fn process(&self, event: &Event) -> Result<(), Failure> {
        match event {
            Event::OnAdd(service) | Event::OnUpdate(service) => self.consider(service).await,
            Event::OnDelete(service) => {
                self.on_delete(service).await;
                Ok(())
            }
            Event::OnEndpoints(endpoints) => self.on_endpoints(endpoints).await,
            Event::Exported(service) => self.export(service).await,
            Event::ExportedUpdated(service) => self.update(service).await,
            Event::Unexported {
                namespace,
                name,
                deleted,
            } => self.unexport(namespace, name, *deleted).await,
            Event::CollectOrphans => self.collect_orphans().await,
            Event::Repair { periodic } => self.repair(*periodic).await,
            Event::RestoreEndpoints { namespace, name } => self.restore_endpoints(namespace, name).await,
            Event::NamespaceAdded(namespace) => {
                let in_namespace = |service: &Service| service.namespace().as_deref() == Some(namespace);
                for service in self.remote.services.filter(in_namespace) {
                    self.queue.push(Event::OnAdd(service));
                }
                Ok(())
            }
            Event::Reconsider { namespace, name } => {
                let key = (namespace.clone(), name.clone());
                if let Some((_, waiting)) = self.memory().retries.get_mut(&key) {
                    *waiting = false;
                }
                match self.remote.services.get(namespace, name) {
                    Some(service) => {
                        if let Some(endpoints) = self.remote.endpoints.get(namespace, name)
                            && self.desired(&self.defects()).follows(&endpoints)
                        {
                            self.queue.push(Event::OnEndpoints(endpoints));
                        }
                        self.consider(&service).await
                    }
                    None => self.unexport(namespace, name, false).await,
                }
            }
        }
    }

    /// Decides what a remote Service needs. Additions and updates are the same: after a pause, what is an addition for
    /// the watch is an update of what was mirrored before.
    async fn consider(&self, remote: &Arc<Service>) -> Result<(), Failure> {
        let defects = self.defects();
        let desired = self.desired(&defects);
        let (namespace, name) = (remote.namespace().unwrap_or_default(), remote.name_any());
        let key = (namespace.clone(), name.clone());
        let local = self.local.services.get(&namespace, &self.local_name(remote));
        self.consider_federation(remote).await;

        let mut export = desired.export(remote);
        if export == Export::Gateway && !remote.labels().contains_key(label::EXPORTED) {
            // Unlabelled Services that had the label are no business of the defect that exports unlabelled ones.
            if self.has(Defect::UnlabelledExports) && self.memory().once_exported.contains(&key) {
                export = Export::No;
            }
        } else if export == Export::Gateway {
            self.memory().once_exported.insert(key.clone());
        }
        match export {
            Export::RemoteDiscovery => {
                let text = "remote discovery (flat mode) is not modelled";
                self.log
                    .warn(format!("Refusing to mirror service {namespace}/{name}: {text}"));
                self.report(StatusList::Mirrors, &key, Some(Outcome::NotModelled(text.to_owned())))
                    .await;
            }
            Export::Gateway => {
                let version = remote.resource_version().unwrap_or_default();
                let unchanged_since_start = self.memory().seen_while_down.get(&key) == Some(&version);
                if self.has(Defect::ChangesWhileDownMissed) && unchanged_since_start {
                    return Ok(());
                }
                self.consider_exported(remote, local, &version).await;
            }
            Export::No => match local {
                Some(local) if desired.is_own_mirror(&local) => {
                    if !self.has(Defect::UnexportIgnored) {
                        self.queue.push(Event::Unexported {
                            namespace,
                            name,
                            deleted: false,
                        });
                    }
                }
                _ => self.drop_stale_entry(StatusList::Mirrors, &key).await,
            },
        }
        Ok(())
    }

    async fn consider_exported(&self, remote: &Arc<Service>, local: Option<Arc<Service>>, version: &str) {
        let defects = self.defects();
        let desired = self.desired(&defects);
        let key = (remote.namespace().unwrap_or_default(), remote.name_any());
        let Some(local) = local else {
            let given_up = self.memory().denied_creations.get(&key) == remote.uid().as_ref();
            if !given_up {
                self.queue.push(Event::Exported(remote.clone()));
            }
            return;
        };
        if !desired.is_own_mirror(&local) {
            let other_mirror = local.labels().contains_key(label::MIRRORED_SERVICE);
            if self.has(Defect::UserServiceAdopted) || (other_mirror && self.has(Defect::SecondTargetOverwritesFirst)) {
                self.queue.push(Event::ExportedUpdated(remote.clone()));
            } else {
                self.log.warn(format!(
                    "Service {}/{} exists and is no mirror of this link; leaving it alone",
                    key.0,
                    local.name_any()
                ));
            }
            return;
        }
        let mirrored = local.annotations().get(annotation::REMOTE_RESOURCE_VERSION);
        if mirrored.is_some_and(|mirrored| mirrored == version) {
            let listed = self
                .known_status(StatusList::Mirrors)
                .is_some_and(|statuses| link_status::contains(&statuses, &key.0, &key.1));
            if !listed {
                let local = local.name_any();
                self.report(StatusList::Mirrors, &key, Some(Outcome::Mirrored { local }))
                    .await;
            }
            return;
        }
        if self
            .memory()
            .denied_updates
            .get(&key)
            .is_some_and(|denied| denied == version)
        {
            return;
        }
        self.queue.push(Event::ExportedUpdated(remote.clone()));
    }

    async fn consider_federation(&self, remote: &Service) {
        let key = (remote.namespace().unwrap_or_default(), remote.name_any());
        if self.desired(&self.defects()).is_federated(remote) {
            let text = "federated services are not modelled";
            self.log.warn(format!("Refusing service {}/{}: {text}", key.0, key.1));
            self.report(StatusList::Federated, &key, Some(Outcome::NotModelled(text.to_owned())))
                .await;
        } else {
            self.drop_stale_entry(StatusList::Federated, &key).await;
        }
    }

    async fn on_delete(&self, remote: &Service) {
        let defects = self.defects();
        let desired = self.desired(&defects);
        let key = (remote.namespace().unwrap_or_default(), remote.name_any());
        self.memory().once_exported.remove(&key);
        if desired.is_federated(remote) {
            self.report(StatusList::Federated, &key, None).await;
        }
        let exported = desired.export(remote) != Export::No;
        if exported && self.has(Defect::RemoteDeletionIgnored) {
            return;
        }
        let returned = self.has(Defect::UnexportedMirrorReturns);
        if exported || returned {
            self.queue.push(Event::Unexported {
                namespace: key.0,
                name: key.1,
                deleted: true,
            });
        }
    }

    /// Makes the mirror of a remote Service that has none.
    async fn export(&self, remote: &Arc<Service>) -> Result<(), Failure> {
        let defects = self.defects();
        let desired = self.desired(&defects);
        let (namespace, name) = (remote.namespace().unwrap_or_default(), remote.name_any());
        let key = (namespace.clone(), name.clone());
        if !self.namespace_is_there(remote).await? {
            return Ok(());
        }
        let mut mirror = desired.service(remote);
        self.bring_back_old_content(remote, &mut mirror);
        self.log
            .info(format!("Creating a new service mirror for {namespace}/{name}"));
        let services = Api::<Service>::namespaced(self.local.client.clone(), &namespace);
        let created = loop {
            let result = services.create(&PostParams::default(), &mirror).await;
            let invalid = matches!(&result, Err(error) if status_code(error) == Some(422));
            if !(invalid && self.has(Defect::LongNameWedgesQueue)) {
                break result;
            }
            tokio::time::sleep(self.place.model.pace().wall(WEDGED_RETRY)).await;
        };
        match created {
            Ok(created) => self.local.services.written(created),
            Err(error) if status_code(&error) == Some(409) => {
                // Made by an earlier try, or somebody else's.
                let existing = services.get(&mirror.name_any()).await.map_err(|error| retry(&error))?;
                let own = desired.is_own_mirror(&existing);
                self.local.services.written(existing);
                if !own {
                    return self.consider(remote).await;
                }
            }
            Err(error) => {
                let text = format!("Failed to create mirror service: {}", text(&error));
                self.report(StatusList::Mirrors, &key, Some(Outcome::Error(text))).await;
                if status_code(&error) == Some(403) && self.has(Defect::DeniedCreateNeverRetried) {
                    self.memory()
                        .denied_creations
                        .insert(key, remote.uid().unwrap_or_default());
                    return Err(Failure::Final(self::text(&error)));
                }
                return Err(retry(&error));
            }
        }
        self.write_endpoints(remote, &mirror, &key).await?;
        let local = mirror.name_any();
        self.report(StatusList::Mirrors, &key, Some(Outcome::Mirrored { local }))
            .await;
        Ok(())
    }

    /// Creates or corrects the Endpoints of the mirror of `remote`; its own failure ends in the Link's status.
    async fn write_endpoints(&self, remote: &Service, mirror: &Service, key: &(String, String)) -> Result<(), Failure> {
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
            self.set_endpoints(mirror, Some(remote), &gateway, empty).await
        };
        match result.await {
            Ok(()) => Ok(()),
            Err(failure) => {
                let text = match &failure {
                    Failure::Retry(text) | Failure::RetryQuickly(text) | Failure::Final(text) => {
                        format!("Failed to create mirror endpoints: {text}")
                    }
                };
                self.report(StatusList::Mirrors, key, Some(Outcome::Error(text))).await;
                Err(failure)
            }
        }
    }

    /// Brings an existing mirror up to date.
    async fn update(&self, remote: &Arc<Service>) -> Result<(), Failure> {
        let defects = self.defects();
        let desired = self.desired(&defects);
        let (namespace, name) = (remote.namespace().unwrap_or_default(), remote.name_any());
        let key = (namespace.clone(), name.clone());
        let local_name = self.local_name(remote);
        self.log.info(format!("Updating mirror service for {namespace}/{name}"));
        let Some(local) = self.local.services.get(&namespace, &local_name) else {
            self.log.info(format!(
                "Mirror service {namespace}/{local_name} not found, re-creating"
            ));
            self.queue.push(Event::Exported(remote.clone()));
            return Ok(());
        };
        if self.is_stale_relink(remote) {
            return Ok(());
        }
        let wanted = desired.service(remote);
        let mut mirror = (*local).clone();
        mirror.metadata.labels = wanted.metadata.labels;
        let version = annotation::REMOTE_RESOURCE_VERSION.to_owned();
        if self.has(Defect::AnnotationUpdatesIgnored) {
            let annotations = mirror.metadata.annotations.get_or_insert_default();
            annotations.insert(version, remote.resource_version().unwrap_or_default());
        } else {
            mirror.metadata.annotations = wanted.metadata.annotations;
        }
        if let (Some(spec), Some(wanted)) = (&mut mirror.spec, wanted.spec)
            && !self.has(Defect::PortUpdatesIgnored)
        {
            spec.ports = wanted.ports;
        }

        // Endpoints first, as the real controller does: a new port then never leads nowhere.
        let written = async {
            self.write_endpoints(remote, &mirror, &key).await?;
            let services = Api::<Service>::namespaced(self.local.client.clone(), &namespace);
            match services.replace(&local_name, &PostParams::default(), &mirror).await {
                Ok(updated) => {
                    self.local.services.written(updated);
                    Ok(())
                }
                Err(error) => {
                    if status_code(&error) == Some(409)
                        && let Ok(fresh) = services.get(&local_name).await
                    {
                        self.local.services.written(fresh);
                    }
                    let text = format!("Failed to update mirror service: {}", text(&error));
                    self.report(StatusList::Mirrors, &key, Some(Outcome::Error(text))).await;
                    Err(retry(&error))
                }
            }
        };
        let written = written.await;
        self.note_update(&key, remote, written.is_err());
        written?;
        let outcome = Outcome::Mirrored { local: local_name };
        self.report(StatusList::Mirrors, &key, Some(outcome)).await;
        Ok(())
    }

    /// The real controller changes its cached copy before it writes: after a failure everything looks done to it.
    fn note_update(&self, key: &(String, String), remote: &Service, failed: bool) {
        let mut memory = self.memory();
        if failed && self.has(Defect::UpstreamUpdateLostAfterDeniedWrite) {
            memory
                .denied_updates
                .insert(key.clone(), remote.resource_version().unwrap_or_default());
        } else {
            memory.denied_updates.remove(key);
        }
    }

    /// Removes the mirror of a remote Service that is not exported, or not there, any more.
    async fn unexport(&self, namespace: &str, name: &str, deleted: bool) -> Result<(), Failure> {
        let key = (namespace.to_owned(), name.to_owned());
        let defects = self.defects();
        let desired = self.desired(&defects);
        self.report(StatusList::Mirrors, &key, None).await;
        let mirror = desired.mirror_name(name);
        let Some(local) = self.local.services.get(namespace, &mirror) else {
            return Ok(());
        };
        let unasked = deleted && self.has(Defect::UpstreamUserServiceDeleted);
        if !desired.is_own_mirror(&local) && !unasked {
            return Ok(());
        }
        self.log.info(format!("Deleting mirrored service {namespace}/{mirror}"));
        self.delete_service(namespace, &mirror).await?;
        self.log
            .info(format!("Successfully deleted service: {namespace}/{mirror}"));
        if !deleted
            && self.has(Defect::UnexportedMirrorReturns)
            && let Some(remote) = self.remote.services.get(namespace, name)
        {
            self.queue.push_later(RETURN_AFTER, Event::Exported(remote));
        }
        Ok(())
    }

    /// Removes mirrors, and entries of the status, whose remote Service went while nobody watched.
    async fn collect_orphans(&self) -> Result<(), Failure> {
        let defects = self.defects();
        let desired = self.desired(&defects);
        let mut failed = None;
        let orphans = self.local.services.filter(|local| {
            desired.is_own_mirror(local) && {
                let namespace = local.namespace().unwrap_or_default();
                let remote = self.remote_name(local);
                self.remote.services.get(&namespace, &remote).is_none()
            }
        });
        if self.has(Defect::NoOrphanCollectionAtStart) {
            return Ok(());
        }
        for orphan in orphans {
            let (namespace, name) = (orphan.namespace().unwrap_or_default(), orphan.name_any());
            match self.delete_service(&namespace, &name).await {
                Ok(()) => self.log.info(format!(
                    "Deleted service {namespace}/{name} while cleaning up mirror services"
                )),
                Err(failure) => failed = Some(failure),
            }
        }
        for list in [StatusList::Mirrors, StatusList::Federated] {
            for status in self.known_status(list).unwrap_or_default() {
                let (namespace, name) = (status.remote_ref.namespace, status.remote_ref.name);
                if self.remote.services.get(&namespace, &name).is_none() {
                    self.report(list, &(namespace, name), None).await;
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Follows a remote Service that lost its last or got its first pod.
    async fn on_endpoints(&self, remote_endpoints: &Endpoints) -> Result<(), Failure> {
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
            return Err(Failure::Retry(format!("endpoints \"{mirror_name}\" not found")));
        };
        // The newest state counts, not the one that the event carried.
        let empty = self.is_remote_empty(&namespace, &name);
        if holds_no_address(&endpoints) == empty {
            return Ok(());
        }
        self.log
            .info(format!("Updating subsets for mirror endpoint {namespace}/{name}"));
        let gateway = self.gateway_addresses().await?;
        self.set_endpoints(&mirror, Some(&remote), &gateway, empty).await
    }

    /// Compares all Endpoints with what they should be, starting with those of the probe Service.
    async fn repair(&self, periodic: bool) -> Result<(), Failure> {
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
            if let Err(Failure::Retry(text) | Failure::RetryQuickly(text) | Failure::Final(text)) =
                self.set_endpoints(&mirror, remote.as_deref(), &gateway, empty).await
            {
                self.log.error(text);
            }
        }
        Ok(())
    }

    /// Makes Endpoints again that somebody deleted while their mirror stays.
    async fn restore_endpoints(&self, namespace: &str, name: &str) -> Result<(), Failure> {
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
        self.set_endpoints(&mirror, Some(&remote), &gateway, empty).await
    }

    /// Brings the Endpoints of `mirror` into the right state. `remote` is needed to make new ones.
    async fn set_endpoints(
        &self,
        mirror: &Service,
        remote: Option<&Service>,
        gateway: &[IpAddr],
        empty: bool,
    ) -> Result<(), Failure> {
        let defects = self.defects();
        let desired = self.desired(&defects);
        let (namespace, name) = (mirror.namespace().unwrap_or_default(), mirror.name_any());
        let existing = self.local.endpoints.get(&namespace, &name);
        let readiness = self.readiness(existing.as_deref());
        if readiness == Readiness::NotReady {
            self.log.warn(format!(
                "gateway for {namespace}/{name} does not have ready addresses; setting addresses to not ready"
            ));
        }
        let subsets = desired
            .subsets(mirror, gateway, empty, readiness)
            .map_err(Failure::Final)?;
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
                Err(Failure::Retry(format!(
                    "failed to write mirror endpoints for {namespace}/{name}: {}",
                    text(&error)
                )))
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

    /// Whether the mirror can be made. If not, it is told to whom it concerns, and waits for the namespace.
    async fn namespace_is_there(&self, remote: &Service) -> Result<bool, Failure> {
        let (namespace, name) = (remote.namespace().unwrap_or_default(), remote.name_any());
        let key = (namespace.clone(), name.clone());
        let namespaces = Api::<Namespace>::all(self.local.client.clone());
        let found = namespaces.get_opt(&namespace).await;
        match found {
            Ok(Some(_)) => Ok(true),
            Ok(None) if self.has(Defect::NamespaceCreatedSilently) => {
                unasked::create_namespace(&self.place.model, &self.place.cluster, &namespace);
                Ok(true)
            }
            Ok(None) if self.place.arguments.create_namespaces => {
                let object = Namespace {
                    metadata: ObjectMeta {
                        name: Some(namespace.clone()),
                        labels: Some(
                            [
                                (label::MIRRORED_SERVICE, "true"),
                                (label::CLUSTER_NAME, &self.link.spec.target_cluster_name),
                            ]
                            .map(|(key, value)| (key.to_owned(), value.to_owned()))
                            .into(),
                        ),
                        ..ObjectMeta::default()
                    },
                    ..Namespace::default()
                };
                if let Err(error) = namespaces.create(&PostParams::default(), &object).await
                    && status_code(&error) != Some(409)
                {
                    let text = format!("Failed to create namespace: {}", text(&error));
                    self.report(StatusList::Mirrors, &key, Some(Outcome::Error(text))).await;
                    return Err(retry(&error));
                }
                Ok(true)
            }
            Ok(None) => {
                self.remote.recorder.skipped(remote).await;
                self.log.warn(format!(
                    "Skipping mirroring of service {namespace}/{name}: namespace {namespace} does not exist"
                ));
                self.report(StatusList::Mirrors, &key, Some(Outcome::MissingNamespace))
                    .await;
                Ok(false)
            }
            Err(error) => {
                let text = format!("Failed get namespace: {}", text(&error));
                self.report(StatusList::Mirrors, &key, Some(Outcome::Error(text))).await;
                Err(retry(&error))
            }
        }
    }

    async fn delete_service(&self, namespace: &str, name: &str) -> Result<(), Failure> {
        let api = Api::<Service>::namespaced(self.local.client.clone(), namespace);
        match api.delete(name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(error) if status_code(&error) == Some(404) => {}
            Err(error) => {
                return Err(Failure::Retry(format!(
                    "could not delete service: {namespace}/{name}: {}",
                    text(&error)
                )));
            }
        }
        self.local.services.deleted(namespace, name);
        Ok(())
    }

    /// The gateway's addresses, sorted as text. All of them, or an error: a link that is half up would be worse to
    /// understand than one that says what is wrong.
    async fn gateway_addresses(&self) -> Result<Vec<IpAddr>, Failure> {
        let defects = self.defects();
        let failed = |error: String| {
            self.log.warn(&error);
            Failure::Retry(error)
        };
        let hosts = self.desired(&defects).gateway_hosts().map_err(failed)?;
        let mut addresses: Vec<IpAddr> = Vec::new();
        for host in hosts {
            if let Ok(ip) = host.parse() {
                addresses.push(ip);
                continue;
            }
            let found = self
                .place
                .sidecar
                .resolve(&host)
                .await
                .map_err(|_| failed(format!("Error resolving '{host}': lookup {host}: no such host")))?;
            addresses.extend(found);
        }
        addresses.sort_by_key(ToString::to_string);
        addresses.dedup();
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

    /// Name of the local Service that mirrors `remote`.
    fn local_name(&self, remote: &Service) -> String {
        let name = self.desired(&self.defects()).mirror_name(&remote.name_any());
        if !self.has(Defect::SecondTargetOverwritesFirst) {
            return name;
        }
        let namespace = remote.namespace().unwrap_or_default();
        let full_name = format!("{}.{namespace}.svc.", remote.name_any());
        let first = self.local.services.filter(|local| {
            local.namespace().as_deref() == Some(&namespace)
                && local
                    .annotations()
                    .get(annotation::REMOTE_SVC_FQ_NAME)
                    .is_some_and(|found| found.starts_with(&full_name))
        });
        first.first().map_or(name, |local| local.name_any())
    }

    /// Name of the remote Service that `mirror` stands for.
    fn remote_name(&self, mirror: &Service) -> String {
        mirror
            .annotations()
            .get(annotation::REMOTE_SVC_FQ_NAME)
            .and_then(|full| full.split('.').next())
            .map_or_else(
                || self.desired(&self.defects()).remote_name(&mirror.name_any()).to_owned(),
                str::to_owned,
            )
    }

    /// The Link's status as last seen; `None` when the Link is gone.
    fn known_status(&self, list: StatusList) -> Option<Vec<ServiceStatus>> {
        let link = self
            .local
            .links
            .get(&self.place.arguments.namespace, &self.link.name_any())?;
        Some(entries(&link, list))
    }

    async fn drop_stale_entry(&self, list: StatusList, key: &(String, String)) {
        let listed = self
            .known_status(list)
            .is_some_and(|statuses| link_status::contains(&statuses, &key.0, &key.1));
        if listed {
            self.report(list, key, None).await;
        }
    }

    /// Writes what became of a remote Service into the Link's status; `None` takes its entry out. Failing is logged: the
    /// status is information, and the next change writes it again.
    pub(super) async fn report(&self, list: StatusList, key: &(String, String), outcome: Option<Outcome>) {
        let link_name = self.link.name_any();
        let namespace = &self.place.arguments.namespace;
        let links = Api::<Link>::namespaced(self.local.link_client.clone(), namespace);
        let link = match links.get(&link_name).await {
            Ok(link) => link,
            Err(error) => {
                self.log
                    .error(format!("Failed to get link {namespace}/{link_name}: {}", text(&error)));
                return;
            }
        };
        let present = entries(&link, list);
        let subject = (key.0.as_str(), key.1.as_str());
        if self.has(Defect::LinkStatusStale) && link_status::contains(&present, subject.0, subject.1) {
            return;
        }
        let changed = match outcome {
            Some(outcome) => link_status::with(&present, subject, &outcome, Timestamp::now()),
            None => link_status::without(&present, subject),
        };
        let Some(changed) = changed else { return };
        self.log.info(format!("patching link status {namespace}/{link_name}"));
        let field = match list {
            StatusList::Mirrors => "mirrorServices",
            StatusList::Federated => "federatedServices",
        };
        let patch = Patch::Merge(json!({"status": {field: changed}}));
        if let Err(error) = links.patch_status(&link_name, &PatchParams::default(), &patch).await {
            self.log.error(format!(
                "Failed to patch link status {namespace}/{link_name}: {}",
                text(&error)
            ));
        }
    }

    /// Under two defects a mirror gets the content that it had before its remote Service, or its Link, was replaced.
    fn bring_back_old_content(&self, remote: &Service, mirror: &mut Service) {
        if !self.has(Defect::RecreatedServiceStuck) && !self.has(Defect::RelinkKeepsStaleMirror) {
            return;
        }
        let memory = self.place.model.stale_content();
        let key = self.content_key(remote);
        let Some(first) = memory.first(key, Content::of(remote, &self.link, mirror)) else {
            return;
        };
        let recreated = self.has(Defect::RecreatedServiceStuck) && first.is_of_another_service(remote);
        let relinked = self.has(Defect::RelinkKeepsStaleMirror) && first.is_of_another_link(&self.link);
        if recreated || relinked {
            first.restore(mirror);
        }
    }

    fn is_stale_relink(&self, remote: &Service) -> bool {
        self.has(Defect::RelinkKeepsStaleMirror)
            && self
                .place
                .model
                .stale_content()
                .known(&self.content_key(remote))
                .is_some_and(|first| first.is_of_another_link(&self.link))
    }

    fn content_key(&self, remote: &Service) -> [String; 4] {
        [
            self.place.cluster.clone(),
            self.link.name_any(),
            remote.namespace().unwrap_or_default(),
            remote.name_any(),
        ]
    }
}

fn entries(link: &Link, list: StatusList) -> Vec<ServiceStatus> {
    link.status
        .as_ref()
        .map(|status| match list {
            StatusList::Mirrors => status.mirror_services.clone(),
            StatusList::Federated => status.federated_services.clone(),
        })
        .unwrap_or_default()
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

pub(super) fn status_code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// The API server's own words, without the client's.
pub(super) fn text(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// An object that can never be valid is not worth coming back to.
fn retry(error: &kube::Error) -> Failure {
    match status_code(error) {
        Some(422) => Failure::RetryQuickly(text(error)),
        _ => Failure::Retry(text(error)),
    }
}
