//! The binary as a user meets it: exit codes, what it prints, what it writes, and what is left when it is killed.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops at the first surprise"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use meshproof_report::run_folder::RunFolder;
use tempfile::TempDir;

/// Where a test's runs and state are.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// The binary in the project's folder, with state and reports in this place.
    fn meshproof(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meshproof"));
        command
            .args(arguments)
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
            .env("XDG_STATE_HOME", self.0.path().join("state"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if arguments.first() == Some(&"run") {
            command.arg("--out").arg(self.0.path().join("runs"));
        }
        command
    }

    fn call(&self, arguments: &[&str]) -> Said {
        Said::from(self.meshproof(arguments).output().unwrap())
    }

    fn runs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.0.path().join("runs"));
        entries
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default()
    }

    fn leftovers(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path().join("state/meshproof"));
        let names = entries.map(|entries| {
            entries
                .flatten()
                .map(|entry| entry.file_name().into_string().unwrap())
                .collect()
        });
        names.unwrap_or_default()
    }
}

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Said {
    #[track_caller]
    fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "\n--- out\n{}\n--- err\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    fn says(&self, texts: &[&str]) -> &Self {
        let all = format!("{}{}", self.out, self.err);
        for text in texts {
            assert!(all.contains(text), "`{text}` is not in\n{all}");
        }
        self
    }
}

#[test]
fn a_run_that_passes_writes_reports_that_can_be_derived_again() {
    let place = Place::new();
    place
        .call(&["run", "exported-service-appears", "--seed", "7"])
        .exits(0)
        .says(&["6/6 checks", "seed 7"]);
    let run = place.runs().pop().unwrap();
    for file in [
        "journal.ndjson",
        "junit.xml",
        "report.json",
        "report.html",
        "summary.md",
    ] {
        assert!(run.join(file).exists(), "{file}");
    }
    assert!(place.leftovers().is_empty());

    let folder = run.to_str().unwrap();
    place
        .call(&["recheck", folder])
        .exits(0)
        .says(&["every verdict follows"]);
    let written = fs::read(run.join("junit.xml")).unwrap();
    fs::remove_file(run.join("junit.xml")).unwrap();
    place.call(&["report", folder]).exits(0);
    assert_eq!(fs::read(run.join("junit.xml")).unwrap(), written);
}

#[test]
fn an_edited_journal_is_noticed() {
    let place = Place::new();
    place.call(&["run", "probe-period-needs-a-unit"]).exits(0);
    let run = place.runs().pop().unwrap();
    let journal = run.join("journal.ndjson");
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(
        &journal,
        text.replacen("\"outcome\":\"pass\"", "\"outcome\":\"fail\"", 1),
    )
    .unwrap();
    place
        .call(&["recheck", run.to_str().unwrap()])
        .exits(7)
        .says(&["differs: journal"]);
}

#[test]
fn a_broken_promise_is_told_with_all_that_matters() {
    let place = Place::new();
    place
        .call(&["run", "unexport-removes", "--defect", "unexport-ignored"])
        .exits(1)
        .says(&[
            "fail MC-UPD-003 [",
            " at ",
            "scenarios/updates/unexport-removes.yaml:",
            "expected:",
            "observed:",
            "evidence: evidence/",
        ]);
}

#[test]
fn what_can_not_be_run_is_told_apart_by_the_exit_code() {
    let place = Place::new();
    place
        .call(&["run", "no-such-scenario"])
        .exits(4)
        .says(&["no scenario is selected"]);
    place
        .call(&["run", "--defect", "weights-doubled"])
        .exits(2)
        .says(&["weights-doubled", "prove --list"]);
    place
        .call(&["run", "--on", "contexts"])
        .exits(2)
        .says(&["no cluster is named"]);
    place.call(&["run", "--partition", "4/3"]).exits(2).says(&["4/3"]);
    place
        .call(&["explain", "MC-FAIL-01"])
        .exits(2)
        .says(&["did you mean `MC-FAIL-001`?"]);
    place
        .call(&["report", "/nonexistent"])
        .exits(3)
        .says(&["journal.ndjson"]);
    assert!(place.runs().is_empty());
}

#[test]
fn a_broken_scenario_file_is_explained() {
    let place = Place::new();
    let file = place.0.path().join("broken.yaml");
    let text = "# yaml-language-server: $schema=scenario.json\nscenario: broken\nsummary: Two mistakes.\ntopology: pair\n\
                checks: [MC-MIRROR-001]\nsteps:\n  - deploy: {service: store, in: wset}\n  - exprot: {service: store, from: east}\n";
    fs::write(&file, text).unwrap();
    let said = place.call(&["lint", file.to_str().unwrap()]);
    said.exits(3).says(&[
        "`wset`",
        "did you mean `west`",
        "exprot",
        "did you mean `export`",
        "broken.yaml:7:",
    ]);
    place.call(&["run", file.to_str().unwrap()]).exits(3).says(&["exprot"]);
}

#[test]
fn shipped_files_are_clean_and_every_requirement_is_decided() {
    let place = Place::new();
    place.call(&["lint"]).exits(0).says(&["0 errors, 0 warnings"]);
    // A folder of scenarios may hold what belongs to the suite and is no scenario.
    place
        .call(&["lint", "scenarios"])
        .exits(0)
        .says(&["0 errors, 0 warnings"]);
    let said = place.call(&["coverage"]);
    said.exits(0);
    let total = said.out.lines().last().unwrap();
    let numbers: Vec<&str> = total
        .split_whitespace()
        .filter(|word| word.chars().all(|c| c.is_ascii_digit()))
        .collect();
    assert_eq!(numbers[0], numbers[1], "{total}");
}

#[test]
fn a_plan_can_be_read_without_running_anything() {
    let place = Place::new();
    place.call(&["plan", "gateway-dies"]).exits(0).says(&["gateway-dies"]);
    let said = place.call(&["plan", "--tag", "smoke", "--format", "json"]);
    let plan: serde_json::Value = serde_json::from_str(&said.exits(0).out).unwrap();
    assert!(plan["scenarios"].as_array().unwrap().len() > 2);
    assert!(place.runs().is_empty());
}

#[test]
fn a_killed_run_leaves_a_report_and_nothing_else() {
    let place = Place::new();
    for moment in 0..20_u64 {
        let mut child = place
            .meshproof(&["run", "exported-service-appears", "unexport-removes"])
            .spawn()
            .unwrap();
        // From before the first record to the middle of the scenarios.
        wait(Duration::from_millis(20 + moment * 150));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    place.call(&["gc"]).exits(0).says(&["removed"]);
    assert!(place.leftovers().is_empty());
    let mut reported = 0;
    for run in place.runs() {
        if RunFolder::read(&run).is_err() {
            // Killed before its first record was whole: there is nothing to report, and it says so.
            place.call(&["report", run.to_str().unwrap()]).exits(3);
            continue;
        }
        let said = place.call(&["report", run.to_str().unwrap()]);
        assert!(matches!(said.code, Some(0 | 7)), "{}{}", said.out, said.err);
        let xml = fs::read_to_string(run.join("junit.xml")).unwrap();
        let junit = quick_junit::Report::deserialize_from_str(&xml).unwrap();
        assert!(
            junit.test_suites.iter().any(|suite| suite.name.as_str() == "run"),
            "{xml}"
        );
        reported += 1;
    }
    assert!(reported >= 10, "{reported} of 20 runs had begun");
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_cleans_up_and_reports() {
    let place = Place::new();
    let child = place.meshproof(&["run", "unexport-removes"]).spawn().unwrap();
    wait(Duration::from_secs(4));
    duct::cmd!("kill", "-INT", child.id().to_string()).run().unwrap();
    let said = Said::from(child.wait_with_output().unwrap());
    said.exits(130).says(&["interrupted"]);
    let run = place.runs().pop().unwrap();
    let history = RunFolder::read(&run).unwrap().history;
    assert!(history.ended.is_some() && !history.interrupted.is_empty());
    assert!(place.leftovers().is_empty());
}

#[test]
fn clusters_are_served_until_they_are_taken_down() {
    let place = Place::new();
    place.call(&["status"]).exits(4).says(&["nothing is served"]);
    let mut up = place.meshproof(&["up", "--bare"]).spawn().unwrap();
    let kubeconfig = first_line(&mut up);
    assert!(kubeconfig.starts_with("export KUBECONFIG="), "{kubeconfig}");
    place.call(&["status"]).exits(0).says(&["west", "east", "ready"]);
    place.call(&["up", "--bare"]).exits(6).says(&["in use"]);
    place.call(&["down"]).exits(0).says(&["is down"]);
    assert!(up.wait().unwrap().success());
    assert!(place.leftovers().is_empty());
}

#[test]
fn commands_of_the_readme_are_understood() {
    let readme = fs::read_to_string("../../README.md").unwrap();
    let mut found = 0;
    for line in readme.lines() {
        let Some(arguments) = line.strip_prefix("cargo run -- ") else {
            continue;
        };
        let arguments = arguments.split('#').next().unwrap().split_whitespace();
        let parsed =
            <meshproof::args::Cli as clap::Parser>::try_parse_from(std::iter::once("meshproof").chain(arguments));
        assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        found += 1;
    }
    assert!(found >= 3);
}

#[test]
fn counts_of_the_readme_are_those_of_the_suite() {
    let place = Place::new();
    let count = |folder: &str, what: fn(&Path) -> usize| -> usize {
        let files = fs::read_dir(folder).unwrap().flatten();
        files.map(|file| what(&file.path())).sum()
    };
    let requirements = count("../../scenarios/catalogue", |file| {
        fs::read_to_string(file).unwrap().matches("\n  - id: ").count()
    });
    let listed = place.call(&["list", "--format", "json"]);
    let listed: Vec<serde_json::Value> = serde_json::from_str(&listed.exits(0).out).unwrap();
    let scenarios = listed.len();
    let readme = fs::read_to_string("../../README.md").unwrap();
    for text in [
        format!("pass: {scenarios} scenarios ({scenarios} pass); {requirements} of {requirements} requirements met"),
        format!("| {requirements} requirements in {scenarios} scenarios, each with a defect that kills it | works |"),
    ] {
        assert!(readme.contains(&text), "the README should say: {text}");
    }
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("standard output is piped"))
        .read_line(&mut line)
        .unwrap();
    line
}

/// Lets time pass: the moment of a kill is what these tests are about.
fn wait(time: Duration) {
    let (_sender, receiver) = std::sync::mpsc::channel::<()>();
    let _ = receiver.recv_timeout(time);
}
