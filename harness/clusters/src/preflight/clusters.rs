//! Clusters that are reached already. Asking changes nothing in them.

use std::time::{Duration, SystemTime};

use futures::future::join_all;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use meshproof_engine::environment::Cluster;

use super::clock::{Offset, apart_ms, offset};
use super::finding::Finding;
use super::plan::{Needs, of_plan};
use crate::contexts::{Contexts, ContextsOptions};

/// Definition without which routes can't be made.
const ROUTES: &str = "httproutes.gateway.networking.k8s.io";
/// Clocks that differ by more are worth a look: durations across clusters are wrong by as much.
const NOTABLE_SKEW_MS: u64 = 2_000;
/// Clocks that differ by more make certificates of the one invalid for the other: meshes allow about 20 s.
const FATAL_SKEW_MS: u64 = 15_000;
/// Time for an answer.
const ANSWER_TIME: Duration = Duration::from_secs(15);

/// Looks at clusters by context, and whether a plan can run in them when its needs are given. A context that can't be used is
/// a finding, too.
pub async fn contexts(options: &ContextsOptions, needs: Option<&Needs>) -> Vec<Finding> {
    let environment = Contexts::new(options.clone());
    let reached = join_all(options.contexts.keys().map(|name| environment.reach(name))).await;
    let mut clusters = Vec::new();
    let mut findings = Vec::new();
    for reached in reached {
        match reached {
            Ok(cluster) => clusters.push(cluster),
            Err(problem) => findings.push(Finding::error(
                "DOC020",
                problem.message,
                problem.remedy.unwrap_or_default(),
            )),
        }
    }
    findings.extend(look_at(&clusters).await);
    if let Some(needs) = needs {
        findings.extend(of_plan(&clusters, needs).await);
    }
    findings
}

/// Looks at clusters: their API servers, the Gateway API, their clocks.
pub async fn look_at(clusters: &[Cluster]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = join_all(clusters.iter().map(one)).await.into_iter().flatten().collect();
    findings.push(clocks(clusters).await);
    findings
}

async fn one(cluster: &Cluster) -> Vec<Finding> {
    let name = &cluster.name;
    let version = tokio::time::timeout(ANSWER_TIME, cluster.client.apiserver_version()).await;
    let version = match version {
        Ok(Ok(version)) => Finding::ok("DOC020", format!("{name}: Kubernetes {}", version.git_version)),
        Ok(Err(error)) => {
            return vec![Finding::error(
                "DOC020",
                format!("{name}: {error}"),
                "check the context with kubectl",
            )];
        }
        Err(_) => {
            return vec![Finding::error(
                "DOC020",
                format!("{name}: no answer within {} s", ANSWER_TIME.as_secs()),
                "check the server's address and the network",
            )];
        }
    };
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let routes = match tokio::time::timeout(ANSWER_TIME, definitions.get_opt(ROUTES)).await {
        Ok(Ok(Some(_))) => Finding::ok("DOC021", format!("{name}: the Gateway API is there")),
        Ok(Ok(None)) => Finding::error(
            "DOC021",
            format!("{name}: there is no {ROUTES}"),
            "apply the Gateway API's standard definitions, or give their file with --gateway-api-crds",
        ),
        Ok(Err(error)) => Finding::warning(
            "DOC021",
            format!("{name}: definitions can't be read: {error}"),
            "bind the rights that `meshproof plan --rbac` prints",
        ),
        Err(_) => Finding::warning("DOC021", format!("{name}: no answer in time"), "try again"),
    };
    vec![version, routes]
}

async fn clocks(clusters: &[Cluster]) -> Finding {
    let seen = join_all(clusters.iter().map(|cluster| async {
        let seen = tokio::time::timeout(ANSWER_TIME, clock(cluster)).await;
        (cluster.name.as_str(), seen.ok().flatten())
    }));
    clocks_finding(&seen.await)
}

/// The clock of an API server, by the date of an answer.
async fn clock(cluster: &Cluster) -> Option<Offset> {
    let request = http::Request::get("/version").body(kube::client::Body::empty()).ok()?;
    let sent = SystemTime::now();
    let response = cluster.client.send(request).await.ok()?;
    let received = SystemTime::now();
    let date = response.headers().get(http::header::DATE)?.to_str().ok()?;
    let date = httpdate::parse_http_date(date).ok()?;
    Some(offset(date, sent, received))
}

/// Clocks of clusters are compared with each other: that of this machine is only what they are measured with.
fn clocks_finding(seen: &[(&str, Option<Offset>)]) -> Finding {
    let unknown: Vec<&str> = seen
        .iter()
        .filter(|(_, clock)| clock.is_none())
        .map(|(name, _)| *name)
        .collect();
    let known: Vec<(&str, Offset)> = seen
        .iter()
        .filter_map(|(name, clock)| Some((*name, (*clock)?)))
        .collect();
    let mut worst = (0, String::new());
    for (index, (one, clock)) in known.iter().enumerate() {
        for (other, other_clock) in known.iter().skip(index + 1) {
            let apart = apart_ms(*clock, *other_clock);
            if apart > worst.0 {
                worst = (apart, format!("{one} and {other}"));
            }
        }
    }
    let fix = "let all nodes take their time from NTP";
    let found = format!("the clocks of {} differ by at least {} ms", worst.1, worst.0);
    match worst.0 {
        apart if apart > FATAL_SKEW_MS => Finding::error("DOC022", found, fix),
        apart if apart > NOTABLE_SKEW_MS => Finding::warning("DOC022", found, fix),
        _ if !unknown.is_empty() => Finding::warning(
            "DOC022",
            format!(
                "not checked: the API servers of {} do not date their answers",
                unknown.join(", ")
            ),
            "see for yourself that the nodes' clocks agree",
        ),
        _ => Finding::ok("DOC022", "the clocks of the clusters agree, as far as seconds tell"),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::clock::Offset;
    use super::super::finding::Level;
    use super::clocks_finding;

    #[rstest]
    #[case(Some(0), Level::Ok)]
    #[case(Some(1_900), Level::Ok)]
    #[case(Some(10_000), Level::Warning)]
    #[case(Some(-60_000), Level::Error)]
    #[case(None, Level::Warning)]
    fn clocks_agree_or_not(#[case] ahead: Option<i64>, #[case] expected: Level) {
        let clock = |ahead: i64| Offset {
            least_ms: ahead,
            most_ms: ahead + 1_000,
        };
        let seen = [
            ("west", Some(clock(0))),
            ("east", ahead.map(clock)),
            ("north", Some(clock(10))),
        ];
        let finding = clocks_finding(&seen);
        assert_eq!(finding.level, expected, "{finding:?}");
        if ahead.is_some_and(|ahead| ahead.abs() > 2_000) {
            assert!(
                finding.found.contains("and east") || finding.found.contains("east and"),
                "{}",
                finding.found
            );
        }
    }
}
