//! The machine that the harness runs on.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meshproof_engine::tool::{Invocation, Tools};
use meshproof_kubeconfig::Proxies;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::finding::Finding;

/// Fewest file descriptors with which the shipped suite runs: a socket per connection of every pod.
const DESCRIPTORS: u64 = 1024;
/// inotify instances and watches that three clusters and more need, as kind's documentation says.
const INOTIFY: [(&str, u64); 2] = [("max_user_instances", 512), ("max_user_watches", 524_288)];
/// Memory that a cluster with the mesh takes, bytes.
const MEMORY: u64 = 2 << 30;
/// Space on the engine's disk that a cluster takes, bytes.
const DISK: u64 = 5 << 30;
/// Time for a tool to tell its version.
const TOOL_TIME: Duration = Duration::from_secs(10);

/// Which of the mesh's tools a run on kind uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeshTools {
    /// Whether the mesh comes from charts.
    pub helm: bool,
    /// Whether the vendor's CLI is used.
    pub linkerd: bool,
}

/// What every run needs.
pub async fn base(tools: &Tools) -> Vec<Finding> {
    let loopback = match TcpListener::bind(("127.0.0.1", 0)) {
        Ok(_) => Finding::ok("DOC001", "loopback sockets can be opened"),
        Err(error) => Finding::error(
            "DOC001",
            format!("no loopback socket can be opened: {error}"),
            "allow this process to listen on 127.0.0.1",
        ),
    };
    let limit = tools
        .run(&Invocation::new("sh", ["-c", "ulimit -n"], TOOL_TIME))
        .await
        .ok();
    let temporary = match tempfile::tempdir() {
        Ok(_) => Finding::ok("DOC003", "temporary files can be written"),
        Err(error) => Finding::error(
            "DOC003",
            format!("no temporary file can be written: {error}"),
            "free space, or set TMPDIR to a folder that can be written",
        ),
    };
    vec![
        loopback,
        descriptors(limit.as_ref().map(|output| output.stdout.trim())),
        temporary,
        tool(tools, "DOC004", "kubectl", &["version", "--client"], false).await,
    ]
}

/// The proxy that leads to real clusters, when the host names one.
#[must_use]
pub fn proxies(proxies: &Proxies) -> Option<Finding> {
    Some(match proxies.told()? {
        Ok(proxy) => Finding::ok(
            "DOC012",
            format!(
                "clusters are reached through {proxy}, as HTTPS_PROXY says, unless NO_PROXY or a kubeconfig says otherwise; embedded ones never"
            ),
        ),
        Err(unusable) => Finding::error("DOC012", unusable.to_string(), "correct HTTPS_PROXY, or unset it"),
    })
}

/// The tools without which no run on kind works, and the engine behind them.
pub async fn kind_tools(tools: &Tools, mesh: MeshTools) -> Vec<Finding> {
    let mut findings = Vec::new();
    let info = tools
        .run(&Invocation::new(
            "docker",
            ["info", "--format", "{{json .}}"],
            TOOL_TIME,
        ))
        .await;
    match info {
        Ok(info) => findings.extend(engine(&info.stdout)),
        Err(problem) => findings.push(Finding::error(
            "DOC005",
            problem.message,
            "start Docker, and let this user talk to it",
        )),
    }
    findings.push(tool(tools, "DOC009", "kind", &["version"], true).await);
    if mesh.linkerd {
        findings.push(tool(tools, "DOC010", "linkerd", &["version", "--client", "--short"], true).await);
    }
    if mesh.helm {
        findings.push(tool(tools, "DOC010", "helm", &["version", "--short"], true).await);
    }
    findings
}

/// What so many clusters at the same time usually take of the machine. With less a run may still work.
pub async fn kind_resources(tools: &Tools, clusters: u64) -> Vec<Finding> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok();
    let mut findings: Vec<Finding> = INOTIFY
        .into_iter()
        .map(|(name, needed)| inotify(name, needed, read(name).as_deref(), clusters))
        .collect();
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok();
    findings.push(memory(meminfo.as_deref(), clusters));
    let space = tools
        .run(&Invocation::new("df", ["-Pk", "/var/lib"], TOOL_TIME))
        .await
        .ok();
    findings.push(disk(space.as_ref().map(|output| output.stdout.as_str()), clusters));
    findings
}

/// The soft limit of open files, as the shell says it.
fn descriptors(limit: Option<&str>) -> Finding {
    match limit.map(|text| (text, text.parse::<u64>())) {
        Some(("unlimited", _)) => Finding::ok("DOC002", "open files: unlimited"),
        Some((_, Ok(number))) if number >= DESCRIPTORS => Finding::ok("DOC002", format!("open files: {number}")),
        Some((_, Ok(number))) => Finding::error(
            "DOC002",
            format!("open files: {number}, at least {DESCRIPTORS} are needed"),
            "raise the limit: ulimit -n 4096",
        ),
        Some((_, Err(_))) | None => Finding::warning(
            "DOC002",
            "the limit of open files can't be found out",
            "see `ulimit -n`",
        ),
    }
}

/// What `docker info` says.
fn engine(info: &str) -> Vec<Finding> {
    let Ok(info) = serde_json::from_str::<Value>(info) else {
        return vec![Finding::error(
            "DOC005",
            "`docker info` printed something else than JSON",
            "check `docker info --format '{{json .}}'`",
        )];
    };
    let Some(version) = info["ServerVersion"].as_str().filter(|version| !version.is_empty()) else {
        let errors = info["ServerErrors"].as_array().into_iter().flatten();
        let errors: Vec<&str> = errors.filter_map(Value::as_str).collect();
        return vec![Finding::error(
            "DOC005",
            format!("no Docker engine answers: {}", errors.join("; ")),
            "start Docker, and let this user talk to it",
        )];
    };
    let mut findings = vec![Finding::ok("DOC005", format!("Docker engine {version}"))];
    findings.push(match info["CgroupVersion"].as_str() {
        Some("2") => Finding::ok("DOC011", "cgroup v2"),
        Some(other) => Finding::warning("DOC011", format!("cgroup v{other}"), "boot the machine with cgroup v2"),
        None => Finding::warning(
            "DOC011",
            "the engine does not tell its version of cgroups",
            "use cgroup v2",
        ),
    });
    findings
}

fn inotify(name: &str, needed: u64, found: Option<&str>, clusters: u64) -> Finding {
    match found.and_then(|text| text.trim().parse::<u64>().ok()) {
        Some(number) if number >= needed => Finding::ok("DOC006", format!("fs.inotify.{name}: {number}")),
        Some(number) => {
            let found = format!("fs.inotify.{name}: {number}, three clusters need {needed}");
            let fix = format!("sudo sysctl -w fs.inotify.{name}={needed}");
            if clusters >= 3 {
                Finding::error("DOC006", found, fix)
            } else {
                Finding::warning("DOC006", found, fix)
            }
        }
        // On macOS the engine's virtual machine has them.
        None => Finding::warning(
            "DOC006",
            format!("fs.inotify.{name} can't be read here"),
            "look inside of the machine that the Docker engine runs on",
        ),
    }
}

fn memory(meminfo: Option<&str>, clusters: u64) -> Finding {
    let available = meminfo.and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    });
    enough(
        "DOC007",
        "memory",
        available,
        MEMORY,
        clusters,
        "free memory, or give the machine more",
    )
}

/// What `df -Pk` says of one place.
fn disk(output: Option<&str>, clusters: u64) -> Finding {
    let available = output.and_then(|text| {
        let kib: u64 = text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
        kib.checked_mul(1024)
    });
    enough(
        "DOC008",
        "disk space",
        available,
        DISK,
        clusters,
        "free space: docker system prune",
    )
}

fn enough(code: &'static str, what: &str, available: Option<u64>, each: u64, clusters: u64, fix: &str) -> Finding {
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1u32 << 30));
    let needed = each.saturating_mul(clusters);
    match available {
        Some(bytes) if bytes >= needed => Finding::ok(code, format!("{what}: {} available", gib(bytes))),
        Some(bytes) => Finding::error(
            code,
            format!(
                "{what}: {} available, {clusters} clusters need {}",
                gib(bytes),
                gib(needed)
            ),
            fix,
        ),
        None => Finding::warning(code, format!("{what}: can't be found out here"), fix),
    }
}

/// A tool: its version, and the digest of its file.
async fn tool(tools: &Tools, code: &'static str, name: &str, arguments: &[&str], needed: bool) -> Finding {
    let asked = Invocation::new(name, arguments.iter().copied(), TOOL_TIME);
    match tools.run(&asked).await {
        Ok(output) => {
            let version = output.stdout.lines().next().unwrap_or_default().to_owned();
            match file(tools, name).as_deref().and_then(digest) {
                Some(digest) => Finding::ok(code, format!("{name}: {version} (sha256 {digest})")),
                None => Finding::ok(code, format!("{name}: {version}")),
            }
        }
        Err(problem) if needed => Finding::error(code, problem.message, format!("install {name}, or give its path")),
        Err(_) => Finding::warning(
            code,
            format!("{name} is not installed, or does not answer"),
            format!("only needed to look into clusters by hand: install {name}"),
        ),
    }
}

/// The file that runs under the name of a tool.
fn file(tools: &Tools, name: &str) -> Option<PathBuf> {
    if let Some(path) = tools.path(name) {
        return Some(path.to_owned());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

fn digest(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let digest = Sha256::digest(bytes);
    Some(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::finding::{Level, explain};
    use super::{descriptors, disk, engine, inotify, memory};

    #[rstest]
    #[case(Some("unlimited"), Level::Ok)]
    #[case(Some("1024"), Level::Ok)]
    #[case(Some("256"), Level::Error)]
    #[case(Some("many"), Level::Warning)]
    #[case(None, Level::Warning)]
    fn limits_of_open_files(#[case] limit: Option<&str>, #[case] level: Level) {
        assert_eq!(descriptors(limit).level, level);
    }

    #[rstest]
    #[case(Some("512\n"), 3, Level::Ok)]
    #[case(Some("128\n"), 2, Level::Warning)]
    #[case(Some("128\n"), 3, Level::Error)]
    #[case(None, 3, Level::Warning)]
    fn limits_of_inotify(#[case] found: Option<&str>, #[case] clusters: u64, #[case] level: Level) {
        let finding = inotify("max_user_instances", 512, found, clusters);
        assert_eq!(finding.level, level);
        assert!(finding.found.contains("max_user_instances"));
    }

    #[test]
    fn memory_and_disk_are_counted_per_cluster() {
        let meminfo = "MemTotal:       24576000 kB\nMemFree:         1000 kB\nMemAvailable:    5000000 kB\n";
        assert_eq!(memory(Some(meminfo), 2).level, Level::Ok);
        let finding = memory(Some(meminfo), 3);
        assert_eq!(finding.level, Level::Error);
        assert_eq!(finding.found, "memory: 4.8 GiB available, 3 clusters need 6.0 GiB");
        assert_eq!(memory(Some("nonsense"), 1).level, Level::Warning);
        let df =
            "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda 263174212 12000000 20971520 13% /\n";
        assert_eq!(disk(Some(df), 4).level, Level::Ok);
        assert_eq!(disk(Some(df), 5).level, Level::Error);
        assert_eq!(disk(Some(""), 1).level, Level::Warning);
    }

    #[rstest]
    #[case(r#"{"ServerVersion": "28.2.2", "CgroupVersion": "2"}"#, &[Level::Ok, Level::Ok])]
    #[case(r#"{"ServerVersion": "20.10.24", "CgroupVersion": "1"}"#, &[Level::Ok, Level::Warning])]
    #[case(r#"{"ServerVersion": "", "ServerErrors": ["Cannot connect to the Docker daemon"]}"#, &[Level::Error])]
    #[case("not JSON", &[Level::Error])]
    fn engines(#[case] info: &str, #[case] levels: &[Level]) {
        let found: Vec<Level> = engine(info).into_iter().map(|finding| finding.level).collect();
        assert_eq!(found, levels);
    }

    #[test]
    fn codes_are_explained() {
        assert!(explain("doc006").unwrap().contains("too many open files"));
        assert_eq!(explain("DOC999"), None);
    }
}
