//! `export` and `unexport`.

use futures::future::try_join_all;
use meshproof_spec::scalar::{Clusters, Name};
use meshproof_spec::scenario::{Export, ExportMode, Unexport};

use crate::api::dynamic;
use crate::kinds::known;
use crate::problem::{self, Problem};
use crate::scene::{REQUEST_TIME, Scene};

pub(crate) async fn export(scene: &Scene, step: &Export) -> Result<(), Problem> {
    patch_services(scene, &step.service, &step.from, Some(step.mode)).await
}

pub(crate) async fn unexport(scene: &Scene, step: &Unexport) -> Result<(), Problem> {
    patch_services(scene, &step.service, &step.from, None).await
}

async fn patch_services(
    scene: &Scene,
    service: &Name,
    clusters: &Clusters,
    mode: Option<ExportMode>,
) -> Result<(), Problem> {
    let merge = scene.testbed.driver.export_patch(mode).map_err(|message| {
        problem::harness(
            "unsupported-export",
            message,
            Some("choose an export mode that the mesh knows"),
        )
    })?;
    let merge = &merge;
    try_join_all(clusters.0.iter().map(|cluster| async move {
        let kind = known("Service");
        let client = &scene.cluster(&cluster.0)?.client;
        let api = dynamic(client, &kind.resource, kind.namespace(scene.namespace()));
        let verb = if mode.is_some() { "export" } else { "unexport" };
        let what = format!("{cluster}: {verb} Service {}/{service}", scene.namespace());
        scene
            .run
            .requests
            .merge(&what, REQUEST_TIME, &api, &service.0, merge)
            .await?;
        Ok::<(), Problem>(())
    }))
    .await
    .map(drop)
}
