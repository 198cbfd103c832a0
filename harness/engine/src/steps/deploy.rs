//! `deploy`: a service or a client, as a Deployment of agents.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::try_join_all;
use meshproof_agent::protocol::{CONTROL_PORT, HTTP_PORT, TCP_PORT};
use meshproof_spec::scenario::{Deploy, PortProtocol};
use serde_json::{Value, json};

use crate::api::{dynamic, text_at};
use crate::kinds::known;
use crate::ownership::{MANAGED_BY, MANAGED_LABEL, RUN_LABEL};
use crate::problem::{self, Problem};
use crate::scene::{DEFAULT_PORT, Port, REQUEST_TIME, Scene, WORKLOAD_LABEL, WORKLOAD_TIME, Workload, is_of, is_ready};

/// How long an agent may take to end its requests when its pod is deleted, seconds of scenario time.
const GRACE_SECONDS: u32 = 5;
/// The same as the agent is told it: a second less, so that it ends by itself.
const DRAIN_MS: u32 = (GRACE_SECONDS - 1) * 1000;

pub(crate) async fn deploy(scene: &mut Scene, step: &Deploy) -> Result<(), Problem> {
    let (name, is_client) = match (&step.service, &step.client) {
        (Some(service), None) => (service.0.clone(), false),
        (None, Some(client)) => (client.0.clone(), true),
        _ => {
            return Err(problem::harness(
                "deploy-incomplete",
                "`deploy` needs exactly one of `service` and `client`",
                Some("run `meshproof lint` on the file"),
            ));
        }
    };
    let replicas = step.replicas.unwrap_or(1);
    let new: Vec<Workload> = step
        .r#in
        .0
        .iter()
        .map(|cluster| Workload {
            cluster: cluster.0.clone(),
            name: name.clone(),
            is_client,
            meshed: step.meshed.unwrap_or(true),
            ports: if is_client { Vec::new() } else { ports(step) },
        })
        .collect();
    for workload in &new {
        hold_watches(scene, &workload.cluster);
    }
    scene.workloads.extend(new.iter().cloned());
    let scene = &*scene;
    try_join_all(new.iter().map(|workload| async move {
        for (kind, object) in objects(scene, workload, step, replicas) {
            create(scene, &workload.cluster, kind, object).await?;
        }
        ready(scene, workload, replicas).await
    }))
    .await
    .map(drop)
}

/// Keeps the pods of the scenario in sight from now on: every step asks for them.
fn hold_watches(scene: &mut Scene, cluster: &str) {
    if scene.held.iter().any(|held| held.key().cluster == cluster) {
        return;
    }
    for kind in ["Pod", "Deployment"] {
        let mut subscription = scene.watch(cluster, kind);
        subscription.hold();
        scene.held.push(subscription);
    }
}

fn ports(step: &Deploy) -> Vec<Port> {
    if step.ports.is_empty() {
        return vec![Port {
            name: "http".to_owned(),
            port: DEFAULT_PORT,
            target: HTTP_PORT,
            protocol: PortProtocol::Http,
        }];
    }
    step.ports
        .iter()
        .map(|port| {
            let protocol = port.protocol.unwrap_or(PortProtocol::Http);
            Port {
                name: port.name.0.clone(),
                port: port.port,
                target: port.target.unwrap_or(match protocol {
                    PortProtocol::Http => HTTP_PORT,
                    PortProtocol::Tcp => TCP_PORT,
                }),
                protocol,
            }
        })
        .collect()
}

/// The objects of a workload in the order in which they are made.
fn objects(scene: &Scene, workload: &Workload, step: &Deploy, replicas: u32) -> Vec<(&'static str, Value)> {
    let labels = labels(scene, &workload.name);
    let metadata = json!({"name": workload.name, "namespace": scene.namespace(), "labels": labels});
    let mut objects = vec![(
        "ServiceAccount",
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
    )];
    if !workload.is_client {
        objects.push(("Service", service(scene, workload, step)));
    }
    objects.push((
        "Deployment",
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {WORKLOAD_LABEL: workload.name}},
                "template": pod_template(scene, workload, &labels),
            },
        }),
    ));
    objects
}

fn labels(scene: &Scene, workload: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (WORKLOAD_LABEL.to_owned(), workload.to_owned()),
        (MANAGED_LABEL.to_owned(), MANAGED_BY.to_owned()),
        (RUN_LABEL.to_owned(), scene.run.run.clone()),
    ])
}

fn service(scene: &Scene, workload: &Workload, step: &Deploy) -> Value {
    let opaque: Vec<u16> = workload
        .ports
        .iter()
        .filter(|port| port.protocol == PortProtocol::Tcp)
        .map(|port| port.port)
        .collect();
    let mut annotations = scene.testbed.driver.service_annotations(&opaque);
    annotations.extend(step.annotations.clone());
    let mut labels = labels(scene, &workload.name);
    labels.extend(step.labels.clone());
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": workload.name,
            "namespace": scene.namespace(),
            "labels": labels,
            "annotations": annotations,
        },
        "spec": {
            "selector": {WORKLOAD_LABEL: workload.name},
            "ports": workload.ports.iter().map(|port| json!({
                "name": port.name,
                "port": port.port,
                "targetPort": port.target,
                "protocol": "TCP",
            })).collect::<Vec<_>>(),
        },
    })
}

fn pod_template(scene: &Scene, workload: &Workload, labels: &BTreeMap<String, String>) -> Value {
    let list = |wanted: PortProtocol| {
        let mut ports: Vec<u16> = workload
            .ports
            .iter()
            .filter(|port| port.protocol == wanted)
            .map(|port| port.target)
            .collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    };
    let text = |ports: &[u16]| match ports {
        [] => "none".to_owned(),
        ports => ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    };
    let (http, tcp) = (list(PortProtocol::Http), list(PortProtocol::Tcp));
    // Declared, because a mesh may apply policy only to ports that it knows of.
    let mut container_ports = vec![json!({"name": "control", "containerPort": CONTROL_PORT, "protocol": "TCP"})];
    container_ports.extend(
        http.iter()
            .chain(&tcp)
            .map(|port| json!({"name": format!("port-{port}"), "containerPort": port, "protocol": "TCP"})),
    );
    json!({
        "metadata": {
            "labels": labels,
            "annotations": scene.testbed.driver.pod_annotations(workload.meshed),
        },
        "spec": {
            "serviceAccountName": workload.name,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "containers": [{
                "name": "agent",
                "image": scene.run.agent_image,
                "imagePullPolicy": "IfNotPresent",
                "args": [
                    "--http-ports", text(&http),
                    "--tcp-ports", text(&tcp),
                    "--control-port", CONTROL_PORT.to_string(),
                    "--drain-ms", DRAIN_MS.to_string(),
                ],
                "env": [
                    {"name": "CLUSTER", "value": workload.cluster},
                    {"name": "NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
                    {"name": "WORKLOAD", "value": workload.name},
                    {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "NONCE", "value": scene.run.nonce},
                ],
                "ports": container_ports,
                "readinessProbe": {
                    "httpGet": {"path": "/ready", "port": CONTROL_PORT},
                    "periodSeconds": 1,
                },
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
            }],
        },
    })
}

async fn create(scene: &Scene, cluster: &str, kind: &str, object: Value) -> Result<(), Problem> {
    let kind = known(kind);
    let client = &scene.cluster(cluster)?.client;
    let api = dynamic(client, &kind.resource, kind.namespace(scene.namespace()));
    let name = text_at(&object, "/metadata/name").to_owned();
    let what = format!("{cluster}: apply {} {}/{name}", kind.resource.kind, scene.namespace());
    scene
        .run
        .requests
        .apply(&what, REQUEST_TIME, &api, &name, &object)
        .await?;
    Ok(())
}

/// Waits until a workload has exactly this many pods, all ready, and its Service leads to exactly these.
pub(crate) async fn ready(scene: &Scene, workload: &Workload, replicas: u32) -> Result<(), Problem> {
    let what = format!("{replicas} ready pods of `{}`", workload.name);
    let wanted = replicas as usize;
    let (cluster, namespace) = (&workload.cluster, scene.namespace());
    scene
        .wait_for(
            cluster,
            "Pod",
            namespace,
            WORKLOAD_TIME,
            &what,
            |pods: &[Arc<Value>]| {
                let own: Vec<_> = pods.iter().filter(|pod| is_of(pod, &workload.name)).collect();
                (own.len() == wanted && own.iter().all(|pod| is_ready(pod))).then_some(())
            },
        )
        .await?;
    if workload.is_client {
        return Ok(());
    }
    let what = format!("{replicas} ready endpoints of Service `{}`", workload.name);
    scene
        .wait_for(
            cluster,
            "EndpointSlice",
            namespace,
            WORKLOAD_TIME,
            &what,
            |slices: &[Arc<Value>]| {
                let ready: usize = slices
                    .iter()
                    .filter(|slice| is_slice_of(slice, &workload.name))
                    .map(|slice| ready_endpoints(slice))
                    .sum();
                (ready == wanted).then_some(())
            },
        )
        .await
}

fn is_slice_of(slice: &Value, service: &str) -> bool {
    let label = |name: &str| {
        slice
            .pointer("/metadata/labels")
            .and_then(|labels| labels.get(name))
            .and_then(Value::as_str)
    };
    label("kubernetes.io/service-name") == Some(service) && text_at(slice, "/addressType") != "IPv6"
}

fn ready_endpoints(slice: &Value) -> usize {
    slice
        .pointer("/endpoints")
        .and_then(Value::as_array)
        .map_or(0, |endpoints| {
            endpoints
                .iter()
                .filter(|endpoint| endpoint.pointer("/conditions/ready") != Some(&Value::Bool(false)))
                .count()
        })
}
