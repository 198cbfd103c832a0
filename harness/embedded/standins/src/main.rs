//! `meshproof-standin serve DIR`: stand-ins by hand. Called by any other name it is the forwarding command itself.

mod forward;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use meshproof_standins::Standins;

/// Stand-ins for kind, docker, linkerd and helm.
#[derive(clap::Parser)]
#[command(name = "meshproof-standin")]
enum Command {
    /// Serve until interrupted.
    Serve {
        /// Folder for the commands and their state.
        #[arg(env = "MESHPROOF_STANDIN_DIR")]
        dir: PathBuf,
        /// How much faster than real ones the clusters run.
        #[arg(long, env = "MESHPROOF_STANDIN_PACE", default_value_t = 10.0)]
        pace: f64,
    },
}

fn main() -> ExitCode {
    let name = std::env::args().next().map(PathBuf::from);
    if name.and_then(|name| Some(name.file_name()? == "meshproof-standin")) != Some(true) {
        return forward::main();
    }
    let Command::Serve { dir, pace } = clap::Parser::parse();
    match serve(&dir, pace) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nobody else to tell if this fails.
            let _ = writeln!(std::io::stderr(), "meshproof-standin: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(dir: &std::path::Path, pace: f64) -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::path::absolute(dir)?;
    let standins = Standins::start(&dir, pace)?;
    let path = standins.path_dir();
    writeln!(
        std::io::stdout(),
        "export PATH={}:$PATH",
        shlex::try_quote(&path.to_string_lossy())?
    )?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted,
            _ = terminate.recv() => Ok(()),
            _ = hang_up.recv() => Ok(()),
        }
    })?;
    drop(standins);
    Ok(())
}
