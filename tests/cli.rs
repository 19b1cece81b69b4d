//! Stories of the `underpin` command: real processes, a node each, on ports and in folders of their own.
#![cfg(feature = "cli")]

mod ready;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value as Json, json};
use tempfile::TempDir;

/// Far beyond what anything here takes; a story that waits this long has failed.
const PATIENCE: Duration = Duration::from_mins(2);

fn underpin() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_underpin"));
    command
        .env_remove("UNDERPIN_NODE")
        .env("RUST_LOG", "warn")
        .env("TZ", "UTC")
        .stdin(Stdio::null());
    command
}

/// A node of a process of its own, killed when it goes out of scope.
struct Node {
    process: Child,
    url: String,
}

impl Node {
    fn start(data: &Path, address: &str) -> Self {
        Self::start_with(data, address, &[], &[])
    }

    fn start_with(data: &Path, address: &str, more: &[&Path], variables: &[(&str, &str)]) -> Self {
        let mut process = underpin()
            .args(["run", "--http", address, "--data"])
            .arg(data)
            .args(more)
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let url = ready::url(&mut process);
        Self { process, url }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = underpin();
        command.args(arguments).env("UNDERPIN_NODE", &self.url);
        command
    }

    fn says(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the binary starts")
    }

    fn answers(&self, arguments: &[&str]) -> Json {
        let output = self.says(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).expect("one JSON object")
    }

    fn import(&self, file: &Path, more: &[&str]) -> Json {
        let file = file.to_str().expect("UTF-8");
        self.answers(&[&["events", "import", file, "--json"], more].concat())
    }

    fn events(&self, filter: &[&str]) -> Vec<Json> {
        let output =
            self.says(&[&["events", "query", "--json", "--limit", "100000"], filter].concat());
        assert!(output.status.success(), "{output:?}");
        lines(&output.stdout)
    }

    fn count(&self) -> u64 {
        self.try_count().expect("the node answers")
    }

    fn try_count(&self) -> Option<u64> {
        let status: Json = ureq::get(format!("{}/api/v1/status", self.url))
            .call()
            .ok()?
            .body_mut()
            .read_json()
            .ok()?;
        status["events"]["count"].as_u64()
    }

    fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ran");
    }

    /// The same node again, at the same address.
    fn restart(&mut self, data: &Path) {
        let address = self
            .url
            .strip_prefix("http://")
            .expect("an address")
            .to_owned();
        *self = Self::start(data, &address);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Stage {
    folder: TempDir,
    node: Node,
}

impl Stage {
    fn set() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let node = Node::start(&folder.path().join("data"), "127.0.0.1:0");
        Self { folder, node }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("writable");
        path
    }
}

/// Its disk is full, and its log goes to the same disk.
#[cfg(target_os = "linux")]
#[test]
fn a_node_whose_log_cannot_be_written_works_all_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let full = File::options().write(true).open("/dev/full");
    let mut process = underpin()
        .args(["run", "--http", "127.0.0.1:0", "--data"])
        .arg(folder.path().join("data"))
        .env("RUST_LOG", "debug")
        .stdout(Stdio::piped())
        .stderr(full.expect("a device that is always full"))
        .spawn()
        .expect("the binary starts");
    let url = ready::url(&mut process);
    let mut node = Node { process, url };
    let file = folder.path().join("one.log");
    fs::write(&file, "a line\n").expect("writable");

    node.import(&file, &[]);

    assert!(node.count() >= 1);
    signal(&node.process, "-TERM");
    let ended = node.process.wait().expect("it ran");
    assert!(ended.success(), "{ended}");
}

fn append(file: &Path, text: &str) {
    File::options()
        .append(true)
        .open(file)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .expect("writable");
}

fn lines(text: &[u8]) -> Vec<Json> {
    String::from_utf8_lossy(text)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
        .collect()
}

fn counts(stored: u64, refused: u64, skipped: u64) -> Json {
    json!({"version": 1, "stored": stored, "refused": refused, "skipped": skipped})
}

/// Asks again and again; each time asks a process or a node, so this does not spin.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
    }
}

fn signal(process: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([name, &process.id().to_string()])
        .status()
        .expect("kill is there");
    assert!(sent.success());
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// An application log whose lines have no time of their own: two imports of one line are never identical events.
fn numbered(lines: u64) -> String {
    (0..lines).fold(String::new(), |log, n| {
        log + &format!("number {n} of the log\n")
    })
}

/// That each of the numbered lines is there, and once.
fn assert_exactly_once(node: &Node, source: &str, lines: u64) {
    let events = node.events(&["--source", source]);
    let texts: BTreeSet<&str> = events
        .iter()
        .map(|event| event["data"]["message"].as_str().expect("text"))
        .collect();
    assert_eq!(texts.len() as u64, lines, "every line is there");
    assert_eq!(events.len() as u64, lines, "no line is there twice");
}

#[test]
fn a_package_log_is_stored_found_and_still_there_after_kill_9() {
    let mut stage = Stage::set();
    let log = stage.write(
        "dpkg.log",
        "2026-11-23 10:00:00 startup archives unpack\n\
         2026-11-23 10:00:01 install foo:amd64 <none> 1.0\n\
         2026-11-23 10:00:02 status installed foo:amd64 1.0\n",
    );

    assert_eq!(stage.node.import(&log, &[]), counts(3, 0, 0));
    stage.node.kill();
    stage.node.restart(&stage.path("data"));

    let found = stage.node.events(&["--kind", "dpkg.install"]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["version"], 1);
    assert_eq!(found[0]["time"], "2026-11-23T10:00:01Z");
    assert_eq!(found[0]["data"]["package"], "foo:amd64");
    let id = found[0]["id"].as_str().expect("an id");
    assert_eq!(
        stage.node.answers(&["events", "get", id, "--json"]),
        found[0]
    );
    assert_eq!(stage.node.import(&log, &[]), counts(0, 0, 3));
}

#[test]
fn the_log_of_an_instrumented_program_is_found_by_its_correlation() {
    let stage = Stage::set();
    let log = stage.write(
        "service.jsonl",
        concat!(
            r#"{"timestamp":"2026-11-23T10:00:00Z","level":"INFO","fields":{"message":"took it"},"target":"shop","spans":[{"request_id":"req-1","name":"request"}]}"#,
            "\n",
            r#"{"timestamp":"2026-11-23T10:00:01Z","level":"ERROR","fields":{"message":"no stock"},"target":"shop::stock","spans":[{"request_id":"req-1","name":"request"}]}"#,
            "\n",
            r#"{"timestamp":"2026-11-23T10:00:02Z","level":"INFO","fields":{"message":"other"},"target":"shop"}"#,
            "\n",
        ),
    );

    assert_eq!(stage.node.import(&log, &[]), counts(3, 0, 0));

    let kinds: Vec<Json> = stage
        .node
        .events(&["--correlation", "req-1", "--order", "time"])
        .into_iter()
        .map(|event| event["kind"].clone())
        .collect();
    assert_eq!(kinds, ["tracing.info", "tracing.error"]);
}

#[test]
fn a_file_that_grows_is_gone_on_with_and_a_rotated_one_is_read_from_its_start() {
    let stage = Stage::set();
    let log = stage.write("app.log", "one\ntwo\n\n");
    assert_eq!(stage.node.import(&log, &[]), counts(2, 0, 0));

    append(&log, "three\n");
    assert_eq!(stage.node.import(&log, &[]), counts(1, 0, 2));
    assert_eq!(stage.node.import(&log, &[]), counts(0, 0, 3));

    fs::rename(&log, stage.path("app.log.1")).expect("renamed");
    stage.write("app.log", "a new day\n");
    assert_eq!(stage.node.import(&log, &[]), counts(1, 0, 0));
    assert_eq!(stage.node.import(&log, &["--from-start"]), counts(1, 0, 0));
}

#[test]
fn a_last_line_without_its_end_is_stored_and_stays_whole_when_it_grows() {
    let stage = Stage::set();
    let log = stage.write("app.log", "one\ntw");
    assert_eq!(stage.node.import(&log, &[]), counts(2, 0, 0));
    assert_eq!(stage.node.import(&log, &[]), counts(0, 0, 2));

    append(&log, "o\nthree");
    assert_eq!(stage.node.import(&log, &[]), counts(2, 0, 1));
    append(&log, "\n");
    assert_eq!(stage.node.import(&log, &[]), counts(0, 0, 3));
    append(&log, "four\n");
    assert_eq!(stage.node.import(&log, &[]), counts(1, 0, 3));

    let texts: Vec<Json> = stage
        .node
        .events(&["--order", "id"])
        .into_iter()
        .map(|event| event["data"]["message"].clone())
        .collect();
    assert_eq!(texts, ["one", "tw", "two", "three", "four"]);
}

#[test]
fn bad_lines_are_told_with_their_reason_and_lose_no_good_one() {
    let stage = Stage::set();
    let log = stage.write(
        "events.jsonl",
        "{\"kind\":\"a\"}\nnot json\n{\"kind\":\"b\",\"colour\":1}\n{\"kind\":\"c\",\"id\":\"77\"}\n{\"kind\":\"d\",\"id\":\"77\"}\n{\"kind\":\"e\"}\n",
    );
    let path = log.to_str().expect("UTF-8");

    let output = stage.node.says(&["events", "import", path, "--json"]);

    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(lines(&output.stdout), [counts(3, 3, 0)]);
    let refused: Vec<(u64, String)> = lines(&output.stderr)
        .iter()
        .map(|line| {
            let why = line["why"].as_str().expect("a reason");
            (line["line"].as_u64().expect("a number"), why.to_owned())
        })
        .collect();
    let numbers: Vec<u64> = refused.iter().map(|(line, _)| *line).collect();
    assert_eq!(numbers, [2, 3, 5]);
    assert!(refused[0].1.contains("not a JSON object"), "{refused:?}");
    assert!(
        refused[1].1.contains("unknown field `colour`"),
        "{refused:?}"
    );
    assert!(refused[2].1.contains("77"), "{refused:?}");
    assert_eq!(stage.node.count(), 3);
}

#[test]
fn an_import_in_the_wrong_format_fails_and_leaves_no_mark() {
    let stage = Stage::set();
    let log = stage.write("app.log", numbered(50));
    let path = log.to_str().expect("UTF-8");

    let output = stage
        .node
        .says(&["events", "import", path, "--format", "tracing"]);

    assert_eq!(output.status.code(), Some(1));
    let told = stderr(&output);
    assert_eq!(
        told.lines()
            .filter(|line| line.starts_with("line "))
            .count(),
        20
    );
    assert!(told.contains("30 more lines were refused"), "{told}");
    assert_eq!(stage.node.import(&log, &[]), counts(50, 0, 0));
}

#[test]
fn lines_beyond_the_limits_are_refused_by_number_and_damaged_text_is_kept() {
    let stage = Stage::set();
    let mut log = b"first\n".to_vec();
    log.extend(vec![b'x'; 1024 * 1024 + 1]);
    log.extend(b"\ncaf\xe9\n");
    log.extend(vec![b'y'; 1_000_001]);
    log.extend(b"\nlast\n");
    let log = stage.write("app.log", log);

    let output = stage
        .node
        .says(&["events", "import", log.to_str().expect("UTF-8"), "--json"]);

    assert_eq!(lines(&output.stdout), [counts(3, 2, 0)]);
    let refused = lines(&output.stderr);
    assert_eq!(
        (&refused[0]["line"], &refused[1]["line"]),
        (&json!(2), &json!(4))
    );
    let damaged = stage.node.events(&["--order", "id"]).remove(1);
    assert_eq!(
        damaged["data"],
        json!({"message": "caf\u{fffd}", "lossy": true})
    );
}

#[test]
fn an_import_that_is_killed_again_and_again_stores_every_line_once() {
    const LINES: u64 = 20_000;
    let stage = Stage::set();
    let log = stage.write("app.log", numbered(LINES));
    let path = log.to_str().expect("UTF-8");

    for round in 0..6 {
        let before = stage.node.count();
        let mut import = stage
            .node
            .command(&["events", "import", path])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        // Each round lets it come a little further before it is shot.
        until("the import gets on", || {
            stage.node.count() > before + round * 700
                || import.try_wait().expect("a child").is_some()
        });
        let _ = import.kill();
        let output = import.wait_with_output().expect("a child");
        assert_eq!(stderr(&output), "", "it did nothing but being killed");
    }
    let rest = stage.node.import(&log, &[]);

    assert_eq!(
        rest["stored"].as_u64().expect("a number") + rest["skipped"].as_u64().expect("a number"),
        LINES
    );
    assert_exactly_once(&stage.node, "app.log", LINES);
}

#[test]
fn an_import_outlives_a_node_that_is_killed_under_it() {
    const LINES: u64 = 20_000;
    let mut stage = Stage::set();
    let log = stage.write("app.log", numbered(LINES));
    let import = stage
        .node
        .command(&["events", "import", log.to_str().expect("UTF-8"), "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");

    for round in 1..=3 {
        until("the import gets on", || {
            stage
                .node
                .try_count()
                .is_some_and(|count| count >= round * 3000)
        });
        stage.node.kill();
        stage.node.restart(&stage.path("data"));
    }
    let output = import.wait_with_output().expect("a child");

    assert!(output.status.success(), "{output:?}");
    assert_eq!(lines(&output.stdout), [counts(LINES, 0, 0)]);
    assert_exactly_once(&stage.node, "app.log", LINES);
}

#[test]
fn a_node_that_does_not_come_back_is_told_with_what_was_stored() {
    let mut stage = Stage::set();
    let (import, mut input) = live_import(&stage, &["--retry-for", "1"]);
    stage.node.kill();

    writeln!(input, "two").expect("it reads");
    drop(input);

    let output = import.wait_with_output().expect("a child");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let told = stderr(&output);
    assert!(told.contains("did not come back for 1 s"), "{told}");
    assert!(told.contains("1 events of the pipe are stored"), "{told}");
}

#[test]
fn a_pipe_is_stored_as_it_comes_and_ctrl_c_says_what_was_stored() {
    let stage = Stage::set();
    let (import, input) = live_import(&stage, &[]);

    signal(&import, "-INT");

    let output = import.wait_with_output().expect("a child");
    drop(input);
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(stderr(&output).contains("interrupted; 1 events of the pipe are stored"));
}

/// An import of a pipe that is still open, whose first line is stored.
fn live_import(stage: &Stage, more: &[&str]) -> (Child, ChildStdin) {
    let mut import = stage
        .node
        .command(&[&["events", "import", "-"], more].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut input = import.stdin.take().expect("piped");
    writeln!(input, "one").expect("it reads");
    until("the first line is stored", || stage.node.count() == 1);
    (import, input)
}

#[test]
fn what_one_node_tells_another_one_takes() {
    let (from, to) = (Stage::set(), Stage::set());
    let log = from.write(
        "app.log",
        "Nov 23 10:00:00 box sshd[1]: hello request_id=r1\nplain\n",
    );
    from.node.import(&log, &[]);
    let told = from.node.says(&["events", "query", "--json"]).stdout;
    let carried = to.write("carried.jsonl", &told);

    assert_eq!(to.node.import(&carried, &[]), counts(2, 0, 0));
    assert_eq!(to.node.says(&["events", "query", "--json"]).stdout, told);
    let again = to.write("again.jsonl", &told);
    assert_eq!(to.node.import(&again, &[]), counts(0, 0, 2));

    // Events without a source came from the file on the other side, and those without a time from now.
    let bare = "{\"id\":\"7\",\"kind\":\"a\"}\n{\"id\":\"8\",\"kind\":\"b\",\"time\":5}\n";
    let bare = from.write("bare.jsonl", bare);
    for (import, expected) in [(1, counts(2, 0, 0)), (2, counts(0, 0, 2))] {
        let more = ["--format", "ndjson", "--from-start"];
        assert_eq!(from.node.import(&bare, &more), expected, "import {import}");
    }
    let told = from.node.says(&["events", "query", "--json"]).stdout;
    let carried = to.write("all.jsonl", &told);
    assert_eq!(to.node.import(&carried, &[]), counts(2, 0, 2));
    assert_eq!(to.node.says(&["events", "query", "--json"]).stdout, told);
}

#[test]
fn a_correlation_is_written_as_a_trace_for_a_viewer() {
    let stage = Stage::set();
    let node = &stage.node;
    let lines = concat!(
        r#"{"kind":"span.opened","id":"384015313380614144","source":"shop","correlation":"req-1","data":{"name":"request"}}"#,
        "\n",
        r#"{"kind":"span.closed","source":"shop","correlation":"req-1","parent":"384015313380614144","data":{"busy_ns":5}}"#,
        "\n",
    );
    node.import(&stage.write("spans.ndjson", lines), &[]);

    let file = stage.path("trace.json");
    let out = file.to_str().expect("text");
    let written = node.says(&["events", "trace", "req-1", "--out", out]);
    let nothing = node.says(&["events", "trace", "req-2"]);

    assert!(written.status.success(), "{}", stderr(&written));
    let trace: Json = serde_json::from_slice(&fs::read(&file).expect("written")).expect("JSON");
    let shown = trace["traceEvents"].as_array().expect("a list").iter();
    let phases: Vec<_> = shown
        .map(|event| event["ph"].as_str().expect("text"))
        .filter(|phase| *phase != "M")
        .collect();
    assert_eq!(phases, ["b", "e"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(
        stderr(&nothing).contains("no event has the correlation req-2"),
        "{}",
        stderr(&nothing)
    );
}

#[test]
fn a_file_is_imported_by_one_at_a_time() {
    let stage = Stage::set();
    let log = stage.write("app.log", "one\n");
    let held = File::open(&log).expect("readable");
    held.lock().expect("lockable");

    let output = stage
        .node
        .says(&["events", "import", log.to_str().expect("UTF-8")]);

    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("is being imported by another process"));
}

#[test]
fn a_reader_that_has_heard_enough_is_no_error() {
    let stage = Stage::set();
    let log = stage.write("app.log", numbered(5000));
    stage.node.import(&log, &[]);

    for form in [&["--json"][..], &[]] {
        let mut query = stage
            .node
            .command(&[&["events", "query", "--limit", "5000"], form].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut first = String::new();
        BufReader::with_capacity(1, query.stdout.take().expect("piped"))
            .read_line(&mut first)
            .expect("text");

        let output = query.wait_with_output().expect("a child");

        assert!(first.contains("number 0"), "{first}");
        assert_eq!(
            (output.status.code(), stderr(&output)),
            (Some(0), String::new())
        );
    }
}

#[test]
fn a_node_follows_its_folder_of_settings_and_says_which_layer_holds() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("conf.d")).expect("it is made");
    let layer = |name: &str, text: &str| std::fs::write(at(name), text).expect("it is written");
    layer("node.toml", "[app]\nname = 'file'\nport = 1\nworkers = 1\n");
    layer("conf.d/10.toml", "[app]\nport = 2\nworkers = 2\n");
    layer("conf.d/20.toml", "[app]\nworkers = 3\n");
    layer("conf.d/30.txt", "no settings");
    let (file, conf_d) = (at("node.toml"), at("conf.d"));
    let more = [Path::new("--config"), &file, Path::new("--conf-d"), &conf_d];
    let variables = [
        ("UNDERPIN__APP__HOSTS__0", "a"),
        ("UNDERPIN__APP__HOSTS__1", "b"),
    ];
    let node = Node::start_with(&at("data"), "127.0.0.1:0", &more, &variables);
    let app = || node.answers(&["config", "get", "app", "--json"])["value"].clone();
    let expected = json!({"name": "file", "port": 2, "workers": 3, "hosts": ["a", "b"]});
    assert_eq!(app(), expected);

    std::fs::remove_file(at("conf.d/20.toml")).expect("it is there");
    layer("conf.d/15.toml", "[app]\nport = 4\n");
    let reloaded = node.says(&["config", "reload"]);

    assert_eq!(reloaded.status.code(), Some(0), "{reloaded:?}");
    assert_eq!((&app()["port"], &app()["workers"]), (&json!(4), &json!(2)));
    let explained = node.says(&["config", "explain", "app.port"]);
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(explained.contains("15.toml, line 2"), "{explained}");
    layer("conf.d/15.toml", "[app\n");
    let refused = node.says(&["config", "reload", "--json"]);
    assert_eq!(refused.status.code(), Some(1));
    let told = lines(&refused.stderr)[0].to_string();
    assert!(told.contains("15.toml, line 1"), "{told}");
    assert_eq!(app()["port"], 4, "what held before holds");
}

/// A reason with an escape sequence or a line of its own was shown as it is. A program that reads a text gets it as it is.
#[test]
fn what_others_wrote_of_settings_does_not_drive_the_terminal() {
    let stage = Stage::set();
    let said = |arguments: &[&str]| {
        let says = stage.node.says(arguments);
        assert_eq!(says.status.code(), Some(0), "{says:?}");
        String::from_utf8_lossy(&says.stdout).into_owned()
    };
    let value = "red \u{1b}[31m\n\u{9b}2J";
    let why = "\u{1b}[2Jnone\n9  forged";

    let set = said(&["config", "set", "app.x", value, "--why", why]);

    assert_eq!(said(&["config", "get", "app.x"]), format!("{value}\n"));
    let history = said(&["config", "history", "app.x"]);
    let explained = said(&["config", "explain", "app.x"]);
    let table = said(&["config", "get", "app"]);
    let diff = said(&["config", "diff"]);
    said(&["config", "set", "app.tags", "[\"\u{9b}2J\"]"]);
    let list = said(&["config", "get", "app.tags"]);
    assert_eq!(list, "[\"\\u009b2J\"]\n");
    for lines in [set, history, explained, table, diff] {
        let drives = |c: char| c.is_control() && c != '\n';
        assert!(!lines.contains(drives), "{lines:?}");
        assert!(!lines.contains("\n9  forged"), "{lines:?}");
    }
}

#[test]
fn a_value_is_read_by_what_stands_there() {
    let stage = Stage::set();
    let node = &stage.node;
    let set = |path: &str, text: &str| {
        let set = node.says(&["config", "set", path, text]);
        assert_eq!(set.status.code(), Some(0), "{set:?}");
        node.answers(&["config", "get", path, "--json"])["value"].clone()
    };

    for (text, json) in [
        ("5", json!(5)),
        ("-0.5", json!(-0.5)),
        ("true", json!(true)),
        ("[1, 2]", json!([1, 2])),
        ("{ a = [1] }", json!({"a": [1]})),
        (r#"{"a": null}"#, json!({"a": null})),
        ("null", json!(null)),
        ("\"5\"", json!("5")),
    ] {
        assert_eq!(set("app.x", text), json, "{text}");
    }
    for text in ["hello there", "5", "", "{", "[1]"] {
        assert_eq!(set("app.x", text), json!(text), "text stands there");
    }
    let gone = node.says(&["config", "rollback", "999", "--json"]);
    assert_eq!(lines(&gone.stderr)[0]["error"]["code"], "not_found");
}

#[test]
fn settings_are_shown_changed_and_refused() {
    let stage = Stage::set();
    let node = &stage.node;

    let set = node.says(&["config", "set", "underpin.health.crash_loop", "7"]);
    assert_eq!(set.status.code(), Some(0), "{set:?}");
    let got = node.says(&["config", "get", "underpin.health.crash_loop"]);
    assert_eq!(String::from_utf8_lossy(&got.stdout), "7\n");
    let answer = node.answers(&["config", "get", "underpin.health", "--json"]);
    assert_eq!(
        (&answer["version"], &answer["value"]["crash_loop"]),
        (&json!(1), &json!(7))
    );

    for (path, value) in [
        ("underpin.health.crash_loop", "many"),
        ("underpin.http.listen", "127.0.0.1:1"),
        ("underpin.nothing", "1"),
    ] {
        let refused = node.says(&["config", "set", path, value, "--json"]);
        assert_eq!(refused.status.code(), Some(1), "{path}");
        assert!(refused.stdout.is_empty());
        let told = &lines(&refused.stderr)[0];
        assert_eq!(told["version"], 1);
        assert!(
            told["error"]["message"]
                .as_str()
                .is_some_and(|why| why.contains(path))
        );
    }
}

#[test]
fn changes_are_tried_explained_compared_and_taken_back() {
    let stage = Stage::set();
    let node = &stage.node;
    let text = |arguments: &[&str]| {
        let output = node.says(arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let set = [
        "config",
        "set",
        "underpin.health.crash_loop",
        "7",
        "--why",
        "noise",
        "--by",
        "ann",
    ];
    let answer = node.answers(&[&set[..], &["--and", "app.x=[1]", "--json"]].concat());
    let revision = answer["revision"].as_u64().expect("a revision");
    assert_eq!(answer["changes"][0]["after"], 7);

    let tried = node.says(&[
        "config",
        "set",
        "underpin.health.crash_loop",
        "0",
        "--dry-run",
    ]);
    assert_eq!(tried.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&tried.stdout).contains("breaks: `underpin.health.crash_loop`")
    );
    let would = text(&["config", "set", "app.x", "2", "--dry-run"]);
    assert!(
        would.contains("app.x: [1] -> [2]\nwould be made"),
        "{would}"
    );
    let outdated = node.says(&["config", "set", "app.x", "2", "--expect", "0"]);
    assert!(stderr(&outdated).contains("read again"), "{outdated:?}");

    let history = text(&["config", "history", "app.x"]);
    assert!(
        history.contains("update  by ann  because: noise"),
        "{history}"
    );
    assert_eq!(text(&["config", "diff"]).lines().count(), 2);
    let explained = text(&["config", "explain", "underpin.health.crash_loop"]);
    for words in [
        "= 7",
        "may change while the node runs",
        "by ann",
        "the default: 3",
    ] {
        assert!(explained.contains(words), "{words}: {explained}");
    }
    text(&["config", "reset", "underpin.health.crash_loop"]);
    assert_eq!(
        text(&["config", "get", "underpin.health.crash_loop"]),
        "3\n"
    );
    let since = text(&["config", "diff", &revision.to_string()]);
    assert_eq!(since, "underpin.health.crash_loop: 7 -> 3\n");
    text(&["config", "rollback", &revision.to_string()]);
    assert_eq!(
        text(&["config", "get", "underpin.health.crash_loop"]),
        "7\n"
    );
}

#[test]
fn settings_files_are_written_checked_and_reloaded() {
    let stage = Stage::set();
    let template = underpin()
        .args(["config", "template"])
        .output()
        .expect("runs");
    assert!(template.status.success(), "{template:?}");
    let file = stage.write("node.toml", &template.stdout);
    let path = file.to_str().expect("UTF-8").to_owned();
    for check in [&["config", "check"][..], &["check"]] {
        let checked = underpin()
            .args(check)
            .args([&path, "--json"])
            .output()
            .expect("runs");
        assert_eq!(lines(&checked.stdout)[0]["valid"], true, "{checked:?}");
    }
    let misnamed = underpin()
        .args(["check", &path])
        .env("UNDERPIN_APP_RETRIES", "5")
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&misnamed.stdout);
    assert!(misnamed.status.success(), "{misnamed:?}");
    assert!(
        said.contains("warning: the environment variable UNDERPIN_APP_RETRIES")
            && said.contains("did you mean UNDERPIN__APP__RETRIES?"),
        "{said}"
    );
    let wrong = stage.write("wrong.toml", "[underpin.health]\ncrash_loop = 0\nfoo = 1\n");
    let wrong = underpin().arg("check").arg(wrong).output().expect("runs");
    assert_eq!(wrong.status.code(), Some(1));
    for words in [
        "wrong.toml, line 2",
        "1 to 1000000",
        "wrong.toml, line 3",
        "`underpin.health.foo`",
    ] {
        assert!(
            stderr(&wrong).contains(words),
            "{words}: {}",
            stderr(&wrong)
        );
    }

    let mut process = underpin()
        .args([
            "run",
            "--http",
            "127.0.0.1:0",
            "--memory",
            "--config",
            &path,
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut line = String::new();
    let mut out = BufReader::new(process.stdout.take().expect("piped"));
    out.read_line(&mut line).expect("text");
    let url = line.trim().trim_start_matches("ready ").to_owned();
    let node = Node { process, url };
    let crash_loop = || {
        let got = node.answers(&["config", "get", "underpin.health.crash_loop", "--json"]);
        got["value"].as_u64()
    };
    fs::write(&file, "[underpin.health]\ncrash_loop = 4\n").expect("written");
    let reloaded = node.answers(&["config", "reload", "--json"]);
    assert_eq!(reloaded["changes"][0]["after"], 4);
    fs::write(&file, "[underpin.health]\ncrash_loop = 5\n").expect("written");
    signal(&node.process, "-HUP");
    until("the file is taken over at SIGHUP", || {
        crash_loop() == Some(5)
    });
    fs::write(&file, "[underpin.health]\ncrash_loop = 6\n").expect("written");
    until("the file is taken over by itself", || {
        crash_loop() == Some(6)
    });
    fs::write(&file, "[underpin.health\n").expect("written");
    let refused = node.says(&["config", "reload"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("line 1"), "{refused:?}");
    assert_eq!(node.answers(&["status", "--json"])["health"], "degraded");
}

#[test]
fn status_tree_and_metrics_answer_people_and_programs() {
    let stage = Stage::set();
    let node = &stage.node;
    let text = |arguments: &[&str]| {
        let output = node.says(arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };

    assert!(text(&["status"]).starts_with("healthy  underpin (node "));
    assert!(text(&["tree"]).contains("├─ events"));
    assert!(text(&["metrics"]).contains("# TYPE "));
    let status = node.answers(&["status", "--json"]);
    assert_eq!(
        (&status["version"], &status["health"]),
        (&json!(1), &json!("healthy"))
    );
    assert_eq!(status["events"]["count"], 0);
    assert_eq!(
        node.answers(&["tree", "--json"])["tree"]["kind"],
        "supervisor"
    );
    let part = text(&["tree", "wiring", "--depth", "1", "--children", "2"]);
    assert!(part.starts_with("wiring"), "{part}");
    assert!(part.contains("└─ … ") && part.contains(" more"), "{part}");
    assert_eq!(node.says(&["tree", "nowhere"]).status.code(), Some(1));
    let metrics = node.answers(&["metrics", "--json"]);
    assert!(
        metrics["metrics"]
            .as_array()
            .is_some_and(|all| all.len() > 5)
    );
}

#[test]
fn metrics_are_found_by_prefix_and_watched_until_nobody_reads() {
    let stage = Stage::set();
    let node = &stage.node;

    let events = node.answers(&["metrics", "underpin.events", "--json"]);
    let events = events["metrics"].as_array().expect("a list");
    assert!(!events.is_empty());
    let named = |sample: &Json| sample["name"].as_str().expect("a name").to_owned();
    assert!(
        events
            .iter()
            .all(|one| named(one).starts_with("underpin_events"))
    );

    let missing = node.says(&["metrics", "nobody"]);
    assert_eq!(missing.status.code(), Some(1));

    for arguments in [
        &["metrics", "--watch"][..],
        &["metrics", "underpin", "--watch", "--json"],
    ] {
        let mut watching = node.command(arguments);
        let mut watching = watching.stdout(Stdio::piped()).spawn().expect("starts");
        let lines = BufReader::new(watching.stdout.take().expect("is a pipe")).lines();
        let is_healthy = |line: &String| line.contains("underpin_healthy");
        // Two rounds, a second apart; then nobody reads any more.
        let healthy = lines.map_while(Result::ok).filter(is_healthy).take(2);
        assert_eq!(healthy.count(), 2);
        assert!(watching.wait().expect("ends").success());
    }
}

#[test]
fn a_tree_that_is_watched_is_shown_again_and_again() {
    let stage = Stage::set();
    let mut watch = stage
        .node
        .command(&["tree", "--watch", "--json", "--depth", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut lines = BufReader::new(watch.stdout.take().expect("piped")).lines();

    let mut next = || -> Json {
        let line = lines.next().expect("it goes on").expect("text");
        serde_json::from_str(&line).expect("one JSON object a line")
    };
    let (first, second) = (next(), next());

    let _ = watch.kill();
    let _ = watch.wait();
    let uptime = |tree: &Json| tree["tree"]["uptime_ms"].as_u64().expect("it runs");
    assert!(uptime(&second) > uptime(&first), "{first} {second}");
    assert_eq!(first["tree"]["unlisted"], 7);
}

#[test]
fn top_shows_who_does_most_as_often_as_it_is_told_to() {
    let stage = Stage::set();
    let node = &stage.node;

    let looks = lines(&node.says(&["top", "--samples", "2", "--json"]).stdout);
    let [first, second] = &looks[..] else {
        panic!("two looks, not {looks:?}");
    };
    let rates = |look: &Json| {
        let children = look["children"].as_array().expect("a list");
        let rate = |child: &Json| child["handled_per_second"].as_f64();
        (children.len(), children.iter().filter_map(rate).count())
    };
    let (children, known) = rates(first);
    assert!(children > 7 && known == 0, "{first}");
    assert_eq!(rates(second), (children, children), "{second}");
    assert_eq!(second["health"], "healthy");

    let shown = node.says(&[
        "top",
        "--samples",
        "1",
        "--limit",
        "2",
        "--sort",
        "restarts",
    ]);
    let shown = String::from_utf8(shown.stdout).expect("UTF-8");
    let shown: Vec<&str> = shown.lines().collect();
    assert_eq!(shown.len(), 5, "{shown:?}");
    assert!(shown[0].starts_with("healthy  underpin (node "));
    assert!(shown[1].ends_with("PATH"));
    assert_eq!(shown[4], format!("… {} more", children - 2));
}

#[test]
fn a_shell_completes_commands_and_options() {
    let script = |shell: &str| {
        let output = underpin().args(["completions", shell]).output();
        let output = output.expect("the binary starts");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    for shell in ["elvish", "fish", "powershell", "zsh"] {
        assert!(script(shell).contains("timeline"), "{shell}");
    }

    let complete = |words: &str, last: &str, before: &str| {
        let asked = format!(
            "COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _underpin underpin '{last}' {before}; echo \"${{COMPREPLY[@]}}\""
        );
        let bash = Command::new("bash")
            .args(["--norc", "-c", &(script("bash") + &asked)])
            .output()
            .expect("bash, as .ci/run needs it");
        String::from_utf8(bash.stdout).expect("UTF-8")
    };
    assert_eq!(complete("underpin ev", "ev", "underpin"), "events\n");
    assert_eq!(complete("underpin events que", "que", "events"), "query\n");
    let orders = complete("underpin top --sort ''", "", "--sort");
    assert_eq!(orders, "busy handled waiting refused restarts\n");
}

#[test]
fn every_refusal_has_its_exit_code() {
    let stage = Stage::set();
    let nobody = "http://127.0.0.1:1";
    let missing = stage.path("missing.log");
    let folder = stage.folder.path().to_str().expect("UTF-8");
    for (code, arguments) in [
        (1, &["events", "get", "5"][..]),
        (1, &["config", "get", "no.such.thing"]),
        (1, &["events", "import", missing.to_str().expect("UTF-8")]),
        (1, &["events", "import", folder]),
        (2, &["events", "get", "five"]),
        (2, &["events", "query", "--since", "soon"]),
        (2, &["events", "query", "--colour", "red"]),
        (2, &["events", "query", "--limit", "0"]),
        (2, &["status", "--node", "https://127.0.0.1:4610"]),
        (2, &["nonsense"]),
        (3, &["status", "--node", nobody]),
        (3, &["events", "query", "--node", nobody]),
        (3, &["events", "import", "-", "--node", nobody]),
    ] {
        let output = stage.node.says(arguments);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {output:?}"
        );
        assert!(!output.stderr.is_empty(), "{arguments:?}");

        let output = stage.node.says(&[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert_eq!(
            lines(&output.stderr)[0]["version"],
            1,
            "{arguments:?}: {output:?}"
        );
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_node_that_cannot_start_says_why_in_a_line() {
    let stage = Stage::set();
    let data = stage.path("data");
    let port_in_use = stage.node.url.strip_prefix("http://").expect("an address");
    let settings = stage.write("bad.toml", "[underpin.events]\nhot_byts = 5\n");
    for (arguments, reason) in [
        (vec!["--data", data.to_str().expect("UTF-8")], "in use"),
        (
            vec!["--memory", "--http", port_in_use],
            "name another address",
        ),
        (vec!["--memory", "--http", "0.0.0.0:0"], "other machines"),
        (
            vec!["--memory", "--set", "underpin.nothing=1"],
            "underpin.nothing",
        ),
        (
            vec!["--memory", "--config", settings.to_str().expect("UTF-8")],
            "hot_bytes",
        ),
        (vec!["--data", "/proc/nowhere"], "/proc/nowhere"),
    ] {
        let output = underpin()
            .arg("run")
            .args(if arguments.contains(&"--http") {
                &[][..]
            } else {
                &["--http", "127.0.0.1:0"]
            })
            .args(&arguments)
            .output()
            .expect("the binary starts");

        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty());
        let told = stderr(&output);
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(told.contains(reason), "{arguments:?}: {told}");
    }
}

#[test]
fn a_node_ends_in_order_when_it_is_told_to() {
    for end in ["-TERM", "-INT"] {
        let mut process = underpin()
            .args([
                "run",
                "--memory",
                "--http",
                "127.0.0.1:0",
                "--json",
                "--log",
                "json",
            ])
            .env("RUST_LOG", "info")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut stdout = BufReader::new(process.stdout.take().expect("piped"));
        let mut ready = String::new();
        stdout.read_line(&mut ready).expect("text");
        let ready: Json = serde_json::from_str(&ready).expect("JSON");
        assert!(
            ready["ready"]
                .as_str()
                .is_some_and(|url| url.starts_with("http://127.0.0.1:"))
        );

        let reader = thread::spawn(move || {
            let mut more = String::new();
            stdout.read_to_string(&mut more).map(|_| more)
        });
        signal(&process, end);

        let output = process.wait_with_output().expect("a child");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let more = reader.join().expect("joined").expect("text");
        assert_eq!(more, "", "one line on stdout and no other");
        let log = lines(&output.stderr);
        assert!(
            log.iter()
                .any(|line| line["fields"]["message"] == "stopped")
        );
    }
}

fn data_of(lines: &[Json]) -> Vec<&Json> {
    lines.iter().map(|event| &event["data"]["n"]).collect()
}

/// An ndjson file of numbered events: each caused by the one before it, a millisecond later.
fn chain(numbers: std::ops::RangeInclusive<u64>) -> String {
    let id = |n: u64| (1_000_000_000_000 + n).to_string();
    numbers.fold(String::new(), |lines, n| {
        let time = format!("2026-11-23T10:00:00.{n:03}Z");
        let parent = if n > 1 { json!(id(n - 1)) } else { Json::Null };
        let event = json!({"id": id(n), "kind": format!("step.{}", n % 2), "time": time, "source": "chain",
            "correlation": "req-1", "parent": parent, "data": {"n": n}});
        lines + &event.to_string() + "\n"
    })
}

#[test]
fn queries_are_written_as_text_and_what_is_wrong_is_pointed_at() {
    let stage = Stage::set();
    stage
        .node
        .import(&stage.write("chain.ndjson", chain(1..=9)), &[]);

    let found = stage
        .node
        .events(&["kind=step.*", "data.n>6", "--order=-time"]);
    assert_eq!(data_of(&found), [9, 8, 7]);
    let found = stage
        .node
        .events(&["--kind", "step.1", "--parent", "1000000000004"]);
    assert_eq!(data_of(&found), [5]);
    let count = stage
        .node
        .answers(&["events", "query", "--count", "data.n<=3", "--json"]);
    assert_eq!(count, json!({"version": 1, "count": 3}));
    let none = stage.node.events(&["--as-of", "2024-01-01T00:01"]);
    assert_eq!(none.len(), 0);
    let all = stage.node.events(&[
        "--as-of",
        "2024-01-01T00:01",
        "--until",
        "2026-12-01",
        "id>=1000000000001",
    ]);
    assert_eq!(all.len(), 0);

    let wrong = stage.node.says(&["events", "query", "kind=step.* limt=5"]);
    assert_eq!(wrong.status.code(), Some(2));
    let told = stderr(&wrong);
    assert!(told.contains("did you mean `limit`?"), "{told}");
    assert!(
        told.contains("  kind=step.* limt=5\n              ^^^^"),
        "{told}"
    );

    let plan = stage
        .node
        .says(&["events", "query", "--correlation", "req-1", "--explain"]);
    assert!(
        String::from_utf8_lossy(&plan.stdout).contains("by correlation"),
        "{plan:?}"
    );
}

#[test]
fn a_long_answer_says_how_to_go_on() {
    let stage = Stage::set();
    stage
        .node
        .import(&stage.write("numbered.ndjson", chain(1..=999)), &[]);
    stage.node.import(
        &stage.write(
            "more.ndjson",
            chain(1..=999).replace("1000000000", "2000000000"),
        ),
        &[],
    );

    let first = stage.node.says(&["events", "query", "--order=-id"]);
    assert_eq!(String::from_utf8_lossy(&first.stdout).lines().count(), 1000);
    let told = stderr(&first);
    let cursor = told.split("--after ").nth(1).expect("a cursor").trim();
    let rest = stage
        .node
        .events(&["--order=-id", &format!("--after={cursor}")]);

    let numbers: Vec<_> = data_of(&rest)
        .into_iter()
        .filter_map(Json::as_u64)
        .collect();
    assert_eq!(numbers, (1..=998).rev().collect::<Vec<_>>());
}

#[test]
fn causes_effects_and_trees_are_shown_with_how_long_things_took() {
    let stage = Stage::set();
    stage
        .node
        .import(&stage.write("chain.ndjson", chain(1..=4)), &[]);

    let text = |arguments: &[&str]| {
        let output = stage.node.says(arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let tree = text(&["events", "query", "--correlation", "req-1", "--tree"]);
    let rows: Vec<&str> = tree.lines().collect();
    assert_eq!(rows.len(), 4);
    assert!(
        rows[0].contains("  step.1  took 3.00ms") && rows[3].contains("        step.0  +1.00ms"),
        "{tree}"
    );
    let as_json = text(&[
        "events",
        "query",
        "--correlation",
        "req-1",
        "--tree",
        "--json",
    ]);
    let rows = lines(as_json.as_bytes());
    let of_row = |row: &Json| ["depth", "after_ns", "took_ns"].map(|name| row[name].clone());
    assert_eq!(of_row(&rows[0]), [json!(0), Json::Null, json!(3_000_000)]);
    assert_eq!(of_row(&rows[3]), [json!(3), json!(1_000_000), Json::Null]);
    assert_eq!(text(&["events", "why", "1000000000004"]).lines().count(), 4);
    assert_eq!(
        text(&["events", "effects", "1000000000003"])
            .lines()
            .count(),
        2
    );
    let why = stage
        .node
        .answers(&["events", "why", "1000000000002", "--json"]);
    assert_eq!(
        (why["events"].as_array().map(Vec::len), &why["end"]["end"]),
        (Some(2), &json!("root"))
    );
    assert_eq!(
        stage.node.says(&["events", "why", "77"]).status.code(),
        Some(1)
    );

    // Whatever is asked about, the earliest of those in a circle stood on top.
    let circle = r#"{"id":"100","kind":"a","parent":"102","time":1}
{"id":"101","kind":"b","parent":"100","time":2}
{"id":"102","kind":"c","parent":"101","time":3}
"#;
    stage.node.import(
        &stage.write("circle.ndjson", circle),
        &["--format", "ndjson"],
    );
    let ids = |arguments: &[&str]| {
        let shown = text(arguments);
        let id = |line: &str| line.split_whitespace().last().map(str::to_owned);
        shown.lines().filter_map(id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&["events", "effects", "101"]), ["101", "102", "100"]);
    assert_eq!(ids(&["events", "why", "100"]), ["101", "102", "100"]);
}

#[test]
fn a_timeline_shows_states_and_what_changed() {
    let stage = Stage::set();
    let change = |n: u32, old: u32, new: u32| {
        let time = format!("2026-11-23T1{n}:00:00Z");
        let data =
            json!({"callback": "take", "old_state": {"tea": old}, "new_state": {"tea": new}});
        json!({"kind": "state_change", "source": "shelf", "time": time, "data": data}).to_string()
            + "\n"
    };
    let midnight = change(0, 11, 10).replace("23T10", "22T00");
    let log = [midnight, change(0, 10, 9), change(1, 9, 8), change(2, 5, 4)].concat();
    stage
        .node
        .import(&stage.write("changes.ndjson", log), &["--format", "ndjson"]);

    let at = stage.node.answers(&[
        "events",
        "timeline",
        "shelf",
        "--at",
        "2026-11-23T11:30",
        "--json",
    ]);
    assert_eq!(at["states"][0]["state"], json!({"tea": 8}));
    let between = stage.node.says(&[
        "events",
        "timeline",
        "shelf",
        "--from",
        "2026-11-23T10:30",
        "--to",
        "2026-11-23T13:00",
    ]);
    assert_eq!(
        String::from_utf8_lossy(&between.stdout),
        "shelf  tea: 9 -> 4\n"
    );
    assert!(stderr(&between).contains("without an event"), "{between:?}");
    for (day, differences) in [
        ("2026-11-21", ""),
        ("2026-11-22", "shelf  (all): nothing -> {\"tea\":10}\n"),
        ("2026-11-23", "shelf  tea: 10 -> 4\n"),
    ] {
        let day = ["events", "timeline", "shelf", "--from", day, "--to", day];
        let within = stage.node.says(&day).stdout;
        assert_eq!(String::from_utf8_lossy(&within), differences, "{day:?}");
    }
    assert_eq!(
        stage.node.says(&["events", "timeline"]).status.code(),
        Some(2)
    );

    let bare = r#"{"kind":"state_change","source":"lamp","data":{"new_state":"on"}}
{"kind":"state_change","source":"lamp","data":{"lit":false}}
"#;
    stage
        .node
        .import(&stage.write("bare.ndjson", bare), &["--format", "ndjson"]);
    let lamp = stage.node.says(&["events", "timeline", "lamp"]);
    assert!(
        String::from_utf8_lossy(&lamp.stdout).contains("\"on\""),
        "{lamp:?}"
    );
    assert!(stderr(&lamp).contains("1 state_change event"), "{lamp:?}");
}

/// A command that goes on until it is killed, and the lines that it writes.
struct GoesOn {
    process: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl GoesOn {
    fn start(node: &Node, arguments: &[&str]) -> Self {
        let mut process = node
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let (sender, lines) = std::sync::mpsc::channel();
        thread::spawn(move || {
            output
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Self { process, lines }
    }

    fn line(&self) -> Json {
        let line = self.lines.recv_timeout(PATIENCE).expect("a line comes");
        serde_json::from_str(&line).expect("JSON")
    }
}

impl Drop for GoesOn {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn tail_goes_on_where_it_was_when_the_node_comes_back() {
    let mut stage = Stage::set();
    stage
        .node
        .import(&stage.write("1.ndjson", chain(1..=3)), &[]);
    let tail = GoesOn::start(
        &stage.node,
        &[
            "events",
            "tail",
            "--from",
            "beginning",
            "kind=step.1",
            "--json",
        ],
    );
    assert_eq!(
        [tail.line(), tail.line()].map(|event| event["data"]["n"].clone()),
        [1, 3]
    );

    stage.node.kill();
    let data = stage.path("data");
    stage.node.restart(&data);
    stage
        .node
        .import(&stage.write("2.ndjson", chain(4..=7)), &[]);

    assert_eq!(
        [tail.line(), tail.line()].map(|event| event["data"]["n"].clone()),
        [5, 7]
    );
    // A node with another log, as one that keeps nothing has after each start: nothing of it is left out.
    stage.node.kill();
    stage.node.restart(&stage.path("other data"));
    stage
        .node
        .import(&stage.write("3.ndjson", chain(10..=11)), &[]);
    assert_eq!(tail.line()["data"]["n"], 11);
    let one = stage.node.says(&[
        "events",
        "tail",
        "--from",
        "beginning",
        "--limit",
        "1",
        "--json",
    ]);
    assert_eq!(lines(&one.stdout).len(), 1);
    assert_eq!(
        stage
            .node
            .says(&["events", "tail", "--from", "99"])
            .status
            .code(),
        Some(1)
    );
}

#[test]
fn an_import_that_follows_takes_what_is_written_and_stays_with_a_rotated_file() {
    let stage = Stage::set();
    let log = stage.write("app.log", "number 0 of the log\n");
    let follow = GoesOn::start(
        &stage.node,
        &[
            "events",
            "import",
            log.to_str().expect("UTF-8"),
            "--follow",
            "--format",
            "text",
        ],
    );
    let stored = |count: usize| {
        until("it is stored", || {
            stage.node.events(&["--source", "app.log"]).len() == count
        });
    };
    stored(1);

    append(&log, "number 1 of the log\nnumber 2 of ");
    stored(2);
    append(&log, "the log\n");
    stored(3);
    // What is written before the file is moved away, and to the new one of its name, is taken.
    append(&log, "number 3 of the log\n");
    // Whoever writes goes on with the old one for a while, and may leave its last line without an end.
    let moved = stage.path("app.log.1");
    fs::rename(&log, &moved).expect("renamed");
    append(&moved, "number 4 of the log\n");
    fs::write(&log, "number 7 of the log\n").expect("writable");
    append(&moved, "number 5 of the log\nnumber 6 of the log");
    stored(8);
    append(&log, "number 8 of the log\n");
    stored(9);
    // Cut and written anew to the same length, as some tools rotate.
    fs::write(&log, "number 9 of the log\nnumber 10 of the log\n").expect("writable");
    stored(11);

    assert_exactly_once(&stage.node, "app.log", 11);
    signal(&follow.process, "-INT");
    let mut follow = follow;
    assert_eq!(follow.process.wait().expect("it ends").code(), Some(130));
}

/// A follower, and how many events it has stored.
struct Follows<'s> {
    stage: &'s Stage,
    log: PathBuf,
    import: GoesOn,
}

impl<'s> Follows<'s> {
    fn start(stage: &'s Stage, text: &str) -> Self {
        let log = stage.write("app.log", text);
        let path = log.to_str().expect("UTF-8");
        let arguments = [
            "events", "import", path, "--follow", "--format", "text", "--json",
        ];
        let import = GoesOn::start(&stage.node, &arguments);
        Self { stage, log, import }
    }

    /// Waits until so many are stored, and answers what they say in the order of their ids.
    fn stored(&self, count: usize) -> Vec<String> {
        let ask = || {
            self.stage
                .node
                .events(&["--source", "app.log", "--order=id"])
        };
        until("they are stored", || ask().len() >= count);
        let message = |event: &Json| event["data"]["message"].as_str().map(str::to_owned);
        ask().iter().filter_map(message).collect()
    }

    /// Gives its name to another file, as `logrotate` does.
    fn rotate(&self, name: &str, text: &str) {
        fs::rename(&self.log, self.stage.path(name)).expect("renamed");
        fs::write(&self.log, text).expect("writable");
    }

    /// Moves another file over it, as whoever writes it anew does, once the clock of the file system shows another time.
    #[cfg(target_os = "linux")]
    fn replace(&self, text: &str) {
        let copy = self.stage.write("copy", text);
        let made = fs::metadata(&copy).and_then(|copy| copy.created());
        let made = made.expect("it is known");
        until("the clock goes on", || {
            let other = fs::metadata(self.stage.write("clock", ""));
            let written = other.and_then(|other| other.modified());
            written.expect("it is known") > made
        });
        fs::rename(copy, &self.log).expect("renamed");
    }

    /// Waits until the store knows that the file is read up to there.
    fn is_read_to(&self, offset: u64) {
        let path = self.log.canonicalize().expect("it is there");
        let url = format!("{}/api/v1/checkpoints", self.stage.node.url);
        until("the store knows how far it is read", || {
            let key = format!("import:{}", path.display());
            let answer = ureq::get(&url).query("key", &key).call();
            let answer: Json = answer
                .expect("it answers")
                .body_mut()
                .read_json()
                .expect("JSON");
            answer["value"]["offset"] == offset
        });
    }

    fn ends(mut self) {
        signal(&self.import.process, "-INT");
        assert_eq!(
            self.import.process.wait().expect("it ends").code(),
            Some(130)
        );
    }
}

/// The line was lost with the file that was cut, or taken for the beginning of the new file's first line.
#[test]
fn a_followed_file_that_is_cut_within_a_line_loses_neither_that_line_nor_the_next_one() {
    let stage = Stage::set();
    let follows = Follows::start(&stage, "zero\n");
    follows.stored(1);

    append(&follows.log, "one\ntwo without its e");
    follows.stored(2);
    fs::write(&follows.log, "three\n").expect("writable");
    assert_eq!(
        follows.stored(4),
        ["zero", "one", "two without its e", "three"]
    );

    // What is written behind the cut to the place where the line had begun is another line.
    append(&follows.log, "four\nfi");
    follows.stored(5);
    File::options()
        .write(true)
        .open(&follows.log)
        .and_then(|log| log.set_len("three\nfour\n".len() as u64))
        .expect("writable");
    append(&follows.log, "six\n");
    assert_eq!(follows.stored(7)[4..], ["four", "fi", "six"]);
    append(&follows.log, "seven\n");
    assert_eq!(follows.stored(8)[7..], ["seven"]);
    follows.ends();
}

/// Of those that had the name while the first one was still written to, only the last was read.
#[cfg(target_os = "linux")]
#[test]
fn a_followed_file_that_is_replaced_again_and_again_is_read_and_each_that_had_its_name() {
    let stage = Stage::set();
    let follows = Follows::start(&stage, "zero\n");
    follows.stored(1);
    let is_open = || {
        let files = fs::read_dir(format!("/proc/{}/fd", follows.import.process.id()));
        let mut files = files.expect("it runs").flatten();
        files.any(|file| fs::read_link(file.path()).is_ok_and(|path| path.ends_with("app.log")))
    };
    let mut written = vec!["zero"];

    for (name, text) in [
        ("app.log.1", "one\n"),
        ("app.log.2", "two\nthree"),
        ("app.log.3", "four\n"),
    ] {
        follows.rotate(name, text);
        until("the next one is open, while the first one grows", || {
            append(&stage.path("app.log.1"), "more\n");
            written.push("more");
            stage.node.count();
            is_open()
        });
    }

    written.extend(["one", "two", "three", "four"]);
    assert_eq!(follows.stored(written.len()), written);
    follows.ends();
}

#[test]
fn a_node_that_has_lost_everything_is_given_a_followed_file_from_its_start() {
    let mut stage = Stage::set();
    let log = stage.write("app.log", "zero\none\n");
    let path = log.to_str().expect("UTF-8");
    let follow = ["events", "import", path, "--follow", "--format", "text"];
    let _follow = GoesOn::start(&stage.node, &follow);
    let stored = |stage: &Stage, count: usize| {
        until("it is stored", || {
            stage.node.events(&["--source", "app.log"]).len() == count
        });
    };
    stored(&stage, 2);

    stage.node.kill();
    stage.node.restart(&stage.path("other data"));
    append(&log, "two\n");

    stored(&stage, 3);
}

/// All that it had was stored again each time.
#[cfg(target_os = "linux")]
#[test]
fn a_followed_file_that_is_replaced_by_a_copy_of_itself_has_only_its_new_lines_stored() {
    let stage = Stage::set();
    let follows = Follows::start(&stage, "zero\none\n");
    follows.stored(2);

    follows.replace("zero\none\ntwo\n");
    assert_eq!(follows.stored(3), ["zero", "one", "two"]);
    append(&follows.log, "three\n");
    follows.stored(4);
    follows.replace("zero\none\ntwo\nthree\nfour\n");
    assert_eq!(follows.stored(5)[2..], ["two", "three", "four"]);
    follows.replace("other\n");
    assert_eq!(follows.stored(6)[5..], ["other"]);

    // Whoever deletes it begins anew, also with the same line.
    fs::remove_file(&follows.log).expect("it is there");
    fs::write(&follows.log, "other\nfive\n").expect("writable");
    assert_eq!(follows.stored(8)[6..], ["other", "five"]);
    follows.ends();
}

/// They were taken for lines of the file before it, and left out.
#[test]
fn a_followed_file_that_begins_as_the_one_before_it_is_read_from_its_start() {
    let stage = Stage::set();
    let follows = Follows::start(&stage, "program started\n");
    follows.stored(1);

    follows.rotate("app.log.1", "program started\none\n");
    assert_eq!(follows.stored(3)[1..], ["program started", "one"]);
    follows.rotate("app.log.2", "two");
    follows.rotate("app.log.3", "two\nthree\n");
    assert_eq!(follows.stored(5)[3..], ["two", "three"]);

    // Emptied, seen so, and written anew.
    fs::write(&follows.log, "").expect("writable");
    follows.is_read_to(0);
    fs::write(&follows.log, "two\nthree\nfour\n").expect("writable");
    assert_eq!(follows.stored(8)[5..], ["two", "three", "four"]);
    follows.ends();

    let log = stage.write("again.log", "one\ntwo\n");
    assert_eq!(stage.node.import(&log, &[]), counts(2, 0, 0));
    stage.write("again.log", "");
    assert_eq!(stage.node.import(&log, &[]), counts(0, 0, 0));
    stage.write("again.log", "one\ntwo\nthree\n");
    assert_eq!(stage.node.import(&log, &[]), counts(3, 0, 0));
}

/// Of what a program had stored, a large event in which much is escaped was refused as too long a line.
#[test]
fn whatever_is_stored_is_written_out_and_read_in_again_to_the_letter() {
    let (from, to) = (Stage::set(), Stage::set());
    let nested = |depth| (0..depth).fold(json!(null), |inner, _| json!([inner]));
    let all = [
        json!({"kind": "bytes", "data": [{"$bytes": "AP8="}, {"$float": "NaN"}, {"$$bytes": 1}, {"$bytes": "?"}]}),
        json!({"kind": "numbers", "data": [u64::MAX, i64::MIN, -0.0, 5e-324, 1.797_693_134_862_315_7e308, 1.0]}),
        json!({"kind": "deep", "data": nested(64)}),
        json!({"kind": "a\u{0}b\n", "source": "\u{9b}\"\\", "correlation": "\u{202e}\n", "data": "\r\n\u{0}\u{7f}"}),
        json!({"kind": "early", "time": i64::MIN}),
        json!({"kind": "late", "time": i64::MAX}),
        json!({"kind": "escaped", "data": "\u{1}".repeat(999_990)}),
        json!({"kind": "bytes", "data": {"$bytes": "AAAA".repeat(333_330)}}),
    ];
    for event in &all {
        let url = format!("{}/api/v1/events", from.node.url);
        let stored = ureq::post(&url).send_json(event).expect("stored");
        assert_eq!(stored.status(), 201);
    }

    let told = from.node.says(&["events", "query", "--json"]).stdout;
    assert_eq!(lines(&told).len(), all.len());
    let carried = to.write("carried.jsonl", &told);
    let stored = counts(all.len() as u64, 0, 0);
    assert_eq!(to.node.import(&carried, &["--format", "ndjson"]), stored);
    assert!(to.node.says(&["events", "query", "--json"]).stdout == told);
}

#[test]
fn a_data_folder_is_verified_copied_written_out_and_mended() {
    let mut stage = Stage::set();
    let log = stage.write("app.log", numbered(500));
    stage.node.import(&log, &[]);
    let stored = stage.node.count();
    let (data, copy) = (stage.path("data"), stage.path("copy"));
    let on = |data: &Path, arguments: &[&str]| {
        let mut command = underpin();
        command
            .arg("events")
            .args(arguments)
            .arg("--data")
            .arg(data);
        command.output().expect("the binary starts")
    };

    let verified = on(&data, &["verify", "--json"]);
    assert!(verified.status.success(), "{verified:?}");
    let told = &lines(&verified.stdout)[0];
    assert_eq!(told["version"], 1);
    assert_eq!(told["verified"]["live"], true);
    assert_eq!(told["verified"]["events"], stored);
    let refused = on(&data, &["repair", "--json"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("in_use"), "{refused:?}");

    let backed_up = on(&data, &["backup", copy.to_str().expect("UTF-8")]);
    assert!(backed_up.status.success(), "{backed_up:?}");
    let restored = Node::start(&copy, "127.0.0.1:0");
    assert_exactly_once(&restored, "app.log", 500);

    let exported = on(&data, &["export"]);
    assert!(exported.status.success(), "{exported:?}");
    assert_eq!(lines(&exported.stdout).len() as u64, stored);
    let file = stage.path("events.ndjson");
    let to_file = on(&data, &["export", "--out", file.to_str().expect("UTF-8")]);
    assert!(to_file.status.success(), "{to_file:?}");
    assert_eq!(fs::read(&file).expect("written"), exported.stdout);
    let elsewhere = Node::start(&stage.path("elsewhere"), "127.0.0.1:0");
    elsewhere.import(&file, &[]);
    assert_exactly_once(&elsewhere, "app.log", 500);

    // Stopped in good order: all that is there is known to be synced.
    signal(&stage.node.process, "-TERM");
    stage.node.process.wait().expect("it ran");
    let segment = fs::read_dir(data.join("events"))
        .expect("readable")
        .map(|file| file.expect("readable").path())
        .find(|path| path.extension().is_some_and(|ending| ending == "seg"));
    let segment = segment.expect("a segment");
    let mut bytes = fs::read(&segment).expect("readable");
    bytes[1000] ^= 1;
    fs::write(&segment, bytes).expect("writable");
    let damaged = on(&data, &["verify"]);
    assert_eq!(damaged.status.code(), Some(1), "{damaged:?}");
    let words = String::from_utf8_lossy(&damaged.stdout).into_owned();
    let name = segment.file_name().expect("a name").to_string_lossy();
    assert!(words.contains(&format!("{name}: byte ")), "{words}");
    let repaired = on(&data, &["repair", "--json"]);
    assert!(repaired.status.success(), "{repaired:?}");
    let result = lines(&repaired.stdout).pop().expect("a result");
    assert_eq!(result["repaired"]["after"]["faults"], 0, "{result}");
    assert_eq!(
        result["repaired"]["quarantined"].as_array().map(Vec::len),
        Some(1),
        "{result}"
    );

    let nowhere = on(&stage.path("nowhere"), &["verify"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(stderr(&nowhere).contains("--data"), "{nowhere:?}");
}
