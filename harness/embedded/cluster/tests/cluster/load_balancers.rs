//! Addresses of load balancers, as clients in another cluster see them.

use meshproof_apiserver::gvr;
use serde_json::{Value, json};

use crate::support::{call, clusters, create, delete, deployment, pod_names, serve, shut_down, until, until_available};

fn address(service: &Value) -> Option<String> {
    let ip = service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str()?;
    Some(ip.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_load_balancer_takes_nothing_from_the_first() {
    let clusters = clusters(2).await;
    let (west, east) = (clusters.west(), clusters.east());
    serve(east, "gateway", 1, "LoadBalancer").await;
    create(west, &gvr::DEPLOYMENTS, deployment("west", "shopper", 1));
    until_available(west, "shopper", 1).await;
    let given = until(east, &gvr::SERVICES, "gateway", "an address", |s| address(s).is_some()).await;
    let gateway = address(&given).unwrap();
    let shopper = pod_names(west, "shopper").remove(0);
    let answered = async || {
        let outcomes = call(west, &shopper, &gateway, 80, 3).await;
        assert!(
            outcomes
                .iter()
                .all(|o| o["answered"]["server"]["workload"] == "gateway"),
            "{outcomes:?}"
        );
    };
    crate::support::until_answered(west, &shopper, &gateway, 80).await;
    answered().await;
    let other = json!({"metadata": {"name": "other"}, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}});
    create(east, &gvr::SERVICES, other);
    let other = until(east, &gvr::SERVICES, "other", "an address", |s| address(s).is_some()).await;
    assert_ne!(address(&other).unwrap(), gateway);
    answered().await;
    // Also one that says it had the gateway's address.
    let thief = json!({"metadata": {"name": "thief"}, "spec": {"type": "LoadBalancer", "loadBalancerClass": "example.com/none",
        "ports": [{"port": 80}]}});
    create(east, &gvr::SERVICES, thief);
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": gateway}]}}});
    let patch = meshproof_apiserver::store::Patch::Merge(status);
    east.store()
        .patch_status(&gvr::SERVICES, Some("demo"), "thief", &patch)
        .unwrap();
    answered().await;
    for name in ["other", "thief"] {
        delete(east, &gvr::SERVICES, name);
    }
    answered().await;
    shut_down(clusters).await;
}
