//! Any bytes read as a catalogue file: no panic, and every diagnostic can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meshproof_spec::diagnostic::Style;
use meshproof_spec::load::load_catalogue;
use meshproof_spec::source::Source;

fuzz_target!(|bytes: &[u8]| {
    let source = Source::new("fuzz/input/catalogue.yaml", String::from_utf8_lossy(bytes));
    let (catalogue, problems) = load_catalogue(&source);
    assert_eq!(catalogue.is_none(), problems.has_errors());
    problems.render(Style::Coloured);
    problems.to_json();
});
