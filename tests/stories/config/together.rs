//! Many at once: concurrent readers and writers, subscribers, and a server that dies.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tokio::{
    task::yield_now,
    time::{Instant, timeout},
};
use underpin::{
    config::{Kind, Notice, Options, Serving, Subscription, UpdateError},
    value::Value,
};

use super::{
    foundation::{Foundation, Node, sources},
    keeping::TestDisk,
};

async fn next(subscription: &mut Subscription) -> Notice {
    let notice = timeout(Duration::from_secs(30), subscription.recv()).await;
    notice.expect("told some time").expect("the node is there")
}

async fn following(node: &Node, path: &str) -> Subscription {
    let mut subscription = node.config.subscribe(path).expect("the path is valid");
    next(&mut subscription).await;
    subscription
}

/// Kills the server and waits until it is gone and, where its supervisor starts it again, another one is there.
async fn crash(node: &Node, comes_back: bool) {
    let running = || node.document.actor().map(|actor| actor.get_id());
    let killed = running();
    node.kill_server();
    let is_up = || matches!(node.document.status().serving, Serving::Running { .. });
    while is_up() != comes_back || comes_back && running() == killed {
        yield_now().await;
    }
}

/// Writes until the server answers.
async fn answered(node: &Node, path: &str, value: Value) {
    while let Err(refused) = node.config.update(path, value.clone()).await {
        assert!(matches!(refused, UpdateError::Call(_)), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f15_fifty_concurrent_reads_are_all_answered() {
    let node = Node::start().await;
    let started = Instant::now();

    let readers: Vec<_> = (0..50)
        .map(|_| {
            let config = node.config.clone();
            tokio::spawn(async move { config.get::<String>("ai.provider") })
        })
        .collect();

    for reader in readers {
        assert_eq!(reader.await.expect("no panic").as_deref(), Ok("mock"));
    }
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn f16_a_thousand_reads_agree_and_a_hundred_updates_leave_one_of_them() {
    let node = Node::start().await;

    let readers: Vec<_> = (0..1000)
        .map(|_| {
            let config = node.config.clone();
            tokio::spawn(async move { config.get_value("") })
        })
        .collect();
    let expected = node.config.get_value("");
    for reader in readers {
        assert_eq!(reader.await.expect("no panic"), expected);
    }
    let writers: Vec<_> = (1..=100)
        .map(|wanted| {
            let config = node.config.clone();
            tokio::spawn(async move { config.update("interface.max_results", wanted).await })
        })
        .collect();
    for writer in writers {
        writer
            .await
            .expect("no panic")
            .expect("each value is valid");
    }

    assert!((1..=100).contains(&node.config.load().interface.max_results));
    assert_eq!(node.document.status().updates_count, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn f18_five_tasks_update_five_paths_at_once_and_none_is_lost() {
    let node = Node::start().await;
    let mut books = node.document.audit(node.document.revision());
    let updates = [
        ("dev.debug_mode", Value::from(true)),
        ("dev.verbose_logging", Value::from(false)),
        ("dev.performance_monitoring", Value::from(true)),
        ("ai.planning.sampling_rate", Value::from(0.8)),
        ("interface.query_timeout", Value::from(5000)),
    ];

    let writers: Vec<_> = updates
        .clone()
        .into_iter()
        .map(|(path, value)| {
            let config = node.config.clone();
            tokio::spawn(async move { config.update(path, value).await })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no panic").expect("it is valid");
    }

    for (path, value) in updates {
        assert_eq!(node.config.get_value(path), Ok(value));
    }
    let told = std::iter::from_fn(|| books.try_recv()).count();
    assert_eq!(told, 5, "one entry in the books for each change");
}

#[tokio::test(flavor = "multi_thread")]
async fn f19_mixed_reads_at_once_are_all_answered() {
    let node = Node::start().await;

    let readers: Vec<_> = (0..10)
        .map(|n| {
            let config = node.config.clone();
            let path = ["", "ai.provider", "dev.debug_mode"][n % 3];
            tokio::spawn(async move { config.get_value(path).is_ok() })
        })
        .collect();

    for reader in readers {
        assert!(reader.await.expect("no panic"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_concurrent_toggles_end_where_they_began() {
    let node = Node::start().await;

    let writers: Vec<_> = (0..20)
        .map(|_| {
            let config = node.config.clone();
            tokio::spawn(async move {
                config
                    .update_with(|settings| settings.dev.debug_mode ^= true)
                    .await
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no panic").expect("it is valid");
    }

    assert!(!node.config.load().dev.debug_mode);
    assert_eq!(node.document.status().updates_count, 20);
}

#[tokio::test]
async fn f25_a_subscriber_sees_every_change_in_order() {
    let node = Node::start().await;
    let mut subscriber = following(&node, "interface").await;

    for wanted in [1, 2, 3] {
        node.config
            .update("interface.max_results", wanted)
            .await
            .expect("it is valid");
    }

    for wanted in [1, 2, 3] {
        let notice = next(&mut subscriber).await;
        let record = notice.record.expect("it is a change");
        assert_eq!(
            record.changes[0].path.to_string(),
            "app.interface.max_results"
        );
        assert_eq!(record.changes[0].after, Some(Value::from(wanted)));
        assert_eq!(
            notice
                .value
                .and_then(|value| value.as_map()?.get("max_results")?.as_i64()),
            Some(wanted)
        );
    }
}

#[tokio::test]
async fn f26_a_refused_update_tells_nobody() {
    let node = Node::start().await;
    let mut subscriber = following(&node, "").await;
    let mut books = node.document.audit(node.document.revision());

    node.config
        .update("ai.planning.sampling_rate", 2.0)
        .await
        .expect_err("it is out of range");
    node.config
        .update("dev.debug_mode", true)
        .await
        .expect("it is valid");

    let first = next(&mut subscriber).await.record.expect("it is a change");
    assert_eq!(first.changes[0].path.to_string(), "app.dev.debug_mode");
    assert_eq!(books.try_recv().map(|audit| audit.record), Some(first));
    assert!(books.try_recv().is_none());
}

#[tokio::test]
async fn f27_each_subscription_is_told_once_and_a_dropped_one_never() {
    let node = Node::start().await;
    let mut first = following(&node, "dev").await;
    let second = following(&node, "dev").await;
    assert_eq!(node.document.status().subscribers, 2);
    drop(second);

    node.config
        .update("dev.debug_mode", true)
        .await
        .expect("it is valid");

    next(&mut first).await;
    assert!(first.try_recv().is_none(), "one change is one notice");
    assert_eq!(node.document.status().subscribers, 1);
}

/// The clock stands still while anything can be done: a limit is only reached by who waits for time to pass.
#[tokio::test(start_paused = true)]
async fn f28_a_subscriber_that_dies_is_forgotten_and_harms_nobody() {
    let node = Node::start().await;
    let mut subscription = following(&node, "dev").await;
    let task = tokio::spawn(async move {
        subscription.recv().await;
        panic!("a defect of the subscriber");
    });

    node.config
        .update("dev.debug_mode", true)
        .await
        .expect("it is valid");
    task.await.expect_err("it panicked");

    assert_eq!(node.document.status().subscribers, 0);
    let next = node.config.update("dev.debug_mode", false);
    timeout(Duration::from_millis(50), next)
        .await
        .expect("it is quick")
        .expect("it is valid");
}

#[tokio::test]
async fn a_subscriber_is_told_of_its_path_alone() {
    let node = Node::start().await;
    let mut subscriber = following(&node, "dev.debug_mode").await;

    node.config
        .update("interface.max_results", 3)
        .await
        .expect("it is valid");
    node.config
        .update("dev.verbose_logging", true)
        .await
        .expect("it is valid");
    let same = Value::from([("verbose_logging", false)]);
    node.config
        .update("dev", same)
        .await
        .expect("a table above that changes nothing here");
    node.config
        .update("dev.debug_mode", true)
        .await
        .expect("it is valid");

    assert_eq!(next(&mut subscriber).await.value, Some(Value::from(true)));
    assert!(subscriber.try_recv().is_none());
}

#[tokio::test]
async fn f30_subscribers_survive_a_restart_of_the_server() {
    let node = Node::start().await;
    let mut subscriber = following(&node, "dev").await;
    node.config
        .update("dev.debug_mode", true)
        .await
        .expect("it is valid");

    node.stop_server().await;
    node.start_server().await;
    node.config
        .update("dev.debug_mode", false)
        .await
        .expect("the new server answers");

    let debug_mode = |notice: Notice| {
        notice
            .value
            .and_then(|value| value.as_map()?.get("debug_mode")?.as_bool())
    };
    assert_eq!(debug_mode(next(&mut subscriber).await), Some(true));
    assert_eq!(debug_mode(next(&mut subscriber).await), Some(false));
}

#[tokio::test]
async fn a_slow_subscriber_gets_the_newest_state_and_is_told_what_it_missed() {
    let options = Options {
        log_changes: 4,
        ..Options::default()
    };
    let node = Node::start_with(sources(), options).await;
    let mut slow = following(&node, "interface.max_results").await;
    let mut books = node.document.audit(node.document.revision());

    for wanted in 1..=10 {
        node.config
            .update("interface.max_results", wanted)
            .await
            .expect("it is valid");
    }

    let notice = next(&mut slow).await;
    assert_eq!((notice.value, notice.missed), (Some(Value::from(10)), 10));
    assert!(notice.record.is_none());
    assert!(slow.try_recv().is_none());
    let audit = books.recv().await.expect("the books go on");
    assert_eq!((audit.missed, audit.record.revision.0), (6, 7));
    let all_in_all = &audit.missed_changes[0];
    assert_eq!(audit.missed_changes.len(), 1);
    assert_eq!(all_in_all.path.to_string(), "app.interface.max_results");
    assert_eq!(all_in_all.before, Some(Value::from(1000)));
    assert_eq!(all_in_all.after, Some(Value::from(6)));
}

#[tokio::test]
async fn what_a_subscriber_took_from_the_log_at_once_is_told_in_order_and_let_go_when_it_is_old() {
    let options = Options {
        log_changes: 4,
        ..Options::default()
    };
    let node = Node::start_with(sources(), options).await;
    let mut follower = following(&node, "interface.max_results").await;
    let write = async |values: std::ops::RangeInclusive<i64>| {
        for value in values {
            let written = node.config.update("interface.max_results", value).await;
            written.expect("it is valid");
        }
    };

    write(1..=3).await;
    let first = next(&mut follower).await;
    write(4..=4).await;
    let mut told = vec![first];
    while let Some(notice) = follower.try_recv() {
        told.push(notice);
    }
    let values: Vec<_> = told.iter().map(|notice| notice.value.clone()).collect();
    assert_eq!(values, [1, 2, 3, 4].map(|value| Some(Value::from(value))));
    assert!(told.iter().all(|notice| notice.missed == 0));

    write(5..=8).await;
    let fifth = next(&mut follower).await;
    assert_eq!((fifth.value, fifth.missed), (Some(Value::from(5)), 0));
    write(9..=12).await;
    let newest = next(&mut follower).await;
    assert_eq!((newest.value, newest.missed), (Some(Value::from(12)), 7));
    assert!(newest.record.is_none());
    assert!(follower.try_recv().is_none());
}

#[tokio::test]
async fn a_subscription_ends_with_the_node() {
    let node = Node::start().await;
    let mut subscriber = following(&node, "").await;
    let Node {
        document,
        config,
        tree,
        ..
    } = node;

    tree.stop().await;
    drop((document, config, tree));

    assert!(
        timeout(Duration::from_secs(5), subscriber.recv())
            .await
            .expect("it ends")
            .is_none()
    );
}

#[tokio::test(start_paused = true)]
async fn f31_ten_updates_are_quick_and_each_is_in_the_books() {
    let node = Node::start().await;
    let mut books = node.document.audit(node.document.revision());
    let started = Instant::now();

    for wanted in 1..=10 {
        let each = Instant::now();
        node.config
            .update("interface.max_results", wanted)
            .await
            .expect("it is valid");
        assert!(each.elapsed() < Duration::from_millis(100));
    }

    assert!(started.elapsed() < Duration::from_secs(1));
    for wanted in 1..=10 {
        let audit = books.recv().await.expect("it is in the books");
        assert_eq!(audit.record.changes[0].after, Some(Value::from(wanted)));
        assert_eq!(audit.missed, 0);
    }
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn f33_ten_thousand_subscribers_are_all_told_and_the_writer_wakes_none_of_them() {
    const MANY: usize = 10_000;
    let node = Node::start().await;
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    let mut subscribers = Vec::new();
    for _ in 0..MANY {
        subscribers.push(following(&node, "interface.max_results").await);
    }
    for subscriber in &mut subscribers {
        assert!(pin!(subscriber.recv()).poll(&mut cx).is_pending());
    }

    let mut update = pin!(node.config.update("interface.max_results", 7));
    let made = update
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));

    assert!(matches!(made, Poll::Ready(Ok(_))), "made on the spot");
    assert_eq!(
        woken.0.load(Ordering::SeqCst),
        0,
        "that is another one's work"
    );
    while woken.0.load(Ordering::SeqCst) < MANY {
        yield_now().await;
    }
    for subscriber in &mut subscribers {
        assert_eq!(next(subscriber).await.value, Some(Value::from(7)));
    }
    drop(subscribers);
    assert_eq!(node.document.status().subscribers, 0);
}

#[tokio::test(start_paused = true)]
async fn f103_a_killed_server_is_back_within_a_tenth_of_a_second_with_all_it_knew() {
    let node = Node::start().await;
    node.config
        .update("interface.max_results", 7)
        .await
        .expect("it is valid");

    timeout(Duration::from_millis(100), crash(&node, true))
        .await
        .expect("it is there again");
    node.config
        .update("dev.debug_mode", true)
        .await
        .expect("it answers again");

    let settings = node.config.load();
    assert_eq!(
        (settings.interface.max_results, settings.dev.debug_mode),
        (7, true)
    );
    assert!(node.document.status().is_healthy());
}

#[tokio::test(flavor = "multi_thread")]
async fn f104_a_server_killed_among_updates_leaves_each_made_or_not_made() {
    let disk = Arc::new(TestDisk::default());
    let node = Node::start_with(sources().keep_on(disk.clone()), Options::default()).await;
    let (mut made, mut open) = (0, 0);

    for wanted in 1..=30 {
        // The disk hangs at each second one, so that the kill meets it in the middle.
        let hangs = wanted % 2 == 0;
        disk.stick(hangs);
        let update = tokio::spawn({
            let config = node.config.clone();
            async move { config.update("interface.max_results", wanted).await }
        });
        let outcome = if hangs {
            let waits = Arc::clone(&disk);
            let waiting = tokio::task::spawn_blocking(move || waits.wait_until_somebody_waits());
            waiting.await.expect("somebody waits");
            node.kill_server();
            disk.stick(false);
            update.await
        } else {
            let outcome = update.await;
            node.kill_server();
            outcome
        };
        let now = node.config.load().interface.max_results;
        match outcome.expect("no panic") {
            Ok(_) => {
                made += 1;
                assert_eq!(now, wanted, "an answered change is there");
            }
            Err(UpdateError::Call(_)) => {
                open += 1;
                assert!([wanted, wanted - 1].contains(&now), "{now}");
            }
            Err(other) => panic!("{other}"),
        }
        answered(&node, "interface.max_results", wanted.into()).await;
        let kept = Arc::new(TestDisk::holding(disk.files()));
        let again = Node::start_with(sources().keep_on(kept), Options::default()).await;
        assert_eq!(*again.config.load(), *node.config.load());
    }

    assert!(made >= 15 && open > 0, "both were met: {made} and {open}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_crashes_again_and_again_leaves_readers_with_what_was_and_says_since_when() {
    let node = Node::start_until(3).await;
    node.config
        .update("interface.max_results", 7)
        .await
        .expect("it is valid");
    let mut subscriber = following(&node, "interface.max_results").await;

    for n in 1..=3 {
        crash(&node, true).await;
        node.config
            .update("interface.max_results", 7 + n)
            .await
            .expect("it is back");
        assert!(node.document.status().is_healthy(), "it is back");
        assert_eq!(next(&mut subscriber).await.value, Some((7 + n).into()));
    }
    crash(&node, false).await;
    let refused = node.config.update("interface.max_results", 99).await;
    tokio::time::advance(Duration::from_mins(1)).await;

    assert!(matches!(refused, Err(UpdateError::Call(_))), "{refused:?}");
    let status = node.document.status();
    assert!(
        matches!(status.serving, Serving::Stale { since } if since >= Duration::from_mins(1)),
        "{status:?}"
    );
    assert!(!status.is_healthy());
    assert_eq!(status.updates_count, 4);
    assert_eq!(node.config.load().interface.max_results, 10);
    assert_eq!(node.config.get::<i64>("interface.max_results"), Ok(10));
}

#[tokio::test(start_paused = true)]
async fn f105_readers_go_on_without_a_server_and_writers_get_a_typed_error() {
    let node = Node::start().await;
    node.config
        .update("dev.debug_mode", true)
        .await
        .expect("it is valid");

    node.stop_server().await;
    let refused = node.config.update("dev.debug_mode", false).await;

    assert!(matches!(refused, Err(UpdateError::Call(_))), "{refused:?}");
    assert!(node.config.load().dev.debug_mode);
    assert_eq!(node.config.get::<bool>("dev.debug_mode"), Ok(true));
    assert!(matches!(
        node.document.status().serving,
        Serving::Stale { .. }
    ));
    assert!(!node.document.status().is_healthy());
    node.start_server().await;
    assert!(
        node.config.load().dev.debug_mode,
        "nothing is applied later behind anyone's back"
    );
    node.config
        .update("dev.debug_mode", false)
        .await
        .expect("the server is back");
    assert!(node.document.status().is_healthy());
}

#[tokio::test]
async fn f106_readers_of_a_dead_server_read_for_ever() {
    let node = Node::start().await;
    node.stop_server().await;

    let readers: Vec<_> = (0..5)
        .map(|_| {
            let config = node.config.clone();
            tokio::spawn(async move { config.get::<Foundation>("") })
        })
        .collect();

    for reader in readers {
        assert_eq!(reader.await.expect("no panic"), Ok(Foundation::default()));
    }
}

#[tokio::test]
async fn changes_are_made_when_nobody_reads_the_books() {
    let node = Node::start().await;
    let unread = node.document.audit(node.document.revision());

    for wanted in 1..=100 {
        node.config
            .update("interface.max_results", wanted)
            .await
            .expect("nobody is waited for");
    }

    assert_eq!(node.config.load().interface.max_results, 100);
    drop(unread);
}

#[tokio::test]
async fn f88_updates_resets_and_refusals_are_counted() {
    let node = Node::start().await;

    node.config
        .update("dev.debug_mode", true)
        .await
        .expect("it is valid");
    node.config
        .update("dev.debug_mode", false)
        .await
        .expect("it is valid");
    node.config
        .update("ai.provider", "openai")
        .await
        .expect_err("it is fixed");
    node.config.reset().await.expect("it can be reset");
    // What is counted after the reply is counted before the next one.
    node.config
        .propose()
        .set("dev.debug_mode", true)
        .dry_run()
        .await
        .expect("it would work");

    let counted = ["updates", "resets", "refused"].map(|name| node.counted(name));
    assert_eq!(counted, [2, 1, 1]);
}

#[tokio::test]
async fn the_books_hold_what_a_reset_took_back() {
    let node = Node::start().await;
    node.config
        .update("dev.debug_mode", true)
        .await
        .expect("it is valid");
    let mut books = node.document.audit(node.document.revision());

    node.config
        .propose_reset("dev")
        .by("ann")
        .apply()
        .await
        .expect("it can be reset");

    let record = books.try_recv().expect("it is in the books").record;
    assert_eq!((record.kind, &*record.author.by), (Kind::Reset, "ann"));
    assert_eq!(record.changes[0].before, Some(Value::from(true)));
    assert_eq!(record.changes[0].after, Some(Value::from(false)));
}

#[tokio::test]
async fn a_reader_of_its_own_sees_changes() {
    let node = Node::start().await;
    let mut reader = node.config.reader();
    assert!(!reader.load().dev.debug_mode);

    node.config
        .update("dev.debug_mode", true)
        .await
        .expect("it is valid");

    assert!(reader.load().dev.debug_mode);
}
