//! The definitions that the model installs, held against those in `scenarios/crds/` by which scenarios are checked: what the
//! model takes stands there in the same form, and what stands there beyond it is named here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use meshproof_kinds::{CustomKind, Shape};
use serde_json::Value;

use super::{crds, gateway_api_crds, link_crd};
use crate::defect::Defects;

/// Places of real objects, with all below them, that the model's definitions leave out, so that they are pruned.
const BEYOND_THE_MODEL: &[(&str, &[&str])] = &[
    (
        "HTTPRoute",
        &[
            "spec.useDefaultGateways",
            "spec.rules[*].name",
            "spec.rules[*].retry",
            "spec.rules[*].sessionPersistence",
            "spec.rules[*].filters[*].cors",
            "spec.rules[*].filters[*].externalAuth",
            "spec.rules[*].filters[*].requestMirror.fraction",
            "spec.rules[*].filters[*].requestMirror.percent",
            "spec.rules[*].backendRefs[*].filters[*].cors",
            "spec.rules[*].backendRefs[*].filters[*].externalAuth",
            "spec.rules[*].backendRefs[*].filters[*].requestMirror.fraction",
            "spec.rules[*].backendRefs[*].filters[*].requestMirror.percent",
        ],
    ),
    ("Server", &["spec.externalWorkloadSelector"]),
];

fn is_at_or_below(place: &str, top: &str) -> bool {
    place
        .strip_prefix(top)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn known() -> BTreeMap<(String, String), CustomKind> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../scenarios/crds");
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap();
            let definition: Value = serde_yaml::from_str(&text).unwrap();
            let kind = CustomKind::declared_by(&definition).unwrap();
            ((kind.group.clone(), kind.kind.clone()), kind)
        })
        .collect()
}

/// What stands at each place, down to what has no parts.
fn places(shape: &Shape, path: &str, found: &mut BTreeMap<String, &'static str>) {
    match shape {
        Shape::Object(fields) => {
            for (name, field) in fields.iter().filter(|(name, _)| *name != "metadata") {
                let path = if path.is_empty() {
                    name.to_owned()
                } else {
                    format!("{path}.{name}")
                };
                places(&field.shape, &path, found);
            }
        }
        Shape::List(item) => places(item, &format!("{path}[*]"), found),
        Shape::Map(value) => places(value, &format!("{path}.*"), found),
        Shape::Scalar(_) | Shape::FreeForm => {
            found.insert(path.to_owned(), shape.words());
        }
    }
}

#[test]
fn scenarios_are_checked_by_the_definitions_that_the_model_installs() {
    let known = known();
    let clean = Defects::default();
    let installed = crds()
        .into_iter()
        .chain(gateway_api_crds(&clean))
        .chain([link_crd::link_crd(&clean)]);
    let mut wrong = Vec::new();
    let mut needed = BTreeSet::new();
    for definition in installed {
        let model = CustomKind::declared_by(&definition).unwrap();
        let Some(real) = known.get(&(model.group.clone(), model.kind.clone())) else {
            wrong.push(format!("{} is not in scenarios/crds", model.kind));
            continue;
        };
        assert_eq!((&model.plural, model.namespaced), (&real.plural, real.namespaced));
        for (version, shape) in model.shapes() {
            let (mut of_model, mut of_real) = (BTreeMap::new(), BTreeMap::new());
            places(shape, "", &mut of_model);
            match real.shape(version) {
                Some(shape) => places(shape, "", &mut of_real),
                None => wrong.push(format!("{} has no {version} in scenarios/crds", model.kind)),
            }
            for (place, words) in &of_model {
                if of_real.get(place) != Some(words) {
                    wrong.push(format!(
                        "{} {version} {place}: {words} here, {:?} there",
                        model.kind,
                        of_real.get(place)
                    ));
                }
            }
            let beyond = BEYOND_THE_MODEL.iter().find(|(kind, _)| *kind == model.kind);
            let beyond = beyond.map_or(&[][..], |(_, places)| places);
            for place in of_real.keys().filter(|place| !of_model.contains_key(*place)) {
                match beyond.iter().find(|top| is_at_or_below(place, top)) {
                    Some(top) => {
                        needed.insert((model.kind.clone(), *top));
                    }
                    None => wrong.push(format!("{} {version} {place} is not in the model", model.kind)),
                }
            }
        }
    }
    for (kind, places) in BEYOND_THE_MODEL {
        let kept = places
            .iter()
            .filter(|place| !needed.contains(&((*kind).to_owned(), **place)));
        wrong.extend(kept.map(|place| format!("{kind} {place} is not beyond the model")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
