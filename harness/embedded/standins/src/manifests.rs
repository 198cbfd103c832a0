//! Printing objects as the commands do.

use serde_json::Value;

use crate::exchange::Failure;

/// Documents, each after a line of three dashes.
pub(crate) fn yaml(objects: &[Value]) -> Result<String, Failure> {
    let mut text = String::new();
    for object in objects {
        let document = serde_yaml::to_string(object).map_err(|error| Failure::new(error.to_string()))?;
        text.push_str("---\n");
        text.push_str(&document);
    }
    Ok(text)
}

/// `-o json` of linkerd: one object a line.
pub(crate) fn json_lines(objects: &[Value]) -> String {
    objects.iter().map(|object| format!("{object}\n")).collect()
}
