//! What users may do: verbs and resources that exist, since everybody is denied what does not.

use meshproof_kinds::Kind;

use super::{File, world::World};
use crate::code;
use crate::diagnostic::{Diagnostic, closest};
use crate::structure::list;

/// Verbs of requests for resources, and those that RBAC itself asks about. From Kubernetes' documentation of authorization.
const VERBS: &[&str] = &[
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "bind",
    "escalate",
    "impersonate",
    "use",
    "approve",
    "sign",
    "attest",
    "*",
];

/// Resources of Kubernetes that stand for no kind of objects.
const WITHOUT_KIND: &[&str] = &[
    "users",
    "groups",
    "serviceaccounts",
    "uids",
    "userextras",
    "signers",
    "*",
];

/// Verbs and resources exist.
pub(super) fn rights_exist(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    for (_, base, expect) in file.expects() {
        let Some(access) = &expect.access else { continue };
        if !VERBS.contains(&access.verb.as_str()) && !access.verb.contains("${") {
            problems.push(
                Diagnostic::error(
                    code::NO_SUCH_RIGHT,
                    format!("RBAC knows no verb `{}`", access.verb),
                    file.at(&format!("{base}/access/verb")),
                )
                .label("denied to everybody")
                .expected(list(VERBS))
                .did_you_mean(closest(&access.verb, VERBS.iter().copied())),
            );
        }
        let group = access.group.as_deref().unwrap_or_default();
        if let Some(problem) = resource_fault(&access.resource, group) {
            let at = file.at(&format!("{base}/access/resource"));
            problems.push(match problem {
                Fault::OtherGroup(groups) => Diagnostic::error(
                    code::NO_SUCH_RIGHT,
                    format!("`{}` is no resource of {}", access.resource, group_name(group)),
                    at,
                )
                .label("denied to everybody")
                .expected(format!("`group` with {}", list(&groups))),
                Fault::Unknown(meant) => Diagnostic::error(
                    code::NO_SUCH_RIGHT,
                    format!("Kubernetes has no resource `{}`", access.resource),
                    at,
                )
                .label("denied to everybody")
                .expected("the plural of a kind in lower case, e.g. `secrets`, with its `group` if it is not in the core group")
                .did_you_mean(meant),
            });
        }
    }
}

enum Fault {
    OtherGroup(Vec<&'static str>),
    Unknown(Option<String>),
}

fn group_name(group: &str) -> String {
    if group.is_empty() {
        "the core group".to_owned()
    } else {
        format!("the group `{group}`")
    }
}

/// What is wrong with a resource, if anything is. Groups that Kubernetes itself does not have are not known here.
fn resource_fault(resource: &str, group: &str) -> Option<Fault> {
    let plural = resource.split_once('/').map_or(resource, |(plural, _)| plural);
    let own_group = group.is_empty() || group == "*" || Kind::all().iter().any(|kind| kind.group == group);
    if !own_group || plural.contains("${") || WITHOUT_KIND.contains(&plural) {
        return None;
    }
    let mut groups: Vec<&'static str> = Kind::all()
        .iter()
        .filter(|kind| kind.plural == plural)
        .map(|kind| kind.group)
        .collect();
    groups.dedup();
    if groups.iter().any(|known| *known == group || group == "*") {
        return None;
    }
    if !groups.is_empty() {
        return Some(Fault::OtherGroup(groups));
    }
    let by_kind = Kind::all().iter().find(|kind| kind.kind.eq_ignore_ascii_case(plural));
    let meant = match by_kind {
        Some(kind) => Some(kind.plural),
        None => closest(plural, Kind::all().iter().map(|kind| kind.plural)),
    };
    Some(Fault::Unknown(meant.map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::resource_fault;
    use rstest::rstest;

    #[rstest]
    #[case("secrets", "", true)]
    #[case("pods/log", "", true)]
    #[case("deployments", "apps", true)]
    #[case("links", "multicluster.example.io", true)]
    #[case("deployments", "", false)]
    #[case("secrtes", "", false)]
    #[case("Secret", "", false)]
    #[case("secret", "", false)]
    #[case("deploymnts", "apps", false)]
    fn resources(#[case] resource: &str, #[case] group: &str, #[case] good: bool) {
        assert_eq!(resource_fault(resource, group).is_none(), good);
    }
}
