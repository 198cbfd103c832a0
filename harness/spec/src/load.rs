//! From the text of one file to its typed value, with all that is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::catalogue::Catalogue;
use crate::code;
use crate::crds::CustomKinds;
use crate::diagnostic::{Diagnostic, Diagnostics, Severity};
use crate::expand::{self, Expansion, FragmentTree, Fragments};
use crate::lint;
use crate::scenario::{Fragment, Scenario};
use crate::source::{Source, Span};
use crate::structure::{self, Problem};
use crate::topology::Topology;
use crate::yaml::{self, Limits, Node, SourceMap, Tree};

/// What scenarios refer to. A part that is `None` is not known and not checked.
#[derive(Clone, Debug, Default)]
pub struct Library {
    /// Topologies by name; `None` inside for one with mistakes, which are reported there.
    pub topologies: Option<BTreeMap<String, Option<Topology>>>,
    /// Ids of all requirements, with the place where each is written.
    pub requirements: Option<BTreeMap<String, Span>>,
    /// Fragments by name.
    pub fragments: Fragments,
    /// Kinds that Kubernetes itself does not have. Others are not known and not checked.
    pub kinds: CustomKinds,
}

/// A row of a matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatrixRow {
    /// Name of the row.
    pub name: String,
    /// Its values by column.
    pub values: BTreeMap<String, String>,
}

/// Where a step is written: in the scenario's file, or in that of a fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepPlace {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: u32,
}

/// A scenario with variables, matrix row and fragments written out.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpandedScenario {
    /// `<scenario>` or `<scenario>.<row>`; unique in the suite.
    pub id: String,
    /// The file.
    pub file: PathBuf,
    /// Folder of the file, below which files that steps name lie.
    pub folder: PathBuf,
    /// Area: name of the folder.
    pub area: String,
    /// The row of the matrix, when the file has one.
    pub row: Option<MatrixRow>,
    /// What is done. Holds no `use`, and of `${…}` only facts that the mesh's driver knows.
    pub scenario: Scenario,
    /// Where each step (and so each `expect`) is written, in the order of the steps.
    pub places: Vec<StepPlace>,
    /// SHA-256 (hex) of the file's text and of the fragments that it uses.
    pub digest: String,
}

impl ExpandedScenario {
    /// Line of a step in its file, from 1; 1 when there is no such step.
    pub fn line(&self, step: usize) -> u32 {
        self.places.get(step).map_or(1, |place| place.line)
    }
}

/// Reads, expands and checks one scenario file.
///
/// Returns no scenario when anything is wrong; warnings prevent nothing.
pub fn load_scenario(source: &Arc<Source>, library: &Library) -> (Vec<ExpandedScenario>, Diagnostics) {
    let mut problems = schema_line(source, "scenario");
    let node = match yaml::read(source, Limits::default()) {
        Ok(node) => node,
        Err(found) => {
            problems.extend(found);
            return (Vec::new(), Diagnostics(problems).sorted());
        }
    };
    let (rows, found) = expand::expand(&node, &library.fragments);
    problems.extend(found);
    let count = rows.len();
    let mut scenarios = Vec::new();
    let mut by_row: Vec<(Span, Vec<Diagnostic>)> = Vec::new();
    for row in rows {
        let name_span = row
            .row
            .as_ref()
            .map_or_else(|| node.span.clone(), |(_, span)| span.clone());
        let (scenario, mut found) = load_row(source, row, library);
        scenarios.extend(scenario);
        // Comparing the rows' mistakes takes the square of their number.
        found.truncate(MOST_PROBLEMS);
        by_row.push((name_span, found));
    }
    problems.extend(merge_rows(by_row, count));
    let problems = first_ones(Diagnostics(problems).sorted(), &node.span);
    if problems.has_errors() {
        (Vec::new(), problems)
    } else {
        (scenarios, problems)
    }
}

/// Mistakes of one file that are told.
const MOST_PROBLEMS: usize = 200;

/// As many mistakes as anybody reads; of the others only the number.
fn first_ones(mut problems: Diagnostics, file: &Span) -> Diagnostics {
    if problems.0.len() > MOST_PROBLEMS {
        // Errors count more than warnings.
        problems.0.sort_by_key(|problem| problem.severity);
        let more = problems.0.split_off(MOST_PROBLEMS).len();
        let severity = problems.0.first().map_or(Severity::Error, |first| first.severity);
        problems = problems.sorted();
        problems.0.push(Diagnostic {
            severity,
            ..Diagnostic::error(
                code::TOO_LARGE,
                format!("{more} more mistakes in this file are not shown"),
                file.first_line(),
            )
            .help("correct those that are shown first")
        });
    }
    problems
}

/// What is wrong in every row is said once; what is wrong in some rows only names the row.
fn merge_rows(by_row: Vec<(Span, Vec<Diagnostic>)>, count: usize) -> Vec<Diagnostic> {
    let everywhere =
        |diagnostic: &Diagnostic| by_row.iter().filter(|(_, found)| found.contains(diagnostic)).count() == count;
    let mut merged = Vec::new();
    for (name, found) in &by_row {
        for diagnostic in found {
            if everywhere(diagnostic) {
                merged.push(diagnostic.clone());
            } else {
                merged.push(diagnostic.clone().also(name.clone(), "in this row of the matrix"));
            }
        }
    }
    merged
}

fn load_row(source: &Arc<Source>, row: Expansion, library: &Library) -> (Option<ExpandedScenario>, Vec<Diagnostic>) {
    let Expansion {
        row,
        values,
        mut node,
        mut problems,
        mut incomplete,
        unfilled,
    } = row;
    let found = structure::check::<Scenario>(&mut node);
    let mended = mend(&mut node, &found, &unfilled);
    incomplete |= mended.incomplete;
    let broken = !found.is_empty();
    let follows = |diagnostic: &Diagnostic| diagnostic.span().is_some_and(|span| unfilled.contains(span));
    problems.extend(
        found
            .into_iter()
            .map(|problem| problem.diagnostic)
            .filter(|diagnostic| !follows(diagnostic)),
    );
    if mended.hopeless {
        return (None, problems);
    }
    let scenario: Scenario = match typed(&node) {
        Ok(scenario) => scenario,
        Err(diagnostic) => {
            problems.push(*diagnostic);
            return (None, problems);
        }
    };
    let folder = source.path().parent().map(Path::to_path_buf).unwrap_or_default();
    let places = SourceMap::of(&node);
    problems.extend(lint::scenario(&lint::File {
        scenario: &scenario,
        places: &places,
        root: &node.span,
        library,
        folder: &folder,
        incomplete,
    }));
    if broken {
        return (None, problems);
    }
    let expanded = ExpandedScenario {
        id: match &row {
            None => scenario.scenario.0.clone(),
            Some((row, _)) => format!("{}.{row}", scenario.scenario),
        },
        file: source.path().to_path_buf(),
        area: area(&folder),
        folder,
        row: row.map(|(name, _)| MatrixRow { name, values }),
        digest: digest(source, &node),
        places: step_places(&node),
        scenario,
    };
    (Some(expanded), problems)
}

/// The area of the scenarios in a folder: its name, wherever it is looked at from.
fn area(folder: &Path) -> String {
    let named = |folder: &Path| folder.file_name().map(|name| name.to_string_lossy().into_owned());
    named(folder)
        .or_else(|| {
            let here = if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                folder
            };
            named(&here.canonicalize().ok()?)
        })
        .unwrap_or_default()
}

fn steps(node: &Node) -> &[Node] {
    match node.get("steps").map(|steps| &steps.tree) {
        Some(Tree::List(steps)) => steps,
        _ => &[],
    }
}

fn step_places(node: &Node) -> Vec<StepPlace> {
    steps(node)
        .iter()
        .map(|step| StepPlace {
            file: step.span.source.path().to_path_buf(),
            line: u32::try_from(step.span.line()).unwrap_or(u32::MAX),
        })
        .collect()
}

fn digest(source: &Arc<Source>, node: &Node) -> String {
    let mut fragments: Vec<&Arc<Source>> = Vec::new();
    for step in steps(node) {
        let other = &step.span.source;
        if other != source && !fragments.contains(&other) {
            fragments.push(other);
        }
    }
    sha256(std::iter::once(source).chain(fragments).map(|source| source.text()))
}

/// SHA-256 (hex) over texts, each preceded by its length so that their borders count.
pub(crate) fn sha256<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text.len().to_le_bytes());
        hash.update(text.as_bytes());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What [`mend`] had to do.
struct Mended {
    /// Parts that others may refer to were taken out.
    incomplete: bool,
    /// Nothing typed is left to look at.
    hopeless: bool,
}

/// Takes out what cannot be read, so that the rest can still be checked.
fn mend(node: &mut Node, problems: &[Problem], unfilled: &[Span]) -> Mended {
    let mut mended = Mended {
        incomplete: false,
        hopeless: false,
    };
    let mut steps = BTreeSet::new();
    let mut fields = BTreeSet::new();
    let pointers = problems.iter().map(|problem| problem.pointer.clone());
    for pointer in pointers.chain(pointers_of(node, unfilled)) {
        let mut words = pointer.split('/').skip(1);
        match (words.next(), words.next().map(str::parse::<usize>)) {
            (Some("steps"), Some(Ok(step))) => {
                steps.insert(step);
            }
            (Some(field), _) if !matches!(field, "scenario" | "topology" | "checks" | "steps" | "summary") => {
                fields.insert(field.to_owned());
            }
            _ => mended.hopeless = true,
        }
    }
    mended.incomplete = !steps.is_empty() || fields.contains("setup");
    if let Tree::Map(entries) = &mut node.tree {
        entries.retain(|entry| !fields.contains(&yaml::escape(&entry.key)));
        for entry in entries.iter_mut().filter(|entry| entry.key == "steps") {
            if let Tree::List(items) = &mut entry.value.tree {
                let mut index = 0;
                items.retain(|_| {
                    index += 1;
                    !steps.contains(&(index - 1))
                });
            }
        }
    }
    mended
}

/// Pointers of the steps and fields that hold one of some places.
fn pointers_of(node: &Node, places: &[Span]) -> Vec<String> {
    let mut pointers = Vec::new();
    let Tree::Map(entries) = &node.tree else {
        return pointers;
    };
    for entry in entries {
        match (&entry.value.tree, entry.key.as_str()) {
            (_, "vars" | "matrix") => {}
            (Tree::List(steps), "steps") => {
                let hit = steps.iter().enumerate().filter(|(_, step)| holds(step, places));
                pointers.extend(hit.map(|(index, _)| format!("/steps/{index}")));
            }
            _ if holds(&entry.value, places) => pointers.push(format!("/{}", yaml::escape(&entry.key))),
            _ => {}
        }
    }
    pointers
}

fn holds(node: &Node, places: &[Span]) -> bool {
    match &node.tree {
        _ if places.is_empty() => false,
        Tree::List(items) => items.iter().any(|item| holds(item, places)),
        Tree::Map(entries) => entries
            .iter()
            .any(|entry| places.contains(&entry.key_span) || holds(&entry.value, places)),
        _ => places.contains(&node.span),
    }
}

/// The typed value of a tree.
fn typed<T: DeserializeOwned>(node: &Node) -> Result<T, Box<Diagnostic>> {
    serde_json::from_value(node.to_value()).map_err(|error| {
        Box::new(
            Diagnostic::error(code::UNTYPED, "the file cannot be read", node.span.first_line())
                .label(error.to_string())
                .help("compare the file with its JSON Schema in `reports/schemas/`"),
        )
    })
}

/// A file without variables, typed, with the places of its values.
#[derive(Debug)]
pub(crate) struct Plain<T> {
    pub(crate) value: T,
    pub(crate) places: SourceMap,
    pub(crate) root: Span,
}

/// Reads and checks a topology file, named after its folder.
pub fn load_topology(source: &Arc<Source>) -> (Option<Topology>, Diagnostics) {
    let mut problems = Vec::new();
    let folder = source
        .path()
        .parent()
        .and_then(Path::file_name)
        .map(|name| name.to_string_lossy().into_owned());
    let loaded: Option<Plain<Topology>> = load_plain(source, "topology", &mut problems);
    if let Some(plain) = &loaded {
        problems.extend(lint::topology(plain, &folder.unwrap_or_default()));
    }
    without_errors(loaded.map(|plain| plain.value), problems)
}

/// Reads and checks one file of the catalogue.
pub fn load_catalogue(source: &Arc<Source>) -> (Option<Catalogue>, Diagnostics) {
    let mut problems = Vec::new();
    let loaded: Option<Plain<Catalogue>> = load_plain(source, "catalogue", &mut problems);
    if let Some(plain) = &loaded {
        problems.extend(lint::catalogue(plain, &mut BTreeMap::new()));
    }
    without_errors(loaded.map(|plain| plain.value), problems)
}

fn without_errors<T>(value: Option<T>, problems: Vec<Diagnostic>) -> (Option<T>, Diagnostics) {
    let problems = Diagnostics(problems).sorted();
    (value.filter(|_| !problems.has_errors()), problems)
}

/// Reads a file that has no variables. `schema` is the name of its schema.
pub(crate) fn load_plain<T: DeserializeOwned + JsonSchema>(
    source: &Arc<Source>,
    schema: &str,
    problems: &mut Vec<Diagnostic>,
) -> Option<Plain<T>> {
    problems.extend(schema_line(source, schema));
    let mut node = match yaml::read(source, Limits::default()) {
        Ok(node) => node,
        Err(found) => {
            problems.extend(found);
            return None;
        }
    };
    let found = structure::check::<T>(&mut node);
    if !found.is_empty() {
        problems.extend(found.into_iter().map(|problem| problem.diagnostic));
        return None;
    }
    match typed(&node) {
        Ok(value) => Some(Plain {
            value,
            places: SourceMap::of(&node),
            root: node.span,
        }),
        Err(diagnostic) => {
            problems.push(*diagnostic);
            None
        }
    }
}

/// Reads a fragment. Its steps are typed only where they are used, with the parameters filled in.
pub(crate) fn load_fragment(source: &Arc<Source>, problems: &mut Vec<Diagnostic>) -> Option<FragmentTree> {
    problems.extend(schema_line(source, "fragment"));
    let before = problems.len();
    let mut node = match yaml::read(source, Limits::default()) {
        Ok(node) => node,
        Err(found) => {
            problems.extend(found);
            return None;
        }
    };
    let fragment = FragmentTree {
        parameters: match node.get("parameters").map(|parameters| &parameters.tree) {
            Some(Tree::Map(entries)) => entries.iter().map(|entry| entry.key.clone()).collect(),
            _ => Vec::new(),
        },
        steps: steps(&node).to_vec(),
        name_span: node
            .get("fragment")
            .map_or_else(|| node.span.clone(), |name| name.span.clone()),
    };
    problems.extend(expand::check_fragment(&fragment, &node));
    // Values that are parameters cannot be judged here: `replicas: ${params.n}`.
    let found = structure::check::<Fragment>(&mut node);
    problems.extend(
        found
            .into_iter()
            .map(|problem| problem.diagnostic)
            .filter(|diagnostic| !diagnostic.span().is_some_and(|span| span.text().contains("${"))),
    );
    for step in &fragment.steps {
        if let Some(entry) = step.entry("use") {
            problems.push(
                Diagnostic::error(
                    code::FRAGMENT,
                    "a fragment that uses a fragment",
                    entry.key_span.clone(),
                )
                .help("write its steps here, or use both fragments in the scenario"),
            );
        }
    }
    let stem = source
        .path()
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    if let (Some(name), Some(stem)) = (node.get("fragment").and_then(Node::text), stem)
        && name != stem
    {
        problems.push(
            Diagnostic::error(
                code::NAME_OF_FILE,
                format!("the fragment `{name}` is in the file `{stem}.yaml`"),
                fragment.name_span.clone(),
            )
            .did_you_mean(Some(stem)),
        );
    }
    (!problems
        .iter()
        .skip(before)
        .any(|problem| problem.severity == crate::diagnostic::Severity::Error))
    .then_some(fragment)
}

const SCHEMA_MARK: &str = "# yaml-language-server: $schema=";

/// The first line names the schema, so that editors complete and check.
fn schema_line(source: &Arc<Source>, schema: &str) -> Vec<Diagnostic> {
    let first = source.text().lines().next().unwrap_or_default();
    let named = first.strip_prefix(SCHEMA_MARK).map(str::trim);
    if named.is_some_and(|path| path.rsplit('/').next() == Some(&format!("{schema}.json"))) {
        return Vec::new();
    }
    let up = match schema {
        "deviations" | "profiles" => "..",
        _ => "../..",
    };
    let message = match named {
        None => "the first line names no schema".to_owned(),
        Some(path) => format!("the first line names the schema `{path}`"),
    };
    vec![
        Diagnostic::warning(code::SCHEMA_LINE, message, Span::new(source, 0..first.len()))
            .expected(format!(
                "`{schema}.json`, so that editors complete and check while you type"
            ))
            .help(format!(
                "begin the file with `{SCHEMA_MARK}{up}/reports/schemas/{schema}.json`"
            )),
    ]
}
