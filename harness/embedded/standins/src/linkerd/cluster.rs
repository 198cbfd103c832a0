//! The cluster that a command was pointed at, through its kubeconfig.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::config::Kubeconfig;
use kube::{Api, Client, Resource};
use meshproof_kubeconfig::Proxies;
use meshproof_mesh::names::{CONTROL_PLANE_NAMESPACE, LINKERD_CONFIG, MULTICLUSTER_NAMESPACE, label};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::exchange::{Call, Failure};

/// A cluster by its API.
pub(super) struct Cluster {
    pub(super) client: Client,
    /// URL of its API server in the kubeconfig.
    pub(super) server: String,
    /// Version of the command that speaks to it.
    pub(super) version: &'static str,
}

fn failed(error: &kube::Error) -> Failure {
    Failure::new(super::words(&error.to_string()))
}

impl Cluster {
    /// The cluster of `--kubeconfig` (or `$KUBECONFIG`) and `--context`.
    pub(super) async fn of(call: &Call, kubeconfig: Option<&str>, context: Option<&str>) -> Result<Self, Failure> {
        let path = kubeconfig.or(call.variables.get("KUBECONFIG").map(String::as_str));
        let path = path.ok_or_else(|| {
            Failure::new(
                "error configuring Kubernetes API client: invalid configuration: no configuration has been provided",
            )
        })?;
        let text = call
            .read(path)
            .map_err(|failure| failure.within("error configuring Kubernetes API client"))?;
        Self::from_text(&text, context, super::version(call))
            .await
            .map_err(|error| Failure::new(format!("error configuring Kubernetes API client: {error}")))
    }

    /// The cluster of a kubeconfig's text.
    pub(super) async fn from_text(text: &str, context: Option<&str>, version: &'static str) -> Result<Self, String> {
        let parsed = Kubeconfig::from_yaml(text).map_err(|error| error.to_string())?;
        let config =
            meshproof_kubeconfig::config(&parsed, context, &Proxies::none()).map_err(|error| error.to_string())?;
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client = meshproof_kubeconfig::client(config)
            .await
            .map_err(|error| error.to_string())?;
        Ok(Self {
            client,
            server,
            version,
        })
    }

    /// The values that the control plane was installed with.
    pub(super) async fn linkerd_values(&self) -> Result<Value, Failure> {
        let config = Api::<ConfigMap>::namespaced(self.client.clone(), CONTROL_PLANE_NAMESPACE)
            .get(LINKERD_CONFIG)
            .await
            .map_err(|error| failed(&error))?;
        let text = config
            .data
            .and_then(|mut data| data.remove("values"))
            .unwrap_or_default();
        serde_yaml::from_str(&text).map_err(|error| Failure::new(error.to_string()))
    }

    /// Whether the multicluster extension's namespace is there.
    pub(super) async fn has_extension(&self) -> Result<bool, Failure> {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        let selector = format!("{}=multicluster", label::EXTENSION);
        Ok(!self.list(&namespaces, &selector).await?.is_empty())
    }

    /// Whether a custom resource is defined.
    pub(super) async fn has_definition(&self, name: &str) -> Result<bool, Failure> {
        let found = Api::<CustomResourceDefinition>::all(self.client.clone())
            .get_opt(name)
            .await;
        Ok(found.map_err(|error| failed(&error))?.is_some())
    }

    /// Whether an object exists.
    pub(super) async fn has<K>(&self, api: &Api<K>, name: &str) -> Result<bool, Failure>
    where
        K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
    {
        Ok(api.get_opt(name).await.map_err(|error| failed(&error))?.is_some())
    }

    /// The objects that a label selector chooses; the empty one chooses all.
    pub(super) async fn list<K>(&self, api: &Api<K>, selector: &str) -> Result<Vec<K>, Failure>
    where
        K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let found = api.list(&ListParams::default().labels(selector)).await;
        Ok(found.map_err(|error| failed(&error))?.items)
    }

    /// All Links by name; an error when the kind is not there.
    pub(super) async fn links(&self) -> Result<Vec<Value>, Failure> {
        let resource = ApiResource {
            group: "multicluster.linkerd.io".to_owned(),
            version: "v1alpha3".to_owned(),
            api_version: "multicluster.linkerd.io/v1alpha3".to_owned(),
            kind: "Link".to_owned(),
            plural: "links".to_owned(),
        };
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), MULTICLUSTER_NAMESPACE, &resource);
        let found = api.list(&ListParams::default()).await.map_err(|error| failed(&error))?;
        let mut links: Vec<Value> = found
            .items
            .into_iter()
            .filter_map(|link| serde_json::to_value(link).ok())
            .collect();
        links.sort_by_key(|link| link["metadata"]["name"].as_str().map(ToOwned::to_owned));
        Ok(links)
    }
}
