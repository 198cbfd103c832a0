//! Releases of a mesh, and ranges of them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A release of a mesh: `2.18`, `2.14.6`. What a vendor calls it otherwise (a channel, a date) is translated by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Release {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number; 0 where none is written.
    pub patch: u32,
}

/// A text that is no release.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is no release: two or three numbers with dots between them are, e.g. `2.18` or `2.14.6`")]
pub struct ReleaseError(String);

/// Releases to which something applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VersionRange {
    /// First release of the range.
    from: Option<Bound>,
    /// Last release of the range; absent when it goes on.
    to: Option<Bound>,
}

/// An end of a range. Without a patch it stands for all patches of its minor release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bound {
    major: u32,
    minor: u32,
    patch: Option<u32>,
}

/// A text that is no range.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum VersionRangeError {
    /// It has another form.
    #[error(
        "`{0}` is no range of versions: write `2.14+` (from then on), `2.14-2.17` (with both ends), `2.18` (all its patches) or `all`"
    )]
    Form(String),
    /// Its end lies before its beginning.
    #[error("the range `{0}` ends before it begins")]
    Backwards(String),
}

impl FromStr for Release {
    type Err = ReleaseError;

    fn from_str(text: &str) -> Result<Self, ReleaseError> {
        let bound = Bound::parse(text).ok_or_else(|| ReleaseError(text.to_owned()))?;
        Ok(Self {
            major: bound.major,
            minor: bound.minor,
            patch: bound.patch.unwrap_or(0),
        })
    }
}

impl TryFrom<String> for Release {
    type Error = ReleaseError;

    fn try_from(text: String) -> Result<Self, ReleaseError> {
        text.parse()
    }
}

impl From<Release> for String {
    fn from(release: Release) -> Self {
        release.to_string()
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if self.patch > 0 {
            write!(f, ".{}", self.patch)?;
        }
        Ok(())
    }
}

impl Bound {
    fn parse(text: &str) -> Option<Self> {
        let number = |part: &str| {
            let plain = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| part.parse().ok()).flatten()
        };
        let mut parts = text.split('.');
        let (major, minor) = (number(parts.next()?)?, number(parts.next()?)?);
        let patch = match parts.next() {
            Some(part) => Some(number(part)?),
            None => None,
        };
        parts.next().is_none().then_some(Self { major, minor, patch })
    }

    fn first(self) -> (u32, u32, u32) {
        (self.major, self.minor, self.patch.unwrap_or(0))
    }

    fn last(self) -> (u32, u32, u32) {
        (self.major, self.minor, self.patch.unwrap_or(u32::MAX))
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        self.patch.map_or(Ok(()), |patch| write!(f, ".{patch}"))
    }
}

impl VersionRange {
    /// Every release.
    pub const ALL: Self = Self { from: None, to: None };

    /// Whether it says nothing.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::ALL
    }

    /// Whether a release lies in it. A build without a release (`None`: a development build, a commit) counts as newer
    /// than every release: it lies in the ranges that go on.
    #[must_use]
    pub fn holds(&self, release: Option<Release>) -> bool {
        let Some(release) = release else {
            return self.to.is_none();
        };
        let release = (release.major, release.minor, release.patch);
        self.from.is_none_or(|from| from.first() <= release) && self.to.is_none_or(|to| release <= to.last())
    }
}

impl FromStr for VersionRange {
    type Err = VersionRangeError;

    fn from_str(text: &str) -> Result<Self, VersionRangeError> {
        if text == "all" {
            return Ok(Self::ALL);
        }
        let bound = |part: &str| Bound::parse(part).ok_or_else(|| VersionRangeError::Form(text.to_owned()));
        if let Some(from) = text.strip_suffix('+') {
            return Ok(Self {
                from: Some(bound(from)?),
                to: None,
            });
        }
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let (from, to) = (bound(from)?, bound(to)?);
        if to.last() < from.first() {
            return Err(VersionRangeError::Backwards(text.to_owned()));
        }
        Ok(Self {
            from: Some(from),
            to: Some(to),
        })
    }
}

impl TryFrom<String> for VersionRange {
    type Error = VersionRangeError;

    fn try_from(text: String) -> Result<Self, VersionRangeError> {
        text.parse()
    }
}

impl From<VersionRange> for String {
    fn from(range: VersionRange) -> Self {
        range.to_string()
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.to) {
            (None, None) => f.write_str("all"),
            (Some(from), None) => write!(f, "{from}+"),
            (None, Some(to)) => write!(f, "0.0-{to}"),
            (Some(from), Some(to)) if from == to => write!(f, "{from}"),
            (Some(from), Some(to)) => write!(f, "{from}-{to}"),
        }
    }
}

impl JsonSchema for VersionRange {
    fn schema_name() -> Cow<'static, str> {
        "VersionRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^(all|\d+\.\d+(\.\d+)?(\+|-\d+\.\d+(\.\d+)?)?)$"
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::{Release, VersionRange, VersionRangeError};

    fn release(text: &str) -> Option<Release> {
        (!text.is_empty()).then(|| text.parse().unwrap())
    }

    #[rstest]
    #[case("2.14+", "2.13.9", false)]
    #[case("2.14+", "2.14", true)]
    #[case("2.14+", "2.20.3", true)]
    #[case("2.14+", "3.0", true)]
    #[case("2.14+", "", true)]
    #[case("2.14.6+", "2.14.5", false)]
    #[case("2.14.6+", "2.14.6", true)]
    #[case("2.14-2.17", "2.17.9", true)]
    #[case("2.14-2.17", "2.18", false)]
    #[case("2.14-2.17", "", false)]
    #[case("2.14-2.17.1", "2.17.2", false)]
    #[case("2.18", "2.18.4", true)]
    #[case("2.18", "2.19", false)]
    #[case("2.18.1", "2.18.2", false)]
    #[case("all", "0.1", true)]
    #[case("all", "", true)]
    fn a_range_holds_releases(#[case] range: &str, #[case] of: &str, #[case] holds: bool) {
        let range: VersionRange = range.parse().unwrap();
        assert_eq!(range.holds(release(of)), holds, "{range} {of}");
    }

    #[rstest]
    #[case("")]
    #[case("2")]
    #[case("2.14 +")]
    #[case(">=2.14")]
    #[case("2.14+-2.17")]
    #[case("2.-14")]
    #[case("+2.14")]
    #[case("2.14.6.1")]
    #[case("2.99999999999")]
    fn other_texts_are_no_range(#[case] text: &str) {
        assert_eq!(
            text.parse::<VersionRange>(),
            Err(VersionRangeError::Form(text.to_owned()))
        );
    }

    #[test]
    fn a_range_does_not_end_before_it_begins() {
        let error = "2.18-2.17".parse::<VersionRange>().unwrap_err();
        assert_eq!(error.to_string(), "the range `2.18-2.17` ends before it begins");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(text in "[0-9]{1,3}\\.[0-9]{1,3}(\\.[0-9]{1,2})?(\\+|-[0-9]{1,3}\\.[0-9]{1,3})?") {
            if let Ok(range) = text.parse::<VersionRange>() {
                let again: VersionRange = range.to_string().parse().unwrap();
                prop_assert_eq!(again, range);
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = text.parse::<VersionRange>();
            let _ = text.parse::<Release>();
        }
    }
}
