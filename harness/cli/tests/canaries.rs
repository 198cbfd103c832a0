//! Secrets of every kind that a scenario and a command line can hold, through the binary: none of them is in anything that a
//! run writes or prints, nobody else can read what it writes, and the run can still be rechecked.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Part of every canary, long enough to be nothing else.
const CANARY: &str = "CanaryQ7zW2kX9";

/// What must not be found: the canary in clear and under Base64 at each of its three offsets.
fn signs() -> Vec<String> {
    let encoded = (0..3).map(|front| {
        let text = STANDARD.encode(format!("{}{CANARY}", "x".repeat(front)));
        // Without the characters that also hold bits of what stands before and behind.
        text.trim_end_matches('=')[front + 2..front + 16].to_owned()
    });
    std::iter::once(CANARY.to_owned()).chain(encoded).collect()
}

fn scenario() -> String {
    let c = CANARY;
    let encoded = |text: &str| STANDARD.encode(text);
    let pem = format!("-----BEGIN EC PRIVATE KEY-----\\n{c}\\n-----END EC PRIVATE KEY-----\\n");
    let encoded_pem = encoded(&format!(
        "-----BEGIN EC PRIVATE KEY-----\n{c}\n-----END EC PRIVATE KEY-----\n"
    ));
    let jwt = format!(
        "eyJhbGciOiJSUzI1NiJ9.{}.{c}",
        encoded(&format!("{{\"sub\":\"{c}\"}}")).trim_end_matches('=')
    );
    format!(
        r#"scenario: canaries
summary: Secrets of many kinds in objects, headers and paths.
topology: pair
checks: [MC-FAIL-001]
steps:
  - deploy: {{client: shopper, in: west}}
  - deploy: {{service: store, in: [west, east]}}
  - apply: {{in: west, manifest: {{apiVersion: v1, kind: Secret, metadata: {{name: s1, annotations: {{note: "{c}", kubectl.kubernetes.io/last-applied-configuration: '{{"data":{{"password":"{data}"}}}}'}}, labels: {{l: "{c}"}}}}, stringData: {{password: "{c}"}}, data: {{other: "{data}"}}}}}}
  - apply: {{in: west, manifest: {{apiVersion: v1, kind: ConfigMap, metadata: {{name: c1}}, data: {{pem: "{pem}", encoded: "{encoded_pem}", jwt: "{jwt}", encodedjwt: "{encoded_jwt}", bearer: "Bearer {c}", basic: "Authorization: Basic {basic}", url: "https://admin:{c}@db.example", kubeconfig: "users: [{{name: a, user: {{token: {c}}}}}]", pw: "password={c}", aws: "AWS_SECRET_ACCESS_KEY={c}/abc"}}}}}}
  - apply: {{in: west, manifest: {{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{containers: [{{name: c, image: x, env: [{{name: DB_PASSWORD, value: "{c}"}}, {{name: ANY, value: "{c}-any"}}], args: ["--token={c}", "--password", "{c}"]}}]}}}}}}
  - patch: {{in: west, object: {{kind: Secret, name: s1}}, merge: {{stringData: {{more: "{c}-more"}}}}}}
  - call: {{name: c2, from: shopper, to: store, count: 2, headers: {{authorization: "Bearer {c}", cookie: "session={c}", x-api-key: "{c}"}}, path: "/?token={c}"}}
  - expect: {{id: MC-FAIL-001, call: c2, answered: {{seen: {{authorization: {{equals: "Bearer {c}"}}, cookie: {{exists: true}}, x-api-key: {{equals: nothing}}}}}}}}
  - expect: {{id: MC-FAIL-001, object: {{in: west, kind: Secret, name: s1}}, where: [{{path: data.other, equals: "{data}"}}], within: 5s}}
  - expect: {{id: MC-FAIL-001, object: {{in: west, kind: Secret, name: s1}}, where: [{{path: data.password, equals: "{nope}"}}], within: 2s}}
  - expect: {{id: MC-FAIL-001, object: {{in: west, kind: ConfigMap, name: c1}}, where: [{{path: data.pw, equals: "password={c}-else"}}], within: 2s}}
"#,
        data = encoded(c),
        nope = encoded(&format!("{c}-nope")),
        basic = encoded(&format!("admin:{c}")),
        encoded_jwt = encoded(&jwt),
    )
}

fn meshproof(place: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_meshproof"))
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .env("MESHPROOF_STATE", place.join("state"))
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn no_secret_is_in_anything_that_a_run_writes_or_prints() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("canary.yaml");
    fs::write(&file, scenario()).unwrap();
    let out = place.path().join("out");
    let output = meshproof(
        place.path(),
        &["run", "--out", out.to_str().unwrap(), file.to_str().unwrap()],
    );
    let mut printed = String::from_utf8_lossy(&output.stdout).into_owned();
    printed += &String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(1),
        "three checks are wrong on purpose: {printed}"
    );

    let run = fs::read_dir(&out).unwrap().flatten().next().unwrap().path();
    let written = files(place.path());
    let evidence = written.iter().filter(|path| path.starts_with(run.join("evidence")));
    assert!(evidence.count() > 10, "{written:?}");
    let mut hits = Vec::new();
    for path in written.iter().filter(|path| **path != file) {
        let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        for sign in signs() {
            if let Some(at) = text.find(&sign) {
                let around: String = text[..at].chars().rev().take(80).collect();
                hits.push(format!(
                    "{}: {sign} behind {}",
                    path.display(),
                    around.chars().rev().collect::<String>()
                ));
            }
        }
    }
    assert!(hits.is_empty(), "{}", hits.join("\n"));
    for sign in signs() {
        assert!(!printed.contains(&sign), "{printed}");
    }

    // What is hidden is still judged by what it is.
    let journal = fs::read_to_string(run.join("journal.ndjson")).unwrap();
    assert!(journal.contains("<not shown: "), "nothing was hidden");
    let report: serde_json::Value = serde_json::from_slice(&fs::read(run.join("report.json")).unwrap()).unwrap();
    let outcomes: Vec<&str> = report["scenarios"][0]["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| check["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes, ["fail", "pass", "fail", "fail"], "{printed}");

    for path in files(&run) {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
        let folder = fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777;
        assert_eq!(folder, 0o700, "{}", path.display());
    }

    let head = report["journal"]["head"].as_str().unwrap();
    assert!(
        printed.contains(&format!("head {head}")),
        "the head is told at the end: {printed}"
    );
    let rechecked = meshproof(place.path(), &["recheck", run.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&rechecked.stdout).into_owned();
    assert_eq!(rechecked.status.code(), Some(0), "{said}");
    let log = files(&run.join("evidence")).into_iter().next().unwrap();
    fs::write(&log, "as they like it").unwrap();
    let rechecked = meshproof(place.path(), &["recheck", run.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&rechecked.stdout).into_owned();
    assert!(
        rechecked.status.code() == Some(7) && said.contains("was changed"),
        "{said}"
    );
}
