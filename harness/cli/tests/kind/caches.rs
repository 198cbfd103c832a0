//! Caches of registries that nodes pull through.

use std::time::Duration;

use meshproof_standins::LoggedCall;
use rstest::rstest;

use crate::machine::{Machine, SCENARIO, await_moment, wait};

/// Nodes pull through caches that the harness starts; with the clusters everything goes but what was pulled.
#[test]
fn caches_of_registries_come_and_go_and_what_they_pulled_stays() {
    let caches = [
        "--registry-cache",
        "docker.io",
        "--registry-cache",
        "registry.example:5000",
    ];
    let machine = Machine::new();
    machine.standins.add_image("registry:3", "registry");
    let said = Machine::said(machine.run(&caches).arg(SCENARIO));
    assert_eq!(said.code, Some(0), "{}", said.all());
    let calls: Vec<String> = machine.standins.calls().iter().map(LoggedCall::line).collect();
    let position = |start: &str| calls.iter().position(|call| call.starts_with(start)).unwrap();
    let started = position("docker run --detach --name meshproof-pair-cache-docker-io --network kind");
    let configured = position(
        "docker exec --interactive meshproof-pair-west-control-plane cp /dev/stdin /etc/containerd/certs.d/docker.io/hosts.toml",
    );
    assert!(position("kind create") < started && started < configured, "{calls:#?}");
    assert_eq!(calls.iter().filter(|call| call.starts_with("docker run")).count(), 2);
    let volumes = ["meshproof-cache-docker-io", "meshproof-cache-registry-example-5000"];
    assert_eq!(machine.standins.leftovers().volumes, volumes);
    machine.assert_nothing_but_volumes("a run with caches");

    // `gc` tells of them, and removes them when it is asked to.
    let said = Machine::said(&mut machine.meshproof(&["gc"]));
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(
        said.out.contains("left: volume meshproof-cache-docker-io"),
        "{}",
        said.out
    );
    assert_eq!(machine.standins.leftovers().volumes, volumes);
    let said = Machine::said(&mut machine.meshproof(&["gc", "--caches"]));
    assert!(said.out.contains("removed: meshproof-cache-docker-io"), "{}", said.out);
    machine.assert_nothing_left("gc --caches");
}

/// Clusters that are kept keep their caches, of which their nodes know.
#[test]
fn kept_clusters_keep_their_caches() {
    let machine = Machine::new();
    machine.standins.add_image("registry:3", "registry");
    let said = Machine::said(machine.run(&["--registry-cache", "docker.io", "--reuse"]).arg(SCENARIO));
    assert_eq!(said.code, Some(0), "{}", said.all());
    let left = machine.standins.leftovers();
    assert!(
        left.containers.contains(&"meshproof-pair-cache-docker-io".to_owned()),
        "{left:?}"
    );
    let hosts = "/etc/containerd/certs.d/docker.io/hosts.toml";
    for node in ["meshproof-pair-west-control-plane", "meshproof-pair-east-control-plane"] {
        let text = machine.standins.node_file(node, hosts).unwrap();
        assert!(
            text.contains("[host.\"http://meshproof-pair-cache-docker-io:5000\"]"),
            "{text}"
        );
    }
    let said = Machine::said(&mut machine.meshproof(&["gc", "--caches"]));
    assert_eq!(said.code, Some(0), "{}", said.all());
    machine.assert_nothing_left("gc of kept clusters");
}

/// Without a cache that was asked for nothing runs, and nothing is left.
#[rstest]
#[case::image_missing("", None, "Unable to find image 'registry:3' locally")]
#[case::ends_at_once("", Some("other"), "unable to configure authorization")]
#[case::hangs("docker run = hang", Some("registry"), "docker run --detach")]
#[case::refused(
    "docker run @2 = exit 125 no space left on device",
    Some("registry"),
    "no space left on device"
)]
#[case::volume_refused(
    "docker volume create = exit 1 read-only file system",
    Some("registry"),
    "read-only file system"
)]
fn a_cache_that_does_not_work_is_an_error(#[case] fault: &str, #[case] image: Option<&str>, #[case] told: &str) {
    let machine = Machine::new();
    if let Some(program) = image {
        machine.standins.add_image("registry:3", program);
    }
    machine.standins.fault(fault).unwrap();
    let caches = [
        "--registry-cache",
        "docker.io",
        "--registry-cache",
        "quay.io",
        "--tool-deadline",
        "3",
    ];
    let said = Machine::said(machine.run(&caches).arg(SCENARIO));
    let all = said.all();
    assert_eq!(said.code, Some(6), "{all}");
    assert!(all.contains(told), "{all}");
    assert!(all.contains("  try: ") || all.contains("help: "), "{all}");
    machine.standins.heal().unwrap();
    machine.assert_nothing_but_volumes(fault);
}

#[test]
fn an_interrupt_takes_caches_along() {
    let machine = Machine::new();
    machine.standins.add_image("registry:3", "registry");
    let mut child = machine.run_that_stays(&["--registry-cache", "docker.io"]);
    await_moment(&mut child, || {
        let containers = machine.standins.leftovers().containers;
        containers.iter().any(|name| name.contains("-cache-"))
    });
    let process = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    assert_eq!(wait(&mut child, Duration::from_secs(60)), Some(130));
    machine.assert_nothing_but_volumes("an interrupt");
}
