//! Where a run takes place: the clusters that the arguments ask for, and the mesh in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use meshproof_clusters::agent_image;
use meshproof_clusters::contexts::{Contexts, ContextsOptions};
use meshproof_clusters::kind::{Kind, KindOptions, LOAD_BALANCER_CLASS};
use meshproof_clusters::relay::RelayContainers;
use meshproof_embedded::environment::Embedded;
use meshproof_engine::AGENT_IMAGE;
use meshproof_engine::driver::MeshDriver;
use meshproof_engine::environment::{Environment, EnvironmentRequest};
use meshproof_engine::problem::{self, Problem};
use meshproof_engine::testbed::DriverFactory;
use meshproof_engine::tool::Tools;
use meshproof_linkerd::installer::{GatewayOptions, Installer};
use meshproof_linkerd::{
    Chart, CliInstaller, CliOptions, HelmInstaller, HelmOptions, Linkerd, NextCharts, Preinstalled, download,
};
use meshproof_mesh::defect::{Defect, Defects};
use serde_json::{Map, Value};

use crate::args::{EnvironmentArgs, KindArgs, MeshArgs, MeshFrom, On, StateFolderArgs, UpgradeArgs};
use crate::exit_code::Exit;
use crate::output;
use crate::state::State;

/// Scenario seconds per wall second on embedded clusters, unless told otherwise.
const EMBEDDED_PACE: f64 = 10.0;

/// The word for all defects that the real mesh was seen to have.
const UPSTREAM: &str = "upstream";

/// Ports of Linkerd's gateways that relays carry: traffic and probes.
const GATEWAY_PORTS: [u16; 2] = [4143, 4191];

/// Where a run takes place.
#[derive(Clone)]
pub struct Place {
    /// The clusters.
    pub environment: Arc<dyn Environment>,
    /// The mesh in them.
    pub driver: Arc<DriverFactory>,
    /// Image of the agent in them.
    pub agent_image: String,
    /// Whether the harness installs the mesh.
    pub installs: bool,
    /// Defects that the mesh has by the user's wish, by name.
    pub defects: Vec<String>,
    /// Static binary that the agent's image is made from when it is not there.
    pub agent_binary: Option<PathBuf>,
    /// Who brings the mesh there; the model's own installer on embedded clusters is nobody's to ask.
    pub installers: Option<Installers>,
    /// The tools that it is reached with.
    pub tools: Tools,
    /// Clusters of kind, when it is that.
    pub kind: Option<Kind>,
    /// Existing clusters, when it is that.
    pub contexts: Option<ContextsOptions>,
}

impl Place {
    /// The place that the arguments ask for. Nothing is asked of any cluster or tool yet, but a pinned CLI may be
    /// downloaded.
    ///
    /// # Errors
    /// [`Exit::Usage`] when the arguments contradict each other, [`Exit::Error`] when a download fails; it has been told.
    pub async fn of(args: &EnvironmentArgs, state: &StateFolderArgs, topologies: &Path) -> Result<Self, Exit> {
        match args.on {
            On::Embedded => Ok(Self::embedded(
                args.pace.unwrap_or(EMBEDDED_PACE),
                defects(&args.defects)?,
            )),
            On::Kind => Self::kind(args, state, topologies).await,
            On::Contexts => Self::contexts(args, state).await,
        }
    }

    /// Embedded clusters.
    #[must_use]
    pub fn embedded(pace: f64, defects: Defects) -> Self {
        let names = defects.iter().map(|defect| defect.name().to_owned()).collect();
        let embedded = Arc::new(Embedded::new(pace, defects));
        let made = Arc::clone(&embedded);
        Self {
            environment: embedded,
            driver: Arc::new(move |request: &EnvironmentRequest| made.driver(request)),
            agent_image: AGENT_IMAGE.to_owned(),
            installs: true,
            defects: names,
            agent_binary: None,
            installers: None,
            tools: Tools::default(),
            kind: None,
            contexts: None,
        }
    }

    async fn kind(args: &EnvironmentArgs, state: &StateFolderArgs, topologies: &Path) -> Result<Self, Exit> {
        let agent_image = args
            .agent
            .agent_image
            .clone()
            .unwrap_or_else(|| agent_image::DEFAULT_IMAGE.to_owned());
        let tools = tools(&args.mesh, &args.kind, state).await?;
        let options = KindOptions {
            agent_image: Some(agent_image.clone()),
            ..kind_options(&args.kind, state, topologies)?
        };
        let kind = if args.kind.no_relay {
            Kind::new(options, tools.clone())
        } else {
            let relays = RelayContainers::new(tools.clone(), agent_image.clone(), GATEWAY_PORTS.to_vec());
            Kind::with_relays(options, tools.clone(), Arc::new(relays))
        };
        // A class of our own keeps other load-balancer controllers away from the gateways.
        let gateway = GatewayOptions {
            load_balancer_class: Some(LOAD_BALANCER_CLASS.to_owned()),
            ..GatewayOptions::default()
        };
        let installers = Installers::of(&args.mesh, MeshFrom::Cli, gateway, &tools, state).await?;
        Ok(Self {
            environment: Arc::new(kind.clone()),
            driver: driver(installers.clone(), 1.0),
            installers: Some(installers),
            agent_image,
            installs: args.mesh.from != Some(MeshFrom::Preinstalled),
            defects: Vec::new(),
            agent_binary: args.agent.agent_binary.clone(),
            tools,
            kind: Some(kind),
            contexts: None,
        })
    }

    async fn contexts(args: &EnvironmentArgs, state: &StateFolderArgs) -> Result<Self, Exit> {
        let pace = args.pace.unwrap_or(1.0);
        let tools = tools(&args.mesh, &args.kind, state).await?;
        let from = args.mesh.from.unwrap_or(MeshFrom::Preinstalled);
        let options = ContextsOptions {
            pace,
            model: args.pace.is_some(),
            agent_image: args.agent.agent_image.clone(),
            disruptive: args.contexts.disruptive,
            preinstalled: from == MeshFrom::Preinstalled,
            ..ContextsOptions::parse(
                &args.contexts.contexts,
                &args.contexts.apis,
                &args.contexts.node_addresses,
            )
            .map_err(|problem| usage(&problem.message))?
        };
        let gateway = GatewayOptions::default();
        let installers = Installers::of(&args.mesh, MeshFrom::Preinstalled, gateway, &tools, state).await?;
        Ok(Self {
            environment: Arc::new(Contexts::new(options.clone())),
            driver: driver(installers.clone(), pace),
            installers: Some(installers),
            agent_image: args.agent.agent_image.clone().unwrap_or_else(|| AGENT_IMAGE.to_owned()),
            installs: from != MeshFrom::Preinstalled,
            defects: Vec::new(),
            agent_binary: None,
            tools,
            kind: None,
            contexts: Some(options),
        })
    }

    /// Makes sure that what the clusters need on this machine is there: on kind, the agent's image.
    ///
    /// # Errors
    /// As [`agent_image::ensure`].
    pub async fn prepare(&self) -> Result<(), Problem> {
        match &self.kind {
            Some(_) => agent_image::ensure(&self.tools, &self.agent_image, self.agent_binary.clone()).await,
            None => Ok(()),
        }
    }

    /// Waits for what goes on in the background. To be called before the process ends.
    pub async fn finish(&self) {
        if let Some(kind) = &self.kind {
            kind.finish().await;
        }
    }
}

/// Defects by name.
///
/// # Errors
/// [`Exit::Usage`] when a name is not known.
pub fn defects(names: &[String]) -> Result<Defects, Exit> {
    let mut found = Vec::new();
    for name in names {
        if name == UPSTREAM {
            found.extend(Defect::all().filter(|defect| defect.is_upstream()));
            continue;
        }
        found.push(name.parse::<Defect>().map_err(|problem| {
            output::note(&format!("error: {problem}"));
            Exit::Usage
        })?);
    }
    Ok(found.into_iter().collect())
}

/// How kind's clusters are made, without the agent's image.
///
/// # Errors
/// [`Exit::Error`] when there is no folder for state; it has been told.
pub fn kind_options(args: &KindArgs, state: &StateFolderArgs, topologies: &Path) -> Result<KindOptions, Exit> {
    let state = State::at(state.state.as_deref()).map_err(|problem| {
        output::note(&format!("error: {problem:#}"));
        Exit::Error
    })?;
    let mut usual = KindOptions::new(topologies, state.kind_folder());
    if let Some(longest) = args.tool_deadline {
        usual.waits.clear = usual.waits.clear.min(Duration::from_secs(longest));
    }
    Ok(KindOptions {
        node_image: args.node_image.clone(),
        images: args.load_images.clone(),
        archives: args.load_archives.clone(),
        registry_mirror: args.registry_mirror.clone(),
        registry_caches: args.registry_caches.clone(),
        reuse: args.reuse,
        keep: args.reuse,
        at_once: args.at_once.or(usual.at_once),
        ..usual
    })
}

/// The tools that the arguments name; others come from the PATH.
pub(crate) async fn tools(mesh: &MeshArgs, kind: &KindArgs, state: &StateFolderArgs) -> Result<Tools, Exit> {
    let mut paths: BTreeMap<String, PathBuf> = BTreeMap::new();
    let given = [
        ("linkerd", &mesh.linkerd),
        ("helm", &mesh.helm),
        ("kind", &kind.kind_path),
    ];
    for (tool, path) in given {
        if let Some(path) = path {
            paths.insert(tool.to_owned(), path.clone());
        }
    }
    if let (Some(version), Some(sum)) = (&mesh.linkerd_version, &mesh.linkerd_sha256) {
        paths.insert("linkerd".to_owned(), fetched(version, sum, state).await?);
    }
    Ok(Tools::at(paths).with_longest(kind.tool_deadline.map(Duration::from_secs)))
}

/// The vendor's CLI of a version, from the cache or from the vendor.
async fn fetched(version: &str, sum: &str, state: &StateFolderArgs) -> Result<PathBuf, Exit> {
    let cache = State::at(state.state.as_deref()).map(|state| state.cache_folder());
    let cache = cache.map_err(|problem| told(&problem::environment("no-state-folder", problem.to_string(), None)))?;
    let path = download::fetch_cli(version, sum, &cache, download::VENDOR_URL).await;
    path.map_err(|problem| told(&problem))
}

/// The tools for the version that is upgraded to: another `linkerd`, and otherwise the same.
async fn next_tools(upgrade: &UpgradeArgs, tools: &Tools, state: &StateFolderArgs) -> Result<Tools, Exit> {
    let path = match (&upgrade.linkerd, &upgrade.to, &upgrade.sha256) {
        (Some(path), _, _) => path.clone(),
        (None, Some(version), Some(sum)) => fetched(version, sum, state).await?,
        (None, _, _) => {
            return Err(usage(
                "--upgrade-to needs the CLI of that version: its path with --upgrade-linkerd, or its sum with --upgrade-sha256",
            ));
        }
    };
    Ok(tools.with("linkerd", path))
}

fn driver(installers: Installers, pace: f64) -> Arc<DriverFactory> {
    Arc::new(move |_: &EnvironmentRequest| {
        let driver = Linkerd::new(Arc::clone(&installers.first), pace);
        let driver: Arc<dyn MeshDriver> = match &installers.next {
            Some(next) => Arc::new(driver.upgradable(Arc::clone(next))),
            None => Arc::new(driver),
        };
        driver
    })
}

/// Who brings the mesh.
#[derive(Clone)]
pub struct Installers {
    /// Brings the version that is installed.
    pub first: Arc<dyn Installer>,
    /// Brings the version that scenarios upgrade to.
    pub next: Option<Arc<dyn Installer>>,
}

impl Installers {
    async fn of(
        args: &MeshArgs,
        usual: MeshFrom,
        gateway: GatewayOptions,
        tools: &Tools,
        state: &StateFolderArgs,
    ) -> Result<Self, Exit> {
        match args.from.unwrap_or(usual) {
            MeshFrom::Preinstalled if args.upgrade.is_given() => Err(usage(
                "--upgrade-… needs a mesh that the harness installs: a preinstalled one is never changed",
            )),
            MeshFrom::Preinstalled => Ok(Self {
                first: Arc::new(Preinstalled::new()),
                next: None,
            }),
            MeshFrom::Cli => Self::cli(args, gateway, tools, state).await,
            MeshFrom::Helm => Self::helm(args, gateway, tools, state).await,
        }
    }

    async fn cli(
        args: &MeshArgs,
        gateway: GatewayOptions,
        tools: &Tools,
        state: &StateFolderArgs,
    ) -> Result<Self, Exit> {
        let options = CliOptions {
            version: args.linkerd_version.clone(),
            gateway_api_crds: args.gateway_api_crds.clone(),
            gateway,
            control_plane_set: args.set.clone(),
            multicluster_set: args.multicluster_set.clone(),
        };
        let first = CliInstaller::new(options, tools.clone());
        let upgrade = &args.upgrade;
        if upgrade.crds.is_some() {
            return Err(usage("--upgrade-chart-… needs --mesh-from helm"));
        }
        let next: Option<Arc<dyn Installer>> = if upgrade.is_given() {
            let tools = next_tools(upgrade, tools, state).await?;
            Some(Arc::new(first.next(upgrade.to.clone(), tools)))
        } else {
            None
        };
        Ok(Self {
            first: Arc::new(first),
            next,
        })
    }

    async fn helm(
        args: &MeshArgs,
        gateway: GatewayOptions,
        tools: &Tools,
        state: &StateFolderArgs,
    ) -> Result<Self, Exit> {
        let options = HelmOptions {
            crds: chart(&args.chart_crds),
            control_plane: chart(&args.chart_control_plane),
            multicluster: chart(&args.chart_multicluster),
            gateway_api_crds: args.gateway_api_crds.clone(),
            gateway,
            control_plane_values: values(&args.set)?,
            multicluster_values: values(&args.multicluster_set)?,
            links_by_cli: args.linkerd.is_some() || args.linkerd_version.is_some(),
        };
        let links_by_cli = options.links_by_cli;
        let first = HelmInstaller::new(options, tools.clone());
        let upgrade = &args.upgrade;
        let next: Option<Arc<dyn Installer>> = match (&upgrade.crds, &upgrade.control_plane, &upgrade.multicluster) {
            (Some(crds), Some(control_plane), Some(multicluster)) => {
                let charts = NextCharts {
                    crds: chart(crds),
                    control_plane: chart(control_plane),
                    multicluster: chart(multicluster),
                };
                let tools = if links_by_cli {
                    next_tools(upgrade, tools, state).await?
                } else {
                    tools.clone()
                };
                Some(Arc::new(first.next(charts, tools)))
            }
            _ if upgrade.is_given() => {
                return Err(usage(
                    "with --mesh-from helm, an upgrade needs the charts of that version: --upgrade-chart-crds, \
                     --upgrade-chart-control-plane and --upgrade-chart-multicluster",
                ));
            }
            _ => None,
        };
        Ok(Self {
            first: Arc::new(first),
            next,
        })
    }
}

/// `reference@version`, or `reference`.
fn chart(text: &str) -> Chart {
    match text.rsplit_once('@') {
        Some((reference, version)) => Chart {
            reference: reference.to_owned(),
            version: Some(version.to_owned()),
        },
        None => Chart {
            reference: text.to_owned(),
            version: None,
        },
    }
}

/// `a.b=c` pairs as nested values. A value that is a YAML number or truth value is one.
fn values(pairs: &[String]) -> Result<Value, Exit> {
    let mut root = Value::Object(Map::new());
    for pair in pairs {
        let Some((path, text)) = pair.split_once('=').filter(|(path, _)| !path.is_empty()) else {
            return Err(usage(&format!("`{pair}` is not a value; write key=value")));
        };
        let value = serde_yaml::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
        let mut place = &mut root;
        for key in path.split('.') {
            if !place.is_object() {
                return Err(usage(&format!("`{pair}`: a part of `{path}` has a value already")));
            }
            place = &mut place[key];
            if place.is_null() {
                *place = Value::Object(Map::new());
            }
        }
        *place = value;
    }
    Ok(root)
}

fn usage(message: &str) -> Exit {
    output::note(&format!("error: {message}"));
    Exit::Usage
}

fn told(problem: &Problem) -> Exit {
    output::problem(problem);
    Exit::Error
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{chart, values};

    #[test]
    fn values_nest_and_keep_their_types() {
        let pairs = ["a.b=1", "a.c=true", "d=x=y"].map(ToOwned::to_owned);
        assert_eq!(values(&pairs).unwrap(), json!({"a": {"b": 1, "c": true}, "d": "x=y"}));
        assert!(values(&["nonsense".to_owned()]).is_err());
        assert!(values(&["a=1".to_owned(), "a.b=2".to_owned()]).is_err());
    }

    #[test]
    fn charts_may_have_a_version() {
        let with = chart("linkerd/linkerd-crds@1.8.0");
        assert_eq!(
            (with.reference.as_str(), with.version.as_deref()),
            ("linkerd/linkerd-crds", Some("1.8.0"))
        );
        assert_eq!(chart("./charts/linkerd-crds").version, None);
    }
}
