//! The two forms of an Event: the core group's, which is kept, and `events.k8s.io/v1`, which is made from it and back.

use serde_json::{Value, json};

/// Fields with another name in `events.k8s.io/v1`: (core, events group).
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// From the core form to the one of `events.k8s.io/v1`.
pub(crate) fn to_events_group(event: &mut Value) {
    rename(event, RENAMED.iter().copied());
    event["apiVersion"] = json!("events.k8s.io/v1");
}

/// From the form of `events.k8s.io/v1` to the core one.
pub(crate) fn to_core(event: &mut Value) {
    rename(event, RENAMED.iter().map(|&(core, group)| (group, core)));
    event["apiVersion"] = json!("v1");
}

fn rename<'a>(event: &mut Value, names: impl Iterator<Item = (&'a str, &'a str)>) {
    if let Some(fields) = event.as_object_mut() {
        for (from, to) in names {
            if let Some(value) = fields.remove(from) {
                fields.insert(to.to_owned(), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let core =
            json!({"apiVersion": "v1", "message": "m", "involvedObject": {"name": "a"}, "count": 2, "type": "Normal"});
        let mut event = core.clone();
        to_events_group(&mut event);
        assert_eq!(event["note"], "m");
        assert_eq!(event["regarding"]["name"], "a");
        to_core(&mut event);
        assert_eq!(event, core);
    }
}
