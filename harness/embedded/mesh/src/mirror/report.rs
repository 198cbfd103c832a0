//! Writing into `Link.status`.

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::failure::text;
use super::link::{Link, ServiceStatus};
use super::link_status::{self, Outcome};
use super::watcher::Watcher;
use crate::defect::Defect;

/// Which list of `Link.status` an entry belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StatusList {
    Mirrors,
    Federated,
}

impl Watcher {
    /// The Link's status as last seen; `None` when the Link is gone.
    pub(super) fn known_status(&self, list: StatusList) -> Option<Vec<ServiceStatus>> {
        let link = self
            .local
            .links
            .get(&self.place.arguments.namespace, &self.link.name_any())?;
        Some(entries(&link, list))
    }

    /// Takes the entry of a remote Service out that nothing in this cluster stands for.
    pub(super) async fn drop_stale_entry(&self, list: StatusList, key: &(String, String)) {
        if self.has(Defect::UpstreamOrphansStatusEntryStays) {
            return;
        }
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
        // The real controller leaves empty lists out of a merge patch, which then changes nothing.
        let status = if changed.is_empty() && self.has(Defect::UpstreamLastStatusEntryStays) {
            json!({})
        } else {
            json!({field: changed})
        };
        let patch = Patch::Merge(json!({"status": status}));
        if let Err(error) = links.patch_status(&link_name, &PatchParams::default(), &patch).await {
            self.log.error(format!(
                "Failed to patch link status {namespace}/{link_name}: {}",
                text(&error)
            ));
        }
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
