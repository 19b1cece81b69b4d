//! `completions`.

use clap::CommandFactory as _;

use super::{
    arguments::{Cli, CompletionsArguments},
    failure::Failure,
    output::Output,
};

/// Writes the script that completes this command line in a shell. Needs no node.
pub(super) fn completions(
    arguments: &CompletionsArguments,
    out: &mut Output,
) -> Result<(), Failure> {
    let mut script = Vec::new();
    let mut command = Cli::command();
    clap_complete::generate(arguments.shell, &mut command, "underpin", &mut script);
    out.text(&String::from_utf8_lossy(&script))
}
