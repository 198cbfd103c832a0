//! What the worker does with each event: decisions about Services and their mirrors.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};

use super::desired::Export;
use super::failure::{Failure, retry, status_code, text};
use super::link_status::{self, Outcome};
use super::queue::Event;
use super::report::StatusList;
use super::stale_content::Content;
use super::unasked;
use super::watcher::Watcher;
use crate::defect::Defect;
use crate::names::{VERSION, annotation, label};

/// When an unexported mirror comes back under the defect that brings it back, scenario time.
const RETURN_AFTER: Duration = Duration::from_secs(10);
/// How often a wedged queue tries the same event again, scenario time.
const WEDGED_RETRY: Duration = Duration::from_secs(1);

/// Version of the remote Service that a mirror was made from.
fn mirrored_version(mirror: &Service) -> Option<&str> {
    mirror
        .annotations()
        .get(annotation::REMOTE_RESOURCE_VERSION)
        .map(String::as_str)
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
        if self.has(Defect::SecondTargetOverwritesFirst) {
            self.look_for_mirrors_anew(&namespace).await;
        }
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
        if mirrored_version(&local) == Some(version) && self.is_reported_as_mirrored(&key) {
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

    /// A mirror that the status does not call mirrored was left half done, or by another Link of this name. The real
    /// controller asks for the mirror's version only.
    fn is_reported_as_mirrored(&self, key: &(String, String)) -> bool {
        let statuses = self.known_status(StatusList::Mirrors).unwrap_or_default();
        if link_status::contains(&statuses, &key.0, &key.1) {
            link_status::is_mirrored(&statuses, &key.0, &key.1) || self.has(Defect::UpstreamUnfinishedExportForgotten)
        } else {
            self.has(Defect::UpstreamAdoptedMirrorNotListed)
        }
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

    /// The newest state of a remote Service: an event may have waited for long, or be tried again after later ones. The real
    /// controller takes what the event carries.
    fn newest(&self, carried: &Arc<Service>) -> Arc<Service> {
        let newest = self
            .remote
            .services
            .get(&carried.namespace().unwrap_or_default(), &carried.name_any());
        match newest {
            Some(newest) if !self.has(Defect::UpstreamQueuedExportsCollide) => newest,
            _ => carried.clone(),
        }
    }

    /// Makes the mirror of a remote Service that has none.
    async fn export(&self, carried: &Arc<Service>) -> Result<(), Failure> {
        let remote = &self.newest(carried);
        let defects = self.defects();
        let desired = self.desired(&defects);
        let (namespace, name) = (remote.namespace().unwrap_or_default(), remote.name_any());
        let key = (namespace.clone(), name.clone());
        // Taken back while this waited. A defect makes mirrors of such Services on purpose.
        if desired.export(remote) == Export::No && !self.has(Defect::UnexportedMirrorReturns) {
            return self.consider(remote).await;
        }
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
            Err(error) if status_code(&error) == Some(409) && self.has(Defect::UpstreamQueuedExportsCollide) => {}
            Err(error) if status_code(&error) == Some(409) => {
                // Made by an earlier try, or for an earlier state, or somebody else's.
                let existing = services.get(&mirror.name_any()).await.map_err(|error| retry(&error))?;
                let own = desired.is_own_mirror(&existing);
                let current = mirrored_version(&existing) == remote.resource_version().as_deref();
                self.local.services.written(existing);
                if !own || !current {
                    return self.consider(remote).await;
                }
            }
            Err(error) => {
                let told = format!("Failed to create mirror service: {}", text(&error));
                self.report(StatusList::Mirrors, &key, Some(Outcome::Error(told))).await;
                if status_code(&error) == Some(403) && self.has(Defect::DeniedCreateNeverRetried) {
                    self.memory()
                        .denied_creations
                        .insert(key, remote.uid().unwrap_or_default());
                    return Err(Failure::Final(text(&error)));
                }
                return Err(retry(&error));
            }
        }
        self.create_endpoints(remote, &mirror, &key).await?;
        let local = mirror.name_any();
        self.report(StatusList::Mirrors, &key, Some(Outcome::Mirrored { local }))
            .await;
        Ok(())
    }

    /// Brings an existing mirror up to date.
    async fn update(&self, carried: &Arc<Service>) -> Result<(), Failure> {
        let remote = &self.newest(carried);
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
            self.update_endpoints(remote, &mirror, &key).await?;
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
        let anew = self.place.version != VERSION && self.has(Defect::UpgradeRecreatesMirrors);
        let orphans = self.local.services.filter(|local| {
            desired.is_own_mirror(local) && {
                let namespace = local.namespace().unwrap_or_default();
                let remote = self.remote_name(local);
                anew || self.remote.services.get(&namespace, &remote).is_none()
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
        let all = [StatusList::Mirrors, StatusList::Federated];
        let forgotten = self.has(Defect::UpstreamOrphansStatusEntryStays);
        for list in all.into_iter().filter(|_| !forgotten) {
            for status in self.known_status(list).unwrap_or_default() {
                let (namespace, name) = (status.remote_ref.namespace, status.remote_ref.name);
                if self.remote.services.get(&namespace, &name).is_none() {
                    self.report(list, &(namespace, name), None).await;
                }
            }
        }
        failed.map_or(Ok(()), Err)
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
                    let failure = retry(&error);
                    let text = format!("Failed to create namespace: {failure}");
                    self.report(StatusList::Mirrors, &key, Some(Outcome::Error(text))).await;
                    return Err(failure);
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

    pub(super) async fn delete_service(&self, namespace: &str, name: &str) -> Result<(), Failure> {
        let api = Api::<Service>::namespaced(self.local.client.clone(), namespace);
        match api.delete(name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(error) if status_code(&error) == Some(404) => {}
            Err(error) => {
                let text = format!("could not delete service: {namespace}/{name}: {}", text(&error));
                return Err(if self.has(Defect::UpstreamDeniedDeleteGivenUp) {
                    Failure::RetryQuickly(text)
                } else {
                    Failure::Retry(text)
                });
            }
        }
        self.local.services.deleted(namespace, name);
        Ok(())
    }

    /// Takes the mirrors of all links from the cluster: the cache may lack what another link's controller has just made.
    async fn look_for_mirrors_anew(&self, namespace: &str) {
        let services = Api::<Service>::namespaced(self.local.client.clone(), namespace);
        let mirrors = ListParams::default().labels(label::MIRRORED_SERVICE);
        if let Ok(list) = services.list(&mirrors).await {
            list.into_iter().for_each(|mirror| self.local.services.written(mirror));
        }
    }

    /// Name of the local Service that mirrors `remote`.
    pub(super) fn local_name(&self, remote: &Service) -> String {
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
    pub(super) fn remote_name(&self, mirror: &Service) -> String {
        mirror
            .annotations()
            .get(annotation::REMOTE_SVC_FQ_NAME)
            .and_then(|full| full.split('.').next())
            .map_or_else(
                || self.desired(&self.defects()).remote_name(&mirror.name_any()).to_owned(),
                str::to_owned,
            )
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
