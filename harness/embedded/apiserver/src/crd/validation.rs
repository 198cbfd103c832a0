//! Validation of custom resources against their structural schema, in the words of Kubernetes.

use super::formats;
use super::schema::{Additional, Schema};
use crate::Cause;
use crate::status::type_name;
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// Field errors of an object.
pub(crate) fn validate(schema: &Schema, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    check(schema, object, "", &mut causes);
    causes
}

fn check(schema: &Schema, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    if value.is_null() {
        let typed = schema.kind.is_some() || schema.int_or_string;
        if typed && !schema.nullable {
            let expected = schema.kind.as_deref().unwrap_or("integer or string");
            causes.push(wrong_type(path, value, expected));
        }
        return;
    }
    if let Some(why) = type_mismatch(schema, value) {
        causes.push(wrong_type(path, value, &why));
        return;
    }
    if let Some(allowed) = &schema.enumeration
        && !allowed.contains(value)
    {
        let names: Vec<String> = allowed
            .iter()
            .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        causes.push(Cause::not_supported(path.trim_start_matches('.'), value, &names));
    }
    match value {
        Value::String(text) => check_string(schema, text, path, causes),
        Value::Number(_) => check_number(schema, value, path, causes),
        Value::Array(items) => check_list(schema, items, path, causes),
        Value::Object(fields) => check_object(schema, fields, path, causes),
        Value::Null | Value::Bool(_) => {}
    }
    check_combinations(schema, value, path, causes);
}

fn wrong_type(path: &str, value: &Value, expected: &str) -> Cause {
    let shown = if path.is_empty() {
        "<nil>"
    } else {
        path.trim_start_matches('.')
    };
    Cause::type_invalid(
        shown,
        value,
        &format!("{shown} in body must be of type {expected}: \"{}\"", type_name(value)),
    )
}

fn type_mismatch(schema: &Schema, value: &Value) -> Option<String> {
    if schema.int_or_string {
        let fits = value.is_string() || matches!(type_name(value), "integer");
        return (!fits).then(|| "integer,string".to_owned());
    }
    let expected = schema.kind.as_deref()?;
    let fits = match (expected, type_name(value)) {
        ("number", "integer") => true,
        // 1.0 is an integer in JSON.
        ("integer", "number") => value.as_f64().is_some_and(|n| n.fract() == 0.0),
        (expected, found) => expected == found,
    };
    (!fits).then(|| expected.to_owned())
}

fn check_string(schema: &Schema, text: &str, path: &str, causes: &mut Vec<Cause>) {
    let name = path.trim_start_matches('.');
    let length = text.chars().count() as u64;
    let value = json!(text);
    if let Some(limit) = schema.max_length.filter(|&l| length > l) {
        causes.push(Cause {
            reason: "FieldValueTooLong",
            message: format!("Too long: may not be more than {limit} bytes"),
            field: name.into(),
        });
    }
    if let Some(limit) = schema.min_length.filter(|&l| length < l) {
        causes.push(Cause::invalid(
            name,
            &value,
            &format!("{name} in body should be at least {limit} chars long"),
        ));
    }
    if let Some(pattern) = schema.pattern.as_ref().filter(|p| !p.is_match(text)) {
        causes.push(Cause::invalid(
            name,
            &value,
            &format!("{name} in body should match '{}'", pattern.as_str()),
        ));
    }
    if let Some(format) = &schema.format
        && !formats::fits(format, text)
    {
        causes.push(Cause::invalid(
            name,
            &value,
            &format!("{name} in body must be of type {format}: {value}"),
        ));
    }
}

fn check_number(schema: &Schema, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let name = path.trim_start_matches('.');
    let Some(number) = value.as_f64() else { return };
    let mut invalid = |why: String| causes.push(Cause::invalid(name, value, &format!("{name} in body {why}")));
    if let Some(minimum) = schema.minimum {
        if schema.exclusive_minimum && number <= minimum {
            invalid(format!("should be greater than {minimum}"));
        } else if number < minimum {
            invalid(format!("should be greater than or equal to {minimum}"));
        }
    }
    if let Some(maximum) = schema.maximum {
        if schema.exclusive_maximum && number >= maximum {
            invalid(format!("should be less than {maximum}"));
        } else if number > maximum {
            invalid(format!("should be less than or equal to {maximum}"));
        }
    }
    if let Some(step) = schema.multiple_of.filter(|&s| s > 0.0)
        && ((number / step) - (number / step).round()).abs() > 1e-9
    {
        invalid(format!("should be a multiple of {step}"));
    }
    if schema.format.as_deref() == Some("int32") && value.as_i64().is_none_or(|n| i32::try_from(n).is_err()) {
        invalid("must be of type int32".into());
    }
}

fn check_list(schema: &Schema, items: &[Value], path: &str, causes: &mut Vec<Cause>) {
    let name = path.trim_start_matches('.');
    let length = items.len() as u64;
    if let Some(limit) = schema.max_items.filter(|&l| length > l) {
        causes.push(Cause {
            reason: "FieldValueTooMany",
            message: format!("Too many: {length}: must have at most {limit} items"),
            field: name.into(),
        });
    }
    if let Some(limit) = schema.min_items.filter(|&l| length < l) {
        causes.push(Cause::invalid(
            name,
            &json!(length),
            &format!("{name} in body should have at least {limit} items"),
        ));
    }
    let key = |item: &Value| -> Option<Value> {
        match schema.list_type.as_deref() {
            Some("set") => Some(item.clone()),
            Some("map") => {
                let fields = schema.list_map_keys.iter().map(|k| (k.clone(), item[k].clone()));
                Some(Value::Object(fields.collect::<Map<_, _>>()))
            }
            _ => schema.unique_items.then(|| item.clone()),
        }
    };
    // As text, because lists may be long.
    let mut seen = HashSet::new();
    for (i, item) in items.iter().enumerate() {
        let at = format!("{path}[{i}]");
        if let Some(key) = key(item)
            && !seen.insert(key.to_string())
        {
            causes.push(Cause::duplicate(at.trim_start_matches('.'), &key));
        }
        if let Some(item_schema) = &schema.items {
            check(item_schema, item, &at, causes);
        }
    }
}

fn check_object(schema: &Schema, fields: &Map<String, Value>, path: &str, causes: &mut Vec<Cause>) {
    let name = path.trim_start_matches('.');
    for required in &schema.required {
        if !fields.contains_key(required) {
            let at = format!("{path}.{required}");
            causes.push(Cause::required(at.trim_start_matches('.'), ""));
        }
    }
    let count = fields.len() as u64;
    if let Some(limit) = schema.max_properties.filter(|&l| count > l) {
        causes.push(Cause {
            reason: "FieldValueTooMany",
            message: format!("Too many: {count}: must have at most {limit} items"),
            field: name.into(),
        });
    }
    if let Some(limit) = schema.min_properties.filter(|&l| count < l) {
        causes.push(Cause::invalid(
            name,
            &json!(count),
            &format!("{name} in body should have at least {limit} properties"),
        ));
    }
    for (field, child) in fields {
        if path.is_empty() && matches!(field.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        let at = format!("{path}.{field}");
        match (schema.properties.get(field), &schema.additional) {
            (Some(property), _) => check(property, child, &at, causes),
            (None, Additional::Schema(values)) => check(values, child, &at, causes),
            (None, Additional::None | Additional::Any) => {}
        }
    }
}

fn check_combinations(schema: &Schema, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let name = path.trim_start_matches('.');
    let fits = |schema: &Schema| {
        let mut own = Vec::new();
        check(schema, value, path, &mut own);
        own.is_empty()
    };
    for part in &schema.all_of {
        check(part, value, path, causes);
    }
    let mut invalid = |why: &str| causes.push(Cause::invalid(name, value, &format!("{name} in body {why}")));
    if !schema.any_of.is_empty() && !schema.any_of.iter().any(fits) {
        invalid("must validate at least one schema (anyOf)");
    }
    if !schema.one_of.is_empty() && schema.one_of.iter().filter(|s| fits(s)).count() != 1 {
        invalid("must validate one and only one schema (oneOf)");
    }
    if schema.not.as_deref().is_some_and(fits) {
        invalid("must not validate the schema (not)");
    }
}
