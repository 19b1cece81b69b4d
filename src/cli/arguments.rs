//! What may be said on the command line.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use clap::{Args, Parser, Subcommand, ValueEnum};
use underpin::ids::EventId;

use super::config::{Check, ConfigCommand};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused, failed or not found
  2  wrong usage
  3  the node could not be reached, or could not answer at this time";

const EXAMPLES: &str = "\
Examples:
  underpin run                                  start a node with its data in ./underpin-data
  underpin events import /var/log/dpkg.log      store a log as events
  underpin events query --kind dpkg.install     find some of them
  underpin status --json | jq .health           ask how the node is

Exit codes:
  0  done
  1  refused, failed or not found
  2  wrong usage
  3  the node could not be reached, or could not answer at this time
Results are written to stdout, errors to stderr; with --json an error is one line
{\"version\":1,\"error\":{\"code\":\"..\",\"message\":\"..\"}}.";

const RUN_EXAMPLES: &str = "\
Examples:
  underpin run
  underpin run --memory --http 127.0.0.1:0
  underpin run --name a --data /var/lib/underpin --config node.toml
  underpin run --set underpin.events.durability=interval --set app.greeting=hello
  RUST_LOG=debug underpin run --log json 2> node.log

When the node is ready it prints one line on stdout: `ready http://127.0.0.1:4610`, with --json
{\"version\":1,\"ready\":\"http://127.0.0.1:4610\"}. Everything else goes to stderr. It runs until
SIGTERM or Ctrl-C, stops its services in order and then exits with 0; a second signal ends it at once.

Exit codes:
  0  stopped as it was told to
  1  could not start
  2  wrong usage";

const IMPORT_EXAMPLES: &str = "\
Examples:
  underpin events import /var/log/dpkg.log
  underpin events import service.jsonl --format tracing
  underpin events import /var/log/syslog --follow
  my-program 2>&1 | underpin events import - --kind my-program.log
  underpin events query --json | underpin events import - --node http://127.0.0.1:4611

Formats (auto looks at the first lines of the input; a file is of one format):
  ndjson   One event an object: kind, and if there are any id, time (RFC 3339, or nanoseconds
           since 1970), source, correlation, parent, data. A name that is none of these is
           refused. --kind is for lines that do not say theirs.
  tracing  The JSON of tracing-subscriber, also flattened. Kind is tracing.<level>
           (`tracing.error`), source the target, data the fields with level, spans and place.
           Correlation is the first of trace_id, correlation_id, correlation, request_id, req_id,
           traceparent in the fields, else in the innermost span that has one.
  text     Any log, line by line. The package log gives dpkg.<action> (`dpkg.install`); syslog
           gives log.syslog with the program as source; everything else log.line with the file's
           name as source. Time is read where the line has one, else it is the time of the
           import; where it names no zone it is local time, and a syslog time without year is
           put in the year that fits the file's last change. Correlation is taken from
           trace_id=.., correlation_id=.., correlation=.., request_id=.., req_id=.. or
           traceparent=.. in the line. Bytes that are not UTF-8 are replaced, and data.lossy
           is then true.
  In tracing and text, --kind takes the place of these kinds.

How far a file was read is kept in the node's store together with its events, under the file's
path. Run the same command again and it goes on from there, also after either side was killed: no
line is lost and none is stored twice. A file that was rotated, truncated or replaced is read from
its start. A last line without its end of line is stored as it is; if it grows later, the whole
line is stored as one more event. With --follow it waits for its end, and the import goes on with
what is written to the file, also when that is rotated, until Ctrl-C. Lines above 1 MiB are refused. A file of which nothing could be
stored leaves no mark.

The result counts the events stored, the lines refused, and the lines skipped because they were
stored earlier; with --json {\"version\":1,\"stored\":5000,\"refused\":2,\"skipped\":0}. Refused
lines are told on stderr with their reason: the first 20, with --json all of them, each as
{\"version\":1,\"line\":7,\"why\":\"..\"}.

Exit codes:
  0    done; a warning tells of refused lines
  1    every new line was refused, or the input cannot be read
  2    wrong usage
  3    the node could not be reached; what was stored is kept, run the command again to go on
  130  interrupted by Ctrl-C; what was stored is kept, run the command again to go on";

const QUERY_EXAMPLES: &str = "\
Examples:
  underpin events query --since 10m
  underpin events query 'kind=order.* data.total>100' --order=-time --limit 5
  underpin events query --correlation req-7f3a --tree
  underpin events query --kind tracing.error --since 2026-11-23 --json | jq .data.message
  underpin events query --kind 'order.*' --as-of 2h --count
  underpin events query 'source=till data.ok=false' --explain";

const QUERY_LANGUAGE: &str = "\
A query is a row of conditions that must all hold, each a field, an operator and a value:
  kind=order.paid  kind=order.*        exact, or all that begin so
  source=till  correlation=req-7f3a    exact; source=\"\" for events without one
  parent=ID  node=7                    what an event caused; the node that made it
  id>=ID  time<2026-11-23              with =, <, <=, >, >=
  data.total>100  data.items.0=true    with =, !=, <, <=, >, >=; values in quotes are text
  order=-time  limit=10  skip=5        order is time, -time, id or -id
Values with spaces stand in double quotes. The options are conditions of their own.

Times are an age (30s, 10m, 1h30m, 3d, 1w), a date (2026-11-23, today, yesterday: from its start
for --since, to its end for --until), a local time (2026-11-23T10:00), RFC 3339
(2026-11-23T10:00:00Z), nanoseconds since 1970, or now.

An answer of as many events as asked for ends with the cursor --after of what follows, unless it is
written as JSON: there the cursor is ORDER:TIME:ID of the last event, its time in nanoseconds.";

const QUERY_EXIT_CODES: &str = "\
Exit codes:
  0  answered, also when nothing was found
  1  refused
  2  wrong usage
  3  the node could not be reached, or could not answer at this time";

const TAIL_EXAMPLES: &str = "\
Examples:
  underpin events tail
  underpin events tail 'kind=order.* data.total>100'
  underpin events tail --source till --from beginning --json | jq .data
  underpin events tail --kind order.paid --limit 1          wait for one

Events come in the order in which they were stored. When the node goes away they go on where they
were once it is back: none is left out and none comes twice. Ctrl-C ends it.";

const WHY_EXAMPLES: &str = "\
Examples:
  underpin events why 7130312345678901248
  underpin events effects 7130312345678901248 --json | jq .effects

why shows the first cause first, down to the event; effects shows the event, and below it what came
of it, each with how long after its cause it came and how long it took.

Exit codes:
  0  found
  1  no event has this id
  2  wrong usage
  3  the node could not be reached, or could not answer at this time";

const TIMELINE_EXAMPLES: &str = "\
Examples:
  underpin events timeline shelf-3 --at 2026-11-23T10:00
  underpin events timeline shelf-3 --from 1h
  underpin events timeline --correlation req-7f3a --from 2h --to 1h --json

States are those that events of kind state_change tell of: data.new_state of the last one up to then.";

const GET_EXAMPLES: &str = "\
Examples:
  underpin events get 7130312345678901248
  underpin events get 7130312345678901248 --json | jq .data

Exit codes:
  0  found
  1  no event has this id
  2  wrong usage
  3  the node could not be reached, or could not answer at this time";

const TRACE_EXAMPLES: &str = "\
Examples:
  underpin events trace 4bf92f3577b34da6a3ce929d0e0e4736 --out trace.json
  underpin events trace req-7f3a | jq '.traceEvents | length'

The result is JSON in the Trace Event Format: open https://ui.perfetto.dev and drop the file there.
Spans are what was captured with `underpin::capture`; any other event is a mark.

Exit codes:
  0  written
  1  no event has this correlation, or the file cannot be written
  2  wrong usage
  3  the node could not be reached, or could not answer at this time";

const MAINTENANCE_EXAMPLES: &str = "\
Examples:
  underpin events verify --data /var/lib/underpin
  underpin events verify --json | jq -c 'select(.fault) | .fault'
  underpin events repair --data /var/lib/underpin
  underpin events export > events.ndjson
  underpin events backup /mnt/backup/today && underpin run --data /mnt/backup/today

They work on the data folder itself. verify, export and backup change nothing in it and may run
beside the node; repair wants it stopped.

verify looks at every frame, block and index, and tells each fault with its file, byte and length.
An interrupted write at the end is no fault: nobody was told that it is stored.
repair makes damaged indexes anew, and damaged segments without what is lost in them, which stays
reported as missing. What is taken out of a file is kept in <file>.<offset>.damaged; when you need
it no more, remove it yourself.
export writes every event as a line of JSON, in the order in which they were stored.
backup links what never changes, so that it costs little where DIR is on the same file system, and
copies the rest; all that was stored before it began is in it. Start a node on it to restore it.

With --json a fault is {\"version\":1,\"fault\":{\"file\":..,\"offset\":..,\"bytes\":..,\"what\":\"..\"}} and the
last line is the result; that of export goes to stderr.

Exit codes:
  0  done; verify: all is there as it was written; repair: nothing is left to mend
  1  something is damaged or missing, refused, or failed
  2  wrong usage";

const METRICS_EXAMPLES: &str = "\
Examples:
  underpin metrics
  underpin metrics underpin.events             those whose name begins with these words
  underpin metrics --watch underpin_child      values, and what they gain in a second, until Ctrl-C
  underpin metrics process --json | jq '.metrics[] | {name, value}'
  underpin metrics --watch=10 --json           one object a line, every ten seconds

METRICS.md in the source says what each of them means.
";

#[cfg(feature = "cluster")]
const CLUSTER_EXAMPLES: &str = "\
Examples:
  underpin run --name a --cluster-listen 127.0.0.1:4620 --cookie-file cookie
  underpin run --name b --cluster-listen 127.0.0.1:4621 --join 127.0.0.1:4620 --cookie-file cookie \\
      --data ./b --http 127.0.0.1:4611
  underpin cluster
  underpin cluster --json | jq '.members[] | {name, state}'
  underpin cluster leave --node http://127.0.0.1:4611
";

const STATUS_EXAMPLES: &str = "\
Examples:
  underpin status
  underpin status --json | jq -e '.health == \"healthy\"'
";

const TREE_EXAMPLES: &str = "\
Examples:
  underpin tree
  underpin tree --watch app                     the program's own children, drawn anew each second
  underpin tree node/app/orders --depth 1 --children 20
  underpin tree --json | jq '.tree.children[] | {id, state, restarts}'
  underpin tree --watch=5 --json | jq -c '.tree | .. | objects | select(.stuck?) | .path'
";

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
    /// What differs between this time and --to
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
