//! Names that steps give, and references to them.

use std::collections::HashMap;

use super::world::{Kind, Named, Workload, World};
use super::{File, each};
use crate::code;
use crate::diagnostic::{Diagnostic, closest};
use crate::fact::{Fact, Part, parts};
use crate::scalar::Name;
use crate::scenario::{Presence, Step};
use crate::structure::list;
use crate::yaml::escape;

/// A name is given once. Calls, traffic and checks share their names, because a `control` refers to any of them.
pub(super) fn duplicates(file: &File<'_>, world: &World, problems: &mut Vec<Diagnostic>) {
    let mut seen: HashMap<(&str, &Name), &Named> = HashMap::new();
    for named in &world.names {
        let space = match named.kind {
            Kind::Call | Kind::Traffic | Kind::Check => "check",
            other => other.word(),
        };
        match seen.get(&(space, &named.name)) {
            None => {
                seen.insert((space, &named.name), named);
            }
            Some(first) => problems.push(
                Diagnostic::error(
                    code::DUPLICATE_NAME,
                    format!("the name `{}` is given twice", named.name),
                    file.at(&named.pointer),
                )
                .label(format!("a {} here", named.kind.word()))
                .also(file.at(&first.pointer), format!("a {} of that name", first.kind.word()))
                .help("calls, traffic and checks need different names, so that a reference is clear"),
            ),
        }
    }
    deployed_twice(file, world, problems);
    let mut checks: HashMap<&str, usize> = HashMap::new();
    for (index, id) in file.scenario.checks.iter().enumerate() {
        if let Some(first) = checks.insert(&id.0, index) {
            problems.push(
                Diagnostic::error(
                    code::DUPLICATE_NAME,
                    format!("`{id}` stands twice in `checks`"),
                    file.at(&format!("/checks/{index}")),
                )
                .also(file.at(&format!("/checks/{first}")), "first here")
                .help("remove one"),
            );
        }
    }
}

fn deployed_twice(file: &File<'_>, world: &World, problems: &mut Vec<Diagnostic>) {
    for (index, deployed) in world.deployed.iter().enumerate() {
        let first = world
            .deployed
            .iter()
            .take(index)
            .find(|other| other.name == deployed.name && other.cluster == deployed.cluster);
        let Some(first) = first else { continue };
        // A Service of the same name is deployed again on purpose after it was deleted.
        let deleted = file.steps().any(|(step, what)| {
            (first.step..deployed.step).contains(&step)
                && matches!(what, Step::Delete(delete)
                    if delete.r#in == deployed.cluster && delete.object.name == deployed.name.0)
        });
        if !deleted {
            problems.push(
                Diagnostic::error(
                    code::DUPLICATE_NAME,
                    format!("`{}` is deployed twice in `{}`", deployed.name, deployed.cluster),
                    file.at(&deployed.pointer),
                )
                .also(file.at(&first.pointer), "deployed here already")
                .help(
                    "services and clients of a cluster need different names; to change the number of pods use `scale`",
                ),
            );
        }
    }
}

/// References lead to something that an earlier step named.
pub(super) fn references(file: &File<'_>, world: &World, problems: &mut Vec<Diagnostic>) {
    let mut refer = |kinds: &[Kind], name: &Name, step: usize, pointer: String| {
        refer_back(file, world, kinds, name, step, &pointer, problems);
    };
    for (step, what) in file.steps() {
        match what {
            Step::Stop(stop) => refer(
                &[Kind::Traffic],
                &stop.traffic,
                step,
                format!("/steps/{step}/stop/traffic"),
            ),
            Step::Heal(heal) => refer(&[Kind::Fault], &heal.fault, step, format!("/steps/{step}/heal/fault")),
            Step::Expect(expect) => {
                let at = |field: &str| format!("/steps/{step}/expect/{field}");
                if let Some(call) = &expect.call {
                    refer(&[Kind::Call], call, step, at("call"));
                }
                if let Some(traffic) = &expect.traffic {
                    refer(&[Kind::Traffic], traffic, step, at("traffic"));
                }
                if let Some(unchanged) = &expect.unchanged {
                    refer(&[Kind::Inventory], &unchanged.since, step, at("unchanged/since"));
                }
                for (index, matcher) in expect.r#where.iter().enumerate() {
                    if let Some(check) = &matcher.same_as {
                        refer(&[Kind::Check], check, step, at(&format!("where/{index}/same_as")));
                    }
                }
                for (index, control) in expect.control.iter().enumerate() {
                    let kinds = [Kind::Check, Kind::Call, Kind::Traffic];
                    refer(&kinds, control, step, at(&format!("control/{index}")));
                }
            }
            _ => {}
        }
    }
    inventories_cover(file, world, problems);
    remembered_checks_look_at_one_object(file, problems);
    faults_are_healed_once(file, problems);
}

fn refer_back(
    file: &File<'_>,
    world: &World,
    kinds: &[Kind],
    name: &Name,
    step: usize,
    pointer: &str,
    problems: &mut Vec<Diagnostic>,
) {
    let of_kind = || world.names.iter().filter(|named| kinds.contains(&named.kind));
    if of_kind().any(|named| named.name == *name && named.step < step) {
        return;
    }
    let words: Vec<&str> = kinds.iter().map(|kind| kind.word()).collect();
    let words = words.join(" or ");
    let later = of_kind().find(|named| named.name == *name);
    let other = world
        .names
        .iter()
        .find(|named| named.name == *name && named.step < step);
    let mut known: Vec<&str> = of_kind()
        .filter(|named| named.step < step)
        .map(|named| named.name.0.as_str())
        .collect();
    known.dedup();
    let place = file.at(pointer);
    let diagnostic = if let Some(later) = later {
        let how = if later.step == step {
            "is this check itself"
        } else {
            "comes later"
        };
        Diagnostic::error(code::UNKNOWN_REFERENCE, format!("the {words} `{name}` {how}"), place)
            .also(file.at(&later.pointer), "named here")
            .help("steps run in order: a reference looks back")
    } else if let Some(other) = other {
        Diagnostic::error(code::UNKNOWN_REFERENCE, format!("`{name}` is no {words}"), place)
            .also(file.at(&other.pointer), format!("`{name}` is a {}", other.kind.word()))
            .expected(if known.is_empty() {
                format!("the name of an earlier {words}")
            } else {
                list(&known)
            })
    } else {
        let diagnostic = Diagnostic::error(code::UNKNOWN_REFERENCE, format!("there is no {words} `{name}`"), place)
            .did_you_mean(closest(&name.0, known.iter().copied()));
        if known.is_empty() {
            diagnostic.help(match kinds {
                [Kind::Call] => format!("add a step before: `- call: {{name: {name}, from: <client>, to: <service>}}`"),
                [Kind::Traffic] => {
                    format!(
                        "add a step before: `- traffic: {{name: {name}, from: <client>, to: <service>, rate: 50/s}}`"
                    )
                }
                [Kind::Inventory] => format!("add a step before: `- inventory: {{name: {name}, in: <cluster>}}`"),
                [Kind::Fault] => format!("add a step before: `- fault: {{name: {name}, ...}}`"),
                _ => "give an earlier `expect` the name that is meant: `name: ...`".to_owned(),
            })
        } else {
            diagnostic.expected(list(&known))
        }
    };
    problems.push(diagnostic);
}

/// `unchanged` looks at clusters that the inventory remembered.
fn inventories_cover(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    for (step, base, expect) in file.expects() {
        let Some(unchanged) = &expect.unchanged else { continue };
        let inventory = file
            .scenario
            .steps
            .iter()
            .take(step)
            .enumerate()
            .rev()
            .find_map(|(index, what)| match what {
                Step::Inventory(inventory) if inventory.name == unchanged.since => Some((index, inventory)),
                _ => None,
            });
        let Some((index, inventory)) = inventory else { continue };
        for (pointer, cluster) in each(file, &format!("{base}/unchanged/in"), &unchanged.r#in) {
            if !inventory.r#in.0.contains(cluster) {
                problems.push(
                    Diagnostic::error(
                        code::UNKNOWN_REFERENCE,
                        format!("the inventory `{}` does not remember `{cluster}`", inventory.name),
                        file.at(&pointer),
                    )
                    .also(file.at(&format!("/steps/{index}/inventory/in")), "it remembers these")
                    .help("add the cluster to the inventory, or leave it out here"),
                );
            }
        }
    }
}

/// `same_as` compares with a check of one object: another one has no value to compare with.
fn remembered_checks_look_at_one_object(file: &File<'_>, problems: &mut Vec<Diagnostic>) {
    for (step, base, expect) in file.expects() {
        for (index, matcher) in expect.r#where.iter().enumerate() {
            let Some(name) = &matcher.same_as else { continue };
            let earlier = file
                .expects()
                .find(|(other, _, earlier)| *other < step && earlier.name.as_ref() == Some(name));
            let Some((_, other, earlier)) = earlier else { continue };
            let sees_one =
                earlier.object.is_some() && earlier.is != Some(Presence::Absent) && earlier.never_for.is_none();
            if !sees_one {
                problems.push(
                    Diagnostic::error(
                        code::UNKNOWN_REFERENCE,
                        format!("the check `{name}` does not see one object"),
                        file.at(&format!("{base}/where/{index}/same_as")),
                    )
                    .also(file.at(&format!("{other}/name")), "this check")
                    .expected("an earlier check of one `object` that is there"),
                );
            }
        }
    }
}

fn faults_are_healed_once(file: &File<'_>, problems: &mut Vec<Diagnostic>) {
    let mut healed: HashMap<&Name, usize> = HashMap::new();
    for (step, what) in file.steps() {
        if let Step::Heal(heal) = what
            && let Some(first) = healed.insert(&heal.fault, step)
        {
            problems.push(
                Diagnostic::error(
                    code::NOT_STARTED,
                    format!("the fault `{}` is healed already", heal.fault),
                    file.at(&format!("/steps/{step}/heal/fault")),
                )
                .also(file.at(&format!("/steps/{first}/heal/fault")), "healed here")
                .help("remove the step, or begin another fault with a name of its own"),
            );
        }
    }
}

/// `${mirror.store.east}` speaks of clusters and workloads that there are.
pub(super) fn facts(file: &File<'_>, world: &World, problems: &mut Vec<Diagnostic>) {
    for (step, what) in file.steps() {
        let Ok(value) = serde_json::to_value(what) else {
            continue;
        };
        let mut texts = Vec::new();
        collect_texts(&value, &format!("/steps/{step}"), &mut texts);
        for (pointer, text) in texts {
            for part in parts(&text) {
                let Part::Reference(reference) = part else { continue };
                let Some(fact) = Fact::parse(reference) else { continue };
                let place = file
                    .places
                    .value(&pointer)
                    .unwrap_or(file.root)
                    .find(&format!("${{{reference}}}"));
                fact_is_of_something(file, world, step, &fact, place, problems);
            }
        }
    }
}

/// What a fact speaks of is there.
pub(super) fn fact_is_of_something(
    file: &File<'_>,
    world: &World,
    step: usize,
    fact: &Fact,
    place: crate::source::Span,
    problems: &mut Vec<Diagnostic>,
) {
    let clusters: Option<Vec<&str>> = file
        .topology()
        .map(|topology| topology.clusters.keys().map(|name| name.0.as_str()).collect());
    if let (Some(cluster), Some(known)) = (fact.cluster(), &clusters)
        && !known.contains(&cluster.0.as_str())
    {
        problems.push(
            Diagnostic::error(
                code::UNKNOWN_CLUSTER,
                format!("`${{{fact}}}` speaks of the unknown cluster `{cluster}`"),
                place,
            )
            .expected(list(known))
            .did_you_mean(
                closest(&cluster.0, known.iter().copied())
                    .map(|meant| format!("${{{}}}", fact.to_string().replace(&cluster.0, meant))),
            ),
        );
        return;
    }
    workload_of_fact(fact, step, place, world, problems);
}

fn workload_of_fact(
    fact: &Fact,
    step: usize,
    place: crate::source::Span,
    world: &World,
    problems: &mut Vec<Diagnostic>,
) {
    let (name, known): (&Name, Vec<&str>) = match fact {
        // The name of a mirror may be wanted before the Service exists; it must be deployed somewhere in the file.
        Fact::Mirror { service, cluster } => {
            if world.has_service(service, cluster, usize::MAX) {
                return;
            }
            let known = world
                .before(Workload::Service, usize::MAX)
                .filter(|other| other.cluster == *cluster);
            (service, known.map(|deployed| deployed.name.0.as_str()).collect())
        }
        Fact::WorkloadIdentity { workload, cluster } => {
            let here = world
                .deployed
                .iter()
                .filter(|other| other.cluster == *cluster && other.step < step);
            let known: Vec<&str> = here.map(|deployed| deployed.name.0.as_str()).collect();
            if known.contains(&workload.0.as_str()) {
                return;
            }
            (workload, known)
        }
        _ => return,
    };
    problems.push(
        Diagnostic::error(
            code::UNKNOWN_SERVICE,
            format!("`${{{fact}}}` speaks of `{name}`, which is not deployed there"),
            place,
        )
        .expected(if known.is_empty() {
            "something that is deployed in that cluster".to_owned()
        } else {
            list(&known)
        })
        .did_you_mean(closest(&name.0, known)),
    );
}

fn collect_texts(value: &serde_json::Value, pointer: &str, texts: &mut Vec<(String, String)>) {
    match value {
        serde_json::Value::String(text) if text.contains("${") => texts.push((pointer.to_owned(), text.clone())),
        serde_json::Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect_texts(item, &format!("{pointer}/{index}"), texts);
            }
        }
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                collect_texts(value, &format!("{pointer}/{}", escape(key)), texts);
            }
        }
        _ => {}
    }
}
