//! Clusters that were kept are empty when they are taken over, or made anew, and it is told why.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::api::{Patch, PatchParams};
use meshproof_engine::api::{FIELD_MANAGER, dynamic, full_name};
use meshproof_engine::environment::{Environment as _, RunningEnvironment};
use meshproof_engine::kinds;
use rstest::rstest;
use serde_json::{Value, json};

use super::lab::{Lab, SOON, pair};
use crate::kind::KindOptions;
use crate::kind::clearing::requests;
use crate::kind::contents::Contents;

/// What a mesh may leave in a cluster.
fn left_by_a_mesh() -> Vec<Value> {
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "mesh-reader"});
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "mesh"}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "controller", "namespace": "mesh"}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "controller", "namespace": "mesh"},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "controller"}},
                "template": {"metadata": {"labels": {"app": "controller"}},
                    "spec": {"containers": [{"name": "pause", "image": "registry.k8s.io/pause:3.10"}]}}}}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "mesh-reader"}, "rules": rules}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "mesh-reader"}, "roleRef": role,
            "subjects": [{"kind": "ServiceAccount", "name": "controller", "namespace": "mesh"}]}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "mesh-auth-reader", "namespace": "kube-system"}, "roleRef": role,
            "subjects": [{"kind": "ServiceAccount", "name": "controller", "namespace": "mesh"}]}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "default"},
            "data": {"a": "b"}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop", "namespace": "default"},
            "spec": {"ports": [{"port": 80}]}}),
        json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "shop", "namespace": "default"},
            "subsets": [{"addresses": [{"ip": "10.9.8.7"}], "ports": [{"port": 80}]}]}),
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "helds.mesh.example"}, "spec": definition("mesh.example", "Namespaced", "Held", "helds")}),
        json!({"apiVersion": "mesh.example/v1", "kind": "Held", "metadata": {"name": "one", "namespace": "default"}}),
        json!({"apiVersion": "mesh.example/v1", "kind": "Held", "metadata": {"name": "two", "namespace": "mesh"}}),
    ]
}

fn definition(group: &str, scope: &str, kind: &str, plural: &str) -> Value {
    json!({
        "group": group, "scope": scope,
        "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")},
        "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
    })
}

async fn apply(client: &Client, objects: &[Value]) {
    for object in objects {
        let kind = object["kind"].as_str().unwrap();
        let resource = match kinds::own(kind) {
            Some(own) => own.resource,
            None => kube::core::ApiResource {
                group: "mesh.example".to_owned(),
                version: "v1".to_owned(),
                api_version: "mesh.example/v1".to_owned(),
                kind: kind.to_owned(),
                plural: "helds".to_owned(),
            },
        };
        let api = dynamic(client, &resource, object["metadata"]["namespace"].as_str());
        let (name, how) = (
            object["metadata"]["name"].as_str().unwrap(),
            PatchParams::apply(FIELD_MANAGER).force(),
        );
        api.patch(name, &how, &Patch::Apply(object))
            .await
            .unwrap_or_else(|error| panic!("{object}: {error}"));
    }
}

fn kept(lab: &Lab) -> KindOptions {
    let mut options = lab.options();
    (options.keep, options.reuse) = (true, true);
    options.waits.clear = SOON;
    options
}

/// Brings the clusters up, and tells what the harness had to tell.
async fn up(lab: &Lab, options: &KindOptions) -> (Arc<dyn RunningEnvironment>, Vec<String>) {
    let kind = lab.kind(options.clone());
    let running = kind.up(&pair()).await.unwrap();
    (running, kind.notes())
}

async fn names(running: &Arc<dyn RunningEnvironment>, cluster: usize) -> Vec<String> {
    let cluster = &running.clusters()[cluster];
    let contents = Contents::of(&requests(), cluster).await.unwrap();
    contents.note().into_keys().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_was_put_into_kept_clusters_is_removed() {
    let lab = Lab::start().await;
    let options = kept(&lab);
    let (running, _) = up(&lab, &options).await;
    let before = names(&running, 0).await;
    apply(&running.clusters()[0].client, &left_by_a_mesh()).await;
    let with_mesh = names(&running, 0).await;
    for name in [
        "Namespace mesh",
        "RoleBinding.rbac.authorization.k8s.io kube-system/mesh-auth-reader",
        "Held.mesh.example default/one",
    ] {
        assert!(with_mesh.iter().any(|there| there == name), "{name}: {with_mesh:?}");
    }
    running.down().await.unwrap();
    drop(running);

    let (running, notes) = up(&lab, &options).await;
    assert_eq!(notes, [""; 0]);
    assert_eq!(lab.ran("kind create cluster"), 2, "they are taken over");
    assert_eq!(names(&running, 0).await, before);
    running.down().await.unwrap();
}

/// Something that is done to a cluster, and why it is not taken over then.
#[rstest]
#[case::in_a_namespace(
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "kept", "namespace": "default", "finalizers": ["example.com/hold"]}}),
    "could not be removed within 2 s: ConfigMap default/kept (finalizers example.com/hold)"
)]
#[case::with_its_namespace(
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "kept", "namespace": "mesh", "finalizers": ["example.com/hold"]}}),
    "Some content in the namespace has finalizers remaining: example.com/hold in"
)]
#[case::of_a_kind_that_goes(
    json!({"apiVersion": "mesh.example/v1", "kind": "Held",
        "metadata": {"name": "three", "namespace": "default", "finalizers": ["example.com/hold"]}}),
    "could not be removed within 2 s: Held default/three (finalizers example.com/hold)"
)]
#[case::changed(
    json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "kube-public", "labels": {"mesh.example/inject": "no"}}}),
    "cluster east: Namespace kube-public was changed"
)]
#[tokio::test(flavor = "multi_thread")]
async fn clusters_are_made_anew_when_something_stays(#[case] object: Value, #[case] told: &str) {
    let lab = Lab::start().await;
    let mut options = kept(&lab);
    options.waits.clear = Duration::from_secs(2);
    let (running, notes) = up(&lab, &options).await;
    assert_eq!(notes, [""; 0]);
    apply(&running.clusters()[0].client, &left_by_a_mesh()).await;
    apply(&running.clusters()[0].client, &[object]).await;
    running.down().await.unwrap();
    drop(running);
    let (running, notes) = up(&lab, &options).await;
    assert_eq!(lab.ran("kind create cluster"), 4, "{notes:?}");
    assert!(
        notes.len() == 1
            && notes[0].starts_with("clusters of meshproof-pair are made anew: cluster east: ")
            && notes[0].contains(told),
        "{notes:?}"
    );
    running.down().await.unwrap();
}

/// The API server of these clusters knows webhooks only by a definition, which has to be there from the start.
#[tokio::test(flavor = "multi_thread")]
async fn webhooks_go_before_anything_that_they_may_hold_up() {
    const GROUP: &str = "admissionregistration.k8s.io";
    let lab = Lab::start().await;
    let mut options = kept(&lab);
    options.waits.clear = Duration::from_secs(2);
    let (running, _) = up(&lab, &options).await;
    let spec = definition(
        GROUP,
        "Cluster",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
    );
    let webhooks = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("validatingwebhookconfigurations.{GROUP}")}, "spec": spec});
    apply(&running.clusters()[0].client, &[webhooks]).await;
    running.down().await.unwrap();
    drop(running);

    options.reuse = false;
    let (running, _) = up(&lab, &options).await;
    let mut webhook = json!({"apiVersion": format!("{GROUP}/v1"), "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "mesh", "finalizers": ["example.com/hold"]}});
    apply(&running.clusters()[0].client, &left_by_a_mesh()).await;
    apply(&running.clusters()[0].client, std::slice::from_ref(&webhook)).await;
    running.down().await.unwrap();
    drop(running);

    options.reuse = true;
    let (running, notes) = up(&lab, &options).await;
    assert!(
        notes[0].contains("2 s: ValidatingWebhookConfiguration mesh (finalizers example.com/hold)"),
        "{notes:?}"
    );
    // Nothing else was touched until then.
    let there = names(&running, 0).await;
    for name in left_by_a_mesh() {
        let name = format!(" {}", full_name(&name));
        assert!(there.iter().any(|there| there.ends_with(&name)), "{name}: {there:?}");
    }
    webhook["metadata"]["finalizers"] = json!([]);
    apply(&running.clusters()[0].client, &[webhook]).await;
    running.down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_can_not_be_put_back() {
    let lab = Lab::start().await;
    let options = kept(&lab);
    let (running, _) = up(&lab, &options).await;
    let roles = kinds::own("ClusterRole").unwrap().resource;
    let api = dynamic(&running.clusters()[1].client, &roles, None);
    api.delete("view", &kube::api::DeleteParams::default()).await.unwrap();
    running.down().await.unwrap();
    drop(running);
    let (running, notes) = up(&lab, &options).await;
    assert_eq!(
        notes,
        ["clusters of meshproof-pair are made anew: cluster west: ClusterRole.rbac.authorization.k8s.io view is gone"]
    );
    running.down().await.unwrap();
}

/// A controller that makes its next object before it lets the last one go: one that ends a little later than what it
/// belongs to, and one that stays.
#[rstest]
#[case::it_ends(2, 2, "")]
#[case::it_stays(
    u32::MAX,
    4,
    "cluster east: made again whenever it was removed: ConfigMap default/settings-5"
)]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_while_others_are_removed_is_removed_too(
    #[case] objects: u32,
    #[case] created: usize,
    #[case] told: &str,
) {
    let lab = Lab::start().await;
    let options = kept(&lab);
    let (running, _) = up(&lab, &options).await;
    let before = names(&running, 0).await;
    let settings = |number: u32, finalizers: Value| {
        json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("settings-{number}"), "namespace": "default", "finalizers": finalizers}})
    };
    let held = json!(["mesh.example/controller"]);
    let client = running.clusters()[0].client.clone();
    apply(&client, &[settings(0, held.clone())]).await;
    running.down().await.unwrap();
    drop(running);
    let controller = tokio::spawn(async move {
        let resource = kinds::own("ConfigMap").unwrap().resource;
        let api = dynamic(&client, &resource, Some("default"));
        for number in 0..objects {
            let name = format!("settings-{number}");
            while api.get(&name).await.unwrap().metadata.deletion_timestamp.is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            if number + 1 < objects {
                apply(&client, &[settings(number + 1, held.clone())]).await;
            }
            apply(&client, &[settings(number, json!([]))]).await;
        }
    });
    let (running, notes) = up(&lab, &options).await;
    controller.abort();
    assert_eq!(lab.ran("kind create cluster"), created, "{notes:?}");
    if told.is_empty() {
        assert_eq!(notes, [""; 0]);
        assert_eq!(names(&running, 0).await, before);
    } else {
        assert!(notes[0].contains(told), "{notes:?}");
    }
    running.down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_does_not_tell_what_was_there_is_not_enough() {
    let lab = Lab::start().await;
    let options = kept(&lab);
    let (running, _) = up(&lab, &options).await;
    running.down().await.unwrap();
    drop(running);
    let path = lab.state().join("meshproof-pair/record.json");
    let mut record: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let noted = record["clusters"][1]
        .as_object_mut()
        .unwrap()
        .remove("contents")
        .unwrap();
    assert!(noted.get("Namespace kube-system").is_some(), "{noted}");
    fs::write(&path, record.to_string()).unwrap();
    let (running, notes) = up(&lab, &options).await;
    assert_eq!(lab.ran("kind create cluster"), 4);
    assert!(
        notes.len() == 1 && notes[0].contains("what was in them when they were new is not known"),
        "{notes:?}"
    );
    running.down().await.unwrap();
}
