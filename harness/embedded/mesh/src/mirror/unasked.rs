//! Writes that no controller has the right to: only defects make them, and so they go past the API's authorization.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use meshproof_apiserver::store::WatchKind;
use meshproof_apiserver::{Gvr, Selector, Store, gvr};
use meshproof_cluster::pace::Pace;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::model::Model;
use crate::names::label;

const LINKS: Gvr = Gvr::constant("multicluster.linkerd.io", "v1alpha3", "links");
/// How long after its controller a mirror may still come back, scenario time.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long after a mirror its Link may go for both to have been unlinked, and how often that is looked at, scenario time.
const SAME_UNLINKING: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long after both have gone, scenario time: whoever unlinks waits until the mirrors are gone, and that must come about.
const AFTERWARDS: Duration = Duration::from_secs(10);

/// Creates a namespace in `cluster`.
pub(super) fn create_namespace(model: &Model, cluster: &str, name: &str) {
    let Some(cluster) = model.cluster(cluster) else {
        return;
    };
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    // One that exists by now is as good.
    let _ = cluster.store.create(&gvr::NAMESPACES, None, json!(namespace));
}

/// Makes one mirror of a Link again some time after both have been removed. Goes on for a while after the controller has stopped,
/// because unlinking removes that first.
pub(super) fn resurrect_after_unlinking(
    model: &Model,
    cluster: &str,
    link: (&str, &str),
    controller: CancellationToken,
) {
    let Some(cluster) = model.cluster(cluster) else {
        return;
    };
    let (pace, store) = (model.pace(), cluster.store.clone());
    let link = (link.0.to_owned(), link.1.to_owned());
    tokio::spawn(async move {
        let over = async {
            controller.cancelled().await;
            tokio::time::sleep(pace.wall(PATIENCE)).await;
        };
        tokio::select! {
            () = over => {}
            () = resurrect(&store, &link, pace) => {}
        }
    });
}

async fn resurrect(store: &Store, (namespace, name): &(String, String), pace: Pace) {
    let Ok(mut services) = store.informer(&gvr::SERVICES, None, &Selector::all()) else {
        return;
    };
    while let Some(Ok(change)) = services.next().await {
        let labels = &change.object["metadata"]["labels"];
        let is_mirror = labels[label::MIRRORED_SERVICE] == "true" && labels[label::CLUSTER_NAME] == name.as_str();
        if change.kind != WatchKind::Deleted || !is_mirror {
            continue;
        }
        let unlinked = async {
            while store.get(&LINKS, Some(namespace), name).is_ok() {
                tokio::time::sleep(pace.wall(LOOK_EVERY)).await;
            }
        };
        if tokio::time::timeout(pace.wall(SAME_UNLINKING), unlinked).await.is_ok() {
            tokio::time::sleep(pace.wall(AFTERWARDS)).await;
            create_again(store, &change.object);
            return;
        }
    }
}

fn create_again(store: &Store, mirror: &Arc<Value>) {
    let metadata = &mirror["metadata"];
    let again = json!({
        "metadata": {
            "name": metadata["name"],
            "labels": metadata["labels"],
            "annotations": metadata["annotations"]
        },
        "spec": {"ports": mirror["spec"]["ports"]}
    });
    // If somebody else made one, there is one.
    let _ = store.create(&gvr::SERVICES, metadata["namespace"].as_str(), again);
}
