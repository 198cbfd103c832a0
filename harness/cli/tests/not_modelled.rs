//! What a scenario puts into embedded clusters and the model does not act on is named, and nothing that rests on it is judged.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rstest::rstest;

fn meshproof(arguments: &[&Path], place: &Path) -> io::Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_meshproof"))
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .env("XDG_STATE_HOME", place.join("state"))
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
}

fn scenario(steps: &str) -> String {
    format!(
        r#"# yaml-language-server: $schema=scenario.json
scenario: without-effect
summary: A local service answers.
topology: pair
checks: [MC-DATA-002, MC-DATA-009]
steps:
  - deploy: {{client: shopper, in: west}}
  - deploy: {{service: store, in: west}}
  - call: {{name: before, from: shopper, to: store, count: 5}}
  - expect: {{id: MC-DATA-002, call: before, answered: {{by: west}}}}
{steps}
  - call: {{name: after, from: shopper, to: store, count: 5}}
  - expect: {{id: MC-DATA-009, call: after, answered: {{by: west}}}}
"#
    )
}

const RETRY: &str = "  - patch: {in: west, object: {kind: Service, name: store}, merge: {metadata: {annotations: \
    {retry.linkerd.io/http: 5xx}}}}";
/// Also when it is gone again when the check is asked.
const TAKEN_BACK: &str = "  - patch: {in: west, object: {kind: Service, name: store}, merge: {metadata: {annotations: \
    {retry.linkerd.io/http: 5xx}}}}
  - patch: {in: west, object: {kind: Service, name: store}, merge: {metadata: {annotations: {retry.linkerd.io/http: null}}}}";
const TIMEOUT: &str = r#"  - apply:
      in: west
      manifest:
        apiVersion: gateway.networking.k8s.io/v1
        kind: HTTPRoute
        metadata: {name: limit}
        spec:
          parentRefs: [{name: store, kind: Service, group: "", port: 80}]
          rules: [{backendRefs: [{name: store, port: 80}], timeouts: {request: 1s}}]"#;

#[rstest]
#[case::an_annotation(RETRY, Some("/store: annotation `retry.linkerd.io/http`"))]
#[case::an_annotation_that_was_taken_back(TAKEN_BACK, Some("/store: annotation `retry.linkerd.io/http`"))]
#[case::a_field(TIMEOUT, Some("/limit: rules[].timeouts is not modelled"))]
#[case::nothing("", None)]
fn what_has_no_effect_is_named_and_not_judged(#[case] steps: &str, #[case] named: Option<&str>) {
    let place = tempfile::tempdir().unwrap();
    let (file, runs) = (place.path().join("without-effect.yaml"), place.path().join("runs"));
    fs::write(&file, scenario(steps)).unwrap();
    let output = meshproof(&[Path::new("run"), &file, Path::new("--out"), &runs], place.path()).unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{told}");
    // What was asked before is judged all the same.
    assert!(!told.contains("skip MC-DATA-002"), "{told}");
    match named {
        Some(named) => {
            assert!(told.contains("skip MC-DATA-009") && told.contains(named), "{told}");
            assert!(
                told.contains("not-modelled: without effect in these clusters: west "),
                "{told}"
            );
        }
        None => assert!(told.contains("2/2 checks"), "{told}"),
    }
    let run = fs::read_dir(&runs).unwrap().next().unwrap().unwrap().path();
    let output = meshproof(&[Path::new("recheck"), &run], place.path()).unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "the journal alone says the same: {told}");
}
