//! Files that a scenario names: there, and below the scenario's folder.

use std::path::{Component, Path};

use super::{File, world::World};
use crate::code;
use crate::diagnostic::Diagnostic;
use crate::scenario::Step;

/// Files are there and nothing leads out of the folder.
pub(super) fn files_stay_below_the_folder(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    for (step, what) in file.steps() {
        let Some((pointer, name)) = named(step, what) else {
            continue;
        };
        if let Some((message, help)) = fault(file.folder, name) {
            problems.push(Diagnostic::error(code::FILE_REFERENCE, message, file.at(&pointer)).help(help));
        }
    }
}

/// The file that a step names, with the pointer of the name.
pub(super) fn named(step: usize, what: &Step) -> Option<(String, &str)> {
    match what {
        Step::Apply(apply) => Some((format!("/steps/{step}/apply/file"), apply.file.as_deref()?)),
        Step::Expect(expect) => {
            let name = expect.rejected.as_ref()?.file.as_deref()?;
            Some((format!("/steps/{step}/expect/rejected/file"), name))
        }
        _ => None,
    }
}

/// Why a file may not be used, and what to do.
pub(super) fn fault(folder: &Path, name: &str) -> Option<(String, String)> {
    let below = "name a file below the scenario's folder, e.g. `files/object.yaml`".to_owned();
    let path = Path::new(name);
    let plain = path
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    // Other systems' separators and drives, so that a file means the same everywhere.
    if !plain || name.is_empty() || name.contains(['\\', ':']) {
        return Some((format!("`{name}` leads out of the scenario's folder"), below));
    }
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let full = folder.join(path);
    let (Ok(real), Ok(real_folder)) = (full.canonicalize(), folder.canonicalize()) else {
        return Some((
            format!("there is no file `{name}`"),
            format!("it is looked for at `{}`", full.display()),
        ));
    };
    if !real.starts_with(&real_folder) {
        return Some((
            format!("`{name}` is a link that leads out of the scenario's folder"),
            below,
        ));
    }
    if !real.is_file() {
        return Some((format!("`{name}` is not a file"), below));
    }
    if !matches!(extension(&real), "yaml" | "yml" | "json") {
        return Some((
            format!("`{name}` holds no objects"),
            "use a `.yaml` or `.json` file with Kubernetes objects".to_owned(),
        ));
    }
    None
}

fn extension(path: &Path) -> &str {
    path.extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::fault;
    use rstest::rstest;

    #[rstest]
    #[case("files/good.yaml", true)]
    #[case("./files/good.yaml", true)]
    #[case("files/none.yaml", false)]
    #[case("../secret.yaml", false)]
    #[case("files/../../secret.yaml", false)]
    #[case("/etc/passwd", false)]
    #[case("files", false)]
    #[case("files/text.txt", false)]
    #[case("", false)]
    #[case("C:\\secret.yaml", false)]
    fn only_files_below_the_folder(#[case] name: &str, #[case] good: bool) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("area");
        std::fs::create_dir_all(folder.join("files")).unwrap();
        std::fs::write(root.path().join("secret.yaml"), "").unwrap();
        std::fs::write(folder.join("files/good.yaml"), "").unwrap();
        std::fs::write(folder.join("files/text.txt"), "").unwrap();
        assert_eq!(fault(&folder, name).is_none(), good, "{:?}", fault(&folder, name));
    }

    #[cfg(unix)]
    #[test]
    fn a_symbolic_link_does_not_lead_out() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("area");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(root.path().join("secret.yaml"), "").unwrap();
        std::os::unix::fs::symlink(root.path().join("secret.yaml"), folder.join("inside.yaml")).unwrap();
        assert!(fault(&folder, "inside.yaml").unwrap().0.contains("leads out"));
    }
}
