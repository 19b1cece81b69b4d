//! What the help of each command says below its options.

pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused, failed or not found
  2  wrong usage
  3  the node could not be reached, or could not answer at this time";

pub(super) const EXAMPLES: &str = "\
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

pub(super) const RUN_EXAMPLES: &str = "\
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

pub(super) const IMPORT_EXAMPLES: &str = "\
Examples:
  underpin events import /var/log/dpkg.log
  underpin events import service.jsonl --format tracing
  underpin events import /var/log/syslog --follow
  my-program 2>&1 | underpin events import - --kind my-program.log
  underpin events query --json | underpin events import - --node http://127.0.0.1:4611

Formats (auto looks at the first lines of the input; a file is of one format):
  ndjson   One event an object: kind, and if there are any id, time (RFC 3339, or nanoseconds
           since 1970), source, correlation, parent, data. A name that is none of these is
           refused. --kind is for lines that do not say theirs. Unless the line says its time,
           it is that of its id (an id made by hand dates the event in the past, outside
           --since), else that of the import; without an id the source is the file's name,
           unless the line says otherwise.
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
line is lost and none is stored twice. A file that does not begin with what was read of it
(rotated, truncated or replaced) is read from its start. A last line without its end of line is
stored as it is; if it grows later, the whole line is stored as one more event. With --follow it
waits for its end, and the import goes on with what is written to the file, also when that is
rotated or cut, until Ctrl-C; a last line that is cut off with its file is stored as it was.

With --follow another file of the same name is read from its start, also where it begins with the
same lines. Only of a copy that was moved over the file (by rsync, sed -i, an editor) and is the same
in its first 4 KiB and in the last 1 KiB that was read of it, what comes after that is stored. In doubt a file is no such copy, and
what it repeats is stored again: where the old file keeps another name, was deleted first or was
written to meanwhile, where several came between two looks (5 a second), or where the clock or the
file system does not tell which of the two came first. What cannot be told: when a file was cut, or
rotated and deleted, between two looks, and the new one begins with all that was read of the old
one, those lines are not stored again.

Lines above 6 MB and data above 1 MB are refused. A file of which nothing could be stored leaves no
mark.

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

pub(super) const QUERY_EXAMPLES: &str = "\
Examples:
  underpin events query --since 10m
  underpin events query 'kind=order.* data.total>100' --order=-time --limit 5
  underpin events query --correlation req-7f3a --tree
  underpin events query --kind tracing.error --since 2026-11-23 --json | jq .data.message
  underpin events query --kind 'order.*' --as-of 2h --count
  underpin events query 'source=till data.ok=false' --explain";

pub(super) const QUERY_LANGUAGE: &str = "\
A query is a row of conditions that must all hold, each a field, an operator and a value:
  kind=order.paid  kind=order.*        exact, or all that begin so
  source=till  correlation=req-7f3a    exact; source=\"\" for events without one
  parent=ID  node=7                    what an event caused; the node that made it
  id>=ID  time<2026-11-23              with =, <, <=, >, >=
  data.total>100  data.items.0=true    with =, !=, <, <=, >, >=; numbers are as JSON writes them,
                                       other values are text, and so is all in quotes
  order=-time  limit=10  skip=5        order is time, -time, id or -id
Values with spaces stand in double quotes. The options are conditions of their own.

Times are an age (30s, 10m, 1h30m, 3d, 1w), a date (2026-11-23, today, yesterday: its start for
--since and --from, its end for all others), a local time (2026-11-23T10:00), RFC 3339
(2026-11-23T10:00:00Z), nanoseconds since 1970, or now.

An answer of as many events as asked for ends with the cursor --after of what follows, unless it is
written as JSON: there the cursor is ORDER:TIME:ID of the last event, its time in nanoseconds.";

pub(super) const QUERY_EXIT_CODES: &str = "\
Exit codes:
  0  answered, also when nothing was found
  1  refused
  2  wrong usage
  3  the node could not be reached, or could not answer at this time";

pub(super) const TAIL_EXAMPLES: &str = "\
Examples:
  underpin events tail
  underpin events tail 'kind=order.* data.total>100'
  underpin events tail --source till --from beginning --json | jq .data
  underpin events tail --kind order.paid --limit 1          wait for one

Events come in the order in which they were stored. When the node goes away they go on where they
were once it is back: none is left out and none comes twice. Ctrl-C ends it.";

pub(super) const WHY_EXAMPLES: &str = "\
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

pub(super) const TIMELINE_EXAMPLES: &str = "\
Examples:
  underpin events timeline shelf-3 --at 2026-11-23T10:00
  underpin events timeline shelf-3 --from 1h
  underpin events timeline --correlation req-7f3a --from 2h --to 1h --json

States are those that events of kind state_change tell of: data.new_state of the last one up to then.";

pub(super) const GET_EXAMPLES: &str = "\
Examples:
  underpin events get 7130312345678901248
  underpin events get 7130312345678901248 --json | jq .data

Exit codes:
  0  found
  1  no event has this id
  2  wrong usage
  3  the node could not be reached, or could not answer at this time";

pub(super) const TRACE_EXAMPLES: &str = "\
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

pub(super) const MAINTENANCE_EXAMPLES: &str = "\
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

pub(super) const METRICS_EXAMPLES: &str = "\
Examples:
  underpin metrics
  underpin metrics underpin.events             those whose name begins with these words
  underpin metrics --watch underpin_child      values, and what they gain in a second, until Ctrl-C
  underpin metrics process --json | jq '.metrics[] | {name, value}'
  underpin metrics --watch=10 --json           one object a line, every ten seconds

METRICS.md in the source says what each of them means.
";

#[cfg(feature = "cluster")]
pub(super) const CLUSTER_EXAMPLES: &str = "\
Examples:
  underpin run --name a --cluster-listen 127.0.0.1:4620 --cookie-file cookie
  underpin run --name b --cluster-listen 127.0.0.1:4621 --join 127.0.0.1:4620 --cookie-file cookie \\
      --data ./b --http 127.0.0.1:4611
  underpin cluster
  underpin cluster --json | jq '.members[] | {name, state}'
  underpin cluster leave --node http://127.0.0.1:4611
";

pub(super) const STATUS_EXAMPLES: &str = "\
Examples:
  underpin status
  underpin status --json | jq -e '.health == \"healthy\"'
";

pub(super) const TREE_EXAMPLES: &str = "\
Examples:
  underpin tree
  underpin tree --watch app                     the program's own children, drawn anew each second
  underpin tree node/app/orders --depth 1 --children 20
  underpin tree --json | jq '.tree.children[] | {id, state, restarts}'
  underpin tree --watch=5 --json | jq -c '.tree | .. | objects | select(.stuck?) | .path'
";

pub(super) const TOP_EXAMPLES: &str = "\
Examples:
  underpin top
  underpin top --sort restarts --limit 5
  underpin top --samples 2 --every 5            two looks, five seconds apart, then the end
  underpin top --json | jq -c '.children[] | select(.waiting > 0) | {path, waiting}'

BUSY is the part of the last seconds in which it handled something; WAITING those whose call is not
admitted yet; REFUSED and RESTARTS count from the start of the node on.
";

pub(super) const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  underpin completions bash > ~/.local/share/bash-completion/completions/underpin
  underpin completions zsh > ~/.zfunc/_underpin
  underpin completions fish > ~/.config/fish/completions/underpin.fish
";
