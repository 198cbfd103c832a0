//! What users may do: verbs and resources that exist, since everybody is denied what does not.

use meshproof_kinds::Kind;

use super::{File, world::World};
use crate::code;
use crate::crds::CustomKinds;
use crate::diagnostic::{Diagnostic, closest, distance};
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
        if let Some(problem) = resource_fault(&file.library.kinds, &access.resource, group) {
            let at = file.at(&format!("{base}/access/resource"));
            problems.push(match problem {
                Fault::OtherGroup(groups) => Diagnostic::error(
                    code::NO_SUCH_RIGHT,
                    format!("`{}` is no resource of {}", access.resource, group_name(group)),
                    at,
                )
                .label("denied to everybody")
                .expected(format!(
                    "`group` with {}",
                    list(&groups.iter().map(String::as_str).collect::<Vec<_>>())
                )),
                Fault::UnknownGroup(meant) => Diagnostic::error(
                    code::NO_SUCH_RIGHT,
                    format!("nobody knows {}", group_name(group)),
                    file.at(&format!("{base}/access/group")),
                )
                .label("denied to everybody")
                .did_you_mean(Some(meant))
                .help("a group of its own is known by a CustomResourceDefinition in `scenarios/crds/`"),
                Fault::Unknown(meant) => Diagnostic::error(
                    code::NO_SUCH_RIGHT,
                    format!("{} has no resource `{}`", group_name(group), access.resource),
                    at,
                )
                .label("denied to everybody")
                .expected("the plural of a kind in lower case, e.g. `secrets`, with its `group` if it is not in the core group")
                .did_you_mean(meant)
                .help("a custom resource is known by its CustomResourceDefinition in `scenarios/crds/`"),
            });
        }
    }
}

enum Fault {
    OtherGroup(Vec<String>),
    Unknown(Option<String>),
    UnknownGroup(String),
}

fn group_name(group: &str) -> String {
    if group.is_empty() {
        "the core group".to_owned()
    } else {
        format!("the group `{group}`")
    }
}

/// What is wrong with a resource, if anything is. Groups of which no kind is known are not checked, unless one letter
/// makes another one of them.
fn resource_fault(custom: &CustomKinds, resource: &str, group: &str) -> Option<Fault> {
    let plural = resource.split_once('/').map_or(resource, |(plural, _)| plural);
    if plural.contains("${") || group.contains("${") || WITHOUT_KIND.contains(&plural) {
        return None;
    }
    let built_in = Kind::all().iter().map(|kind| (kind.group, kind.plural, kind.kind));
    let custom = custom
        .iter()
        .map(|kind| (kind.group.as_str(), kind.plural.as_str(), kind.kind.as_str()));
    let known: Vec<(&str, &str, &str)> = built_in.chain(custom).collect();
    let mut groups: Vec<&str> = known
        .iter()
        .filter(|(_, other, _)| *other == plural)
        .map(|(group, _, _)| *group)
        .collect();
    groups.dedup();
    if groups.contains(&group) || (group == "*" && !groups.is_empty()) {
        return None;
    }
    if !matches!(group, "" | "*") && !known.iter().any(|(known, _, _)| *known == group) {
        let mut meant = known
            .iter()
            .map(|(known, _, _)| *known)
            .filter(|known| !known.is_empty());
        return meant
            .find(|known| distance(group, known) <= 1)
            .map(|group| Fault::UnknownGroup(group.to_owned()));
    }
    if !groups.is_empty() {
        return Some(Fault::OtherGroup(groups.into_iter().map(str::to_owned).collect()));
    }
    let by_kind = known.iter().find(|(_, _, kind)| kind.eq_ignore_ascii_case(plural));
    let meant = match by_kind {
        Some((_, plural, _)) => Some((*plural).to_owned()),
        None => closest(plural, known.iter().map(|(_, plural, _)| *plural)).map(str::to_owned),
    };
    Some(Fault::Unknown(meant))
}

#[cfg(test)]
mod tests {
    use super::{CustomKinds, resource_fault};
    use rstest::rstest;

    #[rstest]
    #[case("secrets", "", true)]
    #[case("pods/log", "", true)]
    #[case("deployments", "apps", true)]
    #[case("links", "multicluster.example.io", true)]
    #[case("links", "*", false)]
    #[case("deployments", "app", false)]
    #[case("xthings", "gateway.networking.x-k8s.io", true)]
    #[case("nodes", "metrics.k8s.io", true)]
    #[case("deployments", "", false)]
    #[case("secrtes", "", false)]
    #[case("Secret", "", false)]
    #[case("secret", "", false)]
    #[case("deploymnts", "apps", false)]
    fn resources(#[case] resource: &str, #[case] group: &str, #[case] good: bool) {
        assert_eq!(resource_fault(&CustomKinds::default(), resource, group).is_none(), good);
    }
}
