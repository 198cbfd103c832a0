//! `fault` and `heal`. Every fault is healed, and its end verified, at the latest when its scenario ends; and every fault proves
//! that it took effect.

use std::time::Duration;

use kube::core::DynamicObject;
use meshproof_spec::scenario::{AccessSubject, Fault, LinkSubject};
use meshproof_verdict::disturbance::Undo;
use meshproof_verdict::question::Observation;
use serde_json::{Value, json};

use crate::api::dynamic;
use crate::disturbance::{self, Change, disturb};
use crate::driver::ObjectChange;
use crate::environment::NetworkFault;
use crate::expect::access;
use crate::kinds::{Kind, known};
use crate::problem::{self, Problem, without_effect};
use crate::scene::{REQUEST_TIME, Scene};

/// Time for a fault to begin or to be over (scenario time).
const FAULT_TIME: Duration = Duration::from_secs(60);
/// Time for a change of rights to reach the server's own view of them (scenario time): it watches them as others do.
const RIGHTS_TIME: Duration = Duration::from_secs(10);
/// Between two looks at rights (wall time): there is nothing to watch.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Who holds a stolen lease.
const THIEF: &str = "meshproof-thief";

/// A fault that is not healed yet.
pub(crate) enum ActiveFault {
    /// Of the network between clusters, or of an API server. Dropping it ends it as well, unverified.
    Network {
        /// Its handle.
        fault: Box<dyn NetworkFault>,
        /// Cluster that can't be seen while it lasts.
        blinds: Option<String>,
    },
    /// Changes of objects, which the scenario's disturbances have under its name.
    Objects(Proof),
    /// Something that happened once and is over.
    Past,
}

/// What shows that changes of objects are in force, or no more.
#[derive(Clone)]
pub(crate) enum Proof {
    /// Who holds a Lease.
    Holder {
        /// Cluster.
        cluster: String,
        /// Namespace of the Lease.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// What the API server says of these rights.
    Rights(Vec<AccessSubject>),
}

pub(crate) async fn fault(scene: &mut Scene, step: &Fault) -> Result<(), Problem> {
    let clock = scene.clock();
    let begun = clock.within(FAULT_TIME, begin(scene, step));
    let active = begun.await.unwrap_or_else(|_| {
        Err(problem::environment(
            "step-deadline",
            format!(
                "the fault `{}` did not begin within {} s",
                step.name,
                FAULT_TIME.as_secs()
            ),
            None,
        ))
    })?;
    if let ActiveFault::Network {
        blinds: Some(cluster), ..
    } = &active
    {
        let reason = format!("fault `{}`: the API server of {cluster} does not answer", step.name);
        scene.testbed.watches.set_blind(cluster, Some(reason));
    }
    scene.faults.insert(step.name.0.clone(), active);
    Ok(())
}

async fn begin(scene: &mut Scene, step: &Fault) -> Result<ActiveFault, Problem> {
    if let Some(LinkSubject { from, to }) = &step.steal_lease {
        return steal(scene, &step.name.0, &from.0, &to.0).await;
    }
    if let Some(deny) = &step.deny_writes {
        return take_rights(scene, &step.name.0, &deny.from.0, &deny.to.0, &deny.verbs).await;
    }
    let running = scene.testbed.running.as_ref();
    let network = |fault| ActiveFault::Network { fault, blinds: None };
    if let Some(LinkSubject { from, to }) = &step.partition {
        return running.partition(&from.0, &to.0).await.map(network);
    }
    if let Some(delay) = &step.delay {
        return running.delay(&delay.from.0, &delay.to.0, delay.by.0).await.map(network);
    }
    if let Some(LinkSubject { from, to }) = &step.reset {
        return running.reset(&from.0, &to.0).await.map(|()| ActiveFault::Past);
    }
    if let Some(cluster) = &step.pause_api {
        let fault = running.pause_api(&cluster.0).await?;
        return Ok(ActiveFault::Network {
            fault,
            blinds: Some(cluster.0.clone()),
        });
    }
    Err(problem::harness(
        "fault-incomplete",
        format!("the fault `{}` has no kind", step.name),
        Some("run `meshproof lint` on the file"),
    ))
}

async fn steal(scene: &mut Scene, fault: &str, from: &str, to: &str) -> Result<ActiveFault, Problem> {
    let lease = scene.testbed.driver.lease(to);
    let now = jiff::Timestamp::now();
    let renewed = now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let change = Change {
        fault: Some(fault.to_owned()),
        cluster: from.to_owned(),
        object: disturbance::object(&known("Lease"), Some(&lease.namespace), &lease.name),
        undo: Undo::Release {
            holder: THIEF.to_owned(),
        },
    };
    let merge = json!({"spec": {"holderIdentity": THIEF, "renewTime": renewed}});
    merge_into(scene, change, &known("Lease"), merge).await?;
    let proof = Proof::Holder {
        cluster: from.to_owned(),
        namespace: lease.namespace,
        name: lease.name,
    };
    prove(scene, fault, &proof, true).await?;
    Ok(ActiveFault::Objects(proof))
}

async fn take_rights(
    scene: &mut Scene,
    fault: &str,
    from: &str,
    to: &str,
    verbs: &[String],
) -> Result<ActiveFault, Problem> {
    let cluster = scene.cluster(from)?.clone();
    let driver = scene.testbed.driver.clone();
    let denial = driver.deny_writes(&cluster, to, verbs).await?;
    for ObjectChange {
        resource,
        namespace,
        name,
        merge,
        undo,
    } in denial.changes
    {
        let kind = Kind {
            namespaced: namespace.is_some(),
            resource,
        };
        let change = Change {
            fault: Some(fault.to_owned()),
            cluster: from.to_owned(),
            object: disturbance::object(&kind, namespace.as_deref(), &name),
            undo: Undo::Merge(undo),
        };
        merge_into(scene, change, &kind, merge).await?;
    }
    let proof = Proof::Rights(denial.denied);
    prove(scene, fault, &proof, true).await?;
    Ok(ActiveFault::Objects(proof))
}

/// Merges into an object outside of the scenario's namespace.
async fn merge_into(scene: &mut Scene, change: Change, kind: &Kind, merge: Value) -> Result<DynamicObject, Problem> {
    let client = &scene.cluster(&change.cluster)?.client;
    let api = dynamic(client, &kind.resource, change.object.namespace.as_deref());
    let what = format!("{}: patch {}", change.cluster, change.object);
    let (requests, name) = (scene.run.requests.clone(), change.object.name.clone());
    let request = async move { Ok(requests.merge(&what, REQUEST_TIME, &api, &name, &merge).await?) };
    disturb(scene, change, request).await
}

/// Looks whether changes of objects are in force, or over.
async fn prove(scene: &Scene, fault: &str, proof: &Proof, in_force: bool) -> Result<(), Problem> {
    let clock = scene.clock();
    match proof {
        Proof::Holder {
            cluster,
            namespace,
            name,
        } => {
            let api = dynamic(
                &scene.cluster(cluster)?.client,
                &known("Lease").resource,
                Some(namespace),
            );
            let what = format!("{cluster}: get Lease {namespace}/{name}");
            let lease = scene
                .run
                .requests
                .send(&what, REQUEST_TIME, || api.get_opt(name))
                .await?;
            let holder = lease
                .as_ref()
                .and_then(|lease| lease.data.pointer("/spec/holderIdentity"))
                .and_then(Value::as_str)
                .unwrap_or("nobody");
            if (holder == THIEF) == in_force {
                return Ok(());
            }
            Err(effect(
                fault,
                in_force,
                &format!("{cluster}: the Lease {namespace}/{name} is held by {holder}"),
            ))
        }
        Proof::Rights(rights) => {
            let mut last = None;
            let settled = async {
                loop {
                    let mut wrong = None;
                    for right in rights {
                        if let Observation::Access { allowed, .. } = access(scene, right).await?
                            && allowed == in_force
                        {
                            wrong = Some(right);
                            break;
                        }
                    }
                    if wrong.is_none() {
                        return Ok(());
                    }
                    last = wrong;
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            };
            match clock.within(RIGHTS_TIME, settled).await {
                Ok(answer) => answer,
                Err(_) => {
                    let right = last.map_or_else(String::new, |right| {
                        format!("{} {} {}", right.user, right.verb, right.resource)
                    });
                    let may = if in_force { "may" } else { "may not" };
                    Err(effect(
                        fault,
                        in_force,
                        &format!("the API server says that this {may} be done: {right}"),
                    ))
                }
            }
        }
    }
}

fn effect(fault: &str, in_force: bool, found: &str) -> Problem {
    if in_force {
        return without_effect(&format!("the fault `{fault}`"), found);
    }
    problem::environment(
        "fault-not-healed",
        format!("the fault `{fault}` is not over: {found}"),
        Some("see who changed it meanwhile"),
    )
}

/// Ends a fault and verifies that it is over. A fault that can't be healed, or whose healing is given up, stays listed for the
/// next try.
pub(crate) async fn heal(scene: &mut Scene, name: &str) -> Result<(), Problem> {
    let clock = scene.clock();
    let healed = clock.within(FAULT_TIME, end(scene, name)).await.unwrap_or_else(|_| {
        Err(problem::environment(
            "fault-not-healed",
            format!("the fault `{name}` is not over within {} s", FAULT_TIME.as_secs()),
            Some("bring the environment down and up again before the next run"),
        ))
    });
    healed?;
    if let Some(ActiveFault::Network {
        blinds: Some(cluster), ..
    }) = scene.faults.remove(name)
    {
        scene.testbed.watches.set_blind(&cluster, None);
    }
    Ok(())
}

async fn end(scene: &mut Scene, name: &str) -> Result<(), Problem> {
    match scene.faults.get(name) {
        Some(ActiveFault::Network { fault, .. }) => fault.heal().await,
        Some(ActiveFault::Objects(proof)) => {
            let proof = proof.clone();
            let (_, failed) = disturbance::undo(scene, Some(name)).await;
            if let Some((_, problem)) = failed.into_iter().next() {
                return Err(problem);
            }
            prove(scene, name, &proof, false).await
        }
        Some(ActiveFault::Past) => Ok(()),
        None => Err(problem::harness(
            "unknown-fault",
            format!("there is no active fault `{name}`"),
            Some("run `meshproof lint` on the file"),
        )),
    }
}

/// Heals everything that is not healed; the problems of those that can't be.
pub(crate) async fn heal_all(scene: &mut Scene) -> Vec<Problem> {
    let names: Vec<String> = scene.faults.keys().cloned().collect();
    let mut problems = Vec::new();
    for name in names {
        if let Err(problem) = heal(scene, &name).await {
            problems.push(problem);
        }
    }
    problems
}
