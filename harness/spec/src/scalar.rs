//! The small values that scenario files are made of. Each is written as text and checked when it is read.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A name: lower-case letters, digits and `-`, at most 40 characters, as Kubernetes accepts it in object names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Name(pub String);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Name {
    /// Longest name: with the suffixes of generated objects it still fits into the 63 characters of a DNS label.
    pub const MAX_LENGTH: usize = 40;

    /// What is wrong with the name, if anything.
    pub fn fault(&self) -> Option<String> {
        let text = &self.0;
        if text.is_empty() {
            return Some("a name is not empty".to_owned());
        }
        if text.len() > Self::MAX_LENGTH {
            return Some(format!(
                "a name has at most {} characters, this one has {}",
                Self::MAX_LENGTH,
                text.chars().count()
            ));
        }
        let wrong = text
            .chars()
            .find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-'));
        if let Some(wrong) = wrong {
            return Some(format!(
                "a name consists of lower-case letters, digits and `-`, without `{wrong}`"
            ));
        }
        if !text.starts_with(|c: char| c.is_ascii_lowercase()) {
            return Some("a name begins with a letter".to_owned());
        }
        text.ends_with('-').then(|| "a name does not end with `-`".to_owned())
    }

    /// The name nearest to a wrong one that has the right form, if there is one.
    pub fn mended(&self) -> Option<String> {
        let mut text: String = self
            .0
            .to_lowercase()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        text.truncate(Self::MAX_LENGTH);
        let text = text.trim_matches('-').to_owned();
        (Self(text.clone()).fault().is_none() && text != self.0).then_some(text)
    }
}

impl RequirementId {
    /// Whether it has the form `MC-FAIL-001`: words of capitals and digits, joined by `-`.
    pub fn is_well_formed(&self) -> bool {
        let text = &self.0;
        text.len() <= 40
            && text.contains('-')
            && text.starts_with(|c: char| c.is_ascii_uppercase())
            && text
                .split('-')
                .all(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit()))
    }
}

/// Id of a requirement, e.g. `MC-FAIL-001`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct RequirementId(pub String);

impl fmt::Display for RequirementId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A length of time with its unit: `300ms`, `10s`, `1m30s`. Scenario time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeSpan(pub Duration);

/// Requests per second: `100/s`, `0.5/s`. Scenario time.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate(pub f64);

/// A service as a client calls it: `store` is the local service, `store@east` is what cluster `east` exports under that
/// name, as seen from the client's cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target {
    /// Name of the deployed service.
    pub service: Name,
    /// Cluster whose export is meant; the client's own service when absent.
    pub cluster: Option<Name>,
}

/// One or several clusters, written as `west` or `[west, east]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Clusters(pub Vec<Name>);

impl FromStr for TimeSpan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong =
            || format!("`{text}` is not a length of time; write a number with its unit, e.g. `300ms`, `10s`, `1m30s`");
        if text.contains([' ', '-', '+']) {
            return Err(wrong());
        }
        let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
        Duration::try_from(span).map(Self).map_err(|_| wrong())
    }
}

impl TryFrom<String> for TimeSpan {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<TimeSpan> for String {
    fn from(span: TimeSpan) -> Self {
        span.to_string()
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        if millis.is_multiple_of(1000) {
            write!(f, "{}s", millis / 1000)
        } else {
            write!(f, "{millis}ms")
        }
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_suffix("/s")
            .and_then(|number| number.parse::<f64>().ok())
            .filter(|rate| rate.is_finite() && *rate > 0.0)
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not a rate; write requests per second, e.g. `100/s`"))
    }
}

impl TryFrom<String> for Rate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        format!("{}/s", rate.0)
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (service, cluster) = match text.split_once('@') {
            None => (text, None),
            Some((service, cluster)) => (service, Some(cluster)),
        };
        if service.is_empty() || cluster.is_some_and(|cluster| cluster.is_empty() || cluster.contains('@')) {
            return Err(format!(
                "`{text}` is not a target; write `service` or `service@cluster`"
            ));
        }
        Ok(Self {
            service: Name(service.to_owned()),
            cluster: cluster.map(|cluster| Name(cluster.to_owned())),
        })
    }
}

impl TryFrom<String> for Target {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cluster {
            None => write!(f, "{}", self.service),
            Some(cluster) => write!(f, "{}@{cluster}", self.service),
        }
    }
}

impl<'de> Deserialize<'de> for Clusters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrSeveral;
        impl<'de> Visitor<'de> for OneOrSeveral {
            type Value = Clusters;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a cluster name or a list of cluster names")
            }

            fn visit_str<E>(self, name: &str) -> Result<Clusters, E> {
                Ok(Clusters(vec![Name(name.to_owned())]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Clusters, A::Error> {
                let mut clusters = Vec::new();
                while let Some(name) = names.next_element()? {
                    clusters.push(name);
                }
                Ok(Clusters(clusters))
            }
        }
        deserializer.deserialize_any(OneOrSeveral)
    }
}

macro_rules! text_schema {
    ($type:ty, $name:literal, $pattern:literal, $description:literal) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "pattern": $pattern, "description": $description})
            }
        }
    };
}

text_schema!(
    TimeSpan,
    "TimeSpan",
    "^([0-9.]+(ms|s|m|h))+$",
    "A length of time with its unit: `300ms`, `10s`, `1m30s`."
);
text_schema!(Rate, "Rate", "^[0-9.]+/s$", "Requests per second: `100/s`.");
text_schema!(
    Target,
    "Target",
    "^[^@]+(@[^@]+)?$",
    "A service as a client calls it: `store` or `store@east`."
);

impl JsonSchema for Clusters {
    fn schema_name() -> Cow<'static, str> {
        "Clusters".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "One or several clusters: `west` or `[west, east]`.",
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Rate, Target, TimeSpan};
    use rstest::rstest;
    use std::time::Duration;

    #[rstest]
    #[case("300ms", 300)]
    #[case("10s", 10_000)]
    #[case("1m30s", 90_000)]
    #[case("1.5s", 1500)]
    fn a_time_span_has_a_unit(#[case] text: &str, #[case] millis: u64) {
        assert_eq!(text.parse(), Ok(TimeSpan(Duration::from_millis(millis))));
    }

    #[rstest]
    #[case("90")]
    #[case("")]
    #[case("-3s")]
    #[case("3 s")]
    #[case("soon")]
    fn anything_else_is_no_time_span(#[case] text: &str) {
        assert!(text.parse::<TimeSpan>().is_err());
    }

    #[test]
    fn rates_and_targets_read_back() {
        assert_eq!("100/s".parse(), Ok(Rate(100.0)));
        assert!("0/s".parse::<Rate>().is_err());
        assert!("100".parse::<Rate>().is_err());
        let target: Target = "store@east".parse().unwrap();
        assert_eq!(target.to_string(), "store@east");
        assert!("store@".parse::<Target>().is_err());
    }
}
