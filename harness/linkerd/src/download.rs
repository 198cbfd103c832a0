//! Fetching a pinned `linkerd` CLI.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meshproof_engine::problem::{self, Problem};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

/// Where the vendor publishes the CLI of a version.
pub const VENDOR_URL: &str =
    "https://github.com/linkerd/linkerd2/releases/download/{version}/linkerd2-cli-{version}-{os}-{arch}";

/// Time for a server to accept a connection.
const CONNECT_TIME: Duration = Duration::from_secs(15);
/// Time for the whole file.
const FETCH_TIME: Duration = Duration::from_secs(600);
/// Largest file that is taken, bytes; the CLI has about 80 MB.
const LARGEST: u64 = 512 * 1024 * 1024;

/// The `linkerd` CLI of `version` in `cache_dir`, fetched if it is not there yet. In `url_template`, `{version}`, `{os}`
/// (`linux`, `darwin`) and `{arch}` (`amd64`, `arm64`) are filled in. Nothing is executable, or has the final name, before
/// its SHA-256 is the given one. The process needs a default TLS provider for `https`.
///
/// # Errors
/// Of class environment: `checksum-malformed`, `checksum-mismatch` (names both sums), `download-failed`,
/// `file-not-written`.
pub async fn fetch_cli(version: &str, sha256: &str, cache_dir: &Path, url_template: &str) -> Result<PathBuf, Problem> {
    let wanted = sha256.trim().to_ascii_lowercase();
    if wanted.len() != 64 || !wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(problem::environment(
            "checksum-malformed",
            format!("`{sha256}` is no SHA-256 for the linkerd CLI {version}: 64 hexadecimal digits were expected"),
            Some("copy it from the release's page"),
        ));
    }
    if version.is_empty() || version.contains(['/', '\\']) || version.contains("..") {
        return Err(problem::environment(
            "version-malformed",
            format!("`{version}` is no version of Linkerd"),
            Some("write e.g. `edge-25.10.7`"),
        ));
    }
    // Several pinned files may have one version, e.g. after a correction of the sum.
    let path = cache_dir.join(format!("linkerd-{version}-{}", &wanted[..12]));
    // One that somebody changed is fetched anew and replaced.
    if let Ok(bytes) = tokio::fs::read(&path).await
        && hex(&Sha256::digest(&bytes)) == wanted
    {
        return Ok(path);
    }
    let url = url_template
        .replace("{version}", version)
        .replace("{os}", os())
        .replace("{arch}", arch());
    let unwritten = |error: std::io::Error| {
        problem::environment(
            "file-not-written",
            format!("{}: {error}", cache_dir.display()),
            Some("see whether the folder can be written and has room"),
        )
    };
    tokio::fs::create_dir_all(cache_dir).await.map_err(unwritten)?;
    let mut file = NamedTempFile::new_in(cache_dir).map_err(unwritten)?;
    let found = fetch(&url, &mut file).await?;
    if found != wanted {
        return Err(problem::environment(
            "checksum-mismatch",
            format!("{url} has SHA-256 {found}, and {wanted} is pinned for the linkerd CLI {version}"),
            Some("do not use that file; compare both sums with the release's page"),
        ));
    }
    let keep = || -> std::io::Result<()> {
        file.as_file_mut().sync_all()?;
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o755))?;
        file.persist(&path)?;
        Ok(())
    };
    keep().map_err(unwritten)?;
    Ok(path)
}

/// Writes what a URL answers into a file and returns its SHA-256.
async fn fetch(url: &str, file: &mut NamedTempFile) -> Result<String, Problem> {
    let failed = |what: &str| {
        problem::environment(
            "download-failed",
            format!("{url}: {what}"),
            Some("check the version and the network, or give the path of a linkerd CLI that is here"),
        )
    };
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIME)
        .timeout(FETCH_TIME)
        .build()
        .map_err(|error| failed(&error.to_string()))?;
    let answer = client.get(url).send().await.map_err(|error| failed(&chain(&error)))?;
    let mut answer = answer.error_for_status().map_err(|error| failed(&chain(&error)))?;
    let (mut sum, mut length) = (Sha256::new(), 0_u64);
    while let Some(piece) = answer.chunk().await.map_err(|error| failed(&chain(&error)))? {
        length += piece.len() as u64;
        if length > LARGEST {
            return Err(failed(&format!("it is larger than {LARGEST} bytes")));
        }
        sum.update(&piece);
        file.write_all(&piece).map_err(|error| failed(&error.to_string()))?;
    }
    Ok(hex(&sum.finalize()))
}

/// An error with its causes, without the URL that is named already.
fn chain(error: &reqwest::Error) -> String {
    let mut text = match error.status() {
        Some(status) => format!("the server answered {status}"),
        None => "no answer".to_owned(),
    };
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let _ = write!(text, ": {inner}");
        cause = inner.source();
    }
    text
}

fn os() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    }
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
