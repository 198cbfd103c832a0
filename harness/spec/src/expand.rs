//! Expansion: matrix rows, variables and fragments are written out, before anything is typed. Pure.
//!
//! The result is a tree whose values still know their places, those of a fragment in the fragment's file. A reference
//! that makes up a whole value may become a number or a truth value where the type asks for one:
//! `replicas: "${matrix.replicas}"`.

mod declared;

use std::collections::{BTreeMap, BTreeSet};

use meshproof_terms::MOST_STEPS;

use self::declared::{check_keys, entries, rows, unused};
use crate::code;
use crate::diagnostic::{Diagnostic, closest};
use crate::fact::{Fact, Part, parts};
use crate::source::Span;
use crate::structure::list;
use crate::yaml::{Entry, Node, Tree};

/// Text that one file may become when all its rows are written out, in bytes.
const MAX_TEXT: usize = 4 * 1024 * 1024;
/// References within references.
const MAX_NESTING: usize = 3;
/// Values that one file may become when all its rows are written out.
const MAX_NODES: usize = 120_000;
/// Mistakes of one row that are told.
const MOST_PROBLEMS: usize = 100;
/// A longer name refers to nothing: it is neither looked up nor quoted whole.
const LONGEST_NAME: usize = 200;

/// A file of `scenarios/fragments/`, read and checked.
#[derive(Clone, Debug)]
pub struct FragmentTree {
    /// Its parameters.
    pub parameters: Vec<String>,
    /// Its steps, not yet filled in.
    pub steps: Vec<Node>,
    /// Where its name stands.
    pub name_span: Span,
}

/// Fragments by name. `None` when a file of that name exists but has mistakes, which are reported there.
pub type Fragments = BTreeMap<String, Option<FragmentTree>>;

/// One row of a file's matrix, written out.
#[derive(Clone, Debug)]
pub struct Expansion {
    /// Name of the row and the place of its name; `None` for a file without a matrix.
    pub row: Option<(String, Span)>,
    /// Values of the row.
    pub values: BTreeMap<String, String>,
    /// The tree.
    pub node: Node,
    /// What is wrong in this row.
    pub problems: Vec<Diagnostic>,
    /// Whether steps are missing because of a mistake, so that names may seem to be undeclared.
    pub incomplete: bool,
    /// Keys and values that could not be filled in. What else is wrong with them follows from that.
    pub unfilled: Vec<Span>,
}

/// Names and values that `${…}` may refer to.
#[derive(Default)]
struct Scope {
    /// By full name, e.g. `vars.x`. `None` when there is no text to fill in, which is reported elsewhere.
    values: BTreeMap<String, Option<String>>,
    used: BTreeSet<String>,
}

/// What a file may still grow by. Asked before anything is made, so that nothing larger ever exists.
struct Budget {
    text: usize,
    nodes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            text: MAX_TEXT,
            nodes: MAX_NODES,
        }
    }
}

/// Work on one row.
struct Expander<'b> {
    problems: Vec<Diagnostic>,
    budget: &'b mut Budget,
    exhausted: bool,
    unfilled: Vec<Span>,
}

/// Writes all rows of a scenario's tree out. Also returns what is wrong with the variables themselves.
pub fn expand(node: &Node, fragments: &Fragments) -> (Vec<Expansion>, Vec<Diagnostic>) {
    let mut problems = Vec::new();
    let rows = rows(node, &mut problems);
    check_keys(node.get("vars"), "constant", &mut problems);
    let mut used = BTreeSet::new();
    let mut budget = Budget::default();
    let mut expansions = Vec::new();
    for (row, values) in rows {
        let (expansion, exhausted) = expand_row(node, row, values, fragments, &mut used, &mut budget);
        expansions.push(expansion);
        if exhausted {
            break;
        }
    }
    unused(node, &used, &mut problems);
    (expansions, problems)
}

/// Fills the parameters of a fragment with their own names, to find references to nothing when it is linted alone.
pub fn check_fragment(fragment: &FragmentTree, declared: &Node) -> Vec<Diagnostic> {
    let mut budget = Budget::default();
    let mut expander = Expander::new(&mut budget);
    let mut scope = Scope::default();
    for parameter in &fragment.parameters {
        scope
            .values
            .insert(format!("params.{parameter}"), Some(parameter.clone()));
    }
    for step in &fragment.steps {
        expander.substitute(step, &mut scope);
    }
    check_keys(declared.get("parameters"), "parameter", &mut expander.problems);
    for entry in entries(declared.get("parameters")) {
        if !scope.used.contains(&format!("params.{}", entry.key)) {
            expander.problems.push(
                Diagnostic::warning(
                    code::UNUSED_VARIABLE,
                    format!("the parameter `{}` is never used", entry.key),
                    entry.key_span.clone(),
                )
                .help(format!("refer to it as `${{params.{}}}`, or remove it", entry.key)),
            );
        }
    }
    expander.problems
}

fn expand_row(
    node: &Node,
    row: Option<(String, Span)>,
    values: Vec<(String, Option<String>)>,
    fragments: &Fragments,
    used: &mut BTreeSet<String>,
    budget: &mut Budget,
) -> (Expansion, bool) {
    let mut expander = Expander::new(budget);
    let mut scope = Scope::default();
    for (column, value) in &values {
        scope.values.insert(format!("matrix.{column}"), value.clone());
    }
    // Constants may refer to the matrix, not to each other.
    let mut constants = Vec::new();
    for entry in entries(node.get("vars")) {
        let before = expander.unfilled.len();
        let value = expander.substitute(&entry.value, &mut scope);
        let text = value
            .text()
            .filter(|_| expander.unfilled.len() == before)
            .map(str::to_owned);
        constants.push((format!("vars.{}", entry.key), text));
    }
    scope.values.extend(constants);

    let mut incomplete = false;
    let tree = match &node.tree {
        Tree::Map(entries) => Tree::Map(
            entries
                .iter()
                .map(|entry| Entry {
                    key: entry.key.clone(),
                    key_span: entry.key_span.clone(),
                    value: match entry.key.as_str() {
                        "vars" | "matrix" => expander.copy(&entry.value),
                        "steps" => {
                            let steps = expander.substitute(&entry.value, &mut scope);
                            expander.insert_fragments(steps, fragments, &mut incomplete)
                        }
                        _ => expander.substitute(&entry.value, &mut scope),
                    },
                })
                .collect(),
        ),
        other => other.clone(),
    };
    used.extend(scope.used);
    let exhausted = expander.exhausted;
    let expansion = Expansion {
        row,
        values: values
            .into_iter()
            .filter_map(|(column, value)| Some((column, value?)))
            .collect(),
        node: Node {
            tree,
            span: node.span.clone(),
        },
        incomplete: incomplete || expander.exhausted,
        unfilled: expander.unfilled,
        problems: expander.problems,
    };
    (expansion, exhausted)
}

impl<'b> Expander<'b> {
    fn new(budget: &'b mut Budget) -> Self {
        Self {
            problems: Vec::new(),
            budget,
            exhausted: false,
            unfilled: Vec::new(),
        }
    }

    /// Takes one value from the budget; false when nothing more may be made.
    fn may_hold_another(&mut self, span: &Span) -> bool {
        match self.budget.nodes.checked_sub(1).filter(|_| !self.exhausted) {
            Some(left) => {
                self.budget.nodes = left;
                true
            }
            None => {
                self.exhaust(span, "values");
                false
            }
        }
    }

    /// Appends text that the budget has room for; otherwise nothing.
    fn append(&mut self, filled: &mut String, text: &str, span: &Span) {
        match self.budget.text.checked_sub(text.len()).filter(|_| !self.exhausted) {
            Some(left) => {
                self.budget.text = left;
                filled.push_str(text);
            }
            None => self.exhaust(span, "bytes of text"),
        }
    }

    /// Tells a mistake, unless there are many already.
    fn report(&mut self, problem: impl FnOnce() -> Diagnostic) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(problem());
        }
    }

    /// The value as it stands.
    fn copy(&mut self, node: &Node) -> Node {
        let mut copy = Node {
            tree: Tree::Null,
            span: node.span.clone(),
        };
        if self.may_hold_another(&node.span) {
            copy.tree = match &node.tree {
                Tree::List(items) => Tree::List(items.iter().map(|item| self.copy(item)).collect()),
                Tree::Map(entries) => Tree::Map(
                    entries
                        .iter()
                        .map(|entry| Entry {
                            key: entry.key.clone(),
                            key_span: entry.key_span.clone(),
                            value: self.copy(&entry.value),
                        })
                        .collect(),
                ),
                Tree::Text { text, plain, filled } => {
                    let mut copied = String::new();
                    self.append(&mut copied, text, &node.span);
                    Tree::Text {
                        text: copied,
                        plain: *plain,
                        filled: *filled,
                    }
                }
                other => other.clone(),
            };
        }
        copy
    }

    fn substitute(&mut self, node: &Node, scope: &mut Scope) -> Node {
        if !self.may_hold_another(&node.span) {
            return Node {
                tree: Tree::Null,
                span: node.span.clone(),
            };
        }
        let tree = match &node.tree {
            Tree::Text { text, plain, filled } => {
                let written = self.fill(text, &node.span, scope);
                // Only a value that is one whole reference may change its type.
                let whole = matches!(parts(text).as_slice(), [Part::Reference(_)]);
                Tree::Text {
                    filled: *filled || (whole && written != *text),
                    text: written,
                    plain: *plain,
                }
            }
            Tree::List(items) => Tree::List(self.substitute_all(items, scope)),
            Tree::Map(entries) => self.substitute_map(entries, scope),
            other => other.clone(),
        };
        Node {
            tree,
            span: node.span.clone(),
        }
    }

    fn substitute_all(&mut self, items: &[Node], scope: &mut Scope) -> Vec<Node> {
        let mut filled = Vec::new();
        for item in items {
            if self.exhausted {
                break;
            }
            filled.push(self.substitute(item, scope));
        }
        filled
    }

    fn substitute_map(&mut self, entries: &[Entry], scope: &mut Scope) -> Tree {
        let mut filled: Vec<Entry> = Vec::new();
        let mut places: BTreeMap<String, Span> = BTreeMap::new();
        for entry in entries {
            if self.exhausted {
                break;
            }
            let key = self.fill(&entry.key, &entry.key_span, scope);
            if let Some(first) = places.insert(key.clone(), entry.key_span.clone()) {
                self.report(|| {
                    Diagnostic::error(
                        code::DUPLICATE_KEY,
                        format!("filled in, this key is `{key}`, which is there already"),
                        entry.key_span.clone(),
                    )
                    .also(first, "first here")
                });
                continue;
            }
            let value = self.substitute(&entry.value, scope);
            filled.push(Entry {
                key,
                key_span: entry.key_span.clone(),
                value,
            });
        }
        Tree::Map(filled)
    }

    fn fill(&mut self, text: &str, span: &Span, scope: &mut Scope) -> String {
        self.fill_nested(text, span, scope, 0)
    }

    /// A reference may be a part of another one: `${mirror.${vars.service}.east}`.
    fn fill_nested(&mut self, text: &str, span: &Span, scope: &mut Scope, depth: usize) -> String {
        let mut filled = String::new();
        if !text.contains("${") {
            self.append(&mut filled, text, span);
            return filled;
        }
        for part in parts(text) {
            if self.exhausted {
                break;
            }
            match part {
                Part::Literal(literal) => self.append(&mut filled, literal, span),
                Part::Unclosed(rest) => {
                    self.unfilled.push(span.clone());
                    self.report(|| {
                        Diagnostic::error(code::UNKNOWN_VARIABLE, "`${` without `}`", span.find("${").first_line())
                            .label("begins here and never ends")
                            .help("add `}`, or write the `$` differently: every `${` begins a reference")
                    });
                    self.append(&mut filled, rest, span);
                }
                Part::Reference(inside) => {
                    let before = self.unfilled.len();
                    let name = if inside.contains("${") && depth < MAX_NESTING {
                        self.fill_nested(inside, span, scope, depth + 1)
                    } else {
                        inside.to_owned()
                    };
                    if self.unfilled.len() == before {
                        self.refer(&name, inside, span, scope, &mut filled);
                    }
                }
            }
        }
        filled
    }

    /// Appends what a reference stands for; a fact of the mesh's driver stays a reference.
    fn refer(&mut self, name: &str, written: &str, span: &Span, scope: &mut Scope, filled: &mut String) {
        if let Some(value) = scope.values.get(name) {
            scope.used.insert(name.to_owned());
            match value {
                Some(value) => self.append(filled, value, span),
                None => self.unfilled.push(span.clone()),
            }
            return;
        }
        if name.len() > LONGEST_NAME {
            self.unfilled.push(span.clone());
            let start: String = name.chars().take(20).collect();
            self.report(|| {
                Diagnostic::error(
                    code::UNKNOWN_VARIABLE,
                    format!("a reference of {} bytes: `${{{start}…`", name.len()),
                    span.find("${").first_line(),
                )
                .expected(format!("a name of at most {LONGEST_NAME} bytes"))
            });
            return;
        }
        if Fact::parse(name).is_none() {
            self.unfilled.push(span.clone());
            self.report(|| unknown_reference(name, written, span, scope));
        }
        self.append(filled, &format!("${{{name}}}"), span);
    }

    fn exhaust(&mut self, span: &Span, what: &str) {
        if !self.exhausted {
            self.exhausted = true;
            self.problems.push(
                Diagnostic::error(
                    code::TOO_LARGE,
                    format!("written out, the file has too many {what}"),
                    span.first_line(),
                )
                .label("expansion stopped here")
                .help("split the file, or shorten the variables"),
            );
        }
    }

    fn insert_fragments(&mut self, steps: Node, fragments: &Fragments, incomplete: &mut bool) -> Node {
        let Tree::List(items) = steps.tree else {
            return steps;
        };
        let mut written = Vec::new();
        for step in items {
            if written.len() >= MOST_STEPS {
                self.exhaust(&step.span, &format!("steps (at most {MOST_STEPS})"));
                break;
            }
            match step.get("use") {
                None => written.push(step),
                Some(used) => match self.fragment(used, fragments) {
                    Some(steps) => written.extend(steps),
                    None => *incomplete = true,
                },
            }
        }
        Node {
            tree: Tree::List(written),
            span: steps.span,
        }
    }

    /// Steps of the fragment that `used` names, filled in; `None` when it cannot be used.
    fn fragment(&mut self, used: &Node, fragments: &Fragments) -> Option<Vec<Node>> {
        let Some((node, name)) = used.get("fragment").and_then(|node| Some((node, node.text()?))) else {
            self.problems.push(
                Diagnostic::error(
                    code::FRAGMENT,
                    "`use` without the name of a fragment",
                    used.span.first_line(),
                )
                .help("write `- use: {fragment: <name>, with: {...}}`"),
            );
            return None;
        };
        if let (Tree::Map(fields), span) = (&used.tree, &used.span) {
            for field in fields {
                if !matches!(field.key.as_str(), "fragment" | "with") {
                    self.problems.push(
                        Diagnostic::error(
                            code::UNKNOWN_FIELD,
                            format!("unknown field `{}`", field.key),
                            field.key_span.clone(),
                        )
                        .label("does not exist here")
                        .expected("`fragment` and `with`")
                        .did_you_mean(closest(&field.key, ["fragment", "with"]))
                        .also(span.find(name), "parameters of the fragment go into `with`"),
                    );
                }
            }
        }
        let Some(fragment) = fragments.get(name) else {
            let known: Vec<&str> = fragments.keys().map(String::as_str).collect();
            self.problems.push(
                Diagnostic::error(
                    code::FRAGMENT,
                    format!("there is no fragment `{name}`"),
                    node.span.clone(),
                )
                .expected(format!(
                    "the name of a file in `scenarios/fragments/`: {}",
                    list(&known)
                ))
                .did_you_mean(closest(name, known)),
            );
            return None;
        };
        let fragment = fragment.as_ref()?;
        let given = entries(used.get("with"));
        let mut scope = Scope::default();
        for entry in given {
            if !fragment.parameters.contains(&entry.key) {
                let known: Vec<&str> = fragment.parameters.iter().map(String::as_str).collect();
                self.problems.push(
                    Diagnostic::error(
                        code::FRAGMENT,
                        format!("the fragment `{name}` has no parameter `{}`", entry.key),
                        entry.key_span.clone(),
                    )
                    .also(fragment.name_span.clone(), "the fragment")
                    .expected(list(&known))
                    .did_you_mean(closest(&entry.key, known)),
                );
            }
        }
        let mut missing: Vec<&str> = Vec::new();
        for parameter in &fragment.parameters {
            let value = given.iter().find(|entry| entry.key == *parameter);
            if value.is_none() {
                missing.push(parameter);
            }
            let text = value.and_then(|entry| {
                let text = entry.value.text().map(str::to_owned);
                if text.is_none() {
                    self.problems.push(
                        Diagnostic::error(
                            code::WRONG_TYPE,
                            format!("`{parameter}` is {}, which does not fit", entry.value.kind()),
                            entry.value.span.first_line(),
                        )
                        .expected("text")
                        .help(format!("write it in quotes: \"{}\"", entry.value.span.text())),
                    );
                }
                text
            });
            scope.values.insert(format!("params.{parameter}"), text);
        }
        if !missing.is_empty() {
            self.problems.push(
                Diagnostic::error(
                    code::FRAGMENT,
                    format!("the fragment `{name}` has parameters that get no value"),
                    used.span.first_line(),
                )
                .label(format!("gives no {}", list(&missing)))
                .also(fragment.name_span.clone(), "the fragment")
                .help(format!("add to `with`: `{}: ...`", missing.join(": ...`, `"))),
            );
        }
        Some(self.substitute_all(&fragment.steps, &mut scope))
    }
}

fn unknown_reference(name: &str, written: &str, span: &Span, scope: &Scope) -> Diagnostic {
    let place = span.find(&format!("${{{written}}}"));
    let known = scope.values.keys().map(String::as_str);
    let meant = closest(name, known.chain(["namespace", "mesh.namespace"]));
    let diagnostic = Diagnostic::error(
        code::UNKNOWN_VARIABLE,
        format!("unknown reference `${{{name}}}`"),
        place,
    )
    .did_you_mean(meant.map(|meant| format!("${{{meant}}}")));
    let kind = name.split('.').next().unwrap_or_default();
    let declared: Vec<&str> = scope
        .values
        .keys()
        .filter_map(|known| known.strip_prefix(kind)?.strip_prefix('.'))
        .collect();
    match kind {
        "vars" | "matrix" | "params" if declared.is_empty() => diagnostic
            .label(format!("no `{}` here", section(kind)))
            .help(match kind {
                "vars" => "declare constants at the top: `vars: {name: value}`",
                "matrix" => "declare rows at the top: `matrix: {first: {name: value}, second: {name: value}}`",
                _ => "parameters belong to fragments; in a scenario use `vars` or `matrix`",
            }),
        "vars" | "matrix" | "params" => diagnostic
            .label(format!("not in `{}`", section(kind)))
            .expected(list(&declared)),
        "env" => diagnostic.help("scenarios do not read the environment; use `vars` or `matrix`"),
        _ => diagnostic.expected(format!(
            "`vars.<name>`, `matrix.<column>`, in a fragment `params.<name>`, or one of {}",
            list(Fact::FORMS)
        )),
    }
}

fn section(kind: &str) -> &str {
    match kind {
        "params" => "parameters",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::{FragmentTree, Fragments, expand};
    use crate::code::{self, Code};
    use crate::source::Source;
    use crate::yaml::{Limits, Node, Tree, read};

    fn expanded(text: &str) -> (Vec<serde_json::Value>, Vec<Code>) {
        let node = read(&Source::new("a.yaml", text), Limits::default()).unwrap();
        let (rows, problems) = expand(&node, &Fragments::new());
        let codes = problems
            .iter()
            .chain(rows.iter().flat_map(|row| &row.problems))
            .map(|diagnostic| diagnostic.code)
            .collect();
        let trees = rows
            .iter()
            .map(|row| row.node.get("steps").unwrap().to_value())
            .collect();
        (trees, codes)
    }

    #[test]
    fn rows_and_constants_are_written_out() {
        let (rows, codes) = expanded(
            "vars: {to: 'store@${matrix.c}'}\nmatrix:\n  one: {c: east, n: '1'}\n  two: {c: west, n: '2'}\nsteps:\n  - {to: '${vars.to}', n: '${matrix.n}', o: 'x${matrix.n}', p: '${mirror.store.east}'}\n",
        );
        assert_eq!(codes, []);
        assert_eq!(
            rows,
            [
                json!([{"to": "store@east", "n": "1", "o": "x1", "p": "${mirror.store.east}"}]),
                json!([{"to": "store@west", "n": "2", "o": "x2", "p": "${mirror.store.east}"}]),
            ]
        );
    }

    /// How large a file gets, in values and in bytes of text, and what is said about it.
    fn written_out(text: &str, fragments: &Fragments) -> (usize, usize, Vec<String>) {
        fn size(node: &Node) -> (usize, usize) {
            let inside: Vec<(usize, usize)> = match &node.tree {
                Tree::List(items) => items.iter().map(size).collect(),
                Tree::Map(entries) => entries
                    .iter()
                    .map(|entry| {
                        let (nodes, bytes) = size(&entry.value);
                        (nodes, bytes + entry.key.len())
                    })
                    .collect(),
                Tree::Text { text, .. } => vec![(0, text.len())],
                _ => Vec::new(),
            };
            inside.iter().fold((1, 0), |all, one| (all.0 + one.0, all.1 + one.1))
        }
        let node = read(&Source::new("a.yaml", text), Limits::default()).unwrap();
        let (rows, _) = expand(&node, fragments);
        let sizes: Vec<(usize, usize)> = rows.iter().map(|row| size(&row.node)).collect();
        let problems = rows.iter().flat_map(|row| &row.problems);
        (
            sizes.iter().map(|size| size.0).sum(),
            sizes.iter().map(|size| size.1).sum(),
            problems
                .filter(|problem| problem.code == code::TOO_LARGE)
                .map(|problem| problem.message.clone())
                .collect(),
        )
    }

    fn fragment(steps: usize) -> Fragments {
        let text = format!("steps:\n{}", "  - {call: {name: '${params.a}'}}\n".repeat(steps));
        let node = read(&Source::new("f.yaml", text), Limits::default()).unwrap();
        let Some(Tree::List(steps)) = node.get("steps").map(|steps| steps.tree.clone()) else {
            panic!("no steps");
        };
        let tree = FragmentTree {
            parameters: vec!["a".to_owned()],
            steps,
            name_span: node.span,
        };
        Fragments::from([("f".to_owned(), Some(tree))])
    }

    #[rstest]
    #[case::one_value(format!("vars: {{a: {}}}\nsteps: ['{}']\n", "x".repeat(200_000), "${vars.a}".repeat(25_000)), "bytes of text")]
    #[case::a_key(format!("vars: {{a: {}}}\nsteps: [{{'{}': 1}}]\n", "x".repeat(200_000), "${vars.a}".repeat(60)), "bytes of text")]
    #[case::many_values(format!("vars: {{a: {}}}\nsteps: [{}]\n", "x".repeat(200_000), "'${vars.a}',".repeat(10_000)), "bytes of text")]
    #[case::constants_of_a_row(format!("matrix: {{r: {{b: {}}}}}\nvars: {{a: '{}'}}\nsteps: ['{}']\n", "x".repeat(2_000), "${matrix.b}".repeat(2_000), "${vars.a}".repeat(10_000)), "bytes of text")]
    #[case::a_nested_name(format!("vars: {{a: {}}}\nsteps: ['{}']\n", "x".repeat(200_000), "${mirror.${vars.a}.east}".repeat(9_000)), "bytes of text")]
    #[case::rows(format!("matrix:\n{}steps: [{}]\n", (0..64).map(|row| format!("  r{row}: {{b: '1'}}\n")).collect::<String>(), format!("[{}]", "'1',".repeat(15_000))), "values")]
    #[case::text_of_rows(format!("matrix:\n{}steps: ['{}']\n", (0..64).map(|row| format!("  r{row}: {{b: '1'}}\n")).collect::<String>(), "x".repeat(400_000)), "bytes of text")]
    #[case::fragments(format!("steps:\n{}", "  - use: {fragment: f, with: {a: b}}\n".repeat(1_500)), "steps (at most 1000)")]
    #[case::text_of_fragments(format!("steps:\n{}", format!("  - use: {{fragment: f, with: {{a: {}}}}}\n", "x".repeat(40_000)).repeat(5)), "bytes of text")]
    fn what_a_file_becomes_is_bounded_before_it_grows(#[case] text: String, #[case] what: &str) {
        let (nodes, bytes, told) = written_out(&text, &fragment(60));
        assert!(nodes <= super::MAX_NODES + super::declared::MAX_ROWS, "{nodes}");
        assert!(bytes <= super::MAX_TEXT + text.len(), "{bytes}");
        assert_eq!(told, [format!("written out, the file has too many {what}")]);
    }

    #[test]
    fn many_references_to_nothing_are_told_a_few_times() {
        let names: String = (0..3_000).map(|name| format!("v{name}: x, ")).collect();
        let text = format!(
            "vars: {{{names}}}\nsteps: ['{}', '${{{}}}']\n",
            "${vars.y}".repeat(9_000),
            "y".repeat(100_000)
        );
        let node = read(&Source::new("a.yaml", text), Limits::default()).unwrap();
        let (rows, _) = expand(&node, &Fragments::new());
        assert_eq!(rows[0].problems.len(), super::MOST_PROBLEMS);
        assert!(rows[0].problems.iter().all(|problem| problem.message.len() < 300));
    }

    #[test]
    fn references_to_nothing_are_found() {
        let (_, codes) = expanded("vars: {a: b}\nsteps: ['${vars.b}', '${env.HOME}', '${a']\n");
        assert_eq!(
            codes,
            [
                code::UNUSED_VARIABLE,
                code::UNKNOWN_VARIABLE,
                code::UNKNOWN_VARIABLE,
                code::UNKNOWN_VARIABLE
            ]
        );
    }

    #[test]
    fn expansion_is_bounded() {
        let text = format!(
            "vars: {{a: '{}'}}\nsteps: [{}]\n",
            "x".repeat(100_000),
            "'${vars.a}${vars.a}${vars.a}',".repeat(1000)
        );
        let (_, codes) = expanded(&text);
        assert_eq!(codes, [code::TOO_LARGE]);
    }
}
