//! Compiles the forwarding command (`src/forward.rs`, standard library only) so that the library knows where it is.
//!
//! Cargo builds the binaries of a package for the package's own tests only. Tests of other packages that use this library
//! would have to run cargo inside of cargo; with this they get the command together with the library, never an old one.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::{env, io};

fn main() -> io::Result<()> {
    let mut cargo = io::stdout();
    writeln!(cargo, "cargo:rerun-if-changed=src/forward.rs")?;
    let variable = |name: &str| env::var_os(name).ok_or_else(|| io::Error::other(format!("cargo did not set {name}")));
    let command = PathBuf::from(variable("OUT_DIR")?).join(format!("standin-command{}", env::consts::EXE_SUFFIX));
    let mut rustc = Command::new(variable("RUSTC")?);
    rustc
        .args([
            "--edition",
            "2024",
            "--crate-name",
            "standin_command",
            "--crate-type",
            "bin",
        ])
        .args(["-C", "opt-level=1", "-C", "strip=symbols", "--target"])
        .arg(variable("TARGET")?)
        .arg("-o")
        .arg(&command)
        .arg("src/forward.rs");
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={}", linker.to_string_lossy()));
    }
    let status = rustc.status()?;
    if !status.success() {
        return Err(io::Error::other(format!(
            "rustc could not compile src/forward.rs: {status}"
        )));
    }
    writeln!(cargo, "cargo:rustc-env=MESHPROOF_STANDIN_COMMAND={}", command.display())
}
