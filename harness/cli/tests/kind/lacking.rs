//! What a plan lacks on this machine, told before a cluster is made.

use std::fs;

use meshproof_standins::LoggedCall;
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

/// A Linux program that needs nothing else, as far as its headers tell.
fn static_program() -> Vec<u8> {
    // The stand-in's engine runs on amd64.
    let machine: u16 = 62;
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
    bytes.resize(64 + 56, 0);
    bytes[16..18].copy_from_slice(&3_u16.to_le_bytes());
    bytes[18..20].copy_from_slice(&machine.to_le_bytes());
    bytes[20..24].copy_from_slice(&1_u32.to_le_bytes());
    bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
    bytes[52..54].copy_from_slice(&64_u16.to_le_bytes());
    bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
    bytes[56..58].copy_from_slice(&1_u16.to_le_bytes());
    bytes[64..68].copy_from_slice(&1_u32.to_le_bytes());
    bytes
}

/// The way without a network: the image is made from a binary, so that it must not be missed before.
#[test]
fn an_agent_image_that_is_made_from_a_binary_is_not_missed_and_a_missing_one_is_told_once() {
    let machine = Machine::new();
    let binary = machine.folder.path().join("agent");
    fs::write(&binary, static_program()).unwrap();
    let gateway_api = machine.folder.path().join("gateway-api.yaml").display().to_string();
    let doctor = |more: &[&str]| {
        let words = [
            "doctor",
            "--on",
            "kind",
            "--gateway-api-crds",
            &gateway_api,
            "--agent-image",
            "other:v1",
            SCENARIO,
        ];
        Machine::said(machine.meshproof(&words).args(more)).out
    };
    let of_agent = |told: &str| {
        told.lines()
            .filter(|line| line.contains("other:v1"))
            .map(ToOwned::to_owned)
            .collect::<Vec<_>>()
    };
    let missing = of_agent(&doctor(&[]));
    assert!(
        missing.len() == 1 && missing[0].starts_with("error") && missing[0].contains("--agent-binary"),
        "{missing:?}"
    );
    let made = of_agent(&doctor(&["--agent-binary", binary.to_str().unwrap()]));
    assert!(made.len() == 1 && made[0].starts_with("ok"), "{made:?}");
    let never = doctor(&["--agent-binary", "/dev/zero"]);
    assert!(never.contains("no plain file"), "{never}");
    let said = Machine::said(&mut machine.run(&[
        "--agent-image",
        "other:v1",
        "--agent-binary",
        binary.to_str().unwrap(),
        SCENARIO,
    ]));
    let calls: Vec<String> = machine.standins.calls().iter().map(LoggedCall::line).collect();
    let position = |start: &str| calls.iter().position(|call| call.starts_with(start));
    assert!(
        position("docker build").is_some() && position("docker build") < position("kind create"),
        "{calls:#?}"
    );
    assert!(!said.all().contains("DOC027"), "{}", said.all());
}
