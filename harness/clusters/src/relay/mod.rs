//! A container per directed link, between a gateway and its clients.
//!
//! Whoever links two clusters gives [`Relays::gateway`] out as the gateway's address instead of the gateway's own; from then
//! on everything between the clusters' gateways goes through a container that counts it, reads along and can disturb it
//! ([`meshproof_agent::relay`]).
//!
//! Containers belong to the environment and not to the process: a kept environment keeps carrying traffic, and a later
//! process that asks for the same relay finds it again. Faults belong to the process: they are renewed as long as it lives
//! and nobody healed them, and end by themselves in the container when nobody renews them.

mod container;
mod fault;
mod links;
mod on_kind;
mod sweep;
mod tap;

use std::time::Duration;

use meshproof_engine::problem::{self, Problem};

pub use container::{Relay, RelaySpec};
pub use links::Relays;
pub use meshproof_agent::relay::protocol::{Fault, Forward};
pub use on_kind::RelayContainers;
pub use sweep::sweep;

/// Label of every relay; its value is `<from>-to-<to>`.
pub const LINK_LABEL: &str = "dev.meshproof.relay";

/// Time for a call to a relay's control port.
const CALL_TIME: Duration = Duration::from_secs(10);
/// Time for a call of the docker CLI.
const DOCKER_TIME: Duration = Duration::from_secs(60);

/// A call to a relay, within its time.
///
/// # Errors
/// `relay-unreachable` with the relay's name.
async fn call<T, E: std::fmt::Display>(relay: &str, call: impl Future<Output = Result<T, E>>) -> Result<T, Problem> {
    let failed = match tokio::time::timeout(CALL_TIME, call).await {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", CALL_TIME.as_secs()),
    };
    Err(problem::environment(
        "relay-unreachable",
        format!("the relay {relay}: {failed}"),
        Some(&format!("see its log: `docker logs {relay}`")),
    ))
}
