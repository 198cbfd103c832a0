//! `linkerd multicluster gateways -o json`.

use std::time::Duration;

use serde::Deserialize;

/// A linked cluster's gateway as its controller sees it. Links without a gateway are not listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// The linked cluster.
    pub cluster: String,
    /// Whether probes reach it.
    pub alive: bool,
    /// Services that are mirrored from there, flat ones included.
    pub services: u64,
    /// Latency of the last probe, rounded to milliseconds; nothing for a gateway that is not alive (the command goes on
    /// printing the last value then).
    pub latency: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    cluster_name: String,
    alive: bool,
    number_of_services: u64,
    latency: Option<u64>,
}

/// Reads what the command printed, sorted by cluster: its own order is random.
///
/// # Errors
/// What is not as expected, with its place.
pub fn parse(stdout: &str) -> Result<Vec<Gateway>, String> {
    let rows: Option<Vec<Row>> =
        serde_json::from_str(stdout).map_err(|error| format!("gateways in JSON were expected: {error}"))?;
    let mut gateways: Vec<Gateway> = rows
        .unwrap_or_default()
        .into_iter()
        .map(|row| Gateway {
            latency: row.latency.filter(|_| row.alive).map(Duration::from_millis),
            cluster: row.cluster_name,
            alive: row.alive,
            services: row.number_of_services,
        })
        .collect();
    gateways.sort_by(|one, other| one.cluster.cmp(&other.cluster));
    Ok(gateways)
}

#[cfg(test)]
mod tests {
    use super::parse;
    use proptest::prelude::*;

    const PAGE: &str = r#"[{"clusterName": "west", "alive": true, "numberOfServices": 3, "latency": null},
        {"clusterName": "east", "alive": false, "numberOfServices": 8, "latency": 5}]"#;

    #[test]
    fn a_dead_gateway_has_no_latency() {
        let gateways = parse(PAGE).unwrap();
        assert_eq!((gateways[0].cluster.as_str(), gateways[0].latency), ("east", None));
        assert_eq!((gateways[1].cluster.as_str(), gateways[1].services), ("west", 3));
        assert!(parse("null").unwrap().is_empty());
        assert!(parse("CLUSTER  ALIVE").is_err());
    }

    proptest! {
        #[test]
        fn no_change_makes_it_panic(at in 0..PAGE.len(), with in "[\\x00-\\x7f]{0,4}", cut in 0..8_usize) {
            let end = (at + cut).min(PAGE.len());
            let _ = parse(&format!("{}{with}{}", &PAGE[..at], &PAGE[end..]));
        }
    }
}
