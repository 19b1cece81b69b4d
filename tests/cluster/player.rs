//! A program with a cluster in it, as a process of its own: this test program, started anew. It does what it is told, a line for each,
//! and says what it sees.

use std::{
    collections::BTreeMap,
    env,
    io::{self, BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::{runtime::Runtime, sync::mpsc, task::JoinSet};
use underpin::{
    cluster::{Cluster, ClusterOptions, Cookie, RemoteError, RemoteService},
    events::Query,
    ids::{NodeId, NodeName},
    node::Node,
    otp::{Address, ChildSpec, Permit, Reply},
    ractor::{Actor, ActorProcessingErr, ActorRef},
};

use crate::scene::{PATIENCE, resident_bytes};

/// Tells the program that it is the program, and how to join.
const PLAYS: &str = "UNDERPIN_CLUSTER_PLAYER";
/// Every line of its own begins so: the frame around tests prints, too.
const MARK: &str = "@ ";

/// How a player joins.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) listen: String,
    pub(crate) advertise: Option<String>,
    pub(crate) join: Vec<String>,
    pub(crate) timeout_ms: u64,
    pub(crate) insecure: bool,
    /// Where its events are, when they are to last.
    pub(crate) data: Option<String>,
    /// Its number, when that is not to be drawn.
    pub(crate) id: Option<u16>,
}

impl Part {
    pub(crate) fn new(name: &str, listen: &str) -> Self {
        Self {
            name: name.to_owned(),
            listen: listen.to_owned(),
            advertise: None,
            join: Vec::new(),
            timeout_ms: 1000,
            insecure: false,
            data: None,
            id: None,
        }
    }

    pub(crate) fn join(mut self, address: &str) -> Self {
        self.join.push(address.to_owned());
        self
    }
}

/// A player, seen from the story.
pub(crate) struct Player {
    process: Child,
    commands: Option<ChildStdin>,
    address: String,
    said: Arc<Said>,
    telling: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Said {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Player {
    pub(crate) fn start(part: &Part) -> Self {
        Self::start_in(&[], part)
    }

    /// Under a command that runs others, such as one that changes where they are.
    pub(crate) fn start_in(before: &[String], part: &Part) -> Self {
        let own = env::current_exe().expect("a test knows where it is");
        let own = own.to_str().expect("UTF-8").to_owned();
        let words = [before, &[own]].concat();
        let mut process = Command::new(&words[0])
            .args(&words[1..])
            .args([
                "--exact",
                "player::the_program",
                "--nocapture",
                "--test-threads=1",
            ])
            .env("RUST_BACKTRACE", "0")
            .env(PLAYS, serde_json::to_string(part).expect("JSON"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let (said, output) = (Arc::new(Said::default()), process.stdout.take());
        let output = output.expect("piped");
        let heard = Arc::clone(&said);
        let telling = thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(words) = line.strip_prefix(MARK) {
                    let mut lines = heard.lines.lock().expect("no panic");
                    lines.push(words.to_owned());
                    heard.more.notify_all();
                }
            }
        });
        let player = Self {
            commands: process.stdin.take(),
            address: part.listen.clone(),
            process,
            said,
            telling: Some(telling),
        };
        player.says("ready", 0);
        player
    }

    /// Tells it what to do, and waits for the answer, which begins with the same word.
    pub(crate) fn asked(&mut self, command: &str) -> String {
        let before = self.all().len();
        self.told(command);
        let word = command.split(' ').next().expect("a word");
        self.says(word, before)
    }

    pub(crate) fn told(&mut self, command: &str) {
        let commands = self.commands.as_mut().expect("it was not ended");
        writeln!(commands, "{command}").expect("it runs");
    }

    /// Waits until it says something that begins with a word; answers the rest of the line.
    #[track_caller]
    pub(crate) fn says(&self, word: &str, behind: usize) -> String {
        let end = Instant::now() + PATIENCE;
        let mut lines = self.said.lines.lock().expect("no panic");
        loop {
            let found = lines[behind..].iter().find_map(|line| {
                let rest = line.strip_prefix(word)?;
                (rest.is_empty() || rest.starts_with(' ')).then(|| rest.trim().to_owned())
            });
            if let Some(rest) = found {
                return rest;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "it never said {word:?}: {:?}", *lines);
            lines = self.said.more.wait_timeout(lines, left).expect("ok").0;
        }
    }

    /// All that it has said.
    pub(crate) fn all(&self) -> Vec<String> {
        self.said.lines.lock().expect("no panic").clone()
    }

    /// What it sees of the others: their state and which run of them it is.
    pub(crate) fn members(&mut self) -> BTreeMap<String, (String, String)> {
        let members = self.asked("members");
        let members = members.split_whitespace().map(|member| {
            let mut parts = member.split(':').map(str::to_owned);
            let mut part = || parts.next().expect("three parts");
            (part(), (part(), part()))
        });
        members.collect()
    }

    pub(crate) fn state(&mut self, name: &str) -> String {
        self.members()
            .remove(name)
            .map_or("unknown".to_owned(), |(state, _)| state)
    }

    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    pub(crate) fn process(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        resident_bytes(self.process.id())
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ran");
        // Its last lines are read when the other end of the pipe is seen.
        if let Some(telling) = self.telling.take() {
            telling.join().expect("no panic");
        }
    }

    /// Ends it as a service manager does: it leaves, and stores what is to be stored.
    pub(crate) fn end(&mut self) {
        drop(self.commands.take());
        self.says("stopped", 0);
        self.process.wait().expect("it ran");
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The service of the players: does what it is asked once for each time it is asked, and says so.
struct Diary;

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Entry {
    /// Said aloud.
    Note(String),
    /// Counted. The number says which in the row it is.
    Row(u64, String),
    Counted,
    /// It falls over it.
    Fall,
}

enum Message {
    Call(Entry, Reply<(u64, u64)>),
    Cast(Entry, Permit),
}
underpin::otp::message!(Message);

impl RemoteService for Diary {
    const NAME: &'static str = "diary";
    type Request = Entry;
    /// How many of a row have come, and which was the last.
    type Response = (u64, u64);
    type Message = Message;

    fn call(request: Entry, reply: Reply<(u64, u64)>) -> Message {
        Message::Call(request, reply)
    }

    fn cast(request: Entry, permit: Permit) -> Option<Message> {
        Some(Message::Cast(request, permit))
    }
}

struct Writer;

impl Actor for Writer {
    type Msg = Message;
    type State = (u64, u64);
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ActorRef<Message>,
        (): (),
    ) -> Result<(u64, u64), ActorProcessingErr> {
        Ok((0, 0))
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        counted: &mut (u64, u64),
    ) -> Result<(), ActorProcessingErr> {
        let (entry, reply, permit) = match message {
            Message::Call(entry, reply) => (entry, Some(reply), None),
            Message::Cast(entry, permit) => (entry, None, Some(permit)),
        };
        match entry {
            Entry::Note(text) => say(&format!("noted {text}")),
            Entry::Row(number, _) => {
                if number <= counted.1 {
                    say(&format!("disorder {number} behind {}", counted.1));
                }
                *counted = (counted.0 + 1, number);
            }
            Entry::Counted => {}
            Entry::Fall => panic!("as it was asked to"),
        }
        if let Some(reply) = reply {
            reply.send(*counted);
        }
        drop(permit);
        Ok(())
    }
}

fn say(words: &str) {
    let mut out = io::stdout().lock();
    // Whoever listened may have gone.
    let _ = writeln!(out, "{MARK}{words}");
    let _ = out.flush();
}

/// The program. Not a story when nobody started it as one.
#[test]
fn the_program() {
    let Some(part) = env::var_os(PLAYS) else {
        return;
    };
    let part: Part = serde_json::from_str(part.to_str().expect("UTF-8")).expect("JSON");
    println!();
    let (tell, commands) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            let _ = tell.send(line);
        }
    });
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(play(part, commands));
}

async fn play(part: Part, mut commands: mpsc::UnboundedReceiver<String>) {
    let timeout = Duration::from_millis(part.timeout_ms);
    let cookie = Cookie::new(crate::scene::COOKIE).expect("long enough");
    let mut options = ClusterOptions::new(cookie)
        .listen(part.listen.parse().expect("an address"))
        .heartbeat(timeout / 4, timeout)
        .reconnect(Duration::from_millis(20), Duration::from_millis(200))
        .greeting(Duration::from_secs(1), 128);
    if let Some(address) = part.advertise {
        options = options.advertise(address);
    }
    if part.insecure {
        options = options.insecure();
    }
    options = part.join.into_iter().fold(options, ClusterOptions::join);
    let builder = Node::builder().name(part.name).without_environment();
    let builder = match part.data {
        Some(folder) => builder.data_dir(folder),
        None => builder.memory(),
    };
    let builder = match part.id {
        Some(id) => builder.node_id(NodeId::new(id).expect("an id")),
        None => builder,
    };
    let diary = Address::new();
    let node = builder
        .cluster(options)
        .child(ChildSpec::actor("diary", &diary, |_| (Writer, ())))
        .start()
        .await
        .expect("it starts");
    let cluster = node.cluster().expect("it is in one").clone();
    cluster.serve::<Diary>(&diary);
    let mut news = cluster.monitor();
    tokio::spawn(async move {
        while let Some(event) = news.next().await {
            say(&format!("news {event:?}"));
        }
    });
    say("ready");
    let hands = Hands {
        rests: Arc::new(AtomicBool::new(false)),
        cluster,
    };
    let mut work = JoinSet::new();
    while let Some(command) = commands.recv().await {
        let words: Vec<&str> = command.split(' ').collect();
        match words[..] {
            ["load", ref others @ ..] => {
                let others = others.iter().map(|other| name(other)).collect::<Vec<_>>();
                work.spawn(store(node.events().clone(), Arc::clone(&hands.rests)));
                work.spawn(hands.clone().call_all(others));
            }
            ["rest"] => {
                hands.rests.store(true, Ordering::SeqCst);
                while work.join_next().await.is_some() {}
                say("rest");
            }
            ["flood", to, bytes] => {
                let bytes = bytes.parse().expect("a number");
                work.spawn(hands.clone().flood(name(to), bytes));
            }
            ["events"] => {
                let mut query = Query::new().limit(1000);
                let mut ids = Vec::new();
                loop {
                    let page = node.events().query(query.clone()).await.expect("it reads");
                    ids.extend(page.events.iter().map(|event| event.id().to_string()));
                    match page.next {
                        Some(next) => query = query.after(next),
                        None => break,
                    }
                }
                say(&format!("events {}", ids.join(" ")));
            }
            _ => hands.does(&words).await,
        }
    }
    hands.rests.store(true, Ordering::SeqCst);
    while work.join_next().await.is_some() {}
    node.shutdown().await;
    say("stopped");
}

fn name(name: &str) -> NodeName {
    NodeName::new(name).expect("a name")
}

/// Events, one after the other; each that was acknowledged is said.
async fn store(events: underpin::events::Events, rests: Arc<AtomicBool>) {
    for number in 0.. {
        if rests.load(Ordering::SeqCst) {
            return;
        }
        let event = events.event("load").data(number).build().expect("an event");
        if let Ok(id) = events.store(event).await {
            say(&format!("stored {id}"));
        }
    }
}

#[derive(Clone)]
struct Hands {
    cluster: Cluster,
    rests: Arc<AtomicBool>,
}

impl Hands {
    async fn does(&self, words: &[&str]) {
        match *words {
            ["members"] => {
                let members = self.cluster.members();
                let members = members.iter().map(|member| {
                    let state = format!("{:?}", member.state).to_lowercase();
                    format!("{}:{state}:{}", member.name, member.incarnation)
                });
                say(&format!(
                    "members {}",
                    members.collect::<Vec<_>>().join(" ")
                ));
            }
            ["call", to, text] => {
                let diary = self.cluster.remote::<Diary>(&name(to));
                let entry = Entry::Note(text.to_owned());
                let answer = diary.call(&entry, Duration::from_secs(5)).await;
                say(&format!("call {}", outcome(answer)));
            }
            ["fall", to] => {
                let diary = self.cluster.remote::<Diary>(&name(to));
                let answer = diary.call(&Entry::Fall, Duration::from_secs(5)).await;
                say(&format!("fall {}", outcome(answer)));
            }
            ["long", to, bytes] => {
                let diary = self.cluster.remote::<Diary>(&name(to));
                let text = "x".repeat(bytes.parse().expect("a number"));
                let answer = diary.call(&Entry::Note(text), Duration::from_secs(5)).await;
                say(&format!("long {}", outcome(answer)));
            }
            ["row", to, from, until] => {
                let diary = self.cluster.remote::<Diary>(&name(to));
                let mut sent = 0;
                for number in from.parse().expect("a number")..until.parse().expect("a number") {
                    sent += u64::from(diary.cast(&Entry::Row(number, String::new())).await.is_ok());
                }
                say(&format!("row {sent}"));
            }
            ["counted", of] => {
                let diary = self.cluster.remote::<Diary>(&name(of));
                let answer = diary.call(&Entry::Counted, Duration::from_secs(5)).await;
                let (count, last) = answer.unwrap_or_default();
                say(&format!("counted {count} {last}"));
            }
            ["flow", to] => {
                let member = self.cluster.member(&name(to));
                let flow = member.and_then(|member| member.connection);
                let flow = flow.map_or((0, 0, 0), |flow| {
                    (
                        flow.messages_sent,
                        flow.in_flight_bytes,
                        flow.backlog_bytes as u64,
                    )
                });
                say(&format!("flow {} {} {}", flow.0, flow.1, flow.2));
            }
            ["failures"] => {
                let failures = self.cluster.failures().into_iter();
                let failures = failures.map(|(_, error)| error.to_string());
                say(&format!(
                    "failures {}",
                    failures.collect::<Vec<_>>().join("; ")
                ));
            }
            _ => panic!("nobody does {words:?}"),
        }
    }

    /// Calls the others in turn, each with a text of its own; says before and after it.
    async fn call_all(self, others: Vec<NodeName>) {
        let me = self.cluster.name().clone();
        let run = self.cluster.incarnation();
        for number in 0.. {
            if self.rests.load(Ordering::SeqCst) {
                return;
            }
            let to = &others[number % others.len()];
            let text = format!("{me}-{run}-{number}");
            let diary = self.cluster.remote::<Diary>(to);
            let entry = Entry::Note(text.clone());
            let answer = diary.call(&entry, Duration::from_secs(5)).await;
            say(&format!("called {text} {}", outcome(answer)));
            if self.cluster.connected() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// Casts as fast as they are taken.
    async fn flood(self, to: NodeName, bytes: usize) {
        let diary = self.cluster.remote::<Diary>(&to);
        let text = "x".repeat(bytes);
        let mut sent = 0_u64;
        while !self.rests.load(Ordering::SeqCst) {
            let row = Entry::Row(sent + 1, text.clone());
            // So that a rest is seen while there is no credit.
            let cast = tokio::time::timeout(Duration::from_millis(50), diary.cast(&row)).await;
            sent += u64::from(matches!(cast, Ok(Ok(()))));
        }
        say(&format!("flooded {sent}"));
    }
}

/// In one word: it ran, it did not, or nobody knows.
fn outcome<T>(answer: Result<T, RemoteError>) -> String {
    match answer {
        Ok(_) => "ok".to_owned(),
        Err(error) if error.may_have_run() => format!("unknown {error}"),
        Err(RemoteError::NoConnection { .. }) => "no connection".to_owned(),
        Err(error) => format!("no {error}"),
    }
}
