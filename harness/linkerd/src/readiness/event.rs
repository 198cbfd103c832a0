//! The Events by which a controller tells that it does not mirror a Service. They are written in the linked (target)
//! cluster, beside the Service.

use serde_json::Value;

/// A Service that is not mirrored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The link whose controller tells so.
    pub link: String,
    /// Namespace of the Service, where the Event names it.
    pub namespace: Option<String>,
    /// The Service.
    pub service: String,
    /// Why.
    pub message: String,
    /// How often it was told.
    pub count: u64,
}

/// Reads an Event; nothing when it is about something else.
#[must_use]
pub fn skipped(event: &Value) -> Option<Skipped> {
    if event["reason"] != "ServiceMirroringSkipped" || event["involvedObject"]["kind"] != "Service" {
        return None;
    }
    let component = event["source"]["component"]
        .as_str()
        .filter(|component| !component.is_empty())
        .or_else(|| event["reportingComponent"].as_str())?;
    Some(Skipped {
        link: component.strip_prefix("linkerd-service-mirror-")?.to_owned(),
        namespace: event["involvedObject"]["namespace"].as_str().map(ToOwned::to_owned),
        service: event["involvedObject"]["name"].as_str()?.to_owned(),
        message: event["message"].as_str().unwrap_or_default().to_owned(),
        count: event["count"].as_u64().unwrap_or(1),
    })
}

#[cfg(test)]
mod tests {
    use super::skipped;
    use serde_json::json;

    #[test]
    fn other_events_are_passed_over() {
        assert_eq!(
            skipped(&json!({"reason": "Scheduled", "involvedObject": {"kind": "Pod"}})),
            None
        );
        assert_eq!(
            skipped(
                &json!({"reason": "ServiceMirroringSkipped", "involvedObject": {"kind": "Service", "name": "s"},
                "source": {"component": "something-else"}})
            ),
            None
        );
        assert_eq!(skipped(&json!(null)), None);
    }
}
