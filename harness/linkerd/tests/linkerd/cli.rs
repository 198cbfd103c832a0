//! Installing, linking and removing with a CLI that prints manifests, on embedded clusters.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams};
use meshproof_engine::action::Action;
use meshproof_engine::driver::MeshDriver;
use meshproof_engine::problem::ProblemClass;
use meshproof_engine::tool::Tools;
use meshproof_linkerd::installer::{Installer, InstallerKind};
use meshproof_linkerd::readiness::check::{Meaning, Outcome};
use meshproof_linkerd::version::ObjectModel;
use meshproof_linkerd::{CliInstaller, CliOptions, Linkerd};
use meshproof_spec::scenario::Setup;

use crate::world::{Fake, PACE, World, definition, recorded, topology};

/// What a real CLI would do, with as few manifests as the order of things needs.
const LINKERD: &str = r#"
case "$1 $2" in
"version --client") cat "$D/version" ;;
"install --crds") cat "$D/crds.yaml" ;;
"install --identity-trust-anchors-file")
    # The files are readable, and by nobody else.
    for file in "$3" "$5" "$7" "$9"; do echo "mode $(stat -c %a "$file" 2>/dev/null || stat -f %Lp "$file")" >> "$D/log"; done
    grep -q 'BEGIN CERTIFICATE' "$3" && grep -q 'BEGIN CERTIFICATE' "$5" && grep -q 'BEGIN PRIVATE KEY' "$7" || exit 9
    cat "$D/control-plane.yaml" ;;
"multicluster install") cat "$D/multicluster.yaml" ;;
"multicluster link-gen"|"multicluster link") sed "s/TARGET/$4/g" "$D/link.yaml" ;;
"multicluster unlink") printf 'apiVersion: v1\nkind: Secret\nmetadata: {name: cluster-credentials-%s, namespace: linkerd-multicluster}\n---\n' "$4" ;;
"multicluster uninstall") if [ -e "$D/refuse" ]; then cat "$D/refuse" >&2; exit 1; fi; cat "$D/uninstall.yaml" ;;
"uninstall --kubeconfig") cat "$D/uninstall-control-plane.yaml" ;;
"check --output") cat "$D/check.json"; exit 1 ;;
"multicluster check") cat "$D/mc-check.json"; exit 1 ;;
"multicluster gateways") cat "$D/gateways.json" ;;
*) echo "unknown: $*" >&2; exit 64 ;;
esac
"#;

const CONTROL_PLANE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: linkerd, labels: {linkerd.io/control-plane-ns: linkerd}}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: linkerd-config, namespace: linkerd}\ndata: {values: 'clusterDomain: cluster.local'}\n---\n";

const EXTENSION: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: linkerd-multicluster, labels: {linkerd.io/extension: multicluster}}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: linkerd-gateway, namespace: linkerd-multicluster}\nspec: {type: LoadBalancer, ports: [{name: mc-gateway, port: 4143}], selector: {app: linkerd-gateway}}\n---\n";

const LINK: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: cluster-credentials-TARGET, namespace: linkerd-multicluster}\ntype: mirror.linkerd.io/remote-kubeconfig\ndata: {kubeconfig: c2VjcmV0}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: cluster-credentials-TARGET, namespace: linkerd, labels: {multicluster.linkerd.io/cluster-name: TARGET}}\ntype: mirror.linkerd.io/remote-kubeconfig\ndata: {kubeconfig: c2VjcmV0}\n---\napiVersion: multicluster.linkerd.io/v1alpha3\nkind: Link\nmetadata: {name: TARGET, namespace: linkerd-multicluster}\nspec: {targetClusterName: TARGET}\n---\n";

fn fake() -> Fake {
    let gateway_api = definition("httproutes", "HTTPRoute", "gateway.networking.k8s.io", "v1");
    Fake::new()
        .tool("linkerd", LINKERD)
        .file("version", "git-b24cd405\n")
        .file("gateway-api.yaml", &gateway_api)
        .file(
            "crds.yaml",
            &definition("servers", "Server", "policy.linkerd.io", "v1beta3"),
        )
        .file("control-plane.yaml", CONTROL_PLANE)
        .file(
            "multicluster.yaml",
            &format!(
                "{EXTENSION}{}",
                definition("links", "Link", "multicluster.linkerd.io", "v1alpha3")
            ),
        )
        .file("link.yaml", LINK)
        .file(
            "uninstall.yaml",
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: linkerd-multicluster}\n---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: links.multicluster.linkerd.io}\n---\n",
        )
        .file(
            "uninstall-control-plane.yaml",
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: linkerd}\n---\n",
        )
}

fn options(fake: &Fake) -> CliOptions {
    CliOptions {
        gateway_api_crds: Some(fake.path("gateway-api.yaml")),
        ..CliOptions::default()
    }
}

fn driver(fake: &Fake) -> Linkerd {
    Linkerd::new(Arc::new(CliInstaller::new(options(fake), fake.tools())), PACE)
}

/// A command line with what differs between a plan and a run, or between two runs, taken out.
fn normal(line: &str) -> String {
    let mut words = shlex_words(line);
    for index in 1..words.len() {
        if words[index - 1].ends_with("-file")
            || ["--kubeconfig", "--api-server-address"].contains(&words[index - 1].as_str())
        {
            words[index] = "X".to_owned();
        }
    }
    words.join(" ")
}

fn shlex_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for character in line.trim().chars() {
        match character {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            other => {
                if let Some(word) = words.last_mut() {
                    word.push(other);
                }
            }
        }
    }
    words
}

fn planned(driver: &Linkerd) -> Vec<String> {
    let actions = driver.commands(&topology("pair"), &Setup::default());
    let lines = actions.iter().filter_map(|action| match action {
        Action::Run(invocation) => Some(normal(&invocation.to_string())),
        _ => None,
    });
    lines.collect()
}

async fn install_and_link(driver: &Linkerd, world: &World) {
    let (topology, setup) = (topology("pair"), Setup::default());
    for cluster in world.clusters.values() {
        driver.install(cluster, &topology, &setup).await.unwrap();
    }
    for link in &topology.links {
        let (from, to) = (world.get(&link.from.0), world.get(&link.to.0));
        driver.link(from, to, &setup).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_what_the_plan_says_and_ends_in_the_clusters() {
    let world = World::new(&["west", "east"]).await;
    let fake = fake();
    let driver = driver(&fake);
    install_and_link(&driver, &world).await;

    let log = fake.log();
    let ran: Vec<String> = log
        .lines()
        .filter(|line| line.starts_with("linkerd "))
        .map(normal)
        .collect();
    assert_eq!(ran, planned(&driver));
    assert_eq!(log.lines().filter(|line| *line == "mode 600").count(), 8, "{log}");
    assert!(!log.contains("secret"), "{log}");
    // Files with secrets are gone.
    for word in log.split_whitespace().filter(|word| word.contains("/meshproof-")) {
        assert!(!Path::new(word).exists(), "{word}");
    }

    for (name, other) in [("west", "east"), ("east", "west")] {
        let client = &world.get(name).client;
        let config: Api<ConfigMap> = Api::namespaced(client.clone(), "linkerd");
        config.get("linkerd-config").await.unwrap();
        for namespace in ["linkerd", "linkerd-multicluster"] {
            let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
            let found = secrets.get(&format!("cluster-credentials-{other}")).await.unwrap();
            assert_eq!(found.type_.as_deref(), Some("mirror.linkerd.io/remote-kubeconfig"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unlinking_and_uninstalling_leave_nothing() {
    let world = World::new(&["west", "east"]).await;
    let fake = fake();
    let driver = driver(&fake);
    let definitions: Api<CustomResourceDefinition> = Api::all(world.get("west").client.clone());
    let before = definitions.list(&ListParams::default()).await.unwrap().items.len();
    install_and_link(&driver, &world).await;
    let (west, east) = (world.get("west"), world.get("east"));

    // The real CLI's words, without the usage after them.
    let fake = fake.file("refuse", &recorded("lab/cleanup/uninstall-refusal.stderr"));
    let refused = driver.uninstall(west).await.unwrap_err();
    assert_eq!(
        (refused.code.as_str(), refused.class),
        ("uninstall-refused", ProblemClass::Mesh)
    );
    assert_eq!(
        refused.message,
        "cluster west: Please unlink the following clusters before uninstalling multicluster:\n  * east\n  * north"
    );
    std::fs::remove_file(fake.path("refuse")).unwrap();

    driver.unlink(west, east).await.unwrap();
    let secrets: Api<Secret> = Api::all(west.client.clone());
    let left = secrets.list(&ListParams::default()).await.unwrap();
    let left: Vec<_> = left
        .items
        .iter()
        .filter_map(|secret| secret.metadata.name.clone())
        .collect();
    assert!(
        left.iter().all(|name| !name.starts_with("cluster-credentials-")),
        "{left:?}"
    );
    let again = driver.unlink(west, east).await.unwrap_err();
    assert_eq!(again.code, "link-missing");

    driver.uninstall(west).await.unwrap();
    let namespaces: Api<Namespace> = Api::all(west.client.clone());
    for name in ["linkerd", "linkerd-multicluster"] {
        assert!(namespaces.get_opt(name).await.unwrap().is_none(), "{name}");
    }
    // The Gateway API came with the installation and goes with it; the CLI's own definitions are the fake's to name.
    let left: Vec<String> = definitions
        .list(&ListParams::default())
        .await
        .unwrap()
        .items
        .into_iter()
        .filter_map(|definition| definition.metadata.name)
        .collect();
    assert!(
        !left.contains(&"httproutes.gateway.networking.k8s.io".to_owned()),
        "{left:?}"
    );
    assert_eq!(left.len(), before + 1, "{left:?}");
    let last: Vec<String> = fake.log().lines().rev().take(2).map(normal).collect();
    assert_eq!(
        last,
        [
            "linkerd uninstall --kubeconfig X",
            "linkerd multicluster uninstall --kubeconfig X"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_cli_links_by_itself() {
    let world = World::new(&["west", "east"]).await;
    let fake = fake().file("version", "stable-2.14.10\n");
    let driver = driver(&fake);
    install_and_link(&driver, &world).await;
    let ran: Vec<String> = fake
        .log()
        .lines()
        .filter(|line| line.starts_with("linkerd "))
        .map(normal)
        .collect();
    assert_eq!(ran, planned(&driver));
    assert_eq!(
        driver
            .component(meshproof_spec::scenario::Component::Controller, Some("east"))
            .name,
        "linkerd-service-mirror-east"
    );
    assert_eq!(
        driver.fact("mesh.controller.east", "shop").as_deref(),
        Some("linkerd-service-mirror-east")
    );
    let (west, east) = (world.get("west"), world.get("east"));
    driver.unlink(west, east).await.unwrap();
    assert!(
        fake.log()
            .lines()
            .any(|line| line.starts_with("linkerd multicluster unlink --cluster-name east"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_gateway_api_is_told_what_to_do() {
    let world = World::new(&["west"]).await;
    let fake = fake();
    let installer = CliInstaller::new(CliOptions::default(), fake.tools());
    let problem = installer.prerequisites(world.get("west")).await.unwrap_err();
    assert_eq!(
        (problem.code.as_str(), problem.class),
        ("gateway-api-missing", ProblemClass::Environment)
    );
    assert!(problem.message.contains("west"), "{}", problem.message);
    assert!(problem.remedy.unwrap().contains("standard-install.yaml"));
    // An older Linkerd brings it along.
    let fake = fake.file("version", "2.18.0\n");
    let older = CliInstaller::new(CliOptions::default(), fake.tools());
    assert!(older.prerequisites(world.get("west")).await.unwrap().is_empty());
    let wrong = CliOptions {
        gateway_api_crds: Some(fake.path("link.yaml")),
        ..CliOptions::default()
    };
    let wrong = CliInstaller::new(wrong, fake.tools());
    let problem = wrong.prerequisites(world.get("west")).await.unwrap_err();
    assert_eq!(problem.code, "gateway-api-unreadable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_fails_or_prints_something_else_is_a_problem_of_the_environment() {
    let world = World::new(&["west"]).await;
    let fake = fake().file("crds.yaml", "a: [topsecret\n");
    let installer = CliInstaller::new(options(&fake), fake.tools());
    let west = world.get("west");
    let problem = installer.definitions(west).await.unwrap_err();
    assert_eq!(
        (problem.code.as_str(), problem.class),
        ("tool-output", ProblemClass::Environment)
    );
    assert!(
        problem.message.contains("linkerd install --crds"),
        "{}",
        problem.message
    );
    assert!(!problem.message.contains("topsecret"), "{}", problem.message);

    let fake = fake.file("version", "Client version: x\n");
    let problem = CliInstaller::new(options(&fake), fake.tools())
        .version()
        .await
        .unwrap_err();
    assert_eq!(problem.code, "tool-output");

    let fake = fake.file("version", "edge-26.8.3\n");
    let pinned = CliOptions {
        version: Some("edge-26.9.1".into()),
        ..options(&fake)
    };
    let problem = CliInstaller::new(pinned, fake.tools()).version().await.unwrap_err();
    assert_eq!(problem.code, "tool-version");
    assert!(problem.message.contains("edge-26.8.3") && problem.message.contains("edge-26.9.1"));

    let nowhere = Tools::at(BTreeMap::from([("linkerd".to_owned(), fake.path("none"))]));
    let missing = CliInstaller::new(CliOptions::default(), nowhere);
    assert_eq!(missing.version().await.unwrap_err().code, "tool-missing");
    assert_eq!(
        (missing.object_model(), missing.kind()),
        (ObjectModel::Managed, InstallerKind::Vendor)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_that_fail_are_results_and_not_problems() {
    let world = World::new(&["west"]).await;
    let core = r#"{"success": true, "categories": [{"categoryName": "linkerd-existence", "checks": [{"description": "control plane pods are ready", "result": "success"}]}]}"#;
    let down = recorded("lab/checks/mc-check-gateway-down-west.json");
    let fake = fake()
        .file("check.json", core)
        .file("mc-check.json", &down)
        .file("gateways.json", &recorded("lab/checks/gateways-gateway-down-west.json"));
    let installer = Arc::new(CliInstaller::new(options(&fake), fake.tools()));
    let driver = Linkerd::new(installer.clone(), PACE);
    let results = driver.check(world.get("west")).await.unwrap();
    assert_eq!(results.len(), 15);
    let dead = results
        .iter()
        .find(|result| result.meaning == Some(Meaning::GatewaysAlive))
        .unwrap();
    assert_eq!(dead.outcome, Outcome::Error);
    let gateways = installer.gateways(world.get("west")).await.unwrap();
    assert_eq!(gateways.iter().filter(|gateway| !gateway.alive).count(), 1);

    // The real `check` prints a second document for the extensions that it finds; then there is nothing more to ask.
    let fake = fake.file("check.json", &format!("{core}\n{down}"));
    let asked = fake.log().matches("multicluster check").count();
    assert_eq!(driver.check(world.get("west")).await.unwrap().len(), 15);
    assert_eq!(fake.log().matches("multicluster check").count(), asked);

    let fake = fake.file("check.json", "");
    assert_eq!(driver.check(world.get("west")).await.unwrap_err().code, "tool-failed");
    drop(fake);
}
