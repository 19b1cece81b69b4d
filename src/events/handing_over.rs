//! Events that are handed over, of which only the disk can tell whether they are there already.

use std::{
    iter::once,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use super::{
    Admission, EventBuilder, Options, StoreError,
    healing::{Before, event, options, sealed_on, until},
    preparing::prepare,
    simulated::SimulatedDisk,
};
use crate::ids::EventId;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_so_many_ids_are_looked_up_for_events_that_were_handed_over() {
    let disk = SimulatedDisk::new(7);
    let (events, _supervisor) = sealed_on(Arc::new(disk), options()).await;
    let all = events.shared.looking_up.available_permits();
    let others = events
        .shared
        .looking_up
        .try_acquire_many(u32::try_from(all).expect("some"));

    let refused = events.try_store(&event(1));
    drop(others);
    let taken = events.try_store(&event(1));

    assert!(matches!(refused, Err(StoreError::Full)), "{refused:?}");
    assert_eq!(events.stats().refused, 1);
    taken.expect("there is a turn again");
    until("the look", || events.stats().duplicates == 1).await;
    let log = events.shared.open_log().expect("open");
    let room = events.shared.options.in_flight_bytes as usize;
    until("room", || log.admission.available_permits() == room).await;
}

#[tokio::test]
async fn an_event_that_was_handed_over_is_not_refused_when_the_log_is_opened_anew_meanwhile() {
    let disk = SimulatedDisk::new(11);
    let options = Options {
        down_wait: Duration::from_secs(20),
        ..options()
    };
    let (events, _supervisor) = sealed_on(Arc::new(disk), options).await;

    // Whether it is there can only the disk tell, and before that is asked the log is closed.
    let handed_over = events.try_store(&event(1));
    events.shared.open_log().expect("it is open").close();
    events.actor().expect("it runs").kill();

    handed_over.expect("there is room");
    until("the look", || events.stats().duplicates == 1).await;
    let stats = events.stats();
    assert_eq!((stats.openings, stats.refused), (2, 0));
}

#[tokio::test]
async fn an_event_that_was_handed_over_keeps_its_room_until_the_disk_was_asked() {
    let options = Options {
        admission: Admission::Refuse,
        ..options()
    };
    let disk = Arc::new(SimulatedDisk::new(12));
    let (events, _supervisor) = sealed_on(disk, options).await;
    let log = events.shared.open_log().expect("open");
    let room = log.admission.available_permits();

    let handed_over = events.try_store(&event(1));
    let left = log.admission.available_permits();
    let others = log
        .admission
        .try_acquire_many(u32::try_from(left).expect("some"));
    let refused = events.try_store(&event(2));

    handed_over.expect("there is room");
    assert!(left < room, "it waits within the room for all");
    assert!(matches!(refused, Err(StoreError::Full)), "{refused:?}");
    until("the look", || events.stats().duplicates == 1).await;
    assert_eq!(events.stats().refused, 1, "only the one that was told");
    drop(others);
    until("room", || log.admission.available_permits() == room).await;
}

#[tokio::test]
async fn a_disk_that_does_not_write_keeps_nobody_from_looking_up_ids() {
    let stuck = Arc::new(AtomicBool::new(false));
    let is_stuck = stuck.clone();
    let waits = move |name: &str| {
        while name.strip_suffix(".seg").is_some() && is_stuck.load(Relaxed) {
            thread::yield_now();
        }
    };
    let disk = Arc::new(Before(SimulatedDisk::new(13), waits));
    let (events, _supervisor) = sealed_on(disk, options()).await;
    let turns = events.shared.looking_up.available_permits();

    stuck.store(true, Relaxed);
    let id = EventId::new(41).expect("test id is valid");
    let beyond = EventBuilder::new(id, "k").data("x".repeat(5000));
    let beyond = beyond.build().expect("valid");
    let waiting = events.try_store(&beyond);
    let handed_over = events.try_store(&event(1));
    let meanwhile = events.shared.looking_up.available_permits();

    waiting.expect("there is room");
    handed_over.expect("there is room");
    assert_eq!(meanwhile, turns - 1);
    let all = || events.shared.looking_up.available_permits() == turns;
    until("the turn of another", all).await;
    assert_eq!(events.stats().duplicates, 0, "nothing is written yet");
    stuck.store(false, Relaxed);
    until("the end", || events.stats().duplicates == 1).await;
}

#[tokio::test]
async fn what_the_disk_said_of_one_log_is_not_believed_of_the_next() {
    let options = Options {
        down_wait: Duration::from_secs(20),
        ..options()
    };
    let disk = Arc::new(SimulatedDisk::new(14));
    let (events, _supervisor) = sealed_on(disk, options).await;
    let mut prepared = prepare(once(Ok(&event(1))), None).expect("an event");
    // As if the first segment had lost it, and found it again.
    prepared.looked_up.push((1, 1, None));

    events.shared.open_log().expect("it is open").close();
    events.actor().expect("it runs").kill();
    let outcome = events.put(prepared, ()).await.expect("it is opened anew");

    assert_eq!((outcome.stored, outcome.skipped), (0, 1));
    assert_eq!(events.stats().openings, 2);
}
