//! Behaviour of the store as a whole: conflicts, life cycles, garbage collection, watches, custom resources.

use super::*;
use crate::gvr;
use futures::{FutureExt, StreamExt};
use serde_json::json;
use std::time::Duration;

fn store() -> Store {
    Store::new(StoreConfig {
        watch_history: 50,
        ca_pem: "CA".into(),
        ..StoreConfig::default()
    })
}

fn config_map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"a": "1"}})
}

fn create(store: &Store, gvr: &Gvr, namespace: &str, object: Value) -> Arc<Value> {
    let namespace = (!namespace.is_empty()).then_some(namespace);
    store.create(gvr, namespace, object).unwrap()
}

fn exists(store: &Store, gvr: &Gvr, name: &str) -> bool {
    store.get(gvr, Some("default"), name).is_ok()
}

fn owned_by(owner: &Value, name: &str, block: bool) -> Value {
    json!({"metadata": {"name": name, "ownerReferences": [{
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "blockOwnerDeletion": block}]}})
}

/// The events that are ready now.
fn ready(stream: &mut WatchStream) -> Vec<(WatchKind, String)> {
    let mut out = Vec::new();
    while let Some(Some(event)) = stream.next().now_or_never() {
        let event = event.unwrap();
        out.push((
            event.kind,
            event.object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        ));
    }
    out
}

#[test]
fn stale_writes_conflict_and_unchanged_ones_cost_nothing() {
    let store = store();
    let first = create(&store, &gvr::CONFIG_MAPS, "default", config_map("a"));
    let mut changed = (*first).clone();
    changed["data"]["a"] = json!("2");
    let second = store.update(&gvr::CONFIG_MAPS, None, changed.clone()).unwrap();
    assert_ne!(
        first["metadata"]["resourceVersion"],
        second["metadata"]["resourceVersion"]
    );
    changed["data"]["a"] = json!("3");
    let error = store.update(&gvr::CONFIG_MAPS, None, changed).unwrap_err();
    assert!(error.is_conflict());
    let version = store.resource_version();
    let again = store.update(&gvr::CONFIG_MAPS, None, (*second).clone()).unwrap();
    assert_eq!((again, store.resource_version()), (second, version));
}

#[test]
fn names_are_unique_generated_and_in_existing_namespaces() {
    let store = store();
    create(&store, &gvr::CONFIG_MAPS, "default", config_map("a"));
    assert!(
        store
            .create(&gvr::CONFIG_MAPS, Some("default"), config_map("a"))
            .unwrap_err()
            .is_already_exists()
    );
    assert_eq!(
        store
            .create(&gvr::CONFIG_MAPS, Some("nowhere"), config_map("a"))
            .unwrap_err()
            .code,
        404
    );
    let generated = create(
        &store,
        &gvr::CONFIG_MAPS,
        "default",
        json!({"metadata": {"generateName": "x-"}}),
    );
    assert!(generated["metadata"]["name"].as_str().unwrap().starts_with("x-"));
    let long = json!({"metadata": {"name": "s".repeat(64)}, "spec": {"ports": [{"port": 80}]}});
    let error = store.create(&gvr::SERVICES, Some("default"), long).unwrap_err();
    assert_eq!((error.code, error.reason), (422, "Invalid"));
    assert!(
        error.message.contains("must be no more than 63 characters"),
        "{}",
        error.message
    );
}

#[test]
fn generation_counts_changes_of_the_specification_only() {
    let store = store();
    let deployment = json!({"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    create(&store, &gvr::DEPLOYMENTS, "default", deployment);
    let patch = |value: Value| {
        store
            .patch(&gvr::DEPLOYMENTS, Some("default"), "web", &Patch::Merge(value))
            .unwrap()
    };
    assert_eq!(
        patch(json!({"metadata": {"labels": {"x": "y"}}}))["metadata"]["generation"],
        1
    );
    assert_eq!(patch(json!({"spec": {"replicas": 3}}))["metadata"]["generation"], 2);
    // The status is not reachable this way …
    assert!(patch(json!({"status": {"replicas": 3}}))["status"].is_null());
    // … and the specification not through the status.
    let status = Patch::Merge(json!({"status": {"replicas": 3}, "spec": {"replicas": 9}}));
    let object = store
        .patch_status(&gvr::DEPLOYMENTS, Some("default"), "web", &status)
        .unwrap();
    assert_eq!(
        (&object["status"]["replicas"], &object["spec"]["replicas"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(object["metadata"]["generation"], 2);
    let selector = Patch::Merge(
        json!({"spec": {"selector": {"matchLabels": {"a": "c"}}, "template": {"metadata": {"labels": {"a": "c"}}}}}),
    );
    let error = store
        .patch(&gvr::DEPLOYMENTS, Some("default"), "web", &selector)
        .unwrap_err();
    assert!(error.message.contains("field is immutable"), "{}", error.message);
}

#[test]
fn dry_run_answers_and_keeps_nothing() {
    let store = store();
    let dry = store.dry_run(true);
    let version = store.resource_version();
    assert_eq!(
        create(&dry, &gvr::CONFIG_MAPS, "default", config_map("a"))["metadata"]["name"],
        "a"
    );
    assert!(!exists(&store, &gvr::CONFIG_MAPS, "a"));
    create(&store, &gvr::CONFIG_MAPS, "default", config_map("b"));
    dry.delete(&gvr::CONFIG_MAPS, Some("default"), "b", &DeleteOptions::default())
        .unwrap();
    dry.patch(
        &gvr::CONFIG_MAPS,
        Some("default"),
        "b",
        &Patch::Merge(json!({"data": {"a": "9"}})),
    )
    .unwrap();
    assert_eq!(
        store.get(&gvr::CONFIG_MAPS, Some("default"), "b").unwrap()["data"]["a"],
        "1"
    );
    assert_eq!(store.resource_version(), version + 1);
}

#[tokio::test]
async fn finalizers_delay_deletion() {
    let store = store();
    let mut watch = store
        .watch(
            &gvr::CONFIG_MAPS,
            Some("default"),
            &Selector::all(),
            WatchOptions::default(),
        )
        .unwrap();
    let object = json!({"metadata": {"name": "a", "finalizers": ["x.io/y"]}});
    create(&store, &gvr::CONFIG_MAPS, "default", object);
    let deleted = store
        .delete(&gvr::CONFIG_MAPS, Some("default"), "a", &DeleteOptions::default())
        .unwrap();
    assert!(matches!(&deleted, Deleted::Waiting(o) if !o["metadata"]["deletionTimestamp"].is_null()));
    let off = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    store.patch(&gvr::CONFIG_MAPS, Some("default"), "a", &off).unwrap();
    assert!(!exists(&store, &gvr::CONFIG_MAPS, "a"));
    let kinds: Vec<WatchKind> = ready(&mut watch).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [WatchKind::Added, WatchKind::Modified, WatchKind::Deleted]);
}

#[test]
fn preconditions_protect_from_deleting_another_object() {
    let store = store();
    create(&store, &gvr::CONFIG_MAPS, "default", config_map("a"));
    let options = DeleteOptions {
        uid: Some("other".into()),
        ..DeleteOptions::default()
    };
    assert!(
        store
            .delete(&gvr::CONFIG_MAPS, Some("default"), "a", &options)
            .unwrap_err()
            .is_conflict()
    );
}

#[test]
fn scheduled_pods_wait_for_their_kubelet() {
    let store = store();
    let pod = |name: &str, node: &str| json!({"metadata": {"name": name}, "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}});
    create(&store, &gvr::PODS, "default", pod("a", "n1"));
    create(&store, &gvr::PODS, "default", pod("b", ""));
    let delete =
        |name: &str, options: &DeleteOptions| store.delete(&gvr::PODS, Some("default"), name, options).unwrap();
    assert!(matches!(delete("b", &DeleteOptions::default()), Deleted::Gone(_)));
    let waiting = delete("a", &DeleteOptions::default());
    assert_eq!(waiting.object()["metadata"]["deletionGracePeriodSeconds"], 30);
    let sooner = delete(
        "a",
        &DeleteOptions {
            grace_period_seconds: Some(5),
            ..DeleteOptions::default()
        },
    );
    assert_eq!(sooner.object()["metadata"]["deletionGracePeriodSeconds"], 5);
    assert!(matches!(delete("a", &DeleteOptions::now()), Deleted::Gone(_)));
}

#[test]
fn owned_objects_go_with_their_last_owner() {
    let store = store();
    let one = create(&store, &gvr::CONFIG_MAPS, "default", config_map("one"));
    let two = create(&store, &gvr::CONFIG_MAPS, "default", config_map("two"));
    let mut both = owned_by(&one, "both", false);
    let second = owned_by(&two, "x", false)["metadata"]["ownerReferences"][0].clone();
    both["metadata"]["ownerReferences"].as_array_mut().unwrap().push(second);
    create(&store, &gvr::SECRETS, "default", both);
    let child = create(&store, &gvr::SECRETS, "default", owned_by(&one, "child", false));
    create(&store, &gvr::SECRETS, "default", owned_by(&child, "grandchild", false));
    store
        .delete(&gvr::CONFIG_MAPS, Some("default"), "one", &DeleteOptions::default())
        .unwrap();
    assert!(!exists(&store, &gvr::SECRETS, "child") && !exists(&store, &gvr::SECRETS, "grandchild"));
    let left = store.get(&gvr::SECRETS, Some("default"), "both").unwrap();
    assert_eq!(left["metadata"]["ownerReferences"].as_array().unwrap().len(), 1);
    // A new object of an owner that is gone goes at once.
    store
        .create(&gvr::SECRETS, Some("default"), owned_by(&one, "late", false))
        .unwrap();
    assert!(!exists(&store, &gvr::SECRETS, "late"));
}

#[test]
fn orphaning_takes_the_reference_away() {
    let store = store();
    let owner = create(&store, &gvr::CONFIG_MAPS, "default", config_map("owner"));
    create(&store, &gvr::SECRETS, "default", owned_by(&owner, "child", true));
    let options = DeleteOptions {
        propagation: Propagation::Orphan,
        ..DeleteOptions::default()
    };
    store
        .delete(&gvr::CONFIG_MAPS, Some("default"), "owner", &options)
        .unwrap();
    let child = store.get(&gvr::SECRETS, Some("default"), "child").unwrap();
    assert!(child["metadata"]["ownerReferences"].is_null());
}

#[test]
fn foreground_deletion_waits_for_dependents() {
    let store = store();
    let owner = create(&store, &gvr::CONFIG_MAPS, "default", config_map("owner"));
    let mut child = owned_by(&owner, "child", true);
    child["metadata"]["finalizers"] = json!(["x.io/y"]);
    create(&store, &gvr::SECRETS, "default", child);
    let options = DeleteOptions {
        propagation: Propagation::Foreground,
        ..DeleteOptions::default()
    };
    let deleted = store
        .delete(&gvr::CONFIG_MAPS, Some("default"), "owner", &options)
        .unwrap();
    assert!(matches!(deleted, Deleted::Waiting(_)));
    let off = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    store.patch(&gvr::SECRETS, Some("default"), "child", &off).unwrap();
    assert!(!exists(&store, &gvr::SECRETS, "child") && !exists(&store, &gvr::CONFIG_MAPS, "owner"));
}

#[test]
fn namespaces_empty_themselves_before_they_go() {
    let store = store();
    create(&store, &gvr::NAMESPACES, "", json!({"metadata": {"name": "shop"}}));
    assert!(store.get(&gvr::SERVICE_ACCOUNTS, Some("shop"), "default").is_ok());
    let ca = store.get(&gvr::CONFIG_MAPS, Some("shop"), "kube-root-ca.crt").unwrap();
    assert_eq!(ca["data"]["ca.crt"], "CA");
    create(
        &store,
        &gvr::CONFIG_MAPS,
        "shop",
        json!({"metadata": {"name": "held", "finalizers": ["x.io/y"]}}),
    );
    create(&store, &gvr::CONFIG_MAPS, "shop", config_map("free"));
    let deleted = store
        .delete(&gvr::NAMESPACES, None, "shop", &DeleteOptions::default())
        .unwrap();
    assert_eq!(deleted.object()["status"]["phase"], "Terminating");
    assert!(store.get(&gvr::CONFIG_MAPS, Some("shop"), "free").is_err());
    let error = store
        .create(&gvr::CONFIG_MAPS, Some("shop"), config_map("new"))
        .unwrap_err();
    assert_eq!(error.code, 403);
    assert!(error.message.contains("because it is being terminated"));
    let waiting = store.get(&gvr::NAMESPACES, None, "shop").unwrap();
    assert_eq!(waiting["status"]["conditions"][0]["type"], "NamespaceContentRemaining");
    let off = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    store.patch(&gvr::CONFIG_MAPS, Some("shop"), "held", &off).unwrap();
    assert_eq!(store.get(&gvr::NAMESPACES, None, "shop").unwrap_err().code, 404);
}

#[test]
fn services_get_addresses_and_ports() {
    let store = store();
    let service =
        |name: &str, kind: &str| json!({"metadata": {"name": name}, "spec": {"type": kind, "ports": [{"port": 80}]}});
    let a = create(&store, &gvr::SERVICES, "default", service("a", "ClusterIP"));
    let b = create(&store, &gvr::SERVICES, "default", service("b", "NodePort"));
    assert_ne!(a["spec"]["clusterIP"], b["spec"]["clusterIP"]);
    assert_eq!(a["spec"]["clusterIPs"][0], a["spec"]["clusterIP"]);
    assert_eq!(b["spec"]["ports"][0]["nodePort"], 30000);
    let mut taken = service("c", "ClusterIP");
    taken["spec"]["clusterIP"] = a["spec"]["clusterIP"].clone();
    let error = store.create(&gvr::SERVICES, Some("default"), taken).unwrap_err();
    assert!(
        error.message.contains("provided IP is already allocated"),
        "{}",
        error.message
    );
    let moved = Patch::Merge(json!({"spec": {"clusterIP": "10.96.7.7"}}));
    let error = store.patch(&gvr::SERVICES, Some("default"), "a", &moved).unwrap_err();
    assert_eq!(error.details.unwrap().causes[0].field, "spec.clusterIPs[0]");
    // An update without the address keeps it.
    let kept = store
        .update(&gvr::SERVICES, Some("default"), service("a", "ClusterIP"))
        .unwrap();
    assert_eq!(kept["spec"]["clusterIP"], a["spec"]["clusterIP"]);
    let headless = json!({"metadata": {"name": "h"}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]}});
    assert_eq!(
        create(&store, &gvr::SERVICES, "default", headless)["spec"]["clusterIP"],
        "None"
    );
}

#[test]
fn token_secrets_are_filled_and_end_with_secret_or_account() {
    let store = Store::new(StoreConfig {
        token_success_cache_ttl: std::time::Duration::ZERO,
        ..StoreConfig::default()
    });
    let secret = json!({"metadata": {"name": "t", "annotations": {"kubernetes.io/service-account.name": "robot"}},
        "type": "kubernetes.io/service-account-token"});
    assert!(create(&store, &gvr::SECRETS, "default", secret.clone())["data"].is_null());
    create(
        &store,
        &gvr::SERVICE_ACCOUNTS,
        "default",
        json!({"metadata": {"name": "robot"}}),
    );
    let token = |store: &Store| {
        use base64::Engine;
        let secret = store.get(&gvr::SECRETS, Some("default"), "t").unwrap();
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(secret["data"]["token"].as_str().unwrap())
            .unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let user = |token: &str| store.authenticate(token).map(|user| user.name);
    let first = token(&store);
    assert_eq!(user(&first).as_deref(), Some("system:serviceaccount:default:robot"));
    store
        .delete(&gvr::SECRETS, Some("default"), "t", &DeleteOptions::default())
        .unwrap();
    assert_eq!(user(&first), None);
    create(&store, &gvr::SECRETS, "default", secret);
    let second = token(&store);
    let plain = store.issue_token("default", "robot").unwrap();
    store
        .delete(
            &gvr::SERVICE_ACCOUNTS,
            Some("default"),
            "robot",
            &DeleteOptions::default(),
        )
        .unwrap();
    assert_eq!((user(&second), user(&plain)), (None, None));
    assert!(!exists(&store, &gvr::SECRETS, "t"));
    assert_eq!(store.issue_token("default", "robot").unwrap_err().code, 404);
}

#[test]
fn pages_show_one_moment() {
    let store = store();
    for i in 0..5 {
        create(&store, &gvr::CONFIG_MAPS, "default", config_map(&format!("m{i}")));
    }
    let everything = Selector::fields("metadata.name!=kube-root-ca.crt").unwrap();
    let page = |token: Option<String>| {
        let options = ListOptions {
            limit: Some(2),
            continue_token: token,
            exact_version: None,
        };
        store.list_page(&gvr::CONFIG_MAPS, Some("default"), &everything, &options)
    };
    let first = page(None).unwrap();
    store
        .delete(&gvr::CONFIG_MAPS, Some("default"), "m3", &DeleteOptions::default())
        .unwrap();
    create(&store, &gvr::CONFIG_MAPS, "default", config_map("m9"));
    store
        .patch(
            &gvr::CONFIG_MAPS,
            Some("default"),
            "m4",
            &Patch::Merge(json!({"data": {"a": "9"}})),
        )
        .unwrap();
    let second = page(first.continue_token.clone()).unwrap();
    let third = page(second.continue_token.clone()).unwrap();
    let names: Vec<&str> = [&first, &second, &third]
        .iter()
        .flat_map(|l| l.items.iter())
        .map(|o| o["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["m0", "m1", "m2", "m3", "m4"]);
    assert_eq!(third.items[0]["data"]["a"], "1");
    assert_eq!(
        (first.resource_version, third.continue_token),
        (second.resource_version, None)
    );
    for i in 0..60 {
        create(&store, &gvr::CONFIG_MAPS, "default", config_map(&format!("n{i}")));
    }
    assert_eq!(page(second.continue_token).unwrap_err().code, 410);
    assert_eq!(page(Some("junk".into())).unwrap_err().code, 400);
}

#[tokio::test]
async fn watches_translate_changes_by_their_selector() {
    let store = store();
    let red = Selector::labels("colour=red").unwrap();
    let mut watch = store
        .watch(&gvr::CONFIG_MAPS, Some("default"), &red, WatchOptions::default())
        .unwrap();
    let paint = |colour: Value| {
        let patch = Patch::Merge(json!({"metadata": {"labels": {"colour": colour}}}));
        store.patch(&gvr::CONFIG_MAPS, Some("default"), "a", &patch).unwrap();
    };
    create(&store, &gvr::CONFIG_MAPS, "default", config_map("a"));
    paint(json!("red"));
    store
        .patch(
            &gvr::CONFIG_MAPS,
            Some("default"),
            "a",
            &Patch::Merge(json!({"data": {"a": "2"}})),
        )
        .unwrap();
    paint(json!("blue"));
    paint(json!("red"));
    store
        .delete(&gvr::CONFIG_MAPS, Some("default"), "a", &DeleteOptions::default())
        .unwrap();
    let kinds: Vec<WatchKind> = ready(&mut watch).into_iter().map(|(kind, _)| kind).collect();
    use WatchKind::{Added, Deleted, Modified};
    assert_eq!(kinds, [Added, Modified, Deleted, Added, Deleted]);
}

#[tokio::test]
async fn watches_replay_and_expire() {
    let store = store();
    let version = store.resource_version();
    create(&store, &gvr::CONFIG_MAPS, "default", config_map("a"));
    let after = |version| WatchOptions {
        start: WatchStart::After(version),
        ..WatchOptions::default()
    };
    let mut watch = store
        .watch(&gvr::CONFIG_MAPS, None, &Selector::all(), after(version))
        .unwrap();
    assert_eq!(ready(&mut watch), [(WatchKind::Added, "a".to_owned())]);
    for i in 0..60 {
        create(&store, &gvr::CONFIG_MAPS, "default", config_map(&format!("n{i}")));
    }
    assert_eq!(
        store
            .watch(&gvr::CONFIG_MAPS, None, &Selector::all(), after(version))
            .err()
            .unwrap()
            .code,
        410
    );
    // The running watch was left behind too.
    assert_eq!(watch.next().await.unwrap().unwrap_err().code, 410);
    assert!(watch.next().await.is_none());
    let future = store.resource_version() + 1000;
    assert_eq!(
        store
            .watch(&gvr::CONFIG_MAPS, None, &Selector::all(), after(future))
            .err()
            .unwrap()
            .code,
        504
    );
}

#[tokio::test(start_paused = true)]
async fn bookmarks_come_when_nothing_else_does() {
    let store = store();
    let options = WatchOptions {
        bookmark_interval: Some(Duration::from_secs(60)),
        ..WatchOptions::default()
    };
    let mut watch = store.watch(&gvr::CONFIG_MAPS, None, &Selector::all(), options).unwrap();
    create(
        &store,
        &gvr::SECRETS,
        "default",
        json!({"metadata": {"name": "elsewhere"}}),
    );
    let event = watch.next().await.unwrap().unwrap();
    assert_eq!(event.kind, WatchKind::Bookmark);
    assert_eq!(
        event.object["metadata"]["resourceVersion"],
        store.resource_version().to_string().as_str()
    );
}

#[tokio::test]
async fn informers_survive_being_left_behind() {
    let store = store();
    for name in ["a", "b", "c"] {
        create(&store, &gvr::SECRETS, "default", json!({"metadata": {"name": name}}));
    }
    let mut informer = store
        .informer(&gvr::SECRETS, Some("default"), &Selector::all())
        .unwrap();
    use WatchKind::{Added, Bookmark, Deleted, Modified};
    let event = |kind, name: &str| (kind, name.to_owned());
    assert_eq!(
        ready(&mut informer),
        [
            event(Added, "a"),
            event(Added, "b"),
            event(Added, "c"),
            event(Bookmark, "")
        ]
    );
    store
        .delete(&gvr::SECRETS, Some("default"), "a", &DeleteOptions::default())
        .unwrap();
    store
        .delete(&gvr::SECRETS, Some("default"), "b", &DeleteOptions::default())
        .unwrap();
    create(&store, &gvr::SECRETS, "default", json!({"metadata": {"name": "b"}}));
    for i in 0..60 {
        store
            .patch(
                &gvr::SECRETS,
                Some("default"),
                "c",
                &Patch::Merge(json!({"metadata": {"labels": {"n": i.to_string()}}})),
            )
            .unwrap();
    }
    let events = ready(&mut informer);
    assert_eq!(events.len(), 4);
    for expected in [
        event(Deleted, "a"),
        event(Deleted, "b"),
        event(Added, "b"),
        event(Modified, "c"),
    ] {
        assert!(events.contains(&expected), "{events:?}");
    }
}

fn crd() -> Value {
    json!({"metadata": {"name": "links.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "links", "kind": "Link"},
        "versions": [
            {"name": "v1", "served": true, "storage": true, "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}},
             "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "required": ["target"], "properties": {"target": {"type": "string"}, "n": {"type": "integer", "default": 1}}},
                "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}},
            {"name": "v1alpha1", "served": true, "storage": false,
             "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}})
}

#[tokio::test]
async fn custom_resources_live_and_die_with_their_definition() {
    let store = store();
    let links = Gvr::constant("example.com", "v1", "links");
    assert_eq!(store.list(&links, None, &Selector::all()).unwrap_err().code, 404);
    let definition = create(&store, &gvr::CUSTOM_RESOURCE_DEFINITIONS, "", crd());
    let conditions: Vec<&str> = definition["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["type"].as_str().unwrap())
        .collect();
    assert_eq!(conditions, ["NamesAccepted", "Established"]);
    let mut watch = store
        .watch(&links, None, &Selector::all(), WatchOptions::default())
        .unwrap();

    let link = json!({"metadata": {"name": "east"}, "spec": {"target": "east", "unknown": 1}, "status": {"x": 1}});
    let created = create(&store, &links, "default", link);
    assert_eq!(created["spec"], json!({"target": "east", "n": 1}));
    assert!(created["status"].is_null());
    assert_eq!(created["metadata"]["generation"], 1);
    let bad = json!({"metadata": {"name": "bad"}, "spec": {"n": "many"}});
    let error = store.create(&links, Some("default"), bad).unwrap_err();
    assert_eq!((error.code, error.details.unwrap().causes.len()), (422, 2));
    let status = Patch::Merge(json!({"status": {"alive": true}}));
    let updated = store.patch_status(&links, Some("default"), "east", &status).unwrap();
    assert_eq!(
        (&updated["status"]["alive"], &updated["metadata"]["generation"]),
        (&json!(true), &json!(1))
    );
    let error = store
        .patch(&links, Some("default"), "east", &Patch::Strategic(json!({})))
        .unwrap_err();
    assert_eq!(error.code, 415);
    // The other version shows the same object.
    let other = Gvr::constant("example.com", "v1alpha1", "links");
    let seen = store.get(&other, Some("default"), "east").unwrap();
    assert_eq!(
        (&seen["apiVersion"], &seen["spec"]["target"]),
        (&json!("example.com/v1alpha1"), &json!("east"))
    );

    store
        .delete(
            &gvr::CUSTOM_RESOURCE_DEFINITIONS,
            None,
            "links.example.com",
            &DeleteOptions::default(),
        )
        .unwrap();
    assert_eq!(store.get(&links, Some("default"), "east").unwrap_err().code, 404);
    assert!(
        store
            .get(&gvr::CUSTOM_RESOURCE_DEFINITIONS, None, "links.example.com")
            .is_err()
    );
    let mut kinds = Vec::new();
    while let Some(event) = watch.next().await {
        kinds.push(event.unwrap().kind);
    }
    assert_eq!(kinds, [WatchKind::Added, WatchKind::Modified, WatchKind::Deleted]);
}

#[test]
fn a_definition_waits_for_objects_with_finalizers() {
    let store = store();
    let links = Gvr::constant("example.com", "v1", "links");
    create(&store, &gvr::CUSTOM_RESOURCE_DEFINITIONS, "", crd());
    let held = json!({"metadata": {"name": "held", "finalizers": ["x.io/y"]}, "spec": {"target": "t"}});
    create(&store, &links, "default", held);
    let delete = || {
        store.delete(
            &gvr::CUSTOM_RESOURCE_DEFINITIONS,
            None,
            "links.example.com",
            &DeleteOptions::default(),
        )
    };
    assert!(matches!(delete().unwrap(), Deleted::Waiting(_)));
    let new = json!({"metadata": {"name": "new"}, "spec": {"target": "t"}});
    assert_eq!(store.create(&links, Some("default"), new).unwrap_err().code, 405);
    let off = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    store.patch(&links, Some("default"), "held", &off).unwrap();
    assert!(
        store
            .get(&gvr::CUSTOM_RESOURCE_DEFINITIONS, None, "links.example.com")
            .is_err()
    );
}

#[test]
fn server_side_apply_creates_changes_and_conflicts() {
    let store = store();
    let apply = |manager: &str, force, data: Value| {
        let patch = Patch::Apply {
            object: json!({"data": data}),
            manager: manager.into(),
            force,
        };
        store.patch(&gvr::CONFIG_MAPS, Some("default"), "a", &patch)
    };
    let created = apply("one", false, json!({"x": "1", "y": "1"})).unwrap();
    assert_eq!(created["metadata"]["managedFields"][0]["operation"], "Apply");
    let same = apply("one", false, json!({"x": "1", "y": "1"})).unwrap();
    assert_eq!(
        same["metadata"]["resourceVersion"],
        created["metadata"]["resourceVersion"]
    );
    assert_eq!(apply("two", false, json!({"x": "2"})).unwrap_err().code, 409);
    assert_eq!(
        apply("two", true, json!({"x": "2"})).unwrap()["data"],
        json!({"x": "2", "y": "1"})
    );
    assert_eq!(apply("one", false, json!({})).unwrap()["data"], json!({"x": "2"}));
}

#[test]
fn events_are_seen_in_both_groups() {
    let store = store();
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "reason": "Started", "message": "m", "type": "Normal"});
    create(&store, &gvr::EVENTS, "default", event);
    let group = Gvr::constant("events.k8s.io", "v1", "events");
    let seen = store.get(&group, Some("default"), "e").unwrap();
    assert_eq!((&seen["note"], &seen["regarding"]["name"]), (&json!("m"), &json!("p")));
    let other = json!({"metadata": {"name": "f"}, "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}, "note": "n"});
    create(&store, &group, "default", other);
    assert_eq!(store.get(&gvr::EVENTS, Some("default"), "f").unwrap()["message"], "n");
    let selector = Selector::fields("involvedObject.name=p").unwrap();
    assert_eq!(store.list(&gvr::EVENTS, None, &selector).unwrap().items.len(), 2);
}

/// One step of a random history of a few objects.
#[derive(Clone, Debug)]
enum Step {
    Create(u8),
    Paint(u8, bool),
    Write(u8, u8),
    Delete(u8),
}

fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
    use proptest::prelude::*;
    let step = prop_oneof![
        (0..4_u8).prop_map(Step::Create),
        (0..4_u8, any::<bool>()).prop_map(|(i, red)| Step::Paint(i, red)),
        (0..4_u8, 0..3_u8).prop_map(|(i, n)| Step::Write(i, n)),
        (0..4_u8).prop_map(Step::Delete),
    ];
    prop::collection::vec(step, 0..40)
}

fn take(store: &Store, step: &Step) {
    let patch = |i: u8, change: Value| {
        let _ = store.patch(
            &gvr::CONFIG_MAPS,
            Some("default"),
            &format!("m{i}"),
            &Patch::Merge(change),
        );
    };
    // Steps that do not fit the present state (deleting what is not there) are refused, which is part of the history.
    match step {
        Step::Create(i) => {
            let _ = store.create(&gvr::CONFIG_MAPS, Some("default"), config_map(&format!("m{i}")));
        }
        Step::Paint(i, red) => patch(
            *i,
            json!({"metadata": {"labels": {"colour": if *red { "red" } else { "blue" }}}}),
        ),
        Step::Write(i, n) => patch(*i, json!({"data": {"a": n.to_string()}})),
        Step::Delete(i) => {
            let options = DeleteOptions::default();
            let _ = store.delete(&gvr::CONFIG_MAPS, Some("default"), &format!("m{i}"), &options);
        }
    }
}

proptest::proptest! {
    /// Whoever follows a watch knows what a list shows, whatever happened; and every earlier list can be had again.
    #[test]
    fn watches_and_snapshots_agree_with_lists(steps in steps()) {
        let store = Store::new(StoreConfig { watch_history: 1000, ..StoreConfig::default() });
        let red = Selector::labels("colour=red").unwrap();
        let start = WatchOptions { start: WatchStart::After(store.resource_version()), ..WatchOptions::default() };
        let mut watch = store.watch(&gvr::CONFIG_MAPS, None, &red, start).unwrap();
        let mut moments = Vec::new();
        let mut known = std::collections::BTreeMap::new();
        for step in &steps {
            moments.push(store.list(&gvr::CONFIG_MAPS, None, &red).unwrap());
            take(&store, step);
            while let Some(Some(event)) = watch.next().now_or_never() {
                let event = event.unwrap();
                let name = event.object["metadata"]["name"].as_str().unwrap().to_owned();
                match event.kind {
                    WatchKind::Added => proptest::prop_assert!(known.insert(name, event.object).is_none()),
                    WatchKind::Modified => proptest::prop_assert!(known.insert(name, event.object).is_some()),
                    WatchKind::Deleted => proptest::prop_assert!(known.remove(&name).is_some()),
                    WatchKind::Bookmark => {}
                }
            }
            let present: Vec<Arc<Value>> = known.values().cloned().collect();
            proptest::prop_assert_eq!(&present, &store.list(&gvr::CONFIG_MAPS, None, &red).unwrap().items);
        }
        for moment in moments {
            let options = ListOptions { exact_version: Some(moment.resource_version), ..ListOptions::default() };
            proptest::prop_assert_eq!(store.list_page(&gvr::CONFIG_MAPS, None, &red, &options).unwrap(), moment);
        }
    }
}
