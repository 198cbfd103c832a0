//! What a scenario changes outside of its namespace. What undoes a change is known, in memory and in the journal, before the
//! request that makes it; and a request that was made is never let go of before its end is known.
//!
//! Clusters of a scenario's own are nobody else's, and go away whole: changes in them are undone too while they are there, and
//! are not written down.

use std::sync::atomic::Ordering;
use std::time::Duration;

use kube::core::DynamicObject;
use meshproof_verdict::disturbance::{DisturbedObject, Undo};
use meshproof_verdict::record::{Disturbed, Event, Restored};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::kinds::Kind;
use crate::panics::isolated;
use crate::problem::{self, Problem};
use crate::restoring::{restore, writable};
use crate::scene::{REQUEST_TIME, Scene};

/// How long the end of a request is waited for before what it did is undone (wall time). It is answered sooner, unless the API
/// server does not answer at all.
const SETTLING: Duration = Duration::from_secs(5);
/// Time for undoing one change when the user is waiting for the end (wall time).
const HURRY: Duration = Duration::from_secs(10);

/// A change that is not undone.
pub(crate) struct Disturbance {
    id: u64,
    /// Name of the fault that it belongs to.
    fault: Option<String>,
    /// Cluster.
    pub(crate) cluster: String,
    /// What is changed.
    pub(crate) object: DisturbedObject,
    /// What undoes it.
    pub(crate) undo: Undo,
    /// The request, until its end is known.
    request: Option<JoinHandle<()>>,
}

impl std::fmt::Display for Disturbance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} {}", self.cluster, self.undo, self.object)
    }
}

/// Changes that are not undone, in the order in which they were made.
#[derive(Default)]
pub(crate) struct Disturbances(Vec<Disturbance>);

/// What is changed, and what undoes it.
pub(crate) struct Change {
    /// Name of the fault that it belongs to.
    pub(crate) fault: Option<String>,
    /// Cluster.
    pub(crate) cluster: String,
    /// The object.
    pub(crate) object: DisturbedObject,
    /// What undoes it.
    pub(crate) undo: Undo,
}

/// An object of a kind, by namespace and name.
#[must_use]
pub(crate) fn object(kind: &Kind, namespace: Option<&str>, name: &str) -> DisturbedObject {
    DisturbedObject {
        api_version: kind.resource.api_version.clone(),
        kind: kind.resource.kind.clone(),
        plural: kind.resource.plural.clone(),
        namespace: namespace.map(ToOwned::to_owned),
        name: name.to_owned(),
    }
}

/// Makes a change outside of the scenario's namespace: remembers and writes down what undoes it, then lets `request` go.
/// Whoever drops this does not drop the request: its end is waited for before it is undone.
///
/// # Errors
/// The request's; or that it was not made, because what undoes it can't be kept.
pub(crate) async fn disturb<R>(scene: &mut Scene, change: Change, request: R) -> Result<DynamicObject, Problem>
where
    R: Future<Output = Result<DynamicObject, Problem>> + Send + 'static,
{
    let id = scene.run.disturbances.fetch_add(1, Ordering::Relaxed) + 1;
    let place = scene.disturbances.0.len();
    let event = (change.cluster.clone(), change.object.clone(), change.undo.clone());
    scene.disturbances.0.push(Disturbance {
        id,
        fault: change.fault,
        cluster: change.cluster,
        object: change.object,
        undo: change.undo,
        request: None,
    });
    if !scene.testbed.plan.own {
        let (cluster, object, undo) = event;
        let redactor = scene.run.journal.redactor();
        let undo = writable(redactor, scene.run.private_dir.as_deref(), id, &object, &undo).inspect_err(|_| {
            // Nothing was changed.
            scene.disturbances.0.truncate(place);
        })?;
        let scenario = scene.key().to_owned();
        let event = Event::Disturbed(Disturbed {
            scenario,
            id,
            cluster,
            object,
            undo,
        });
        scene.run.journal.durable(event).await.inspect_err(|_| {
            scene.disturbances.0.truncate(place);
        })?;
    }
    let (sender, answer) = oneshot::channel();
    let task = tokio::spawn(async move {
        // Nobody may be waiting any more.
        let _ = sender.send(request.await);
    });
    if let Some(disturbance) = scene.disturbances.0.get_mut(place) {
        disturbance.request = Some(task);
    }
    answer.await.unwrap_or_else(|_| {
        Err(problem::harness(
            "request-lost",
            "a request ended without an answer",
            Some("report this as a defect of meshproof"),
        ))
    })
}

/// Undoes what was changed, the last change first: all of it, or what belongs to one fault. What could not be undone stays
/// listed. Returns what was undone, and what could not be.
pub(crate) async fn undo(scene: &mut Scene, fault: Option<&str>) -> (Vec<Disturbance>, Vec<(String, Problem)>) {
    let (mut undone, mut failed) = (Vec::new(), Vec::new());
    let mut rest = scene.disturbances.0.len();
    while rest > 0 {
        rest -= 1;
        let of_fault = scene.disturbances.0.get(rest).and_then(|one| one.fault.as_deref());
        if fault.is_some() && of_fault != fault {
            continue;
        }
        let undoing = isolated("undoing a change", undo_one(scene, rest)).await;
        match undoing.and_then(|undone| undone) {
            // Only now: whoever drops this finds it listed.
            Ok(()) => {
                let disturbance = scene.disturbances.0.remove(rest);
                if !scene.testbed.plan.own {
                    scene.run.journal.note(Event::Restored(Restored {
                        scenario: scene.key().to_owned(),
                        id: disturbance.id,
                    }));
                }
                undone.push(disturbance);
            }
            Err(problem) => failed.push((
                scene
                    .disturbances
                    .0
                    .get(rest)
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                problem,
            )),
        }
    }
    (undone, failed)
}

async fn undo_one(scene: &mut Scene, place: usize) -> Result<(), Problem> {
    if let Some(request) = scene.disturbances.0.get_mut(place).and_then(|one| one.request.as_mut())
        && tokio::time::timeout(SETTLING, &mut *request).await.is_err()
    {
        request.abort();
        // Ended by now, whatever it says.
        let _ = request.await;
    }
    if let Some(disturbance) = scene.disturbances.0.get_mut(place) {
        disturbance.request = None;
    }
    let Some(disturbance) = scene.disturbances.0.get(place) else {
        return Ok(());
    };
    let clock = scene.clock();
    let within = if scene.run.interrupts.stopping() {
        HURRY.mul_f64(clock.pace()).min(REQUEST_TIME)
    } else {
        REQUEST_TIME
    };
    let client = &scene.cluster(&disturbance.cluster)?.client;
    let (object, undo) = (&disturbance.object, &disturbance.undo);
    restore(
        &scene.run.requests,
        client,
        object,
        undo,
        &scene.run.run,
        scene.run.private_dir.as_deref(),
        within,
    )
    .await
    .map_err(|mut problem| {
        problem.message = format!("{}: {}", disturbance.cluster, problem.message);
        problem
    })
}
