//! The harness' side of a relay's control port.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use super::protocol::{Fault, Made, Pattern, Sample, Seen, Status, WereReset};
use crate::control::client::{Client as Connection, Error, body, understand};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nothing answers at the relay's control port.
    #[error("nothing answers at {address}: {source}")]
    Unreachable {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The relay said no, or what it said is not understood.
    #[error(transparent)]
    Call(#[from] Error),
}

/// Speaks to a relay, with a connection for each call. Nothing here has a time-out: the caller knows its deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    address: SocketAddr,
}

impl Client {
    /// For the relay whose control port is there.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// How the relay is, and what crossed it.
    ///
    /// # Errors
    /// See [`CallError`]; likewise below.
    pub async fn status(&self) -> Result<Status, CallError> {
        self.get("/status").await
    }

    /// Lets the faults live on.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn renew(&self) -> Result<(), CallError> {
        self.send(Method::POST, "/renew", Bytes::new()).await.map(drop)
    }

    /// Puts a fault in force and returns its number.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn impose(&self, fault: &Fault) -> Result<u64, CallError> {
        self.make("/faults", fault).await
    }

    /// Ends a fault; when this returns, it is over. `false` when the relay has no such fault (any more).
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn heal(&self, fault: u64) -> Result<bool, CallError> {
        self.delete(&format!("/faults/{fault}")).await
    }

    /// Resets all open connections and returns how many there were.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn reset(&self) -> Result<u64, CallError> {
        let answer = self.send(Method::POST, "/reset", Bytes::new()).await?;
        let WereReset { connections } = understand("POST /reset", &answer)?;
        Ok(connections)
    }

    /// Looks for bytes from now on and returns a number for them.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn look_for(&self, bytes: &[u8]) -> Result<u64, CallError> {
        let pattern = Pattern { bytes: bytes.to_vec() };
        self.make("/patterns", &pattern).await
    }

    /// Whether these bytes have crossed.
    ///
    /// # Errors
    /// See [`CallError`]; status 404 when the relay does not look for them (any more).
    pub async fn seen(&self, pattern: u64) -> Result<Seen, CallError> {
        self.get(&format!("/patterns/{pattern}")).await
    }

    /// Stops looking for bytes; `false` when the relay did not.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn forget(&self, pattern: u64) -> Result<bool, CallError> {
        self.delete(&format!("/patterns/{pattern}")).await
    }

    /// How the newest connections began.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn samples(&self) -> Result<Vec<Sample>, CallError> {
        self.get("/samples").await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        let answer = self.send(Method::GET, path, Bytes::new()).await?;
        Ok(understand(&format!("GET {path}"), &answer)?)
    }

    async fn make(&self, path: &str, value: &impl Serialize) -> Result<u64, CallError> {
        let mut connection = self.connect().await?;
        let (request, response) = connection.call_json(Method::POST, path, value).await?;
        let Made { id } = understand(&request, &body(&request, response).await?)?;
        Ok(id)
    }

    async fn delete(&self, path: &str) -> Result<bool, CallError> {
        match self.send(Method::DELETE, path, Bytes::new()).await {
            Ok(_) => Ok(true),
            Err(CallError::Call(Error::Refused { status: 404, .. })) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn send(&self, method: Method, path: &str, content: Bytes) -> Result<Bytes, CallError> {
        let mut connection = self.connect().await?;
        let (request, response) = connection.call(method, path, content).await?;
        Ok(body(&request, response).await?)
    }

    async fn connect(&self) -> Result<Connection, CallError> {
        let address = self.address;
        let stream = TcpStream::connect(address)
            .await
            .map_err(|source| CallError::Unreachable { address, source })?;
        Ok(Connection::connect(Box::new(stream)).await?)
    }
}
