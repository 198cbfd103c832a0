//! Whole scenarios: their steps do what they say, and their checks see what there is.

use std::sync::atomic::Ordering;

use meshproof_verdict::history::{CheckHistory, RunHistory};
use meshproof_verdict::record::{Event, LedgerClosed, Outcome, RunEnded};
use serde_json::json;

use crate::endings::records;
use crate::world::{REQUIREMENT, World, scenario};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_exported_mirrored_and_called() {
    let world = World::new();
    let steps = json!([
        {"deploy": {"service": "store", "in": "east", "replicas": 2}},
        {"deploy": {"client": "shopper", "in": "west"}},
        {"export": {"service": "store", "from": "east"}},
        {"expect": {
            "id": REQUIREMENT, "name": "mirrored",
            "object": {"in": "west", "kind": "Service", "name": "${mirror.store.east}"},
            "where": [{"path": "spec.ports[*].port", "equals": [80]}],
            "within": "10s",
        }},
        {"expect": {
            "id": REQUIREMENT, "control": ["mirrored"],
            "object": {"in": "west", "kind": "Service", "name": "store-east-east"}, "never_for": "2s",
        }},
        {"expect": {
            "id": REQUIREMENT,
            "objects": {"in": "west", "kind": "EndpointSlice", "labels": "kubernetes.io/service-name=store-east"},
            "count": {"at_least": 1},
            "within": "10s",
        }},
        {"call": {"name": "first", "from": "shopper", "to": "store@east", "count": 20, "headers": {"x-probe": "1"}}},
        {"expect": {
            "id": REQUIREMENT, "call": "first",
            "answered": {"by": "east", "seen": {"X-Probe": {"equals": "1"}}, "protocol": "http1", "port": 8080},
        }},
        {"unexport": {"service": "store", "from": "east"}},
        {"expect": {
            "id": REQUIREMENT, "control": ["mirrored"],
            "object": {"in": "west", "kind": "Service", "name": "store-east"}, "is": "absent", "within": "10s",
        }},
    ]);
    let summary = world.run(vec![scenario("export", steps, json!({}))]).await;
    let events: Vec<Event> = records(&world).into_iter().map(|record| record.event).collect();
    assert_eq!(summary.outcome, Outcome::Pass, "{events:#?}");
    let history = &summary.history.scenarios[0];
    assert_eq!(history.checks.len(), 5);
    // The first negative's control was asked again after it; the absence at the end was seen to come.
    let again: Vec<_> = history
        .controls
        .iter()
        .map(|control| (control.opened.name.as_deref(), control.opened.proves, control.outcome()))
        .collect();
    assert_eq!(
        again,
        [(Some("mirrored"), Some(history.checks[1].opened.check), Outcome::Pass)]
    );
    assert!(history.controls[0].opened.at_us >= history.checks[1].closed.as_ref().unwrap().at_us);
    assert!(matches!(events.first(), Some(Event::RunStarted(_))));
    assert!(matches!(
        events.last(),
        Some(Event::RunEnded(RunEnded { outcome: Outcome::Pass }))
    ));
    let closed = events.iter().find_map(|event| match event {
        Event::LedgerClosed(LedgerClosed {
            ledger,
            rows,
            reconciliation,
            ..
        }) if ledger == "first" => Some((*rows, reconciliation.clone())),
        _ => None,
    });
    let (rows, reconciliation) = closed.unwrap();
    assert_eq!(rows, 20);
    let reconciliation = reconciliation.unwrap();
    assert_eq!((reconciliation.server_rows, reconciliation.unseen.count), (20, 0));
    assert_eq!(world.outside.ups.load(Ordering::SeqCst), 1);
    assert_eq!(world.outside.downs.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_goes_on_while_a_service_is_scaled_restarted_and_told_how_to_behave() {
    let world = World::new();
    let steps = json!([
        {"deploy": {"service": "store", "in": "west", "replicas": 2}},
        {"deploy": {"client": "shopper", "in": "west"}},
        {"traffic": {"name": "steady", "from": "shopper", "to": "store", "rate": "20/s", "timeout": "2s"}},
        {"expect": {"id": REQUIREMENT, "name": "served", "traffic": "steady", "served_by": {"only": "west"}, "within": "10s", "then_for": "5s"}},
        {"scale": {"service": "store", "in": "west", "to": 0}},
        {"expect": {"id": REQUIREMENT, "name": "gone", "control": ["served"], "traffic": "steady", "refused": true, "within": "10s", "then_for": "3s"}},
        {"scale": {"service": "store", "in": "west", "to": 2}},
        {"expect": {"id": REQUIREMENT, "traffic": "steady", "served_by": {"only": "west"}, "within": "20s", "then_for": "3s"}},
        {"restart": {"service": "store", "in": "west"}},
        {"stop": {"traffic": "steady"}},
        {"behave": {"service": "store", "in": "west", "status": 503}},
        {"call": {"name": "refused", "from": "shopper", "to": "store", "count": 5}},
        {"expect": {"id": REQUIREMENT, "call": "refused", "fails": {"status": [503]}}},
        {"behave": {"service": "store", "in": "west", "delay": "2s"}},
        {"call": {"name": "late", "from": "shopper", "to": "store", "count": 2, "timeout": "1s"}},
        {"expect": {"id": REQUIREMENT, "call": "late", "fails": {}}},
    ]);
    let summary = world.run(vec![scenario("traffic", steps, json!({}))]).await;
    let history = &summary.history.scenarios[0];
    let outcomes: Vec<_> = history
        .checks
        .iter()
        .map(|check| {
            (
                check.opened.line,
                check.outcome(),
                check.judgement.as_ref().unwrap().summary.clone(),
            )
        })
        .collect();
    let (pass, unproven) = (Outcome::Pass, Outcome::Inconclusive);
    let judged: Vec<_> = outcomes.iter().map(|(_, outcome, _)| *outcome).collect();
    // Steps have come between the control and `gone`, and nothing controls `late`: neither proves anything.
    assert_eq!(
        judged,
        [pass, unproven, pass, pass, unproven],
        "{outcomes:#?}\n{:#?}",
        history.steps.last()
    );
    let folded = RunHistory::fold(&records(&world));
    assert_eq!(
        folded.scenario(&history.key),
        Some(&**history),
        "`recheck` has another history"
    );
    let steady = history.ledger("steady").and_then(|ledger| ledger.closed.as_ref());
    let rows = steady.unwrap().rows;
    let file = std::fs::read_to_string(world.folder.path().join("run/ledgers/traffic/steady.ndjson")).unwrap();
    assert_eq!(file.lines().count() as u64, rows);
    assert!(rows > 200, "{rows}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inventories_links_and_access_are_checked() {
    let world = World::new();
    let steps = json!([
        {"deploy": {"service": "store", "in": "east"}},
        {"inventory": {"name": "before", "in": ["west", "east"]}},
        {"export": {"service": "store", "from": "east"}},
        {"expect": {"id": REQUIREMENT, "object": {"in": "west", "kind": "Service", "name": "store-east"}, "within": "5s"}},
        {"unexport": {"service": "store", "from": "east"}},
        {"expect": {"id": REQUIREMENT, "unchanged": {"since": "before", "in": ["west", "east"]}, "within": "20s"}},
        {"expect": {"id": REQUIREMENT, "residue": {"link": {"from": "west", "to": "east"}}, "within": "20s"}},
        {"expect": {"id": REQUIREMENT, "link": {"from": "west", "to": "east"}, "alive": true, "within": "5s"}},
        {"expect": {"id": REQUIREMENT, "access": {"in": "west", "user": "system:admin", "verb": "get", "resource": "secrets"}, "allowed": false, "control": ["may"]}},
        {"expect": {"id": REQUIREMENT, "rejected": {"in": "west", "manifest": {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"ports": [{"port": 700_000}]}}, "message": "700000"}}},
    ]);
    let summary = world.run(vec![scenario("checks", steps, json!({}))]).await;
    let history = &summary.history.scenarios[0];
    let outcomes: Vec<_> = history.checks.iter().map(CheckHistory::outcome).collect();
    let summaries: Vec<_> = history
        .checks
        .iter()
        .map(|check| &check.judgement.as_ref().unwrap().summary)
        .collect();
    let pass = Outcome::Pass;
    // The negative about access names a control that does not exist: it must not pass.
    assert_eq!(
        outcomes,
        [pass, pass, pass, pass, Outcome::Inconclusive, pass],
        "{summaries:#?}\n{:#?}",
        history.steps.last()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_is_written_down_and_what_was_seen_before_is_compared_with() {
    let world = World::that_judges();
    let same = |uid: &str| {
        json!({"expect": {
            "id": REQUIREMENT, "name": format!("same-{uid}"),
            "object": {"in": "west", "kind": "Service", "name": "store"},
            "where": [{"path": "metadata.uid", "same_as": uid}],
            "within": "1s",
        }})
    };
    let seen = |name: &str| {
        json!({"expect": {
            "id": REQUIREMENT, "name": name,
            "object": {"in": "west", "kind": "Service", "name": "store"}, "within": "10s",
        }})
    };
    let object = json!({"kind": "Service", "name": "store"});
    let steps = json!([
        {"deploy": {"service": "store", "in": "west", "replicas": 0}},
        seen("first"),
        {"upgrade": {"in": ["east", "west"]}},
        same("first"),
        {"delete": {"in": "west", "object": object}},
        {"apply": {"in": "west", "manifest": {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "store"}, "spec": {"ports": [{"port": 80}]},
        }}},
        seen("second"),
        same("second"),
        same("first"),
    ]);
    let summary = world.run(vec![scenario("upgraded", steps, json!({"setup": {}}))]).await;
    let scenario = &summary.history.scenarios[0];
    let outcomes: Vec<Outcome> = scenario.checks.iter().map(CheckHistory::outcome).collect();
    // Only the object that was made anew is not the first one any more.
    let expected = [
        Outcome::Pass,
        Outcome::Pass,
        Outcome::Pass,
        Outcome::Pass,
        Outcome::Fail,
    ];
    assert_eq!(outcomes, expected, "{scenario:#?}");
    let upgrades: Vec<(&str, &str, &str)> = scenario
        .upgrades
        .iter()
        .map(|upgrade| (upgrade.cluster.as_str(), upgrade.from.as_str(), upgrade.to.as_str()))
        .collect();
    assert_eq!(
        upgrades,
        [("east", "plain 1.0", "plain 2.0"), ("west", "plain 1.0", "plain 2.0")]
    );
    // The journal says the same as what the run knew.
    let written = records(&world)
        .into_iter()
        .filter(|record| matches!(record.event, Event::MeshUpgraded(_)));
    assert_eq!(written.count(), 2);
}
