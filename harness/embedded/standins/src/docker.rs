//! `docker`: the containers that kind made, their networks, and images that exist only by name.
//!
//! Words are those of the CLI and the engine, version 29. Containers are kind's nodes, and registries by `docker run`.

mod describe;
mod images;
mod node_command;
mod registry;
mod template;
mod volume;

use std::collections::BTreeMap;

use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};

use crate::exchange::{Call, Failure, Terminal, not_modelled, parse};
use crate::server::ended;
use crate::world::{Image, OWN_NETWORKS, World, tagged};

pub(crate) use images::read_archive;
pub(crate) use registry::Registry;

/// Version that the stand-in says it has.
const VERSION: &str = "29.1.3";

#[derive(Parser)]
#[command(name = "docker", disable_help_subcommand = true)]
struct Docker {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(subcommand)]
    Network(Network),
    #[command(subcommand)]
    Image(ImageCommand),
    #[command(subcommand)]
    Container(ContainerCommand),
    #[command(subcommand)]
    Volume(volume::Volume),
    Run(registry::Run),
    Logs {
        #[arg(short = 'n', long)]
        tail: Option<String>,
        container: String,
    },
    Ps(Ps),
    Images,
    Inspect(Inspect),
    Build(Build),
    Save {
        #[arg(short, long)]
        output: String,
        images: Vec<String>,
    },
    Tag {
        source: String,
        target: String,
    },
    Exec(Exec),
    Pause {
        containers: Vec<String>,
    },
    Unpause {
        containers: Vec<String>,
    },
    Rm {
        #[arg(short, long)]
        force: bool,
        #[arg(short, long)]
        volumes: bool,
        containers: Vec<String>,
    },
    Version(Formatted),
    Info(Formatted),
}

#[derive(Args)]
struct Formatted {
    #[arg(short, long)]
    format: Option<String>,
}

#[derive(Subcommand)]
enum Network {
    Inspect(Inspect),
    Ls {
        #[arg(short, long)]
        quiet: bool,
        #[arg(long)]
        filter: Vec<String>,
        #[arg(long)]
        format: Option<String>,
    },
    Create {
        #[arg(long)]
        subnet: Option<String>,
        #[arg(short, long)]
        driver: Option<String>,
        #[arg(long)]
        label: Vec<String>,
        name: String,
    },
    Rm {
        #[arg(short, long)]
        force: bool,
        names: Vec<String>,
    },
}

#[derive(Subcommand)]
enum ImageCommand {
    Inspect(Inspect),
    Ls,
    Rm { names: Vec<String> },
}

#[derive(Subcommand)]
enum ContainerCommand {
    Inspect(Inspect),
}

#[derive(Args)]
struct Ps {
    #[arg(short, long)]
    all: bool,
    #[arg(short, long)]
    quiet: bool,
    #[arg(long)]
    no_trunc: bool,
    #[arg(short, long)]
    filter: Vec<String>,
    #[arg(long)]
    format: Option<String>,
}

#[derive(Args)]
struct Inspect {
    #[arg(short, long)]
    format: Option<String>,
    #[arg(long = "type")]
    kind: Option<String>,
    names: Vec<String>,
}

#[derive(Args)]
struct Build {
    #[arg(short, long)]
    tag: Vec<String>,
    #[arg(short, long)]
    file: Option<String>,
    #[arg(long)]
    label: Vec<String>,
    #[arg(short, long)]
    quiet: bool,
    context: String,
}

#[derive(Args)]
struct Exec {
    #[arg(short, long)]
    interactive: bool,
    #[arg(long)]
    privileged: bool,
    container: String,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Runs `docker`.
pub(crate) async fn run(world: &World, call: &Call, terminal: &Terminal) -> u8 {
    let result = match parse::<Docker>(call, 125) {
        Ok(parsed) => execute(world, call, terminal, parsed.command).await,
        Err(failure) => Err(failure),
    };
    ended(result, terminal, "")
}

async fn execute(world: &World, call: &Call, terminal: &Terminal, command: Command) -> Result<(), Failure> {
    match command {
        Command::Network(command) => network(world, terminal, command),
        Command::Image(command) => images::image(world, terminal, command),
        Command::Images => {
            images::list_images(world, terminal);
            Ok(())
        }
        Command::Volume(command) => volume::volume(world, terminal, command),
        Command::Run(options) => registry::run(world, terminal, &options),
        // Logs are short: the whole is their tail.
        Command::Logs { container, .. } => registry::logs(world, terminal, &container),
        Command::Ps(options) => list_containers(world, terminal, &options),
        Command::Inspect(options) | Command::Container(ContainerCommand::Inspect(options)) => {
            inspect_containers(world, terminal, &options).await
        }
        Command::Build(options) => images::build(world, call, terminal, &options).await,
        Command::Save { output, images } => images::save(world, call, &output, &images),
        Command::Tag { source, target } => {
            let mut state = world.state();
            let image = state.image(&source).cloned();
            let image =
                image.ok_or_else(|| Failure::new(format!("Error response from daemon: No such image: {source}")))?;
            state.add_image(Image {
                name: tagged(&target),
                ..image
            });
            Ok(())
        }
        Command::Exec(options) => {
            let words: Vec<&str> = options.command.iter().map(String::as_str).collect();
            node_command::run(world, terminal, &options.container, options.interactive, &words).await
        }
        Command::Pause { containers } => pause(world, terminal, &containers, true).await,
        Command::Unpause { containers } => pause(world, terminal, &containers, false).await,
        Command::Rm { force, containers, .. } => remove(world, terminal, force, &containers).await,
        Command::Version(Formatted { format }) => {
            let value = json!({
                "Client": {"Version": VERSION, "ApiVersion": "1.52", "Os": "linux", "Arch": "amd64"},
                "Server": {"Version": VERSION, "ApiVersion": "1.52", "Os": "linux", "Arch": "amd64"},
            });
            match format {
                Some(format) => terminal.line(&formatted(&format, &value)?),
                None => terminal.line(&format!(
                    "Client:\n Version:           {VERSION}\n\nServer: stand-in\n Engine:\n  Version:          {VERSION}"
                )),
            }
            Ok(())
        }
        Command::Info(Formatted { format }) => {
            let running = world.state().containers.len();
            let value = json!({
                "ServerVersion": VERSION, "OperatingSystem": "stand-in", "OSType": "linux", "Architecture": "x86_64",
                "NCPU": 8, "MemTotal": 16_u64 << 30, "Containers": running, "ContainersRunning": running,
                "CgroupVersion": "2", "CgroupDriver": "systemd", "Driver": "overlay2", "SecurityOptions": ["name=cgroupns"],
                "KernelVersion": "6.12.0", "DockerRootDir": "/var/lib/docker",
            });
            match format {
                Some(format) => terminal.line(&formatted(&format, &value)?),
                None => terminal.line(&format!(
                    "Server:\n Containers: {running}\n Server Version: {VERSION}\n Cgroup Version: 2\n Operating System: stand-in"
                )),
            }
            Ok(())
        }
    }
}

/// `--format json` is `{{json .}}`.
fn formatted(format: &str, value: &Value) -> Result<String, Failure> {
    template::render(if format == "json" { "{{json .}}" } else { format }, value)
}

/// Prints what was found as docker's `inspect` does, and complains about the first that was not.
fn print_inspected(
    terminal: &Terminal,
    format: Option<&str>,
    found: &[Value],
    missing: Option<String>,
) -> Result<(), Failure> {
    match format {
        None => {
            let text = serde_json::to_string_pretty(&found).map_err(|error| Failure::new(error.to_string()))?;
            // Docker indents by four.
            let wide: Vec<String> = text
                .lines()
                .map(|line| {
                    let indent = line.len() - line.trim_start().len();
                    format!("{}{line}", " ".repeat(indent))
                })
                .collect();
            terminal.line(&wide.join("\n"));
        }
        Some(format) => {
            for value in found {
                terminal.line(&formatted(format, value)?);
            }
        }
    }
    missing.map_or(Ok(()), |message| Err(Failure::new(message)))
}

fn network(world: &World, terminal: &Terminal, command: Network) -> Result<(), Failure> {
    match command {
        Network::Inspect(options) => {
            let (found, missing) = {
                let state = world.state();
                let described = |name: &String| {
                    state
                        .networks
                        .get(name)
                        .map(|found| describe::network(&state, name, found))
                };
                let found: Vec<Value> = options.names.iter().filter_map(described).collect();
                let missing = options
                    .names
                    .iter()
                    .find(|name| !state.networks.contains_key(*name))
                    .cloned();
                (found, missing)
            };
            let missing = missing.map(|name| format!("Error response from daemon: network {name} not found"));
            print_inspected(terminal, options.format.as_deref(), &found, missing)
        }
        Network::Ls { quiet, filter, format } => {
            let rows: Vec<Value> = {
                let state = world.state();
                let own = OWN_NETWORKS
                    .map(|name| json!({"Name": name, "ID": "", "Driver": name, "Scope": "local", "Labels": {}}));
                let made = state.networks.iter().map(|(name, network)| {
                    let id = network.id.get(..12);
                    json!({"Name": name, "ID": id, "Driver": "bridge", "Scope": "local", "Labels": network.labels})
                });
                own.into_iter().chain(made).collect()
            };
            let mut rows = filtered(rows, &filter, "Name")?;
            rows.sort_by_key(|row| row["Name"].as_str().map(ToOwned::to_owned));
            print_rows(
                terminal,
                &rows,
                format.as_deref(),
                quiet,
                &[
                    ("NETWORK ID", "ID"),
                    ("NAME", "Name"),
                    ("DRIVER", "Driver"),
                    ("SCOPE", "Scope"),
                ],
            )
        }
        Network::Create {
            subnet,
            driver,
            label,
            name,
        } => {
            if driver.is_some_and(|driver| driver != "bridge") {
                return Err(not_modelled("a network whose driver is not bridge"));
            }
            let subnet = subnet.map(|text| text.parse()).transpose();
            let subnet =
                subnet.map_err(|error| Failure::new(format!("invalid argument for \"--subnet\" flag: {error}")))?;
            let mut state = world.state();
            state.add_network(&name, subnet, labels(&label))?;
            if let Some(network) = state.networks.get(&name) {
                terminal.line(&network.id);
            }
            Ok(())
        }
        Network::Rm { names, force } => {
            for name in names {
                let mut state = world.state();
                let nodes = state
                    .containers
                    .values()
                    .map(|node| (&node.network, node.name.as_str()));
                let others = state
                    .registries
                    .values()
                    .map(|other| (&other.network, other.name.as_str()));
                let users: Vec<&str> = nodes
                    .chain(others)
                    .filter(|(network, _)| **network == name)
                    .map(|(_, user)| user)
                    .collect();
                if !users.is_empty() {
                    let text = format!(
                        "Error response from daemon: error while removing network: network {name} has active endpoints \
                         (name:\"{}\")",
                        users.join("\" name:\"")
                    );
                    return Err(Failure::new(text));
                }
                if state.networks.remove(&name).is_none() && !force {
                    return Err(Failure::new(format!(
                        "Error response from daemon: network {name} not found"
                    )));
                }
                terminal.line(&name);
            }
            Ok(())
        }
    }
}

/// Rows that all filters let through.
fn filtered(rows: Vec<Value>, filters: &[String], name_field: &str) -> Result<Vec<Value>, Failure> {
    let mut kept = rows;
    for filter in filters {
        let unknown = || not_modelled(&format!("the filter `{filter}`"));
        let (key, wanted) = filter.split_once('=').ok_or_else(unknown)?;
        match key {
            "label" => {
                let (label, value) = wanted
                    .split_once('=')
                    .map_or((wanted, None), |(label, value)| (label, Some(value)));
                kept.retain(|row| {
                    let found = row["Labels"].get(label);
                    found.is_some() && value.is_none_or(|value| found.is_some_and(|found| found == value))
                });
            }
            "name" => kept.retain(|row| row[name_field].as_str().is_some_and(|name| name.contains(wanted))),
            _ => return Err(unknown()),
        }
    }
    Ok(kept)
}

fn print_rows(
    terminal: &Terminal,
    rows: &[Value],
    format: Option<&str>,
    quiet: bool,
    columns: &[(&str, &str)],
) -> Result<(), Failure> {
    if let Some(format) = format {
        for row in rows {
            terminal.line(&formatted(format, row)?);
        }
        return Ok(());
    }
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    if quiet {
        rows.iter().for_each(|row| terminal.line(&text(row, "ID")));
        return Ok(());
    }
    let mut lines = vec![columns.iter().map(|(title, _)| (*title).to_owned()).collect::<Vec<_>>()];
    lines.extend(
        rows.iter()
            .map(|row| columns.iter().map(|(_, field)| text(row, field)).collect()),
    );
    let widths: Vec<usize> = (0..columns.len())
        .map(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or(0) + 3)
        .collect();
    for line in lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        terminal.line(cells.concat().trim_end());
    }
    Ok(())
}

fn list_containers(world: &World, terminal: &Terminal, options: &Ps) -> Result<(), Failure> {
    let rows: Vec<Value> = {
        let state = world.state();
        state
            .containers
            .values()
            .map(|node| describe::row(node, options.no_trunc))
            .chain(state.registries.values().map(registry::Registry::row))
            .collect()
    };
    let rows = filtered(rows, &options.filter, "Names")?;
    let columns = [
        ("CONTAINER ID", "ID"),
        ("IMAGE", "Image"),
        ("COMMAND", "Command"),
        ("CREATED", "RunningFor"),
        ("STATUS", "Status"),
        ("PORTS", "Ports"),
        ("NAMES", "Names"),
    ];
    print_rows(terminal, &rows, options.format.as_deref(), options.quiet, &columns)
}

async fn inspect_containers(world: &World, terminal: &Terminal, options: &Inspect) -> Result<(), Failure> {
    if options.kind.as_deref().is_some_and(|kind| kind != "container") {
        return Err(not_modelled("docker inspect of anything but containers"));
    }
    let (mut found, mut missing) = (Vec::new(), None);
    for name in &options.names {
        let (node, other) = {
            let state = world.state();
            (state.container(name).cloned(), state.registries.get(name).cloned())
        };
        let network_of = |network: &String| world.state().networks.get(network).cloned();
        match (node, other) {
            (Some(node), _) => {
                let network = network_of(&node.network);
                found.push(describe::container(&node, network.as_ref()).await);
            }
            (None, Some(other)) => found.push(other.inspected(network_of(&other.network).as_ref())),
            (None, None) => {
                missing = missing.or(Some(format!("Error response from daemon: No such container: {name}")));
            }
        }
    }
    print_inspected(terminal, options.format.as_deref(), &found, missing)
}

/// `key=value` texts as a map.
fn labels(given: &[String]) -> BTreeMap<String, String> {
    given
        .iter()
        .map(|label| {
            let (key, value) = label.split_once('=').unwrap_or((label, ""));
            (key.to_owned(), value.to_owned())
        })
        .collect()
}

async fn pause(world: &World, terminal: &Terminal, names: &[String], pause: bool) -> Result<(), Failure> {
    for name in names {
        let node = {
            let mut state = world.state();
            let found = state.container(name).map(|node| node.name.clone());
            let node = found.and_then(|name| state.containers.get_mut(&name));
            let node =
                node.ok_or_else(|| Failure::new(format!("Error response from daemon: No such container: {name}")))?;
            if node.paused == pause {
                let what = if pause { "already paused" } else { "not paused" };
                return Err(Failure::new(format!(
                    "Error response from daemon: Container {} is {what}",
                    node.id
                )));
            }
            node.paused = pause;
            node.clone()
        };
        node_command::apply(world, &node).await;
        terminal.line(name);
    }
    Ok(())
}

async fn remove(world: &World, terminal: &Terminal, force: bool, names: &[String]) -> Result<(), Failure> {
    let mut failure = None;
    for name in names {
        let registry = {
            let mut state = world.state();
            let ended = state.registries.get(name).is_some_and(|found| force || !found.running);
            ended.then(|| state.registries.remove(name)).flatten()
        };
        if registry.is_some() {
            terminal.line(name);
            continue;
        }
        let there = {
            let state = world.state();
            state.container(name).is_some() || state.registries.contains_key(name)
        };
        if !force && there {
            let text = format!(
                "Error response from daemon: cannot remove container \"{name}\": container is running: stop the container before removing or force remove"
            );
            failure = failure.or(Some(Failure::new(text)));
        } else if world.remove_container(name).await {
            terminal.line(name);
        } else if !force {
            failure = failure.or(Some(Failure::new(format!(
                "Error response from daemon: No such container: {name}"
            ))));
        } else {
            // `docker rm --force` says so and goes on, with success.
            terminal.note(&format!("Error response from daemon: No such container: {name}"));
        }
    }
    failure.map_or(Ok(()), Err)
}
