//! What is in force on a relay, and the timer that heals it when the harness is gone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::protocol::{ActiveFault, Fault, Forward, MAX_FAULTS, Status};
use super::tap::Tap;

/// What a relay's tasks share.
pub(crate) struct State {
    pub(crate) forwards: Vec<Forward>,
    pub(crate) lifetime: Duration,
    pub(crate) tap: Tap,
    inner: Mutex<Inner>,
    effects: watch::Sender<Effects>,
    renewed: watch::Sender<Instant>,
    listening: watch::Sender<BTreeSet<u16>>,
}

/// All faults together, as far as they concern every connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    pub(crate) delay: Duration,
    pub(crate) jitter: Duration,
    pub(crate) held: bool,
    pub(crate) refused: bool,
}

#[derive(Default)]
struct Inner {
    last_id: u64,
    faults: BTreeMap<u64, Fault>,
    live: HashMap<u64, watch::Sender<Fate>>,
    connections: u64,
    unreachable: u64,
    healed_unasked: u64,
}

/// What happens to a connection from outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Open,
    /// The target has forgotten it; the fault's number.
    HalfOpen(u64),
    Reset,
}

impl State {
    pub(crate) fn new(forwards: Vec<Forward>, lifetime: Duration) -> Arc<Self> {
        Arc::new(Self {
            forwards,
            lifetime,
            tap: Tap::default(),
            inner: Mutex::default(),
            effects: watch::Sender::default(),
            renewed: watch::Sender::new(Instant::now()),
            listening: watch::Sender::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a fault or pattern.
    pub(crate) fn next_id(&self) -> u64 {
        let mut inner = self.lock();
        inner.last_id += 1;
        inner.last_id
    }

    /// The harness lives.
    pub(crate) fn renew(&self) {
        self.renewed.send_replace(Instant::now());
    }

    /// Puts a fault in force and returns its number.
    pub(crate) fn impose(&self, fault: Fault) -> Result<u64, String> {
        self.renew();
        let id = self.next_id();
        let mut inner = self.lock();
        if inner.faults.len() == MAX_FAULTS {
            return Err(format!("{MAX_FAULTS} faults are in force already; heal some first"));
        }
        inner.faults.insert(id, fault);
        if fault == Fault::HalfOpen {
            for fate in inner.live.values() {
                fate.send_if_modified(|fate| {
                    let open = *fate == Fate::Open;
                    if open {
                        *fate = Fate::HalfOpen(id);
                    }
                    open
                });
            }
        }
        self.apply(&inner);
        Ok(id)
    }

    /// Ends a fault; `false` when there is none of this number.
    pub(crate) fn heal(&self, id: u64) -> bool {
        self.renew();
        self.end(&mut self.lock(), id)
    }

    fn end(&self, inner: &mut Inner, id: u64) -> bool {
        let found = inner.faults.remove(&id).is_some();
        for fate in inner.live.values() {
            fate.send_if_modified(|fate| {
                let forgotten = *fate == Fate::HalfOpen(id);
                if forgotten {
                    *fate = Fate::Reset;
                }
                forgotten
            });
        }
        self.apply(inner);
        found
    }

    fn apply(&self, inner: &Inner) {
        let mut effects = Effects::default();
        for fault in inner.faults.values() {
            match *fault {
                Fault::Delay { each_way_us, jitter_us } => {
                    effects.delay += Duration::from_micros(each_way_us);
                    effects.jitter += Duration::from_micros(jitter_us);
                }
                Fault::Blackhole => effects.held = true,
                Fault::Refuse => effects.refused = true,
                Fault::HalfOpen => {}
            }
        }
        self.effects.send_if_modified(|now| {
            let changed = *now != effects;
            *now = effects;
            changed
        });
    }

    /// Resets all open connections and tells how many there were.
    pub(crate) fn reset(&self) -> u64 {
        let inner = self.lock();
        for fate in inner.live.values() {
            fate.send_replace(Fate::Reset);
        }
        inner.live.len() as u64
    }

    pub(crate) fn effects(&self) -> watch::Receiver<Effects> {
        self.effects.subscribe()
    }

    /// When data that is taken in now shall be forwarded.
    pub(crate) fn due(&self) -> Instant {
        let effects = *self.effects.borrow();
        Instant::now() + effects.delay + up_to(effects.jitter)
    }

    /// Waits until nothing holds data back.
    pub(crate) async fn passable(&self) {
        if self.effects.borrow().held {
            // The sender lives as long as `self`.
            let _ = self.effects.subscribe().wait_for(|effects| !effects.held).await;
        }
    }

    /// Registers a connection until the returned value is dropped.
    pub(crate) fn opened(self: &Arc<Self>) -> Live {
        let mut inner = self.lock();
        inner.connections += 1;
        let id = inner.connections;
        let (sender, fate) = watch::channel(Fate::Open);
        inner.live.insert(id, sender);
        drop(inner);
        Live {
            id,
            fate,
            state: Arc::clone(self),
        }
    }

    /// Counts a connection that the target did not take.
    pub(crate) fn unreachable(&self) {
        self.lock().unreachable += 1;
    }

    /// A port takes connections, or no longer does.
    pub(crate) fn listens(&self, port: u16, does: bool) {
        self.listening.send_modify(|ports| {
            if does {
                ports.insert(port);
            } else {
                ports.remove(&port);
            }
        });
    }

    /// Waits until the ports take connections if nothing refuses them, for `time` at most; whether they do.
    pub(crate) async fn listens_again(&self, time: Duration) -> bool {
        let mut listening = self.listening.subscribe();
        let settled = listening.wait_for(|ports| ports.len() == self.forwards.len() || self.effects.borrow().refused);
        timeout_at(Instant::now() + time, settled).await.is_ok()
    }

    pub(crate) fn status(&self) -> Status {
        let (bytes_to_target, bytes_to_client) = self.tap.bytes();
        let listening = self.listening.borrow().iter().copied().collect();
        let inner = self.lock();
        let faults = inner.faults.iter().map(|(&id, &fault)| ActiveFault { id, fault });
        Status {
            forwards: self.forwards.clone(),
            listening,
            faults: faults.collect(),
            lifetime_ms: u64::try_from(self.lifetime.as_millis()).unwrap_or(u64::MAX),
            healed_unasked: inner.healed_unasked,
            connections: inner.connections,
            open: inner.live.len() as u64,
            unreachable: inner.unreachable,
            bytes_to_target,
            bytes_to_client,
        }
    }

    /// Heals everything whenever nobody has renewed for the lifetime. Never returns.
    pub(crate) async fn watch_over(&self, log: impl Fn(&str)) {
        let mut renewed = self.renewed.subscribe();
        loop {
            let deadline = *renewed.borrow_and_update() + self.lifetime;
            tokio::select! {
                biased;
                // The sender lives as long as `self`.
                _ = renewed.changed() => continue,
                () = sleep_until(deadline) => {}
            }
            let healed = self.heal_unasked();
            if healed > 0 {
                log(&format!(
                    "healed {healed} faults: the harness was silent for {} ms",
                    self.lifetime.as_millis()
                ));
            }
            let _ = renewed.changed().await;
        }
    }

    fn heal_unasked(&self) -> u64 {
        let mut inner = self.lock();
        let ids: Vec<u64> = inner.faults.keys().copied().collect();
        for id in &ids {
            self.end(&mut inner, *id);
        }
        inner.healed_unasked += ids.len() as u64;
        ids.len() as u64
    }
}

/// An open connection.
pub(crate) struct Live {
    pub(crate) id: u64,
    fate: watch::Receiver<Fate>,
    state: Arc<State>,
}

impl Live {
    /// Waits until the connection is no longer simply open.
    pub(crate) async fn struck(&self) -> Fate {
        self.becomes(|fate| *fate != Fate::Open).await
    }

    /// Waits until the connection is to be reset.
    pub(crate) async fn was_reset(&self) {
        self.becomes(|fate| *fate == Fate::Reset).await;
    }

    async fn becomes(&self, wanted: impl FnMut(&Fate) -> bool) -> Fate {
        let mut fate = self.fate.clone();
        // The sender is dropped with `self` alone.
        fate.wait_for(wanted).await.map_or(Fate::Reset, |fate| *fate)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.state.lock().live.remove(&self.id);
    }
}

/// An evenly drawn duration. The standard library's random hash keys are random enough for jitter.
pub(crate) fn up_to(most: Duration) -> Duration {
    if most.is_zero() {
        return most;
    }
    #[expect(clippy::cast_precision_loss, reason = "a share of a duration needs no 64 bits")]
    let share = RandomState::new().hash_one(0) as f64 / u64::MAX as f64;
    most.mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Duration = Duration::from_secs(30);

    fn delay(each_way_ms: u64) -> Fault {
        Fault::Delay {
            each_way_us: each_way_ms * 1000,
            jitter_us: 0,
        }
    }

    #[tokio::test]
    async fn faults_add_up_and_each_ends_alone() {
        let state = State::new(Vec::new(), LIFETIME);
        let first = state.impose(delay(100)).unwrap();
        let second = state.impose(delay(20)).unwrap();
        let hole = state.impose(Fault::Blackhole).unwrap();
        let effects = *state.effects().borrow();
        assert_eq!(effects.delay, Duration::from_millis(120));
        assert!(effects.held && !effects.refused);
        assert!(state.heal(first) && state.heal(hole));
        assert!(!state.heal(first), "it was healed before");
        let effects = *state.effects().borrow();
        assert_eq!((effects.delay, effects.held), (Duration::from_millis(20), false));
        assert_eq!(
            state.status().faults,
            [ActiveFault {
                id: second,
                fault: delay(20)
            }]
        );
    }

    #[tokio::test]
    async fn faults_are_bounded() {
        let state = State::new(Vec::new(), LIFETIME);
        for _ in 0..MAX_FAULTS {
            state.impose(Fault::Refuse).unwrap();
        }
        assert!(state.impose(Fault::Refuse).unwrap_err().contains("heal some first"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_harness_counts_as_dead() {
        let state = State::new(Vec::new(), LIFETIME);
        let log = Arc::new(Mutex::new(Vec::new()));
        let watching = tokio::spawn({
            let (state, log) = (Arc::clone(&state), Arc::clone(&log));
            async move { state.watch_over(|line| log.lock().unwrap().push(line.to_owned())).await }
        });
        let wait = async |seconds| tokio::time::sleep(Duration::from_secs(seconds)).await;

        // Nothing to heal: nothing to tell.
        wait(100).await;
        assert_eq!(state.status().healed_unasked, 0);

        state.impose(Fault::Blackhole).unwrap();
        wait(20).await;
        state.impose(delay(1)).unwrap();
        wait(29).await;
        assert_eq!(state.status().faults.len(), 2, "the second fault renewed the first");
        state.renew();
        wait(29).await;
        assert_eq!(state.status().faults.len(), 2, "renewed");
        wait(2).await;
        let status = state.status();
        assert_eq!((status.faults.len(), status.healed_unasked), (0, 2));
        assert_eq!(*state.effects().borrow(), Effects::default());
        assert_eq!(
            *log.lock().unwrap(),
            ["healed 2 faults: the harness was silent for 30000 ms"]
        );

        // It watches over the next one as well.
        state.impose(Fault::Refuse).unwrap();
        wait(31).await;
        assert_eq!(state.status().healed_unasked, 3);
        watching.abort();
    }

    #[tokio::test]
    async fn half_open_strikes_what_is_open_and_ends_in_a_reset() {
        let state = State::new(Vec::new(), LIFETIME);
        let before = state.opened();
        let fault = state.impose(Fault::HalfOpen).unwrap();
        let after = state.opened();
        assert_eq!(before.struck().await, Fate::HalfOpen(fault));
        state.heal(fault);
        before.was_reset().await;
        assert_eq!(*after.fate.borrow(), Fate::Open);
        assert_eq!(state.reset(), 2);
        after.was_reset().await;
        drop((before, after));
        let status = state.status();
        assert_eq!((status.connections, status.open), (2, 0));
    }

    #[test]
    fn jitter_stays_below_its_bound() {
        let most = Duration::from_millis(10);
        let drawn: BTreeSet<_> = (0..100).map(|_| up_to(most)).collect();
        assert!(drawn.len() > 50 && drawn.iter().all(|drawn| *drawn <= most));
        assert_eq!(up_to(Duration::ZERO), Duration::ZERO);
    }
}
