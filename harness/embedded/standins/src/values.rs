//! Chart values: `--set`, `--set-file`, values files, and what the model has of them. A value that the model does not have
//! is refused, where Helm would ignore or use it: nothing may pass here because it was silently dropped.

use serde::Deserialize;
use serde_json::{Map, Value};

use meshproof_mesh::install::{
    ControlPlaneValues, ControllerValues, GatewayServiceType, GatewayValues, MulticlusterValues, Trust,
};

use crate::exchange::{Failure, not_modelled};

/// Most entries that an index of `--set` may reach.
const MOST: usize = 1000;

/// Puts one `--set` text (`a.b[0].c=x,d=y`) into values.
pub(crate) fn set(values: &mut Value, text: &str) -> Result<(), Failure> {
    let failed = |what: &str| Failure::new(format!("failed parsing --set data: {what}"));
    for assignment in split(text, ',') {
        let mut sides = split(&assignment, '=');
        if sides.len() < 2 {
            return Err(failed(&format!("key \"{assignment}\" has no value")));
        }
        let key = sides.remove(0);
        let mut place = &mut *values;
        for name in split(&key, '.') {
            place = step(place, &name).ok_or_else(|| failed(&format!("error parsing index of \"{key}\"")))?;
        }
        *place = typed(&sides.join("=").replace('\\', ""));
    }
    Ok(())
}

/// Splits at separators that no backslash stands before; backslashes stay.
fn split(text: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        if c == separator && !escaped {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(c);
        }
        escaped = c == '\\' && !escaped;
    }
    parts
}

/// One step of a key: `name`, or `name[0]`.
fn step<'a>(place: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let mut indices = name.split('[');
    let key = indices.next()?.replace('\\', "");
    if !place.is_object() {
        *place = Value::Object(Map::new());
    }
    let mut place = place.as_object_mut()?.entry(key).or_insert(Value::Null);
    for index in indices {
        let index: usize = index.strip_suffix(']')?.parse().ok().filter(|index| *index < MOST)?;
        if !place.is_array() {
            *place = Value::Array(Vec::new());
        }
        let list = place.as_array_mut()?;
        if list.len() <= index {
            list.resize(index + 1, Value::Null);
        }
        place = list.get_mut(index)?;
    }
    Some(place)
}

/// The type that Helm gives a text.
fn typed(text: &str) -> Value {
    match text {
        "true" => true.into(),
        "false" => false.into(),
        "null" => Value::Null,
        _ if text.starts_with('0') && text.len() > 1 => text.into(),
        _ => text.parse::<i64>().map_or_else(|_| text.into(), Value::from),
    }
}

/// Puts one set of values over another, as Helm does: objects are merged, everything else is replaced.
pub(crate) fn merge(into: &mut Value, over: Value) {
    match (into, over) {
        (Value::Object(into), Value::Object(over)) => {
            for (key, value) in over {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, over) => *into = over,
    }
}

/// Reads a values file.
pub(crate) fn read(text: &str) -> Result<Value, Failure> {
    let value: Value =
        serde_yaml::from_str(text).map_err(|error| Failure::new(format!("failed to parse values: {error}")))?;
    Ok(if value.is_null() {
        Value::Object(Map::new())
    } else {
        value
    })
}

fn modelled<T: for<'a> Deserialize<'a>>(values: Value, chart: &str) -> Result<T, Failure> {
    serde_json::from_value(values).map_err(|error| not_modelled(&format!("a value of {chart} ({error})")))
}

/// The values of `linkerd-multicluster` that the model has.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Multicluster {
    gateway: Gateway,
    controllers: Vec<Controller>,
    enable_namespace_creation: bool,
    identity_trust_domain: Option<String>,
    remote_mirror_service_account_name: Option<Accounts>,
    /// Read and without effect: the model has no such Job.
    create_namespace_metadata_job: Option<bool>,
}

/// One name, names separated by commas, or a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Accounts {
    Text(String),
    List(Vec<String>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Gateway {
    enabled: bool,
    replicas: u32,
    service_type: String,
    load_balancer_class: String,
    node_port: Option<u16>,
    probe: Probe,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Probe {
    node_port: Option<u16>,
    seconds: u32,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            enabled: true,
            replicas: 1,
            service_type: "LoadBalancer".to_owned(),
            load_balancer_class: String::new(),
            node_port: None,
            probe: Probe::default(),
        }
    }
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            node_port: None,
            seconds: 3,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Controller {
    link: LinkReference,
    #[serde(default)]
    gateway: ControllerGateway,
    replicas: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkReference {
    #[serde(rename = "ref")]
    reference: Named,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ControllerGateway {
    enabled: Option<bool>,
    #[serde(default)]
    probe: ControllerProbe,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ControllerProbe {
    port: Option<u16>,
}

/// What the model installs for values of `linkerd-multicluster`. `trust_domain` is the control plane's, if known.
pub(crate) fn multicluster(values: Value, trust_domain: Option<String>) -> Result<MulticlusterValues, Failure> {
    let values: Multicluster = modelled(values, "linkerd-multicluster")?;
    let usual = MulticlusterValues::default();
    let gateway = values.gateway;
    let service_type = match gateway.service_type.as_str() {
        "LoadBalancer" if gateway.node_port.is_none() && gateway.probe.node_port.is_none() => {
            GatewayServiceType::LoadBalancer
        }
        "NodePort" => GatewayServiceType::NodePort {
            gateway: gateway.node_port,
            probe: gateway.probe.node_port,
        },
        other => {
            return Err(not_modelled(&format!(
                "a gateway Service of type {other} with these node ports"
            )));
        }
    };
    let controllers = values.controllers.into_iter().map(|controller| {
        let usual = ControllerValues::new(controller.link.reference.name);
        ControllerValues {
            gateway: controller.gateway.enabled.unwrap_or(usual.gateway),
            probe_port: controller.gateway.probe.port.unwrap_or(usual.probe_port),
            replicas: controller.replicas.unwrap_or(usual.replicas),
            ..usual
        }
    });
    Ok(MulticlusterValues {
        gateway: gateway.enabled.then(|| GatewayValues {
            service_type,
            load_balancer_class: Some(gateway.load_balancer_class).filter(|class| !class.is_empty()),
            replicas: gateway.replicas,
            probe_seconds: gateway.probe.seconds,
            ..GatewayValues::default()
        }),
        controllers: controllers.collect(),
        remote_access_accounts: match values.remote_mirror_service_account_name {
            Some(Accounts::Text(names)) => names.split(',').map(ToOwned::to_owned).collect(),
            Some(Accounts::List(names)) => names,
            None => usual.remote_access_accounts,
        },
        namespace_creation: values.enable_namespace_creation,
        trust_domain: values
            .identity_trust_domain
            .or(trust_domain)
            .unwrap_or(usual.trust_domain),
    })
}

/// The values of `linkerd-control-plane` that the model has.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ControlPlane {
    cluster_domain: Option<String>,
    identity_trust_domain: Option<String>,
    #[serde(rename = "identityTrustAnchorsPEM")]
    anchors: Option<String>,
    identity: Identity,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Identity {
    issuer: Issuer,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Issuer {
    tls: IssuerTls,
    issuance_lifetime: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct IssuerTls {
    #[serde(rename = "crtPEM")]
    certificate: Option<String>,
    #[serde(rename = "keyPEM")]
    key: Option<String>,
}

/// What the model installs for values of `linkerd-control-plane`. Refuses with the words of the chart when the certificates
/// are not there; the real command line would make some.
pub(crate) fn control_plane(values: Value) -> Result<ControlPlaneValues, Failure> {
    let values: ControlPlane = modelled(values, "linkerd-control-plane")?;
    let Issuer { tls, issuance_lifetime } = values.identity.issuer;
    let (Some(anchors), Some(issuer_certificate), Some(issuer_key)) = (values.anchors, tls.certificate, tls.key) else {
        return Err(Failure::new(
            "Please provide the identity trust anchors, issuer certificate and issuer key",
        ));
    };
    let usual = ControlPlaneValues::new(Trust {
        anchors,
        issuer_certificate,
        issuer_key,
    });
    Ok(ControlPlaneValues {
        trust_domain: values.identity_trust_domain.unwrap_or(usual.trust_domain),
        cluster_domain: values.cluster_domain.unwrap_or(usual.cluster_domain),
        issuance_lifetime: issuance_lifetime.unwrap_or(usual.issuance_lifetime),
        trust: usual.trust,
    })
}

#[cfg(test)]
mod tests {
    use meshproof_mesh::install::GatewayServiceType;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::{merge, multicluster, set};

    fn with(texts: &[&str]) -> Value {
        let mut values = json!({});
        for text in texts {
            set(&mut values, text).unwrap();
        }
        values
    }

    #[rstest]
    #[case("a.b=1", json!({"a": {"b": 1}}))]
    #[case("a=true,b=x", json!({"a": true, "b": "x"}))]
    #[case("a[1].b=x", json!({"a": [null, {"b": "x"}]}))]
    #[case(r"a\.b=x", json!({"a.b": "x"}))]
    #[case(r"a=x\,y", json!({"a": "x,y"}))]
    #[case("a=x=y", json!({"a": "x=y"}))]
    #[case("a=007", json!({"a": "007"}))]
    #[case("a=null", json!({"a": null}))]
    fn set_reads_as_helm_does(#[case] text: &str, #[case] expected: Value) {
        assert_eq!(with(&[text]), expected);
    }

    #[rstest]
    #[case("a", "has no value")]
    #[case("a[x]=1", "index")]
    #[case("a[99999999]=1", "index")]
    fn what_set_cannot_read_is_told(#[case] text: &str, #[case] problem: &str) {
        let failure = set(&mut json!({}), text).unwrap_err();
        assert!(failure.message.contains(problem), "{}", failure.message);
    }

    #[test]
    fn later_values_win_and_objects_merge() {
        let mut values = json!({"a": {"b": 1, "c": [1, 2]}});
        merge(&mut values, json!({"a": {"c": [3]}, "d": null}));
        assert_eq!(values, json!({"a": {"b": 1, "c": [3]}, "d": null}));
    }

    #[test]
    fn the_drivers_values_reach_the_model() {
        let values = with(&[
            "gateway.serviceType=NodePort",
            "gateway.nodePort=30143,gateway.probe.nodePort=30191",
            "gateway.loadBalancerClass=meshproof.dev/node",
            "controllers[0].link.ref.name=east",
            "controllers[0].gateway.probe.port=30191",
            "controllers[1].link.ref.name=north",
            "controllers[1].gateway.enabled=false",
        ]);
        let read = multicluster(values, Some("west.test".to_owned())).unwrap();
        let gateway = read.gateway.unwrap();
        assert_eq!(
            gateway.service_type,
            GatewayServiceType::NodePort {
                gateway: Some(30143),
                probe: Some(30191)
            }
        );
        assert_eq!(gateway.load_balancer_class.as_deref(), Some("meshproof.dev/node"));
        assert_eq!(
            (read.controllers[0].link.as_str(), read.controllers[0].probe_port),
            ("east", 30191)
        );
        assert!(!read.controllers[1].gateway);
        assert_eq!(read.trust_domain, "west.test");
    }

    #[test]
    fn a_value_that_the_model_does_not_have_is_refused() {
        let Err(failure) = multicluster(with(&["gateway.UID=1"]), None) else {
            panic!("was taken");
        };
        assert_eq!(failure.code, 126);
        assert!(failure.message.contains("UID"), "{}", failure.message);
    }
}
