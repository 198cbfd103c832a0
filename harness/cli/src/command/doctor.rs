//! `meshproof doctor`: what would keep a run from working, each finding with a code and a fix.

use std::net::TcpListener;
use std::time::Duration;

use serde::Serialize;

use crate::args::{Format, FormatArgs};
use crate::exit_code::Exit;
use crate::output;

/// Fewest file descriptors with which the shipped suite runs: a socket per connection of every pod.
const DESCRIPTORS: u64 = 1024;

/// What was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    /// `ok`, `warning` or `error`.
    level: &'static str,
    /// Stable code.
    code: &'static str,
    /// What was found.
    found: String,
    /// What to do.
    fix: Option<&'static str>,
}

/// Looks and prints.
pub fn run(args: FormatArgs) -> Exit {
    let findings = vec![
        loopback(),
        descriptors(),
        temporary_space(),
        tool(
            "kubectl",
            &["version", "--client"],
            "DOC004",
            "only needed to look into clusters by hand: install kubectl",
        ),
    ];
    let bad = findings.iter().any(|finding| finding.level == "error");
    match args.format {
        Format::Json => output::json(&findings),
        Format::Text => {
            let rows: Vec<Vec<String>> = findings
                .iter()
                .map(|finding| {
                    let fix = finding.fix.map(|fix| format!(" - {fix}")).unwrap_or_default();
                    vec![
                        finding.level.to_owned(),
                        finding.code.to_owned(),
                        format!("{}{fix}", finding.found),
                    ]
                })
                .collect();
            output::print(&output::columns(&rows));
        }
    }
    if bad { Exit::Error } else { Exit::Success }
}

fn loopback() -> Finding {
    match TcpListener::bind(("127.0.0.1", 0)) {
        Ok(_) => Finding {
            level: "ok",
            code: "DOC001",
            found: "loopback sockets can be opened".to_owned(),
            fix: None,
        },
        Err(error) => Finding {
            level: "error",
            code: "DOC001",
            found: format!("no loopback socket can be opened: {error}"),
            fix: Some("allow this process to listen on 127.0.0.1"),
        },
    }
}

/// The soft limit of open files, as the shell says it.
fn descriptors() -> Finding {
    let limit = duct::cmd!("sh", "-c", "ulimit -n").stderr_null().read().ok();
    match limit.as_deref().map(str::trim) {
        Some("unlimited") => Finding {
            level: "ok",
            code: "DOC002",
            found: "open files: unlimited".to_owned(),
            fix: None,
        },
        Some(text) => match text.parse::<u64>() {
            Ok(number) if number >= DESCRIPTORS => Finding {
                level: "ok",
                code: "DOC002",
                found: format!("open files: {number}"),
                fix: None,
            },
            Ok(number) => Finding {
                level: "error",
                code: "DOC002",
                found: format!("open files: {number}, at least {DESCRIPTORS} are needed"),
                fix: Some("raise the limit: ulimit -n 4096"),
            },
            Err(_) => unknown_descriptors(),
        },
        None => unknown_descriptors(),
    }
}

fn unknown_descriptors() -> Finding {
    Finding {
        level: "warning",
        code: "DOC002",
        found: "the limit of open files can't be found out".to_owned(),
        fix: None,
    }
}

fn temporary_space() -> Finding {
    match tempfile::tempdir() {
        Ok(_) => Finding {
            level: "ok",
            code: "DOC003",
            found: "temporary files can be written".to_owned(),
            fix: None,
        },
        Err(error) => Finding {
            level: "error",
            code: "DOC003",
            found: format!("no temporary file can be written: {error}"),
            fix: Some("free space, or set TMPDIR to a folder that can be written"),
        },
    }
}

/// A tool on the PATH: its version, or a warning.
fn tool(name: &'static str, arguments: &[&str], code: &'static str, fix: &'static str) -> Finding {
    let command = duct::cmd(name, arguments)
        .stdin_null()
        .stderr_to_stdout()
        .stdout_capture()
        .unchecked();
    let output = command
        .start()
        .and_then(|handle| match handle.wait_timeout(Duration::from_secs(10))? {
            Some(output) => Ok(Some(output.clone())),
            None => handle.kill().map(|()| None),
        });
    match output {
        Ok(Some(output)) => {
            let text = String::from_utf8_lossy(&output.stdout);
            let version = text.lines().next().unwrap_or_default().to_owned();
            Finding {
                level: "ok",
                code,
                found: format!("{name}: {version}"),
                fix: None,
            }
        }
        Ok(None) => Finding {
            level: "warning",
            code,
            found: format!("{name} does not answer"),
            fix: Some(fix),
        },
        Err(_) => Finding {
            level: "warning",
            code,
            found: format!("{name} is not installed"),
            fix: Some(fix),
        },
    }
}
