//! The agent as a program of its own: command line, signals, log on standard output.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use meshproof_agent::arguments::{self, Command, Options};
use meshproof_agent::call::LINES_WAITING;
use meshproof_agent::protocol::Job;
use meshproof_agent::relay::arguments::RelayOptions;
use meshproof_agent::relay::{RelayConfig, RunningRelay};
use meshproof_agent::{LogSink, OsNetwork, Server};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const STOPPED: u8 = 0;
const FAILED: u8 = 1;
const USAGE: u8 = 2;

fn main() -> ExitCode {
    // Whatever is not Unicode is no valid value either; the replacement characters show where it is.
    let arguments = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned());
    ExitCode::from(match arguments::parse(arguments, |name| std::env::var(name).ok()) {
        Ok(Command::Help(text)) => print(text),
        Ok(Command::Version) => print(concat!("meshproof-agent ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Command::Run(options)) => block_on(serve(options)),
        Ok(Command::Relay(options)) => block_on(relay(options)),
        Ok(Command::Call(job)) => block_on(call(*job)),
        Err(problem) => complain(&format!("{problem}; see --help"), USAGE),
    })
}

fn print(text: &str) -> u8 {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => STOPPED,
        Err(_) => FAILED,
    }
}

fn complain(problem: &str, code: u8) -> u8 {
    // Without standard error there is still the exit code.
    let _ = writeln!(std::io::stderr(), "meshproof-agent: {problem}");
    code
}

fn block_on(program: impl Future<Output = u8>) -> u8 {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("cannot start threads: {error}"), FAILED),
    };
    runtime.block_on(program)
}

fn log() -> LogSink {
    Arc::new(|line| {
        // A log that nobody takes must not stop the traffic.
        let _ = writeln!(std::io::stdout(), "{line}");
    })
}

/// Sends requests; a signal ends it early, with what was found until then.
async fn call(job: Job) -> u8 {
    let mut signals = match Signals::take() {
        Ok(signals) => signals,
        Err(error) => return complain(&format!("cannot take signals: {error}"), FAILED),
    };
    let stop = CancellationToken::new();
    let print = log();
    let (lines, mut printed) = mpsc::channel::<String>(LINES_WAITING);
    let calling = async {
        let print = async {
            while let Some(line) = printed.recv().await {
                print(&line);
            }
        };
        let calling = meshproof_agent::call::run(Arc::new(OsNetwork), job, stop.clone(), lines);
        let (done, ()) = tokio::join!(calling, print);
        done
    };
    let mut calling = std::pin::pin!(calling);
    let done = tokio::select! {
        done = &mut calling => done,
        () = signals.next() => {
            stop.cancel();
            calling.await
        }
    };
    match done {
        Ok(true) => STOPPED,
        Ok(false) => FAILED,
        Err(problem) => complain(&problem, USAGE),
    }
}

async fn serve(options: Options) -> u8 {
    let mut signals = match Signals::take() {
        Ok(signals) => signals,
        Err(error) => return complain(&format!("cannot take signals: {error}"), FAILED),
    };
    let agent = match Server::start(Arc::new(OsNetwork), options.into_config(log())).await {
        Ok(agent) => agent,
        Err(error) => return complain(&error.to_string(), FAILED),
    };
    tokio::select! {
        () = signals.next() => {}
        // Nobody asked it to: a port is gone, as the log says.
        () = agent.stopped() => return FAILED,
    }
    tokio::select! {
        () = agent.shutdown() => STOPPED,
        () = signals.next() => {
            agent.kill().await;
            FAILED
        }
    }
}

async fn relay(options: RelayOptions) -> u8 {
    let mut signals = match Signals::take() {
        Ok(signals) => signals,
        Err(error) => return complain(&format!("cannot take signals: {error}"), FAILED),
    };
    let RelayOptions {
        forwards,
        control_port,
        lifetime,
    } = options;
    let config = RelayConfig {
        forwards,
        control_port,
        lifetime,
        log: log(),
    };
    match RunningRelay::start(config).await {
        Ok(_relay) => {
            signals.next().await;
            STOPPED
        }
        Err(error) => complain(&error.to_string(), FAILED),
    }
}

/// Signals that end the program.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn take() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
