//! How many requests were made, by whom and for what. Benchmarks read it; nothing else does.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What requests are counted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestKey {
    /// Kubernetes verb (`get`, `list`, `watch`, …), or the lower-case method for paths that are no resources.
    pub verb: String,
    /// Plural with subresource (`pods/log`), or the path.
    pub resource: String,
    /// First word of the `User-Agent` header.
    pub user_agent: String,
}

/// Different keys that are kept; further ones are counted under `other`, so that a client cannot grow the map without end.
const KEYS_LIMIT: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Counts {
    counts: Mutex<BTreeMap<RequestKey, u64>>,
}

impl Counts {
    pub(crate) fn add(&self, key: RequestKey) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let key = if counts.len() < KEYS_LIMIT || counts.contains_key(&key) {
            key
        } else {
            let other = || "other".to_owned();
            RequestKey {
                verb: other(),
                resource: other(),
                user_agent: other(),
            }
        };
        *counts.entry(key).or_default() += 1;
    }

    pub(crate) fn snapshot(&self) -> BTreeMap<RequestKey, u64> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
