//! What a mirror should look like: pure functions from a Link and a remote Service.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service, ServicePort, ServiceSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::link::LinkSpec;
use super::selector;
use crate::defect::{Defect, Defects};
use crate::names::{MIRROR_PREFIX, PROBE_PORT_NAME, annotation, label};

/// How a remote Service is to be mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Export {
    /// Not at all.
    No,
    /// Through the gateway.
    Gateway,
    /// Pod to pod; not modelled.
    RemoteDiscovery,
}

/// A Link together with what the model gets wrong on purpose.
#[derive(Clone, Copy)]
pub(super) struct Desired<'a> {
    pub(super) link: &'a LinkSpec,
    pub(super) defects: &'a Defects,
}

/// Readiness of the addresses in a mirror's Endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    NotReady,
}

impl Desired<'_> {
    fn has(&self, defect: Defect) -> bool {
        self.defects.has(defect)
    }

    /// Name of the mirror of `remote`.
    pub(super) fn mirror_name(&self, remote: &str) -> String {
        format!("{remote}-{}", self.link.target_cluster_name)
    }

    /// Name of the remote Service that `mirror` stands for.
    pub(super) fn remote_name<'m>(&self, mirror: &'m str) -> &'m str {
        mirror
            .strip_suffix(self.link.target_cluster_name.as_str())
            .and_then(|rest| rest.strip_suffix('-'))
            .unwrap_or(mirror)
    }

    /// Labels that all mirrors of this link have.
    pub(super) fn mirror_selector(&self) -> String {
        format!(
            "{}=true,{}={}",
            label::MIRRORED_SERVICE,
            label::CLUSTER_NAME,
            self.link.target_cluster_name
        )
    }

    /// Whether a local Service is a mirror of this link.
    pub(super) fn is_own_mirror(&self, local: &Service) -> bool {
        local.labels().contains_key(label::MIRRORED_SERVICE)
            && local.labels().get(label::CLUSTER_NAME) == Some(&self.link.target_cluster_name)
    }

    /// How the Link's selectors want `remote` mirrored.
    pub(super) fn export(&self, remote: &Service) -> Export {
        if self.has(Defect::ExportsIgnored) {
            return Export::No;
        }
        let labels = remote.labels();
        let is_mirror = labels.contains_key(label::MIRRORED_SERVICE);
        // Copied labels would export mirrors again, which is another defect's business.
        if self.has(Defect::ReservedLabelsCopied) && is_mirror {
            return Export::No;
        }
        // Flat mode wins: a Service that both selectors match is mirrored without gateway Endpoints.
        if selector::matches(self.link.remote_discovery_selector.as_ref(), labels) {
            return Export::RemoteDiscovery;
        }
        if selector::matches(self.link.selector.as_ref(), labels) {
            return Export::Gateway;
        }
        let annotated = remote.annotations().get(label::EXPORTED);
        let labelled = labels.get(label::EXPORTED);
        let blank = selector::is_blank(self.link.selector.as_ref());
        let blank_discovery = selector::is_blank(self.link.remote_discovery_selector.as_ref());
        let wrongly = (self.has(Defect::AnnotationExports) && annotated.is_some_and(|value| value == "true"))
            || (self.has(Defect::AnyLabelValueExports) && labelled.is_some())
            || (self.has(Defect::EmptySelectorSelectsAll) && blank && !is_mirror)
            || (self.has(Defect::EmptyDiscoverySelectorSelectsAll) && blank_discovery && !is_mirror)
            || (self.has(Defect::UnlabelledExports)
                && !blank
                && labelled.is_none()
                && annotated.is_none()
                && !is_mirror
                && !is_system_namespace(&remote.namespace().unwrap_or_default()));
        if wrongly { Export::Gateway } else { Export::No }
    }

    /// Whether the Link makes `remote` a member of a federated service.
    pub(super) fn is_federated(&self, remote: &Service) -> bool {
        selector::matches(self.link.federated_service_selector.as_ref(), remote.labels())
    }

    /// Whether a remote Endpoints object belongs to a Service that is mirrored through the gateway. Kubernetes copies a
    /// Service's labels to its Endpoints.
    pub(super) fn follows(&self, remote: &Endpoints) -> bool {
        selector::matches(self.link.selector.as_ref(), remote.labels())
            && !selector::matches(self.link.remote_discovery_selector.as_ref(), remote.labels())
    }

    /// Whether a remote Service with these Endpoints has nobody to answer.
    pub(super) fn is_empty(&self, remote: Option<&Endpoints>) -> bool {
        if self.has(Defect::EndpointsKeptWhenRemoteEmpty) {
            return false;
        }
        !remote
            .iter()
            .flat_map(|endpoints| endpoints.subsets.iter().flatten())
            .any(|subset| {
                let ready = subset.addresses.as_ref().is_some_and(|list| !list.is_empty());
                let unready = subset.not_ready_addresses.as_ref().is_some_and(|list| !list.is_empty());
                ready || (unready && self.has(Defect::UnreadyPodsCounted))
            })
    }

    /// The mirror Service of `remote`.
    pub(super) fn service(&self, remote: &Service) -> Service {
        let spec = remote.spec.as_ref();
        Service {
            metadata: ObjectMeta {
                name: Some(self.mirror_name(&remote.name_any())),
                namespace: remote.namespace(),
                labels: Some(self.service_labels(remote)),
                annotations: Some(self.service_annotations(remote)),
                ..ObjectMeta::default()
            },
            spec: Some(ServiceSpec {
                ports: Some(self.service_ports(remote)),
                selector: if self.has(Defect::SelectorCopied) {
                    spec.and_then(|spec| spec.selector.clone())
                } else {
                    None
                },
                ..ServiceSpec::default()
            }),
            status: None,
        }
    }

    fn service_labels(&self, remote: &Service) -> BTreeMap<String, String> {
        let mut labels = self.copied_labels(remote);
        // A mirror that carries the export label is mirrored on by the next cluster, once: its own mirror does not.
        if self.has(Defect::MirrorsOfMirrors) && !remote.labels().contains_key(label::MIRRORED_SERVICE) {
            labels.insert(label::EXPORTED.to_owned(), "true".to_owned());
        }
        labels
    }

    /// Everything but reserved and excluded labels, and the mirror's own.
    fn copied_labels(&self, remote: &Service) -> BTreeMap<String, String> {
        let mut labels: BTreeMap<String, String> = remote
            .labels()
            .iter()
            .filter(|(key, _)| !self.is_label_excluded(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        labels.insert(label::MIRRORED_SERVICE.to_owned(), "true".to_owned());
        labels.insert(label::CLUSTER_NAME.to_owned(), self.link.target_cluster_name.clone());
        labels
    }

    fn is_label_excluded(&self, key: &str) -> bool {
        (key.starts_with(MIRROR_PREFIX) && !self.has(Defect::ReservedLabelsCopied))
            || is_listed(&self.link.excluded_labels, key)
    }

    fn service_annotations(&self, remote: &Service) -> BTreeMap<String, String> {
        let mut annotations: BTreeMap<String, String> = remote
            .annotations()
            .iter()
            .filter(|(key, _)| !self.is_annotation_excluded(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if !self.has(Defect::MirrorMetadataMissing) {
            annotations.insert(annotation::REMOTE_SVC_FQ_NAME.to_owned(), self.full_name(remote));
        }
        annotations.insert(
            annotation::REMOTE_RESOURCE_VERSION.to_owned(),
            remote.resource_version().unwrap_or_default(),
        );
        annotations
    }

    fn is_annotation_excluded(&self, key: &str) -> bool {
        // Opaque ports travel even when excluded: without them the protocol of the ports would change on the way.
        key != annotation::OPAQUE_PORTS
            && (matches!(
                key,
                "service.kubernetes.io/topology-aware-hints" | "service.kubernetes.io/topology-mode"
            ) || is_listed(&self.link.excluded_annotations, key))
    }

    fn full_name(&self, remote: &Service) -> String {
        format!(
            "{}.{}.svc.{}",
            remote.name_any(),
            remote.namespace().unwrap_or_default(),
            self.link.target_cluster_domain
        )
    }

    /// Name, protocol, port and target port; everything else of a port means nothing in another cluster.
    pub(super) fn service_ports(&self, remote: &Service) -> Vec<ServicePort> {
        let taken = if self.has(Defect::SecondPortDropped) {
            1
        } else {
            usize::MAX
        };
        ports(remote)
            .iter()
            .take(taken)
            .map(|port| ServicePort {
                name: port.name.clone(),
                protocol: port.protocol.clone(),
                port: port.port,
                target_port: port.target_port.clone(),
                ..ServicePort::default()
            })
            .collect()
    }

    /// The mirror Endpoints of `remote`.
    pub(super) fn endpoints(&self, remote: &Service, subsets: Vec<EndpointSubset>) -> Endpoints {
        let mut labels = self.copied_labels(remote);
        if self.has(Defect::SlicesNotMirrored) {
            labels.insert(label::SKIP_MIRROR.to_owned(), "true".to_owned());
        }
        let mut annotations: BTreeMap<String, String> =
            [(annotation::REMOTE_SVC_FQ_NAME.to_owned(), self.full_name(remote))].into();
        self.annotate_identity(&mut annotations);
        Endpoints {
            metadata: ObjectMeta {
                name: Some(self.mirror_name(&remote.name_any())),
                namespace: remote.namespace(),
                labels: Some(labels),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            },
            subsets: Some(subsets),
        }
    }

    /// Adds the identity that the gateway must prove.
    pub(super) fn annotate_identity(&self, annotations: &mut BTreeMap<String, String>) {
        if !self.link.gateway_identity.is_empty() && !self.has(Defect::GatewayIdentityMissingOnEndpoints) {
            annotations.insert(
                annotation::REMOTE_GATEWAY_IDENTITY.to_owned(),
                self.link.gateway_identity.clone(),
            );
        }
    }

    /// Every port of `service` (remote or mirror: they are the same) leads to the gateway's port, under its own name.
    pub(super) fn subsets(
        &self,
        service: &Service,
        gateway: &[IpAddr],
        empty: bool,
        readiness: Readiness,
    ) -> Result<Vec<EndpointSubset>, String> {
        let port = &self.link.gateway_port;
        let gateway_port: i32 = port
            .parse()
            .map_err(|_| format!("strconv.ParseInt: parsing {port:?}: invalid syntax"))?;
        if empty {
            return Ok(Vec::new());
        }
        let ports = ports(service)
            .iter()
            .map(|port| EndpointPort {
                name: port.name.clone(),
                protocol: port.protocol.clone(),
                port: gateway_port,
                ..EndpointPort::default()
            })
            .collect();
        let addresses = Some(addresses(gateway));
        Ok(vec![match readiness {
            Readiness::Ready => EndpointSubset {
                addresses,
                not_ready_addresses: None,
                ports: Some(ports),
            },
            Readiness::NotReady => EndpointSubset {
                addresses: None,
                not_ready_addresses: addresses,
                ports: Some(ports),
            },
        }])
    }

    /// Endpoints of the probe Service: always ready, because the probe itself has to get through.
    pub(super) fn probe_endpoints(&self, namespace: &str, name: &str, gateway: &[IpAddr]) -> Result<Endpoints, String> {
        let port = self
            .link
            .probe_spec
            .port
            .parse()
            .map_err(|_| format!("failed to parse probe port: {:?}", self.link.probe_spec.port))?;
        Ok(Endpoints {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace.to_owned()),
                labels: Some([(label::CLUSTER_NAME.to_owned(), self.link.target_cluster_name.clone())].into()),
                annotations: Some(
                    [(
                        annotation::REMOTE_GATEWAY_IDENTITY.to_owned(),
                        self.link.gateway_identity.clone(),
                    )]
                    .into(),
                ),
                ..ObjectMeta::default()
            },
            subsets: Some(vec![EndpointSubset {
                addresses: Some(addresses(gateway)),
                not_ready_addresses: None,
                ports: Some(vec![EndpointPort {
                    name: Some(PROBE_PORT_NAME.to_owned()),
                    port,
                    protocol: Some("TCP".to_owned()),
                    ..EndpointPort::default()
                }]),
            }]),
        })
    }

    /// The entries of `gatewayAddress`: IP addresses and names, not all of which need to be any good.
    pub(super) fn gateway_hosts(&self) -> Vec<&str> {
        let entries = self.link.gateway_address.split(',');
        let taken = if self.has(Defect::OnlyFirstGatewayAddress) {
            1
        } else {
            usize::MAX
        };
        entries.take(taken).map(|entry| self.without_port(entry)).collect()
    }

    fn without_port<'e>(&self, entry: &'e str) -> &'e str {
        match entry.rsplit_once(':') {
            Some((host, port))
                if self.has(Defect::GatewayAddressPortStripped)
                    && port.parse::<u16>().is_ok()
                    && !host.contains(':') =>
            {
                host
            }
            _ => entry,
        }
    }
}

/// Readiness that existing Endpoints show.
pub(super) fn present_readiness(endpoints: &Endpoints) -> Readiness {
    let subsets = endpoints.subsets.iter().flatten();
    let mut unready = false;
    for subset in subsets {
        if subset.addresses.as_ref().is_some_and(|list| !list.is_empty()) {
            return Readiness::Ready;
        }
        unready |= subset.not_ready_addresses.as_ref().is_some_and(|list| !list.is_empty());
    }
    if unready { Readiness::NotReady } else { Readiness::Ready }
}

/// Whether mirror Endpoints hold no address at all, ready or not.
pub(super) fn holds_no_address(endpoints: &Endpoints) -> bool {
    holds_no_ready_address(endpoints)
        && !endpoints
            .subsets
            .iter()
            .flatten()
            .any(|subset| subset.not_ready_addresses.as_ref().is_some_and(|list| !list.is_empty()))
}

/// Whether Endpoints hold no address that is ready.
pub(super) fn holds_no_ready_address(endpoints: &Endpoints) -> bool {
    !endpoints
        .subsets
        .iter()
        .flatten()
        .any(|subset| subset.addresses.as_ref().is_some_and(|list| !list.is_empty()))
}

fn addresses(gateway: &[IpAddr]) -> Vec<EndpointAddress> {
    gateway
        .iter()
        .map(|ip| EndpointAddress {
            ip: ip.to_string(),
            ..EndpointAddress::default()
        })
        .collect()
}

fn ports(service: &Service) -> &[ServicePort] {
    service
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default()
}

/// Literal keys, or `group/*` for all that start with `group`.
fn is_listed(excluded: &[String], key: &str) -> bool {
    excluded.iter().any(|entry| match entry.strip_suffix("/*") {
        Some(group) => key.starts_with(group),
        None => entry == key,
    })
}

/// Namespaces in which nothing of a user's lives.
fn is_system_namespace(namespace: &str) -> bool {
    namespace == "default" || namespace.starts_with("kube-") || namespace.starts_with("linkerd")
}

#[cfg(test)]
mod tests;
