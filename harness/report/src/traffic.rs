//! Background traffic over time: who served how many requests in each slice of time.

use std::collections::BTreeMap;

use meshproof_verdict::ledger::Row;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most slices that a timeline is cut into.
const SLICES: u64 = 120;
/// Most clusters that have a series of their own: a file may name as many as it has rows.
const SERIES: usize = 32;

/// A ledger over time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Timeline {
    /// Start of the first slice, scenario µs since the start of the run.
    pub start_us: u64,
    /// Length of a slice, scenario µs.
    pub slice_us: u64,
    /// Successful requests per slice by serving cluster, and requests that were not successful under `lost`.
    pub series: BTreeMap<String, Vec<u64>>,
}

/// Name of the series of requests that were not served with success.
pub const LOST: &str = "lost";
/// Name of the series of all clusters beyond the first [`SERIES`].
const OTHERS: &str = "others";

/// Cuts a ledger into slices by intended start.
#[must_use]
pub fn timeline(rows: &[Row]) -> Option<Timeline> {
    let start_us = rows.iter().map(|row| row.intended_us).min()?;
    let end_us = rows.iter().map(|row| row.intended_us).max()?;
    let length_us = end_us.saturating_sub(start_us);
    let slice_us = (length_us / SLICES).saturating_add(1).max(100_000);
    let last = usize::try_from(length_us / slice_us).unwrap_or(0);
    let mut series: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for row in rows {
        let name = match row.served_by() {
            Some(cluster) if row.succeeded() => cluster,
            _ => LOST,
        };
        let name = if series.contains_key(name) || name == LOST || series.len() < SERIES {
            name
        } else {
            OTHERS
        };
        let counts = series
            .entry(name.to_owned())
            .or_insert_with(|| vec![0; last.saturating_add(1)]);
        let slice = usize::try_from(row.intended_us.saturating_sub(start_us) / slice_us).unwrap_or(last);
        if let Some(count) = counts.get_mut(slice.min(last)) {
            *count = count.saturating_add(1);
        }
    }
    Some(Timeline {
        start_us,
        slice_us,
        series,
    })
}

#[cfg(test)]
mod tests {
    use super::{LOST, timeline};
    use meshproof_verdict::ledger::{Answered, RequestResult, Row};

    fn row(at_us: u64, cluster: Option<&str>) -> Row {
        let result = match cluster {
            Some(cluster) => RequestResult::Answered(Answered {
                status: 200,
                cluster: Some(cluster.to_owned()),
                ..Answered::default()
            }),
            None => RequestResult::Failed {
                kind: "timeout".into(),
                detail: String::new(),
            },
        };
        Row {
            id: at_us.to_string(),
            intended_us: at_us,
            started_us: at_us,
            ended_us: at_us,
            client: String::new(),
            connection: 0,
            result,
        }
    }

    #[test]
    fn every_request_is_in_exactly_one_slice() {
        let rows: Vec<Row> = (0..1000)
            .map(|n| {
                row(
                    n * 10_000,
                    if n < 500 {
                        Some("west")
                    } else if n < 600 {
                        None
                    } else {
                        Some("east")
                    },
                )
            })
            .collect();
        let timeline = timeline(&rows).unwrap();
        let total = |name: &str| timeline.series[name].iter().sum::<u64>();
        assert_eq!((total("west"), total(LOST), total("east")), (500, 100, 400));
        assert_eq!(timeline.series["west"][0], 10);
    }

    #[test]
    fn times_and_names_of_hostile_rows_are_bounded() {
        let far: Vec<Row> = [0, u64::MAX].map(|at_us| row(at_us, Some("west"))).into();
        let timeline = timeline(&far).unwrap();
        assert!(timeline.series["west"].len() <= 120);
        let many: Vec<Row> = (0..1000).map(|n| row(n, Some(&format!("c{n}")))).collect();
        let timeline = super::timeline(&many).unwrap();
        assert_eq!(timeline.series.len(), 33);
        assert_eq!(timeline.series["others"].iter().sum::<u64>(), 968);
    }

    #[test]
    fn no_requests_no_timeline() {
        assert_eq!(timeline(&[]), None);
    }
}
