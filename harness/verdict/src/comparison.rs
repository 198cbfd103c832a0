//! Whether a value found in an object is as a [`Comparison`] says.

use serde_json::Value;

use meshproof_kinds::Found;

use crate::question::{Comparison, HIDDEN};

/// Whether what was found at a place is as it must be.
///
/// Numbers compare by value (1 equals 1.0). What a path with `[*]` found is a list.
#[must_use]
pub fn holds(comparison: &Comparison, found: &Found<'_>) -> bool {
    match comparison {
        Comparison::Equals(wanted) => equals(found, wanted),
        Comparison::OneOf(wanted) => wanted.iter().any(|wanted| equals(found, wanted)),
        Comparison::Contains(wanted) => contains(found, wanted) == Some(true),
        Comparison::Excludes(wanted) => contains(found, wanted) == Some(false),
        Comparison::Exists(wanted) => exists(found) == *wanted,
        Comparison::AtLeast(bound) => number(found).is_some_and(|value| value >= *bound),
        Comparison::AtMost(bound) => number(found).is_some_and(|value| value <= *bound),
        Comparison::Length(wanted) => length(found) == Some(*wanted),
    }
}

fn equals(found: &Found<'_>, wanted: &Value) -> bool {
    match found {
        Found::Nothing => wanted.is_null(),
        Found::One(value) => same(value, wanted),
        Found::Many(values) => wanted.as_array().is_some_and(|wanted| {
            values.len() == wanted.len() && values.iter().zip(wanted).all(|(value, wanted)| same(value, wanted))
        }),
    }
}

/// Whether it contains the value; nothing when it can't contain anything. Nothing there contains nothing.
fn contains(found: &Found<'_>, wanted: &Value) -> Option<bool> {
    match found {
        Found::Nothing => Some(false),
        Found::One(Value::String(text)) => {
            let wanted = wanted.as_str()?;
            let contains = text.contains(wanted);
            // What is hidden may contain it all the same.
            (contains || !text.contains(HIDDEN)).then_some(contains)
        }
        Found::One(Value::Array(values)) => Some(values.iter().any(|value| same(value, wanted))),
        Found::One(_) => None,
        Found::Many(values) => Some(values.iter().any(|value| same(value, wanted))),
    }
}

fn exists(found: &Found<'_>) -> bool {
    match found {
        Found::Nothing => false,
        Found::One(_) => true,
        Found::Many(values) => !values.is_empty(),
    }
}

fn number(found: &Found<'_>) -> Option<f64> {
    match found {
        Found::One(value) => value.as_f64(),
        Found::Nothing | Found::Many(_) => None,
    }
}

fn length(found: &Found<'_>) -> Option<u64> {
    match found {
        Found::Nothing => Some(0),
        Found::One(value) => value.as_array().map(|values| values.len() as u64),
        Found::Many(values) => Some(values.len() as u64),
    }
}

/// Equality of JSON values in which numbers compare by value.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || (x.is_f64() != y.is_f64() && x.as_f64() == y.as_f64()),
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y)),
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(key, x)| y.get(key).is_some_and(|y| same(x, y)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(Comparison::Equals(json!(1)), json!(1), true)]
    #[case(Comparison::Equals(json!(1)), json!(1.0), true)]
    #[case(Comparison::Equals(json!({"a": [1]})), json!({"a": [1.0]}), true)]
    #[case(Comparison::Equals(json!({"a": 1})), json!({"a": 1, "b": 2}), false)]
    #[case(Comparison::Equals(json!("1")), json!(1), false)]
    #[case(Comparison::Equals(json!([1, 2])), json!([2, 1]), false)]
    #[case(Comparison::OneOf(vec![json!("a"), json!("b")]), json!("b"), true)]
    #[case(Comparison::OneOf(vec![json!("a"), json!("b")]), json!("c"), false)]
    #[case(Comparison::OneOf(vec![]), json!("c"), false)]
    #[case(Comparison::Contains(json!("x")), json!("<not shown: 0a1b2c3d>"), false)]
    #[case(Comparison::Excludes(json!("x")), json!("<not shown: 0a1b2c3d>"), false)]
    #[case(Comparison::Equals(json!("<not shown: 0a1b2c3d>")), json!("<not shown: 0a1b2c3d>"), true)]
    #[case(Comparison::Contains(json!("ro")), json!("true north"), false)]
    #[case(Comparison::Contains(json!("nor")), json!("true north"), true)]
    #[case(Comparison::Contains(json!(3)), json!([1, 3]), true)]
    #[case(Comparison::Contains(json!(3)), json!({"3": 3}), false)]
    #[case(Comparison::Contains(json!(3)), json!("3"), false)]
    #[case(Comparison::Excludes(json!("x")), json!("abc"), true)]
    #[case(Comparison::Excludes(json!("b")), json!("abc"), false)]
    #[case(Comparison::Excludes(json!("b")), json!(["b"]), false)]
    #[case(Comparison::Excludes(json!("b")), json!({"b": 1}), false)]
    #[case(Comparison::Exists(true), json!(false), true)]
    #[case(Comparison::Exists(false), json!(false), false)]
    #[case(Comparison::AtLeast(2.0), json!(2), true)]
    #[case(Comparison::AtLeast(2.0), json!(1.999), false)]
    #[case(Comparison::AtLeast(2.0), json!("3"), false)]
    #[case(Comparison::AtMost(2.0), json!(2), true)]
    #[case(Comparison::AtMost(2.0), json!(2.001), false)]
    #[case(Comparison::Length(2), json!([1, 2]), true)]
    #[case(Comparison::Length(2), json!([1]), false)]
    #[case(Comparison::Length(2), json!("ab"), false)]
    fn one_value(#[case] comparison: Comparison, #[case] value: Value, #[case] expected: bool) {
        assert_eq!(holds(&comparison, &Found::One(&value)), expected);
    }

    #[rstest]
    #[case(Comparison::Equals(json!(null)), true)]
    #[case(Comparison::Equals(json!("")), false)]
    #[case(Comparison::OneOf(vec![json!("a")]), false)]
    #[case(Comparison::Contains(json!("a")), false)]
    #[case(Comparison::Excludes(json!("a")), true)]
    #[case(Comparison::Exists(true), false)]
    #[case(Comparison::Exists(false), true)]
    #[case(Comparison::AtLeast(0.0), false)]
    #[case(Comparison::AtMost(0.0), false)]
    #[case(Comparison::Length(0), true)]
    #[case(Comparison::Length(1), false)]
    fn nothing_there(#[case] comparison: Comparison, #[case] expected: bool) {
        assert_eq!(holds(&comparison, &Found::Nothing), expected);
    }

    #[rstest]
    #[case(Comparison::Equals(json!([80, 443])), true)]
    #[case(Comparison::Equals(json!([80])), false)]
    #[case(Comparison::Equals(json!(80)), false)]
    #[case(Comparison::Contains(json!(443)), true)]
    #[case(Comparison::Excludes(json!(443)), false)]
    #[case(Comparison::Excludes(json!(8080)), true)]
    #[case(Comparison::Exists(true), true)]
    #[case(Comparison::Length(2), true)]
    #[case(Comparison::AtLeast(1.0), false)]
    fn a_list_of_values(#[case] comparison: Comparison, #[case] expected: bool) {
        let (a, b) = (json!(80), json!(443));
        assert_eq!(holds(&comparison, &Found::Many(vec![&a, &b])), expected);
    }
}
