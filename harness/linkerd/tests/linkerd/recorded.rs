//! Everything that was recorded on three real clusters (Kubernetes 1.34, Linkerd git-b24cd405) is read, with its meaning.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use meshproof_engine::driver::{MeshDriver, Owner};
use meshproof_engine::metrics::{self, Sample};
use meshproof_engine::tool::Tools;
use meshproof_linkerd::names::{self, MULTICLUSTER_NAMESPACE};
use meshproof_linkerd::readiness::check::{CheckResult, Meaning, Outcome};
use meshproof_linkerd::readiness::gateways::Gateway;
use meshproof_linkerd::readiness::{check, credentials, event, gateways, link};
use meshproof_linkerd::version::ObjectModel;
use meshproof_linkerd::{CliInstaller, CliOptions, Linkerd};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::{recorded, recorded_json};

fn checks(path: &str) -> Vec<CheckResult> {
    check::parse(&recorded(path)).unwrap()
}

fn of(results: &[CheckResult], meaning: Meaning) -> &CheckResult {
    let found: Vec<_> = results
        .iter()
        .filter(|result| result.meaning == Some(meaning))
        .collect();
    assert_eq!(found.len(), 1, "{meaning:?}");
    found[0]
}

fn driver() -> Linkerd {
    Linkerd::new(
        Arc::new(CliInstaller::new(CliOptions::default(), Tools::default())),
        1.0,
    )
}

// --- checks ----------------------------------------------------------------------------------------------------------

#[rstest]
#[case("west", ["east", "north"])]
#[case("east", ["north", "west"])]
#[case("north", ["east", "west"])]
fn a_healthy_cluster_has_every_check_green_but_the_one_that_needs_the_internet(
    #[case] cluster: &str,
    #[case] linked: [&str; 2],
) {
    let results = checks(&format!("lab/checks/mc-check-healthy-{cluster}.json"));
    let meanings: BTreeSet<Meaning> = results.iter().filter_map(|result| result.meaning).collect();
    assert_eq!((results.len(), meanings.len()), (14, 14));
    for result in &results {
        let expected = if result.meaning == Some(Meaning::ProxiesUpToDate) {
            Outcome::Warning
        } else {
            Outcome::Success
        };
        assert_eq!(result.outcome, expected, "{}", result.description);
        assert_eq!(result.category, "linkerd-multicluster");
    }
    let subjects: BTreeSet<&str> = of(&results, Meaning::GatewaysAlive)
        .subjects
        .iter()
        .map(String::as_str)
        .collect();
    assert_eq!(subjects, linked.into());
}

#[test]
fn a_dead_gateway_is_an_error_of_its_own_check_and_of_no_other() {
    let results = checks("lab/checks/mc-check-gateway-down-west.json");
    let gateways = of(&results, Meaning::GatewaysAlive);
    assert_eq!(gateways.outcome, Outcome::Error);
    assert_eq!(gateways.error.as_deref(), Some("liveness checks failed for east"));
    assert_eq!(gateways.anchor.as_deref(), Some("l5d-multicluster-gateways-endpoints"));
    // Unready addresses count as endpoints.
    assert_eq!(of(&results, Meaning::MirrorsHaveEndpoints).outcome, Outcome::Success);
    let errors = results.iter().filter(|result| result.outcome == Outcome::Error);
    assert_eq!(errors.count(), 1);
}

#[test]
fn what_unlinking_left_is_a_warning() {
    let results = checks("lab/checks/mc-check-west-after-unlink-north.json");
    let orphans = of(&results, Meaning::NoOrphans);
    assert_eq!(orphans.outcome, Outcome::Warning);
    let named: Vec<&str> = orphans.error.as_deref().unwrap().lines().collect();
    assert_eq!(named.len(), 4);
    assert_eq!(named[0], "mirror service backend-north.demo is not part of any Link");
    assert_eq!(of(&results, Meaning::ControllersUp).subjects, ["east"]);
}

#[test]
fn credentials_look_valid_although_the_controller_holds_revoked_ones() {
    let results = checks("lab/rotation/mc-check-north-after-rotation.json");
    assert_eq!(of(&results, Meaning::CredentialsWork).outcome, Outcome::Success);
    assert_eq!(of(&results, Meaning::GatewaysAlive).outcome, Outcome::Error);
    let empty = of(&results, Meaning::MirrorsHaveEndpoints).error.as_deref().unwrap();
    assert_eq!(
        empty
            .lines()
            .filter(|line| line.contains("mirrored from cluster"))
            .count(),
        7
    );
}

#[rstest]
#[case("checks/linkerd-multicluster-check.txt", 14, 14)]
#[case("traps/trap-nodeport-probe-port-mc-check.txt", 12, 12)]
#[case("checks/linkerd-check.txt", 57, 14)]
#[case("install/linkerd-check-pre-west.txt", 17, 0)]
fn the_texts_that_people_read_are_those_that_we_know(#[case] path: &str, #[case] printed: usize, #[case] known: usize) {
    let text = recorded(path);
    let lines: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix(['√', '‼', '×']))
        .map(str::trim)
        .collect();
    assert_eq!(lines.len(), printed);
    let checks: Vec<Value> = lines
        .iter()
        .map(|line| json!({"description": line, "result": "success"}))
        .collect();
    let page = json!({"success": true, "categories": [{"categoryName": "any", "checks": checks}]});
    let results = check::parse(&page.to_string()).unwrap();
    assert_eq!(results.iter().filter(|result| result.meaning.is_some()).count(), known);
}

#[test]
fn warnings_on_standard_error_are_no_results() {
    for cluster in ["west", "east", "north"] {
        let warnings = recorded(&format!("lab/checks/mc-check-healthy-{cluster}.stderr"));
        assert!(warnings.contains("v1 Endpoints is deprecated"));
        let page = recorded(&format!("lab/checks/mc-check-healthy-{cluster}.json"));
        assert!(check::parse(&format!("{warnings}{page}")).is_err());
    }
}

/// Exit codes of three checks, `<cluster> rc=<code>`: two of them exited with 1 although their page is whole and nothing in
/// it is an error. So a page counts, and not the exit.
#[test]
fn the_exit_code_of_a_check_tells_less_than_its_page() {
    let codes = recorded("lab/checks/mc-check-healthy-exitcodes.txt");
    let codes: BTreeMap<&str, &str> = codes.lines().filter_map(|line| line.split_once(" rc=")).collect();
    assert_eq!(codes, [("east", "0"), ("north", "1"), ("west", "1")].into());
    for cluster in codes.keys() {
        let results = checks(&format!("lab/checks/mc-check-healthy-{cluster}.json"));
        assert!(
            results.iter().all(|result| result.outcome != Outcome::Error),
            "{cluster}"
        );
    }
    // A warning, and exit 0.
    let last = recorded("lab/checks/final-exitcodes.txt");
    for line in last.lines() {
        let (_, told) = line.split_once(" rc=0 ").unwrap();
        let told: Value = serde_json::from_str(told).unwrap();
        let page = json!({"success": told[0], "categories": [{"categoryName": "linkerd-multicluster", "checks": [
            {"result": told[1][0], "description": told[1][1]}
        ]}]});
        let results = check::parse(&page.to_string()).unwrap();
        assert_eq!(of(&results, Meaning::ProxiesUpToDate).outcome, Outcome::Warning);
    }
    // `gateways` exits with 0 whatever it found.
    let gateways = recorded("lab/checks/gateways-healthy-exitcodes.txt");
    assert!(gateways.lines().count() == 3 && gateways.lines().all(|line| line.ends_with(" rc=0")));
}

// --- gateways --------------------------------------------------------------------------------------------------------

#[rstest]
#[case("healthy-west", [("east", true, 1, Some(2)), ("north", true, 1, Some(3))])]
#[case("healthy-east", [("north", true, 1, Some(4)), ("west", true, 1, Some(19))])]
#[case("healthy-north", [("east", true, 1, Some(2)), ("west", true, 1, Some(2))])]
#[case("gateway-down-west", [("east", false, 8, None), ("north", true, 1, Some(54))])]
fn gateways_are_as_the_table_shows_them(#[case] name: &str, #[case] expected: [(&str, bool, u64, Option<u64>); 2]) {
    let found = gateways::parse(&recorded(&format!("lab/checks/gateways-{name}.json"))).unwrap();
    let expected: Vec<Gateway> = expected
        .into_iter()
        .map(|(cluster, alive, services, latency)| Gateway {
            cluster: cluster.to_owned(),
            alive,
            services,
            latency: latency.map(Duration::from_millis),
        })
        .collect();
    assert_eq!(found, expected);
    if name == "gateway-down-west" {
        // The table shows no latency for the dead gateway either, although the JSON has a stale one.
        let table = recorded("lab/checks/gateways-gateway-down-west.txt");
        let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row, ["east", "False", "8", "-"]);
    }
}

// --- Links -----------------------------------------------------------------------------------------------------------

#[test]
fn links_show_gateways_and_what_they_mirror() {
    let nodes = BTreeMap::from([("west", "172.18.0.2"), ("east", "172.18.0.3"), ("north", "172.18.0.4")]);
    for cluster in nodes.keys() {
        let list = recorded_json(&format!("objects/{cluster}/links.json"));
        let links: Vec<link::Link> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|object| link::read(object).unwrap())
            .collect();
        assert_eq!(links.len(), 2);
        for link in links {
            let gateway = link.gateway.unwrap();
            assert_eq!(gateway.addresses, [nodes[link.cluster.as_str()]]);
            // East's gateway is on node ports.
            let ports = if link.cluster == "east" {
                (30143, 30191)
            } else {
                (4143, 4191)
            };
            assert_eq!((gateway.port, gateway.probe_port), ports);
            assert_eq!(gateway.identity, names::gateway_identity());
            assert_eq!(
                (link.version.as_str(), gateway.probe_period.as_str()),
                ("v1alpha3", "3s")
            );
            assert_eq!(link.credentials, names::credentials(&link.cluster));
            assert_eq!(link.mirrored.len(), if link.cluster == "east" { 7 } else { 1 });
            for service in &link.mirrored {
                assert!(service.mirrored && service.reason == "Mirrored");
                let (namespace, name) = &service.remote;
                let mirror = (namespace.clone(), names::mirror(name, &link.cluster));
                assert_eq!(service.local.as_ref(), Some(&mirror));
            }
            let federated = &link.federated[0];
            assert_eq!(federated.remote, ("demo".to_owned(), "backend".to_owned()));
            assert_eq!(federated.local, Some(("demo".to_owned(), names::federated("backend"))));
        }
    }
}

#[test]
fn a_status_can_tell_of_services_that_are_gone() {
    let stale: Value = serde_yaml::from_str(&recorded("lab/objects/link-north-in-west-stale-status.yaml")).unwrap();
    let link = link::read(&stale).unwrap();
    let entry = &link.mirrored[0];
    assert_eq!(entry.remote, ("bulk".to_owned(), "b99".to_owned()));
    assert_eq!(
        (entry.mirrored, entry.reason.as_str(), &entry.local),
        (false, "MissingNamespace", &None)
    );
    assert_eq!(entry.message, "Namespace does not exist");
    assert_eq!(link.federated[0].remote.1, "sq5x7");
    assert!(link.federated[0].mirrored);
    // A controller's restart left it as it was, and so did everything until the end.
    let stale = (vec!["bulk/b99"], vec!["lab/sq5x7"]);
    let restarted = recorded_json("lab/objects/link-north-in-west-status-after-controller-restart.txt");
    assert_eq!(restarted, json!([stale.0, stale.1]));
    let cleaned = recorded("lab/objects/link-status-after-cleanup.txt");
    let rows: Vec<Value> = cleaned
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 6);
    assert_eq!(rows[1], json!(["north", stale.0, stale.1, 1]));
}

#[test]
fn a_status_names_every_service_without_a_namespace_here() {
    let found = recorded_json("lab/objects/link-north-in-west-status-missing-namespace.json");
    let services = link::services(&found["sample"]).unwrap();
    let names: Vec<&str> = services.iter().map(|service| service.remote.1.as_str()).collect();
    assert_eq!(names, ["b261", "b205"]);
    assert!(
        services
            .iter()
            .all(|service| !service.mirrored && service.reason == "MissingNamespace")
    );
    assert_eq!(found["reasons"], json!({"Mirrored": 1, "MissingNamespace": 300}));
}

#[test]
fn a_skipped_service_is_told_by_its_links_controller() {
    let found = recorded_json("lab/objects/event-serviceMirroringSkipped.json");
    assert_eq!(found[0], 900);
    let skipped = event::skipped(&found[1]).unwrap();
    assert_eq!((skipped.link.as_str(), skipped.service.as_str()), ("north", "b0"));
    assert_eq!(skipped.message, "Skipped mirroring service: namespace does not exist");
    assert_eq!(skipped.count, 2);
}

// --- credentials -----------------------------------------------------------------------------------------------------

#[test]
fn credentials_have_the_shape_that_their_readers_need() {
    let mut read = 0;
    for cluster in ["west", "east", "north"] {
        for (file, namespace) in [
            ("secrets-redacted", MULTICLUSTER_NAMESPACE),
            ("linkerd-ns-credentials-redacted", "linkerd"),
        ] {
            let text = recorded(&format!("objects/{cluster}/{file}.json"));
            for shape in serde_json::Deserializer::from_str(&text).into_iter::<Value>() {
                let mut secret = secret(&shape.unwrap(), namespace);
                let name = secret.metadata.name.clone().unwrap();
                let Some(linked) = name.strip_prefix("cluster-credentials-") else {
                    // The token that other clusters use has another type.
                    assert_eq!(name, format!("{}-token", names::REMOTE_ACCESS));
                    assert_eq!(credentials::wrong(&secret, "any").len(), 2);
                    continue;
                };
                assert_eq!(
                    credentials::wrong(&secret, linked),
                    Vec::<String>::new(),
                    "{cluster} {name}"
                );
                read += 1;
                // Seen red: the metadata that the destination controller silently needs.
                secret.metadata.labels = None;
                let expected = usize::from(namespace == "linkerd");
                assert_eq!(credentials::wrong(&secret, linked).len(), expected);
            }
        }
    }
    assert_eq!(read, 12);
}

fn secret(shape: &Value, namespace: &str) -> Secret {
    let keys = shape["dataKeys"].as_array().unwrap();
    let data: serde_json::Map<String, Value> = keys
        .iter()
        .map(|key| (key.as_str().unwrap().to_owned(), json!("")))
        .collect();
    serde_json::from_value(json!({
        "type": shape["type"], "data": data,
        "metadata": {"name": shape["name"], "namespace": namespace, "labels": shape["labels"], "annotations": shape["annotations"]},
    }))
    .unwrap()
}

// --- objects ---------------------------------------------------------------------------------------------------------

#[rstest]
#[case("west", ["east", "north"], 52)]
#[case("east", ["north", "west"], 51)]
#[case("north", ["east", "west"], 51)]
fn every_object_of_the_extension_has_its_owner(
    #[case] cluster: &str,
    #[case] linked: [&str; 2],
    #[case] objects: usize,
) {
    let driver = driver();
    let list = recorded_json(&format!("objects/{cluster}/multicluster-objects.json"));
    let mut links: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut of_mesh = 0;
    for object in list["items"].as_array().unwrap() {
        let kind = object["kind"].as_str().unwrap();
        let name = object["metadata"]["name"].as_str().unwrap();
        match driver.owner(cluster, object) {
            Owner::Link(cluster) => {
                links.entry(cluster).or_default().insert(format!("{kind}/{name}"));
            }
            Owner::Mesh => of_mesh += 1,
            Owner::Nobody => panic!("{kind} {name} is nobody's"),
        }
    }
    assert_eq!(links.keys().collect::<Vec<_>>(), linked);
    for (cluster, objects) in &links {
        for expected in [
            format!("Deployment/controller-{cluster}"),
            format!("Service/probe-{cluster}"),
            format!("Endpoints/probe-{cluster}"),
            format!("ServiceAccount/controller-{cluster}"),
            format!("Role/controller-read-remote-creds-{cluster}"),
            format!("RoleBinding/controller-read-remote-creds-{cluster}"),
            format!("Secret/cluster-credentials-{cluster}"),
            format!("Lease/service-mirror-write-{cluster}"),
        ] {
            assert!(
                objects.contains(&expected),
                "{expected} is not of the link: {objects:?}"
            );
        }
    }
    assert_eq!(links.values().map(BTreeSet::len).sum::<usize>() + of_mesh, objects);
}

#[test]
fn the_names_of_the_legacy_model_are_those_that_its_unlink_prints() {
    let model = ObjectModel::Legacy;
    let named = BTreeSet::from([
        format!("ClusterRole None/{}", model.local_access_role("east")),
        format!("ClusterRoleBinding None/{}", model.local_access_binding("east")),
        format!("Role linkerd-multicluster/{}", model.read_credentials_role("east")),
        format!(
            "RoleBinding linkerd-multicluster/{}",
            model.read_credentials_role("east")
        ),
        format!("ServiceAccount linkerd-multicluster/{}", model.controller("east")),
        format!("Deployment linkerd-multicluster/{}", model.controller("east")),
        format!("Service linkerd-multicluster/{}", model.probe_service("east")),
        format!("Secret linkerd-multicluster/{}", names::credentials("east")),
        "Link linkerd-multicluster/east".to_owned(),
        format!("Lease linkerd-multicluster/{}", names::lease("east")),
        format!("Secret linkerd/{}", names::credentials("east")),
    ]);
    let text = recorded("lab/cleanup/unlink-west-east-kinds.txt");
    let driver = driver();
    let mut printed = BTreeSet::new();
    for line in text.lines() {
        let (_, object) = line.split_once(' ').unwrap();
        let (kind, path) = object.split_once(' ').unwrap();
        let (namespace, name) = path.split_once('/').unwrap();
        let namespace = if namespace == "None" { "" } else { namespace };
        if ["demo", "lab"].contains(&namespace) {
            assert!(kind == "Service" && name.ends_with("-east"), "{line}");
            continue;
        }
        let object = json!({"kind": kind, "metadata": {"namespace": namespace, "name": name}});
        assert_eq!(driver.owner("west", &object), Owner::Link("east".to_owned()), "{line}");
        printed.insert(format!("{kind} {path}"));
    }
    assert_eq!(printed, named);
    // With `--only-controller` it is the first seven.
    assert_eq!(
        recorded("lab/cleanup/unlink-only-controller-kinds.txt").lines().count(),
        7
    );
}

#[test]
fn the_documented_steps_take_the_controller_and_leave_lease_and_mirrors() {
    let inventory = |file: &str| -> BTreeSet<String> {
        let text = recorded(&format!("lab/cleanup/inventory-{file}.txt"));
        text.lines().map(ToOwned::to_owned).collect()
    };
    let (before, after) = (inventory("before"), inventory("after-steps-2-4"));
    let again = inventory("after-relink");
    let model = ObjectModel::Managed;
    let namespace = MULTICLUSTER_NAMESPACE;
    for gone in [
        format!("Deployment {namespace}/{}", model.controller("north")),
        format!("Service {namespace}/{}", model.probe_service("north")),
        format!("Role {namespace}/{}", model.read_credentials_role("north")),
        format!("RoleBinding {namespace}/{}", model.read_credentials_role("north")),
        format!("ServiceAccount {namespace}/{}", model.controller("north")),
        format!("Link {namespace}/north"),
        format!("Secret {namespace}/{}", names::credentials("north")),
        format!("Secret linkerd/{}", names::credentials("north")),
        format!(
            "clusterrolebinding.rbac.authorization.k8s.io/{}",
            model.local_access_binding("north")
        ),
    ] {
        assert!(before.contains(&gone) && !after.contains(&gone), "{gone}");
        assert!(again.contains(&gone), "linking again makes it again: {gone}");
    }
    // That is why unlinking deletes these too.
    let mirror = format!("Service demo/{}", names::mirror("backend", "north"));
    for left in [format!("Lease {namespace}/{}", names::lease("north")), mirror] {
        assert!(before.contains(&left) && after.contains(&left), "{left}");
    }
}

// --- metrics ---------------------------------------------------------------------------------------------------------

fn page(name: &str) -> Vec<Sample> {
    metrics::parse(&recorded(&format!("metrics/{name}.txt")))
}

fn sum(samples: &[Sample], metric: &str, labels: &[(&str, &str)]) -> f64 {
    let labels = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    metrics::sum(samples, metric, &labels.collect())
}

#[rstest]
#[case("controller-east-in-west", 302)]
#[case("proxy-backend-east", 454)]
#[case("proxy-client-west", 777)]
#[case("proxy-gateway-east", 746)]
#[case("proxy-gateway-west", 483)]
fn every_line_of_a_page_is_read(#[case] name: &str, #[case] samples: usize) {
    assert_eq!(page(name).len(), samples);
}

#[test]
fn pages_show_the_way_of_requests_through_the_gateway() {
    let gateway = names::gateway_identity();
    let to_east = [
        ("direction", "outbound"),
        ("tls", "true"),
        ("server_id", &gateway),
        ("dst_target_cluster", "east"),
    ];
    assert_eq!(sum(&page("proxy-client-west"), "request_total", &to_east), 57.0);
    let east = page("proxy-gateway-east");
    let admitted = |client: &str| {
        let client = names::identity(client, if client == "default" { "demo" } else { "lab" });
        sum(
            &east,
            "inbound_http_authz_allow_total",
            &[
                ("target_port", "4143"),
                ("srv_name", "linkerd-gateway"),
                ("client_id", &client),
            ],
        )
    };
    assert_eq!((admitted("default"), admitted("client")), (58.0, 5.0));
    let from_gateway = [("direction", "inbound"), ("tls", "true"), ("client_id", &gateway)];
    assert_eq!(sum(&page("proxy-backend-east"), "request_total", &from_gateway), 16.0);
    // What only probes and scrapes, and no request of ours, has moved.
    let probed = [("target_port", "4191")];
    assert_eq!(
        sum(&page("proxy-gateway-west"), "inbound_http_authz_allow_total", &probed),
        554.0
    );
}

#[test]
fn a_controllers_page_tells_of_its_gateway() {
    let samples = page("controller-east-in-west");
    let east = [("target_cluster_name", "east")];
    assert_eq!(sum(&samples, "gateway_alive", &east), 1.0);
    assert_eq!(sum(&samples, "gateway_latency", &east), 7.0);
    assert_eq!(sum(&samples, "gateway_probes", &east), 225.0);
    assert_eq!(sum(&samples, "service_mirror_endpoint_repairs", &east), 13.0);
}

#[test]
fn a_probe_of_a_port_that_is_not_there_counts_errors() {
    let samples = metrics::parse(&recorded("traps/trap-negative-discovery-cache.metrics.txt"));
    assert_eq!(samples.len(), 4);
    assert_eq!(
        sum(&samples, "outbound_tcp_errors_total", &[("target_port", "30191")]),
        60.0
    );
}

// --- no input makes a reader panic ----------------------------------------------------------------------------------

fn changed(text: &str, at: usize, cut: usize, with: &str) -> String {
    let floor = |at: usize| {
        (0..=at.min(text.len()))
            .rfind(|at| text.is_char_boundary(*at))
            .unwrap_or(0)
    };
    format!("{}{with}{}", &text[..floor(at)], &text[floor(at.saturating_add(cut))..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn changed_recordings_make_no_reader_panic(at in 0..20_000_usize, cut in 0..40_usize, with in "[ -~\n√]{0,12}") {
        let read = |path: &str| changed(&recorded(path), at % 3000, cut, &with);
        let _ = check::parse(&read("lab/checks/mc-check-gateway-down-west.json"));
        let _ = gateways::parse(&read("lab/checks/gateways-gateway-down-west.json"));
        if let Ok(list) = serde_json::from_str::<Value>(&changed(&recorded("objects/west/links.json"), at, cut, &with)) {
            for object in list["items"].as_array().into_iter().flatten() {
                let _ = link::read(object);
            }
        }
        if let Ok(object) = serde_yaml::from_str::<Value>(&read("lab/objects/link-north-in-west-stale-status.yaml")) {
            let _ = link::read(&object);
        }
        if let Ok(found) = serde_json::from_str::<Value>(&read("lab/objects/event-serviceMirroringSkipped.json")) {
            let _ = event::skipped(&found[1]);
        }
        let _ = metrics::parse(&read("metrics/controller-east-in-west.txt"));
    }
}
