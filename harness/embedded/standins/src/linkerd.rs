//! `linkerd`: the model's manifests and checks in the place of the vendor's command line.
//!
//! Called as [`NEXT_LINKERD`] it is the command line of the version that an upgrade goes to.
//!
//! It speaks to clusters through `--kubeconfig` and `--context` alone, as the real one does. Its version is the model's, so
//! that no report can be taken for one about a real release.

mod checks;
mod cluster;
mod core_checks;
mod extension_checks;
mod gateways;
mod installing;
mod upgrade;

use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, Service};
use kube::{Api, ResourceExt};
use meshproof_mesh::install::{self, LinkGenOptions, RemovalError};
use meshproof_mesh::names::{
    CONTROL_PLANE_NAMESPACE, MULTICLUSTER_NAMESPACE, NEXT_VERSION, REMOTE_ACCESS, VERSION, credentials_secret, label,
    lease,
};
use serde_json::{Value, json};

use crate::exchange::{Call, Failure, Terminal, parse};
use crate::manifests;
use crate::server::ended;
use crate::standins::NEXT_LINKERD;
use crate::values;
use crate::world::World;
use cluster::Cluster;

/// Printed by `unlink` of 2.18 and later, whatever it does.
const UNLINK_DEPRECATED: &str = "Command \"unlink\" is deprecated, only use for removing service mirror resources created \
                                 by the (also deprecated) 'linkerd multicluster link' command (Linkerd 2.17 and earlier), \
                                 using the flag --only-controller";

#[derive(Parser)]
#[command(name = "linkerd", disable_help_subcommand = true)]
struct Linkerd {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Clone)]
struct Global {
    #[arg(long, global = true)]
    kubeconfig: Option<String>,
    #[arg(long, global = true)]
    context: Option<String>,
    #[arg(long, global = true)]
    verbose: bool,
}

#[derive(Subcommand)]
enum Command {
    Version {
        #[arg(long)]
        client: bool,
        #[arg(long)]
        short: bool,
    },
    Install(Install),
    Upgrade {
        #[arg(long)]
        crds: bool,
        #[command(flatten)]
        certificates: Certificates,
        #[command(flatten)]
        values: Values,
    },
    Prune {
        #[arg(short, long, default_value = "yaml")]
        output: String,
    },
    Uninstall {
        #[arg(short, long, default_value = "yaml")]
        output: String,
        #[arg(short, long)]
        force: bool,
    },
    Check(Check),
    #[command(subcommand, alias = "mc")]
    Multicluster(Multicluster),
}

/// Flags about certificates that `install` and `upgrade` share.
#[derive(Args)]
struct Certificates {
    #[arg(long)]
    identity_trust_anchors_file: Option<String>,
    #[arg(long)]
    identity_issuer_certificate_file: Option<String>,
    #[arg(long)]
    identity_issuer_key_file: Option<String>,
    #[arg(long)]
    identity_issuance_lifetime: Option<String>,
}

impl Certificates {
    /// The chart's values that they stand for.
    fn values(&self, call: &Call) -> Result<Value, Failure> {
        let file = |path: &Option<String>| path.as_deref().map(|path| call.read(path)).transpose();
        let mut given = json!({});
        if let Some(anchors) = file(&self.identity_trust_anchors_file)? {
            given["identityTrustAnchorsPEM"] = anchors.into();
        }
        match (
            file(&self.identity_issuer_certificate_file)?,
            file(&self.identity_issuer_key_file)?,
        ) {
            (Some(certificate), Some(key)) => {
                given["identity"] = json!({"issuer": {"tls": {"crtPEM": certificate, "keyPEM": key}}});
            }
            (None, None) => {}
            _ => {
                return Err(Failure::new(
                    "a private key file must be specified if other credentials are provided",
                ));
            }
        }
        if let Some(lifetime) = &self.identity_issuance_lifetime {
            given["identity"]["issuer"]["issuanceLifetime"] = lifetime.as_str().into();
        }
        Ok(given)
    }
}

#[derive(Args)]
struct Install {
    #[arg(long)]
    crds: bool,
    #[command(flatten)]
    certificates: Certificates,
    #[arg(long)]
    identity_trust_domain: Option<String>,
    #[arg(long)]
    cluster_domain: Option<String>,
    #[arg(long)]
    ignore_cluster: bool,
    #[command(flatten)]
    values: Values,
}

#[derive(Args)]
struct Values {
    #[arg(long)]
    set: Vec<String>,
    #[arg(short = 'f', long)]
    values: Vec<String>,
    #[arg(short, long, default_value = "yaml")]
    output: String,
}

#[derive(Args)]
struct Check {
    #[arg(short, long, default_value = "table")]
    output: String,
    #[arg(long, default_value = "5m0s")]
    wait: String,
}

#[derive(Subcommand)]
enum Multicluster {
    Install(MulticlusterInstall),
    LinkGen(LinkGen),
    Unlink {
        #[arg(long)]
        cluster_name: Option<String>,
        #[arg(long)]
        only_controller: bool,
        #[arg(short, long, default_value = "yaml")]
        output: String,
    },
    Uninstall {
        #[arg(short, long, default_value = "yaml")]
        output: String,
    },
    Check(Check),
    Gateways {
        #[arg(long)]
        cluster_name: Option<String>,
        #[arg(short, long)]
        output: Option<String>,
        #[arg(short, long, default_value = "30s")]
        wait: String,
    },
}

#[derive(Args)]
struct MulticlusterInstall {
    #[arg(long, default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    gateway: bool,
    #[arg(long)]
    gateway_service_type: Option<String>,
    #[arg(long)]
    gateway_probe_seconds: Option<u32>,
    #[arg(long)]
    ignore_cluster: bool,
    #[command(flatten)]
    values: Values,
}

#[derive(Args)]
struct LinkGen {
    /// Name of the target cluster
    #[arg(long, default_value = "")]
    cluster_name: String,
    /// Address of the target's API server as seen from the source's pods
    #[arg(long)]
    api_server_address: Option<String>,
    /// Account of the target whose credentials are handed over
    #[arg(long, default_value = REMOTE_ACCESS)]
    service_account_name: String,
    /// Whether the target has a gateway
    #[arg(long, default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    gateway: bool,
    /// Addresses in place of those in the gateway Service's status, separated by commas
    #[arg(long)]
    gateway_addresses: Option<String>,
    /// Port in place of the gateway Service's
    #[arg(long)]
    gateway_port: Option<u16>,
    /// Annotations that mirrors do not get
    #[arg(long, value_delimiter = ',')]
    excluded_annotations: Vec<String>,
    /// Labels that mirrors do not get
    #[arg(long, value_delimiter = ',')]
    excluded_labels: Vec<String>,
    #[arg(short, long, default_value = "yaml")]
    output: String,
}

/// Version of the command, by the name that it is called by.
fn version(call: &Call) -> &'static str {
    if call.tool == NEXT_LINKERD {
        NEXT_VERSION
    } else {
        VERSION
    }
}

/// The model's manifests as a version of the command prints them.
fn of_version(world: &World, version: &str, manifests: Vec<Value>) -> Vec<Value> {
    install::of_version(version, &world.model.defects(), manifests)
}

/// Runs `linkerd`.
pub(crate) async fn run(world: &World, call: &Call, terminal: &Terminal) -> u8 {
    let parsed = match parse::<Linkerd>(call, 1) {
        Ok(parsed) => parsed,
        Err(failure) => return ended(Err(failure), terminal, ""),
    };
    match execute(world, call, terminal, parsed).await {
        Ok(code) => code,
        Err(failure) => {
            // Cobra prints the usage after the error.
            terminal.note(&format!("Error: {}\n{}", failure.message, usage(call)));
            failure.code
        }
    }
}

/// The help of the called subcommand.
fn usage(call: &Call) -> String {
    let mut command = Linkerd::command();
    for word in call.arguments.iter().filter(|word| !word.starts_with('-')) {
        match command.find_subcommand(word) {
            Some(found) => command = found.clone(),
            None => break,
        }
    }
    let name = call.arguments.iter().take_while(|word| !word.starts_with('-'));
    let name = name.fold("linkerd".to_owned(), |line, word| format!("{line} {word}"));
    let help = command.bin_name(name).render_long_help().to_string();
    help.find("Usage:")
        .and_then(|start| help.get(start..))
        .unwrap_or_default()
        .to_owned()
}

async fn execute(world: &World, call: &Call, terminal: &Terminal, parsed: Linkerd) -> Result<u8, Failure> {
    let connect = || {
        Cluster::of(
            call,
            parsed.global.kubeconfig.as_deref(),
            parsed.global.context.as_deref(),
        )
    };
    match parsed.command {
        Command::Version { client, short } => {
            let name = |what: &str| {
                if short {
                    String::new()
                } else {
                    format!("{what} version: ")
                }
            };
            terminal.line(&format!("{}{}", name("Client"), version(call)));
            if !client {
                let values = connect().await?.linkerd_values().await.unwrap_or_default();
                let server = values["linkerdVersion"].as_str().unwrap_or("unavailable");
                terminal.line(&format!("{}{server}", name("Server")));
            }
        }
        Command::Install(options) => {
            if !options.ignore_cluster && installing::may_install(world, terminal, &connect().await?, &options).await? {
                return Ok(0);
            }
            installing::control_plane(world, call, terminal, options).await?;
        }
        Command::Upgrade {
            crds,
            certificates,
            values,
        } => {
            let cluster = connect().await?;
            let given = with_values(call, terminal, certificates.values(call)?, &values).await?;
            let objects = if crds {
                of_version(world, cluster.version, install::crds())
            } else {
                upgrade::control_plane(world, &cluster, &given).await?
            };
            print(terminal, &values.output, &objects)?;
        }
        Command::Prune { output } => {
            let objects = upgrade::pruned(world, &connect().await?).await?;
            print(terminal, &output, &objects)?;
        }
        Command::Uninstall { output, force } => {
            let cluster = connect().await?;
            if !force {
                let refusal = still_in_use(&cluster).await?;
                if !refusal.is_empty() {
                    terminal.err(&refusal);
                    return Ok(1);
                }
            }
            let objects = install::uninstall_control_plane(&cluster.client)
                .await
                .map_err(refused)?;
            print(terminal, &output, &objects)?;
        }
        Command::Check(options) => return check(world, terminal, &connect().await?, &options).await,
        Command::Multicluster(Multicluster::Install(options)) => {
            let values = if options.ignore_cluster {
                None
            } else {
                let values = connect().await?.linkerd_values().await;
                Some(values.map_err(|_| {
                    Failure::new("you need Linkerd to be installed in order to install multicluster addons")
                })?)
            };
            installing::multicluster(world, call, terminal, values, options).await?;
        }
        Command::Multicluster(command) => return multicluster(world, terminal, connect().await?, command).await,
    }
    Ok(0)
}

async fn multicluster(
    world: &World,
    terminal: &Terminal,
    cluster: Cluster,
    command: Multicluster,
) -> Result<u8, Failure> {
    match command {
        // Has been done, because it needs no cluster.
        Multicluster::Install(_) => {}
        Multicluster::LinkGen(options) => {
            let address = options
                .api_server_address
                .clone()
                .unwrap_or_else(|| cluster.server.clone());
            let given = LinkGenOptions {
                service_account: options.service_account_name,
                gateway: options.gateway,
                gateway_addresses: options.gateway_addresses,
                gateway_port: options.gateway_port,
                excluded_annotations: options.excluded_annotations,
                excluded_labels: options.excluded_labels,
                ..LinkGenOptions::new(options.cluster_name, address)
            };
            let objects = install::link_gen(&cluster.client, &world.model.defects(), &given)
                .await
                .map_err(|error| Failure::new(words(&error.to_string())))?;
            let objects = of_version(world, cluster.version, objects);
            print(terminal, &options.output, &objects)?;
        }
        Multicluster::Unlink {
            cluster_name,
            only_controller,
            output,
        } => {
            terminal.note(UNLINK_DEPRECATED);
            let name = cluster_name
                .filter(|name| !name.is_empty())
                .ok_or_else(|| Failure::new("you need to specify cluster name"))?;
            let objects = legacy_link_objects(&cluster, &name, only_controller).await?;
            print(terminal, &output, &objects)?;
        }
        Multicluster::Uninstall { output } => {
            let objects = install::uninstall(&cluster.client, &world.model.defects())
                .await
                .map_err(refused)?;
            print(terminal, &output, &objects)?;
        }
        Multicluster::Check(options) => {
            if !cluster.has_extension().await? {
                terminal.note(
                    "namespaces \"linkerd-multicluster\" not found; install by running `linkerd multicluster install | kubectl apply -f -`",
                );
                return Ok(1);
            }
            let mut report = checks::Report::new(wait(&options.wait)?);
            extension_checks::run(world, &cluster, terminal, &mut report).await;
            return report.print(terminal, &options.output);
        }
        Multicluster::Gateways {
            cluster_name, output, ..
        } => {
            let statuses = gateways::statuses(&cluster, terminal, cluster_name.as_deref()).await?;
            terminal.out(&gateways::print(&statuses, output.as_deref()));
        }
    }
    Ok(0)
}

/// Core checks, and in a second document those of the extension, as the real command calls the extensions' commands.
async fn check(world: &World, terminal: &Terminal, cluster: &Cluster, options: &Check) -> Result<u8, Failure> {
    let wait = wait(&options.wait)?;
    let mut core = checks::Report::new(wait);
    core_checks::run(cluster, &mut core).await;
    let mut code = core.print_part(terminal, &options.output)?;
    let mut success = code == 0;
    if success && cluster.has_extension().await? {
        let mut extension = checks::Report::new(wait);
        extension_checks::run(world, cluster, terminal, &mut extension).await;
        if options.output != "json" {
            terminal.line("");
        }
        code = extension.print_part(terminal, &options.output)?;
        success &= code == 0;
    }
    checks::print_end(terminal, &options.output, success);
    Ok(u8::from(!success))
}

/// `30s`, `5m0s`, `5m`.
fn wait(text: &str) -> Result<Duration, Failure> {
    let wrong = || {
        Failure::new(format!(
            "invalid argument \"{text}\" for \"--wait\" flag: time: invalid duration \"{text}\""
        ))
    };
    let (minutes, rest) = text
        .split_once('m')
        .map_or(("0", text), |(minutes, rest)| (minutes, rest));
    let seconds = match rest {
        "" => "0",
        rest => rest.strip_suffix('s').ok_or_else(wrong)?,
    };
    let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
    Ok(Duration::from_secs(number(minutes)? * 60 + number(seconds)?))
}

fn print(terminal: &Terminal, output: &str, objects: &[Value]) -> Result<(), Failure> {
    match output {
        "yaml" => terminal.out(&manifests::yaml(objects)?),
        "json" => terminal.out(&manifests::json_lines(objects)),
        other => return Err(Failure::new(format!("unsupported format: {other}"))),
    }
    Ok(())
}

/// What kube's client says, without the words that it puts around the API server's.
fn words(error: &str) -> String {
    let said = error.strip_prefix("ApiError: ").unwrap_or(error);
    said.split(": NotFound (").next().unwrap_or(said).to_owned()
}

fn refused(error: RemovalError) -> Failure {
    Failure::new(words(&error.to_string()))
}

async fn with_values(call: &Call, terminal: &Terminal, mut given: Value, options: &Values) -> Result<Value, Failure> {
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
    Ok(given)
}

/// Why `linkerd uninstall` refuses; empty when it does not.
async fn still_in_use(cluster: &Cluster) -> Result<String, Failure> {
    let mut refusal = String::new();
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    let extensions = cluster.list(&namespaces, label::EXTENSION).await?;
    if !extensions.is_empty() {
        let name =
            |namespace: &Namespace| format!("* {}", namespace.labels().get(label::EXTENSION).map_or("", |name| name));
        let names: Vec<String> = extensions.iter().map(name).collect();
        refusal.push_str("Please uninstall the following extensions before uninstalling the control-plane:\n\t");
        refusal.push_str(&names.join("\n\t"));
        refusal.push('\n');
    }
    let pods = cluster
        .list(&Api::<Pod>::all(cluster.client.clone()), label::CONTROL_PLANE_NS)
        .await?;
    let of_extension = |pod: &Pod| {
        extensions
            .iter()
            .any(|namespace| Some(namespace.name_any()) == pod.namespace())
    };
    let injected = pods
        .iter()
        .filter(|pod| pod.namespace().as_deref() != Some(CONTROL_PLANE_NAMESPACE) && !of_extension(pod));
    let injected: Vec<String> = injected.map(|pod| format!("* {}", pod.name_any())).collect();
    if !injected.is_empty() {
        refusal.push_str("Please uninject the following pods before uninstalling the control-plane:\n\t");
        refusal.push_str(&injected.join("\n\t"));
        refusal.push('\n');
    }
    Ok(refusal)
}

/// What `linkerd multicluster unlink` prints: names of the legacy `link` command's objects, whether they exist or not, and
/// without `only_controller` what a link has in any case. None of the names that the managed controllers have.
async fn legacy_link_objects(cluster: &Cluster, name: &str, only_controller: bool) -> Result<Vec<Value>, Failure> {
    let links = cluster.links().await?;
    let link = links.iter().find(|link| link["metadata"]["name"] == name);
    let link = link.ok_or_else(|| Failure::new(format!("links.multicluster.linkerd.io \"{name}\" not found")))?;
    let namespace = Some(MULTICLUSTER_NAMESPACE);
    let rbac = "rbac.authorization.k8s.io/v1";
    let access = format!("linkerd-service-mirror-access-local-resources-{name}");
    let credentials = format!("linkerd-service-mirror-read-remote-creds-{name}");
    let mirror = format!("linkerd-service-mirror-{name}");
    let mut objects = vec![
        reference(rbac, "ClusterRole", None, &access),
        reference(rbac, "ClusterRoleBinding", None, &access),
        reference(rbac, "Role", namespace, &credentials),
        reference(rbac, "RoleBinding", namespace, &credentials),
        reference("v1", "ServiceAccount", namespace, &mirror),
        reference("apps/v1", "Deployment", namespace, &mirror),
    ];
    if link["spec"]["probeSpec"]["path"].is_string() {
        objects.push(reference("v1", "Service", namespace, &format!("probe-gateway-{name}")));
    }
    if only_controller {
        return Ok(objects);
    }
    objects.extend([
        reference("v1", "Secret", namespace, &credentials_secret(name)),
        reference("multicluster.linkerd.io/v1alpha3", "Link", namespace, name),
        reference("coordination.k8s.io/v1", "Lease", namespace, &lease(name)),
    ]);
    let mirrors = format!("{}=true,{}={name}", label::MIRRORED_SERVICE, label::CLUSTER_NAME);
    for service in cluster
        .list(&Api::<Service>::all(cluster.client.clone()), &mirrors)
        .await?
    {
        objects.push(reference(
            "v1",
            "Service",
            service.namespace().as_deref(),
            &service.name_any(),
        ));
    }
    let secrets = Api::<Secret>::namespaced(cluster.client.clone(), CONTROL_PLANE_NAMESPACE);
    let of_link = format!("{}={name}", label::CREDENTIALS_CLUSTER);
    for secret in cluster.list(&secrets, &of_link).await? {
        objects.push(reference(
            "v1",
            "Secret",
            secret.namespace().as_deref(),
            &secret.name_any(),
        ));
    }
    Ok(objects)
}

fn reference(api_version: &str, kind: &str, namespace: Option<&str>, name: &str) -> Value {
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}});
    if let Some(namespace) = namespace {
        object["metadata"]["namespace"] = namespace.into();
    }
    object
}
