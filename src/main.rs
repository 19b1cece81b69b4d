//! The `underpin` command.
fn main() {}
