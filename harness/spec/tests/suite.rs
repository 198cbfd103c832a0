//! What a suite of good files is read as.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use meshproof_spec::code;
use meshproof_spec::scalar::RequirementId;
use meshproof_spec::scenario::Step;
use meshproof_spec::suite::Suite;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite")
}

fn suite() -> Suite {
    Suite::load(&folder().join("scenarios"), &folder().join("kind-configs")).unwrap()
}

#[test]
fn every_row_is_a_scenario_with_an_id_of_its_own() {
    let suite = suite();
    let ids: Vec<&str> = suite.scenarios.iter().map(|scenario| scenario.id.as_str()).collect();
    assert_eq!(ids, ["plain", "rows.none", "rows.three"]);
    let three = &suite.scenarios[2];
    assert_eq!(three.area, "area");
    assert_eq!(three.row.as_ref().unwrap().values["replicas"], "3");
    let Step::Deploy(deploy) = &three.scenario.steps[0] else {
        panic!("{:?}", three.scenario.steps[0])
    };
    assert_eq!(
        (deploy.service.as_ref().unwrap().0.as_str(), deploy.replicas),
        ("store", Some(3))
    );
    let Step::Deploy(deploy) = &three.scenario.steps[3] else {
        panic!("{:?}", three.scenario.steps[3])
    };
    assert_eq!(deploy.service.as_ref().unwrap().0, "hidden-3");
    let Step::Expect(expect) = &three.scenario.steps[4] else {
        panic!("{:?}", three.scenario.steps[4])
    };
    assert_eq!(expect.object.as_ref().unwrap().name, "${mirror.hidden-3.east}");
    assert!(three.scenario.steps.iter().all(|step| !matches!(step, Step::Use(_))));
}

#[test]
fn steps_know_their_lines_also_those_of_a_fragment() {
    let suite = suite();
    let plain = &suite.scenarios[0];
    assert_eq!(plain.places.len(), plain.scenario.steps.len());
    assert_eq!(plain.line(0), 8);
    assert_eq!(plain.line(3), 11);
    let rows = &suite.scenarios[1];
    let places: Vec<(String, u32)> = rows
        .places
        .iter()
        .map(|place| {
            (
                place.file.file_name().unwrap().to_string_lossy().into_owned(),
                place.line,
            )
        })
        .collect();
    let at = |file: &str, line: u32| (file.to_owned(), line);
    assert_eq!(
        places,
        [
            at("exported.yaml", 9),
            at("exported.yaml", 10),
            at("exported.yaml", 11),
            at("rows.yaml", 12),
            at("rows.yaml", 13)
        ]
    );
}

#[test]
fn coverage_names_what_decides_and_what_is_left() {
    let suite = suite();
    let coverage = suite.coverage();
    let id = |text: &str| RequirementId(text.to_owned());
    assert_eq!(coverage.decided_by[&id("MC-TEST-002")], ["rows.none", "rows.three"]);
    assert_eq!(coverage.undecided(), [&id("MC-TEST-003")]);
}

#[test]
fn the_digest_changes_with_any_file() {
    let copy = tempfile::tempdir().unwrap();
    copy_all(&folder(), copy.path());
    let read = || Suite::load(&copy.path().join("scenarios"), &copy.path().join("kind-configs")).unwrap();
    let before = read();
    let fragment = copy.path().join("scenarios/fragments/exported.yaml");
    let text = fs::read_to_string(&fragment).unwrap();
    fs::write(&fragment, format!("{text}# a remark\n")).unwrap();
    let after = read();
    assert_ne!(before.digest, after.digest);
    // The scenario that uses the fragment has changed, the other one has not.
    assert_ne!(before.scenarios[1].digest, after.scenarios[1].digest);
    assert_eq!(before.scenarios[0].digest, after.scenarios[0].digest);
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy_all(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn single_files_are_read_with_the_catalogue_of_the_suite() {
    let file = folder().join("scenarios/area/plain.yaml");
    let suite = Suite::load_files(&[file], &folder().join("scenarios"), &folder().join("kind-configs")).unwrap();
    assert_eq!(suite.scenarios.len(), 1);
}

#[test]
fn what_cannot_be_read_is_said_with_its_path() {
    let root = tempfile::tempdir().unwrap();
    let error = Suite::load(&root.path().join("none"), &root.path().join("neither")).unwrap_err();
    assert!(
        error.0.iter().all(|problem| problem.code == code::UNREADABLE),
        "{error}"
    );
    assert!(error.to_string().contains("neither"), "{error}");

    let file = root.path().join("binary.yaml");
    fs::write(&file, [0xff, 0xfe, 0x00]).unwrap();
    let error = Suite::load_files(&[file], &folder().join("scenarios"), &folder().join("kind-configs")).unwrap_err();
    assert_eq!(error.0[0].code, code::UNREADABLE);

    let file = root.path().join("large.yaml");
    fs::write(&file, "a: b\n".repeat(200_000)).unwrap();
    let error = Suite::load_files(&[file], &folder().join("scenarios"), &folder().join("kind-configs")).unwrap_err();
    assert_eq!(error.0[0].code, code::TOO_LARGE);
}

#[test]
fn a_yml_file_is_not_overlooked() {
    let copy = tempfile::tempdir().unwrap();
    copy_all(&folder(), copy.path());
    fs::write(copy.path().join("scenarios/area/other.yml"), "").unwrap();
    let suite = Suite::load(&copy.path().join("scenarios"), &copy.path().join("kind-configs")).unwrap();
    assert_eq!(suite.warnings.0[0].code, code::SUSPICIOUS);
}

#[test]
fn kinds_of_the_suite_are_known_and_others_are_not_checked() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("area/custom.yaml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let wheres = |kind: &str, paths: &[&str]| {
        let checks: Vec<String> = paths
            .iter()
            .map(|path| {
                format!(
                    "  - expect: {{id: MC-TEST-001, object: {{in: west, {kind}, name: a}}, where: [{{path: \"{path}\", exists: true}}], within: 3s}}"
                )
            })
            .collect();
        let text = format!(
            "# yaml-language-server: $schema=../../reports/schemas/scenario.json\nscenario: custom\nsummary: Custom kinds.\ntopology: pair\nmesh: example\nchecks: [MC-TEST-001]\nsteps:\n{}\n",
            checks.join("\n")
        );
        fs::write(&file, text).unwrap();
        let (_, problems) = Suite::check_files(
            std::slice::from_ref(&file),
            &folder().join("scenarios"),
            &folder().join("kind-configs"),
        );
        problems.0.into_iter().map(|problem| problem.code).collect::<Vec<_>>()
    };
    // Without `api`, what one of the versions has is there; below what the definition leaves open, everything is.
    let good = [
        "spec.period",
        "spec.selector.any.thing",
        "spec.weights",
        "status.mirrors[*].ready",
        "metadata.uid",
    ];
    assert_eq!(wheres("kind: Link", &good), []);
    assert_eq!(wheres("kind: Link, api: example.com/v2", &good), []);
    assert_eq!(wheres("kind: Link", &["spec.selectr.any"]), [code::NO_SUCH_PLACE]);
    assert_eq!(
        wheres("kind: Link, api: example.com/v1", &["spec.weights"]),
        [code::NO_SUCH_PLACE]
    );
    for unknown in [
        "kind: Lynk",
        "kind: Link, api: example.com/v9",
        "kind: Link, api: example.org/v1",
    ] {
        assert_eq!(wheres(unknown, &["spec.selectr.any"]), [], "{unknown}");
    }
}
