//! What a plan lacks on this machine, told before a cluster is made.

use std::fs;

use rstest::rstest;

use crate::machine::{Machine, SCENARIO};

/// What a plan needs is looked for before a cluster is made, and the reports say what is missing.
#[rstest]
#[case::no_vendor_tool("linkerd = missing", &[], "linkerd version")]
#[case::no_gateway_api("", &["--gateway-api-crds", "/no/such.yaml"], "/no/such.yaml")]
#[case::no_image("", &["--load-image", "app:v1"], "docker pull app:v1")]
#[case::no_archive("", &["--load-archive", "/no/such.tar"], "/no/such.tar is no file")]
#[case::no_agent("", &["--agent-image", "other:v1"], "the Docker engine has no image `other:v1`")]
#[case::no_registry("", &["--registry-cache", "https://docker.io"], "is not the name of a registry")]
fn what_a_plan_lacks_is_told_before_anything_is_made(
    #[case] fault: &str,
    #[case] options: &[&str],
    #[case] told: &str,
) {
    let machine = Machine::new();
    machine.standins.fault(fault).unwrap();
    let mut run = machine.meshproof(&["run", "--on", "kind", "--no-relay", SCENARIO]);
    run.arg("--out").arg(machine.folder.path().join("runs"));
    let mut doctor = machine.meshproof(&["doctor", "--on", "kind", SCENARIO]);
    for command in [&mut run, &mut doctor] {
        if !options.contains(&"--gateway-api-crds") {
            command
                .arg("--gateway-api-crds")
                .arg(machine.folder.path().join("gateway-api.yaml"));
        }
        command.args(options);
    }
    let said = Machine::said(&mut run);
    let all = said.all();
    assert_eq!(said.code, Some(6), "{all}");
    assert!(all.contains(told), "{all}");
    let calls = machine.standins.calls();
    assert!(
        !calls.iter().any(|call| call.line().starts_with("kind create")),
        "{calls:?}"
    );
    let runs = fs::read_dir(machine.folder.path().join("runs")).unwrap();
    let report = fs::read_to_string(runs.flatten().next().unwrap().path().join("junit.xml")).unwrap();
    assert!(report.contains("<error") && !report.contains("<failure"), "{report}");
    // The doctor says the same of the same plan.
    let said = Machine::said(&mut doctor);
    assert_eq!(said.code, Some(6), "{}", said.out);
    assert!(said.out.contains(told), "{}", said.out);
}

#[test]
fn a_mesh_without_the_gateway_api_is_told_before_anything_is_made() {
    let machine = Machine::new();
    let mut run = machine.meshproof(&["run", "--on", "kind", "--no-relay", SCENARIO]);
    let said = Machine::said(run.arg("--out").arg(machine.folder.path().join("runs")));
    let all = said.all();
    assert_eq!(said.code, Some(6), "{all}");
    assert!(
        all.contains("does not bring it (DOC021)") && all.contains("--gateway-api-crds"),
        "{all}"
    );
    assert!(
        !machine
            .standins
            .calls()
            .iter()
            .any(|call| call.line().starts_with("kind create"))
    );
}
