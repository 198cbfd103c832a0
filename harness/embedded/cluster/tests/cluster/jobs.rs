//! Jobs: run to their end, or failed in words.

use meshproof_apiserver::gvr;
use serde_json::{Value, json};

use crate::support::{all, clusters, create, serve, shut_down, until, until_all};

fn job(name: &str, image: &str, args: &[&str]) -> Value {
    json!({"metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": image, "args": args}],
    }}}})
}

fn condition<'a>(job: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = job["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == kind)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_of_a_known_image_ends_as_its_program_does() {
    let clusters = clusters(1).await;
    let west = clusters.west();
    serve(west, "store", 1, "ClusterIP").await;
    create(west, &gvr::JOBS, job("good", "meshproof/agent", &["call", "store:80"]));
    let done = until(west, &gvr::JOBS, "good", "complete", |job| {
        condition(job, "Complete").is_some()
    })
    .await;
    assert_eq!(done["status"]["succeeded"], 1);
    assert!(
        done["status"]["completionTime"].is_string() && done["status"]["active"].is_null(),
        "{done}"
    );
    create(west, &gvr::JOBS, job("bad", "meshproof/agent", &["call", "store:81"]));
    let failed = until(west, &gvr::JOBS, "bad", "failed", |job| {
        condition(job, "Failed").is_some()
    })
    .await;
    assert_eq!(condition(&failed, "Failed").unwrap()["reason"], "BackoffLimitExceeded");
    let mut short = job("short", "meshproof/agent", &["call", "store:80"]);
    short["spec"]["ttlSecondsAfterFinished"] = json!(0);
    create(west, &gvr::JOBS, short);
    until_all(west, &gvr::JOBS, "", "removed", |jobs| {
        jobs.iter().all(|job| job["metadata"]["name"] != "short")
    })
    .await;
    shut_down(clusters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_can_never_end_fails_and_says_why() {
    let clusters = clusters(1).await;
    let west = clusters.west();
    create(west, &gvr::JOBS, job("hook", "example.com/hooks/metadata:v1", &[]));
    let failed = until(west, &gvr::JOBS, "hook", "failed", |job| {
        condition(job, "Failed").is_some()
    })
    .await;
    let told = condition(&failed, "Failed").unwrap();
    let why = "unsupported: image example.com/hooks/metadata:v1 of container c (no program of the embedded \
               cluster stands for it)";
    assert_eq!(
        (&told["reason"], &told["message"]),
        (&json!("Unsupported"), &json!(why))
    );
    until_all(west, &gvr::EVENTS, "", "told", |events| {
        events
            .iter()
            .any(|event| event["message"] == why && event["type"] == "Warning")
    })
    .await;
    assert!(all(west, &gvr::PODS, "").is_empty());
    shut_down(clusters).await;
}
