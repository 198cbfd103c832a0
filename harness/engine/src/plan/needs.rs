//! What a scenario needs of the environment and the mesh.

use std::collections::BTreeSet;

use meshproof_spec::scenario::{ExportMode, GatewayExposure, Setup, Step, TrustSetup};
use meshproof_spec::topology::Topology;

use super::{Locks, Skip, SuiteScenario, Surroundings};

/// What an environment offers when scenarios may disturb what others rely on.
const DISRUPTIVE: &str = "disruptive";

/// Why a scenario can't run here, if it can't.
pub(super) fn missing(
    scenario: &SuiteScenario,
    topology: &Topology,
    locks: &Locks,
    surroundings: &Surroundings,
) -> Option<Skip> {
    if let Some(mesh) = &scenario.scenario.mesh
        && mesh.0 != surroundings.mesh
    {
        return Some(Skip {
            code: "other-mesh".to_owned(),
            reason: format!("written for {mesh}, and the mesh is {}", surroundings.mesh),
        });
    }
    if let Some(given) = &surroundings.clusters {
        let names = topology.clusters.keys().map(|name| name.0.as_str());
        let absent: Vec<&str> = names.filter(|name| !given.contains(*name)).collect();
        if !absent.is_empty() {
            return Some(Skip {
                code: "cluster-missing".to_owned(),
                reason: format!(
                    "the topology {} has {}, for which the environment `{}` was given no cluster",
                    topology.topology,
                    absent.join(", "),
                    surroundings.environment
                ),
            });
        }
    }
    let absent: Vec<String> = needs(scenario, topology)
        .into_iter()
        .filter(|need| {
            !surroundings.environment_capabilities.contains(need) && !surroundings.mesh_capabilities.contains(need)
        })
        .collect();
    if !absent.is_empty() {
        return Some(Skip {
            code: "capability-missing".to_owned(),
            reason: format!(
                "needs {}, which neither the environment `{}` nor the mesh `{}` offers",
                absent.join(", "),
                surroundings.environment,
                surroundings.mesh
            ),
        });
    }
    let disturbed = disturbed(scenario, locks);
    let consent = surroundings.environment_capabilities.contains(DISRUPTIVE);
    (!consent && !disturbed.is_empty()).then(|| Skip {
        code: "consent-missing".to_owned(),
        reason: format!(
            "needs for itself what others may rely on ({}), and the environment `{}` offers nothing `{DISRUPTIVE}` without the user's consent",
            disturbed.join(", "),
            surroundings.environment
        ),
    })
}

/// What a scenario uses exclusively, unless the clusters are its own.
fn disturbed(scenario: &SuiteScenario, locks: &Locks) -> Vec<String> {
    match scenario.scenario.setup {
        Some(_) => Vec::new(),
        None => locks.exclusive().map(ToString::to_string).collect(),
    }
}

/// Everything that a scenario needs: what it says, and what follows from its steps.
fn needs(scenario: &SuiteScenario, topology: &Topology) -> BTreeSet<String> {
    let scenario = &scenario.scenario;
    let usual = Setup::default();
    let mut needs: BTreeSet<String> = scenario.needs.iter().map(|need| need.0.clone()).collect();
    let mut need = |capability: &str| {
        needs.insert(capability.to_owned());
    };
    if let Some(setup) = &scenario.setup {
        need("disposable");
        if setup.bare {
            need("install-mesh");
        }
        if setup.bare || setup.unlinked {
            need("link-clusters");
        }
        match setup.gateway {
            Some(GatewayExposure::Loadbalancer) => need("load-balancer"),
            Some(GatewayExposure::Nodeport) => need("node-port"),
            None => {}
        }
    }
    if topology.roots(scenario.setup.as_ref().unwrap_or(&usual)) == TrustSetup::Separate {
        need("separate-trust");
    }
    for step in &scenario.steps {
        match step {
            Step::Export(export) => {
                need(match export.mode {
                    ExportMode::Gateway => "export-gateway",
                    ExportMode::Flat => "export-flat",
                    ExportMode::Federated => "export-federated",
                });
                if export.mode != ExportMode::Gateway {
                    need("flat-network");
                }
            }
            Step::Route(_) => need("route"),
            Step::Install(_) | Step::Uninstall(_) => need("install-mesh"),
            Step::Upgrade(_) => need("upgrade-mesh"),
            Step::Link(_) | Step::Unlink(_) => need("link-clusters"),
            Step::Rotate(rotate) if rotate.trust.is_some() => need("rotate-trust"),
            Step::Rotate(_) => need("rotate-credentials"),
            Step::Fault(fault) => {
                if fault.partition.is_some() {
                    need("partition");
                }
                if fault.delay.is_some() {
                    need("delay");
                }
                if fault.reset.is_some() {
                    need("reset");
                }
                if fault.pause_api.is_some() {
                    need("pause-api");
                }
                if fault.steal_lease.is_some() {
                    need("steal-lease");
                }
                if fault.deny_writes.is_some() {
                    need("deny-writes");
                }
            }
            Step::Expect(expect) if expect.mtls.is_some() => need("mtls"),
            _ => {}
        }
    }
    needs
}
