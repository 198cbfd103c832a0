//! How a job's requests are dealt to connections.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::connection::{ExchangeError, Multiplexed, Opener, Sequential};
use super::outcome::{Failure, Reply};
use super::request::Template;
use crate::protocol::Protocol;

/// The connections of a job.
pub(crate) enum Pool {
    /// HTTP/1.1 and TCP: one request at a time on each connection.
    Sequential(SequentialPool),
    /// HTTP/2.
    Multiplexed(MultiplexedPool),
}

impl Pool {
    /// Keeps `connections` open, or none when each request is to have its own.
    pub(crate) fn new(opener: Opener, connections: u32, fresh: bool) -> Self {
        match opener.protocol {
            Protocol::Http1 | Protocol::Tcp => Self::Sequential(SequentialPool {
                opener,
                kept: if fresh { 0 } else { connections },
                state: Mutex::default(),
            }),
            Protocol::Http2 => Self::Multiplexed(MultiplexedPool {
                opener,
                slots: (0..if fresh { 0 } else { connections })
                    .map(|_| Slot::default())
                    .collect(),
                turn: AtomicUsize::new(0),
            }),
        }
    }

    /// Chooses the connection for the next request; nothing is opened yet.
    pub(crate) fn lease(&self) -> Lease<'_> {
        match self {
            Self::Sequential(pool) => Lease::Sequential(pool.lease()),
            Self::Multiplexed(pool) => Lease::Multiplexed(pool.lease()),
        }
    }
}

/// A connection, or the right to open one, for one request. When dropped before the exchange is over (time-out, stop), the
/// connection is not used for further requests.
pub(crate) enum Lease<'a> {
    Sequential(SequentialLease<'a>),
    Multiplexed(MultiplexedLease<'a>),
}

impl Lease<'_> {
    /// Sends the request and waits for its complete answer. Nothing is ever sent twice: only when a kept connection turns
    /// out to be closed before anything was written is the request sent on a new one.
    pub(crate) async fn exchange(&mut self, template: &Template, id: &str) -> Result<Reply, Failure> {
        match self {
            Self::Sequential(lease) => lease.exchange(template, id).await,
            Self::Multiplexed(lease) => lease.exchange(template, id).await,
        }
    }

    /// Number of the connection that carries the request, or was tried for it.
    pub(crate) fn connection(&self) -> u32 {
        match self {
            Self::Sequential(lease) => lease.number,
            Self::Multiplexed(lease) => lease.number,
        }
    }
}

/// How long an extra connection stays open unused.
const EXTRA_IDLE: Duration = Duration::from_secs(1);

/// Connections that carry one request at a time. Of the job's `kept` connections the longest idle one is taken next,
/// which deals requests in turn. When all of them are busy, extra ones are opened, so that no request waits for another;
/// an extra connection is used again while the need lasts and closed after [`EXTRA_IDLE`] without use.
pub(crate) struct SequentialPool {
    opener: Opener,
    kept: u32,
    state: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// Longest idle first.
    kept: VecDeque<(u32, Sequential)>,
    /// Kept connections, idle or in use.
    kept_open: u32,
    /// Longest idle first, with the time since when. Taken from the back, so that those not needed grow old at the front.
    extra: VecDeque<(Instant, u32, Sequential)>,
}

impl SequentialPool {
    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lease(&self) -> SequentialLease<'_> {
        let mut state = self.lock();
        while state.kept.front().is_some_and(|(_, connection)| connection.is_closed()) {
            state.kept.pop_front();
            state.kept_open -= 1;
        }
        // Until all kept connections exist, each request opens one.
        if state.kept_open < self.kept {
            state.kept_open += 1;
            return self.leased(None, false);
        }
        if let Some(idle) = state.kept.pop_front() {
            return self.leased(Some(idle), false);
        }
        let extra = state
            .extra
            .pop_back()
            .map(|(_, number, connection)| (number, connection));
        self.leased(extra, true)
    }

    fn leased(&self, idle: Option<(u32, Sequential)>, extra: bool) -> SequentialLease<'_> {
        let (number, connection) = match idle {
            Some((number, connection)) => (number, Some(connection)),
            None => (self.opener.next_number(), None),
        };
        SequentialLease {
            pool: self,
            number,
            connection,
            extra,
            intact: false,
        }
    }
}

pub(crate) struct SequentialLease<'a> {
    pool: &'a SequentialPool,
    number: u32,
    connection: Option<Sequential>,
    /// Not one of the connections that the job keeps.
    extra: bool,
    /// A request was answered completely, so that the connection can take the next one.
    intact: bool,
}

impl SequentialLease<'_> {
    async fn exchange(&mut self, template: &Template, id: &str) -> Result<Reply, Failure> {
        if let Some(connection) = self.connection.as_mut() {
            match connection.exchange(template, id).await {
                Ok(reply) => {
                    self.intact = true;
                    return Ok(reply);
                }
                Err(ExchangeError::Failed(failure)) => return Err(failure),
                Err(ExchangeError::NotSent(_)) => {
                    self.connection = None;
                    self.number = self.pool.opener.next_number();
                }
            }
        }
        let connection = self.connection.insert(self.pool.opener.open_sequential().await?);
        match connection.exchange(template, id).await {
            Ok(reply) => {
                self.intact = true;
                Ok(reply)
            }
            Err(ExchangeError::Failed(failure) | ExchangeError::NotSent(failure)) => Err(failure),
        }
    }
}

impl Drop for SequentialLease<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        let now = Instant::now();
        while state
            .extra
            .front()
            .is_some_and(|(since, ..)| now.duration_since(*since) >= EXTRA_IDLE)
        {
            state.extra.pop_front();
        }
        let reusable = self
            .connection
            .take()
            .filter(|connection| self.intact && !connection.is_closed());
        match (reusable, self.extra) {
            (Some(connection), false) => state.kept.push_back((self.number, connection)),
            (None, false) => state.kept_open -= 1,
            (Some(connection), true) if self.pool.kept > 0 => state.extra.push_back((now, self.number, connection)),
            // Without kept connections each request is to have its own.
            (_, true) => {}
        }
    }
}

/// HTTP/2 connections, taken in turn. Without slots, each request has its own.
pub(crate) struct MultiplexedPool {
    opener: Opener,
    slots: Vec<Slot>,
    turn: AtomicUsize,
}

#[derive(Default)]
struct Slot {
    /// Locked while a connection is being opened: requests that come meanwhile wait for it, each within its time-out.
    current: tokio::sync::Mutex<Option<(u32, Multiplexed)>>,
    /// One more than the number of the newest connection tried.
    tried: AtomicU32,
    /// One more than the number of the newest connection that is to be replaced. A request timed out on it: it may be
    /// dead without anyone having said so, and waiting for the operating system to notice would measure that instead.
    suspect: AtomicU32,
}

impl Slot {
    /// No further request is to go over this connection.
    fn replace(&self, number: u32) {
        self.suspect.fetch_max(number + 1, Ordering::Relaxed);
    }
}

impl MultiplexedPool {
    fn lease(&self) -> MultiplexedLease<'_> {
        let slot = match self.slots.len() {
            0 => None,
            slots => self.slots.get(self.turn.fetch_add(1, Ordering::Relaxed) % slots),
        };
        let number = slot.map_or(0, |slot| slot.tried.load(Ordering::Relaxed).saturating_sub(1));
        MultiplexedLease {
            pool: self,
            slot,
            number,
            sending: false,
        }
    }
}

pub(crate) struct MultiplexedLease<'a> {
    pool: &'a MultiplexedPool,
    slot: Option<&'a Slot>,
    number: u32,
    /// A request is half-way on the connection.
    sending: bool,
}

impl MultiplexedLease<'_> {
    async fn exchange(&mut self, template: &Template, id: &str) -> Result<Reply, Failure> {
        let Some(slot) = self.slot else {
            self.number = self.pool.opener.next_number();
            let mut connection = self.pool.opener.open_multiplexed().await?;
            return match connection.exchange(template, id).await {
                Ok(reply) => Ok(reply),
                Err(ExchangeError::Failed(failure) | ExchangeError::NotSent(failure)) => Err(failure),
            };
        };
        loop {
            let (mut connection, kept) = self.connection(slot).await?;
            self.sending = true;
            let exchanged = connection.exchange(template, id).await;
            self.sending = false;
            match exchanged {
                Ok(reply) => return Ok(reply),
                Err(ExchangeError::Failed(failure)) => return Err(failure),
                Err(ExchangeError::NotSent(failure)) => {
                    slot.replace(self.number);
                    if !kept {
                        return Err(failure);
                    }
                }
            }
        }
    }

    /// The slot's connection, and whether it was open before this request came.
    async fn connection(&mut self, slot: &Slot) -> Result<(Multiplexed, bool), Failure> {
        let mut current = slot.current.lock().await;
        let suspect = slot.suspect.load(Ordering::Relaxed);
        if let Some((number, connection)) = current.as_ref()
            && *number >= suspect
            && !connection.is_closed()
        {
            self.number = *number;
            return Ok((connection.clone(), true));
        }
        *current = None;
        self.number = self.pool.opener.next_number();
        slot.tried.store(self.number + 1, Ordering::Relaxed);
        let connection = self.pool.opener.open_multiplexed().await?;
        *current = Some((self.number, connection.clone()));
        Ok((connection, false))
    }
}

impl Drop for MultiplexedLease<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot
            && self.sending
        {
            slot.replace(self.number);
        }
    }
}
