//! Relay containers for clusters made with kind: one per directed link, towards a node of the cluster that exports.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use meshproof_agent::relay::protocol::{Forward, LIFETIME};
use meshproof_engine::environment::{NetworkFault, Tap};
use meshproof_engine::problem::{self, Problem};
use meshproof_engine::tool::Tools;

use super::{RelaySpec, Relays};
use crate::kind::{LABEL, RelayPath, RelayRequest, RelaySet, Relays as StartsRelays};

/// Starts relay containers.
#[derive(Clone)]
pub struct RelayContainers {
    tools: Tools,
    image: String,
    ports: Vec<u16>,
}

impl RelayContainers {
    /// With this image of the agent, which the engine has, for gateways that listen on these ports of a node: the one for
    /// traffic, the one for probes, and whatever else clients in other clusters need.
    #[must_use]
    pub fn new(tools: Tools, image: String, ports: Vec<u16>) -> Self {
        Self { tools, image, ports }
    }

    fn spec(&self, request: &RelayRequest, path: &RelayPath) -> Result<RelaySpec, Problem> {
        let node = path.to_nodes.first().ok_or_else(|| {
            problem::harness(
                "relay-without-node",
                format!("{} has no node for a relay to go to", path.to),
                None,
            )
        })?;
        let forward = |port: &u16| Forward {
            port: *port,
            host: node.address.to_string(),
            to_port: *port,
        };
        Ok(RelaySpec {
            from: path.from.clone(),
            to: path.to.clone(),
            name: format!("{}-relay-{}-{}", request.environment, path.from, path.to),
            image: self.image.clone(),
            network: request.network.clone(),
            labels: BTreeMap::from([(LABEL.to_owned(), request.environment.clone())]),
            forwards: self.ports.iter().map(forward).collect(),
            lifetime: LIFETIME,
        })
    }
}

#[async_trait]
impl StartsRelays for RelayContainers {
    async fn start(&self, request: RelayRequest) -> Result<Arc<dyn RelaySet>, Problem> {
        let specs: Vec<RelaySpec> = request
            .paths
            .iter()
            .map(|path| self.spec(&request, path))
            .collect::<Result<_, _>>()?;
        Ok(Arc::new(Relays::start(&self.tools, &specs).await?))
    }
}

#[async_trait]
impl RelaySet for Relays {
    async fn reset(&self, one: &str, other: &str) -> Result<(), Problem> {
        Self::reset(self, one, other).await
    }

    async fn tap(&self, from: &str, to: &str) -> Result<Box<dyn Tap>, Problem> {
        Self::tap(self, from, to).await
    }

    /// Where the topology has no such link there is no relay either: then the nodes do it.
    async fn delay(&self, from: &str, to: &str, by: Duration) -> Option<Result<Box<dyn NetworkFault>, Problem>> {
        self.gateway(from, to)?;
        Some(Self::delay(self, from, to, by).await)
    }

    fn gateway(&self, from: &str, to: &str) -> Option<String> {
        Self::gateway(self, from, to).map(|address| address.to_string())
    }

    async fn report(&self) -> String {
        let lines = join_all(self.all().map(|relay| async move {
            let spec = relay.spec();
            let said = match relay.status().await {
                Ok(status) => serde_json::to_string(&status).unwrap_or_default(),
                Err(problem) => problem.message,
            };
            format!("{} -> {}: {said}\n", spec.from, spec.to)
        }));
        lines.await.concat()
    }

    async fn stop(&self) -> Result<(), Problem> {
        Self::stop(self).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Node;

    #[test]
    fn each_link_gets_a_relay_to_a_node_of_the_exporting_cluster() {
        let node = |name: &str, last| Node {
            name: name.to_owned(),
            address: [172, 18, 0, last].into(),
            control_plane: true,
        };
        let path = RelayPath {
            from: "west".to_owned(),
            to: "east".to_owned(),
            from_nodes: vec![node("west-control-plane", 2)],
            to_nodes: vec![node("east-control-plane", 3), node("east-worker", 4)],
        };
        let request = RelayRequest {
            environment: "meshproof-pair".to_owned(),
            network: "kind".to_owned(),
            paths: vec![path.clone()],
        };
        let relays = RelayContainers::new(Tools::default(), "meshproof-agent:0.1.0".to_owned(), vec![4143, 4191]);
        let spec = relays.spec(&request, &path).unwrap();
        assert_eq!(spec.name, "meshproof-pair-relay-west-east");
        assert_eq!(spec.labels[LABEL], "meshproof-pair");
        let forwards: Vec<String> = spec.forwards.iter().map(ToString::to_string).collect();
        assert_eq!(forwards, ["4143=172.18.0.3:4143", "4191=172.18.0.3:4191"]);

        let nowhere = RelayPath {
            to_nodes: Vec::new(),
            ..path
        };
        assert_eq!(relays.spec(&request, &nowhere).unwrap_err().code, "relay-without-node");
    }
}
