//! Label selectors of a Link.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Whether `selector` says anything at all. A missing or empty one selects nothing in a Link, against Kubernetes' habit.
pub(super) fn is_blank(selector: Option<&LabelSelector>) -> bool {
    selector.is_none_or(|selector| {
        selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
            && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
    })
}

/// Whether a selector that [says something](is_blank) matches `labels`. An operator that Kubernetes does not know matches
/// nothing.
pub(super) fn matches(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    if is_blank(selector) {
        return false;
    }
    let Some(selector) = selector else {
        return false;
    };
    let equal = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    let expressed = selector.match_expressions.iter().flatten().all(|requirement| {
        let value = labels.get(&requirement.key);
        let listed =
            value.is_some_and(|value| requirement.values.as_ref().is_some_and(|values| values.contains(value)));
        match requirement.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    });
    equal && expressed
}

#[cfg(test)]
mod tests {
    use super::matches;
    use rstest::rstest;
    use serde_json::{Value, json};

    #[rstest]
    #[case::missing(Value::Null, false)]
    #[case::empty(json!({}), false)]
    #[case::empty_parts(json!({"matchLabels": {}, "matchExpressions": []}), false)]
    #[case::equal(json!({"matchLabels": {"exported": "true"}}), true)]
    #[case::other_value(json!({"matchLabels": {"exported": "false"}}), false)]
    #[case::other_key(json!({"matchLabels": {"exported": "true", "tier": "a"}}), false)]
    #[case::one_of(json!({"matchExpressions": [{"key": "exported", "operator": "In", "values": ["x", "true"]}]}), true)]
    #[case::none_of(json!({"matchExpressions": [{"key": "exported", "operator": "NotIn", "values": ["true"]}]}), false)]
    #[case::there(json!({"matchExpressions": [{"key": "exported", "operator": "Exists"}]}), true)]
    #[case::not_there(json!({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}), true)]
    #[case::unknown(json!({"matchExpressions": [{"key": "exported", "operator": "Gt", "values": ["1"]}]}), false)]
    fn selectors_match_as_kubernetes_does_except_when_blank(#[case] selector: Value, #[case] expected: bool) {
        let selector = serde_json::from_value(selector).unwrap();
        let labels = [("exported".to_owned(), "true".to_owned())].into();
        assert_eq!(matches(Option::as_ref(&selector), &labels), expected);
    }
}
