//! The whole store over a disk that fails: what callers are told, and how it heals.

use std::{fmt, io, sync::Arc, time::Duration};

use futures_util::FutureExt;

use super::{
    Disk, DiskFile, DiskLock, Durability, Event, EventBuilder, Events, EventsHealth, Options,
    Query, Start, StoreError, simulated::SimulatedDisk,
};
use crate::{
    ids::{EventId, IdGenerator, NodeId},
    otp::{Intensity, Supervisor, SupervisorSpec},
    telemetry::{self, Telemetry},
};

async fn supervised(disk: &SimulatedDisk, options: Options) -> (Events, Supervisor) {
    supervised_on(Arc::new(disk.clone()), options).await
}

pub(super) async fn supervised_on(disk: Arc<dyn Disk>, options: Options) -> (Events, Supervisor) {
    let ids = Arc::new(IdGenerator::new(NodeId::new(7).expect("small number")));
    let telemetry = Telemetry::new(telemetry::Options::default());
    let events = Events::new(options, disk, ids, &telemetry);
    let spec = SupervisorSpec::new("root", Intensity::new(1000, Duration::from_secs(1)));
    let supervisor = Supervisor::start(spec.child(events.child_spec())).await;
    (events, supervisor.expect("store opens"))
}

pub(super) fn options() -> Options {
    Options {
        idle_mark: Duration::from_millis(10),
        ..Options::default()
    }
}

pub(super) fn event(number: u64) -> Event {
    let id = EventId::new(number).expect("test id is valid");
    EventBuilder::new(id, "k")
        .data("x".repeat(200))
        .build()
        .expect("valid")
}

/// Longer than the room that a store makes ahead.
fn large_batch() -> Vec<Event> {
    let large = |number| {
        let id = EventId::new(number).expect("test id is valid");
        let event = EventBuilder::new(id, "k").data("x".repeat(900_000));
        event.build().expect("valid")
    };
    (2..=3).map(large).collect()
}

/// A store of small segments that keeps nothing in memory, with one or more of them sealed: number 1 is in the first.
async fn sealed(disk: &SimulatedDisk) -> (Events, Supervisor) {
    sealed_on(Arc::new(disk.clone()), options()).await
}

pub(super) async fn sealed_on(disk: Arc<dyn Disk>, options: Options) -> (Events, Supervisor) {
    let options = Options {
        segment_bytes: 4096,
        hot_bytes: 0,
        cache_bytes: 0,
        ..options
    };
    let (events, supervisor) = supervised_on(disk, options).await;
    for number in 1..=40 {
        events.store(event(number)).await.expect("healthy disk");
    }
    let all = || events.stats().sealed + 1 == events.stats().segments;
    until("sealing", || all() && events.stats().hot_bytes == 0).await;
    (events, supervisor)
}

/// The first file with this ending.
fn first(disk: &SimulatedDisk, ending: &str) -> (String, Vec<u8>) {
    let names = disk.names();
    let name = names.iter().find(|name| name.ends_with(ending));
    let name = name.expect("there is such a file").clone();
    let bytes = disk.bytes(&name).expect("it is there");
    (name, bytes)
}

/// Damages every page of the first index, whatever a query reads of it, and nothing of its directory.
fn damage_the_pages(disk: &SimulatedDisk) {
    let (name, bytes) = first(disk, ".index");
    let body = u32::from_le_bytes(bytes[40..44].try_into().expect("four bytes"));
    let directory = 52 + body as usize;
    let file = disk.open(&name).expect("it is there");
    file.write_at(&vec![0; bytes.len() - directory], directory as u64)
        .expect("room");
}

pub(super) async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    let came = tokio::time::timeout(Duration::from_secs(20), wait).await;
    assert!(came.is_ok(), "{what} did not come about");
}

/// A close that was asked for before a kill may come after the next opening.
#[tokio::test]
async fn whoever_leaves_an_earlier_opening_late_closes_nothing_for_the_next_one() {
    for durability in [Durability::Memory, Durability::Always] {
        let options = Options {
            durability,
            down_wait: Duration::from_secs(20),
            ..options()
        };
        let (events, _supervisor) = supervised_on(Arc::new(SimulatedDisk::new(15)), options).await;
        let first = events.shared.open_log().expect("it is open");
        events.actor().expect("it runs").kill();
        until("the next opening", || events.stats().openings == 2).await;

        events.shared.leave(&first, 1);

        assert!(events.shared.open_log().is_some_and(|log| log.is_open()));
        events.store(event(1)).await.expect("it is open");
        let log = events.shared.open_log().expect("it is open");
        events.shared.leave(&log, 2);
        assert!(!log.is_open());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_to_callers_and_to_health_and_heals_when_there_is_room() {
    let disk = SimulatedDisk::new(1);
    let (events, _supervisor) = supervised(&disk, options()).await;
    events.store(event(1)).await.expect("there is room");

    disk.leave_room(Some(0));
    let refused = events.store_batch(large_batch()).await;

    assert!(
        matches!(refused, Err(StoreError::Failed { .. })),
        "{refused:?}"
    );
    assert_ne!(events.health(), EventsHealth::Healthy);
    let page = events.query(Query::new()).await.expect("reads go on");
    assert_eq!(page.events, [event(1)]);

    disk.leave_room(None);
    until("healing", || events.health() == EventsHealth::Healthy).await;
    let again = events.store_batch(large_batch()).await;
    again.expect("there is room again");
    assert_eq!(events.count(Query::new()).await.expect("countable"), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_sync_nothing_is_acknowledged_until_the_folder_was_opened_anew() {
    let disk = SimulatedDisk::new(2);
    let (events, supervisor) = supervised(&disk, options()).await;
    events.store(event(1)).await.expect("healthy disk");

    disk.fail_syncs(1);
    let failed = events.store(event(2)).await;
    let again = events.store(event(2)).await;

    assert!(
        matches!(failed, Err(StoreError::Failed { .. })),
        "{failed:?}"
    );
    again.expect("the store healed, and storing the same event again was safe");
    assert_eq!(events.stats().openings, 2);

    supervisor.stop().await;
    disk.restore_power();
    let (events, _supervisor) = supervised(&disk, options()).await;
    let page = events.query(Query::new()).await.expect("answered");
    assert_eq!(page.events, [event(1), event(2)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_be_reopened_shows_what_it_had_and_keeps_trying() {
    let disk = SimulatedDisk::new(3);
    let options = Options {
        down_wait: Duration::from_millis(50),
        ..options()
    };
    let (events, _supervisor) = supervised(&disk, options).await;
    events.store(event(1)).await.expect("healthy disk");

    disk.cut_power_after(0);
    let failed = events.store(event(2)).await;
    until("the failed reopening", || {
        matches!(events.health(), EventsHealth::Down { .. })
    })
    .await;
    let down = events.store(event(3)).await;
    let page = events.query(Query::new()).await.expect("reads go on");

    assert!(
        matches!(failed, Err(StoreError::Failed { .. })),
        "{failed:?}"
    );
    assert!(matches!(down, Err(StoreError::Down { .. })), "{down:?}");
    assert_eq!(page.events, [event(1)]);

    disk.keep_power();
    until("healing", || events.health() == EventsHealth::Healthy).await;
    events.store(event(3)).await.expect("the disk is back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_turns_out_damaged_is_made_anew_while_the_store_runs() {
    let disk = SimulatedDisk::new(4);
    let (events, _supervisor) = sealed(&disk).await;
    let whole = first(&disk, ".index");

    damage_the_pages(&disk);
    let id = event(1).id();
    let refused = events.get(id).await;

    assert!(matches!(refused, Err(StoreError::Index(_))), "{refused:?}");
    until("healing", || events.stats().rebuilt == 1).await;
    assert_eq!(events.get(id).await.expect("readable"), Some(event(1)));
    assert_eq!(first(&disk, ".index"), whole);
    until("health", || events.health() == EventsHealth::Healthy).await;
    let stats = events.stats();
    assert_eq!((stats.openings, stats.events), (1, 40));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_turns_out_damaged_with_its_blocks_is_made_of_what_is_left_by_opening_anew() {
    let disk = SimulatedDisk::new(5);
    let (events, _supervisor) = sealed(&disk).await;
    damage_the_pages(&disk);
    let (blocks, bytes) = first(&disk, ".blocks");
    let (file, last) = (disk.open(&blocks).expect("it is there"), bytes.len() - 1);
    file.write_at(&[bytes[last] ^ 1], last as u64)
        .expect("room");

    let opened_anew = async {
        while events.stats().openings == 1 {
            let _ = events.query(Query::new().kind("k")).await;
            tokio::task::yield_now().await;
        }
    };
    let came = tokio::time::timeout(Duration::from_secs(20), opened_anew).await;
    came.expect("the store is opened anew");
    until("opening", || {
        !matches!(events.health(), EventsHealth::Down { .. })
    })
    .await;
    events.store(event(41)).await.expect("it takes events");

    let stats = events.stats();
    assert_eq!((stats.opened.rebuilt, stats.opened.gaps.len()), (1, 1));
    assert!(matches!(events.health(), EventsHealth::Degraded { .. }));
    let page = events.query(Query::new()).await.expect("answered");
    assert!(page.events.contains(&event(40)) && page.events.contains(&event(41)));
    assert_eq!(page.unreadable, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_that_does_not_start_is_tried_again() {
    let disk = SimulatedDisk::new(6);
    let (events, _supervisor) = supervised(&disk, options()).await;
    events
        .shared
        .workers
        .to_refuse
        .store(1, std::sync::atomic::Ordering::Relaxed);

    disk.fail_syncs(1);
    let failed = events.store(event(1)).await;

    assert!(matches!(failed, Err(StoreError::Failed { .. })));
    until("healing", || events.stats().openings == 3).await;
    events.store(event(1)).await.expect("it works again");
    until("health", || events.health() == EventsHealth::Healthy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_whose_disk_was_full_is_well_without_another_event_and_fails_once() {
    // Where it could not begin its first segment, and where there is one.
    for stored in [0, 3] {
        let disk = SimulatedDisk::new(9);
        let options = Options {
            segment_bytes: 4096,
            ..options()
        };
        let (events, _supervisor) = supervised(&disk, options).await;
        for number in 1..=stored {
            events.store(event(number)).await.expect("healthy disk");
        }

        disk.leave_room(Some(0));
        let large = EventBuilder::new(EventId::new(9).expect("valid"), "large");
        let large = large.data("x".repeat(5000)).build().expect("valid");
        let failed = events.store(large).await;
        assert!(
            matches!(failed, Err(StoreError::Failed { .. })),
            "{failed:?}"
        );
        until("a reopening", || events.stats().openings == 2).await;
        let calls = disk.calls();
        until("some looks", || disk.calls() > calls + 30).await;
        assert_ne!(events.health(), EventsHealth::Healthy);
        assert_eq!(events.stats().openings, 2, "no look is a failure");
        disk.leave_room(None);

        until("healing", || events.health() == EventsHealth::Healthy).await;
        assert_eq!(events.stats().events, stored);
        assert!(!disk.names().iter().any(|name| name.contains(".room")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_misses_nothing_when_a_damaged_block_takes_rows_from_before_its_place() {
    // Where it had been told nothing yet, and where it had been told one.
    for told in [false, true] {
        let disk = SimulatedDisk::new(10);
        let options = Options {
            segment_bytes: 40_000,
            hot_bytes: 0,
            cache_bytes: 0,
            ..options()
        };
        let (events, _supervisor) = supervised(&disk, options).await;
        let wanted = |number: u64| [110, 120, 190].contains(&number) || (told && number == 80);
        let given = |number: u64| {
            let kind = if wanted(number) { "wanted" } else { "other" };
            let id = EventId::new(number).expect("test id is valid");
            let event = EventBuilder::new(id, kind).data("x".repeat(200));
            event.build().expect("valid")
        };
        for number in 1..=100 {
            events.store(given(number)).await.expect("healthy disk");
        }
        let query = Query::new().kind("wanted");
        let mut following = events
            .subscribe(query, Start::Beginning)
            .await
            .expect("a filter");
        if told {
            assert_eq!(following.next().await.expect("it is there"), given(80));
        }
        while following.read_to().1 < 100 {
            assert!(following.next().now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        for number in 101..=200 {
            events.store(given(number)).await.expect("healthy disk");
        }
        until("sealing", || events.stats().sealed == 1).await;

        damage_the_pages(&disk);
        let (blocks, _) = first(&disk, ".blocks");
        let file = disk.open(&blocks).expect("it is there");
        file.write_at(&[0; 8], 100).expect("room");
        let opened_anew = async {
            while events.stats().openings == 1 {
                let _ = events.query(Query::new().kind("other")).await;
                tokio::task::yield_now().await;
            }
        };
        let came = tokio::time::timeout(Duration::from_secs(20), opened_anew).await;
        came.expect("the store is opened anew");
        until("opening", || {
            !matches!(events.health(), EventsHealth::Down { .. })
        })
        .await;

        assert_eq!(events.stats().opened.gaps.len(), 1);
        for number in [110, 120, 190] {
            let next = following.next().await.expect("it is readable");
            assert_eq!(next, given(number), "told: {told}");
        }
    }
}

/// A disk on which something else comes before a file is made.
pub(super) struct Before<F>(pub(super) SimulatedDisk, pub(super) F);

impl<F> fmt::Debug for Before<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<F: Fn(&str) + Send + Sync + 'static> Disk for Before<F> {
    fn lock(&self) -> io::Result<Box<dyn DiskLock>> {
        self.0.lock()
    }
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.0.list()
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.0.open(name)
    }
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        (self.1)(name);
        self.0.create(name)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
    fn sync_folder(&self) -> io::Result<()> {
        self.0.sync_folder()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_while_a_segment_is_sealed_is_told_and_costs_no_event() {
    let options = Options {
        segment_bytes: 4096,
        ..options()
    };
    let panics = |name: &str| assert!(!name.ends_with(".blocks"), "a disk that panics");
    let disk = Arc::new(Before(SimulatedDisk::new(8), panics));
    let (events, _supervisor) = supervised_on(disk, options).await;
    for number in 1..=40 {
        events.store(event(number)).await.expect("it is stored");
    }

    let told = || matches!(events.health(), EventsHealth::Degraded { reasons } if reasons[0].contains("panicked"));
    until("word of it", told).await;

    let page = events.query(Query::new()).await.expect("answered");
    assert_eq!(page.events.len(), 40);
    assert_eq!(events.stats().sealed, 0);
}
