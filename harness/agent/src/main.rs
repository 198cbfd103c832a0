//! The agent as a program of its own: command line, signals, log on standard output.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use meshproof_agent::arguments::{self, Command, HELP, Options};
use meshproof_agent::{LogSink, OsNetwork, Server};
use tokio::signal::unix::{Signal, SignalKind, signal};

const STOPPED: u8 = 0;
const FAILED: u8 = 1;
const USAGE: u8 = 2;

fn main() -> ExitCode {
    // Whatever is not Unicode is no valid value either; the replacement characters show where it is.
    let arguments = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned());
    ExitCode::from(match arguments::parse(arguments, |name| std::env::var(name).ok()) {
        Ok(Command::Help) => print(HELP),
        Ok(Command::Version) => print(concat!("meshproof-agent ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Command::Run(options)) => run(options),
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

fn run(options: Options) -> u8 {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("cannot start threads: {error}"), FAILED),
    };
    runtime.block_on(serve(options))
}

async fn serve(options: Options) -> u8 {
    let log: LogSink = Arc::new(|line| {
        // A log that nobody takes must not stop the traffic.
        let _ = writeln!(std::io::stdout(), "{line}");
    });
    let (mut terminate, mut interrupt) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(error), _) | (_, Err(error)) => {
            return complain(&format!("cannot take signals: {error}"), FAILED);
        }
    };
    let agent = match Server::start(Arc::new(OsNetwork), options.into_config(log)).await {
        Ok(agent) => agent,
        Err(error) => return complain(&error.to_string(), FAILED),
    };
    tokio::select! {
        () = signalled(&mut terminate, &mut interrupt) => {}
        // Nobody asked it to: a port is gone, as the log says.
        () = agent.stopped() => return FAILED,
    }
    tokio::select! {
        () = agent.shutdown() => STOPPED,
        () = signalled(&mut terminate, &mut interrupt) => {
            agent.kill().await;
            FAILED
        }
    }
}

async fn signalled(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
