//! Whatever comes, what is told of it and what is kept of it has a limit.

use std::{fs, sync::Arc};

use underpin::config::{
    AlarmKind, Author, FreeTable, Options, Problem, ReloadError, Sources, UpdateError, load,
};

use super::{
    foundation::{Foundation, Node, sources},
    keeping::TestDisk,
};

/// What was meant by each of its keys was looked for among all others: a file of another program, put in the place of the settings,
/// kept a core busy for minutes, and what was said of it filled the log.
#[test]
fn a_file_of_something_else_is_refused_in_short() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("node.toml");
    let keys = |table: &str| -> String {
        let lines = (0..5000).map(|n| format!("{table}key{n} = 1\n"));
        lines.collect()
    };
    fs::write(&file, keys("") + &keys("app.")).expect("it is written");

    let refused = load(sources().file(&file)).expect_err("it is no settings file");

    let told = refused.problems();
    let more = |problem: &&Problem| matches!(problem, Problem::MoreUnknown { count: 4968 });
    assert_eq!((told.len(), told.iter().filter(more).count()), (66, 2));
    let said = refused.to_string();
    assert!(said.len() < 16_384, "{} bytes", said.len());
    assert!(said.contains("4968 more keys are not settings"), "{said}");
}

#[tokio::test]
async fn a_long_text_that_does_not_fit_is_not_told_as_a_whole() {
    let node = Node::start().await;
    let long = "ä".repeat(400_000);

    let written = node
        .config
        .update("interface.max_results", long.clone())
        .await;
    let given = load(sources().set(format!("app.interface.max_results={long}")));

    let written = written.expect_err("it is no number").to_string();
    let given = given.expect_err("it is no number").to_string();
    for said in [written, given] {
        assert!(said.len() < 1200, "{} bytes", said.len());
        assert!(said.contains("app.interface.max_results"), "{said}");
        assert!(
            said.contains("ä…ä") && said.contains("expected i64"),
            "{said}"
        );
    }
}

/// A reason of the size of a request was kept a thousand times in memory, and once for each changed setting on disk.
#[tokio::test]
async fn who_and_why_are_said_in_short() {
    let node = Node::start().await;
    let text = |bytes: usize| "x".repeat(bytes);
    let change = |by: usize, why: usize| {
        let change = node.config.propose().set("dev.debug_mode", true);
        change.by(text(by)).because(text(why))
    };
    let (by_max, why_max) = (Author::BY_BYTES_MAX, Author::WHY_BYTES_MAX);
    let too_long = |what, bytes, max| UpdateError::TooLong { what, bytes, max };

    let by = change(by_max + 1, 0).apply().await;
    let why = change(0, why_max + 1).dry_run().await;
    let reload = node.document.reload(text(by_max + 1)).await;

    let by_refused = too_long("by", by_max + 1, by_max);
    assert_eq!(by, Err(by_refused.clone()));
    let why_refused = too_long("why", why_max + 1, why_max);
    assert_eq!(why.expect("it is looked at").breaks, [why_refused]);
    assert_eq!(reload, Err(ReloadError::Refused(by_refused)));
    assert!(node.document.status().is_healthy());
    assert!(node.document.history(1).is_empty());
    change(by_max, why_max).apply().await.expect("it fits");
}

#[tokio::test]
async fn reasons_count_as_what_the_history_holds() {
    let options = Options {
        log_bytes: 64 << 10,
        ..Options::default()
    };
    let node = Node::start_with(sources(), options).await;

    for _ in 0..100 {
        let change = node.config.propose().set("dev.debug_mode", true);
        let change = change.because("x".repeat(Author::WHY_BYTES_MAX));
        change.apply().await.expect("it is valid");
    }

    let kept = node.document.history(usize::MAX).len();
    assert!((1..16).contains(&kept), "{kept}");
}

#[tokio::test]
async fn of_many_changes_that_are_set_aside_the_first_ones_are_told() {
    let disk = Arc::new(TestDisk::default());
    let was = Sources::new::<FreeTable, Foundation>().keep_on(disk.clone());
    let node = Node::start_with(was, Options::default()).await;
    let changes = (10..50).map(|n| (format!("underpin.key{n}"), n));
    node.document
        .update_many(changes)
        .await
        .expect("it is valid");
    drop(node);

    // The table with them knows no such keys any more.
    let is = Sources::new::<Foundation, FreeTable>().keep_on(disk);
    let loaded = load(is).expect("it starts all the same");

    let alarm = &loaded.alarms()[0];
    assert_eq!(alarm.kind, AlarmKind::SetAside);
    let said = &alarm.message;
    assert!(said.contains("`underpin.key41`, 8 more;"), "{said}");
}
