//! What is outside of a scenario's namespace is as it was afterwards, wherever the scenario is given up.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use meshproof_apiserver::{Gvr, Store, gvr};
use meshproof_engine::plan::Selection;
use meshproof_engine::{Engine, Interrupts, Keep, RunOptions, RunSummary, Session};
use meshproof_verdict::disturbance::{Undo, open};
use meshproof_verdict::record::{Disturbed, Event, Outcome};
use serde_json::{Value, json};

use crate::endings::{absent, records};
use crate::world::{World, scenario};

/// Objects of somebody else, which are there before any scenario.
fn foreign() -> Vec<(Gvr, Option<&'static str>, Value)> {
    let role = |name: &str, verbs: Value| json!({"metadata": {"name": name}, "rules": [{"apiGroups": [""], "resources": ["services"], "verbs": verbs}]});
    let map = |name: &str| json!({"metadata": {"name": name}, "data": {"a": "before"}});
    let public = Some("kube-public");
    vec![
        (gvr::CONFIG_MAPS, public, map("patched")),
        (gvr::CONFIG_MAPS, public, map("applied")),
        (gvr::CONFIG_MAPS, public, map("deleted")),
        (
            gvr::CLUSTER_ROLES,
            None,
            role("test-writer", json!(["create", "update", "get"])),
        ),
        (
            gvr::LEASES,
            Some("kube-system"),
            json!({"metadata": {"name": "none"}, "spec": {"holderIdentity": "controller"}}),
        ),
        (
            gvr::DEPLOYMENTS,
            Some("kube-system"),
            json!({"metadata": {"name": "none"}, "spec": {
                "replicas": 1, "selector": {"matchLabels": {"x": "y"}},
                "template": {"metadata": {"labels": {"x": "y"}}, "spec": {"containers": [{"name": "c", "image": "registry.k8s.io/pause"}]}},
            }}),
        ),
    ]
}

/// One step of every kind that changes something outside.
fn disturbing() -> Value {
    let map = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "kube-public"}, "data": {"a": "after"}});
    let object = |name: &str| json!({"kind": "ConfigMap", "name": name, "namespace": "kube-public"});
    json!([
        {"patch": {"in": "west", "object": object("patched"), "merge": {"data": {"a": "after", "b": "new"}}}},
        {"apply": {"in": "west", "manifest": map("applied")}},
        {"apply": {"in": "west", "manifest": map("made")}},
        {"delete": {"in": "west", "object": object("deleted")}},
        {"fault": {"name": "denied", "deny_writes": {"from": "west", "to": "east", "verbs": ["create"]}}},
        {"fault": {"name": "theft", "steal_lease": {"from": "west", "to": "east"}}},
        {"scale": {"component": "controller", "of": "east", "in": "west", "to": 0}},
        {"heal": {"fault": "denied"}},
        absent(),
    ])
}

/// What of the foreign objects a scenario could change.
fn state(store: &Store) -> BTreeMap<String, Value> {
    let mut state = BTreeMap::new();
    let mut look = |gvr: &Gvr, namespace: Option<&str>, name: &str| {
        let object = store.get(gvr, namespace, name).ok();
        let held = object.as_ref().map_or(Value::Null, |object| {
            json!({
                "data": object["data"], "rules": object["rules"], "replicas": object["spec"]["replicas"],
                "stolen": object["spec"]["holderIdentity"] == "meshproof-thief",
            })
        });
        state.insert(format!("{gvr:?}/{name}"), held);
    };
    for (gvr, namespace, object) in foreign() {
        look(&gvr, namespace, object["metadata"]["name"].as_str().unwrap());
    }
    look(&gvr::CONFIG_MAPS, Some("kube-public"), "made");
    state
}

/// As it was before anything ran.
fn untouched() -> BTreeMap<String, Value> {
    let of = |(gvr, _, object): (Gvr, Option<&str>, Value)| {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let held = json!({
            "data": object["data"], "rules": object["rules"], "replicas": object["spec"]["replicas"], "stolen": false,
        });
        (format!("{gvr:?}/{name}"), held)
    };
    let mut state: BTreeMap<String, Value> = foreign().into_iter().map(of).collect();
    state.insert(format!("{:?}/made", gvr::CONFIG_MAPS), Value::Null);
    state
}

async fn session(world: &World, interrupts: Interrupts, keep: Keep) -> Session {
    *world.outside.foreign.lock().unwrap() = foreign()
        .into_iter()
        .map(|(gvr, namespace, object)| (gvr, namespace.map(ToOwned::to_owned), object))
        .collect();
    let private = world.folder.path().join("private");
    std::fs::create_dir_all(&private).unwrap();
    let plan = world.plan(
        vec![scenario("disturbing", disturbing(), json!({}))],
        &Selection::default(),
    );
    let options = RunOptions {
        interrupts,
        keep,
        private_dir: Some(private),
        ..world.options()
    };
    world.session(plan, options).await
}

fn assert_undone(world: &World, what: &str) {
    assert_eq!(state(&world.outside.store("west")), untouched(), "{what}");
    let records = records(world);
    let left = open(&records);
    assert!(left.is_empty(), "{what}: {left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_is_written_down_before_it_is_made_and_undone_at_the_end() {
    let world = World::new();
    let summary = Engine::run_session(session(&world, Interrupts::default(), Keep::Nothing).await)
        .await
        .unwrap();
    let history = &summary.history.scenarios[0];
    assert!(
        history.steps.iter().all(|step| step.problem().is_none()),
        "{history:#?}"
    );
    assert_undone(&world, "at the end");
    let undos: Vec<Undo> = records(&world)
        .into_iter()
        .filter_map(|record| match record.event {
            Event::Disturbed(Disturbed { undo, .. }) => Some(undo),
            _ => None,
        })
        .collect();
    assert_eq!(undos.len(), 7, "{undos:?}");
    assert_eq!(undos[0], Undo::Merge(json!({"data": {"a": "before", "b": null}})));
    assert_eq!(undos[2], Undo::Delete);
    assert!(matches!(undos[3], Undo::Private { .. }), "{:?}", undos[3]);
    assert_eq!(
        undos[5],
        Undo::Release {
            holder: "meshproof-thief".to_owned()
        }
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_is_kept_without_what_is_outside_of_the_namespace() {
    for keep in [Keep::Everything, Keep::Failures] {
        let world = World::that_judges();
        let summary: RunSummary = Engine::run_session(session(&world, Interrupts::default(), keep).await)
            .await
            .unwrap();
        assert_eq!(summary.outcome, Outcome::Fail);
        let history = &summary.history.scenarios[0];
        assert!(history.cleanup.as_ref().unwrap().kept);
        let west = world.outside.store("west");
        assert!(west.get(&gvr::NAMESPACES, None, history.namespace()).is_ok());
        assert_undone(&world, "kept");
    }
}

/// Runs the scenario and interrupts it when it was polled this often after its clusters were up; whether it got so far.
async fn interrupted_after(polls: usize, times: usize) -> bool {
    let world = World::new();
    let interrupts = Interrupts::default();
    let session = session(&world, interrupts.clone(), Keep::Nothing).await;
    let live = Arc::clone(&world.outside);
    let mut polled = 0;
    {
        let mut running = pin!(session.run("disturbing"));
        let up = || live.ups.load(std::sync::atomic::Ordering::SeqCst) > 0;
        let driven = poll_fn(|context| {
            if up() {
                polled += 1;
            }
            if polled == polls {
                // What awaits now is dropped, wherever it is.
                for _ in 0..times {
                    interrupts.interrupt();
                }
            }
            match running.as_mut().poll(context) {
                Poll::Ready(_) => Poll::Ready(()),
                Poll::Pending => Poll::Pending,
            }
        });
        driven.await;
    }
    let what = format!("interrupted {times} times after {polls} polls");
    let west = state(&world.outside.store("west"));
    assert_eq!(west, untouched(), "{what}");
    assert!(open(&records(&world)).is_empty(), "{what}");
    session.close().await.unwrap();
    polled >= polls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stays_wherever_an_interrupt_comes() {
    for polls in 1.. {
        if !interrupted_after(polls, 1).await {
            assert!(polls > 20, "only {polls} places were tried");
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stays_wherever_a_hurried_interrupt_comes() {
    for polls in (1..).step_by(3) {
        if !interrupted_after(polls, 2).await {
            break;
        }
    }
}
