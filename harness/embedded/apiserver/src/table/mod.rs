//! Server-side printing: lists as `Table` objects with the columns that kubectl users know.

mod age;
mod columns;
mod json_path;
mod stored;

pub(crate) use json_path::find as find_path;

use crate::resource::ResourceType;
use crate::store::ObjectList;
use serde_json::{Value, json};

/// How much of each object a row carries (`includeObject`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl IncludeObject {
    pub(crate) fn read(parameter: Option<&str>) -> Self {
        match parameter {
            Some("None") => Self::None,
            Some("Object") => Self::Object,
            _ => Self::Metadata,
        }
    }
}

/// A column's head.
#[derive(Clone, Debug, PartialEq)]
struct Column {
    name: String,
    kind: String,
    /// 0 is always shown, 1 only with `-o wide`.
    priority: i64,
}

/// The table of a list.
pub(crate) fn render(resource: &ResourceType, version: &str, list: &ObjectList, include: IncludeObject) -> Value {
    let columns = columns::heads(resource, version);
    let rows: Vec<Value> = list
        .items
        .iter()
        .map(|object| {
            let mut row = json!({"cells": columns::cells(resource, version, object)});
            match include {
                IncludeObject::None => {}
                IncludeObject::Metadata => row["object"] = crate::http::resource_request::metadata_only(object),
                IncludeObject::Object => row["object"] = (**object).clone(),
            }
            row
        })
        .collect();
    let heads: Vec<Value> = columns
        .iter()
        .map(|c| {
            let format = if c.name == "Name" { "name" } else { "" };
            json!({"name": c.name, "type": c.kind, "format": format, "description": "", "priority": c.priority})
        })
        .collect();
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "columnDefinitions": heads, "rows": rows})
}
