//! What an environment or a driver would do, for `plan --commands`: printed, never run from here. What runs is built from
//! the same [`Invocation`]s and manifests.

use std::fmt;

use serde_json::Value;

use crate::tool::Invocation;

/// One thing that would be done. Values that only a running cluster knows stand as `<address of west's node>`, secrets as
/// `<issuer key of west>`.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A heading for what follows, e.g. `clusters of pair`.
    Section(String),
    /// A command on this machine.
    Run(Invocation),
    /// A file that is written on this machine.
    Write {
        /// Its path.
        path: String,
        /// What is in it.
        content: String,
    },
    /// An object that is applied (server-side) to a cluster.
    Apply {
        /// Cluster of the topology.
        cluster: String,
        /// The object.
        manifest: Value,
    },
    /// A patch of an object.
    Patch {
        /// Cluster of the topology.
        cluster: String,
        /// The object, as `kubectl` names it, e.g. `-n linkerd-multicluster service/linkerd-gateway`.
        object: String,
        /// Subresource, when it is not the object itself.
        subresource: Option<&'static str>,
        /// The merge patch.
        patch: Value,
    },
    /// Objects that are deleted when they exist.
    Delete {
        /// Cluster of the topology.
        cluster: String,
        /// The objects, as `kubectl` names them.
        object: String,
    },
    /// Something that is neither, in words: what is awaited, what is read.
    Note(String),
    /// Nothing can be done, for this reason.
    Impossible(String),
}

impl fmt::Display for Action {
    /// A shell line, or a comment with the manifest below it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Section(title) => writeln!(f, "\n## {title}"),
            Self::Run(invocation) => writeln!(f, "{invocation}"),
            Self::Write { path, content } => writeln!(f, "cat > {path} <<'EOF'\n{}\nEOF", content.trim_end()),
            Self::Apply { cluster, manifest } => {
                let yaml = serde_yaml::to_string(manifest).map_err(|_| fmt::Error)?;
                writeln!(
                    f,
                    "kubectl --context {cluster} apply --server-side --field-manager meshproof -f - <<'EOF'\n{yaml}EOF"
                )
            }
            Self::Patch {
                cluster,
                object,
                subresource,
                patch,
            } => {
                let subresource = subresource
                    .map(|name| format!(" --subresource {name}"))
                    .unwrap_or_default();
                writeln!(
                    f,
                    "kubectl --context {cluster} patch {object}{subresource} --type merge -p '{patch}'"
                )
            }
            Self::Delete { cluster, object } => {
                writeln!(f, "kubectl --context {cluster} delete {object} --ignore-not-found")
            }
            Self::Note(words) => writeln!(f, "# {words}"),
            Self::Impossible(why) => writeln!(f, "# impossible: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Action;

    #[test]
    fn actions_print_as_shell() {
        let patch = Action::Patch {
            cluster: "west".to_owned(),
            object: "-n linkerd-multicluster service/linkerd-gateway".to_owned(),
            subresource: Some("status"),
            patch: json!({"status": {}}),
        };
        assert_eq!(
            patch.to_string(),
            "kubectl --context west patch -n linkerd-multicluster service/linkerd-gateway --subresource status --type merge -p '{\"status\":{}}'\n"
        );
        let apply = Action::Apply {
            cluster: "west".to_owned(),
            manifest: json!({"kind": "Namespace"}),
        };
        assert!(apply.to_string().ends_with("-f - <<'EOF'\nkind: Namespace\nEOF\n"));
    }
}
