//! Folders of every format version that was ever written are read, and go on in the newest.

use std::{fs, path::Path, sync::Arc};

use underpin::{
    events::{self, EventsHealth, Folder, Options, Query},
    ids::CorrelationId,
};

use super::support::{Store, event, is_healthy, until};

/// Each holds the same 60 events and two checkpoints. `events-1`: two segments, as the last version without sealed segments left them.
/// `events-2`: the same folder after it was opened by the first version that seals, and was stopped; `events-3`: by the first one whose
/// directories have two filters.
const VERSIONS: [u8; 3] = [1, 2, 3];

async fn opened(version: u8) -> Store {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/events-{version}"));
    let folder = tempfile::tempdir().expect("folder for the test");
    for file in fs::read_dir(kept).expect("golden files") {
        let file = file.expect("readable");
        fs::copy(file.path(), folder.path().join(file.file_name())).expect("writable");
    }
    let disk = Folder::new(folder.path());
    let verified = events::verify(&disk, &|_| (), &mut |fault| panic!("{version}: {fault:?}"));
    assert_eq!(verified.expect("readable").events, 60);
    Store::open(Arc::new(folder), Options::default()).await
}

async fn holds_what_it_held(store: &Store, case: &str) {
    let mut page = store.events.query(Query::new()).await.expect("answered");
    page.events.sort_by_key(underpin::events::Event::id);
    let data: Vec<_> = page
        .events
        .iter()
        .map(|event| event.data().to_json())
        .collect();
    let expected: Vec<_> = (1..=60)
        .map(|n| format!(r#"{{"n":{n},"text":"golden event number {n}"}}"#))
        .collect();
    assert_eq!(data, expected, "{case}");
    for event in &page.events {
        let read = store.events.get(event.id()).await.expect("readable");
        assert_eq!(read.as_ref(), Some(event), "{case}");
    }
    let count = async |query| store.events.count(query).await.expect("answered");
    let together = CorrelationId::new("req-3").expect("short text");
    let parent = page.events[58].id();
    assert_eq!(count(Query::new().kind("order.paid")).await, 15, "{case}");
    assert_eq!(
        count(Query::new().kind_prefix("order.")).await,
        45,
        "{case}"
    );
    assert_eq!(count(Query::new().source("till/1")).await, 8, "{case}");
    assert_eq!(count(Query::new().correlation(together)).await, 2, "{case}");
    assert_eq!(count(Query::new().parent(parent)).await, 1, "{case}");
    for file in ["import:/tmp/gold/a", "import:/tmp/gold/b"] {
        let checkpoint = store.events.checkpoint(file).await.expect("readable");
        assert!(checkpoint.is_some(), "{case}: {file}");
    }
    assert!(is_healthy(&store.events), "{case}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_any_format_version_is_read_and_goes_on_in_the_newest() {
    for version in VERSIONS {
        let store = opened(version).await;
        holds_what_it_held(&store, &format!("version {version}")).await;

        // Its full segment is sealed beside.
        until("sealing", || store.events.stats().sealed == 1).await;
        holds_what_it_held(&store, &format!("version {version}, sealed")).await;

        let store = store.reopen().await;
        holds_what_it_held(&store, &format!("version {version}, reopened")).await;
        let newer = event(61, "newer", i64::MAX);
        store.events.store(newer).await.expect("stored");
        let store = store.reopen().await;
        let count = store.events.count(Query::new()).await.expect("answered");
        assert_eq!(count, 61, "version {version}");
    }
}

/// Nobody who does not know a version may take its files for damage.
#[tokio::test]
async fn a_folder_of_a_later_version_is_refused_by_its_name_and_left_alone() {
    let store = opened(3).await;
    let (folder, blocks) = (Arc::clone(&store.folder), store.files("index"));
    store.supervisor.stop().await;
    let mut bytes = fs::read(&blocks[0]).expect("readable");
    bytes[4] = 4;
    let sum = crc32c::crc32c(&bytes[..48]);
    bytes[48..52].copy_from_slice(&sum.to_le_bytes());
    fs::write(&blocks[0], &bytes).expect("writable");

    let events = super::support::events_in(&folder, Options::default());
    let spec = underpin::otp::SupervisorSpec::new(
        "root",
        underpin::otp::Intensity::new(0, std::time::Duration::from_secs(1)),
    );
    let refused = underpin::otp::Supervisor::start(spec.child(events.child_spec())).await;

    let said = refused.expect_err("a later version").to_string();
    assert!(said.contains("format 4"), "{said}");
    assert!(matches!(events.health(), EventsHealth::Down { .. }));
    assert_eq!(fs::read(&blocks[0]).expect("readable"), bytes);
}
