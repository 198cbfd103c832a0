//! Where observations of objects and inventories come from: watches.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream;
use meshproof_verdict::question::Observation;
use serde_json::Value;

use super::{Seen, Source};
use crate::api::text_at;
use crate::lower::ObjectsLook;
use crate::problem::{self, Problem};
use crate::scene::Scene;
use crate::watch::{Subscription, View, WatchKey};

/// All objects that a check looks at: now, and at each change of any of them.
pub(super) async fn objects(scene: &Scene, look: &ObjectsLook) -> Result<Source, Problem> {
    let kind = scene.kind(&look.cluster, &look.kind, look.api.as_deref()).await?;
    let subscription = scene.testbed.watches.subscribe(WatchKey {
        cluster: look.cluster.clone(),
        namespace: look
            .namespace
            .as_deref()
            .and_then(|namespace| kind.namespace(namespace))
            .map(ToOwned::to_owned),
        resource: kind.resource,
        labels: look.labels.clone(),
    });
    Ok(changes(subscription, look.name.clone()))
}

/// What a subscription shows of the objects with a name (or of all), whenever that differs from what it showed before.
fn changes(subscription: Subscription, name: Option<String>) -> Source {
    stream::unfold(
        (subscription, name, None),
        |(mut subscription, name, mut last)| async move {
            loop {
                let seen = match subscription.next().await {
                    View::Objects(objects) => {
                        let selected: Vec<&Arc<Value>> = objects
                            .iter()
                            .filter(|object| {
                                name.as_ref()
                                    .is_none_or(|name| text_at(object, "/metadata/name") == name.as_str())
                            })
                            .collect();
                        let content: Vec<Value> = selected.iter().map(|object| content(object)).collect();
                        if last.as_ref() == Some(&content) {
                            continue;
                        }
                        last = Some(content);
                        Seen::Saw(Observation::Objects(
                            selected.into_iter().map(|object| Value::clone(object)).collect(),
                        ))
                    }
                    View::Blind { reason } => {
                        last = None;
                        Seen::Saw(Observation::Blind { reason })
                    }
                    View::Refused(error) => Seen::Lost(error.into()),
                };
                return Some((seen, (subscription, name, last)));
            }
        },
    )
    .boxed()
}

/// What makes an object differ from what it was.
fn content(object: &Value) -> Value {
    let mut content = object.clone();
    if let Some(metadata) = content.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
    }
    content
}

/// Whether clusters hold what an inventory remembered.
pub(super) fn unchanged(scene: &Scene, since: &str, clusters: &[String]) -> Result<Source, Problem> {
    let expected = scene.inventories.get(since).cloned().ok_or_else(|| {
        problem::harness(
            "unknown-inventory",
            format!("there is no inventory `{since}`"),
            Some("run `meshproof lint` on the file"),
        )
    })?;
    let mut expected = expected;
    expected.entries.retain(|entry, _| clusters.contains(&entry.cluster));
    Ok(crate::inventory_watch::differences(
        scene,
        clusters.to_vec(),
        expected,
        |_, _, object| !crate::inventory::is_lease(object),
    ))
}

/// Objects in `from` that belong to the link to `to`.
pub(super) fn link_residue(scene: &Scene, from: &str, to: &str) -> Source {
    let to = to.to_owned();
    crate::inventory_watch::differences(
        scene,
        vec![from.to_owned()],
        crate::inventory::Inventory::default(),
        move |driver, cluster, object| driver.owner(cluster, object) == crate::driver::Owner::Link(to.clone()),
    )
}

/// Objects in some clusters that belong to the mesh.
pub(super) fn mesh_residue(scene: &Scene, clusters: &[String]) -> Source {
    crate::inventory_watch::differences(
        scene,
        clusters.to_vec(),
        crate::inventory::Inventory::default(),
        |driver, cluster, object| driver.owner(cluster, object) != crate::driver::Owner::Nobody,
    )
}
