//! Any bytes read as a scenario: no panic, and every diagnostic can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meshproof_spec::diagnostic::Style;
use meshproof_spec::load::{Library, load_scenario};
use meshproof_spec::source::Source;

fuzz_target!(|bytes: &[u8]| {
    let source = Source::new("fuzz/area/input.yaml", String::from_utf8_lossy(bytes));
    let (scenarios, problems) = load_scenario(&source, &Library::default());
    assert_eq!(scenarios.is_empty(), problems.has_errors());
    problems.render(Style::Coloured);
    problems.to_json();
});
