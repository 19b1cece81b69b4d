//! Reading, writing, and what is refused.

use std::{sync::mpsc, thread, time::Duration};

use tokio::runtime::Handle;
use underpin::{
    config::{CHANGES_MAX, InvalidKind, Kind, ReadError, UpdateError},
    value::{Limits, Path, PathFault, Value, ValueError},
};

use super::foundation::{Foundation, Node, UPDATABLE};

fn kind_of(refused: &Result<impl Sized, UpdateError>) -> Option<InvalidKind> {
    match refused {
        Err(UpdateError::Invalid { kind, .. }) => Some(*kind),
        _ => None,
    }
}

#[tokio::test]
async fn f1_a_fresh_server_has_the_defaults() {
    let node = Node::start().await;

    assert_eq!(
        node.config.get::<String>("ai.provider").as_deref(),
        Ok("mock")
    );
    assert_eq!(node.document.get::<bool>("app.dev.debug_mode"), Ok(false));
    assert_eq!(node.config.get::<Foundation>(""), Ok(Foundation::default()));
    assert_eq!(*node.config.load(), Foundation::default());
}

#[tokio::test]
async fn f2_a_path_that_does_not_exist_is_not_found() {
    let node = Node::start().await;

    for path in [
        "invalid.path",
        "ai.nonexistent",
        "very.deeply.nested.nonexistent.path",
    ] {
        let refused = node.config.get_value(path);
        assert!(
            matches!(refused, Err(ReadError::NotFound { .. })),
            "{path}: {refused:?}"
        );
    }
    let misspelt = node
        .config
        .get_value("ai.planing.sampling_rate")
        .expect_err("it is misspelt");
    assert_eq!(
        misspelt.to_string(),
        "there is no setting `app.ai.planing.sampling_rate`; did you mean `app.ai.planning.sampling_rate`?"
    );
}

#[tokio::test]
async fn f3_a_path_through_a_scalar_is_not_found() {
    let node = Node::start().await;

    for path in [
        "dev.debug_mode.nested_key",
        "ai.planning.sampling_rate.sub_key",
    ] {
        assert!(matches!(
            node.config.get_value(path),
            Err(ReadError::NotFound { .. })
        ));
        let refused = node.config.update(path, true).await;
        assert!(
            matches!(refused, Err(UpdateError::NotFound { .. })),
            "{path}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn f4_an_update_changes_one_setting_and_nothing_else() {
    let node = Node::start().await;

    node.config
        .update("dev.debug_mode", true)
        .await
        .expect("it may change");

    let mut expected = Foundation::default();
    expected.dev.debug_mode = true;
    assert_eq!(node.config.get::<bool>("dev.debug_mode"), Ok(true));
    assert_eq!(*node.config.load(), expected);
    assert_eq!(node.config.get::<Foundation>(""), Ok(expected));
}

#[tokio::test]
async fn f5_a_setting_that_may_not_change_is_refused() {
    let node = Node::start().await;

    for (path, value) in [
        ("ai.provider", Value::from("openai")),
        ("storage.hot.max_events", Value::from(5)),
    ] {
        let refused = node
            .config
            .update(path, value)
            .await
            .expect_err("it is fixed");
        assert!(matches!(refused, UpdateError::Fixed { .. }), "{refused}");
    }
    assert_eq!(node.config.load().ai.provider, "mock");
}

#[tokio::test]
async fn f6_a_sampling_rate_above_one_is_refused_and_nothing_changes() {
    let node = Node::start().await;

    for rate in [2.0, 1.5, 5.0] {
        let refused = node.config.update("ai.planning.sampling_rate", rate).await;
        assert_eq!(kind_of(&refused), Some(InvalidKind::Range));
        assert_eq!(node.config.get::<f64>("ai.planning.sampling_rate"), Ok(1.0));
    }
    node.config
        .update("ai.planning.sampling_rate", 0.5)
        .await
        .expect("it is in range");

    assert_eq!(node.config.get::<f64>("ai.planning.sampling_rate"), Ok(0.5));
}

#[tokio::test]
async fn f7_each_rule_has_its_own_kind_of_error() {
    let node = Node::start().await;

    let zero = node.config.update("interface.query_timeout", 0).await;
    let below_zero = node
        .config
        .update("ai.planning.performance_target", -1)
        .await;

    assert_eq!(kind_of(&zero), Some(InvalidKind::Failed));
    assert_eq!(kind_of(&below_zero), Some(InvalidKind::Constraint));
}

#[tokio::test]
async fn f8_forbidden_paths_are_refused() {
    let node = Node::start().await;

    for path in [
        "ai.api_key",
        "storage.encryption_key",
        "security",
        "system.node_name",
    ] {
        assert!(node.config.update(path, "x").await.is_err(), "{path}");
        assert!(node.document.update(path, "x").await.is_err(), "{path}");
    }
    assert_eq!(*node.config.load(), Foundation::default());
}

#[tokio::test]
async fn f9_unauthorized_paths_are_refused_and_the_settings_stay_as_they_are() {
    let node = Node::start().await;
    let before = node.document.get_value("").expect("the document is there");

    for path in [
        "system.env",
        "otp.version",
        "vm.memory",
        "process.count",
        "security.keys",
        "internal.state",
    ] {
        let refused = node.config.update(path, "x").await;
        assert!(
            matches!(refused, Err(UpdateError::NotFound { .. })),
            "{path}: {refused:?}"
        );
    }

    assert_eq!(node.document.get_value(""), Ok(before));
}

#[tokio::test]
async fn f10_a_reset_takes_changes_back_and_everybody_is_told() {
    let node = Node::start().await;
    node.config
        .update("dev.debug_mode", true)
        .await
        .expect("it may change");
    let mut subscriber = node.config.subscribe("").expect("the path is valid");
    let mut books = node.document.audit(node.document.revision());
    subscriber.recv().await.expect("the current value");

    node.config
        .reset()
        .await
        .expect("a reset is always possible");

    let told = subscriber.recv().await.expect("the reset");
    let record = told.record.expect("it is a change");
    assert_eq!(record.kind, Kind::Reset);
    assert_eq!(told.value, node.config.get_value("").ok());
    assert_eq!(*node.config.load(), Foundation::default());
    let audit = books.recv().await.expect("the reset is in the books");
    assert_eq!(audit.record, record);
    assert_eq!(
        audit.record.changes[0].path.to_string(),
        "app.dev.debug_mode"
    );
    assert_eq!(
        node.document.status().updates_count,
        1,
        "a reset is no update"
    );
}

#[tokio::test]
async fn f13_hostile_paths_are_refused_and_the_service_goes_on() {
    let node = Node::start().await;
    let hostile = [
        "__struct__",
        "__info__",
        "Elixir.System",
        "Elixir.File",
        "Elixir.Code",
        "Elixir.Process",
        "Elixir.Node",
        "Elixir.Kernel",
        "../etc/passwd",
        "DROP TABLE",
        "<script>",
    ];
    for path in hostile {
        assert!(node.config.get_value(path).is_err(), "{path}");
        assert!(node.config.update(path, 1).await.is_err(), "{path}");
    }

    let deep = vec!["a"; 1000].join(".");
    let refused = node
        .config
        .update(deep.as_str(), 1)
        .await
        .expect_err("it is too deep");

    assert!(matches!(
        refused,
        UpdateError::InvalidPath(ValueError::Path {
            fault: PathFault::TooMany,
            ..
        })
    ));
    assert!(matches!(
        node.config.get_value(&deep),
        Err(ReadError::InvalidPath(_))
    ));
    node.config
        .update("dev.debug_mode", true)
        .await
        .expect("the service goes on");
}

#[tokio::test]
async fn f13_a_path_has_at_most_fifty_components() {
    let fifty = vec!["a"; 50].join(".");
    let one_more = vec!["a"; 51].join(".");

    assert!(Path::parse(&fifty).is_ok());
    assert!(Path::parse(&one_more).is_err());
}

#[tokio::test]
async fn f14_values_that_are_too_large_or_too_deep_are_refused() {
    let node = Node::start().await;
    let nested = |depth: usize| (0..depth).fold(Value::Null, |inner, _| Value::from(vec![inner]));
    let free = "underpin.anything";

    let large = node.document.update(free, "x".repeat(10_000_000)).await;
    let deep = node.document.update(free, nested(100)).await;

    assert!(
        matches!(
            large,
            Err(UpdateError::TooLarge {
                bytes: 10_000_000,
                ..
            })
        ),
        "{large:?}"
    );
    assert!(
        matches!(deep, Err(UpdateError::BeyondLimits { .. })),
        "{deep:?}"
    );
    assert!(matches!(
        node.document.get_value(free),
        Err(ReadError::NotFound { .. })
    ));
    node.document
        .update(free, "x".repeat(1_000_000))
        .await
        .expect("a million bytes fit");
    node.document
        .update(free, nested(20))
        .await
        .expect("20 levels fit");
    assert!(
        node.document
            .update(free, "x".repeat(1_000_001))
            .await
            .is_err()
    );
    assert!(node.document.update(free, nested(21)).await.is_err());
}

#[tokio::test]
async fn f11_the_rules_of_every_section_hold() {
    let mut cases: Vec<(Foundation, &str)> = Vec::new();
    let mut broken = |path: &'static str, breaks: fn(&mut Foundation)| {
        let mut settings = Foundation::default();
        breaks(&mut settings);
        cases.push((settings, path));
    };
    broken("ai.provider", |settings| {
        settings.ai.provider = "clippy".into();
    });
    broken("ai.analysis.max_file_size", |settings| {
        settings.ai.analysis.max_file_size = -1;
    });
    broken("ai.planning.default_strategy", |settings| {
        settings.ai.planning.default_strategy = "lazy".into();
    });
    broken("capture.ring_buffer.size", |settings| {
        settings.capture.ring_buffer.size = -1;
    });
    broken("capture.ring_buffer.overflow_strategy", |settings| {
        settings.capture.ring_buffer.overflow_strategy = "explode".into();
    });
    broken("storage.warm.compression", |settings| {
        settings.storage.warm.enable = true;
        settings.storage.warm.compression = "rar".into();
    });
    broken("storage.cold.enable", |settings| {
        settings.storage.cold.enable = true;
    });
    broken("infrastructure.connection_pool.strategy", |settings| {
        settings.infrastructure.connection_pool.strategy = "random".into();
    });

    for (settings, path) in cases {
        let refused = underpin::config::Schema::validate(&settings).expect_err(path);
        assert_eq!(refused.path, path);
    }
    let mut warm = Foundation::default();
    warm.storage.warm.enable = true;
    assert_eq!(underpin::config::Schema::validate(&warm), Ok(()));
}

#[tokio::test]
async fn f32_status_counts_what_succeeded() {
    let node = Node::start().await;
    let before = node.document.status();
    assert!(before.is_healthy());
    assert_eq!((before.updates_count, before.last_update), (0, None));

    node.config
        .update("dev.debug_mode", true)
        .await
        .expect("it may change");
    let after = node.document.status();
    node.config
        .update("dev.debug_mode", "maybe")
        .await
        .expect_err("it is no bool");
    node.config
        .update("ai.provider", "openai")
        .await
        .expect_err("it is fixed");

    assert_eq!(after.updates_count, 1);
    assert!(after.last_update.is_some());
    let refused = node.document.status();
    assert_eq!(
        (refused.updates_count, refused.last_update),
        (1, after.last_update)
    );
}

#[tokio::test]
async fn every_updatable_path_may_change_and_reads_back() {
    let node = Node::start().await;

    for path in UPDATABLE {
        let value = node.config.get_value(path).expect("the path exists");
        node.config
            .update(path, value.clone())
            .await
            .expect("it may change");
        assert_eq!(node.config.get_value(path), Ok(value));
    }
}

#[tokio::test]
async fn several_settings_change_together_or_not_at_all() {
    let node = Node::start().await;

    let revision = node
        .config
        .update_many([
            ("dev.debug_mode", Value::from(true)),
            ("interface.max_results", Value::from(7)),
        ])
        .await
        .expect("both are valid");
    let refused = node
        .config
        .update_many([
            ("dev.debug_mode", Value::from(false)),
            ("interface.max_results", Value::from(0)),
        ])
        .await;

    assert_eq!(kind_of(&refused), Some(InvalidKind::Failed));
    assert!(node.config.load().dev.debug_mode);
    assert_eq!(node.config.load().interface.max_results, 7);
    assert_eq!(node.document.revision(), revision);
}

#[tokio::test]
async fn a_change_made_against_an_old_revision_is_told_to_read_again() {
    let node = Node::start().await;
    let seen = node.document.revision();
    node.config
        .update("dev.debug_mode", true)
        .await
        .expect("a rival was first");

    let refused = node
        .config
        .propose()
        .set("dev.debug_mode", false)
        .expect_revision(seen)
        .apply()
        .await;

    assert!(
        matches!(refused, Err(UpdateError::Stale { expected, .. }) if expected == seen),
        "{refused:?}"
    );
    assert!(node.config.load().dev.debug_mode);
}

#[tokio::test]
async fn a_dry_run_says_what_would_happen_and_changes_nothing() {
    let node = Node::start().await;
    let revision = node.document.revision();

    let good = node
        .config
        .propose()
        .set("ai.model", "gpt-5")
        .dry_run()
        .await
        .expect("it would work");
    let bad = node
        .config
        .propose()
        .set("interface.max_results", 0)
        .set("dev.debug_mode", "yes")
        .set("ai.provider", "openai")
        .set("no.such", 1)
        .dry_run()
        .await
        .expect("it is looked at");
    let rule = node.config.propose().set("interface.max_results", 0);
    let rule = rule.dry_run().await.expect("it is looked at");
    let same = node.config.propose().set("ai.model", "gpt-4");
    let same = same.dry_run().await.expect("it is looked at");

    assert_eq!(good.changes[0].after, Some(Value::from("gpt-5")));
    assert_eq!(
        good.needs_restart,
        [Path::parse("app.ai.model").expect("a path")]
    );
    assert!(good.is_accepted() && good.against == revision);
    assert!(!bad.is_accepted());
    let words: Vec<String> = bad.breaks.iter().map(ToString::to_string).collect();
    for path in ["app.dev.debug_mode", "app.ai.provider", "app.no"] {
        let told = words.iter().any(|words| words.contains(path));
        assert!(told, "{path}: {words:?}");
    }
    assert_eq!(bad.changes.len(), 4);
    assert!(matches!(
        &rule.breaks[..],
        [UpdateError::Invalid {
            kind: InvalidKind::Failed,
            ..
        }]
    ));
    assert!(same.changes.is_empty(), "what stays the same is no change");
    assert_eq!(node.document.revision(), revision);
    assert_eq!(*node.config.load(), Foundation::default());
}

#[tokio::test]
async fn a_dry_run_of_more_than_can_be_made_is_answered_at_once_and_a_few_reasons_are_told_of_many()
{
    let node = Node::start().await;
    let unknown = |parts: usize| {
        (0..parts).fold(node.config.propose(), |proposal, n| {
            proposal.set(format!("dev.unknown_{n}"), n)
        })
    };

    let far_too_many = unknown(100_000).dry_run().await.expect("it is looked at");
    let many = unknown(CHANGES_MAX)
        .dry_run()
        .await
        .expect("it is looked at");

    assert_eq!(
        far_too_many.breaks,
        [UpdateError::TooMany { count: 100_000 }]
    );
    assert!(far_too_many.changes.is_empty());
    assert_eq!(many.breaks.len(), 32);
}

#[tokio::test]
async fn a_setting_that_takes_a_restart_is_written_and_said_so() {
    let node = Node::start().await;

    node.config
        .update("ai.model", "gpt-5")
        .await
        .expect("it may be written");

    let status = node.document.status();
    assert_eq!(
        status.restart_needed,
        [Path::parse("app.ai.model").expect("a path")]
    );
    // Written again as it is, it was told again.
    let again = node.config.propose().set("ai.model", "gpt-5").apply().await;
    assert_eq!(again.expect("it may be written").needs_restart, []);
}

#[tokio::test]
async fn history_tells_who_and_why_and_rollback_goes_back() {
    let node = Node::start().await;
    let start = node.document.revision();
    let change = node
        .config
        .propose()
        .set("interface.max_results", 5)
        .by("ann")
        .because("fewer");
    let first = change.apply().await.expect("it is valid").revision;
    node.config
        .update("interface.max_results", 6)
        .await
        .expect("it is valid");

    node.document
        .rollback(first)
        .await
        .expect("it is in the history");
    assert_eq!(node.config.load().interface.max_results, 5);
    node.document
        .rollback(start)
        .await
        .expect("it is in the history");

    assert_eq!(*node.config.load(), Foundation::default());
    let history = node.document.history(10);
    assert_eq!(history.len(), 4);
    assert_eq!(history[0].kind, Kind::Rollback);
    let oldest = &history[3];
    assert_eq!((&*oldest.author.by, &*oldest.author.why), ("ann", "fewer"));
    assert_eq!(oldest.changes[0].before, Some(Value::from(1000)));
    let future = underpin::config::Revision(99);
    assert!(matches!(
        node.document.rollback(future).await,
        Err(UpdateError::NoSuchRevision { .. })
    ));
}

#[tokio::test]
async fn an_edit_that_panics_is_an_answer_and_not_the_end() {
    let node = Node::start().await;

    let refused = node
        .config
        .update_with(|_| panic!("a defect of the program"))
        .await;

    assert!(
        matches!(refused, Err(UpdateError::Panicked { .. })),
        "{refused:?}"
    );
    node.config
        .update("dev.debug_mode", true)
        .await
        .expect("the service goes on");
}

/// What is only tried held the history, so whoever wrote waited for it; and what was tried waited for the writer when it asked for the
/// history in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_that_is_tried_may_ask_for_the_history_while_somebody_writes() {
    let node = Node::start().await;
    let (config, document) = (node.config.clone(), node.document.clone());
    let (runtime, (sender, written)) = (Handle::current(), mpsc::channel());

    let edit = node.config.propose_edit(move |_| {
        let write = async move { config.update("dev.debug_mode", true).await };
        thread::spawn(move || sender.send(runtime.block_on(write)));
        let written = written.recv_timeout(Duration::from_secs(20));
        let written = written.expect("it does not wait for who tries something");
        assert_eq!(
            document.history(1)[0].revision,
            written.expect("it is valid")
        );
    });
    let tried = edit.dry_run().await.expect("the server answers");

    assert!(tried.is_accepted(), "{tried:?}");
}

#[tokio::test]
async fn a_value_of_the_wrong_type_names_the_setting() {
    let node = Node::start().await;

    let refused = node
        .config
        .update("dev.debug_mode", "maybe")
        .await
        .expect_err("it is no bool");

    let said = refused.to_string();
    assert!(said.starts_with("`app.dev.debug_mode`: "), "{said}");
    assert!(said.contains("maybe"), "{said}");
}

#[tokio::test]
async fn f109_many_refused_requests_leave_the_service_as_it_was() {
    let node = Node::start().await;

    for _ in 0..200 {
        node.config
            .get_value("no.such.path")
            .expect_err("it does not exist");
        node.config
            .update("ai.provider", "x")
            .await
            .expect_err("it is fixed");
        node.config
            .update("interface.max_results", 0)
            .await
            .expect_err("it is invalid");
    }

    assert!(node.document.status().is_healthy());
    assert_eq!(*node.config.load(), Foundation::default());
}

#[tokio::test]
async fn a_table_is_replaced_as_a_whole_and_completed_by_its_type() {
    let node = Node::start().await;
    let section = Value::from_json(r#"{"debug_mode": true}"#, Limits::CONFIG).expect("it is JSON");

    node.config
        .update("dev", section)
        .await
        .expect("all of it may change");

    let dev = node.config.get_value("dev").expect("the section is there");
    assert_eq!(
        dev.to_json(),
        r#"{"debug_mode":true,"performance_monitoring":true,"verbose_logging":false}"#
    );
    let unknown = Value::from([("debug_mod", true)]);
    let refused = node
        .config
        .update("dev", unknown)
        .await
        .expect_err("the key is misspelt");
    assert!(refused.to_string().contains("did you mean"), "{refused}");
}

#[tokio::test]
async fn a_part_of_a_table_that_was_written_as_a_whole_can_be_reset() {
    let node = Node::start().await;
    let section = Value::from([("debug_mode", true), ("verbose_logging", true)]);
    node.config
        .update("dev", section)
        .await
        .expect("it may change");
    let rules = Value::from([("mail", 1), ("sms", 2)]);
    node.document
        .update("underpin.rules", rules)
        .await
        .expect("anything goes");

    node.config
        .propose_reset("dev.debug_mode")
        .apply()
        .await
        .expect("it is there");
    node.document
        .propose_reset("underpin.rules.sms")
        .apply()
        .await
        .expect("it is there");

    let dev = node.config.load().dev.clone();
    assert_eq!((dev.debug_mode, dev.verbose_logging), (false, true));
    assert_eq!(
        node.document.get_value("underpin.rules"),
        Ok(Value::from([("mail", 1)]))
    );
    let unknown = node.config.propose_reset("dev.debug_mod").apply().await;
    assert!(
        matches!(unknown, Err(UpdateError::NotFound { .. })),
        "{unknown:?}"
    );
}

#[tokio::test]
async fn a_text_from_a_person_is_read_by_the_type_that_it_meets() {
    let node = Node::start().await;

    let read = |path: &str, text: &str| node.document.read_text(path, text).expect("a path");

    assert_eq!(read("app.dev.debug_mode", "true"), Value::from(true));
    assert_eq!(read("app.interface.max_results", "12"), Value::from(12));
    assert_eq!(read("app.ai.model", "12"), Value::from("12"));
    assert_eq!(read("app.ai.api_key", "12"), Value::from("12"));
    assert_eq!(
        read("app.ai.planning.sampling_rate", "0.5"),
        Value::from(0.5)
    );
}
