//! What installers would do: golden, and in agreement with what was recorded.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use meshproof_engine::action::Action;
use meshproof_engine::driver::{MeshDriver, Owner};
use meshproof_engine::tool::{Invocation, Tools};
use meshproof_linkerd::installer::{GatewayOptions, Installer, NodePorts};
use meshproof_linkerd::version::ObjectModel;
use meshproof_linkerd::{
    Chart, CliInstaller, CliOptions, HelmInstaller, HelmOptions, Linkerd, NextCharts, Preinstalled, manifests,
};
use meshproof_spec::scenario::Setup;
use serde_json::json;

use crate::world::{recorded, topology};

fn cli(version: &str) -> CliInstaller {
    let options = CliOptions {
        version: Some(version.to_owned()),
        gateway_api_crds: Some(PathBuf::from("gateway-api/standard-install.yaml")),
        gateway: GatewayOptions {
            load_balancer_class: Some("meshproof.dev/node".into()),
            node_ports: None,
        },
        ..CliOptions::default()
    };
    CliInstaller::new(options, Tools::default())
}

fn helm(links_by_cli: bool) -> HelmInstaller {
    let chart = |name: &str| Chart {
        reference: format!("linkerd-edge/{name}"),
        version: Some("2026.8.3".to_owned()),
    };
    let options = HelmOptions {
        crds: chart("linkerd-crds"),
        control_plane: chart("linkerd-control-plane"),
        multicluster: chart("linkerd-multicluster"),
        gateway_api_crds: None,
        control_plane_values: json!({"proxy": {"logLevel": "info"}}),
        links_by_cli,
        ..HelmOptions::default()
    };
    HelmInstaller::new(options, Tools::default())
}

fn printed(installer: impl Installer + 'static, topology_name: &str, setup: &Setup) -> String {
    let driver = Linkerd::new(Arc::new(installer), 1.0);
    let actions = driver.commands(&topology(topology_name), setup);
    actions.iter().map(ToString::to_string).collect()
}

#[test]
fn a_pair_by_cli() {
    insta::assert_snapshot!(printed(cli("edge-26.8.3"), "pair", &Setup::default()));
}

#[test]
fn lifetimes_of_certificates_reach_cli_and_charts() {
    let lines = |printed: String| -> Vec<String> {
        let told = printed.lines().filter(|line| line.contains("ssuance"));
        told.map(ToOwned::to_owned).collect()
    };
    insta::assert_snapshot!(
        [
            lines(printed(cli("edge-26.8.3"), "pair-short-lived", &Setup::default())),
            lines(printed(helm(false), "pair-short-lived", &Setup::default())),
        ]
        .concat()
        .join("\n")
    );
}

#[test]
fn a_pair_by_a_cli_of_the_legacy_model() {
    insta::assert_snapshot!(printed(cli("stable-2.14.10"), "pair", &Setup::default()));
}

#[test]
fn a_hub_and_its_spokes_by_cli_on_node_ports() {
    let options = CliOptions {
        gateway: GatewayOptions {
            load_balancer_class: None,
            node_ports: Some(NodePorts {
                gateway: 30143,
                probe: 30191,
            }),
        },
        ..CliOptions::default()
    };
    let installer = CliInstaller::new(options, Tools::default());
    insta::assert_snapshot!(printed(installer, "hub-and-spoke", &Setup::default()));
}

#[test]
fn a_pair_by_charts() {
    insta::assert_snapshot!(printed(helm(true), "pair", &Setup::default()));
}

#[test]
fn a_hub_and_its_spokes_by_charts_alone() {
    insta::assert_snapshot!(printed(helm(false), "hub-and-spoke", &Setup::default()));
}

fn upgrade(first: impl Installer + 'static, next: impl Installer + 'static) -> String {
    let driver = Linkerd::new(Arc::new(first), 1.0).upgradable(Arc::new(next));
    let actions = driver.upgrade_commands("west", &topology("pair"), &Setup::default());
    actions.iter().map(ToString::to_string).collect()
}

#[test]
fn an_upgrade_by_the_next_cli() {
    let first = cli("edge-25.8.5");
    let next = first.next(Some("edge-26.8.3".to_owned()), Tools::default());
    insta::assert_snapshot!(upgrade(first, next));
}

#[test]
fn an_upgrade_within_the_legacy_model() {
    let first = cli("stable-2.13.7");
    let next = first.next(Some("stable-2.14.10".to_owned()), Tools::default());
    insta::assert_snapshot!(upgrade(first, next));
}

#[test]
fn an_upgrade_by_the_next_charts() {
    let first = helm(false);
    let chart = |name: &str| Chart {
        reference: format!("linkerd-edge/{name}"),
        version: Some("2026.9.1".to_owned()),
    };
    let charts = NextCharts {
        crds: chart("linkerd-crds"),
        control_plane: chart("linkerd-control-plane"),
        multicluster: chart("linkerd-multicluster"),
    };
    let next = first.next(charts, Tools::default());
    insta::assert_snapshot!(upgrade(first, next));
}

#[test]
fn there_is_something_to_upgrade_to_only_when_it_is_given() {
    let can = |driver: &Linkerd| driver.capabilities().contains("upgrade-mesh");
    let first = cli("edge-25.8.5");
    let next = first.next(None, Tools::default());
    let driver = Linkerd::new(Arc::new(first), 1.0);
    assert!(!can(&driver));
    assert!(
        driver
            .upgrade_commands("west", &topology("pair"), &Setup::default())
            .is_empty()
    );
    assert!(can(&driver.upgradable(Arc::new(next))));
}

#[test]
fn a_setup_decides_how_much_is_done() {
    let titles = |setup: &Setup| -> Vec<String> {
        let driver = Linkerd::new(Arc::new(cli("edge-26.8.3")), 1.0);
        let actions = driver.commands(&topology("pair"), setup);
        let titles = actions.into_iter().filter_map(|action| match action {
            Action::Section(title) => Some(title),
            _ => None,
        });
        titles.collect()
    };
    let unlinked = Setup {
        unlinked: true,
        ..Setup::default()
    };
    assert!(titles(&unlinked).iter().all(|title| !title.starts_with("link ")));
    assert_eq!(titles(&unlinked).len(), 5);
    let bare = Setup {
        bare: true,
        ..Setup::default()
    };
    assert_eq!(titles(&bare), ["linkerd CLI"]);
    assert_eq!(titles(&Setup::default()).len(), 7);
}

#[test]
fn what_others_installed_needs_no_commands_and_can_do_less() {
    let driver = Linkerd::new(Arc::new(Preinstalled::new()), 1.0);
    assert!(driver.commands(&topology("pair"), &Setup::default()).is_empty());
    let theirs = driver.capabilities();
    let ours = Linkerd::new(Arc::new(cli("edge-26.8.3")), 1.0).capabilities();
    assert!(theirs.is_subset(&ours));
    let missing: BTreeSet<&str> = ours.difference(&theirs).map(String::as_str).collect();
    assert_eq!(
        missing,
        BTreeSet::from([
            "deny-writes",
            "install-mesh",
            "link-clusters",
            "rotate-credentials",
            "rotate-trust",
            "separate-trust"
        ])
    );
    assert!(ours.contains("export-flat") && ours.contains("export-federated"));
}

fn invocations(installer: impl Installer + 'static, topology_name: &str) -> Vec<Invocation> {
    let driver = Linkerd::new(Arc::new(installer), 1.0);
    let actions = driver.commands(&topology(topology_name), &Setup::default());
    let runs = actions.into_iter().filter_map(|action| match action {
        Action::Run(invocation) => Some(invocation),
        _ => None,
    });
    runs.collect()
}

/// Flags of a command as its recorded help lists them.
fn listed(help: &str) -> BTreeSet<String> {
    help.lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with('-'))
        .flat_map(str::split_whitespace)
        .map(|word| word.trim_end_matches(','))
        .filter(|word| word.starts_with('-'))
        .map(ToOwned::to_owned)
        .collect()
}

#[test]
fn links_use_only_flags_that_the_real_cli_has() {
    let help = listed(&recorded("install/link-gen-noaddr-nodeport.txt"));
    assert!(help.contains("--gateway-addresses") && help.contains("--kubeconfig") && !help.contains("--set"));
    let options = CliOptions {
        gateway: GatewayOptions {
            load_balancer_class: None,
            node_ports: Some(NodePorts { gateway: 1, probe: 2 }),
        },
        ..CliOptions::default()
    };
    let mut seen = BTreeSet::new();
    let both = [
        invocations(CliInstaller::new(options, Tools::default()), "hub-and-spoke"),
        invocations(cli("edge-26.8.3"), "pair"),
    ];
    for invocation in both.iter().flatten() {
        if invocation.arguments.get(1).map(String::as_str) != Some("link-gen") {
            continue;
        }
        for argument in invocation.arguments.iter().filter(|argument| argument.starts_with('-')) {
            let flag = argument.split('=').next().unwrap();
            assert!(help.contains(flag), "link-gen has no {flag}");
            seen.insert(flag.to_owned());
        }
    }
    assert_eq!(
        seen.into_iter().collect::<Vec<_>>(),
        [
            "--api-server-address",
            "--cluster-name",
            "--gateway-addresses",
            "--kubeconfig",
            "--service-account-name"
        ]
    );
    for (file, command) in [("uninstall-refusal", "uninstall"), ("unlink-nosuch", "unlink")] {
        let help = recorded(&format!("lab/cleanup/{file}.stderr"));
        assert!(help.contains(&format!("linkerd multicluster {command} [flags]")));
        assert!(listed(&help).contains("--kubeconfig"));
    }
    assert!(listed(&recorded("lab/cleanup/unlink-nosuch.stderr")).contains("--cluster-name"));
    // A refusal prints nothing that could be applied; a deprecation is no refusal, and stands beside the manifests.
    assert_eq!(recorded("lab/cleanup/uninstall-refusal.rc").trim(), "uninstall rc=1");
    assert!(manifests::parse(&recorded("lab/cleanup/uninstall-refusal.stdout")).is_err());
    let deprecated = recorded("lab/cleanup/unlink-west-east.stderr");
    assert!(recorded("lab/cleanup/unlink-nosuch.stderr").starts_with(deprecated.trim()));
    assert!(manifests::parse(&deprecated).is_err());
}

/// `kind/name` of everything that applying created, without the API group.
fn created(file: &str) -> BTreeSet<String> {
    recorded(file)
        .lines()
        .filter_map(|line| line.strip_suffix(" created"))
        .map(|object| {
            let (kind, name) = object.split_once('/').unwrap();
            format!("{}/{name}", kind.split('.').next().unwrap())
        })
        .collect()
}

#[test]
fn a_controller_and_a_link_are_the_objects_that_were_created() {
    let model = ObjectModel::Managed;
    let controller = BTreeSet::from([
        format!("deployment/{}", model.controller("north")),
        format!("service/{}", model.probe_service("north")),
        format!("serviceaccount/{}", model.controller("north")),
        format!("clusterrolebinding/{}", model.local_access_binding("north")),
        format!("role/{}", model.read_credentials_role("north")),
        format!("rolebinding/{}", model.read_credentials_role("north")),
    ]);
    for cluster in ["west", "east"] {
        let file = format!("install/multicluster-install-{cluster}-addnorth.txt");
        assert_eq!(created(&file), controller);
    }
    for (from, to) in [("west", "east"), ("east", "west")] {
        assert_eq!(
            created(&format!("install/link-{from}-to-{to}.txt")),
            BTreeSet::from([format!("link/{to}"), format!("secret/cluster-credentials-{to}")])
        );
    }
    let extension = created("install/multicluster-install-west.txt");
    assert_eq!(extension.len(), 32);
    let driver = Linkerd::new(Arc::new(cli("git-b24cd405")), 1.0);
    let component = driver.component(meshproof_spec::scenario::Component::Gateway, None);
    for expected in [
        format!("clusterrole/{}", model.local_access_role("any")),
        format!("deployment/{}", component.name),
        format!("namespace/{}", component.namespace),
        format!("deployment/{}", model.controller("east")),
        "customresourcedefinition/links.multicluster.linkerd.io".to_owned(),
    ] {
        assert!(extension.contains(&expected), "{expected}");
    }
}

#[test]
fn everything_that_installing_created_is_owned() {
    let driver = Linkerd::new(Arc::new(cli("git-b24cd405")), 1.0);
    let cluster_scoped = [
        "Namespace",
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
    ];
    let kinds = [
        ("namespace", "Namespace"),
        ("clusterrole", "ClusterRole"),
        ("clusterrolebinding", "ClusterRoleBinding"),
        ("customresourcedefinition", "CustomResourceDefinition"),
        ("mutatingwebhookconfiguration", "MutatingWebhookConfiguration"),
        ("validatingwebhookconfiguration", "ValidatingWebhookConfiguration"),
    ];
    let mut seen = 0;
    // What was there already is not counted: west's control plane was installed twice.
    for (file, namespace) in [
        ("linkerd-install-crds-west", "linkerd"),
        ("linkerd-install-crds-east", "linkerd"),
        ("linkerd-install-west", "linkerd"),
        ("linkerd-install-east", "linkerd"),
        ("linkerd-install-north", "linkerd"),
        ("multicluster-install-west", "linkerd-multicluster"),
        ("multicluster-install-east", "linkerd-multicluster"),
        ("multicluster-install-north", "linkerd-multicluster"),
    ] {
        for object in created(&format!("install/{file}.txt")) {
            let (kind, name) = object.split_once('/').unwrap();
            let kind = kinds.iter().find(|row| row.0 == kind).map_or(kind, |row| row.1);
            let namespace = if cluster_scoped.contains(&kind) || kind.ends_with("Configuration") {
                ""
            } else {
                namespace
            };
            // Told by name alone, as if nothing had a label.
            let bare = json!({"kind": kind, "metadata": {"name": name, "namespace": namespace}});
            assert_ne!(driver.owner("west", &bare), Owner::Nobody, "{object}");
            seen += 1;
        }
    }
    assert_eq!(seen, 2 * 10 + 29 + 2 * 42 + 2 * 32 + 38);
}
