//! Removing events.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use underpin::events::{EventBuilder, Options, Order, Query, Retention, Timestamp};

use super::support::{Store, correlation, event, id, ids_of, is_healthy, kill, steps, until};

fn at(nanos: i64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

#[tokio::test]
async fn f55_what_is_earlier_goes_and_what_is_of_that_very_time_stays() {
    for store in [Store::durable().await, Store::memory().await] {
        store.events.store_batch(steps(5)).await.expect("stored");

        let pruned = store.events.prune_before(at(3)).await.expect("pruned");

        assert_eq!(pruned, 2);
        assert_eq!(store.events.get(id(2)).await.expect("readable"), None);
        assert!(store.events.get(id(3)).await.expect("readable").is_some());
        let stats = store.events.stats();
        assert_eq!((stats.events, stats.stored, stats.pruned), (3, 5, 2));
    }
}

/// What was pruned between its finding and its reading was called damaged, and the store was degraded from then on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_pruned_while_it_is_asked_for_is_never_called_damaged() {
    const EVENTS: u64 = 6000;
    let store = Store::with(Options {
        hot_bytes: 0,
        cache_bytes: 0,
        segment_bytes: 8 << 10,
        ..Options::default()
    })
    .await;
    let stored = Arc::new(AtomicU64::new(0));
    let storing = {
        let (events, stored) = (store.events.clone(), stored.clone());
        tokio::spawn(async move {
            for batch in steps(EVENTS).chunks(50) {
                events.store_batch(batch.to_vec()).await.expect("stored");
                stored.fetch_add(50, Ordering::Release);
            }
        })
    };
    let pruning = {
        let (events, stored) = (store.events.clone(), stored.clone());
        tokio::spawn(async move {
            while stored.load(Ordering::Acquire) < EVENTS {
                let behind = stored.load(Ordering::Acquire).saturating_sub(120);
                let before = at(i64::try_from(behind).expect("small"));
                events.prune_before(before).await.expect("pruned");
            }
        })
    };
    let asking = [0, 1].map(|oldest_first| {
        let (events, stored) = (store.events.clone(), stored.clone());
        tokio::spawn(async move {
            let mut answers = 0;
            while stored.load(Ordering::Acquire) < EVENTS {
                let order = [Order::NewestFirst, Order::OldestFirst][oldest_first];
                let page = events.query(Query::new().order(order).limit(200)).await;
                let page = page.expect("it is answered");
                assert_eq!(page.unreadable, [], "pruned, not damaged");
                if let Some(event) = page.events.get(page.events.len() / 2) {
                    events.get(event.id()).await.expect("there, or gone");
                    answers += 1;
                }
            }
            answers
        })
    });

    storing.await.expect("no panic");
    pruning.await.expect("no panic");
    for answers in asking {
        assert!(answers.await.expect("no panic") > 0, "it found something");
    }
    assert_eq!(store.events.stats().unreadable, 0);
    assert!(is_healthy(&store.events), "{:?}", store.events.health());
}

#[tokio::test]
async fn pruned_events_stay_away_after_a_restart_and_later_old_ones_are_welcome() {
    let store = Store::durable().await;
    store.events.store_batch(steps(5)).await.expect("stored");
    store.events.prune_before(at(3)).await.expect("pruned");
    store.events.prune_to(2).await.expect("pruned");
    // An old log imported later is as old as it is.
    store
        .events
        .store(event(9, "old", 1))
        .await
        .expect("stored");

    let store = store.reopen().await;

    let page = store.events.query(Query::new()).await.expect("answered");
    assert_eq!(ids_of(&page), [9, 4, 5]);
}

/// The original did not enforce a cap below ten, and left its index pointing at events that had gone.
#[tokio::test]
async fn f62_a_cap_holds_to_the_event_and_leaves_nothing_dangling() {
    let capped = |options: Options, max| Options {
        retention: Retention {
            max_events: Some(max),
            ..Retention::default()
        },
        ..options
    };
    for options in [Options::default(), Options::memory()] {
        for max in [5, 20] {
            let store = Store::with(capped(options.clone(), max)).await;
            for number in 1..=25 {
                let event = EventBuilder::new(id(number), "k")
                    .correlation(correlation("c"))
                    .build()
                    .expect("valid");
                store.events.store(event).await.expect("stored");
                assert!(store.events.stats().events <= max);
            }

            let page = store
                .events
                .correlation(&correlation("c"))
                .await
                .expect("answered");
            assert_eq!(ids_of(&page), (26 - max..=25).collect::<Vec<_>>());
            assert!(page.unreadable.is_empty());
            assert_eq!(store.events.stats().pruned, 25 - max);
        }
    }
}

#[tokio::test]
async fn f63_events_beyond_their_age_go_by_themselves_also_after_a_restart() {
    let options = Options {
        retention: Retention {
            max_age: Some(Duration::from_hours(1)),
            ..Retention::default()
        },
        retention_interval: Duration::from_millis(20),
        ..Options::default()
    };
    let store = Store::with(options).await;
    for number in [1, 3] {
        store
            .events
            .store(event(number, "old", 1))
            .await
            .expect("stored");
        let fresh = store.events.event("fresh").build().expect("valid");
        store.events.store(fresh).await.expect("stored");

        until("retention", || store.events.stats().pruned >= 1).await;
        until("retention", || {
            store.events.stats().events == number.div_ceil(2)
        })
        .await;
        assert_eq!(store.events.get(id(number)).await.expect("readable"), None);

        kill(&store).await;
        until("restart", || {
            store.events.stats().openings > number.div_ceil(2)
        })
        .await;
    }
}

#[tokio::test]
async fn pruning_gives_whole_segments_back_to_the_disk() {
    let options = Options {
        segment_bytes: 5_000,
        ..Options::default()
    };
    let store = Store::with(options).await;
    for batch in steps(2000).chunks(50) {
        store
            .events
            .store_batch(batch.to_vec())
            .await
            .expect("stored");
    }
    let before = store.events.stats();

    store.events.prune_before(at(1900)).await.expect("pruned");

    let files = || {
        std::fs::read_dir(store.folder.path())
            .expect("readable")
            .count() as u64
    };
    until("unlinking", || files() < before.segments / 2).await;
    let after = store.events.stats();
    assert!(
        after.log_bytes < before.log_bytes / 3,
        "{} of {} bytes left",
        after.log_bytes,
        before.log_bytes
    );
    assert_eq!(after.events, 101);
}

#[tokio::test]
async fn bytes_on_disk_are_kept_within_their_retention() {
    let options = Options {
        segment_bytes: 20_000,
        retention: Retention {
            max_bytes: Some(60_000),
            ..Retention::default()
        },
        retention_interval: Duration::from_millis(10),
        ..Options::default()
    };
    let store = Store::with(options).await;
    for batch in steps(2000).chunks(50) {
        store
            .events
            .store_batch(batch.to_vec())
            .await
            .expect("stored");
    }

    until("retention", || store.events.stats().log_bytes <= 60_000).await;

    assert!(
        store
            .events
            .get(id(2000))
            .await
            .expect("readable")
            .is_some()
    );
}

#[tokio::test]
async fn memory_holds_its_budget_and_says_what_it_dropped() {
    let options = Options {
        hot_bytes: 1 << 20,
        ..Options::memory()
    };
    let store = Store::with(options).await;
    for number in 1..=10_000 {
        let event = EventBuilder::new(id(number), "k")
            .data("x".repeat(500))
            .build()
            .expect("valid");
        store.events.store(event).await.expect("stored");
    }

    let stats = store.events.stats();

    assert!(stats.hot_bytes <= 1 << 20, "{} bytes", stats.hot_bytes);
    assert_eq!(stats.events + stats.pruned, 10_000);
    assert!(
        store
            .events
            .get(id(10_000))
            .await
            .expect("readable")
            .is_some()
    );
    assert_eq!(store.events.get(id(1)).await.expect("readable"), None);
}

/// What is kept, what is hot and how large segments are may be changed while the store runs, and holds after its restarts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_that_are_changed_while_the_store_runs_hold_at_once_and_after_a_restart() {
    let store = Store::durable().await;
    for batch in steps(20_000).chunks(1000) {
        let batch = batch.to_vec();
        store.events.store_batch(batch).await.expect("stored");
    }
    let before = store.events.stats();
    assert_eq!((before.events, before.segments), (20_000, 1));

    store.events.set_hot_bytes(0);
    assert!(store.events.stats().hot_bytes < before.hot_bytes / 2);
    store.events.set_segment_bytes(10_000);
    store
        .events
        .store(event(20_001, "k", 0))
        .await
        .expect("stored");
    assert_eq!(store.events.stats().segments, 2);
    store.events.set_retention(Retention {
        max_events: Some(100),
        ..Retention::default()
    });
    until("pruning", || store.events.stats().events == 100).await;

    kill(&store).await;
    until("restart", || store.events.stats().openings == 2).await;
    store
        .events
        .store(event(20_002, "k", 0))
        .await
        .expect("stored");
    assert_eq!(store.events.stats().events, 100);
    store.events.set_retention(Retention::default());
    let newest = event(20_003, "k", 0);
    store.events.store(newest).await.expect("stored");
    assert_eq!(store.events.stats().events, 101);
}
