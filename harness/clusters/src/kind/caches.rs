//! Registries that keep what nodes pull, one container for each upstream registry: the image `registry` in its proxy mode,
//! which knows a single upstream.
//!
//! A container belongs to an environment and goes with it. What it has pulled lies in a docker volume that all environments
//! share and that outlives them, because a cache that is empty at every start saves nothing: it is the one thing that stays
//! behind on purpose, and [`super::sweep`] tells of it and can remove it. Nodes ask the upstream itself when a cache does
//! not answer, so that a cache that dies costs time and no image.

use std::time::Duration;

use meshproof_engine::problem::{self, Problem};
use meshproof_engine::tool::{Output, Tools};
use tokio::time::Instant;

use super::commands::Commands;
use super::names;
use super::options::KindOptions;

/// Image of the caches.
pub(super) const IMAGE: &str = "registry:3";
/// Port on which a cache serves, by the image's own configuration.
const PORT: u16 = 5000;
/// What a cache logs when it serves (distribution, `registry/registry.go`).
const SERVES: &str = "listening on";
/// Between two looks at whether a cache serves.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Most characters of a dead cache's log that are quoted, from its end.
const QUOTED: usize = 1000;

/// A cache of one upstream registry in one environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cache {
    /// The registry as image names have it, e.g. `docker.io`.
    pub(super) registry: String,
    /// Name of the container, by which nodes find it on the docker network.
    pub(super) container: String,
    /// Docker volume of what it has pulled.
    pub(super) volume: String,
}

impl Cache {
    /// A cache of a registry, which is a host with or without a port.
    ///
    /// # Errors
    /// `registry-malformed`.
    pub(super) fn new(prefix: &str, environment: &str, registry: &str) -> Result<Self, Problem> {
        let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-:".contains(c);
        if registry.is_empty()
            || !registry.chars().all(fine)
            || !registry.starts_with(|c: char| c.is_ascii_alphanumeric())
        {
            return Err(problem::environment(
                "registry-malformed",
                format!("`{registry}` is not the name of a registry"),
                Some("write the host as images have it, e.g. docker.io or registry.example:5000"),
            ));
        }
        let slug: String = registry
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        Ok(Self {
            registry: registry.to_owned(),
            container: names::cluster(environment, &format!("cache-{slug}")),
            volume: format!("{prefix}-cache-{slug}"),
        })
    }

    /// Where nodes find it.
    pub(super) fn url(&self) -> String {
        format!("http://{}:{PORT}", self.container)
    }

    /// Where it pulls from. Images of Docker Hub are not served under the host that their names have.
    pub(super) fn upstream(&self) -> String {
        match self.registry.as_str() {
            "docker.io" => "https://registry-1.docker.io".to_owned(),
            other => format!("https://{other}"),
        }
    }
}

/// Starts caches and waits until they serve. One that runs already is left as it is.
///
/// # Errors
/// `registry-cache-dead` with the end of its log, `registry-cache-silent`, and those of docker.
pub(super) async fn start(
    tools: &Tools,
    commands: &Commands,
    options: &KindOptions,
    environment: &str,
    caches: &[Cache],
) -> Result<(), Problem> {
    for cache in caches {
        if status(tools, commands, cache).await?.as_deref() == Some("running") {
            continue;
        }
        // One that an earlier run kept and that stopped since.
        tools
            .try_run(&commands.remove_containers(std::slice::from_ref(&cache.container)))
            .await?;
        tools.run(&commands.create_volume(cache)).await?;
        tools.run(&commands.run_cache(environment, cache)).await?;
    }
    for cache in caches {
        serving(tools, commands, options, cache).await?;
    }
    Ok(())
}

/// Waits until a cache serves, as it says itself: its port is not always reached from this machine.
async fn serving(tools: &Tools, commands: &Commands, options: &KindOptions, cache: &Cache) -> Result<(), Problem> {
    let deadline = Instant::now() + options.waits.command;
    loop {
        // The state first, so that the log of one that has ended is whole.
        let status = status(tools, commands, cache).await?;
        let log = tools.try_run(&commands.log(&cache.container)).await?;
        if status.as_deref() != Some("running") {
            return Err(problem::environment(
                "registry-cache-dead",
                format!(
                    "the cache of {} ({}) ended as soon as it was started; it said: {}",
                    cache.registry,
                    cache.container,
                    tail(&log)
                ),
                Some(
                    "see whether the registry is reached from this machine: the cache asks it when it starts; or leave --registry-cache out",
                ),
            ));
        }
        if [&log.stdout, &log.stderr].iter().any(|text| text.contains(SERVES)) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(problem::environment(
                "registry-cache-silent",
                format!(
                    "the cache of {} ({}) does not serve after {} s; it said: {}",
                    cache.registry,
                    cache.container,
                    options.waits.command.as_secs(),
                    tail(&log)
                ),
                Some("see whether the registry is reached from this machine; or leave --registry-cache out"),
            ));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The state of a cache's container, e.g. `running`; `None` when there is none.
async fn status(tools: &Tools, commands: &Commands, cache: &Cache) -> Result<Option<String>, Problem> {
    let asked = commands.status(&cache.container);
    let output = tools.try_run(&asked).await?;
    if output.success() {
        return Ok(Some(output.stdout.trim().to_owned()));
    }
    if output.stderr.to_lowercase().contains("no such container") {
        return Ok(None);
    }
    Err(meshproof_engine::tool::failed(&asked, &output))
}

fn tail(log: &Output) -> String {
    let said = [log.stdout.trim(), log.stderr.trim()].join("\n");
    let said = said.trim();
    if said.is_empty() {
        return "nothing".to_owned();
    }
    let characters: Vec<char> = said.chars().collect();
    characters[characters.len().saturating_sub(QUOTED)..].iter().collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use meshproof_engine::tool::Tools;
    use rstest::rstest;

    use super::{Cache, start};
    use crate::kind::KindOptions;
    use crate::kind::commands::Commands;

    /// Waits for a cache whose log never says that it listens.
    #[tokio::test]
    async fn a_cache_that_never_serves_is_told_with_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let docker = folder.path().join("docker");
        let script =
            "#!/bin/sh\ncase $1 in inspect) echo running ;; logs) echo still thinking >&2 ;; *) exit 1 ;; esac\n";
        std::fs::write(&docker, script).unwrap();
        std::fs::set_permissions(&docker, std::fs::Permissions::from_mode(0o755)).unwrap();
        let tools = Tools::at([("docker".to_owned(), docker)].into());
        let mut options = KindOptions::new("/nowhere", folder.path());
        let commands = Commands::new(&options);
        // Only the wait is short; what docker is given is not.
        options.waits.command = Duration::from_millis(300);
        let cache = Cache::new("meshproof", "meshproof-pair", "docker.io").unwrap();
        let problem = start(&tools, &commands, &options, "meshproof-pair", &[cache])
            .await
            .unwrap_err();
        assert_eq!(problem.code, "registry-cache-silent");
        assert!(problem.message.contains("still thinking"), "{}", problem.message);
        let ran: Vec<String> = tools.ran().into_iter().map(|ran| ran.line).collect();
        assert!(
            !ran.iter().any(|line| line.starts_with("docker run")),
            "it runs already: {ran:?}"
        );
    }

    #[rstest]
    #[case("docker.io", "meshproof-pair-cache-docker-io", "https://registry-1.docker.io")]
    #[case(
        "registry.example:5000",
        "meshproof-pair-cache-registry-example-5000",
        "https://registry.example:5000"
    )]
    fn a_cache_is_named_by_its_registry(#[case] registry: &str, #[case] container: &str, #[case] upstream: &str) {
        let cache = Cache::new("meshproof", "meshproof-pair", registry).unwrap();
        assert_eq!(cache.container, container);
        assert_eq!(cache.upstream(), upstream);
        assert_eq!(cache.url(), format!("http://{container}:5000"));
        let elsewhere = Cache::new("meshproof", "meshproof-trio", registry).unwrap();
        assert_eq!(elsewhere.volume, cache.volume, "what was pulled is shared");
        assert_ne!(elsewhere.container, cache.container);
    }

    #[rstest]
    #[case("")]
    #[case("https://docker.io")]
    #[case("docker.io/library")]
    #[case("../etc")]
    #[case("-x")]
    #[case("Docker.io")]
    fn what_is_no_registry_is_refused(#[case] registry: &str) {
        let problem = Cache::new("meshproof", "meshproof-pair", registry).unwrap_err();
        assert_eq!(problem.code, "registry-malformed");
    }
}
