//! The Link resource as the controller reads it.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use kube::CustomResource;
use serde::{Deserialize, Serialize};

use crate::duration;

/// Desired state of a link. Every field may be missing: the CustomResourceDefinition requires none.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "multicluster.linkerd.io",
    version = "v1alpha3",
    kind = "Link",
    namespaced,
    status = "LinkStatus",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct LinkSpec {
    pub(crate) target_cluster_name: String,
    pub(crate) target_cluster_domain: String,
    pub(crate) cluster_credentials_secret: String,
    pub(crate) gateway_address: String,
    pub(crate) gateway_port: String,
    pub(crate) gateway_identity: String,
    pub(crate) probe_spec: ProbeSpec,
    pub(crate) selector: Option<LabelSelector>,
    pub(crate) remote_discovery_selector: Option<LabelSelector>,
    pub(crate) federated_service_selector: Option<LabelSelector>,
    pub(crate) excluded_annotations: Vec<String>,
    pub(crate) excluded_labels: Vec<String>,
}

/// How the gateway is probed. An empty path means: not at all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ProbeSpec {
    pub(crate) path: String,
    pub(crate) port: String,
    pub(crate) period: String,
    pub(crate) failure_threshold: String,
    pub(crate) timeout: String,
}

/// A [`ProbeSpec`] that can be used.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Probe {
    pub(crate) path: String,
    pub(crate) port: u16,
    /// Scenario time.
    pub(crate) period: Duration,
    pub(crate) failure_threshold: u32,
    /// Scenario time.
    pub(crate) timeout: Duration,
}

impl ProbeSpec {
    /// What to do, or what is wrong with the Link.
    pub(crate) fn probe(&self) -> Result<Probe, String> {
        let period = duration::parse(&self.period)
            .filter(|period| !period.is_zero())
            .ok_or_else(|| format!("could not parse probe period: time: invalid duration {:?}", self.period))?;
        let timeout = duration::parse(&self.timeout)
            .ok_or_else(|| format!("could not parse timeout: time: invalid duration {:?}", self.timeout))?;
        let failure_threshold = self
            .failure_threshold
            .parse()
            .map_err(|_| format!("could not parse failure threshold: {:?}", self.failure_threshold))?;
        let port = self
            .port
            .parse()
            .map_err(|_| format!("failed to parse probe port: {:?}", self.port))?;
        Ok(Probe {
            path: self.path.clone(),
            port,
            period,
            failure_threshold,
            timeout,
        })
    }
}

/// What the controller reports about a link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct LinkStatus {
    pub(crate) mirror_services: Vec<ServiceStatus>,
    pub(crate) federated_services: Vec<ServiceStatus>,
}

/// What became of one remote Service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServiceStatus {
    pub(crate) controller_name: String,
    pub(crate) remote_ref: ObjectRef,
    #[serde(default)]
    pub(crate) conditions: Vec<LinkCondition>,
}

/// A Service. Group and kind are left to the CustomResourceDefinition's defaults when written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ObjectRef {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) kind: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) group: String,
}

impl ObjectRef {
    pub(crate) fn service(namespace: &str, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            kind: "Service".to_owned(),
            group: String::new(),
        }
    }
}

/// The only condition type is `Mirrored`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LinkCondition {
    #[serde(rename = "type")]
    pub(crate) type_: String,
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) last_transition_time: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) local_ref: Option<ObjectRef>,
}

#[cfg(test)]
mod tests {
    use super::{Link, ProbeSpec};
    use rstest::rstest;
    use std::time::Duration;

    fn spec() -> ProbeSpec {
        ProbeSpec {
            path: "/ready".into(),
            port: "4191".into(),
            period: "3s".into(),
            failure_threshold: "3".into(),
            timeout: "30s".into(),
        }
    }

    #[test]
    fn the_defaults_of_the_definition_make_a_probe() {
        let probe = spec().probe().unwrap();
        assert_eq!(probe.period, Duration::from_secs(3));
        assert_eq!(probe.timeout, Duration::from_secs(30));
        assert_eq!((probe.failure_threshold, probe.port), (3, 4191));
    }

    #[rstest]
    #[case(|s: &mut ProbeSpec| s.period = "3".into(), "could not parse probe period: time: invalid duration \"3\"")]
    #[case(|s: &mut ProbeSpec| s.timeout = String::new(), "could not parse timeout: time: invalid duration \"\"")]
    #[case(|s: &mut ProbeSpec| s.failure_threshold = "x".into(), "could not parse failure threshold: \"x\"")]
    #[case(|s: &mut ProbeSpec| s.port = "http".into(), "failed to parse probe port: \"http\"")]
    fn a_probe_that_cannot_be_made_is_explained(#[case] spoil: fn(&mut ProbeSpec), #[case] text: &str) {
        let mut spec = spec();
        spoil(&mut spec);
        assert_eq!(spec.probe().unwrap_err(), text);
    }

    #[test]
    fn an_empty_link_reads() {
        let link: Link = serde_json::from_str(r#"{"metadata": {"name": "east"}, "spec": {}}"#).unwrap();
        assert_eq!(link.spec.target_cluster_name, "");
        assert!(link.spec.selector.is_none());
    }
}
