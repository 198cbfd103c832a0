//! Watches: shared, complete, quick, and honest about what they can't see.

use std::sync::Arc;
use std::time::Duration;

use meshproof_apiserver::gvr;
use meshproof_engine::environment::{Environment, EnvironmentRequest, RunningEnvironment};
use meshproof_engine::kinds::own;
use meshproof_engine::plan::Selection;
use meshproof_engine::watch::{Subscription, View, WatchKey, Watches};
use meshproof_engine::{Engine, bench};
use meshproof_spec::scenario::Setup;
use meshproof_verdict::question::Observation;
use meshproof_verdict::record::{Event, Outcome};
use serde_json::json;

use crate::world::{PlainDriver, PlainEnvironment, REQUIREMENT, World, scenario, topologies};

/// Nothing that a test waits for takes longer; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(20);

async fn clusters(world: &World) -> Arc<dyn RunningEnvironment> {
    let request = EnvironmentRequest {
        key: "pair".to_owned(),
        topology: topologies()["pair"].clone(),
        setup: Setup::default(),
        seed: 1,
    };
    PlainEnvironment(Arc::clone(&world.outside)).up(&request).await.unwrap()
}

fn config_maps(namespace: Option<&str>) -> WatchKey {
    WatchKey {
        cluster: "west".to_owned(),
        resource: own("ConfigMap").unwrap().resource,
        namespace: namespace.map(ToOwned::to_owned),
        labels: None,
    }
}

async fn next(subscription: &mut Subscription) -> View {
    tokio::time::timeout(PATIENCE, subscription.next()).await.unwrap()
}

fn names(view: &View) -> Vec<String> {
    match view {
        View::Objects(objects) => objects
            .iter()
            .map(|object| object["metadata"]["name"].as_str().unwrap().to_owned())
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_watch_serves_all_who_look_and_ends_with_the_last() {
    let world = World::new();
    let running = clusters(&world).await;
    let watches = Watches::new(running.clusters());
    let west = world.outside.store("west");
    let mut one = watches.subscribe(config_maps(Some("default")));
    let first = names(&next(&mut one).await);
    let mut other = watches.subscribe(config_maps(Some("default")));
    assert_eq!(
        names(&next(&mut other).await),
        first,
        "a late subscriber gets the whole set at once"
    );
    assert_eq!(watches.running(), 1);
    for round in 0..20 {
        let name = format!("z-{round:02}");
        west.create(&gvr::CONFIG_MAPS, Some("default"), json!({"metadata": {"name": name}}))
            .unwrap();
        west.delete(&gvr::CONFIG_MAPS, Some("default"), &name, &Default::default())
            .unwrap();
    }
    for subscription in [&mut one, &mut other] {
        for round in 0..20 {
            let with = names(&next(subscription).await);
            assert_eq!(with.last().unwrap(), &format!("z-{round:02}"), "no change is left out");
            assert_eq!(names(&next(subscription).await), first);
        }
    }
    assert_eq!(
        watches.requests(),
        2,
        "nothing but one list and one watch was asked of the API server"
    );
    drop(one);
    assert_eq!(watches.running(), 1);
    drop(other);
    assert_eq!(watches.running(), 0);
    running.down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_can_see_nothing_says_so_and_lists_anew_afterwards() {
    let world = World::new();
    let running = clusters(&world).await;
    let watches = Watches::new(running.clusters());
    let mut subscription = watches.subscribe(config_maps(Some("default")));
    let first = names(&next(&mut subscription).await);
    watches.set_blind("west", Some("the API server is paused".to_owned()));
    let View::Blind { reason } = next(&mut subscription).await else {
        panic!("it claims to see")
    };
    assert_eq!(reason, "the API server is paused");
    let west = world.outside.store("west");
    west.create(
        &gvr::CONFIG_MAPS,
        Some("default"),
        json!({"metadata": {"name": "meanwhile"}}),
    )
    .unwrap();
    watches.set_blind("west", None);
    let after = names(&next(&mut subscription).await);
    assert_eq!(after.len(), first.len() + 1);
    assert!(after.contains(&"meanwhile".to_owned()));
    // A connection that breaks is noticed by itself.
    running.down().await.unwrap();
    let lost = next(&mut subscription).await;
    assert!(matches!(lost, View::Blind { .. }), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_that_is_not_served_is_empty_until_it_is() {
    let world = World::new();
    let running = clusters(&world).await;
    let watches = Watches::new(running.clusters());
    let resource = kube::core::ApiResource {
        group: "test.example".to_owned(),
        version: "v1".to_owned(),
        api_version: "test.example/v1".to_owned(),
        kind: "Widget".to_owned(),
        plural: "widgets".to_owned(),
    };
    let key = WatchKey {
        cluster: "west".to_owned(),
        resource,
        namespace: None,
        labels: None,
    };
    let mut subscription = watches.subscribe(key);
    assert!(names(&next(&mut subscription).await).is_empty());
    let west = world.outside.store("west");
    let definition = json!({
        "metadata": {"name": "widgets.test.example"},
        "spec": {
            "group": "test.example", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    });
    west.create(&gvr::CUSTOM_RESOURCE_DEFINITIONS, None, definition)
        .unwrap();
    assert!(names(&next(&mut subscription).await).is_empty());
    let widgets = meshproof_apiserver::Gvr::constant("test.example", "v1", "widgets");
    west.create(
        &widgets,
        Some("default"),
        json!({"apiVersion": "test.example/v1", "kind": "Widget", "metadata": {"name": "w"}}),
    )
    .unwrap();
    assert_eq!(names(&next(&mut subscription).await), ["w"]);
    running.down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_violation_of_a_moment_is_seen() {
    let world = World::that_judges();
    let steps = json!([{"expect": {
        "id": REQUIREMENT, "object": {"in": "west", "kind": "ConfigMap", "name": "forbidden"}, "never_for": "30s",
    }}]);
    let plan = world.plan(vec![scenario("never", steps, json!({}))], &Selection::default());
    let namespace = plan.scenarios[0].namespace.clone();
    let session = world.session(plan, world.options()).await;
    let mut live = session.records();
    let outside = Arc::clone(&world.outside);
    let violator = async move {
        loop {
            let record = live.recv().await.unwrap();
            if matches!(record.event, Event::Observed(_)) {
                break;
            }
        }
        let west = outside.store("west");
        west.create(
            &gvr::CONFIG_MAPS,
            Some(&namespace),
            json!({"metadata": {"name": "forbidden"}}),
        )
        .unwrap();
        west.delete(&gvr::CONFIG_MAPS, Some(&namespace), "forbidden", &Default::default())
            .unwrap();
    };
    let (summary, ()) = tokio::join!(Engine::run_session(session), violator);
    let history = summary.unwrap().history;
    let check = &history.scenarios[0].checks[0];
    assert_eq!(check.outcome(), Outcome::Fail, "{check:#?}");
    let seen = check
        .observations
        .iter()
        .any(|(_, observation)| matches!(observation, Observation::Objects(objects) if !objects.is_empty()));
    assert!(seen);
    let took = check.closed.as_ref().unwrap().at_us - check.opened.at_us;
    assert!(
        took < 30_000_000,
        "a broken promise is told at once, not after {took} µs"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_costs_one_list_and_one_watch_however_long_it_takes() {
    let world = World::new();
    let environment = Arc::new(PlainEnvironment(Arc::clone(&world.outside)));
    let outside = Arc::clone(&world.outside);
    let driver = move |_: &EnvironmentRequest| -> Arc<dyn meshproof_engine::driver::MeshDriver> {
        Arc::new(PlainDriver(Arc::clone(&outside)))
    };
    let rounds = 20;
    let latencies = bench::condition_to_step(
        environment,
        Arc::new(driver),
        topologies()["pair"].clone(),
        world.folder.path().join("run"),
        rounds,
    )
    .await
    .unwrap();
    assert_eq!(latencies.samples.len(), rounds);
    // Each check looks once; the namespace's first and last watches come on top (two clusters, two requests each).
    assert!(
        latencies.api_requests <= 2 * rounds as u64 + 8,
        "{}",
        latencies.api_requests
    );
    assert!(latencies.quantile(0.5) <= latencies.quantile(0.99));
}
