//! `--reuse`: clusters stay up, and the next run finds them as they were when they were new.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;

use crate::machine::{Machine, SCENARIO, await_moment};

fn created(machine: &Machine) -> usize {
    let calls = machine.standins.calls();
    let created = calls
        .iter()
        .filter(|call| call.line().starts_with("kind create cluster"));
    created.count()
}

fn swept(machine: &Machine) {
    assert_eq!(machine.standins.leftovers().clusters.len(), 2);
    let said = Machine::said(&mut machine.meshproof(&["gc"]));
    assert_eq!(said.code, Some(0), "{}", said.all());
    machine.assert_nothing_left("gc of kept clusters");
}

#[test]
fn a_second_run_takes_the_clusters_of_the_first_over() {
    let machine = Machine::new();
    for from in ["cli", "helm", "cli"] {
        let said = Machine::said(&mut machine.run(&["--reuse", "--mesh-from", from, SCENARIO, "mutual-tls-is-proven"]));
        assert_eq!(said.code, Some(0), "{}", said.all());
        assert!(said.out.contains("pass: 2 scenarios (2 pass)"), "{}", said.out);
        assert!(!said.err.contains("made anew"), "{}", said.err);
        assert_eq!(created(&machine), 2, "the first run's clusters serve all");
    }
    swept(&machine);
}

/// A killed process removes nothing, neither its scenario's objects nor its mesh.
#[test]
fn clusters_of_a_killed_run_are_taken_over() {
    let machine = Machine::new();
    let mut child = machine.run_that_stays(&["--reuse"]);
    await_moment(&mut child, || {
        let calls = machine.standins.calls();
        calls
            .iter()
            .any(|call| call.line().starts_with("linkerd multicluster link-gen"))
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let said = Machine::said(&mut machine.run(&["--reuse", SCENARIO]));
    assert_eq!(said.code, Some(0), "{}", said.all());
    assert!(!said.err.contains("made anew"), "{}", said.err);
    assert_eq!(created(&machine), 2);
    swept(&machine);
}

#[test]
fn clusters_are_made_anew_when_something_in_them_cannot_be_removed() {
    let machine = Machine::new();
    let said = Machine::said(&mut machine.run(&["--reuse", SCENARIO]));
    assert_eq!(said.code, Some(0), "{}", said.all());
    hold(&machine);
    // The deadline of clearing, too.
    let said = Machine::said(&mut machine.run(&["--reuse", "--tool-deadline", "10", SCENARIO]));
    assert_eq!(said.code, Some(0), "{}", said.all());
    assert!(
        said.err
            .contains("clusters of meshproof-pair are made anew: cluster west: could not be removed within 10 s: ")
            && said
                .err
                .contains("ConfigMap default/held (finalizers example.com/hold)"),
        "{}",
        said.err
    );
    assert_eq!(created(&machine), 4);
    swept(&machine);
}

/// Puts an object into a kept cluster that nobody lets go.
fn hold(machine: &Machine) {
    let kubeconfig = machine
        .folder
        .path()
        .join("state/meshproof/kind/meshproof-pair/west.kubeconfig");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap();
        let client = kube::Client::try_from(config).unwrap();
        let held: ConfigMap = serde_json::from_value(json!({
            "metadata": {"name": "held", "namespace": "default", "finalizers": ["example.com/hold"]},
        }))
        .unwrap();
        let api: Api<ConfigMap> = Api::namespaced(client, "default");
        api.create(&PostParams::default(), &held).await.unwrap();
    });
}
