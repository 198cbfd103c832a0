//! The end of a scenario: faults healed, traffic stopped, everything that it made removed, and that verified.

use std::sync::Arc;

use futures::future::join_all;
use meshproof_verdict::disturbance::Undo;
use meshproof_verdict::record::{CleanedUp, Event, ProblemClass};
use serde_json::Value;

use crate::api::{ErrorClass, dynamic, text_at, to_json};
use crate::disturbance::{self, Disturbance};
use crate::panics::isolated;
use crate::plan::locks::is_cluster_scoped;
use crate::plan::{Thing, Use};
use crate::problem::Problem;
use crate::restoring::resource_of;
use crate::scene::{REQUEST_TIME, Scene, WORKLOAD_TIME};
use crate::steps::{fault, namespace, traffic};
use crate::watch::WatchKey;

/// How much is to be cleaned up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Everything, and verified.
    Everything,
    /// Only faults are healed and what is outside of the namespace is undone: the rest is kept on purpose, and others go on in
    /// these clusters.
    Keep,
    /// Only faults are healed and what is outside of the namespace is undone: the user is in a hurry.
    HealOnly,
    /// Faults are healed; the clusters go away whole.
    ClustersGo,
}

/// Ends a scenario, writes down how that went, and never hides what went wrong before. Its parts don't depend on each other:
/// what goes wrong in one of them, a panic too, does not keep the others from being done.
pub(crate) async fn clean_up(scene: &mut Scene, extent: Extent) {
    let (mut left, mut problems) = (Vec::new(), Vec::new());
    match isolated("healing faults", fault::heal_all(scene)).await {
        Ok(unhealed) => problems.extend(unhealed),
        Err(problem) => problems.push(problem),
    }
    let mut undone = Vec::new();
    if extent != Extent::ClustersGo {
        let (done, failed) = disturbance::undo(scene, None).await;
        undone = done;
        for (what, problem) in failed {
            left.push(what);
            problems.push(problem);
        }
    }
    let interrupts = scene.run.interrupts.clone();
    let hurried = async {
        if extent == Extent::HealOnly {
            std::future::pending::<()>().await;
        }
        interrupts.hurried().await;
    };
    tokio::select! {
        biased;
        () = hurried => problems.push(not_waited_for()),
        () = remove(scene, extent, &undone, &mut left, &mut problems) => {}
    }
    // Nothing was tried to remove what the scenario made.
    if extent == Extent::HealOnly {
        problems.push(not_waited_for());
    }
    left.sort_unstable();
    left.dedup();
    let problem = together(problems);
    let kept = extent == Extent::Keep;
    let awake = scene.awake(problem.as_ref().is_some_and(Problem::is_of_time)).await;
    scene.run.journal.note(Event::CleanedUp(CleanedUp {
        scenario: scene.key().to_owned(),
        left,
        problem,
        kept,
        awake,
    }));
}

fn not_waited_for() -> Problem {
    Problem {
        class: ProblemClass::Interrupted,
        code: "interrupted".to_owned(),
        message: "the user did not wait for everything to be removed".to_owned(),
        remedy: Some("remove what is left: `meshproof gc`".to_owned()),
    }
}

/// Removes what the scenario made, and waits until it is gone and what was undone is as it was.
async fn remove(
    scene: &mut Scene,
    extent: Extent,
    undone: &[Disturbance],
    left: &mut Vec<String>,
    problems: &mut Vec<Problem>,
) {
    match isolated("stopping traffic", end_traffic(scene, extent)).await {
        Ok(running) => problems.extend(running),
        Err(problem) => problems.push(problem),
    }
    if matches!(extent, Extent::Everything | Extent::Keep) {
        for disturbance in undone {
            let settled = isolated("waiting for what was undone", await_undone(scene, disturbance));
            if let Err(problem) = settled.await.and_then(|settled| settled) {
                left.push(disturbance.to_string());
                problems.push(problem);
            }
        }
    }
    if extent != Extent::Everything {
        return;
    }
    scene.held.clear();
    let scene = &*scene;
    let deleted = join_all(scene.namespaces.iter().map(|cluster| async move {
        isolated("deleting a namespace", namespace::delete(scene, cluster))
            .await
            .and_then(|deleted| deleted)
            .map_err(|problem| (cluster.clone(), problem))
    }))
    .await;
    for (cluster, problem) in deleted.into_iter().filter_map(Result::err) {
        left.push(format!("{cluster} Namespace {}", scene.namespace()));
        problems.push(problem);
    }
    let rest = async {
        scene.run.panics.here(scene.key(), "cleanup");
        let found = leftovers(scene).await?;
        await_disturbed_links(scene).await.map(|()| found)
    };
    match isolated("looking for what is left", rest).await.and_then(|found| found) {
        Ok(found) => left.extend(found),
        Err(problem) => problems.push(problem),
    }
}

/// Ends traffic that still runs; the problems of that which can't be ended.
async fn end_traffic(scene: &mut Scene, extent: Extent) -> Vec<Problem> {
    let names: Vec<String> = scene.traffic.keys().cloned().collect();
    let mut problems = Vec::new();
    for name in names {
        if extent == Extent::HealOnly {
            // The job ends with the connection that its rows come over.
            if let Some(running) = scene.traffic.get_mut(&name) {
                running.pump = None;
            }
        } else if let Err(problem) = traffic::stop_traffic(scene, &name).await {
            problems.push(problem);
        }
    }
    problems
}

/// One problem that names all. An incomplete cleanup is nobody's broken promise: it is an error of the environment.
fn together(problems: Vec<Problem>) -> Option<Problem> {
    let mut problems = problems.into_iter();
    let mut first = problems.next()?;
    if first.class == ProblemClass::Mesh {
        first.class = ProblemClass::Environment;
    }
    for other in problems {
        first.message = format!("{}; also: {}", first.message, other.message);
    }
    Some(first)
}

/// Waits until a deleted object is gone, or a restored Deployment has its pods again.
async fn await_undone(scene: &Scene, undone: &Disturbance) -> Result<(), Problem> {
    let is_deployment = undone.object.kind == "Deployment";
    if !matches!(undone.undo, Undo::Delete) && !is_deployment {
        return Ok(());
    }
    let mut watch = scene.testbed.watches.subscribe(WatchKey {
        cluster: undone.cluster.clone(),
        resource: resource_of(&undone.object),
        namespace: undone.object.namespace.clone(),
        labels: None,
    });
    let condition = |objects: &[Arc<Value>]| {
        let object = objects
            .iter()
            .find(|object| text_at(object, "/metadata/name") == undone.object.name);
        match (&undone.undo, object) {
            (Undo::Delete, object) => object.is_none().then_some(()),
            (_, Some(deployment)) => is_rolled_out(deployment).then_some(()),
            (_, None) => None,
        }
    };
    match scene.clock().within(WORKLOAD_TIME, watch.until(condition)).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(crate::problem::environment(
            "not-restored",
            format!("{undone}: not done after {} s", WORKLOAD_TIME.as_secs()),
            Some("bring the environment down and up again before the next run"),
        )),
    }
}

fn is_rolled_out(deployment: &Value) -> bool {
    let number = |pointer: &str| deployment.pointer(pointer).and_then(Value::as_u64);
    let wanted = number("/spec/replicas").unwrap_or(1);
    number("/status/observedGeneration") >= number("/metadata/generation")
        && number("/status/readyReplicas").unwrap_or(0) == wanted
        && number("/status/replicas").unwrap_or(0) == wanted
}

/// Objects of the mesh that are still, or again, in the scenario's namespace. Secrets are not looked for: no mesh makes any
/// in a scenario's namespace, and the right to list them is the right to read them.
async fn leftovers(scene: &Scene) -> Result<Vec<String>, Problem> {
    let namespace = scene.namespace();
    let mut left = Vec::new();
    for cluster in scene.testbed.clusters() {
        for resource in scene.testbed.driver.kinds() {
            if is_cluster_scoped(&resource.kind) || resource.kind == "Secret" {
                continue;
            }
            let api = dynamic(&cluster.client, &resource, Some(namespace));
            let what = format!("{}: list {}", cluster.name, resource.plural);
            let parameters = kube::api::ListParams::default();
            let objects = match scene
                .run
                .requests
                .send(&what, REQUEST_TIME, || api.list(&parameters))
                .await
            {
                Ok(objects) => objects,
                Err(error) if error.class == ErrorClass::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            left.extend(
                objects
                    .items
                    .into_iter()
                    .map(|object| namespace::named(&cluster.name, &to_json(object, &resource))),
            );
        }
    }
    Ok(left)
}

/// Whoever comes next finds the links that this scenario disturbed ready again.
async fn await_disturbed_links(scene: &Scene) -> Result<(), Problem> {
    let bed = &scene.testbed;
    if bed.plan.setup.bare || bed.plan.setup.unlinked {
        return Ok(());
    }
    let disturbed = |from: &str, to: &str| {
        scene.plan.locks.iter().any(|(thing, used)| {
            used == Use::Exclusive
                && match thing {
                    Thing::Cluster(cluster) | Thing::ControlPlane(cluster) => cluster == from || cluster == to,
                    Thing::Gateway(cluster) => cluster == to,
                    Thing::Link { from: one, to: other } => one == from && other == to,
                }
        })
    };
    for link in &bed.plan.topology.links {
        if disturbed(&link.from.0, &link.to.0) {
            let (from, to) = (bed.cluster(&link.from.0)?, bed.cluster(&link.to.0)?);
            crate::testbed::await_link(bed.driver.as_ref(), from, to, &bed.plan, &scene.run.requests).await?;
        }
    }
    Ok(())
}
