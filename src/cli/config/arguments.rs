//! What `config` and its commands take.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::super::{arguments::Reach, help::EXIT_CODES};

const GET_EXAMPLES: &str = "\
Examples:
  underpin config get
  underpin config get underpin.events
  underpin config get app.greeting --json | jq .origin

Exit codes:
  0  found
  1  no such path
  2  wrong usage
  3  the node could not be reached, or could not answer at this time";

const CHANGE_EXIT_CODES: &str = "\
Exit codes:
  0  done, or with --dry-run: it would be
  1  no such path, may not change while running, or not valid there; nothing was changed
  2  wrong usage
  3  the node could not be reached, or could not answer at this time";

const SET_EXAMPLES: &str = "\
Examples:
  underpin config set app.greeting 'hello there'
  underpin config set app.retries 5 --why 'the upstream is slow'
  underpin config set app.low 2 --and app.high=9        both or none
  underpin config set app.hosts '[\"a\",\"b\"]'
  underpin config set app.code '\"5\"'                    a number as text
  underpin config set app.retries 5 --dry-run           what it would change and break
  underpin config set app.retries 5 --expect 17         only if nobody changed anything since

VALUE is text where text stands, else what TOML or JSON makes of it (5, true, [1, 2], {a = 1}), else
text; null is null.";

const RESET_EXAMPLES: &str = "\
Examples:
  underpin config reset app.retries     what files, variables and flags say holds again
  underpin config reset                 take back every change made while running";

const ROLLBACK_EXAMPLES: &str = "\
Examples:
  underpin config history
  underpin config rollback 17 --dry-run
  underpin config rollback 17

It takes changes made while running back to what they were at that revision, as a new revision. What files,
variables and flags say is not touched.";

const HISTORY_EXAMPLES: &str = "\
Examples:
  underpin config history
  underpin config history app.retries --limit 3
  underpin config history --json | jq '.history[] | {revision, by, why}'";

const DIFF_EXAMPLES: &str = "\
Examples:
  underpin config diff        what was changed while running
  underpin config diff 17     what is not as it was at revision 17";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  underpin config explain underpin.events.keep_days
  underpin config explain app.retries --json | jq .layers";

const RELOAD_EXAMPLES: &str = "\
Examples:
  underpin config reload
  underpin config reload --json

Files are watched as well: one that was saved is taken over within about two seconds.";

const CHECK_EXAMPLES: &str = "\
Examples:
  underpin check node.toml
  underpin config check node.toml --conf-d conf.d --set app.retries=5

Nothing is started, and no node is asked. Variables UNDERPIN__… are read unless --without-environment is given; one that has a
single underscore in the place of two is not read, and told as a warning.

Exit codes:
  0  a node would start with it
  1  it would not; all that is wrong is told, with file and line
  2  wrong usage";

const TEMPLATE_EXAMPLES: &str = "\
Examples:
  underpin config template > node.toml";

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ConfigCommand {
    /// Show a setting, a table of settings, or all of them
    #[command(after_help = GET_EXAMPLES)]
    Get(Get),
    /// Change a setting while the node runs; it is kept over restarts
    #[command(after_help = format!("{SET_EXAMPLES}\n\n{CHANGE_EXIT_CODES}"))]
    Set(Set),
    /// Take back what was changed while running
    #[command(after_help = format!("{RESET_EXAMPLES}\n\n{CHANGE_EXIT_CODES}"))]
    Reset(Reset),
    /// Go back to an earlier revision, as a new one
    #[command(after_help = format!("{ROLLBACK_EXAMPLES}\n\n{CHANGE_EXIT_CODES}"))]
    Rollback(Rollback),
    /// Show who changed what, when and why, newest first
    #[command(after_help = format!("{HISTORY_EXAMPLES}\n\n{EXIT_CODES}"))]
    History(History),
    /// Show what is not as files, variables and flags say, or not as it was
    #[command(after_help = format!("{DIFF_EXAMPLES}\n\n{EXIT_CODES}"))]
    Diff(Diff),
    /// Show where a setting comes from, what else is said of it, and whether it may change
    #[command(after_help = format!("{EXPLAIN_EXAMPLES}\n\n{EXIT_CODES}"))]
    Explain(Explain),
    /// Have the node read its files again, as SIGHUP does
    #[command(after_help = format!("{RELOAD_EXAMPLES}\n\n{CHANGE_EXIT_CODES}"))]
    Reload(Reach),
    /// Validate settings without starting anything
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Check),
    /// Write a settings file with every setting of the node, its default and what it is, commented out
    #[command(after_help = format!("{TEMPLATE_EXAMPLES}\n\n{EXIT_CODES}"))]
    Template(Template),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Get {
    /// Path of the setting, such as `underpin.events`
    pub(super) path: Option<String>,
    #[command(flatten)]
    pub(super) reach: Reach,
}

/// What every change can say.
#[derive(Debug, Args)]
pub(in crate::cli) struct ChangeOptions {
    /// Say what it would change and break, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Only if the settings are still at this revision
    #[arg(long, value_name = "REVISION")]
    pub(super) expect: Option<u64>,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    pub(super) why: Option<String>,
    /// Who, for the history [default: the user's name]
    #[arg(long, value_name = "NAME")]
    pub(super) by: Option<String>,
    #[command(flatten)]
    pub(super) reach: Reach,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Set {
    /// Path of the setting
    pub(super) path: String,
    /// Its new value
    #[arg(allow_hyphen_values = true)]
    pub(super) value: String,
    /// One more setting of the same change; may be given several times
    #[arg(long = "and", value_name = "PATH=VALUE")]
    pub(super) more: Vec<String>,
    #[command(flatten)]
    pub(super) options: ChangeOptions,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Reset {
    /// Path of the setting or table; without one, everything
    pub(super) path: Option<String>,
    #[command(flatten)]
    pub(super) options: ChangeOptions,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Rollback {
    /// The revision to go back to, as `config history` shows it
    pub(super) revision: u64,
    #[command(flatten)]
    pub(super) options: ChangeOptions,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct History {
    /// Only changes that touched this path
    pub(super) path: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) limit: u32,
    #[command(flatten)]
    pub(super) reach: Reach,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Diff {
    /// The revision to compare with; without one, what files, variables and flags say
    pub(super) since: Option<u64>,
    #[command(flatten)]
    pub(super) reach: Reach,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Explain {
    /// Path of the setting
    pub(super) path: String,
    #[command(flatten)]
    pub(super) reach: Reach,
}

#[derive(Debug, Args)]
#[command(after_help = CHECK_EXAMPLES)]
pub(in crate::cli) struct Check {
    /// File of settings (TOML)
    pub(super) file: PathBuf,
    /// Folder of further settings files, laid over the file in the order of their names
    #[arg(long, value_name = "DIR")]
    pub(super) conf_d: Option<PathBuf>,
    /// One setting, stronger than file and environment; may be given several times
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub(super) sets: Vec<String>,
    /// Look at the files and flags alone
    #[arg(long)]
    pub(super) without_environment: bool,
    /// Write JSON, one object with "version":1
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Template {
    /// Write JSON, one object with "version":1 and the text
    #[arg(long)]
    pub(super) json: bool,
}

impl ConfigCommand {
    /// Whether the answer should be JSON.
    pub(in crate::cli) fn json(&self) -> bool {
        match self {
            Self::Get(get) => get.reach.json,
            Self::Set(set) => set.options.reach.json,
            Self::Reset(reset) => reset.options.reach.json,
            Self::Rollback(rollback) => rollback.options.reach.json,
            Self::History(history) => history.reach.json,
            Self::Diff(diff) => diff.reach.json,
            Self::Explain(explain) => explain.reach.json,
            Self::Reload(reach) => reach.json,
            Self::Check(check) => check.json,
            Self::Template(template) => template.json,
        }
    }
}

impl Check {
    pub(in crate::cli) fn json(&self) -> bool {
        self.json
    }
}
