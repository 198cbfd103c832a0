//! The relays of an environment, by link.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use meshproof_agent::relay::protocol::Fault;
use meshproof_engine::environment::{NetworkFault, Tap};
use meshproof_engine::problem::{self, Problem};
use meshproof_engine::tool::Tools;

use super::container::{Relay, RelaySpec};

/// The relays of an environment.
pub struct Relays {
    relays: BTreeMap<(String, String), Relay>,
}

impl Relays {
    /// Starts all relays at the same time, or takes them over from an earlier process.
    ///
    /// # Errors
    /// As [`Relay::start`]; the others have been removed again then.
    pub async fn start(tools: &Tools, specs: &[RelaySpec]) -> Result<Self, Problem> {
        let started = join_all(specs.iter().map(|spec| Relay::start(tools, spec))).await;
        let mut relays = BTreeMap::new();
        let mut failed = None;
        for result in started {
            match result {
                Ok(relay) => {
                    relays.insert((relay.spec().from.clone(), relay.spec().to.clone()), relay);
                }
                Err(problem) => failed = failed.or(Some(problem)),
            }
        }
        let all = Self { relays };
        match failed {
            None => Ok(all),
            Some(mut problem) => {
                if let Err(left) = all.stop().await {
                    problem.message = format!("{}; and then: {}", problem.message, left.message);
                }
                Err(problem)
            }
        }
    }

    /// The address that clients in `from` are to take for the gateway of `to`, on the docker network; `None` when there is
    /// no relay between them.
    #[must_use]
    pub fn gateway(&self, from: &str, to: &str) -> Option<IpAddr> {
        self.relays.get(&key(from, to)).map(Relay::address)
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Relay> {
        self.relays.values()
    }

    /// The relay for what clients in `from` send to the gateway of `to`.
    ///
    /// # Errors
    /// `relay-unknown` when there is none.
    pub fn relay(&self, from: &str, to: &str) -> Result<&Relay, Problem> {
        self.relays.get(&key(from, to)).ok_or_else(|| unknown(from, to))
    }

    /// The relays between two clusters, whichever way.
    fn between(&self, one: &str, other: &str) -> Result<Vec<&Relay>, Problem> {
        let keys = [key(one, other), key(other, one)];
        let found: Vec<&Relay> = keys.iter().filter_map(|key| self.relays.get(key)).collect();
        if found.is_empty() {
            return Err(unknown(one, other));
        }
        Ok(found)
    }

    /// Lets nothing pass between the gateways of two clusters and their clients, both ways, until healed.
    ///
    /// # Errors
    /// `relay-unknown`, `relay-unreachable`.
    pub async fn partition(&self, one: &str, other: &str) -> Result<Box<dyn NetworkFault>, Problem> {
        let mut parts = Vec::new();
        for relay in self.between(one, other)? {
            // On an error, dropping the parts heals what is in force already.
            parts.push(relay.impose(Fault::Blackhole).await?);
        }
        Ok(Box::new(Together(parts)))
    }

    /// Delays both directions of the connections that clients in `from` open to the gateway of `to`.
    ///
    /// # Errors
    /// `relay-unknown`, `relay-unreachable`.
    pub async fn delay(&self, from: &str, to: &str, by: Duration) -> Result<Box<dyn NetworkFault>, Problem> {
        let fault = Fault::Delay {
            each_way_us: u64::try_from(by.as_micros()).unwrap_or(u64::MAX),
            jitter_us: 0,
        };
        self.relay(from, to)?.impose(fault).await
    }

    /// Resets all connections between the gateways of two clusters and their clients, once.
    ///
    /// # Errors
    /// `relay-unknown`, `relay-unreachable`.
    pub async fn reset(&self, one: &str, other: &str) -> Result<(), Problem> {
        for relay in self.between(one, other)? {
            relay.reset().await?;
        }
        Ok(())
    }

    /// Watches the connections that clients in `from` open to the gateway of `to`.
    ///
    /// # Errors
    /// `relay-unknown`, `relay-unreachable`.
    pub async fn tap(&self, from: &str, to: &str) -> Result<Box<dyn Tap>, Problem> {
        self.relay(from, to)?.tap().await
    }

    /// Removes all relays.
    ///
    /// # Errors
    /// The first problem of [`Relay::stop`]; the other relays are removed all the same.
    pub async fn stop(&self) -> Result<(), Problem> {
        join_all(self.relays.values().map(Relay::stop))
            .await
            .into_iter()
            .collect()
    }
}

fn key(from: &str, to: &str) -> (String, String) {
    (from.to_owned(), to.to_owned())
}

fn unknown(from: &str, to: &str) -> Problem {
    problem::harness(
        "relay-unknown",
        format!("there is no relay between {from} and {to}: the topology does not link them"),
        None,
    )
}

/// A fault that consists of several.
struct Together(Vec<Box<dyn NetworkFault>>);

#[async_trait]
impl NetworkFault for Together {
    async fn heal(&self) -> Result<(), Problem> {
        join_all(self.0.iter().map(|part| part.heal()))
            .await
            .into_iter()
            .collect()
    }
}
