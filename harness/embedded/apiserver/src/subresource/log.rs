//! `pods/log`: what a container wrote, from the pod backend.

use crate::http::body::{self, Body};
use crate::http::resource_request::ResourceRequest;
use crate::http::route::Query;
use crate::{LogOptions, Status};
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::Value;
use std::convert::Infallible;

pub(crate) async fn answer(request: &ResourceRequest, method: &Method) -> Result<Response<Body>, Status> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Status::method_not_allowed());
    }
    let pod = request.store.get(request.gvr(), request.namespace(), request.name())?;
    let mut options = options(&request.query)?;
    options.container = Some(container(&pod, options.container.as_deref())?);
    let backend = request.state.pod_backend()?;
    let namespace = request.namespace().unwrap_or_default();
    let chunks = backend.logs(namespace, request.name(), options).await?;
    let frames = chunks.map(|chunk| Ok::<_, Infallible>(Frame::data(chunk)));
    let mut response = body::full(200, "text/plain", Bytes::new());
    *response.body_mut() = StreamBody::new(frames).boxed_unsync();
    Ok(response)
}

fn options(query: &Query) -> Result<LogOptions, Status> {
    let number = |name: &str| {
        let parse = |text: &str| {
            text.parse::<u64>().map_err(|_| {
                Status::bad_request(format!(
                    "{name}: Invalid value: \"{text}\": must be greater than or equal to 0"
                ))
            })
        };
        query.get(name).map(parse).transpose()
    };
    let since_seconds = number("sinceSeconds")?;
    let since_time = query.get("sinceTime");
    let since = match (since_seconds, since_time) {
        (Some(_), Some(_)) => {
            return Err(Status::bad_request(
                "at most one of `sinceTime` or `sinceSeconds` may be specified",
            ));
        }
        (Some(seconds), None) => {
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            jiff::Timestamp::now()
                .checked_sub(jiff::SignedDuration::from_secs(seconds))
                .ok()
        }
        (None, Some(text)) => Some(text.parse().map_err(|_| {
            Status::bad_request(format!(
                "sinceTime: Invalid value: \"{text}\": must be an RFC 3339 time"
            ))
        })?),
        (None, None) => None,
    };
    Ok(LogOptions {
        container: query.get("container").map(str::to_owned),
        follow: query.flag("follow"),
        tail_lines: number("tailLines")?,
        previous: query.flag("previous"),
        timestamps: query.flag("timestamps"),
        since,
        limit_bytes: number("limitBytes")?,
    })
}

/// The container that is meant.
fn container(pod: &Value, wanted: Option<&str>) -> Result<String, Status> {
    let pod_name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let names = |list: &str| -> Vec<&str> {
        pod["spec"][list]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|c| c["name"].as_str())
            .collect()
    };
    let (main, init) = (names("containers"), names("initContainers"));
    match (wanted, main.as_slice()) {
        (Some(wanted), _) if main.contains(&wanted) || init.contains(&wanted) => Ok(wanted.to_owned()),
        (Some(wanted), _) => Err(Status::bad_request(format!(
            "container {wanted} is not valid for pod {pod_name}"
        ))),
        (None, [only]) => Ok((*only).to_owned()),
        (None, many) => {
            let mut text = format!(
                "a container name must be specified for pod {pod_name}, choose one of: [{}]",
                many.join(" ")
            );
            if !init.is_empty() {
                text.extend([" or one of the init containers: [", &init.join(" "), "]"]);
            }
            Err(Status::bad_request(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_container_must_be_clear() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        assert_eq!(container(&pod, Some("i")).unwrap(), "i");
        let text = container(&pod, None).unwrap_err().message;
        assert_eq!(
            text,
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
        assert!(container(&pod, Some("x")).is_err());
    }

    #[test]
    fn options_are_checked() {
        let read = |query: &str| options(&Query::parse(query));
        let parsed = read("follow=true&tailLines=5&previous=true&sinceTime=2026-01-01T00:00:00Z").unwrap();
        assert_eq!(
            (parsed.follow, parsed.tail_lines, parsed.previous),
            (true, Some(5), true)
        );
        assert!(parsed.since.is_some());
        assert_eq!(read("tailLines=-1").unwrap_err().code, 400);
        assert_eq!(read("sinceTime=now").unwrap_err().code, 400);
        assert_eq!(
            read("sinceTime=2026-01-01T00:00:00Z&sinceSeconds=1").unwrap_err().code,
            400
        );
    }
}
