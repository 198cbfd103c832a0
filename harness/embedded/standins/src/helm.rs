//! `helm`: `template`, `show chart` and `version` for Linkerd's three charts.
//!
//! A chart is known by the last part of its reference (`linkerd/linkerd-control-plane`, `./linkerd-crds-2.20.tgz`), and its
//! version is the model's: its next one with `--version` of that one, or where the reference says so
//! (`./linkerd-crds-0.0.0-model-2.21.tgz`), and its first one otherwise. As the charts do, the manifests leave the Namespace to the caller.

use clap::{Args, Parser, Subcommand};
use meshproof_mesh::install;
use meshproof_mesh::names::{NEXT_VERSION, VERSION};
use serde_json::{Map, Value};

use crate::exchange::{Call, Failure, Terminal, not_modelled, parse};
use crate::manifests;
use crate::server::ended;
use crate::values;
use crate::world::World;

#[derive(Parser)]
#[command(name = "helm", disable_help_subcommand = true)]
struct Helm {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Template(Template),
    #[command(subcommand)]
    Show(Show),
    Version {
        #[arg(long)]
        short: bool,
        #[arg(long)]
        template: Option<String>,
    },
}

#[derive(Subcommand)]
enum Show {
    Chart(Chart),
}

#[derive(Args)]
struct Chart {
    chart: String,
    #[arg(long)]
    version: Option<String>,
    #[arg(long)]
    repo: Option<String>,
}

#[derive(Args)]
struct Template {
    release: String,
    #[command(flatten)]
    chart: Chart,
    #[arg(short, long)]
    namespace: Option<String>,
    #[arg(long)]
    kube_version: Option<String>,
    #[arg(short = 'f', long)]
    values: Vec<String>,
    #[arg(long)]
    set: Vec<String>,
}

/// Runs `helm`.
pub(crate) async fn run(world: &World, call: &Call, terminal: &Terminal) -> u8 {
    let result = match parse::<Helm>(call, 1) {
        Ok(parsed) => execute(world, call, terminal, parsed.command).await,
        Err(failure) => Err(failure),
    };
    ended(result, terminal, "Error: ")
}

async fn execute(world: &World, call: &Call, terminal: &Terminal, command: Command) -> Result<(), Failure> {
    match command {
        Command::Version { template: Some(_), .. } => Err(not_modelled("`helm version --template`")),
        Command::Version { short: true, .. } => {
            terminal.line("v4.0.4+g8650e1d");
            Ok(())
        }
        Command::Version { .. } => {
            terminal.line(
                r#"version.BuildInfo{Version:"v4.0.4", GitCommit:"", GitTreeState:"clean", GoVersion:"go1.25.5"}"#,
            );
            Ok(())
        }
        Command::Show(Show::Chart(chart)) => {
            let name = known(&chart)?;
            let version = version(&chart);
            terminal.out(&format!(
                "apiVersion: v1\nappVersion: {version}\nname: {name}\nversion: 0.0.0-{version}\n"
            ));
            Ok(())
        }
        Command::Template(options) => {
            let chart = known(&options.chart)?;
            let mut given = Value::Object(Map::new());
            for file in &options.values {
                let text = if file == "-" {
                    terminal.input().await
                } else {
                    call.read(file)?
                };
                values::merge(&mut given, values::read(&text)?);
            }
            for text in &options.set {
                values::set(&mut given, text)?;
            }
            let objects = match chart {
                "linkerd-crds" => {
                    // The model's chart has no definitions of the Gateway API: leaving them out is all that it can do.
                    let left_out =
                        |(name, value): (&String, &Value)| GATEWAY_API.contains(&name.as_str()) && *value == false;
                    if !given.as_object().is_none_or(|given| given.iter().all(left_out)) {
                        return Err(not_modelled("a value of linkerd-crds"));
                    }
                    install::crds()
                }
                "linkerd-control-plane" => install::control_plane(&values::control_plane(given)?),
                _ => install::multicluster(&world.model.defects(), &values::multicluster(given, None)?),
            };
            let objects = install::of_version(version(&options.chart), &world.model.defects(), objects);
            let objects: Vec<Value> = objects
                .into_iter()
                .filter(|object| object["kind"] != "Namespace")
                .collect();
            terminal.out(&manifests::yaml(&objects)?);
            Ok(())
        }
    }
}

/// Values of `linkerd-crds` with which it brings definitions of the Gateway API.
const GATEWAY_API: [&str; 4] = [
    "installGatewayAPI",
    "enableHttpRoutes",
    "enableTlsRoutes",
    "enableTcpRoutes",
];

/// Version of the mesh that a chart brings.
fn version(chart: &Chart) -> &'static str {
    let asked = chart.version.as_deref().unwrap_or(&chart.chart);
    if asked.contains(NEXT_VERSION) {
        NEXT_VERSION
    } else {
        VERSION
    }
}

/// Which of the charts a reference is.
fn known(chart: &Chart) -> Result<&'static str, Failure> {
    let last = chart.chart.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    ["linkerd-crds", "linkerd-control-plane", "linkerd-multicluster"]
        .into_iter()
        .find(|name| {
            last.strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        })
        .ok_or_else(|| Failure::new(format!("repo {last} not found")))
}
