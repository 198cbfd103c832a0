//! Negatives have a positive control on the same path, so that "nothing arrived" cannot pass because nothing was sent.

use std::collections::BTreeSet;

use super::File;
use super::checks::Subject;
use super::world::{Kind, World};
use crate::code;
use crate::diagnostic::Diagnostic;
use crate::fact::{Fact, Part, parts};
use crate::scalar::Name;
use crate::scenario::{CallProtocol, Count, Expect, Fails, ObjectSubject, ObjectsSubject, Presence, Step};

/// From where to where requests go, and how.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    /// Client's cluster.
    from: Name,
    /// Target's cluster.
    to: Name,
    service: Name,
    port: Option<u16>,
    protocol: &'static str,
}

/// Objects that are looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Objects {
    cluster: Name,
    kind: String,
    /// `None`: the scenario's.
    namespace: Option<String>,
    /// `None`: any.
    name: Option<String>,
}

/// Over what a check or a call looks.
#[derive(Debug, Default)]
struct Path {
    /// Links whose gateway is looked at, consumer first.
    links: BTreeSet<(Name, Name)>,
    ways: BTreeSet<Way>,
    objects: BTreeSet<Objects>,
    /// Clusters and users.
    users: BTreeSet<(Name, String)>,
    /// Mirrors that are looked at: in which cluster, of which other one, of which service.
    mirrors: BTreeSet<(Name, Name, Name)>,
}

impl Path {
    /// Whether what is seen over `control` proves this path: the same subject, or requests over the same way.
    fn is_proven_by(&self, control: &Self, same_name: bool) -> bool {
        let same_objects = |own: &Objects, other: &Objects| {
            own.cluster == other.cluster
                && own.kind == other.kind
                && (own.namespace == other.namespace || other.namespace.as_deref() == Some("*"))
                && (!same_name || own.name.is_none() || own.name == other.name)
        };
        !self.ways.is_disjoint(&control.ways)
            || !self.users.is_disjoint(&control.users)
            || (!self.links.is_disjoint(&control.links))
            || self
                .objects
                .iter()
                .any(|own| control.objects.iter().any(|other| same_objects(own, other)))
    }

    /// Whether it proves the first half of a way: the other cluster's gateway is alive, or the mirror is there.
    fn proves_the_link_of(&self, way: &Way) -> bool {
        way.from != way.to
            && (self.links.contains(&(way.from.clone(), way.to.clone()))
                || self
                    .mirrors
                    .contains(&(way.from.clone(), way.to.clone(), way.service.clone())))
    }

    /// Whether it proves the second half of a way: the target answers in its own cluster.
    fn proves_the_target_of(&self, way: &Way) -> bool {
        self.ways.contains(&Way {
            from: way.to.clone(),
            ..way.clone()
        })
    }

    fn describe(&self) -> String {
        let links = self.links.iter().map(|(from, to)| format!("the link {from} -> {to}"));
        let ways = self.ways.iter().map(|way| {
            let Way {
                from,
                to,
                service,
                port,
                protocol,
            } = way;
            let port = port.map(|port| format!(" at port {port}")).unwrap_or_default();
            match from == to {
                true => format!("calls from {from} to its own `{service}`{port} over {protocol}"),
                false => format!("calls from {from} to `{service}@{to}`{port} over {protocol}"),
            }
        });
        let objects = self.objects.iter().map(|objects| {
            let namespace = match objects.namespace.as_deref() {
                None => String::new(),
                Some("*") => " in all namespaces".to_owned(),
                Some(other) => format!(" in namespace `{other}`"),
            };
            match &objects.name {
                Some(name) => format!("the {} `{name}` of {}{namespace}", objects.kind, objects.cluster),
                None => format!("objects of kind {} of {}{namespace}", objects.kind, objects.cluster),
            }
        });
        let users = self
            .users
            .iter()
            .map(|(cluster, user)| format!("what `{user}` may do in {cluster}"));
        let all: Vec<String> = links.chain(ways).chain(objects).chain(users).collect();
        if all.is_empty() {
            "nothing that proves a way".to_owned()
        } else {
            all.join(", ")
        }
    }
}

/// Why an `expect` needs a control: the field that makes it a negative.
pub(super) fn negative(expect: &Expect) -> Option<&'static str> {
    let none_counted = expect.count.is_some_and(Count::admits_none);
    let any_failure = |fails: &Fails| fails.status.is_empty() && fails.header.is_none();
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
    } else if expect.fails.as_ref().is_some_and(any_failure) {
        Some("fails")
    } else {
        None
    }
}

/// Whether it says of objects that are there what they never hold: the objects themselves show that it could be seen.
fn is_about_content(expect: &Expect) -> bool {
    expect.never_for.is_some()
        && expect.is != Some(Presence::Absent)
        && (expect.object.is_some() || expect.objects.is_some())
        && !expect.r#where.is_empty()
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
    let content = is_about_content(expect);
    let mut known: Vec<(usize, usize, Path)> = Vec::new();
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
        let seen = position(file, world, at, control, step);
        known.push((index, seen, path));
        if let Some(Step::Expect(other)) = file.scenario.steps.get(at)
            && other.name.as_ref() == Some(control)
            && let Some(field) = negative(other).filter(|field| *field != "is" && *field != "count")
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
    if !all_known {
        return;
    }
    let proves = |fresh: bool| {
        let good: Vec<&Path> = known
            .iter()
            .filter(|(_, seen, _)| !fresh || disturbance(file, *seen, step).is_none())
            .map(|(_, _, path)| path)
            .collect();
        let by_halves = own.ways.iter().any(|way| {
            good.iter().any(|path| path.proves_the_link_of(way))
                && good.iter().any(|path| path.proves_the_target_of(way))
        });
        by_halves || good.iter().any(|path| own.is_proven_by(path, content))
    };
    if !proves(false) {
        problems.push(
            Diagnostic::error(
                code::OTHER_PATH,
                "no control is on the path of this negative",
                file.at(&format!("{base}/control")),
            )
            .label(format!("these look over {}", control_paths(file, world, step, expect)))
            .expected(format!("an earlier check or call over {}", own.describe())),
        );
    } else if !content && !proves(true) {
        let came_between = known
            .iter()
            .find_map(|(index, seen, _)| Some((*index, disturbance(file, *seen, step)?)));
        if let Some((index, between)) = came_between {
            problems.push(
                Diagnostic::error(
                    code::STALE_CONTROL,
                    "a step came between the control and the negative",
                    file.at(&format!("{base}/control/{index}")),
                )
                .label("says nothing about the time after that step")
                .also(file.at(&format!("/steps/{between}")), "this may have broken the way")
                .help("look again after that step, by a check or call with a name of its own, and name that one"),
            );
        }
    }
}

/// The step at which a control shows that the way works: of a check of a call, the call.
fn position(file: &File<'_>, world: &World, at: usize, control: &Name, step: usize) -> usize {
    let of_name = |kind: Kind, name: &Name| {
        world
            .names
            .iter()
            .find(|named| named.kind == kind && named.name == *name)
            .map(|named| named.step)
    };
    match file.scenario.steps.get(at) {
        Some(Step::Expect(expect)) => expect
            .call
            .as_ref()
            .and_then(|call| of_name(Kind::Call, call))
            .unwrap_or(at),
        // All its requests up to the negative have to succeed.
        Some(Step::Traffic(_)) => {
            let stopped = file.steps().find_map(|(index, other)| match other {
                Step::Stop(stop) if stop.traffic == *control && index < step => Some(index),
                _ => None,
            });
            stopped.unwrap_or(step)
        }
        _ => at,
    }
}

/// The first step that disturbs between two.
fn disturbance(file: &File<'_>, after: usize, before: usize) -> Option<usize> {
    file.steps()
        .skip(after + 1)
        .take_while(|(index, _)| *index < before)
        .find_map(|(index, step)| step.disturbs().then_some(index))
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
        .filter(|named| {
            path_of_name(file, world, &named.name, step)
                .is_some_and(|(_, path)| own.is_proven_by(&path, is_about_content(expect)))
        })
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
    path.ways.insert(Way {
        from: here,
        to: there,
        service: sending.to.service.clone(),
        port: sending.port,
        protocol: match sending.protocol {
            CallProtocol::Http1 => "http1",
            CallProtocol::Http2 => "http2",
            CallProtocol::Tcp => "tcp",
        },
    });
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
                path.objects.insert(Objects {
                    cluster: object.r#in.clone(),
                    kind: object.kind.clone(),
                    namespace: object.namespace.clone(),
                    name: Some(object.name.clone()),
                });
                mirrors_of(&object.r#in, &object.name, &mut path);
            }
        }
        Subject::Objects => {
            if let Some(objects) = &expect.objects {
                path.objects.insert(Objects {
                    cluster: objects.r#in.clone(),
                    kind: objects.kind.clone(),
                    namespace: objects.namespace.clone(),
                    name: None,
                });
            }
        }
        Subject::Access => path.users.extend(
            expect
                .access
                .iter()
                .map(|access| (access.r#in.clone(), access.user.clone())),
        ),
        // None of these is a sighting that a negative could lean on.
        Subject::Rejected | Subject::Unchanged | Subject::Residue => {}
    }
    path
}

/// The mirror that an object is: `${mirror.store.east}` in west.
fn mirrors_of(cluster: &Name, name: &str, path: &mut Path) {
    if let [Part::Reference(reference)] = parts(name).as_slice()
        && let Some(Fact::Mirror {
            service,
            cluster: other,
        }) = Fact::parse(reference)
    {
        path.mirrors.insert((cluster.clone(), other, service));
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
                ..base.clone()
            }),
            Some("count")
        );
        let some = Count {
            at_least: Some(1),
            at_most: Some(2),
            ..Count::default()
        };
        assert_eq!(
            negative(&Expect {
                count: Some(some),
                ..base
            }),
            None
        );
    }
}
