//! Balancing over the endpoints of one backend, with the queue that fails fast.
//!
//! Among the endpoints that have a connection two are drawn and the one with fewer requests under way is taken (power of two
//! choices; the real proxy weighs by a moving average of latencies, which on equal endpoints comes to the same). When none has
//! a connection, requests wait; the first of them starts a clock of three seconds, and when it runs out all that wait fail at
//! once and the backend is unavailable until an endpoint is connected again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use rand::Rng;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Proxy;
use super::endpoint::{Endpoint, SendError};
use crate::destination::EndpointTarget;

/// How long requests wait for an endpoint, in scenario time.
const FAILFAST: Duration = Duration::from_secs(3);

pub(super) struct Balancer {
    /// Logical name in metrics.
    authority: String,
    state: Mutex<State>,
    changed: Arc<Notify>,
}

struct State {
    endpoints: Vec<Arc<Endpoint>>,
    gate: Gate,
    waiting: usize,
    was_shut: bool,
    /// Discovery knows addresses that are not ready.
    unready_addresses: bool,
}

enum Gate {
    Open,
    /// Requests wait until then.
    Closing(Instant),
    Shut,
}

/// Why a request got no response from any endpoint.
#[derive(Debug)]
pub(super) enum BalancerError {
    /// It waited in vain.
    FailFast,
    /// The backend was unavailable when it came.
    Unavailable,
    /// The endpoint failed while it was under way.
    Endpoint(std::net::SocketAddr, String),
}

/// How long a request waits for an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    FailFast,
    /// For ever; only by a defect.
    Endless,
}

impl Balancer {
    pub(super) fn new(authority: String) -> Self {
        let state = State {
            endpoints: Vec::new(),
            gate: Gate::Open,
            waiting: 0,
            was_shut: false,
            unready_addresses: false,
        };
        Self {
            authority,
            state: Mutex::new(state),
            changed: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the set of endpoints; those that stay keep their connections.
    pub(super) fn update(&self, proxy: &Arc<Proxy>, targets: Vec<EndpointTarget>, unready_addresses: bool) {
        let mut state = self.state();
        state.unready_addresses = unready_addresses;
        let mut former = std::mem::take(&mut state.endpoints);
        for target in targets {
            let endpoint = match former.iter().position(|endpoint| endpoint.target == target) {
                Some(place) => former.swap_remove(place),
                None => Endpoint::start(proxy, target, &self.authority, self.changed.clone()),
            };
            state.endpoints.push(endpoint);
        }
        drop(state);
        for gone in former {
            gone.stop();
        }
        self.changed.notify_waiters();
    }

    /// Drops all endpoints, so that the next update connects anew.
    pub(super) fn clear(&self) {
        for endpoint in std::mem::take(&mut self.state().endpoints) {
            endpoint.stop();
        }
    }

    /// Whether a request would find an endpoint or may wait for one.
    pub(super) fn is_available(&self) -> bool {
        let mut state = self.state();
        if state.endpoints.iter().any(|endpoint| endpoint.is_ready()) {
            state.gate = Gate::Open;
        }
        !matches!(state.gate, Gate::Shut)
    }

    /// Whether the backend was ever unavailable.
    pub(super) fn was_shut(&self) -> bool {
        self.state().was_shut
    }

    /// Whether discovery knows addresses of it, ready or not.
    pub(super) fn has_addresses(&self) -> bool {
        let state = self.state();
        state.unready_addresses || !state.endpoints.is_empty()
    }

    /// Sends a request to one of the endpoints.
    pub(super) async fn send(
        &self,
        proxy: &Arc<Proxy>,
        mut request: Request<Incoming>,
        patience: Patience,
    ) -> Result<Response<Incoming>, BalancerError> {
        loop {
            let endpoint = self.acquire(proxy, patience).await?;
            match endpoint.send(proxy, request).await {
                Ok(response) => return Ok(response),
                Err(SendError::Unsent(unsent)) => request = *unsent,
                Err(SendError::Failed(reason)) => {
                    return Err(BalancerError::Endpoint(endpoint.target.address, reason));
                }
            }
        }
    }

    async fn acquire(&self, proxy: &Proxy, patience: Patience) -> Result<Arc<Endpoint>, BalancerError> {
        let mut waiter: Option<Waiter<'_>> = None;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            let deadline = {
                let mut state = self.state();
                if let Some(endpoint) = choose(&state.endpoints, proxy) {
                    state.gate = Gate::Open;
                    return Ok(endpoint);
                }
                let now = Instant::now();
                match state.gate {
                    Gate::Shut if patience == Patience::FailFast => {
                        return Err(match waiter {
                            Some(_) => BalancerError::FailFast,
                            None => BalancerError::Unavailable,
                        });
                    }
                    Gate::Closing(deadline) if deadline <= now && patience == Patience::FailFast => {
                        state.gate = Gate::Shut;
                        state.was_shut = true;
                        self.changed.notify_waiters();
                        return Err(BalancerError::FailFast);
                    }
                    Gate::Closing(deadline) => deadline,
                    Gate::Open | Gate::Shut => {
                        let deadline = now + proxy.pace.wall(FAILFAST);
                        state.gate = Gate::Closing(deadline);
                        deadline
                    }
                }
            };
            if waiter.is_none() {
                waiter = Some(Waiter::new(self));
            }
            match patience {
                Patience::FailFast => {
                    tokio::select! {
                        () = changed => {}
                        () = tokio::time::sleep_until(deadline) => {}
                    }
                }
                Patience::Endless => changed.await,
            }
        }
    }
}

/// A request that waits; when the last one goes away unanswered, the clock is stopped.
struct Waiter<'a>(&'a Balancer);

impl<'a> Waiter<'a> {
    fn new(balancer: &'a Balancer) -> Self {
        balancer.state().waiting += 1;
        Self(balancer)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.waiting = state.waiting.saturating_sub(1);
        if state.waiting == 0 && matches!(state.gate, Gate::Closing(_)) {
            state.gate = Gate::Open;
        }
    }
}

fn choose(endpoints: &[Arc<Endpoint>], proxy: &Proxy) -> Option<Arc<Endpoint>> {
    let ready: Vec<_> = endpoints.iter().filter(|endpoint| endpoint.is_ready()).collect();
    let (a, b) = match ready.as_slice() {
        [] => return None,
        [only] => return Some(Arc::clone(only)),
        many => {
            let mut random = proxy.random();
            let first = random.random_range(0..many.len());
            // Another one than the first, every one equally likely.
            let second = (first + random.random_range(1..many.len())) % many.len();
            (many.get(first)?, many.get(second)?)
        }
    };
    Some(Arc::clone(if b.load() < a.load() { b } else { a }))
}
