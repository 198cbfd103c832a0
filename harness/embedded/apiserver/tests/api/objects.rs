//! Objects through kube-rs: reading, writing, conflicts, patches, lists.

use crate::support::{cluster, http, refusal, token};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, Service};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
    PropagationPolicy,
};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

pub(crate) fn typed<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

pub(crate) fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "main", "image": "image:1"}]}}}})
}

#[tokio::test]
async fn objects_are_created_read_changed_and_deleted() {
    let cluster = cluster().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    let map: ConfigMap = typed(json!({"metadata": {"generateName": "a-"}, "data": {"k": "1"}}));
    let created = maps.create(&PostParams::default(), &map).await.unwrap();
    let name = created.name_any();
    let mut changed = maps.get(&name).await.unwrap();
    changed.data.as_mut().unwrap().insert("k".into(), "2".into());
    maps.replace(&name, &PostParams::default(), &changed).await.unwrap();
    let (code, reason, message) = refusal(maps.replace(&name, &PostParams::default(), &changed).await);
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert_eq!(
        message,
        format!(
            "Operation cannot be fulfilled on configmaps \"{name}\": the object has been modified; please apply your changes to the latest version and try again"
        )
    );
    assert!(maps.delete(&name, &DeleteParams::default()).await.unwrap().is_right());
    let (code, reason, message) = refusal(maps.get(&name).await);
    assert_eq!(
        (code, reason.as_str(), message),
        (404, "NotFound", format!("configmaps \"{name}\" not found"))
    );
    let (code, _, _) = refusal(maps.create(&PostParams::default(), &created).await);
    assert_eq!(code, 400);
}

#[tokio::test]
async fn invalid_objects_name_every_field() {
    let cluster = cluster().await;
    let services: Api<Service> = Api::default_namespaced(cluster.client.clone());
    let bad: Service =
        typed(json!({"metadata": {"name": "Web"}, "spec": {"type": "Loadbalancer", "ports": [{"port": 0}]}}));
    match services.create(&PostParams::default(), &bad).await {
        Err(kube::Error::Api(status)) => {
            assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
            let causes = status.details.clone().unwrap().causes;
            let fields: Vec<&str> = causes.iter().map(|c| c.field.as_str()).collect();
            assert_eq!(
                fields,
                [
                    "metadata.name",
                    "spec.type",
                    "spec.ports[0].port",
                    "spec.ports[0].targetPort"
                ]
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn patches_of_every_kind() {
    let cluster = cluster().await;
    let deployments: Api<Deployment> = Api::default_namespaced(cluster.client.clone());
    deployments
        .create(&PostParams::default(), &typed(deployment("web")))
        .await
        .unwrap();
    let params = PatchParams::default();
    let merged = deployments
        .patch("web", &params, &Patch::Merge(json!({"spec": {"replicas": 2}})))
        .await
        .unwrap();
    assert_eq!(merged.spec.unwrap().replicas, Some(2));
    let side = json!({"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "s:1"}]}}}});
    let strategic = deployments
        .patch("web", &params, &Patch::Strategic(side))
        .await
        .unwrap();
    assert_eq!(strategic.spec.unwrap().template.spec.unwrap().containers.len(), 2);
    let operations = json!([{"op": "replace", "path": "/spec/replicas", "value": 4}]);
    let patch: Patch<Deployment> = Patch::Json(serde_json::from_value(operations).unwrap());
    assert_eq!(
        deployments
            .patch("web", &params, &patch)
            .await
            .unwrap()
            .spec
            .unwrap()
            .replicas,
        Some(4)
    );

    let mine = PatchParams::apply("mine");
    let config = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 5}});
    let (code, _, message) = refusal(deployments.patch("web", &mine, &Patch::Apply(&config)).await);
    assert_eq!(code, 409);
    assert!(
        message.starts_with("Apply failed with 1 conflict: conflict with \"") && message.ends_with(".spec.replicas"),
        "{message}"
    );
    let forced = deployments
        .patch("web", &mine.clone().force(), &Patch::Apply(&config))
        .await
        .unwrap();
    let entries = forced.metadata.managed_fields.unwrap();
    let own = entries.iter().find(|e| e.manager.as_deref() == Some("mine")).unwrap();
    assert_eq!(own.operation.as_deref(), Some("Apply"));
    assert_eq!(
        serde_json::to_value(own.fields_v1.as_ref().unwrap()).unwrap(),
        json!({"f:spec": {"f:replicas": {}}})
    );
    let created = deployments
        .patch("new", &mine, &Patch::Apply(deployment("new")))
        .await
        .unwrap();
    assert_eq!(created.name_any(), "new");
}

#[tokio::test]
async fn status_and_scale_are_parts_of_their_own() {
    let cluster = cluster().await;
    let deployments: Api<Deployment> = Api::default_namespaced(cluster.client.clone());
    deployments
        .create(&PostParams::default(), &typed(deployment("web")))
        .await
        .unwrap();
    let status = json!({"status": {"replicas": 1, "readyReplicas": 1}, "spec": {"replicas": 7}});
    let updated = deployments
        .patch_status("web", &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
    assert_eq!(
        (updated.status.unwrap().ready_replicas, updated.spec.unwrap().replicas),
        (Some(1), Some(1))
    );
    let scale = deployments.get_scale("web").await.unwrap();
    assert_eq!(scale.status.unwrap().selector.as_deref(), Some("app=web"));
    let patch = Patch::Merge(json!({"spec": {"replicas": 3}}));
    let scaled: Scale = deployments
        .patch_scale("web", &PatchParams::default(), &patch)
        .await
        .unwrap();
    assert_eq!(scaled.spec.unwrap().replicas, Some(3));
    let object = deployments.get("web").await.unwrap();
    assert_eq!(
        (object.spec.unwrap().replicas, object.metadata.generation),
        (Some(3), Some(2))
    );
    let negative = Patch::Merge(json!({"spec": {"replicas": -1}}));
    assert_eq!(
        refusal(deployments.patch_scale("web", &PatchParams::default(), &negative).await).0,
        422
    );
}

#[tokio::test]
async fn lists_select_and_paginate() {
    let cluster = cluster().await;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client.clone());
    for (name, node, tier) in [("a", "n1", "web"), ("b", "n2", "web"), ("c", "n1", "db")] {
        let pod = json!({"metadata": {"name": name, "labels": {"tier": tier}}, "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}});
        pods.create(&PostParams::default(), &typed(pod)).await.unwrap();
    }
    let names = |params: ListParams| {
        let pods = pods.clone();
        async move {
            pods.list(&params)
                .await
                .unwrap()
                .items
                .iter()
                .map(ResourceExt::name_any)
                .collect::<Vec<_>>()
        }
    };
    assert_eq!(
        names(ListParams::default().labels("tier in (web),tier!=db")).await,
        ["a", "b"]
    );
    assert_eq!(
        names(ListParams::default().fields("spec.nodeName=n1")).await,
        ["a", "c"]
    );
    assert_eq!(
        names(ListParams::default().fields("status.phase=Running")).await,
        [""; 0]
    );
    let (code, _, message) = refusal(pods.list(&ListParams::default().fields("spec.bogus=1")).await);
    assert_eq!(code, 400);
    assert!(message.contains("field label not supported: spec.bogus"), "{message}");
    assert_eq!(refusal(pods.list(&ListParams::default().labels("a in b")).await).0, 400);
    let first = pods.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!((first.items.len(), first.metadata.remaining_item_count), (2, Some(1)));
    let rest = pods
        .list(
            &ListParams::default()
                .limit(2)
                .continue_token(first.metadata.continue_.as_ref().unwrap()),
        )
        .await
        .unwrap();
    assert_eq!(rest.items.len(), 1);
    assert!(rest.metadata.continue_.unwrap_or_default().is_empty());
}

#[tokio::test]
async fn deletion_follows_the_policy() {
    let cluster = cluster().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    let secrets: Api<Secret> = Api::default_namespaced(cluster.client.clone());
    let owner = maps
        .create(&PostParams::default(), &typed(json!({"metadata": {"name": "owner"}})))
        .await
        .unwrap();
    let child = json!({"metadata": {"name": "child", "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.uid().unwrap()}]}});
    secrets.create(&PostParams::default(), &typed(child)).await.unwrap();
    let orphan = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    maps.delete("owner", &orphan).await.unwrap();
    assert!(secrets.get("child").await.unwrap().owner_references().is_empty());
    let gone = secrets
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await
        .unwrap();
    assert_eq!(gone.left().unwrap().items.len(), 1);
}

#[tokio::test]
async fn custom_resources_are_discovered_at_once() {
    let cluster = cluster().await;
    let gvk = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let definitions: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &ApiResource::from_gvk(&gvk));
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "links.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "links", "kind": "Link", "shortNames": ["ln"]},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object",
                    "properties": {"target": {"type": "string", "maxLength": 5}}}}}}}]}});
    definitions
        .patch(
            "links.example.com",
            &PatchParams::apply("test"),
            &Patch::Apply(&definition),
        )
        .await
        .unwrap();
    let group = kube::discovery::group(&cluster.client, "example.com").await.unwrap();
    let (resource, capabilities) = group.recommended_kind("Link").unwrap();
    assert!(
        capabilities
            .subresources
            .iter()
            .any(|(part, _)| part.plural == "links/status" || part.plural == "status"),
        "{capabilities:?}"
    );
    let links: Api<DynamicObject> = Api::default_namespaced_with(cluster.client.clone(), &resource);
    let link = |target: &str| {
        typed::<DynamicObject>(
            json!({"apiVersion": "example.com/v1", "kind": "Link", "metadata": {"name": "east"}, "spec": {"target": target}}),
        )
    };
    let (code, _, message) = refusal(links.create(&PostParams::default(), &link("too long")).await);
    assert_eq!(code, 422);
    assert!(message.contains("spec.target: Too long"), "{message}");
    links.create(&PostParams::default(), &link("east")).await.unwrap();
    let all = kube::discovery::Discovery::new(cluster.client.clone())
        .run()
        .await
        .unwrap();
    assert!(all.has_group("example.com") && all.has_group("apps"));
    let aggregated = kube::discovery::Discovery::new(cluster.client.clone())
        .run_aggregated()
        .await
        .unwrap();
    assert!(aggregated.has_group("example.com") && aggregated.has_group("apps"));
}

#[tokio::test]
async fn a_namespace_takes_its_content_along() {
    let cluster = cluster().await;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    namespaces
        .create(&PostParams::default(), &typed(json!({"metadata": {"name": "shop"}})))
        .await
        .unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "shop");
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.com/hold"]}});
    maps.create(&PostParams::default(), &typed(held)).await.unwrap();
    let waiting = namespaces
        .delete("shop", &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .unwrap();
    assert_eq!(waiting.status.unwrap().phase.as_deref(), Some("Terminating"));
    let (code, _, message) = refusal(
        maps.create(&PostParams::default(), &typed(json!({"metadata": {"name": "new"}})))
            .await,
    );
    assert_eq!(code, 403);
    assert_eq!(
        message,
        "configmaps \"new\" is forbidden: unable to create new content in namespace shop because it is being terminated"
    );
    maps.patch(
        "held",
        &PatchParams::default(),
        &Patch::Merge(json!({"metadata": {"finalizers": null}})),
    )
    .await
    .unwrap();
    assert!(namespaces.get_opt("shop").await.unwrap().is_none());
}

#[tokio::test]
async fn lists_can_be_tables_or_metadata() {
    let cluster = cluster().await;
    let get = |accept: &'static str| {
        let request = http(&cluster.server)
            .get(format!("{}/api/v1/namespaces", cluster.server.url()))
            .bearer_auth(token(&cluster.server))
            .header("accept", accept);
        async move { request.send().await.unwrap() }
    };
    let table: Value = serde_json::from_slice(
        &get("application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
            .await
            .bytes()
            .await
            .unwrap(),
    )
    .unwrap();
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["columnDefinitions"][1]["name"], "Status");
    assert_eq!(table["rows"][0]["cells"][0], "default");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let metadata: Value = serde_json::from_slice(
        &get("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")
            .await
            .bytes()
            .await
            .unwrap(),
    )
    .unwrap();
    assert_eq!(metadata["kind"], "PartialObjectMetadataList");
    assert!(metadata["items"][0]["status"].is_null());
    assert_eq!(get("application/vnd.kubernetes.protobuf").await.status(), 406);
}
