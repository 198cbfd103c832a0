use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Endpoints, Service};
use rstest::rstest;
use serde_json::{Value, json};

use super::{Desired, Export, Readiness, holds_no_address, holds_no_ready_address, present_readiness};
use crate::defect::{Defect, Defects};
use crate::mirror::link::LinkSpec;

fn link() -> LinkSpec {
    serde_json::from_value(json!({
        "targetClusterName": "east",
        "targetClusterDomain": "cluster.local",
        "gatewayAddress": "172.18.0.3",
        "gatewayPort": "30143",
        "gatewayIdentity": "gateway.identity",
        "probeSpec": {"path": "/ready", "port": "30191", "period": "3s", "failureThreshold": "3", "timeout": "30s"},
        "selector": {"matchLabels": {"mirror.linkerd.io/exported": "true"}},
        "remoteDiscoverySelector": {"matchLabels": {"mirror.linkerd.io/exported": "remote-discovery"}},
        "federatedServiceSelector": {"matchLabels": {"mirror.linkerd.io/federated": "member"}},
        "excludedLabels": ["argocd.argoproj.io/*", "team"],
        "excludedAnnotations": ["secret", "config.linkerd.io/opaque-ports"]
    }))
    .unwrap()
}

fn defects(all: &[Defect]) -> Defects {
    all.iter().copied().collect()
}

fn remote(metadata: Value) -> Service {
    let mut service = json!({
        "metadata": {"name": "echo", "namespace": "lab", "resourceVersion": "6065"},
        "spec": {
            "selector": {"app": "echo"},
            "clusterIP": "10.43.0.7",
            "type": "NodePort",
            "sessionAffinity": "ClientIP",
            "ports": [
                {"name": "http", "port": 8080, "targetPort": "web", "protocol": "TCP", "nodePort": 30001, "appProtocol": "h2c"},
                {"name": "raw", "port": 9090, "targetPort": 9090, "protocol": "TCP"}
            ]
        }
    });
    for (key, value) in metadata.as_object().unwrap() {
        service["metadata"][key] = value.clone();
    }
    serde_json::from_value(service).unwrap()
}

fn exported() -> Service {
    remote(json!({
        "labels": {
            "app": "echo",
            "team": "a",
            "argocd.argoproj.io/instance": "x",
            "mirror.linkerd.io/exported": "true",
            "mirror.linkerd.io/note": "reserved"
        },
        "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": "{}",
            "config.linkerd.io/opaque-ports": "9090",
            "service.kubernetes.io/topology-mode": "Auto",
            "secret": "x"
        }
    }))
}

fn endpoints(subsets: Value) -> Endpoints {
    serde_json::from_value(json!({"metadata": {"name": "echo", "namespace": "lab"}, "subsets": subsets})).unwrap()
}

#[test]
fn a_mirror_has_the_recorded_shape() {
    let (link, clean) = (link(), Defects::default());
    let desired = Desired {
        link: &link,
        defects: &clean,
    };
    assert_eq!(
        serde_json::to_value(desired.service(&exported())).unwrap(),
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": "echo-east",
                "namespace": "lab",
                "labels": {
                    "app": "echo",
                    "mirror.linkerd.io/cluster-name": "east",
                    "mirror.linkerd.io/mirrored-service": "true"
                },
                "annotations": {
                    "config.linkerd.io/opaque-ports": "9090",
                    "kubectl.kubernetes.io/last-applied-configuration": "{}",
                    "mirror.linkerd.io/remote-resource-version": "6065",
                    "mirror.linkerd.io/remote-svc-fq-name": "echo.lab.svc.cluster.local"
                }
            },
            "spec": {"ports": [
                {"name": "http", "port": 8080, "targetPort": "web", "protocol": "TCP"},
                {"name": "raw", "port": 9090, "targetPort": 9090, "protocol": "TCP"}
            ]}
        })
    );
}

#[test]
fn mirror_endpoints_have_the_recorded_shape() {
    let (link, clean) = (link(), Defects::default());
    let desired = Desired {
        link: &link,
        defects: &clean,
    };
    let gateway: Vec<IpAddr> = vec!["172.18.0.3".parse().unwrap()];
    let subsets = desired.subsets(&exported(), &gateway, false, Readiness::Ready).unwrap();
    assert_eq!(
        serde_json::to_value(desired.endpoints(&exported(), subsets)).unwrap(),
        json!({
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {
                "name": "echo-east",
                "namespace": "lab",
                "labels": {
                    "app": "echo",
                    "mirror.linkerd.io/cluster-name": "east",
                    "mirror.linkerd.io/mirrored-service": "true"
                },
                "annotations": {
                    "mirror.linkerd.io/remote-gateway-identity": "gateway.identity",
                    "mirror.linkerd.io/remote-svc-fq-name": "echo.lab.svc.cluster.local"
                }
            },
            "subsets": [{
                "addresses": [{"ip": "172.18.0.3"}],
                "ports": [
                    {"name": "http", "port": 30143, "protocol": "TCP"},
                    {"name": "raw", "port": 30143, "protocol": "TCP"}
                ]
            }]
        })
    );
    let down = desired
        .subsets(&exported(), &gateway, false, Readiness::NotReady)
        .unwrap();
    assert!(down[0].addresses.is_none());
    assert_eq!(down[0].not_ready_addresses.as_ref().unwrap().len(), 1);
    assert!(
        desired
            .subsets(&exported(), &gateway, true, Readiness::Ready)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn probe_endpoints_have_the_recorded_shape() {
    let (link, clean) = (link(), Defects::default());
    let desired = Desired {
        link: &link,
        defects: &clean,
    };
    let endpoints = desired
        .probe_endpoints("linkerd-multicluster", "probe-east", &["172.18.0.3".parse().unwrap()])
        .unwrap();
    assert_eq!(
        serde_json::to_value(endpoints).unwrap(),
        json!({
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {
                "name": "probe-east",
                "namespace": "linkerd-multicluster",
                "labels": {"mirror.linkerd.io/cluster-name": "east"},
                "annotations": {"mirror.linkerd.io/remote-gateway-identity": "gateway.identity"}
            },
            "subsets": [{
                "addresses": [{"ip": "172.18.0.3"}],
                "ports": [{"name": "mc-probe", "port": 30191, "protocol": "TCP"}]
            }]
        })
    );
}

#[rstest]
#[case::gateway(json!({"labels": {"mirror.linkerd.io/exported": "true"}}), &[], Export::Gateway)]
#[case::flat(json!({"labels": {"mirror.linkerd.io/exported": "remote-discovery"}}), &[], Export::RemoteDiscovery)]
#[case::other_value(json!({"labels": {"mirror.linkerd.io/exported": "false"}}), &[], Export::No)]
#[case::unlabelled(json!({}), &[], Export::No)]
#[case::annotation(json!({"annotations": {"mirror.linkerd.io/exported": "true"}}), &[], Export::No)]
#[case::ignored(json!({"labels": {"mirror.linkerd.io/exported": "true"}}), &[Defect::ExportsIgnored], Export::No)]
#[case::annotation_wrongly(
    json!({"annotations": {"mirror.linkerd.io/exported": "true"}}), &[Defect::AnnotationExports], Export::Gateway
)]
#[case::any_value_wrongly(
    json!({"labels": {"mirror.linkerd.io/exported": "false"}}), &[Defect::AnyLabelValueExports], Export::Gateway
)]
#[case::any_value_needs_the_label(json!({}), &[Defect::AnyLabelValueExports], Export::No)]
#[case::unlabelled_wrongly(json!({}), &[Defect::UnlabelledExports], Export::Gateway)]
#[case::unlabelled_is_not_annotated(
    json!({"annotations": {"mirror.linkerd.io/exported": "true"}}), &[Defect::UnlabelledExports], Export::No
)]
#[case::unlabelled_leaves_the_system_alone(json!({"namespace": "kube-system"}), &[Defect::UnlabelledExports], Export::No)]
#[case::selectors_are_there(json!({}), &[Defect::EmptySelectorSelectsAll], Export::No)]
fn labels_alone_export(#[case] metadata: Value, #[case] on: &[Defect], #[case] expected: Export) {
    let (link, on) = (link(), defects(on));
    let desired = Desired {
        link: &link,
        defects: &on,
    };
    assert_eq!(desired.export(&remote(metadata)), expected);
}

#[rstest]
#[case(Value::Null)]
#[case(json!({}))]
fn blank_selectors_select_nothing_unless_the_defect_is_on(#[case] selector: Value) {
    let link = LinkSpec {
        selector: serde_json::from_value(selector).unwrap(),
        ..link()
    };
    let (clean, wrong) = (Defects::default(), defects(&[Defect::EmptySelectorSelectsAll]));
    assert_eq!(
        Desired {
            link: &link,
            defects: &clean
        }
        .export(&exported()),
        Export::No
    );
    assert_eq!(
        Desired {
            link: &link,
            defects: &wrong
        }
        .export(&exported()),
        Export::Gateway
    );
}

#[test]
fn a_mirror_is_exported_on_only_when_the_defect_is_on_and_only_once() {
    let link = link();
    let exports_on = |on: &[Defect], remote: &Service| {
        let on = defects(on);
        let desired = Desired {
            link: &link,
            defects: &on,
        };
        let mirror = desired.service(remote);
        desired.export(&mirror)
    };
    assert_eq!(exports_on(&[], &exported()), Export::No);
    assert_eq!(exports_on(&[Defect::ReservedLabelsCopied], &exported()), Export::No);
    assert_eq!(exports_on(&[Defect::MirrorsOfMirrors], &exported()), Export::Gateway);
    let wrong = defects(&[Defect::MirrorsOfMirrors]);
    let mirror = Desired {
        link: &link,
        defects: &wrong,
    }
    .service(&exported());
    assert_eq!(exports_on(&[Defect::MirrorsOfMirrors], &mirror), Export::No);
}

#[rstest]
#[case(
    Defect::MirrorMetadataMissing,
    "/metadata/annotations/mirror.linkerd.io~1remote-svc-fq-name"
)]
#[case(Defect::SelectorCopied, "/spec/selector")]
#[case(Defect::SecondPortDropped, "/spec/ports/1")]
#[case(Defect::ReservedLabelsCopied, "/metadata/labels/mirror.linkerd.io~1note")]
#[case(Defect::MirrorsOfMirrors, "/metadata/labels/mirror.linkerd.io~1exported")]
fn a_mirror_defect_changes_what_it_says(#[case] defect: Defect, #[case] pointer: &str) {
    let (link, clean, wrong) = (link(), Defects::default(), defects(&[defect]));
    let has = |defects: &Defects| {
        serde_json::to_value(Desired { link: &link, defects }.service(&exported()))
            .unwrap()
            .pointer(pointer)
            .is_some()
    };
    assert_ne!(has(&clean), has(&wrong));
}

#[rstest]
#[case(
    Defect::GatewayIdentityMissingOnEndpoints,
    "/metadata/annotations/mirror.linkerd.io~1remote-gateway-identity"
)]
#[case(
    Defect::SlicesNotMirrored,
    "/metadata/labels/endpointslice.kubernetes.io~1skip-mirror"
)]
fn an_endpoints_defect_changes_what_it_says(#[case] defect: Defect, #[case] pointer: &str) {
    let (link, clean, wrong) = (link(), Defects::default(), defects(&[defect]));
    let has = |defects: &Defects| {
        serde_json::to_value(Desired { link: &link, defects }.endpoints(&exported(), Vec::new()))
            .unwrap()
            .pointer(pointer)
            .is_some()
    };
    assert_ne!(has(&clean), has(&wrong));
}

#[rstest]
#[case::none(json!([]), true, true)]
#[case::ready(json!([{"addresses": [{"ip": "10.0.0.1"}]}]), false, false)]
#[case::unready(json!([{"notReadyAddresses": [{"ip": "10.0.0.1"}]}]), true, false)]
fn a_service_is_empty_without_ready_pods(
    #[case] subsets: Value,
    #[case] clean_empty: bool,
    #[case] counted_empty: bool,
) {
    let link = link();
    let empty = |on: &[Defect]| {
        let on = defects(on);
        Desired {
            link: &link,
            defects: &on,
        }
        .is_empty(Some(&endpoints(subsets.clone())))
    };
    assert_eq!(empty(&[]), clean_empty);
    assert_eq!(empty(&[Defect::UnreadyPodsCounted]), counted_empty);
    assert!(!empty(&[Defect::EndpointsKeptWhenRemoteEmpty]));
}

#[test]
fn a_service_without_endpoints_is_empty() {
    let (link, clean) = (link(), Defects::default());
    assert!(
        Desired {
            link: &link,
            defects: &clean
        }
        .is_empty(None)
    );
}

#[rstest]
#[case("172.18.0.3", &[], &["172.18.0.3"])]
#[case("172.18.0.4,gateway.example", &[], &["172.18.0.4", "gateway.example"])]
#[case("fd00::3", &[], &["fd00::3"])]
#[case("172.18.0.3:4143", &[], &["172.18.0.3:4143"])]
#[case("172.18.0.3:4143", &[Defect::GatewayAddressPortStripped], &["172.18.0.3"])]
#[case("172.18.0.3,172.18.0.4", &[Defect::OnlyFirstGatewayAddress], &["172.18.0.3"])]
fn gateway_addresses_are_taken_apart(#[case] addresses: &str, #[case] on: &[Defect], #[case] expected: &[&str]) {
    let link = LinkSpec {
        gateway_address: addresses.into(),
        ..link()
    };
    let on = defects(on);
    let desired = Desired {
        link: &link,
        defects: &on,
    };
    assert_eq!(desired.gateway_hosts(), expected);
}

#[test]
fn names_go_there_and_back() {
    let (link, clean) = (link(), Defects::default());
    let desired = Desired {
        link: &link,
        defects: &clean,
    };
    assert_eq!(desired.mirror_name("echo"), "echo-east");
    assert_eq!(desired.remote_name("echo-east"), "echo");
    assert_eq!(desired.remote_name("east-east"), "east");
    assert_eq!(desired.remote_name("echo"), "echo");
}

#[test]
fn only_mirrors_of_this_link_are_its_own() {
    let (link, clean) = (link(), Defects::default());
    let desired = Desired {
        link: &link,
        defects: &clean,
    };
    assert!(desired.is_own_mirror(&desired.service(&exported())));
    assert!(!desired.is_own_mirror(&exported()));
    let other = LinkSpec {
        target_cluster_name: "north".into(),
        ..self::link()
    };
    let other = Desired {
        link: &other,
        defects: &clean,
    };
    assert!(!desired.is_own_mirror(&other.service(&exported())));
}

#[test]
fn readiness_is_read_off_endpoints() {
    let ready = endpoints(json!([{"addresses": [{"ip": "10.0.0.1"}]}]));
    let unready = endpoints(json!([{"notReadyAddresses": [{"ip": "10.0.0.1"}]}]));
    let none = endpoints(json!([]));
    assert_eq!(present_readiness(&ready), Readiness::Ready);
    assert_eq!(present_readiness(&unready), Readiness::NotReady);
    assert_eq!(present_readiness(&none), Readiness::Ready);
    assert!(!holds_no_address(&ready) && !holds_no_address(&unready) && holds_no_address(&none));
    assert!(!holds_no_ready_address(&ready) && holds_no_ready_address(&unready) && holds_no_ready_address(&none));
}

#[test]
fn a_gateway_port_that_is_none_is_named() {
    let link = LinkSpec {
        gateway_port: "mc".into(),
        ..link()
    };
    let clean = Defects::default();
    let error = Desired {
        link: &link,
        defects: &clean,
    }
    .subsets(&exported(), &[], false, Readiness::Ready)
    .unwrap_err();
    assert_eq!(error, "strconv.ParseInt: parsing \"mc\": invalid syntax");
}
