//! The command line.

mod environment;
mod number;
pub mod readers;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use meshproof_spec::scalar::TimeSpan;

pub use self::environment::*;

/// The command line as it was typed. What is no text in it is shown as such.
#[must_use]
pub fn as_typed() -> Vec<String> {
    std::env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect()
}

/// Shows, end to end, whether a multi-cluster service mesh does what it promises.
#[derive(Debug, Parser)]
#[command(
    name = "meshproof",
    version,
    after_help = "Examples:
  meshproof run                              all shipped scenarios on embedded clusters
  meshproof run --defect weights-ignored     watch a check fail
  meshproof lint my-scenarios/               what is wrong with my files
  meshproof explain MC-FAIL-001              a requirement, a defect or a diagnostic code"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run scenarios and write reports
    #[command(after_help = "Examples:
  meshproof run
  meshproof run failover/ --seed 7
  meshproof run --requirement MC-SPLIT-001 --defect weights-off-by-five
  meshproof run --tag smoke --repeat 50 --until-fail
  meshproof run my-scenario.yaml --keep-on-failure
  meshproof run --on kind --linkerd ./linkerd --gateway-api-crds standard-install.yaml
  meshproof run --on contexts --context west=eks-west --context east=eks-east mirroring/

Exit codes: 0 passed, 1 a promise was broken, 2 usage, 3 bad input, 4 nothing run, 5 inconclusive, 6 error, 130 interrupted")]
    Run(RunArgs),
    /// Bring a topology up and serve it until interrupted
    #[command(after_help = "Examples:
  meshproof up
  meshproof up --topology trio --bare
While it serves, the line that it prints makes kubectl work on its clusters.")]
    Up(UpArgs),
    /// Stop what `up` serves
    Down(StateArgs),
    /// Tell what is up
    Status(StatusArgs),
    /// Print what a run would do, without doing it
    #[command(after_help = "Examples:
  meshproof plan
  meshproof plan --on kind --commands            every command and manifest, in order
  meshproof plan --on contexts --rbac            the rights that the harness needs")]
    Plan(PlanArgs),
    /// List the images that a run on kind needs, for machines without a network
    #[command(after_help = "Examples:
  meshproof images --on kind --linkerd ./linkerd
  meshproof images --on kind --mesh-from helm --registry-cache docker.io mirroring/
The mesh's images are those that its own tools print; no cluster is needed.")]
    Images(ImagesArgs),
    /// List scenarios
    List(ListArgs),
    /// Check scenario, topology and catalogue files
    #[command(after_help = "Examples:
  meshproof lint
  meshproof lint my-scenario.yaml other/
  meshproof lint --format json")]
    Lint(LintArgs),
    /// Print or write the JSON Schemas of files and reports
    Schema(SchemaArgs),
    /// Explain a requirement, a defect, a scenario, a diagnostic code or a finding
    Explain(ExplainArgs),
    /// Tell which requirements no scenario decides
    Coverage(CoverageArgs),
    /// Show that every check turns red under its defect, and stays green without
    #[command(after_help = "Examples:
  meshproof prove
  meshproof prove --requirement MC-SPLIT-001
  meshproof prove --list")]
    Prove(ProveArgs),
    /// Look for what would keep a run from working
    #[command(after_help = "Examples:
  meshproof doctor
  meshproof doctor --on kind --linkerd ./linkerd                        for all scenarios
  meshproof doctor --on kind --linkerd ./linkerd mirroring/
  meshproof doctor --on contexts --context west=eks-west --context east=eks-east mirroring/
  meshproof explain DOC006")]
    Doctor(DoctorArgs),
    /// Make the reports of a run again from its journal
    Report(FolderArgs),
    /// Compute every verdict of a run again from its journal and ledgers
    Recheck(FolderArgs),
    /// Remove what killed processes left behind
    #[command(after_help = "Examples:
  meshproof gc                                                      what runs of this machine left, here and in clusters
  meshproof gc --context west=eks-west --context east=eks-east      also what is left in these clusters, as far as it is old
  meshproof gc --context west=eks-west --older-than 1h              also those of runs that were started elsewhere")]
    Gc(GcArgs),
    /// Measure the harness itself
    Bench(BenchArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Where scenarios, topologies and the catalogue are.
#[derive(Args, Clone, Debug)]
pub struct SuiteArgs {
    /// Folder with the catalogue and the scenarios
    #[arg(long, env = "MESHPROOF_SCENARIOS", default_value = "scenarios", value_name = "DIR")]
    pub scenarios: PathBuf,
    /// Folder with the topologies
    #[arg(
        long,
        env = "MESHPROOF_TOPOLOGIES",
        default_value = "kind-configs",
        value_name = "DIR"
    )]
    pub topologies: PathBuf,
}

/// Which scenarios.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct SelectionArgs {
    /// Scenarios: ids (`gateway-dies`, `failover/gateway-dies`, also with `*`), areas (`failover/`), files or folders; all
    /// when none is given
    #[arg(value_name = "SCENARIO")]
    pub ids: Vec<String>,
    /// Only scenarios with this tag
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Only scenarios that decide this requirement
    #[arg(long = "requirement", value_name = "ID")]
    pub requirements: Vec<String>,
    /// Only scenarios that decide requirements of this profile
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Only this part of the selection, e.g. 1/3
    #[arg(long, value_name = "N/M")]
    pub partition: Option<String>,
}

/// How often.
#[derive(Args, Clone, Debug)]
pub struct RepeatArgs {
    /// Run each scenario so many times
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = number::repetitions)]
    pub repeat: u32,
}

/// `run`
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Suite.
    #[command(flatten)]
    pub suite: SuiteArgs,
    /// Selection.
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Repetitions.
    #[command(flatten)]
    pub repeat: RepeatArgs,
    /// Environment.
    #[command(flatten)]
    pub environment: EnvironmentArgs,
    /// State.
    #[command(flatten)]
    pub state: StateFolderArgs,
    /// Stop after the first scenario that did not pass
    #[arg(long)]
    pub until_fail: bool,
    /// Count what releases of the mesh are known to break, and broken SHOULDs, as failures
    #[arg(long)]
    pub strict: bool,
    /// Leave everything in the clusters
    #[arg(long, conflicts_with = "keep_on_failure")]
    pub keep: bool,
    /// Leave everything of scenarios that did not pass in the clusters, and serve them until interrupted
    #[arg(long)]
    pub keep_on_failure: bool,
    /// Scenarios at the same time
    #[arg(long, value_name = "N", value_parser = number::at_once)]
    pub parallel: Option<usize>,
    /// Folder for the journal and the reports
    #[arg(long, default_value = "reports/runs", value_name = "DIR")]
    pub out: PathBuf,
    /// Print records of the journal as they are written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// `up`
#[derive(Args, Clone, Debug)]
pub struct UpArgs {
    /// Suite.
    #[command(flatten)]
    pub suite: SuiteArgs,
    /// Environment.
    #[command(flatten)]
    pub environment: EnvironmentArgs,
    /// State.
    #[command(flatten)]
    pub state: StateArgs,
    /// Topology to bring up
    #[arg(long, default_value = "pair", value_name = "NAME")]
    pub topology: String,
    /// Clusters without the mesh
    #[arg(long)]
    pub bare: bool,
}

/// Which of the environments that `up` serves.
#[derive(Args, Clone, Debug)]
pub struct StateArgs {
    /// Name of the environment
    #[arg(long, default_value = "default", value_name = "NAME", value_parser = name)]
    pub name: String,
    /// State.
    #[command(flatten)]
    pub folder: StateFolderArgs,
}

/// Where processes keep what other commands need to know of them.
#[derive(Args, Clone, Debug, Default)]
pub struct StateFolderArgs {
    /// Folder for state: of what is served, of runs, of clusters made with kind, and for downloads
    #[arg(long, env = "MESHPROOF_STATE", value_name = "DIR")]
    pub state: Option<PathBuf>,
}

fn name(text: &str) -> Result<String, String> {
    crate::state::check_name(text)
        .map(|()| text.to_owned())
        .map_err(|problem| problem.to_string())
}

/// `gc`
#[derive(Args, Clone, Debug)]
pub struct GcArgs {
    /// State.
    #[command(flatten)]
    pub state: StateFolderArgs,
    /// Also remove what caches of registries pulled (run --registry-cache)
    #[arg(long)]
    pub caches: bool,
    /// Also remove kind's clusters and containers that have our names and labels but no record in the state folder: it was
    /// lost, or a run with another state folder uses them
    #[arg(long)]
    pub unrecorded: bool,
    /// An existing cluster to look at, too: a name for it, its context, and its kubeconfig unless it is the usual one
    #[arg(long = "context", value_name = "CLUSTER=CONTEXT[@KUBECONFIG]")]
    pub contexts: Vec<String>,
    /// Age from which namespaces of runs that this machine knows nothing of are removed: somebody else may be running them
    #[arg(long, value_name = "TIME", default_value = "24h", requires = "contexts")]
    pub older_than: TimeSpan,
}

/// `status`
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// State.
    #[command(flatten)]
    pub state: StateArgs,
    /// Format.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// A format.
#[derive(Args, Clone, Copy, Debug)]
pub struct FormatArgs {
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// `plan`
#[derive(Args, Clone, Debug)]
pub struct PlanArgs {
    /// Suite.
    #[command(flatten)]
    pub suite: SuiteArgs,
    /// Selection.
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Environment.
    #[command(flatten)]
    pub environment: EnvironmentArgs,
    /// Repetitions.
    #[command(flatten)]
    pub repeat: RepeatArgs,
    /// State.
    #[command(flatten)]
    pub state: StateFolderArgs,
    /// Print every command and manifest that a run would use to bring the clusters up
    #[arg(long, conflicts_with = "rbac")]
    pub commands: bool,
    /// With --commands: those of this topology, instead of those of the scenarios
    #[arg(
        long,
        value_name = "NAME",
        requires = "commands",
        conflicts_with_all = ["ids", "tags", "requirements", "profile", "partition", "repeat"]
    )]
    pub topology: Option<String>,
    /// Print the rights that a run needs in the clusters, as manifests
    #[arg(long)]
    pub rbac: bool,
    /// Format.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// `images`
#[derive(Args, Clone, Debug)]
pub struct ImagesArgs {
    /// Suite.
    #[command(flatten)]
    pub suite: SuiteArgs,
    /// State.
    #[command(flatten)]
    pub state: StateFolderArgs,
    /// Selection.
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Environment.
    #[command(flatten)]
    pub environment: EnvironmentArgs,
    /// Format.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// `list`
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// Suite.
    #[command(flatten)]
    pub suite: SuiteArgs,
    /// Selection.
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Format.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// `lint`
#[derive(Args, Clone, Debug)]
pub struct LintArgs {
    /// Suite.
    #[command(flatten)]
    pub suite: SuiteArgs,
    /// Files or folders; the whole suite when none is given
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Format.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// `schema`
#[derive(Args, Clone, Debug)]
pub struct SchemaArgs {
    /// Which: scenario, topology, catalogue, deviations, profiles, report
    #[arg(value_name = "NAME", required_unless_present = "write")]
    pub name: Option<String>,
    /// Write all of them into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "name")]
    pub write: Option<PathBuf>,
}

/// `explain`
#[derive(Args, Clone, Debug)]
pub struct ExplainArgs {
    /// Suite.
    #[command(flatten)]
    pub suite: SuiteArgs,
    /// Requirement (MC-…), defect, scenario, diagnostic code (SPEC…) or finding (DOC…)
    #[arg(value_name = "ID")]
    pub id: String,
}

/// `coverage`
#[derive(Args, Clone, Debug)]
pub struct CoverageArgs {
    /// Suite.
    #[command(flatten)]
    pub suite: SuiteArgs,
    /// Format.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// `prove`
#[derive(Args, Clone, Debug)]
pub struct ProveArgs {
    /// Suite.
    #[command(flatten)]
    pub suite: SuiteArgs,
    /// Scenario files or folders instead of the whole suite
    #[arg(value_name = "FILE")]
    pub files: Vec<String>,
    /// Run scenarios without their configuring steps instead: no requirement may stay green
    #[arg(long, conflicts_with = "defects")]
    pub vacuity: bool,
    /// Only these requirements
    #[arg(long = "requirement", value_name = "ID")]
    pub requirements: Vec<String>,
    /// Only these defects
    #[arg(long = "defect", value_name = "NAME")]
    pub defects: Vec<String>,
    /// List all defects and what they do
    #[arg(long)]
    pub list: bool,
    /// Scenario seconds per wall second
    #[arg(long, default_value_t = 10.0, value_name = "FACTOR", value_parser = number::pace)]
    pub pace: f64,
    /// Seed of everything drawn at random
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Defects at the same time
    #[arg(long, value_name = "N", value_parser = number::at_once)]
    pub parallel: Option<usize>,
    /// Folder for the journals
    #[arg(long, default_value = "reports/runs", value_name = "DIR")]
    pub out: PathBuf,
    /// Format.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// `doctor`
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// Suite.
    #[command(flatten)]
    pub suite: SuiteArgs,
    /// State.
    #[command(flatten)]
    pub state: StateFolderArgs,
    /// Selection.
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Environment.
    #[command(flatten)]
    pub environment: EnvironmentArgs,
    /// Clusters of kind at the same time; as many as the selected scenarios need unless given
    #[arg(long, value_name = "N", value_parser = number::clusters)]
    pub clusters: Option<u64>,
    /// Format.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// `report`, `recheck`
#[derive(Args, Clone, Debug)]
pub struct FolderArgs {
    /// Folder of the run; the newest below `reports/runs` when none is given
    #[arg(value_name = "RUN")]
    pub folder: Option<PathBuf>,
    /// Format.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// `bench`
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// Suite.
    #[command(flatten)]
    pub suite: SuiteArgs,
    /// Only these: suite, waiting, agent
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Format.
    #[command(flatten)]
    pub format: FormatArgs,
}
