//! Storing events.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use underpin::{
    events::{
        Checkpoint, EventBuilder, EventError, Events, EventsHealth, Options, Query, Retention,
        StoreError, Timestamp,
    },
    otp::StopKind,
    value::Value,
};

use super::support::{Store, correlation, event, id, kill, steps};

#[tokio::test]
async fn f50_a_stored_event_is_found_under_its_id() {
    for store in [Store::durable().await, Store::memory().await] {
        let stored = event(123, "k", 5);

        assert_eq!(
            store.events.store(stored.clone()).await.expect("stored"),
            id(123)
        );

        assert_eq!(
            store.events.get(id(123)).await.expect("readable"),
            Some(stored)
        );
        assert_eq!(store.events.get(id(99_999)).await.expect("readable"), None);
    }
}

#[tokio::test]
async fn f36_an_event_above_one_megabyte_is_refused_and_harms_nothing() {
    let store = Store::durable().await;
    let large = |len: usize| {
        EventBuilder::new(id(1), "k")
            .data("x".repeat(len))
            .build()
            .expect("built")
    };

    let refused = store.events.store(large(2_000_000)).await;
    let accepted = store.events.store(large(999_000)).await;

    assert!(matches!(
        refused,
        Err(StoreError::Event(EventError::DataTooLarge { .. }))
    ));
    assert_eq!(accepted.expect("below the limit"), id(1));
    assert_eq!(store.events.stats().events, 1);
}

#[tokio::test]
async fn f51_a_batch_is_stored_whole_or_not_at_all() {
    let store = Store::durable().await;
    let ids = store.events.store_batch(steps(3)).await.expect("all fit");
    assert_eq!(ids, [id(1), id(2), id(3)]);

    let too_large = EventBuilder::new(id(5), "k")
        .data("x".repeat(1_100_000))
        .build()
        .expect("built");
    let refused = store
        .events
        .store_batch(vec![event(4, "k", 0), too_large, event(6, "k", 0)])
        .await;
    let conflicting = store
        .events
        .store_batch(vec![event(7, "k", 0), event(2, "other", 0)])
        .await;

    assert!(matches!(refused, Err(StoreError::Event(_))));
    assert!(matches!(conflicting, Err(StoreError::Conflict { id: two }) if two == id(2)));
    assert_eq!(
        store.events.count(Query::new()).await.expect("countable"),
        3
    );
    assert_eq!(
        store
            .events
            .store_batch(Vec::new())
            .await
            .expect("nothing to do"),
        []
    );
}

/// The original overwrote an event whose id came again, and left its index pointing at the wrong one.
#[tokio::test]
async fn the_same_event_again_is_there_once_and_another_under_its_id_is_refused() {
    for store in [Store::durable().await, Store::memory().await] {
        let first = event(1, "k", 5);
        store.events.store(first.clone()).await.expect("stored");

        store
            .events
            .store(first.clone())
            .await
            .expect("known already");
        let refused = store.events.store(event(1, "other", 5)).await;

        assert!(matches!(refused, Err(StoreError::Conflict { .. })));
        assert_eq!(
            store.events.get(id(1)).await.expect("readable"),
            Some(first)
        );
        let stats = store.events.stats();
        assert_eq!((stats.events, stats.stored, stats.duplicates), (1, 1, 1));
    }
}

#[tokio::test]
async fn an_event_that_stands_in_a_batch_twice_is_stored_once() {
    let store = Store::durable().await;

    let batch = vec![event(2, "k", 0), event(1, "k", 0), event(2, "k", 0)];
    store.events.store_batch(batch).await.expect("all fit");
    let refused = store
        .events
        .store_batch(vec![event(4, "a", 0), event(4, "b", 0)])
        .await;

    assert!(matches!(refused, Err(StoreError::Conflict { .. })));
    assert_eq!(store.events.stats().events, 2);
}

#[tokio::test]
async fn f56_the_figures_tell_what_was_stored() {
    let store = Store::durable().await;
    for event in steps(5) {
        store.events.store(event).await.expect("stored");
    }

    let stats = store.events.stats();

    assert_eq!((stats.events, stats.stored, stats.pruned), (5, 5, 0));
    assert!(stats.hot_bytes > 0 && stats.index_bytes > 0 && stats.log_bytes > 0);
    assert_eq!(stats.openings, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f65_fifty_tasks_store_at_once_and_none_is_lost() {
    for store in [Store::durable().await, Store::memory().await] {
        let tasks: Vec<_> = (1..=50)
            .map(|number| {
                let events = store.events.clone();
                tokio::spawn(async move { events.store(event(number, "k", 0)).await })
            })
            .collect();
        let mut ids = BTreeSet::new();
        for task in tasks {
            ids.insert(task.await.expect("task ends").expect("stored"));
        }

        assert_eq!(ids.len(), 50);
        assert_eq!(
            store.events.count(Query::new()).await.expect("countable"),
            50
        );
    }
}

#[tokio::test]
async fn f67_ten_thousand_events_are_one_batch() {
    let store = Store::durable().await;

    let ids = store
        .events
        .store_batch(steps(10_000))
        .await
        .expect("all fit");
    let page = store
        .events
        .query(Query::new().limit(150))
        .await
        .expect("answered");

    assert_eq!(ids.len(), 10_000);
    assert_eq!(page.events.len(), 150);
    assert_eq!(store.events.stats().commits, 1, "one write for all");
}

#[tokio::test]
async fn f67_a_batch_beyond_its_limit_is_refused_whole() {
    let store = Store::durable().await;
    let large = |number| {
        EventBuilder::new(id(number), "k")
            .data("x".repeat(900_000))
            .build()
            .expect("built")
    };

    let refused = store
        .events
        .store_batch((1..=40).map(large).collect())
        .await;

    assert!(matches!(
        refused,
        Err(StoreError::BatchTooLarge {
            max: Events::BATCH_BYTES_MAX,
            ..
        })
    ));
    assert_eq!(store.events.stats().events, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f74_tasks_that_store_and_read_one_correlation_at_once_agree_on_it() {
    let store = Store::durable().await;
    let together = correlation("together");
    let tasks: Vec<_> = (0..10_u64)
        .map(|task| {
            let (events, together) = (store.events.clone(), together.clone());
            tokio::spawn(async move {
                for n in 0..20 {
                    let event = events
                        .event(format!("task.{task}"))
                        .correlation(together.clone())
                        .data(n)
                        .build()
                        .expect("valid");
                    let stored = events.store(event).await.expect("stored");
                    let seen = events.correlation(&together).await.expect("answered");
                    assert!(
                        seen.events.iter().any(|event| event.id() == stored),
                        "what was stored is seen"
                    );
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("task ends well");
    }

    let page = store.events.correlation(&together).await.expect("answered");
    let ids: BTreeSet<_> = page
        .events
        .iter()
        .map(underpin::events::Event::id)
        .collect();
    assert_eq!((page.events.len(), ids.len()), (200, 200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f75_what_one_task_stored_every_other_task_sees() {
    let store = Store::durable().await;
    for number in 1..=50 {
        let mut builder = EventBuilder::new(id(number), "k").correlation(correlation("c"));
        builder = builder.time(Timestamp::from_nanos(1));
        store
            .events
            .store(builder.build().expect("valid"))
            .await
            .expect("stored");

        let events = store.events.clone();
        let other = tokio::spawn(async move {
            let by_id = events.get(id(number)).await.expect("readable").is_some();
            let by_kind = events
                .count(Query::new().kind("k"))
                .await
                .expect("countable");
            let together = events
                .correlation(&correlation("c"))
                .await
                .expect("answered");
            (by_id, by_kind, together.events.len() as u64)
        });
        assert_eq!(other.await.expect("task ends"), (true, number, number));
    }
}

#[tokio::test]
async fn try_store_never_waits_and_counts_what_it_refuses() {
    let options = Options {
        in_flight_bytes: 2000,
        ..Options::default()
    };
    let store = Store::with(options).await;
    let mut refused = 0;
    for number in 1..=200 {
        let event = EventBuilder::new(id(number), "k")
            .data("x".repeat(400))
            .build()
            .expect("valid");
        match store.events.try_store(&event) {
            Ok(accepted) => assert_eq!(accepted, id(number)),
            Err(StoreError::Full) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(
        refused > 0,
        "the writer cannot keep up with 2000 bytes in flight"
    );

    // Whoever waits gets through behind them.
    store
        .events
        .store(event(1000, "last", 0))
        .await
        .expect("stored");

    let stats = store.events.stats();
    assert_eq!(stats.refused, refused);
    assert_eq!(stats.events, 200 - refused + 1);
}

#[tokio::test]
async fn an_import_moves_its_checkpoint_with_its_events_and_skips_what_is_there() {
    let store = Store::durable().await;
    let at = |line: i64| Checkpoint {
        key: "file".into(),
        value: Value::from(line),
    };
    assert_eq!(
        store.events.checkpoint("file").await.expect("readable"),
        None
    );

    let first = store
        .events
        .store_import(steps(3), at(3))
        .await
        .expect("imported");
    let again = store
        .events
        .store_import(steps(5), at(5))
        .await
        .expect("imported");
    let nothing_new = store
        .events
        .store_import(steps(5), at(6))
        .await
        .expect("imported");
    let store = store.reopen().await;

    assert_eq!((first.stored, first.skipped), (3, 0));
    assert_eq!((again.stored, again.skipped), (2, 3));
    assert_eq!((nothing_new.stored, nothing_new.skipped), (0, 5));
    assert_eq!(
        store.events.checkpoint("file").await.expect("readable"),
        Some(Value::from(6))
    );
    assert_eq!(store.events.stats().events, 5);

    let remove = Checkpoint {
        key: "file".into(),
        value: Value::Null,
    };
    store
        .events
        .store_import(Vec::new(), remove)
        .await
        .expect("removed");
    assert_eq!(
        store.events.checkpoint("file").await.expect("readable"),
        None
    );
}

#[tokio::test]
async fn checkpoints_have_their_limits() {
    let store = Store::memory().await;
    let import = |key: String, value: String| {
        let checkpoint = Checkpoint {
            key: Arc::from(key),
            value: Value::from(value),
        };
        store.events.store_import(Vec::new(), checkpoint)
    };

    assert!(matches!(
        import(String::new(), String::new()).await,
        Err(StoreError::Checkpoint { .. })
    ));
    assert!(import("k".repeat(1024), String::new()).await.is_ok());
    assert!(matches!(
        import("k".repeat(1025), String::new()).await,
        Err(StoreError::Checkpoint { .. })
    ));
    assert!(matches!(
        import("k".into(), "v".repeat(5000)).await,
        Err(StoreError::Checkpoint { .. })
    ));
    for n in 0..1023 {
        import(format!("key {n}"), "v".into())
            .await
            .expect("there is room");
    }
    assert!(matches!(
        import("one more".into(), "v".into()).await,
        Err(StoreError::TooManyCheckpoints)
    ));
    import("key 7".into(), "other".into())
        .await
        .expect("it is there already");
}

/// A store in memory acknowledged whatever came after its stop, and called itself healthy; whoever pruned waited for half a minute.
#[tokio::test]
async fn a_store_that_was_stopped_refuses_whatever_comes_and_can_still_be_read() {
    for options in [Options::default(), Options::memory()] {
        let store = Store::with(Options {
            down_wait: Duration::from_millis(10),
            ..options
        })
        .await;
        let (events, begin) = (store.events, Instant::now());
        events.store(event(1, "k", 1)).await.expect("stored");

        store.supervisor.stop().await;

        let late = event(2, "k", 2);
        let refused = [
            events.store(late.clone()).await.map(drop),
            events.try_store(&late).map(drop),
            events.store_batch(vec![late.clone()]).await.map(drop),
            events.store_import(vec![late], None).await.map(drop),
            events.prune_to(0).await.map(drop),
        ];
        for refused in refused {
            assert!(
                matches!(refused, Err(StoreError::Down { .. })),
                "{refused:?}"
            );
        }
        assert!(begin.elapsed() < Options::default().answer_wait);
        assert!(matches!(events.health(), EventsHealth::Down { .. }));
        assert_eq!((events.stats().events, events.stats().refused), (1, 4));
        let found = events.get(id(1)).await.expect("readable");
        assert_eq!(found, Some(event(1, "k", 1)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_while_a_store_in_memory_is_restarted_waits_for_that() {
    let store = Store::memory().await;
    for number in 1..=20 {
        kill(&store).await;
        let stored = store.events.store(event(number, "k", 1)).await;
        stored.expect("it is back in a moment, with what it had");
    }

    assert_eq!(store.events.stats().events, 20);
    store.supervisor.stop().await;
}

/// Whoever prunes was panicked, and so was the thread that closes the log.
#[tokio::test]
async fn times_without_end_are_waited_for_without_end() {
    let options = Options {
        idle_mark: Duration::MAX,
        down_wait: Duration::MAX,
        answer_wait: Duration::MAX,
        retention_interval: Duration::MAX,
        retention: Retention {
            max_age: Some(Duration::MAX),
            ..Retention::default()
        },
        ..Options::default()
    };
    let store = Store::with(options).await;
    store.events.store_batch(steps(3)).await.expect("stored");

    let pruned = store.events.prune_to(1).await;
    let stopped = store.supervisor.stop().await;

    assert_eq!(pruned.expect("pruned"), 2);
    assert_eq!(stopped.children[0].how, StopKind::Graceful);
    assert!(stopped.children[0].reason.is_clean(), "{stopped:?}");
}

/// The store did not even begin: to remember what had been asked for it wanted more memory than there is.
#[tokio::test]
async fn sizes_without_end_are_as_much_as_there_is() {
    for options in [Options::default(), Options::memory()] {
        let store = Store::with(Options {
            hot_bytes: usize::MAX,
            cache_bytes: usize::MAX,
            segment_bytes: u32::MAX,
            in_flight_bytes: u32::MAX,
            ..options
        })
        .await;

        store.events.store_batch(steps(3)).await.expect("stored");

        assert_eq!(store.events.stats().events, 3);
        store.supervisor.stop().await;
    }
}

/// It was told that half a minute had passed.
#[tokio::test]
async fn whoever_prunes_as_the_store_crashes_is_told_how_long_that_took() {
    let crash = async || {
        let store = Store::memory().await;
        let (events, begin) = (store.events.clone(), Instant::now());
        let pruning = tokio::spawn(async move { events.prune_to(0).await });
        tokio::task::yield_now().await;

        store.events.actor().expect("runs").kill();

        let pruned = pruning.await.expect("no panic");
        store.supervisor.stop().await;
        (pruned, begin.elapsed())
    };

    // Now and then it is done before the crash.
    for _ in 0..20 {
        match crash().await {
            (Ok(_), _) => {}
            (Err(StoreError::Unanswered { waited }), most) => {
                return assert!(waited <= most, "{waited:?}");
            }
            (other, _) => panic!("{other:?}"),
        }
    }
    panic!("it is done before each crash");
}
