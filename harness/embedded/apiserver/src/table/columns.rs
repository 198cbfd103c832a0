//! The columns of each kind, as in `k8s.io/kubernetes/pkg/printers/internalversion`.

use super::{Column, age, json_path, stored};
use crate::LabelSelector;
use crate::resource::ResourceType;
use serde_json::{Value, json};

pub(super) const NONE: &str = "<none>";

/// Names of the columns; those behind `|` are shown only with `-o wide`.
fn spec(resource: &ResourceType) -> Option<&'static str> {
    Some(match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => "Name,Ready,Status,Restarts,Age|IP,Node,Nominated Node,Readiness Gates",
        ("", "services") => "Name,Type,Cluster-IP,External-IP,Port(s),Age|Selector",
        ("", "namespaces") => "Name,Status,Age",
        ("", "nodes") => {
            "Name,Status,Roles,Age,Version|Internal-IP,External-IP,OS-Image,Kernel-Version,Container-Runtime"
        }
        ("", "endpoints") => "Name,Endpoints,Age",
        ("", "configmaps") => "Name,Data,Age",
        ("", "secrets") => "Name,Type,Data,Age",
        ("", "serviceaccounts") => "Name,Secrets,Age",
        ("" | "events.k8s.io", "events") => {
            "Last Seen,Type,Reason,Object,Message|Subobject,Source,First Seen,Count,Name"
        }
        ("apps", "deployments") => "Name,Ready,Up-to-date,Available,Age|Containers,Images,Selector",
        ("apps", "replicasets") => "Name,Desired,Current,Ready,Age|Containers,Images,Selector",
        ("apps", "statefulsets") => "Name,Ready,Age|Containers,Images",
        ("apps", "daemonsets") => {
            "Name,Desired,Current,Ready,Up-to-date,Available,Node Selector,Age|Containers,Images,Selector"
        }
        ("batch", "jobs") => "Name,Status,Completions,Duration,Age|Containers,Images,Selector",
        ("discovery.k8s.io", "endpointslices") => "Name,AddressType,Ports,Endpoints,Age",
        ("coordination.k8s.io", "leases") => "Name,Holder,Age",
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") => "Name,Created At",
        ("rbac.authorization.k8s.io", _) => "Name,Role,Age|Users,Groups,ServiceAccounts",
        ("apiextensions.k8s.io", _) => "Name,Created At",
        ("policy", "poddisruptionbudgets") => "Name,Min Available,Max Unavailable,Allowed Disruptions,Age",
        ("networking.k8s.io", "networkpolicies") => "Name,Pod-Selector,Age",
        ("", "limitranges") => "Name,Created At",
        _ => return None,
    })
}

/// The heads of a type's columns.
pub(super) fn heads(resource: &ResourceType, version: &str) -> Vec<Column> {
    let column = |name: &str, kind: &str, priority| Column {
        name: name.into(),
        kind: kind.into(),
        priority,
    };
    if let Some(spec) = spec(resource) {
        let (plain, wide) = spec.split_once('|').unwrap_or((spec, ""));
        let of = |list: &'static str, priority| {
            list.split(',').filter(|n| !n.is_empty()).map(move |n| Column {
                name: n.into(),
                kind: "string".into(),
                priority,
            })
        };
        return of(plain, 0).chain(of(wide, 1)).collect();
    }
    let mut columns = vec![column("Name", "string", 0)];
    if let Some(between) = stored_columns(resource) {
        columns.extend(between.iter().map(|(name, _)| column(name, "string", 0)));
        columns.push(column("Age", "string", 0));
        return columns;
    }
    let custom = custom_columns(resource, version);
    if custom.is_empty() {
        columns.push(column("Age", "date", 0));
    }
    for definition in custom {
        let text = |field: &str| definition[field].as_str().unwrap_or_default();
        columns.push(column(
            text("name"),
            text("type"),
            definition["priority"].as_i64().unwrap_or(0),
        ));
    }
    columns
}

fn stored_columns(resource: &ResourceType) -> Option<&'static [stored::Cell]> {
    if resource.custom {
        return None;
    }
    stored::columns(&resource.group, &resource.plural)
}

fn custom_columns<'a>(resource: &'a ResourceType, version: &str) -> &'a [Value] {
    resource.served(version).map_or(&[], |v| v.columns.as_slice())
}

/// The cells of an object's row, in the order of the heads.
pub(super) fn cells(resource: &ResourceType, version: &str, object: &Value) -> Vec<Value> {
    if spec(resource).is_none() {
        return custom_cells(resource, version, object);
    }
    heads(resource, version)
        .iter()
        .map(|column| cell(resource, &column.name, object))
        .collect()
}

fn custom_cells(resource: &ResourceType, version: &str, object: &Value) -> Vec<Value> {
    let mut cells = vec![object["metadata"]["name"].clone()];
    if let Some(between) = stored_columns(resource) {
        cells.extend(between.iter().map(|(_, cell)| json!(cell(object))));
        cells.push(json!(age::since(&object["metadata"]["creationTimestamp"])));
        return cells;
    }
    let columns = custom_columns(resource, version);
    if columns.is_empty() {
        cells.push(json!(age::since(&object["metadata"]["creationTimestamp"])));
    }
    for column in columns {
        let found = json_path::find(object, column["jsonPath"].as_str().unwrap_or_default());
        let cell = match (column["type"].as_str(), found.as_slice()) {
            (_, []) => Value::Null,
            (Some("date"), [time, ..]) => json!(age::since(time)),
            (Some("string"), values) => {
                let text = |v: &&Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
                json!(values.iter().map(text).collect::<Vec<_>>().join(","))
            }
            (_, [value, ..]) => (*value).clone(),
        };
        cells.push(cell);
    }
    cells
}

fn cell(resource: &ResourceType, column: &str, object: &Value) -> Value {
    let metadata = &object["metadata"];
    match column {
        "Name" => return metadata["name"].clone(),
        "Age" => return json!(age::since(&metadata["creationTimestamp"])),
        "Created At" => return metadata["creationTimestamp"].clone(),
        _ => {}
    }
    let text = match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => pod(column, object),
        ("", "services") => service(column, object),
        ("", "nodes") => node(column, object),
        ("apps" | "batch", _) => workload(resource, column, object),
        ("" | "events.k8s.io", "events") => event(column, object),
        ("rbac.authorization.k8s.io", _) => binding(column, object),
        _ => other(column, object),
    };
    json!(text)
}

pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

pub(super) fn or_none(text: String) -> String {
    if text.is_empty() { NONE.into() } else { text }
}

pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

pub(super) fn join<'a>(parts: impl Iterator<Item = &'a Value>) -> String {
    parts.map(text).collect::<Vec<_>>().join(",")
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

pub(super) fn labels(value: &Value) -> String {
    let pairs = value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", text(v)));
    or_none(pairs.collect::<Vec<_>>().join(","))
}

fn pod(column: &str, pod: &Value) -> String {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    // Native sidecars are init containers that stay: they count as containers do.
    let sidecars = || list(&spec["initContainers"]).filter(|c| c["restartPolicy"] == "Always");
    let sidecar_statuses = || {
        let statuses = list(&status["initContainerStatuses"]);
        statuses.filter(move |s| sidecars().any(|c| c["name"] == s["name"]))
    };
    let containers = || list(&status["containerStatuses"]).chain(sidecar_statuses());
    match column {
        "Ready" => {
            let ready = list(&status["containerStatuses"])
                .filter(|c| c["ready"] == true)
                .count();
            let sidecars_ready = sidecar_statuses()
                .filter(|c| c["ready"] == true && c["started"] == true)
                .count();
            let total = list(&spec["containers"]).count() + sidecars().count();
            format!("{}/{total}", ready + sidecars_ready)
        }
        "Status" => pod_status(pod),
        "Restarts" => containers().map(|c| count(&c["restartCount"])).sum::<u64>().to_string(),
        "IP" => or_none(text(&status["podIP"])),
        "Node" => or_none(text(&spec["nodeName"])),
        "Nominated Node" => or_none(text(&status["nominatedNodeName"])),
        "Readiness Gates" => {
            let gates: Vec<&Value> = list(&spec["readinessGates"]).collect();
            if gates.is_empty() {
                return NONE.into();
            }
            let holds = |gate: &&&Value| {
                list(&status["conditions"]).any(|c| c["type"] == gate["conditionType"] && c["status"] == "True")
            };
            format!("{}/{}", gates.iter().filter(holds).count(), gates.len())
        }
        _ => String::new(),
    }
}

fn pod_status(pod: &Value) -> String {
    let status = &pod["status"];
    let mut reason = match text(&status["reason"]) {
        reason if reason.is_empty() => text(&status["phase"]),
        reason => reason,
    };
    let total = list(&pod["spec"]["initContainers"]).count();
    let mut initialising = false;
    for (i, container) in list(&status["initContainerStatuses"]).enumerate() {
        let state = &container["state"];
        if state["terminated"]["exitCode"] == 0 || (container["started"] == true && state["running"].is_object()) {
            continue;
        }
        reason = match (state["terminated"].is_object(), text(&state["waiting"]["reason"])) {
            (true, _) => format!("Init:{}", or_none(text(&state["terminated"]["reason"]))),
            (false, why) if !why.is_empty() && why != "PodInitializing" => format!("Init:{why}"),
            _ => format!("Init:{i}/{total}"),
        };
        initialising = true;
        break;
    }
    if !initialising {
        for container in list(&status["containerStatuses"]) {
            let state = &container["state"];
            let why = [&state["waiting"]["reason"], &state["terminated"]["reason"]].map(text);
            if let Some(why) = why.into_iter().find(|w| !w.is_empty()) {
                reason = why;
            } else if state["terminated"].is_object() {
                reason = format!("ExitCode:{}", state["terminated"]["exitCode"]);
            }
        }
    }
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return "Terminating".into();
    }
    reason
}

fn service(column: &str, service: &Value) -> String {
    let spec = &service["spec"];
    match column {
        "Type" => text(&spec["type"]),
        "Cluster-IP" => or_none(text(&spec["clusterIP"])),
        "External-IP" => {
            let ingress = list(&service["status"]["loadBalancer"]["ingress"]);
            let ingress = ingress.map(|i| {
                if i["ip"].is_null() {
                    text(&i["hostname"])
                } else {
                    text(&i["ip"])
                }
            });
            let ingress = ingress.collect::<Vec<_>>().join(",");
            let external = join(list(&spec["externalIPs"]));
            match spec["type"].as_str() {
                Some("ExternalName") => text(&spec["externalName"]),
                Some("LoadBalancer") if ingress.is_empty() && external.is_empty() => "<pending>".into(),
                Some("LoadBalancer") if !ingress.is_empty() => ingress,
                _ => or_none(external),
            }
        }
        "Port(s)" => {
            let ports = list(&spec["ports"]).map(|p| {
                let node_port = if p["nodePort"].is_null() {
                    String::new()
                } else {
                    format!(":{}", p["nodePort"])
                };
                format!("{}{node_port}/{}", p["port"], text(&p["protocol"]))
            });
            or_none(ports.collect::<Vec<_>>().join(","))
        }
        "Selector" => labels(&spec["selector"]),
        _ => String::new(),
    }
}

fn node(column: &str, node: &Value) -> String {
    let status = &node["status"];
    let address = |kind: &str| {
        let found = list(&status["addresses"])
            .find(|a| a["type"] == kind)
            .map(|a| text(&a["address"]));
        or_none(found.unwrap_or_default())
    };
    match column {
        "Status" => {
            let ready = list(&status["conditions"]).find(|c| c["type"] == "Ready");
            let mut shown = match ready.map(|c| &c["status"]) {
                Some(s) if s == "True" => "Ready".to_owned(),
                Some(_) => "NotReady".to_owned(),
                None => "Unknown".to_owned(),
            };
            if node["spec"]["unschedulable"] == true {
                shown.push_str(",SchedulingDisabled");
            }
            shown
        }
        "Roles" => {
            let labels = node["metadata"]["labels"].as_object();
            let roles = labels
                .into_iter()
                .flatten()
                .filter_map(|(k, _)| k.strip_prefix("node-role.kubernetes.io/"));
            or_none(roles.collect::<Vec<_>>().join(","))
        }
        "Version" => text(&status["nodeInfo"]["kubeletVersion"]),
        "Internal-IP" => address("InternalIP"),
        "External-IP" => address("ExternalIP"),
        "OS-Image" => text(&status["nodeInfo"]["osImage"]),
        "Kernel-Version" => text(&status["nodeInfo"]["kernelVersion"]),
        "Container-Runtime" => text(&status["nodeInfo"]["containerRuntimeVersion"]),
        _ => String::new(),
    }
}

fn workload(resource: &ResourceType, column: &str, object: &Value) -> String {
    let (spec, status) = (&object["spec"], &object["status"]);
    let daemon = resource.plural == "daemonsets";
    match column {
        "Ready" if matches!(resource.plural.as_str(), "deployments" | "statefulsets") => {
            format!("{}/{}", count(&status["readyReplicas"]), count(&spec["replicas"]))
        }
        "Ready" if daemon => count(&status["numberReady"]).to_string(),
        "Ready" => count(&status["readyReplicas"]).to_string(),
        "Up-to-date" if daemon => count(&status["updatedNumberScheduled"]).to_string(),
        "Up-to-date" => count(&status["updatedReplicas"]).to_string(),
        "Available" if daemon => count(&status["numberAvailable"]).to_string(),
        "Available" => count(&status["availableReplicas"]).to_string(),
        "Desired" if daemon => count(&status["desiredNumberScheduled"]).to_string(),
        "Desired" => count(&spec["replicas"]).to_string(),
        "Current" if daemon => count(&status["currentNumberScheduled"]).to_string(),
        "Current" => count(&status["replicas"]).to_string(),
        "Node Selector" => labels(&spec["template"]["spec"]["nodeSelector"]),
        "Status" => {
            let done = |kind: &str| list(&status["conditions"]).any(|c| c["type"] == kind && c["status"] == "True");
            let shown = if done("Complete") {
                "Complete"
            } else if done("Failed") {
                "Failed"
            } else {
                "Running"
            };
            shown.into()
        }
        "Completions" => format!("{}/{}", count(&status["succeeded"]), count(&spec["completions"])),
        "Duration" => {
            let time = |field: &str| status[field].as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok());
            match (time("startTime"), time("completionTime")) {
                (Some(start), Some(end)) => age::human(end.as_second() - start.as_second()),
                (Some(_), None) => age::since(&status["startTime"]),
                (None, _) => String::new(),
            }
        }
        "Containers" => join(list(&spec["template"]["spec"]["containers"]).map(|c| &c["name"])),
        "Images" => join(list(&spec["template"]["spec"]["containers"]).map(|c| &c["image"])),
        "Selector" => LabelSelector::from_object(&spec["selector"]).map_or_else(|_| NONE.into(), |s| s.to_text()),
        _ => String::new(),
    }
}

fn event(column: &str, event: &Value) -> String {
    // Both forms of events are printed.
    let either = |core: &str, group: &str| {
        if event[core].is_null() {
            event[group].clone()
        } else {
            event[core].clone()
        }
    };
    let time = |candidates: &[Value]| {
        candidates
            .iter()
            .find(|t| t.is_string())
            .map_or_else(|| "<unknown>".into(), age::since)
    };
    let object = either("involvedObject", "regarding");
    let source = either("source", "deprecatedSource");
    match column {
        "Last Seen" => time(&[
            event["series"]["lastObservedTime"].clone(),
            either("lastTimestamp", "deprecatedLastTimestamp"),
            event["eventTime"].clone(),
        ]),
        "First Seen" => time(&[
            either("firstTimestamp", "deprecatedFirstTimestamp"),
            event["eventTime"].clone(),
        ]),
        "Type" => text(&event["type"]),
        "Reason" => text(&event["reason"]),
        "Object" => format!("{}/{}", text(&object["kind"]).to_lowercase(), text(&object["name"])),
        "Message" => text(&either("message", "note")).trim().to_owned(),
        "Subobject" => text(&object["fieldPath"]),
        "Source" => {
            let component = text(&source["component"]);
            let component = if component.is_empty() {
                text(&either("reportingComponent", "reportingController"))
            } else {
                component
            };
            match text(&source["host"]) {
                host if host.is_empty() => component,
                host => format!("{component}, {host}"),
            }
        }
        "Count" => {
            let n = either("count", "deprecatedCount");
            let n = if event["series"]["count"].is_null() {
                n
            } else {
                event["series"]["count"].clone()
            };
            n.as_u64().unwrap_or(1).max(1).to_string()
        }
        _ => String::new(),
    }
}

fn binding(column: &str, binding: &Value) -> String {
    let subjects = |kind: &str| {
        let names = list(&binding["subjects"])
            .filter(|s| s["kind"] == kind)
            .map(|s| match text(&s["namespace"]) {
                namespace if namespace.is_empty() => text(&s["name"]),
                namespace => format!("{namespace}/{}", text(&s["name"])),
            });
        names.collect::<Vec<_>>().join(", ")
    };
    match column {
        "Role" => format!(
            "{}/{}",
            text(&binding["roleRef"]["kind"]),
            text(&binding["roleRef"]["name"])
        ),
        "Users" => subjects("User"),
        "Groups" => subjects("Group"),
        "ServiceAccounts" => subjects("ServiceAccount"),
        _ => String::new(),
    }
}

fn other(column: &str, object: &Value) -> String {
    let size = |field: &str| object[field].as_object().map_or(0, serde_json::Map::len);
    let spec = &object["spec"];
    let or_na = |value: &Value| if value.is_null() { "N/A".to_owned() } else { text(value) };
    match column {
        "Status" => text(&object["status"]["phase"]),
        "Type" => text(&object["type"]),
        "Data" => (size("data") + size("binaryData")).to_string(),
        "Secrets" => list(&object["secrets"]).count().to_string(),
        "Holder" => text(&spec["holderIdentity"]),
        "Endpoints" if object["endpoints"].is_array() || object["addressType"].is_string() => {
            let addresses = list(&object["endpoints"]).flat_map(|e| list(&e["addresses"]));
            shortened(addresses.map(text).collect(), "<unset>")
        }
        "Endpoints" => {
            let pairs = list(&object["subsets"]).flat_map(|subset| {
                list(&subset["addresses"]).flat_map(move |address| {
                    let ports: Vec<&Value> = list(&subset["ports"]).collect();
                    if ports.is_empty() {
                        return vec![text(&address["ip"])];
                    }
                    ports
                        .iter()
                        .map(|p| format!("{}:{}", text(&address["ip"]), p["port"]))
                        .collect()
                })
            });
            shortened(pairs.collect(), NONE)
        }
        "AddressType" => text(&object["addressType"]),
        "Ports" => shortened(list(&object["ports"]).map(|p| text(&p["port"])).collect(), "<unset>"),
        "Min Available" => or_na(&spec["minAvailable"]),
        "Max Unavailable" => or_na(&spec["maxUnavailable"]),
        "Allowed Disruptions" => count(&object["status"]["disruptionsAllowed"]).to_string(),
        "Pod-Selector" => {
            LabelSelector::from_object(&spec["podSelector"]).map_or_else(|_| NONE.into(), |s| or_none(s.to_text()))
        }
        _ => String::new(),
    }
}

/// At most three parts, then how many more there are.
fn shortened(parts: Vec<String>, empty: &str) -> String {
    match parts.len() {
        0 => empty.into(),
        1..=3 => parts.join(","),
        more => format!("{} + {} more...", parts[..3].join(","), more - 3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gvr;
    use crate::resource::Registry;
    use rstest::rstest;

    fn row(gvr: &crate::Gvr, object: &Value) -> Vec<String> {
        let resource = Registry::built_in().lookup(gvr).unwrap();
        cells(&resource, &gvr.version, object).iter().map(text).collect()
    }

    #[test]
    fn pods() {
        let pod = json!({"metadata": {"name": "web"}, "spec": {"nodeName": "n1", "containers": [{}, {}]},
            "status": {"phase": "Running", "podIP": "10.0.0.9", "containerStatuses": [
                {"ready": true, "restartCount": 2, "state": {"running": {}}},
                {"ready": false, "restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}});
        assert_eq!(
            row(&gvr::PODS, &pod),
            [
                "web",
                "1/2",
                "CrashLoopBackOff",
                "3",
                "<unknown>",
                "10.0.0.9",
                "n1",
                "<none>",
                "<none>"
            ]
        );
    }

    #[test]
    fn services() {
        let service = json!({"metadata": {"name": "web"}, "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "selector": {"a": "b"},
            "ports": [{"port": 80, "nodePort": 30001, "protocol": "TCP"}]}, "status": {"loadBalancer": {}}});
        assert_eq!(
            row(&gvr::SERVICES, &service),
            [
                "web",
                "LoadBalancer",
                "10.0.0.1",
                "<pending>",
                "80:30001/TCP",
                "<unknown>",
                "a=b"
            ]
        );
    }

    #[rstest]
    #[case(json!({"status": {"phase": "Pending"}}), "Pending")]
    #[case(json!({"status": {"phase": "Running"}, "metadata": {"deletionTimestamp": "x"}}), "Terminating")]
    #[case(json!({"spec": {"initContainers": [{}, {}]}, "status": {"phase": "Pending", "initContainerStatuses": [{"state": {"running": {}}}]}}), "Init:0/2")]
    #[case(json!({"status": {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]}}), "ExitCode:3")]
    fn pod_states(#[case] pod: Value, #[case] expected: &str) {
        assert_eq!(pod_status(&pod), expected);
    }

    #[test]
    fn every_head_has_a_cell() {
        for resource in Registry::built_in().all() {
            let version = resource.storage_version();
            let object = json!({"metadata": {"name": "a"}});
            assert_eq!(heads(resource, version).len(), cells(resource, version, &object).len());
        }
    }
}
