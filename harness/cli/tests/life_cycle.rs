//! What happens to an installed mesh, through the command line on kind with stand-ins for the vendor's tools: upgrades, where a
//! second `linkerd` or other charts bring the version to go to, and new certificates; what is skipped; what a plan prints.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![expect(
    clippy::disallowed_methods,
    reason = "moments of another process are the subject, and no runtime is here"
)]

#[path = "kind/machine.rs"]
#[expect(dead_code, reason = "tests of kind itself use more of it")]
mod machine;

use std::fs;
use std::sync::{Mutex, PoisonError};

use meshproof_report::model::Report;
use meshproof_standins::NEXT_LINKERD;

use crate::machine::{Machine, Said};

/// Two sets of clusters at a time would starve each other, and lose requests for that.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn run(machine: &Machine, more: &[&str]) -> Said {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    Machine::said(&mut machine.run(more))
}

fn next_linkerd(machine: &Machine) -> String {
    machine.standins.path_dir().join(NEXT_LINKERD).display().to_string()
}

fn report(machine: &Machine) -> Report {
    let runs = fs::read_dir(machine.folder.path().join("runs")).unwrap();
    let run = runs.flatten().next().unwrap().path();
    serde_json::from_str(&fs::read_to_string(run.join("report.json")).unwrap()).unwrap()
}

/// Lines of the calls of a tool, up to its first option.
fn verbs(machine: &Machine, tool: &str) -> Vec<String> {
    let calls = machine.standins.calls();
    let calls = calls.iter().filter(|call| call.tool == tool);
    calls
        .map(|call| {
            let words = call
                .args
                .iter()
                .take_while(|word| *word == "--crds" || !word.starts_with('-'));
            words.cloned().collect::<Vec<_>>().join(" ")
        })
        .collect()
}

#[test]
fn the_vendors_next_cli_upgrades_what_its_first_one_installed() {
    let machine = Machine::new();
    let said = run(
        &machine,
        &["--upgrade-linkerd", &next_linkerd(&machine), "--tag", "upgrade"],
    );
    assert_eq!(said.code, Some(0), "{}", said.all());
    assert!(said.out.contains("pass: 3 scenarios (3 pass)"), "{}", said.out);
    machine.assert_nothing_left("an upgrade");

    let next = verbs(&machine, NEXT_LINKERD);
    // Five upgrades in three scenarios, each in the documented order.
    let count = |verb: &str| next.iter().filter(|line| *line == verb).count();
    for verb in [
        "upgrade --crds",
        "upgrade",
        "prune",
        "multicluster install",
        "multicluster link-gen",
    ] {
        assert_eq!(count(verb), 5, "{verb}: {next:?}");
    }
    assert_eq!(count("install"), 0, "{next:?}");
    let first = verbs(&machine, "linkerd");
    assert!(
        !first.iter().any(|line| line.starts_with("upgrade") || line == "prune"),
        "{first:?}"
    );

    // The report tells which version each check ran against.
    let report = report(&machine);
    let scenario = report.scenarios.iter().find(|row| row.id == "under-load").unwrap();
    let upgraded: Vec<&str> = scenario.upgrades.iter().map(|row| row.cluster.as_str()).collect();
    assert_eq!(upgraded, ["east", "west"]);
    let mesh = |check: usize, cluster: &str| scenario.checks[check].mesh[cluster].as_str();
    assert_eq!(mesh(0, "west"), "linkerd model-2.20");
    let last = scenario.checks.len() - 1;
    assert_eq!(
        (mesh(last, "west"), mesh(last, "east")),
        ("linkerd model-2.21", "linkerd model-2.21")
    );
}

#[test]
fn images_of_the_version_to_go_to_are_listed_where_a_scenario_upgrades() {
    let machine = Machine::new();
    let images = |scenario: &str| {
        let next = next_linkerd(&machine);
        let said =
            Machine::said(&mut machine.meshproof(&["images", "--on", "kind", "--upgrade-linkerd", &next, scenario]));
        assert_eq!(said.code, Some(0), "{}", said.all());
        said.out
    };
    let listed = images("under-load");
    for version in ["model-2.20", "model-2.21"] {
        assert!(
            listed.contains(&format!("model.linkerd/proxy-injector:{version}")),
            "{listed}"
        );
    }
    let listed = images("exported-service-appears");
    assert!(
        listed.contains("model-2.20") && !listed.contains("model-2.21"),
        "{listed}"
    );
}

#[test]
fn charts_of_the_next_version_upgrade_too() {
    let machine = Machine::new();
    let said = run(
        &machine,
        &[
            "--mesh-from",
            "helm",
            "--upgrade-chart-crds",
            "linkerd/linkerd-crds@0.0.0-model-2.21",
            "--upgrade-chart-control-plane",
            "linkerd/linkerd-control-plane@0.0.0-model-2.21",
            "--upgrade-chart-multicluster",
            "linkerd/linkerd-multicluster@0.0.0-model-2.21",
            "under-load",
        ],
    );
    assert_eq!(said.code, Some(0), "{}", said.all());
    machine.assert_nothing_left("an upgrade");
    let upgrades = &report(&machine).scenarios[0].upgrades;
    assert_eq!(upgrades.len(), 2, "{upgrades:?}");
    assert_eq!(upgrades[0].to, "linkerd model-2.21");
    assert!(
        !machine
            .standins
            .calls()
            .iter()
            .any(|call| call.tool.starts_with("linkerd"))
    );
}

#[test]
fn without_a_version_to_go_to_upgrades_are_skipped_and_say_so() {
    let machine = Machine::new();
    let said = run(&machine, &["under-load"]);
    // Nothing was run.
    assert_eq!(said.code, Some(4), "{}", said.all());
    assert!(said.all().contains("capability-missing"), "{}", said.all());
    assert!(said.all().contains("upgrade-mesh"), "{}", said.all());
}

#[test]
fn the_same_version_again_is_no_upgrade() {
    let machine = Machine::new();
    let same = machine.standins.path_dir().join("linkerd").display().to_string();
    let said = run(&machine, &["--upgrade-linkerd", &same, "under-load"]);
    assert_eq!(said.code, Some(6), "{}", said.all());
    assert!(said.all().contains("upgrade-impossible"), "{}", said.all());
    machine.assert_nothing_left("an upgrade");
}

#[test]
fn a_plan_prints_what_upgrades_would_run() {
    let machine = Machine::new();
    let said = Machine::said(&mut machine.meshproof(&[
        "plan",
        "--on",
        "kind",
        "--commands",
        "--upgrade-linkerd",
        "/opt/linkerd-next",
        "versions-differ",
    ]));
    assert_eq!(said.code, Some(0), "{}", said.all());
    let upgrade = said.out.split("upgrade of west").nth(1).unwrap_or_default();
    let order = [
        "linkerd upgrade --crds",
        "linkerd upgrade --kubeconfig",
        "linkerd prune",
        "linkerd multicluster install",
    ];
    let places: Vec<Option<usize>> = order.iter().map(|line| upgrade.find(line)).collect();
    assert!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{places:?} in {upgrade}"
    );
}

#[test]
fn contradictions_on_the_command_line_are_told() {
    let machine = Machine::new();
    let wrong: [(&[&str], &str); 4] = [
        (&["--upgrade-to", "edge-26.8.3"], "--upgrade-linkerd"),
        (
            &["--mesh-from", "preinstalled", "--upgrade-linkerd", "x"],
            "preinstalled",
        ),
        (
            &["--mesh-from", "helm", "--upgrade-linkerd", "x"],
            "--upgrade-chart-crds",
        ),
        (&["--upgrade-chart-crds", "x"], "--upgrade-chart-control-plane"),
    ];
    for (words, named) in wrong {
        let said = run(&machine, &[words, &["under-load"]].concat());
        assert_eq!(said.code, Some(2), "{words:?}: {}", said.all());
        assert!(said.all().contains(named), "{words:?}: {}", said.all());
    }
}

#[test]
fn the_vendors_cli_replaces_the_root() {
    let machine = Machine::new();
    let said = run(&machine, &["new-root-in-three-steps"]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    machine.assert_nothing_left("a replaced root");
    // Anchors are added and dropped, and an issuer is given, in each of two clusters.
    let upgrades = machine.standins.calls();
    let upgrades = upgrades
        .iter()
        .filter(|call| call.args.first().is_some_and(|verb| verb == "upgrade"));
    let with = |flag: &str| {
        upgrades
            .clone()
            .filter(|call| call.args.iter().any(|word| word == flag))
            .count()
    };
    assert_eq!(with("--identity-trust-anchors-file"), 4);
    assert_eq!(with("--identity-issuer-key-file"), 2);
}
