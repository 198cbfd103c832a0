//! `${…}` references in steps: the scenario's namespace, and what the mesh's driver knows.

use meshproof_spec::scenario::Step;
use serde_json::Value;

use crate::driver::MeshDriver;
use crate::environment::Cluster;
use crate::problem::{self, Problem};

/// The step with all references replaced.
///
/// # Errors
/// When the mesh knows no such fact.
pub(crate) fn resolve(
    step: &Step,
    namespace: &str,
    clusters: &[Cluster],
    driver: &dyn MeshDriver,
) -> Result<Step, Problem> {
    let mut value = serde_json::to_value(step).map_err(|error| broken(error.to_string()))?;
    let fact = |reference: &str| fact(reference, namespace, clusters, driver);
    resolve_value(&mut value, &fact).map_err(|reference| unknown(&reference, driver))?;
    serde_json::from_value(value).map_err(|error| broken(format!("after replacing `${{…}}` references: {error}")))
}

/// A text (a file that a step names) with all references replaced.
///
/// # Errors
/// When the mesh knows no such fact.
pub(crate) fn resolve_in_text(
    text: &str,
    namespace: &str,
    clusters: &[Cluster],
    driver: &dyn MeshDriver,
) -> Result<String, Problem> {
    let fact = |reference: &str| fact(reference, namespace, clusters, driver);
    resolve_text(text, &fact).map_err(|reference| unknown(&reference, driver))
}

fn fact(reference: &str, namespace: &str, clusters: &[Cluster], driver: &dyn MeshDriver) -> Option<String> {
    if reference == "namespace" {
        return Some(namespace.to_owned());
    }
    match reference.strip_prefix("address.node.") {
        Some(name) => clusters
            .iter()
            .find(|cluster| cluster.name == name)
            .map(|cluster| cluster.node_address.clone()),
        None => driver.fact(reference, namespace),
    }
}

fn unknown(reference: &str, driver: &dyn MeshDriver) -> Problem {
    broken(format!("`${{{reference}}}` is not known to the mesh {}", driver.name()))
}

fn broken(message: String) -> Problem {
    problem::harness(
        "unknown-reference",
        message,
        Some("see the guide for the facts that the mesh's driver knows"),
    )
}

fn resolve_value(value: &mut Value, fact: &dyn Fn(&str) -> Option<String>) -> Result<(), String> {
    match value {
        Value::String(text) => {
            if text.contains("${") {
                *text = resolve_text(text, fact)?;
            }
        }
        Value::Array(items) => items.iter_mut().try_for_each(|item| resolve_value(item, fact))?,
        Value::Object(map) => {
            if map.keys().any(|key| key.contains("${")) {
                let entries = std::mem::take(map);
                for (key, value) in entries {
                    map.insert(resolve_text(&key, fact)?, value);
                }
            }
            map.values_mut().try_for_each(|value| resolve_value(value, fact))?;
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}

/// Replaces the references of a text. What a fact says is not searched again.
fn resolve_text(text: &str, fact: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, after) = rest.split_at(start);
        resolved.push_str(before);
        let Some(end) = after.find('}') else {
            return Err(after[2..].to_owned());
        };
        let reference = after[2..end].trim();
        resolved.push_str(&fact(reference).ok_or_else(|| reference.to_owned())?);
        rest = &after[end + 1..];
    }
    resolved.push_str(rest);
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::{resolve_text, resolve_value};
    use rstest::rstest;
    use serde_json::json;

    fn fact(reference: &str) -> Option<String> {
        match reference {
            "namespace" => Some("mp-1".to_owned()),
            "mesh.key" => Some("${namespace}".to_owned()),
            _ => None,
        }
    }

    #[rstest]
    #[case("plain", "plain")]
    #[case("${namespace}/x", "mp-1/x")]
    #[case("a ${ namespace } b ${namespace}", "a mp-1 b mp-1")]
    #[case("${mesh.key}", "${namespace}")]
    fn references_are_replaced_once(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(resolve_text(text, &fact), Ok(expected.to_owned()));
    }

    #[rstest]
    #[case("${nobody.knows}", "nobody.knows")]
    #[case("${namespace", "namespace")]
    fn an_unknown_reference_is_named(#[case] text: &str, #[case] reference: &str) {
        assert_eq!(resolve_text(text, &fact), Err(reference.to_owned()));
    }

    #[test]
    fn keys_and_nested_values_are_resolved_too() {
        let mut value = json!({"${namespace}": ["${namespace}", {"a": "${namespace}"}], "n": 1});
        resolve_value(&mut value, &fact).unwrap();
        assert_eq!(value, json!({"mp-1": ["mp-1", {"a": "mp-1"}], "n": 1}));
    }
}
