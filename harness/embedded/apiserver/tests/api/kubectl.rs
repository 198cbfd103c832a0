//! The real kubectl, when there is one on the PATH. Any version must work; Debian's 1.20 needs `--validate=false` for `apply`.

use crate::support::{Cluster, cluster};
use meshproof_apiserver::gvr;
use meshproof_apiserver::store::Patch;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// kubectl with the credentials of one user.
struct Kubectl {
    home: TempDir,
    kubeconfig: PathBuf,
}

struct Output {
    ok: bool,
    text: String,
}

impl Kubectl {
    /// `None`, with a note for the reader of the test's output, when there is no kubectl.
    fn new(kubeconfig: &str) -> Option<Self> {
        let found = duct::cmd!("kubectl", "version", "--client")
            .stdout_null()
            .stderr_null()
            .unchecked()
            .run();
        if found.is_err() {
            eprintln!("skipped: there is no kubectl on the PATH (apt-get install kubernetes-client)");
            return None;
        }
        let home = TempDir::new().unwrap();
        let path = home.path().join("kubeconfig");
        std::fs::write(&path, kubeconfig).unwrap();
        Some(Self { home, kubeconfig: path })
    }

    fn command(&self, args: &[&str]) -> duct::Expression {
        duct::cmd("kubectl", args)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", self.home.path())
            .dir(self.home.path())
            .stderr_to_stdout()
            .unchecked()
    }

    async fn run(&self, args: &[&str]) -> Output {
        let command = self.command(args).stdout_capture();
        let output = tokio::task::spawn_blocking(move || command.run())
            .await
            .unwrap()
            .unwrap();
        Output {
            ok: output.status.success(),
            text: String::from_utf8_lossy(&output.stdout).into_owned(),
        }
    }

    /// The output of a command that must succeed.
    async fn ok(&self, command: &str) -> String {
        let args: Vec<&str> = command.split(' ').collect();
        let output = self.run(&args).await;
        assert!(output.ok, "kubectl {command}: {}", output.text);
        output.text
    }

    /// The output of a command that must fail.
    async fn fails(&self, command: &str) -> String {
        let args: Vec<&str> = command.split(' ').collect();
        let output = self.run(&args).await;
        assert!(!output.ok, "kubectl {command} succeeded: {}", output.text);
        output.text
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

async fn administrator() -> Option<(Cluster, Kubectl)> {
    let cluster = cluster().await;
    let kubectl = Kubectl::new(&cluster.server.admin_kubeconfig(None))?;
    Some((cluster, kubectl))
}

const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: 'image:1', ports: [{containerPort: 80, name: http}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
";

fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_applied_shown_changed_and_deleted() {
    let Some((_cluster, kubectl)) = administrator().await else {
        return;
    };
    let file = kubectl.file("web.yaml", MANIFEST);
    let apply = format!("apply --validate=false -f {file}");
    contains(
        &kubectl.ok(&apply).await,
        &["deployment.apps/web created", "service/web created"],
    );
    contains(
        &kubectl.ok(&apply).await,
        &["deployment.apps/web unchanged", "service/web unchanged"],
    );
    contains(&kubectl.ok("get deployments").await, &["READY", "UP-TO-DATE", "0/2"]);
    contains(
        &kubectl.ok("get deploy,svc -o wide").await,
        &["CONTAINERS", "image:1", "app=web", "80/TCP"],
    );
    contains(
        &kubectl.ok("get deploy web -o yaml").await,
        &["progressDeadlineSeconds: 600", "last-applied-configuration"],
    );
    contains(
        &kubectl.ok("get deploy -l app=web -o name").await,
        &["deployment.apps/web"],
    );
    contains(&kubectl.ok("get deploy -l app!=web -A").await, &["No resources found"]);
    contains(
        &kubectl.ok("describe deploy web").await,
        &["2 desired", "image:1", "RollingUpdate"],
    );
    contains(&kubectl.ok("describe svc web").await, &["ClusterIP", "app=web"]);
    kubectl.ok("scale deploy web --replicas=5").await;
    kubectl.ok("label deploy web tier=front").await;
    kubectl.ok("annotate deploy web note=x").await;
    let patch = r#"{"spec":{"template":{"spec":{"containers":[{"name":"main","image":"image:2"}]}}}}"#;
    kubectl.ok(&format!("patch deploy web -p {patch}")).await;
    let after = kubectl.ok("get deploy web -o jsonpath={.spec.replicas}/{.metadata.labels.tier}/{.metadata.annotations.note}/{.spec.template.spec.containers[*].image}").await;
    assert_eq!(after, "5/front/x/image:2");
    contains(
        &kubectl
            .ok("apply --server-side --force-conflicts --validate=false -f web.yaml")
            .await,
        &["serverside-applied"],
    );
    contains(&kubectl.ok("delete deploy web").await, &["deleted"]);
    contains(
        &kubectl.fails("get deploy web").await,
        &["NotFound", "deployments.apps \"web\" not found"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_created_from_arguments() {
    let Some((_cluster, kubectl)) = administrator().await else {
        return;
    };
    kubectl.ok("create namespace shop").await;
    kubectl.ok("create deployment web --image=image:1 -n shop").await;
    kubectl.ok("create configmap settings --from-literal=a=b -n shop").await;
    kubectl
        .ok("create secret generic hidden --from-literal=a=b -n shop")
        .await;
    kubectl.ok("create serviceaccount robot -n shop").await;
    kubectl
        .ok("create role reader --verb=get --resource=pods -n shop")
        .await;
    kubectl
        .ok("create rolebinding reader --role=reader --serviceaccount=shop:robot -n shop")
        .await;
    kubectl.ok("create service clusterip web --tcp=80:8080 -n shop").await;
    kubectl.ok("run one --image=image:1 -n shop").await;
    contains(&kubectl.ok("get pods -n shop").await, &["one", "0/1", "Pending"]);
    contains(
        &kubectl.ok("get all -n shop").await,
        &["pod/one", "deployment.apps/web", "service/web"],
    );
    assert_eq!(
        kubectl
            .ok("auth can-i get pods -n shop --as=system:serviceaccount:shop:robot")
            .await
            .trim(),
        "yes"
    );
    contains(
        &kubectl
            .fails("auth can-i delete pods -n shop --as=system:serviceaccount:shop:robot")
            .await,
        &["no"],
    );
    kubectl.ok("delete namespace shop --timeout=20s").await;
    contains(&kubectl.fails("get namespace shop").await, &["NotFound"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn custom_resources_have_their_columns() {
    let Some((_cluster, kubectl)) = administrator().await else {
        return;
    };
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "links.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "links", "kind": "Link", "shortNames": ["ln"]},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "additionalPrinterColumns": [{"name": "Target", "type": "string", "jsonPath": ".spec.target"}],
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "required": ["target"],
                    "properties": {"target": {"type": "string"}}}}}}}]}});
    let file = kubectl.file("definition.json", &definition.to_string());
    kubectl.ok(&format!("apply --validate=false -f {file}")).await;
    kubectl
        .ok("wait --for=condition=Established crd/links.example.com --timeout=20s")
        .await;
    contains(
        &kubectl.ok("api-resources").await,
        &["links", "ln", "example.com/v1", "Link", "deployments", "deploy"],
    );
    let link = json!({"apiVersion": "example.com/v1", "kind": "Link", "metadata": {"name": "east"}, "spec": {"target": "there"}});
    let file = kubectl.file("link.json", &link.to_string());
    kubectl.ok(&format!("apply --validate=false -f {file}")).await;
    contains(&kubectl.ok("get ln").await, &["TARGET", "there"]);
    let bad = json!({"apiVersion": "example.com/v1", "kind": "Link", "metadata": {"name": "bad"}, "spec": {}});
    let file = kubectl.file("bad.json", &bad.to_string());
    contains(
        &kubectl.fails(&format!("create --validate=false -f {file}")).await,
        &["spec.target: Required value"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_prints_changes_as_they_come() {
    let Some((_cluster, kubectl)) = administrator().await else {
        return;
    };
    let output = kubectl.home.path().join("watch.txt");
    kubectl.ok("create configmap before --from-literal=a=b").await;
    let watch = kubectl
        .command(&["get", "configmaps", "-w"])
        .stdout_path(&output)
        .start()
        .unwrap();
    let printed = |name: &'static str| {
        let output = output.clone();
        async move {
            // kubectl gives no other sign than its output.
            while !std::fs::read_to_string(&output).is_ok_and(|text| text.contains(name)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    crate::support::soon(printed("before")).await;
    kubectl.ok("create configmap during --from-literal=a=b").await;
    crate::support::soon(printed("during")).await;
    watch.kill().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_printed_and_what_is_unsupported_says_so() {
    let Some((cluster, kubectl)) = administrator().await else {
        return;
    };
    cluster.server.set_pod_backend(std::sync::Arc::new(crate::pods::Echo));
    kubectl.ok("run p --image=image:1").await;
    let store = cluster.server.store();
    let running = json!({"metadata": {"name": "p"}, "status": {"phase": "Running"}});
    store
        .patch_status(&gvr::PODS, Some("default"), "p", &Patch::Merge(running))
        .unwrap();
    contains(
        &kubectl.ok("logs p --tail=3 --previous").await,
        &["default/p", "tail_lines: Some(3)", "previous: true"],
    );
    contains(
        &kubectl.fails("attach p").await,
        &["unsupported by the embedded API server: pods/attach"],
    );
    contains(&kubectl.fails("exec p -- true").await, &["true: not found"]);
}

/// SPDY, which kubectl speaks before 1.31 and when it is told to, and WebSocket.
const TRANSPORTS: [&str; 2] = ["true", "false"];

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_in_pods_over_both_transports() {
    let Some((cluster, kubectl)) = administrator().await else {
        return;
    };
    crate::pods::run_pod(&cluster.server);
    for websockets in TRANSPORTS {
        let exec = async |args: &[&str]| {
            let command = kubectl
                .command(args)
                .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets);
            let command = command.stdout_capture();
            let output = tokio::task::spawn_blocking(move || command.run())
                .await
                .unwrap()
                .unwrap();
            (
                output.status.code(),
                String::from_utf8_lossy(&output.stdout).into_owned(),
            )
        };
        assert_eq!(
            exec(&["exec", "p", "--", "echo", "hello"]).await,
            (Some(0), "hello\n".to_owned())
        );
        let (code, text) = exec(&["exec", "-i", "p", "-c", "c", "--", "fail", "badly"]).await;
        assert_eq!(code, Some(7), "{text}");
        contains(&text, &["badly", "command terminated with exit code 7"]);
        let (code, text) = exec(&["exec", "p", "--", "nonsense"]).await;
        assert_eq!(code, Some(1), "{text}");
        contains(&text, &["nonsense: not found"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_are_forwarded_over_both_transports() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let Some((cluster, kubectl)) = administrator().await else {
        return;
    };
    crate::pods::run_pod(&cluster.server);
    for websockets in TRANSPORTS {
        let output = kubectl.home.path().join(format!("forward-{websockets}"));
        let forward = kubectl
            .command(&["port-forward", "pod/p", ":80"])
            .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets)
            .stdout_path(&output)
            .start()
            .unwrap();
        let port = async {
            loop {
                let text = std::fs::read_to_string(&output).unwrap_or_default();
                let told = text
                    .lines()
                    .find_map(|line| line.strip_prefix("Forwarding from 127.0.0.1:"));
                if let Some((port, _)) = told.and_then(|told| told.split_once(' ')) {
                    return port.parse::<u16>().unwrap();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let port = crate::support::soon(port).await;
        // Several at once, one after the other, and more than fits into a frame.
        for size in [5, 1 << 20] {
            let talk = async || {
                let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let (mut reader, mut writer) = stream.split();
                let (sent, mut received) = (vec![b'x'; size], vec![0; size]);
                let write = async { writer.write_all(&sent).await.unwrap() };
                let read = async { reader.read_exact(&mut received).await.map(|_| ()).unwrap() };
                tokio::join!(write, read);
                assert!(received.iter().all(|&b| b == b'X'));
            };
            crate::support::soon(async { tokio::join!(talk(), talk(), talk()) }).await;
        }
        forward.kill().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_turned_away() {
    let cluster = cluster().await;
    let Some(kubectl) = Kubectl::new(&cluster.server.kubeconfig_for("stranger", "wrong", None)) else {
        return;
    };
    let text = kubectl.fails("get pods").await;
    assert!(
        text.contains("Unauthorized") || text.contains("must be logged in"),
        "{text}"
    );
    cluster.server.accept_token("t", "ann", &[]);
    let Some(kubectl) = Kubectl::new(&cluster.server.kubeconfig_for("ann", "t", None)) else {
        return;
    };
    contains(
        &kubectl.fails("get pods").await,
        &[
            "Forbidden",
            "User \"ann\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_that_are_not_served_are_named_and_the_rest_is_applied() {
    let Some((_cluster, kubectl)) = administrator().await else {
        return;
    };
    let bundle = "
apiVersion: v1
kind: ConfigMap
metadata: {name: first}
---
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata: {name: split}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: last}
";
    let file = kubectl.file("bundle.yaml", bundle);
    contains(
        &kubectl.fails(&format!("apply -f {file}")).await,
        &[
            "configmap/first created",
            "configmap/last created",
            "no matches for kind \"TrafficSplit\" in version \"split.smi-spec.io/v1alpha2\"",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_are_explained_and_validated() {
    let Some((_cluster, kubectl)) = administrator().await else {
        return;
    };
    contains(
        &kubectl.ok("explain service.spec.ports").await,
        &["targetPort", "<IntOrString>", "ServicePort contains information"],
    );
    contains(
        &kubectl.ok("explain deployment.spec.template.spec.containers").await,
        &["readinessProbe", "<Probe>"],
    );
    contains(
        &kubectl.ok("explain cronjob.spec --recursive").await,
        &["jobTemplate", "containers"],
    );
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "links.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "links", "kind": "Link"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "description": "Where it leads.",
                    "properties": {"target": {"type": "string", "description": "The other cluster."}}}}}}}]}});
    let file = kubectl.file("definition.json", &definition.to_string());
    kubectl.ok(&format!("apply -f {file}")).await;
    kubectl
        .ok("wait --for=condition=Established crd/links.example.com --timeout=20s")
        .await;
    contains(
        &kubectl.ok("explain link.spec").await,
        &["Where it leads.", "target", "The other cluster."],
    );
    contains(&kubectl.ok("explain link.metadata").await, &["annotations"]);
    let file = kubectl.file("web.yaml", &MANIFEST.replace("replicas: 2", "replica: 2"));
    contains(
        &kubectl.fails(&format!("apply -f {file}")).await,
        &["unknown field \"spec.replica\""],
    );
    let file = kubectl.file("web.yaml", MANIFEST);
    kubectl.ok(&format!("apply -f {file}")).await;
    contains(&kubectl.ok(&format!("apply -f {file}")).await, &["web unchanged"]);
    let file = kubectl.file("web.yaml", &MANIFEST.replace("image:1", "image:2"));
    contains(
        &kubectl.fails(&format!("diff -f {file}")).await,
        &["-      - image: image:1", "+      - image: image:2"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sidecars_count_as_ready_containers() {
    let Some((cluster, kubectl)) = administrator().await else {
        return;
    };
    let store = cluster.server.store();
    let pod = json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "main", "image": "i"}],
        "initContainers": [{"name": "setup", "image": "i"}, {"name": "proxy", "image": "i", "restartPolicy": "Always"}]}});
    store.create(&gvr::PODS, Some("default"), pod).unwrap();
    let status = Patch::Merge(json!({"status": {"phase": "Running",
        "containerStatuses": [{"name": "main", "ready": true, "restartCount": 1}],
        "initContainerStatuses": [{"name": "setup", "ready": true, "restartCount": 7, "state": {"terminated": {"exitCode": 0}}},
            {"name": "proxy", "ready": true, "started": true, "restartCount": 2, "state": {"running": {}}}]}}));
    store.patch_status(&gvr::PODS, Some("default"), "web", &status).unwrap();
    contains(&kubectl.ok("get pods").await, &["2/2", "Running", " 3 "]);
}
