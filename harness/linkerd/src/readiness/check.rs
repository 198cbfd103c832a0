//! `linkerd check -o json` and `linkerd multicluster check -o json`.

use std::fmt;

use serde::Deserialize;

/// What a check is about, whatever its text in this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Meaning {
    /// Links can be defined at all.
    LinksDefined,
    /// Links are well formed.
    LinksValid,
    /// Links were written by a CLI of this version.
    LinksOfThisVersion,
    /// The linked clusters' APIs accept the credentials. It reads the Secrets, not what controllers hold: it stays green
    /// while a controller works with revoked ones.
    CredentialsWork,
    /// All clusters have the same trust anchors. It compares the configurations, not the anchors in force.
    TrustShared,
    /// Controllers may do what they must.
    ControllersPermitted,
    /// Each link has exactly one running controller.
    ControllersUp,
    /// The extension's chart manages the controllers.
    ControllersManaged,
    /// Gateways answer the controllers' probes.
    GatewaysAlive,
    /// Mirrors have endpoints. It also fails when an exported Service has no pods, and is green while all are unready.
    MirrorsHaveEndpoints,
    /// No mirror is left over from a link that is gone.
    NoOrphans,
    /// The extension's proxies are ready.
    ProxiesHealthy,
    /// The extension's proxies have the latest version. Needs the internet.
    ProxiesUpToDate,
    /// The extension's proxies have the CLI's version.
    ProxiesOfThisVersion,
}

/// Hint anchor, printed text (its first line) and meaning. The hint is printed only with trouble, so a success is told by
/// its text.
const MEANINGS: [(&str, &str, Meaning); 14] = [
    (
        "l5d-multicluster-link-crd-exists",
        "Link CRD exists",
        Meaning::LinksDefined,
    ),
    (
        "l5d-multicluster-links-are-valid",
        "Link resources are valid",
        Meaning::LinksValid,
    ),
    (
        "l5d-multicluster-links-version",
        "Link and CLI versions match",
        Meaning::LinksOfThisVersion,
    ),
    (
        "l5d-smc-target-clusters-access",
        "remote cluster access credentials are valid",
        Meaning::CredentialsWork,
    ),
    (
        "l5d-multicluster-clusters-share-anchors",
        "clusters share trust anchors",
        Meaning::TrustShared,
    ),
    (
        "l5d-multicluster-source-rbac-correct",
        "service mirror controller has required permissions",
        Meaning::ControllersPermitted,
    ),
    (
        "l5d-multicluster-service-mirror-running",
        "service mirror controllers are running",
        Meaning::ControllersUp,
    ),
    (
        "l5d-multicluster-managed-controllers",
        "extension is managing controllers",
        Meaning::ControllersManaged,
    ),
    (
        "l5d-multicluster-gateways-endpoints",
        "probe services able to communicate with all gateway mirrors",
        Meaning::GatewaysAlive,
    ),
    (
        "l5d-multicluster-services-endpoints",
        "all mirror services have endpoints",
        Meaning::MirrorsHaveEndpoints,
    ),
    (
        "l5d-multicluster-orphaned-services",
        "all mirror services are part of a Link",
        Meaning::NoOrphans,
    ),
    (
        "l5d-multicluster-proxy-healthy",
        "multicluster extension proxies are healthy",
        Meaning::ProxiesHealthy,
    ),
    (
        "l5d-multicluster-proxy-cp-version",
        "multicluster extension proxies are up-to-date",
        Meaning::ProxiesUpToDate,
    ),
    (
        "l5d-multicluster-proxy-cli-version",
        "multicluster extension proxies and cli versions match",
        Meaning::ProxiesOfThisVersion,
    ),
];

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Success,
    /// Something to look at; the check as a whole passes.
    Warning,
    /// Broken.
    Error,
}

/// A check's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckResult {
    /// Group, e.g. `linkerd-multicluster`.
    pub category: String,
    /// First line of its text.
    pub description: String,
    /// Clusters, pods or certificates that it names in further lines.
    pub subjects: Vec<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// What is wrong, with the spaces that indent it taken away.
    pub error: Option<String>,
    /// Anchor of the page that explains it, e.g. `l5d-multicluster-gateways-endpoints`.
    pub anchor: Option<String>,
    /// What it is about, for checks of the multicluster extension.
    pub meaning: Option<Meaning>,
}

impl fmt::Display for CheckResult {
    /// On one line: how it ended, what was looked at, and what is wrong.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = format!("{:?}", self.outcome).to_lowercase();
        write!(f, "{outcome:<8} {}: {}", self.category, self.description)?;
        if !self.subjects.is_empty() {
            write!(f, " ({})", self.subjects.join(", "))?;
        }
        match &self.error {
            Some(error) => write!(f, ": {}", error.replace('\n', "; ")),
            None => Ok(()),
        }
    }
}

#[derive(Deserialize)]
struct Page {
    // Go prints `null` for no categories at all.
    categories: Option<Vec<Category>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Category {
    category_name: String,
    checks: Option<Vec<Check>>,
}

#[derive(Deserialize)]
struct Check {
    description: String,
    hint: Option<String>,
    error: Option<String>,
    result: Outcome,
}

/// Reads what a check command printed: one document, or one for the control plane and one for the extensions.
///
/// # Errors
/// What is not as expected, with its place.
pub fn parse(stdout: &str) -> Result<Vec<CheckResult>, String> {
    let mut results = Vec::new();
    let mut pages = 0;
    for page in serde_json::Deserializer::from_str(stdout).into_iter::<Page>() {
        let page = page.map_err(|error| format!("check results in JSON were expected: {error}"))?;
        pages += 1;
        for category in page.categories.into_iter().flatten() {
            for check in category.checks.into_iter().flatten() {
                results.push(result(&category.category_name, check));
            }
        }
    }
    if pages == 0 {
        return Err("check results in JSON were expected, and nothing was printed".to_owned());
    }
    Ok(results)
}

fn result(category: &str, check: Check) -> CheckResult {
    let mut lines = check.description.lines();
    let description = lines.next().unwrap_or_default().trim().to_owned();
    let subjects = lines
        .map(|line| line.trim().trim_start_matches("* ").to_owned())
        .filter(|line| !line.is_empty())
        .collect();
    let anchor = check
        .hint
        .as_deref()
        .and_then(|hint| hint.rsplit_once('#'))
        .map(|(_, anchor)| anchor.to_owned());
    let meaning = MEANINGS
        .iter()
        .find(|row| anchor.as_deref() == Some(row.0) || (anchor.is_none() && description == row.1))
        .map(|row| row.2);
    CheckResult {
        category: category.to_owned(),
        description,
        subjects,
        outcome: check.result,
        error: check.error.map(|error| {
            let lines: Vec<&str> = error.lines().map(str::trim).collect();
            lines.join("\n")
        }),
        anchor,
        meaning,
    }
}

#[cfg(test)]
mod tests {
    use super::{Meaning, Outcome, parse};
    use proptest::prelude::*;

    const PAGE: &str = r#"{"success": false, "categories": [{"categoryName": "linkerd-multicluster", "checks": [
        {"description": "clusters share trust anchors\n\t* east", "result": "success"},
        {"description": "reworded", "hint": "https://linkerd.io/2/checks/#l5d-multicluster-gateways-endpoints",
         "error": "    liveness checks failed for east", "result": "error"},
        {"description": "something new", "result": "warning"}]}]}"#;

    #[test]
    fn a_check_is_known_by_its_hint_or_its_text() {
        let results = parse(PAGE).unwrap();
        assert_eq!(results[0].meaning, Some(Meaning::TrustShared));
        assert_eq!(results[0].subjects, ["east"]);
        assert_eq!(results[1].meaning, Some(Meaning::GatewaysAlive));
        assert_eq!(results[1].error.as_deref(), Some("liveness checks failed for east"));
        assert_eq!((results[2].meaning, results[2].outcome), (None, Outcome::Warning));
    }

    #[test]
    fn two_documents_are_read_as_one_and_none_is_an_error() {
        let twice = format!("{PAGE}\n{PAGE}\n");
        assert_eq!(parse(&twice).unwrap().len(), 6);
        assert_eq!(parse(r#"{"success": true, "categories": null}"#).unwrap(), []);
        assert!(parse("").is_err());
        assert!(parse(&format!("warning\n{PAGE}")).is_err());
    }

    proptest! {
        #[test]
        fn no_change_makes_it_panic(at in 0..PAGE.len(), with in "[\\x00-\\x7f]{0,4}", cut in 0..8_usize) {
            let end = (at + cut).min(PAGE.len());
            let changed = format!("{}{with}{}", &PAGE[..at], &PAGE[end..]);
            let _ = parse(&changed);
        }
    }
}
