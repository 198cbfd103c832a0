//! `fault` and `heal`. Every fault is healed, and its end verified, at the latest when its scenario ends.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use meshproof_spec::scenario::{Fault, LinkSubject};
use serde_json::json;

use crate::api::{ErrorClass, dynamic};
use crate::driver::Undo;
use crate::environment::NetworkFault;
use crate::kinds::known;
use crate::problem::{self, Problem};
use crate::scene::{REQUEST_TIME, Scene};

/// Time for a fault to begin or to be over (scenario time).
const FAULT_TIME: Duration = Duration::from_secs(60);
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
    /// A stolen lease.
    Lease {
        /// Cluster.
        cluster: String,
        /// Namespace of the Lease.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Rights that were taken away.
    Rights {
        /// Cluster.
        cluster: String,
        /// What gives them back.
        undo: Undo,
    },
    /// Something that happened once and is over.
    Past,
}

pub(crate) async fn fault(scene: &mut Scene, step: &Fault) -> Result<(), Problem> {
    let begun = begin(scene, step);
    let clock = scene.clock();
    let active = clock.within(FAULT_TIME, begun).await.unwrap_or_else(|_| {
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

async fn begin(scene: &Scene, step: &Fault) -> Result<ActiveFault, Problem> {
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
    if let Some(LinkSubject { from, to }) = &step.steal_lease {
        return steal(scene, &from.0, &to.0).await;
    }
    if let Some(deny) = &step.deny_writes {
        let cluster = scene.cluster(&deny.from.0)?;
        let undo = scene
            .testbed
            .driver
            .deny_writes(cluster, &deny.to.0, &deny.verbs)
            .await?;
        return Ok(ActiveFault::Rights {
            cluster: deny.from.0.clone(),
            undo,
        });
    }
    Err(problem::harness(
        "fault-incomplete",
        format!("the fault `{}` has no kind", step.name),
        Some("run `meshproof lint` on the file"),
    ))
}

async fn steal(scene: &Scene, from: &str, to: &str) -> Result<ActiveFault, Problem> {
    let lease = scene.testbed.driver.lease(to);
    let now = jiff::Timestamp::now();
    let renewed = now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    patch_lease(
        scene,
        from,
        &lease.namespace,
        &lease.name,
        &json!({"spec": {"holderIdentity": THIEF, "renewTime": renewed}}),
    )
    .await?;
    Ok(ActiveFault::Lease {
        cluster: from.to_owned(),
        namespace: lease.namespace,
        name: lease.name,
    })
}

async fn patch_lease(
    scene: &Scene,
    cluster: &str,
    namespace: &str,
    name: &str,
    merge: &serde_json::Value,
) -> Result<(), Problem> {
    let leases = dynamic(
        &scene.cluster(cluster)?.client,
        &known("Lease").resource,
        Some(namespace),
    );
    let what = format!("{cluster}: patch Lease {namespace}/{name}");
    scene
        .run
        .requests
        .merge(&what, REQUEST_TIME, &leases, name, merge)
        .await?;
    Ok(())
}

/// Ends a fault and verifies that it is over. A fault that can't be healed stays listed, for the next try.
pub(crate) async fn heal(scene: &mut Scene, name: &str) -> Result<(), Problem> {
    let Some(active) = scene.faults.remove(name) else {
        return Err(problem::harness(
            "unknown-fault",
            format!("there is no active fault `{name}`"),
            Some("run `meshproof lint` on the file"),
        ));
    };
    let clock = scene.clock();
    let healed = clock.within(FAULT_TIME, end(scene, &active)).await.unwrap_or_else(|_| {
        Err(problem::environment(
            "fault-not-healed",
            format!("the fault `{name}` is not over within {} s", FAULT_TIME.as_secs()),
            Some("bring the environment down and up again before the next run"),
        ))
    });
    if let ActiveFault::Network {
        blinds: Some(cluster), ..
    } = &active
        && healed.is_ok()
    {
        scene.testbed.watches.set_blind(cluster, None);
    }
    if healed.is_err() {
        scene.faults.insert(name.to_owned(), active);
    }
    healed
}

async fn end(scene: &Scene, active: &ActiveFault) -> Result<(), Problem> {
    match active {
        ActiveFault::Network { fault, .. } => fault.heal().await,
        ActiveFault::Lease {
            cluster,
            namespace,
            name,
        } => give_back(scene, cluster, namespace, name).await,
        ActiveFault::Rights { cluster, undo } => {
            let client = &scene.cluster(cluster)?.client;
            for (resource, namespace, name, merge) in &undo.patches {
                let api = dynamic(client, resource, namespace.as_deref());
                let what = format!("{cluster}: {}: patch {} {name}", undo.description, resource.kind);
                scene.run.requests.merge(&what, REQUEST_TIME, &api, name, merge).await?;
            }
            Ok(())
        }
        ActiveFault::Past => Ok(()),
    }
}

/// Frees a lease if the thief still holds it.
async fn give_back(scene: &Scene, cluster: &str, namespace: &str, name: &str) -> Result<(), Problem> {
    let leases: Api<Lease> = Api::namespaced(scene.cluster(cluster)?.client.clone(), namespace);
    let what = format!("{cluster}: get Lease {namespace}/{name}");
    let lease = match scene.run.requests.send(&what, REQUEST_TIME, || leases.get(name)).await {
        Ok(lease) => lease,
        Err(error) if error.class == ErrorClass::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if lease.spec.and_then(|spec| spec.holder_identity).as_deref() != Some(THIEF) {
        return Ok(());
    }
    patch_lease(
        scene,
        cluster,
        namespace,
        name,
        &json!({"spec": {"holderIdentity": ""}}),
    )
    .await
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
