//! A machine with stand-ins for the tools, and what a user sees and finds left on it.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use meshproof_mesh::defect::Defects;
use meshproof_mesh::install::gateway_api_crds;
use meshproof_standins::{Leftovers, Standins};
use tempfile::TempDir;

/// Scenario seconds per wall second of the stand-ins' clusters.
const PACE: f64 = 10.0;
/// A quick scenario that needs the mesh, a link, the agent's image and traffic in both clusters.
pub(crate) const SCENARIO: &str = "exported-service-appears";
/// Stays as it is until it is ended: what it waits for never comes.
const STAYS: &str = "
scenario: stays-as-it-is
summary: Waits for what never comes.
topology: pair
checks: [MC-UPD-007]
steps:
  - expect: {id: MC-UPD-007, object: {in: west, kind: Service, name: nobody-makes-it}, within: 15m}
";
/// Name of a scenario that expects what is wrong.
pub(crate) const WRONG: &str = "expects-what-is-wrong";

/// A machine with the stand-ins on its `PATH`.
pub(crate) struct Machine {
    pub(crate) folder: TempDir,
    pub(crate) standins: Standins,
}

/// What a command said.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Both streams, for messages.
    pub(crate) fn all(&self) -> String {
        format!("{}\n{}", self.out, self.err)
    }
}

impl Machine {
    pub(crate) fn new() -> Self {
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

    pub(crate) fn meshproof(&self, arguments: &[&str]) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(env!("CARGO_BIN_EXE_meshproof"));
        command
            .args(arguments)
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
            .env("PATH", format!("{}:{path}", self.standins.path_dir().display()))
            .env("XDG_STATE_HOME", self.folder.path().join("state"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// `meshproof run --on kind` of scenarios; relays need a Docker engine and not a stand-in for its client.
    pub(crate) fn run(&self, more: &[&str]) -> Command {
        let mut command = self.meshproof(&["run", "--on", "kind", "--no-relay"]);
        command
            .arg("--gateway-api-crds")
            .arg(self.folder.path().join("gateway-api.yaml"));
        command.arg("--out").arg(self.folder.path().join("runs"));
        command.args(more);
        command
    }

    /// Starts a run that ends only when it is ended.
    pub(crate) fn run_that_stays(&self, more: &[&str]) -> Child {
        let file = self.folder.path().join("stays.yaml");
        fs::write(&file, STAYS).unwrap();
        self.run(more).arg(file).spawn().unwrap()
    }

    pub(crate) fn said(command: &mut Command) -> Said {
        let output = command.output().unwrap();
        Said {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The stand-in's model has no defects; a scenario that expects what is wrong shows that red comes through.
    pub(crate) fn wrong_scenario(&self) -> PathBuf {
        let text = fs::read_to_string(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios/mirroring/exported-service-appears.yaml"),
        )
        .unwrap();
        let wrong = text.replacen("scenario: exported-service-appears", &format!("scenario: {WRONG}"), 1);
        let wrong = wrong.replacen(
            "kind: Service, name: \"${mirror.",
            "kind: Service, name: \"no-${mirror.",
            1,
        );
        assert_ne!(wrong.replace(WRONG, "exported-service-appears"), text);
        let file = self.folder.path().join("wrong.yaml");
        fs::write(&file, wrong).unwrap();
        file
    }

    /// A file of the evidence of the only run's first check that did not pass.
    pub(crate) fn evidence_path(&self, scenario: &str, file: &str) -> PathBuf {
        let runs = self.folder.path().join("runs");
        let run = fs::read_dir(runs).unwrap().flatten().next().unwrap().path();
        let steps = run.join("evidence").join(scenario);
        let step = fs::read_dir(steps).unwrap().flatten().next().unwrap().path();
        step.join(file)
    }

    pub(crate) fn evidence(&self, scenario: &str, file: &str) -> String {
        fs::read_to_string(self.evidence_path(scenario, file)).unwrap()
    }

    /// No cluster, container or network is left, and no file in the state folder.
    pub(crate) fn assert_nothing_left(&self, after: &str) {
        self.assert_nothing_but_volumes(after);
        assert!(self.standins.leftovers().is_empty(), "after {after}");
    }

    /// As [`Self::assert_nothing_left`], but for what caches of registries pulled, which stays on purpose.
    pub(crate) fn assert_nothing_but_volumes(&self, after: &str) {
        let left = Leftovers {
            volumes: Vec::new(),
            ..self.standins.leftovers()
        };
        assert!(left.is_empty(), "after {after}: {left:?}");
        let state = self.folder.path().join("state/meshproof/kind");
        let files: Vec<_> = fs::read_dir(&state)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        assert!(files.is_empty(), "after {after}: {files:?}");
    }
}

/// Waits until another process has come as far as `reached` tells, which stays so; one that ended before tells why.
pub(crate) fn await_moment(process: &mut Child, reached: impl Fn() -> bool) {
    let began = Instant::now();
    while !reached() {
        let ended = process.try_wait().unwrap();
        let late = began.elapsed() > Duration::from_secs(60);
        if ended.is_some() || late {
            process.kill().unwrap();
            let mut said = String::new();
            process.stdout.take().unwrap().read_to_string(&mut said).unwrap();
            process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            assert_eq!(ended, None, "it ended before it came that far: {said}");
            assert!(!late, "it did not come that far within 60 s: {said}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The exit code; `None` when a signal ended it.
pub(crate) fn wait(child: &mut Child, longest: Duration) -> Option<i32> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if began.elapsed() > longest {
            child.kill().unwrap();
        }
        assert!(
            began.elapsed() <= longest,
            "it did not end within {} s",
            longest.as_secs()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
