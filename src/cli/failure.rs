//! Why a command did not do what was asked, how that is told, and its exit code.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{
    CommandFactory,
    builder::StyledStr,
    error::{ContextKind, ContextValue},
};
use serde_json::json;

use super::{arguments::Cli, output::harmless};

/// Why a command ended without doing what was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The node or the machine said no.
    #[error("{message}")]
    Refused { code: String, message: String },
    /// What was said on the command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Nobody answers, or not now.
    #[error("{message}")]
    Unreachable { message: String },
    /// Ctrl-C.
    #[error("{0}")]
    Interrupted(String),
    /// Whoever read our output has heard enough.
    #[error("output was closed")]
    ClosedPipe,
}

impl Failure {
    pub(super) fn refused(code: &str, message: impl Into<String>) -> Self {
        Self::Refused {
            code: code.into(),
            message: message.into(),
        }
    }

    /// 1 refused or not found, 2 usage, 3 unreachable, 130 interrupted.
    pub(super) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::ClosedPipe => 0,
            Self::Refused { .. } => 1,
            Self::Usage(_) => 2,
            Self::Unreachable { .. } => 3,
            Self::Interrupted(_) => 130,
        })
    }

    /// Tells it on stderr.
    pub(super) fn report(&self, json: bool) {
        complain(self.name(), &self.to_string(), json);
    }

    fn name(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            Self::Usage(_) => "usage",
            Self::Unreachable { .. } => "unreachable",
            Self::Interrupted(_) => "interrupted",
            Self::ClosedPipe => "closed_pipe",
        }
    }
}

impl From<io::Error> for Failure {
    /// Only for errors of our own output.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::refused("output", format!("cannot write the result: {error}")),
        }
    }
}

/// Answers arguments that were not understood, or asked for help.
pub(super) fn usage(error: clap::Error) -> ExitCode {
    let error = with_place(error);
    let json = std::env::args_os().any(|argument| argument == "--json");
    if error.use_stderr() && json {
        complain("usage", error.render().to_string().trim(), true);
    } else {
        // A reader that closed the pipe has its help.
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Says where a command is that was looked for in the wrong place: `underpin import` is `underpin events import`.
fn with_place(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidSubcommand) else {
        return error;
    };
    let mut cli = Cli::command();
    cli.build();
    let mut places = Vec::new();
    find_commands(&cli, name, &mut places);
    let tip = |place: &String| StyledStr::from(format!("there is `{place}`"));
    let tips: Vec<_> = places.iter().map(tip).collect();
    if !tips.is_empty() {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
    error
}

fn find_commands(of: &clap::Command, name: &str, found: &mut Vec<String>) {
    // `help` has all commands once more.
    let commands = of.get_subcommands();
    for command in commands.filter(|command| command.get_name() != "help") {
        if command.get_name() == name
            && let Some(whole) = command.get_bin_name()
        {
            found.push(whole.to_owned());
        }
        find_commands(command, name, found);
    }
}

/// One line on stderr. Nothing can be done when that is closed too.
fn complain(code: &str, message: &str, json: bool) {
    let line = if json {
        // By hand, so that the version comes first.
        let error = json!({"code": code, "message": message});
        format!("{{\"version\":1,\"error\":{error}}}")
    } else {
        format!("underpin: {message}")
    };
    let _ = writeln!(io::stderr(), "{}", harmless(&line));
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn a_command_that_is_looked_for_in_the_wrong_place_is_pointed_at() {
        let told = |words: &[&str]| {
            let refused = Cli::try_parse_from(words).expect_err("no such command");
            with_place(refused).to_string()
        };

        let one = told(&["underpin", "import", "log"]);
        assert!(one.contains("`underpin events import`") && !one.contains("help import"));
        let two = told(&["underpin", "get", "5"]);
        assert!(two.contains("`underpin events get`") && two.contains("`underpin config get`"));
        assert!(told(&["underpin", "events", "rollback"]).contains("`underpin config rollback`"));
        assert!(!told(&["underpin", "frobnicate"]).contains("there is"));
    }

    #[test]
    fn each_failure_has_its_documented_code() {
        for (failure, code) in [
            (Failure::refused("not_found", "no such event"), 1),
            (Failure::Usage("that is no time".into()), 2),
            (
                Failure::Unreachable {
                    message: "nobody there".into(),
                },
                3,
            ),
            (Failure::Interrupted("stopped".into()), 130),
            (Failure::ClosedPipe, 0),
        ] {
            assert_eq!(failure.code(), ExitCode::from(code), "{failure:?}");
        }
    }

    #[test]
    fn a_reader_that_left_is_no_error() {
        let closed = io::Error::from(io::ErrorKind::BrokenPipe);

        assert!(matches!(Failure::from(closed), Failure::ClosedPipe));
    }
}
