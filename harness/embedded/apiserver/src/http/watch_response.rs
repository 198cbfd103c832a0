//! Watches over HTTP: one JSON line per event until the client goes, time is up or the history has been left behind.

use super::body::{self, Body};
use super::resource_request::{ResourceRequest, Shape, metadata_only};
use super::wire;
use crate::resource::ResourceType;
use crate::server::ServerState;
use crate::store::{ObjectList, WatchEvent, WatchKind, WatchOptions, WatchStart, WatchStream};
use crate::table;
use crate::{Selector, Status};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::Response;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a watch lives when the client does not say. Kubernetes takes 30 to 60 minutes.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(45 * 60);

/// No watch lives longer, whatever the client says: times far beyond this can't be added to the present.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

pub(super) fn answer(request: &ResourceRequest, selector: Selector) -> Result<Response<Body>, Status> {
    let query = &request.query;
    let number = |name: &str| {
        let parse = |text: &str| {
            text.parse::<u64>().map_err(|_| {
                Status::bad_request(format!(
                    "{name}: Invalid value: \"{text}\": must be a non-negative integer"
                ))
            })
        };
        query.get(name).map(parse).transpose()
    };
    let bookmarks = query.flag("allowWatchBookmarks");
    let send_initial = query.flag_if_given("sendInitialEvents");
    if send_initial.is_some() && query.get("resourceVersionMatch") != Some("NotOlderThan") {
        return Err(Status::unprocessable(
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ));
    }
    let version = number("resourceVersion")?;
    let start = match (send_initial, version) {
        (Some(true), _) | (None, None | Some(0)) => WatchStart::WithExisting,
        (_, None | Some(0)) => WatchStart::Now,
        (_, Some(version)) => WatchStart::After(version),
    };
    let timeout = number("timeoutSeconds")?
        .filter(|&t| t > 0)
        .map_or(DEFAULT_TIMEOUT, Duration::from_secs)
        .min(LONGEST_TIMEOUT);
    // Kubernetes sends the last one two seconds before the watch ends.
    let bookmark_interval = timeout
        .saturating_sub(Duration::from_secs(2))
        .max(Duration::from_secs(1))
        .min(request.state.bookmark_interval);
    let options = WatchOptions {
        start,
        bookmark_interval: bookmarks.then_some(bookmark_interval),
        initial_events_end: bookmarks && send_initial == Some(true),
    };
    let resource = request.store.lock().registry.lookup(request.gvr())?;
    let events = match request
        .store
        .watch(request.gvr(), request.namespace(), &selector, options)
    {
        Ok(events) => events,
        // As the watch cache does it: the answer is a stream whose only event is the error.
        Err(status) if status.code == 410 => stream::once(async { Err(status) }).boxed(),
        Err(status) => return Err(status),
    };
    let lines = Lines {
        events,
        state: request.state.clone(),
        shape: request.form.shape,
        resource,
        version: request.gvr().version.to_string(),
        deadline: Instant::now() + timeout,
    };
    let frames = stream::unfold(lines, |mut lines| async move {
        let line = lines.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(line)), lines))
    });
    let mut response = body::full(200, body::JSON, Bytes::new());
    *response.body_mut() = StreamBody::new(frames).boxed_unsync();
    Ok(response)
}

struct Lines {
    events: WatchStream,
    state: Arc<ServerState>,
    shape: Shape,
    resource: Arc<ResourceType>,
    version: String,
    deadline: Instant,
}

impl Lines {
    async fn next(&mut self) -> Option<Bytes> {
        let event = tokio::time::timeout_at(self.deadline, self.events.next())
            .await
            .ok()??;
        self.state.wait_while_paused().await;
        let encoded = match &event {
            Ok(event) => wire::json(&self.shaped(event)).map(|object| (event.kind.as_str(), object)),
            Err(status) => Err(status.clone()),
        };
        let (kind, object) = encoded.unwrap_or_else(|status| ("ERROR", status.to_json().to_string()));
        Some(Bytes::from(format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")))
    }

    fn shaped<'a>(&self, event: &'a WatchEvent) -> Cow<'a, Value> {
        match self.shape {
            Shape::Whole => Cow::Borrowed(&*event.object),
            Shape::Metadata => Cow::Owned(metadata_only(&event.object)),
            Shape::Table(_) if event.kind == WatchKind::Bookmark => Cow::Owned(
                json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": event.object["metadata"], "columnDefinitions": null, "rows": []}),
            ),
            Shape::Table(include) => {
                let list = ObjectList {
                    items: vec![event.object.clone()],
                    ..ObjectList::default()
                };
                let mut table = table::render(&self.resource, &self.version, &list, include);
                table["metadata"] = json!({"resourceVersion": event.object["metadata"]["resourceVersion"]});
                Cow::Owned(table)
            }
        }
    }
}
