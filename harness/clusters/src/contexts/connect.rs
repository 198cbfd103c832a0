//! From a context's name to a cluster that answers.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::api::ListParams;
use kube::config::Kubeconfig;
use kube::{Api, Client};
use meshproof_engine::api::describe;
use meshproof_engine::environment::Cluster;
use meshproof_engine::plan::permission::Permission;
use meshproof_engine::problem::{self, Problem};
use meshproof_kubeconfig::{Proxies, without_credentials};

use super::options::{ContextRef, ContextsOptions};
use crate::preflight::access;

/// Domain of a cluster unless its topology says otherwise.
const DOMAIN: &str = "cluster.local";
/// Wall time within which a cluster must answer each of the first questions.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// A cluster that answers.
pub(super) struct Connected {
    pub(super) cluster: Cluster,
    /// Uid of its namespace `kube-system`, by which a cluster is known.
    pub(super) uid: String,
    /// Version of its API server.
    pub(super) version: String,
}

/// The part of a kubeconfig that a context needs.
pub(super) struct Loaded {
    kubeconfig: Kubeconfig,
    server: String,
}

/// Reads the kubeconfig and leaves in it what the context needs.
///
/// # Errors
/// Code `context-unusable`.
pub(super) fn load(name: &str, context: &ContextRef) -> Result<Loaded, Problem> {
    let read = meshproof_kubeconfig::read(context.kubeconfig.as_deref());
    let whole = read.map_err(|error| unusable(name, context, &error.to_string()))?;
    only(name, whole, context)
}

fn only(name: &str, mut kubeconfig: Kubeconfig, context: &ContextRef) -> Result<Loaded, Problem> {
    let known: Vec<String> = kubeconfig.contexts.iter().map(|known| known.name.clone()).collect();
    kubeconfig.contexts.retain(|known| known.name == context.context);
    let Some(found) = kubeconfig.contexts.first().and_then(|found| found.context.clone()) else {
        let known = if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        };
        return Err(unusable(
            name,
            context,
            &format!("it has no such context; it has {known}"),
        ));
    };
    kubeconfig.clusters.retain(|cluster| cluster.name == found.cluster);
    kubeconfig
        .auth_infos
        .retain(|user| Some(&user.name) == found.user.as_ref());
    kubeconfig.current_context = Some(context.context.clone());
    let server = kubeconfig
        .clusters
        .first()
        .and_then(|cluster| cluster.cluster.as_ref()?.server.clone())
        .ok_or_else(|| unusable(name, context, &format!("its cluster `{}` has no server", found.cluster)))?;
    Ok(Loaded { kubeconfig, server })
}

/// A client for the cluster of a context. Nothing is asked of it yet.
///
/// # Errors
/// Code `context-unusable`.
pub(super) async fn client(name: &str, context: &ContextRef, loaded: &Loaded) -> Result<Client, Problem> {
    let config = config(name, context, loaded)?;
    let made = tokio::time::timeout(ANSWER_TIME, meshproof_kubeconfig::client(config)).await;
    let made = made.map_err(|_| unusable(name, context, "its credential plugin does not answer"))?;
    made.map_err(|error| unusable(name, context, &describe(&error)))
}

fn config(name: &str, context: &ContextRef, loaded: &Loaded) -> Result<kube::Config, Problem> {
    let mut config = meshproof_kubeconfig::config(&loaded.kubeconfig, None, &Proxies::of_environment())
        .map_err(|error| unusable(name, context, &error.to_string()))?;
    config.connect_timeout = Some(ANSWER_TIME);
    Ok(config)
}

/// Connects to the cluster of a context, and asks it for nothing but what it is and what these credentials may do.
///
/// # Errors
/// A [`Problem`] of the environment that says what is wrong with the kubeconfig, the way or the credentials.
pub(super) async fn connect(
    name: &str,
    domain: Option<&str>,
    context: &ContextRef,
    loaded: Loaded,
    options: &ContextsOptions,
) -> Result<Connected, Problem> {
    let client = client(name, context, &loaded).await?;
    let about = match config(name, context, &loaded)?.proxy_url {
        Some(proxy) => format!(
            "{}, through the proxy {}",
            place(name, context),
            without_credentials(&proxy)
        ),
        None => place(name, context),
    };
    let version = answered(&about, client.apiserver_version()).await?.git_version;
    tracing::info!(cluster = name, version, "reached");
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let system = answered(&about, namespaces.get("kube-system")).await?;
    let refused = answered(&about, access::refused(&client, essential())).await?;
    if !refused.is_empty() {
        let rights: Vec<String> = refused.iter().map(ToString::to_string).collect();
        return Err(problem::environment(
            "context-forbidden",
            format!(
                "{about}: the credentials lack rights that every scenario needs: {}",
                rights.join("; ")
            ),
            Some(BIND_RIGHTS),
        ));
    }
    let node_address = match options.node_addresses.get(name) {
        Some(address) => address.clone(),
        None => node_address(&client).await.unwrap_or_else(|| host(&loaded.server)),
    };
    let kubeconfig = serde_yaml::to_string(&loaded.kubeconfig)
        .map_err(|error| unusable(name, context, &format!("it can't be written: {error}")))?;
    Ok(Connected {
        cluster: Cluster {
            name: name.to_owned(),
            client,
            kubeconfig,
            api_from_peers: options.apis.get(name).cloned().unwrap_or(loaded.server),
            node_address,
            gateway_from: BTreeMap::new(),
            domain: domain.unwrap_or(DOMAIN).to_owned(),
        },
        uid: system.metadata.uid.unwrap_or_default(),
        version,
    })
}

/// What no scenario can do without: a namespace of its own, workloads in it, a way to talk to them.
fn essential() -> Vec<Permission> {
    [
        ("", "namespaces", "create"),
        ("", "namespaces", "delete"),
        ("", "namespaces", "watch"),
        ("", "pods", "list"),
        ("", "pods/portforward", "get"),
    ]
    .map(|(group, resource, verb)| Permission::new(group, resource, verb))
    .into()
}

/// The cluster and how it is reached, for people.
pub(super) fn place(name: &str, context: &ContextRef) -> String {
    let file = context
        .kubeconfig
        .as_ref()
        .map_or_else(|| "the usual kubeconfig".to_owned(), |path| path.display().to_string());
    format!("cluster {name}: context `{}` of {file}", context.context)
}

fn unusable(name: &str, context: &ContextRef, what: &str) -> Problem {
    problem::environment(
        "context-unusable",
        format!("{}: {what}", place(name, context)),
        Some("correct the kubeconfig; see `kubectl config get-contexts`"),
    )
}

/// An answer in time, or what its absence means.
async fn answered<T>(about: &str, asking: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Problem> {
    match tokio::time::timeout(ANSWER_TIME, asking).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(meaning(about, &error)),
        Err(_) => Err(problem::environment(
            "context-unreachable",
            format!("{about}: no answer within {} s", ANSWER_TIME.as_secs()),
            Some("see whether the cluster is up and whether this machine may reach its API server"),
        )),
    }
}

const BIND_RIGHTS: &str = "bind the rights that `meshproof plan --on contexts --rbac` prints";

/// What an error of the first requests means, and what to do.
pub(super) fn meaning(about: &str, error: &kube::Error) -> Problem {
    let said = describe(error);
    let (code, remedy) = match error {
        kube::Error::Api(status) if status.code == 401 => (
            "context-unauthorized",
            "the credentials are unknown or have expired: renew those of the context",
        ),
        kube::Error::Api(status) if status.code == 403 => ("context-forbidden", BIND_RIGHTS),
        kube::Error::Auth(_) => (
            "context-unauthorized",
            "no credentials can be had: see whether the credential plugin of the kubeconfig works by hand",
        ),
        _ if said.contains("certificate") => (
            "context-certificate",
            "the kubeconfig does not trust the server's certificate: see its certificate-authority, the server's name, and whether the certificate has expired",
        ),
        _ => (
            "context-unreachable",
            "check the server's address with `kubectl --context … version`",
        ),
    };
    problem::environment(code, format!("{about}: {said}"), Some(remedy))
}

/// The address of a node: an external one where any node has one. Without the right to see nodes there is none, and only
/// scenarios that need it differ.
async fn node_address(client: &Client) -> Option<String> {
    let nodes: Api<Node> = Api::all(client.clone());
    let some = ListParams::default().limit(50);
    let listed = tokio::time::timeout(ANSWER_TIME, nodes.list(&some)).await.ok()?.ok()?;
    address_of(&listed.items)
}

fn address_of(nodes: &[Node]) -> Option<String> {
    let of_type = |wanted: &str| {
        nodes
            .iter()
            .filter_map(|node| node.status.as_ref()?.addresses.as_ref())
            .flatten()
            .find(|address| address.type_ == wanted)
            .map(|address| address.address.clone())
    };
    of_type("ExternalIP").or_else(|| of_type("InternalIP"))
}

/// Host of a URL.
fn host(url: &str) -> String {
    let uri: Option<http::Uri> = url.parse().ok();
    uri.as_ref().and_then(http::Uri::host).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Node;
    use kube::config::Kubeconfig;
    use serde_json::json;

    use super::super::options::ContextRef;
    use super::{Loaded, address_of, host, only};

    const TWO: &str = r#"
apiVersion: v1
kind: Config
clusters:
  - {name: a, cluster: {server: "https://a.example:6443"}}
  - {name: b, cluster: {server: "https://b.example:6443"}}
users:
  - {name: ann, user: {token: secret-of-ann}}
  - {name: bob, user: {token: secret-of-bob}}
contexts:
  - {name: dev, context: {cluster: a, user: ann}}
  - {name: prod, context: {cluster: b, user: bob}}
  - {name: broken, context: {cluster: gone, user: bob}}
current-context: prod
"#;

    fn two() -> Kubeconfig {
        Kubeconfig::from_yaml(TWO).unwrap()
    }

    fn of(context: &str) -> Result<Loaded, meshproof_engine::problem::Problem> {
        let context = ContextRef {
            context: context.to_owned(),
            kubeconfig: None,
        };
        only("west", two(), &context)
    }

    #[test]
    fn only_what_the_context_needs_is_handed_on() {
        let loaded = of("dev").ok().unwrap();
        assert_eq!(loaded.server, "https://a.example:6443");
        let text = serde_yaml::to_string(&loaded.kubeconfig).unwrap();
        assert!(text.contains("secret-of-ann") && !text.contains("secret-of-bob"));
        let again = Kubeconfig::from_yaml(&text).unwrap();
        assert_eq!(again.current_context.as_deref(), Some("dev"));
        assert_eq!(
            (again.clusters.len(), again.auth_infos.len(), again.contexts.len()),
            (1, 1, 1)
        );
    }

    #[test]
    fn an_unknown_context_names_those_that_exist() {
        let problem = of("staging").err().unwrap();
        assert_eq!(problem.code, "context-unusable");
        assert!(problem.message.contains("dev, prod, broken"), "{}", problem.message);
        let problem = of("broken").err().unwrap();
        assert!(problem.message.contains("`gone`"), "{}", problem.message);
    }

    #[test]
    fn a_node_is_reached_at_its_external_address_if_it_has_one() {
        let node = |addresses: serde_json::Value| -> Node {
            serde_json::from_value(json!({"metadata": {}, "status": {"addresses": addresses}})).unwrap()
        };
        let inside =
            node(json!([{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "10.0.0.1"}]));
        let outside = node(
            json!([{"type": "InternalIP", "address": "10.0.0.2"}, {"type": "ExternalIP", "address": "192.0.2.1"}]),
        );
        assert_eq!(address_of(&[inside.clone(), outside]).as_deref(), Some("192.0.2.1"));
        assert_eq!(address_of(&[inside]).as_deref(), Some("10.0.0.1"));
        assert_eq!(address_of(&[]), None);
        assert_eq!(host("https://[2001:db8::1]:6443/path"), "[2001:db8::1]");
        assert_eq!(host("https://api.example:6443"), "api.example");
    }
}
