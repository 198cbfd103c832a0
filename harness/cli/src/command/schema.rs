//! `meshproof schema`

use crate::args::SchemaArgs;
use crate::exit_code::Exit;
use crate::output;

/// All schemas: name and text.
#[must_use]
pub fn all() -> Vec<(String, String)> {
    let mut schemas: Vec<(String, String)> = meshproof_spec::schema::all()
        .into_iter()
        .map(|(name, schema)| (name.to_owned(), meshproof_spec::schema::to_text(&schema)))
        .collect();
    schemas.push(("report".to_owned(), meshproof_report::schema::report()));
    schemas
}

/// Prints a schema, or writes all of them.
pub fn run(args: &SchemaArgs) -> Exit {
    let schemas = all();
    if let Some(folder) = &args.write {
        for (name, text) in &schemas {
            let path = folder.join(format!("{name}.json"));
            if let Err(error) = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, text)) {
                output::note(&format!("error: {}: {error}", path.display()));
                return Exit::Error;
            }
            output::line(&path.display().to_string());
        }
        return Exit::Success;
    }
    let name = args.name.as_deref().unwrap_or_default();
    match schemas.iter().find(|(known, _)| known == name) {
        Some((_, text)) => {
            output::print(text);
            Exit::Success
        }
        None => {
            let known: Vec<&str> = schemas.iter().map(|(known, _)| known.as_str()).collect();
            output::note(&format!(
                "error: there is no schema `{name}`; there are {}",
                known.join(", ")
            ));
            Exit::Usage
        }
    }
}
