//! Stories of clusters of real processes: each node is an `underpin run` of its own, on ports and in folders of its own.
#![cfg(all(feature = "cli", feature = "cluster"))]

mod ready;

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value as Json;
use tempfile::TempDir;

/// Far beyond what anything here takes; a story that waits this long has failed.
const PATIENCE: Duration = Duration::from_mins(1);

const COOKIE: &str = "a cookie for these stories";

fn underpin() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_underpin"));
    command
        .env_remove("UNDERPIN_NODE")
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null());
    command
}

/// What the nodes of one story share.
struct Scene {
    folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        scene.cookie("cookie", COOKIE);
        scene
    }

    fn cookie(&self, file: &str, cookie: &str) -> PathBuf {
        let file = self.folder.path().join(file);
        fs::write(&file, cookie).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
        file
    }

    /// A node that listens at a port that was free a moment ago, so that it can come back there.
    fn node(&self, name: &str, join: &[&str]) -> Node {
        self.node_with(name, &free_address(), join, &[])
    }

    fn node_with(&self, name: &str, address: &str, join: &[&str], more: &[&str]) -> Node {
        let mut command = underpin();
        command.args(["run", "--http", "127.0.0.1:0", "--name", name]);
        command.args(["--cluster-listen", address, "--cookie-file"]);
        command
            .arg(self.folder.path().join("cookie"))
            .arg("--data")
            .arg(self.folder.path().join(name));
        command.args(join.iter().flat_map(|seed| ["--join", seed]));
        Node::start(command.args(more), address)
    }
}

fn free_address() -> String {
    let place = TcpListener::bind("127.0.0.1:0").expect("free");
    place.local_addr().expect("bound").to_string()
}

struct Node {
    process: Child,
    url: String,
    address: String,
}

impl Node {
    fn start(command: &mut Command, address: &str) -> Self {
        let mut process = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let url = ready::url(&mut process);
        Self {
            process,
            url,
            address: address.to_owned(),
        }
    }

    fn says(&self, arguments: &[&str]) -> Output {
        underpin()
            .args(arguments)
            .env("UNDERPIN_NODE", &self.url)
            .output()
            .expect("the binary starts")
    }

    fn cluster(&self) -> Json {
        let answer = ureq::get(format!("{}/api/v1/cluster", self.url)).call();
        answer
            .expect("it answers")
            .body_mut()
            .read_json()
            .expect("JSON")
    }

    fn member(&self, name: &str) -> Json {
        let cluster = self.cluster();
        let mut members = cluster["members"].as_array().into_iter().flatten();
        members
            .find(|member| member["name"] == name)
            .cloned()
            .unwrap_or_default()
    }

    fn state(&self, name: &str) -> String {
        self.member(name)["state"]
            .as_str()
            .unwrap_or("unknown")
            .to_owned()
    }

    fn becomes(&self, name: &str, state: &str) {
        until(&format!("{name} is {state}: {}", self.cluster()), || {
            self.state(name) == state
        });
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.process.id().to_string()])
            .status();
        assert!(status.expect("kill is there").success());
    }

    fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ran");
    }

    fn resident_bytes(&self) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("it is there");
        let kib: u64 = line
            .split_whitespace()
            .nth(1)
            .expect("a number")
            .parse()
            .expect("a number");
        kib * 1024
    }

    fn events(&self, kind: &str) -> Vec<Json> {
        let output = self.says(&["events", "query", "--kind", kind, "--json"]);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Looks again and again, a real process being at work.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "waited {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
    begin.elapsed()
}

/// The story of three terminals in the README.
#[test]
fn three_terminals_see_each_other_and_one_leaves() {
    let scene = Scene::new();
    let a = scene.node("a", &[]);
    let b = scene.node("b", &[&a.address]);
    let c = scene.node("c", &[&a.address]);
    for (node, others) in [(&a, ["b", "c"]), (&b, ["a", "c"]), (&c, ["a", "b"])] {
        for other in others {
            node.becomes(other, "alive");
        }
    }

    let seen = String::from_utf8(a.says(&["cluster"]).stdout).expect("text");
    assert!(
        seen.lines()
            .any(|line| line.trim_start().starts_with("b  alive")),
        "{seen}"
    );
    let json: Json = serde_json::from_slice(&a.says(&["cluster", "--json"]).stdout).expect("JSON");
    assert_eq!((&json["version"], &json["name"]), (&1.into(), &"a".into()));

    let left = c.says(&["cluster", "leave"]);
    assert!(left.status.success(), "{left:?}");
    a.becomes("c", "left");
    b.becomes("c", "left");
    until("it is in the books", || {
        a.events("cluster.*")
            .iter()
            .any(|event| event["kind"] == "cluster.left")
    });
    let up = a.events("cluster.up");
    assert!(
        up.iter().any(|event| event["data"]["node"] == "b"),
        "{up:?}"
    );

    let health = a.says(&["status"]);
    assert!(
        String::from_utf8_lossy(&health.stdout).starts_with("healthy"),
        "{health:?}"
    );
}

#[test]
fn a_killed_node_is_down_within_100_ms_and_back_without_a_restart_of_the_others() {
    let scene = Scene::new();
    let a = scene.node("a", &[]);
    let mut b = scene.node("b", &[&a.address]);
    a.becomes("b", "alive");
    b.becomes("a", "alive");

    let killed = Instant::now();
    b.process.kill().expect("it runs");
    until("b is down", || a.state("b") == "down");
    // When it became so by its own word; this process asks only now and then.
    let since = Duration::from_millis(a.member("b")["since_ms"].as_u64().expect("a number"));
    let took = killed.elapsed().saturating_sub(since);
    assert!(took < Duration::from_millis(100), "down after {took:?}");
    b.kill();

    let b = scene.node_with("b", &b.address.clone(), &[&a.address], &[]);
    a.becomes("b", "alive");
    b.becomes("a", "alive");
}

#[test]
fn a_frozen_node_is_down_within_twice_the_timeout_and_whole_again_when_it_thaws() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let (scene, timeout) = (Scene::new(), ["--cluster-timeout", "1000"]);
    let a = scene.node_with("a", &free_address(), &[], &timeout);
    let b = scene.node_with("b", &free_address(), &[&a.address], &timeout);
    a.becomes("b", "alive");

    b.signal("-STOP");
    let took = until("b is down", || a.state("b") == "down");
    assert!(took < 2 * TIMEOUT, "down after {took:?}");
    assert_eq!(a.member("b")["why"], "silent");

    b.signal("-CONT");
    a.becomes("b", "alive");
    b.becomes("a", "alive");
}

#[test]
fn whoever_is_not_let_in_says_why_in_its_health() {
    let scene = Scene::new();
    let a = scene.node("a", &[]);
    let _b = scene.node("b", &[&a.address]);
    a.becomes("b", "alive");
    let health = |node: &Node| String::from_utf8(node.says(&["status"]).stdout).expect("text");

    let other = Scene::new();
    other.cookie("cookie", "quite another cookie");
    let stranger = other.node("c", &[&a.address]);
    until("another cookie", || {
        health(&stranger).contains("the cookies differ")
    });

    let twin = other_with(&scene, "twin", "b", &a.address);
    until("another of its name", || {
        health(&twin).contains("a node named b is in the cluster already")
    });

    assert_eq!(a.cluster()["members"].as_array().map(Vec::len), Some(1));
}

/// A node whose folder is not named as it is.
fn other_with(scene: &Scene, folder: &str, name: &str, join: &str) -> Node {
    let address = free_address();
    let mut command = underpin();
    command.args([
        "run",
        "--http",
        "127.0.0.1:0",
        "--name",
        name,
        "--cluster-listen",
        &address,
    ]);
    command
        .arg("--cookie-file")
        .arg(scene.folder.path().join("cookie"));
    command
        .arg("--data")
        .arg(scene.folder.path().join(folder))
        .args(["--join", join]);
    Node::start(&mut command, &address)
}

#[test]
fn two_thousand_strangers_who_say_nothing_cost_bounded_memory_and_keep_nobody_out() {
    let scene = Scene::new();
    let a = scene.node("a", &[]);
    let before = a.resident_bytes();

    let strangers: Vec<TcpStream> = (0..2000)
        .filter_map(|_| TcpStream::connect(&a.address).ok())
        .collect();
    let b = scene.node("b", &[&a.address]);

    a.becomes("b", "alive");
    b.becomes("a", "alive");
    let grown = a.resident_bytes().saturating_sub(before);
    assert!(
        grown < 16 << 20,
        "{} strangers cost {grown} bytes",
        strangers.len()
    );
    assert!(strangers.len() > 1000, "{} could connect", strangers.len());
}

#[test]
fn whoever_speaks_something_else_is_cut_off() {
    let scene = Scene::new();
    let a = scene.node("a", &[]);
    let mut huge = TcpStream::connect(&a.address).expect("it listens");
    // Says that four gigabytes follow.
    huge.write_all(&[0xFF; 64]).expect("sent");
    let mut web = TcpStream::connect(&a.address).expect("it listens");
    web.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("sent");

    for stream in [&mut huge, &mut web] {
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        assert!(said.is_empty(), "{said:?}");
    }
    assert_eq!(a.cluster()["members"].as_array().map(Vec::len), Some(0));
}

#[test]
fn what_cannot_work_is_refused_before_anything_starts() {
    let scene = Scene::new();
    let cookie = scene.folder.path().join("cookie");
    let run = |arguments: &[&str]| {
        let mut command = underpin();
        command
            .args(["run", "--memory", "--http", "127.0.0.1:0"])
            .args(arguments);
        let output = command
            .env_remove("UNDERPIN_COOKIE")
            .output()
            .expect("the binary starts");
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    };
    let file = cookie.to_str().expect("UTF-8");

    let words = run(&["--cluster-listen", "0.0.0.0:0", "--cookie-file", file]);
    assert!(
        words.contains("--insecure") || words.contains("insecure"),
        "{words}"
    );
    let words = run(&["--join", "127.0.0.1:1"]);
    assert!(words.contains("UNDERPIN_COOKIE"), "{words}");
    fs::set_permissions(&cookie, fs::Permissions::from_mode(0o644)).expect("set");
    let words = run(&["--join", "127.0.0.1:1", "--cookie-file", file]);
    assert!(words.contains("chmod 600"), "{words}");
}
