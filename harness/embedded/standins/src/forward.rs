//! The command that stands where `kind`, `docker`, `linkerd` and `helm` would: it hands its arguments to the serving
//! process and prints what comes back. Standard library only: the build script compiles this file on its own.
//!
//! # Protocol
//! Over loopback TCP. Every frame is a kind (one byte), a length (four bytes, little endian) and so many bytes.
//! To the server: `T` token, `A` tool, then each argument, `W` working directory, `E` one environment variable
//! (`NAME=value`), `.` end of the call; later `I` a piece of standard input, `i` its end.
//! From the server: `O` standard output, `R` standard error, `?` standard input is wanted, `X` exit code (one byte).
//! A connection that ends is a command that was killed.

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

/// Exit code when there is no serving process.
const NO_SERVER: u8 = 125;
/// Environment variables that the commands look at.
const VARIABLES: [&str; 5] = [
    "HOME",
    "KUBECONFIG",
    "KIND_CLUSTER_NAME",
    "KIND_EXPERIMENTAL_DOCKER_NETWORK",
    "MESHPROOF_STANDIN_FAULT",
];

/// Forwards this process' call.
pub(crate) fn main() -> ExitCode {
    match forward() {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            // There is nobody else to tell if this fails.
            let _ = writeln!(io::stderr(), "meshproof-standin: {message}");
            ExitCode::from(NO_SERVER)
        }
    }
}

fn forward() -> Result<u8, String> {
    let mut arguments = env::args();
    let called = arguments.next().ok_or("called without a name")?;
    let tool = Path::new(&called)
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .ok_or("called without a name")?;
    let folder = state_folder(&called, &tool)?;
    let serving = folder.join("serving");
    let text = fs::read_to_string(&serving).map_err(|error| {
        format!(
            "nothing serves in {} (cannot read {}: {error})",
            folder.display(),
            serving.display()
        )
    })?;
    let (address, token) = text
        .trim_end()
        .split_once('\n')
        .ok_or("the file `serving` is no address and token")?;
    let mut server =
        TcpStream::connect(address).map_err(|error| format!("nothing serves at {address} any more: {error}"))?;
    let lost = |error: io::Error| format!("the serving process went away: {error}");

    let directory = env::current_dir().unwrap_or_default();
    let mut call = Vec::new();
    push(&mut call, b'T', token.as_bytes());
    push(&mut call, b'A', tool.as_bytes());
    for argument in arguments {
        push(&mut call, b'A', argument.as_bytes());
    }
    push(&mut call, b'W', directory.to_string_lossy().as_bytes());
    for name in VARIABLES {
        if let Ok(value) = env::var(name) {
            push(&mut call, b'E', format!("{name}={value}").as_bytes());
        }
    }
    push(&mut call, b'.', b"");
    server.write_all(&call).map_err(lost)?;

    loop {
        let (kind, bytes) = read_frame(&mut server).map_err(lost)?;
        match kind {
            // Whoever called may have stopped reading, as with real commands.
            b'O' => drop(io::stdout().write_all(&bytes).and_then(|()| io::stdout().flush())),
            b'R' => drop(io::stderr().write_all(&bytes)),
            b'?' => {
                let input = server.try_clone().map_err(lost)?;
                thread::spawn(move || send_input(input));
            }
            b'X' => return Ok(bytes.first().copied().unwrap_or(NO_SERVER)),
            other => return Err(format!("the serving process sent an unknown frame {other}")),
        }
    }
}

/// Where the server's address is: told by the environment, else the folder above the one that this command was found in.
fn state_folder(called: &str, tool: &str) -> Result<PathBuf, String> {
    if let Some(folder) = env::var_os("MESHPROOF_STANDIN_DIR") {
        return Ok(PathBuf::from(folder));
    }
    let found = if called.contains('/') {
        Some(PathBuf::from(called))
    } else {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path)
            .map(|folder| folder.join(tool))
            .find(|file| file.exists())
    };
    found
        .and_then(|file| Some(file.parent()?.parent()?.to_owned()))
        .filter(|folder| folder.join("serving").exists())
        .ok_or_else(|| "set MESHPROOF_STANDIN_DIR to the folder of the stand-ins".to_owned())
}

fn send_input(mut server: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = io::stdin().read(&mut buffer).unwrap_or(0);
        let mut frame = Vec::new();
        if read == 0 {
            push(&mut frame, b'i', b"");
        } else {
            push(&mut frame, b'I', buffer.get(..read).unwrap_or_default());
        }
        // A server that is gone is noticed where its answer is read.
        if server.write_all(&frame).is_err() || read == 0 {
            return;
        }
    }
}

fn push(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    out.push(kind);
    out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(bytes);
}

fn read_frame(from: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    from.read_exact(&mut head)?;
    let [kind, length @ ..] = head;
    let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
    from.read_exact(&mut bytes)?;
    Ok((kind, bytes))
}
