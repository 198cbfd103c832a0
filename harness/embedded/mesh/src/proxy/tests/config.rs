//! What a proxy takes from its environment.

use std::sync::Arc;

use rstest::rstest;
use serde_json::json;

use crate::proxy::{Config, PROFILE_SUFFIXES};

#[rstest]
#[case(None, "cluster.local")]
#[case(Some(""), "cluster.local")]
#[case(Some("svc.east.example.com."), "east.example.com")]
fn the_clusters_domain_is_the_one_that_the_injector_tells(#[case] suffixes: Option<&str>, #[case] domain: &str) {
    let variables = suffixes.map(|suffixes| (PROFILE_SUFFIXES.to_owned(), suffixes.to_owned()));
    let config = Config::from_pod("east", Arc::new(json!({})), &variables.into_iter().collect());
    assert_eq!(config.cluster_domain, domain);
    assert_eq!(config.authority("lab", "echo", 80), format!("echo.lab.svc.{domain}:80"));
}
