//! Programs that end badly, each a process of its own: what led there is on the disk.
#![cfg(feature = "capture")]

use std::{
    env,
    path::Path,
    process::{Command, ExitStatus, Stdio},
};

use tracing_subscriber::prelude::*;
use underpin::{
    events::{Event, Query},
    node::Node,
    value::Value,
};

/// Tells the program of a story that it is the program, and where to write.
const FOLDER: &str = "UNDERPIN_CAPTURE_FOLDER";
/// Tells it how to end.
const END: &str = "UNDERPIN_CAPTURE_END";

/// Runs this test file's program until it ends.
fn run(folder: &Path, end: &str) -> ExitStatus {
    Command::new(env::current_exe().expect("a test knows where it is"))
        .args(["--exact", "the_program", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(END, end)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("it runs")
}

/// The program: does something, then ends as it is told. Not a story without its folder.
#[test]
fn the_program() {
    let Some(folder) = env::var_os(FOLDER) else {
        return;
    };
    let end = env::var(END).expect("told");
    // The main thread of a real program is called so; a test's is not.
    let main = std::thread::Builder::new().name("main".to_owned());
    let program = main.spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let node = Node::builder().data_dir(folder).without_environment();
            let node = node.start().await.expect("starts");
            tracing_subscriber::registry()
                .with(node.capture().layer())
                .init();
            node.capture().install_panic_hook();
            let request = tracing::info_span!(target: "shop", "request").entered();
            tracing::info!(target: "shop", "before the end");
            match end.as_str() {
                "panic in main" => panic!("out of paper"),
                "panic in a task" => {
                    drop(request);
                    let task = async {
                        tokio::task::yield_now().await;
                        panic!("out of paper");
                    };
                    let span = tracing::info_span!(target: "shop", "task");
                    let ended = tokio::spawn(tracing::Instrument::instrument(task, span)).await;
                    assert!(ended.is_err());
                    // The program goes on, and is killed some time later.
                    let patience = std::time::Duration::from_secs(20);
                    node.capture().flush(patience).await.expect("stored");
                    std::process::abort();
                }
                other => unreachable!("{other}"),
            }
        });
    });
    let ended = program.expect("a thread").join();
    std::process::exit(i32::from(ended.is_err()));
}

/// What a program left behind, in order.
fn left(folder: &Path) -> Vec<Event> {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let node = Node::builder().data_dir(folder).without_environment();
        let node = node.start().await.expect("starts");
        let events = node
            .events()
            .query(Query::new())
            .await
            .expect("a query")
            .events;
        node.shutdown().await;
        let of_the_program = |event: &Event| event.source() == "shop" || event.kind() == "panic";
        events.into_iter().filter(of_the_program).collect()
    })
}

fn field<'a>(event: &'a Event, name: &str) -> &'a str {
    let data = event.data().as_map().expect("a map");
    data.get(name).and_then(Value::as_str).expect("text")
}

#[test]
fn a_program_that_panics_to_its_death_leaves_its_last_events_and_the_panic() {
    let folder = tempfile::tempdir().expect("a folder");

    let status = run(folder.path(), "panic in main");

    assert!(!status.success());
    let events = left(folder.path());
    let kinds: Vec<_> = events.iter().map(Event::kind).collect();
    assert_eq!(kinds[..3], ["span.opened", "tracing.info", "panic"]);
    assert_eq!(field(&events[1], "message"), "before the end");
    assert_eq!(field(&events[2], "message"), "out of paper");
    assert_eq!(field(&events[2], "thread"), "main");
    assert!(field(&events[2], "at").contains("tests/capture.rs:"));
    assert_eq!(events[2].correlation(), events[0].correlation());
    assert_eq!(events[2].parent(), Some(events[0].id()));
}

#[test]
fn a_task_that_panics_is_in_the_books_with_the_correlation_it_panicked_in() {
    let folder = tempfile::tempdir().expect("a folder");

    let status = run(folder.path(), "panic in a task");

    assert!(!status.success());
    let events = left(folder.path());
    let panic = events
        .iter()
        .find(|event| event.kind() == "panic")
        .expect("there");
    let task = events
        .iter()
        .find(|event| event.kind() == "span.opened" && field(event, "name") == "task");
    let task = task.expect("there");
    assert_eq!(panic.correlation(), task.correlation());
    assert_eq!(panic.parent(), Some(task.id()));
    assert_eq!(field(panic, "message"), "out of paper");
}
