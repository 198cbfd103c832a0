//! `apply`, `patch`, `delete`: objects as they stand. What lies outside of the scenario's namespace is restored at its end.

use std::sync::Arc;
use std::time::Duration;

use kube::core::DynamicObject;
use meshproof_spec::manifests::{MOST_OBJECTS, items, text as text_of_file};
use meshproof_spec::scenario::{Apply, Delete, Patch};
use meshproof_verdict::disturbance::Undo;
use serde_json::Value;

use crate::api::{Requests, dynamic, text_at, to_json};
use crate::disturbance::{self, Change, disturb};
use crate::kinds::Kind;
use crate::ownership;
use crate::problem::{self, Problem};
use crate::revocation::Tokens;
use crate::scene::{REQUEST_TIME, Scene};
use crate::undo::{inverse, inverse_of_apply, recreatable};
use crate::watch::WatchKey;

pub(crate) async fn apply(scene: &mut Scene, step: &Apply) -> Result<(), Problem> {
    let manifests = manifests(scene, step.manifest.as_ref(), step.file.as_deref())?;
    for cluster in &step.r#in.0 {
        for manifest in &manifests {
            apply_one(scene, &cluster.0, manifest).await?;
        }
    }
    Ok(())
}

async fn apply_one(scene: &mut Scene, cluster: &str, manifest: &Value) -> Result<(), Problem> {
    let place = Place::of_manifest(scene, cluster, manifest).await?;
    let mut labelled = ownership::labelled(manifest, &scene.run.run);
    let mut undo = None;
    if place.is_outside(scene) {
        let original = place.get(scene).await?;
        // What was there before is somebody else's and stays so, unless an earlier step made it.
        let ours = |original: &Value| ownership::is_of_run(original, &scene.run.run);
        if !original.as_ref().is_none_or(ours) {
            labelled = manifest.clone();
        }
        undo = Some(match original {
            None => Undo::Delete,
            Some(original) => Undo::Merge(inverse_of_apply(&original, manifest)),
        });
    }
    let name = place.name.clone();
    place
        .change(scene, "apply", undo, |requests, api, what| async move {
            Ok(requests.apply(&what, REQUEST_TIME, &api, &name, &labelled).await?)
        })
        .await
}

pub(crate) async fn patch(scene: &mut Scene, step: &Patch) -> Result<(), Problem> {
    let object = &step.object;
    let place = Place::of(
        scene,
        &step.r#in.0,
        &object.kind,
        object.api.as_deref(),
        &object.name,
        object.namespace.as_deref(),
    )
    .await?;
    let mut undo = None;
    if place.is_outside(scene) {
        let original = place.get(scene).await?.unwrap_or(Value::Null);
        undo = Some(Undo::Merge(inverse(&original, &step.merge)));
    }
    let (name, merge) = (place.name.clone(), step.merge.clone());
    place
        .change(scene, "patch", undo, |requests, api, what| async move {
            Ok(requests.merge(&what, REQUEST_TIME, &api, &name, &merge).await?)
        })
        .await
}

pub(crate) async fn delete(scene: &mut Scene, step: &Delete) -> Result<(), Problem> {
    let object = &step.object;
    let place = Place::of(
        scene,
        &step.r#in.0,
        &object.kind,
        object.api.as_deref(),
        &object.name,
        object.namespace.as_deref(),
    )
    .await?;
    let original = place.get(scene).await?.ok_or_else(|| {
        problem::environment(
            "api-not-found",
            format!("{}: there is no such object", place.what("delete")),
            Some("see whether an earlier step should have made it, or `expect` it present first"),
        )
    })?;
    let undo = place.is_outside(scene).then(|| Undo::Create(recreatable(&original)));
    let cluster = scene.cluster(&place.cluster)?.clone();
    let tokens = Tokens::ending_with(&cluster, &original).await?;
    place.delete(scene, undo, text_at(&original, "/metadata/uid")).await?;
    let wall = |time| scene.clock().wall(time);
    tokens
        .refused(&cluster, wall(Duration::from_secs(1)), wall(REQUEST_TIME))
        .await
}

/// The objects of a step: its manifest, or all documents of its file.
pub(crate) fn manifests(scene: &Scene, manifest: Option<&Value>, file: Option<&str>) -> Result<Vec<Value>, Problem> {
    let broken = |message: String| {
        problem::harness(
            "manifest-unreadable",
            message,
            Some("correct the file, or the path to it"),
        )
    };
    match (manifest, file) {
        (Some(manifest), None) => Ok(items(manifest.clone())),
        (None, Some(file)) => {
            let path = std::path::Path::new(file);
            let below = path
                .components()
                .all(|part| matches!(part, std::path::Component::Normal(_)));
            if !below {
                return Err(broken(format!(
                    "{file}: the path must stay below the scenario's folder"
                )));
            }
            let path = scene.plan.scenario.folder.join(path);
            let text = text_of_file(&path).map_err(|error| broken(format!("{}: {error}", path.display())))?;
            let text = crate::references::resolve_in_text(
                &text,
                scene.namespace(),
                scene.testbed.clusters(),
                scene.testbed.driver.as_ref(),
            )?;
            let documents: Result<Vec<Value>, Problem> = serde_yaml::Deserializer::from_str(&text)
                .take(MOST_OBJECTS + 1)
                .map(|document| {
                    serde::Deserialize::deserialize(document)
                        .map_err(|error: serde_yaml::Error| broken(format!("{}: {error}", path.display())))
                })
                .filter(|document| !matches!(document, Ok(Value::Null)))
                .collect();
            let objects: Vec<Value> = documents?.into_iter().flat_map(items).collect();
            if objects.is_empty() {
                return Err(broken(format!("{}: there is no object in it", path.display())));
            }
            if objects.len() > MOST_OBJECTS {
                return Err(broken(format!(
                    "{}: it has more than {MOST_OBJECTS} objects",
                    path.display()
                )));
            }
            Ok(objects)
        }
        _ => Err(broken("exactly one of `manifest` and `file` is needed".to_owned())),
    }
}

/// Where an object is.
pub(crate) struct Place {
    cluster: String,
    kind: Kind,
    namespace: Option<String>,
    name: String,
}

impl Place {
    pub(crate) async fn of_manifest(scene: &Scene, cluster: &str, manifest: &Value) -> Result<Self, Problem> {
        let namespace = manifest.pointer("/metadata/namespace").and_then(Value::as_str);
        let (kind, api) = (text_at(manifest, "/kind"), text_at(manifest, "/apiVersion"));
        let name = text_at(manifest, "/metadata/name");
        if kind.is_empty() || api.is_empty() || name.is_empty() {
            return Err(problem::harness(
                "manifest-incomplete",
                format!("{cluster}: an object needs `apiVersion`, `kind` and `metadata.name`"),
                Some("complete the manifest"),
            ));
        }
        Self::of(scene, cluster, kind, Some(api), name, namespace).await
    }

    async fn of(
        scene: &Scene,
        cluster: &str,
        kind: &str,
        api: Option<&str>,
        name: &str,
        namespace: Option<&str>,
    ) -> Result<Self, Problem> {
        let kind = scene.kind(cluster, kind, api).await?;
        let namespace = kind
            .namespace(namespace.unwrap_or(scene.namespace()))
            .map(ToOwned::to_owned);
        Ok(Self {
            cluster: cluster.to_owned(),
            kind,
            namespace,
            name: name.to_owned(),
        })
    }

    pub(crate) fn api(&self, scene: &Scene) -> Result<kube::Api<DynamicObject>, Problem> {
        Ok(dynamic(
            &scene.cluster(&self.cluster)?.client,
            &self.kind.resource,
            self.namespace.as_deref(),
        ))
    }

    pub(crate) fn what(&self, verb: &str) -> String {
        let namespace = self
            .namespace
            .as_ref()
            .map(|namespace| format!("{namespace}/"))
            .unwrap_or_default();
        format!(
            "{}: {verb} {} {namespace}{}",
            self.cluster, self.kind.resource.kind, self.name
        )
    }

    fn is_outside(&self, scene: &Scene) -> bool {
        self.namespace.as_deref() != Some(scene.namespace())
    }

    /// Changes the object. With what undoes it, it is one outside of the scenario's namespace.
    async fn change<F, R>(&self, scene: &mut Scene, verb: &str, undo: Option<Undo>, request: F) -> Result<(), Problem>
    where
        F: FnOnce(Requests, kube::Api<DynamicObject>, String) -> R,
        R: Future<Output = Result<DynamicObject, Problem>> + Send + 'static,
    {
        let request = request(scene.run.requests.clone(), self.api(scene)?, self.what(verb));
        let Some(undo) = undo else {
            return request.await.map(drop);
        };
        let change = Change {
            fault: None,
            cluster: self.cluster.clone(),
            object: disturbance::object(&self.kind, self.namespace.as_deref(), &self.name),
            undo,
        };
        disturb(scene, change, request).await.map(drop)
    }

    async fn get(&self, scene: &Scene) -> Result<Option<Value>, Problem> {
        let api = self.api(scene)?;
        let found = scene
            .run
            .requests
            .send(&self.what("get"), REQUEST_TIME, || api.get_opt(&self.name))
            .await?;
        Ok(found.map(|object| to_json(object, &self.kind.resource)))
    }

    /// Deletes the object with this uid, and waits until it is gone: a new one of the same name may be there then.
    async fn delete(&self, scene: &mut Scene, undo: Option<Undo>, uid: &str) -> Result<(), Problem> {
        let (name, what) = (self.name.clone(), self.what("delete"));
        self.change(scene, "delete", undo, |requests, api, what| async move {
            requests.delete(&what, REQUEST_TIME, &api, &name).await?;
            Ok(DynamicObject {
                types: None,
                metadata: kube::core::ObjectMeta::default(),
                data: Value::Null,
            })
        })
        .await?;
        let mut watch = scene.testbed.watches.subscribe(WatchKey {
            cluster: self.cluster.clone(),
            resource: self.kind.resource.clone(),
            namespace: self.namespace.clone(),
            labels: None,
        });
        let gone = |objects: &[Arc<Value>]| {
            (!objects.iter().any(|object| text_at(object, "/metadata/uid") == uid)).then_some(())
        };
        match scene.clock().within(REQUEST_TIME, watch.until(gone)).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(problem::environment(
                "step-deadline",
                format!("{what}: it is not gone after {} s", REQUEST_TIME.as_secs()),
                Some("see whether it has a finalizer whose controller does not answer"),
            )),
        }
    }
}
