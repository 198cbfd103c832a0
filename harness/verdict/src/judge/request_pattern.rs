//! Whether one request is as a pattern says, and what to say if it is not.

use crate::ledger::{RequestResult, Row};

/// No server of another run answered. (What no server answered is nobody's.)
pub(crate) fn is_of_this_run(row: &Row) -> bool {
    match &row.result {
        RequestResult::Answered(answered) => answered.cluster.is_none() || answered.nonce_matches,
        RequestResult::Failed { .. } => true,
    }
}
