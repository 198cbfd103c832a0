//! What nodes of kind logged, as evidence: `kind export logs` into a private folder, of which the ends of some files are
//! kept. The rest (logs of all pods, `docker inspect` with the node's environment) is left out: pods' logs are asked of the
//! API, and a node's environment may hold a proxy's password.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use meshproof_engine::problem::Problem;
use meshproof_engine::tool::Tools;

use super::blueprint::{Blueprint, ClusterBlueprint};
use super::commands::Commands;

/// Wall time for it: all evidence has to be there within 10 s, and this is collected beside the rest.
pub(super) const TIME: Duration = Duration::from_secs(8);
/// Most bytes that are kept of a file, from its end.
const KEPT: u64 = 256 * 1024;
/// Files of each node that are kept, as kind names them.
const FILES: [&str; 6] = [
    "journal.log",
    "kubelet.log",
    "containerd.log",
    "images.log",
    "serial.log",
    "kubernetes-version.txt",
];
/// Folder of a node with a link for each container that ever logged there.
const CONTAINERS: &str = "containers";

/// Files by name, `kind/<cluster>/<node>/<file>`; what could not be had is told in `kind/<cluster>/missing.txt`.
pub(super) async fn collect(tools: &Tools, commands: &Commands, blueprint: &Blueprint) -> Vec<(String, String)> {
    let collecting = blueprint
        .clusters
        .iter()
        .map(|cluster| of_cluster(tools, commands, cluster));
    join_all(collecting).await.into_iter().flatten().collect()
}

/// The commands that were run until now, how long each took and how it ended.
pub(super) fn commands(tools: &Tools) -> (String, String) {
    let ran = tools.ran();
    let lines = ran
        .iter()
        .map(|ran| format!("{:>7.1} s  {:<12}  {}\n", ran.took.as_secs_f64(), ran.end, ran.line));
    ("commands.txt".to_owned(), lines.collect())
}

async fn of_cluster(tools: &Tools, commands: &Commands, cluster: &ClusterBlueprint) -> Vec<(String, String)> {
    let mut missing = Vec::new();
    let mut files = match exported(tools, commands, cluster).await {
        Ok((files, complaint)) => {
            missing.extend(complaint);
            files
        }
        Err(error) => {
            missing.push(error.to_string());
            Vec::new()
        }
    };
    if files.is_empty() && missing.is_empty() {
        missing.push("`kind export logs` wrote none of the files that are kept".to_owned());
    }
    if !missing.is_empty() {
        files.push(("missing.txt".to_owned(), missing.join("\n") + "\n"));
    }
    let place = |name: String| format!("kind/{}/{name}", cluster.name);
    files.into_iter().map(|(name, text)| (place(name), text)).collect()
}

/// What was exported, and what kind complained of: it goes on when a single file is not to be had.
async fn exported(
    tools: &Tools,
    commands: &Commands,
    cluster: &ClusterBlueprint,
) -> io::Result<(Vec<(String, String)>, Option<String>)> {
    // Private to the user, and removed with everything in it when this is dropped.
    let folder = tempfile::tempdir()?;
    let exported = tools
        .run(&commands.export_logs(&cluster.kind_name, folder.path()))
        .await;
    let nodes = cluster.nodes.clone();
    let files = tokio::task::spawn_blocking(move || kept(folder.path(), &nodes)).await?;
    Ok((files, exported.err().map(|problem: Problem| problem.message)))
}

fn kept(folder: &Path, nodes: &[String]) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for node in nodes {
        let of_node = folder.join(node);
        for name in FILES {
            // What is not there was complained of by kind.
            if let Ok(text) = end(&of_node.join(name)) {
                files.push((format!("{node}/{name}"), text));
            }
        }
        let containers = containers(&of_node.join(CONTAINERS));
        if !containers.is_empty() {
            files.push((format!("{node}/{CONTAINERS}.txt"), containers));
        }
    }
    files
}

/// The end of a file, and how much was left out before it.
fn end(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let left_out = file.metadata()?.len().saturating_sub(KEPT);
    file.seek(SeekFrom::Start(left_out))?;
    let mut bytes = Vec::new();
    file.take(KEPT).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(if left_out == 0 {
        text.into_owned()
    } else {
        format!("… cut, {left_out} bytes before\n{text}")
    })
}

/// Containers of a node that logged, one a line, `<pod>_<namespace>_<container>-<id>`.
fn containers(folder: &Path) -> String {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return String::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names.iter().fold(String::new(), |mut text, name| {
        let _ = writeln!(text, "{}", name.trim_end_matches(".log"));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::{KEPT, end, kept};

    #[test]
    fn long_files_lose_their_start_and_others_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let node = folder.path().join("west-control-plane");
        std::fs::create_dir_all(node.join("containers")).unwrap();
        let long = "ä".repeat(usize::try_from(KEPT).unwrap());
        std::fs::write(node.join("journal.log"), &long).unwrap();
        std::fs::write(node.join("inspect.json"), "{}").unwrap();
        std::fs::write(node.join("containers/web-1_shop_web-0a.log"), "").unwrap();
        let files = kept(
            folder.path(),
            &["west-control-plane".to_owned(), "west-worker".to_owned()],
        );
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["west-control-plane/journal.log", "west-control-plane/containers.txt"]
        );
        assert!(files[0].1.starts_with(&format!("… cut, {KEPT} bytes before\nä")));
        assert!(files[0].1.len() as u64 <= KEPT + 64);
        assert_eq!(files[1].1, "web-1_shop_web-0a\n");
        assert!(end(&node.join("nothing")).is_err());
    }
}
