//! From a kubeconfig to a client, the one way for everything that speaks to a cluster.
//!
//! # What it is responsible for
//! * reading kubeconfigs without trusting them: what can't be used is an [`Unusable`] that says why, before any client is made;
//! * [`Proxies`]: whether a cluster is reached through a proxy, by the rules of Kubernetes' own clients. The host's variables
//!   count only where the caller asks for them: clusters of our own live on loopback and are never reached through one.
//!
//! # What it must not know
//! Where clusters come from, meshes, scenarios. It prints no secret: neither tokens nor the credentials of a proxy.

mod proxies;
#[cfg(test)]
mod tests;

use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use http::{HeaderValue, Uri};
use kube::Client;
use kube::config::{AuthInfo, Cluster, Config, ExecAuthCluster, Kubeconfig};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::ExposeSecret as _;

pub use proxies::{Proxies, without_credentials};

/// Most bytes of a kubeconfig; those of hundreds of clusters have a few hundred KiB.
const LARGEST: u64 = 16 << 20;

/// Why a kubeconfig can't be used, without what is secret in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

impl Unusable {
    fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// Reads a kubeconfig; without a path those of `KUBECONFIG`, or `~/.kube/config`.
///
/// # Errors
/// When a file is none that can be read to its end, or holds no kubeconfig.
pub fn read(path: Option<&Path>) -> Result<Kubeconfig, Unusable> {
    let usual = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let files: Vec<PathBuf> = match path {
        Some(path) => vec![path.to_owned()],
        None => std::env::split_paths(&usual).collect(),
    };
    for file in &files {
        readable(file)?;
    }
    let read = match path {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    // What a parser says may show the text around, in which secrets stand; its first line is what is wrong.
    read.map_err(|error| Unusable::new(error.to_string().lines().next().unwrap_or_default()))
}

/// Devices never end. What is not there is told by who reads it.
fn readable(file: &Path) -> Result<(), Unusable> {
    let Ok(found) = file.metadata() else { return Ok(()) };
    let kind = found.file_type();
    if !kind.is_file() && !kind.is_fifo() {
        return Err(Unusable::new(format!("{} is no file", file.display())));
    }
    if found.len() > LARGEST {
        return Err(Unusable::new(format!(
            "{} is larger than {LARGEST} bytes",
            file.display()
        )));
    }
    Ok(())
}

/// How the cluster of a context (the current one unless named) is reached. Only the kubeconfig and `proxies` decide it.
///
/// # Errors
/// Says what is missing or malformed.
pub fn config(kubeconfig: &Kubeconfig, context: Option<&str>, proxies: &Proxies) -> Result<Config, Unusable> {
    let wanted = context
        .or(kubeconfig.current_context.as_deref())
        .ok_or_else(|| Unusable::new("it has no current context"))?;
    let found = kubeconfig
        .contexts
        .iter()
        .find(|known| known.name == wanted)
        .and_then(|known| known.context.as_ref())
        .ok_or_else(|| Unusable::new(format!("it has no context `{wanted}`")))?;
    let cluster = kubeconfig
        .clusters
        .iter()
        .find(|known| known.name == found.cluster)
        .and_then(|known| known.cluster.as_ref())
        .ok_or_else(|| Unusable::new(format!("it has no cluster `{}`", found.cluster)))?;
    // As with Kubernetes' own clients, a user that is not there is nobody.
    let user = kubeconfig
        .auth_infos
        .iter()
        .find(|known| Some(&known.name) == found.user.as_ref());
    let user = user.and_then(|known| known.auth_info.clone()).unwrap_or_default();
    let mut config = of_cluster(cluster, proxies)?;
    config.auth_info = credentials(user, cluster)?;
    if let Some(namespace) = &found.namespace {
        config.default_namespace.clone_from(namespace);
    }
    Ok(config)
}

fn of_cluster(cluster: &Cluster, proxies: &Proxies) -> Result<Config, Unusable> {
    let server = cluster
        .server
        .as_deref()
        .ok_or_else(|| Unusable::new("its cluster has no server"))?;
    let url: Uri = server
        .parse()
        .map_err(|error| Unusable::new(format!("server `{server}` is no URL: {error}")))?;
    if url.host().is_none_or(str::is_empty) || !matches!(url.scheme_str(), Some("https" | "http")) {
        return Err(Unusable::new(format!("server `{server}` is no URL of https or http")));
    }
    let mut config = Config::new(url.clone());
    config.root_cert = authorities(cluster)?;
    config.accept_invalid_certs = cluster.insecure_skip_tls_verify.unwrap_or(false);
    config.disable_compression = cluster.disable_compression.unwrap_or(false);
    config.tls_server_name.clone_from(&cluster.tls_server_name);
    config.proxy_url = match cluster.proxy_url.as_deref().filter(|proxy| !proxy.is_empty()) {
        // What the kubeconfig says of its own cluster outweighs the host's variables, all of them.
        Some(proxy) => Some(proxies::explicit(proxy)?),
        None => proxies.of(&url)?,
    };
    Ok(config)
}

fn authorities(cluster: &Cluster) -> Result<Option<Vec<Vec<u8>>>, Unusable> {
    let unusable = |what: String| Unusable::new(format!("its certificate authority can't be used: {what}"));
    let read = ExecAuthCluster::try_from(cluster).map_err(|error| unusable(error.to_string()))?;
    let Some(pem) = read.certificate_authority_data else {
        return Ok(None);
    };
    let certificates: Result<Vec<Vec<u8>>, _> = CertificateDer::pem_slice_iter(&pem)
        .map(|certificate| certificate.map(|certificate| certificate.to_vec()))
        .collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(unusable("there is no certificate in it".to_owned())),
        Ok(certificates) => Ok(Some(certificates)),
        Err(error) => Err(unusable(error.to_string())),
    }
}

fn credentials(mut user: AuthInfo, cluster: &Cluster) -> Result<AuthInfo, Unusable> {
    let token = user.token.as_ref().map(|token| token.expose_secret().to_owned());
    let provided = user
        .auth_provider
        .as_ref()
        .and_then(|provider| provider.config.get("id-token"));
    for (what, token) in [("token", token), ("id-token", provided.cloned())] {
        if token.is_some_and(|token| !is_header(&token)) {
            return Err(Unusable::new(format!(
                "its user's {what} has a line break or another character that no request can carry; what carries it is one line: write it in the line of its key, without a `|`"
            )));
        }
    }
    if let Some(plugin) = user.exec.as_mut().filter(|plugin| plugin.provide_cluster_info) {
        let told = ExecAuthCluster::try_from(cluster).map_err(|error| Unusable::new(error.to_string()))?;
        plugin.cluster = Some(told);
    }
    Ok(user)
}

fn is_header(token: &str) -> bool {
    HeaderValue::from_str(&format!("Bearer {token}")).is_ok()
}

/// A client. A credential plugin that the kubeconfig names is run for it, as Kubernetes' own clients do.
///
/// # Errors
/// When there are no credentials to be had, or they can't be used.
pub async fn client(config: Config) -> Result<Client, kube::Error> {
    let runtime = tokio::runtime::Handle::current();
    // A plugin may take its time; and what it prints is checked by nobody before it becomes a header.
    let made = tokio::task::spawn_blocking(move || {
        let _within = runtime.enter();
        Client::try_from(config)
    });
    made.await.unwrap_or_else(|_| {
        let what = "the credentials, e.g. the token that a credential plugin printed, can't be put into a request";
        Err(kube::Error::Service(what.into()))
    })
}
