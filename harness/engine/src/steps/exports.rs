//! `export` and `unexport`, and what is remembered of them: how a service is reached from other clusters depends on it.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use meshproof_spec::scalar::{Clusters, Name};
use meshproof_spec::scenario::{Export, ExportMode, Unexport};

use crate::api::dynamic;
use crate::kinds::known;
use crate::problem::{self, Problem};
use crate::scene::{REQUEST_TIME, Scene};

/// Modes in which services are exported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exports(BTreeMap<(String, String), ExportMode>);

impl Exports {
    fn add(&mut self, cluster: &str, service: &str, mode: ExportMode) {
        let known = self.0.entry((cluster.to_owned(), service.to_owned())).or_insert(mode);
        // What is exported by itself, too, keeps a name of its own in other clusters; `service@cluster` is that one.
        if mode != ExportMode::Federated {
            *known = mode;
        }
    }

    /// How `service` of `cluster` is reached from other clusters. What no step exports carries the mesh's own labels, if
    /// any, and counts as exported through the gateway; what is not exported any more keeps the way that it had.
    pub(crate) fn mode(&self, cluster: &str, service: &str) -> ExportMode {
        let key = (cluster.to_owned(), service.to_owned());
        self.0.get(&key).copied().unwrap_or_default()
    }
}

pub(crate) async fn export(scene: &mut Scene, step: &Export) -> Result<(), Problem> {
    patch_services(scene, &step.service, &step.from, Some(step.mode)).await?;
    for cluster in &step.from.0 {
        scene.exports.add(&cluster.0, &step.service.0, step.mode);
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::Exports;
    use meshproof_spec::scenario::ExportMode::{Federated, Flat, Gateway};

    #[test]
    fn the_mode_of_a_service_is_that_of_its_own_mirror() {
        let mut exports = Exports::default();
        assert_eq!(exports.mode("east", "store"), Gateway);
        exports.add("east", "store", Federated);
        assert_eq!(exports.mode("east", "store"), Federated);
        exports.add("east", "store", Flat);
        exports.add("east", "store", Federated);
        assert_eq!(exports.mode("east", "store"), Flat);
        assert_eq!(exports.mode("north", "store"), Gateway);
    }
}
