//! Link objects in all their API versions: v1alpha1 (2.14 to 2.16) has no status and no federated services, v1alpha2
//! (2.17) adds both, v1alpha3 (2.18 and later) adds exclusions.

use serde_json::Value;

/// A Link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Version of its API, e.g. `v1alpha3`.
    pub version: String,
    /// Name of the linked cluster: suffix of the mirrors' names.
    pub cluster: String,
    /// Name of the Secret with the credentials.
    pub credentials: String,
    /// The gateway, if the linked cluster has one.
    pub gateway: Option<LinkGateway>,
    /// What has become of each exported Service. It can drift from the truth for good (seen on real clusters after fast
    /// removals and after linking again), so nothing is decided by it alone.
    pub mirrored: Vec<ServiceStatus>,
    /// What has become of each federated Service; as above.
    pub federated: Vec<ServiceStatus>,
}

/// A linked cluster's gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkGateway {
    /// Addresses or host names.
    pub addresses: Vec<String>,
    /// Port of the data traffic.
    pub port: u16,
    /// Identity that its certificate must have.
    pub identity: String,
    /// Port that is probed.
    pub probe_port: u16,
    /// Period between probes as written, e.g. `3s`.
    pub probe_period: String,
}

/// What has become of a Service of the linked cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceStatus {
    /// Namespace and name in the linked cluster.
    pub remote: (String, String),
    /// Namespace and name here, once it is mirrored.
    pub local: Option<(String, String)>,
    /// Whether it is mirrored.
    pub mirrored: bool,
    /// `Mirrored`, `InvalidService`, `Error` or `MissingNamespace`.
    pub reason: String,
    /// More about it, often empty.
    pub message: String,
}

/// Reads a Link.
///
/// # Errors
/// Which field is not as expected.
pub fn read(object: &Value) -> Result<Link, String> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let required =
        |pointer: &str| text(pointer).ok_or_else(|| format!("the Link has no {}", pointer[1..].replace('/', ".")));
    let version = required("/apiVersion")?;
    let version = version
        .strip_prefix("multicluster.linkerd.io/")
        .ok_or_else(|| format!("`{version}` is no version of a Link"))?;
    let gateway = match text("/spec/gatewayAddress").filter(|address| !address.is_empty()) {
        None => None,
        Some(addresses) => {
            let port = |pointer: &str| {
                let text = required(pointer)?;
                text.parse()
                    .map_err(|_| format!("{} of the Link is `{text}`, not a port", pointer[1..].replace('/', ".")))
            };
            Some(LinkGateway {
                addresses: addresses.split(',').map(|one| one.trim().to_owned()).collect(),
                port: port("/spec/gatewayPort")?,
                identity: required("/spec/gatewayIdentity")?.to_owned(),
                probe_port: port("/spec/probeSpec/port")?,
                probe_period: required("/spec/probeSpec/period")?.to_owned(),
            })
        }
    };
    Ok(Link {
        name: required("/metadata/name")?.to_owned(),
        version: version.to_owned(),
        cluster: required("/spec/targetClusterName")?.to_owned(),
        credentials: required("/spec/clusterCredentialsSecret")?.to_owned(),
        gateway,
        mirrored: services(&object["status"]["mirrorServices"])?,
        federated: services(&object["status"]["federatedServices"])?,
    })
}

/// Reads `status.mirrorServices` or `status.federatedServices`; absent ones are empty.
///
/// # Errors
/// Which field is not as expected.
pub fn services(list: &Value) -> Result<Vec<ServiceStatus>, String> {
    list.as_array().into_iter().flatten().map(service).collect()
}

fn service(entry: &Value) -> Result<ServiceStatus, String> {
    let reference = |of: &Value| {
        let part = |key: &str| of[key].as_str().map(ToOwned::to_owned);
        Some((part("namespace")?, part("name")?))
    };
    let remote = reference(&entry["remoteRef"]).ok_or("an entry of the Link's status has no remoteRef")?;
    let condition = entry["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == "Mirrored")
        .ok_or_else(|| format!("{}/{} has no condition Mirrored", remote.0, remote.1))?;
    let text = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
    Ok(ServiceStatus {
        local: reference(&condition["localRef"]),
        mirrored: condition["status"] == "True",
        reason: text("reason"),
        message: text("message"),
        remote,
    })
}

#[cfg(test)]
mod tests {
    use super::read;
    use serde_json::json;

    fn link(version: &str) -> serde_json::Value {
        json!({"apiVersion": format!("multicluster.linkerd.io/{version}"), "kind": "Link",
            "metadata": {"name": "east"},
            "spec": {"targetClusterName": "east", "clusterCredentialsSecret": "cluster-credentials-east"}})
    }

    #[test]
    fn the_first_version_has_no_status_and_a_flat_link_no_gateway() {
        let link = read(&link("v1alpha1")).unwrap();
        assert_eq!(link.version, "v1alpha1");
        assert_eq!((link.gateway, link.mirrored.len(), link.federated.len()), (None, 0, 0));
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut broken = link("v1alpha2");
        broken["spec"]["gatewayAddress"] = "10.0.0.1, gw.example".into();
        broken["spec"]["gatewayPort"] = "host:30143".into();
        assert_eq!(
            read(&broken).unwrap_err(),
            "spec.gatewayPort of the Link is `host:30143`, not a port"
        );
        assert!(read(&json!({})).unwrap_err().contains("apiVersion"));
        assert!(read(&link("v1alpha3")).is_ok());
        broken = link("v1alpha3");
        broken["status"]["mirrorServices"] = json!([{}]);
        assert!(read(&broken).unwrap_err().contains("remoteRef"));
    }
}
