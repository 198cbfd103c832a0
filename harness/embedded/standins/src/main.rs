//! One binary under many names.

fn main() {}
