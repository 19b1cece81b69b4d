//! Random stories beside a plain model: a copy of the struct, changed by hand.

use std::{collections::BTreeMap, sync::Arc};

use proptest::{prelude::*, test_runner::TestCaseError};
use tokio::runtime::Runtime;
use underpin::{
    config::{
        FreeTable, Options, Origin, Revision, Schema, Sources, Subscription, UpdateError, load,
    },
    value::{Path, Value, from_value, to_value},
};

use super::{
    foundation::{Foundation, Node, UPDATABLE, sources},
    keeping::TestDisk,
};

/// The model: the same change on plain data, or `None` when it is not valid.
fn changed(settings: &Foundation, writes: &[(&str, Value)]) -> Option<Foundation> {
    let mut value = to_value(settings).expect("it serializes");
    for (path, new) in writes {
        if !UPDATABLE.contains(path) && *path != "ai.model" {
            return None;
        }
        let path = underpin::value::Path::parse(path).expect("a path");
        value = value.with(&path, new.clone()).ok()?;
    }
    let settings: Foundation = from_value(&value).ok()?;
    settings.validate().ok()?;
    Some(settings)
}

/// The path in the whole document.
fn full(path: &str) -> Path {
    Path::parse(&format!("app.{path}")).expect("a path")
}

fn paths() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        8 => proptest::sample::select(UPDATABLE.to_vec()),
        1 => proptest::sample::select(vec!["ai.model", "ai.provider", "storage.hot.max_events", "no.such.path"]),
    ]
}

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => any::<bool>().prop_map(Value::from),
        3 => (-2..1000i64).prop_map(Value::from),
        3 => (-0.5..1.5f64).prop_map(Value::from),
        1 => "[a-z]{0,6}".prop_map(Value::from),
        1 => Just(Value::Null),
        1 => Just(Value::from(vec![1, 2])),
        1 => Just(Value::from([("a", 1)])),
        1 => Just(Value::Float(f64::INFINITY)),
    ]
}

fn writes() -> impl Strategy<Value = Vec<(&'static str, Value)>> {
    proptest::collection::vec((paths(), values()), 1..4)
}

fn run(story: impl Future<Output = Result<(), TestCaseError>>) -> Result<(), TestCaseError> {
    Runtime::new().expect("a runtime").block_on(story)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn f20_f21_any_updates_leave_what_the_model_says(updates in proptest::collection::vec(writes(), 1..20)) {
        run(async {
            let node = Node::start().await;
            let mut model = Foundation::default();
            let mut told = 0;
            let mut books = node.document.audit(node.document.revision());
            for writes in updates {
                let before = node.document.get_value("").expect("the document");
                let outcome = node.config.update_many(writes.clone()).await;
                let expected = changed(&model, &writes);
                prop_assert_eq!(outcome.is_ok(), expected.is_some(), "{:?} {:?}", writes, outcome);
                if let Some(expected) = expected {
                    model = expected;
                    told += 1;
                } else {
                    prop_assert_eq!(node.document.get_value("").expect("the document"), before);
                }
                prop_assert_eq!(&*node.config.load(), &model);
                prop_assert_eq!(node.config.get::<Foundation>("").expect("it validates"), model.clone());
                prop_assert_eq!(std::iter::from_fn(|| books.try_recv()).count(), usize::from(outcome.is_ok()));
            }
            prop_assert_eq!(node.document.status().updates_count, told);
            prop_assert!(model.validate().is_ok());
            Ok(())
        })?;
    }

    #[test]
    fn f21_an_accepted_value_reads_back_exactly(path in proptest::sample::select(UPDATABLE.to_vec()), value in values()) {
        run(async {
            let node = Node::start().await;
            let before = node.document.get_value("").expect("the document");
            let mut expected = before;
            if node.config.update(path, value.clone()).await.is_ok() {
                prop_assert_eq!(node.config.get_value(path), Ok(value.clone()));
                let full = underpin::value::Path::parse(&format!("app.{path}")).expect("a path");
                expected = expected.with(&full, value).expect("it fits");
            }
            prop_assert_eq!(node.document.get_value(""), Ok(expected));
            Ok(())
        })?;
    }

    #[test]
    fn f22_any_path_reads_the_same_twice(path in proptest::collection::vec("[a-z_]{0,8}|\\PC{0,4}", 0..20)) {
        run(async {
            let node = Node::start().await;
            let path = path.join(".");
            let first = node.document.get_value(&path);
            prop_assert_eq!(node.document.get_value(&path), first);
            Ok(())
        })?;
    }

    #[test]
    fn f23_values_of_the_wrong_type_are_always_refused(
        path in proptest::sample::select(vec!["ai.planning.sampling_rate", "dev.debug_mode"]),
        value in prop_oneof![
            Just(Value::Null),
            Just(Value::from(Vec::<Value>::new())),
            Just(Value::map()),
            (1.001..1e9f64).prop_map(Value::from),
            (-1e9..-0.001f64).prop_map(Value::from),
            Just(Value::Float(f64::NAN)),
        ],
    ) {
        run(async {
            let node = Node::start().await;
            prop_assert!(node.config.update(path, value).await.is_err());
            prop_assert_eq!(&*node.config.load(), &Foundation::default());
            Ok(())
        })?;
    }

    #[test]
    fn f24_a_reset_after_any_updates_gives_the_defaults(updates in proptest::collection::vec(writes(), 0..10)) {
        run(async {
            let node = Node::start().await;
            for writes in updates {
                node.config.update_many(writes).await.ok();
            }
            node.config.reset().await.expect("it can always be reset");
            prop_assert_eq!(&*node.config.load(), &Foundation::default());
            Ok(())
        })?;
    }

    #[test]
    fn rollback_finds_every_revision_as_it_was(updates in proptest::collection::vec((writes(), any::<bool>()), 1..12)) {
        run(async {
            let node = Node::start().await;
            let mut seen = vec![(node.document.revision(), node.document.get_value(""))];
            for (writes, reset) in updates {
                let changed = if reset { node.config.reset().await } else { node.config.update_many(writes).await };
                if let Ok(revision) = changed {
                    seen.push((revision, node.document.get_value("")));
                }
            }
            for (revision, document) in seen.into_iter().rev() {
                node.document.rollback(revision).await.expect("it is in the history");
                prop_assert_eq!(node.document.get_value(""), document);
            }
            Ok(())
        })?;
    }

    #[test]
    fn with_a_disk_that_fails_at_any_step_memory_and_disk_agree(
        updates in proptest::collection::vec((writes(), proptest::option::of(0..8usize)), 1..12),
    ) {
        run(async {
            let disk = Arc::new(TestDisk::default());
            let node = Node::start_with(sources().keep_on(disk.clone()), Options::default()).await;
            node.config.update("interface.max_results", 999).await.expect("the disk is well");
            let mut model = node.config.load_full().as_ref().clone();
            let mut maybe: Vec<Foundation> = Vec::new();
            for (writes, fails_after) in updates {
                disk.fail_after(fails_after);
                let outcome = node.config.update_many(writes.clone()).await;
                let left_behind = TestDisk::holding(disk.files());
                disk.fail_after(None);
                let after = changed(&model, &writes);
                if outcome.is_ok() {
                    model = after.clone().expect("it was valid");
                }
                prop_assert_eq!(&*node.config.load(), &model);
                let restarted = Node::start_with(sources().keep_on(Arc::new(left_behind)), Options::default()).await;
                let found = restarted.config.load_full();
                match outcome {
                    // Until the disk is mended, which takes a moment or the next change.
                    Err(UpdateError::MayBeKept { .. }) => maybe.extend(after),
                    Ok(_) => maybe.clear(),
                    Err(_) => {}
                }
                prop_assert!(*found == model || maybe.contains(&found));
            }
            node.config.update("dev.debug_mode", true).await.expect("the disk is well again");
            prop_assert!(node.document.status().is_healthy());
            model.dev.debug_mode = true;
            drop(node);
            let again = Node::start_with(sources().keep_on(disk.clone()), Options::default()).await;
            prop_assert_eq!(&*again.config.load(), &model);
            Ok(())
        })?;
    }
}

/// What one layer says of the settings of a free table.
type Says = BTreeMap<&'static str, i64>;

const FREE: [&str; 4] = ["a", "b", "t.c", "t.d"];

fn says() -> impl Strategy<Value = Says> {
    proptest::collection::btree_map(proptest::sample::select(FREE.to_vec()), -9..9i64, 0..4)
}

fn toml(says: &Says) -> String {
    let lines = says
        .iter()
        .map(|(path, value)| format!("app.{path} = {value}\n"));
    lines.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_setting_is_what_the_strongest_layer_says(layers in proptest::collection::vec(says(), 5)) {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for (name, says) in ["0.toml", "1.toml", "2.toml"].iter().zip(&layers) {
            std::fs::write(at(name), toml(says)).expect("it is written");
        }
        std::fs::create_dir(at("conf.d")).expect("it is made");
        for name in ["1.toml", "2.toml"] {
            std::fs::rename(at(name), at("conf.d").join(name)).expect("it is moved");
        }
        let variable = |path: &&str| format!("UNDERPIN__APP__{}", path.replace('.', "__").to_uppercase());
        let sources = Sources::new::<FreeTable, FreeTable>()
            .file(at("0.toml"))
            .conf_d(at("conf.d"))
            .environment(layers[3].iter().map(|(path, value)| (variable(path), value.to_string())));
        let set = |sources: Sources, (path, value): (&&str, &i64)| sources.set(format!("app.{path}={value}"));
        let loaded = load(layers[4].iter().fold(sources, set)).expect("all of it is valid");

        for path in FREE {
            let full = format!("app.{path}");
            let Some((layer, says)) = layers.iter().enumerate().rfind(|(_, says)| says.contains_key(path)) else {
                prop_assert!(loaded.value(&full).is_err());
                continue;
            };
            prop_assert_eq!(loaded.value(&full), Ok(Value::from(says[path])));
            let origin = loaded.origin(&full).expect("it is there");
            let fits = match origin {
                Origin::File { file, .. } => file.ends_with(format!("{layer}.toml")),
                Origin::Environment { .. } => layer == 3,
                Origin::Flag { .. } => layer == 4,
                _ => false,
            };
            prop_assert!(fits, "{full} is from layer {layer}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_change_is_made_only_against_the_current_revision_and_is_then_in_the_history(
        changes in proptest::collection::vec((writes(), 0..2u64, any::<bool>()), 1..16),
    ) {
        run(async {
            let node = Node::start().await;
            let (mut model, mut history) = (Foundation::default(), Vec::new());
            for (writes, behind, first_dry) in changes {
                let current = node.document.revision();
                let propose = || {
                    let seen = Revision(current.0.wrapping_sub(behind));
                    let proposal = node.config.propose().expect_revision(seen);
                    writes.iter().fold(proposal, |proposal, (path, value)| proposal.set(path, value.clone()))
                };
                let expected = changed(&model, &writes).filter(|_| behind == 0);
                if first_dry {
                    let preview = propose().dry_run().await.expect("it is looked at");
                    prop_assert_eq!(preview.is_accepted(), expected.is_some());
                    prop_assert_eq!(preview.against, current);
                }
                let before = node.document.get_value("").expect("it is there");
                let outcome = propose().apply().await;
                prop_assert_eq!(outcome.is_ok(), expected.is_some());
                if behind > 0 {
                    prop_assert!(matches!(outcome, Err(UpdateError::Stale { .. })), "{:?}", outcome);
                }
                if let (Ok(record), Some(after)) = (outcome, expected) {
                    prop_assert_eq!(record.revision.0, current.0 + 1);
                    let told: BTreeMap<_, _> = record.changes.iter().map(|change| (&change.path, change)).collect();
                    let wanted: BTreeMap<_, _> = writes.iter().map(|(path, value)| (full(path), value)).collect();
                    prop_assert!(told.keys().copied().eq(wanted.keys()));
                    for (path, value) in &wanted {
                        prop_assert_eq!(told[path].before.as_ref(), before.get(path));
                        prop_assert_eq!(told[path].after.as_ref(), Some(*value));
                    }
                    prop_assert_eq!(told.len(), record.changes.len());
                    model = after;
                    history.insert(0, record);
                }
                prop_assert_eq!(&*node.config.load(), &model);
            }
            prop_assert_eq!(node.document.history(usize::MAX), history);
            Ok(())
        })?;
    }

    #[test]
    fn a_subscriber_of_any_speed_is_told_in_order_and_of_all_that_it_missed(
        changes in proptest::collection::vec((writes(), 0..3usize), 1..24),
        log_changes in 1..6usize,
    ) {
        run(async {
            let options = Options { log_changes, ..Options::default() };
            let node = Node::start_with(sources(), options).await;
            let mut subscriber = node.config.subscribe("").expect("a path");
            let mut told = subscriber.try_recv().expect("the current value").revision;
            let mut documents = vec![(told, node.config.get_value(""))];
            let mut hear = |subscriber: &mut Subscription, documents: &[(Revision, _)]| {
                let Some(notice) = subscriber.try_recv() else { return Ok(false) };
                let steps = if notice.record.is_some() { 1 } else { notice.missed };
                prop_assert_eq!(notice.revision.0, told.0 + steps, "nothing is skipped in silence");
                told = notice.revision;
                let document = documents.iter().find(|(revision, _)| *revision == told);
                prop_assert_eq!(notice.value.map(Ok), document.map(|(_, value): &(_, _)| Clone::clone(value)));
                Ok(true)
            };
            for (writes, reads) in changes {
                if let Ok(revision) = node.config.update_many(writes).await {
                    documents.push((revision, node.config.get_value("")));
                }
                for _ in 0..reads {
                    hear(&mut subscriber, &documents)?;
                }
            }
            while hear(&mut subscriber, &documents)? {}
            prop_assert_eq!(told, node.document.revision());
            Ok(())
        })?;
    }
}
