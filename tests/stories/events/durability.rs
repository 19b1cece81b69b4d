//! What survives, and what a store says when something does not.

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use underpin::{
    events::{
        Checkpoint, Disk, DiskFile, DiskLock, Durability, EventsHealth, Folder, Options, Query,
        StoreError,
    },
    value::Value,
};

use super::support::{
    Store, event, events_in, events_on, id, ids_of, is_healthy, kill, steps, supervise, until,
};

#[tokio::test]
async fn f117_events_survive_the_end_of_the_store() {
    for durability in [
        Durability::Always,
        Durability::Interval(Duration::from_mins(1)),
    ] {
        let options = Options {
            durability,
            ..Options::default()
        };
        let store = Store::with(options).await;
        store.events.store_batch(steps(100)).await.expect("stored");

        let store = store.reopen().await;

        let page = store.events.query(Query::new()).await.expect("answered");
        assert_eq!(page.events, steps(100));
        assert!(is_healthy(&store.events));
    }
}

#[tokio::test]
async fn checkpoints_outlive_the_segments_they_were_written_in() {
    let options = Options {
        segment_bytes: 10_000,
        ..Options::default()
    };
    let store = Store::with(options).await;
    let checkpoint = Checkpoint {
        key: "file".into(),
        value: Value::from(17),
    };
    store
        .events
        .store_import(steps(10), checkpoint)
        .await
        .expect("imported");
    let later: Vec<_> = (11..=1000)
        .map(|number| event(number, "later", 0))
        .collect();
    for batch in later.chunks(50) {
        store
            .events
            .store_batch(batch.to_vec())
            .await
            .expect("stored");
    }

    store.events.prune_to(20).await.expect("pruned");
    let store = store.reopen().await;

    assert_eq!(store.events.stats().events, 20);
    assert_eq!(
        store.events.checkpoint("file").await.expect("readable"),
        Some(Value::from(17))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f103_a_killed_store_comes_back_with_everything_and_its_handle_still_leads_to_it() {
    let store = Store::durable().await;
    store.events.store_batch(steps(100)).await.expect("stored");

    for round in 2..=4 {
        kill(&store).await;
        until("restart", || store.events.stats().openings == round).await;

        let stored = store
            .events
            .store(event(1000 + round, "after", 0))
            .await
            .expect("stored");
        assert!(store.events.get(stored).await.expect("readable").is_some());
        assert!(store.events.get(id(50)).await.expect("readable").is_some());
    }
    assert_eq!(store.events.stats().events, 103);
    assert_eq!(store.events.stats().opened.gaps, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f104_kills_amid_batches_lose_nothing_that_was_acknowledged() {
    let store = Store::durable().await;
    let (events, stop) = (store.events.clone(), Arc::new(AtomicBool::new(false)));
    let stopped = Arc::clone(&stop);
    let producer = tokio::spawn(async move {
        let mut acknowledged = Vec::new();
        for first in (1..)
            .step_by(10)
            .take_while(|_| !stopped.load(Ordering::Relaxed))
        {
            let batch: Vec<_> = (first..first + 10)
                .map(|number| event(number, "k", 0))
                .collect();
            acknowledged.extend(events.store_batch(batch).await.unwrap_or_default());
        }
        acknowledged
    });
    for round in 2..=6 {
        let before = store.events.stats().stored;
        until("progress", || store.events.stats().stored > before + 20).await;
        kill(&store).await;
        until("restart", || store.events.stats().openings == round).await;
    }
    stop.store(true, Ordering::Relaxed);
    let acknowledged = producer.await.expect("producer ends");

    let store = store.reopen().await;

    assert!(!acknowledged.is_empty());
    for id in &acknowledged {
        assert!(
            store.events.get(*id).await.expect("readable").is_some(),
            "{id} was acknowledged"
        );
    }
    let stats = store.events.stats();
    assert_eq!(stats.events % 10, 0, "batches are there whole");
    assert_eq!((stats.opened.gaps, stats.opened.torn), (Vec::new(), None));
}

#[tokio::test]
async fn a_folder_in_use_by_another_node_is_named_as_such() {
    let store = Store::durable().await;

    let second = events_in(&store.folder, Options::default());
    let spec = underpin::otp::SupervisorSpec::new(
        "root",
        underpin::otp::Intensity::new(0, Duration::from_secs(1)),
    );
    let refused = underpin::otp::Supervisor::start(spec.child(second.child_spec())).await;

    let said = refused.expect_err("the folder is taken").to_string();
    assert!(said.contains("in use by another node"), "{said}");
    assert!(matches!(second.health(), EventsHealth::Down { .. }));
    store
        .events
        .store(event(1, "k", 0))
        .await
        .expect("the first one goes on");
}

#[tokio::test]
async fn a_store_that_never_started_answers_within_bounds_and_says_so() {
    let folder = tempfile::tempdir().expect("folder for the test");
    let options = Options {
        down_wait: Duration::from_millis(20),
        ..Options::default()
    };
    let events = events_in(&folder, options);

    let stored = events.store(event(1, "k", 0)).await;
    let read = events.get(id(1)).await;
    let tried = events.try_store(&event(1, "k", 0));

    assert!(matches!(stored, Err(StoreError::Down { .. })));
    assert!(matches!(read, Err(StoreError::Down { .. })));
    assert!(matches!(tried, Err(StoreError::Down { .. })));
    assert_eq!(events.stats().refused, 2);
}

#[tokio::test]
async fn a_stopped_store_refuses_events_and_still_shows_what_it_had() {
    let options = Options {
        down_wait: Duration::from_millis(20),
        ..Options::default()
    };
    let store = Store::with(options).await;
    store.events.store_batch(steps(3)).await.expect("stored");

    store.supervisor.stop().await;

    assert!(matches!(
        store.events.store(event(9, "k", 0)).await,
        Err(StoreError::Down { .. })
    ));
    let page = store
        .events
        .query(Query::new())
        .await
        .expect("answered from before");
    assert_eq!(ids_of(&page), [1, 2, 3]);
}

#[tokio::test]
async fn a_flipped_byte_in_the_log_is_set_aside_reported_and_costs_no_other_event() {
    let options = Options::default();
    let store = Store::with(options.clone()).await;
    for event in steps(200) {
        store.events.store(event).await.expect("stored");
    }
    store.supervisor.stop().await;
    flip(&store.files("seg")[0], |bytes| bytes.len() / 2);

    let store = Store::open(Arc::clone(&store.folder), options).await;

    let stats = store.events.stats();
    assert_eq!(
        (
            stats.events,
            stats.opened.gaps.len(),
            stats.opened.quarantined
        ),
        (199, 1, 1)
    );
    let EventsHealth::Degraded { reasons } = store.events.health() else {
        panic!("health hides the damage: {:?}", store.events.health());
    };
    assert!(reasons[0].contains("damaged or missing"), "{reasons:?}");
    store
        .events
        .store(event(1000, "k", 0))
        .await
        .expect("the store goes on");
}

/// A record on disk is verified each time it is read, long after the log was opened: in a segment that grows, and in a sealed one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_under_a_running_store_is_an_error_and_never_a_wrong_event() {
    for (segment_bytes, sealed, file) in [(64 << 20, 0, "seg"), (300_000, 1, "blocks")] {
        let options = Options {
            hot_bytes: 0,
            segment_bytes,
            ..Options::default()
        };
        let store = Store::with(options).await;
        for batch in steps(8000).chunks(500) {
            let batch = batch.to_vec();
            store.events.store_batch(batch).await.expect("stored");
        }
        until("sealing", || store.events.stats().sealed == sealed).await;

        flip(&store.files(file)[0], |_| 5000);

        sees_the_damage(&store).await;
    }
}

async fn sees_the_damage(store: &Store) {
    let page = store
        .events
        .query(Query::new().limit(8000))
        .await
        .expect("answered");

    assert!(!page.unreadable.is_empty());
    assert_eq!(page.events.len() + page.unreadable.len(), 8000);
    let all = steps(8000);
    assert!(
        page.events.iter().all(|event| all.contains(event)),
        "nothing false was read"
    );
    let damaged = store.events.get(page.unreadable[0]).await;
    assert!(
        matches!(damaged, Err(StoreError::Damaged { .. })),
        "{damaged:?}"
    );
    assert!(matches!(
        store.events.health(),
        EventsHealth::Degraded { .. }
    ));
}

/// An index can be made anew from the blocks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_index_is_made_anew_and_the_damaged_one_is_kept_beside() {
    let options = Options {
        segment_bytes: 10_000,
        ..Options::default()
    };
    for damage in [
        (|path: &Path| flip(path, |_| 60)) as fn(&Path),
        |path| fs::write(path, "").expect("writable"),
        |path| fs::remove_file(path).expect("there"),
    ] {
        let store = Store::with(options.clone()).await;
        for batch in steps(500).chunks(20) {
            let batch = batch.to_vec();
            store.events.store_batch(batch).await.expect("stored");
        }
        until("sealing", || store.events.stats().sealed > 1).await;
        store.supervisor.stop().await;
        damage(&store.files("index")[0]);

        let store = Store::open(Arc::clone(&store.folder), options.clone()).await;

        assert_eq!(store.events.stats().opened.rebuilt, 1);
        let page = store.events.query(Query::new()).await.expect("answered");
        assert_eq!(page.events, steps(500));
        let store = store.reopen().await;
        assert_eq!(store.events.stats().opened.rebuilt, 0);
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_an_error_that_says_what_to_do() {
    let folder = tempfile::tempdir().expect("folder for the test");
    fs::write(folder.path().join("file"), "in the way").expect("writable");
    let telemetry = underpin::telemetry::Telemetry::new(underpin::telemetry::Options::default());
    let ids = Arc::new(underpin::ids::IdGenerator::new(
        underpin::ids::NodeId::new(1).expect("small"),
    ));
    let disk = underpin::events::Folder::new(folder.path().join("file").join("events"));
    let events = underpin::events::Events::new(Options::default(), Arc::new(disk), ids, &telemetry);
    let spec = underpin::otp::SupervisorSpec::new(
        "root",
        underpin::otp::Intensity::new(0, Duration::from_secs(1)),
    );

    let refused = underpin::otp::Supervisor::start(spec.child(events.child_spec())).await;

    let said = refused.expect_err("no folder can be there").to_string();
    assert!(said.contains("cannot be used"), "{said}");
}

#[tokio::test]
async fn memory_outlives_a_killed_actor() {
    let store = Store::memory().await;
    store.events.store_batch(steps(10)).await.expect("stored");

    kill(&store).await;
    until("restart", || store.events.stats().openings == 2).await;

    assert_eq!(store.events.stats().events, 10);
    store.events.store(event(11, "k", 0)).await.expect("stored");
}

/// A folder whose files open only while its gate does.
#[derive(Debug)]
struct Gated {
    folder: Folder,
    gate: Arc<(Mutex<bool>, Condvar)>,
    waiting: Arc<AtomicBool>,
}

impl Disk for Gated {
    fn lock(&self) -> io::Result<Box<dyn DiskLock>> {
        self.folder.lock()
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.folder.list()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let (open, changed) = &*self.gate;
        let mut open = open.lock().expect("no panic");
        while !*open {
            self.waiting.store(true, Ordering::Relaxed);
            open = changed.wait(open).expect("no panic");
        }
        self.folder.open(name)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.folder.create(name)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.folder.remove(name)
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.folder.sync_folder()
    }
}

/// A stop does not wait for an opening on a slow disk; the folder is free as soon as that has ended its step, and who comes meanwhile waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_during_a_reopening_leaves_the_folder_to_the_next_store() {
    let store = Store::durable().await;
    store.events.store_batch(steps(100)).await.expect("stored");
    store.supervisor.stop().await;
    let gate = Arc::new((Mutex::new(true), Condvar::new()));
    let set = {
        let gate = Arc::clone(&gate);
        move |open| {
            *gate.0.lock().expect("no panic") = open;
            gate.1.notify_all();
        }
    };
    let waiting = Arc::new(AtomicBool::new(false));
    let disk = Gated {
        folder: Folder::new(store.folder.path()),
        gate,
        waiting: Arc::clone(&waiting),
    };
    let events = events_on(Arc::new(disk), Options::default());
    let supervisor = supervise(&events).await;
    set(false);
    until("the actor", || events.actor().is_some()).await;
    if let Some(actor) = events.actor() {
        actor.kill();
    }
    until("the reopening", || waiting.load(Ordering::Relaxed)).await;

    supervisor.stop().await;
    let options = Options {
        down_wait: Duration::from_secs(20),
        ..Options::default()
    };
    let next = tokio::spawn(Store::open(Arc::clone(&store.folder), options));
    set(true);

    let next = next.await.expect("the folder is free");
    let page = next.events.query(Query::new()).await.expect("answered");
    assert_eq!(page.events, steps(100));
}

fn flip(path: &Path, at: impl Fn(&[u8]) -> usize) {
    use std::os::unix::fs::FileExt;
    let bytes = fs::read(path).expect("readable");
    let at = at(&bytes);
    let file = fs::OpenOptions::new().write(true).open(path);
    file.expect("writable")
        .write_all_at(&[bytes[at] ^ 0x10], at as u64)
        .expect("writable");
}

#[cfg(unix)]
#[tokio::test]
async fn nothing_is_acknowledged_into_a_file_that_was_removed() {
    // The sync of a file without a name succeeds: events were acknowledged, the store was healthy, and the next start found none of them.
    let store = Store::durable().await;
    store
        .events
        .store(event(1, "before", 1))
        .await
        .expect("stores");
    for file in store.files("seg") {
        fs::remove_file(file).expect("it is there");
    }

    let refused = store.events.store(event(2, "after", 2)).await;

    let words = refused.expect_err("nobody would find it again").to_string();
    assert!(words.contains("removed"), "{words}");
    until("the store to be opened anew", || is_healthy(&store.events)).await;
    store
        .events
        .store(event(2, "after", 2))
        .await
        .expect("stores");
    let store = store.reopen().await;
    assert!(store.events.get(id(2)).await.expect("reads").is_some());
}
