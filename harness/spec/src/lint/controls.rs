//! Negatives have a positive control on the same path, so that "nothing arrived" cannot pass because nothing was sent.

use std::collections::BTreeSet;

use super::File;
use super::checks::Subject;
use super::world::{Kind, World};
use crate::code;
use crate::diagnostic::Diagnostic;
use crate::fact::{Fact, Part, parts};
use crate::scalar::Name;
use crate::scenario::{Expect, ObjectSubject, ObjectsSubject, Presence, Step};

/// Over what a check or a call looks.
#[derive(Debug, Default)]
struct Path {
    /// Links, consumer first.
    links: BTreeSet<(Name, Name)>,
    /// Client's cluster, target's cluster, service.
    ways: BTreeSet<(Name, Name, Name)>,
    /// Clusters whose objects are looked at.
    objects: BTreeSet<Name>,
}

impl Path {
    fn meets(&self, other: &Self, world: &World) -> bool {
        let linked = |a: &Name, b: &Name| a == b || world.linked(a, b, usize::MAX) || world.linked(b, a, usize::MAX);
        !self.links.is_disjoint(&other.links)
            || !self.ways.is_disjoint(&other.ways)
            || self.objects.iter().any(|a| other.objects.iter().any(|b| linked(a, b)))
    }

    fn describe(&self) -> String {
        let links = self.links.iter().map(|(from, to)| format!("the link {from} -> {to}"));
        let ways = self.ways.iter().map(|(from, to, service)| match from == to {
            true => format!("calls from {from} to its own `{service}`"),
            false => format!("calls from {from} to `{service}@{to}`"),
        });
        let objects = self.objects.iter().map(|cluster| format!("objects of {cluster}"));
        let all: Vec<String> = links.chain(ways).chain(objects).collect();
        if all.is_empty() {
            "nothing".to_owned()
        } else {
            all.join(", ")
        }
    }
}

/// Why an `expect` needs a control: the field that makes it a negative.
fn negative(expect: &Expect) -> Option<&'static str> {
    let none_counted = expect
        .count
        .is_some_and(|count| count.exactly == Some(0) || (count.at_most == Some(0) && count.at_least.is_none()));
    if expect.never_for.is_some() {
        Some("never_for")
    } else if expect.refused {
        Some("refused")
    } else if expect.is == Some(Presence::Absent) {
        Some("is")
    } else if expect.allowed == Some(false) {
        Some("allowed")
    } else if none_counted {
        Some("count")
    } else {
        None
    }
}

/// Every negative is controlled.
pub(super) fn negatives_are_controlled(file: &File<'_>, world: &World, problems: &mut Vec<Diagnostic>) {
    for (step, base, expect) in file.expects() {
        let Some(field) = negative(expect) else { continue };
        if expect.control.is_empty() {
            if !seen_before(file, step, expect, field) {
                problems.push(uncontrolled(file, world, step, &base, expect, field));
            }
            continue;
        }
        control_fits(file, world, step, &base, expect, problems);
    }
}

fn control_fits(
    file: &File<'_>,
    world: &World,
    step: usize,
    base: &str,
    expect: &Expect,
    problems: &mut Vec<Diagnostic>,
) {
    let own = path_of_check(world, step, expect);
    let mut any = false;
    let mut all_known = true;
    for (index, control) in expect.control.iter().enumerate() {
        if expect.call.as_ref() == Some(control) || expect.traffic.as_ref() == Some(control) {
            problems.push(
                Diagnostic::error(
                    code::OTHER_PATH,
                    format!("`{control}` is what this check itself judges"),
                    file.at(&format!("{base}/control/{index}")),
                )
                .label("proves nothing about the way")
                .help("name an earlier call that was answered, or a check of it"),
            );
            all_known = false;
            continue;
        }
        let Some((at, path)) = path_of_name(file, world, control, step) else {
            all_known = false; // Reported as a reference to nothing.
            continue;
        };
        any |= own.meets(&path, world);
        if let Some(Step::Expect(other)) = file.scenario.steps.get(at)
            && other.name.as_ref() == Some(control)
            && let Some(field) = negative(other).filter(|field| matches!(*field, "never_for" | "refused" | "allowed"))
        {
            problems.push(
                Diagnostic::error(
                    code::CONTROL_NEGATIVE,
                    format!("the control `{control}` is itself a negative"),
                    file.at(&format!("{base}/control/{index}")),
                )
                .also(
                    file.key(&format!("/steps/{at}/expect/{field}")),
                    "it passes when nothing happens",
                )
                .help("name a check that something does happen"),
            );
        }
    }
    if !any && all_known {
        problems.push(
            Diagnostic::error(
                code::OTHER_PATH,
                "no control is on the path of this negative",
                file.at(&format!("{base}/control")),
            )
            .label(format!("these look over {}", control_paths(file, world, step, expect)))
            .expected(format!("an earlier check or call over {}", own.describe())),
        );
    }
}

fn control_paths(file: &File<'_>, world: &World, step: usize, expect: &Expect) -> String {
    let all: Vec<String> = expect
        .control
        .iter()
        .filter_map(|control| path_of_name(file, world, control, step))
        .map(|(_, path)| path.describe())
        .collect();
    all.join(", ")
}

fn uncontrolled(file: &File<'_>, world: &World, step: usize, base: &str, expect: &Expect, field: &str) -> Diagnostic {
    let own = path_of_check(world, step, expect);
    let mut fitting: Vec<&str> = world
        .names
        .iter()
        .filter(|named| matches!(named.kind, Kind::Call | Kind::Check | Kind::Traffic) && named.step < step)
        .filter(|named| path_of_name(file, world, &named.name, step).is_some_and(|(_, path)| own.meets(&path, world)))
        .filter(|named| match file.scenario.steps.get(named.step) {
            Some(Step::Expect(other)) => negative(other).is_none(),
            // A call proves a way only through a check of its answers, or if it was answered.
            _ => expect.call.as_ref() != Some(&named.name) && expect.traffic.as_ref() != Some(&named.name),
        })
        .map(|named| named.name.0.as_str())
        .collect();
    fitting.dedup();
    let diagnostic = Diagnostic::error(
        code::NO_CONTROL,
        "a negative without a control",
        file.key(&format!("{base}/{field}")),
    )
    .label("would also pass if nothing was ever tried")
    .expected(format!(
        "`control` with an earlier check or call over {}",
        own.describe()
    ));
    if fitting.is_empty() {
        diagnostic.help(if field == "is" {
            "check before that the object is present, or give an earlier check of the same path a `name` and refer to it by `control: [<name>]`"
        } else {
            "give an earlier check that succeeds on this path a `name`, and refer to it by `control: [<name>]`"
        })
    } else {
        diagnostic.help(format!(
            "add `control: [{}]`, if that proves the way",
            fitting.join(", ")
        ))
    }
}

/// The same objects were seen present earlier, so their absence is a change that happened.
fn seen_before(file: &File<'_>, step: usize, expect: &Expect, field: &str) -> bool {
    if expect.within.is_none() {
        return false;
    }
    file.expects()
        .take_while(|(earlier, _, _)| *earlier < step)
        .any(|(_, _, other)| {
            let positive = negative(other).is_none();
            match field {
                "is" => match (&expect.object, &other.object) {
                    (Some(own), Some(seen)) => positive && same_object(own, seen),
                    _ => false,
                },
                "count" => match (&expect.objects, &other.objects, &other.object) {
                    (Some(own), Some(seen), _) => positive && same_objects(own, seen),
                    (Some(own), None, Some(seen)) => {
                        positive && own.r#in == seen.r#in && own.kind == seen.kind && own.namespace == seen.namespace
                    }
                    _ => false,
                },
                _ => false,
            }
        })
}

fn same_object(a: &ObjectSubject, b: &ObjectSubject) -> bool {
    a.r#in == b.r#in && a.kind == b.kind && a.name == b.name && a.namespace == b.namespace
}

fn same_objects(a: &ObjectsSubject, b: &ObjectsSubject) -> bool {
    a.r#in == b.r#in && a.kind == b.kind && a.namespace == b.namespace && a.labels == b.labels
}

/// The step that gave a name before `step`, and its path.
fn path_of_name(file: &File<'_>, world: &World, name: &Name, step: usize) -> Option<(usize, Path)> {
    let named = world.names.iter().find(|named| {
        named.name == *name && named.step < step && matches!(named.kind, Kind::Call | Kind::Check | Kind::Traffic)
    })?;
    let path = match file.scenario.steps.get(named.step)? {
        Step::Expect(expect) => path_of_check(world, named.step, expect),
        _ => path_of_sending(world, &named.name),
    };
    Some((named.step, path))
}

fn path_of_sending(world: &World, name: &Name) -> Path {
    let mut path = Path::default();
    for sending in world
        .sendings
        .iter()
        .filter(|sending| sending.name.as_ref() == Some(name))
    {
        add_sending(world, sending, &mut path);
    }
    path
}

fn add_sending(world: &World, sending: &super::world::Sending, path: &mut Path) {
    let Some(here) = world.cluster_of(sending) else { return };
    let there = sending.to.cluster.clone().unwrap_or_else(|| here.clone());
    if here != there {
        path.links.insert((here.clone(), there.clone()));
    }
    path.ways.insert((here, there, sending.to.service.clone()));
}

fn path_of_check(world: &World, step: usize, expect: &Expect) -> Path {
    let mut path = Path::default();
    let Some(subject) = Subject::of(expect) else {
        return path;
    };
    match subject {
        Subject::Call | Subject::Traffic => {
            if let Some(name) = expect.call.as_ref().or(expect.traffic.as_ref()) {
                return path_of_sending(world, name);
            }
        }
        Subject::Split | Subject::Mtls => {
            for sending in world.sendings.iter().filter(|sending| sending.step == step) {
                add_sending(world, sending, &mut path);
            }
        }
        Subject::Link => {
            path.links
                .extend(expect.link.iter().map(|link| (link.from.clone(), link.to.clone())));
        }
        Subject::Object => {
            if let Some(object) = &expect.object {
                path.objects.insert(object.r#in.clone());
                links_of_texts(&object.r#in, [Some(&object.name), object.namespace.as_ref()], &mut path);
            }
        }
        Subject::Objects => {
            if let Some(objects) = &expect.objects {
                path.objects.insert(objects.r#in.clone());
                links_of_texts(
                    &objects.r#in,
                    [objects.labels.as_ref(), objects.namespace.as_ref()],
                    &mut path,
                );
            }
        }
        Subject::Access => path
            .objects
            .extend(expect.access.iter().map(|access| access.r#in.clone())),
        Subject::Rejected => path
            .objects
            .extend(expect.rejected.iter().map(|rejected| rejected.r#in.clone())),
        Subject::Unchanged => {
            path.objects
                .extend(expect.unchanged.iter().flat_map(|unchanged| unchanged.r#in.0.clone()));
        }
        Subject::Residue => {
            if let Some(residue) = &expect.residue {
                path.links
                    .extend(residue.link.iter().map(|link| (link.from.clone(), link.to.clone())));
                path.objects
                    .extend(residue.mesh.iter().flat_map(|clusters| clusters.0.clone()));
            }
        }
    }
    path
}

/// What is seen of another cluster's object speaks of the link: `${mirror.store.east}` in west.
fn links_of_texts(cluster: &Name, texts: [Option<&String>; 2], path: &mut Path) {
    for text in texts.into_iter().flatten() {
        for part in parts(text) {
            if let Part::Reference(reference) = part
                && let Some(Fact::Mirror { cluster: other, .. }) = Fact::parse(reference)
                && other != *cluster
            {
                path.links.insert((cluster.clone(), other));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::negative;
    use crate::scenario::{Count, Expect, Presence};

    #[test]
    fn negatives_are_recognised() {
        let base = Expect::default();
        assert_eq!(negative(&base), None);
        assert_eq!(
            negative(&Expect {
                refused: true,
                ..base.clone()
            }),
            Some("refused")
        );
        assert_eq!(
            negative(&Expect {
                is: Some(Presence::Absent),
                ..base.clone()
            }),
            Some("is")
        );
        assert_eq!(
            negative(&Expect {
                is: Some(Presence::Present),
                ..base.clone()
            }),
            None
        );
        assert_eq!(
            negative(&Expect {
                allowed: Some(false),
                ..base.clone()
            }),
            Some("allowed")
        );
        let none = Count {
            exactly: Some(0),
            ..Count::default()
        };
        assert_eq!(
            negative(&Expect {
                count: Some(none),
                ..base.clone()
            }),
            Some("count")
        );
        let few = Count {
            at_most: Some(2),
            ..Count::default()
        };
        assert_eq!(
            negative(&Expect {
                count: Some(few),
                ..base
            }),
            None
        );
    }
}
