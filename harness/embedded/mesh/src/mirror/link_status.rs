//! How conditions end in `Link.status`: pure merging.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::link::{LinkCondition, ObjectRef, ServiceStatus};

/// Who writes these entries.
const CONTROLLER_NAME: &str = "linkerd.io/service-mirror";

/// What became of a remote Service.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    /// It is mirrored by this local Service.
    Mirrored {
        /// Name of the mirror.
        local: String,
    },
    /// Its namespace does not exist in this cluster.
    MissingNamespace,
    /// Something failed.
    Error(String),
    /// The model does not know what to do with it.
    NotModelled(String),
}

impl Outcome {
    fn condition(&self, namespace: &str, now: Timestamp) -> LinkCondition {
        let (status, reason, message, local_ref) = match self {
            Self::Mirrored { local } => ("True", "Mirrored", "", Some(ObjectRef::service(namespace, local))),
            Self::MissingNamespace => ("False", "MissingNamespace", "Namespace does not exist", None),
            Self::Error(message) => ("False", "Error", message.as_str(), None),
            Self::NotModelled(message) => ("False", "InvalidService", message.as_str(), None),
        };
        LinkCondition {
            type_: "Mirrored".to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: Time(now),
            local_ref,
        }
    }
}

fn is_same(a: &LinkCondition, b: &LinkCondition) -> bool {
    let local = |condition: &LinkCondition| {
        condition
            .local_ref
            .as_ref()
            .map(|local| (local.namespace.clone(), local.name.clone()))
    };
    a.status == b.status && a.reason == b.reason && a.message == b.message && local(a) == local(b)
}

fn is_about(status: &ServiceStatus, namespace: &str, name: &str) -> bool {
    status.remote_ref.name == name && status.remote_ref.namespace == namespace
}

/// Whether there is an entry for a remote Service.
pub(super) fn contains(statuses: &[ServiceStatus], namespace: &str, name: &str) -> bool {
    statuses.iter().any(|status| is_about(status, namespace, name))
}

/// Whether the entry for a remote Service says that it is mirrored.
pub(super) fn is_mirrored(statuses: &[ServiceStatus], namespace: &str, name: &str) -> bool {
    statuses
        .iter()
        .filter(|status| is_about(status, namespace, name))
        .any(|status| matches!(status.conditions.as_slice(), [condition] if condition.status == "True"))
}

/// The entries with `outcome` for one remote Service, or `None` when they say so already.
pub(super) fn with(
    statuses: &[ServiceStatus],
    (namespace, name): (&str, &str),
    outcome: &Outcome,
    now: Timestamp,
) -> Option<Vec<ServiceStatus>> {
    let condition = outcome.condition(namespace, now);
    let mut statuses = statuses.to_vec();
    match statuses.iter_mut().find(|status| is_about(status, namespace, name)) {
        Some(status) if matches!(status.conditions.as_slice(), [old] if is_same(old, &condition)) => {
            return None;
        }
        Some(status) => status.conditions = vec![condition],
        None => statuses.push(ServiceStatus {
            controller_name: CONTROLLER_NAME.to_owned(),
            remote_ref: ObjectRef::service(namespace, name),
            conditions: vec![condition],
        }),
    }
    Some(statuses)
}

/// The entries without one remote Service, or `None` when there is none for it.
pub(super) fn without(statuses: &[ServiceStatus], (namespace, name): (&str, &str)) -> Option<Vec<ServiceStatus>> {
    contains(statuses, namespace, name).then(|| {
        statuses
            .iter()
            .filter(|status| !is_about(status, namespace, name))
            .cloned()
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::{Outcome, contains, is_mirrored, with, without};
    use jiff::Timestamp;

    const REMOTE: (&str, &str) = ("lab", "echo");

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn mirrored() -> Outcome {
        Outcome::Mirrored {
            local: "echo-east".into(),
        }
    }

    #[test]
    fn an_entry_has_the_recorded_shape() {
        let statuses = with(&[], REMOTE, &mirrored(), at(1_795_227_641)).unwrap();
        assert_eq!(
            serde_json::to_value(&statuses).unwrap(),
            serde_json::json!([{
                "controllerName": "linkerd.io/service-mirror",
                "remoteRef": {"kind": "Service", "name": "echo", "namespace": "lab"},
                "conditions": [{
                    "lastTransitionTime": "2026-11-21T02:20:41Z",
                    "localRef": {"kind": "Service", "name": "echo-east", "namespace": "lab"},
                    "message": "",
                    "reason": "Mirrored",
                    "status": "True",
                    "type": "Mirrored"
                }]
            }])
        );
    }

    #[test]
    fn an_entry_is_replaced_when_it_says_something_else() {
        let first = with(&[], REMOTE, &Outcome::MissingNamespace, at(1)).unwrap();
        assert!(with(&first, REMOTE, &Outcome::MissingNamespace, at(2)).is_none());
        let second = with(&first, REMOTE, &mirrored(), at(3)).unwrap();
        assert_eq!(second.len(), 1);
        assert_eq!(second[0].conditions.len(), 1);
        assert_eq!(second[0].conditions[0].reason, "Mirrored");
        let third = with(&second, REMOTE, &Outcome::Error("denied".into()), at(4)).unwrap();
        assert!(is_mirrored(&second, "lab", "echo") && !is_mirrored(&second, "lab", "other"));
        assert!(!is_mirrored(&third, "lab", "echo"));
        assert_eq!(third[0].conditions[0].message, "denied");
        assert!(third[0].conditions[0].local_ref.is_none());
    }

    #[test]
    fn entries_of_others_stay() {
        let one = with(&[], REMOTE, &mirrored(), at(1)).unwrap();
        let two = with(&one, ("shop", "echo"), &Outcome::MissingNamespace, at(1)).unwrap();
        let left = without(&two, REMOTE).unwrap();
        assert!(contains(&left, "shop", "echo") && !contains(&left, "lab", "echo"));
        assert!(without(&left, REMOTE).is_none());
    }
}
