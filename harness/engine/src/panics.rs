//! What a panic costs: the step, the cleanup or the environment in which it happened, and never the run.
//!
//! Work that may meet a defect of the harness is done in [`isolated`]. What it works on is plain data that its caller still has
//! afterwards, so that the caller can undo and clean up with it.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;

use crate::problem::{self, Problem};

/// Does something; a panic in it becomes a problem of the harness.
///
/// # Errors
/// Code `harness-panicked`, and nothing else.
pub(crate) async fn isolated<T>(what: &str, work: impl Future<Output = T>) -> Result<T, Problem> {
    // What the work was about may be half done, and is looked at only to end it: to heal, to undo and to remove.
    AssertUnwindSafe(Box::pin(work))
        .catch_unwind()
        .await
        .map_err(|payload| panicked(what, payload.as_ref()))
}

/// The problem that a panic is.
#[must_use]
pub(crate) fn panicked(what: &str, payload: &(dyn Any + Send)) -> Problem {
    let said = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("it said nothing");
    problem::harness(
        "harness-panicked",
        format!("the harness panicked in {what}: {said}"),
        Some("report this as a defect of meshproof, with the journal and what was printed"),
    )
}

/// Where a panic is provoked, so that tests can show what it costs: `<scenario>:<step>`, `<scenario>:cleanup` or
/// `<environment>:up`, several with commas between.
#[derive(Clone, Debug, Default)]
pub struct ProvokedPanics(Vec<(String, String)>);

impl ProvokedPanics {
    /// Reads places; what is none is never reached.
    #[must_use]
    pub fn at(places: &str) -> Self {
        let place = |place: &str| place.rsplit_once(':').map(|(of, at)| (of.to_owned(), at.to_owned()));
        Self(places.split(',').filter_map(place).collect())
    }

    /// Panics if this is such a place.
    #[expect(clippy::panic, reason = "this is what it is for; nothing does it unasked")]
    pub(crate) fn here(&self, of: &str, at: &str) {
        if self.0.iter().any(|place| place.0 == of && place.1 == at) {
            panic!("provoked at {of}:{at}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ProvokedPanics, isolated};

    #[tokio::test]
    async fn a_panic_becomes_a_problem_that_says_where_and_what() {
        let places = ProvokedPanics::at("area/one:3,pair:up");
        let problem = isolated("step 3", async { places.here("area/one", "3") })
            .await
            .unwrap_err();
        assert_eq!(problem.code, "harness-panicked");
        assert!(
            problem.message.contains("step 3: provoked at area/one:3"),
            "{}",
            problem.message
        );
        assert!(isolated("step 2", async { places.here("area/one", "2") }).await.is_ok());
        assert!(isolated("up", async { places.here("pair", "up") }).await.is_err());
    }
}
