//! What users of a node can rely on when something fails: the part that failed comes back, and the others do not notice.
//!
//! The times here are short; `UNDERPIN_STORY_SECONDS` says how long the stories that watch a fault watch it.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tokio::time::timeout;
use underpin::{
    events::{Disk, DiskFile, DiskLock, Event, Folder, Query, StoreError},
    node::{Health, HealthStatus, Node, NodeBuilder},
    otp::{Address, BoxError, ChildSpec, ChildState, Restart},
    ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef},
    value::Value,
};

/// Above what a busy machine needs for anything here.
const LONG: Duration = Duration::from_secs(30);
const SERVICES: [&str; 3] = ["node/telemetry", "node/events", "node/config"];

/// How long a fault is watched.
fn a_while() -> Duration {
    let seconds = std::env::var("UNDERPIN_STORY_SECONDS").ok();
    let seconds = seconds.and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(2))
}

fn in_folder(folder: &Path) -> NodeBuilder {
    Node::builder().data_dir(folder).without_environment()
}

fn event(node: &Node, kind: &str) -> Event {
    let event = node.events().event(kind).data(Value::from("x"));
    event.build().expect("valid")
}

async fn count(node: &Node, kind: &str) -> u64 {
    let count = node.events().count(Query::new().kind(kind)).await;
    count.expect("counts")
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !holds().await {
        assert!(begin.elapsed() < LONG, "{what} did not happen");
        tokio::task::yield_now().await;
    }
}

fn incarnations(node: &Node) -> BTreeMap<String, u64> {
    let tree = node.tree().expect("runs");
    let life = |child: &underpin::otp::Tree| (child.path.to_string(), child.incarnation);
    tree.walk().map(life).collect()
}

fn says(health: &Health, part: &str, words: &str) -> bool {
    let told =
        |reason: &underpin::node::Reason| &*reason.part == part && reason.reason.contains(words);
    health.health == HealthStatus::Degraded && health.reasons.iter().any(told)
}

/// A folder that can be full, and whose syncs can hang.
#[derive(Debug, Clone)]
pub(crate) struct Moody {
    folder: Folder,
    mood: Arc<Mood>,
}

#[derive(Debug, Default)]
struct Mood {
    full: AtomicBool,
    stuck: Mutex<bool>,
    changed: Condvar,
    /// A sync hangs.
    hangs: AtomicBool,
}

impl Moody {
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            folder: Folder::new(folder.join("events")),
            mood: Arc::default(),
        }
    }

    fn set_full(&self, full: bool) {
        self.mood.full.store(full, SeqCst);
    }

    pub(crate) fn set_stuck(&self, stuck: bool) {
        *self.mood.stuck.lock() = stuck;
        self.mood.changed.notify_all();
    }

    fn file(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(MoodyFile {
            file,
            mood: Arc::clone(&self.mood),
        })
    }
}

impl Drop for Moody {
    /// Nothing hangs beyond its story, also when that fails.
    fn drop(&mut self) {
        if Arc::strong_count(&self.mood) <= 2 {
            self.set_stuck(false);
        }
    }
}

impl Disk for Moody {
    fn lock(&self) -> io::Result<Box<dyn DiskLock>> {
        self.folder.lock()
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.folder.list()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(self.folder.open(name)?))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        if self.mood.full.load(SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(self.file(self.folder.create(name)?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.folder.remove(name)
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.folder.sync_folder()
    }
}

#[derive(Debug)]
struct MoodyFile {
    file: Arc<dyn DiskFile>,
    mood: Arc<Mood>,
}

impl DiskFile for MoodyFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.mood.full.load(SeqCst) {
            // As much as still fits, as a real one does it.
            self.file.write_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_at(bytes, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn sync(&self) -> io::Result<()> {
        let mut stuck = self.mood.stuck.lock();
        while *stuck {
            self.mood.hangs.store(true, SeqCst);
            self.mood.changed.wait(&mut stuck);
        }
        drop(stuck);
        self.file.sync()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
}

// Killed services.

/// Kills a service; answers how long it took until it ran again.
async fn kill(node: &Node, path: &str, actor: ActorCell) -> Duration {
    let before = incarnations(node)[path];
    let begin = Instant::now();
    actor.kill();
    eventually("a restart", async || {
        let tree = node.tree().expect("runs");
        let child = tree.find(path).expect("is there");
        child.incarnation > before && child.state == ChildState::Running
    })
    .await;
    begin.elapsed()
}

async fn the_actor(node: &Node, path: &str) -> ActorCell {
    let begin = Instant::now();
    loop {
        let actor = match path {
            "node/telemetry" => node.telemetry().actor(),
            "node/events" => node.events().actor(),
            _ => node.config().actor(),
        };
        if let Some(actor) = actor {
            return actor;
        }
        assert!(begin.elapsed() < LONG, "{path} is not there");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f103_each_service_can_be_killed_ten_times_in_a_row() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = in_folder(folder.path()).start().await.expect("starts");
    for killed in SERVICES {
        let (mut fastest, mut slowest) = (Duration::MAX, Duration::ZERO);
        let mut expected = incarnations(&node);
        for round in 0..10 {
            let took = kill(&node, killed, the_actor(&node, killed).await).await;
            (fastest, slowest) = (fastest.min(took), slowest.max(took));

            let kind = format!("{killed}/{round}");
            let id = node.events().store(event(&node, &kind)).await;
            let found = node.events().get(id.expect("stores")).await;
            assert!(found.expect("reads").is_some());
            let set = node.config().update("app.round", round).await;
            set.expect("updates");
            node.telemetry().refresh(LONG).await.expect("folds");
        }
        *expected.get_mut(killed).expect("is there") += 10;
        let now = incarnations(&node);
        assert_eq!(now, expected, "only {killed} was restarted");
        println!("{killed}: back within {fastest:?} to {slowest:?}");
        // Other stories run at the same time, so only the best round is held to the promise.
        assert!(
            fastest < Duration::from_millis(100),
            "{killed}: {fastest:?}"
        );
        assert!(slowest < Duration::from_secs(2), "{killed}: {slowest:?}");
    }
    eventually("every change in the books", async || {
        count(&node, "config_updated").await == 30
    })
    .await;
    assert!(node.shutdown().await.is_graceful());
}

// Children that fail.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_crashes_for_ever_costs_the_others_nothing() {
    let crashing = ChildSpec::task("crashing", |_| async {
        Err::<(), BoxError>("no luck".into())
    });
    let node = Node::builder().memory().without_environment();
    let node = node.child(crashing).start().await.expect("starts");
    let mut before = incarnations(&node);
    eventually("the loop to be noticed", async || {
        says(&node.health(), "node/app/crashing", "crashed")
    })
    .await;
    let since_when = |health: &Health| {
        let mut reasons = health.reasons.iter();
        reasons
            .find(|reason| reason.reason.contains("crashed"))
            .map(|reason| reason.since)
    };
    let since = since_when(&node.health());

    let begin = Instant::now();
    let mut rounds = 0_u64;
    while begin.elapsed() < a_while() {
        let id = node.events().store(event(&node, "meanwhile")).await;
        id.expect("stores");
        node.config()
            .update("app.round", rounds)
            .await
            .expect("updates");
        assert_eq!(node.config().get::<u64>("app.round"), Ok(rounds));
        node.telemetry().counter("rounds", &[]).inc();
        assert_eq!(node.health().health, HealthStatus::Degraded);
        rounds += 1;
        tokio::task::yield_now().await;
    }

    assert_eq!(count(&node, "meanwhile").await, rounds);
    assert_eq!(node.telemetry().counter("rounds", &[]).value(), rounds);
    let mut after = incarnations(&node);
    for tree in [&mut before, &mut after] {
        tree.retain(|path, _| !path.starts_with("node/app"));
    }
    assert_eq!(before, after);
    assert_eq!(since_when(&node.health()), since);
    node.shutdown().await;
}

// A disk that is full.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_leaves_the_node_up_and_heals_by_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Moody::new(folder.path());
    let node = in_folder(folder.path()).events_disk(Arc::new(disk.clone()));
    let node = node.start().await.expect("starts");
    let before = event(&node, "before");
    node.events().store(before.clone()).await.expect("stores");
    let others = || {
        let mut lives = incarnations(&node);
        lives.remove("node/events");
        lives
    };
    let lives = others();

    disk.set_full(true);
    let begin = Instant::now();
    let mut tries = 0;
    while begin.elapsed() < a_while() {
        let refused = node.events().store(event(&node, "full")).await;
        let refused = refused.expect_err("there is no room");
        let typed = matches!(
            &refused,
            StoreError::Failed { .. } | StoreError::Down { .. }
        );
        assert!(typed, "{refused:?}");
        let health = node.health();
        assert_eq!(health.health, HealthStatus::Degraded);
        tries += 1;
        node.config()
            .update("app.tries", tries)
            .await
            .expect("updates");
        node.telemetry().counter("tries", &[]).inc();
        assert_eq!(
            node.events().get(before.id()).await.expect("reads"),
            Some(before.clone())
        );
    }
    eventually("the reason", async || {
        says(&node.health(), "node/events", "no storage space")
    })
    .await;
    assert_eq!(others(), lives);
    disk.set_full(false);

    eventually("the disk's recovery", async || {
        node.events().store(event(&node, "after")).await.is_ok()
    })
    .await;
    eventually("the end of the complaint", async || {
        !says(&node.health(), "node/events", "the last write failed")
    })
    .await;
    assert_eq!(count(&node, "before").await, 1);
    eventually("every change in the books", async || {
        count(&node, "config_updated").await == tries
    })
    .await;
    assert!(node.shutdown().await.is_graceful());
}

// A disk that hangs.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_store_holds_nobody_else_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Moody::new(folder.path());
    let node = in_folder(folder.path()).events_disk(Arc::new(disk.clone()));
    let node = Arc::new(node.start().await.expect("starts"));
    let before = event(&node, "before");
    node.events().store(before.clone()).await.expect("stores");
    let lives = incarnations(&node);

    disk.set_stuck(true);
    let (own, stuck) = (Arc::clone(&node), event(&node, "stuck"));
    let waiting = tokio::spawn(async move { own.events().store(stuck).await });
    eventually("the reason", async || {
        let begin = Instant::now();
        let health = node.health();
        assert!(begin.elapsed() < Duration::from_secs(1), "health waits");
        says(&health, "node/events", "the disk has not ended a write")
    })
    .await;
    let begin = Instant::now();
    let mut rounds = 0_u64;
    while begin.elapsed() < a_while() {
        let round = timeout(Duration::from_secs(5), async {
            node.config()
                .update("app.round", rounds)
                .await
                .expect("updates");
            node.telemetry().counter("rounds", &[]).inc();
            node.telemetry().refresh(LONG).await.expect("folds");
            let found = node.events().get(before.id()).await.expect("reads");
            assert_eq!(found.as_ref(), Some(&before));
            assert_eq!(count(&node, "before").await, 1);
        });
        round.await.expect("nobody waits for the store");
        rounds += 1;
    }
    assert_eq!(incarnations(&node), lives);
    assert!(!waiting.is_finished());

    disk.set_stuck(false);
    waiting.await.expect("no panic").expect("stored after all");
    eventually("health", async || {
        node.health().health == HealthStatus::Healthy
    })
    .await;
    eventually("every change in the books", async || {
        count(&node, "config_updated").await == rounds
    })
    .await;
    let node = Arc::into_inner(node).expect("the only one");
    assert!(node.shutdown().await.is_graceful());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f116_a_stuck_store_does_not_hold_up_the_shutdown() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Moody::new(folder.path());
    let node = in_folder(folder.path()).events_disk(Arc::new(disk.clone()));
    let node = node.start().await.expect("starts");
    let (events, stuck) = (node.events().clone(), event(&node, "stuck"));
    disk.set_stuck(true);
    let waiting = tokio::spawn(async move { events.store(stuck).await });
    eventually("the hanging sync", async || disk.mood.hangs.load(SeqCst)).await;

    let begin = Instant::now();
    let report = node.shutdown().await;

    assert!(begin.elapsed() < Duration::from_secs(15), "{report:?}");
    assert!(!report.is_graceful());
    disk.set_stuck(false);
    // Written in the end, or never taken in: the caller is told either way.
    let _ = timeout(LONG, waiting).await.expect("an answer");
    let again = reopen(folder.path()).await;
    again.shutdown().await;
}

// Broken settings.

#[tokio::test]
async fn a_broken_settings_file_leaves_the_last_good_settings() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("settings.toml");
    let data = folder.path().join("data");
    let node = || in_folder(&data).config_file(&file);
    fs::write(&file, "[app]\nworkers = 4\n").expect("written");
    let first = node().start().await.expect("starts");
    first.config().update("app.kept", 1).await.expect("updates");
    first.shutdown().await;

    for broken in ["[app\nworkers = ", "[underpin]\nno_such = 1\n"] {
        fs::write(&file, broken).expect("written");
        let node = node().start().await.expect("starts all the same");

        assert_eq!(node.config().get::<i64>("app.workers"), Ok(4));
        assert_eq!(node.config().get::<i64>("app.kept"), Ok(1));
        let health = node.health();
        assert!(says(&health, "node/config", "settings.toml"), "{health:?}");
        let since = health.reasons[0].since;
        node.config().update("app.more", 2).await.expect("updates");
        node.events()
            .store(event(&node, "k"))
            .await
            .expect("stores");
        assert_eq!(node.health().reasons[0].since, since);
        node.shutdown().await;
    }
    fs::write(&file, "[app]\nworkers = 5\n").expect("written");
    let node = node().start().await.expect("starts");
    assert_eq!(node.config().get::<i64>("app.workers"), Ok(5));
    assert_eq!(node.health().health, HealthStatus::Healthy);
    node.shutdown().await;
}

#[tokio::test]
async fn a_first_start_with_broken_settings_says_what_is_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("settings.toml");
    let data = folder.path().join("data");
    fs::write(&file, "[app]\nworkers = \n").expect("written");

    let refused = in_folder(&data).config_file(&file).start().await;

    let words = refused.expect_err("nothing to go on with").to_string();
    assert!(words.contains("settings.toml, line 2"), "{words}");
    fs::write(&file, "[app]\nworkers = 1\n").expect("written");
    let node = in_folder(&data).config_file(&file).start().await;
    node.expect("starts").shutdown().await;
}

// Beginnings and ends.

/// The folder may be held for a moment by what is just ending.
async fn reopen(folder: &Path) -> Node {
    let begin = Instant::now();
    loop {
        match in_folder(folder).start().await {
            Ok(node) => return node,
            Err(error) => assert!(begin.elapsed() < LONG, "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    for _ in 0..5 {
        let bad = ChildSpec::task("bad", |_| {
            panic!("not today");
            #[expect(unreachable_code, reason = "says what the task would be")]
            async {
                Ok(())
            }
        });

        let refused = in_folder(folder.path()).child(bad).start().await;

        let words = refused.expect_err("its child does not start").to_string();
        assert!(words.contains("not today"), "{words}");
        let node = in_folder(folder.path()).start().await;
        let node = node.expect("the folder is free at once");
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_dropped_gives_its_folder_back() {
    let folder = tempfile::tempdir().expect("a folder");
    for round in 0..5 {
        let node = reopen(folder.path()).await;
        let stored = node.events().store(event(&node, "k")).await;
        stored.expect("stores");
        assert_eq!(count(&node, "k").await, round + 1);
        drop(node);
    }
    let node = reopen(folder.path()).await;
    assert_eq!(count(&node, "k").await, 5);
    node.shutdown().await;
}

/// A child that never has started.
struct Never;

enum Nothing {}
underpin::otp::message!(Nothing);

impl Actor for Never {
    type Msg = Nothing;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Nothing>, (): ()) -> Result<(), ActorProcessingErr> {
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_is_given_up_gives_its_folder_back() {
    let folder = tempfile::tempdir().expect("a folder");
    for patience in [0, 1, 2, 5, 10, 20, 50, 500] {
        let never = ChildSpec::actor("never", &Address::new(), |_| (Never, ()));
        let starting = in_folder(folder.path()).child(never).start();
        let given_up = timeout(Duration::from_millis(patience), starting).await;
        // In use by the one before it, or not started yet.
        assert!(!matches!(given_up, Ok(Ok(_))));
    }

    let node = reopen(folder.path()).await;

    assert_eq!(node.health().health, HealthStatus::Healthy);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f115_a_node_is_there_or_not_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    for _ in 0..3 {
        let node = in_folder(folder.path()).start().await.expect("starts");
        assert!(node.is_ready());
        assert_eq!(node.health().health, HealthStatus::Healthy);
        let (events, config) = (node.events().clone(), node.config().clone());
        let last = event(&node, "late");

        let report = node.shutdown().await;

        assert!(report.is_graceful(), "{report:?}");
        assert!(events.actor().is_none() && config.actor().is_none());
        assert!(matches!(
            events.store(last).await,
            Err(StoreError::Down { .. })
        ));
        assert!(config.update("app.x", 1).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f116_writers_end_cleanly_when_the_node_stops() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = in_folder(folder.path()).start().await.expect("starts");
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let events = node.events().clone();
            tokio::spawn(async move {
                let mut stored = Vec::new();
                loop {
                    let event = events.event("written").build().expect("valid");
                    match events.store(event).await {
                        Ok(id) => stored.push(id),
                        Err(_) => return stored,
                    }
                }
            })
        })
        .collect();
    eventually("some writing", async || count(&node, "written").await > 20).await;

    assert!(node.shutdown().await.is_graceful());

    let node = in_folder(folder.path()).start().await.expect("starts");
    for writer in writers {
        let stored = timeout(LONG, writer)
            .await
            .expect("ends")
            .expect("no panic");
        for id in stored {
            let found = node.events().get(id).await.expect("reads");
            assert!(found.is_some(), "{id} was acknowledged");
        }
    }
    node.shutdown().await;
}

#[tokio::test]
async fn f117_a_node_told_to_end_shuts_down() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = in_folder(folder.path()).start().await.expect("starts");
    let id = node.events().store(event(&node, "k")).await;
    let id = id.expect("stores");
    let mut running = Box::pin(node.run_until_signal());
    // Its handlers are there once it was looked at.
    assert!(futures_util::poll!(&mut running).is_pending());

    let pid = std::process::id().to_string();
    let told = std::process::Command::new("kill")
        .args(["-TERM", &pid])
        .status();
    assert!(told.expect("runs").success());

    let report = timeout(LONG, running).await.expect("in time");
    assert!(report.expect("handlers").is_graceful());
    let node = in_folder(folder.path()).start().await.expect("starts");
    assert!(node.events().get(id).await.expect("reads").is_some());
    node.shutdown().await;
}

#[tokio::test]
async fn what_a_node_keeps_is_for_its_owner_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("a/b/data");
    let node = in_folder(&data).start().await.expect("starts");

    for kept in [data.clone(), data.join("events"), data.join("config")] {
        let mode = fs::metadata(&kept).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", kept.display());
    }
    node.shutdown().await;
}

#[tokio::test]
async fn f119_a_service_that_was_stopped_is_told_with_an_unmoving_time() {
    let node = Node::builder().memory().without_environment();
    let once = ChildSpec::task("once", |_| async { Ok(()) }).restart(Restart::Transient);
    let node = node.child(once).start().await.expect("starts");
    assert_eq!(node.health().health, HealthStatus::Healthy);
    node.supervisor()
        .terminate_child("events")
        .await
        .expect("stops");

    let first = node.health();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(50) {
        assert_eq!(node.health(), first);
    }

    assert!(says(&first, "node/events", "stopped"), "{first:?}");
    node.supervisor()
        .restart_child("events")
        .await
        .expect("starts");
    assert_eq!(node.health().health, HealthStatus::Healthy);
    node.shutdown().await;
}

// The books.

/// The revisions in the books, in order.
async fn audited(node: &Node) -> Vec<i64> {
    let query = Query::new().kind("config_updated").limit(10_000);
    let page = node.events().query(query).await.expect("queries");
    let revision = |event: &Event| match event.data() {
        Value::Map(data) => data.get("revision").and_then(Value::as_i64),
        _ => None,
    };
    page.events.iter().filter_map(revision).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_is_in_the_books_once_whatever_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut expected = Vec::new();
    for round in 0..3 {
        let node = reopen(folder.path()).await;
        for step in 0..12 {
            let revision = node.config().update("app.step", step).await;
            expected.push(i64::try_from(revision.expect("updates").0).expect("small"));
            match step {
                3 => drop(kill(&node, "node/events", the_actor(&node, "node/events").await).await),
                5 => drop(kill(&node, "node/config", the_actor(&node, "node/config").await).await),
                7 => {
                    node.supervisor()
                        .terminate_child("events")
                        .await
                        .expect("stops");
                }
                9 => {
                    node.supervisor()
                        .restart_child("events")
                        .await
                        .expect("starts");
                    node.supervisor()
                        .terminate_child("wiring")
                        .await
                        .expect("stops");
                    node.supervisor()
                        .restart_child("wiring")
                        .await
                        .expect("starts");
                }
                _ => {}
            }
        }
        match round {
            0 => drop(node),
            1 => drop(node.shutdown().await),
            _ => {
                eventually("the books", async || {
                    audited(&node).await.len() >= expected.len()
                })
                .await;
                assert_eq!(audited(&node).await, expected);
                node.shutdown().await;
            }
        }
    }
}

#[tokio::test]
async fn events_that_look_like_the_books_do_not_mislead_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = in_folder(folder.path()).start().await.expect("starts");
    let data = Value::from_json(r#"{"revision": 1000000}"#, underpin::value::Limits::DEFAULT);
    let event = node.events().event("note").source("underpin.config");
    let event = event.data(data.expect("JSON")).build().expect("valid");
    node.events().store(event).await.expect("stores");
    node.shutdown().await;

    let node = in_folder(folder.path()).start().await.expect("starts");
    node.config().update("app.x", 1).await.expect("updates");

    eventually("the audit", async || audited(&node).await == [1]).await;
    node.shutdown().await;
}

#[tokio::test]
async fn a_change_too_large_for_one_event_is_in_the_books_without_its_values() {
    let node = Node::builder().memory().without_environment();
    let node = node.start().await.expect("starts");
    let large = "x".repeat(900_000);

    for name in ["app.a", "app.b"] {
        node.config()
            .update(name, large.as_str())
            .await
            .expect("updates");
    }
    let both = [("app.a", "1"), ("app.b", "2")];
    node.config().update_many(both).await.expect("updates");
    node.config().update("app.c", 3).await.expect("updates");

    eventually("the books", async || audited(&node).await == [1, 2, 3, 4]).await;
    let page = node.events().recent(2).await.expect("queries");
    let without = page.events[1].data();
    assert_eq!(
        without.to_json(),
        r#"{"by":"","changes":["app.a","app.b"],"revision":3,"why":""}"#
    );
    assert_eq!(node.health().health, HealthStatus::Healthy);
    node.shutdown().await;
}

#[tokio::test]
async fn two_nodes_in_one_process_fail_alone() {
    let (one, two) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let disk = Moody::new(one.path());
    let failing = in_folder(one.path()).events_disk(Arc::new(disk.clone()));
    let failing = failing.start().await.expect("starts");
    let well = in_folder(two.path()).start().await.expect("starts");
    disk.set_full(true);
    let refused = failing.events().store(event(&failing, "k")).await;
    assert!(refused.is_err());

    well.events()
        .store(event(&well, "k"))
        .await
        .expect("stores");

    assert_eq!(failing.health().health, HealthStatus::Degraded);
    assert_eq!(well.health().health, HealthStatus::Healthy);
    drop(failing);
    assert_eq!(well.health().health, HealthStatus::Healthy);
    assert!(well.shutdown().await.is_graceful());
}

// Load.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f104_settings_and_figures_are_whole_after_kills_in_the_middle_of_work() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Arc::new(in_folder(folder.path()).start().await.expect("starts"));
    let own = Arc::clone(&node);
    let updating = tokio::spawn(async move {
        for n in 0..60 {
            own.telemetry().counter("updates", &[]).inc();
            // Of a call that was not answered it is not known whether it was done; doing it again is safe.
            while own.config().update("app.n", n).await.is_err() {
                tokio::task::yield_now().await;
            }
        }
    });
    for path in ["node/config", "node/telemetry"].repeat(3) {
        kill(&node, path, the_actor(&node, path).await).await;
    }

    updating.await.expect("ends");

    assert_eq!(node.config().get::<i64>("app.n"), Ok(59));
    assert_eq!(node.telemetry().counter("updates", &[]).value(), 60);
    let revision = node.config().revision();
    let node = Arc::into_inner(node).expect("the only one");
    node.shutdown().await;
    let node = in_folder(folder.path()).start().await.expect("starts");
    assert_eq!(node.config().get::<i64>("app.n"), Ok(59));
    assert_eq!(node.config().revision(), revision);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f110_and_f112_mixed_load_is_counted_to_the_last() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Arc::new(in_folder(folder.path()).start().await.expect("starts"));
    let begin = Instant::now();
    let work: Vec<_> = (0..4)
        .map(|task| {
            let node = Arc::clone(&node);
            tokio::spawn(async move {
                for n in 0..50 {
                    node.config().update("app.n", n).await.expect("updates");
                    let id = node.events().store(event(&node, "load")).await;
                    let found = node.events().get(id.expect("stores")).await;
                    assert!(found.expect("reads").is_some());
                    let labels = [("task", &*task.to_string())];
                    node.telemetry().counter("load", &labels).inc();
                }
            })
        })
        .collect();
    for task in work {
        task.await.expect("all of it succeeds");
    }
    println!("200 updates, stores and reads took {:?}", begin.elapsed());

    assert!(begin.elapsed() < Duration::from_secs(15));
    assert_eq!(count(&node, "load").await, 200);
    assert_eq!(node.config().status().updates_count, 200);
    for task in 0..4 {
        let labels = [("task", &*task.to_string())];
        assert_eq!(node.telemetry().counter("load", &labels).value(), 50);
    }
    assert_eq!(node.health().health, HealthStatus::Healthy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f113_a_node_under_lasting_load_stays_healthy() {
    let node = Node::builder().memory().without_environment();
    let node = Arc::new(node.start().await.expect("starts"));
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..50)
        .map(|worker| {
            let (node, stop) = (Arc::clone(&node), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut done = 0_u64;
                while !stop.load(SeqCst) {
                    match (worker + done) % 4 {
                        0 => drop(node.config().get::<i64>("underpin.health.crash_loop")),
                        1 => drop(node.events().store(event(&node, "load")).await),
                        2 => node.telemetry().counter("load", &[]).inc(),
                        _ => drop(node.events().recent(5).await.expect("queries")),
                    }
                    done += 1;
                    tokio::time::sleep(Duration::from_millis(1 + done % 10)).await;
                }
                done
            })
        })
        .collect();
    let begin = Instant::now();
    while begin.elapsed() < a_while() {
        let tree = node.tree().expect("runs");
        assert!(tree.walk().all(|child| child.admitted <= 1000));
        assert_eq!(node.health().health, HealthStatus::Healthy);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.store(true, SeqCst);

    let mut done = 0;
    for worker in workers {
        done += worker.await.expect("no panic");
    }

    assert!(done > 500, "{done}");
    let tree = node.tree().expect("runs");
    assert!(tree.walk().all(|child| child.restarts == 0));
}
