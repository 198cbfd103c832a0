//! The Gateway API's definitions, which Linkerd needs and since 2.19 no longer brings.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::Api;
use meshproof_engine::environment::Cluster;
use meshproof_engine::plain_file;
use meshproof_engine::problem::{self, Problem};
use serde_json::Value;

use crate::manifests;

/// The definition by which the others' presence is judged; Linkerd's own check looks at it too.
const HTTP_ROUTES: &str = "httproutes.gateway.networking.k8s.io";

/// Brings the definitions to clusters that lack them, and knows which ones those were.
#[derive(Debug, Default)]
pub(crate) struct GatewayApi {
    file: Option<PathBuf>,
    brought: Mutex<BTreeSet<String>>,
}

impl GatewayApi {
    /// Takes them from this file, if any.
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        Self {
            file,
            brought: Mutex::default(),
        }
    }

    /// Where they come from, for plans.
    pub(crate) fn file(&self) -> Option<&PathBuf> {
        self.file.as_ref()
    }

    /// Whether a cluster has the definitions.
    pub(crate) async fn is_there(&self, cluster: &Cluster) -> Result<bool, Problem> {
        let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
        let found = definitions.get_opt(HTTP_ROUTES).await;
        found.map(|found| found.is_some()).map_err(|error| {
            problem::environment(
                "api-unreachable",
                format!("cluster {}: look for CRD {HTTP_ROUTES}: {error}", cluster.name),
                Some("check that the cluster's API server answers and lets the harness read definitions"),
            )
        })
    }

    /// What has to be applied: nothing when the cluster has them, or when `comes_with_linkerd`.
    pub(crate) async fn missing(&self, cluster: &Cluster, comes_with_linkerd: bool) -> Result<Vec<Value>, Problem> {
        if self.is_there(cluster).await? {
            return Ok(Vec::new());
        }
        match self.manifests()? {
            Some(manifests) => {
                self.brought(|brought| brought.insert(cluster.name.clone()));
                Ok(manifests)
            }
            None if comes_with_linkerd => Ok(Vec::new()),
            None => Err(problem::environment(
                "gateway-api-missing",
                format!(
                    "cluster {} has no Gateway API (CRD {HTTP_ROUTES}), and Linkerd 2.19 and later do not bring it",
                    cluster.name
                ),
                Some(
                    "give the file of its definitions (`standard-install.yaml` of a release that this Linkerd supports), \
                     or install them before",
                ),
            )),
        }
    }

    /// Whether this brought the definitions to the cluster.
    pub(crate) fn is_ours(&self, cluster: &str) -> bool {
        self.brought(|brought| brought.contains(cluster))
    }

    /// What has to be deleted with Linkerd: only what was brought.
    pub(crate) fn remove(&self, cluster: &str) -> Result<Vec<Value>, Problem> {
        if !self.brought(|brought| brought.remove(cluster)) {
            return Ok(Vec::new());
        }
        let mut manifests = self.manifests()?.unwrap_or_default();
        // Policies that guard the definitions come after them in the file.
        manifests.reverse();
        Ok(manifests)
    }

    fn brought<T>(&self, look: impl FnOnce(&mut BTreeSet<String>) -> T) -> T {
        look(&mut self.brought.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn manifests(&self) -> Result<Option<Vec<Value>>, Problem> {
        let Some(file) = &self.file else { return Ok(None) };
        let wrong = |what: String| {
            problem::environment(
                "gateway-api-unreadable",
                format!("{}: {what}", file.display()),
                Some("give the file of the Gateway API's definitions, e.g. `standard-install.yaml` of a release"),
            )
        };
        let text = plain_file::read_text(file, manifests::LARGEST_FILE).map_err(|error| wrong(error.to_string()))?;
        let manifests = manifests::parse(&text).map_err(wrong)?;
        if !manifests
            .iter()
            .any(|manifest| manifest["metadata"]["name"] == HTTP_ROUTES)
        {
            return Err(wrong(format!("it does not define {HTTP_ROUTES}")));
        }
        Ok(Some(manifests))
    }
}
