//! Whatever a file holds: no panic, every place is inside of its file, and what passes can be typed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use meshproof_spec::code;
use meshproof_spec::diagnostic::{Diagnostics, Style};
use meshproof_spec::load::{Library, load_scenario, load_topology};
use meshproof_spec::source::{Source, Span};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_assert, prop_oneof};
use proptest::proptest;

fn good_files() -> Vec<String> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut files = Vec::new();
    for folder in ["suite/scenarios/area", "mistakes"] {
        for entry in fs::read_dir(tests.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                files.push(fs::read_to_string(path).unwrap());
            }
        }
    }
    files.sort();
    files
}

static FILES: LazyLock<Vec<String>> = LazyLock::new(good_files);

/// The topologies and requirements of the good suite, so that the rules that need them run.
fn library() -> Library {
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite");
    let mut topologies = BTreeMap::new();
    for name in ["pair", "trio"] {
        let path = suite.join("kind-configs").join(name).join("topology.yaml");
        let (topology, problems) = load_topology(&Source::new(&path, fs::read_to_string(&path).unwrap()));
        assert!(topology.is_some(), "{problems}");
        topologies.insert(name.to_owned(), topology);
    }
    let anywhere = Span::new(&Source::new("catalogue.yaml", "id"), 0..2);
    let requirements = ["MC-TEST-001", "MC-TEST-002"].map(|id| (id.to_owned(), anywhere.clone()));
    Library {
        topologies: Some(topologies),
        requirements: Some(requirements.into_iter().collect()),
        ..Library::default()
    }
}

static LIBRARY: LazyLock<Library> = LazyLock::new(library);

fn load(text: &str) -> Diagnostics {
    let source = Source::new("scenarios/area/any.yaml", text);
    let (scenarios, problems) = load_scenario(&source, &LIBRARY);
    assert_eq!(scenarios.is_empty(), problems.has_errors(), "{problems}");
    check(&source, &problems);
    problems
}

fn check(source: &Arc<Source>, problems: &Diagnostics) {
    for problem in &problems.0 {
        // What the walk along the schema lets pass can be read as the type.
        assert_ne!(problem.code, code::UNTYPED, "{problems}");
        let labels = problem.primary.iter().chain(&problem.secondary);
        for label in labels {
            assert!(label.span.range.end <= source.text().len());
        }
        assert!(problem.render(Style::Coloured).contains(&problem.code.to_string()));
        assert!(problem.to_json()["place"]["line"].as_u64() > Some(0));
    }
}

/// What is put in the place of a part of a good file.
fn splinters() -> impl Strategy<Value = String> {
    let known = prop_oneof![
        Just("null"),
        Just("{}"),
        Just("[]"),
        Just("true"),
        Just("-1"),
        Just("1e999"),
        Just("\"\""),
        Just("~"),
        Just("${vars.x}"),
        Just("\"${mirror.store.east}\""),
        Just("\"${matrix.a}\""),
        Just("${"),
        Just("expect"),
        Just("never_for: 5s"),
        Just("\n"),
        Just("  "),
        Just("- "),
        Just(": "),
        Just("&a "),
        Just("\u{1f600}"),
        Just("99999999999999999999"),
    ];
    prop_oneof![
        known.prop_map(str::to_owned),
        "[ -~]{0,6}",
        any::<char>().prop_map(String::from)
    ]
}

fn mutated() -> impl Strategy<Value = String> {
    let edit = (any::<prop::sample::Index>(), 0_usize..20, splinters());
    (any::<prop::sample::Index>(), prop::collection::vec(edit, 1..4)).prop_map(|(file, edits)| {
        let mut text = file.get(&FILES).clone();
        for (place, length, splinter) in edits {
            let places: Vec<usize> = text.char_indices().map(|(place, _)| place).collect();
            if places.is_empty() {
                text = splinter;
                continue;
            }
            let start = *place.get(&places);
            let end = places
                .iter()
                .copied()
                .find(|end| *end >= start + length)
                .unwrap_or(text.len());
            text.replace_range(start..end, &splinter);
        }
        text
    })
}

/// A word of the file is replaced by another word of the file: the result is mostly still good YAML.
fn shuffled() -> impl Strategy<Value = String> {
    (
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
    )
        .prop_map(|(file, one, other)| {
            let text = file.get(&FILES);
            let words: Vec<&str> = text
                .split([' ', ',', ':', '{', '}', '[', ']', '\n'])
                .filter(|word| !word.is_empty())
                .collect();
            let other: &str = other.get::<&str>(&words);
            text.replacen(*one.get(&words), other, 1)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn edited_files_do_not_panic(text in mutated()) {
        load(&text);
    }

    #[test]
    fn shuffled_files_do_not_panic(text in shuffled()) {
        load(&text);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        load(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn the_same_file_gives_the_same_answer(text in shuffled()) {
        prop_assert!(load(&text) == load(&text));
    }
}
