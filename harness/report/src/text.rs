//! How times, counts and outcomes are written for people.

use meshproof_verdict::record::{Excuse, Outcome};

use crate::model::{CheckRow, ScenarioRow, UpgradeRow};

/// Scenario µs as seconds: `12.3 s`.
#[must_use]
pub fn seconds(us: u64) -> String {
    let tenths = us.saturating_add(50_000) / 100_000;
    format!("{}.{} s", tenths / 10, tenths % 10)
}

/// An outcome as one word.
#[must_use]
pub fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "pass",
        Outcome::Fail => "fail",
        Outcome::Deviates => "deviates",
        Outcome::Inconclusive => "inconclusive",
        Outcome::Error => "error",
        Outcome::Skip => "skip",
    }
}

/// Why a broken promise turns nothing red.
#[must_use]
pub fn excuse(excuse: &Excuse) -> String {
    match excuse {
        Excuse::KnownDeviation { versions, upstream } if upstream.is_empty() => {
            format!("releases {versions} are known to break it")
        }
        Excuse::KnownDeviation { versions, upstream } => {
            format!("releases {versions} are known to break it (upstream: {upstream})")
        }
        Excuse::Should => "a SHOULD: it is told, and fails a strict run only".to_owned(),
    }
}

/// `1 request`, `2 requests`.
#[must_use]
pub fn count(number: u64, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

/// `west: linkerd 1 → linkerd 2 at 12.3 s`.
#[must_use]
pub fn upgrade(upgrade: &UpgradeRow) -> String {
    let UpgradeRow {
        cluster,
        from,
        to,
        at_us,
    } = upgrade;
    format!("{cluster}: {from} → {to} at {}", seconds(*at_us))
}

/// What ran in each cluster when a check was opened: `east linkerd 2, west linkerd 1`. Nothing where the scenario upgraded
/// no cluster, because then it is the same for all its checks.
#[must_use]
pub fn mesh_of(scenario: &ScenarioRow, check: &CheckRow) -> Option<String> {
    if scenario.upgrades.is_empty() {
        return None;
    }
    let clusters: Vec<String> = check.mesh.iter().map(|(name, mesh)| format!("{name} {mesh}")).collect();
    Some(clusters.join(", "))
}

/// At most `limit` bytes of a text, cut between characters and marked when cut.
#[must_use]
pub fn clip(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut end = limit.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::{clip, count, seconds};

    #[test]
    fn seconds_have_one_digit() {
        assert_eq!(seconds(0), "0.0 s");
        assert_eq!(seconds(12_349_000), "12.3 s");
        assert_eq!(
            seconds(u64::MAX),
            format!("{}.{} s", u64::MAX / 1_000_000, (u64::MAX / 100_000) % 10)
        );
    }

    #[test]
    fn one_is_singular() {
        assert_eq!(count(1, "request"), "1 request");
        assert_eq!(count(0, "request"), "0 requests");
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(clip("größe", 20), "größe");
        let cut = clip("größe größe größe", 10);
        assert!(cut.len() <= 10 && cut.ends_with('…'), "{cut}");
    }
}
