//! The examples run, tell their story, come to their end and leave nothing behind.

#[cfg(feature = "cli")]
use std::io::{BufRead as _, BufReader};
use std::{
    env,
    ffi::OsStr,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

/// A built example, ready to run in `folder`. `cargo test` builds the examples beside the tests, in whatever target folder.
fn example(name: &str, folder: &tempfile::TempDir) -> Command {
    let test = env::current_exe().expect("a test knows where it is");
    let profile = test.parent().and_then(|deps| deps.parent());
    let mut program: PathBuf = profile.expect("tests are in target/<profile>/deps").into();
    program.extend(["examples", name]);
    program.set_extension(env::consts::EXE_EXTENSION);
    assert!(
        program.exists(),
        "{} is not built: run `cargo test` for all targets, or `cargo build --examples` first",
        program.display()
    );
    let mut command = Command::new(program);
    command.current_dir(folder).stdin(Stdio::null());
    for (variable, _) in env::vars_os().filter(|(name, _)| is_setting(name)) {
        command.env_remove(variable);
    }
    command
}

/// Settings of whoever runs the tests are not the examples' business.
fn is_setting(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with("UNDERPIN")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// What a program printed that ended well.
fn lines(output: &Output) -> Vec<String> {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(String::from).collect()
}

fn files(folder: &tempfile::TempDir) -> usize {
    std::fs::read_dir(folder).expect("readable").count()
}

#[test]
fn many_events_says_what_so_many_cost() {
    let folder = folder();

    let output = example("many_events", &folder)
        .args(["store", "2000"])
        .output()
        .expect("runs");

    let said = lines(&output);
    assert_eq!(
        said[0].split_whitespace().collect::<Vec<_>>(),
        ["events", "2000"]
    );
    for what in ["opened in", "a correlation", "older half pruned in"] {
        assert!(said.iter().any(|line| line.starts_with(what)), "{said:?}");
    }
}

#[test]
fn sessions_come_and_go_and_prices_are_asked_two_at_a_time() {
    let folder = folder();

    let output = example("sessions", &folder).output().expect("runs");

    let expected = [
        "Cleo has to wait: there are 2 children already, which is the limit; retry when one has ended.",
        "Bob left, and Cleo came in.",
        r#"Ann has ["tea"]."#,
        "Ann's session ended: error: a loose floorboard.",
        "Ann has [].",
        "2 sessions are open.",
        "tea costs 300",
        "cup costs 300",
        "spoon costs 500",
        "All ended when asked: true.",
    ];
    assert_eq!(lines(&output), expected);
    assert_eq!(files(&folder), 0);
}

#[test]
fn hello_stores_events_changes_a_setting_and_counts() {
    let folder = folder();

    let output = example("hello", &folder).output().expect("runs");

    let expected = [
        "The node hello is Healthy.",
        "Events of the shop, oldest first:",
        r#"  order_placed {"for":"Ann","item":"tea"}"#,
        "  order_paid null",
        "The discount is now 20 %.",
        "3 cups were served.",
        "The node has stopped, gracefully: true.",
    ];
    assert_eq!(lines(&output), expected);
    assert_eq!(files(&folder), 0);
}

#[test]
fn a_request_to_the_captured_service_is_followed_through_handler_actor_and_task() {
    let folder = folder();

    let output = example("capture_axum", &folder).output().expect("runs");

    let lines = lines(&output);
    assert_eq!(lines[0], "The shop says: thank you; 250 cents so far");
    let became: Vec<Vec<&str>> = lines[2..]
        .iter()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let in_order = |kind: &str, source: &str, what: &str| {
        let wanted: Vec<_> = [kind, source].into_iter().chain(what.split(' ')).collect();
        became
            .iter()
            .position(|line| *line == wanted)
            .unwrap_or_else(|| panic!("{wanted:?} is not in {became:?}"))
    };
    let asked = in_order("span.opened", "http", "request");
    let checked = in_order("tracing.info", "capture_axum", "checking the stock");
    let charged = in_order("tracing.info", "capture_axum", "charged");
    let mailed = in_order("span.opened", "capture_axum", "mail");
    let sent = in_order("tracing.info", "capture_axum", "confirmation sent");
    assert!(
        [asked, checked, charged, mailed, sent].is_sorted(),
        "{became:?}"
    );
    assert_eq!(
        became.len(),
        8,
        "two spans closed, one with its status recorded: {became:?}"
    );
    assert_eq!(files(&folder), 0);
}

#[cfg(feature = "cli")]
#[test]
fn the_command_line_shows_the_request_to_the_captured_service_as_a_tree() {
    let folder = folder();
    let mut service = example("capture_axum", &folder)
        .arg("--stay")
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let printed = service.stdout.take().expect("piped");
    // Kept to the end: the service prints more, and a pipe that nobody reads would end it.
    let mut printed = BufReader::new(printed).lines();
    let asked = printed.find_map(|line| {
        let line = line.expect("is text");
        let command = line.strip_prefix("Ask for it: underpin ")?;
        Some(command.to_owned())
    });
    let asked = asked.expect("it says how to ask");

    let output = Command::new(env!("CARGO_BIN_EXE_underpin"))
        .args(asked.split(' '))
        .output()
        .expect("runs");

    assert!(
        asked.starts_with("events query ") && asked.ends_with(" --tree"),
        "{asked}"
    );
    let tree = lines(&output);
    let depth_of = |words: &[&str]| {
        let row = tree
            .iter()
            .find(|row| words.iter().all(|word| row.contains(word)));
        let row = row.unwrap_or_else(|| panic!("{words:?} is not in {tree:#?}"));
        let kind = row.find(words[0]).expect("is there");
        row[..kind].chars().rev().take_while(|c| *c == ' ').count() / 2
    };
    let request = depth_of(&["span.opened", "/orders"]);
    for below in [
        &["tracing.info", "checking the stock"][..],
        &["tracing.info", "charged"],
        &["span.opened", "mail"],
        &["span.recorded", "200"],
    ] {
        assert_eq!(depth_of(below), request + 1, "{tree:#?}");
    }
    assert_eq!(
        depth_of(&["tracing.info", "confirmation sent"]),
        request + 2
    );
    assert!(tree[0].contains("  took "), "{tree:#?}");
    assert_eq!(tree.len(), 8, "{tree:#?}");
    let ended = Command::new("kill").arg(service.id().to_string()).status();
    assert!(ended.expect("kill is there").success());
    assert!(service.wait().expect("ends").success(), "it stops cleanly");
}

#[test]
fn two_nodes_sell_each_other_s_stock_until_one_leaves() {
    let folder = folder();

    let output = example("two_nodes", &folder).output().expect("runs");

    let expected = [
        "The shop takes 7: Ok(3) are left.",
        "The shop takes 7: Err(\"only 3 left\").",
        "The node store has left.",
        "The shop takes 1: there is no connection to node store; it is down or not known; try again when it is up. Safe to send again: true.",
    ];
    assert_eq!(lines(&output), expected);
    assert_eq!(files(&folder), 0);
}

#[test]
fn the_event_replay_finds_the_bug_in_what_was_stored() {
    let folder = folder();

    let output = example("event_replay", &folder).output().expect("runs");

    let expected = [
        "11 changes of the shelf are stored, for 10 orders.",
        "It was short first when 0 became -1. Why? The first cause first:",
        r#"  order.placed {"customer":10}"#,
        "  order.delivered null",
        r#"  state_change {"callback":"take","new_state":{"tea":-1},"old_state":{"tea":0},"state_diff":"changed"}"#,
        r#"The order {"customer":7} took 2 times:"#,
        "  tea: 4 became 2",
        "It was delivered 2 times, and nobody looked.",
    ];
    assert_eq!(lines(&output), expected);
    assert_eq!(files(&folder), 0);
}

#[test]
fn the_supervised_worker_panics_and_answers_again() {
    let folder = folder();

    let output = example("supervised_worker", &folder)
        .output()
        .expect("runs");

    let expected = [
        "The adder has 42.",
        "It gets a 13, which makes it panic, as standard error tells.",
        "sums/adder ended: panic: thirteen!",
        "sums/adder lives again: life 2",
        "At the same address, a new adder has 7.",
        "All stopped, gracefully: true.",
    ];
    assert_eq!(lines(&output), expected);
    assert!(String::from_utf8_lossy(&output.stderr).contains("thirteen!"));
    assert_eq!(files(&folder), 0);
}

#[test]
fn the_guarded_call_spares_what_is_closed_and_answers_from_memory() {
    let folder = folder();

    let output = example("guarded_call", &folder).output().expect("runs");

    let expected = [
        "The price is 101.",
        "The price is 102.",
        "The price is 104.",
        "The price is 104 (kept).",
        "The price is 104 (kept).",
        "The market was asked 6 times.",
        "Once it is open again, so is the circuit.",
        "The price is 108.",
        "The circuit closed 1 time.",
        "It was opened at least once: true.",
        "All stopped, gracefully: true.",
    ];
    assert_eq!(lines(&output), expected);
    assert_eq!(files(&folder), 0);
}

#[test]
fn live_config_follows_a_file_the_environment_and_the_api() {
    let folder = folder();

    let output = example("live_config", &folder).output().expect("runs");

    let expected = [
        "The file says: 2 a second (line 2).",
        "The file has changed: 3 a second (line 3).",
        "From the next start on: app.listen.",
        "The environment is stronger: 4 a second (the environment variable UNDERPIN__APP__RATE).",
        "Ann is stronger still: 5 a second (a change while running).",
        "With 0 it would break: `app.rate` is refused: nothing would be done; use 1 or more.",
        "So that is refused: `app.rate` is refused: nothing would be done; use 1 or more.",
        "Twice as many: 10.",
        "And back: 5.",
        "A broken file changes nothing (did you mean `app.rate`?), and is in the node's health: Degraded.",
        r#"The settings, as they may be shown: {"listen":"127.0.0.1:80","rate":5,"token":"[secret]"}"#,
        "Who changed what:",
        "  load app.rate app.token files",
        "  load app.rate example",
        "  update app.rate ann",
        "  update app.rate ",
        "  rollback app.rate ",
    ];
    assert_eq!(lines(&output), expected);
    assert_eq!(files(&folder), 0);
}

/// It has a command line, which is clap's.
#[cfg(feature = "cli")]
mod node {
    use std::{
        io::{BufRead as _, BufReader},
        process::{Command, Stdio},
    };

    use super::{example, files, folder, lines};

    #[test]
    fn the_node_ends_after_its_time_and_keeps_nothing_unless_told() {
        let folder = folder();

        let mut node = example("node", &folder);
        let output = node.args(["--name", "a", "--for", "0"]).output();

        let lines = lines(&output.expect("runs"));
        assert_eq!(
            lines.first().map(String::as_str),
            Some("The node a runs, and knows 0 events.")
        );
        assert_eq!(
            lines.last().map(String::as_str),
            Some("The node a has stopped, gracefully: true.")
        );
        assert_eq!(files(&folder), 0);
    }

    #[test]
    fn the_node_greets_as_its_settings_say_until_a_signal_and_finds_its_events_again() {
        let folder = folder();
        let run = || {
            let mut node = example("node", &folder);
            node.args(["--name", "b", "--data", "data", "--http", "127.0.0.1:0"]);
            node.env("UNDERPIN__APP__GREETING", "good evening");
            let mut node = node.stdout(Stdio::piped()).spawn().expect("starts");
            let output = BufReader::new(node.stdout.take().expect("piped"));
            let mut lines = output.lines().map(|line| line.expect("text"));

            let first = lines.next().expect("a first line");
            let address = lines.next().expect("an address");
            assert!(
                address.starts_with("It serves http://127.0.0.1:"),
                "{address}"
            );
            // At the second greeting it has long been listening to signals.
            for greeting in lines.by_ref().take(2) {
                assert!(greeting.starts_with("good evening! (event "), "{greeting}");
            }
            let signal = format!("kill -TERM {}", node.id());
            let sent = Command::new("sh").args(["-c", &signal]).status();
            assert!(sent.expect("a shell").success());
            let last = lines.last();
            assert_eq!(
                last.as_deref(),
                Some("The node b has stopped, gracefully: true.")
            );
            assert!(node.wait().expect("ends").success());
            first
        };

        let (first, second) = (run(), run());

        assert_eq!(first, "The node b runs, and knows 0 events.");
        assert_ne!(first, second);
    }
}
