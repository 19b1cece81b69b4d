//! Nodes that are an `underpin run` each, on ports and in folders of their own.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value as Json;

use crate::scene::{COOKIE, Node, PATIENCE, Scene, free_address, underpin, until};

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
    let alone = String::from_utf8(c.says(&["cluster"]).stdout).expect("text");
    assert!(alone.contains("it has left"), "{alone}");
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
    other.secret("cookie", "quite another cookie");
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
fn the_cookie_may_come_from_the_environment() {
    let scene = Scene::new();
    let a = scene.node("a", &[]);
    let at_b = free_address();
    let mut command = underpin();
    command
        .args(["run", "--memory", "--http", "127.0.0.1:0", "--name", "b"])
        .args(["--cluster-listen", &at_b, "--join", &a.address])
        .env("UNDERPIN_COOKIE", COOKIE);

    let b = Node::start(&mut command, &at_b);

    a.becomes("b", "alive");
    b.becomes("a", "alive");
}

/// Two thousand, or as many as this process may hold.
#[test]
fn two_thousand_strangers_who_say_nothing_cost_bounded_memory_and_keep_nobody_out() {
    const STRANGERS: usize = 2000;
    let places = places(STRANGERS + 500);
    let wanted = STRANGERS.min(places.saturating_sub(300));
    if wanted < STRANGERS {
        eprintln!("with {wanted} strangers alone: this process may open {places} files");
    }
    let scene = Scene::new();
    let a = scene.node("a", &[]);
    let before = a.resident_bytes();

    let strangers: Vec<TcpStream> = (0..wanted)
        .map(|_| TcpStream::connect(&a.address).expect("it listens"))
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
}

/// How many files this process may open, after it has asked for so many.
fn places(wanted: usize) -> usize {
    let limit = || {
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"));
        let soft = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        soft.unwrap_or(256)
    };
    if limit() < wanted {
        // Part of util-linux; where it is not there, or the hard limit is lower, it stays as it is.
        let _ = Command::new("prlimit")
            .args(["--pid", &std::process::id().to_string()])
            .arg(format!("--nofile={wanted}:"))
            .status();
    }
    limit()
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
