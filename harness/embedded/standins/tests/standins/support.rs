//! Running the commands, and clusters made by them.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use meshproof_standins::Standins;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

/// No test waits longer for anything, wall time; reaching it is a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a command answered.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Stand-ins in a folder of their own.
pub(crate) struct World {
    pub(crate) standins: Standins,
    pub(crate) folder: TempDir,
}

impl World {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let standins = Standins::start(&folder.path().join("state"), 10.0).unwrap();
        Self { standins, folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, line: &str) -> Command {
        let words = shlex::split(line).unwrap();
        let mut command = Command::new(self.standins.path_dir().join(&words[0]));
        command
            .args(&words[1..])
            .current_dir(self.folder.path())
            .env_remove("KUBECONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Starts a command.
    pub(crate) fn spawn(&self, line: &str) -> Child {
        self.command(line).spawn().unwrap()
    }

    /// Runs a command, however it ends.
    pub(crate) async fn run(&self, line: &str) -> Output {
        finish(self.spawn(line)).await
    }

    /// Runs a command with this on its standard input.
    pub(crate) async fn run_with_input(&self, line: &str, input: &str) -> Output {
        let mut child = self.command(line).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        finish(child).await
    }

    /// Runs a command that has to succeed and returns its standard output.
    pub(crate) async fn ok(&self, line: &str) -> String {
        let output = self.run(line).await;
        assert_eq!(output.code, Some(0), "{line}: {output:?}");
        output.stdout
    }

    /// Creates a cluster with ranges of its own; its kubeconfig is `<name>.kubeconfig`.
    pub(crate) async fn create(&self, name: &str, number: u8) -> Output {
        std::fs::write(self.path(&format!("{name}.yaml")), config(number)).unwrap();
        self.run(&format!(
            "kind create cluster --name {name} --config {name}.yaml --kubeconfig {name}.kubeconfig --wait 180s"
        ))
        .await
    }

    /// A client for a cluster by the kubeconfig that `kind` wrote.
    pub(crate) async fn client(&self, name: &str) -> Client {
        let text = std::fs::read_to_string(self.path(&format!("{name}.kubeconfig"))).unwrap();
        let parsed = Kubeconfig::from_yaml(&text).unwrap();
        let options = KubeConfigOptions {
            context: Some(format!("kind-{name}")),
            ..KubeConfigOptions::default()
        };
        Client::try_from(Config::from_custom_kubeconfig(parsed, &options).await.unwrap()).unwrap()
    }
}

/// A kind configuration.
pub(crate) fn config(number: u8) -> String {
    format!(
        "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnetworking:\n  podSubnet: 10.{number}.0.0/16\n  \
         serviceSubnet: 10.1{number}.0.0/16\nnodes:\n  - role: control-plane\n"
    )
}

async fn finish(child: Child) -> Output {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output())
        .await
        .expect("the command ends")
        .unwrap();
    Output {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Looks until something is there.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking)
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {what}"))
}
