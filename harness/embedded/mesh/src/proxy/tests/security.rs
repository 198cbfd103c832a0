//! Who gets through, who does not, and what nobody may claim.

use std::time::Duration;

use http::StatusCode;
use rstest::rstest;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::testbed::{Answer, CLIENT_ID, GATEWAY_ID, Testbed, gateway_policies, pod_object};
use super::{EAST_GATEWAY, ECHO, ECHO_EAST, Pair};
use crate::defect::Defect;
use crate::identity::authority_tests::TestRoot;

#[rstest]
#[case::clean(&[], None)]
#[case::defect(&[Defect::GatewayAcceptsUnauthenticated], Some("east"))]
#[tokio::test(start_paused = true)]
async fn an_unmeshed_client_gets_no_byte_from_the_gateway(#[case] defects: &[Defect], #[case] expected: Option<&str>) {
    let pair = Pair::new(defects).await;
    let unmeshed = pair.testbed.unmeshed_pod(&pair.west, "raw", "default", "10.22.0.66");
    let mut stream = unmeshed.dial(&format!("{EAST_GATEWAY}:4143")).await.unwrap();
    stream
        .write_all(b"GET /headers HTTP/1.1\r\nhost: echo-east.lab:8080\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    match expected {
        None => assert_eq!(answer, ""),
        Some(cluster) => {
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
            assert!(answer.contains(&format!("\"cluster\":\"{cluster}\"")), "{answer}");
        }
    }
    assert_eq!(pair.client.get(ECHO_EAST, &[]).await.cluster(), "east");
}

#[rstest]
#[case::clean(&[], false, false)]
#[case::defect(&[Defect::ForeignRootAccepted], false, true)]
#[case::shared_root(&[], true, true)]
#[case::own_issuer(&[Defect::OnlyOwnIssuerTrusted], true, false)]
#[tokio::test(start_paused = true)]
async fn clusters_speak_only_under_one_root(#[case] defects: &[Defect], #[case] shared: bool, #[case] works: bool) {
    let (root, other) = (TestRoot::new(), TestRoot::new());
    let pair = Pair::with_roots(defects, &root, if shared { &root } else { &other }).await;
    assert_eq!(
        pair.client.get(ECHO, &[]).await.cluster(),
        "west",
        "within a cluster everything works"
    );
    let answer = pair.client.get(ECHO_EAST, &[]).await;
    if works {
        assert_eq!(answer.cluster(), "east");
    } else {
        assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
        assert!(answer.proxy_error().ends_with("service in fail-fast"));
        assert_eq!(pair.east_echo.metric("request_total", &["direction=\"inbound\""]), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_bundle_of_both_roots_joins_clusters_under_different_ones() {
    let (a, b) = (TestRoot::new(), TestRoot::new());
    let bundle = format!("{}\n{}", a.pem(), b.pem());
    let testbed = Testbed::new(&[]);
    let west = testbed.cluster_that_trusts("west", &a, &bundle);
    let east = testbed.cluster_that_trusts("east", &b, &bundle);
    let pair = Pair::of(testbed, west, east).await;
    assert_eq!(pair.client.get(ECHO_EAST, &[]).await.cluster(), "east");
}

/// What a TLS client that is no proxy of this mesh reads from the gateway after the handshake.
async fn tls_client(pair: &Pair, certificate: Option<TestRoot>) -> (Option<Vec<u8>>, std::io::Result<usize>) {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    for root in pair.east.model.authority.trust_roots().iter() {
        roots.add(root.clone()).unwrap();
    }
    let builder = builder.with_root_certificates(roots);
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(foreign) => {
            let authority = crate::identity::Authority::new();
            let (certificate, key) = foreign.issuer();
            authority.set_issuer(&certificate, &key).unwrap();
            let _serving = authority.serve();
            let leaf = authority.issue(CLIENT_ID).unwrap();
            builder.with_client_auth_cert(leaf.chain, leaf.key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"transport.l5d.io/v1".to_vec()];
    let raw = pair.testbed.unmeshed_pod(&pair.west, "raw", "default", "10.22.0.66");
    let stream = raw.dial(&format!("{EAST_GATEWAY}:4143")).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let mut stream = connector.connect(GATEWAY_ID.try_into().unwrap(), stream).await.unwrap();
    let alpn = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    let header = super::super::transport_header::TransportHeader {
        name: Some("echo.lab.svc.cluster.local".into()),
        port: 8080,
        protocol: super::super::transport_header::SessionProtocol::Http2,
        client: Some(CLIENT_ID.into()),
        version: None,
    };
    let _ = header.write(&mut stream).await;
    (alpn, stream.read(&mut [0; 64]).await)
}

#[tokio::test(start_paused = true)]
async fn a_tls_client_without_a_certificate_is_cut_off_after_the_handshake() {
    let pair = Pair::new(&[]).await;
    let (alpn, read) = tls_client(&pair, None).await;
    assert_eq!(alpn.as_deref(), Some(b"transport.l5d.io/v1".as_slice()));
    assert!(!matches!(read, Ok(length) if length > 0), "{read:?}");
    assert_eq!(
        pair.gateway
            .metric("inbound_http_authz_allow_total", &["target_port=\"4143\""]),
        0
    );
}

#[tokio::test(start_paused = true)]
async fn a_tls_client_with_a_foreign_certificate_is_told_that_its_issuer_is_unknown() {
    let pair = Pair::new(&[]).await;
    let (_, read) = tls_client(&pair, Some(TestRoot::named("foreign"))).await;
    let error = read.unwrap_err().to_string();
    assert!(error.contains("UnknownCA"), "{error}");
}

/// A word that must not be readable between the clusters.
const CANARY: &str = "meshproof-canary";
const HEADER_CANARY: &str = "meshproof-header-canary";

#[rstest]
#[case::clean(&[], false)]
#[case::defect(&[Defect::PlaintextOnLink], true)]
#[tokio::test(start_paused = true)]
async fn nothing_is_readable_between_the_clusters(#[case] defects: &[Defect], #[case] readable: bool) {
    let pair = Pair::new(defects).await;
    let mut stream = pair.client.dial("10.42.0.9:9000").await.unwrap();
    stream.write_all(CANARY.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, format!("HELLO east\n{}", CANARY.to_uppercase()));
    let answer = pair.client.get(ECHO_EAST, &[("x-canary", HEADER_CANARY)]).await;
    assert_eq!(
        (answer.cluster().as_str(), answer.header("x-canary").join("").as_str()),
        ("east", HEADER_CANARY)
    );
    assert_eq!(answer.header("l5d-client-id"), [GATEWAY_ID]);
    assert!(answer.header("forwarded")[0].contains(&format!("for={CLIENT_ID};")));
    let wire = pair.testbed.net.wire.lock().unwrap().clone();
    assert!(wire.len() > CANARY.len());
    for canary in [CANARY, HEADER_CANARY] {
        let found = wire.windows(canary.len()).any(|window| window == canary.as_bytes());
        assert_eq!(found, readable, "{canary}");
    }
    let encrypted = pair
        .client
        .metric("request_total", &["target_port=\"4143\"", "tls=\"true\""]);
    assert_eq!(encrypted, u64::from(!readable));
    assert_eq!(pair.client.get_http2(ECHO_EAST).await.seen()["version"], "2");
    // Within the clusters nothing changes.
    pair.client.get(ECHO, &[]).await;
    assert_eq!(
        pair.client
            .metric("request_total", &["dst_pod=\"echo-w\"", "tls=\"true\""]),
        1
    );
}

#[rstest]
#[case::clean(&[], 403)]
#[case::defect(&[Defect::AdminPortOpen], 200)]
#[tokio::test(start_paused = true)]
async fn the_gateways_admin_port_says_no_more_than_ready_and_live(#[case] defects: &[Defect], #[case] metrics: u16) {
    let pair = Pair::new(defects).await;
    let unmeshed = pair.testbed.unmeshed_pod(&pair.west, "raw", "default", "10.22.0.66");
    let mut admin = unmeshed.http1(&format!("{EAST_GATEWAY}:4191"), "gateway").await;
    let mut statuses = Vec::new();
    for path in ["/ready", "/live", "/metrics"] {
        statuses.push(admin.get_path(path, &[]).await.unwrap().status.as_u16());
    }
    assert_eq!(statuses, [200, 200, metrics]);
    let denied = admin.get_path("/env.json", &[]).await.unwrap().status;
    assert_eq!(denied == 403, defects.is_empty(), "{denied}");
    if defects.is_empty() {
        let denials = ["srv_name=\"linkerd-admin\"", "tls=\"no_identity\""];
        assert_eq!(pair.gateway.metric("inbound_http_authz_deny_total", &denials), 2);
        let probes = [
            "target_addr=\"0.0.0.0:4191\"",
            "route_name=\"probe\"",
            "authz_name=\"probe\"",
        ];
        assert_eq!(pair.gateway.metric("inbound_http_authz_allow_total", &probes), 2);
    }
    // Any other pod's metrics are readable.
    let mut admin = unmeshed.http1("10.22.0.20:4191", "echo").await;
    let page = admin.get_path("/metrics", &[]).await.unwrap();
    assert!(page.status == 200 && page.body.contains("control_identity_cert_expiration_timestamp_seconds"));
}

#[tokio::test(start_paused = true)]
async fn probes_of_the_gateway_go_through_the_controllers_proxy_with_tls() {
    let pair = Pair::new(&[]).await;
    let mut probe = super::service("probe-east", "10.42.0.50", &json!([{"name": "mc-probe", "port": 4191}]));
    probe["metadata"]["namespace"] = json!("linkerd-multicluster");
    let mut slice = super::slice(
        "probe-east",
        &json!([{"name": "mc-probe", "port": 4191}]),
        &[EAST_GATEWAY],
    );
    slice["metadata"]["namespace"] = json!("linkerd-multicluster");
    slice["metadata"]["annotations"] = json!({"mirror.linkerd.io/remote-gateway-identity": GATEWAY_ID});
    pair.west.set(&probe);
    pair.west.set(&slice);
    let mut client = pair.client.http1("10.42.0.50:4191", "probe-east").await;
    assert_eq!(client.get_path("/ready", &[]).await.unwrap().status, 200);
    assert_eq!(client.get_path("/metrics", &[]).await.unwrap().status, 403);
    let probes = format!("tls=\"true\",client_id=\"{CLIENT_ID}\"");
    let probes = ["target_addr=\"0.0.0.0:4191\"", "route_name=\"probe\"", probes.as_str()];
    assert_eq!(pair.gateway.metric("inbound_http_authz_allow_total", &probes), 1);
}

async fn spoofed(pair: &Pair, to: &str) -> Answer {
    let headers = [
        ("l5d-client-id", "evil"),
        ("forwarded", "for=evil;by=evil"),
        ("l5d-dst-override", "other.lab.svc.cluster.local"),
    ];
    pair.client.get(to, &headers).await
}

#[tokio::test(start_paused = true)]
async fn identity_headers_of_the_application_are_overwritten() {
    let pair = Pair::new(&[]).await;
    let answer = spoofed(&pair, ECHO_EAST).await;
    assert_eq!(answer.header("l5d-client-id"), [GATEWAY_ID]);
    assert_eq!(answer.header("l5d-dst-override"), ["other.lab.svc.cluster.local"]);
    let answer = spoofed(&pair, ECHO).await;
    assert_eq!(answer.header("l5d-client-id"), [CLIENT_ID]);
    let unmeshed = pair.testbed.unmeshed_pod(&pair.west, "raw", "default", "10.22.0.66");
    let answer = unmeshed.get("10.22.0.20:8080", &[("l5d-client-id", "evil")]).await;
    assert_eq!(
        answer.cluster(),
        "west",
        "plaintext from unmeshed pods is allowed by default"
    );
    assert!(answer.header("l5d-client-id").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_trusted_identity_header_reaches_the_target_and_nothing_else_changes() {
    let pair = Pair::new(&[Defect::ClientIdentityHeaderTrusted]).await;
    assert_eq!(spoofed(&pair, ECHO_EAST).await.header("l5d-client-id"), ["evil"]);
    assert_eq!(spoofed(&pair, ECHO).await.header("l5d-client-id"), ["evil"]);
    let answer = pair.client.get(ECHO_EAST, &[]).await;
    assert_eq!(answer.header("l5d-client-id"), [GATEWAY_ID]);
    assert!(answer.header("l5d-model-claimed-client-id").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_does_not_say_for_whom_it_forwards() {
    let pair = Pair::new(&[Defect::ForwardedMissing]).await;
    let answer = pair.client.get(ECHO_EAST, &[]).await;
    assert!(answer.header("forwarded").is_empty());
    assert_eq!(answer.header("l5d-client-id"), [GATEWAY_ID]);
}

#[tokio::test(start_paused = true)]
async fn a_forged_forwarded_header_reaches_the_target_only_as_it_does_in_reality() {
    const FORGED: &[(&str, &str)] = &[
        ("forwarded", "for=evil;by=other"),
        ("forwarded", "for=\"evil\", for=worse"),
    ];
    let pair = Pair::new(&[]).await;
    let told = pair.client.get(ECHO_EAST, FORGED).await.header("forwarded");
    assert_eq!(told[0], "by=other");
    assert!(
        told[1].starts_with(&format!("by={GATEWAY_ID};for={CLIENT_ID};")),
        "{told:?}"
    );
    assert_eq!(told.len(), 2);
    let pair = Pair::new(&[Defect::UpstreamForgedForwardedKept]).await;
    let told = pair.client.get(ECHO_EAST, FORGED).await.header("forwarded");
    assert_eq!(told[..2], ["for=evil;by=other", "for=\"evil\", for=worse"]);
    assert!(
        told[2].starts_with(&format!("by={GATEWAY_ID};for={CLIENT_ID};")),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_loop_is_cut() {
    let pair = Pair::new(&[]).await;
    let forwarded = format!("by={GATEWAY_ID};for=x;host=y;proto=https");
    let answer = pair.client.get(ECHO_EAST, &[("forwarded", &forwarded)]).await;
    assert_eq!((answer.status, answer.proxy_error()), (StatusCode::LOOP_DETECTED, ""));
    assert_eq!(
        pair.gateway
            .metric("inbound_http_errors_total", &["error=\"gateway loop\""]),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn without_its_authorization_the_gateway_forbids() {
    let pair = Pair::new(&[]).await;
    let mut client = pair.client.http1(ECHO_EAST, "echo-east.lab:8080").await;
    assert_eq!(client.get(&[]).await.unwrap().status, 200);
    let authorization = gateway_policies().remove(2);
    pair.east.remove(&authorization);
    let answer = client.get(&[]).await.unwrap();
    assert_eq!((answer.status, answer.proxy_error()), (StatusCode::FORBIDDEN, ""));
    let denied = format!("client_id=\"{CLIENT_ID}\"");
    let denied = ["target_port=\"4143\"", "srv_name=\"linkerd-gateway\"", denied.as_str()];
    assert_eq!(pair.gateway.metric("inbound_http_authz_deny_total", &denied), 1);
    pair.east.set(&authorization);
    assert_eq!(client.get(&[]).await.unwrap().status, 200);
}

fn echo_server() -> serde_json::Value {
    json!({"kind": "Server", "metadata": {"namespace": "lab", "name": "echo"}, "spec": {
        "podSelector": {"matchLabels": {"app": "echo"}}, "port": 8080}})
}

#[tokio::test(start_paused = true)]
async fn a_server_without_authorization_forbids_locally_and_behind_the_gateway() {
    let pair = Pair::new(&[]).await;
    for cluster in [&pair.west, &pair.east] {
        cluster.set(&echo_server());
    }
    for to in [ECHO, ECHO_EAST] {
        let answer = pair.client.get(to, &[]).await;
        assert_eq!(
            (answer.status, answer.proxy_error()),
            (StatusCode::FORBIDDEN, ""),
            "{to}"
        );
    }
    // Probes of the kubelet are open to anybody.
    let unmeshed = pair.testbed.unmeshed_pod(&pair.west, "kubelet", "default", "10.22.0.1");
    let mut probe = unmeshed.http1("10.22.0.20:8080", "echo").await;
    assert_eq!(probe.get_path("/healthz", &[]).await.unwrap().status, 200);
    assert_eq!(probe.get_path("/headers", &[]).await.unwrap().status, 403);
    let policy = json!({"kind": "AuthorizationPolicy", "metadata": {"namespace": "lab", "name": "echo"}, "spec": {
        "targetRef": {"group": "policy.linkerd.io", "kind": "Server", "name": "echo"},
        "requiredAuthenticationRefs": [{"kind": "ServiceAccount", "name": "client", "namespace": "lab"}]}});
    pair.west.set(&policy);
    assert_eq!(pair.client.get(ECHO, &[]).await.status, 200);
    let allowed = [
        "srv_name=\"echo\"",
        "authz_kind=\"authorizationpolicy\",authz_name=\"echo\"",
    ];
    assert_eq!(pair.west_echo.metric("inbound_http_authz_allow_total", &allowed), 1);
}

#[rstest]
#[case("all-unauthenticated", 200, 200)]
#[case("all-authenticated", 403, 200)]
#[case("cluster-unauthenticated", 200, 200)]
#[case("deny", 403, 403)]
#[tokio::test(start_paused = true)]
async fn default_policies_of_pods(#[case] policy: &str, #[case] unmeshed: u16, #[case] meshed: u16) {
    let pair = Pair::new(&[]).await;
    let annotations =
        json!({"config.linkerd.io/default-inbound-policy": policy, "config.linkerd.io/opaque-ports": "9000"});
    let object = pod_object("lab", "strict", "strict", "10.22.0.30", &annotations, true);
    let strict = pair.testbed.meshed_pod(&pair.west, object).await;
    strict.serve_http("west", 8080);
    strict.serve_tcp("west", 9000);
    let ports = super::echo_ports();
    pair.west.set(&super::service("strict", "10.42.0.40", &ports));
    pair.west.set(&super::slice("strict", &ports, &["10.22.0.30"]));
    assert_eq!(pair.client.get("10.42.0.40:8080", &[]).await.status.as_u16(), meshed);
    let raw = pair.testbed.unmeshed_pod(&pair.west, "raw", "default", "10.22.0.66");
    assert_eq!(raw.get("10.22.0.30:8080", &[]).await.status.as_u16(), unmeshed);
    let mut tcp = raw.dial("10.22.0.30:9000").await.unwrap();
    let mut hello = String::new();
    tcp.shutdown().await.unwrap();
    let _ = tcp.read_to_string(&mut hello).await;
    assert_eq!(hello.starts_with("HELLO"), unmeshed == 200, "TCP is cut off: {hello:?}");
}

#[tokio::test(start_paused = true)]
async fn names_outside_the_cluster_are_no_business_of_the_gateway() {
    let pair = Pair::new(&[]).await;
    let ports = super::echo_ports();
    let mut outside = super::mirror("outside", "east", "echo", "10.42.0.60", &ports);
    outside["metadata"]["annotations"]["mirror.linkerd.io/remote-svc-fq-name"] = json!("www.example.com");
    let mut slice = super::gateway_slice("outside", "echo", &ports, &[EAST_GATEWAY], true);
    slice["metadata"]["annotations"]["mirror.linkerd.io/remote-svc-fq-name"] = json!("www.example.com");
    pair.west.set(&outside);
    pair.west.set(&slice);
    let answer = pair.client.get("10.42.0.60:8080", &[]).await;
    assert_eq!((answer.status, answer.proxy_error()), (StatusCode::NOT_FOUND, ""));
}

#[tokio::test(start_paused = true)]
async fn a_switched_defect_takes_effect_while_proxies_run() {
    let pair = Pair::new(&[]).await;
    assert_eq!(pair.client.get(ECHO_EAST, &[]).await.cluster(), "east");
    pair.testbed
        .model
        .set_defects([Defect::OnlyOwnIssuerTrusted].into_iter().collect());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(pair.client.get(ECHO_EAST, &[]).await.status, 504);
    pair.testbed.model.set_defects([].into_iter().collect());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(pair.client.get(ECHO_EAST, &[]).await.cluster(), "east");
}
