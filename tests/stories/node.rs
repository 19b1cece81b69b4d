//! What users of a whole node can rely on.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use underpin::{
    events::{Event, Query, Timestamp},
    ids::EventId,
    node::{HealthStatus, Node},
    otp::{self, BoxError, ChildSpec, Intensity, SupervisorSpec},
    testing::{self, Life, eventually},
    value::Value,
};

const LONG: Duration = Duration::from_secs(20);

async fn in_memory() -> Node {
    testing::in_memory().start().await.expect("starts")
}

async fn in_folder(folder: &std::path::Path) -> Node {
    let node = Node::builder().data_dir(folder).without_environment();
    node.start().await.expect("starts")
}

fn event(node: &Node, kind: &str) -> Event {
    let event = node.events().event(kind).data(Value::from("x"));
    event.build().expect("valid")
}

fn incarnation(node: &Node, path: &str) -> u64 {
    let tree = node.tree().expect("runs");
    tree.find(path).map_or(0, |child| child.incarnation)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f103_a_killed_service_is_back_at_once_and_the_others_keep_their_identity() {
    let node = in_memory().await;
    let services = ["node/telemetry", "node/events", "node/config"];
    for killed in services {
        let before = services.map(|path| incarnation(&node, path));

        let begin = Instant::now();
        Life::of(node.supervisor(), killed).kill().restarted().await;
        let took = begin.elapsed();

        for (path, before) in services.into_iter().zip(before) {
            let expected = before + u64::from(path == killed);
            assert_eq!(incarnation(&node, path), expected, "{path}");
        }
        assert!(took < Duration::from_millis(500), "{killed} took {took:?}");
        let id = node.events().store(event(&node, "after")).await;
        assert!(
            node.events()
                .get(id.expect("stores"))
                .await
                .expect("reads")
                .is_some()
        );
        node.config().update("app.x", 1).await.expect("updates");
        node.telemetry().counter("still_counting", &[]).inc();
    }
    assert_eq!(node.telemetry().counter("still_counting", &[]).value(), 3);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f104_services_killed_in_the_middle_of_work_restart_and_work() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Arc::new(in_folder(folder.path()).await);
    let storing = tokio::spawn({
        let node = Arc::clone(&node);
        async move {
            let mut stored: Vec<EventId> = Vec::new();
            for _ in 0..50 {
                let batch: Vec<Event> = (0..20).map(|_| event(&node, "batch")).collect();
                // A batch that failed is stored again under its own ids.
                while let Err(error) = node.events().store_batch(batch.clone()).await {
                    tracing::debug!(%error, "again");
                }
                stored.extend(batch.iter().map(Event::id));
            }
            stored
        }
    });
    for _ in 0..5 {
        Life::of(node.supervisor(), "events")
            .kill()
            .restarted()
            .await;
    }

    let stored = storing.await.expect("stores all");

    let count = node.events().count(Query::new().kind("batch")).await;
    assert_eq!(count.expect("counts"), stored.len() as u64);
    let node = Arc::into_inner(node).expect("the only one");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f105_and_f107_each_service_works_while_another_one_is_down() {
    let node = in_memory().await;
    node.config().update("app.x", 1).await.expect("updates");
    node.supervisor()
        .terminate_child("config")
        .await
        .expect("stops");

    let id = node.events().store(event(&node, "without_config")).await;
    node.telemetry().counter("without_config", &[]).inc();
    assert!(id.is_ok());
    assert_eq!(node.config().get::<i64>("app.x"), Ok(1));
    assert!(node.config().update("app.x", 2).await.is_err());
    node.supervisor()
        .restart_child("config")
        .await
        .expect("starts");

    node.supervisor()
        .terminate_child("events")
        .await
        .expect("stops");
    node.config()
        .update("app.x", 3)
        .await
        .expect("updates without its audit");
    assert_eq!(node.health().health, HealthStatus::Degraded);
    node.supervisor()
        .restart_child("events")
        .await
        .expect("starts");

    node.supervisor()
        .terminate_child("telemetry")
        .await
        .expect("stops");
    node.telemetry().counter("without_telemetry", &[]).inc();
    assert!(
        node.events()
            .store(event(&node, "without_telemetry"))
            .await
            .is_ok()
    );
    node.config().update("app.x", 4).await.expect("updates");
    assert_eq!(
        node.telemetry().counter("without_telemetry", &[]).value(),
        1
    );
    node.shutdown().await;
}

#[tokio::test]
async fn f10_a_change_of_settings_is_audited_and_counted() {
    let node = in_memory().await;

    node.config()
        .update("app.debug", true)
        .await
        .expect("updates");
    node.config().reset().await.expect("resets");

    eventually("both audit events", async || {
        let found = node
            .events()
            .query(Query::new().source("underpin.config"))
            .await;
        let page = found.expect("queries");
        let kinds: Vec<&str> = page.events.iter().map(Event::kind).collect();
        kinds == ["config_updated", "config_reset"]
    })
    .await;
    node.shutdown().await;
}

#[tokio::test]
async fn the_audit_event_of_a_change_belongs_to_what_asked_for_it() {
    let node = in_memory().await;
    let cause = node.events().store(event(&node, "asked")).await;
    let cause = cause.expect("stores");

    let change = node.config().update("app.debug", true);
    let context = otp::Context::new(0xabc, cause.get());
    context.scope(change).await.expect("updates");

    let effects = async || {
        node.events()
            .query(Query::new().kind("config_updated"))
            .await
    };
    eventually("the audit event", async || {
        !effects().await.expect("queries").events.is_empty()
    })
    .await;
    let audit = effects().await.expect("queries").events.remove(0);
    assert_eq!(audit.parent(), Some(cause));
    let correlation = audit
        .correlation()
        .expect("it belongs to a trace")
        .to_string();
    assert_eq!(correlation, format!("{:032x}", 0xabc));
    node.shutdown().await;
}

#[tokio::test]
async fn a_child_of_the_program_gets_the_services_of_its_node() {
    let node = testing::in_memory()
        .set("app.words=hello")
        .child_with(|services| {
            let services = services.clone();
            ChildSpec::task("greeter", move |ctx| {
                let services = services.clone();
                async move {
                    let words = services.config.get::<String>("app.words")?;
                    let event = services.events.event("greeted").data(words);
                    services.events.store(event.build()?).await?;
                    services.telemetry.counter("greetings", &[]).inc();
                    ctx.cancelled().await;
                    Ok(())
                }
            })
        });
    let node = node.start().await.expect("starts");

    eventually("the greeting", async || {
        let greeted = node.events().count(Query::new().kind("greeted")).await;
        greeted.expect("counts") == 1 && node.telemetry().snapshot().counter("greetings", &[]) == 1
    })
    .await;
    assert!(
        node.tree()
            .expect("runs")
            .find("node/app/greeter")
            .is_some()
    );
    node.shutdown().await;
}

#[tokio::test]
async fn a_change_that_was_not_audited_before_the_end_is_audited_after_the_next_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = in_folder(folder.path()).await;
    node.supervisor()
        .terminate_child("wiring")
        .await
        .expect("stops");
    node.config()
        .update("app.debug", true)
        .await
        .expect("updates");
    node.shutdown().await;

    let node = in_folder(folder.path()).await;

    eventually("the audit event", async || {
        let found = node
            .events()
            .count(Query::new().kind("config_updated"))
            .await;
        found.expect("counts") == 1
    })
    .await;
    node.shutdown().await;
}

#[tokio::test]
async fn f117_what_was_stored_is_there_after_a_stop_and_a_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = in_folder(folder.path()).await;
    let stored = event(&node, "kept");
    node.events().store(stored.clone()).await.expect("stores");
    node.config().update("app.kept", 7).await.expect("updates");
    let id = node.node_id();
    let report = node.shutdown().await;
    assert!(report.is_graceful(), "{report:?}");

    let node = in_folder(folder.path()).await;

    assert_eq!(node.node_id(), id);
    assert_eq!(node.config().get::<i64>("app.kept"), Ok(7));
    let found = node.events().get(stored.id()).await.expect("reads");
    assert_eq!(found, Some(stored));
    node.shutdown().await;
}

#[tokio::test]
async fn a_folder_in_use_by_another_node_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = in_folder(folder.path()).await;

    let second = Node::builder().data_dir(folder.path()).start().await;

    let words = second.expect_err("in use").to_string();
    assert!(words.contains("in use"), "{words}");
    node.shutdown().await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_folder_was_moved_says_so_and_writes_into_no_folder_in_its_place() {
    // It went on to write its identity and settings under the path, into the folder of whichever node was started there since.
    let around = tempfile::tempdir().expect("a folder");
    let (place, aside) = (around.path().join("data"), around.path().join("aside"));
    let node = in_folder(&place).await;
    node.config().update("app.x", 1).await.expect("updates");
    node.shutdown().await;
    // A second start writes nothing to the settings' folder.
    let node = in_folder(&place).await;
    std::fs::rename(&place, &aside).expect("it is moved");
    let other = in_folder(&place).await;
    let identity = || std::fs::read(place.join("identity")).expect("it is there");
    let before = identity();

    eventually("the node to say so", async || {
        let reasons = node.health().reasons;
        reasons.iter().any(|said| said.reason.contains("moved"))
    })
    .await;

    let refused = node.config().update("app.x", 2).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("moved")));
    assert_eq!(node.config().get::<i64>("app.x"), Ok(1));
    let stored = other.events().store(event(&other, "theirs")).await;
    stored.expect("its folder is its own");
    node.shutdown().await;
    assert_eq!(identity(), before);
    other.shutdown().await;
}

/// Health said that a folder was gone, and not which.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_events_were_deleted_says_what_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = in_folder(folder.path()).await;
    let stored = node.events().store(event(&node, "before")).await;
    stored.expect("is well");
    let gone = folder.path().join("events");

    std::fs::remove_dir_all(&gone).expect("is there");
    let stored = node.events().store(event(&node, "after")).await;

    assert!(stored.is_err(), "{stored:?}");
    let words = format!("the folder {} was moved, removed", gone.display());
    eventually("the node to say so", async || {
        let reasons = node.health().reasons;
        reasons.iter().any(|said| said.reason.contains(&words))
    })
    .await;
    node.shutdown().await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_a_clear_error() {
    let file = tempfile::NamedTempFile::new().expect("a file");

    let refused = Node::builder()
        .data_dir(file.path().join("data"))
        .start()
        .await;

    let words = refused.expect_err("a file is no folder").to_string();
    assert!(words.contains("name another"), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_of_the_events_is_changed_while_the_node_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = in_folder(folder.path()).await;
    let batch: Vec<Event> = (0..500).map(|_| event(&node, "batch")).collect();
    node.events().store_batch(batch).await.expect("stored");

    let keep = node.config().update("underpin.events.keep_events", 50);
    keep.await.expect("may be changed");

    eventually("the older ones to go", async || {
        node.events().stats().events <= 50
    })
    .await;
    node.shutdown().await;
}

#[tokio::test]
async fn wrong_settings_are_refused_before_anything_starts() {
    let node = testing::in_memory();
    let refused = node.set("underpin.events.durabilty=always").start().await;

    let words = refused.expect_err("a typo").to_string();
    assert!(words.contains("durability"), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_crash_loops_leaves_the_node_up_and_degraded_with_the_reason() {
    let crashing = ChildSpec::task("crashing", |_| async {
        Err::<(), BoxError>("no luck".into())
    });
    let node = testing::in_memory()
        .child(crashing)
        .start()
        .await
        .expect("starts");

    eventually("the loop to be noticed", async || {
        let health = node.health();
        let told = health
            .reasons
            .iter()
            .any(|reason| reason.reason.contains("no luck"));
        health.health == HealthStatus::Degraded && told
    })
    .await;

    for path in ["node/telemetry", "node/events", "node/config"] {
        assert_eq!(incarnation(&node, path), 1, "{path}");
    }
    node.config().update("app.x", 1).await.expect("updates");
    node.events()
        .store(event(&node, "meanwhile"))
        .await
        .expect("stores");
    assert!(node.supervisor().is_running());
    node.shutdown().await;
}

#[tokio::test]
async fn the_programs_children_start_when_the_services_are_ready_and_stop_before_them() {
    let (seen, looked) = std::sync::mpsc::channel();
    let app = SupervisorSpec::new("app", Intensity::new(1, Duration::from_secs(1)));
    let node = testing::in_memory().app(app);
    let child = ChildSpec::task("late", move |ctx| {
        let seen = seen.clone();
        async move {
            seen.send("started").map_err(|_| "nobody looks")?;
            ctx.cancelled().await;
            seen.send("stopped").map_err(|_| "nobody looks")?;
            Ok(())
        }
    });
    let node = node.child(child).start().await.expect("starts");

    let order: Vec<String> = node
        .tree()
        .expect("runs")
        .children
        .iter()
        .map(|child| child.id.to_string())
        .collect();
    let report = node.shutdown().await;

    assert_eq!(
        order,
        ["telemetry", "events", "config", "tasks", "wiring", "app"]
    );
    assert_eq!(
        looked.try_iter().collect::<Vec<_>>(),
        ["started", "stopped"]
    );
    let stopped: Vec<&str> = report.children.iter().map(|child| &*child.id).collect();
    assert_eq!(
        stopped,
        ["app", "wiring", "tasks", "config", "events", "telemetry"]
    );
}

#[tokio::test]
async fn f115_two_nodes_in_one_process_share_nothing() {
    let (a, b) = (in_memory().await, in_memory().await);

    a.events().store(event(&a, "only_a")).await.expect("stores");
    a.config().update("app.x", 1).await.expect("updates");
    a.telemetry().counter("only_a", &[]).inc();

    let found = b.events().count(Query::new().kind("only_a")).await;
    assert_eq!(found.expect("counts"), 0);
    assert!(b.config().get::<i64>("app.x").is_err());
    assert_eq!(b.telemetry().counter("only_a", &[]).value(), 0);
    a.shutdown().await;
    assert_eq!(b.health().health, HealthStatus::Healthy);
    b.shutdown().await;
}

#[tokio::test]
async fn f118_a_task_can_use_all_three_services() {
    let node = in_memory().await;
    let (events, config, telemetry) = (
        node.events().clone(),
        node.config().clone(),
        node.telemetry().clone(),
    );
    let stored = event(&node, "from_a_task");

    let task = node.tasks().spawn(async move {
        config.update("app.x", 1).await.expect("updates");
        telemetry.counter("from_a_task", &[]).inc();
        events.store(stored).await.expect("stores")
    });
    let id = task.expect("spawned").await.expect("works");

    assert!(node.events().get(id).await.expect("reads").is_some());
    assert_eq!(node.config().get::<i64>("app.x"), Ok(1));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f111_ten_tasks_on_all_services_at_once_all_succeed() {
    let node = Arc::new(in_memory().await);
    let tasks: Vec<_> = (0..10)
        .map(|n| {
            let own = Arc::clone(&node);
            let work = async move {
                own.config().update("app.x", n).await.expect("updates");
                own.telemetry().counter("tasks", &[]).inc();
                own.events()
                    .store(event(&own, "task"))
                    .await
                    .expect("stores");
                own.config().get::<i64>("app.x").expect("reads")
            };
            node.tasks().spawn(work).expect("spawned")
        })
        .collect();
    for task in tasks {
        assert!((0..10).contains(&task.await.expect("works")));
    }

    let count = node.events().count(Query::new().kind("task")).await;
    assert_eq!(count.expect("counts"), 10);
    assert_eq!(node.telemetry().counter("tasks", &[]).value(), 10);
    Arc::into_inner(node)
        .expect("the only one")
        .shutdown()
        .await;
}

#[tokio::test]
async fn f119_health_tells_the_truth() {
    let node = in_memory().await;
    assert_eq!(node.health().health, HealthStatus::Healthy);
    assert!(node.is_ready());
    let supervisor = node.supervisor().clone();

    node.shutdown().await;

    assert!(!supervisor.is_running());
}

#[tokio::test]
async fn a_clock_that_steps_back_is_told_as_long_as_ids_are_ahead_of_it() {
    // Ids went on an hour ahead of the clock, and nothing but the ids themselves told.
    let node = in_memory().await;
    let clock = || u64::try_from(Timestamp::now().as_nanos() / 1_000_000).expect("after 1970");
    let told = || {
        let reasons = node.health().reasons;
        reasons
            .iter()
            .any(|said| said.reason.contains("ahead of the clock"))
    };

    let _ = node.ids().next_at(clock() + 5_000);
    assert!(!told());
    let _ = node.ids().next_at(clock() + 3_600_000);

    assert!(told());
    eventually("the metric to say so", async || {
        let ahead = node.telemetry().snapshot();
        let ahead = ahead.gauge("underpin_events_ids_ahead_seconds", &[]);
        ahead.is_some_and(|seconds| seconds > 3_000.0)
    })
    .await;
    node.shutdown().await;
}

#[tokio::test]
async fn a_node_that_is_dropped_without_shutdown_leaves_nothing_running() {
    let node = in_memory().await;
    let root = node.supervisor().clone();
    let store = node.events().actor().expect("runs");

    drop(node);

    root.ended().await;
    store.wait(Some(LONG)).await.expect("gone");
}

#[tokio::test]
async fn a_crash_in_the_tree_leaves_events_that_say_what_happened_and_a_quiet_life_none() {
    let ticker = ChildSpec::task("ticker", |ctx| async move {
        ctx.cancelled().await;
        Ok(())
    });
    testing::with_node(testing::in_memory().child(ticker), async |node| {
        let told = async || {
            let query = Query::new().limit(1000);
            let all = node.events().query(query).await.expect("a query").events;
            all.into_iter()
                .filter(|event| event.kind().starts_with("otp."))
                .collect::<Vec<_>>()
        };
        assert_eq!(told().await, []);

        Life::of(node.supervisor(), "node/app/ticker")
            .panic("out of ink")
            .restarted()
            .await;

        eventually("both events", async || told().await.len() == 2).await;
        let events = told().await;
        let kinds: Vec<_> = events.iter().map(Event::kind).collect();
        assert_eq!(kinds, ["otp.exited", "otp.restarted"]);
        assert!(
            events
                .iter()
                .all(|event| event.source() == "node/app/ticker")
        );
        let data = format!("{:?}", events[0].data());
        assert!(data.contains("panic: out of ink"), "{data}");
    })
    .await;
}
