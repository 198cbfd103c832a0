//! Containers beside kind's nodes: registries in proxy mode, and whatever ends at once. Nothing is ever pulled through one;
//! what is there is its state, its log and its place on the network.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use clap::Args;
use serde_json::{Value, json};

use super::{describe, labels};
use crate::exchange::{Failure, Terminal, not_modelled};
use crate::world::{Network, World, tagged};

/// Entry point of images that serve as registries.
pub(crate) const ENTRY_POINT: &str = "registry";

/// `docker run`.
#[derive(Args)]
pub(super) struct Run {
    #[arg(short, long)]
    detach: bool,
    #[arg(long)]
    name: String,
    #[arg(long)]
    network: String,
    #[arg(short, long)]
    label: Vec<String>,
    #[arg(short, long)]
    env: Vec<String>,
    #[arg(long)]
    mount: Vec<String>,
    image: String,
}

/// A container that is no node.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    pub(crate) id: String,
    pub(crate) name: String,
    image: String,
    pub(crate) network: String,
    pub(crate) address: Ipv4Addr,
    created: jiff::Timestamp,
    labels: BTreeMap<String, String>,
    pub(crate) volumes: Vec<String>,
    /// What it logged; without the registry's program it has ended.
    log: String,
    pub(crate) running: bool,
}

/// `docker run --detach`.
pub(super) fn run(world: &World, terminal: &Terminal, options: &Run) -> Result<(), Failure> {
    if !options.detach {
        return Err(not_modelled("docker run without --detach"));
    }
    let daemon = |message: String| Failure {
        code: 125,
        message: format!(
            "docker: Error response from daemon: {message}\n\nRun 'docker run --help' for more information"
        ),
    };
    let mut state = world.state();
    let Some(image) = state.image(&options.image).cloned() else {
        terminal.note(&format!("Unable to find image '{}' locally", tagged(&options.image)));
        return Err(daemon(
            "failed to resolve reference: dial tcp: lookup registry-1.docker.io: no such host".to_owned(),
        ));
    };
    if state.containers.contains_key(&options.name) || state.registries.contains_key(&options.name) {
        return Err(daemon(format!(
            "Conflict. The container name \"/{}\" is already in use. You have to remove (or rename) that container to be able to reuse that name.",
            options.name
        )));
    }
    let address = state
        .free_address(&options.network)
        .ok_or_else(|| daemon(format!("network {} not found", options.network)))?;
    let mut volumes = Vec::new();
    for mount in &options.mount {
        let volume = mount.split(',').find_map(|part| part.strip_prefix("source="));
        let volume = volume.ok_or_else(|| not_modelled(&format!("the mount `{mount}`")))?;
        state.volumes.entry(volume.to_owned()).or_default();
        volumes.push(volume.to_owned());
    }
    let upstream = options
        .env
        .iter()
        .find_map(|pair| pair.strip_prefix("REGISTRY_PROXY_REMOTEURL="));
    let running = image.entry_point.as_deref() == Some(ENTRY_POINT);
    let log = match (running, upstream) {
        (true, Some(upstream)) => format!(
            "level=info msg=\"Registry configured as a proxy cache to {upstream}\"\nlevel=info msg=\"listening on [::]:5000\"\n"
        ),
        (true, None) => return Err(not_modelled("a registry that is no proxy")),
        (false, _) => "panic: unable to configure authorization: no such host\n".to_owned(),
    };
    let id = state.id(&options.name);
    let registry = Registry {
        id: id.clone(),
        name: options.name.clone(),
        image: image.name,
        network: options.network.clone(),
        address,
        created: jiff::Timestamp::now(),
        labels: labels(&options.label),
        volumes,
        log,
        running,
    };
    state.registries.insert(options.name.clone(), registry);
    terminal.line(&id);
    Ok(())
}

/// `docker logs`, to standard error as the program in the image does.
pub(super) fn logs(world: &World, terminal: &Terminal, name: &str) -> Result<(), Failure> {
    let state = world.state();
    let found = state.registries.get(name);
    let found = found.ok_or_else(|| Failure::new(format!("Error response from daemon: No such container: {name}")))?;
    terminal.err(&found.log);
    Ok(())
}

impl Registry {
    fn status(&self) -> &'static str {
        if self.running { "running" } else { "exited" }
    }

    /// An entry of `docker inspect`.
    pub(super) fn inspected(&self, network: Option<&Network>) -> Value {
        let mut networks = serde_json::Map::new();
        networks.insert(self.network.clone(), describe::endpoint(self.address, network));
        json!({
            "Id": self.id,
            "Created": self.created.to_string(),
            "Name": format!("/{}", self.name),
            "State": {"Status": self.status(), "Running": self.running, "ExitCode": if self.running { 0 } else { 2 }},
            "Image": self.image,
            "Config": {"Hostname": self.name, "Image": self.image, "Labels": self.labels},
            "HostConfig": {"NetworkMode": self.network},
            "NetworkSettings": {"Ports": {"5000/tcp": null}, "Networks": networks},
        })
    }

    /// A row of `docker ps`.
    pub(super) fn row(&self) -> Value {
        json!({
            "ID": self.id.get(..12),
            "Image": self.image,
            "Command": "\"/entrypoint.sh /etc…\"",
            "RunningFor": "Less than a second ago",
            "Status": if self.running { "Up 1 second" } else { "Exited (2) 1 second ago" },
            "State": self.status(),
            "Ports": "5000/tcp",
            "Names": self.name,
            "Networks": self.network,
            "Labels": self.labels,
        })
    }
}
