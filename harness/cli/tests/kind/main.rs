//! `--on kind` from end to end through stand-ins for `kind`, `docker` and `linkerd` that are backed by embedded clusters: what
//! a user of the command line sees, and what is left on the machine.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![expect(
    clippy::disallowed_methods,
    reason = "moments of another process are the subject, and no runtime is here"
)]

mod caches;
mod images;
mod lacking;
mod machine;
mod reuse;

use std::fs;
use std::time::{Duration, Instant};

use meshproof_report::run_folder::RunFolder;
use rstest::rstest;

use crate::machine::{Machine, SCENARIO, WRONG, await_moment, wait};

#[test]
fn scenarios_run_unchanged_and_leave_nothing() {
    let machine = Machine::new();
    let scenarios = [
        SCENARIO,
        "answers-come-from-the-target",
        "mutual-tls-is-proven",
        "unexport-removes",
        "issuers-of-one-root",
        "same-name-from-two-clusters",
    ];
    let said = Machine::said(&mut machine.run(&scenarios));
    assert_eq!(said.code, Some(0), "{}", said.all());
    assert!(said.out.contains("pass: 6 scenarios (6 pass)"), "{}", said.out);
    machine.assert_nothing_left("a green run");

    let runs = fs::read_dir(machine.folder.path().join("runs")).unwrap();
    let run = RunFolder::read(&runs.flatten().next().unwrap().path()).unwrap();
    let started = run.history.started.as_ref().unwrap();
    assert_eq!(started.environment, "kind");
    // Two sets of clusters, one after the other: each was created, and removed when nobody needed it any more.
    let calls = machine.standins.calls();
    let created = calls
        .iter()
        .filter(|call| call.line().starts_with("kind create cluster"));
    assert_eq!(created.count(), 5);
}

#[test]
fn broken_promises_are_found_through_the_tools_too() {
    let machine = Machine::new();
    let file = machine.wrong_scenario();
    let said = Machine::said(&mut machine.run(&[file.to_str().unwrap()]));
    assert_eq!(said.code, Some(1), "{}", said.all());
    machine.assert_nothing_left("a red run");

    // What the tools did and said is among the evidence of the check.
    let said_by = |file: &str| machine.evidence(WRONG, file);
    let commands = said_by("environment/commands.txt");
    assert!(
        commands.contains("exit 0        kind create cluster --name meshproof-pair-west"),
        "{commands}"
    );
    assert!(!commands.contains("PRIVATE"), "{commands}");
    let checks = said_by("west/mesh/check.txt");
    assert!(checks.contains("linkerd-multicluster: "), "{checks}");

    // So is what nodes logged, without secrets, and nothing that holds their environment.
    let kubelet = said_by("environment/kind/west/meshproof-pair-west-control-plane/kubelet.log");
    assert!(kubelet.contains("a node without a kubelet"), "{kubelet}");
    assert!(
        kubelet.contains("<not shown: ") && !kubelet.contains("0000"),
        "{kubelet}"
    );
    let images = said_by("environment/kind/east/meshproof-pair-east-control-plane/images.log");
    assert!(images.contains("meshproof-agent:"), "{images}");
    let containers = said_by("environment/kind/east/meshproof-pair-east-control-plane/containers.txt");
    assert_eq!(containers, "etcd_kube-system_etcd-0\n");
    let of_node = machine.evidence_path(WRONG, "environment/kind/west/meshproof-pair-west-control-plane");
    assert!(!of_node.join("inspect.json").exists());
    assert!(
        !machine
            .evidence_path(WRONG, "environment/kind/west/missing.txt")
            .exists()
    );
}

/// Logs that can't be had are told among the evidence; the verdict is the check's all the same.
#[rstest]
#[case::refused("kind export logs = exit 1 no space left on device", "no space left on device")]
#[case::hanging("kind export logs = hang", "did not end within")]
#[case::missing("kind export logs @1 = missing", "not found")]
fn logs_that_cannot_be_had_break_nothing(#[case] fault: &str, #[case] told: &str) {
    let machine = Machine::new();
    machine.standins.fault(fault).unwrap();
    let file = machine.wrong_scenario();
    let said = Machine::said(&mut machine.run(&[file.to_str().unwrap()]));
    assert_eq!(said.code, Some(1), "{}", said.all());
    let missing: Vec<String> = ["west", "east"]
        .iter()
        .map(|cluster| machine.evidence_path(WRONG, &format!("environment/kind/{cluster}/missing.txt")))
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect();
    assert!(
        missing
            .iter()
            .any(|text| text.contains(told) && text.contains("kind export logs")),
        "{missing:?}"
    );
    let commands = machine.evidence(WRONG, "environment/commands.txt");
    assert!(commands.contains("kind export logs"), "{commands}");
    machine.standins.heal().unwrap();
    machine.assert_nothing_left(fault);
}

#[test]
fn charts_install_the_same_mesh() {
    let machine = Machine::new();
    let said = Machine::said(&mut machine.run(&["--mesh-from", "helm", SCENARIO]));
    assert_eq!(said.code, Some(0), "{}", said.all());
    let calls = machine.standins.calls();
    let rendered = calls
        .iter()
        .filter(|call| call.line().starts_with("helm template linkerd-control-plane"));
    assert_eq!(rendered.count(), 2);
    assert!(
        !calls.iter().any(|call| call.tool == "linkerd"),
        "links are made without the CLI"
    );
    machine.assert_nothing_left("a run with charts");
}

/// Which command fails, and how; what the report must name.
#[rstest]
#[case::kind_is_missing("kind version = missing", "kind version")]
#[case::kind_prints_garbage("kind version = garbage", "kind version")]
#[case::no_space_for_nodes(
    "kind create cluster @2 = exit 1 no space left on device",
    "kind create cluster --name"
)]
#[case::creation_hangs("kind create cluster @1 = hang", "kind create cluster --name")]
#[case::creation_makes_garbage("kind create cluster = garbage", "meshproof-pair-")]
#[case::clusters_are_listed_as_garbage("kind get clusters @1 = exit 1 permission denied", "kind get clusters")]
#[case::image_is_not_loaded(
    "kind load docker-image @2 = exit 1 image not present locally",
    "kind load docker-image"
)]
#[case::the_engine_is_down("docker = exit 1 Cannot connect to the Docker daemon", "docker info")]
#[case::the_engine_hangs("docker network inspect @1 = hang", "docker network inspect")]
#[case::the_network_is_garbage("docker network inspect @1 = garbage", "docker network inspect")]
#[case::nodes_are_garbage("docker inspect @1 = garbage", "docker inspect")]
#[case::nodes_cannot_be_read("docker inspect @2 = exit 1 boom", "docker inspect")]
#[case::linkerd_is_missing("linkerd version = missing", "linkerd version")]
#[case::crds_are_not_printed("linkerd install --crds @1 = exit 1 cannot connect", "linkerd install --crds")]
#[case::crds_are_garbage("linkerd install --crds @2 = garbage", "linkerd install --crds")]
#[case::control_plane_hangs(
    "linkerd install --identity-trust-anchors-file @1 = hang",
    "linkerd install --identity"
)]
#[case::extension_fails("linkerd multicluster install @2 = exit 1 boom", "linkerd multicluster install")]
#[case::link_is_garbage("linkerd multicluster link-gen @1 = garbage", "linkerd multicluster link-gen")]
#[case::link_fails(
    "linkerd multicluster link-gen @2 = exit 1 no ingress addresses",
    "linkerd multicluster link-gen"
)]
#[case::helm_is_missing("helm = missing", "helm version")]
#[case::charts_fail("helm template @1 = exit 1 chart not found", "helm template linkerd-crds")]
#[case::charts_are_garbage(
    "helm template linkerd-multicluster @1 = garbage",
    "helm template linkerd-multicluster"
)]
#[case::charts_hang(
    "helm template linkerd-control-plane @1 = hang",
    "helm template linkerd-control-plane"
)]
fn a_tool_that_misbehaves_is_an_error_with_a_remedy(#[case] fault: &str, #[case] named: &str) {
    let machine = Machine::new();
    machine.standins.fault(fault).unwrap();
    let from = if fault.starts_with("helm") { "helm" } else { "cli" };
    let said = Machine::said(&mut machine.run(&["--tool-deadline", "3", "--mesh-from", from, SCENARIO]));
    let all = said.all();
    assert_eq!(said.code, Some(6), "{fault}: {all}");
    assert!(all.contains(named), "{fault}: {all}");
    if let Some((_, message)) = fault.split_once("exit 1 ") {
        assert!(all.contains(message), "{fault}: {all}");
        assert!(all.contains("exit 1"), "{fault}: {all}");
    }
    assert!(all.contains("help: ") || all.contains("  try: "), "{fault}: {all}");
    machine.standins.heal().unwrap();
    machine.assert_nothing_left(fault);
}

#[test]
fn removing_that_fails_is_told_and_made_up_for_by_gc() {
    let machine = Machine::new();
    machine
        .standins
        .fault("kind delete cluster = exit 1 the engine is busy\ndocker rm = exit 1 the engine is busy")
        .unwrap();
    let said = Machine::said(&mut machine.run(&[SCENARIO]));
    assert_eq!(said.code, Some(6), "{}", said.all());
    assert!(said.err.contains("the engine is busy"), "{}", said.err);
    assert_eq!(machine.standins.leftovers().clusters.len(), 2);
    machine.standins.heal().unwrap();
    let said = Machine::said(&mut machine.meshproof(&["gc"]));
    assert_eq!(said.code, Some(0), "{}", said.all());
    machine.assert_nothing_left("gc");
}

/// Interrupts at ten moments between the first command and the end of a scenario.
#[test]
fn an_interrupt_at_any_moment_leaves_nothing() {
    let began = Instant::now();
    let machine = Machine::new();
    let said = Machine::said(&mut machine.run(&[SCENARIO]));
    assert_eq!(said.code, Some(0), "{}", said.all());
    let whole = began.elapsed();
    drop(machine);
    for moment in 0..10 {
        let machine = Machine::new();
        let mut child = machine.run(&[SCENARIO]).spawn().unwrap();
        // The moment is the subject here: a tenth, two tenths … of what a whole run takes.
        std::thread::sleep(whole.mul_f64(0.02 + 0.09 * f64::from(moment)));
        let process = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let interrupted = rustix::process::kill_process(process, rustix::process::Signal::INT).is_ok();
        let code = wait(&mut child, Duration::from_secs(60));
        // Before the run begins the signal itself ends the process; before the last interrupts it may have ended by itself.
        let at_once = code.is_none() && !machine.folder.path().join("runs").exists();
        assert!(
            at_once || (interrupted && code == Some(130)) || code == Some(0),
            "interrupt {moment}: exit {code:?}"
        );
        machine.assert_nothing_left(&format!("interrupt {moment}"));
    }
}

#[test]
fn the_doctor_asks_the_tools() {
    let machine = Machine::new();
    let said = Machine::said(&mut machine.meshproof(&["doctor", "--on", "kind", "--clusters", "1"]));
    for (code, found) in [
        ("DOC005", "Docker engine"),
        ("DOC009", "kind: kind v"),
        ("DOC010", "linkerd: "),
    ] {
        let line = said.out.lines().find(|line| line.contains(code)).unwrap();
        assert!(line.starts_with("ok") && line.contains(found), "{line}");
    }
    machine
        .standins
        .fault("docker info = exit 1 Cannot connect to the Docker daemon")
        .unwrap();
    let said = Machine::said(&mut machine.meshproof(&["doctor", "--on", "kind"]));
    assert_eq!(said.code, Some(6), "{}", said.out);
    assert!(said.out.contains("Cannot connect to the Docker daemon"), "{}", said.out);
}

/// A killed process can't clean up; the next `gc` does.
#[test]
fn what_a_killed_run_leaves_is_removed_by_gc() {
    let machine = Machine::new();
    let mut child = machine.run_that_stays(&[]);
    await_moment(&mut child, || !machine.standins.leftovers().clusters.is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!machine.standins.leftovers().clusters.is_empty());
    let said = Machine::said(&mut machine.meshproof(&["gc"]));
    assert_eq!(said.code, Some(0), "{}", said.all());
    assert!(said.out.contains("removed: "), "{}", said.out);
    machine.assert_nothing_left("gc");
}

/// Also when the next run needs clusters of other names: those of the killed one have the addresses that it needs.
#[test]
fn what_a_killed_run_leaves_is_removed_by_the_next_run() {
    let machine = Machine::new();
    let text = fs::read_to_string(machine.wrong_scenario()).unwrap();
    let file = machine.folder.path().join("alone.yaml");
    let alone = text
        .replacen(&format!("scenario: {WRONG}"), "scenario: alone\nsetup: {}", 1)
        .replacen("no-${mirror.", "${mirror.", 1);
    fs::write(&file, alone).unwrap();
    let mut child = machine.run(&[file.to_str().unwrap()]).spawn().unwrap();
    await_moment(&mut child, || {
        let clusters = machine.standins.leftovers().clusters;
        clusters.iter().any(|cluster| cluster.contains("alone"))
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let said = Machine::said(&mut machine.run(&[SCENARIO]));
    assert_eq!(said.code, Some(0), "{}", said.all());
    assert!(said.err.contains("removed: meshproof-pair-alone-"), "{}", said.err);
    // Its reports are for `gc` to write.
    let said = Machine::said(&mut machine.meshproof(&["gc"]));
    assert_eq!(said.code, Some(0), "{}", said.all());
    machine.assert_nothing_left("the next run");
}

#[rstest]
#[case("pair")]
#[case("hub-and-spoke")]
fn a_plan_prints_every_command(#[case] topology: &str) {
    let machine = Machine::new();
    let said = Machine::said(&mut machine.meshproof(&["plan", "--on", "kind", "--commands", "--topology", topology]));
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(machine.standins.calls().is_empty(), "a plan must run nothing");
    let home = machine.folder.path().join("state");
    let text = said.out.replace(home.to_str().unwrap(), "<state>");
    insta::assert_snapshot!(format!("plan_commands_{topology}"), text);
}
