//! The life of one relay container.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use meshproof_agent::protocol::CONTROL_PORT;
use meshproof_agent::relay::Client;
use meshproof_agent::relay::protocol::{Fault, Forward, Status};
use meshproof_engine::environment::{NetworkFault, Tap};
use meshproof_engine::problem::{self, Problem};
use meshproof_engine::tool::{Invocation, Tools};
use testcontainers::bollard::models::PortBinding;
use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt, ReuseDirective, TestcontainersError};

use super::fault::RelayFault;
use super::tap::RelayTap;
use super::{CALL_TIME, DOCKER_TIME, LINK_LABEL, call};
use crate::agent_image;

/// Time for a container to start and to say that it carries.
const START_TIME: Duration = Duration::from_secs(60);

/// Which relay is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelaySpec {
    /// Cluster that consumes.
    pub from: String,
    /// Cluster that exports.
    pub to: String,
    /// Name of the container, distinct on the whole engine.
    pub name: String,
    /// Image of the agent, present on the engine.
    pub image: String,
    /// Docker network that it joins; it is not created.
    pub network: String,
    /// Labels by which it is found again. One that names the environment is needed for [`super::sweep`].
    pub labels: BTreeMap<String, String>,
    /// What it carries: the gateway's ports on a node of `to`.
    pub forwards: Vec<Forward>,
    /// How long faults live without being renewed.
    pub lifetime: Duration,
}

impl RelaySpec {
    /// What the program in the container is told.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["relay".to_owned()];
        for forward in &self.forwards {
            arguments.extend(["--forward".to_owned(), forward.to_string()]);
        }
        arguments.extend(["--lifetime-s".to_owned(), self.lifetime.as_secs().max(1).to_string()]);
        arguments
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        labels.insert(LINK_LABEL.to_owned(), format!("{}-to-{}", self.from, self.to));
        labels
    }

    /// The command that would do the same as the call to Docker's API, for people.
    #[must_use]
    pub fn as_command(&self) -> Invocation {
        let mut arguments: Vec<String> = ["run", "--detach", "--read-only", "--cap-drop", "ALL"]
            .map(ToOwned::to_owned)
            .into();
        arguments.extend(["--name".to_owned(), self.name.clone()]);
        arguments.extend(["--network".to_owned(), self.network.clone()]);
        arguments.extend(["--publish".to_owned(), format!("127.0.0.1::{CONTROL_PORT}")]);
        for (name, value) in self.labels() {
            arguments.extend(["--label".to_owned(), format!("{name}={value}")]);
        }
        arguments.push(self.image.clone());
        arguments.extend(self.arguments());
        Invocation::new("docker", arguments, START_TIME)
    }

    fn request(&self) -> ContainerRequest<GenericImage> {
        let (name, tag) = agent_image::name_and_tag(&self.image);
        let control = CONTROL_PORT.tcp();
        GenericImage::new(name, tag)
            .with_exposed_port(control)
            .with_wait_for(WaitFor::message_on_stdout("relay carries"))
            .with_cmd(self.arguments())
            .with_container_name(&self.name)
            .with_labels(self.labels())
            .with_network(&self.network)
            .with_startup_timeout(START_TIME)
            .with_readonly_rootfs(true)
            .with_cap_drop("ALL")
            // It shall outlive this process when the environment does, and be found again.
            .with_reuse(ReuseDirective::Always)
            .with_host_config_modifier(move |host| {
                // Whoever reaches the control port can disturb the traffic: from this machine only.
                let binding = PortBinding {
                    host_ip: Some(Ipv4Addr::LOCALHOST.to_string()),
                    host_port: None,
                };
                host.publish_all_ports = Some(false);
                host.port_bindings = Some(HashMap::from([(control.to_string(), Some(vec![binding]))]));
            })
    }
}

/// A relay that carries.
pub struct Relay {
    spec: RelaySpec,
    tools: Tools,
    id: String,
    address: IpAddr,
    client: Client,
}

impl Relay {
    /// Starts a relay, or takes the one over that an earlier process started from the same `spec`.
    ///
    /// # Errors
    /// Of class environment: `relay-network-missing`, `agent-image-missing`, `relay-not-started`, `relay-unreachable` and
    /// those of the docker CLI. Whatever was started until then has been removed again.
    pub async fn start(tools: &Tools, spec: &RelaySpec) -> Result<Self, Problem> {
        // Otherwise the library would make a network of this name, or look for the image in a public registry.
        needs_network(tools, &spec.network).await?;
        let image = agent_image::needs(tools, &spec.image).await?;
        if !made_from(tools, spec, &image).await? {
            // One that carries something else, e.g. because a node got another address, or none at all.
            remove(tools, &spec.name).await?;
        }
        match Self::attach(tools, spec).await {
            Ok(relay) => Ok(relay),
            Err(problem) => {
                remove(tools, &spec.name).await?;
                Err(problem)
            }
        }
    }

    async fn attach(tools: &Tools, spec: &RelaySpec) -> Result<Self, Problem> {
        let not_started = |error: TestcontainersError| {
            problem::environment(
                "relay-not-started",
                format!("the relay {} did not start: {error}", spec.name),
                Some("see whether `docker run` works; set DOCKER_HOST when Docker is not at its usual socket"),
            )
        };
        let container: ContainerAsync<GenericImage> = spec.request().start().await.map_err(not_started)?;
        let address = container.get_bridge_ip_address().await.map_err(not_started)?;
        let port = container
            .get_host_port_ipv4(CONTROL_PORT.tcp())
            .await
            .map_err(not_started)?;
        let relay = Self {
            spec: spec.clone(),
            tools: tools.clone(),
            id: container.id().to_owned(),
            address,
            client: Client::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        };
        relay.answers().await?;
        Ok(relay)
    }

    /// Waits until the control port answers: the engine maps it a moment after the container has started.
    async fn answers(&self) -> Result<(), Problem> {
        let deadline = Instant::now() + CALL_TIME;
        loop {
            match self.status().await {
                Ok(_) => return Ok(()),
                Err(problem) if Instant::now() > deadline => return Err(problem),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Which relay this is.
    #[must_use]
    pub fn spec(&self) -> &RelaySpec {
        &self.spec
    }

    /// Its address on the docker network: what clients take for the gateway's.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Where its control port is reached from this machine.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client
    }

    /// How it is, and what crossed it.
    ///
    /// # Errors
    /// `relay-unreachable`.
    pub async fn status(&self) -> Result<Status, Problem> {
        call(&self.spec.name, self.client.status()).await
    }

    /// Puts a fault in force until it is healed or dropped, or this process is gone.
    ///
    /// # Errors
    /// `relay-unreachable`.
    pub async fn impose(&self, fault: Fault) -> Result<Box<dyn NetworkFault>, Problem> {
        let fault = RelayFault::begin(&self.spec, self.client, fault).await?;
        Ok(Box::new(fault))
    }

    /// Watches what crosses from now on.
    ///
    /// # Errors
    /// `relay-unreachable`.
    pub async fn tap(&self) -> Result<Box<dyn Tap>, Problem> {
        let tap = RelayTap::begin(&self.spec.name, self.client).await?;
        Ok(Box::new(tap))
    }

    /// Resets all open connections, once, and tells how many there were.
    ///
    /// # Errors
    /// `relay-unreachable`.
    pub async fn reset(&self) -> Result<u64, Problem> {
        call(&self.spec.name, self.client.reset()).await
    }

    /// Removes the container and verifies that it is gone.
    ///
    /// # Errors
    /// `relay-left` when it is not, and those of the docker CLI.
    pub async fn stop(&self) -> Result<(), Problem> {
        remove(&self.tools, &self.id).await
    }
}

async fn needs_network(tools: &Tools, network: &str) -> Result<(), Problem> {
    let inspect = Invocation::new(
        "docker",
        ["network", "inspect", network, "--format", "{{.Driver}}"],
        DOCKER_TIME,
    );
    let output = tools.try_run(&inspect).await?;
    if output.success() {
        return Ok(());
    }
    Err(problem::environment(
        "relay-network-missing",
        format!("`{inspect}`: {}", output.stderr.trim()),
        Some("bring the clusters up first; relays join their network"),
    ))
}

/// Whether there is a container of this name, made from this very image, that carries the same.
async fn made_from(tools: &Tools, spec: &RelaySpec, image: &str) -> Result<bool, Problem> {
    let inspect = Invocation::new(
        "docker",
        [
            "container",
            "inspect",
            &spec.name,
            "--format",
            "[{{json .Image}},{{json .Config.Cmd}}]",
        ],
        DOCKER_TIME,
    );
    let output = tools.try_run(&inspect).await?;
    let found: Option<(String, Vec<String>)> = serde_json::from_str(&output.stdout).ok();
    Ok(found.is_some_and(|(of, arguments)| of == image && arguments == spec.arguments()))
}

/// Removes a container by name or id, if there is one.
pub(super) async fn remove(tools: &Tools, container: &str) -> Result<(), Problem> {
    let force = Invocation::new("docker", ["rm", "--force", "--volumes", container], DOCKER_TIME);
    // Some versions of the CLI fail when there is none. What counts is what is there afterwards.
    let removed = tools.try_run(&force).await?;
    let inspect = Invocation::new(
        "docker",
        ["container", "inspect", container, "--format", "{{.State.Status}}"],
        DOCKER_TIME,
    );
    let left = tools.try_run(&inspect).await?;
    if left.success() {
        return Err(problem::environment(
            "relay-left",
            format!(
                "the container {container} is still there ({}): {}",
                left.stdout.trim(),
                removed.stderr.trim()
            ),
            Some(&format!("remove it by hand: `docker rm --force {container}`")),
        ));
    }
    if left.stderr.to_lowercase().contains("no such container") {
        return Ok(());
    }
    // The engine may be gone: that tells nothing about the container.
    Err(meshproof_engine::tool::failed(&inspect, &left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_prints_as_a_command() {
        let spec = RelaySpec {
            from: "west".to_owned(),
            to: "east".to_owned(),
            name: "meshproof-pair-relay-west-east".to_owned(),
            image: "meshproof-agent:0.1.0".to_owned(),
            network: "kind".to_owned(),
            labels: BTreeMap::from([("dev.meshproof.environment".to_owned(), "meshproof-pair".to_owned())]),
            forwards: vec![
                Forward {
                    port: 4143,
                    host: "172.18.0.3".to_owned(),
                    to_port: 4143,
                },
                Forward {
                    port: 4191,
                    host: "172.18.0.3".to_owned(),
                    to_port: 4191,
                },
            ],
            lifetime: Duration::from_secs(30),
        };
        insta::assert_snapshot!(spec.as_command(), @"docker run --detach --read-only --cap-drop ALL --name meshproof-pair-relay-west-east --network kind --publish 127.0.0.1::4180 --label 'dev.meshproof.environment=meshproof-pair' --label 'dev.meshproof.relay=west-to-east' meshproof-agent:0.1.0 relay --forward '4143=172.18.0.3:4143' --forward '4191=172.18.0.3:4191' --lifetime-s 30");
    }
}
