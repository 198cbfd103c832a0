//! The exact command lines of the `linkerd` CLI. Pure: what a plan prints is what runs.

use std::time::Duration;

use meshproof_engine::tool::Invocation;
use meshproof_spec::scalar::TimeSpan;
use meshproof_spec::scenario::{GatewayExposure, TrustStep};

use crate::installer::{GatewayOptions, LinkValues, MulticlusterValues, NodePorts};
use crate::names::{DEFAULT_DOMAIN, REMOTE_ACCESS, TRUST_DOMAIN};
use crate::version::ObjectModel;

/// Name of the tool.
pub(crate) const LINKERD: &str = "linkerd";

/// For commands that only render.
const RENDERS: Duration = Duration::from_secs(60);
/// For commands that wait for the control plane, up to 300 s by themselves.
const WAITS: Duration = Duration::from_secs(330);
/// For checks, which retry for [`CHECK_WAIT`] and then go on with the rest.
const CHECKS: Duration = Duration::from_secs(120);
/// How long a check may wait for what is not ready.
const CHECK_WAIT: &str = "30s";

/// Files that a control plane is made from.
pub(crate) struct TrustFiles {
    pub(crate) anchors: String,
    pub(crate) issuer_certificate: String,
    pub(crate) issuer_key: String,
}

/// A command under construction.
struct Line(Vec<String>);

impl Line {
    fn new(words: &[&str]) -> Self {
        Self(words.iter().map(ToString::to_string).collect())
    }

    fn flag(mut self, name: &str, value: &str) -> Self {
        self.0.extend([name.to_owned(), value.to_owned()]);
        self
    }

    fn set(self, key: &str, value: &str) -> Self {
        self.flag("--set", &format!("{key}={value}"))
    }

    fn when(self, condition: bool, more: impl FnOnce(Self) -> Self) -> Self {
        if condition { more(self) } else { self }
    }

    fn on(self, kubeconfig: &str, deadline: Duration) -> Invocation {
        let line = self.flag("--kubeconfig", kubeconfig);
        Invocation::new(LINKERD, line.0, deadline)
    }
}

/// Prints the CLI's own version.
pub(crate) fn version() -> Invocation {
    Invocation::new(LINKERD, ["version", "--client", "--short"], RENDERS)
}

/// Prints Linkerd's definitions. `brought_gateway_api` tells a CLI that does not look by itself (up to 2.17) that the
/// Gateway API is there already.
pub(crate) fn definitions(kubeconfig: &str, model: ObjectModel, brought_gateway_api: bool) -> Invocation {
    crds("install", kubeconfig, model, brought_gateway_api)
}

/// Prints Linkerd's definitions, as [`definitions`] does, for a cluster that has those of an earlier version.
pub(crate) fn upgraded_definitions(kubeconfig: &str, model: ObjectModel, brought_gateway_api: bool) -> Invocation {
    crds("upgrade", kubeconfig, model, brought_gateway_api)
}

fn crds(verb: &str, kubeconfig: &str, model: ObjectModel, brought_gateway_api: bool) -> Invocation {
    Line::new(&[verb, "--crds"])
        .when(model == ObjectModel::Legacy && brought_gateway_api, |line| {
            line.set("enableHttpRoutes", "false")
                .set("enableTlsRoutes", "false")
                .set("enableTcpRoutes", "false")
        })
        .on(kubeconfig, RENDERS)
}

/// Prints the control plane.
pub(crate) fn control_plane(
    kubeconfig: &str,
    files: &TrustFiles,
    lifetime: Option<TimeSpan>,
    domain: &str,
    sets: &[String],
) -> Invocation {
    let mut line = Line::new(&["install"])
        .flag("--identity-trust-anchors-file", &files.anchors)
        .flag("--identity-issuer-certificate-file", &files.issuer_certificate)
        .flag("--identity-issuer-key-file", &files.issuer_key)
        // By default the trust domain follows the cluster's; clusters that trust each other share one.
        .when(domain != DEFAULT_DOMAIN, |line| {
            line.flag("--cluster-domain", domain)
                .flag("--identity-trust-domain", TRUST_DOMAIN)
        });
    if let Some(lifetime) = lifetime {
        line = line.flag("--identity-issuance-lifetime", &lifetime.to_string());
    }
    sets.iter()
        .fold(line, |line, set| line.flag("--set", set))
        .on(kubeconfig, RENDERS)
}

/// Prints the control plane that is installed with other certificates: anchors, or an issuer. Everything else it reads from
/// the cluster, but for what `--set` gave.
pub(crate) fn rotated_control_plane(
    kubeconfig: &str,
    files: &TrustFiles,
    step: TrustStep,
    sets: &[String],
) -> Invocation {
    let line = Line::new(&["upgrade"]);
    let line = match step {
        TrustStep::AddRoot | TrustStep::DropRoot => line.flag("--identity-trust-anchors-file", &files.anchors),
        TrustStep::Issuer | TrustStep::UseRoot => line
            .flag("--identity-issuer-certificate-file", &files.issuer_certificate)
            .flag("--identity-issuer-key-file", &files.issuer_key),
    };
    sets.iter()
        .fold(line, |line, set| line.flag("--set", set))
        .on(kubeconfig, RENDERS)
}

/// Prints the control plane without looking at any cluster; the CLI makes certificates of its own, which nobody uses.
pub(crate) fn control_plane_anywhere(sets: &[String]) -> Invocation {
    let line = Line::new(&["install", "--ignore-cluster"]);
    let line = sets.iter().fold(line, |line, set| line.flag("--set", set));
    Invocation::new(LINKERD, line.0, RENDERS)
}

/// Prints the control plane for a cluster that has an earlier version. Trust and all values are those that the cluster has.
pub(crate) fn upgraded_control_plane(kubeconfig: &str) -> Invocation {
    Line::new(&["upgrade"]).on(kubeconfig, RENDERS)
}

/// Prints what a cluster has of an earlier version's control plane and this one does not have.
pub(crate) fn prune(kubeconfig: &str) -> Invocation {
    Line::new(&["prune"]).on(kubeconfig, RENDERS)
}

/// Prints the multicluster extension.
pub(crate) fn multicluster(
    kubeconfig: &str,
    values: &MulticlusterValues,
    gateway: &GatewayOptions,
    sets: &[String],
) -> Invocation {
    extension(values, gateway, sets).on(kubeconfig, WAITS)
}

/// As [`multicluster`], without looking at any cluster.
pub(crate) fn multicluster_anywhere(
    values: &MulticlusterValues,
    gateway: &GatewayOptions,
    sets: &[String],
) -> Invocation {
    let mut line = extension(values, gateway, sets);
    line.0.push("--ignore-cluster".to_owned());
    Invocation::new(LINKERD, line.0, RENDERS)
}

fn extension(values: &MulticlusterValues, gateway: &GatewayOptions, sets: &[String]) -> Line {
    let node_port = values.exposure == GatewayExposure::Nodeport || gateway.node_ports.is_some();
    let class = gateway.load_balancer_class.as_deref().filter(|_| !node_port);
    let ports = gateway.node_ports;
    let mut line = Line::new(&["multicluster", "install"]);
    if values.gateway {
        line = line
            .when(node_port, |line| line.flag("--gateway-service-type", "NodePort"))
            .when(class.is_some(), |line| {
                line.set("gateway.loadBalancerClass", class.unwrap_or_default())
            });
        if let Some(NodePorts { gateway, probe }) = ports {
            line = line
                .set("gateway.nodePort", &gateway.to_string())
                .set("gateway.probe.nodePort", &probe.to_string());
        }
    } else {
        line.0.push("--gateway=false".to_owned());
    }
    if let Some(names) = values.account_names() {
        // A comma would start the next value.
        line = line.set("remoteMirrorServiceAccountName", &names.replace(',', "\\,"));
    }
    for (index, controller) in values.controllers.iter().enumerate() {
        let entry = |key: &str| format!("controllers[{index}].{key}");
        line = line.set(&entry("link.ref.name"), &controller.cluster);
        if !controller.gateway {
            line = line.set(&entry("gateway.enabled"), "false");
        } else if let Some(ports) = ports {
            line = line.set(&entry("gateway.probe.port"), &ports.probe.to_string());
        }
    }
    sets.iter().fold(line, |line, set| line.flag("--set", set))
}

/// Prints credentials and Link for another cluster; in the legacy model its controller too. Reads the target.
pub(crate) fn link(
    kubeconfig: &str,
    values: &LinkValues,
    model: ObjectModel,
    node_ports: Option<NodePorts>,
) -> Invocation {
    let verb = match model {
        ObjectModel::Legacy => "link",
        ObjectModel::Managed => "link-gen",
    };
    let node_port = values.exposure == GatewayExposure::Nodeport || node_ports.is_some();
    let mut line = Line::new(&["multicluster", verb])
        .flag("--cluster-name", &values.name)
        .flag("--api-server-address", &values.api_server)
        .when(values.service_account != REMOTE_ACCESS, |line| {
            line.flag("--service-account-name", &values.service_account)
        });
    if !values.gateway {
        line.0.push("--gateway=false".to_owned());
    } else if node_port {
        // Such a gateway has no address in its status.
        line = line.flag("--gateway-addresses", &values.node_address);
    } else if let Some(address) = &values.relayed_at {
        line = line.flag("--gateway-addresses", address);
    }
    if model == ObjectModel::Legacy {
        if !values.gateway {
            line = line.set("gateway.enabled", "false");
        } else if let Some(ports) = node_ports {
            line = line.set("gateway.probe.port", &ports.probe.to_string());
        }
    }
    line.on(kubeconfig, RENDERS)
}

/// Prints what belongs to a link of the legacy model.
pub(crate) fn unlink(kubeconfig: &str, cluster: &str) -> Invocation {
    Line::new(&["multicluster", "unlink"])
        .flag("--cluster-name", cluster)
        .on(kubeconfig, RENDERS)
}

/// Prints what belongs to the extension.
pub(crate) fn uninstall_extension(kubeconfig: &str) -> Invocation {
    Line::new(&["multicluster", "uninstall"]).on(kubeconfig, RENDERS)
}

/// Prints what belongs to the control plane.
pub(crate) fn uninstall_control_plane(kubeconfig: &str) -> Invocation {
    Line::new(&["uninstall"]).on(kubeconfig, RENDERS)
}

/// Checks control plane and, from within, all extensions.
pub(crate) fn check(kubeconfig: &str) -> Invocation {
    Line::new(&["check", "--output", "json", "--wait", CHECK_WAIT]).on(kubeconfig, CHECKS)
}

/// Checks the multicluster extension.
pub(crate) fn check_multicluster(kubeconfig: &str) -> Invocation {
    Line::new(&["multicluster", "check", "--output", "json", "--wait", CHECK_WAIT]).on(kubeconfig, CHECKS)
}

/// Lists the linked clusters' gateways.
pub(crate) fn gateways(kubeconfig: &str) -> Invocation {
    Line::new(&["multicluster", "gateways", "--output", "json"]).on(kubeconfig, RENDERS)
}

#[cfg(test)]
mod tests {
    use super::{
        control_plane, control_plane_anywhere, definitions, link, multicluster, multicluster_anywhere,
        rotated_control_plane,
    };
    use crate::cli::commands::TrustFiles;
    use crate::installer::{ControllerFor, GatewayOptions, LinkValues, MulticlusterValues, NodePorts};
    use crate::version::ObjectModel;
    use meshproof_engine::tool::Invocation;
    use std::collections::BTreeSet;

    use meshproof_spec::scenario::{GatewayExposure, TrustStep};

    const PORTS: NodePorts = NodePorts {
        gateway: 30143,
        probe: 30191,
    };

    fn values(gateway: bool, exposure: GatewayExposure) -> MulticlusterValues {
        MulticlusterValues {
            gateway,
            exposure,
            controllers: vec![
                ControllerFor {
                    cluster: "east".into(),
                    gateway: true,
                },
                ControllerFor {
                    cluster: "north".into(),
                    gateway: false,
                },
            ],
            accounts: BTreeSet::new(),
        }
    }

    /// As it is typed, without the quotes that a shell does not need.
    fn plain(invocation: &Invocation) -> String {
        invocation.to_string().replace('\'', "")
    }

    fn east(gateway: bool, exposure: GatewayExposure) -> LinkValues {
        LinkValues {
            name: "east".into(),
            api_server: "https://172.18.0.3:6443".into(),
            service_account: crate::names::REMOTE_ACCESS.into(),
            gateway,
            exposure,
            node_address: "172.18.0.3".into(),
            relayed_at: None,
        }
    }

    #[test]
    fn the_extension_is_told_of_its_gateway_and_its_links() {
        let line = |values: &MulticlusterValues, options: &GatewayOptions| {
            plain(&multicluster("kc", values, options, &["a.b=c".into()]))
        };
        let default = GatewayOptions::default();
        assert_eq!(
            line(&values(true, GatewayExposure::Loadbalancer), &default),
            "linkerd multicluster install --set controllers[0].link.ref.name=east --set controllers[1].link.ref.name=north --set controllers[1].gateway.enabled=false --set a.b=c --kubeconfig kc"
        );
        let class = GatewayOptions {
            load_balancer_class: Some("meshproof.dev/node".into()),
            node_ports: None,
        };
        assert!(line(&values(true, GatewayExposure::Loadbalancer), &class).contains("loadBalancerClass"));
        // A class on a Service of another type is refused by the API server.
        assert!(!line(&values(true, GatewayExposure::Nodeport), &class).contains("loadBalancerClass"));
        assert!(
            line(&values(false, GatewayExposure::Nodeport), &default)
                .starts_with("linkerd multicluster install --gateway=false --set")
        );
    }

    #[test]
    fn accounts_of_links_stand_beside_the_one_that_is_always_there() {
        let mut values = values(false, GatewayExposure::Loadbalancer);
        values.controllers.clear();
        values.accounts = ["for-west".to_owned(), "for-north".to_owned()].into();
        let invocation = multicluster("kc", &values, &GatewayOptions::default(), &[]);
        assert_eq!(
            invocation.arguments[3..5],
            [
                "--set",
                "remoteMirrorServiceAccountName=linkerd-service-mirror-remote-access-default\\,for-north\\,for-west"
            ]
        );
    }

    #[test]
    fn what_is_installed_is_printed_without_a_cluster_too() {
        let sets = ["a.b=c".to_owned()];
        assert_eq!(
            plain(&control_plane_anywhere(&sets)),
            "linkerd install --ignore-cluster --set a.b=c"
        );
        let values = values(true, GatewayExposure::Loadbalancer);
        let anywhere = plain(&multicluster_anywhere(&values, &GatewayOptions::default(), &sets));
        let there = plain(&multicluster("kc", &values, &GatewayOptions::default(), &sets));
        assert_eq!(anywhere, there.replace("--kubeconfig kc", "--ignore-cluster"));
    }

    #[test]
    fn known_node_ports_reach_the_gateway_and_the_probes() {
        let options = GatewayOptions {
            load_balancer_class: None,
            node_ports: Some(PORTS),
        };
        assert_eq!(
            plain(&multicluster(
                "kc",
                &values(true, GatewayExposure::Loadbalancer),
                &options,
                &[]
            )),
            "linkerd multicluster install --gateway-service-type NodePort --set gateway.nodePort=30143 --set gateway.probe.nodePort=30191 --set controllers[0].link.ref.name=east --set controllers[0].gateway.probe.port=30191 --set controllers[1].link.ref.name=north --set controllers[1].gateway.enabled=false --kubeconfig kc"
        );
        let legacy = link(
            "kc",
            &east(true, GatewayExposure::Nodeport),
            ObjectModel::Legacy,
            Some(PORTS),
        );
        assert_eq!(
            plain(&legacy),
            "linkerd multicluster link --cluster-name east --api-server-address https://172.18.0.3:6443 --gateway-addresses 172.18.0.3 --set gateway.probe.port=30191 --kubeconfig kc"
        );
    }

    #[test]
    fn a_relay_takes_the_place_of_the_gateway_but_not_of_node_ports() {
        let relayed = |exposure| LinkValues {
            relayed_at: Some("172.18.0.9".into()),
            ..east(true, exposure)
        };
        let line = |exposure| plain(&link("kc", &relayed(exposure), ObjectModel::Managed, None));
        assert!(line(GatewayExposure::Loadbalancer).contains("--gateway-addresses 172.18.0.9 "));
        assert!(line(GatewayExposure::Nodeport).contains("--gateway-addresses 172.18.0.3 "));
    }

    #[test]
    fn a_target_without_gateway_is_linked_without() {
        let managed = link(
            "kc",
            &east(false, GatewayExposure::Nodeport),
            ObjectModel::Managed,
            None,
        );
        assert_eq!(
            plain(&managed),
            "linkerd multicluster link-gen --cluster-name east --api-server-address https://172.18.0.3:6443 --gateway=false --kubeconfig kc"
        );
        let legacy = link(
            "kc",
            &east(false, GatewayExposure::Nodeport),
            ObjectModel::Legacy,
            Some(PORTS),
        );
        assert!(plain(&legacy).contains("--gateway=false --set gateway.enabled=false"));
        let mut per_link = east(true, GatewayExposure::Loadbalancer);
        per_link.service_account = "for-west".into();
        let line = link("kc", &per_link, ObjectModel::Managed, None).to_string();
        assert!(line.contains("--service-account-name for-west --kubeconfig"), "{line}");
    }

    #[test]
    fn a_rotation_tells_only_what_changes() {
        let files = TrustFiles {
            anchors: "a".into(),
            issuer_certificate: "c".into(),
            issuer_key: "k".into(),
        };
        let line = |step| plain(&rotated_control_plane("kc", &files, step, &["x=y".into()]));
        assert_eq!(
            line(TrustStep::AddRoot),
            "linkerd upgrade --identity-trust-anchors-file a --set x=y --kubeconfig kc"
        );
        assert_eq!(line(TrustStep::DropRoot), line(TrustStep::AddRoot));
        assert_eq!(
            line(TrustStep::UseRoot),
            "linkerd upgrade --identity-issuer-certificate-file c --identity-issuer-key-file k --set x=y --kubeconfig kc"
        );
        assert_eq!(line(TrustStep::Issuer), line(TrustStep::UseRoot));
    }

    #[test]
    fn another_domain_keeps_the_shared_trust_domain() {
        let files = TrustFiles {
            anchors: "a".into(),
            issuer_certificate: "c".into(),
            issuer_key: "k".into(),
        };
        let line = control_plane("kc", &files, None, "west.local", &[]).to_string();
        assert_eq!(
            line,
            "linkerd install --identity-trust-anchors-file a --identity-issuer-certificate-file c --identity-issuer-key-file k --cluster-domain west.local --identity-trust-domain cluster.local --kubeconfig kc"
        );
        assert!(
            !control_plane("kc", &files, None, "cluster.local", &[])
                .to_string()
                .contains("domain")
        );
        let hours = control_plane("kc", &files, "2h".parse().ok(), "cluster.local", &[]).to_string();
        assert!(hours.contains("--identity-issuance-lifetime 7200s"), "{hours}");
        assert!(plain(&definitions("kc", ObjectModel::Legacy, true)).contains("enableHttpRoutes=false"));
        assert_eq!(
            definitions("kc", ObjectModel::Managed, true).to_string(),
            "linkerd install --crds --kubeconfig kc"
        );
    }
}
