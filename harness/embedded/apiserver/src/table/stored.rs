//! Columns of kinds that are stored and have no controller here, as in `k8s.io/kubernetes/pkg/printers/internalversion`.

use super::age;
use super::columns::{NONE, join, labels, list, or_none, text};
use serde_json::Value;

/// A column's name and its cell.
pub(super) type Cell = (&'static str, fn(&Value) -> String);

/// The columns between `Name` and `Age`, if the kind is one of these.
pub(super) fn columns(group: &str, plural: &str) -> Option<&'static [Cell]> {
    Some(match (group, plural) {
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations" | "validatingwebhookconfigurations") => {
            &[("Webhooks", |o| list(&o["webhooks"]).count().to_string())]
        }
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => &[
            ("Validations", |o| list(&o["spec"]["validations"]).count().to_string()),
            ("ParamKind", |o| match &o["spec"]["paramKind"] {
                Value::Null => "<unset>".into(),
                kind => format!("{}/{}", text(&kind["apiVersion"]), text(&kind["kind"])),
            }),
        ],
        ("admissionregistration.k8s.io", _) => &[
            ("PolicyName", |o| text(&o["spec"]["policyName"])),
            ("ParamRef", |o| or_unset(text(&o["spec"]["paramRef"]["name"]))),
        ],
        ("apiregistration.k8s.io", _) => &[
            ("Service", |o| match &o["spec"]["service"] {
                Value::Null => "Local".into(),
                service => format!("{}/{}", text(&service["namespace"]), text(&service["name"])),
            }),
            ("Available", |o| {
                let available = list(&o["status"]["conditions"]).find(|c| c["type"] == "Available");
                available.map_or_else(|| "Unknown".into(), |c| text(&c["status"]))
            }),
        ],
        ("batch", "cronjobs") => &[
            ("Schedule", |o| text(&o["spec"]["schedule"])),
            ("Timezone", |o| or_none(text(&o["spec"]["timeZone"]))),
            ("Suspend", |o| go_bool(&o["spec"]["suspend"])),
            ("Active", |o| list(&o["status"]["active"]).count().to_string()),
            ("Last Schedule", |o| match &o["status"]["lastScheduleTime"] {
                Value::Null => NONE.into(),
                time => age::since(time),
            }),
        ],
        ("autoscaling", _) => &[
            ("Reference", |o| {
                let target = &o["spec"]["scaleTargetRef"];
                format!("{}/{}", text(&target["kind"]), text(&target["name"]))
            }),
            ("Targets", |o| {
                let metrics = list(&o["spec"]["metrics"]).count();
                if metrics == 0 {
                    NONE.into()
                } else {
                    vec!["<unknown>"; metrics].join(", ")
                }
            }),
            ("MinPods", |o| or_unset(text(&o["spec"]["minReplicas"]))),
            ("MaxPods", |o| text(&o["spec"]["maxReplicas"])),
            ("Replicas", |o| number(&o["status"]["currentReplicas"])),
        ],
        ("networking.k8s.io", "ingresses") => &[
            ("Class", |o| or_none(text(&o["spec"]["ingressClassName"]))),
            ("Hosts", |o| {
                let hosts: Vec<String> = list(&o["spec"]["rules"])
                    .map(|rule| text(&rule["host"]))
                    .filter(|host| !host.is_empty())
                    .collect();
                if hosts.is_empty() { "*".into() } else { hosts.join(",") }
            }),
            ("Address", |o| {
                let addresses = list(&o["status"]["loadBalancer"]["ingress"]).map(|i| {
                    if i["ip"].is_null() {
                        text(&i["hostname"])
                    } else {
                        text(&i["ip"])
                    }
                });
                addresses.collect::<Vec<_>>().join(",")
            }),
            ("Ports", |o| {
                if list(&o["spec"]["tls"]).count() > 0 {
                    "80, 443".into()
                } else {
                    "80".into()
                }
            }),
        ],
        ("networking.k8s.io", "ingressclasses") => &[
            ("Controller", |o| text(&o["spec"]["controller"])),
            ("Parameters", |o| match &o["spec"]["parameters"] {
                Value::Null => NONE.into(),
                found => format!("{}/{}", text(&found["kind"]), text(&found["name"])),
            }),
        ],
        ("", "persistentvolumeclaims") => &[
            ("Status", |o| text(&o["status"]["phase"])),
            ("Volume", |o| text(&o["spec"]["volumeName"])),
            ("Capacity", |o| text(&o["status"]["capacity"]["storage"])),
            ("Access Modes", |o| join(list(&o["status"]["accessModes"]))),
            ("StorageClass", |o| text(&o["spec"]["storageClassName"])),
        ],
        ("", "persistentvolumes") => &[
            ("Capacity", |o| text(&o["spec"]["capacity"]["storage"])),
            ("Access Modes", |o| join(list(&o["spec"]["accessModes"]))),
            ("Reclaim Policy", |o| text(&o["spec"]["persistentVolumeReclaimPolicy"])),
            ("Status", |o| text(&o["status"]["phase"])),
            ("Claim", |o| match &o["spec"]["claimRef"] {
                Value::Null => String::new(),
                claim => format!("{}/{}", text(&claim["namespace"]), text(&claim["name"])),
            }),
            ("StorageClass", |o| text(&o["spec"]["storageClassName"])),
        ],
        ("", "resourcequotas") => &[
            ("Request", |o| {
                amounts(&o["spec"]["hard"], |name| !name.starts_with("limits."))
            }),
            ("Limit", |o| {
                amounts(&o["spec"]["hard"], |name| name.starts_with("limits."))
            }),
        ],
        ("", "replicationcontrollers") => &[
            ("Desired", |o| number(&o["spec"]["replicas"])),
            ("Current", |o| number(&o["status"]["replicas"])),
            ("Ready", |o| number(&o["status"]["readyReplicas"])),
        ],
        ("", "podtemplates") => &[
            ("Containers", |o| {
                join(list(&o["template"]["spec"]["containers"]).map(|c| &c["name"]))
            }),
            ("Images", |o| {
                join(list(&o["template"]["spec"]["containers"]).map(|c| &c["image"]))
            }),
            ("Pod Labels", |o| labels(&o["template"]["metadata"]["labels"])),
        ],
        ("storage.k8s.io", "storageclasses") => &[
            ("Provisioner", |o| text(&o["provisioner"])),
            ("ReclaimPolicy", |o| text(&o["reclaimPolicy"])),
            ("VolumeBindingMode", |o| text(&o["volumeBindingMode"])),
            ("AllowVolumeExpansion", |o| go_bool(&o["allowVolumeExpansion"])),
        ],
        ("scheduling.k8s.io", _) => &[
            ("Value", |o| number(&o["value"])),
            ("Global-Default", |o| go_bool(&o["globalDefault"])),
        ],
        ("node.k8s.io", _) => &[("Handler", |o| text(&o["handler"]))],
        ("certificates.k8s.io", _) => &[
            ("SignerName", |o| text(&o["spec"]["signerName"])),
            ("Requestor", |o| or_none(text(&o["spec"]["username"]))),
            ("Condition", |o| match list(&o["status"]["conditions"]).count() {
                0 => "Pending".into(),
                _ => join(list(&o["status"]["conditions"]).map(|c| &c["type"])),
            }),
        ],
        ("apps", "controllerrevisions") => &[("Revision", |o| text(&o["revision"]))],
        _ => return None,
    })
}

fn number(value: &Value) -> String {
    value.as_i64().unwrap_or(0).to_string()
}

fn go_bool(value: &Value) -> String {
    if *value == true { "True".into() } else { "False".into() }
}

fn or_unset(text: String) -> String {
    if text.is_empty() { "<unset>".into() } else { text }
}

fn amounts(hard: &Value, wanted: fn(&str) -> bool) -> String {
    let all = hard.as_object().into_iter().flatten();
    let shown = all
        .filter(|(name, _)| wanted(name))
        .map(|(name, amount)| format!("{name}: 0/{}", text(amount)));
    shown.collect::<Vec<_>>().join(", ")
}
