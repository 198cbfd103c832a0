//! How commands end when they are stopped from outside or break inside: in good order, with reports, with nothing left.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![expect(
    clippy::disallowed_methods,
    reason = "moments of another process are the subject, and no runtime is here"
)]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use meshproof_report::model::Report;
use rstest::rstest;

const SCENARIO: &str = "exported-service-appears";
const OTHER: &str = "unexport-removes";
/// Stays as it is until it is ended: what it waits for never comes.
const STAYS: &str = "
scenario: stays-as-it-is
summary: Waits for what never comes.
topology: pair
checks: [MC-UPD-007]
steps:
  - expect: {id: MC-UPD-007, object: {in: west, kind: Service, name: nobody-makes-it}, within: 15m}
";

fn command(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .env("XDG_STATE_HOME", folder.join("state"))
        .env("HOME", folder)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn meshproof(folder: &Path) -> Command {
    command(env!("CARGO_BIN_EXE_meshproof"), folder)
}

/// The folder of the only run, when it has one.
fn run_dir(folder: &Path) -> Option<PathBuf> {
    let entry = fs::read_dir(folder.join("runs")).ok()?.next()?.ok()?;
    Some(entry.path())
}

fn report(folder: &Path) -> Report {
    let text = fs::read_to_string(run_dir(folder).unwrap().join("report.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Waits for what a process brings about and leaves as it is; one that ended before tells why.
fn wait_until(process: &mut Child, what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        let ended = process.try_wait().unwrap();
        let late = began.elapsed() > Duration::from_secs(60);
        if ended.is_some() || late {
            process.kill().unwrap();
            let mut said = String::new();
            process.stdout.take().unwrap().read_to_string(&mut said).unwrap();
            process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            assert_eq!(ended, None, "{what}, and it ended: {said}");
            assert!(!late, "{what} within 60 s: {said}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(process: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &process.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// Names below the state folder.
fn state(folder: &Path) -> Vec<String> {
    let below = |folder: PathBuf| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap())
    };
    let state = folder.join("state/meshproof");
    let mut names: Vec<String> = below(state.clone()).filter(|name| name != "undo").collect();
    names.extend(below(state.join("undo")));
    names
}

#[rstest]
#[case::interrupted("INT")]
#[case::terminated("TERM")]
#[case::hung_up("HUP")]
fn a_run_that_is_stopped_reports_and_leaves_nothing(#[case] name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = folder.join("stays.yaml");
    fs::write(&file, STAYS).unwrap();
    let mut run = meshproof(folder)
        .args(["run", "--pace", "1", "--out"])
        .arg(folder.join("runs"))
        .arg(file)
        .spawn()
        .unwrap();
    wait_until(&mut run, "the scenario never started", || {
        run_dir(folder).is_some_and(|run| {
            fs::read_to_string(run.join("journal.ndjson")).is_ok_and(|text| text.contains("step_started"))
        })
    });
    signal(&run, name);
    assert_eq!(run.wait().unwrap().code(), Some(130));
    assert_eq!(report(folder).scenarios.len(), 1);
    assert!(run_dir(folder).unwrap().join("junit.xml").exists());
    assert!(state(folder).is_empty(), "{:?}", state(folder));
}

#[test]
fn clusters_that_are_served_go_with_a_closed_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut up = meshproof(folder).args(["up", "--bare"]).spawn().unwrap();
    wait_until(&mut up, "`up` never served", || {
        folder.join("state/meshproof/default/served.json").exists()
    });
    signal(&up, "HUP");
    assert_eq!(up.wait().unwrap().code(), Some(0));
    assert!(state(folder).is_empty(), "{:?}", state(folder));
}

#[test]
fn a_panic_costs_its_scenario_and_no_report() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let output = meshproof(folder)
        .env("MESHPROOF_TEST_PANIC", format!("{SCENARIO}:2"))
        .args(["run", SCENARIO, OTHER, "--out"])
        .arg(folder.join("runs"))
        .output()
        .unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(said.contains("the harness panicked in the step of line"), "{said}");
    let report = report(folder);
    let outcome = |id: &str| {
        report
            .scenarios
            .iter()
            .find(|row| row.id == id)
            .unwrap()
            .outcome
            .clone()
    };
    assert_eq!(outcome(SCENARIO), "error");
    assert_eq!(outcome(OTHER), "pass");
    assert!(state(folder).is_empty(), "{:?}", state(folder));
}

/// Files may not grow beyond a limit, which a process notices as it notices a full disk.
#[test]
fn a_journal_that_cannot_grow_ends_the_run_in_good_order() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let binary = env!("CARGO_BIN_EXE_meshproof");
    let script = "trap '' XFSZ; ulimit -f 60; exec \"$@\"";
    let output = command("sh", folder)
        .args(["-c", script, "sh", binary, "run", SCENARIO, OTHER, "--out"])
        .arg(folder.join("runs"))
        .output()
        .unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(said.contains("the journal can't be written"), "{said}");
    assert!(run_dir(folder).unwrap().join("journal.ndjson").exists());
}

/// What the end of a run could not write is written by `gc` when that is possible again, and `gc` forgets nothing before.
#[test]
fn reports_that_could_not_be_written_are_made_up_for() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut run = meshproof(folder)
        .args(["run", "--pace", "1", SCENARIO, "--out"])
        .arg(folder.join("runs"))
        .spawn()
        .unwrap();
    wait_until(&mut run, "the run never began", || {
        run_dir(folder).is_some_and(|run| run.join("journal.ndjson").exists())
    });
    let in_the_way = run_dir(folder).unwrap().join("report.json");
    fs::create_dir_all(in_the_way.join("x")).unwrap();
    let said = |output: std::process::Output| String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(6));
    let told = said(output);
    assert!(told.contains("report.json could not be written"), "{told}");
    assert!(told.contains("or `meshproof gc` writes the reports"), "{told}");

    let gc = || meshproof(folder).arg("gc").output().unwrap();
    for _ in 0..2 {
        let output = gc();
        assert_eq!(output.status.code(), Some(6));
        let told = said(output);
        assert!(told.contains("stays, so that this can be tried again"), "{told}");
    }
    fs::remove_dir_all(&in_the_way).unwrap();
    let output = gc();
    assert_eq!(output.status.code(), Some(0));
    let told = said(output);
    assert!(
        told.contains("reported: ") && told.contains("1 leftovers removed"),
        "{told}"
    );
    assert_eq!(report(folder).scenarios.len(), 1);
    assert!(state(folder).is_empty(), "{:?}", state(folder));
    let told = said(gc());
    assert!(told.contains("0 leftovers removed"), "{told}");
}
