//! Objects that steps write, in the scenario's file or in one that it applies: whole, with fields that their kind has, and of
//! a size that clusters bear.

use std::rc::Rc;
use std::sync::Arc;

use meshproof_kinds::{Fields, Shape};
use serde_json::Value;

use super::matchers::is_of;
use super::steps::MOST_REPLICAS;
use super::world::{World, Written};
use super::{File, files, names};
use crate::code;
use crate::diagnostic::{Diagnostic, closest};
use crate::fact::{Fact, Part, parts};
use crate::manifests::{self, MOST_OBJECTS};
use crate::scenario::Step;
use crate::source::{Source, Span};
use crate::structure::list;
use crate::yaml::escape;

/// Mistakes of one object that are told.
const MOST_FAULTS: usize = 50;

/// Kinds whose `spec` says how many pods there are, and the field that says it.
const MANY_PODS: &[(&str, &str)] = &[
    ("Deployment", "replicas"),
    ("HorizontalPodAutoscaler", "maxReplicas"),
    ("HorizontalPodAutoscaler", "minReplicas"),
    ("Job", "completions"),
    ("Job", "parallelism"),
    ("ReplicaSet", "replicas"),
    ("ReplicationController", "replicas"),
    ("StatefulSet", "replicas"),
];

/// Files that are applied can be read, are not too large, and refer to what there is.
pub(super) fn files_hold_objects(file: &File<'_>, world: &World, problems: &mut Vec<Diagnostic>) {
    for (step, what) in file.steps() {
        let Some((pointer, name)) = files::named(step, what) else {
            continue;
        };
        if files::fault(file.folder, name).is_some() {
            continue; // Reported as a file that may not be used.
        }
        let path = file.folder.join(name);
        let text = match manifests::text(&path) {
            Ok(text) => text,
            Err(why) => {
                problems.push(
                    Diagnostic::error(
                        code::FILE_REFERENCE,
                        format!("`{name}` can't be used: {why}"),
                        file.at(&pointer),
                    )
                    .help("apply smaller files, by several steps"),
                );
                continue;
            }
        };
        let source = Source::new(&path, text);
        match manifests::documents(&source) {
            Err(found) => problems.extend(found),
            Ok(documents) if documents.is_empty() => problems.push(
                Diagnostic::error(
                    code::FILE_REFERENCE,
                    format!("`{name}` holds no objects"),
                    file.at(&pointer),
                )
                .help("write Kubernetes objects into it, or remove the step"),
            ),
            Ok(_) => {}
        }
        references_are_facts(file, world, step, &source, problems);
    }
}

/// Files know nothing of the scenario's variables.
fn references_are_facts(
    file: &File<'_>,
    world: &World,
    step: usize,
    source: &Arc<Source>,
    problems: &mut Vec<Diagnostic>,
) {
    let mut start = 0;
    for part in parts(source.text()) {
        let (length, reference) = match part {
            Part::Literal(text) => (text.len(), None),
            Part::Unclosed(text) => (text.len(), Some(text)),
            Part::Reference(text) => (text.len() + "${}".len(), Some(text)),
        };
        let place = || Span::new(source, start..start + length).first_line();
        match reference.map(|reference| (reference.trim(), Fact::parse(reference.trim()))) {
            None => {}
            Some((_, Some(fact))) => names::fact_is_of_something(file, world, step, &fact, place(), problems),
            Some((reference, None)) => {
                let forms: Vec<String> = Fact::FORMS.iter().map(|form| format!("${{{form}}}")).collect();
                problems.push(
                    Diagnostic::error(code::UNKNOWN_VARIABLE, format!("nothing is known as `{reference}`"), place())
                        .expected(list(&forms.iter().map(String::as_str).collect::<Vec<_>>()))
                        .help("a file that is applied does not know the scenario's variables; write the object in the scenario, or the value here"),
                );
            }
        }
        start += length;
    }
}

/// Objects have what every object has.
pub(super) fn objects_are_objects(file: &File<'_>, world: &World, problems: &mut Vec<Diagnostic>) {
    for written in &world.written {
        let text = |pointer: &str| {
            let found = written.value.pointer(pointer).and_then(Value::as_str);
            found.is_some_and(|text| !text.is_empty())
        };
        let missing: Vec<&str> = [
            ("apiVersion", "/apiVersion"),
            ("kind", "/kind"),
            ("metadata.name", "/metadata/name"),
        ]
        .into_iter()
        .filter(|(_, pointer)| !text(pointer))
        .map(|(field, _)| field)
        .collect();
        if !missing.is_empty() {
            problems.push(
                Diagnostic::error(code::MISSING_FIELD, "an object that is not whole", written.at(file, ""))
                    .label(format!("has no {}", list(&missing)))
                    .expected("a Kubernetes object: `{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, ...}`"),
            );
        }
    }
    for (step, what) in file.steps() {
        if let Step::Patch(patch) = what
            && !patch.merge.is_object()
        {
            problems.push(
                Diagnostic::error(
                    code::WRONG_TYPE,
                    "a merge patch is a mapping",
                    file.at(&format!("/steps/{step}/patch/merge")),
                )
                .expected("the fields that change, e.g. `{metadata: {labels: {a: b}}}`"),
            );
        }
    }
    for (step, _) in file.steps() {
        let mut of_step = world.written.iter().filter(|written| written.step == step);
        if let Some(first_beyond) = of_step.nth(MOST_OBJECTS) {
            problems.push(
                Diagnostic::error(
                    code::TOO_LARGE,
                    format!("a step with more than {MOST_OBJECTS} objects"),
                    first_beyond.at(file, ""),
                )
                .help("apply fewer, or by several steps"),
            );
        }
    }
}

/// Fields of objects and of patches are such as their kind has. Objects that are meant to be rejected may be wrong in any way.
pub(super) fn fields_are_known(file: &File<'_>, world: &World, problems: &mut Vec<Diagnostic>) {
    let kinds = &file.library.kinds;
    for written in world.written.iter().filter(|written| written.applied) {
        let text = |field: &str| written.value.get(field).and_then(Value::as_str);
        let (Some(kind), Some(api)) = (text("kind"), text("apiVersion")) else {
            continue;
        };
        let shapes = kinds.shapes(kind, Some(api));
        let places = Places {
            at: &|pointer| written.at(file, pointer),
            key: &|pointer| written.key(file, pointer),
        };
        fields_fit(kind, &shapes, &written.value, &places, problems);
        pods_are_few(kind, &written.value, &places, problems);
    }
    for (step, what) in file.steps() {
        let Step::Patch(patch) = what else { continue };
        if !patch.merge.is_object() {
            continue; // Reported as no merge patch.
        }
        let object = &patch.object;
        let shapes = kinds.shapes(&object.kind, object.api.as_deref());
        let base = format!("/steps/{step}/patch/merge");
        let places = Places {
            at: &|pointer| file.at(&format!("{base}{pointer}")),
            key: &|pointer| file.key(&format!("{base}{pointer}")),
        };
        fields_fit(&object.kind, &shapes, &patch.merge, &places, problems);
        pods_are_few(&object.kind, &patch.merge, &places, problems);
    }
}

/// Places in an object, by JSON pointer.
struct Places<'p> {
    at: &'p dyn Fn(&str) -> Span,
    key: &'p dyn Fn(&str) -> Span,
}

fn pods_are_few(kind: &str, object: &Value, places: &Places<'_>, problems: &mut Vec<Diagnostic>) {
    for (_, field) in MANY_PODS.iter().filter(|(of, _)| *of == kind) {
        let pointer = format!("/spec/{field}");
        let many = object.pointer(&pointer).and_then(Value::as_f64);
        if many.is_some_and(|many| many > f64::from(MOST_REPLICAS)) {
            problems.push(
                Diagnostic::error(code::OUT_OF_RANGE, "too many replicas", (places.at)(&pointer))
                    .expected(format!("at most {MOST_REPLICAS}")),
            );
        }
    }
}

/// Something in an object that its kind does not have.
enum Fault<'s> {
    Unknown {
        pointer: String,
        name: String,
        fields: &'s Fields,
    },
    Mismatch {
        pointer: String,
        found: &'static str,
        shape: &'s Shape,
    },
}

fn fields_fit(kind: &str, shapes: &[&Shape], object: &Value, places: &Places<'_>, problems: &mut Vec<Diagnostic>) {
    let mut faults = Vec::new();
    for shape in shapes {
        faults = Vec::new();
        compare(shape, object, String::new(), &mut faults);
        if faults.is_empty() {
            break;
        }
    }
    for fault in faults {
        problems.push(match fault {
            Fault::Unknown { pointer, name, fields } => {
                let known: Vec<&str> = fields.iter().map(|(name, _)| name).collect();
                Diagnostic::error(
                    code::UNKNOWN_FIELD,
                    format!("a {kind} has no field `{name}` here"),
                    (places.key)(&pointer),
                )
                .label("refused or left out by Kubernetes")
                .expected(list(&known))
                .did_you_mean(closest(&name, known))
            }
            Fault::Mismatch { pointer, found, shape } => Diagnostic::error(
                code::WRONG_TYPE,
                format!("{found} where a {kind} has {}", shape.words()),
                (places.at)(&pointer),
            )
            .label("refused by Kubernetes")
            .expected(shape.words()),
        });
    }
}

fn words(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// Compares as deep as the value goes, which its file bounds.
fn compare<'s>(shape: &'s Shape, value: &Value, pointer: String, faults: &mut Vec<Fault<'s>>) {
    if faults.len() >= MOST_FAULTS {
        return;
    }
    match (shape, value) {
        (Shape::FreeForm, _) | (_, Value::Null) => {}
        // What a reference becomes is known only in the run.
        (_, Value::String(text)) if text.contains("${") => {}
        (Shape::Object(fields), Value::Object(members)) => {
            for (name, member) in members {
                let pointer = format!("{pointer}/{}", escape(name));
                match fields.get(name) {
                    Some(field) => compare(&field.shape, member, pointer, faults),
                    None => faults.push(Fault::Unknown {
                        pointer,
                        name: name.clone(),
                        fields,
                    }),
                }
            }
        }
        (Shape::Map(values), Value::Object(members)) => {
            for (name, member) in members {
                compare(values, member, format!("{pointer}/{}", escape(name)), faults);
            }
        }
        (Shape::List(item), Value::Array(items)) => {
            for (index, member) in items.iter().enumerate() {
                compare(item, member, format!("{pointer}/{index}"), faults);
            }
        }
        (Shape::Scalar(scalar), value) if is_of(value, *scalar) => {}
        _ => faults.push(Fault::Mismatch {
            pointer,
            found: words(value),
            shape,
        }),
    }
}

/// The objects that a step writes, or shows to be rejected.
pub(super) fn written(file: &File<'_>, step: usize, what: &Step) -> Vec<Written> {
    let (pointer, manifest, applied) = match what {
        Step::Apply(apply) => (format!("/steps/{step}/apply/manifest"), apply.manifest.as_ref(), true),
        Step::Expect(expect) => match &expect.rejected {
            Some(rejected) => (
                format!("/steps/{step}/expect/rejected/manifest"),
                rejected.manifest.as_ref(),
                false,
            ),
            None => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    let mut found = Vec::new();
    if let Some(manifest) = manifest {
        found.extend(Written::all(step, applied, &pointer, manifest.clone(), None));
    }
    if let Some((_, name)) = files::named(step, what)
        && files::fault(file.folder, name).is_none()
    {
        let path = file.folder.join(name);
        let documents = manifests::text(&path)
            .ok()
            .and_then(|text| manifests::documents(&Source::new(&path, text)).ok());
        for document in documents.into_iter().flatten() {
            let places = Rc::new((document.places, document.root));
            found.extend(Written::all(step, applied, "", document.value, Some(&places)));
        }
    }
    found
}
