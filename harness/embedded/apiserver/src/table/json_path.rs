//! The part of JSONPath that printer columns and scale paths use: `.a.b`, `['a.b']`, `[0]`, `[*]`, `[?(@.a=="b")]`.

use serde_json::Value;

/// All values at a path.
pub(crate) fn find<'a>(root: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut rest = path
        .trim()
        .trim_start_matches('{')
        .trim_end_matches('}')
        .trim_start_matches('$');
    let mut found = vec![root];
    while !rest.is_empty() {
        let (step, tail) = next_step(rest);
        rest = tail;
        found = found.into_iter().flat_map(|value| take(value, &step)).collect();
    }
    found
}

#[derive(Debug, PartialEq)]
enum Step {
    Field(String),
    Index(usize),
    All,
    Filter { field: String, equal: bool, value: String },
    Unknown,
}

fn next_step(path: &str) -> (Step, &str) {
    if let Some(rest) = path.strip_prefix('[') {
        // A filter contains brackets only inside quotes; the first "]" outside of them ends it.
        let mut quote = None;
        for (i, c) in rest.char_indices() {
            match (quote, c) {
                (None, '\'' | '"') => quote = Some(c),
                (Some(q), c) if q == c => quote = None,
                (None, ']') => return (bracket(&rest[..i]), &rest[i + 1..]),
                _ => {}
            }
        }
        return (Step::Unknown, "");
    }
    let rest = path.strip_prefix('.').unwrap_or(path);
    // "\." is a dot inside a name.
    let mut name = String::new();
    let mut chars = rest.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => {
                if let Some((_, escaped)) = chars.next() {
                    name.push(escaped);
                }
            }
            '.' | '[' => return (named(name), &rest[i..]),
            c => name.push(c),
        }
    }
    (named(name), "")
}

fn named(name: String) -> Step {
    if name == "*" { Step::All } else { Step::Field(name) }
}

fn bracket(inner: &str) -> Step {
    let inner = inner.trim();
    if inner == "*" {
        return Step::All;
    }
    if let Ok(index) = inner.parse() {
        return Step::Index(index);
    }
    if let Some(condition) = inner.strip_prefix("?(").and_then(|i| i.strip_suffix(')')) {
        let (left, right, equal) = match (condition.split_once("=="), condition.split_once("!=")) {
            (Some((left, right)), _) => (left, right, true),
            (None, Some((left, right))) => (left, right, false),
            (None, None) => return Step::Unknown,
        };
        let field = left.trim().trim_start_matches("@.").trim_start_matches('@').to_owned();
        let value = right.trim().trim_matches(['"', '\'']).to_owned();
        return Step::Filter { field, equal, value };
    }
    Step::Field(inner.trim_matches(['"', '\'']).to_owned())
}

fn take<'a>(value: &'a Value, step: &Step) -> Vec<&'a Value> {
    let items = || match value {
        Value::Array(items) => items.iter().collect::<Vec<_>>(),
        Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    };
    match step {
        Step::Field(name) if name.is_empty() => vec![value],
        Step::Field(name) => value.get(name.as_str()).into_iter().collect(),
        Step::Index(index) => value.get(*index).into_iter().collect(),
        Step::All => items(),
        Step::Filter {
            field,
            equal,
            value: wanted,
        } => items()
            .into_iter()
            .filter(|item| {
                let found = find(item, &format!(".{field}"));
                let text = found
                    .first()
                    .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
                text.is_some_and(|text| (text == *wanted) == *equal)
            })
            .collect(),
        Step::Unknown => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case(".spec.n", json!([1]))]
    #[case("{.spec.n}", json!([1]))]
    #[case(".status.conditions[?(@.type==\"Ready\")].status", json!(["True"]))]
    #[case(".status.conditions[?(@.type=='Other')].status", json!([]))]
    #[case(".status.conditions[1].type", json!(["Live"]))]
    #[case(".status.conditions[*].type", json!(["Ready", "Live"]))]
    #[case(".metadata.annotations['a.b/c']", json!(["x"]))]
    #[case(".metadata.annotations.a\\.b/c", json!(["x"]))]
    #[case(".missing.path", json!([]))]
    #[case("[", json!([]))]
    fn paths(#[case] path: &str, #[case] expected: Value) {
        let object = json!({"spec": {"n": 1}, "metadata": {"annotations": {"a.b/c": "x"}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Live", "status": "False"}]}});
        assert_eq!(json!(find(&object, path)), expected);
    }

    proptest! {
        #[test]
        fn never_panics(path in ".{0,30}") {
            let _ = find(&json!({"a": [{"b": 1}]}), &path);
        }
    }
}
