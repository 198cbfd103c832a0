//! How binding a requirement is.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How binding a requirement is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// A mesh that breaks it does not conform.
    #[default]
    Must,
    /// Breaking it needs a reason: it is told, and turns nothing red unless a run is strict.
    Should,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
        })
    }
}
