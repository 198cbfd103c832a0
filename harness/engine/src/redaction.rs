//! The one guard between what a run knows and what it writes: journal, ledgers, evidence, commands, terminal.
//!
//! What may leave is of type [`Redacted`], which only a [`Redactor`] makes; journal, ledgers and evidence take nothing else.
//! A secret is known by where it stands (Secrets, environment variables of containers, headers, names that tell), by how it
//! looks (PEM keys, JSON web tokens, credentials in URLs, the same under Base64), or because it was seen in such a place
//! before. It is replaced by a mark that is the same for the same secret throughout a run, so that equality can still be
//! judged, and the same again in `recheck`; the key behind the marks is in memory only, so that nobody can try words.

mod commands;
mod events;
mod names;
mod objects;
mod texts;

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use meshproof_verdict::journal::hex;
use meshproof_verdict::question::HIDDEN;
use rand::Rng;
use sha2::{Digest, Sha256};

pub use commands::{arguments, line, remember_own};

/// Shortest secret that is looked for elsewhere, bytes: shorter ones are words of other texts.
const SHORTEST_KNOWN: usize = 8;
/// Most secrets that are remembered.
const MOST_KNOWN: usize = 10_000;

/// Something that may leave the process: a [`Redactor`] looked at all of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Redacted<T>(T);

impl<T> Redacted<T> {
    /// What may leave.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// What may leave, to keep.
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// Makes what may leave. Clones know the same secrets.
#[derive(Clone)]
pub struct Redactor {
    key: Arc<[u8; 32]>,
    known: Arc<RwLock<BTreeSet<String>>>,
}

impl Default for Redactor {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor")
    }
}

impl Redactor {
    /// One that knows no secret yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            key: Arc::new(rand::rng().random()),
            known: Arc::default(),
        }
    }

    /// Looks for this secret, in clear and under Base64, in everything from now on.
    pub fn remember(&self, secret: &str) {
        let secret = secret.trim();
        if secret.len() < SHORTEST_KNOWN || names::is_harmless(secret) || is_hidden(secret) {
            return;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_KNOWN || !known.insert(secret.to_owned()) {
            return;
        }
        known.insert(STANDARD_NO_PAD.encode(secret));
        known.insert(URL_SAFE_NO_PAD.encode(secret));
        // As it stands in a text of JSON.
        if let Ok(quoted) = serde_json::to_string(secret) {
            known.insert(quoted.trim_matches('"').to_owned());
        }
    }

    /// The mark that stands for a secret.
    fn mark(&self, secret: &str) -> String {
        if is_hidden(secret) {
            return secret.to_owned();
        }
        let mut digest = Sha256::new();
        digest.update(self.key.as_slice());
        digest.update(secret.as_bytes());
        let digest = hex(&digest.finalize());
        format!("{HIDDEN}{}>", digest.get(..8).unwrap_or_default())
    }

    /// The mark of a secret that is worth looking for elsewhere.
    fn mark_known(&self, secret: &str) -> String {
        self.remember(secret);
        self.mark(secret)
    }

    /// The text without secrets that were seen before.
    fn without_known(&self, text: String) -> String {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut text = text;
        // Longer ones first: one may be a part of another.
        let mut found: Vec<&String> = known.iter().filter(|secret| text.contains(secret.as_str())).collect();
        found.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
        for secret in found {
            text = text.replace(secret.as_str(), &self.mark(secret));
        }
        text
    }

    /// A text without secrets.
    #[must_use]
    pub fn text(&self, text: &str) -> Redacted<String> {
        Redacted(self.clean(text))
    }

    fn clean(&self, text: &str) -> String {
        self.without_known(texts::clean(self, text, 0))
    }
}

/// Whether a text is a mark and nothing else.
fn is_hidden(text: &str) -> bool {
    text.strip_prefix(HIDDEN)
        .is_some_and(|rest| rest.len() <= 16 && rest.ends_with('>'))
}

#[cfg(test)]
mod tests;
