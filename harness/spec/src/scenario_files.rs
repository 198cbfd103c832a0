//! Which files of a folder are scenarios. A folder of scenarios may hold other things, too: the catalogue, fragments and definitions of kinds, and
//! manifests that scenarios apply.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Folders of a suite that are no areas.
const NOT_AREAS: &[&str] = &["catalogue", crate::crds::FOLDER, "fragments", "objects"];
/// Files of a suite that are no scenarios.
pub(crate) const PROFILES: &str = "profiles.yaml";
pub(crate) const DEVIATIONS: &str = "deviations.yaml";
/// What is read of a file to tell a manifest from a scenario.
const SNIFFED: u64 = 64 << 10;
/// Folders within folders that are looked into.
const DEEPEST: usize = 16;

/// Whether a file or folder of this name, in a folder of scenarios, is no scenario and holds none: parts of the suite, folders
/// for manifests (`objects`), and what is hidden.
#[must_use]
pub fn is_beside_scenarios(name: &str) -> bool {
    name.starts_with('.') || NOT_AREAS.contains(&name) || [PROFILES, DEVIATIONS].contains(&name)
}

/// All scenario files of a folder and of the folders below it, in order. What can't be read is left out, and so are folders
/// that a link leads back to.
#[must_use]
pub fn below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    collect(folder, DEEPEST, &mut BTreeSet::new(), &mut files);
    files
}

fn collect(folder: &Path, deeper: usize, seen: &mut BTreeSet<PathBuf>, files: &mut Vec<PathBuf>) {
    let Ok(real) = folder.canonicalize() else { return };
    if !seen.insert(real) {
        return;
    }
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut entries: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| !is_beside_scenarios(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if let Some(deeper) = deeper.checked_sub(1) {
                collect(&path, deeper, seen, files);
            }
        } else if is_yaml(&path) && !is_manifest(&path) {
            files.push(path);
        }
    }
}

/// Whether a file's name says that it is YAML.
#[must_use]
pub fn is_yaml(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// Whether a file holds objects of Kubernetes and no scenario: its first document has `kind` and `apiVersion`, and no
/// `scenario`. What can't be read is taken for a scenario, so that it is told.
pub(crate) fn is_manifest(path: &Path) -> bool {
    // A pipe would not answer.
    if !path.is_file() {
        return false;
    }
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(SNIFFED).read_to_end(&mut text));
    read.is_ok() && holds_objects(&String::from_utf8_lossy(&text))
}

fn holds_objects(text: &str) -> bool {
    let keys = keys_of_first_document(text);
    let has = |key: &str| keys.contains(key);
    has("kind") && has("apiVersion") && !has("scenario")
}

/// Keys at the outermost level of the first document that has any, without parsing it: it may be broken, or cut off.
fn keys_of_first_document(text: &str) -> BTreeSet<&str> {
    let mut keys = BTreeSet::new();
    let text = text.trim_start_matches('\u{feff}');
    let mut lines = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.trim_start().starts_with('#'));
    for line in &mut lines {
        let line = line.strip_prefix("--- ").unwrap_or(line);
        if line.starts_with("---") || line.starts_with("...") {
            if keys.is_empty() {
                continue;
            }
            break;
        }
        if line.starts_with('{') {
            // Written as JSON is, on one line or on several.
            return flow_keys(text);
        }
        if line.starts_with(char::is_whitespace) {
            continue;
        }
        if let Some((key, _)) = line.split_once(':') {
            keys.insert(key.trim_matches(['"', '\'']));
        }
    }
    keys
}

/// Keys at the outermost level of a mapping in braces.
fn flow_keys(text: &str) -> BTreeSet<&str> {
    let (mut keys, mut depth, mut quote, mut start, mut escaped) = (BTreeSet::new(), 0_usize, None, 0, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some('"'), '\\') => escaped = true,
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '{' | '[') => {
                depth += 1;
                start = at + 1;
            }
            (None, '}' | ']') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    break;
                }
            }
            (None, ',') => start = at + 1,
            (None, ':') if depth == 1 => {
                if let Some(key) = text.get(start..at) {
                    keys.insert(key.trim().trim_matches(['"', '\'']));
                }
                start = at + 1;
            }
            _ => {}
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rstest::rstest;

    use super::{below, holds_objects};

    #[rstest]
    #[case("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n", true)]
    #[case(
        "# a comment\n---\napiVersion: v1\nkind: List\nitems:\n  - {scenario: x}\n---\nscenario: no\n",
        true
    )]
    #[case("\u{feff}apiVersion: v1\r\nkind: ConfigMap\r\n", true)]
    #[case("\"kind\": Pod\n\"apiVersion\": v1\n", true)]
    #[case("{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{\"scenario\": 1}]}", true)]
    #[case("{\n  \"a\\\"b\": 1,\n  \"kind\": \"Pod\",\n  \"apiVersion\": \"v1\"\n}\n", true)]
    #[case("--- {apiVersion: v1, kind: Pod}\n", true)]
    #[case("scenario: a\nsteps:\n  - apply: {manifest: {apiVersion: v1, kind: Pod}}\n", false)]
    #[case("scenario: a\nkind: b\napiVersion: c\n", false)]
    #[case("scenrio: a\nsummary: b\n", false)]
    #[case("kind: Pod\n", false)]
    #[case("{scenario: a, kind: b, apiVersion: c}", false)]
    #[case("", false)]
    #[case("}{[\"'", false)]
    fn manifests_are_told_from_scenarios(#[case] text: &str, #[case] objects: bool) {
        assert_eq!(holds_objects(text), objects);
    }

    #[test]
    fn manifests_and_what_is_hidden_are_no_scenarios() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
        write("b.yaml", "scenario: b\n");
        write("area/deep/a.yaml", "scenario: a\n");
        write("area/typo.yml", "scenrio: a\n");
        write("area/map.yaml", manifest);
        write("area/objects/many.yaml", "not even that\n");
        write("area/.objects/many.yaml", manifest);
        write(".hidden.yaml", "scenario: hidden\n");
        write("catalogue/c.yaml", "requirements: []\n");
        write("area/text.txt", "scenario: text\n");
        std::os::unix::fs::symlink(root.path(), root.path().join("area/again")).unwrap();
        let found = below(root.path());
        let names: Vec<_> = found
            .iter()
            .map(|path| path.strip_prefix(root.path()).unwrap().to_str().unwrap())
            .collect();
        assert_eq!(names, ["area/deep/a.yaml", "area/typo.yml", "b.yaml"]);
    }
}
