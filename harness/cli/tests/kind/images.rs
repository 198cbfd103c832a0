//! What has to be at hand for a run without a network.

use meshproof_standins::LoggedCall;
use rstest::rstest;

use crate::machine::{Machine, SCENARIO};

/// Everything that a machine without a network needs, with the mesh's own images, and no cluster is made for it.
#[rstest]
#[case::cli("cli", "linkerd install --ignore-cluster")]
#[case::charts("helm", "helm template linkerd-control-plane")]
fn images_of_the_mesh_are_listed_without_a_cluster(#[case] from: &str, #[case] asked: &str) {
    let machine = Machine::new();
    let arguments = [
        "images",
        "--on",
        "kind",
        "--mesh-from",
        from,
        "--registry-cache",
        "docker.io",
        SCENARIO,
    ];
    let said = Machine::said(&mut machine.meshproof(&arguments));
    assert_eq!(said.code, Some(0), "{}", said.all());
    let text = format!("{}\n", said.out.trim_end());
    insta::assert_snapshot!("images", text);
    let calls: Vec<String> = machine.standins.calls().iter().map(LoggedCall::line).collect();
    assert!(calls.iter().any(|call| call.starts_with(asked)), "{calls:?}");
    assert!(
        !calls
            .iter()
            .any(|call| call.starts_with("kind") || call.starts_with("docker")),
        "{calls:?}"
    );
}

#[test]
fn images_that_cannot_be_found_out_are_told_to_be_missing() {
    let machine = Machine::new();
    machine
        .standins
        .fault("linkerd multicluster install = exit 1 boom")
        .unwrap();
    let said = Machine::said(&mut machine.meshproof(&["images", "--on", "kind", SCENARIO]));
    assert_eq!(said.code, Some(6), "{}", said.all());
    assert!(said.out.contains("meshproof-agent:"), "{}", said.out);
    assert!(
        said.err.contains("the mesh's images are not among these") && said.err.contains("boom"),
        "{}",
        said.err
    );
}
