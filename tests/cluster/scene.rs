//! What the stories share: folders, nodes that are an `underpin run` each, and looking until something holds.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value as Json;
use tempfile::TempDir;

use crate::ready;

/// Far beyond what anything here takes; a story that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) const COOKIE: &str = "a cookie for these stories";

pub(crate) fn underpin() -> Command {
    underpin_in(&[])
}

fn underpin_in(before: &[String]) -> Command {
    let words = [before, &[env!("CARGO_BIN_EXE_underpin").to_owned()]].concat();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
        .env_remove("UNDERPIN_NODE")
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null());
    command
}

/// What the nodes of one story share.
pub(crate) struct Scene {
    pub(crate) folder: TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let scene = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        scene.secret("cookie", COOKIE);
        scene
    }

    /// A file that only its owner reads.
    pub(crate) fn secret(&self, file: &str, text: &str) -> PathBuf {
        let file = self.folder.path().join(file);
        fs::write(&file, text).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
        file
    }

    /// A node that listens at a port that was free a moment ago, so that it can come back there.
    pub(crate) fn node(&self, name: &str, join: &[&str]) -> Node {
        self.node_with(name, &free_address(), join, &[])
    }

    pub(crate) fn node_with(
        &self,
        name: &str,
        address: &str,
        join: &[&str],
        more: &[&str],
    ) -> Node {
        self.node_in(&[], name, address, join, more)
    }

    /// Under a command that runs others, such as one that changes where they are.
    pub(crate) fn node_in(
        &self,
        before: &[String],
        name: &str,
        address: &str,
        join: &[&str],
        more: &[&str],
    ) -> Node {
        let mut command = underpin_in(before);
        command.args(["run", "--http", "127.0.0.1:0", "--name", name]);
        command.args(["--cluster-listen", address, "--cookie-file"]);
        command
            .arg(self.folder.path().join("cookie"))
            .arg("--data")
            .arg(self.folder.path().join(name));
        command.args(join.iter().flat_map(|seed| ["--join", seed]));
        let mut node = Node::start(command.args(more), address);
        node.before = before.to_vec();
        node
    }
}

pub(crate) fn free_address() -> String {
    let place = TcpListener::bind("127.0.0.1:0").expect("free");
    place.local_addr().expect("bound").to_string()
}

pub(crate) struct Node {
    pub(crate) process: Child,
    url: String,
    pub(crate) address: String,
    /// The command under which it runs.
    before: Vec<String>,
}

impl Node {
    pub(crate) fn start(command: &mut Command, address: &str) -> Self {
        let mut process = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let url = ready::url(&mut process);
        Self {
            process,
            url,
            address: address.to_owned(),
            before: Vec::new(),
        }
    }

    pub(crate) fn says(&self, arguments: &[&str]) -> Output {
        underpin_in(&self.before)
            .args(arguments)
            .env("UNDERPIN_NODE", &self.url)
            .output()
            .expect("the binary starts")
    }

    pub(crate) fn cluster(&self) -> Json {
        let output = self.says(&["cluster", "--json"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    pub(crate) fn member(&self, name: &str) -> Json {
        let cluster = self.cluster();
        let mut members = cluster["members"].as_array().into_iter().flatten();
        members
            .find(|member| member["name"] == name)
            .cloned()
            .unwrap_or_default()
    }

    pub(crate) fn state(&self, name: &str) -> String {
        self.member(name)["state"]
            .as_str()
            .unwrap_or("unknown")
            .to_owned()
    }

    pub(crate) fn becomes(&self, name: &str, state: &str) {
        until(&format!("{name} is {state}: {}", self.cluster()), || {
            self.state(name) == state
        });
    }

    pub(crate) fn signal(&self, word: &str) {
        signal(self.process.id(), word);
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ran");
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        resident_bytes(self.process.id())
    }

    pub(crate) fn events(&self, kind: &str) -> Vec<Json> {
        let output = self.says(&["events", "query", "--kind", kind, "--json"]);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }
}

/// What a process has in memory.
pub(crate) fn resident_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let mut lines = status.lines();
    let line = lines
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("it is there");
    let kib: u64 = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number");
    kib * 1024
}

pub(crate) fn signal(process: u32, signal: &str) {
    let status = Command::new("kill")
        .args([signal, &process.to_string()])
        .status();
    assert!(status.expect("kill is there").success());
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Looks again and again, a real process being at work.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "waited {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
    begin.elapsed()
}
