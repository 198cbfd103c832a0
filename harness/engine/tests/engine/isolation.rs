//! One broken scenario costs one scenario: panics of the harness, and a journal that can't be written.

use std::sync::atomic::Ordering;

use meshproof_apiserver::{Selector, gvr};
use meshproof_engine::plan::Selection;
use meshproof_engine::{Engine, ProvokedPanics, RunOptions, RunSummary};
use meshproof_verdict::record::{Event, Outcome};
use serde_json::{Value, json};

use crate::endings::{config_map, present, records};
use crate::world::{World, scenario};

fn label_kube_public() -> Value {
    json!({"patch": {"in": "west", "object": {"kind": "Namespace", "name": "kube-public"}, "merge": {"metadata": {"labels": {"touched": "yes"}}}}})
}

async fn run(world: &World, scenarios: Vec<meshproof_engine::plan::SuiteScenario>, panics: &str) -> RunSummary {
    let plan = world.plan(scenarios, &Selection::default());
    let options = RunOptions {
        panics: ProvokedPanics::at(panics),
        ..world.options()
    };
    Engine::run_session(world.session(plan, options).await).await.unwrap()
}

/// Nothing of any scenario is in the clusters that came up last, in its namespace or outside of it.
fn assert_nothing_left(world: &World) {
    for cluster in ["west", "east"] {
        let store = world.outside.store(cluster);
        for namespace in store.list(&gvr::NAMESPACES, None, &Selector::all()).unwrap().items {
            let name = namespace["metadata"]["name"].as_str().unwrap();
            assert!(!name.starts_with("mp-"), "{cluster}: {name} is left");
            assert!(
                namespace["metadata"]["labels"].get("touched").is_none(),
                "{cluster}: {namespace}"
            );
        }
    }
    assert_eq!(
        world.outside.faults.load(Ordering::SeqCst),
        0,
        "a fault is still in force"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_step_costs_its_scenario_and_nothing_else() {
    let world = World::new();
    let broken = json!([
        label_kube_public(),
        {"fault": {"name": "cut", "partition": {"from": "west", "to": "east"}}},
        config_map("inside"),
        present("inside"),
    ]);
    let fine = json!([config_map("inside"), present("inside")]);
    let scenarios = vec![
        scenario("broken", broken, json!({})),
        scenario("fine", fine.clone(), json!({})),
        scenario("also-fine", fine, json!({})),
    ];
    let summary = run(&world, scenarios, "broken:2").await;
    let history = |key: &str| summary.history.scenario(key).unwrap();
    assert_eq!(history("fine").outcome(), Outcome::Pass);
    assert_eq!(history("also-fine").outcome(), Outcome::Pass);
    let broken = history("broken");
    assert_eq!(broken.outcome(), Outcome::Error);
    let problem = broken.steps[2].problem().unwrap();
    assert_eq!(problem.code, "harness-panicked");
    assert!(problem.message.contains("provoked at broken:2"), "{}", problem.message);
    let cleanup = broken.cleanup.as_ref().unwrap();
    assert!(cleanup.left.is_empty() && cleanup.problem.is_none(), "{cleanup:?}");
    assert_nothing_left(&world);
    assert_eq!(summary.outcome, Outcome::Error);
    assert!(matches!(records(&world).last().unwrap().event, Event::RunEnded(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_the_cleanup_does_not_keep_the_rest_of_it_from_being_done() {
    let world = World::new();
    let steps = json!([label_kube_public(), config_map("inside"), present("inside")]);
    let summary = run(&world, vec![scenario("broken", steps, json!({}))], "broken:cleanup").await;
    let broken = &summary.history.scenarios[0];
    assert_eq!(broken.outcome(), Outcome::Error);
    assert_eq!(
        broken.cleanup.as_ref().unwrap().problem.as_ref().unwrap().code,
        "harness-panicked"
    );
    assert_nothing_left(&world);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_bring_up_costs_the_scenarios_of_that_environment() {
    let world = World::new();
    let steps = json!([config_map("inside"), present("inside")]);
    let scenarios = vec![
        scenario("own", steps.clone(), json!({"setup": {}})),
        scenario("shared", steps, json!({})),
    ];
    let plan = world.plan(scenarios, &Selection::default());
    let own = plan.scenario("own").unwrap().environment.clone();
    let options = RunOptions {
        panics: ProvokedPanics::at(&format!("{own}:up")),
        ..world.options()
    };
    let summary = Engine::run_session(world.session(plan, options).await).await.unwrap();
    assert_eq!(summary.history.scenario("shared").unwrap().outcome(), Outcome::Pass);
    assert_eq!(summary.history.scenario("own").unwrap().outcome(), Outcome::Error);
    let failed = summary.history.environments.iter().find(|up| up.key() == own).unwrap();
    assert_eq!(failed.problem().unwrap().code, "harness-panicked");
    assert_nothing_left(&world);
}
