//! The command line: `run` starts a node through the library, every other command talks HTTP to one that runs,
//! but for those that work on a data folder itself, and `completions`.
//!
//! Results go to stdout, everything else to stderr. With `--json` a result is one object or NDJSON, each with `"version":1`, and an
//! error is one line `{"version":1,"error":{"code":"..","message":".."}}` on stderr: stdout never holds anything but results.
//! Exit codes: [`Failure::code`]. A reader that closes stdout early (`| head`) is no failure.

mod arguments;
mod client;
#[cfg(feature = "cluster")]
mod cluster;
mod completions;
mod config;
mod events;
mod exposition;
mod failure;
mod help;
mod import;
mod metrics;
mod output;
mod run;
mod span;
mod status;
mod top;
mod tree;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Cli, Command, EventsCommand};
use failure::Failure;
use output::Output;

/// Reads the arguments, carries them out, and says how it went.
pub(super) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return failure::usage(error),
    };
    let json = cli.command.json();
    match carry_out(cli.command) {
        Ok(code) => code,
        Err(Failure::ClosedPipe) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report(json);
            failure.code()
        }
    }
}

fn carry_out(command: Command) -> Result<ExitCode, Failure> {
    let mut out = Output::stdout();
    match command {
        Command::Run(arguments) => run::run(&arguments, &mut out)?,
        Command::Events(EventsCommand::Import(arguments)) => {
            return import::import(&arguments, &mut out);
        }
        Command::Events(EventsCommand::Query(arguments)) => events::query(&arguments, &mut out)?,
        Command::Events(EventsCommand::Get(arguments)) => events::get(&arguments, &mut out)?,
        Command::Events(EventsCommand::Trace(arguments)) => events::trace(&arguments, &mut out)?,
        Command::Events(EventsCommand::Tail(arguments)) => events::tail(&arguments, &mut out)?,
        Command::Events(EventsCommand::Why(arguments)) => events::why(&arguments, &mut out)?,
        Command::Events(EventsCommand::Effects(arguments)) => {
            events::effects(&arguments, &mut out)?;
        }
        Command::Events(EventsCommand::Timeline(arguments)) => {
            events::timeline(&arguments, &mut out)?;
        }
        Command::Events(EventsCommand::Verify(place)) => return events::verify(&place, &mut out),
        Command::Events(EventsCommand::Repair(place)) => return events::repair(&place, &mut out),
        Command::Events(EventsCommand::Export(arguments)) => {
            return events::export(&arguments, &mut out);
        }
        Command::Events(EventsCommand::Backup(arguments)) => events::backup(&arguments, &mut out)?,
        Command::Config(command) => config::config(&command, &mut out)?,
        Command::Check(arguments) => config::check(&arguments, &mut out)?,
        Command::Metrics(arguments) => metrics::metrics(&arguments, &mut out)?,
        Command::Status(node) => status::status(&node, &mut out)?,
        #[cfg(feature = "cluster")]
        Command::Cluster(arguments) => cluster::cluster(&arguments, &mut out)?,
        Command::Tree(arguments) => tree::tree(&arguments, &mut out)?,
        Command::Top(arguments) => top::top(&arguments, &mut out)?,
        Command::Completions(arguments) => completions::completions(&arguments, &mut out)?,
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
