//! What negatives speak of has been seen or made: what is misspelt is absent for ever.

use meshproof_kinds::ObjectPath;
use serde_json::Value;

use super::File;
use super::controls::negative;
use super::matchers::{found_in, kind_of, place, shapes_of};
use super::world::{Workload, World};
use crate::code;
use crate::diagnostic::{Diagnostic, closest};
use crate::fact::{Part, parts};
use crate::scalar::Name;
use crate::scenario::{Expect, LinkSubject, Matcher, ObjectSubject, Step};
use crate::yaml::escape;

/// Namespaces that every cluster has.
const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

fn kind_name(expect: &Expect) -> Option<&str> {
    kind_of(expect).map(|(kind, _)| kind)
}

/// Whether a comparison also holds where there is nothing.
fn holds_of_nothing(matcher: &Matcher) -> Option<&'static str> {
    let nothing = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    if matcher.exists == Some(false) {
        Some("exists")
    } else if matcher.excludes.is_some() {
        Some("excludes")
    } else if matcher.length == Some(0) {
        Some("length")
    } else if matcher.one_of.as_ref().is_some_and(|values| values.iter().any(nothing)) {
        Some("one_of")
    } else if matcher.equals.as_ref().is_some_and(nothing) {
        Some("equals")
    } else {
        None
    }
}

/// What also holds of nothing is asked at places that the schema knows or somebody has seen.
pub(super) fn negatives_look_at_places_that_exist(file: &File<'_>, world: &World, problems: &mut Vec<Diagnostic>) {
    let checks: Vec<(usize, String, &Expect)> = file.expects().collect();
    let written = written(file, world);
    for (step, base, expect) in &checks {
        let is_negative = negative(expect).is_some();
        for (index, matcher) in expect.r#where.iter().enumerate() {
            let field = holds_of_nothing(matcher);
            if (field.is_none() && !is_negative) || matcher.path.trim().is_empty() {
                continue;
            }
            let Ok(path) = ObjectPath::parse(&place(&matcher.path)) else {
                continue;
            };
            let shapes = shapes_of(file, expect);
            if found_in(&shapes, &path).is_err() {
                continue; // Reported as a place that the schema does not have.
            }
            let in_schema = shapes.iter().any(|shape| path.is_named_in(shape));
            let seen = checks.iter().any(|(other_step, _, other)| {
                kind_name(other) == kind_name(expect)
                    && !(other_step == step && is_negative)
                    && negative(other).is_none()
                    && other
                        .r#where
                        .iter()
                        .any(|other| other.path == matcher.path && holds_of_nothing(other).is_none())
            });
            let is_written = path
                .last_key()
                .is_some_and(|key| written.iter().any(|step| has_key(step, key)));
            if in_schema || seen || is_written {
                continue;
            }
            problems.push(
                Diagnostic::error(
                    code::UNSEEN_PLACE,
                    format!("nobody has seen `{}`", matcher.path),
                    file.at(&format!("{base}/where/{index}/path")),
                )
                .label(match field {
                    Some(field) => format!("`{field}` also holds if this is misspelt"),
                    None => "a negative also passes if this is misspelt".to_owned(),
                })
                .help("check elsewhere in the file that an object of this kind does have something there"),
            );
        }
        for (header, matcher) in expect.answered.iter().flat_map(|answered| &answered.seen) {
            if matcher.excludes.is_none() && matcher.exists != Some(false) {
                continue;
            }
            let seen = checks.iter().any(|(_, _, other)| {
                other
                    .answered
                    .iter()
                    .flat_map(|answered| &answered.seen)
                    .any(|(name, other)| {
                        name.eq_ignore_ascii_case(header)
                            && (other.equals.is_some() || other.contains.is_some() || other.exists == Some(true))
                    })
            });
            if seen || written.iter().any(|step| has_key(step, header)) {
                continue;
            }
            problems.push(
                Diagnostic::error(
                    code::UNSEEN_PLACE,
                    format!("nobody has seen a header `{header}`"),
                    file.key(&format!("{base}/answered/seen/{}", escape(header))),
                )
                .label("also holds if this is misspelt")
                .help("send this header with the call, or check elsewhere in the file that a server does see it"),
            );
        }
    }
}

/// Whether a key stands anywhere in a value.
fn has_key(value: &Value, key: &str) -> bool {
    match value {
        Value::Object(map) => map
            .iter()
            .any(|(own, value)| (own == key && !value.is_null()) || has_key(value, key)),
        Value::Array(items) => items.iter().any(|item| has_key(item, key)),
        _ => false,
    }
}

/// Steps as they are written, but for checks, and the objects of files that they apply.
fn written(file: &File<'_>, world: &World) -> Vec<Value> {
    let steps = file
        .steps()
        .filter(|(_, step)| !matches!(step, Step::Expect(_)))
        .filter_map(|(_, step)| serde_json::to_value(step).ok());
    let of_files = world
        .written
        .iter()
        .filter(|written| written.applied && written.is_elsewhere());
    steps.chain(of_files.map(|written| written.value.clone())).collect()
}

/// Labels by which a negative selects objects were written by a step, or objects with them were seen.
pub(super) fn negatives_select_labels_that_exist(file: &File<'_>, world: &World, problems: &mut Vec<Diagnostic>) {
    let written = written(file, world);
    for (_, base, expect) in file.expects() {
        let Some(labels) = expect.objects.as_ref().and_then(|objects| objects.labels.as_deref()) else {
            continue;
        };
        if negative(expect).is_none() {
            continue;
        }
        let terms = labels.split(',').map(str::trim).filter(|term| !term.is_empty());
        for term in terms {
            let seen = file.expects().any(|(_, _, other)| {
                let labels = other.objects.as_ref().and_then(|objects| objects.labels.as_deref());
                negative(other).is_none()
                    && labels.is_some_and(|labels| labels.split(',').any(|other| other.trim() == term))
            });
            if seen || is_label_written(term, &written) {
                continue;
            }
            problems.push(
                Diagnostic::error(
                    code::UNSEEN_PLACE,
                    format!("nobody has seen an object with the label `{term}`"),
                    file.at(&format!("{base}/objects/labels")),
                )
                .label("selects nothing if this is misspelt")
                .help(
                    "check elsewhere in the file that there are objects with this label, or let a step give it to one",
                ),
            );
        }
    }
}

/// Whether a step writes the label that a term of a selector asks for. Terms of sets are looked at by their key only.
fn is_label_written(term: &str, written: &[Value]) -> bool {
    let (key, value) = match term.split_once('=') {
        Some((key, value)) => (key.trim_end_matches('!'), Some(value.trim_start_matches('='))),
        None => {
            let key = term.trim_start_matches('!');
            (key.split_whitespace().next().unwrap_or(key), None)
        }
    };
    written.iter().any(|step| match value {
        Some(value) if !term.contains("!=") => holds(step, &|own, text| own == key && text == value),
        _ => has_key(step, key),
    })
}

/// Whether some key with a text stands anywhere in a value.
fn holds(value: &Value, fits: &dyn Fn(&str, &str) -> bool) -> bool {
    match value {
        Value::Object(map) => map
            .iter()
            .any(|(key, value)| value.as_str().is_some_and(|text| fits(key, text)) || holds(value, fits)),
        Value::Array(items) => items.iter().any(|item| holds(item, fits)),
        _ => false,
    }
}

/// What must not be contained is a value that a step writes or that a check looks for elsewhere.
pub(super) fn excluded_values_exist(file: &File<'_>, world: &World, problems: &mut Vec<Diagnostic>) {
    let written = written(file, world);
    let looked_for = |value: &Value| {
        file.expects().any(|(_, _, other)| {
            let of_object = other.r#where.iter().any(|matcher| {
                [&matcher.equals, &matcher.contains]
                    .into_iter()
                    .flatten()
                    .chain(matcher.one_of.iter().flatten())
                    .any(|other| occurs(value, other))
            });
            let of_header = other.answered.iter().flat_map(|answered| answered.seen.values());
            of_object
                || of_header
                    .flat_map(|matcher| [&matcher.equals, &matcher.contains])
                    .flatten()
                    .any(|other| occurs(value, &Value::from(other.as_str())))
        })
    };
    for (_, base, expect) in file.expects() {
        let of_objects =
            expect.r#where.iter().enumerate().filter_map(|(index, matcher)| {
                Some((format!("{base}/where/{index}/excludes"), matcher.excludes.clone()?))
            });
        let of_headers = expect.answered.iter().flat_map(|answered| &answered.seen);
        let of_headers = of_headers.filter_map(|(header, matcher)| {
            let pointer = format!("{base}/answered/seen/{}/excludes", escape(header));
            Some((pointer, Value::from(matcher.excludes.clone()?)))
        });
        for (pointer, value) in of_objects.chain(of_headers) {
            if written.iter().any(|step| occurs(&value, step)) || looked_for(&value) {
                continue;
            }
            problems.push(
                Diagnostic::error(
                    code::UNSEEN_PLACE,
                    format!("nothing in this file could bring {value} there"),
                    file.at(&pointer),
                )
                .label("also holds if this is misspelt")
                .help("exclude a value that a step writes, or check elsewhere in the file that it is seen"),
            );
        }
    }
}

/// Whether a value is, or is a part of a text, anywhere in another. What is referred to is not looked at.
fn occurs(value: &Value, inside: &Value) -> bool {
    match (inside, value) {
        (Value::String(text), Value::String(part)) => {
            text.contains(part.as_str()) || parts(part).iter().any(|part| !matches!(part, Part::Literal(_)))
        }
        (Value::Object(map), _) => map
            .iter()
            .any(|(key, inside)| value.as_str().is_some_and(|part| key.contains(part)) || occurs(value, inside)),
        (Value::Array(items), _) => items.iter().any(|inside| occurs(value, inside)),
        (inside, value) => inside == value,
    }
}

/// What must not be allowed in a namespace is asked of a namespace that there is.
pub(super) fn denied_namespaces_exist(file: &File<'_>, world: &World, problems: &mut Vec<Diagnostic>) {
    let written = written(file, world);
    for (_, base, expect) in file.expects() {
        let Some(access) = expect.access.as_ref().filter(|_| expect.allowed == Some(false)) else {
            continue;
        };
        let Some(namespace) = &access.namespace else { continue };
        let is_reference = parts(namespace).iter().any(|part| !matches!(part, Part::Literal(_)));
        let seen = || {
            file.expects()
                .filter(|(_, _, other)| negative(other).is_none())
                .any(|(_, _, other)| {
                    [
                        other.access.as_ref().and_then(|access| access.namespace.as_ref()),
                        other.object.as_ref().and_then(|object| object.namespace.as_ref()),
                        other
                            .object
                            .as_ref()
                            .filter(|object| object.kind == "Namespace")
                            .map(|object| &object.name),
                    ]
                    .contains(&Some(namespace))
                })
        };
        let is_known = NAMESPACES.contains(&namespace.as_str())
            || written.iter().any(|step| {
                holds(step, &|key, text| {
                    matches!(key, "namespace" | "name") && text == namespace
                })
            });
        if is_reference || is_known || seen() {
            continue;
        }
        problems.push(
            Diagnostic::error(
                code::NOTHING_OF_THIS_NAME,
                format!("nobody has seen a namespace `{namespace}`"),
                file.at(&format!("{base}/access/namespace")),
            )
            .label("if this is misspelt, rights there are denied whatever the mesh does")
            .help("name it by a reference such as `${mesh.namespace}` or `${namespace}`, or check elsewhere in the file that it is there"),
        );
    }
}

/// What must never answer could: a service of this name is deployed in that cluster.
pub(super) fn those_who_never_answer_could(file: &File<'_>, world: &World, problems: &mut Vec<Diagnostic>) {
    for (_, base, expect) in file.expects() {
        let (Some(_), Some(by)) = (
            expect.never_for,
            expect.answered.as_ref().and_then(|answered| answered.by.as_ref()),
        ) else {
            continue;
        };
        let Some(name) = expect.call.as_ref().or(expect.traffic.as_ref()) else {
            continue;
        };
        let mut asked = world
            .sendings
            .iter()
            .filter(|sending| sending.name.as_ref() == Some(name));
        let Some(sending) = asked.next() else { continue };
        for cluster in &by.0 {
            let is_there = world.deployed.iter().any(|deployed| {
                deployed.workload == Workload::Service
                    && deployed.cluster == *cluster
                    && is_backend(file, &deployed.name, &sending.to.service)
            });
            if is_there {
                continue;
            }
            problems.push(
                Diagnostic::error(
                    code::NOTHING_OF_THIS_NAME,
                    format!("no `{}` in {cluster} that could answer", sending.to.service),
                    file.at(&format!("{base}/answered/by")),
                )
                .label("never answers, whatever the mesh does")
                .help("deploy the service there, or name a cluster in which it is"),
            );
        }
    }
}

/// Whether requests to a service may get to another one: it is the same, or a route leads there.
fn is_backend(file: &File<'_>, other: &Name, service: &Name) -> bool {
    other == service
        || file.steps().any(|(_, step)| match step {
            Step::Route(route) => {
                route.service == *service && route.backends.iter().any(|backend| backend.to.service == *other)
            }
            _ => false,
        })
}

/// `unchanged` and `residue` are asked after something that could have changed or left something.
pub(super) fn something_happened_before(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    for (step, base, expect) in file.expects() {
        let earlier = |since: usize| {
            file.steps()
                .take_while(move |(index, _)| *index < step)
                .skip_while(move |(index, _)| *index < since)
                .map(|(_, step)| step)
        };
        if let Some(unchanged) = &expect.unchanged {
            let since = file.steps().find_map(|(index, other)| match other {
                Step::Inventory(inventory) if inventory.name == unchanged.since => Some(index),
                _ => None,
            });
            let Some(since) = since.filter(|since| *since < step) else {
                continue; // Reported as a reference to nothing.
            };
            if !earlier(since).any(Step::changes) {
                problems.push(
                    Diagnostic::error(
                        code::NOTHING_HAPPENED,
                        "nothing happens between the inventory and this check",
                        file.at(&format!("{base}/unchanged/since")),
                    )
                    .label("nothing could have changed")
                    .help("take the inventory before the steps whose traces are looked for"),
                );
            }
        }
        if let Some(residue) = &expect.residue {
            let undone = |other: &Step| match (other, &residue.link) {
                (Step::Unlink(unlink), Some(LinkSubject { from, to })) => unlink.from == *from && unlink.to == *to,
                (Step::Uninstall(_), _) => true,
                _ => false,
            };
            if !earlier(0).any(undone) {
                problems.push(
                    Diagnostic::error(
                        code::NOTHING_HAPPENED,
                        "nothing is undone before what is left of it is looked for",
                        file.key(&format!("{base}/residue")),
                    )
                    .label("nothing could be left of what never was")
                    .help("unlink or uninstall it before"),
                );
            }
        }
    }
}

/// Names in negatives about one object are those of something: a misspelt name is absent for ever.
pub(super) fn absent_objects_have_names(file: &File<'_>, world: &World, problems: &mut Vec<Diagnostic>) {
    for (step, base, expect) in file.expects() {
        let (Some(_), Some(object)) = (negative(expect), &expect.object) else {
            continue;
        };
        let seen = || {
            file.expects()
                .take_while(|(earlier, _, _)| *earlier < step)
                .any(|(_, _, other)| {
                    negative(other).is_none()
                        && other
                            .object
                            .as_ref()
                            .is_some_and(|seen| seen.kind == object.kind && seen.name == object.name)
                })
        };
        if is_name_of_something(file, world, object) || seen() {
            continue;
        }
        let mut known: Vec<&str> = world.deployed.iter().map(|deployed| deployed.name.0.as_str()).collect();
        known.sort_unstable();
        known.dedup();
        problems.push(
            Diagnostic::error(
                code::NOTHING_OF_THIS_NAME,
                format!("nothing makes a {} `{}`", object.kind, object.name),
                file.at(&format!("{base}/object/name")),
            )
            .label("absent for ever, whatever the mesh does")
            .did_you_mean(closest(&object.name, known))
            .help("name what a step makes or deletes, its mirror `${mirror.<service>.<cluster>}`, or what an earlier check saw present"),
        );
    }
}

fn is_name_of_something(file: &File<'_>, world: &World, object: &ObjectSubject) -> bool {
    match parts(&object.name).as_slice() {
        [Part::Reference(_)] => true,
        // The mirror of a mirror.
        [Part::Reference(_), Part::Literal(rest)] => rest.strip_prefix('-').is_some_and(|cluster| {
            file.topology()
                .is_none_or(|topology| topology.clusters.keys().any(|known| known.0 == cluster))
        }),
        _ if object.namespace.is_some() => false,
        _ => {
            world.deployed.iter().any(|deployed| deployed.name.0 == object.name)
                || world
                    .written
                    .iter()
                    .any(|written| written.applied && written.name() == Some(object.name.as_str()))
                || file.steps().any(|(_, step)| match step {
                    Step::Delete(delete) => delete.object.name == object.name,
                    _ => false,
                })
        }
    }
}
