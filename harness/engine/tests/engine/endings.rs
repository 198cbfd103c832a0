//! How scenarios and runs end: cleanup, interrupts, failures; and which scenarios run side by side.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use meshproof_apiserver::{Gvr, Selector, gvr};
use meshproof_engine::plan::Selection;
use meshproof_engine::{Engine, Interrupts, Keep, RunOptions};
use meshproof_verdict::history::RunHistory;
use meshproof_verdict::journal::read_journal;
use meshproof_verdict::record::{Event, EvidenceFrozen, Outcome, Record};
use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::world::{REQUIREMENT, World, scenario};

pub(crate) fn present(name: &str) -> Value {
    json!({"expect": {"id": REQUIREMENT, "object": {"in": "west", "kind": "ConfigMap", "name": name}}})
}

/// What fails soon, at any pace.
pub(crate) fn absent() -> Value {
    let mut step = present("absent");
    step["expect"]["within"] = "1s".into();
    step
}

pub(crate) fn config_map(name: &str) -> Value {
    json!({"apply": {"in": "west", "manifest": {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"},
    }}})
}

pub(crate) fn records(world: &World) -> Vec<Record> {
    let file = std::fs::File::open(world.folder.path().join("run/journal.ndjson")).unwrap();
    let journal = read_journal(BufReader::new(file)).unwrap();
    assert!(journal.integrity.is_sound(), "{}", journal.integrity);
    journal.records
}

/// Waits for an event; fails when the run ends without it.
pub(crate) async fn seen(records: &mut broadcast::Receiver<Arc<Record>>, wanted: impl Fn(&Event) -> bool) {
    loop {
        let record = records.recv().await.unwrap();
        if wanted(&record.event) {
            return;
        }
        assert!(
            !matches!(record.event, Event::RunEnded(_)),
            "the run ended without the event"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_outside_of_the_namespace_is_restored() {
    let world = World::new();
    let steps = json!([
        // An object of nobody's, made, changed and deleted by an earlier step of the same scenario …
        {"apply": {"in": "west", "manifest": {
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new", "namespace": "kube-public"}, "data": {"a": "b"},
        }}},
        // … and one that is there before any scenario.
        {"patch": {"in": "west", "object": {"kind": "Namespace", "name": "kube-public"}, "merge": {"metadata": {"labels": {"touched": "yes"}}}}},
        {"apply": {"in": "west", "manifest": {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "test-role"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
        }}},
        config_map("inside"),
        present("inside"),
    ]);
    let summary = world.run(vec![scenario("restore", steps, json!({}))]).await;
    assert_eq!(summary.outcome, Outcome::Pass, "{:#?}", summary.history);
    let west = world.outside.store("west");
    assert!(west.get(&gvr::CONFIG_MAPS, Some("kube-public"), "new").is_err());
    assert!(west.get(&gvr::CLUSTER_ROLES, None, "test-role").is_err());
    let namespace = west.get(&gvr::NAMESPACES, None, "kube-public").unwrap();
    assert!(namespace["metadata"]["labels"].get("touched").is_none(), "{namespace}");
    for cluster in ["west", "east"] {
        let namespaces = world
            .outside
            .store(cluster)
            .list(&gvr::NAMESPACES, None, &Selector::all())
            .unwrap();
        let left: Vec<_> = namespaces
            .items
            .iter()
            .filter(|namespace| namespace["metadata"]["name"].as_str().unwrap().starts_with("mp-"))
            .collect();
        assert!(left.is_empty(), "{cluster}: {left:?}");
    }
    let cleanup = summary.history.scenarios[0].cleanup.as_ref().unwrap();
    assert!(cleanup.left.is_empty() && cleanup.problem.is_none(), "{cleanup:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_carry_the_labels_of_the_run_is_left_alone() {
    let world = World::new();
    let outside = |name: &str| {
        json!({"apply": {"in": "west", "manifest": {
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "kube-public"}, "data": {"a": "b"},
        }}})
    };
    let steps = json!([
        outside("taken"),
        outside("ours"),
        // A second apply of the same object must not cost it its labels.
        outside("ours"),
        {"expect": {"id": REQUIREMENT, "object": {"in": "west", "kind": "ConfigMap", "name": "go"}, "within": "60s"}},
    ]);
    let plan = world.plan(vec![scenario("spare", steps, json!({}))], &Selection::default());
    let namespace = plan.scenarios[0].namespace.clone();
    let session = world.session(plan, world.options()).await;
    let mut live = session.records();
    let world_outside = Arc::clone(&world.outside);
    let stranger = async {
        seen(&mut live, |event| matches!(event, Event::CheckOpened(_))).await;
        let west = world_outside.store("west");
        let unlabel = |gvr: &Gvr, place: Option<&str>, name: &str| {
            let mut object = (*west.get(gvr, place, name).unwrap()).clone();
            assert_eq!(object["metadata"]["labels"]["meshproof.dev/run"], "run-1", "{object}");
            object["metadata"]["labels"]["meshproof.dev/run"] = json!("somebody-elses");
            west.update(gvr, place, object).unwrap();
        };
        unlabel(&gvr::CONFIG_MAPS, Some("kube-public"), "taken");
        unlabel(&gvr::NAMESPACES, None, &namespace);
        let go = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "go"}});
        west.create(&gvr::CONFIG_MAPS, Some(&namespace), go).unwrap();
    };
    let (summary, ()) = tokio::join!(Engine::run_session(session), stranger);
    let summary = summary.unwrap();
    let west = world.outside.store("west");
    assert!(
        west.get(&gvr::NAMESPACES, None, &namespace).is_ok(),
        "the namespace was taken over"
    );
    assert!(west.get(&gvr::CONFIG_MAPS, Some("kube-public"), "taken").is_ok());
    assert!(west.get(&gvr::CONFIG_MAPS, Some("kube-public"), "ours").is_err());
    let east = world.outside.store("east");
    assert!(
        east.get(&gvr::NAMESPACES, None, &namespace).is_err(),
        "nobody took it over there"
    );
    let cleanup = summary.history.scenarios[0].cleanup.as_ref().unwrap();
    assert_eq!(
        cleanup.left,
        [
            "west Namespace ".to_owned() + &namespace,
            "west: delete ConfigMap kube-public/taken".to_owned()
        ]
    );
    let problem = cleanup.problem.as_ref().unwrap();
    assert_eq!(problem.code, "not-made-here", "{problem:?}");
    assert_eq!(summary.outcome, Outcome::Error, "what is left is told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupt_heals_cleans_up_and_reports() {
    let world = World::new();
    let interrupts = Interrupts::default();
    let steps = json!([
        config_map("inside"),
        {"fault": {"name": "cut", "partition": {"from": "west", "to": "east"}}},
        {"expect": {"id": REQUIREMENT, "name": "wait", "object": {"in": "west", "kind": "ConfigMap", "name": "never"}, "within": "1h"}},
        present("inside"),
    ]);
    let never = scenario("later", json!([present("never")]), json!({}));
    let plan = world.plan(
        vec![scenario("interrupted", steps, json!({})), never],
        &Selection::default(),
    );
    let options = RunOptions {
        interrupts: interrupts.clone(),
        parallel: 1,
        ..world.options()
    };
    let session = world.session(plan, options).await;
    let mut live = session.records();
    let outside = Arc::clone(&world.outside);
    let user = async move {
        seen(&mut live, |event| matches!(event, Event::CheckOpened(_))).await;
        assert_eq!(outside.faults.load(Ordering::SeqCst), 1);
        interrupts.interrupt();
    };
    let (summary, ()) = tokio::join!(Engine::run_session(session), user);
    let summary = summary.unwrap();
    assert_eq!(
        world.outside.faults.load(Ordering::SeqCst),
        0,
        "the fault is still in force"
    );
    assert_eq!(world.outside.downs.load(Ordering::SeqCst), 1);
    assert_eq!(summary.history.interrupted.len(), 1);
    let interrupted = summary.history.scenario("interrupted").unwrap();
    assert_eq!(interrupted.checks[0].outcome(), Outcome::Inconclusive);
    assert_eq!(
        interrupted.checks.len(),
        1,
        "a check after the interrupt is not reached"
    );
    let cleanup = interrupted.cleanup.as_ref().unwrap();
    assert!(cleanup.left.is_empty() && cleanup.problem.is_none(), "{cleanup:?}");
    assert!(
        world
            .outside
            .store("west")
            .get(&gvr::NAMESPACES, None, interrupted.namespace())
            .is_err()
    );
    assert!(summary.history.scenario("later").unwrap().started.is_none());
    assert_ne!(summary.outcome, Outcome::Pass);
    assert_eq!(summary.uncleaned, 0);
    assert!(matches!(records(&world).last().unwrap().event, Event::RunEnded(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_interrupt_heals_and_stops_at_once() {
    let world = World::new();
    let interrupts = Interrupts::default();
    let steps = json!([
        {"fault": {"name": "cut", "partition": {"from": "west", "to": "east"}}},
        {"expect": {"id": REQUIREMENT, "object": {"in": "west", "kind": "ConfigMap", "name": "never"}, "within": "1h"}},
    ]);
    let plan = world.plan(vec![scenario("hurried", steps, json!({}))], &Selection::default());
    let options = RunOptions {
        interrupts: interrupts.clone(),
        ..world.options()
    };
    let session = world.session(plan, options).await;
    let mut live = session.records();
    let user = async move {
        seen(&mut live, |event| matches!(event, Event::CheckOpened(_))).await;
        interrupts.interrupt();
        interrupts.interrupt();
    };
    let (summary, ()) = tokio::join!(Engine::run_session(session), user);
    let summary = summary.unwrap();
    assert_eq!(world.outside.faults.load(Ordering::SeqCst), 0);
    assert_eq!(summary.history.interrupted.len(), 2);
    let namespace = summary.history.scenarios[0].namespace();
    assert!(
        world
            .outside
            .store("west")
            .get(&gvr::NAMESPACES, None, namespace)
            .is_ok(),
        "nothing but faults is undone"
    );
    // Which is said, and known to whoever keeps what another process has to know to remove it.
    let cleanup = summary.history.scenarios[0].cleanup.as_ref().unwrap();
    let problem = cleanup.problem.as_ref().unwrap();
    assert!(problem.message.contains("did not wait"), "{problem:?}");
    assert_eq!(summary.uncleaned, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_step_ends_the_scenario_with_evidence_and_cleanup() {
    let world = World::new();
    let steps = json!([
        {"deploy": {"service": "store", "in": "west"}},
        {"stop": {"traffic": "nobody-started-it"}},
        present("never-asked"),
    ]);
    let summary = world.run(vec![scenario("broken", steps, json!({}))]).await;
    let history = &summary.history.scenarios[0];
    assert_eq!(summary.outcome, Outcome::Error);
    assert_eq!(history.steps.len(), 2);
    assert_eq!(history.steps[1].problem().unwrap().code, "unknown-traffic");
    assert!(history.checks.is_empty());
    assert_eq!(history.not_run(), [REQUIREMENT]);
    let folder = records(&world)
        .into_iter()
        .find_map(|record| match record.event {
            Event::EvidenceFrozen(EvidenceFrozen { folder, .. }) => Some(folder),
            _ => None,
        })
        .unwrap();
    let objects = world
        .folder
        .path()
        .join("run")
        .join(folder)
        .join("west/objects")
        .join(history.namespace());
    let pods: Value = serde_json::from_str(&std::fs::read_to_string(objects.join("pods.json")).unwrap()).unwrap();
    assert_eq!(pods.as_array().unwrap().len(), 1);
    assert!(
        world
            .outside
            .store("west")
            .get(&gvr::NAMESPACES, None, history.namespace())
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_that_do_not_come_up_make_errors_and_leave_nothing() {
    let world = World::new();
    world.outside.broken_install.store(true, Ordering::SeqCst);
    let summary = world
        .run(vec![scenario("never", json!([present("a")]), json!({}))])
        .await;
    assert_eq!(summary.outcome, Outcome::Error, "no scenario failed");
    assert_eq!(summary.history.environments[0].problem().unwrap().code, "not-ready");
    assert_eq!(summary.history.scenarios[0].outcome(), Outcome::Error);
    let (ups, downs) = (
        world.outside.ups.load(Ordering::SeqCst),
        world.outside.downs.load(Ordering::SeqCst),
    );
    assert_eq!((ups, downs), (1, 1));

    let evidence = summary.history.environments[0].evidence().unwrap();
    let folder = world.folder.path().join("run").join(&evidence.folder);
    let objects = std::fs::read_dir(folder.join("west/objects")).unwrap();
    assert!(objects.count() > 0, "{evidence:?}");
    let folded = RunHistory::fold(&records(&world));
    assert_eq!(folded, summary.history, "`recheck` has another history");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupt_ends_the_making_of_an_environment() {
    let world = World::new();
    world.outside.endless_install.store(true, Ordering::SeqCst);
    let interrupts = Interrupts::default();
    let plan = world.plan(
        vec![scenario("never", json!([present("a")]), json!({}))],
        &Selection::default(),
    );
    let options = RunOptions {
        interrupts: interrupts.clone(),
        ..world.options()
    };
    let session = world.session(plan, options).await;
    let outside = Arc::clone(&world.outside);
    let user = async move {
        while !outside.installing.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        interrupts.interrupt();
    };
    let (summary, ()) = tokio::join!(Engine::run_session(session), user);
    let summary = summary.unwrap();
    assert_eq!(summary.history.environments[0].problem().unwrap().code, "interrupted");
    assert_eq!(world.outside.downs.load(Ordering::SeqCst), 1);
    assert_eq!(summary.history.interrupted.len(), 1);
    assert_ne!(summary.outcome, Outcome::Fail);
    assert!(matches!(records(&world).last().unwrap().event, Event::RunEnded(_)));
}

/// One thread runs harness and clusters: who blocks it stops both.
async fn unlinked(world: World, stall: Duration) -> (World, RunHistory) {
    world.outside.broken_unlink.store(true, Ordering::SeqCst);
    *world.outside.stall.lock().unwrap() = stall;
    let unlink = json!([{"unlink": {"from": "west", "to": "east"}}]);
    let summary = world.run(vec![scenario("unlink", unlink, json!({"setup": {}}))]).await;
    (world, summary.history)
}

#[tokio::test]
async fn a_mesh_that_breaks_its_promise_to_somebody_awake_fails() {
    let (_, history) = unlinked(World::that_judges(), Duration::ZERO).await;
    assert_eq!(history.outcome(), Outcome::Fail, "{:?}", history.scenarios[0].steps);
}

#[tokio::test]
async fn a_step_that_a_stalled_harness_did_not_see_done_is_an_error() {
    let (world, history) = unlinked(World::new(), Duration::from_secs(1)).await;
    assert_eq!(history.outcome(), Outcome::Error);
    let problem = history.scenarios[0].steps[0].problem().unwrap();
    assert!(
        problem
            .message
            .contains("it is still linked; but the harness itself was stalled for "),
        "{}",
        problem.message
    );
    let folded = RunHistory::fold(&records(&world));
    assert_eq!(folded, history, "`recheck` has another history");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenarios_run_side_by_side_unless_they_disturb_each_other() {
    let world = World::new();
    // Long enough to overlap if they may.
    let waiting = json!([{"expect": {
        "id": REQUIREMENT, "object": {"in": "west", "kind": "ConfigMap", "name": "kube-root-ca.crt"}, "within": "5s", "then_for": "5s",
    }}]);
    let mut disturbing = waiting.clone();
    disturbing.as_array_mut().unwrap().insert(
        0,
        json!({"patch": {"in": "east", "object": {"kind": "Namespace", "name": "kube-public"}, "merge": {"metadata": {"labels": {"x": "y"}}}}}),
    );
    let summary = world
        .run(vec![
            scenario("a", waiting.clone(), json!({})),
            scenario("b", waiting, json!({})),
            scenario("c", disturbing.clone(), json!({})),
            scenario("d", disturbing, json!({})),
        ])
        .await;
    assert_eq!(summary.outcome, Outcome::Pass, "{:#?}", summary.history);
    let times: BTreeMap<&str, (u64, u64)> = summary
        .history
        .scenarios
        .iter()
        .map(|scenario| {
            (
                scenario.key.as_str(),
                (
                    scenario.started.as_ref().unwrap().at_us,
                    scenario.ended.as_ref().unwrap().at_us,
                ),
            )
        })
        .collect();
    let overlap = |one: &str, other: &str| times[one].0 < times[other].1 && times[other].0 < times[one].1;
    assert!(overlap("a", "b"), "{times:?}");
    for (one, other) in [("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d")] {
        assert!(!overlap(one, other), "{one} and {other}: {times:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repetitions_stop_at_the_first_failure_and_kept_clusters_stay() {
    let world = World::that_judges();
    let selection = Selection {
        repeat: 5,
        ..Selection::default()
    };
    let plan = world.plan(vec![scenario("fails", json!([absent()]), json!({}))], &selection);
    assert_eq!(plan.scenarios.len(), 5);
    let options = RunOptions {
        until_fail: true,
        parallel: 1,
        keep: Keep::Failures,
        ..world.options()
    };
    let session = world.session(plan, options).await;
    let summary = Engine::run_session(session).await.unwrap();
    let ran = |history: &RunHistory| {
        history
            .scenarios
            .iter()
            .filter(|scenario| scenario.started.is_some())
            .count()
    };
    assert_eq!(ran(&summary.history), 1);
    assert_eq!(summary.outcome, Outcome::Fail);
    let first = &summary.history.scenarios[0];
    assert_eq!(first.key, "fails#1");
    assert!(first.cleanup.as_ref().unwrap().kept);
    assert!(
        world
            .outside
            .store("west")
            .get(&gvr::NAMESPACES, None, first.namespace())
            .is_ok()
    );
    assert_eq!(world.outside.downs.load(Ordering::SeqCst), 0);
}
