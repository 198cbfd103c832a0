use std::collections::BTreeSet;

use serde_json::Value;

use super::{ControllerValues, GatewayServiceType, GatewayValues, MulticlusterValues, multicluster};
use crate::defect::{Defect, Defects};

/// What the real chart created on a cluster with one linked cluster.
const RECORDED: &[&str] = &[
    "Namespace/linkerd-multicluster",
    "Deployment/linkerd-gateway",
    "Service/linkerd-gateway",
    "ServiceAccount/linkerd-gateway",
    "Server/linkerd-gateway",
    "AuthorizationPolicy/linkerd-gateway",
    "MeshTLSAuthentication/any-meshed",
    "NetworkAuthentication/source-cluster",
    "ClusterRole/linkerd-service-mirror-remote-access-default",
    "ServiceAccount/linkerd-service-mirror-remote-access-default",
    "Secret/linkerd-service-mirror-remote-access-default-token",
    "ClusterRoleBinding/linkerd-service-mirror-remote-access-default",
    "CustomResourceDefinition/links.multicluster.linkerd.io",
    "Server/linkerd-admin",
    "AuthorizationPolicy/linkerd-admin",
    "Server/service-mirror",
    "AuthorizationPolicy/service-mirror",
    "Server/controller",
    "AuthorizationPolicy/controller",
    "Server/local-service-mirror",
    "AuthorizationPolicy/local-service-mirror",
    "ClusterRole/linkerd-local-service-mirror-access-local-resources",
    "ClusterRoleBinding/linkerd-local-service-mirror-access-local-resources",
    "ServiceAccount/linkerd-local-service-mirror",
    "Deployment/linkerd-local-service-mirror",
    "ClusterRole/linkerd-multicluster-controller-access-local-resources",
    "Deployment/controller-east",
    "Service/probe-east",
    "ServiceAccount/controller-east",
    "ClusterRoleBinding/linkerd-multicluster-controller-access-local-resources-east",
    "Role/controller-read-remote-creds-east",
    "RoleBinding/controller-read-remote-creds-east",
];

fn values() -> MulticlusterValues {
    MulticlusterValues {
        controllers: vec![ControllerValues::new("east")],
        ..MulticlusterValues::default()
    }
}

fn names(objects: &[Value]) -> Vec<String> {
    objects
        .iter()
        .map(|object| {
            format!(
                "{}/{}",
                object["kind"].as_str().unwrap(),
                object["metadata"]["name"].as_str().unwrap()
            )
        })
        .collect()
}

fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
        .unwrap()
}

#[test]
fn the_objects_are_those_of_the_chart() {
    let mut printed = names(&multicluster(&Defects::default(), &values()));
    let last = &printed[printed.len() - 3..];
    assert!(last.iter().all(|name| name.starts_with("Deployment/")), "{last:?}");
    printed.sort_unstable();
    let mut recorded = RECORDED.to_vec();
    recorded.sort_unstable();
    assert_eq!(printed, recorded);
}

#[test]
fn the_controller_is_called_as_the_real_one() {
    let objects = multicluster(&Defects::default(), &values());
    let container = &find(&objects, "Deployment", "controller-east")["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        container["args"],
        serde_json::json!([
            "service-mirror",
            "-log-level=info",
            "-log-format=plain",
            "-event-requeue-limit=3",
            "-namespace=linkerd-multicluster",
            "-enable-pprof=false",
            "-probe-service=probe-east",
            "east"
        ])
    );
    assert_eq!(
        container["ports"],
        serde_json::json!([{"containerPort": 9999, "name": "ctrl-admin"}])
    );
}

#[test]
fn without_a_gateway_nothing_of_it_is_there() {
    let without = MulticlusterValues {
        gateway: None,
        controllers: vec![ControllerValues {
            gateway: false,
            ..ControllerValues::new("east")
        }],
        ..MulticlusterValues::default()
    };
    let names = names(&multicluster(&Defects::default(), &without));
    assert!(!names.iter().any(|name| name.contains("gateway")));
    assert!(!names.contains(&"Service/probe-east".to_owned()));
    assert!(names.contains(&"Deployment/controller-east".to_owned()));
}

#[test]
fn a_node_port_gateway_fixes_its_ports_when_told() {
    let values = MulticlusterValues {
        gateway: Some(GatewayValues {
            service_type: GatewayServiceType::NodePort {
                gateway: Some(30143),
                probe: None,
            },
            ..GatewayValues::default()
        }),
        ..values()
    };
    let objects = multicluster(&Defects::default(), &values);
    let spec = &find(&objects, "Service", "linkerd-gateway")["spec"];
    assert_eq!(spec["type"], "NodePort");
    assert_eq!(spec["ports"][0]["nodePort"], 30143);
    assert!(spec["ports"][1].get("nodePort").is_none());
}

#[test]
fn remote_access_neither_reads_secrets_nor_writes_unless_a_defect_is_on() {
    let verbs = |defects: &Defects, resource: &str| -> BTreeSet<String> {
        let objects = multicluster(defects, &values());
        find(&objects, "ClusterRole", "linkerd-service-mirror-remote-access-default")["rules"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|rule| rule["resources"].as_array().unwrap().contains(&resource.into()))
            .flat_map(|rule| rule["verbs"].as_array().unwrap().clone())
            .map(|verb| verb.as_str().unwrap().to_owned())
            .collect()
    };
    let read: BTreeSet<String> = ["get", "list", "watch"].map(str::to_owned).into();
    let clean = Defects::default();
    assert!(verbs(&clean, "secrets").is_empty());
    assert_eq!(verbs(&clean, "services"), read);
    let secrets = [Defect::RemoteAccessReadsSecrets].into_iter().collect();
    assert_eq!(verbs(&secrets, "secrets"), read);
    assert_eq!(verbs(&secrets, "services"), read);
    let services = [Defect::RemoteAccessWritesServices].into_iter().collect();
    assert!(verbs(&services, "services").contains("delete"));
    assert!(verbs(&services, "secrets").is_empty());
}

#[test]
fn namespace_creation_is_a_right_of_its_own() {
    let creating = MulticlusterValues {
        namespace_creation: true,
        ..values()
    };
    let objects = multicluster(&Defects::default(), &creating);
    let rules = find(
        &objects,
        "ClusterRole",
        "linkerd-multicluster-controller-access-local-resources",
    )["rules"]
        .to_string();
    assert!(rules.contains(r#""namespaces"],"verbs":["create"]"#));
    let args = &find(&objects, "Deployment", "controller-east")["spec"]["template"]["spec"]["containers"][0]["args"];
    assert!(args.as_array().unwrap().contains(&"-enable-namespace-creation".into()));
}

#[test]
fn each_install_defect_changes_one_thing() {
    let clean = multicluster(&Defects::default(), &values());
    for (defect, changed) in [
        (
            Defect::InstallOmitsLocalServiceMirror,
            "Deployment/linkerd-local-service-mirror",
        ),
        (Defect::GatewayProbePeriodWrong, "Service/linkerd-gateway"),
        (Defect::ControllerNotInjected, "Deployment/controller-east"),
        (
            Defect::RemoteAccessReadsSecrets,
            "ClusterRole/linkerd-service-mirror-remote-access-default",
        ),
        (
            Defect::RemoteAccessWritesServices,
            "ClusterRole/linkerd-service-mirror-remote-access-default",
        ),
        (
            Defect::LinkPeriodUnchecked,
            "CustomResourceDefinition/links.multicluster.linkerd.io",
        ),
    ] {
        let with = multicluster(&[defect].into_iter().collect(), &values());
        let differing: Vec<String> = names(&clean)
            .into_iter()
            .zip(&clean)
            .filter(|(_, object)| !with.contains(object))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(differing, [changed], "{defect}");
    }
}
