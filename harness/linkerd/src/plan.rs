//! What installers would do, as actions: the order that the engine keeps, with what only running clusters know and all
//! secrets as placeholders.

use std::path::PathBuf;

use meshproof_engine::action::Action;
use meshproof_engine::tool::Invocation;
use meshproof_spec::scalar::TimeSpan;
use meshproof_spec::scenario::Setup;
use meshproof_spec::topology::Topology;
use serde_json::Value;

use crate::exposure;
use crate::installer::{ControllerFor, LinkValues, MulticlusterValues, NodePorts};
use crate::names::{DEFAULT_DOMAIN, GATEWAY, MULTICLUSTER_NAMESPACE, REMOTE_ACCESS};

/// Stands for the file with a cluster's kubeconfig.
pub(crate) fn kubeconfig(cluster: &str) -> String {
    format!("<kubeconfig of {cluster}>")
}

/// A plan under construction.
pub(crate) struct Plan<'a> {
    topology: &'a Topology,
    setup: &'a Setup,
    actions: Vec<Action>,
}

/// A link as a plan needs it.
pub(crate) struct PlannedLink<'a> {
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    /// Values of the source's extension, with this controller and those of the links before.
    pub(crate) source: MulticlusterValues,
    pub(crate) values: LinkValues,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(topology: &'a Topology, setup: &'a Setup) -> Self {
        Self {
            topology,
            setup,
            actions: Vec::new(),
        }
    }

    /// The clusters to install in.
    pub(crate) fn clusters(&self) -> Vec<&'a str> {
        if self.setup.bare {
            return Vec::new();
        }
        self.topology.clusters.keys().map(|name| name.0.as_str()).collect()
    }

    /// The links to make. Those of one source come one after another, with one controller more each.
    pub(crate) fn links(&self) -> Vec<PlannedLink<'a>> {
        if self.setup.bare || self.setup.unlinked {
            return Vec::new();
        }
        let mut planned: Vec<PlannedLink<'a>> = Vec::new();
        for link in &self.topology.links {
            let (from, to) = (link.from.0.as_str(), link.to.0.as_str());
            let target = MulticlusterValues::of(self.topology, self.setup, to);
            let before = planned.iter().rfind(|planned| planned.from == from);
            let mut source = before.map_or_else(
                || MulticlusterValues::of(self.topology, self.setup, from),
                |before| before.source.clone(),
            );
            source.controllers.push(ControllerFor {
                cluster: to.to_owned(),
                gateway: target.gateway,
            });
            let values = LinkValues {
                name: to.to_owned(),
                api_server: format!("<URL of the API server of {to} for pods of {from}>"),
                service_account: match &link.service_account {
                    Some(account) => account.0.clone(),
                    None => REMOTE_ACCESS.to_owned(),
                },
                gateway: target.gateway,
                exposure: target.exposure,
                node_address: format!("<address of a node of {to}>"),
                relayed_at: None,
            };
            planned.push(PlannedLink {
                from,
                to,
                source,
                values,
            });
        }
        planned
    }

    /// Values of the extension in each cluster when all links are there.
    pub(crate) fn extensions(&self) -> Vec<MulticlusterValues> {
        let of = |cluster| self.links_from(cluster).0;
        self.clusters().into_iter().map(of).collect()
    }

    /// The links of one cluster to others, and the values of its extension with all of them.
    pub(crate) fn links_from(&self, cluster: &str) -> (MulticlusterValues, Vec<PlannedLink<'a>>) {
        let links: Vec<PlannedLink<'a>> = self.links().into_iter().filter(|link| link.from == cluster).collect();
        let values = links.last().map_or_else(
            || MulticlusterValues::of(self.topology, self.setup, cluster),
            |last| last.source.clone(),
        );
        (values, links)
    }

    /// How long workloads' certificates are valid, where the topology says it.
    pub(crate) fn workload_lifetime(&self) -> Option<TimeSpan> {
        self.topology.trust.workload_lifetime
    }

    /// DNS domain of a cluster.
    pub(crate) fn domain(&self, cluster: &str) -> &'a str {
        let spec = self.topology.clusters.iter().find(|(name, _)| name.0 == cluster);
        spec.and_then(|(_, spec)| spec.domain.as_deref())
            .unwrap_or(DEFAULT_DOMAIN)
    }

    pub(crate) fn section(&mut self, title: &str) {
        self.actions.push(Action::Section(title.to_owned()));
    }

    pub(crate) fn run(&mut self, invocation: Invocation) {
        self.actions.push(Action::Run(invocation));
    }

    /// A command whose output is applied, and what is awaited then.
    pub(crate) fn rendered(&mut self, invocation: Invocation, cluster: &str, awaited: &str) {
        self.run(invocation);
        self.note(format!(
            "apply to {cluster} what it prints, server-side, and wait {awaited}"
        ));
    }

    pub(crate) fn apply(&mut self, cluster: &str, manifest: Value) {
        self.actions.push(Action::Apply {
            cluster: cluster.to_owned(),
            manifest,
        });
    }

    pub(crate) fn note(&mut self, words: String) {
        self.actions.push(Action::Note(words));
    }

    /// How the Gateway API comes into a cluster.
    pub(crate) fn gateway_api(&mut self, cluster: &str, file: Option<&PathBuf>) {
        self.note(match file {
            Some(file) => format!("apply {} to {cluster}, if it has no Gateway API", file.display()),
            None => format!("see whether {cluster} has the Gateway API"),
        });
    }

    /// What has to be there before a link can be rendered.
    pub(crate) fn awaited_address(&mut self, link: &PlannedLink<'_>, node_ports: Option<NodePorts>) {
        if exposure::from_status(&link.values, node_ports) {
            self.note(format!(
                "wait until Service {MULTICLUSTER_NAMESPACE}/{GATEWAY} of {} has an address",
                link.to
            ));
        }
    }

    pub(crate) fn actions(self) -> Vec<Action> {
        self.actions
    }
}
