//! Whole scenarios: their steps do what they say, and their checks see what there is.

use std::io::BufReader;
use std::sync::atomic::Ordering;

use meshproof_verdict::journal::read_journal;
use meshproof_verdict::record::{Event, Outcome};
use serde_json::json;

use crate::world::{REQUIREMENT, World, scenario};

fn events(world: &World) -> Vec<Event> {
    let file = std::fs::File::open(world.folder.path().join("run/journal.ndjson")).unwrap();
    let journal = read_journal(BufReader::new(file)).unwrap();
    assert!(journal.integrity.is_sound(), "{}", journal.integrity);
    journal.records.into_iter().map(|record| record.event).collect()
}

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
    let events = events(&world);
    assert_eq!(summary.outcome, Outcome::Pass, "{events:#?}");
    assert_eq!(summary.history.scenarios[0].checks.len(), 4);
    assert!(matches!(events.first(), Some(Event::RunStarted(_))));
    assert!(matches!(
        events.last(),
        Some(Event::RunEnded { outcome: Outcome::Pass })
    ));
    let closed = events.iter().find_map(|event| match event {
        Event::LedgerClosed {
            ledger,
            rows,
            reconciliation,
            ..
        } if ledger == "first" => Some((*rows, reconciliation.clone())),
        _ => None,
    });
    let (rows, reconciliation) = closed.unwrap();
    assert_eq!(rows, 20);
    let reconciliation = reconciliation.unwrap();
    assert_eq!((reconciliation.server_rows, reconciliation.unseen.count), (20, 0));
    assert_eq!(world.outside.ups.load(Ordering::SeqCst), 1);
    assert_eq!(world.outside.downs.load(Ordering::SeqCst), 1);
}
