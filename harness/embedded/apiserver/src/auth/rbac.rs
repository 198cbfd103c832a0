//! Decisions from Role, ClusterRole and binding objects, as `k8s.io/kubernetes/pkg/registry/rbac/validation` makes them.

use super::token::UserInfo;
use crate::Store;
use crate::resource::StorageKey;
use crate::store::State;
use serde_json::{Value, json};
use std::sync::Arc;

const GROUP: &str = "rbac.authorization.k8s.io";

/// What someone wants to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Attributes {
    pub(crate) verb: String,
    pub(crate) group: String,
    /// Empty for a path that is no resource.
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// The path, when there is no resource.
    pub(crate) path: String,
}

impl Attributes {
    /// `pods/log`
    fn combined_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    /// The refusal in the words of Kubernetes.
    pub(crate) fn refusal(&self, user: &UserInfo) -> crate::Status {
        if self.resource.is_empty() {
            let text = format!(
                "forbidden: User \"{}\" cannot {} path \"{}\"",
                user.name, self.verb, self.path
            );
            return crate::Status::forbidden_path(text);
        }
        let what = self.combined_resource();
        let scope = if self.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace \"{}\"", self.namespace)
        };
        let why = format!(
            "User \"{}\" cannot {} resource \"{what}\" in API group \"{}\" {scope}",
            user.name, self.verb, self.group
        );
        crate::Status::forbidden(&self.group, &self.resource, &self.name, &why)
    }
}

/// Whether the user may.
pub(crate) fn allowed(store: &Store, user: &UserInfo, attributes: &Attributes) -> bool {
    user.is_master()
        || rules_for(&store.lock(), user, &attributes.namespace)
            .iter()
            .any(|rule| covers(rule, attributes))
}

/// All rules that bind a user in a namespace (empty: only those of the whole cluster).
pub(crate) fn rules_for(state: &State, user: &UserInfo, namespace: &str) -> Vec<Value> {
    let mut rules = Vec::new();
    let objects = |resource: &str| -> Vec<Arc<Value>> {
        state
            .table(&StorageKey::new(GROUP, resource))
            .into_iter()
            .flat_map(|t| t.objects.values().cloned())
            .collect()
    };
    let mut add = |role: Option<&Arc<Value>>| {
        rules.extend(role.and_then(|r| r["rules"].as_array()).into_iter().flatten().cloned());
    };
    let role = |resource: &str, namespace: &str, binding: &Value| {
        let name = binding["roleRef"]["name"].as_str().unwrap_or_default();
        let table = state.table(&StorageKey::new(GROUP, resource))?;
        table.objects.get(&(namespace.to_owned(), name.to_owned()))
    };
    for binding in objects("clusterrolebindings") {
        if binds(&binding, user, "") {
            add(role("clusterroles", "", &binding));
        }
    }
    if !namespace.is_empty() {
        for binding in objects("rolebindings") {
            if binding["metadata"]["namespace"] == namespace && binds(&binding, user, namespace) {
                if binding["roleRef"]["kind"] == "Role" {
                    add(role("roles", namespace, &binding));
                } else {
                    add(role("clusterroles", "", &binding));
                }
            }
        }
    }
    rules
}

fn binds(binding: &Value, user: &UserInfo, binding_namespace: &str) -> bool {
    let subjects = binding["subjects"].as_array();
    subjects.into_iter().flatten().any(|subject| {
        let name = subject["name"].as_str().unwrap_or_default();
        match subject["kind"].as_str() {
            Some("User") => name == user.name,
            Some("Group") => user.groups.iter().any(|g| g == name),
            Some("ServiceAccount") => {
                let namespace = subject["namespace"]
                    .as_str()
                    .filter(|n| !n.is_empty())
                    .unwrap_or(binding_namespace);
                user.name == format!("system:serviceaccount:{namespace}:{name}")
            }
            _ => false,
        }
    })
}

fn covers(rule: &Value, wanted: &Attributes) -> bool {
    let has = |field: &str, value: &str| {
        rule[field]
            .as_array()
            .is_some_and(|list| list.iter().any(|v| v == "*" || v == value))
    };
    if !has("verbs", &wanted.verb) {
        return false;
    }
    if wanted.resource.is_empty() {
        return rule["nonResourceURLs"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => wanted.path.starts_with(prefix),
                None => wanted.path == pattern,
            });
    }
    let resource = wanted.combined_resource();
    let any_of_subresource = format!("*/{}", wanted.subresource);
    let resource_fits =
        has("resources", &resource) || (!wanted.subresource.is_empty() && has("resources", &any_of_subresource));
    let names = rule["resourceNames"].as_array().filter(|names| !names.is_empty());
    has("apiGroups", &wanted.group)
        && resource_fits
        && names.is_none_or(|names| names.iter().any(|n| n == wanted.name.as_str()))
}

/// A rule as SelfSubjectRulesReview lists it.
pub(crate) fn as_review(rules: &[Value]) -> (Vec<Value>, Vec<Value>) {
    let pick = |rule: &Value, fields: &[&str]| {
        let mut out = json!({});
        for field in fields {
            if !rule[*field].is_null() {
                out[*field] = rule[*field].clone();
            }
        }
        out
    };
    let (paths, resources): (Vec<&Value>, Vec<&Value>) = rules.iter().partition(|r| r["nonResourceURLs"].is_array());
    (
        resources
            .into_iter()
            .map(|r| pick(r, &["verbs", "apiGroups", "resources", "resourceNames"]))
            .collect(),
        paths
            .into_iter()
            .map(|r| pick(r, &["verbs", "nonResourceURLs"]))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreConfig;
    use crate::{Gvr, gvr};
    use rstest::rstest;

    fn store() -> Store {
        let store = Store::new(StoreConfig::default());
        let make = |gvr: &Gvr, ns: Option<&str>, object: Value| store.create(gvr, ns, object).unwrap();
        make(
            &gvr::ROLES,
            Some("default"),
            json!({"metadata": {"name": "reader"}, "rules": [
            {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]},
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["one"], "verbs": ["get"]}]}),
        );
        make(
            &gvr::ROLE_BINDINGS,
            Some("default"),
            json!({"metadata": {"name": "reader"},
            "roleRef": {"kind": "Role", "name": "reader"}, "subjects": [{"kind": "User", "name": "ann"}]}),
        );
        make(
            &gvr::CLUSTER_ROLES,
            None,
            json!({"metadata": {"name": "nodes"}, "rules": [
            {"apiGroups": [""], "resources": ["nodes", "*/status"], "verbs": ["*"]},
            {"nonResourceURLs": ["/metrics", "/debug/*"], "verbs": ["get"]}]}),
        );
        make(
            &gvr::CLUSTER_ROLE_BINDINGS,
            None,
            json!({"metadata": {"name": "nodes"},
            "roleRef": {"kind": "ClusterRole", "name": "nodes"},
            "subjects": [{"kind": "ServiceAccount", "namespace": "kube-system", "name": "robot"}, {"kind": "Group", "name": "ops"}]}),
        );
        store
    }

    #[rstest]
    #[case("ann", &[], "get", "pods", "default", "", true)]
    #[case("ann", &[], "get", "pods/log", "default", "", true)]
    #[case("ann", &[], "get", "pods/exec", "default", "", false)]
    #[case("ann", &[], "delete", "pods", "default", "", false)]
    #[case("ann", &[], "get", "pods", "kube-system", "", false)]
    #[case("ann", &[], "list", "pods", "", "", false)]
    #[case("ann", &[], "get", "secrets", "default", "one", true)]
    #[case("ann", &[], "get", "secrets", "default", "two", false)]
    #[case("bob", &["ops"], "delete", "nodes", "", "n1", true)]
    #[case("bob", &["ops"], "update", "pods/status", "default", "", true)]
    #[case("system:serviceaccount:kube-system:robot", &[], "list", "nodes", "", "", true)]
    #[case("system:serviceaccount:default:robot", &[], "list", "nodes", "", "", false)]
    #[case("root", &["system:masters"], "delete", "anything", "", "", true)]
    fn decisions(
        #[case] user: &str,
        #[case] groups: &[&str],
        #[case] verb: &str,
        #[case] resource: &str,
        #[case] namespace: &str,
        #[case] name: &str,
        #[case] expected: bool,
    ) {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let attributes = Attributes {
            verb: verb.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: namespace.into(),
            name: name.into(),
            ..Attributes::default()
        };
        assert_eq!(allowed(&store(), &UserInfo::new(user, groups), &attributes), expected);
    }

    #[test]
    fn paths() {
        let store = store();
        let get = |path: &str| Attributes {
            verb: "get".into(),
            path: path.into(),
            ..Attributes::default()
        };
        let ops = UserInfo::new("bob", &["ops"]);
        assert!(allowed(&store, &ops, &get("/metrics")));
        assert!(allowed(&store, &ops, &get("/debug/x")));
        assert!(!allowed(&store, &ops, &get("/metricsx")));
        assert!(allowed(&store, &UserInfo::new("anyone", &[]), &get("/version")));
    }

    #[test]
    fn the_refusal_says_who_what_and_where() {
        let attributes = Attributes {
            verb: "delete".into(),
            resource: "pods".into(),
            namespace: "a".into(),
            name: "x".into(),
            ..Attributes::default()
        };
        assert_eq!(
            attributes.refusal(&UserInfo::new("ann", &[])).message,
            "pods \"x\" is forbidden: User \"ann\" cannot delete resource \"pods\" in API group \"\" in the namespace \"a\""
        );
    }
}
