//! The `meshproof` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    meshproof::main()
}
