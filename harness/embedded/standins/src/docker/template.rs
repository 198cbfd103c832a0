//! The part of Go's templates that `--format` of docker is used with: fields, `json`, `index`, `.Label`, `range`, `with`, `if`.

use serde_json::Value;

use crate::exchange::{Failure, not_modelled};

/// A piece of a template.
#[derive(Debug)]
enum Node {
    Text(String),
    Print(Vec<Word>),
    /// `range`, `with` or `if` over a pipeline.
    Block(String, Vec<Word>, Vec<Node>),
}

/// A word of an action.
#[derive(Clone, Debug, PartialEq)]
enum Word {
    /// `.A.B`, as its names; empty for `.`.
    Field(Vec<String>),
    Text(String),
    Number(usize),
    Name(String),
    Group(Vec<Word>),
}

/// Renders a template over a value.
pub(super) fn render(template: &str, value: &Value) -> Result<String, Failure> {
    let unknown = || not_modelled(&format!("the template `{template}`"));
    let mut rest = template;
    let nodes = parse(&mut rest, false).ok_or_else(unknown)?;
    let mut out = String::new();
    print(&nodes, value, &mut out).ok_or_else(unknown)?;
    Ok(out)
}

fn parse(rest: &mut &str, inside: bool) -> Option<Vec<Node>> {
    let mut nodes = Vec::new();
    loop {
        let Some((text, tail)) = rest.split_once("{{") else {
            if inside {
                return None;
            }
            nodes.push(Node::Text((*rest).to_owned()));
            return Some(nodes);
        };
        let (action, tail) = tail.split_once("}}")?;
        *rest = tail;
        nodes.push(Node::Text(text.to_owned()));
        let action = action.trim();
        let words = words(action)?;
        match words.split_first()? {
            (Word::Name(name), []) if name == "end" && inside => return Some(nodes),
            (Word::Name(name), pipeline) if matches!(name.as_str(), "range" | "with" | "if") => {
                let body = parse(rest, true)?;
                nodes.push(Node::Block(name.clone(), pipeline.to_vec(), body));
            }
            _ => nodes.push(Node::Print(words)),
        }
    }
}

fn words(action: &str) -> Option<Vec<Word>> {
    let mut rest = action;
    let words = group(&mut rest)?;
    rest.is_empty().then_some(words)
}

/// Words up to the end or to a closing parenthesis, which is left.
fn group(rest: &mut &str) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    loop {
        *rest = rest.trim_start();
        let first = rest.chars().next();
        match first {
            None | Some(')') => return Some(words),
            Some('(') => {
                *rest = rest.get(1..)?;
                words.push(Word::Group(group(rest)?));
                *rest = rest.strip_prefix(')')?;
            }
            Some('"') => {
                let (text, tail) = rest.get(1..)?.split_once('"')?;
                *rest = tail;
                words.push(Word::Text(text.replace("\\t", "\t").replace("\\n", "\n")));
            }
            Some(_) => {
                let end = rest.find([' ', '(', ')']).unwrap_or(rest.len());
                let (word, tail) = rest.split_at(end);
                *rest = tail;
                words.push(match word.strip_prefix('.') {
                    Some("") => Word::Field(Vec::new()),
                    Some(path) => Word::Field(path.split('.').map(ToOwned::to_owned).collect()),
                    None => word.parse().map_or_else(|_| Word::Name(word.to_owned()), Word::Number),
                });
            }
        }
    }
}

fn print(nodes: &[Node], dot: &Value, out: &mut String) -> Option<()> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Print(words) => match evaluate(words, dot)? {
                Value::String(text) => out.push_str(&text),
                Value::Null => out.push_str("<no value>"),
                other => out.push_str(&other.to_string()),
            },
            Node::Block(kind, pipeline, body) => {
                let value = evaluate(pipeline, dot)?;
                match (kind.as_str(), &value) {
                    ("range", Value::Array(items)) => items.iter().try_for_each(|item| print(body, item, out))?,
                    ("range", Value::Object(items)) => items.values().try_for_each(|item| print(body, item, out))?,
                    ("range", _) => {}
                    (_, value) if is_empty(value) => {}
                    ("with", value) => print(body, value, out)?,
                    _ => print(body, dot, out)?,
                }
            }
        }
    }
    Some(())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(true) => false,
    }
}

/// `None` for functions that are not known.
fn evaluate(words: &[Word], dot: &Value) -> Option<Value> {
    let (first, arguments) = words.split_first()?;
    match first {
        Word::Field(path) if path.last().is_some_and(|name| name == "Label") => {
            let [Word::Text(name)] = arguments else { return None };
            Some(
                dot.get("Labels")
                    .and_then(|labels| labels.get(name))
                    .cloned()
                    .unwrap_or_else(|| "".into()),
            )
        }
        Word::Name(name) => {
            let mut values = arguments.iter().map(|word| evaluate(std::slice::from_ref(word), dot));
            match name.as_str() {
                "json" => Some(values.next()??.to_string().into()),
                "index" => {
                    let mut value = values.next()??;
                    for key in values {
                        value = match key? {
                            // A key that is not there gives the empty text: the maps that this is used on hold texts.
                            Value::String(name) => value.get(&name).cloned().unwrap_or_else(|| "".into()),
                            Value::Number(number) => value
                                .get(usize::try_from(number.as_u64()?).ok()?)
                                .cloned()
                                .unwrap_or_default(),
                            _ => return None,
                        };
                    }
                    Some(value)
                }
                _ => None,
            }
        }
        _ if !arguments.is_empty() => None,
        Word::Field(path) => {
            let mut value = dot;
            for name in path {
                value = value.get(name).unwrap_or(&Value::Null);
            }
            Some(value.clone())
        }
        Word::Text(text) => Some(text.clone().into()),
        Word::Number(number) => Some((*number).into()),
        Word::Group(words) => evaluate(words, dot),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::render;

    #[rstest]
    #[case("{{.Names}}", "west-control-plane")]
    #[case("{{.Label \"a.b/c\"}} {{.Names}}", "x west-control-plane")]
    #[case("{{ .Label \"none\" }}|", "|")]
    #[case("{{json .Labels}}", r#"{"a.b/c":"x"}"#)]
    #[case("{{range .Networks}}{{.IPAddress}}{{end}}", "172.18.0.2")]
    #[case("{{(index .Networks \"kind\").IPAddress}}", "refused")]
    #[case("{{index .Networks \"kind\" \"IPAddress\"}}", "172.18.0.2")]
    #[case("{{with (index (index .Ports \"6443/tcp\") 0)}}{{.HostPort}}{{end}}", "4711")]
    #[case("{{if .Paused}}p{{end}}r", "r")]
    #[case("{{index .Labels \"none\"}}|", "|")]
    #[case("{{.Nothing}}", "<no value>")]
    #[case("plain", "plain")]
    #[case("{{upper .Names}}", "refused")]
    #[case("{{range .Networks}}", "refused")]
    fn templates_render_or_are_refused(#[case] template: &str, #[case] expected: &str) {
        let value = json!({
            "Names": "west-control-plane",
            "Paused": false,
            "Labels": {"a.b/c": "x"},
            "Networks": {"kind": {"IPAddress": "172.18.0.2"}},
            "Ports": {"6443/tcp": [{"HostPort": "4711"}]},
        });
        match render(template, &value) {
            Ok(text) => assert_eq!(text, expected),
            Err(failure) => assert_eq!((failure.code, expected), (126, "refused")),
        }
    }
}
