//! JSON Schemas of all files, for editors. Generated from the types and committed under `reports/schemas/`.

use std::path::Path;
use std::{fs, io};

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::catalogue::{Catalogue, Deviations, Profiles};
use crate::scenario::{Fragment, Scenario};
use crate::topology::Topology;

/// What a reference looks like, as a regular expression.
const REFERENCE: &str = r"\$\{[^}]+\}";

/// Name and schema of each kind of file. A file's first line refers to `<name>.json`.
pub fn all() -> Vec<(&'static str, Value)> {
    vec![
        ("catalogue", of::<Catalogue>(false)),
        ("deviations", of::<Deviations>(false)),
        ("fragment", of::<Fragment>(true)),
        ("profiles", of::<Profiles>(false)),
        ("scenario", of::<Scenario>(true)),
        ("topology", of::<Topology>(false)),
    ]
}

/// The schema called `name`.
pub fn find(name: &str) -> Option<Value> {
    all()
        .into_iter()
        .find(|(other, _)| *other == name)
        .map(|(_, schema)| schema)
}

/// A schema as it is written to disk.
pub fn to_text(schema: &Value) -> String {
    format!("{schema:#}\n")
}

/// Writes all schemas to `<folder>/<name>.json`.
///
/// # Errors
/// When the folder cannot be made or a file cannot be written.
pub fn write_all(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (name, schema) in all() {
        fs::write(folder.join(format!("{name}.json")), to_text(&schema))?;
    }
    Ok(())
}

/// With `references`, `${...}` may stand wherever a scalar may: it is filled in before the value is read.
fn of<T: JsonSchema>(references: bool) -> Value {
    let mut schema = SchemaGenerator::default().into_root_schema_for::<T>().to_value();
    if let Some(definitions) = schema.get_mut("$defs").and_then(Value::as_object_mut) {
        pattern(definitions, "Name", "^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$");
        pattern(definitions, "RequirementId", "^[A-Z][A-Z0-9]*(-[A-Z0-9]+)+$");
    }
    if references {
        allow_references(&mut schema);
    }
    schema
}

fn pattern(definitions: &mut Map<String, Value>, name: &str, pattern: &str) {
    if let Some(definition) = definitions.get_mut(name).and_then(Value::as_object_mut) {
        definition.insert("pattern".to_owned(), json!(pattern));
    }
}

fn allow_references(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(allow_references),
        Value::Object(map) => {
            if let Some(Value::String(pattern)) = map.get_mut("pattern") {
                *pattern = format!("({pattern})|{REFERENCE}");
            }
            let words = map
                .get("oneOf")
                .and_then(Value::as_array)
                .is_some_and(|variants| variants.iter().all(|variant| variant.get("const").is_some()));
            if words && let Some(Value::Array(variants)) = map.get_mut("oneOf") {
                variants.push(json!({"type": "string", "pattern": format!("^{REFERENCE}$")}));
            }
            for (key, value) in map.iter_mut() {
                if key != "oneOf" || !words {
                    allow_references(value);
                }
            }
            if is_number_or_truth(map) {
                let description = map.remove("description");
                let default = map.remove("default");
                let own = Value::Object(std::mem::take(map));
                let reference = json!({"type": "string", "pattern": format!("^{REFERENCE}$")});
                map.insert("anyOf".to_owned(), json!([own, reference]));
                map.extend(description.map(|value| ("description".to_owned(), value)));
                map.extend(default.map(|value| ("default".to_owned(), value)));
            }
        }
        _ => {}
    }
}

fn is_number_or_truth(schema: &Map<String, Value>) -> bool {
    let is = |kind: &Value| matches!(kind.as_str(), Some("integer" | "number" | "boolean"));
    match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(is),
        Some(kind) => is(kind),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{all, to_text, write_all};

    /// Set `UPDATE_SCHEMAS=1` to write the files after the types were changed.
    #[test]
    fn the_committed_schemas_are_those_of_the_types() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../reports/schemas");
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            write_all(&folder).unwrap();
        }
        for (name, schema) in all() {
            let path = folder.join(format!("{name}.json"));
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                committed == to_text(&schema),
                "{} differs from the types; run `UPDATE_SCHEMAS=1 cargo test -p meshproof-spec schema`",
                path.display()
            );
        }
    }

    #[test]
    fn every_field_is_described_for_editors() {
        for (name, schema) in all() {
            let definitions = schema["$defs"].as_object().unwrap();
            for (definition, schema) in definitions {
                for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
                    assert!(schema.get("description").is_some(), "{name}: {definition}.{field}");
                }
            }
        }
    }
}
