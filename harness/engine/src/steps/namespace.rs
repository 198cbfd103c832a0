//! The scenario's namespace: `namespace`, and its first creation in the other clusters.

use std::sync::Arc;

use kube::api::PostParams;
use kube::core::DynamicObject;
use meshproof_spec::scalar::Clusters;
use serde_json::{Value, json};

use crate::api::{self, ErrorClass, dynamic, text_at};
use crate::kinds::known;
use crate::ownership::{RUN_LABEL, delete_own, labelled};
use crate::problem::{self, Problem};
use crate::scene::{REQUEST_TIME, Scene};

/// Makes the scenario's namespace in all clusters except those where it shall be absent at first.
pub(crate) async fn create_first(scene: &mut Scene) -> Result<(), Problem> {
    let absent = scene.plan.scenario.scenario.namespace.absent_in.clone();
    let clusters: Vec<String> = scene
        .testbed
        .clusters()
        .iter()
        .map(|cluster| cluster.name.clone())
        .filter(|name| {
            !absent
                .as_ref()
                .is_some_and(|absent| absent.0.iter().any(|other| other.0 == *name))
        })
        .collect();
    for cluster in clusters {
        create(scene, &cluster).await?;
    }
    Ok(())
}

/// `namespace`
pub(crate) async fn create_in(scene: &mut Scene, clusters: &Clusters) -> Result<(), Problem> {
    for cluster in &clusters.0 {
        create(scene, &cluster.0).await?;
    }
    Ok(())
}

/// Makes the namespace, and waits until pods can be made in it: until its default ServiceAccount is there.
async fn create(scene: &mut Scene, name: &str) -> Result<(), Problem> {
    let namespace = scene.namespace().to_owned();
    let object = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": namespace,
            "annotations": scene.testbed.driver.namespace_annotations(),
        },
    });
    let kind = known("Namespace");
    let cluster = scene.cluster(name)?.clone();
    // Known from now on, so that it is removed whatever happens to the request.
    scene.namespaces.push(name.to_owned());
    let api = dynamic(&cluster.client, &kind.resource, None);
    let what = format!("{name}: create Namespace {namespace}");
    let parameters = PostParams::default();
    let object: DynamicObject = serde_json::from_value(labelled(&object, &scene.run.run)).map_err(|error| {
        problem::harness(
            "namespace",
            error.to_string(),
            Some("report this as a defect of meshproof"),
        )
    })?;
    match scene
        .run
        .requests
        .send(&what, REQUEST_TIME, || api.create(&parameters, &object))
        .await
    {
        Ok(_) => {}
        Err(error) if error.class == ErrorClass::AlreadyExists => {
            return Err(problem::environment(
                "namespace-exists",
                format!("{name}: the namespace {namespace} exists already"),
                Some("another run uses this id, or an earlier one left it: `meshproof gc`"),
            ));
        }
        Err(error) => return Err(error.into()),
    }
    scene
        .wait_for(
            name,
            "ServiceAccount",
            &namespace,
            REQUEST_TIME,
            "ServiceAccount default",
            |objects| {
                objects
                    .iter()
                    .any(|object| text_at(object, "/metadata/name") == "default")
                    .then_some(())
            },
        )
        .await
}

/// Deletes the namespace in a cluster, if this run made it, and waits until it is gone.
pub(crate) async fn delete(scene: &Scene, name: &str) -> Result<(), Problem> {
    let namespace = scene.namespace().to_owned();
    let kind = known("Namespace");
    let cluster = scene.cluster(name)?;
    let api = dynamic(&cluster.client, &kind.resource, None);
    let what = format!("{name}: delete Namespace {namespace}");
    let run = &scene.run;
    if !delete_own(&run.requests, &what, REQUEST_TIME, &api, &namespace, &run.run).await? {
        return Ok(());
    }
    let gone = |objects: &[Arc<Value>]| {
        (!objects
            .iter()
            .any(|object| text_at(object, "/metadata/name") == namespace))
        .then_some(())
    };
    let mut watch = scene.testbed.watches.subscribe(crate::watch::WatchKey {
        cluster: name.to_owned(),
        resource: kind.resource.clone(),
        namespace: None,
        labels: Some(format!("{RUN_LABEL}={}", scene.run.run)),
    });
    match scene
        .clock()
        .within(crate::scene::WORKLOAD_TIME, watch.until(gone))
        .await
    {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(problem::environment(
            "namespace-stuck",
            format!(
                "{name}: the namespace {namespace} is not gone {} s after its deletion",
                crate::scene::WORKLOAD_TIME.as_secs()
            ),
            Some("see which objects in it have finalizers whose controller does not answer"),
        )),
    }
}

/// Objects with this name in the cluster's view, for people.
#[must_use]
pub(crate) fn named(cluster: &str, object: &Value) -> String {
    format!("{cluster} {} {}", text_at(object, "/kind"), api::full_name(object))
}
