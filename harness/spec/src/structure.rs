//! Finds *all* fields of a tree that are unknown, missing or of the wrong type, by walking it along the JSON Schema of
//! its type. A typed reader would stop at the first one and could not point at it.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value};

use crate::code;
use crate::diagnostic::{Diagnostic, closest};
use meshproof_terms::{VersionRange, VersionRangeError};

use crate::scalar::{Name, Rate, RequirementId, Target, TimeSpan};
use crate::source::Span;
use crate::yaml::{Entry, Node, Tree, escape, plain_scalar};

/// A mistake, with the JSON pointer of the value that cannot be read because of it.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Pointer of the value.
    pub pointer: String,
    /// What is wrong.
    pub diagnostic: Diagnostic,
}

/// All structural mistakes of `node` read as a `T`. Text that came out of `${…}` becomes a number or a truth value where
/// the type asks for one.
pub fn check<T: JsonSchema>(node: &mut Node) -> Vec<Problem> {
    let schema = SchemaGenerator::default().into_root_schema_for::<T>();
    let root = schema.as_value();
    let mut walker = Walker {
        definitions: root.get("$defs").and_then(Value::as_object),
        problems: Vec::new(),
    };
    walker.visit(node, root, "", "the file");
    walker.problems
}

struct Walker<'s> {
    definitions: Option<&'s Map<String, Value>>,
    problems: Vec<Problem>,
}

impl<'s> Walker<'s> {
    fn report(&mut self, pointer: &str, diagnostic: Diagnostic) {
        self.problems.push(Problem {
            pointer: pointer.to_owned(),
            diagnostic,
        });
    }

    /// `what` names the value for people: `` `rate` ``.
    fn visit(&mut self, node: &mut Node, schema: &'s Value, pointer: &str, what: &str) {
        let Some(schema) = schema.as_object() else {
            settle(node); // `true`: anything goes, e.g. a Kubernetes object.
            return;
        };
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let name = reference.rsplit('/').next().unwrap_or_default();
            match name {
                "Clusters" => self.clusters(node, pointer, what),
                "Name" | "RequirementId" | "TimeSpan" | "Rate" | "Target" | "VersionRange" => {
                    self.scalar(node, name, pointer, what);
                }
                _ => {
                    if let Some(schema) = self.definitions.and_then(|all| all.get(name)) {
                        self.visit(node, schema, pointer, what);
                    }
                }
            }
            return;
        }
        let typed = ["type", "anyOf", "oneOf", "enum", "const"]
            .iter()
            .any(|key| schema.contains_key(*key));
        if !typed {
            settle(node);
            return;
        }
        if node.tree == Tree::Null {
            let help = match schema.get("type").and_then(Value::as_str) {
                Some("array") => "write the list, or `[]` for an empty one",
                Some("object") => "write its fields below it, indented, or `{}` for none",
                _ => "write a value, or remove the key",
            };
            let diagnostic = Diagnostic::error(code::NO_VALUE, format!("{what} has no value"), node.span.clone())
                .label("nothing follows")
                .help(help);
            self.report(pointer, diagnostic);
            return;
        }
        if let Some(options) = schema.get("anyOf").and_then(Value::as_array) {
            // `Option<T>` is `anyOf: [T, null]`.
            for option in options.iter().filter(|option| !is_null(option)) {
                self.visit(node, option, pointer, what);
            }
        } else if let Some(variants) = schema.get("oneOf").and_then(Value::as_array) {
            if variants.iter().any(|variant| variant.get("properties").is_some()) {
                self.single_key(node, variants, pointer);
            } else {
                let words: Vec<&str> = variants
                    .iter()
                    .filter_map(|variant| variant.get("const")?.as_str())
                    .collect();
                self.word(node, &words, pointer, what);
            }
        } else if let Some(words) = schema.get("enum").and_then(Value::as_array) {
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            self.word(node, &words, pointer, what);
        } else {
            self.typed(node, schema, pointer, what);
        }
    }

    fn typed(&mut self, node: &mut Node, schema: &'s Map<String, Value>, pointer: &str, what: &str) {
        let kind = match schema.get("type") {
            Some(Value::String(kind)) => kind.as_str(),
            Some(Value::Array(kinds)) => kinds
                .iter()
                .filter_map(Value::as_str)
                .find(|kind| *kind != "null")
                .unwrap_or_default(),
            _ => return,
        };
        if let ("integer" | "number" | "boolean", Tree::Text { text, filled: true, .. }) = (kind, &node.tree) {
            node.tree = plain_scalar(text);
        }
        let span = node.span.clone();
        match (kind, &mut node.tree) {
            ("object", Tree::Map(entries)) => self.object(&span, entries, schema, pointer),
            ("array", Tree::List(items)) => {
                if let Some(schema) = schema.get("items") {
                    for (index, item) in items.iter_mut().enumerate() {
                        self.visit(
                            item,
                            schema,
                            &format!("{pointer}/{index}"),
                            &format!("entry {} of {what}", index + 1),
                        );
                    }
                }
            }
            ("integer", Tree::Number(number)) => {
                let lowest = schema.get("minimum").and_then(Value::as_u64).unwrap_or(0);
                let highest = schema
                    .get("maximum")
                    .and_then(Value::as_u64)
                    .or_else(|| (schema.get("format")? == "uint32").then_some(u64::from(u32::MAX)))
                    .unwrap_or(u64::MAX);
                let fits = number
                    .as_u64()
                    .is_some_and(|number| (lowest..=highest).contains(&number));
                if !fits {
                    let diagnostic = Diagnostic::error(
                        code::OUT_OF_RANGE,
                        format!("{what} cannot be {number}"),
                        node.span.clone(),
                    )
                    .expected(if highest == u64::MAX {
                        format!("a whole number, {lowest} or more")
                    } else {
                        format!("a whole number from {lowest} to {highest}")
                    });
                    self.report(pointer, diagnostic);
                }
            }
            ("string", Tree::Text { .. }) | ("number", Tree::Number(_)) | ("boolean", Tree::Bool(_)) => {}
            _ => self.wrong_type(node, kind, pointer, what),
        }
    }

    fn wrong_type(&mut self, node: &Node, kind: &str, pointer: &str, what: &str) {
        let written = node.span.first_line();
        let expected = match kind {
            "object" => "a mapping (`{field: value, ...}` or indented fields)",
            "array" => "a list (`[a, b]` or lines that begin with `- `)",
            "integer" => "a whole number without quotes",
            "number" => "a number without quotes",
            "boolean" => "`true` or `false`",
            _ => "text",
        };
        let mut diagnostic = Diagnostic::error(
            code::WRONG_TYPE,
            format!("{what} is {}, which does not fit", node.kind()),
            written,
        )
        .label(match &node.tree {
            Tree::Text { text, filled: true, .. } => format!("filled in: `{text}`"),
            _ => format!("{} here", node.kind()),
        })
        .expected(expected);
        match (kind, &node.tree) {
            ("string", Tree::Number(_) | Tree::Bool(_)) => {
                diagnostic = diagnostic.help(format!("write it in quotes: \"{}\"", node.span.text()));
            }
            ("boolean", Tree::Text { text, .. }) => {
                let meant = match text.to_lowercase().as_str() {
                    "yes" | "on" | "y" | "true" => Some("true"),
                    "no" | "off" | "n" | "false" => Some("false"),
                    _ => None,
                };
                diagnostic = diagnostic.did_you_mean(meant);
            }
            ("integer" | "number", Tree::Text { text, .. }) if text.parse::<f64>().is_ok_and(f64::is_finite) => {
                diagnostic = diagnostic.did_you_mean(Some(text.clone()));
            }
            ("array", Tree::Text { text, .. }) => {
                diagnostic = diagnostic.did_you_mean(Some(format!("[{text}]")));
            }
            _ => {}
        }
        self.report(pointer, diagnostic);
    }

    fn object(&mut self, span: &Span, entries: &mut [Entry], schema: &'s Map<String, Value>, pointer: &str) {
        let properties = schema.get("properties").and_then(Value::as_object);
        let rest = schema.get("additionalProperties");
        let written: Vec<String> = entries.iter().map(|entry| entry.key.clone()).collect();
        for entry in entries.iter_mut() {
            let below = format!("{pointer}/{}", escape(&entry.key));
            let known = properties.and_then(|known| known.get(&entry.key));
            if let Some(schema) = known {
                self.visit(&mut entry.value, schema, &below, &format!("`{}`", entry.key));
            } else if rest == Some(&Value::Bool(false)) {
                let names = properties.map(Map::keys).into_iter().flatten();
                self.unknown_field(entry, names.map(String::as_str).collect(), &written, &below);
            } else if let Some(schema) = rest {
                self.visit(&mut entry.value, schema, &below, &format!("`{}`", entry.key));
            }
        }
        let required = schema.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            if written.iter().any(|key| key == name) {
                continue;
            }
            let description = properties
                .and_then(|all| all.get(name)?.get("description")?.as_str())
                .unwrap_or_default();
            let mut diagnostic =
                Diagnostic::error(code::MISSING_FIELD, format!("`{name}` is missing"), span.first_line())
                    .label(format!("has no `{name}`"));
            if !description.is_empty() {
                diagnostic = diagnostic.help(format!("`{name}`: {description}"));
            }
            self.report(pointer, diagnostic);
        }
    }

    fn unknown_field(&mut self, entry: &Entry, names: Vec<&str>, all: &[String], pointer: &str) {
        let free = names
            .iter()
            .copied()
            .filter(|name| all.iter().all(|other| other != *name));
        let meant = closest(&entry.key, free).or_else(|| synonym(&entry.key, &names));
        let diagnostic = Diagnostic::error(
            code::UNKNOWN_FIELD,
            format!("unknown field `{}`", entry.key),
            entry.key_span.clone(),
        )
        .label("does not exist here")
        .expected(list(&names))
        .did_you_mean(meant);
        self.report(pointer, diagnostic);
    }

    /// A value that is a mapping with exactly one key out of several, e.g. a step.
    fn single_key(&mut self, node: &mut Node, variants: &'s [Value], pointer: &str) {
        let known: Vec<(&str, &'s Value)> = variants
            .iter()
            .filter_map(|variant| variant.get("properties")?.as_object()?.iter().next())
            .map(|(verb, schema)| (verb.as_str(), schema))
            .collect();
        let verbs: Vec<&str> = known.iter().map(|(verb, _)| *verb).collect();
        let span = node.span.clone();
        let Tree::Map(entries) = &mut node.tree else {
            let meant = node.text().and_then(|text| closest(text, verbs.iter().copied()));
            let diagnostic = Diagnostic::error(
                code::NOT_ONE_VERB,
                format!("a step is a mapping with one verb, and this is {}", node.kind()),
                node.span.first_line(),
            )
            .expected(format!("a verb with its fields, one of {}", list(&verbs)))
            .help(format!("write e.g. `- {}: {{...}}`", meant.unwrap_or("deploy")));
            self.report(pointer, diagnostic);
            return;
        };
        let owners: Vec<(String, Span)> = entries
            .iter()
            .map(|entry| (entry.key.clone(), entry.key_span.clone()))
            .collect();
        let mut verb_seen: Option<(String, Span)> = None;
        for entry in entries.iter_mut() {
            let below = format!("{pointer}/{}", escape(&entry.key));
            match known.iter().find(|(verb, _)| *verb == entry.key) {
                Some((_, schema)) => {
                    if let Some((first, first_span)) = &verb_seen {
                        let diagnostic = Diagnostic::error(
                            code::NOT_ONE_VERB,
                            format!("a step with two verbs: `{first}` and `{}`", entry.key),
                            entry.key_span.clone(),
                        )
                        .label("a second verb")
                        .also(first_span.clone(), "the first verb")
                        .help(format!("begin a new step: `- {}: ...`", entry.key));
                        self.report(pointer, diagnostic);
                    } else {
                        verb_seen = Some((entry.key.clone(), entry.key_span.clone()));
                    }
                    self.visit(&mut entry.value, schema, &below, &format!("`{}`", entry.key));
                }
                None => self.unknown_verb(entry, &owners, &known, &below),
            }
        }
        if entries.is_empty() {
            let diagnostic = Diagnostic::error(code::NOT_ONE_VERB, "a step without a verb", span)
                .expected(format!("one of {}", list(&verbs)));
            self.report(pointer, diagnostic);
        }
    }

    fn unknown_verb(&mut self, entry: &Entry, entries: &[(String, Span)], known: &[(&str, &'s Value)], pointer: &str) {
        let verbs: Vec<&str> = known.iter().map(|(verb, _)| *verb).collect();
        // `- deploy:` followed by fields at the same indentation: a field, not a verb.
        let owner = entries.iter().find_map(|(other, span)| {
            let (_, schema) = known.iter().find(|(verb, _)| verb == other)?;
            self.fields(schema)
                .is_some_and(|fields| fields.contains_key(&entry.key))
                .then_some((other, span))
        });
        let mut diagnostic = Diagnostic::error(
            code::UNKNOWN_STEP,
            format!("unknown step `{}`", entry.key),
            entry.key_span.clone(),
        )
        .label("no verb of a step");
        if let Some((owner, place)) = owner {
            diagnostic = diagnostic.also(place.clone(), "the verb").help(format!(
                "`{}` is a field of `{}`: indent it further than `{}`",
                entry.key, owner, owner
            ));
        } else {
            let meant = closest(&entry.key, verbs.iter().copied()).or_else(|| synonym(&entry.key, &verbs));
            diagnostic = diagnostic
                .expected(format!("one of {}", list(&verbs)))
                .did_you_mean(meant);
        }
        self.report(pointer, diagnostic);
    }

    /// Fields of the type that a schema refers to.
    fn fields(&self, schema: &'s Value) -> Option<&'s Map<String, Value>> {
        let name = schema.get("$ref")?.as_str()?.rsplit('/').next()?;
        self.definitions?.get(name)?.get("properties")?.as_object()
    }

    fn word(&mut self, node: &Node, words: &[&str], pointer: &str, what: &str) {
        let Some(text) = node.text() else {
            self.wrong_type(node, "string", pointer, what);
            return;
        };
        if words.contains(&text) {
            return;
        }
        let diagnostic = Diagnostic::error(
            code::UNKNOWN_WORD,
            format!("{what} cannot be `{text}`"),
            node.span.clone(),
        )
        .expected(list(words))
        .did_you_mean(closest(text, words.iter().copied()).or_else(|| synonym(text, words)));
        self.report(pointer, diagnostic);
    }

    fn clusters(&mut self, node: &Node, pointer: &str, what: &str) {
        match &node.tree {
            Tree::Text { .. } => self.scalar(node, "Name", pointer, what),
            Tree::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    let what = format!("entry {} of {what}", index + 1);
                    self.scalar(item, "Name", &format!("{pointer}/{index}"), &what);
                }
                if items.is_empty() {
                    let diagnostic =
                        Diagnostic::error(code::EMPTY_LIST, format!("{what} names no cluster"), node.span.clone())
                            .expected("one cluster (`west`) or several (`[west, east]`)");
                    self.report(pointer, diagnostic);
                }
            }
            Tree::Null => self.no_value(node, pointer, what),
            _ => {
                let diagnostic = Diagnostic::error(
                    code::WRONG_TYPE,
                    format!("{what} is {}, which does not fit", node.kind()),
                    node.span.first_line(),
                )
                .expected("one cluster (`west`) or several (`[west, east]`)");
                self.report(pointer, diagnostic);
            }
        }
    }

    fn no_value(&mut self, node: &Node, pointer: &str, what: &str) {
        let diagnostic = Diagnostic::error(code::NO_VALUE, format!("{what} has no value"), node.span.clone())
            .label("nothing follows")
            .help("write a value, or remove the key");
        self.report(pointer, diagnostic);
    }

    /// Text of a certain form.
    fn scalar(&mut self, node: &Node, form: &str, pointer: &str, what: &str) {
        if node.tree == Tree::Null {
            self.no_value(node, pointer, what);
            return;
        }
        let Some(text) = node.text() else {
            if matches!((form, &node.tree), ("TimeSpan" | "Rate", Tree::Number(_))) {
                let number = node.span.text();
                let (unit, example) = match form {
                    "Rate" => ("requests per second", format!("{number}/s")),
                    _ => ("a length of time with its unit", format!("{number}s")),
                };
                let diagnostic = Diagnostic::error(code::BAD_VALUE, format!("{what} has no unit"), node.span.clone())
                    .expected(unit)
                    .did_you_mean(Some(example));
                self.report(pointer, diagnostic);
            } else {
                self.wrong_type(node, "string", pointer, what);
            }
            return;
        };
        let place = node.span.clone();
        let diagnostic = match form {
            "Name" if text.contains("${") => Some(
                Diagnostic::error(code::NAME_SYNTAX, format!("{what} is only known in the run"), place)
                    .label("a fact of the mesh's driver")
                    .expected("a name that stands in the file, or `${vars.<name>}` or `${matrix.<column>}`"),
            ),
            "Name" => name_fault(text).map(|fault| {
                Diagnostic::error(
                    code::NAME_SYNTAX,
                    format!("{what} is `{text}`, which is no name"),
                    place,
                )
                .label(fault)
                .did_you_mean(Name(text.to_owned()).mended())
            }),
            "RequirementId" => (!RequirementId(text.to_owned()).is_well_formed()).then(|| {
                let capitals = RequirementId(text.to_uppercase().replace(['_', ' '], "-"));
                Diagnostic::error(
                    code::NAME_SYNTAX,
                    format!("{what} is `{text}`, which is no id of a requirement"),
                    place,
                )
                .expected("words of capitals and digits joined by `-`, e.g. `MC-FAIL-001`")
                .did_you_mean(capitals.is_well_formed().then_some(capitals.0))
            }),
            "TimeSpan" => text.parse::<TimeSpan>().err().map(|_| {
                Diagnostic::error(
                    code::BAD_VALUE,
                    format!("{what} is `{text}`, which is no length of time"),
                    place,
                )
                .expected("a number with its unit: `300ms`, `10s`, `1m30s`")
                .did_you_mean(mended_time(text))
            }),
            "Rate" => text.parse::<Rate>().err().map(|_| {
                Diagnostic::error(code::BAD_VALUE, format!("{what} is `{text}`, which is no rate"), place)
                    .expected("requests per second, more than 0: `100/s`")
                    .did_you_mean(mended_rate(text))
            }),
            "VersionRange" => text.parse::<VersionRange>().err().map(|fault| {
                Diagnostic::error(
                    code::BAD_VALUE,
                    format!("{what} is `{text}`, which is no range of releases"),
                    place,
                )
                .expected("`2.14+` (from then on), `2.14-2.17` (with both ends), `2.18` (all its patches) or `all`")
                .label(match fault {
                    VersionRangeError::Form(_) => "not of this form",
                    VersionRangeError::Backwards(_) => "it ends before it begins",
                })
            }),
            _ => target_fault(text).map(|fault| {
                Diagnostic::error(
                    code::BAD_VALUE,
                    format!("{what} is `{text}`, which is no target"),
                    place,
                )
                .label(fault)
                .expected("`service` for the client's own cluster, or `service@cluster` for what that cluster exports")
            }),
        };
        if let Some(diagnostic) = diagnostic {
            self.report(pointer, diagnostic);
        }
    }
}

/// Without a type to go by, a reference without quotes becomes what the same text would be in a file.
fn settle(node: &mut Node) {
    match &mut node.tree {
        Tree::Text {
            text,
            plain: true,
            filled: true,
        } => node.tree = plain_scalar(text),
        Tree::List(items) => items.iter_mut().for_each(settle),
        Tree::Map(entries) => entries.iter_mut().for_each(|entry| settle(&mut entry.value)),
        _ => {}
    }
}

fn is_null(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("null")
}

fn name_fault(text: &str) -> Option<String> {
    Name(text.to_owned()).fault()
}

fn target_fault(text: &str) -> Option<String> {
    match text.parse::<Target>() {
        Err(_) => Some("a part is missing, or there are two `@`".to_owned()),
        Ok(target) => target
            .service
            .fault()
            .or_else(|| target.cluster.and_then(|cluster| cluster.fault())),
    }
}

fn mended_time(text: &str) -> Option<String> {
    let number: String = text.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    let unit = match text[number.len()..].trim().to_lowercase().as_str() {
        "ms" | "msec" | "millis" | "milliseconds" => "ms",
        "" | "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "m" | "min" | "mins" | "minute" | "minutes" => "m",
        "h" | "hour" | "hours" => "h",
        _ => return None,
    };
    let mended = format!("{number}{unit}");
    mended.parse::<TimeSpan>().ok().map(|_| mended)
}

fn mended_rate(text: &str) -> Option<String> {
    let number: String = text.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    let mended = match text[number.len()..].trim().to_lowercase().as_str() {
        "" | "rps" | "qps" | "hz" | "/sec" | "/second" | "per second" | "/ s" | "req/s" => {
            format!("{number}/s")
        }
        "/m" | "/min" | "rpm" => format!("{}/s", number.parse::<f64>().ok()? / 60.0),
        _ => return None,
    };
    mended.parse::<Rate>().ok().map(|_| mended)
}

/// What other harnesses and Kubernetes call the same thing.
fn synonym<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    const SYNONYMS: &[(&str, &str)] = &[
        ("assert", "expect"),
        ("check", "expect"),
        ("verify", "expect"),
        ("probe", "call"),
        ("request", "call"),
        ("curl", "call"),
        ("load", "traffic"),
        ("split", "route"),
        ("create", "apply"),
        ("remove", "delete"),
        ("wait", "expect"),
        ("sleep", "expect"),
        ("exec", "call"),
        ("undo", "heal"),
        ("cluster", "in"),
        ("clusters", "in"),
        ("cluster", "from"),
        ("clusters", "from"),
        ("in", "from"),
        ("count", "replicas"),
        ("requires", "needs"),
        ("description", "summary"),
        ("requirement", "id"),
        ("requirements", "checks"),
        ("timeout", "within"),
        ("deadline", "within"),
        ("for", "then_for"),
        ("never", "never_for"),
        ("title", "summary"),
        ("id", "scenario"),
        ("name", "scenario"),
        ("matches", "contains"),
        ("eq", "equals"),
        ("value", "equals"),
        ("http", "http1"),
        ("grpc", "http2"),
        ("h2", "http2"),
        ("missing", "absent"),
        ("gone", "absent"),
        ("there", "present"),
        ("replicas", "to"),
        ("target", "to"),
        ("source", "from"),
    ];
    SYNONYMS
        .iter()
        .filter(|(other, _)| other.eq_ignore_ascii_case(written))
        .find_map(|(_, ours)| known.iter().copied().find(|name| name == ours))
}

/// `` `a`, `b` or `c` ``
pub fn list(names: &[&str]) -> String {
    const SHOWN: usize = 40;
    if let Some(more) = names.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        let quoted: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
        return format!("{} or {more} more", quoted.join(", "));
    }
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        None => "nothing".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, first)) => format!("{} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::{check, mended_rate, mended_time};
    use crate::code::{self, Code};
    use crate::scenario::Scenario;
    use crate::source::Source;
    use crate::yaml::{Limits, read};

    const HEAD: &str = "scenario: x\nsummary: y\ntopology: pair\nchecks: [A-1]\n";

    fn codes(text: &str) -> Vec<(String, Code)> {
        let mut node = read(&Source::new("x.yaml", text), Limits::default()).unwrap();
        check::<Scenario>(&mut node)
            .into_iter()
            .map(|problem| (problem.pointer, problem.diagnostic.code))
            .collect()
    }

    #[test]
    fn a_good_file_has_none() {
        let text = format!(
            "{HEAD}steps:\n  - deploy: {{service: store, in: [west, east]}}\n  - patch: {{in: west, object: {{kind: A, name: b}}, merge: {{spec: null}}}}\n"
        );
        assert_eq!(codes(&text), []);
    }

    #[test]
    fn all_are_found_at_once() {
        let text = format!(
            "{HEAD}tgas: [a]\nsteps:\n  - deploy: {{service: store}}\n  - calll: {{}}\n  - scale: {{service: store, in: west, to: -1}}\n  - expect:\n"
        );
        let expected = [
            ("/tgas", code::UNKNOWN_FIELD),
            ("/steps/0/deploy", code::MISSING_FIELD),
            ("/steps/1/calll", code::UNKNOWN_STEP),
            ("/steps/2/scale/to", code::OUT_OF_RANGE),
            ("/steps/3/expect", code::NO_VALUE),
        ];
        assert_eq!(codes(&text), expected.map(|(pointer, code)| (pointer.to_owned(), code)));
    }

    #[rstest]
    #[case("10", Some("10s"))]
    #[case("10 sec", Some("10s"))]
    #[case("2min", Some("2m"))]
    #[case("soon", None)]
    fn times_are_mended(#[case] text: &str, #[case] mended: Option<&str>) {
        assert_eq!(mended_time(text).as_deref(), mended);
    }

    #[test]
    fn rates_are_mended() {
        assert_eq!(mended_rate("100rps").as_deref(), Some("100/s"));
        assert_eq!(mended_rate("60/m").as_deref(), Some("1/s"));
        assert_eq!(mended_rate("fast"), None);
    }
}
