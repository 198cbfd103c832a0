//! Looking, before anything is made, whether a plan can run where it is to run: a plan that can't is told so before minutes
//! are spent on it, as findings (`doctor`) or as the reason why no scenario runs (`run`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use meshproof_clusters::agent_image;
use meshproof_clusters::preflight::{self, Finding, Level, MeshTools, Needs};
use meshproof_engine::action::Action;
use meshproof_engine::environment::{Environment, EnvironmentRequest, RunningEnvironment};
use meshproof_engine::plain_file;
use meshproof_engine::plan::rbac;
use meshproof_engine::problem::{self, Problem};
use meshproof_engine::tool::Invocation;
use meshproof_linkerd::{manifests, version};
use meshproof_spec::topology::Network;

use crate::args::{MeshArgs, MeshFrom};
use crate::command::plan::requests;
use crate::output;
use crate::place::Place;
use crate::planning::Planned;

/// What certainly keeps a plan from running on existing clusters: missing rights, and addresses of a flat network that
/// overlap. Contexts that can't be reached have a problem of their own, which bringing their clusters up tells; the Gateway
/// API may come with the mesh, and clocks may do for what is tried.
const FATAL_ON_CONTEXTS: [&str; 2] = ["DOC023", "DOC024"];
/// What configurations of clusters ask of this machine, which is told at every run.
const REACHING_OUT: &str = "DOC029";
/// Time for a tool to tell its version.
const TOOL_TIME: Duration = Duration::from_secs(10);

/// Which of the mesh's tools the arguments make a run on kind use.
#[must_use]
pub fn mesh_tools(args: &MeshArgs) -> MeshTools {
    let from = args.from.unwrap_or(MeshFrom::Cli);
    MeshTools {
        helm: from == MeshFrom::Helm,
        linkerd: from == MeshFrom::Cli || args.linkerd.is_some() || args.linkerd_version.is_some(),
    }
}

/// What certainly keeps a plan from running, or was looked at and is as it has to be. Nothing is made. Embedded clusters
/// need nothing, nor does a plan of which everything is skipped.
pub async fn findings(planned: &Planned, args: &MeshArgs) -> Vec<Finding> {
    let place = &planned.place;
    let requests = requests(planned);
    if requests.is_empty() {
        return Vec::new();
    }
    if let Some(kind) = &place.kind {
        let mut findings = preflight::kind_tools(&place.tools, mesh_tools(args)).await;
        if errors(&findings).any(|finding| finding.code == "DOC005") {
            // Without an engine everything else would only say so again.
            return findings;
        }
        findings.extend(kind.feasibility(&requests).await);
        findings.extend(image_of_the_agent(place).await);
        findings.extend(gateway_api(place, args, &requests).await);
        return findings;
    }
    match &place.contexts {
        Some(options) => preflight::contexts(options, Some(&needs(planned, &requests))).await,
        None => Vec::new(),
    }
}

/// Why no scenario of a plan can run, if so; makes the agent's image when it has to be made from a binary.
pub async fn refusal(planned: &Planned, args: &MeshArgs) -> Option<Problem> {
    let findings = findings(planned, args).await;
    for told in findings.iter().filter(|finding| finding.code == REACHING_OUT) {
        output::note(&format!("warning: {} ({})", told.found, told.code));
    }
    let on_contexts = planned.place.contexts.is_some();
    let fatal: Vec<&Finding> = errors(&findings)
        .filter(|finding| !on_contexts || FATAL_ON_CONTEXTS.contains(&finding.code))
        .collect();
    if fatal.is_empty() {
        return planned.place.prepare().await.err();
    }
    let found: Vec<String> = fatal
        .iter()
        .map(|finding| format!("{} ({})", finding.found, finding.code))
        .collect();
    let fixes: BTreeSet<&str> = fatal.iter().filter_map(|finding| finding.fix.as_deref()).collect();
    let fixes: Vec<&str> = fixes.into_iter().collect();
    Some(problem::environment(
        "preflight",
        found.join("; "),
        Some(&fixes.join("; ")),
    ))
}

fn errors(findings: &[Finding]) -> impl Iterator<Item = &Finding> {
    findings.iter().filter(|finding| finding.level == Level::Error)
}

/// Most clusters that a plan has at the same time.
#[must_use]
pub fn clusters_at_once(planned: &Planned) -> u64 {
    let mut sizes: Vec<u64> = requests(planned)
        .iter()
        .map(|request| request.topology.clusters.len() as u64)
        .collect();
    sizes.sort_unstable_by(|one, other| other.cmp(one));
    let sets = planned.place.environment.at_once().unwrap_or(sizes.len());
    sizes.iter().take(sets).sum()
}

fn needs(planned: &Planned, requests: &[EnvironmentRequest]) -> Needs {
    let permissions = requests.first().map(|request| {
        let driver = (planned.place.driver)(request);
        rbac::needed(&planned.plan, driver.as_ref(), planned.place.installs).permissions
    });
    Needs {
        permissions: permissions.unwrap_or_default(),
        flat: requests.iter().any(|request| request.topology.network == Network::Flat),
    }
}

async fn image_of_the_agent(place: &Place) -> Option<Finding> {
    if let Some(binary) = &place.agent_binary {
        return Some(match agent_image::examine(&place.tools, binary).await {
            Ok(architecture) => Finding::ok(
                "DOC027",
                format!(
                    "the agent's image {} is made from {} ({architecture}) when the run begins",
                    place.agent_image,
                    binary.display()
                ),
            ),
            Err(problem) => Finding::error("DOC027", problem.message, problem.remedy.unwrap_or_default()),
        });
    }
    Some(match place.prepare().await {
        Ok(()) => Finding::ok(
            "DOC027",
            format!("the Docker engine has the agent's image {}", place.agent_image),
        ),
        Err(problem) => Finding::error("DOC027", problem.message, problem.remedy.unwrap_or_default()),
    })
}

/// New clusters have no Gateway API, and Linkerd from 2.19 on does not bring it.
async fn gateway_api(place: &Place, args: &MeshArgs, requests: &[EnvironmentRequest]) -> Option<Finding> {
    const FIX: &str = "give the file of its definitions with --gateway-api-crds, e.g. standard-install.yaml of a release of kubernetes-sigs/gateway-api";
    if !place.installs || requests.iter().all(|request| request.setup.bare) {
        return None;
    }
    if let Some(file) = &args.gateway_api_crds {
        let read = plain_file::read_text(file, manifests::LARGEST_FILE).map_err(|error| error.to_string());
        return Some(match read.and_then(|text| manifests::parse(&text)) {
            Ok(objects) => {
                let number = objects.len();
                Finding::ok(
                    "DOC021",
                    format!("{}: {number} definitions and policies", file.display()),
                )
            }
            Err(error) => Finding::error("DOC021", format!("{}: {error}", file.display()), FIX),
        });
    }
    if args.from == Some(MeshFrom::Helm) {
        let found = "new clusters have no Gateway API, and no file of its definitions is given; whether these charts bring it is not known";
        return Some(Finding::warning("DOC021", found, FIX));
    }
    let asked = Invocation::new("linkerd", ["version", "--client", "--short"], TOOL_TIME);
    // A CLI that does not answer is a finding of its own.
    let told = place.tools.run(&asked).await.ok()?;
    let version = told.stdout.trim();
    (!version::ships_gateway_api(version)).then(|| {
        let found = format!("new clusters have no Gateway API, and Linkerd {version} does not bring it");
        Finding::error("DOC021", found, FIX)
    })
}

/// An environment that can't be brought up, for a reason that is known beforehand: every scenario is reported with it.
pub struct Refused {
    environment: Arc<dyn Environment>,
    problem: Problem,
}

impl Refused {
    /// What `environment` would be, if it were not for the problem.
    #[must_use]
    pub fn new(environment: Arc<dyn Environment>, problem: Problem) -> Self {
        Self { environment, problem }
    }
}

#[async_trait]
impl Environment for Refused {
    fn kind(&self) -> &'static str {
        self.environment.kind()
    }

    fn is_model(&self) -> bool {
        self.environment.is_model()
    }

    fn certifies(&self) -> bool {
        self.environment.certifies()
    }

    fn pace(&self) -> f64 {
        self.environment.pace()
    }

    fn capabilities(&self) -> BTreeSet<String> {
        self.environment.capabilities()
    }

    fn at_once(&self) -> Option<usize> {
        self.environment.at_once()
    }

    fn cluster_names(&self) -> Option<BTreeSet<String>> {
        self.environment.cluster_names()
    }

    fn commands(&self, request: &EnvironmentRequest) -> Vec<Action> {
        self.environment.commands(request)
    }

    async fn up(&self, _: &EnvironmentRequest) -> Result<Arc<dyn RunningEnvironment>, Problem> {
        Err(self.problem.clone())
    }
}
