//! What follows from Linkerd's version: which release it counts as, which objects a link consists of, and who brings the
//! Gateway API.

use meshproof_terms::Release;

/// How a link's objects are made and named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ObjectModel {
    /// Up to 2.17: `linkerd multicluster link` prints each link's controller along with its credentials.
    Legacy,
    /// Since 2.18 (edge-25.3.4): the extension's chart has a list of controllers, `link-gen` prints only credentials
    /// and Link.
    #[default]
    Managed,
}

/// First edge release with managed controllers and `link-gen`.
const FIRST_MANAGED_EDGE: [u32; 3] = [25, 3, 4];
/// First edge release whose CRD chart leaves the Gateway API to others by default.
const FIRST_EDGE_WITHOUT_GATEWAY_API: [u32; 3] = [25, 9, 4];

impl ObjectModel {
    /// The model of a version as the CLI prints it: `stable-2.14.10`, `edge-25.10.7`, `2.18.1`. A build without a
    /// number (`git-…`, `dev-…`) counts as the newest.
    #[must_use]
    pub fn of_version(version: &str) -> Self {
        if is_before(version, [2, 18, 0], FIRST_MANAGED_EDGE) {
            Self::Legacy
        } else {
            Self::Managed
        }
    }
}

/// Whether this version's CRDs include the Gateway API's unless told otherwise; if not, they must be there before.
#[must_use]
pub fn ships_gateway_api(version: &str) -> bool {
    is_before(version, [2, 19, 0], FIRST_EDGE_WITHOUT_GATEWAY_API)
}

/// First edge release of each release, newest first, as Linkerd's own list of versions has them.
const FIRST_EDGES: [([u32; 3], [u32; 2]); 7] = [
    ([26, 6, 3], [2, 20]),
    ([25, 10, 7], [2, 19]),
    ([25, 4, 4], [2, 18]),
    ([24, 11, 8], [2, 17]),
    ([24, 8, 2], [2, 16]),
    ([24, 2, 4], [2, 15]),
    ([0, 0, 0], [2, 14]),
];

/// The release that a version counts as. An edge release counts as the newest release that it contains. A build without a
/// number (`git-…`, `dev-…`) is none.
#[must_use]
pub fn release(version: &str) -> Option<Release> {
    let (channel, [major, minor, patch]) = channel_and_number(version)?;
    match channel {
        "edge" | "preview" => {
            let (_, [major, minor]) = FIRST_EDGES
                .into_iter()
                .find(|(first, _)| [major, minor, patch] >= *first)?;
            Some(Release { major, minor, patch: 0 })
        }
        _ => Some(Release { major, minor, patch }),
    }
}

fn is_before(version: &str, release: [u32; 3], edge: [u32; 3]) -> bool {
    match channel_and_number(version) {
        Some(("edge" | "preview", number)) => number < edge,
        Some((_, number)) => number < release,
        None => false,
    }
}

/// `edge` and 25.10.7 of `edge-25.10.7`; nothing for a build without a number.
fn channel_and_number(version: &str) -> Option<(&str, [u32; 3])> {
    let version = version.trim();
    let (channel, number) = version.split_once('-').unwrap_or(("", version));
    // `2.19.0-rc1` has its dash behind the number.
    let (channel, number) = match numbers(channel) {
        Some(_) => ("", channel),
        None => (channel, number),
    };
    if matches!(channel, "git" | "dev") {
        return None;
    }
    Some((channel, numbers(number)?))
}

/// `2.14.10` or `v2.18` as three numbers.
fn numbers(text: &str) -> Option<[u32; 3]> {
    let mut parts = text.trim_start_matches('v').split(['.', '-', '+']);
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    let patch = parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
    Some([major, minor, patch])
}

#[cfg(test)]
mod tests {
    use super::{ObjectModel, release, ships_gateway_api};
    use rstest::rstest;

    #[rstest]
    #[case("stable-2.14.10", ObjectModel::Legacy, true)]
    #[case("enterprise-2.17.1", ObjectModel::Legacy, true)]
    #[case("2.18.0", ObjectModel::Managed, true)]
    #[case("v2.18", ObjectModel::Managed, true)]
    #[case("2.19.0-rc1", ObjectModel::Managed, false)]
    #[case("edge-24.11.8", ObjectModel::Legacy, true)]
    #[case("edge-25.3.3", ObjectModel::Legacy, true)]
    #[case("edge-25.3.4", ObjectModel::Managed, true)]
    #[case("edge-25.9.3", ObjectModel::Managed, true)]
    #[case("edge-25.9.4", ObjectModel::Managed, false)]
    #[case("edge-25.10.7", ObjectModel::Managed, false)]
    #[case("edge-26.8.3", ObjectModel::Managed, false)]
    #[case("git-b24cd405", ObjectModel::Managed, false)]
    #[case("dev-undefined", ObjectModel::Managed, false)]
    #[case("", ObjectModel::Managed, false)]
    fn a_version_tells_the_model(#[case] version: &str, #[case] model: ObjectModel, #[case] gateway_api: bool) {
        assert_eq!(ObjectModel::of_version(version), model);
        assert_eq!(ships_gateway_api(version), gateway_api);
    }

    #[rstest]
    #[case("stable-2.14.10", "2.14.10")]
    #[case("enterprise-2.17.1", "2.17.1")]
    #[case("v2.18", "2.18")]
    #[case("2.19.0-rc1", "2.19")]
    #[case("edge-23.1.1", "2.14")]
    #[case("edge-24.11.7", "2.16")]
    #[case("edge-24.11.8", "2.17")]
    #[case("edge-25.4.3", "2.17")]
    #[case("edge-25.8.5", "2.18")]
    #[case("edge-25.10.7", "2.19")]
    #[case("edge-26.8.3", "2.20")]
    #[case("model-2.20", "2.20")]
    #[case("git-b24cd405", "")]
    #[case("dev-undefined", "")]
    #[case("", "")]
    fn a_version_counts_as_a_release(#[case] version: &str, #[case] counts_as: &str) {
        assert_eq!(
            release(version).map_or_else(String::new, |release| release.to_string()),
            counts_as
        );
    }
}
