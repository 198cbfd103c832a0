//! The binary, asked for what can't be done as asked: it is refused whole and never done in part; and what is anybody else's
//! stays theirs.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rstest::rstest;
use tempfile::TempDir;

struct Said {
    code: Option<i32>,
    all: String,
}

impl Said {
    #[track_caller]
    fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.all);
        self
    }

    #[track_caller]
    fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.all.contains(text), "`{text}` is not in\n{}", self.all);
        }
        self
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// The binary in a folder, with nothing of the user's environment that matters to it.
fn binary(folder: &Path, home: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshproof"));
    command
        .args(words)
        .current_dir(folder)
        .env_remove("MESHPROOF_STATE")
        .env("XDG_STATE_HOME", home)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Said {
        code: output.status.code(),
        all: text(&output.stdout) + &text(&output.stderr),
    }
}

fn call(words: &[&str]) -> Said {
    let home = tempfile::tempdir().unwrap();
    said(&mut binary(&root(), home.path(), words))
}

fn gc(state: &Path) -> Said {
    let home = tempfile::tempdir().unwrap();
    said(&mut binary(
        &root(),
        home.path(),
        &["gc", "--state", state.to_str().unwrap()],
    ))
}

#[rstest]
#[case("list declared-shares misspelt-scenario", "`misspelt-scenario`")]
#[case("list declared-shares gatewya/", "`gatewya/`")]
#[case("list --tag smoke --tag no-such-tag", "--tag no-such-tag")]
#[case("plan nothing-like-it.yaml declared-shares", "`nothing-like-it.yaml`")]
#[case("run splits/declared-share", "did you mean `splits/declared-shares`?")]
fn a_selector_that_matches_nothing_is_refused_whatever_else_matches(#[case] words: &str, #[case] told: &str) {
    let words: Vec<&str> = words.split(' ').collect();
    call(&words).exits(4).says(&["no scenario is selected by", told]);
}

#[rstest]
#[case("list failover/gateway-dies", 1)]
#[case("list gateway-dies#2", 1)]
#[case("list scenarios/splits/declared-shares.yaml:17", 1)]
#[case("list scenarios/splits/declared-shares.yaml gateway-dies", 2)]
#[case("list scenarios/splits/declared-shares.yaml declared-shares", 1)]
fn printed_names_select(#[case] words: &str, #[case] expected: usize) {
    let words: Vec<&str> = words.split(' ').collect();
    let said = call(&words).exits(0);
    assert_eq!(said.all.lines().count(), expected, "{}", said.all);
}

#[test]
fn folders_and_areas_select_from_anywhere() {
    let lines = |folder: &Path, words: &[&str]| {
        let home = tempfile::tempdir().unwrap();
        let root = root();
        let mut command = binary(folder, home.path(), words);
        command
            .env("MESHPROOF_SCENARIOS", root.join("scenarios"))
            .env("MESHPROOF_TOPOLOGIES", root.join("kind-configs"));
        said(&mut command).exits(0).all
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let here = lines(&root(), &["list", "scenarios/failover/"]);
    assert!(
        here.lines().count() > 2 && here.lines().all(|line| line.starts_with("failover/")),
        "{here}"
    );
    assert_eq!(here, lines(&root(), &["list", "failover/"]));
    assert_eq!(here, lines(&root(), &["list", "failover"]));
    assert_eq!(here, lines(&root(), &["list", "failover/*"]));
    assert_eq!(here, lines(elsewhere.path(), &["list", "failover/"]));
    assert_eq!(here, lines(elsewhere.path(), &["list", "scenarios/failover"]));
    assert_eq!(here, lines(&root().join("scenarios"), &["list", "failover/"]));
    // An area and a file of another one.
    let both = lines(elsewhere.path(), &["list", "failover/", "splits/declared-shares.yaml"]);
    assert_eq!(both.lines().count(), here.lines().count() + 1, "{both}");
}

#[test]
fn manifests_beside_and_below_scenarios_are_no_scenarios() {
    let place = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = place.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let scenario = fs::read_to_string(root().join("scenarios/splits/declared-shares.yaml")).unwrap();
    write(
        "mine/bulk.yaml",
        &scenario.replace("scenario: declared-shares", "scenario: bulk"),
    );
    let list = "apiVersion: v1\nkind: List\nitems:\n  - {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n";
    write("mine/beside.yaml", list);
    write(
        "mine/objects/many.yaml",
        "apiVersion: v1\nkind: ConfigMap\n---\napiVersion: v1\nkind: ConfigMap\n",
    );
    write("mine/.hidden/more.yaml", list);
    let folder = place.path().join("mine");
    let folder = folder.to_str().unwrap();
    call(&["lint", folder]).exits(0).says(&["1 scenarios, "]);
    let listed = call(&["list", folder]).exits(0);
    assert_eq!(listed.all.lines().count(), 1, "{}", listed.all);
}

/// Of a file only what it checks is asked for, not the rest of the catalogue.
#[test]
fn prove_asks_a_file_for_what_it_checks() {
    call(&["prove", "scenarios/splits/quantity-weights.yaml"])
        .exits(0)
        .says(&["1 killed, 0 survived, 1 green, 0 red"]);
}

#[test]
fn broken_scenarios_are_counted() {
    let place = tempfile::tempdir().unwrap();
    let good = fs::read_to_string(root().join("scenarios/splits/declared-shares.yaml")).unwrap();
    fs::write(place.path().join("good.yaml"), good).unwrap();
    fs::write(place.path().join("broken.yaml"), "scenario: [\n").unwrap();
    fs::write(place.path().join("misspelt.yaml"), "scenrio: a\n").unwrap();
    call(&["lint", place.path().to_str().unwrap()])
        .exits(3)
        .says(&["3 scenarios, 2 with errors"]);
}

#[rstest]
#[case(
    "run exported-service-appears --multicluster-set enableNamespaceCreation=true",
    "--multicluster-set"
)]
#[case(
    "run exported-service-appears --set proxy.logLevel=debug --linkerd /nonexistent",
    "--linkerd"
)]
#[case("run exported-service-appears --context west=no-such-context", "--context")]
#[case("run --pace 1e9", "from 1 to 100")]
#[case("run --pace 1e-308", "from 1 to 100")]
#[case("run --pace 0", "from 1 to 100")]
#[case("run --pace NaN", "from 1 to 100")]
#[case("prove --pace 1000", "from 1 to 100")]
#[case("run --parallel 0", "from 1 to 1000")]
#[case("run --repeat 0", "from 1 to 1000")]
#[case("run --repeat 4294967295", "from 1 to 1000")]
#[case("run --on kind --at-once 0", "from 1 to 1000")]
#[case("run --keep --keep-on-failure", "cannot be used with")]
#[case("up --name ../x", "is not a name")]
#[case("up --name kind", "is not a name")]
#[case("status --name a/b", "is not a name")]
#[case("plan --commands --topology pair gateway-dies", "cannot be used with")]
fn an_option_that_can_not_be_followed_is_a_wrong_command_line(#[case] words: &str, #[case] told: &str) {
    let words: Vec<&str> = words.split(' ').collect();
    call(&words).exits(2).says(&[told]);
}

#[test]
fn gc_touches_nothing_that_does_not_prove_to_be_ours() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    fs::create_dir_all(at("Documents/sub")).unwrap();
    fs::write(at("Documents/sub/thesis.txt"), "precious").unwrap();
    fs::create_dir_all(at("src")).unwrap();
    fs::write(at("src/lock"), "locked by an editor\n").unwrap();
    fs::write(at("src/run"), "#!/bin/sh\n").unwrap();
    fs::create_dir_all(at("kind/meshproof-mine")).unwrap();
    fs::write(at("kind/meshproof-mine/lock"), "").unwrap();
    fs::write(at("kind/meshproof-mine/notes.yaml"), "precious").unwrap();
    fs::write(at("kind/office.network"), "").unwrap();
    symlink(at("Documents"), at("link")).unwrap();
    gc(place.path())
        .exits(6)
        .says(&["Documents", "src", "link", "meshproof-mine", "0 leftovers removed"]);
    assert_eq!(fs::read_to_string(at("Documents/sub/thesis.txt")).unwrap(), "precious");
    for name in [
        "src/lock",
        "src/run",
        "kind/meshproof-mine/notes.yaml",
        "kind/office.network",
        "link",
    ] {
        assert!(at(name).symlink_metadata().is_ok(), "{name}");
    }
}

/// What a killed process leaves in a folder of state.
fn left(state: &Path, name: &str) -> PathBuf {
    let folder = state.join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("lock"), format!("meshproof: state of {name}\n")).unwrap();
    folder
}

#[test]
fn gc_goes_on_past_what_it_can_not_read_and_names_it() {
    let place = tempfile::tempdir().unwrap();
    let state = place.path();
    let pipe = |path: &Path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    fs::write(state.join("a-stray-file"), "").unwrap();
    pipe(&state.join("a-stray-pipe"));
    let piped = left(state, "run-piped");
    pipe(&piped.join("run"));
    let locked = state.join("run-locked");
    fs::create_dir(&locked).unwrap();
    pipe(&locked.join("lock"));
    let runs = tempfile::tempdir().unwrap();
    let broken = runs.path().join("broken");
    fs::create_dir(&broken).unwrap();
    pipe(&broken.join("journal.ndjson"));
    fs::write(left(state, "run-broken").join("run"), broken.to_str().unwrap()).unwrap();
    fs::write(left(state, "run-notes").join("notes.txt"), "precious").unwrap();
    left(state, "zz-behind-all-others");
    let told = gc(state).exits(6).says(&[
        "a-stray-file",
        "a-stray-pipe",
        "run-piped/run",
        "run-locked",
        "journal.ndjson",
        "notes.txt",
        "removed: state of `zz-behind-all-others`",
    ]);
    assert!(!state.join("zz-behind-all-others").exists(), "{}", told.all);
    assert!(!piped.join("lock").exists() && state.join("run-notes/notes.txt").exists());
}

#[test]
fn the_folder_for_state_is_the_same_for_all_commands() {
    let place = tempfile::tempdir().unwrap();
    let home = tempfile::tempdir().unwrap();
    let state = place.path().join("state");
    let out = place.path().join("runs");
    let run = |words: &[&str]| {
        let mut command = binary(&root(), home.path(), &["run", "exported-service-appears"]);
        command.args(words).arg("--out").arg(&out);
        command
    };
    for how in ["variable", "option"] {
        let mut command = match how {
            "variable" => run(&[]),
            _ => run(&["--state", state.to_str().unwrap()]),
        };
        if how == "variable" {
            command.env("MESHPROOF_STATE", &state);
        }
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let begun = || {
            fs::read_dir(&state)
                .is_ok_and(|mut entries| entries.any(|entry| entry.unwrap().path().join("run").exists()))
        };
        while !begun() {
            assert!(
                std::time::Instant::now() < deadline,
                "the run takes no name in the folder ({how})"
            );
            assert!(child.try_wait().unwrap().is_none(), "the run ended early ({how})");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        gc(&state).exits(0).says(&["1 leftovers removed"]);
    }
    assert!(!home.path().join("meshproof").exists(), "nothing goes elsewhere");
}

#[test]
fn an_embedded_run_needs_no_folder_for_state() {
    let place: TempDir = tempfile::tempdir().unwrap();
    let mut command = binary(&root(), place.path(), &["run", "probe-period-needs-a-unit", "--out"]);
    command
        .arg(place.path().join("runs"))
        .env_remove("HOME")
        .env_remove("XDG_STATE_HOME");
    said(&mut command).exits(0).says(&["MESHPROOF_STATE"]);
}

#[test]
fn what_is_served_is_private_whatever_stood_in_its_place() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("default");
    let victim = place.path().join("victim");
    fs::create_dir(&folder).unwrap();
    fs::write(&victim, "precious").unwrap();
    fs::write(folder.join("kubeconfig"), "").unwrap();
    fs::set_permissions(folder.join("kubeconfig"), fs::Permissions::from_mode(0o666)).unwrap();
    symlink(&victim, folder.join("served.json")).unwrap();
    let state = place.path().to_str().unwrap();
    let mut up = binary(&root(), place.path(), &["up", "--bare", "--state", state]);
    let mut up = up.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while call(&["status", "--state", state]).code != Some(0) {
        assert!(std::time::Instant::now() < deadline, "it does not come up");
    }
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for name in ["kubeconfig", "served.json", "lock"] {
        assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    call(&["down", "--state", state]).exits(0);
    assert!(up.wait().unwrap().success());
    assert!(!folder.exists());
}

#[rstest]
#[case("capability-missing")]
#[case("api-not-found")]
#[case("kubeconfig-unusable")]
#[case("DOC012")]
#[case("failover/gateway-dies")]
fn what_is_printed_is_explained(#[case] printed: &str) {
    call(&["explain", printed]).exits(0);
}

#[cfg(target_os = "linux")]
#[rstest]
#[case("list")]
#[case("schema scenario")]
#[case("explain DOC012")]
#[case("completions bash")]
#[case("lint scenarios/splits")]
fn what_can_not_be_printed_is_not_done(#[case] words: &str) {
    let home = tempfile::tempdir().unwrap();
    let words: Vec<&str> = words.split(' ').collect();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = binary(&root(), home.path(), &words).stdout(full).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{told}");
    assert!(told.contains("standard output can't be written"), "{told}");
}

#[test]
fn the_hosts_proxies_do_not_lead_to_embedded_clusters() {
    for (variable, no_proxy) in [("HTTPS_PROXY", "localhost,, ,169.254/16"), ("https_proxy", "*")] {
        let place = tempfile::tempdir().unwrap();
        let mut command = binary(&root(), place.path(), &["run", "exported-service-appears", "--out"]);
        command
            .arg(place.path().join("runs"))
            .env(variable, "http://proxy.invalid:3128")
            .env("NO_PROXY", no_proxy);
        said(&mut command).exits(0);
    }
    let home = tempfile::tempdir().unwrap();
    let mut command = binary(&root(), home.path(), &["doctor"]);
    said(command.env("HTTPS_PROXY", "http://ann:secret@proxy.invalid:3128"))
        .says(&["DOC012", "http://proxy.invalid:3128"]);
}

#[rstest]
#[case("gc")]
#[case("run --on contexts exported-service-appears")]
#[case("doctor --on contexts exported-service-appears")]
fn a_kubeconfig_whose_token_has_a_line_break_is_an_error_with_file_and_remedy(#[case] words: &str) {
    let place = tempfile::tempdir().unwrap();
    let kubeconfig = place.path().join("kubeconfig");
    fs::write(
        &kubeconfig,
        "apiVersion: v1\nkind: Config\nclusters:\n- {name: west, cluster: {server: \"https://127.0.0.1:1\"}}\n\
         users:\n- name: ann\n  user:\n    token: |\n      abc\ncontexts:\n- {name: west, context: {cluster: west, user: ann}}\n",
    )
    .unwrap();
    let mut words: Vec<&str> = words.split(' ').collect();
    let contexts = ["west", "east"].map(|cluster| format!("{cluster}=west@{}", kubeconfig.display()));
    for context in &contexts {
        words.extend(["--context", context]);
    }
    let out = place.path().join("runs").display().to_string();
    if words[0] == "run" {
        words.extend(["--out", &out]);
    }
    call(&words)
        .exits(6)
        .says(&["user's token has a line break", "kubeconfig", "in the line of its key"]);
}

#[test]
fn a_configuration_for_kind_that_never_ends_is_refused_and_the_plan_says_so_by_its_exit() {
    let place = tempfile::tempdir().unwrap();
    for topology in fs::read_dir(root().join("kind-configs")).unwrap().flatten() {
        let copy = place.path().join(topology.file_name());
        fs::create_dir(&copy).unwrap();
        fs::copy(topology.path().join("topology.yaml"), copy.join("topology.yaml")).unwrap();
    }
    let pair = place.path().join("pair");
    symlink("/dev/zero", pair.join("west.yaml")).unwrap();
    let topologies = place.path().to_str().unwrap();
    call(&[
        "plan",
        "--on",
        "kind",
        "--commands",
        "--topology",
        "pair",
        "--topologies",
        topologies,
    ])
    .exits(3)
    .says(&["impossible", "west.yaml", "no plain file"]);
}
