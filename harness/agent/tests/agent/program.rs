//! The agent as a program on the operating system's network.

use std::process::Stdio;
use std::time::Duration;

use futures::StreamExt;
use meshproof_agent::OsNetwork;
use meshproof_agent::control::Client;
use meshproof_agent::network::{BoxedStream, Network};
use meshproof_agent::protocol::{Behavior, Job, Protocol};
use rstest::rstest;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::setup::{Finished, identity, job};

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshproof-agent"));
    command
        .env_clear()
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Exit code, standard output, standard error.
async fn output(arguments: &[&str]) -> (i32, String, String) {
    let output = command(arguments).output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

struct Program {
    child: Child,
    log: Lines<BufReader<ChildStdout>>,
    http: u16,
    control: u16,
}

impl Program {
    /// Starts the program on ports that nobody uses, outside of the range from which the system hands out ports.
    async fn start() -> Self {
        for base in (22_000..23_000).step_by(3) {
            let mut child = command(&[
                "--cluster",
                "west",
                "--namespace=shop",
                "--workload",
                "store",
                "--pod",
                "store-0",
                "--nonce",
                "run-1",
            ])
            .args(["--http-ports", &base.to_string()])
            .args(["--tcp-ports", &(base + 1).to_string()])
            .args(["--control-port", &(base + 2).to_string()])
            .spawn()
            .unwrap();
            let mut log = BufReader::new(child.stdout.take().unwrap()).lines();
            if let Some(line) = log.next_line().await.unwrap() {
                assert!(
                    line.starts_with("agent west/shop/store-0 of run run-1 listens"),
                    "{line}"
                );
                return Self {
                    child,
                    log,
                    http: base,
                    control: base + 2,
                };
            }
            let mut problem = String::new();
            child.stderr.take().unwrap().read_to_string(&mut problem).await.unwrap();
            assert!(
                problem.starts_with("meshproof-agent: cannot listen on port"),
                "{problem}"
            );
            assert_eq!(child.wait().await.unwrap().code(), Some(1));
        }
        panic!("no free ports between 22000 and 23000");
    }

    async fn control(&self) -> Client {
        Client::connect(OsNetwork.connect("localhost", self.control).await.unwrap())
            .await
            .unwrap()
    }

    /// A job of the program to itself.
    fn job(&self, protocol: Protocol, requests: u64) -> Job {
        let port = if protocol == Protocol::Tcp {
            self.http + 1
        } else {
            self.http
        };
        Job {
            host: "localhost".to_owned(),
            port,
            ..job(protocol, requests)
        }
    }

    /// Sends a request that takes so long, from outside of the program; returns once the program has received it.
    async fn request_with_delay(&self, delay_ms: u64) -> BoxedStream {
        let slow = Behavior {
            delay_ms,
            ..Behavior::default()
        };
        let mut control = self.control().await;
        control.set_behavior(&slow).await.unwrap();
        let received = control.server_ledger(None, 0).await.unwrap().rows.len() as u64;
        let mut follower = control.follow_ledger(None, received).await.unwrap();
        let mut stream = OsNetwork.connect("localhost", self.http).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        follower.next().await.unwrap().unwrap();
        stream
    }

    async fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([name, &id]).status().await.unwrap().success());
    }

    async fn wait_for(&mut self, text: &str) {
        while let Some(line) = self.log.next_line().await.unwrap() {
            if line.contains(text) {
                return;
            }
        }
        panic!("the program ended without saying {text:?}");
    }
}

#[tokio::test]
async fn the_program_serves_and_ends_in_order() {
    let mut program = Program::start().await;
    assert_eq!(program.control().await.identity().await.unwrap(), identity("store"));
    for protocol in [Protocol::Http1, Protocol::Http2, Protocol::Tcp] {
        let stream = program
            .control()
            .await
            .start_job(&program.job(protocol, 20))
            .await
            .unwrap();
        assert_eq!(Finished::read(stream).await.answered(200), 20);
    }

    // A request that is in progress when the signal comes is answered.
    let mut stream = program.request_with_delay(200).await;
    program.signal("-TERM").await;
    program.wait_for("stopping").await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK") && answer.contains("store-0"),
        "{answer}"
    );
    program.wait_for("stopped").await;
    assert_eq!(program.child.wait().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_the_program_at_once() {
    let mut program = Program::start().await;
    let _stream = program.request_with_delay(3_600_000).await;
    program.signal("-INT").await;
    program.wait_for("stopping").await;
    program.signal("-INT").await;
    let ended = tokio::time::timeout(Duration::from_secs(4), program.child.wait()).await;
    assert_eq!(
        ended
            .expect("waited for the time to drain, which is five seconds")
            .unwrap()
            .code(),
        Some(1)
    );
}

#[rstest]
#[case(&[], "meshproof-agent: --cluster is missing; give it, or set the environment variable CLUSTER; see --help\n")]
#[case(&["--port", "1"], "meshproof-agent: unknown argument \"--port\"; see --help\n")]
#[tokio::test]
async fn wrong_arguments_are_told_from_other_failures(#[case] arguments: &[&str], #[case] problem: &str) {
    assert_eq!(output(arguments).await, (2, String::new(), problem.to_owned()));
}

#[tokio::test]
async fn help_and_version_are_printed() {
    let (code, help, _) = output(&["--help"]).await;
    assert_eq!((code, help.as_str()), (0, meshproof_agent::arguments::HELP));
    let version = format!("meshproof-agent {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(output(&["-V"]).await, (0, version, String::new()));
}
