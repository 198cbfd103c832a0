//! The command line of meshproof, as a library so that tests run scenarios through the very same code.
//!
//! # What it is responsible for
//! The command line: reading arguments, loading suites, choosing the environment, showing progress, and turning what
//! happened into an exit code. Each command is a file of [`command`].
//!
//! # What it must not know
//! How anything is run, judged or reported: it only calls the rooms that do.

pub mod aftermath;
pub mod args;
pub mod codes;
pub mod command;
pub mod display;
pub mod exit_code;
pub mod output;
pub mod place;
pub mod planning;
pub mod preflight;
pub mod signals;
pub mod state;
pub mod suite;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use meshproof_engine::redaction;

use crate::args::{Cli, Command};
use crate::exit_code::Exit;

/// The whole program: reads the command line, does what it says, and tells the class of what happened.
#[must_use]
pub fn main() -> ExitCode {
    // Before a problem can quote one of them.
    redaction::remember_own(&args::as_typed());
    let mut command = Cli::command();
    let given = command.get_matches_mut();
    let cli = match Cli::from_arg_matches(&given) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let unread = given
        .subcommand()
        .and_then(|(name, given)| args::readers::unread(command.find_subcommand(name)?, given));
    if let Some(unread) = unread {
        output::note(&format!("error: {unread}"));
        return Exit::Usage.into();
    }
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_env("MESHPROOF_LOG").unwrap_or_else(|_| "off".into()))
        .with_writer(std::io::stderr)
        .init();
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        output::note("error: another TLS provider is installed already");
        return Exit::Error.into();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(&format!("error: no threads can be started: {error}"));
            return Exit::Error.into();
        }
    };
    let exit = runtime.block_on(Box::pin(dispatch(cli.command)));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    // What was asked for is not done when nobody can read it.
    match exit {
        Exit::Success if output::lost() => Exit::Error,
        other => other,
    }
    .into()
}

async fn dispatch(command: Command) -> Exit {
    match command {
        Command::Run(args) => command::run::run(&args).await,
        Command::Up(args) => command::up::up(&args).await,
        Command::Down(args) => Ok(command::up::down(&args).await),
        Command::Status(args) => Ok(command::up::status(&args).await),
        Command::Plan(args) => command::plan::run(&args).await,
        Command::Images(args) => command::images::run(&args).await,
        Command::List(args) => command::list::run(&args),
        Command::Lint(args) => Ok(command::lint::run(&args)),
        Command::Schema(args) => Ok(command::schema::run(&args)),
        Command::Explain(args) => command::explain::run(&args),
        Command::Coverage(args) => command::coverage::run(&args),
        Command::Prove(args) => command::prove::run(&args).await,
        Command::Doctor(args) => command::doctor::run(&args).await,
        Command::Report(args) => command::report::run(&args),
        Command::Recheck(args) => command::recheck::run(&args),
        Command::Gc(args) => command::gc::run(&args).await,
        Command::Bench(args) => command::bench::run(&args).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "meshproof", &mut script);
            output::styled(&String::from_utf8_lossy(&script));
            Ok(Exit::Success)
        }
    }
    .unwrap_or_else(|exit| exit)
}
