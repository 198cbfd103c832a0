//! Clusters that are reached already. Asking changes nothing in them.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use meshproof_engine::environment::Cluster;

use super::finding::Finding;
use crate::contexts::{Contexts, ContextsOptions};

/// Definition without which routes can't be made.
const ROUTES: &str = "httproutes.gateway.networking.k8s.io";
/// Largest difference between clocks that certificates and leases bear.
const CLOCKS: Duration = Duration::from_secs(5);
/// Time for an answer.
const ANSWER_TIME: Duration = Duration::from_secs(15);

/// Looks at clusters by context. A context that can't be used is a finding, too.
pub async fn contexts(options: &ContextsOptions) -> Vec<Finding> {
    let environment = Contexts::new(options.clone());
    let reached = join_all(options.contexts.keys().map(|name| environment.reach(name, None))).await;
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
    findings
}

/// Looks at clusters: their API servers, the Gateway API, their clocks.
pub async fn look_at(clusters: &[Cluster]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = join_all(clusters.iter().map(one)).await.into_iter().flatten().collect();
    let clocks = join_all(clusters.iter().map(|cluster| async {
        let offset = tokio::time::timeout(ANSWER_TIME, clock_offset(cluster)).await;
        (cluster.name.as_str(), offset.ok().flatten())
    }));
    findings.extend(clocks.await.into_iter().map(|(name, offset)| clock(name, offset)));
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

/// By how many seconds a cluster's clock is ahead of this machine's: its answers carry their date, to the second, and an
/// answer takes some time.
async fn clock_offset(cluster: &Cluster) -> Option<i64> {
    let request = http::Request::get("/version").body(kube::client::Body::empty()).ok()?;
    let response = cluster.client.send(request).await.ok()?;
    let date = response.headers().get(http::header::DATE)?.to_str().ok()?;
    let theirs = httpdate::parse_http_date(date).ok()?;
    let ours = std::time::SystemTime::now();
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Some(match theirs.duration_since(ours) {
        Ok(ahead) => seconds(ahead),
        Err(behind) => -seconds(behind.duration()),
    })
}

fn clock(name: &str, offset: Option<i64>) -> Finding {
    let limit = i64::try_from(CLOCKS.as_secs()).unwrap_or(i64::MAX);
    match offset {
        Some(offset) if offset.abs() <= limit => {
            Finding::ok("DOC022", format!("{name}: its clock agrees with this machine's"))
        }
        Some(offset) => Finding::error(
            "DOC022",
            format!(
                "{name}: its clock is {} s {} this machine's",
                offset.unsigned_abs(),
                if offset > 0 { "ahead of" } else { "behind" }
            ),
            "synchronise the clocks of the nodes",
        ),
        None => Finding::warning(
            "DOC022",
            format!("{name}: its clock can't be read"),
            "compare it by hand",
        ),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::finding::Level;
    use super::clock;

    #[rstest]
    #[case(Some(0), Level::Ok, "agrees")]
    #[case(Some(-5), Level::Ok, "agrees")]
    #[case(Some(6), Level::Error, "6 s ahead of")]
    #[case(Some(-3600), Level::Error, "3600 s behind")]
    #[case(None, Level::Warning, "can't be read")]
    fn clocks(#[case] offset: Option<i64>, #[case] level: Level, #[case] said: &str) {
        let finding = clock("west", offset);
        assert_eq!(finding.level, level);
        assert!(finding.found.contains(said), "{}", finding.found);
    }
}
