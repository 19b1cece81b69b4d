//! The whole store over a disk that fails: what callers are told, and how it heals.

use std::{sync::Arc, time::Duration};

use super::{
    Event, EventBuilder, Events, EventsHealth, Options, Query, StoreError, simulated::SimulatedDisk,
};
use crate::{
    ids::{EventId, IdGenerator, NodeId},
    otp::{Intensity, Supervisor, SupervisorSpec},
    telemetry::{self, Telemetry},
};

async fn supervised(disk: &SimulatedDisk, options: Options) -> (Events, Supervisor) {
    let ids = Arc::new(IdGenerator::new(NodeId::new(7).expect("small number")));
    let telemetry = Telemetry::new(telemetry::Options::default());
    let events = Events::new(options, Arc::new(disk.clone()), ids, &telemetry);
    let spec = SupervisorSpec::new("root", Intensity::new(1000, Duration::from_secs(1)));
    let supervisor = Supervisor::start(spec.child(events.child_spec())).await;
    (events, supervisor.expect("store opens"))
}

fn options() -> Options {
    Options {
        idle_mark: Duration::from_millis(10),
        ..Options::default()
    }
}

fn event(number: u64) -> Event {
    let id = EventId::new(number).expect("test id is valid");
    EventBuilder::new(id, "k")
        .data("x".repeat(200))
        .build()
        .expect("valid")
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    let came = tokio::time::timeout(Duration::from_secs(20), wait).await;
    assert!(came.is_ok(), "{what} did not come about");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_to_callers_and_to_health_and_heals_when_there_is_room() {
    let disk = SimulatedDisk::new(1);
    let (events, _supervisor) = supervised(&disk, options()).await;
    events.store(event(1)).await.expect("there is room");

    disk.leave_room(Some(0));
    let refused = events.store(event(2)).await;

    assert!(
        matches!(refused, Err(StoreError::Failed { .. })),
        "{refused:?}"
    );
    assert_ne!(events.health(), EventsHealth::Healthy);
    let page = events.query(Query::new()).await.expect("reads go on");
    assert_eq!(page.events, [event(1)]);

    disk.leave_room(None);
    until("healing", || events.health() == EventsHealth::Healthy).await;
    events.store(event(2)).await.expect("there is room again");
    assert_eq!(events.count(Query::new()).await.expect("countable"), 2);
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
