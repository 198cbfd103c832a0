//! A live connection: what is in force on it, shared by both of its ends and by whoever controls its path.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::sync::watch;
use tokio::time::Instant;

use super::path::{ActiveControl, ConnectionInfo, ControlKind, Effect, PathSelector};
use super::tap::{Direction, Reader, TapState};
use crate::pace::Pace;

/// What is in force on a connection, as bits, so that an unaffected one pays for one atomic load.
pub(crate) mod flag {
    /// Both ends fail with a reset.
    pub(crate) const RESET: u8 = 1;
    /// Nothing moves.
    pub(crate) const HOLD: u8 = 2;
    /// Bytes take longer.
    pub(crate) const DELAY: u8 = 4;
    /// Somebody reads along.
    pub(crate) const TAP: u8 = 8;
}

/// A program's stay in a pod: what it opened and accepted ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ScopeId(pub(crate) u64);

/// The two pods (or other parties) that a connection belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parties {
    pub(crate) dialler: Option<ScopeId>,
    pub(crate) acceptor: Option<ScopeId>,
    /// Inside one pod: not on the wire, so no path control applies.
    pub(crate) local: bool,
}

pub(crate) struct LiveConnection {
    info: Mutex<ConnectionInfo>,
    id: u64,
    parties: Mutex<Parties>,
    flags: AtomicU8,
    changed: watch::Sender<u8>,
    force: Mutex<Force>,
    closed: AtomicBool,
    /// Tasks that wait on a pending read or write and must look again when something changes.
    pub(crate) wakers: Wakers,
    registry: Weak<Registry>,
}

#[derive(Default)]
pub(crate) struct Wakers {
    pub(crate) dialler_read: AtomicWaker,
    pub(crate) dialler_write: AtomicWaker,
    pub(crate) acceptor_read: AtomicWaker,
    pub(crate) acceptor_write: AtomicWaker,
}

/// What is in force, in detail. Durations are wall time.
#[derive(Default)]
struct Force {
    delay: Duration,
    jitter: Duration,
    taps: Vec<AttachedTap>,
    last_due: [Option<Instant>; 2],
}

struct AttachedTap {
    id: u64,
    tap: Arc<TapState>,
    forward: Reader,
    backward: Reader,
}

impl LiveConnection {
    pub(crate) fn flags(&self) -> u8 {
        self.flags.load(Ordering::Acquire)
    }

    pub(crate) fn info(&self) -> ConnectionInfo {
        lock(&self.info).clone()
    }

    pub(crate) fn set_source_port(&self, port: u16) {
        lock(&self.info).source.set_port(port);
    }

    pub(crate) fn accepted_by(&self, scope: Option<ScopeId>) {
        lock(&self.parties).acceptor = scope;
    }

    /// One of the ends has said all that it had to say.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Whether one end was closed in good order: what it said before is on its way, and its going takes nothing of that back.
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Both ends see a reset from now on.
    pub(crate) fn reset(&self) {
        self.flags.fetch_or(flag::RESET, Ordering::AcqRel);
        self.notify();
    }

    fn notify(&self) {
        self.changed.send_replace(self.flags());
        for waker in [
            &self.wakers.dialler_read,
            &self.wakers.dialler_write,
            &self.wakers.acceptor_read,
            &self.wakers.acceptor_write,
        ] {
            waker.wake();
        }
    }

    /// When data that is handed over now shall arrive. Never before data that was handed over earlier.
    pub(crate) fn due(&self, direction: Direction) -> Instant {
        let mut force = lock(&self.force);
        let delay = force.delay + force.jitter.mul_f64(rand::random::<f64>());
        let slot = &mut force.last_due[direction as usize];
        let due = (Instant::now() + delay).max(slot.unwrap_or_else(Instant::now));
        *slot = Some(due);
        due
    }

    /// Tells the taps what crossed.
    pub(crate) fn crossed(&self, direction: Direction, bytes: &[u8]) {
        if self.flags() & flag::TAP == 0 || bytes.is_empty() {
            return;
        }
        for attached in &mut lock(&self.force).taps {
            let reader = match direction {
                Direction::Forward => &mut attached.forward,
                Direction::Backward => &mut attached.backward,
            };
            attached.tap.crossed(reader, self.id, direction, bytes);
        }
    }

    /// Waits until `due`, and then until nothing holds the connection. `false` when it was reset instead.
    pub(crate) async fn passes(&self, due: Instant) -> bool {
        tokio::select! {
            biased;
            () = self.was_reset() => return false,
            () = tokio::time::sleep_until(due) => {}
        }
        let mut changed = self.changed.subscribe();
        let free = |flags: &u8| flags & flag::HOLD == 0 || flags & flag::RESET != 0;
        match changed.wait_for(free).await {
            Ok(flags) => *flags & flag::RESET == 0,
            Err(_) => false,
        }
    }

    /// Returns once the connection is reset.
    pub(crate) async fn was_reset(&self) {
        let mut changed = self.changed.subscribe();
        // The sender lives as long as `self`.
        changed.wait_for(|f| f & flag::RESET != 0).await.ok();
    }

    fn apply(&self, rules: &Rules) {
        if lock(&self.parties).local {
            return;
        }
        let info = self.info();
        let mut flags = 0;
        let mut force = lock(&self.force);
        (force.delay, force.jitter) = (Duration::ZERO, Duration::ZERO);
        for (selector, effect) in rules.effects.values() {
            if !selector.chooses(&info) {
                continue;
            }
            match effect {
                Effect::Delay { each_way, jitter } => {
                    flags |= flag::DELAY;
                    force.delay += rules.pace.wall(*each_way);
                    force.jitter += rules.pace.wall(*jitter);
                }
                Effect::Blackhole => flags |= flag::HOLD,
                Effect::Refuse => {}
            }
        }
        force.taps.retain(|a| rules.taps.contains_key(&a.id));
        for (&id, (selector, tap)) in &rules.taps {
            if selector.chooses(&info) && force.taps.iter().all(|a| a.id != id) {
                tap.connected();
                force.taps.push(AttachedTap {
                    id,
                    tap: Arc::clone(tap),
                    forward: Reader::default(),
                    backward: Reader::default(),
                });
            }
        }
        if !force.taps.is_empty() {
            flags |= flag::TAP;
        }
        drop(force);
        let mut before = self.flags();
        // A reset stays whatever else changes.
        while let Err(now) = self.flags.compare_exchange_weak(
            before,
            flags | before & flag::RESET,
            Ordering::AcqRel,
            Ordering::Acquire,
        ) {
            before = now;
        }
        if before & !flag::RESET != flags {
            self.notify();
        }
    }
}

impl Drop for LiveConnection {
    fn drop(&mut self) {
        if let Some(registry) = self.registry.upgrade() {
            lock(&registry.live).remove(&self.id);
        }
    }
}

/// The effects and taps in force, by number.
struct Rules {
    pace: Pace,
    next_id: u64,
    effects: BTreeMap<u64, (PathSelector, Effect)>,
    taps: BTreeMap<u64, (PathSelector, Arc<TapState>)>,
}

/// What would happen to a new connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Admission {
    pub(crate) refused: bool,
    pub(crate) held: bool,
    /// Wall time that the handshake takes on top.
    pub(crate) handshake: Duration,
}

/// All live connections and all rules of a fabric.
pub(crate) struct Registry {
    rules: Mutex<Rules>,
    live: Mutex<HashMap<u64, Weak<LiveConnection>>>,
    next_connection: AtomicU64,
    next_scope: AtomicU64,
}

impl Registry {
    pub(crate) fn new(pace: Pace) -> Arc<Self> {
        let rules = Rules {
            pace,
            next_id: 1,
            effects: BTreeMap::new(),
            taps: BTreeMap::new(),
        };
        Arc::new(Self {
            rules: Mutex::new(rules),
            live: Mutex::new(HashMap::new()),
            next_connection: AtomicU64::new(1),
            next_scope: AtomicU64::new(1),
        })
    }

    pub(crate) fn next_connection(&self) -> u64 {
        self.next_connection.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn next_scope(&self) -> ScopeId {
        ScopeId(self.next_scope.fetch_add(1, Ordering::Relaxed))
    }

    /// What the rules say to a new connection.
    pub(crate) fn admission(&self, info: &ConnectionInfo) -> Admission {
        let rules = lock(&self.rules);
        let mut admission = Admission::default();
        for (selector, effect) in rules.effects.values() {
            if !selector.chooses(info) {
                continue;
            }
            match effect {
                Effect::Delay { each_way, jitter } => {
                    let drawn = jitter.mul_f64(rand::random::<f64>());
                    admission.handshake += rules.pace.wall(*each_way * 2 + drawn);
                }
                Effect::Blackhole => admission.held = true,
                Effect::Refuse => admission.refused = true,
            }
        }
        admission
    }

    /// A connection that the rules apply to from now on, until its last holder drops it.
    pub(crate) fn register(self: &Arc<Self>, info: ConnectionInfo, parties: Parties) -> Arc<LiveConnection> {
        let connection = Arc::new(LiveConnection {
            id: info.id,
            info: Mutex::new(info),
            parties: Mutex::new(parties),
            flags: AtomicU8::new(0),
            changed: watch::channel(0).0,
            force: Mutex::new(Force::default()),
            closed: AtomicBool::new(false),
            wakers: Wakers::default(),
            registry: Arc::downgrade(self),
        });
        // Under the lock of the rules, so that no rule comes or goes between looking and being seen.
        let rules = lock(&self.rules);
        lock(&self.live).insert(connection.id, Arc::downgrade(&connection));
        connection.apply(&rules);
        connection
    }

    pub(crate) fn add_effect(&self, selector: PathSelector, effect: Effect) -> u64 {
        let mut rules = lock(&self.rules);
        let id = rules.take_id();
        rules.effects.insert(id, (selector, effect));
        self.apply_to_all(rules);
        id
    }

    pub(crate) fn add_tap(&self, selector: PathSelector, tap: Arc<TapState>) -> u64 {
        let mut rules = lock(&self.rules);
        let id = rules.take_id();
        rules.taps.insert(id, (selector, tap));
        self.apply_to_all(rules);
        id
    }

    /// Removes an effect or a tap; `false` when there is none of this number.
    pub(crate) fn remove(&self, id: u64) -> bool {
        let mut rules = lock(&self.rules);
        let found = rules.effects.remove(&id).is_some() | rules.taps.remove(&id).is_some();
        if found {
            self.apply_to_all(rules);
        }
        found
    }

    /// Removes all effects and leaves the taps.
    pub(crate) fn remove_effects(&self) -> usize {
        let mut rules = lock(&self.rules);
        let count = rules.effects.len();
        rules.effects.clear();
        self.apply_to_all(rules);
        count
    }

    pub(crate) fn active(&self) -> Vec<ActiveControl> {
        let rules = lock(&self.rules);
        let effects = rules.effects.iter().map(|(&id, (selector, effect))| ActiveControl {
            id,
            selector: selector.clone(),
            kind: ControlKind::Effect(*effect),
        });
        let taps = rules.taps.iter().map(|(&id, (selector, _))| ActiveControl {
            id,
            selector: selector.clone(),
            kind: ControlKind::Tap,
        });
        let mut all: Vec<_> = effects.chain(taps).collect();
        all.sort_by_key(|a| a.id);
        all
    }

    fn apply_to_all(&self, rules: MutexGuard<'_, Rules>) {
        let live = self.snapshot();
        for connection in &live {
            connection.apply(&rules);
        }
        // The last holder of a connection may be `live`, and dropping it takes the lock of the registry only.
        drop(rules);
    }

    /// Connections that are open now. The list is made first, so that dropping one does not meet its own lock.
    fn snapshot(&self) -> Vec<Arc<LiveConnection>> {
        let live = lock(&self.live);
        let all: Vec<_> = live.values().filter_map(Weak::upgrade).collect();
        drop(live);
        all
    }

    /// Open connections on the wire that the selector chooses.
    pub(crate) fn connections(&self, selector: &PathSelector) -> Vec<ConnectionInfo> {
        let on_wire = self
            .snapshot()
            .into_iter()
            .filter(|c| !lock(&c.parties).local && c.flags() & flag::RESET == 0);
        on_wire.map(|c| c.info()).filter(|i| selector.chooses(i)).collect()
    }

    /// Resets the chosen connections on the wire and tells how many there were.
    pub(crate) fn reset(&self, selector: &PathSelector) -> usize {
        self.reset_where(|connection, parties| !parties.local && selector.chooses(&connection.info()))
    }

    /// Resets everything that a program opened or accepted and did not close.
    pub(crate) fn reset_scope(&self, scope: ScopeId) {
        self.reset_where(|connection, p| {
            let own = p.dialler == Some(scope) || p.acceptor == Some(scope);
            own && !connection.is_closed()
        });
    }

    /// Resets every connection from or to a pod's address that is not closed.
    pub(crate) fn reset_address(&self, address: Ipv4Addr) {
        self.reset_where(|connection, _| {
            let info = connection.info();
            let own = *info.source.ip() == address || info.hops.last().is_some_and(|h| *h.ip() == address);
            own && !connection.is_closed()
        });
    }

    /// Resets every connection of a cluster, also those inside of pods.
    pub(crate) fn reset_cluster(&self, cluster: &str) {
        self.reset_where(|connection, _| {
            let info = connection.info();
            info.from == cluster || info.to == cluster
        });
    }

    fn reset_where(&self, chosen: impl Fn(&LiveConnection, Parties) -> bool) -> usize {
        let mut count = 0;
        for connection in self.snapshot() {
            let parties = *lock(&connection.parties);
            if connection.flags() & flag::RESET == 0 && chosen(&connection, parties) {
                connection.reset();
                count += 1;
            }
        }
        count
    }
}

impl Rules {
    fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
