//! Label and field selectors: parsing and matching, as in `k8s.io/apimachinery/pkg/{labels,fields}`.

use crate::Status;
use serde_json::Value;

/// Chooses objects by labels and fields; the default chooses all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector {
    /// On `metadata.labels`.
    pub labels: LabelSelector,
    /// On single fields.
    pub fields: FieldSelector,
}

impl Selector {
    /// Every object.
    pub fn all() -> Self {
        Self::default()
    }

    /// By a label selector such as `app=web,tier!=cache`.
    ///
    /// # Errors
    /// 400 when the text is no label selector.
    pub fn labels(text: &str) -> Result<Self, Status> {
        Ok(Self {
            labels: LabelSelector::parse(text)?,
            fields: FieldSelector::default(),
        })
    }

    /// By a field selector such as `spec.nodeName=n1`.
    ///
    /// # Errors
    /// 400 when the text is no field selector.
    pub fn fields(text: &str) -> Result<Self, Status> {
        Ok(Self {
            labels: LabelSelector::default(),
            fields: FieldSelector::parse(text)?,
        })
    }

    /// Whether the object is chosen.
    pub fn matches(&self, object: &Value) -> bool {
        self.labels.matches_labels(&object["metadata"]["labels"]) && self.fields.matches(object)
    }

    /// Whether every object is chosen.
    pub fn is_all(&self) -> bool {
        self.labels.requirements.is_empty() && self.fields.requirements.is_empty()
    }
}

/// Requirements on labels, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelSelector {
    requirements: Vec<LabelRequirement>,
}

#[derive(Clone, Debug, PartialEq)]
struct LabelRequirement {
    key: String,
    operator: Operator,
}

#[derive(Clone, Debug, PartialEq)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    GreaterThan(i64),
    LessThan(i64),
}

impl LabelSelector {
    /// Parses `a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b,c)`, `a`, `!a`, `a>1`, `a<1`, joined by commas.
    ///
    /// # Errors
    /// 400 with the offending part.
    pub fn parse(text: &str) -> Result<Self, Status> {
        let mut parser = Parser { text, rest: text };
        let mut requirements = Vec::new();
        parser.skip_space();
        while !parser.rest.is_empty() {
            requirements.push(parser.requirement()?);
            parser.skip_space();
            if parser.rest.is_empty() {
                break;
            }
            parser.expect(',')?;
            parser.skip_space();
            if parser.rest.is_empty() {
                return Err(parser.error("found '' after ',', expected a key"));
            }
        }
        Ok(Self { requirements })
    }

    /// From a `LabelSelector` object (`matchLabels`, `matchExpressions`). An empty object matches everything.
    ///
    /// # Errors
    /// 400 when an expression has an unknown operator or lacks values.
    pub fn from_object(selector: &Value) -> Result<Self, Status> {
        let mut requirements = Vec::new();
        if let Some(labels) = selector["matchLabels"].as_object() {
            for (key, value) in labels {
                let value = value.as_str().unwrap_or_default().to_owned();
                requirements.push(LabelRequirement {
                    key: key.clone(),
                    operator: Operator::In(vec![value]),
                });
            }
        }
        for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
            let key = expression["key"].as_str().unwrap_or_default().to_owned();
            let values = || -> Vec<String> {
                expression["values"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|v| v.as_str().map(str::to_owned))
                    .collect()
            };
            let operator = match expression["operator"].as_str().unwrap_or_default() {
                "In" => Operator::In(values()),
                "NotIn" => Operator::NotIn(values()),
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(Status::bad_request(format!(
                        "\"{other}\" is not a valid label selector operator"
                    )));
                }
            };
            if matches!(&operator, Operator::In(v) | Operator::NotIn(v) if v.is_empty()) {
                return Err(Status::bad_request(
                    "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty",
                ));
            }
            requirements.push(LabelRequirement { key, operator });
        }
        Ok(Self { requirements })
    }

    /// From a plain map, as in a Service's `spec.selector`.
    pub fn from_map(labels: &Value) -> Self {
        let requirements = labels
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| LabelRequirement {
                key: key.clone(),
                operator: Operator::In(vec![value.as_str().unwrap_or_default().to_owned()]),
            })
            .collect();
        Self { requirements }
    }

    /// Whether the `metadata.labels` value satisfies every requirement.
    pub fn matches_labels(&self, labels: &Value) -> bool {
        self.requirements
            .iter()
            .all(|r| r.holds(labels.get(&r.key).and_then(Value::as_str)))
    }

    /// The selector as text that [`Self::parse`] reads.
    pub fn to_text(&self) -> String {
        self.requirements
            .iter()
            .map(LabelRequirement::to_text)
            .collect::<Vec<_>>()
            .join(",")
    }
}

impl LabelRequirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match &self.operator {
            Operator::In(values) => value.is_some_and(|v| values.iter().any(|x| x == v)),
            Operator::NotIn(values) => value.is_none_or(|v| values.iter().all(|x| x != v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan(bound) => number().is_some_and(|n| n > *bound),
            Operator::LessThan(bound) => number().is_some_and(|n| n < *bound),
        }
    }

    fn to_text(&self) -> String {
        let key = &self.key;
        match &self.operator {
            Operator::In(values) if values.len() == 1 => format!("{key}={}", values[0]),
            Operator::In(values) => format!("{key} in ({})", values.join(",")),
            Operator::NotIn(values) if values.len() == 1 => format!("{key}!={}", values[0]),
            Operator::NotIn(values) => format!("{key} notin ({})", values.join(",")),
            Operator::Exists => key.clone(),
            Operator::DoesNotExist => format!("!{key}"),
            Operator::GreaterThan(bound) => format!("{key}>{bound}"),
            Operator::LessThan(bound) => format!("{key}<{bound}"),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn error(&self, what: &str) -> Status {
        Status::bad_request(format!("unable to parse requirement in \"{}\": {what}", self.text))
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, token: &str) -> bool {
        if let Some(rest) = self.rest.strip_prefix(token) {
            self.rest = rest;
            true
        } else {
            false
        }
    }

    fn expect(&mut self, c: char) -> Result<(), Status> {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => Err(self.error(&format!(
                "found '{}', expected '{c}'",
                self.rest.chars().take(20).collect::<String>()
            ))),
        }
    }

    /// A run of characters that may stand in a key or a value.
    fn word(&mut self) -> &'a str {
        let end = self
            .rest
            .find(|c: char| c.is_whitespace() || matches!(c, ',' | '(' | ')' | '=' | '!' | '<' | '>'))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn key(&mut self) -> Result<String, Status> {
        let key = self.word();
        crate::admission::names::label_key(key)
            .map_err(|why| self.error(&format!("key: Invalid value: \"{key}\": {why}")))?;
        Ok(key.to_owned())
    }

    fn value(&mut self) -> Result<String, Status> {
        self.skip_space();
        let value = self.word();
        crate::admission::names::label_value(value)
            .map_err(|why| self.error(&format!("values: Invalid value: \"{value}\": {why}")))?;
        Ok(value.to_owned())
    }

    fn requirement(&mut self) -> Result<LabelRequirement, Status> {
        if self.take("!") {
            self.skip_space();
            return Ok(LabelRequirement {
                key: self.key()?,
                operator: Operator::DoesNotExist,
            });
        }
        let key = self.key()?;
        self.skip_space();
        let operator = if self.rest.is_empty() || self.rest.starts_with(',') {
            Operator::Exists
        } else if self.take("==") || self.take("=") {
            Operator::In(vec![self.value()?])
        } else if self.take("!=") {
            Operator::NotIn(vec![self.value()?])
        } else if self.take(">") {
            Operator::GreaterThan(self.integer()?)
        } else if self.take("<") {
            Operator::LessThan(self.integer()?)
        } else {
            match self.word() {
                "in" => Operator::In(self.value_set()?),
                "notin" => Operator::NotIn(self.value_set()?),
                other => {
                    return Err(self.error(&format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt")));
                }
            }
        };
        Ok(LabelRequirement { key, operator })
    }

    fn integer(&mut self) -> Result<i64, Status> {
        let value = self.value()?;
        value.parse().map_err(|_| {
            self.error(&format!(
                "\"{value}\": for 'Gt', 'Lt' operators, the value must be an integer"
            ))
        })
    }

    fn value_set(&mut self) -> Result<Vec<String>, Status> {
        self.skip_space();
        self.expect('(')?;
        let mut values = Vec::new();
        loop {
            values.push(self.value()?);
            self.skip_space();
            if self.take(")") {
                return Ok(values);
            }
            self.expect(',')?;
        }
    }
}

/// Requirements on single fields, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldSelector {
    requirements: Vec<FieldRequirement>,
}

#[derive(Clone, Debug, PartialEq)]
struct FieldRequirement {
    path: String,
    value: String,
    equal: bool,
}

impl FieldSelector {
    /// Parses `path=value`, `path==value`, `path!=value`, joined by commas. `\,`, `\=` and `\\` are escapes.
    ///
    /// # Errors
    /// 400 with the offending part.
    pub fn parse(text: &str) -> Result<Self, Status> {
        let mut requirements = Vec::new();
        for part in split_unescaped(text, ',') {
            if part.is_empty() {
                continue;
            }
            let error = || Status::bad_request(format!("invalid selector: '{text}'; can't understand '{part}'"));
            let (path, value, equal) = if let Some((path, value)) = part.split_once("!=") {
                (path, value, false)
            } else if let Some((path, value)) = part.split_once("==") {
                (path, value, true)
            } else if let Some((path, value)) = part.split_once('=') {
                (path, value, true)
            } else {
                return Err(error());
            };
            requirements.push(FieldRequirement {
                path: path.trim().to_owned(),
                value: unescape(value).ok_or_else(error)?,
                equal,
            });
        }
        Ok(Self { requirements })
    }

    /// Whether the object satisfies every requirement. A missing field counts as the empty string.
    pub fn matches(&self, object: &Value) -> bool {
        self.requirements
            .iter()
            .all(|r| (field_text(object, &r.path) == r.value) == r.equal)
    }

    /// The paths that are used.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.requirements.iter().map(|r| r.path.as_str())
    }

    /// The value that the selector demands for a path, if it demands one.
    pub fn required(&self, path: &str) -> Option<&str> {
        self.requirements
            .iter()
            .find(|r| r.equal && r.path == path)
            .map(|r| r.value.as_str())
    }
}

fn field_text(object: &Value, path: &str) -> String {
    let mut at = object;
    for segment in path.split('.') {
        at = &at[segment];
    }
    match at {
        Value::String(s) => s.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn split_unescaped(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (i, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == separator {
            parts.push(&text[start..i]);
            start = i + c.len_utf8();
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                _ => return None,
            },
            '=' | ',' => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case("", true)]
    #[case("app=web", true)]
    #[case("app==web", true)]
    #[case("app!=web", false)]
    #[case("app!=db", true)]
    #[case("missing!=x", true)]
    #[case("app in (db, web)", true)]
    #[case("app notin (db,web)", false)]
    #[case("missing notin (db)", true)]
    #[case("app", true)]
    #[case("!app", false)]
    #[case("!missing", true)]
    #[case("rank>4", true)]
    #[case("rank>5", false)]
    #[case("rank<6", true)]
    #[case("app=web, rank in (5)", true)]
    #[case("app=web,app=db", false)]
    #[case("empty=", true)]
    #[case("empty in (,x)", true)]
    #[case("example.com/role=a", true)]
    fn label_selector(#[case] text: &str, #[case] expected: bool) {
        let labels = json!({"app": "web", "rank": "5", "empty": "", "example.com/role": "a"});
        let selector = LabelSelector::parse(text).unwrap();
        assert_eq!(selector.matches_labels(&labels), expected);
        assert_eq!(LabelSelector::parse(&selector.to_text()).unwrap(), selector);
    }

    #[rstest]
    #[case("a=b=c")]
    #[case("a in b")]
    #[case("a in (b")]
    #[case("a,,b")]
    #[case("a,")]
    #[case("=b")]
    #[case("a>x")]
    #[case("a like b")]
    #[case("-a=b")]
    #[case("a=-b")]
    fn malformed_label_selector(#[case] text: &str) {
        assert_eq!(LabelSelector::parse(text).unwrap_err().code, 400);
    }

    #[test]
    fn selector_object() {
        let labels = json!({"app": "web"});
        let object =
            json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]});
        assert!(LabelSelector::from_object(&object).unwrap().matches_labels(&labels));
        let bad = json!({"matchExpressions": [{"key": "x", "operator": "Like", "values": ["a"]}]});
        assert_eq!(LabelSelector::from_object(&bad).unwrap_err().code, 400);
    }

    #[rstest]
    #[case("spec.nodeName=n1", true)]
    #[case("spec.nodeName!=n1", false)]
    #[case("metadata.name=a\\,b", true)]
    #[case("status.phase=", true)]
    #[case("spec.nodeName=n1,metadata.name=x", false)]
    fn field_selector(#[case] text: &str, #[case] expected: bool) {
        let object = json!({"metadata": {"name": "a,b"}, "spec": {"nodeName": "n1"}});
        assert_eq!(FieldSelector::parse(text).unwrap().matches(&object), expected);
    }

    #[test]
    fn malformed_field_selector() {
        assert_eq!(FieldSelector::parse("abc").unwrap_err().code, 400);
        assert_eq!(FieldSelector::parse("a=b\\x").unwrap_err().code, 400);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in ".{0,60}") {
            let _ = LabelSelector::parse(&text);
            let _ = FieldSelector::parse(&text);
        }

        #[test]
        fn label_text_is_read_back(text in "[a-c!=<>, ()inot1]{0,24}") {
            if let Ok(selector) = LabelSelector::parse(&text) {
                prop_assert_eq!(LabelSelector::parse(&selector.to_text()).unwrap(), selector);
            }
        }
    }
}
