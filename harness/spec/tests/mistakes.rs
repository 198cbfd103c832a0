//! Each file of `tests/mistakes/` holds a mistake; beside it stands what is said about it.
//!
//! The name of a file begins with the code that must be among the diagnostics, and says by its end what kind of file it
//! is: `spec031-cluster.yaml` is a scenario, `spec100-cidr.topology.yaml` a topology. `UPDATE_MISTAKES=1` writes the texts
//! anew; they are then read by a person before they are committed: each must tell a newcomer what to do.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use meshproof_spec::code::Code;
use meshproof_spec::diagnostic::{Diagnostics, Style};
use meshproof_spec::suite::Suite;

const MANIFEST: &str = env!("CARGO_MANIFEST_DIR");

fn mistakes() -> Vec<PathBuf> {
    let folder = Path::new(MANIFEST).join("tests/mistakes");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Where a file belongs, by the end of its name.
fn place(name: &str, root: &Path) -> PathBuf {
    let scenarios = root.join("scenarios");
    if name.ends_with(".topology.yaml") {
        root.join("kind-configs/mistake/topology.yaml")
    } else if name.ends_with(".catalogue.yaml") {
        scenarios.join("catalogue/mistake.yaml")
    } else if name.ends_with(".fragment.yaml") {
        scenarios.join("fragments/mistake.yaml")
    } else if name.ends_with(".crd.yaml") {
        scenarios.join("crds/mistake.yaml")
    } else if name.ends_with(".profiles.yaml") {
        scenarios.join("profiles.yaml")
    } else if name.ends_with(".deviations.yaml") {
        scenarios.join("deviations.yaml")
    } else {
        scenarios.join("area/mistake.yaml")
    }
}

/// All that is said about a file when it is added to the good suite of `tests/suite`.
fn diagnose(file: &Path) -> (Diagnostics, String) {
    let name = file.file_name().unwrap().to_str().unwrap();
    let root = tempfile::tempdir().unwrap();
    copy(&Path::new(MANIFEST).join("tests/suite"), root.path());
    let target = place(name, root.path());
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    fs::copy(file, &target).unwrap();
    let (_, problems) = Suite::check(&root.path().join("scenarios"), &root.path().join("kind-configs"));
    let text = problems
        .render(Style::Plain)
        .replace(&format!("{}/", root.path().display()), "");
    (problems, text)
}

#[test]
fn the_good_suite_has_no_mistakes() {
    let suite = Path::new(MANIFEST).join("tests/suite");
    let (_, problems) = Suite::check(&suite.join("scenarios"), &suite.join("kind-configs"));
    assert_eq!(problems.render(Style::Plain), "");
}

#[test]
fn every_mistake_is_explained() {
    let update = std::env::var_os("UPDATE_MISTAKES").is_some();
    let mut wrong = Vec::new();
    for file in mistakes() {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let (problems, text) = diagnose(&file);
        let code = Code::find(name.split('-').next().unwrap()).unwrap_or_else(|| panic!("{name}: no such code"));
        if !problems.0.iter().any(|problem| problem.code == code) {
            wrong.push(format!("{name}: {code} is not reported:\n{text}"));
        }
        // Whoever reads it must learn what to do, not only that something is wrong.
        for problem in &problems.0 {
            let remedy = problem.help.is_some() || problem.expected.is_some() || problem.did_you_mean.is_some();
            if !remedy {
                wrong.push(format!("{name}: no remedy in:\n{}", problem.render(Style::Plain)));
            }
        }
        let beside = file.with_extension("txt");
        if update {
            fs::write(&beside, &text).unwrap();
        }
        let known = fs::read_to_string(&beside).unwrap_or_default();
        if known != text {
            wrong.push(format!("{name}: expected\n{known}\nfound\n{text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn there_are_many_mistakes_and_one_at_least_for_every_code() {
    let files = mistakes();
    assert!(files.len() >= 60, "{}", files.len());
    // Not to be made by a file in the right place: one that cannot be read, and one that only a fault here could cause.
    const WITHOUT: &[&str] = &["SPEC001", "SPEC019"];
    let made: BTreeSet<String> = files
        .iter()
        .map(|file| {
            file.file_name()
                .unwrap()
                .to_string_lossy()
                .split('-')
                .next()
                .unwrap()
                .to_uppercase()
        })
        .collect();
    for code in Code::all() {
        let code = code.to_string();
        assert!(
            made.contains(&code) || WITHOUT.contains(&code.as_str()),
            "no mistake for {code}"
        );
    }
}
