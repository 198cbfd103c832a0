//! Upgrades through the command line: on kind with stand-ins for the vendor's tools, where a second `linkerd` or other charts
//! bring the version to go to; what is skipped where there is none; what a plan prints.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use meshproof_mesh::defect::Defects;
use meshproof_mesh::install::gateway_api_crds;
use meshproof_report::model::Report;
use meshproof_standins::{NEXT_LINKERD, Standins};
use tempfile::TempDir;

/// Scenario seconds per wall second of the stand-ins' clusters.
const PACE: f64 = 10.0;

/// Two sets of clusters at a time would starve each other, and lose requests for that.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

struct Machine {
    folder: TempDir,
    standins: Standins,
}

struct Said {
    code: Option<i32>,
    out: String,
    all: String,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let standins = Standins::start(&folder.path().join("standins"), PACE).unwrap();
        standins.add_agent_image(concat!("meshproof-agent:", env!("CARGO_PKG_VERSION")));
        let definitions: Vec<String> = gateway_api_crds(&Defects::default())
            .iter()
            .map(|definition| serde_yaml::to_string(definition).unwrap())
            .collect();
        fs::write(folder.path().join("gateway-api.yaml"), definitions.join("---\n")).unwrap();
        Self { folder, standins }
    }

    /// `meshproof <command> --on kind` of scenarios; relays need a Docker engine and not a stand-in for its client.
    fn meshproof(&self, command: &str, more: &[&str]) -> Said {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut meshproof = Command::new(env!("CARGO_BIN_EXE_meshproof"));
        meshproof
            .args([command, "--on", "kind", "--no-relay", "--gateway-api-crds"])
            .arg(self.folder.path().join("gateway-api.yaml"))
            .args(more)
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
            .env("PATH", format!("{}:{path}", self.standins.path_dir().display()))
            .env("XDG_STATE_HOME", self.folder.path().join("state"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        let output = meshproof.output().unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        let all = format!("{out}\n{}", String::from_utf8(output.stderr).unwrap());
        Said {
            code: output.status.code(),
            out,
            all,
        }
    }

    fn run(&self, more: &[&str]) -> Said {
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let runs = self.runs();
        let mut words = vec!["--out", runs.to_str().unwrap()];
        words.extend(more);
        self.meshproof("run", &words)
    }

    fn runs(&self) -> std::path::PathBuf {
        self.folder.path().join("runs")
    }

    fn next_linkerd(&self) -> String {
        self.standins.path_dir().join(NEXT_LINKERD).display().to_string()
    }

    fn report(&self) -> Report {
        let run = fs::read_dir(self.runs()).unwrap().flatten().next().unwrap().path();
        serde_json::from_str(&fs::read_to_string(run.join("report.json")).unwrap()).unwrap()
    }

    /// Lines of the calls of a tool, up to its first option.
    fn verbs(&self, tool: &str) -> Vec<String> {
        let calls = self.standins.calls();
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

    fn assert_nothing_left(&self) {
        let left = self.standins.leftovers();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn the_vendors_next_cli_upgrades_what_its_first_one_installed() {
    let machine = Machine::new();
    let said = machine.run(&["--upgrade-linkerd", &machine.next_linkerd(), "--tag", "upgrade"]);
    assert_eq!(said.code, Some(0), "{}", said.all);
    assert!(said.out.contains("pass: 3 scenarios (3 pass)"), "{}", said.out);
    machine.assert_nothing_left();

    let next = machine.verbs(NEXT_LINKERD);
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
    let first = machine.verbs("linkerd");
    assert!(
        !first.iter().any(|line| line.starts_with("upgrade") || line == "prune"),
        "{first:?}"
    );

    // The report tells which version each check ran against.
    let report = machine.report();
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
fn charts_of_the_next_version_upgrade_too() {
    let machine = Machine::new();
    let said = machine.run(&[
        "--mesh-from",
        "helm",
        "--upgrade-chart-crds",
        "linkerd/linkerd-crds@0.0.0-model-2.21",
        "--upgrade-chart-control-plane",
        "linkerd/linkerd-control-plane@0.0.0-model-2.21",
        "--upgrade-chart-multicluster",
        "linkerd/linkerd-multicluster@0.0.0-model-2.21",
        "under-load",
    ]);
    assert_eq!(said.code, Some(0), "{}", said.all);
    machine.assert_nothing_left();
    let upgrades = &machine.report().scenarios[0].upgrades;
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
    let said = machine.run(&["under-load"]);
    // Nothing was run.
    assert_eq!(said.code, Some(4), "{}", said.all);
    assert!(said.all.contains("capability-missing"), "{}", said.all);
    assert!(said.all.contains("upgrade-mesh"), "{}", said.all);
}

#[test]
fn the_same_version_again_is_no_upgrade() {
    let machine = Machine::new();
    let same = machine.standins.path_dir().join("linkerd").display().to_string();
    let said = machine.run(&["--upgrade-linkerd", &same, "under-load"]);
    assert_eq!(said.code, Some(6), "{}", said.all);
    assert!(said.all.contains("upgrade-impossible"), "{}", said.all);
    machine.assert_nothing_left();
}

#[test]
fn a_plan_prints_what_upgrades_would_run() {
    let machine = Machine::new();
    let said = machine.meshproof(
        "plan",
        &[
            "--commands",
            "--upgrade-linkerd",
            "/opt/linkerd-next",
            "versions-differ",
        ],
    );
    assert_eq!(said.code, Some(0), "{}", said.all);
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
        let said = machine.run(&[words, &["under-load"]].concat());
        assert_eq!(said.code, Some(2), "{words:?}: {}", said.all);
        assert!(said.all.contains(named), "{words:?}: {}", said.all);
    }
}
