//! The Docker engine, and what the tests share on it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use meshproof_agent::control::Client;
use meshproof_agent::protocol::CONTROL_PORT;
use meshproof_clusters::agent_image;
use meshproof_clusters::relay::{Forward, RelaySpec, sweep};
use meshproof_engine::tool::{Invocation, Tools};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

/// Label of everything that these tests make.
pub(crate) const RUN_LABEL: &str = "meshproof.run";

/// A call of the docker CLI, with room for a loaded machine.
const DOCKER_TIME: Duration = Duration::from_secs(120);
/// Building the agent for another target, from nothing.
const BUILD_TIME: Duration = Duration::from_secs(1200);

pub(crate) struct World {
    pub(crate) tools: Tools,
    /// Value of [`RUN_LABEL`], and the end of all names.
    pub(crate) run: String,
    image: OnceCell<String>,
    network: OnceCell<Ipv4Addr>,
}

impl World {
    /// The engine on this machine, or why there is none to test with.
    pub(crate) async fn find() -> Result<Self, String> {
        let tools = Tools::default();
        let info = Invocation::new(
            "docker",
            ["info", "--format", "{{.ServerVersion}} {{.OperatingSystem}}"],
            DOCKER_TIME,
        );
        let output = tools.try_run(&info).await.map_err(|problem| problem.message)?;
        let said = format!("{} {}", output.stdout.trim(), output.stderr.trim());
        // Without an engine some versions of the CLI exit with 0 and complain all the same.
        if !output.success() || output.stdout.trim().is_empty() {
            return Err(format!("no Docker engine answers: {}", said.trim()));
        }
        if said.contains("Docker Desktop") {
            return Err("containers have no address on this machine with Docker Desktop".to_owned());
        }
        let run = format!("{}-{:08x}", std::process::id(), nonce());
        Ok(Self {
            tools,
            run,
            image: OnceCell::new(),
            network: OnceCell::new(),
        })
    }

    /// Runs a command of the docker CLI that has to succeed.
    pub(crate) async fn docker(&self, arguments: &[&str]) -> String {
        let invocation = Invocation::new("docker", arguments.iter().copied(), DOCKER_TIME);
        let output = self.tools.run(&invocation).await.unwrap();
        output.stdout.trim().to_owned()
    }

    /// The agent's image, made from a static binary.
    pub(crate) async fn image(&self) -> &str {
        let make = async || {
            let image = format!("meshproof-agent-test:{}", self.run);
            let binary = binary(&self.tools).await;
            agent_image::ensure(&self.tools, &image, Some(binary)).await.unwrap();
            image
        };
        self.image.get_or_init(make).await
    }

    /// The docker network of these tests.
    pub(crate) async fn network(&self) -> String {
        self.gateway().await;
        format!("meshproof-test-{}", self.run)
    }

    /// This machine's address on it.
    pub(crate) async fn gateway(&self) -> Ipv4Addr {
        let make = async || {
            let name = format!("meshproof-test-{}", self.run);
            let label = self.label();
            self.docker(&["network", "create", "--label", &label, &name]).await;
            let format = "{{(index .IPAM.Config 0).Gateway}}";
            let gateway = self.docker(&["network", "inspect", &name, "--format", format]).await;
            gateway.parse().unwrap()
        };
        *self.network.get_or_init(make).await
    }

    pub(crate) fn label(&self) -> String {
        format!("{RUN_LABEL}={}", self.run)
    }

    /// A name for a container of this run.
    pub(crate) fn name(&self, part: &str) -> String {
        format!("{part}-{}", self.run)
    }

    /// A relay from `from` to this machine's `port`.
    pub(crate) async fn spec(&self, from: &str, port: u16) -> RelaySpec {
        RelaySpec {
            from: from.to_owned(),
            to: "east".to_owned(),
            name: self.name(&format!("relay-{from}-east")),
            image: self.image().await.to_owned(),
            network: self.network().await,
            labels: BTreeMap::from([(RUN_LABEL.to_owned(), self.run.clone())]),
            forwards: vec![Forward {
                port: 4143,
                host: self.gateway().await.to_string(),
                to_port: port,
            }],
            lifetime: Duration::from_secs(30),
        }
    }

    /// Starts an agent in a container, with further arguments for `docker run`, and waits until it answers.
    pub(crate) async fn agent(&self, workload: &str, arguments: &[&str]) -> Agent {
        let (name, label, network) = (self.name(workload), self.label(), self.network().await);
        let publish = format!("127.0.0.1::{CONTROL_PORT}");
        let mut line = vec![
            "run",
            "--detach",
            "--name",
            &name,
            "--label",
            &label,
            "--network",
            &network,
        ];
        line.extend(["--read-only", "--cap-drop", "ALL", "--publish", &publish]);
        line.extend(arguments);
        line.push(self.image().await);
        line.extend(["--cluster", "west", "--namespace", "shop", "--workload", workload]);
        line.extend(["--pod", &name, "--nonce", &self.run]);
        self.docker(&line).await;
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let address = self.docker(&["container", "inspect", &name, "--format", format]).await;
        let published = self.docker(&["port", &name, &format!("{CONTROL_PORT}/tcp")]).await;
        let agent = Agent {
            name,
            address: address.parse().unwrap(),
            control: published.lines().next().unwrap().parse().unwrap(),
        };
        agent.answers().await;
        agent
    }

    /// Removes everything that these tests made, and returns what is left all the same.
    pub(crate) async fn clean(&self) -> Vec<String> {
        let label = self.label();
        let mut left = match sweep(&self.tools, &label).await {
            // Every test removes its own relays.
            Ok(names) => names,
            Err(problem) => vec![problem.message],
        };
        let filter = format!("label={label}");
        let containers = self.docker(&["ps", "--all", "--quiet", "--filter", &filter]).await;
        for container in containers.lines() {
            self.docker(&["rm", "--force", "--volumes", container]).await;
        }
        let networks = self.docker(&["network", "ls", "--quiet", "--filter", &filter]).await;
        for network in networks.lines() {
            self.docker(&["network", "rm", network]).await;
        }
        if let Some(image) = self.image.get() {
            self.docker(&["image", "rm", "--force", image]).await;
        }
        for kind in ["container", "network", "volume"] {
            let all: &[&str] = if kind == "container" { &["--all"] } else { &[] };
            let listed = [&[kind, "ls", "--quiet", "--filter", &filter], all].concat();
            left.extend(self.docker(&listed).await.lines().map(|id| format!("{kind} {id}")));
        }
        let images = self
            .docker(&["images", "--quiet", &format!("meshproof-agent-test:{}", self.run)])
            .await;
        left.extend(images.lines().map(|id| format!("image {id}")));
        left
    }
}

/// An agent in a container.
pub(crate) struct Agent {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    control: SocketAddr,
}

impl Agent {
    pub(crate) async fn control(&self) -> Result<Client, String> {
        let stream = TcpStream::connect(self.control)
            .await
            .map_err(|error| error.to_string())?;
        Client::connect(Box::new(stream))
            .await
            .map_err(|error| error.to_string())
    }

    /// The engine publishes the port before the program in the container listens.
    async fn answers(&self) {
        let trying = async {
            loop {
                if let Ok(mut control) = self.control().await
                    && control.ready().await.is_ok_and(|ready| ready)
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let answered = tokio::time::timeout(DOCKER_TIME, trying).await;
        assert!(answered.is_ok(), "the agent in {} does not answer", self.name);
    }
}

/// The static binary of the agent: the one that `MESHPROOF_AGENT_BINARY` names, or one that is built now. For musl where
/// the target is installed, else for glibc.
async fn binary(tools: &Tools) -> PathBuf {
    if let Some(path) = std::env::var_os("MESHPROOF_AGENT_BINARY") {
        return path.into();
    }
    let machine = std::env::consts::ARCH;
    let musl = format!("{machine}-unknown-linux-musl");
    let libraries = Invocation::new("rustc", ["--print", "target-libdir", "--target", &musl], DOCKER_TIME);
    let libraries = tools.run(&libraries).await.unwrap().stdout;
    let (target, flags) = if Path::new(libraries.trim()).is_dir() {
        (musl, "")
    } else {
        (format!("{machine}-unknown-linux-gnu"), "-Ctarget-feature=+crt-static")
    };
    // A folder of its own: whoever runs the tests may hold the lock of the usual one.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("static");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    let build = Invocation::new(
        "env",
        [
            &format!("RUSTFLAGS={flags}"),
            env!("CARGO"),
            "build",
            "--locked",
            "--package=meshproof-agent",
            "--bin=meshproof-agent",
            "--profile=dist",
            &format!("--target={target}"),
            &format!("--target-dir={}", folder.display()),
            &format!("--manifest-path={}", manifest.display()),
        ],
        BUILD_TIME,
    );
    tools.run(&build).await.unwrap();
    folder.join(target).join("dist/meshproof-agent")
}

/// Tells runs of the same process id apart.
fn nonce() -> u32 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos())
}
