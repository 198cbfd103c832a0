//! `reports/sample`: a run that was kept, and what this version makes of its journal.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const REPORTS: [&str; 4] = ["junit.xml", "report.html", "report.json", "summary.md"];

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../reports/sample")
}

fn meshproof(verb: &str, folder: &Path) -> (Option<i32>, String) {
    // Attachments are named from where the command is run; the sample was reported from the root of the project.
    let root = folder.ancestors().nth(2).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_meshproof"))
        .current_dir(root)
        .arg(verb)
        .arg(folder)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

/// Copies everything but the reports.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&path, &target);
        } else if !REPORTS.iter().any(|report| path.ends_with(report)) {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn the_sample_holds_what_this_version_makes_of_its_journal() {
    let root = tempfile::tempdir().unwrap();
    let place = root.path().join("reports/sample");
    fs::create_dir_all(&place).unwrap();
    copy(&sample(), &place);
    let (code, said) = meshproof("report", &place);
    assert_eq!(code, Some(0), "{said}");
    for report in REPORTS {
        let (made, kept) = (
            fs::read_to_string(place.join(report)).unwrap(),
            fs::read_to_string(sample().join(report)).unwrap(),
        );
        assert!(
            made == kept,
            "reports/sample/{report} is not what this version writes: look at what changed, then run \
             `cargo run -- report reports/sample`"
        );
    }
}

#[test]
fn every_verdict_of_the_sample_follows_from_its_evidence() {
    let (code, said) = meshproof("recheck", &sample());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("3 checks computed again"), "{said}");
    let report = fs::read_to_string(sample().join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["outcome"], "fail", "the sample shows a broken promise");
}
