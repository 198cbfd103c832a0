//! `scale`, `restart` and `behave`: what happens to pods that were deployed, or that belong to the mesh.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::try_join_all;
use meshproof_agent::protocol::Behavior;
use meshproof_spec::scalar::Name;
use meshproof_spec::scenario::{Behave, Component, Restart, Scale};
use meshproof_verdict::disturbance::Undo;
use serde_json::{Value, json};

use super::deploy;
use crate::agents::{self, unreachable_agent};
use crate::api::{dynamic, text_at};
use crate::disturbance::{self, Change, disturb};
use crate::driver::WorkloadRef;
use crate::kinds::known;
use crate::problem::{self, Problem};
use crate::scene::{REQUEST_TIME, Scene, WORKLOAD_TIME, Workload, is_ready};

/// A Deployment that a step is about.
struct Subject {
    cluster: String,
    reference: WorkloadRef,
    /// What was deployed; nothing for a part of the mesh.
    workload: Option<Workload>,
}

pub(crate) async fn scale(scene: &mut Scene, step: &Scale) -> Result<(), Problem> {
    let named = step.service.as_ref().or(step.client.as_ref());
    let subject = subject(scene, named, step.component, step.of.as_ref(), &step.r#in)?;
    // What a pod saw is lost with it.
    scene.read_servers().await;
    if subject.workload.is_none() {
        scale_component(scene, &subject, step.to).await?;
    } else {
        patch(scene, &subject, "scale", &json!({"spec": {"replicas": step.to}})).await?;
    }
    match &subject.workload {
        Some(workload) => deploy::ready(scene, workload, step.to).await,
        None => component_ready(scene, &subject, step.to).await,
    }
}

/// A part of the mesh gets its replicas back when the scenario is over.
async fn scale_component(scene: &mut Scene, subject: &Subject, to: u32) -> Result<(), Problem> {
    let deployment = deployment(scene, subject).await?;
    let replicas = deployment.pointer("/spec/replicas").cloned().unwrap_or(Value::from(1));
    let kind = known("Deployment");
    let WorkloadRef { namespace, name } = subject.reference.clone();
    let api = dynamic(
        &scene.cluster(&subject.cluster)?.client,
        &kind.resource,
        Some(&namespace),
    );
    let change = Change {
        fault: None,
        cluster: subject.cluster.clone(),
        object: disturbance::object(&kind, Some(&namespace), &name),
        undo: Undo::Merge(json!({"spec": {"replicas": replicas}})),
    };
    let what = format!("{}: scale Deployment {namespace}/{name}", subject.cluster);
    let requests = scene.run.requests.clone();
    let request = async move {
        let merge = json!({"spec": {"replicas": to}});
        Ok(requests.merge(&what, REQUEST_TIME, &api, &name, &merge).await?)
    };
    disturb(scene, change, request).await.map(drop)
}

pub(crate) async fn restart(scene: &mut Scene, step: &Restart) -> Result<(), Problem> {
    let named = step.service.as_ref().or(step.client.as_ref());
    let subject = subject(scene, named, step.component, step.of.as_ref(), &step.r#in)?;
    scene.read_servers().await;
    let before = deployment(scene, &subject).await?;
    let selector = selector(&before);
    let old: BTreeSet<String> = {
        let selector = selector.clone();
        scene
            .wait_for(
                &subject.cluster,
                "Pod",
                &subject.reference.namespace,
                REQUEST_TIME,
                "list pods",
                |pods| {
                    Some(
                        pods.iter()
                            .filter(|pod| selected(pod, &selector))
                            .map(|pod| uid(pod))
                            .collect(),
                    )
                },
            )
            .await?
    };
    let at = jiff::Timestamp::now().to_string();
    let template = json!({"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": at}}});
    patch(scene, &subject, "restart", &json!({"spec": {"template": template}})).await?;
    let replicas = before.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
    let what = format!("new pods of {}", subject.reference.name);
    scene
        .wait_for(
            &subject.cluster,
            "Pod",
            &subject.reference.namespace,
            WORKLOAD_TIME,
            &what,
            |pods| {
                let own: Vec<_> = pods.iter().filter(|pod| selected(pod, &selector)).collect();
                let new = own.iter().all(|pod| !old.contains(&uid(pod)) && is_ready(pod));
                (new && own.len() as u64 == replicas).then_some(())
            },
        )
        .await?;
    match &subject.workload {
        Some(workload) => deploy::ready(scene, workload, u32::try_from(replicas).unwrap_or(u32::MAX)).await,
        None => Ok(()),
    }
}

pub(crate) async fn behave(scene: &Scene, step: &Behave) -> Result<(), Problem> {
    let behavior = Behavior {
        delay_ms: step
            .delay
            .map_or(0, |delay| super::traffic::wall_ms(scene.clock(), delay.0)),
        status: step.status,
        status_share: None,
        close: step.close,
        unready: step.unready,
    };
    let behavior = &behavior;
    try_join_all(step.r#in.0.iter().map(|cluster| async move {
        let pods = scene.pods(&cluster.0, &step.service.0).await?;
        if pods.is_empty() {
            return Err(problem::environment(
                "no-ready-pod",
                format!(
                    "{cluster}: `{}` has no pod that could be told how to behave",
                    step.service
                ),
                Some("deploy it with replicas before"),
            ));
        }
        for (pod, _) in pods {
            let clock = scene.clock();
            let told = clock.within(REQUEST_TIME, async {
                let mut client = agents::connect(scene.cluster(&cluster.0)?, &pod, &scene.run.requests).await?;
                client
                    .set_behavior(behavior)
                    .await
                    .map_err(|error| unreachable_agent(&pod, &error.to_string()))
            });
            told.await
                .unwrap_or_else(|_| Err(unreachable_agent(&pod, "it did not answer in time")))?;
        }
        // Readiness takes a probe to be noticed.
        let ready = !step.unready;
        let what = format!(
            "pods of `{}` to be {}",
            step.service,
            if ready { "ready" } else { "unready" }
        );
        scene
            .wait_for(
                &cluster.0,
                "Pod",
                scene.namespace(),
                WORKLOAD_TIME,
                &what,
                |pods: &[Arc<Value>]| {
                    pods.iter()
                        .filter(|pod| crate::scene::is_of(pod, &step.service.0))
                        .all(|pod| is_ready(pod) == ready)
                        .then_some(())
                },
            )
            .await
    }))
    .await
    .map(drop)
}

fn subject(
    scene: &Scene,
    named: Option<&Name>,
    component: Option<Component>,
    of: Option<&Name>,
    cluster: &Name,
) -> Result<Subject, Problem> {
    scene.cluster(&cluster.0)?;
    if let Some(component) = component {
        let reference = scene.testbed.driver.component(component, of.map(|of| of.0.as_str()));
        return Ok(Subject {
            cluster: cluster.0.clone(),
            reference,
            workload: None,
        });
    }
    let workload = named.and_then(|name| scene.workloads(&name.0, Some(&cluster.0)).first().copied().cloned());
    match workload {
        Some(workload) => Ok(Subject {
            cluster: cluster.0.clone(),
            reference: WorkloadRef {
                namespace: scene.namespace().to_owned(),
                name: workload.name.clone(),
            },
            workload: Some(workload),
        }),
        None => Err(problem::harness(
            "unknown-workload",
            format!(
                "{cluster}: `{}` is not deployed there",
                named.map_or("nothing", |name| name.0.as_str())
            ),
            Some("run `meshproof lint` on the file"),
        )),
    }
}

async fn deployment(scene: &Scene, subject: &Subject) -> Result<Value, Problem> {
    let kind = known("Deployment");
    let client = &scene.cluster(&subject.cluster)?.client;
    let api = dynamic(client, &kind.resource, Some(&subject.reference.namespace));
    let WorkloadRef { namespace, name } = &subject.reference;
    let what = format!("{}: get Deployment {namespace}/{name}", subject.cluster);
    let object = scene.run.requests.send(&what, REQUEST_TIME, || api.get(name)).await?;
    Ok(crate::api::to_json(object, &kind.resource))
}

async fn patch(scene: &Scene, subject: &Subject, verb: &str, merge: &Value) -> Result<(), Problem> {
    let kind = known("Deployment");
    let client = &scene.cluster(&subject.cluster)?.client;
    let WorkloadRef { namespace, name } = &subject.reference;
    let api = dynamic(client, &kind.resource, Some(namespace));
    let what = format!("{}: {verb} Deployment {namespace}/{name}", subject.cluster);
    scene.run.requests.merge(&what, REQUEST_TIME, &api, name, merge).await?;
    Ok(())
}

/// Waits until a part of the mesh has exactly this many pods, all ready.
async fn component_ready(scene: &Scene, subject: &Subject, replicas: u32) -> Result<(), Problem> {
    let selector = selector(&deployment(scene, subject).await?);
    let what = format!("{replicas} ready pods of {}", subject.reference.name);
    scene
        .wait_for(
            &subject.cluster,
            "Pod",
            &subject.reference.namespace,
            WORKLOAD_TIME,
            &what,
            |pods| {
                let own: Vec<_> = pods.iter().filter(|pod| selected(pod, &selector)).collect();
                (own.len() == replicas as usize && own.iter().all(|pod| is_ready(pod))).then_some(())
            },
        )
        .await
}

fn selector(deployment: &Value) -> Vec<(String, String)> {
    deployment
        .pointer("/spec/selector/matchLabels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}

fn selected(pod: &Value, selector: &[(String, String)]) -> bool {
    let labels = pod.pointer("/metadata/labels");
    selector
        .iter()
        .all(|(key, value)| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str) == Some(value))
}

fn uid(object: &Value) -> String {
    text_at(object, "/metadata/uid").to_owned()
}
