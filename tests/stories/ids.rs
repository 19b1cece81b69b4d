//! Ids that nobody else has.

use std::{collections::HashSet, fs, num::NonZeroU32, sync::Arc, thread};

use underpin::ids::{CorrelationId, EventId, IdGenerator, Identity, IdentityError, NodeId};

fn generator(node: u16) -> Arc<IdGenerator> {
    Arc::new(IdGenerator::new(
        NodeId::new(node).expect("test node id is valid"),
    ))
}

/// Draws `count` ids in each of `threads` threads that share one generator; each thread's ids in the order in which they came.
fn draw(ids: &Arc<IdGenerator>, threads: usize, count: usize) -> Vec<Vec<EventId>> {
    let running: Vec<_> = (0..threads)
        .map(|_| {
            let ids = Arc::clone(ids);
            thread::spawn(move || (0..count).map(|_| ids.next()).collect())
        })
        .collect();
    running
        .into_iter()
        .map(|thread| thread.join().expect("drawing ids does not panic"))
        .collect()
}

fn distinct(drawn: &[Vec<EventId>]) -> usize {
    drawn.iter().flatten().collect::<HashSet<_>>().len()
}

#[test]
fn f91_a_million_ids_from_fifty_threads_and_several_nodes_are_all_distinct() {
    let drawn: Vec<Vec<EventId>> = (0..5)
        .flat_map(|node| draw(&generator(node), 10, 20_000))
        .collect();

    assert_eq!(distinct(&drawn), 1_000_000);
    assert!(drawn.iter().flatten().all(|id| *id <= EventId::MAX));
}

#[test]
fn f91_blocks_and_single_ids_never_overlap() {
    let ids = generator(1);
    let blocks = thread::spawn({
        let ids = Arc::clone(&ids);
        move || {
            (1..300)
                .filter_map(NonZeroU32::new)
                .flat_map(|len| ids.reserve(len))
                .collect::<Vec<_>>()
        }
    });
    let single: Vec<EventId> = (0..50_000).map(|_| ids.next()).collect();
    let drawn = [single, blocks.join().expect("reserving does not panic")];

    assert_eq!(distinct(&drawn), 50_000 + 299 * 300 / 2);
}

#[test]
fn f92_ids_rise_over_time_in_every_thread() {
    for drawn in draw(&generator(1), 4, 50_000) {
        assert!(drawn.is_sorted_by(|earlier, later| earlier < later));
    }
}

#[test]
fn f38_fifty_makers_at_once_get_fifty_ids() {
    assert_eq!(distinct(&draw(&generator(1), 50, 1)), 50);
}

#[test]
fn f39_ids_made_at_one_and_the_same_time_are_distinct() {
    let ids = generator(1);
    let now = 1_750_000_000_000;
    let drawn: HashSet<EventId> = (0..5).map(|_| ids.next_at(now)).collect();
    assert_eq!(drawn.len(), 5);
}

#[test]
fn f93_a_fresh_correlation_id_is_a_trace_id_and_a_version_4_uuid() {
    let id = CorrelationId::random();

    let hex = id.to_string();
    assert_eq!(hex.len(), 32);
    assert!(
        hex.bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
        "{hex}"
    );
    let uuid = id.trace_id().expect("a fresh one is a trace id").to_uuid();
    assert_eq!(uuid.len(), 36);
    assert_eq!(&uuid[14..15], "4", "version of {uuid}");
    assert!(
        matches!(&uuid[19..20], "8" | "9" | "a" | "b"),
        "variant of {uuid}"
    );
}

#[test]
fn f48_weak_correlation_ids_are_refused_or_kept_to_the_letter() {
    assert_eq!(
        CorrelationId::new("").expect_err("empty").to_string(),
        "correlation id is 0 bytes; use 1 to 256"
    );
    assert!(CorrelationId::new(&"a".repeat(1000)).is_err());
    assert!(CorrelationId::new(&"a".repeat(257)).is_err());

    for weak in [
        "12",
        "../../../etc/passwd",
        "'; DROP TABLE events; --",
        "<script>alert(1)</script>",
        "req-abc",
        "\u{0}\n",
        &"a".repeat(256),
    ] {
        let id = CorrelationId::new(weak).expect("any short text is allowed");
        assert_eq!(id.to_string(), weak);
    }
}

#[test]
fn f49_fresh_correlation_ids_are_distinct_and_come_in_no_order() {
    let drawn: Vec<String> = (0..100)
        .map(|_| CorrelationId::random().to_string())
        .collect();

    assert_eq!(drawn.iter().collect::<HashSet<_>>().len(), 100);
    assert!(!drawn.is_sorted());
    assert!(!drawn.iter().rev().is_sorted());
}

#[test]
fn a_node_draws_its_id_once_and_keeps_it() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let first = Identity::open(folder.path(), None).expect("a new folder");
    let (node, last) = (first.node(), first.ids().next());
    first.close().expect("a healthy folder");

    let second = Identity::open(folder.path(), None).expect("the folder again");

    assert_eq!(second.node(), node);
    assert!(second.ids().next() > last);
}

#[test]
fn a_configured_node_id_wins_and_is_kept() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let configured = NodeId::new(42).expect("42 is a node id");
    drop(Identity::open(folder.path(), Some(configured)).expect("a new folder"));

    let kept = Identity::open(folder.path(), None).expect("the folder again");

    assert_eq!(kept.node(), configured);
    assert_eq!(kept.ids().next().node(), configured);
}

#[test]
fn a_folder_belongs_to_one_node_at_a_time() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let holder = Identity::open(folder.path(), None).expect("a new folder");

    let refused = Identity::open(folder.path(), None).expect_err("in use");

    assert!(matches!(refused, IdentityError::InUse { .. }));
    assert!(
        refused
            .to_string()
            .contains("stop that node or choose another folder"),
        "{refused}"
    );
    drop(holder);
    Identity::open(folder.path(), None).expect("free again");
}

#[test]
fn a_damaged_identity_is_refused_says_what_to_do_and_stays_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    drop(Identity::open(folder.path(), None).expect("a new folder"));
    let file = folder.path().join("identity");
    let damaged = fs::read_to_string(&file)
        .expect("the identity")
        .replace("node ", "node 1");
    fs::write(&file, &damaged).expect("the test may write");

    let refused = Identity::open(folder.path(), None).expect_err("damaged");

    assert!(matches!(refused, IdentityError::Damaged { .. }));
    let message = refused.to_string();
    assert!(
        message.contains("restore it from a backup, or delete it"),
        "{message}"
    );
    assert_eq!(fs::read_to_string(&file).ok(), Some(damaged));

    fs::remove_file(&file).expect("as the message says");
    Identity::open(folder.path(), None).expect("a new identity is drawn");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("the test may write");

    let refused = Identity::open(file.join("data"), None).expect_err("a file is in the way");

    assert!(matches!(refused, IdentityError::Io { .. }));
    assert!(refused.to_string().contains("file/data"), "{refused}");
}
