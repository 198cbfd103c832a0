//! What mirrors first looked like: the memory of the defects that bring old content back.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::{Service, ServicePort};
use kube::ResourceExt;

use super::link::Link;
use crate::names::annotation;

/// Own cluster, Link, namespace and name of the remote Service.
pub(super) type ContentKey = [String; 4];

/// Of every mirror the content with which it was first made. Consulted only while one of those defects is on.
#[derive(Default)]
pub(crate) struct StaleContent(Mutex<HashMap<ContentKey, Content>>);

/// What a mirror copied from which Service over which Link.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Content {
    service: Option<String>,
    link: Option<String>,
    ports: Option<Vec<ServicePort>>,
    annotations: BTreeMap<String, String>,
}

impl StaleContent {
    /// The content noted before; notes `now` and returns `None` when there was none.
    pub(super) fn first(&self, key: ContentKey, now: Content) -> Option<Content> {
        let mut contents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match contents.get(&key) {
            Some(first) => Some(first.clone()),
            None => {
                contents.insert(key, now);
                None
            }
        }
    }

    /// The content noted before.
    pub(super) fn known(&self, key: &ContentKey) -> Option<Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }
}

impl Content {
    pub(super) fn of(remote: &Service, link: &Link, mirror: &Service) -> Self {
        Self {
            service: remote.uid(),
            link: link.uid(),
            ports: mirror.spec.as_ref().and_then(|spec| spec.ports.clone()),
            annotations: mirror.annotations().clone(),
        }
    }

    pub(super) fn is_of_another_service(&self, remote: &Service) -> bool {
        self.service != remote.uid()
    }

    pub(super) fn is_of_another_link(&self, link: &Link) -> bool {
        self.link != link.uid()
    }

    /// Gives `mirror` this content, but not its age: it stays until the remote Service changes again.
    pub(super) fn restore(&self, mirror: &mut Service) {
        let version = mirror
            .annotations()
            .get(annotation::REMOTE_RESOURCE_VERSION)
            .cloned()
            .unwrap_or_default();
        let mut annotations = self.annotations.clone();
        annotations.insert(annotation::REMOTE_RESOURCE_VERSION.to_owned(), version);
        mirror.metadata.annotations = Some(annotations);
        if let Some(spec) = &mut mirror.spec {
            spec.ports = self.ports.clone();
        }
    }
}
