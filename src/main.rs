//! The `underpin` command: runs a node, and talks to one that runs.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
