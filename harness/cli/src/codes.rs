//! What the codes of skips and errors mean. They stand in terminals, journals and reports; the message beside them tells the
//! instance, and these the kind.

/// All codes, in the order of the alphabet.
const CODES: &[(&str, &str)] = &[
    (
        "agent-binary-dynamic",
        "The agent's image holds nothing but the agent, so its binary has to be static: built for a musl target, or for a gnu one with RUSTFLAGS=\"-C target-feature=+crt-static\".",
    ),
    (
        "agent-binary-foreign",
        "The agent's binary is for another processor architecture than that of the Docker engine.",
    ),
    (
        "agent-binary-unreadable",
        "The file given with --agent-binary is no Linux program that can be read.",
    ),
    (
        "agent-image-context",
        "No folder for building the agent's image could be made.",
    ),
    (
        "agent-image-missing",
        "The image of the traffic agent is not where clusters get it from: on kind the local Docker engine, on contexts a registry that is named with --agent-image.",
    ),
    (
        "agent-unreachable",
        "The traffic agent in a pod did not answer, so that nothing can be said about the mesh.",
    ),
    (
        "another-cluster",
        "A context leads to another cluster than the one that was changed, so nothing is undone there.",
    ),
    ("api-address", "The address of an API server is not known."),
    ("api-already-exists", "An object exists that a step was to create."),
    (
        "api-forbidden",
        "The credentials lack a right; `plan --rbac` prints all that a plan needs.",
    ),
    (
        "api-invalid",
        "The API server refuses an object because of what is in it.",
    ),
    (
        "api-not-back",
        "An API server that was paused did not come back in time.",
    ),
    ("api-not-found", "An object, or its kind, is not there."),
    ("api-refused", "The API server refuses a request for good."),
    (
        "api-unreachable",
        "An API server did not answer, or answered that it can't, for as long as it was asked.",
    ),
    (
        "api-watch-failed",
        "A watch on objects ended and could not be taken up again.",
    ),
    ("benchmark", "A benchmark of the harness itself failed."),
    (
        "capability-missing",
        "The environment or the mesh can't do what the scenario needs; the reason names what.",
    ),
    ("check-incomplete", "A check does not say what it is about."),
    (
        "checks-unavailable",
        "The mesh's own checks can't be asked for in this way of installing it.",
    ),
    ("checksum-malformed", "A SHA-256 is 64 hexadecimal digits."),
    (
        "checksum-mismatch",
        "A downloaded file is not the one whose sum was given, and was not used.",
    ),
    ("cidr-malformed", "A range of addresses in a topology can't be read."),
    (
        "cidr-overlap",
        "Ranges of addresses overlap, so that an address would not tell where it leads.",
    ),
    ("cluster-down", "The clusters were taken down already."),
    (
        "cluster-exists",
        "kind has a cluster of this name that the state folder knows nothing of.",
    ),
    (
        "cluster-missing",
        "The scenario's topology has a cluster for which no context is given.",
    ),
    ("cluster-not-started", "An embedded cluster could not be started."),
    ("cluster-unknown", "A step names a cluster that is not up."),
    (
        "clusters-left",
        "Not everything of these clusters could be removed; `gc` tries again.",
    ),
    (
        "consent-missing",
        "The scenario disturbs what others may rely on; --disruptive consents.",
    ),
    (
        "context-certificate",
        "The kubeconfig does not trust the certificate of the API server.",
    ),
    (
        "context-forbidden",
        "The credentials of a context lack rights that every scenario needs.",
    ),
    (
        "context-malformed",
        "A context is given as CLUSTER=CONTEXT[@KUBECONFIG].",
    ),
    ("context-missing", "No context is given for a cluster of the topology."),
    (
        "context-unauthorized",
        "The credentials of a context are unknown to the cluster, have expired, or can't be had.",
    ),
    (
        "context-unknown",
        "A change in a cluster can't be undone, because it is not known how that cluster is reached.",
    ),
    ("context-unreachable", "The API server of a context does not answer."),
    (
        "context-unusable",
        "A kubeconfig, or a context in it, can't be used as it stands.",
    ),
    (
        "credentials-malformed",
        "The credentials that a cluster gives out for a link are not what they should be.",
    ),
    (
        "deploy-incomplete",
        "A `deploy` says neither what it deploys nor where.",
    ),
    ("download-failed", "A tool could not be downloaded."),
    ("environment-deadline", "The clusters did not come up in time."),
    ("environment-in-use", "Another process uses these clusters."),
    ("fault-incomplete", "A `fault` does not say what is to go wrong."),
    ("fault-lost", "A fault ended by itself before it was healed."),
    ("fault-not-healed", "A fault could not be shown to be over."),
    ("fault-not-imposed", "A fault could not be imposed."),
    (
        "fault-without-effect",
        "A fault could not be shown to have taken effect, so nothing is judged by it.",
    ),
    ("file-not-written", "A file could not be written."),
    (
        "gateway-api-missing",
        "The cluster lacks the Gateway API's definitions, which routes need.",
    ),
    (
        "gateway-api-unreadable",
        "The file of the Gateway API's definitions can't be read.",
    ),
    (
        "gateway-without-address",
        "The gateway's Service got no address in time.",
    ),
    (
        "harness-panicked",
        "The harness has a fault of its own; the other scenarios went on. Please report it.",
    ),
    ("interrupted", "The run was interrupted."),
    ("issuer-refused", "The control plane did not take the new issuer."),
    ("journal-create", "The journal could not be created."),
    (
        "journal-write",
        "The journal could not be written, so the run ended: what is not recorded counts for nothing.",
    ),
    (
        "kind-config",
        "A configuration for kind can't be used: it is no such file, or disagrees with the topology.",
    ),
    ("kind-unknown", "A cluster does not serve a kind of objects."),
    (
        "kubeconfig-malformed",
        "A kubeconfig that a link carries can't be read.",
    ),
    (
        "kubeconfig-unusable",
        "The kubeconfig of a cluster of our own can't be used.",
    ),
    ("ledger-write", "A ledger of requests could not be written."),
    ("link-malformed", "An object that describes a link lacks something."),
    ("link-missing", "The mesh has no such link."),
    ("link-refused", "The mesh refused to link two clusters."),
    (
        "manifest-incomplete",
        "An object needs `apiVersion`, `kind` and `metadata.name`.",
    ),
    ("manifest-unreadable", "A file of objects can't be read, or holds none."),
    (
        "mesh-missing",
        "The mesh is not there, and --mesh-from preinstalled takes it as it is found.",
    ),
    ("mesh-not-installed", "The mesh could not be installed."),
    (
        "mesh-preinstalled",
        "A mesh that somebody else installed is never changed.",
    ),
    ("metrics-unreadable", "The metrics of a proxy can't be read."),
    (
        "model-at-full-pace",
        "The clusters are embedded ones, which certify nothing; --pace says so.",
    ),
    (
        "namespace-exists",
        "A namespace of this name is there already, and is not this run's.",
    ),
    ("namespace-stuck", "A namespace is not gone long after its deletion."),
    (
        "no-new-root",
        "A root of trust is used or dropped that no earlier step added.",
    ),
    ("no-pod-range", "A node has no range of pod addresses."),
    ("no-ready-pod", "A workload has no ready pod."),
    (
        "no-state-folder",
        "There is no folder for state; --state or MESHPROOF_STATE names one.",
    ),
    ("node-not-running", "A node of kind is not running."),
    ("nodes-not-ready", "Nodes did not become ready in time."),
    (
        "not-in-version",
        "The requirement does not hold for this version of the mesh.",
    ),
    (
        "not-made-here",
        "An object does not carry this run's labels any more, so it was left.",
    ),
    (
        "not-modelled",
        "The scenario rests on something that the embedded clusters or mesh do not model.",
    ),
    ("not-ready", "Workloads did not become ready in time."),
    (
        "not-restored",
        "What a scenario changed outside of its namespace could not be restored.",
    ),
    ("nothing-to-compare", "A check compares with one that saw nothing."),
    ("other-mesh", "The scenario is for another mesh."),
    ("path-malformed", "A path into objects can't be read."),
    (
        "port-forward",
        "A connection to a pod through its API server could not be opened.",
    ),
    (
        "preflight",
        "What the plan needs is not there; the findings say what, before anything was made.",
    ),
    ("registry-cache-dead", "The cache of a registry ended."),
    ("registry-cache-silent", "The cache of a registry does not answer."),
    ("registry-malformed", "A registry is given by its host, e.g. docker.io."),
    ("relay-left", "A relay container could not be removed."),
    (
        "relay-missing",
        "A fault needs a relay, and there is none (--no-relay).",
    ),
    ("relay-network-missing", "A relay has no address in the docker network."),
    ("relay-not-started", "A relay container could not be started."),
    ("relay-unknown", "There is no relay between these clusters."),
    ("relay-unreachable", "A relay does not answer."),
    ("relay-without-node", "A relay has no node to lead to."),
    ("request-lost", "A request of the harness ended without an answer."),
    ("request-malformed", "A request of the harness can't be made."),
    (
        "route-no-client",
        "A route is seen to be live by its clients, and there is none.",
    ),
    (
        "route-not-live",
        "The clients did not see the new configuration of a route in time.",
    ),
    ("run-folder", "The run's folder can't be made."),
    ("same-cluster-twice", "Two names stand for one and the same cluster."),
    ("secret-malformed", "A Secret of the mesh lacks something."),
    (
        "state-folder",
        "The folder for state can't be used, or holds what is not meshproof's.",
    ),
    ("step-deadline", "A step was not done in time."),
    ("task-failed", "A task of the harness ended unexpectedly."),
    (
        "token-not-refused",
        "A token that was revoked is still taken by the API server.",
    ),
    (
        "too-many-clusters",
        "Embedded environments have room for so many clusters and no more.",
    ),
    ("too-many-delays", "So many delays at once can't be imposed on a node."),
    ("tool-deadline", "A command did not end in time."),
    ("tool-failed", "A command failed; the message has what it said."),
    ("tool-missing", "A tool is not installed, or not on the PATH."),
    (
        "tool-output",
        "A tool printed something else than it does in the versions that are known.",
    ),
    ("tool-version", "A tool has another version than the one asked for."),
    ("topology-invalid", "A topology can't be made."),
    ("trust-not-made", "Certificates could not be made."),
    ("trust-roots-missing", "The clusters' roots of trust are not known."),
    (
        "undo",
        "A change outside of the scenario's namespace could not be undone.",
    ),
    (
        "undo-private",
        "An object is not changed, because what undoes the change may hold secrets and can't be kept in private.",
    ),
    ("undo-unreadable", "What was noted for undoing a change can't be read."),
    ("uninstall-refused", "The mesh refused to be removed."),
    ("unknown-call", "A step names a call that was not made."),
    (
        "unknown-check",
        "A check is not in the journal, which is a defect of meshproof.",
    ),
    ("unknown-client", "A step names a client that was not deployed."),
    (
        "unknown-cluster",
        "A step names a cluster that the topology does not have.",
    ),
    ("unknown-environment", "A scenario's clusters are not in the plan."),
    ("unknown-fault", "A `heal` names a fault that is not there."),
    ("unknown-inventory", "A check names an inventory that was not taken."),
    ("unknown-kind", "A cluster does not serve a kind of objects."),
    ("unknown-reference", "A `${…}` stands for nothing that is known."),
    ("unknown-route", "An `unroute` names a route that is not there."),
    ("unknown-scenario", "A scenario is not in the plan."),
    ("unknown-traffic", "A step names traffic that was not started."),
    ("unknown-workload", "A step names a workload that was not deployed."),
    ("unsupported", "The mesh's driver can't do this."),
    ("unsupported-check", "This check can't be made in this environment."),
    ("unsupported-export", "This way of exporting is not supported."),
    ("unsupported-route", "This kind of route is not supported."),
    ("unsupported-step", "This step is not supported."),
    (
        "upgrade-impossible",
        "There is no way to upgrade from the one version to the other.",
    ),
    (
        "upgrade-without-effect",
        "After the upgrade the mesh has the version that it had before.",
    ),
    (
        "version-malformed",
        "A version is given as the vendor writes it, e.g. edge-25.10.7.",
    ),
    (
        "webhook-idle",
        "The mesh's webhook did not come to act in time after the control plane was ready.",
    ),
];

/// All codes.
pub fn all() -> impl Iterator<Item = &'static str> {
    CODES.iter().map(|(code, _)| *code)
}

/// A code as it is printed, and what it means.
#[must_use]
pub fn explain(code: &str) -> Option<(&'static str, &'static str)> {
    CODES
        .iter()
        .copied()
        .find(|(known, _)| known.eq_ignore_ascii_case(code))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::{CODES, explain};

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() && name != "tests" {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests.rs" {
                found.push(path);
            }
        }
    }

    /// Codes in a source: the first argument of what makes a problem, the first of a pair of words, and fields `code`.
    fn codes(source: &str) -> BTreeSet<String> {
        let shipped = source.split("#[cfg(test)]").next().unwrap_or_default();
        let mut found = BTreeSet::new();
        for before in [
            "problem::environment(",
            "problem::harness(",
            "problem::mesh(",
            "ProblemClass::Environment,",
            "ProblemClass::Harness,",
            "ProblemClass::Mesh,",
            "code:",
            "=> (",
        ] {
            for rest in shipped.split(before).skip(1) {
                let Some(word) = rest
                    .trim_start()
                    .strip_prefix('"')
                    .and_then(|rest| rest.split('"').next())
                else {
                    continue;
                };
                if word.contains('-') && word.chars().all(|c| c.is_ascii_lowercase() || c == '-') {
                    found.insert(word.to_owned());
                }
            }
        }
        found
    }

    #[test]
    fn every_code_that_is_printed_is_explained() {
        let mut files = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), &mut files);
        let used: BTreeSet<String> = files
            .iter()
            // Their words are those of tools that they stand for.
            .filter(|file| {
                !file.components().any(|part| {
                    ["standins", "apiserver", "kinds"]
                        .iter()
                        .any(|room| part.as_os_str() == *room)
                })
            })
            .flat_map(|file| codes(&std::fs::read_to_string(file).unwrap()))
            .collect();
        assert!(used.len() > 100, "{used:?}");
        let unexplained: Vec<&String> = used.iter().filter(|code| explain(code).is_none()).collect();
        assert!(unexplained.is_empty(), "add to the table of codes: {unexplained:?}");
    }

    #[test]
    fn codes_are_found_where_they_are_made() {
        let source = "problem::environment(\n  \"a-code\", x); ErrorClass::Gone => (\"api-gone\", y), code: \"z-z\".to_owned()\n#[cfg(test)] problem::mesh(\"not-this\")";
        assert_eq!(
            codes(source).into_iter().collect::<Vec<_>>(),
            ["a-code", "api-gone", "z-z"]
        );
    }

    #[test]
    fn the_table_is_sorted_and_says_something() {
        assert!(CODES.is_sorted_by(|(one, _), (other, _)| one < other));
        assert!(CODES.iter().all(|(_, text)| text.ends_with('.') && text.len() > 20));
    }
}
