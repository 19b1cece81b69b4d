//! What may be said on the command line.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use underpin::ids::EventId;

#[cfg(feature = "cluster")]
use super::help::CLUSTER_EXAMPLES;
use super::{
    config::{Check, ConfigCommand},
    help::{
        COMPLETIONS_EXAMPLES, EXAMPLES, EXIT_CODES, GET_EXAMPLES, IMPORT_EXAMPLES,
        MAINTENANCE_EXAMPLES, METRICS_EXAMPLES, QUERY_EXAMPLES, QUERY_EXIT_CODES, QUERY_LANGUAGE,
        RUN_EXAMPLES, STATUS_EXAMPLES, TAIL_EXAMPLES, TIMELINE_EXAMPLES, TOP_EXAMPLES,
        TRACE_EXAMPLES, TREE_EXAMPLES, WHY_EXAMPLES,
    },
    top::Order,
};

/// Runs a node of supervised services, and talks to one that runs.
#[derive(Debug, Parser)]
#[command(name = "underpin", version, after_help = EXAMPLES, max_term_width = 120)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Start a node and run it until SIGTERM or Ctrl-C
    #[command(after_help = RUN_EXAMPLES)]
    Run(Run),
    /// Store and find events
    #[command(subcommand)]
    Events(EventsCommand),
    /// Read and change settings of the running node; check and write settings files
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Validate settings without starting anything, as `config check`
    Check(Check),
    /// Show counters, gauges and histograms
    #[command(after_help = format!("{METRICS_EXAMPLES}\n{EXIT_CODES}"))]
    Metrics(MetricsArguments),
    /// Show how the node is
    #[command(after_help = format!("{STATUS_EXAMPLES}\n{EXIT_CODES}"))]
    Status(Reach),
    /// Show the other nodes of the cluster and how they are, or leave them
    #[cfg(feature = "cluster")]
    #[command(after_help = format!("{CLUSTER_EXAMPLES}\n{EXIT_CODES}"))]
    Cluster(ClusterArguments),
    /// Show the supervision tree
    #[command(after_help = format!("{TREE_EXAMPLES}\n{EXIT_CODES}"))]
    Tree(TreeArguments),
    /// Show who in the tree does most, again and again
    #[command(after_help = format!("{TOP_EXAMPLES}\n{EXIT_CODES}"))]
    Top(TopArguments),
    /// Write what a shell needs to complete this command line
    #[command(after_help = format!("{COMPLETIONS_EXAMPLES}\n{EXIT_CODES}"))]
    Completions(CompletionsArguments),
}

#[derive(Debug, Subcommand)]
pub(super) enum EventsCommand {
    /// Store a file or a pipe, line by line
    #[command(after_help = IMPORT_EXAMPLES)]
    Import(Import),
    /// Find events
    #[command(after_help = format!("{QUERY_EXAMPLES}\n\n{QUERY_LANGUAGE}\n\n{QUERY_EXIT_CODES}"))]
    Query(Query),
    /// Show events as they are stored
    #[command(after_help = format!("{TAIL_EXAMPLES}\n\n{QUERY_LANGUAGE}\n\n{QUERY_EXIT_CODES}"))]
    Tail(Tail),
    /// Show why an event came about: its causes up to the first
    #[command(after_help = WHY_EXAMPLES)]
    Why(Get),
    /// Show what came of an event
    #[command(after_help = WHY_EXAMPLES)]
    Effects(Get),
    /// Show the state of something at a time, or what changed between two
    #[command(after_help = format!("{TIMELINE_EXAMPLES}\n\n{QUERY_EXIT_CODES}"))]
    Timeline(Timeline),
    /// Show one event
    #[command(after_help = GET_EXAMPLES)]
    Get(Get),
    /// Write a correlation as a Chrome trace, which Perfetto opens
    #[command(after_help = TRACE_EXAMPLES)]
    Trace(Trace),
    /// Look at every byte of a data folder
    #[command(after_help = MAINTENANCE_EXAMPLES)]
    Verify(Place),
    /// Mend a data folder; what is damaged is kept beside
    #[command(after_help = MAINTENANCE_EXAMPLES)]
    Repair(Place),
    /// Write all events of a data folder as lines of JSON
    #[command(after_help = MAINTENANCE_EXAMPLES)]
    Export(Export),
    /// Copy the events of a data folder, also while its node runs
    #[command(after_help = MAINTENANCE_EXAMPLES)]
    Backup(Backup),
}

/// Which node, and how it should answer.
#[derive(Debug, Args)]
pub(super) struct Reach {
    /// Address of the node
    #[arg(
        long,
        env = "UNDERPIN_NODE",
        default_value = "http://127.0.0.1:4610",
        value_name = "URL"
    )]
    pub(super) node: NodeUrl,
    /// Write JSON, one object or one a line, each with "version":1
    #[arg(long)]
    pub(super) json: bool,
}

#[cfg(feature = "cluster")]
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct ClusterArguments {
    #[command(subcommand)]
    pub(super) command: Option<ClusterCommand>,
    #[command(flatten)]
    pub(super) reach: Reach,
}

#[cfg(feature = "cluster")]
#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Tell all other nodes that this one leaves, and go on alone until it is started anew
    #[command(after_help = format!("{CLUSTER_EXAMPLES}\n{EXIT_CODES}"))]
    Leave(Reach),
}

/// How a node is in a cluster. What says how is an error without what says that it is in one.
#[cfg(feature = "cluster")]
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("in_a_cluster").args(["cluster_listen", "join"]).multiple(true)))]
pub(super) struct Joining {
    /// Listen for other nodes here; port 0 takes a free one. Anything but loopback needs TLS, or --insecure
    #[arg(long, value_name = "ADDR")]
    pub(super) cluster_listen: Option<SocketAddr>,
    /// Where other nodes reach this one, when that is not where it listens
    #[arg(long, value_name = "HOST:PORT", requires = "cluster_listen")]
    pub(super) advertise: Option<String>,
    /// A node to join; it may be down, and tells of all others. May be given several times
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) join: Vec<String>,
    /// File with the secret that all nodes of the cluster share, readable by its owner alone [default: the variable UNDERPIN_COOKIE]
    #[arg(long, value_name = "FILE", requires = "in_a_cluster")]
    pub(super) cookie_file: Option<PathBuf>,
    /// Certificate of this node (PEM); names the host at which others dial it. Read again when it changes
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "tls_ca", "in_a_cluster"])]
    pub(super) tls_cert: Option<PathBuf>,
    /// Key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(super) tls_key: Option<PathBuf>,
    /// Authority that has signed the certificates of all nodes (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(super) tls_ca: Option<PathBuf>,
    /// Listen for plain ractor_cluster programs here: they are seen, with their groups, and reach nothing. Clear text
    #[arg(long, value_name = "ADDR", requires_all = ["cluster_listen", "plain_cookie_file"])]
    pub(super) plain_listen: Option<SocketAddr>,
    /// File with the cookie of the plain programs, another than that of the nodes
    #[arg(long, value_name = "FILE", requires = "plain_listen")]
    pub(super) plain_cookie_file: Option<PathBuf>,
    /// Talk to other machines in clear text: everybody in between can read and change what is said
    #[arg(long, requires = "in_a_cluster")]
    pub(super) insecure: bool,
    /// Let other nodes change things here, such as settings
    #[arg(long, requires = "in_a_cluster")]
    pub(super) allow_changes: bool,
    /// A node is down after so many milliseconds of silence; it is heard of four times as often
    #[arg(long, value_name = "MS", requires = "in_a_cluster", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    pub(super) cluster_timeout: u64,
}

#[derive(Debug, Args)]
pub(super) struct MetricsArguments {
    /// Only metrics whose name begins with these whole words; dots are underscores
    pub(super) prefix: Option<String>,
    /// Show them again and again, every so many seconds, until Ctrl-C
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    pub(super) watch: Option<u64>,
    #[command(flatten)]
    pub(super) reach: Reach,
}

#[derive(Debug, Args)]
pub(super) struct TreeArguments {
    /// Only from this place on down, such as `node/app`; `node/` may be left out
    pub(super) path: Option<String>,
    /// Show it again and again, every so many seconds, until Ctrl-C
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    pub(super) watch: Option<u64>,
    /// At most so many levels below the first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=64))]
    pub(super) depth: Option<u64>,
    /// At most so many children of each; the rest is counted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=1000))]
    pub(super) children: Option<u64>,
    #[command(flatten)]
    pub(super) reach: Reach,
}

#[derive(Debug, Args)]
pub(super) struct TopArguments {
    /// What comes first
    #[arg(long, value_enum, default_value = "busy")]
    pub(super) sort: Order,
    /// At most so many children; the rest is counted
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(super) limit: u64,
    /// Seconds from one look to the next
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(super) every: u64,
    /// End after so many looks [default: until Ctrl-C]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) samples: Option<u64>,
    #[command(flatten)]
    pub(super) reach: Reach,
}

#[derive(Debug, Args)]
pub(super) struct CompletionsArguments {
    /// The shell
    #[arg(value_enum)]
    pub(super) shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct Run {
    /// Name of the node, as its health and log show it
    #[arg(long, default_value = "underpin")]
    pub(super) name: String,
    /// Folder of its data, made if it is not there
    #[arg(long, value_name = "DIR", default_value = "./underpin-data")]
    pub(super) data: PathBuf,
    /// Keep everything in memory; nothing outlives the node
    #[arg(long, conflicts_with = "data")]
    pub(super) memory: bool,
    /// Loopback address of the HTTP interface; port 0 takes a free one [default: the setting underpin.http.listen, 127.0.0.1:4610]
    #[arg(long, value_name = "ADDR")]
    pub(super) http: Option<SocketAddr>,
    /// File of settings (TOML)
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Folder of further settings files (*.toml), laid over the file in the order of their names
    #[arg(long, value_name = "DIR")]
    pub(super) conf_d: Option<PathBuf>,
    /// One setting, stronger than file and environment; may be given several times
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub(super) sets: Vec<String>,
    /// Form of the log on stderr; RUST_LOG chooses what is in it [default there: info]
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(super) log: LogForm,
    /// Write the ready line and errors as JSON
    #[arg(long)]
    pub(super) json: bool,
    #[cfg(feature = "cluster")]
    #[command(flatten, next_help_heading = "Cluster")]
    pub(super) joining: Joining,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogForm {
    Text,
    Json,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    /// File to read; `-` reads standard input
    pub(super) file: PathBuf,
    /// Form of its lines
    #[arg(long, default_value = "auto")]
    pub(super) format: FormatChoice,
    /// Kind of the events whose line does not carry a `kind` of its own
    #[arg(long, value_parser = name)]
    pub(super) kind: Option<String>,
    /// Forget how far this file was read and store all of it (again)
    #[arg(long)]
    pub(super) from_start: bool,
    /// Go on with what is written to the file from now on, until Ctrl-C
    #[arg(long, short = 'F')]
    pub(super) follow: bool,
    /// How long to wait for a node that went away, before giving up
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(super) retry_for: u64,
    #[command(flatten)]
    pub(super) reach: Reach,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FormatChoice {
    Auto,
    Ndjson,
    Tracing,
    Text,
}

/// Which events.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Filter {
    /// Conditions, such as `kind=order.* data.total>100`
    #[arg(value_name = "QUERY")]
    pub(super) query: Vec<String>,
    /// Only this kind; with a star behind it, all that begin so
    #[arg(long)]
    pub(super) kind: Option<String>,
    /// Only what belongs together under this id
    #[arg(long, value_name = "ID")]
    pub(super) correlation: Option<String>,
    /// Only from this source
    #[arg(long)]
    pub(super) source: Option<String>,
    /// Only what this event caused
    #[arg(long, value_name = "ID")]
    pub(super) parent: Option<String>,
    /// Only what the node with this number made
    #[arg(long, value_name = "NUMBER")]
    pub(super) made_by: Option<String>,
    /// Only from this time on
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<String>,
    /// Only up to this time
    #[arg(long, value_name = "TIME")]
    pub(super) until: Option<String>,
    /// The store as it was at this time: without what was stored later
    #[arg(long, value_name = "TIME")]
    pub(super) as_of: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Query {
    #[command(flatten)]
    pub(super) filter: Filter,
    /// At most so many [default: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) limit: Option<u32>,
    /// In which order; `-` turns it around
    #[arg(long, value_name = "ORDER", allow_hyphen_values = true, value_parser = ["time", "-time", "id", "-id"])]
    pub(super) order: Option<String>,
    /// Only what comes after a cursor: where an earlier answer ended, as it says itself
    #[arg(long, value_name = "CURSOR", allow_hyphen_values = true)]
    pub(super) after: Option<String>,
    /// Below each event what it caused, with how long after it came and how long it took
    #[arg(long, conflicts_with_all = ["explain", "count"])]
    pub(super) tree: bool,
    /// Only how many there are, whatever the limit
    #[arg(long, conflicts_with = "explain")]
    pub(super) count: bool,
    /// Only how they are found: which index was chosen, and how much was looked at
    #[arg(long)]
    pub(super) explain: bool,
    #[command(flatten)]
    pub(super) reach: Reach,
}

#[derive(Debug, Args)]
pub(super) struct Tail {
    #[command(flatten)]
    pub(super) filter: Filter,
    /// Where to begin: `now`, `beginning`, or after an event by its id
    #[arg(long, value_name = "START", default_value = "now")]
    pub(super) from: String,
    /// End after so many
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<u64>,
    /// How long to wait for a node that went away, before giving up
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(super) retry_for: u64,
    #[command(flatten)]
    pub(super) reach: Reach,
}

#[derive(Debug, Args)]
pub(super) struct Timeline {
    /// Whose states
    #[arg(required_unless_present = "correlation")]
    pub(super) source: Option<String>,
    /// The states of all that belongs together under this id
    #[arg(long, value_name = "ID")]
    pub(super) correlation: Option<String>,
    /// The store as it was at this time: without what was stored later
    #[arg(long, value_name = "TIME")]
    pub(super) as_of: Option<String>,
    /// Only what changed from this time on, for what has changed more than a hundred thousand times
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<String>,
    /// The states at this time [default: now]
    #[arg(long, value_name = "TIME", conflicts_with_all = ["from", "to"])]
    pub(super) at: Option<String>,
    /// What differs between this time, or the state that this day began with, and --to
    #[arg(long, value_name = "TIME")]
    pub(super) from: Option<String>,
    /// What differs between --from and this time [default: now]
    #[arg(long, value_name = "TIME", requires = "from")]
    pub(super) to: Option<String>,
    #[command(flatten)]
    pub(super) reach: Reach,
}

impl Timeline {
    /// Which events tell of it.
    pub(super) fn filter(&self) -> Filter {
        Filter {
            source: self.source.clone(),
            correlation: self.correlation.clone(),
            as_of: self.as_of.clone(),
            since: self.since.clone(),
            ..Filter::default()
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Get {
    /// Id of the event
    pub(super) id: EventId,
    #[command(flatten)]
    pub(super) reach: Reach,
}

#[derive(Debug, Args)]
pub(super) struct Trace {
    /// What the events belong to
    pub(super) correlation: String,
    /// Write to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    #[command(flatten)]
    pub(super) reach: Reach,
}

/// Which data folder.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// Data folder of the node
    #[arg(long, value_name = "DIR", default_value = "./underpin-data")]
    pub(super) data: PathBuf,
    /// Write JSON, one object or one a line, each with "version":1
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Export {
    /// Write to this new file instead of stdout
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    #[command(flatten)]
    pub(super) place: Place,
}

#[derive(Debug, Args)]
pub(super) struct Backup {
    /// Folder of the copy: new, or without events
    #[arg(value_name = "DIR")]
    pub(super) to: PathBuf,
    #[command(flatten)]
    pub(super) place: Place,
}

/// Where a node listens: `http://host:port`, without a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeUrl(String);

impl NodeUrl {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("https://") {
            return Err("a node speaks plain HTTP on loopback; use http://".into());
        }
        let authority = text
            .strip_prefix("http://")
            .unwrap_or(text)
            .trim_end_matches('/');
        let well_formed = !authority.is_empty()
            && !authority.contains(|c: char| c.is_whitespace() || "/?#@".contains(c));
        if !well_formed {
            return Err("give host and port, such as http://127.0.0.1:4610".into());
        }
        Ok(Self(format!("http://{authority}")))
    }
}

impl Command {
    /// Whether the answer should be JSON.
    pub(super) fn json(&self) -> bool {
        match self {
            Self::Run(run) => run.json,
            Self::Events(EventsCommand::Import(import)) => import.reach.json,
            Self::Events(EventsCommand::Query(query)) => query.reach.json,
            Self::Events(EventsCommand::Trace(trace)) => trace.reach.json,
            Self::Events(
                EventsCommand::Get(get) | EventsCommand::Why(get) | EventsCommand::Effects(get),
            ) => get.reach.json,
            Self::Events(EventsCommand::Tail(tail)) => tail.reach.json,
            Self::Events(EventsCommand::Timeline(timeline)) => timeline.reach.json,
            Self::Events(EventsCommand::Verify(place) | EventsCommand::Repair(place)) => place.json,
            Self::Events(EventsCommand::Export(export)) => export.place.json,
            Self::Events(EventsCommand::Backup(backup)) => backup.place.json,
            Self::Config(command) => command.json(),
            Self::Check(check) => check.json(),
            Self::Metrics(metrics) => metrics.reach.json,
            Self::Tree(arguments) => arguments.reach.json,
            Self::Top(arguments) => arguments.reach.json,
            Self::Completions(_) => false,
            Self::Status(reach) => reach.json,
            #[cfg(feature = "cluster")]
            Self::Cluster(arguments) => match &arguments.command {
                Some(ClusterCommand::Leave(reach)) => reach.json,
                None => arguments.reach.json,
            },
        }
    }
}

/// Kinds are 1 to 256 bytes.
fn name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > super::import::NAME_BYTES_MAX {
        return Err(format!("{} bytes; use 1 to 256", text.len()));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_of_each_command_has_examples_and_exit_codes() {
        fn look(command: &clap::Command, path: &str) {
            for one in command
                .get_subcommands()
                .filter(|one| one.get_name() != "help")
            {
                let path = format!("{path} {}", one.get_name());
                look(one, &path);
                // A group does nothing by itself.
                if one.is_subcommand_required_set() {
                    continue;
                }
                let help = one.clone().render_long_help().to_string();
                for part in ["Examples:", "Exit codes:", path.trim_start()] {
                    assert!(
                        help.contains(part),
                        "no {part:?} in the help of `{path}`: {help}"
                    );
                }
            }
        }
        look(&Cli::command(), "underpin");
    }

    #[test]
    #[cfg(feature = "cluster")]
    fn how_to_be_in_a_cluster_is_an_error_without_one() {
        let run = |more: &[&str]| {
            let words = ["underpin", "run"].iter().chain(more).copied();
            Cli::try_parse_from(words).map(drop)
        };
        let tls = ["--tls-cert", "c", "--tls-key", "k", "--tls-ca", "a"];
        for how in [
            &["--cookie-file", "cookie"][..],
            &tls,
            &["--insecure"],
            &["--allow-changes"],
            &["--cluster-timeout", "1000"],
        ] {
            let refused = run(how).expect_err("in no cluster").to_string();
            let names = ["--cluster-listen", "--join"];
            assert!(names.iter().all(|name| refused.contains(name)), "{refused}");
            assert!(run(&[how, &["--join", "a:1"]].concat()).is_ok(), "{how:?}");
        }
        assert!(run(&[]).is_ok());
    }

    #[test]
    #[cfg(feature = "cluster")]
    fn plain_programs_need_an_address_a_cookie_of_their_own_and_a_node_that_listens() {
        let all = [
            ["--cluster-listen", "127.0.0.1:0"],
            ["--plain-listen", "127.0.0.1:0"],
            ["--plain-cookie-file", "other"],
        ];
        let run = |without: Option<usize>| {
            let said = all.iter().enumerate();
            let said = said.filter(|(which, _)| Some(*which) != without);
            let words = ["underpin", "run"]
                .into_iter()
                .chain(said.flat_map(|(_, it)| *it));
            Cli::try_parse_from(words).map(drop)
        };

        assert!(run(None).is_ok());
        for (which, [option, _]) in all.iter().enumerate() {
            let refused = run(Some(which)).expect_err("one is missing").to_string();
            assert!(refused.contains(option), "{refused}");
        }
    }

    #[test]
    fn a_node_is_named_by_host_and_port() {
        for (given, url) in [
            ("http://127.0.0.1:4610", "http://127.0.0.1:4610"),
            ("http://127.0.0.1:4610/", "http://127.0.0.1:4610"),
            ("localhost:1", "http://localhost:1"),
            ("http://[::1]:4610", "http://[::1]:4610"),
        ] {
            assert_eq!(given.parse(), Ok(NodeUrl(url.into())), "{given}");
        }
        for bad in ["", "http://", "https://a:1", "http://a:1/api", "http://a b"] {
            assert!(bad.parse::<NodeUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_order_may_begin_with_a_minus() {
        let cli = Cli::try_parse_from(["underpin", "events", "query", "--order", "-time"])
            .expect("an order");

        let Command::Events(EventsCommand::Query(query)) = cli.command else {
            panic!("a query");
        };
        assert_eq!(query.order.as_deref(), Some("-time"));
    }
}
