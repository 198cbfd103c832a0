//! What controllers are made of: watches, informers, reflectors, conditions, leases, outages.

use crate::objects::{deployment, typed};
use crate::support::{cluster, cluster_with, http, soon, token};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, ResourceExt};
use meshproof_apiserver::{ServerConfig, gvr};
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn a_watch_replays_and_goes_on() {
    let cluster = cluster().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    let version = maps
        .list(&Default::default())
        .await
        .unwrap()
        .metadata
        .resource_version
        .unwrap();
    maps.create(&PostParams::default(), &typed(json!({"metadata": {"name": "a"}})))
        .await
        .unwrap();
    let mut watch = maps.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    assert!(matches!(soon(watch.try_next()).await.unwrap(), Some(WatchEvent::Added(m)) if m.name_any() == "a"));
    maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"x": "y"}})))
        .await
        .unwrap();
    assert!(matches!(
        soon(watch.try_next()).await.unwrap(),
        Some(WatchEvent::Modified(_))
    ));
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(matches!(
        soon(watch.try_next()).await.unwrap(),
        Some(WatchEvent::Deleted(_))
    ));
}

#[tokio::test]
async fn an_old_version_is_gone_and_a_watcher_recovers() {
    let cluster = cluster_with(ServerConfig {
        watch_history: 3,
        ..ServerConfig::default()
    })
    .await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    for i in 0..6 {
        maps.create(
            &PostParams::default(),
            &typed(json!({"metadata": {"name": format!("m{i}")}})),
        )
        .await
        .unwrap();
    }
    let mut watch = maps.watch(&WatchParams::default(), "3").await.unwrap().boxed();
    match soon(watch.try_next()).await.unwrap() {
        Some(WatchEvent::Error(status)) => assert_eq!((status.code, status.reason.as_str()), (410, "Expired")),
        other => panic!("{other:?}"),
    }
    assert!(soon(watch.try_next()).await.unwrap().is_none());
}

#[tokio::test]
async fn bookmarks_and_timeouts() {
    let config = ServerConfig {
        bookmark_interval: Duration::from_millis(20),
        ..ServerConfig::default()
    };
    let cluster = cluster_with(config).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    let version = cluster.server.store().resource_version().to_string();
    let params = WatchParams::default().timeout(1);
    let events: Vec<_> = soon(maps.watch(&params, &version).await.unwrap().collect()).await;
    assert!(!events.is_empty());
    assert!(
        events.iter().all(|e| matches!(e, Ok(WatchEvent::Bookmark(_)))),
        "{events:?}"
    );
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let cluster = cluster().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    let config = watcher::Config::default().streaming_lists();
    let mut events = watcher(maps.clone(), config).boxed();
    let mut seen = Vec::new();
    loop {
        match soon(events.try_next()).await.unwrap().unwrap() {
            watcher::Event::InitDone => break,
            watcher::Event::InitApply(map) => seen.push(map.name_any()),
            other => assert!(matches!(other, watcher::Event::Init)),
        }
    }
    assert_eq!(seen, ["kube-root-ca.crt"]);
}

#[tokio::test]
async fn a_reflector_follows() {
    let cluster = cluster().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    let (reader, writer) = reflector::store();
    let mut applied = reflector::reflector(
        writer,
        watcher(maps.clone(), watcher::Config::default().labels("mine=yes")),
    )
    .default_backoff()
    .applied_objects()
    .boxed();
    let map = json!({"metadata": {"name": "a", "labels": {"mine": "yes"}}});
    maps.create(&PostParams::default(), &typed(map)).await.unwrap();
    let first = soon(applied.try_next()).await.unwrap().unwrap();
    assert_eq!(first.name_any(), "a");
    // The reader is filled when the initial list is complete, which is certain when the next change has come.
    maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"x": "y"}})))
        .await
        .unwrap();
    soon(applied.try_next()).await.unwrap().unwrap();
    assert_eq!(reader.len(), 1);
}

#[tokio::test]
async fn conditions_are_awaited() {
    let cluster = cluster().await;
    let deployments: Api<Deployment> = Api::default_namespaced(cluster.client.clone());
    let created = deployments
        .create(&PostParams::default(), &typed(deployment("web")))
        .await
        .unwrap();
    let ready = await_condition(deployments.clone(), "web", |d: Option<&Deployment>| {
        d.and_then(|d| d.status.as_ref()).and_then(|s| s.ready_replicas) == Some(1)
    });
    let ready = tokio::spawn(ready);
    let status = Patch::Merge(json!({"status": {"replicas": 1, "readyReplicas": 1}}));
    deployments
        .patch_status("web", &PatchParams::default(), &status)
        .await
        .unwrap();
    soon(ready).await.unwrap().unwrap();
    let uid = created.uid().unwrap();
    let gone = await_condition(deployments.clone(), "web", conditions::is_deleted(&uid));
    let now = DeleteParams::default();
    let (deleted, waited) = tokio::join!(deployments.delete("web", &now), soon(gone));
    deleted.unwrap();
    waited.unwrap();
}

#[tokio::test]
async fn leases_are_taken_over_only_with_the_right_version() {
    let cluster = cluster().await;
    let leases: Api<Lease> = Api::default_namespaced(cluster.client.clone());
    let lease = json!({"metadata": {"name": "leader"}, "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"}});
    let first = leases.create(&PostParams::default(), &typed(lease)).await.unwrap();
    let claim = |holder: &str, from: &Lease| {
        let mut lease = from.clone();
        lease.spec.as_mut().unwrap().holder_identity = Some(holder.into());
        lease
    };
    leases
        .replace("leader", &PostParams::default(), &claim("b", &first))
        .await
        .unwrap();
    assert_eq!(
        crate::support::refusal(
            leases
                .replace("leader", &PostParams::default(), &claim("c", &first))
                .await
        )
        .0,
        409
    );
    assert_eq!(
        leases
            .get("leader")
            .await
            .unwrap()
            .spec
            .unwrap()
            .holder_identity
            .as_deref(),
        Some("b")
    );
}

#[tokio::test]
async fn writes_in_process_are_seen_over_https() {
    let cluster = cluster().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    let version = cluster.server.store().resource_version().to_string();
    let mut watch = maps.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    let store = cluster.server.store().with_manager("kubelet");
    store
        .create(
            &gvr::CONFIG_MAPS,
            Some("default"),
            json!({"metadata": {"name": "a"}, "data": {"k": "v"}}),
        )
        .unwrap();
    match soon(watch.try_next()).await.unwrap() {
        Some(WatchEvent::Added(map)) => {
            assert_eq!(
                map.metadata.managed_fields.unwrap()[0].manager.as_deref(),
                Some("kubelet")
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_paused_server_is_silent_and_comes_back() {
    let cluster = cluster().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    maps.list(&Default::default()).await.unwrap();
    let version = cluster.server.store().resource_version().to_string();
    let mut watch = maps.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    cluster.server.pause();
    cluster
        .server
        .store()
        .create(&gvr::CONFIG_MAPS, Some("default"), json!({"metadata": {"name": "a"}}))
        .unwrap();
    let request = tokio::spawn({
        let maps = maps.clone();
        async move { maps.get("a").await }
    });
    // Both must still be waiting: this is the absence of an answer, so it takes a time.
    assert!(
        tokio::time::timeout(Duration::from_millis(200), watch.next())
            .await
            .is_err()
    );
    assert!(!request.is_finished());
    cluster.server.resume();
    soon(request).await.unwrap().unwrap();
    assert!(matches!(
        soon(watch.try_next()).await.unwrap(),
        Some(WatchEvent::Added(_))
    ));
}

#[tokio::test]
async fn shutdown_ends_watches_and_connections() {
    let cluster = cluster().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    let version = cluster.server.store().resource_version().to_string();
    let mut watch = maps.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    soon(cluster.server.shutdown()).await;
    while let Some(Ok(_)) = soon(watch.next()).await {}
    assert!(maps.list(&Default::default()).await.is_err());
}

#[tokio::test]
async fn requests_are_counted() {
    let cluster = cluster().await;
    let url = format!("{}/api/v1/namespaces/default/pods", cluster.server.url());
    let request = || {
        http(&cluster.server)
            .get(&url)
            .bearer_auth(token(&cluster.server))
            .header("user-agent", "counter/1.0")
    };
    request().send().await.unwrap();
    request().send().await.unwrap();
    let counts = cluster.server.request_counts();
    let (_, count) = counts.iter().find(|(key, _)| key.user_agent == "counter").unwrap();
    assert_eq!(*count, 2);
    let (key, _) = counts.iter().find(|(key, _)| key.user_agent == "counter").unwrap();
    assert_eq!((key.verb.as_str(), key.resource.as_str()), ("list", "pods"));
}
