//! The `meshproof` binary.

use std::process::ExitCode;

/// A third of a run on embedded clusters is allocation: their API servers keep objects as trees.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    meshproof::main()
}
