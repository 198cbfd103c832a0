//! A finding, and what each code means.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it has to be.
    Ok,
    /// Something may not work, or could not be looked at.
    Warning,
    /// A run can't work.
    Error,
}

/// What was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// Stable code, see [`explain`].
    pub code: &'static str,
    /// What was found.
    pub found: String,
    /// What to do, unless it is as it has to be.
    pub fix: Option<String>,
}

impl Finding {
    /// As it has to be.
    #[must_use]
    pub fn ok(code: &'static str, found: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            code,
            found: found.into(),
            fix: None,
        }
    }

    /// Something to mind.
    #[must_use]
    pub fn warning(code: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            level: Level::Warning,
            code,
            found: found.into(),
            fix: Some(fix.into()),
        }
    }

    /// Something that keeps a run from working.
    #[must_use]
    pub fn error(code: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            level: Level::Error,
            ..Self::warning(code, found, fix)
        }
    }
}

/// All codes, and what is looked at under them.
const CODES: [(&str, &str); 22] = [
    ("DOC001", "Embedded clusters and port-forwards need loopback sockets."),
    (
        "DOC002",
        "Every connection of every embedded pod takes a file descriptor; the shipped suite needs 1024 of them.",
    ),
    ("DOC003", "Journals, kubeconfigs and certificates are written to files."),
    ("DOC004", "kubectl is only needed to look into clusters by hand."),
    (
        "DOC005",
        "kind makes nodes from containers, so a Docker engine has to answer.",
    ),
    (
        "DOC006",
        "Every node runs a kubelet and a container runtime that watch files. With three clusters and more the usual limits (128 instances, 8192 watches) run out, and pods die of `too many open files`.",
    ),
    (
        "DOC007",
        "A cluster with Linkerd and its multicluster extension takes about 2 GiB of memory.",
    ),
    (
        "DOC008",
        "A node image and the images of the mesh take about 5 GiB on the engine's disk for each cluster.",
    ),
    (
        "DOC009",
        "kind makes clusters; its version decides which node images fit.",
    ),
    (
        "DOC010",
        "The mesh is installed by the vendor's own CLI, or from its charts with helm. The digest tells which build it was.",
    ),
    (
        "DOC011",
        "On cgroup v1, which new versions of Kubernetes do not support any more, nodes may not start.",
    ),
    (
        "DOC012",
        "Clusters of contexts and kind are reached through the proxy of HTTPS_PROXY unless NO_PROXY excepts them, by the rules of Kubernetes' own clients: never localhost, 127.0.0.0/8 and ::1. A `proxy-url` of the kubeconfig outweighs both. Embedded clusters are never reached through a proxy.",
    ),
    (
        "DOC020",
        "The API server of each context has to answer, with its certificate, to the credentials given.",
    ),
    (
        "DOC021",
        "Routes are objects of the Gateway API, which Linkerd 2.19 and later do not install by themselves.",
    ),
    (
        "DOC022",
        "Certificates are refused when the clocks of clusters differ by more than the allowed skew, and durations across clusters mean nothing. Compared are the dates of the API servers' answers, as far as seconds and the way tell.",
    ),
    (
        "DOC023",
        "The credentials need the rights that `meshproof plan --rbac` prints for the same scenarios.",
    ),
    (
        "DOC024",
        "Addresses of pods and services should not overlap between clusters. On flat networks they must not; behind gateways overlaps only confuse people.",
    ),
    (
        "DOC025",
        "The API server of a cluster has to be reached from the pods of others, which is how links learn what is exported. Only a pod there can tell for certain.",
    ),
    (
        "DOC026",
        "What clusters are made from has to be readable, and the addresses of their pods and services must overlap neither each other's nor those of the docker network that the nodes are attached to.",
    ),
    (
        "DOC027",
        "Images that are loaded into nodes have to be in the Docker engine, and archives on this machine, before minutes are spent on making clusters.",
    ),
    (
        "DOC028",
        "What scenarios need (clusters, addresses, rights, images) is looked at for those that are selected, so their files have to be at hand.",
    ),
    (
        "DOC029",
        "A kind configuration may mount folders of this machine into nodes, open the API server to the network, or run images that are not kind's. The files of a topology are used as they are, so it is told.",
    ),
];

/// What is looked at under a code.
#[must_use]
pub fn explain(code: &str) -> Option<&'static str> {
    CODES
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(code))
        .map(|(_, explanation)| *explanation)
}
