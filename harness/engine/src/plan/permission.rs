//! Permissions on a cluster's API, and the objects of Kubernetes' RBAC that give them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kube::core::ApiResource;
use serde_json::{Value, json};

use crate::ownership::{MANAGED_BY, MANAGED_LABEL};

/// Stands for every API group, resource or verb.
const ANY: &str = "*";

/// The right to do one thing to one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permission {
    /// Namespace; the whole cluster when absent.
    pub namespace: Option<String>,
    /// API group; empty for the core group, `*` for all.
    pub group: String,
    /// Resource in plural, with its subresource: `pods/log`; `*` for all.
    pub resource: String,
    /// Name of the only object that it is about; all objects when absent. Lists, watches and creations can't be narrowed
    /// to a name.
    pub name: Option<String>,
    /// Verb of the API, e.g. `list`; `*` for all.
    pub verb: String,
}

impl Permission {
    /// A permission for the whole cluster.
    #[must_use]
    pub fn new(group: &str, resource: &str, verb: &str) -> Self {
        Self {
            namespace: None,
            group: group.to_owned(),
            resource: resource.to_owned(),
            name: None,
            verb: verb.to_owned(),
        }
    }

    /// The permission for the objects of a resource.
    #[must_use]
    pub fn of(resource: &ApiResource, verb: &str) -> Self {
        Self::new(&resource.group, &resource.plural, verb)
    }

    /// The same in one namespace only.
    #[must_use]
    pub fn within(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// The same for one object only.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Whether who has this one needs not be given the other.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let same = |mine: &str, theirs: &str| mine == ANY || mine == theirs;
        let wider = |mine: &Option<String>, theirs: &Option<String>| mine.is_none() || mine == theirs;
        same(&self.group, &other.group)
            && same(&self.resource, &other.resource)
            && same(&self.verb, &other.verb)
            && wider(&self.namespace, &other.namespace)
            && wider(&self.name, &other.name)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if let Some(name) = &self.name {
            write!(f, " `{name}`")?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in {namespace}"),
            None => f.write_str(" in the cluster"),
        }
    }
}

/// Leaves out what others cover.
#[must_use]
pub fn without_covered(wanted: BTreeSet<Permission>) -> BTreeSet<Permission> {
    wanted
        .iter()
        .filter(|one| !wanted.iter().any(|other| other != *one && other.covers(one)))
        .cloned()
        .collect()
}

/// The objects that give these permissions to a ServiceAccount: its namespace, itself, a ClusterRole, a Role in every
/// namespace of its own, and their bindings. All are called `name`.
///
/// What Kubernetes gives to everybody who is authenticated (discovery, the server's version, reviews of one's own access)
/// is not among the rules.
#[must_use]
pub fn manifests(wanted: &BTreeSet<Permission>, name: &str, account_namespace: &str) -> Vec<Value> {
    let metadata = |namespace: Option<&str>| {
        let mut metadata = json!({"name": name, "labels": {MANAGED_LABEL: MANAGED_BY}});
        if let Some(namespace) = namespace {
            metadata["namespace"] = json!(namespace);
        }
        metadata
    };
    let subjects = json!([{"kind": "ServiceAccount", "name": name, "namespace": account_namespace}]);
    let mut objects = vec![
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": account_namespace, "labels": {MANAGED_LABEL: MANAGED_BY}},
        }),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(Some(account_namespace))}),
    ];
    let mut by_namespace: BTreeMap<Option<&str>, Vec<&Permission>> = BTreeMap::new();
    for permission in wanted {
        by_namespace
            .entry(permission.namespace.as_deref())
            .or_default()
            .push(permission);
    }
    for (namespace, permissions) in by_namespace {
        let (role, binding) = match namespace {
            None => ("ClusterRole", "ClusterRoleBinding"),
            Some(_) => ("Role", "RoleBinding"),
        };
        objects.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": role,
            "metadata": metadata(namespace), "rules": rules(&permissions),
        }));
        objects.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": binding,
            "metadata": metadata(namespace),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": name},
            "subjects": subjects,
        }));
    }
    objects
}

/// Rules, as few as possible: resources of a group to which the same verbs apply stand together.
fn rules(permissions: &[&Permission]) -> Vec<Value> {
    let mut verbs: BTreeMap<(&str, &str, Option<&str>), BTreeSet<&str>> = BTreeMap::new();
    for permission in permissions {
        let key = (
            permission.group.as_str(),
            permission.resource.as_str(),
            permission.name.as_deref(),
        );
        verbs.entry(key).or_default().insert(&permission.verb);
    }
    let mut resources: BTreeMap<Alike<'_>, Vec<&str>> = BTreeMap::new();
    for ((group, resource, name), verbs) in verbs {
        resources
            .entry(Alike { group, name, verbs })
            .or_default()
            .push(resource);
    }
    resources
        .into_iter()
        .map(|(alike, resources)| {
            let mut rule = json!({"apiGroups": [alike.group], "resources": resources, "verbs": alike.verbs});
            if let Some(name) = alike.name {
                rule["resourceNames"] = json!([name]);
            }
            rule
        })
        .collect()
}

/// What resources of one rule have in common.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Alike<'a> {
    group: &'a str,
    name: Option<&'a str>,
    verbs: BTreeSet<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::{Permission, manifests, without_covered};
    use rstest::rstest;
    use serde_json::json;

    fn list_pods() -> Permission {
        Permission::new("", "pods", "list")
    }

    #[rstest]
    #[case::itself(list_pods(), list_pods(), true)]
    #[case::one_namespace(list_pods(), list_pods().within("shop"), true)]
    #[case::all_namespaces(list_pods().within("shop"), list_pods(), false)]
    #[case::one_object(list_pods(), list_pods().named("a"), true)]
    #[case::all_objects(list_pods().named("a"), list_pods(), false)]
    #[case::another_verb(list_pods(), Permission::new("", "pods", "watch"), false)]
    #[case::another_group(list_pods(), Permission::new("apps", "pods", "list"), false)]
    #[case::everything(Permission::new("*", "*", "list"), list_pods(), true)]
    #[case::a_subresource(list_pods(), Permission::new("", "pods/log", "list"), false)]
    fn a_permission_covers_narrower_ones(#[case] wide: Permission, #[case] narrow: Permission, #[case] expected: bool) {
        assert_eq!(wide.covers(&narrow), expected);
    }

    #[test]
    fn rules_are_few_and_roles_stand_where_they_apply() {
        let wanted = without_covered(
            [
                list_pods(),
                list_pods().within("mesh"),
                Permission::new("", "services", "list"),
                Permission::new("", "secrets", "get").within("mesh").named("token"),
            ]
            .into(),
        );
        let objects = manifests(&wanted, "tester", "tools");
        let kinds: Vec<&str> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
        assert_eq!(
            kinds,
            [
                "Namespace",
                "ServiceAccount",
                "ClusterRole",
                "ClusterRoleBinding",
                "Role",
                "RoleBinding"
            ]
        );
        assert_eq!(
            objects[2]["rules"],
            json!([{"apiGroups": [""], "resources": ["pods", "services"], "verbs": ["list"]}])
        );
        assert_eq!(objects[4]["metadata"]["namespace"], "mesh");
        assert_eq!(
            objects[4]["rules"],
            json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["token"], "verbs": ["get"]}])
        );
        assert_eq!(objects[5]["subjects"][0]["namespace"], "tools");
    }
}
