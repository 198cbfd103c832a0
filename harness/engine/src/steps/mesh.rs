//! `link`, `unlink`, `install`, `upgrade`, `uninstall`, `rotate`: what the mesh's driver does by the mesh's own procedures.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use meshproof_spec::scenario::{InstallStep, LinkStep, Rotate};
use meshproof_verdict::record::{Event, MeshUpgraded};

use crate::problem::{self, Problem};
use crate::scene::Scene;
use crate::testbed;

/// Time for a procedure that takes something away or replaces it (scenario time): a little more than drivers wait for one thing
/// (300 s), because they know better what they waited for.
const REMOVAL_TIME: Duration = Duration::from_secs(330);

pub(crate) async fn link(scene: &Scene, step: &LinkStep) -> Result<(), Problem> {
    let (from, to) = (scene.cluster(&step.from.0)?, scene.cluster(&step.to.0)?);
    let bed = &scene.testbed;
    testbed::link(bed.driver.as_ref(), from, to, &bed.plan, &scene.run.requests).await?;
    testbed::await_link(bed.driver.as_ref(), from, to, &bed.plan, &scene.run.requests).await
}

pub(crate) async fn unlink(scene: &Scene, step: &LinkStep) -> Result<(), Problem> {
    let (from, to) = (scene.cluster(&step.from.0)?, scene.cluster(&step.to.0)?);
    within(scene, "unlink", scene.testbed.driver.unlink(from, to)).await
}

pub(crate) async fn install(scene: &Scene, step: &InstallStep) -> Result<(), Problem> {
    let bed = &scene.testbed;
    try_join_all(step.r#in.0.iter().map(|cluster| async move {
        testbed::install(
            bed.driver.as_ref(),
            scene.cluster(&cluster.0)?,
            &bed.plan,
            &scene.run.requests,
        )
        .await
    }))
    .await
    .map(drop)
}

/// One cluster after another, in the order in which they are written, as an operator would.
pub(crate) async fn upgrade(scene: &mut Scene, step: &InstallStep) -> Result<(), Problem> {
    for name in &step.r#in.0 {
        let bed = Arc::clone(&scene.testbed);
        let cluster = scene.cluster(&name.0)?;
        let upgraded = testbed::upgrade(&bed, cluster, &scene.run.requests).await?;
        let with_mesh = |version: &str| format!("{} {version}", bed.driver.name());
        let (from, to) = (with_mesh(&upgraded.from), with_mesh(&upgraded.to));
        let release = bed.driver.release(&upgraded.to);
        scene.run.journal.note(Event::MeshUpgraded(MeshUpgraded {
            scenario: scene.key().to_owned(),
            step: scene.step,
            cluster: name.0.clone(),
            from,
            to,
            release,
        }));
    }
    Ok(())
}

pub(crate) async fn uninstall(scene: &Scene, step: &InstallStep) -> Result<(), Problem> {
    try_join_all(step.r#in.0.iter().map(|cluster| async move {
        let cluster = scene.cluster(&cluster.0)?;
        within(scene, "uninstall", scene.testbed.driver.uninstall(cluster)).await
    }))
    .await
    .map(drop)
}

pub(crate) async fn rotate(scene: &Scene, step: &Rotate) -> Result<(), Problem> {
    let driver = scene.testbed.driver.as_ref();
    if let Some(link) = &step.credentials {
        let (from, to) = (scene.cluster(&link.from.0)?, scene.cluster(&link.to.0)?);
        within(scene, "rotate credentials", driver.rotate_credentials(from, to)).await?;
    }
    let Some(trust) = step.trust else { return Ok(()) };
    let clusters = step.r#in.iter().flat_map(|clusters| &clusters.0);
    try_join_all(clusters.map(|cluster| async move {
        let cluster = scene.cluster(&cluster.0)?;
        within(scene, "rotate certificates", driver.rotate_trust(cluster, trust)).await
    }))
    .await
    .map(drop)
}

async fn within(
    scene: &Scene,
    what: &str,
    procedure: impl Future<Output = Result<(), Problem>>,
) -> Result<(), Problem> {
    scene.clock().within(REMOVAL_TIME, procedure).await.unwrap_or_else(|_| {
        Err(problem::mesh(
            "step-deadline",
            format!("{what}: not done within {} s", REMOVAL_TIME.as_secs()),
            Some("see the events and logs of the mesh's pods"),
        ))
    })
}
