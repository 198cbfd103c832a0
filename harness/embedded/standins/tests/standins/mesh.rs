//! `linkerd` and `helm`: two clusters linked by nothing but commands and the API.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use meshproof_mesh::defect::Defects;
use meshproof_mesh::install::gateway_api_crds;
use serde_json::{Value, json};

use crate::support::{World, until};

const MC: &str = "linkerd-multicluster";

/// A certificate authority below another, as PEM: certificate and key.
fn authorities() -> [(String, String); 2] {
    let params = |name: &str| {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        params
    };
    let (root, root_key) = (
        params("root.linkerd.cluster.local"),
        rcgen::KeyPair::generate().unwrap(),
    );
    let (issuer, issuer_key) = (
        params("identity.linkerd.cluster.local"),
        rcgen::KeyPair::generate().unwrap(),
    );
    let root_certificate = root.self_signed(&root_key).unwrap();
    let signer = rcgen::Issuer::from_params(&root, &root_key);
    let issuer_certificate = issuer.signed_by(&issuer_key, &signer).unwrap();
    [
        (root_certificate.pem(), root_key.serialize_pem()),
        (issuer_certificate.pem(), issuer_key.serialize_pem()),
    ]
}

fn documents(yaml: &str) -> Vec<Value> {
    use serde::Deserialize;
    serde_yaml::Deserializer::from_str(yaml)
        .map(|document| Value::deserialize(document).unwrap())
        .filter(|document| !document.is_null())
        .collect()
}

/// Plural names of the kinds that manifests use.
fn api(client: &Client, object: &Value) -> Api<DynamicObject> {
    let (api_version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let lower = kind.to_lowercase();
    let plural = lower
        .strip_suffix('y')
        .map_or_else(|| format!("{lower}s"), |stem| format!("{stem}ies"));
    let resource = ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        plural,
    };
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

async fn apply(client: &Client, objects: &[Value]) {
    for object in objects {
        let name = object["metadata"]["name"].as_str().unwrap();
        let params = PatchParams::apply("test").force();
        let applied = api(client, object).patch(name, &params, &Patch::Apply(object)).await;
        applied.unwrap_or_else(|error| panic!("{} {name}: {error}", object["kind"]));
    }
}

async fn available(client: &Client, namespace: &str) {
    let deployments = Api::<Deployment>::namespaced(client.clone(), namespace);
    until(&format!("the Deployments in {namespace}"), async || {
        let found = deployments.list(&Default::default()).await.unwrap().items;
        let ready = |deployment: &Deployment| {
            deployment
                .status
                .as_ref()
                .and_then(|status| status.available_replicas)
                .unwrap_or_default()
                > 0
        };
        (!found.is_empty() && found.iter().all(ready)).then_some(())
    })
    .await;
}

/// What an environment does on kind: the node's address as that of the load balancer.
async fn give_address(client: &Client, address: &str) {
    let services = Api::<Service>::namespaced(client.clone(), MC);
    let untouched = services.get("linkerd-gateway").await.unwrap();
    let ingress = untouched
        .status
        .and_then(|status| status.load_balancer)
        .and_then(|balancer| balancer.ingress);
    assert!(ingress.is_none(), "nobody hands out addresses: {ingress:?}");
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}});
    services
        .patch_status("linkerd-gateway", &PatchParams::default(), &Patch::Merge(&status))
        .await
        .unwrap();
}

async fn install_control_plane(world: &World, name: &str) -> Client {
    let client = world.client(name).await;
    let early = world
        .run(&format!("linkerd install --crds --kubeconfig {name}.kubeconfig"))
        .await;
    assert!(early.stderr.contains("Gateway API CRDs must be installed"), "{early:?}");
    apply(&client, &gateway_api_crds(&Defects::default())).await;
    let crds = world
        .run(&format!("linkerd install --crds --kubeconfig {name}.kubeconfig"))
        .await;
    assert_eq!(
        crds.stderr,
        "Rendering Linkerd CRDs...\nNext, run `linkerd install | kubectl apply -f -` to install the control plane.\n\n",
        "as recorded"
    );
    apply(&client, &documents(&crds.stdout)).await;
    let files = "--identity-trust-anchors-file anchors.pem --identity-issuer-certificate-file issuer.pem --identity-issuer-key-file issuer.key";
    let yaml = world
        .ok(&format!("linkerd install {files} --kubeconfig {name}.kubeconfig"))
        .await;
    apply(&client, &documents(&yaml)).await;
    available(&client, "linkerd").await;
    client
}

async fn check(world: &World, cluster: &str) -> (i32, Value) {
    let output = world
        .run(&format!(
            "linkerd multicluster check --output json --wait 30s --kubeconfig {cluster}.kubeconfig"
        ))
        .await;
    (output.code.unwrap(), serde_json::from_str(&output.stdout).unwrap())
}

/// Descriptions and results, as a real healthy cluster with a link to `east` printed them.
const RECORDED: [(&str, &str); 14] = [
    ("Link CRD exists", "success"),
    ("Link resources are valid\n\t* east", "success"),
    ("Link and CLI versions match\n\t* east", "success"),
    ("remote cluster access credentials are valid\n\t* east", "success"),
    ("clusters share trust anchors\n\t* east", "success"),
    (
        "service mirror controller has required permissions\n\t* east",
        "success",
    ),
    ("service mirror controllers are running\n\t* east", "success"),
    ("extension is managing controllers\n\t* east", "success"),
    (
        "probe services able to communicate with all gateway mirrors\n\t* east",
        "success",
    ),
    ("all mirror services have endpoints", "success"),
    ("all mirror services are part of a Link", "success"),
    ("multicluster extension proxies are healthy", "success"),
    ("multicluster extension proxies are up-to-date", "warning"),
    ("multicluster extension proxies and cli versions match", "success"),
];

async fn gateways(world: &World) -> Value {
    let text = world
        .ok("linkerd multicluster gateways --output json --kubeconfig west.kubeconfig")
        .await;
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_are_linked_by_commands_checked_cut_and_removed() {
    let world = World::start();
    world.standins.add_agent_image("meshproof/agent:test");
    let [root, issuer] = authorities();
    std::fs::write(world.path("anchors.pem"), root.0).unwrap();
    std::fs::write(world.path("issuer.pem"), issuer.0).unwrap();
    std::fs::write(world.path("issuer.key"), issuer.1).unwrap();
    let created = tokio::join!(world.create("west", 10), world.create("east", 20));
    assert_eq!((created.0.code, created.1.code), (Some(0), Some(0)));
    world
        .ok("kind load docker-image meshproof/agent:test --name east")
        .await;

    let early = world
        .run("linkerd multicluster install --kubeconfig west.kubeconfig")
        .await;
    assert!(
        early
            .stderr
            .starts_with("Error: you need Linkerd to be installed in order to install"),
        "{early:?}"
    );
    let (west, east) = tokio::join!(
        install_control_plane(&world, "west"),
        install_control_plane(&world, "east")
    );
    for (name, client, controllers) in [
        ("east", &east, ""),
        ("west", &west, "--set controllers[0].link.ref.name=east"),
    ] {
        let line = format!("linkerd multicluster install {controllers} --kubeconfig {name}.kubeconfig");
        apply(client, &documents(&world.ok(&line).await)).await;
        if name == "east" {
            let unaddressed = world
                .run("linkerd multicluster link-gen --cluster-name east --api-server-address https://x --kubeconfig east.kubeconfig")
                .await;
            let said = "Error: gateway linkerd-gateway.linkerd-multicluster has no ingress addresses\nUsage:";
            assert!(unaddressed.stderr.starts_with(said), "{unaddressed:?}");
            assert_eq!((unaddressed.code, unaddressed.stdout.as_str()), (Some(1), ""));
        }
        give_address(client, &node_address(&world, name).await).await;
        available(client, MC).await;
    }

    let east_address = node_address(&world, "east").await;
    let line = format!(
        "linkerd multicluster link-gen --cluster-name east --api-server-address https://{east_address}:6443 --kubeconfig east.kubeconfig"
    );
    let link = documents(&world.ok(&line).await);
    let kinds: Vec<_> = link.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["Secret", "Secret", "Link"]);
    apply(&west, &link).await;

    export(&east, &west).await;
    let mirror = until("the mirror in west", async || {
        Api::<Service>::namespaced(west.clone(), "shop")
            .get_opt("store-east")
            .await
            .unwrap()
    })
    .await;
    assert_eq!(mirror.labels()["mirror.linkerd.io/cluster-name"], "east");

    healthy(&world).await;
    cut(&world, &east_address).await;
    delay(&world, &east_address).await;
    remove(&world, &west).await;
}

async fn node_address(world: &World, name: &str) -> String {
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let text = world
        .ok(&format!("docker inspect --format '{format}' {name}-control-plane"))
        .await;
    text.trim().to_owned()
}

async fn export(east: &Client, west: &Client) {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    apply(west, std::slice::from_ref(&namespace)).await;
    let labels = json!({"app": "store"});
    let args = [
        "--cluster=east",
        "--namespace=shop",
        "--workload=store",
        "--pod=store",
        "--nonce=1",
    ];
    let container =
        json!({"name": "agent", "args": args, "image": "meshproof/agent:test", "ports": [{"containerPort": 8080}]});
    apply(
        east,
        &[
            namespace,
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "store", "namespace": "shop"},
                "spec": {
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
                },
            }),
            json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": "store", "namespace": "shop", "labels": {"mirror.linkerd.io/exported": "true"}},
                "spec": {"selector": labels, "ports": [{"port": 8080}]},
            }),
        ],
    )
    .await;
    available(east, "shop").await;
}

async fn healthy(world: &World) {
    let report = until("a healthy check", async || {
        let (code, report) = check(world, "west").await;
        (code == 0).then_some(report)
    })
    .await;
    assert_eq!(report["success"], true);
    let category = &report["categories"][0];
    assert_eq!(category["categoryName"], "linkerd-multicluster");
    let found: Vec<(&str, &str)> = category["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| {
            (
                check["description"].as_str().unwrap(),
                check["result"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(found, RECORDED);
    let warning = &category["checks"][12];
    assert_eq!(
        warning["hint"],
        "https://linkerd.io/2/checks/#l5d-multicluster-proxy-cp-version"
    );
    assert!(
        warning["error"]
            .as_str()
            .unwrap()
            .starts_with("failed to resolve version check server: https://")
    );

    let table = world
        .ok("linkerd multicluster check --kubeconfig west.kubeconfig")
        .await;
    let head = "linkerd-multicluster\n--------------------\n√ Link CRD exists\n√ Link resources are valid\n\t* east\n";
    assert!(table.starts_with(head), "{table}");
    assert!(
        table.ends_with("versions match\n\nStatus check results are √\n"),
        "{table}"
    );

    let all = gateways(world).await;
    assert_eq!(
        (&all[0]["clusterName"], &all[0]["alive"]),
        (&json!("east"), &json!(true))
    );
    assert_eq!(all[0]["numberOfServices"], 1);
    let fields: BTreeSet<&String> = all[0].as_object().unwrap().keys().collect();
    assert_eq!(
        Vec::from_iter(fields),
        ["alive", "clusterName", "latency", "numberOfServices"]
    );

    let both = world
        .ok("linkerd check --output json --wait 30s --kubeconfig west.kubeconfig")
        .await;
    let categories: Vec<String> = serde_json::Deserializer::from_str(&both)
        .into_iter::<Value>()
        .flat_map(|document| document.unwrap()["categories"].as_array().unwrap().clone())
        .map(|category| category["categoryName"].as_str().unwrap().to_owned())
        .collect();
    assert!(categories.contains(&"linkerd-identity".to_owned()), "{categories:?}");
    assert_eq!(categories.last().map(String::as_str), Some("linkerd-multicluster"));
    assert_eq!(
        world.ok("linkerd version --kubeconfig west.kubeconfig").await,
        "Client version: model-2.20\nServer version: model-2.20\n"
    );
}

/// A partition between the nodes is noticed by the controller's probes, and is over when its rule is.
async fn cut(world: &World, east_address: &str) {
    let rule = |operation: &str| {
        format!(
            "docker exec west-control-plane iptables -w 10 -t raw {operation} PREROUTING -s {east_address} -m comment --comment meshproof-partition-1 -j DROP"
        )
    };
    world.ok(&rule("-I")).await;
    until("the dead gateway", async || {
        (gateways(world).await[0]["alive"] == false).then_some(())
    })
    .await;
    let (code, report) = check(world, "west").await;
    assert_eq!(code, 1);
    let alive = &report["categories"][0]["checks"][8];
    assert_eq!(alive["error"], "    liveness checks failed for east", "as recorded");
    assert_eq!(
        alive["description"],
        "probe services able to communicate with all gateway mirrors"
    );
    world.ok(&rule("-D")).await;
    until("the living gateway", async || {
        (gateways(world).await[0]["alive"] == true).then_some(())
    })
    .await;
}

/// A delay on the node's interface is in the latency that the controller's probes measure, and is gone with its queue.
async fn delay(world: &World, east_address: &str) {
    let tc = async |arguments: &str| {
        world
            .ok(&format!("docker exec west-control-plane tc {arguments}"))
            .await
    };
    let latency = async || gateways(world).await[0]["latency"].as_u64().unwrap();
    tc("qdisc add dev eth0 root handle 1: prio bands 16 priomap 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0").await;
    tc("qdisc add dev eth0 parent 1:2 handle 20: netem delay 400000us limit 100000").await;
    tc(&format!(
        "filter add dev eth0 parent 1: protocol ip prio 2 u32 match ip dst {east_address}/32 flowid 1:2"
    ))
    .await;
    until("late probes", async || (latency().await >= 400).then_some(())).await;
    tc("filter del dev eth0 parent 1: protocol ip prio 2 u32").await;
    tc("qdisc del dev eth0 parent 1:2 handle 20:").await;
    tc("qdisc del dev eth0 root").await;
    until("probes in time", async || (latency().await < 400).then_some(())).await;
}

async fn remove(world: &World, west: &Client) {
    let refused = world
        .run("linkerd multicluster uninstall --kubeconfig west.kubeconfig")
        .await;
    let recorded = "Error: Please unlink the following clusters before uninstalling multicluster:\n  * east\nUsage:\n";
    assert!(
        refused.stderr.replace("Usage: ", "Usage:\n  ").starts_with(recorded),
        "{refused:?}"
    );
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""));
    let refused = world.run("linkerd uninstall --kubeconfig west.kubeconfig").await;
    let recorded =
        "Please uninstall the following extensions before uninstalling the control-plane:\n\t* multicluster\n";
    assert_eq!((refused.code, refused.stderr.as_str()), (Some(1), recorded));

    let unlink = world
        .run("linkerd multicluster unlink --cluster-name east --kubeconfig west.kubeconfig")
        .await;
    assert!(
        unlink
            .stderr
            .starts_with("Command \"unlink\" is deprecated, only use for removing"),
        "{unlink:?}"
    );
    let named: Vec<String> = documents(&unlink.stdout)
        .iter()
        .map(|object| {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or("None");
            let (kind, name) = (
                object["kind"].as_str().unwrap(),
                object["metadata"]["name"].as_str().unwrap(),
            );
            format!("{} {kind} {namespace}/{name}", object["apiVersion"].as_str().unwrap())
        })
        .collect();
    // As recorded of a real unlink, with this test's only mirror in place of the recorded ones.
    assert_eq!(
        named,
        [
            "rbac.authorization.k8s.io/v1 ClusterRole None/linkerd-service-mirror-access-local-resources-east",
            "rbac.authorization.k8s.io/v1 ClusterRoleBinding None/linkerd-service-mirror-access-local-resources-east",
            "rbac.authorization.k8s.io/v1 Role linkerd-multicluster/linkerd-service-mirror-read-remote-creds-east",
            "rbac.authorization.k8s.io/v1 RoleBinding linkerd-multicluster/linkerd-service-mirror-read-remote-creds-east",
            "v1 ServiceAccount linkerd-multicluster/linkerd-service-mirror-east",
            "apps/v1 Deployment linkerd-multicluster/linkerd-service-mirror-east",
            "v1 Service linkerd-multicluster/probe-gateway-east",
            "v1 Secret linkerd-multicluster/cluster-credentials-east",
            "multicluster.linkerd.io/v1alpha3 Link linkerd-multicluster/east",
            "coordination.k8s.io/v1 Lease linkerd-multicluster/service-mirror-write-east",
            "v1 Service shop/store-east",
            "v1 Secret linkerd/cluster-credentials-east",
        ]
    );
    let unknown = world
        .run("linkerd multicluster unlink --cluster-name nosuch --kubeconfig west.kubeconfig")
        .await;
    assert!(
        unknown
            .stderr
            .contains("Error: links.multicluster.linkerd.io \"nosuch\" not found\n"),
        "{unknown:?}"
    );
    let link = json!({"apiVersion": "multicluster.linkerd.io/v1alpha3", "kind": "Link", "metadata": {"namespace": MC}});
    api(west, &link).delete("east", &Default::default()).await.unwrap();
    let objects = documents(
        &world
            .ok("linkerd multicluster uninstall --kubeconfig west.kubeconfig")
            .await,
    );
    assert!(
        objects
            .iter()
            .any(|object| object["kind"] == "Namespace" && object["metadata"]["name"] == MC),
        "{objects:?}"
    );
    world.ok("kind delete clusters --all").await;
    assert!(world.standins.leftovers().clusters.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn charts_render_what_the_command_line_prints() {
    let world = World::start();
    let chart = world.ok("helm show chart linkerd/linkerd-control-plane").await;
    assert!(chart.contains("appVersion: model-2.20"), "{chart}");
    let crds = "helm template linkerd-crds linkerd/linkerd-crds --namespace linkerd --kube-version 1.34.9 --values -";
    let output = world.run_with_input(crds, "{}").await;
    assert!(
        documents(&output.stdout)
            .iter()
            .all(|object| object["kind"] == "CustomResourceDefinition"),
        "{output:?}"
    );

    let multicluster = "helm template linkerd-multicluster ./linkerd-multicluster-30.tgz --namespace linkerd-multicluster --kube-version 1.34.9 --values -";
    let values = "createNamespaceMetadataJob: false\ngateway: {enabled: true, serviceType: NodePort, nodePort: 30143, probe: {nodePort: 30191}}\n\
                  controllers: [{link: {ref: {name: east}}, gateway: {enabled: true, probe: {port: 30191}}}]\n";
    let output = world.run_with_input(multicluster, values).await;
    let objects = documents(&output.stdout);
    assert!(
        objects.iter().all(|object| object["kind"] != "Namespace"),
        "the chart makes none"
    );
    let gateway = objects
        .iter()
        .find(|object| object["kind"] == "Service" && object["metadata"]["name"] == "linkerd-gateway");
    assert_eq!(gateway.unwrap()["spec"]["ports"][0]["nodePort"], 30143);
    assert!(
        objects
            .iter()
            .any(|object| object["kind"] == "Deployment" && object["metadata"]["name"] == "controller-east")
    );

    let unknown = world.run_with_input(multicluster, "gateway: {UID: 7}").await;
    assert_eq!(unknown.code, Some(126), "{unknown:?}");
    let nothing = "helm template linkerd-control-plane linkerd/linkerd-control-plane --namespace linkerd --values -";
    let refused = world.run_with_input(nothing, "{}").await;
    assert!(
        refused
            .stderr
            .starts_with("Error: Please provide the identity trust anchors"),
        "{refused:?}"
    );
    assert_eq!(world.run("helm template x linkerd/viz --values -").await.code, Some(1));
}
