//! Which clusters, and how they are reached.

use std::collections::BTreeMap;
use std::path::PathBuf;

use meshproof_engine::problem::{self, Problem};

/// Which clusters, and what may be done with them.
#[derive(Clone, Debug, PartialEq)]
pub struct ContextsOptions {
    /// How each cluster of the topology is reached.
    pub contexts: BTreeMap<String, ContextRef>,
    /// URL of a cluster's API server as pods of the other clusters reach it; the kubeconfig's for all others.
    pub apis: BTreeMap<String, String>,
    /// Address of a node of a cluster as pods of the other clusters reach it; otherwise that of the cluster's first node.
    pub node_addresses: BTreeMap<String, String>,
    /// Scenario seconds per wall second: 1, unless the clusters are embedded ones that another process serves.
    pub pace: f64,
    /// Whether the user says that they are embedded ones: then a run certifies nothing, at whatever pace.
    pub model: bool,
    /// Image of the agent that they pull; embedded ones have it.
    pub agent_image: Option<String>,
    /// Whether the user consents to disturbing what others rely on.
    pub disruptive: bool,
    /// Whether the mesh is there already, and stays.
    pub preinstalled: bool,
}

/// A context of a kubeconfig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextRef {
    /// Its name.
    pub context: String,
    /// The file; otherwise the usual ones (`KUBECONFIG`, `~/.kube/config`).
    pub kubeconfig: Option<PathBuf>,
}

impl ContextsOptions {
    /// Reads `cluster=context[@kubeconfig]`, `cluster=url` and `cluster=address`. Pace 1, no consent, a mesh that is there.
    ///
    /// # Errors
    /// Code `context-malformed` with what is wrong with which of them.
    pub fn parse(contexts: &[String], apis: &[String], node_addresses: &[String]) -> Result<Self, Problem> {
        let contexts = pairs(contexts, "CLUSTER=CONTEXT[@KUBECONFIG]")?;
        if contexts.is_empty() {
            return Err(malformed(
                "no cluster is named; name each of the topology with --context CLUSTER=CONTEXT[@KUBECONFIG]".to_owned(),
            ));
        }
        let contexts: BTreeMap<String, ContextRef> = contexts
            .into_iter()
            .map(|(cluster, text)| (cluster, context(&text)))
            .collect();
        let known =
            |given: BTreeMap<String, String>| match given.keys().find(|cluster| !contexts.contains_key(*cluster)) {
                Some(cluster) => Err(malformed(format!("`{cluster}` has no --context"))),
                None => Ok(given),
            };
        Ok(Self {
            apis: known(pairs(apis, "CLUSTER=URL")?)?,
            node_addresses: known(pairs(node_addresses, "CLUSTER=ADDRESS")?)?,
            contexts,
            pace: 1.0,
            model: false,
            agent_image: None,
            disruptive: false,
            preinstalled: true,
        })
    }
}

/// `context@kubeconfig`. Names of contexts may have an `@` (`kubernetes-admin@west`), so it counts only before a path.
fn context(text: &str) -> ContextRef {
    match text
        .split_once('@')
        .filter(|_| text.contains('/') || text.ends_with(".yaml"))
    {
        Some(_) => {
            let (name, path) = split_path(text);
            ContextRef {
                context: name.to_owned(),
                kubeconfig: Some(PathBuf::from(path)),
            }
        }
        None => ContextRef {
            context: text.to_owned(),
            kubeconfig: None,
        },
    }
}

/// At the last `@` before the first `/` behind an `@`.
fn split_path(text: &str) -> (&str, &str) {
    let slash = text
        .char_indices()
        .find(|(at, c)| *c == '/' && text[..*at].contains('@'))
        .map_or(text.len(), |(at, _)| at);
    let at = text[..slash].rfind('@').unwrap_or(0);
    (&text[..at], &text[at + 1..])
}

fn pairs(given: &[String], form: &str) -> Result<BTreeMap<String, String>, Problem> {
    let mut found = BTreeMap::new();
    for text in given {
        let pair = text
            .split_once('=')
            .filter(|(name, value)| !name.is_empty() && !value.is_empty());
        let (name, value) = pair.ok_or_else(|| malformed(format!("`{text}` is not of the form {form}")))?;
        if found.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(malformed(format!("`{name}` is given twice")));
        }
    }
    Ok(found)
}

fn malformed(message: String) -> Problem {
    problem::environment("context-malformed", message, None)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::ContextsOptions;

    #[rstest]
    #[case("west=eks-west", "eks-west", None)]
    #[case("west=kubernetes-admin@west", "kubernetes-admin@west", None)]
    #[case("west=up@/tmp/kubeconfig", "up", Some("/tmp/kubeconfig"))]
    #[case("west=admin@west@/tmp/a@b/config", "admin@west", Some("/tmp/a@b/config"))]
    #[case("west=arn:aws:eks:eu-1:1:cluster/west", "arn:aws:eks:eu-1:1:cluster/west", None)]
    #[case(
        "west=arn:aws:eks:eu-1:1:cluster/west@~/.kube/eks",
        "arn:aws:eks:eu-1:1:cluster/west",
        Some("~/.kube/eks")
    )]
    #[case("west=up@west.yaml", "up", Some("west.yaml"))]
    fn contexts_are_read(#[case] text: &str, #[case] context: &str, #[case] kubeconfig: Option<&str>) {
        let options = ContextsOptions::parse(&[text.to_owned()], &[], &[]).unwrap();
        let west = &options.contexts["west"];
        assert_eq!(west.context, context);
        assert_eq!(west.kubeconfig.as_deref(), kubeconfig.map(std::path::Path::new));
    }

    #[rstest]
    #[case(&[], &[], "no cluster is named")]
    #[case(&["west"], &[], "`west` is not of the form")]
    #[case(&["west="], &[], "`west=` is not of the form")]
    #[case(&["west=a", "west=b"], &[], "`west` is given twice")]
    #[case(&["west=a"], &["east=https://e"], "`east` has no --context")]
    fn mistakes_are_told(#[case] contexts: &[&str], #[case] apis: &[&str], #[case] message: &str) {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let problem = ContextsOptions::parse(&owned(contexts), &owned(apis), &[]).unwrap_err();
        assert!(problem.message.contains(message), "{}", problem.message);
    }
}
