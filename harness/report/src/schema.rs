//! The JSON Schema of `report.json`.

use crate::model::Report;

/// The schema, as the file `reports/schemas/report.json` holds it.
#[must_use]
pub fn report() -> String {
    let schema = schemars::schema_for!(Report);
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}
