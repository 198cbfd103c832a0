//! `cargo run -p meshproof-spec --example lint -- scenarios kind-configs`: prints all that is wrong with a suite.

use std::path::PathBuf;
use std::process::ExitCode;

use meshproof_spec::diagnostic::Style;
use meshproof_spec::suite::Suite;

#[expect(clippy::print_stdout, reason = "a small program for a terminal")]
fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [scenarios, topologies, files @ ..] = arguments.as_slice() else {
        println!("usage: lint <scenarios> <kind-configs> [<file>...]");
        return ExitCode::from(2);
    };
    let (suite, problems) = if files.is_empty() {
        Suite::check(scenarios, topologies)
    } else {
        Suite::check_files(files, scenarios, topologies)
    };
    print!("{}", problems.render(Style::Plain));
    let undecided = suite.coverage().undecided().len();
    println!(
        "{} scenarios; {undecided} requirements of the catalogue are not decided",
        suite.scenarios.len()
    );
    if problems.has_errors() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
