//! Writes that no controller has the right to: only defects make them, and so they go past the API's authorization.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::ResourceExt;
use meshproof_apiserver::{Store, gvr};
use serde_json::json;

use crate::model::Model;

/// How long an unlinked mirror is waited for, and how often it is looked for, scenario time.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Creates a namespace in `cluster`.
pub(super) fn create_namespace(model: &Model, cluster: &str, name: &str) {
    let Some(cluster) = model.cluster(cluster) else {
        return;
    };
    let namespace = Namespace {
        metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
            name: Some(name.to_owned()),
            ..Default::default()
        },
        ..Namespace::default()
    };
    // One that exists by now is as good.
    let _ = cluster.store.create(&gvr::NAMESPACES, None, json!(namespace));
}

/// Makes `mirror` again as soon as it and its Link have been removed from `cluster`. Gives up when they stay.
pub(super) fn resurrect(model: &Model, cluster: &str, link: (&str, &str), mirror: Service) {
    let Some(cluster) = model.cluster(cluster) else {
        return;
    };
    let pace = model.pace();
    let (link_namespace, link_name) = (link.0.to_owned(), link.1.to_owned());
    let store = cluster.store.clone();
    tokio::spawn(async move {
        let (namespace, name) = (mirror.namespace().unwrap_or_default(), mirror.name_any());
        let removed = async {
            while is_there(&store, &links(), &link_namespace, &link_name)
                || is_there(&store, &gvr::SERVICES, &namespace, &name)
            {
                tokio::time::sleep(pace.wall(LOOK_EVERY)).await;
            }
        };
        if tokio::time::timeout(pace.wall(PATIENCE), removed).await.is_ok() {
            let _ = store.create(&gvr::SERVICES, Some(&namespace), json!(mirror));
        }
    });
}

fn links() -> meshproof_apiserver::Gvr {
    meshproof_apiserver::Gvr::constant("multicluster.linkerd.io", "v1alpha3", "links")
}

fn is_there(store: &Store, resource: &meshproof_apiserver::Gvr, namespace: &str, name: &str) -> bool {
    store.get(resource, Some(namespace), name).is_ok()
}
