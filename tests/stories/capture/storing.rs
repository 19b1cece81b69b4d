//! What was captured gets into the store, whatever becomes of the store.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tracing::{Instrument as _, info_span};
use tracing_subscriber::prelude::*;
use underpin::{
    capture::{self, Capture, CaptureError, FlushError},
    events::Query,
    node::{Node, NodeError},
    otp::{Address, ChildSpec, Intensity, SupervisorSpec},
    testing::{Life, eventually, in_memory, with_node},
    value::Value,
};

use super::{Fragile, LONG, Till, all, assert_settled, capture_of, field, options};

#[tokio::test]
async fn a_store_that_is_not_there_yet_gets_everything_once_when_it_comes() {
    let store = crate::events::support::Store::durable().await;
    let events = store.events.clone();
    store.supervisor.stop().await;
    let capture = Capture::new(&events, &options("off,shop=trace")).expect("valid");
    let subscriber = tracing_subscriber::registry().with(capture.layer());

    tracing::subscriber::with_default(subscriber, || {
        for number in 0..100 {
            tracing::info!(target: "shop", number);
        }
    });
    let moment = Duration::from_millis(50);
    let waiting = capture.flush(moment).await;

    assert!(
        matches!(
            waiting,
            Err(FlushError::Timeout {
                queued_bytes: 1..,
                ..
            })
        ),
        "{waiting:?}"
    );
    let supervisor = crate::events::support::supervise(&events).await;
    capture.flush(LONG).await.expect("there now");
    let numbers: Vec<_> = all(&events)
        .await
        .iter()
        .map(|event| field(event, "number").clone())
        .collect();
    assert_eq!(numbers, (0..100).map(Value::from).collect::<Vec<_>>());
    assert_eq!(capture.stats().stored, 100);
    supervisor.stop().await;
}

/// It did not wait, but span with the lock that whoever stores needs, for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_without_a_limit_waits_until_all_is_stored() {
    with_node(in_memory(), async |node| {
        let (capture, subscriber) = capture_of(node);
        tracing::subscriber::with_default(subscriber, || tracing::info!(target: "shop", "sold"));

        let (tell, told) = std::sync::mpsc::channel();
        let own = capture.clone();
        std::thread::spawn(move || tell.send(own.flush_blocking(Duration::MAX)));
        let flushed = tokio::task::spawn_blocking(move || told.recv_timeout(LONG)).await;

        assert_eq!(flushed.expect("no panic"), Ok(Ok(())));
        assert_eq!(all(node.events()).await.len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_store_holds_nobody_up_and_what_the_queue_has_no_room_for_is_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = crate::faults::Moody::new(folder.path());
    let node = Node::builder()
        .data_dir(folder.path())
        .without_environment()
        .events_disk(Arc::new(disk.clone()))
        .start()
        .await
        .expect("starts");
    let small = capture::Options {
        queue_bytes: 100_000,
        ..options("off,shop=trace")
    };
    let capture = Capture::new(node.events(), &small).expect("valid");
    let subscriber = tracing_subscriber::registry().with(capture.layer());
    disk.set_stuck(true);

    tracing::subscriber::with_default(subscriber, || {
        for number in 0..10_000 {
            tracing::info!(target: "shop", number);
        }
    });

    let stuck = capture.stats();
    assert!(stuck.dropped > 0, "{stuck:?}");
    assert!(stuck.queued_bytes <= 100_000, "{stuck:?}");
    disk.set_stuck(false);
    capture.flush(LONG).await.expect("it works again");
    let stats = capture.stats();
    assert_eq!(stats.captured, 10_000);
    assert_settled(stats);
    let stored = all(node.events()).await;
    assert_eq!(stored.len() as u64, stats.stored);
    let numbers: BTreeSet<_> = stored
        .iter()
        .map(|event| field(event, "number").as_i64())
        .collect();
    assert_eq!(numbers.len(), stored.len(), "nothing is there twice");
    node.shutdown().await;
}

#[tokio::test]
async fn a_store_that_crashes_in_between_has_everything_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let durable = Node::builder()
        .data_dir(folder.path())
        .without_environment();
    with_node(durable, async |node| {
        let (capture, subscriber) = capture_of(node);
        let dispatch = tracing::Dispatch::new(subscriber);
        let say = |numbers: std::ops::Range<u64>| {
            tracing::dispatcher::with_default(&dispatch, || {
                for number in numbers {
                    tracing::info!(target: "shop", number);
                }
            });
        };

        say(0..500);
        let crash = Life::of(node.supervisor(), "events").kill();
        say(500..1000);
        crash.restarted().await;
        say(1000..1500);

        capture.flush(LONG).await.expect("it is back");
        let stats = capture.stats();
        assert_eq!(
            (stats.captured, stats.stored, stats.dropped),
            (1500, 1500, 0)
        );
        let stored = all(node.events()).await;
        let numbers: BTreeSet<_> = stored
            .iter()
            .map(|event| field(event, "number").as_u64())
            .collect();
        assert_eq!((stored.len(), numbers.len()), (1500, 1500));
    })
    .await;
}

#[tokio::test]
async fn a_closed_capture_has_stored_what_it_had_and_counts_what_comes_later() {
    with_node(in_memory(), async |node| {
        let (capture, subscriber) = capture_of(node);
        let dispatch = tracing::Dispatch::new(subscriber);
        let say = || {
            tracing::dispatcher::with_default(&dispatch, || {
                tracing::info!(target: "shop", "here");
            });
        };

        say();
        capture.close(LONG).await.expect("stored");
        say();

        capture.flush(LONG).await.expect("nothing to wait for");
        let stats = capture.stats();
        assert_eq!((stats.stored, stats.dropped), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn a_node_that_shuts_down_stores_what_its_program_did_until_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let last_words = ChildSpec::task("app", |ctx| async move {
        ctx.cancelled().await;
        tracing::info!(target: "shop", "last words");
        Ok(())
    });
    let builder = || {
        Node::builder()
            .data_dir(folder.path())
            .without_environment()
    };
    let node = builder().child(last_words).start().await.expect("starts");
    node.capture()
        .set_filter("off,shop=info")
        .expect("a filter");
    let subscriber = tracing_subscriber::registry().with(node.capture().layer());
    let guard = tracing::subscriber::set_default(subscriber);

    node.shutdown().await;

    drop(guard);
    let again = builder().start().await.expect("starts");
    let events = all(again.events()).await;
    assert_eq!(field(&events[0], "message"), &Value::from("last words"));
    again.shutdown().await;
}

#[tokio::test]
async fn what_led_to_a_give_up_is_stored_before_it_and_the_give_up_is_its_consequence() {
    let till = Address::new();
    let desk = SupervisorSpec::new("desk", Intensity::new(0, LONG)).child(ChildSpec::actor(
        "till",
        &till,
        |_| (Fragile, ()),
    ));
    let node = in_memory()
        .child(ChildSpec::supervisor(desk))
        .capture(options("off,shop=trace"));
    with_node(node, async |node| {
        let capture = node.capture();
        let subscriber = tracing_subscriber::registry().with(capture.layer());
        let _guard = tracing::subscriber::set_default(subscriber);

        let request = async {
            // More than is stored by the way until the give-up.
            for straw in 0..30_000 {
                tracing::info!(target: "shop", straw);
            }
            till.call(|reply| Till::Charge { cents: 13, reply }, LONG)
                .await
        };
        let span = info_span!(target: "shop", "request");
        assert!(request.instrument(span).await.is_err());

        // Nobody flushes.
        let stored = async |kind: &str| {
            let found = node.events().query(Query::new().kind(kind)).await;
            found.expect("a query").events
        };
        eventually("the give-up", async || {
            !stored("otp.gave_up").await.is_empty()
        })
        .await;
        let straws = node.events().count(Query::new().kind("tracing.info"));
        assert_eq!(straws.await.expect("counts"), 30_000);
        let (gave_up, straw) = (stored("otp.gave_up").await, stored("tracing.info").await);
        assert_eq!(gave_up[0].correlation(), straw[0].correlation());
    })
    .await;
}

#[tokio::test]
async fn a_nodes_own_capture_has_the_options_it_was_built_with_and_wrong_ones_start_no_node() {
    let narrow = capture::Options {
        text_bytes_max: 4,
        redact: vec!["pin".into()],
        ..options("off,shop=warn")
    };
    with_node(in_memory().capture(narrow), async |node| {
        let subscriber = tracing_subscriber::registry().with(node.capture().layer());

        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "shop", "not wanted");
            tracing::warn!(target: "shop", pin = 1234, token = "shown", "wanted");
        });

        node.capture().flush(LONG).await.expect("stored");
        let events = all(node.events()).await;
        assert_eq!(events.len(), 1);
        assert_eq!(field(&events[0], "message"), &Value::from("want…"));
        assert_eq!(field(&events[0], "pin"), &Value::from("[redacted]"));
        assert_eq!(field(&events[0], "token"), &Value::from("show…"));
        let stored = node
            .telemetry()
            .snapshot()
            .counter("underpin_capture_stored", &[]);
        assert_eq!(stored, 1);
    })
    .await;

    let wrong = in_memory().capture(options("shop=loud")).start().await;

    assert!(
        matches!(wrong, Err(NodeError::Capture(CaptureError::Filter { .. }))),
        "{wrong:?}"
    );
}

#[tokio::test]
async fn a_name_that_becomes_secret_is_hidden_in_what_waits_for_the_store_too() {
    let store = crate::events::support::Store::durable().await;
    let events = store.events.clone();
    store.supervisor.stop().await;
    let capture = Capture::new(&events, &options("off,shop=trace")).expect("valid");
    let subscriber = tracing_subscriber::registry().with(capture.layer());
    let dispatch = tracing::Dispatch::new(subscriber);
    let sell = |what: &str| {
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::info!(target: "shop", what, pin = "1234", token = "abcd");
        });
    };
    sell("tea");
    // The store is being asked to take the first one, which the second one has to wait for.
    let moment = Duration::from_millis(50);
    assert!(capture.flush(moment).await.is_err());
    sell("milk");

    capture.set_redacted(&["PIN"]);
    let supervisor = crate::events::support::supervise(&events).await;
    capture.flush(LONG).await.expect("there now");

    let sold = all(&events).await;
    assert_eq!(field(&sold[1], "what"), &Value::from("milk"));
    assert_eq!(field(&sold[1], "pin"), &Value::from("[redacted]"));
    assert_eq!(field(&sold[1], "token"), &Value::from("abcd"));
    assert_settled(capture.stats());
    supervisor.stop().await;
}
