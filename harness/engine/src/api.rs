//! Requests to a cluster's API: what an error means, which ones are tried again, and who is to blame in the end.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kube::api::{DeleteParams, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::Value;

use crate::clock::Clock;
use crate::problem::{self, Problem};

/// Field manager of everything that the engine applies.
pub const FIELD_MANAGER: &str = "meshproof";

/// First pause before a request is tried again (wall time); it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between two tries (wall time).
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A request that takes longer than this (wall time) counts as unanswered and is tried again.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// What an API error means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// No such object, or the kind is not served.
    NotFound,
    /// The object exists already.
    AlreadyExists,
    /// It may go away by itself: unreachable, 5xx, 429, conflict.
    Transient,
    /// The server refuses for good: 400, 401, 403, 405, 422 …
    Refused(u16),
    /// The answer is not what the API promises.
    NotUnderstood,
}

/// Sorts an error.
#[must_use]
pub fn classify(error: &kube::Error) -> ErrorClass {
    match error {
        kube::Error::Api(status) => match (status.code, status.reason.as_str()) {
            (404, _) => ErrorClass::NotFound,
            (409, "AlreadyExists") => ErrorClass::AlreadyExists,
            // It names another object than the one that is there now: waiting changes nothing.
            (409, _) if status.message.starts_with("Precondition failed") => ErrorClass::Refused(409),
            (409 | 410 | 429, _) => ErrorClass::Transient,
            (code, _) if code >= 500 => ErrorClass::Transient,
            (code, _) => ErrorClass::Refused(code),
        },
        kube::Error::HyperError(_)
        | kube::Error::Service(_)
        | kube::Error::ReadEvents(_)
        | kube::Error::HttpError(_) => ErrorClass::Transient,
        kube::Error::UpgradeConnection(_) => ErrorClass::Transient,
        _ => ErrorClass::NotUnderstood,
    }
}

/// Counts how often requests had to be tried again, for the whole run.
#[derive(Clone, Debug, Default)]
pub struct Retries(Arc<AtomicU64>);

impl Retries {
    /// Tries beyond the first.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// How requests of one step are made.
#[derive(Clone, Debug)]
pub struct Requests {
    /// The clock of the run.
    pub clock: Clock,
    /// Where repeated tries are counted.
    pub retries: Retries,
}

impl Requests {
    /// Makes a request until it is answered for good, but no longer than `within` (scenario time). `what` names it for
    /// people: `west: create Service shop/store`.
    ///
    /// # Errors
    /// The error of the last try. Only transient ones are tried again.
    pub async fn send<T, F, Fut>(&self, what: &str, within: Duration, mut request: F) -> Result<T, RequestError>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, kube::Error>>,
    {
        let deadline = tokio::time::Instant::now() + self.clock.wall(within);
        let mut pause = FIRST_PAUSE;
        loop {
            let answer_until = deadline.min(tokio::time::Instant::now() + ANSWER_TIME);
            let error = match tokio::time::timeout_at(answer_until, request()).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => RequestError {
                    what: what.to_owned(),
                    class: classify(&error),
                    message: describe(&error),
                },
                Err(_) => RequestError {
                    what: what.to_owned(),
                    class: ErrorClass::Transient,
                    message: "no answer".to_owned(),
                },
            };
            if error.class != ErrorClass::Transient || tokio::time::Instant::now() + pause >= deadline {
                return Err(error);
            }
            tracing::debug!(what, error = %error.message, "trying again");
            self.retries.add();
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl Requests {
    /// Applies an object (server-side, taking fields over from other managers).
    ///
    /// # Errors
    /// As [`Requests::send`].
    pub async fn apply(
        &self,
        what: &str,
        within: Duration,
        api: &Api<DynamicObject>,
        name: &str,
        object: &Value,
    ) -> Result<DynamicObject, RequestError> {
        let (parameters, patch) = (PatchParams::apply(FIELD_MANAGER).force(), Patch::Apply(object));
        self.send(what, within, || api.patch(name, &parameters, &patch)).await
    }

    /// Changes an object by a JSON merge patch.
    ///
    /// # Errors
    /// As [`Requests::send`].
    pub async fn merge(
        &self,
        what: &str,
        within: Duration,
        api: &Api<DynamicObject>,
        name: &str,
        merge: &Value,
    ) -> Result<DynamicObject, RequestError> {
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(merge));
        // What the patch itself says of the object's identity or version will not become right by waiting.
        let pinned = ["/metadata/uid", "/metadata/resourceVersion"]
            .iter()
            .any(|at| merge.pointer(at).is_some());
        let conflict = |error: &kube::Error| matches!(error, kube::Error::Api(status) if status.code == 409);
        let patched = self.send(what, within, || async {
            match api.patch(name, &parameters, &patch).await {
                Err(error) if pinned && conflict(&error) => Ok(Err(error)),
                other => other.map(Ok),
            }
        });
        patched.await?.map_err(|error| RequestError {
            what: what.to_owned(),
            class: ErrorClass::Refused(409),
            message: describe(&error),
        })
    }

    /// Deletes an object; what it owns is deleted in the background. Tells whether it was there.
    ///
    /// # Errors
    /// As [`Requests::send`].
    pub async fn delete(
        &self,
        what: &str,
        within: Duration,
        api: &Api<DynamicObject>,
        name: &str,
    ) -> Result<bool, RequestError> {
        let parameters = DeleteParams::background();
        match self.send(what, within, || api.delete(name, &parameters)).await {
            Ok(_) => Ok(true),
            Err(error) if error.class == ErrorClass::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A request that got no good answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {message}")]
pub struct RequestError {
    /// The request, for people.
    pub what: String,
    /// What the error means.
    pub class: ErrorClass,
    /// The server's own words.
    pub message: String,
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        let (code, remedy) = match &error.class {
            ErrorClass::Transient => (
                "api-unreachable",
                "see whether the cluster's API server is up and not overloaded",
            ),
            ErrorClass::NotFound => (
                "api-not-found",
                "see whether the object was removed meanwhile, or its kind is not installed",
            ),
            ErrorClass::AlreadyExists => (
                "api-already-exists",
                "remove what is left from an earlier run: `meshproof gc`",
            ),
            ErrorClass::Refused(401 | 403) => (
                "api-forbidden",
                "give the credentials that meshproof uses the missing rights",
            ),
            ErrorClass::Refused(422 | 400) => (
                "api-invalid",
                "correct the object in the scenario, or install the version of the mesh that knows its fields",
            ),
            ErrorClass::Refused(_) | ErrorClass::NotUnderstood => (
                "api-refused",
                "see the API server's log; the request is not one that it supports",
            ),
        };
        problem::environment(code, error.to_string(), Some(remedy))
    }
}

/// The server's words without the noise of nested `Debug` output.
#[must_use]
pub fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => {
            let mut text = other.to_string();
            let mut source = std::error::Error::source(other);
            while let Some(cause) = source {
                let cause_text = cause.to_string();
                if !text.contains(&cause_text) {
                    text.push_str(": ");
                    text.push_str(&cause_text);
                }
                source = cause.source();
            }
            text
        }
    }
}

/// An API for one resource: in a namespace, or over all of them or of cluster scope when `namespace` is absent.
#[must_use]
pub fn dynamic(client: &Client, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    }
}

/// The object as JSON, with `apiVersion` and `kind` also where a list left them out, and without `managedFields`.
#[must_use]
pub fn to_json(object: DynamicObject, resource: &ApiResource) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or(Value::Null);
    if let Some(map) = value.as_object_mut() {
        map.insert("apiVersion".to_owned(), resource.api_version.clone().into());
        map.insert("kind".to_owned(), resource.kind.clone().into());
        if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    }
    value
}

/// `namespace/name`, or `name` of a cluster-scoped object.
#[must_use]
pub fn full_name(object: &Value) -> String {
    let name = text_at(object, "/metadata/name");
    match object.pointer("/metadata/namespace").and_then(Value::as_str) {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

/// Text at a JSON pointer; empty when there is none.
#[must_use]
pub fn text_at<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::{ErrorClass, Problem, RequestError, Requests, Retries, classify};
    use crate::clock::Clock;
    use kube::core::Status;
    use rstest::rstest;
    use std::time::Duration;

    fn api_error(code: u16, reason: &str) -> kube::Error {
        kube::Error::Api(Box::new(Status {
            code,
            reason: reason.to_owned(),
            message: format!("says {code}"),
            ..Status::default()
        }))
    }

    fn requests() -> Requests {
        Requests {
            clock: Clock::start(1.0),
            retries: Retries::default(),
        }
    }

    #[rstest]
    #[case(404, "NotFound", ErrorClass::NotFound)]
    #[case(409, "AlreadyExists", ErrorClass::AlreadyExists)]
    #[case(409, "Conflict", ErrorClass::Transient)]
    #[case(429, "TooManyRequests", ErrorClass::Transient)]
    #[case(503, "ServiceUnavailable", ErrorClass::Transient)]
    #[case(403, "Forbidden", ErrorClass::Refused(403))]
    #[case(422, "Invalid", ErrorClass::Refused(422))]
    fn errors_are_sorted(#[case] code: u16, #[case] reason: &str, #[case] class: ErrorClass) {
        assert_eq!(classify(&api_error(code, reason)), class);
    }

    /// It names another object than the one that is there; waiting for it to change is in vain.
    #[test]
    fn a_precondition_that_fails_is_final() {
        let error = kube::Error::Api(Box::new(Status {
            code: 409,
            reason: "Conflict".to_owned(),
            message: "Precondition failed: UID in precondition: a, UID in object meta: b".to_owned(),
            ..Status::default()
        }));
        assert_eq!(classify(&error), ErrorClass::Refused(409));
    }

    #[tokio::test(start_paused = true)]
    async fn a_transient_error_is_tried_again_and_counted() {
        let requests = requests();
        let mut tries = 0;
        let answer = requests
            .send("west: get", Duration::from_secs(10), || {
                tries += 1;
                let answer = if tries < 4 { Err(api_error(503, "")) } else { Ok(tries) };
                async move { answer }
            })
            .await;
        assert_eq!(answer, Ok(4));
        assert_eq!(requests.retries.count(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn tries_end_with_the_deadline_even_when_nothing_answers() {
        let requests = requests();
        let error = requests
            .send("west: get", Duration::from_secs(3), || {
                std::future::pending::<Result<(), kube::Error>>()
            })
            .await
            .unwrap_err();
        assert_eq!(error.class, ErrorClass::Transient);
        assert_eq!(requests.clock.now_us(), 3_000_000);
        let problem = Problem::from(error);
        assert_eq!(problem.code, "api-unreachable");
    }

    #[tokio::test]
    async fn a_refusal_is_final_and_says_what_to_do() {
        let requests = requests();
        let error: RequestError = requests
            .send("west: create Service shop/store", Duration::from_secs(10), || async {
                Err::<(), _>(api_error(403, "Forbidden"))
            })
            .await
            .unwrap_err();
        assert_eq!(requests.retries.count(), 0);
        let problem = Problem::from(error);
        assert_eq!(problem.code, "api-forbidden");
        assert!(problem.message.contains("create Service shop/store"));
        assert!(problem.remedy.is_some());
    }
}
