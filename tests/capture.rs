//! Programs that end badly, each a process of its own: what led there is on the disk.
#![cfg(feature = "capture")]

#[cfg(feature = "cli")]
mod ready;

use std::{
    collections::BTreeSet,
    env,
    path::Path,
    process::{Command, ExitStatus, Stdio},
    sync::Mutex,
};

use tracing_subscriber::{layer::Context, prelude::*};
use underpin::{
    events::{Event, Query},
    node::Node,
    otp::{Address, ChildSpec, Reply},
    ractor::{Actor, ActorProcessingErr, ActorRef},
    telemetry::EventName,
    testing::{Life, eventually},
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
            let till = Address::new();
            let fragile = ChildSpec::actor("till", &till, |_| (Fragile, ()));
            let node = Node::builder().data_dir(folder).without_environment();
            let node = node.child(fragile).start().await.expect("starts");
            tracing_subscriber::registry()
                .with(node.capture().layer())
                .with(Heard)
                .init();
            node.capture().install_panic_hook();
            // By somebody who does not know of the first time.
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
                "everything is traced" => {
                    drop(request);
                    crate::traces_everything(&node).await;
                    node.shutdown().await;
                }
                "a request goes wrong" => {
                    drop(request);
                    let span = tracing::info_span!(target: "shop", "order");
                    let order = goes_wrong(&node, &till);
                    tracing::Instrument::instrument(order, span).await;
                    let restarted = async || {
                        let restarted = Query::new().kind("otp.restarted");
                        node.events()
                            .count(restarted)
                            .await
                            .is_ok_and(|count| count == 1)
                    };
                    eventually("the till is back", restarted).await;
                    node.shutdown().await;
                }
                "its threads end late" => {
                    drop(request);
                    let thread = std::thread::spawn(|| {
                        LATE.with(|_| tracing::info!(target: "shop", "it will end"));
                    });
                    thread.join().expect("ends");
                    let capture = node.capture().clone();
                    node.shutdown().await;
                    let before = capture.stats().dropped;
                    // It goes on without its node.
                    tracing::info!(target: "shop", "to nobody");
                    assert_eq!(capture.stats().dropped, before + 1);
                }
                other => unreachable!("{other}"),
            }
        });
    });
    let ended = program.expect("a thread").join();
    std::process::exit(i32::from(ended.is_err()));
}

/// An actor that a request ends.
struct Fragile;

struct Charge(Reply<()>);
underpin::otp::message!(Charge);

impl Actor for Fragile {
    type Msg = Charge;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Charge>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Charge>,
        Charge(reply): Charge,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        reply
            .context()
            .scope(async { panic!("out of paper") })
            .await
    }
}

static SOLD: EventName = EventName::from_static(&["shop", "sold"]);

/// A request that changes a setting, meets a handler of telemetry that fails, and crashes an actor.
async fn goes_wrong(node: &Node, till: &Address<Charge>) {
    let changed = node.config().update("app.discount", 20_u64).await;
    changed.expect("valid");
    let telemetry = node.telemetry();
    let attached = telemetry.attach("ledger", &SOLD, (), |_, ()| panic!("no ledger"));
    attached.expect("nobody has this id");
    telemetry.execute(&SOLD, &[], &[]);
    let patience = std::time::Duration::from_secs(20);
    assert!(till.call(Charge, patience).await.is_err());
}

/// Says something when the thread ends, after most of what belongs to the thread has gone.
struct Late;

thread_local! {
    static LATE: Late = const { Late };
}

impl Drop for Late {
    fn drop(&mut self) {
        let _late = tracing::info_span!(target: "shop", "late").entered();
        tracing::info!(target: "shop", "the thread ends");
    }
}

/// Hears what underpin itself says, and on how many threads.
struct Heard;

static HEARD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Heard {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target().starts_with("underpin") {
            let thread = format!("{:?}", std::thread::current().id());
            HEARD.lock().expect("nobody panics here").insert(thread);
        }
    }
}

/// Has the node's parts talk of themselves, on threads of their own, to a subscriber that hears everything.
async fn traces_everything(node: &Node) {
    let capture = node.capture();
    capture.set_filter("trace").expect("a filter");
    let patience = std::time::Duration::from_secs(20);
    for killed in ["node/events", "node/config", "node/telemetry"] {
        Life::of(node.supervisor(), killed).kill().restarted().await;
        tracing::info!(target: "shop", killed);
        node.telemetry().refresh(patience).await.expect("answers");
    }
    capture.flush(patience).await.expect("stored");
    assert!(
        HEARD.lock().expect("nobody panics here").len() > 1,
        "several threads had something to say"
    );
    let query = Query::new().limit(100_000);
    let events = node.events().query(query).await.expect("a query").events;
    let captured = events
        .iter()
        .filter(|event| event.kind().starts_with("tracing.") || event.kind().starts_with("span."));
    let sources: BTreeSet<_> = captured.map(Event::source).collect();
    assert!(sources.contains("shop"), "{sources:?}");
    let own = |source: &&str| source.starts_with("underpin");
    assert!(!sources.iter().any(own), "{sources:?}");
    // Storing what was captured is nothing to capture: it comes to an end.
    let before = capture.stats().captured;
    for _ in 0..10 {
        tracing::info!(target: "shop", "still there");
        capture.flush(patience).await.expect("stored");
    }
    let after = capture.stats().captured;
    assert_eq!(after, before + 10, "{sources:?}");
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
    assert!(!kinds[3..].contains(&"panic"), "{kinds:?}");
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

#[test]
fn a_program_that_traces_everything_captures_nothing_of_underpins_own_and_nothing_of_the_storing() {
    let folder = tempfile::tempdir().expect("a folder");

    let status = run(folder.path(), "everything is traced");

    assert!(status.success());
    let events = left(folder.path());
    let killed = |event: &&Event| event.kind() == "tracing.info";
    assert!(events.iter().filter(killed).count() >= 13);
}

#[test]
fn what_a_program_says_while_its_threads_end_is_captured_and_what_it_says_after_its_node_is_counted()
 {
    let folder = tempfile::tempdir().expect("a folder");

    let status = run(folder.path(), "its threads end late");

    assert!(status.success());
    let events = left(folder.path());
    let said = events.iter().filter(|event| event.kind() == "tracing.info");
    let said: Vec<_> = said.map(|event| field(event, "message")).collect();
    assert_eq!(said, ["before the end", "it will end", "the thread ends"]);
}

#[cfg(feature = "cli")]
#[test]
fn a_change_of_settings_an_alarm_and_a_crash_are_found_with_the_request_that_caused_them() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(run(folder.path(), "a request goes wrong").success());
    let mut node = Command::new(env!("CARGO_BIN_EXE_underpin"))
        .args(["run", "--http", "127.0.0.1:0", "--data"])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let url = ready::url(&mut node);
    let query = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_underpin"))
            .args(["events", "query", "--node", &url])
            .args(arguments)
            .output()
            .expect("runs");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let json = |line: &String| serde_json::from_str::<serde_json::Value>(line).expect("JSON");

    let order = query(&["kind=span.opened data.name=order", "--json"]);
    let order = json(&order[0]);
    let correlation = order["correlation"].as_str().expect("a trace");
    let events = query(&["--correlation", correlation, "--json"]);
    let tree = query(&["--correlation", correlation, "--tree"]);

    let events: Vec<_> = events.iter().map(json).collect();
    let of = |kind: &str| {
        let mut found = events.iter().filter(|event| event["kind"] == kind);
        let one = found
            .next()
            .unwrap_or_else(|| panic!("no {kind}: {events:#?}"));
        assert!(
            found.next().is_none() || kind == "panic",
            "{kind} is there twice"
        );
        one
    };
    for caused in [
        "config_updated",
        "telemetry.handler_failure",
        "otp.exited",
        "panic",
    ] {
        assert_eq!(of(caused)["parent"], order["id"], "{caused}");
    }
    assert_eq!(of("otp.restarted")["parent"], of("otp.exited")["id"]);
    assert_eq!(of("config_updated")["data"]["changes"][0]["new_value"], 20);
    assert_eq!(
        of("telemetry.handler_failure")["data"]["reason"],
        "no ledger"
    );
    assert_eq!(of("otp.exited")["data"]["reason"], "panic: out of paper");
    let depth = |kind: &str| {
        let row = tree.iter().find(|row| row.contains(kind));
        let row = row.unwrap_or_else(|| panic!("no {kind}: {tree:#?}"));
        row.find(kind)
    };
    assert!(depth("span.opened") < depth("config_updated"), "{tree:#?}");
    assert!(depth("otp.exited") < depth("otp.restarted"), "{tree:#?}");
    node.kill().expect("it runs");
    node.wait().expect("it ran");
}
