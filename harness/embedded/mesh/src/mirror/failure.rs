//! Why an event was not done, and whether to come back to it.

use std::fmt;

/// Why an event was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// Trying again may help, if need be much later.
    Retry(String),
    /// Trying again may help at once or never.
    RetryQuickly(String),
    /// Trying again cannot help.
    Final(String),
}

impl Failure {
    /// What went wrong.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Retry(text) | Self::RetryQuickly(text) | Self::Final(text) => text,
        }
    }
}

/// What went wrong in the real controller's words: it wraps what it tries again.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry(text) | Self::RetryQuickly(text) => write!(f, "Inner errors:\n\t{text}"),
            Self::Final(text) => f.write_str(text),
        }
    }
}

/// What the API server answered, if it did.
pub(super) fn status_code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// The API server's own words, without the client's.
pub(super) fn text(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// An object that can never be valid is not worth coming back to.
pub(super) fn retry(error: &kube::Error) -> Failure {
    match status_code(error) {
        Some(422) => Failure::RetryQuickly(text(error)),
        _ => Failure::Retry(text(error)),
    }
}
