//! What was acknowledged is there after `kill -9`: real processes, killed while they write, again and again in one folder.
//!
//! `UNDERPIN_KILLS=100 cargo test --test kill` kills each of them a hundred times.

#[cfg(feature = "cli")]
mod ready;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::{self, BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use underpin::{
    events::{Event, EventDraft, Events, Query, Timestamp},
    ids::EventId,
    node::{Health, Node},
};

/// Tells the writing story that it is the child, and where to write.
const FOLDER: &str = "UNDERPIN_KILL_FOLDER";
/// Tells the child which of the parent's rounds this is.
const ROUND: &str = "UNDERPIN_KILL_ROUND";
/// Tells the child how durable its events are to be.
const DURABILITY: &str = "UNDERPIN_KILL_DURABILITY";
/// Small, so that kills also meet a log that goes on to its next segment.
const SEGMENTS: &str = "underpin.events.segment_bytes=65536";

fn rounds(default: u32) -> u32 {
    match env::var("UNDERPIN_KILLS") {
        Ok(rounds) => rounds.parse().expect("UNDERPIN_KILLS is a number"),
        Err(_) => default,
    }
}

/// Where an event stands among all that are written; everything else in it follows from this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Mark {
    round: u32,
    writer: u32,
    request: u32,
    line: u32,
    /// How many events were sent with it, which are there together or not at all.
    lines: u32,
}

impl Mark {
    fn request(round: u32, writer: u32, request: u32, lines: u32) -> impl Iterator<Item = Self> {
        (0..lines).map(move |line| Self {
            round,
            writer,
            request,
            line,
            lines,
        })
    }

    /// The event of this place as the interface takes it.
    fn content(self, id: Option<&str>) -> Json {
        let Self {
            round,
            writer,
            request,
            line,
            ..
        } = self;
        // One writer has large events, the writes of which are the likeliest to be cut in two.
        let size = if writer == 3 { 4000 } else { request % 200 };
        let text: String = (0..size)
            .map(|n| char::from(b'a' + ((n + request + line) % 26) as u8))
            .collect();
        let nanos = u64::from(request) * 1000 + u64::from(line);
        let mut event = json!({
            "kind": format!("written.{}", line % 3),
            "time": format!("2026-01-02T03:04:05.{nanos:08}1Z"),
            "source": format!("writer-{writer}"),
            "correlation": format!("request-{round}-{writer}-{request}"),
            "data": { "mark": self, "text": text },
        });
        if let Some(id) = id {
            event["id"] = id.into();
        }
        event
    }

    fn of(event: &Json) -> Self {
        let mark = event["data"]["mark"].clone();
        serde_json::from_value(mark).unwrap_or_else(|_| panic!("nobody wrote {event}"))
    }
}

/// What has to be there: by id, the place of each event.
#[derive(Default)]
struct Ledger {
    kept: BTreeMap<String, Mark>,
    acknowledged: usize,
}

impl Ledger {
    fn acknowledge(&mut self, id: &str, mark: Mark) {
        self.acknowledged += 1;
        let before = self.kept.insert(id.to_owned(), mark);
        assert_eq!(before, None, "the id {id} was given twice");
    }

    /// Holds all that is there after a kill in this round against what was acknowledged in this one and all before.
    fn check(&mut self, round: u32, there: &[Json]) {
        let mut found = BTreeMap::new();
        let mut marks = BTreeSet::new();
        let mut together: BTreeMap<_, u32> = BTreeMap::new();
        // What a node notes of its own health is not what its callers wrote.
        for event in there.iter().filter(|event| event["kind"] != "node.health") {
            let (id, mark) = (id_of(event), Mark::of(event));
            assert_exactly(event, &id, mark);
            assert!(marks.insert(mark), "{mark:?} is there twice");
            assert_eq!(found.insert(id, mark), None, "two events of one id");
            *together
                .entry((mark.round, mark.writer, mark.request, mark.lines))
                .or_default() += 1;
        }

        for (id, mark) in &self.kept {
            assert_eq!(
                found.get(id),
                Some(mark),
                "{id} was acknowledged and is lost"
            );
        }
        for ((round, writer, request, lines), count) in together {
            assert_eq!(
                count, lines,
                "request {request} of writer {writer} in round {round} is there in part"
            );
        }
        for (id, mark) in &found {
            let known = self.kept.contains_key(id);
            assert!(known || mark.round == round, "{mark:?} came back");
        }

        // What nobody was told of, and is there, is there to stay.
        self.kept = found;
    }
}

fn id_of(event: &Json) -> String {
    event["id"].as_str().expect("an id").to_owned()
}

/// That an event is what was sent, to the last byte.
fn assert_exactly(event: &Json, id: &str, mark: Mark) {
    let mut event = event.clone();
    let fields = event.as_object_mut().expect("an event is an object");
    fields.remove("version");
    let node = fields.remove("node");
    assert!(node.is_some_and(|node| node.is_u64()));
    assert_eq!(event, mark.content(Some(id)));
}

/// A process that is killed when it goes out of scope, if not before.
struct Victim(Child);

impl Victim {
    /// SIGKILL: nothing in the process gets to run any more.
    fn kill(&mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it ran");
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The child's part of the next story; in a run of the tests it has nothing to do.
#[test]
fn told_where_to_write_a_process_writes_until_it_is_killed() {
    let Some(folder) = env::var_os(FOLDER) else {
        return;
    };
    let told = |name| env::var(name).expect("the parent says it");
    let round = told(ROUND).parse().expect("a number");
    let setting = format!("underpin.events.durability={}", told(DURABILITY));

    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let node = Node::builder().data_dir(folder).set(setting).set(SEGMENTS);
        let node = node.start().await.expect("it starts on what is there");
        let writers = (0..4).map(|writer| {
            let events = node.events().clone();
            tokio::spawn(async move {
                for request in 0.. {
                    say(&write(&events, round, writer, request).await);
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.expect("writers go on until the kill");
        }
    });
}

/// Stores one request, each writer in its own way, and answers what was acknowledged.
async fn write(events: &Events, round: u32, writer: u32, request: u32) -> Vec<(EventId, Mark)> {
    let event_of = |mark: Mark| {
        let draft: EventDraft = serde_json::from_value(mark.content(None)).expect("an event");
        let event: Event = draft
            .into_event(events.ids().next(), Timestamp::now())
            .expect("a good one");
        (event, mark)
    };
    match writer {
        // Hands three over without waiting, and stores a fourth: once that one is acknowledged, all before it are safe.
        2 => {
            let made: Vec<_> = (0..4)
                .flat_map(|n| Mark::request(round, writer, request * 4 + n, 1))
                .map(event_of)
                .collect();
            for (event, _) in &made[..3] {
                events.try_store(event).expect("there is room");
            }
            let last = made[3].0.clone();
            events.store(last).await.expect("the store is up");
            made.iter()
                .map(|(event, mark)| (event.id(), *mark))
                .collect()
        }
        1 | 3 => {
            let lines = request * 7 % 20 + 1;
            let marks = Mark::request(round, writer, request, lines);
            let (batch, marks): (Vec<_>, Vec<_>) = marks.map(event_of).unzip();
            let ids = events.store_batch(batch).await.expect("the store is up");
            ids.into_iter().zip(marks).collect()
        }
        _ => {
            let (event, mark) = Mark::request(round, writer, request, 1)
                .map(event_of)
                .next()
                .expect("one");
            let id = events.store(event).await.expect("the store is up");
            vec![(id, mark)]
        }
    }
}

/// A line for what was acknowledged at once; it is with the parent before anything else happens here.
fn say(stored: &[(EventId, Mark)]) {
    let stored: Vec<_> = stored
        .iter()
        .map(|(id, mark)| json!([id, mark.writer, mark.request, mark.line, mark.lines]))
        .collect();
    let line = format!("\nstored {}\n", Json::from(stored));
    let mut parent = io::stdout().lock();
    parent
        .write_all(line.as_bytes())
        .and_then(|()| parent.flush())
        .expect("the parent listens");
}

/// Lets a child write, kills it after that many lines, and learns all that it was told.
fn write_and_kill(folder: &Path, round: u32, durability: &str, lines: usize, ledger: &mut Ledger) {
    let child = Command::new(env::current_exe().expect("this program"))
        .args(["--exact", "--quiet", "--test-threads=1"])
        .arg("told_where_to_write_a_process_writes_until_it_is_killed")
        .env(FOLDER, folder)
        .env(ROUND, round.to_string())
        .env(DURABILITY, durability)
        .stdout(Stdio::piped())
        .spawn();
    let mut child = Victim(child.expect("this program starts"));
    let mut said = BufReader::new(child.0.stdout.take().expect("piped"));

    let mut heard = 0;
    let mut line = String::new();
    // What it said before it died is read to the end; a line without its end was not said.
    while said.read_line(&mut line).expect("text") > 0 && line.ends_with('\n') {
        if let Some(stored) = line.strip_prefix("stored ") {
            let stored: Vec<(String, u32, u32, u32, u32)> =
                serde_json::from_str(stored).expect("a line of ours");
            for (id, writer, request, line, lines) in stored {
                let mark = Mark {
                    round,
                    writer,
                    request,
                    line,
                    lines,
                };
                ledger.acknowledge(&id, mark);
            }
            heard += 1;
            if heard == lines {
                child.kill();
            }
        }
        line.clear();
    }
    assert!(heard >= lines, "it ended by itself after {heard} lines");
}

#[test]
fn what_the_library_acknowledged_outlives_any_number_of_kills_as_its_durability_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut ledger = Ledger::default();

    for round in 1..=rounds(9) {
        let durability = ["always", "interval", "memory"][round as usize % 3];
        let newest = highest(&ledger);
        let before = ledger.kept.clone();
        let lines = fastrand::usize(1..200);
        // In memory events end with their process, and what the folder has is left alone.
        let (mut lost, in_memory) = (Ledger::default(), durability == "memory");
        let acknowledged = if in_memory { &mut lost } else { &mut ledger };
        write_and_kill(folder.path(), round, durability, lines, acknowledged);
        for (id, mark) in &ledger.kept {
            let later = id.parse::<u64>().expect("a number") > newest;
            assert!(
                later || before.contains_key(id),
                "{mark:?} was given an id of a life before"
            );
        }

        runtime.block_on(async {
            let node = Node::builder().data_dir(folder.path()).set(SEGMENTS);
            let node = node.start().await.expect("it starts on what is there");
            let Health {
                health, reasons, ..
            } = node.health();
            assert_eq!(json!(health), "healthy", "{reasons:?}");
            let stats = node.events().stats();
            assert_eq!((stats.opened.gaps.len(), stats.unreadable), (0, 0));

            let new = ledger.kept.iter().filter(|(_, mark)| mark.round == round);
            for (id, mark) in new {
                let asked = node.events().get(id.parse().expect("an id")).await;
                let event = asked.expect("it can be read").expect("it is there");
                assert_exactly(&json!(event), id, *mark);
            }
            // By writer, because the node notes for itself that its settings are others than in its last life.
            let mut there = Vec::new();
            for writer in 0..4 {
                let of_writer = Query::new().source(format!("writer-{writer}"));
                let count = node.events().count(of_writer.clone()).await;
                let page = node.events().query(of_writer.limit(Query::LIMIT_MAX)).await;
                let events = page.expect("a page").events;
                assert_eq!(count.expect("a number"), events.len() as u64);
                there.extend(events.iter().map(|event| json!(event)));
            }
            assert!(stats.events >= there.len() as u64);
            let of_this_round = |event: &Json| Mark::of(event).round == round;
            assert!(!in_memory || !there.iter().any(of_this_round));
            ledger.check(round, &there);
            node.shutdown().await;
        });
    }
    println!(
        "{} acknowledged, {} kept",
        ledger.acknowledged,
        ledger.kept.len()
    );
}

fn highest(ledger: &Ledger) -> u64 {
    let ids = ledger.kept.keys();
    ids.map(|id| id.parse().expect("a number"))
        .max()
        .unwrap_or_default()
}

#[cfg(feature = "cli")]
mod over_http {
    use std::{
        sync::{
            atomic::{AtomicBool, Ordering},
            mpsc,
        },
        thread,
        time::{Duration, Instant},
    };

    use super::*;

    /// A node is ready in a fraction of a second; this is for a machine with too much to do.
    const SOON: Duration = Duration::from_secs(10);

    /// A node of the `underpin` command.
    struct Served {
        process: Victim,
        url: String,
    }

    impl Served {
        fn start(folder: &Path, durability: &str) -> Self {
            let began = Instant::now();
            let process = Command::new(env!("CARGO_BIN_EXE_underpin"))
                .args(["run", "--http", "127.0.0.1:0", "--set", SEGMENTS, "--set"])
                .arg(format!("underpin.events.durability={durability}"))
                .arg("--data")
                .arg(folder)
                .env("RUST_LOG", "error")
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn();
            let mut process = Victim(process.expect("the binary starts"));
            let url = ready::url(&mut process.0);
            let took = began.elapsed();
            assert!(took < SOON, "ready only after {took:?}");
            Self { process, url }
        }
    }

    /// One connection to a node.
    struct Client {
        agent: ureq::Agent,
        api: String,
    }

    impl Client {
        fn of(url: &str) -> Self {
            let config = ureq::Agent::config_builder()
                .http_status_as_error(false)
                .build();
            Self {
                agent: config.into(),
                api: format!("{url}/api/v1/"),
            }
        }

        fn text(&self, path: &str) -> String {
            let answer = self.agent.get(format!("{}{path}", self.api)).call();
            let mut answer = answer.expect("the node answers");
            let text = answer.body_mut().with_config().limit(1 << 30);
            let text = text.read_to_string().expect("text");
            assert_eq!(answer.status(), 200, "{path}: {text}");
            text
        }

        fn get(&self, path: &str) -> Json {
            serde_json::from_str(&self.text(path)).expect("JSON")
        }

        /// That the node is as well as ever, and how many events it has. A torn tail is told and no illness.
        fn count(&self) -> u64 {
            let status = self.get("status");
            assert_eq!(status["health"], "healthy", "{status}");
            assert_eq!(status["ready"], true, "{status}");
            let events = &status["events"];
            assert_eq!(events["gaps"], json!([]), "{status}");
            assert_eq!(events["unreadable"], 0, "{status}");
            events["count"].as_u64().expect("a number")
        }

        fn all(&self) -> Vec<Json> {
            let text = self.text("events?limit=100000");
            let lines = text.lines();
            lines
                .map(|line| serde_json::from_str(line).expect("JSON"))
                .collect()
        }

        /// `None` if the node went away; any answer of it that is not a success ends the story.
        fn post(&self, path: &str, media_type: &str, body: &str) -> Option<Json> {
            let request = self.agent.post(format!("{}{path}", self.api));
            let request = request.header("content-type", media_type);
            let mut answer = request.send(body).ok()?;
            let text = answer.body_mut().read_to_string().ok()?;
            assert!(answer.status().is_success(), "{path}: {text}");
            serde_json::from_str(&text).ok()
        }

        fn reserve(&self, count: u32) -> Option<Vec<String>> {
            let answer = self.post(
                "ids",
                "application/json",
                &json!({ "count": count }).to_string(),
            )?;
            serde_json::from_value(answer["ids"].clone()).ok()
        }

        /// Stores one event, to which the node gives its id.
        fn store(&self, mark: Mark) -> Option<String> {
            let event = mark.content(None).to_string();
            let answer = self.post("events", "application/json", &event)?;
            Some(id_of(&answer))
        }

        /// Stores a batch under its own ids and answers how many of it are new, and how many were there.
        fn store_batch(&self, batch: &[(String, Mark)]) -> Option<(usize, usize)> {
            let lines: String = batch
                .iter()
                .map(|(id, mark)| format!("{}\n", mark.content(Some(id))))
                .collect();
            let answer = self.post("events", "application/x-ndjson", &lines)?;
            assert_eq!(answer["refusals"], 0, "{answer}");
            let number = |name: &str| {
                let number = answer[name].as_u64().expect("a number");
                usize::try_from(number).expect("a small one")
            };
            Some((number("stored"), number("duplicates")))
        }
    }

    /// What a writer was told before the node went away, and what it was not.
    #[derive(Default)]
    struct Written {
        acknowledged: Vec<(String, Mark)>,
        unanswered: Vec<(String, Mark)>,
    }

    /// Writes until the node goes away: single events, or batches of some.
    fn write(client: &Client, round: u32, writer: u32, told: &mpsc::Sender<()>) -> Written {
        let mut written = Written::default();
        for request in 0.. {
            if writer < 2 {
                let mark = Mark::request(round, writer, request, 1)
                    .next()
                    .expect("one");
                let Some(id) = client.store(mark) else { break };
                written.acknowledged.push((id, mark));
            } else {
                let lines = request * 7 % 20 + 1;
                let Some(ids) = client.reserve(lines) else {
                    break;
                };
                let marks = Mark::request(round, writer, request, lines);
                let batch: Vec<_> = ids.into_iter().zip(marks).collect();
                let Some(outcome) = client.store_batch(&batch) else {
                    written.unanswered = batch;
                    break;
                };
                assert_eq!(outcome, (batch.len(), 0));
                written.acknowledged.extend(batch);
            }
            // Nobody listens any more once the kill has been decided.
            let _ = told.send(());
        }
        written
    }

    /// Four writers at once, and the kill after that many acknowledgements of them together.
    fn write_and_kill(node: &mut Served, round: u32, acknowledgements: usize) -> Vec<Written> {
        let killed = &AtomicBool::new(false);
        let (told, tells) = mpsc::channel();
        let url = node.url.clone();
        thread::scope(|threads| {
            let writers: Vec<_> = (0..4)
                .map(|writer| {
                    let (told, url) = (told.clone(), &url);
                    threads.spawn(move || {
                        let written = write(&Client::of(url), round, writer, &told);
                        assert!(killed.load(Ordering::SeqCst), "the node went by itself");
                        written
                    })
                })
                .collect();
            drop(told);
            for _ in 0..acknowledgements {
                tells.recv().expect("the writers go on");
            }
            killed.store(true, Ordering::SeqCst);
            node.process.kill();
            writers
                .into_iter()
                .map(|writer| writer.join().expect("a good story"))
                .collect()
        })
    }

    /// A client that was not told sends its batch again, and it is there once.
    fn send_again(client: &Client, batch: &[(String, Mark)], ledger: &mut Ledger) {
        let there = batch
            .iter()
            .filter(|(id, _)| ledger.kept.contains_key(id))
            .count();
        let outcome = client.store_batch(batch).expect("the node is up");
        assert_eq!(outcome, (batch.len() - there, there));
        ledger.kept.extend(batch.iter().cloned());
    }

    fn kill_again_and_again(durability: &str, rounds: u32) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut ledger = Ledger::default();
        let mut node = Served::start(folder.path(), durability);
        let mut torn = 0;

        for round in 1..=rounds {
            let written = write_and_kill(&mut node, round, fastrand::usize(1..100));
            node = Served::start(folder.path(), durability);

            let client = Client::of(&node.url);
            let (acknowledged, unanswered): (Vec<_>, Vec<_>) = written
                .into_iter()
                .map(|written| (written.acknowledged, written.unanswered))
                .unzip();
            for (id, mark) in acknowledged.into_iter().flatten() {
                assert_exactly(&client.get(&format!("events/{id}")), &id, mark);
                ledger.acknowledge(&id, mark);
            }
            let there = client.all();
            ledger.check(round, &there);
            assert_eq!(client.count(), there.len() as u64);
            torn += u32::from(!client.get("status")["events"]["torn"].is_null());

            for batch in unanswered.iter().filter(|batch| !batch.is_empty()) {
                send_again(&client, batch, &mut ledger);
            }
            assert_eq!(client.count(), ledger.kept.len() as u64);
        }
        println!(
            "{rounds} kills, {} acknowledged, {} kept, {torn} torn tails",
            ledger.acknowledged,
            ledger.kept.len()
        );
    }

    #[test]
    fn what_was_acknowledged_over_http_outlives_any_number_of_kills() {
        kill_again_and_again("always", rounds(10));
    }

    #[test]
    fn what_the_system_has_and_the_disk_not_yet_outlives_any_number_of_kills() {
        kill_again_and_again("interval", rounds(5));
    }
}
