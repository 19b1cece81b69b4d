//! What users of the node's own journal can rely on: what happens in the tree is stored, or counted.

use std::time::Duration;

use underpin::{
    node::Node,
    otp::{Budget, ChildSpec, Intensity, OnExceed},
    testing::{Life, eventually},
};

const DROPPED: &str = "underpin_journal_dropped";

fn fragile() -> ChildSpec {
    let spec = ChildSpec::task("fragile", |ctx| async move {
        ctx.cancelled().await;
        Ok(())
    });
    let often = Intensity::new(9, Duration::from_secs(9));
    spec.budget(Budget::new(often, OnExceed::Stop))
}

#[tokio::test]
async fn what_a_node_without_a_store_could_not_tell_until_its_end_is_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::builder()
        .data_dir(folder.path())
        .without_environment()
        .child(fragile());
    let node = node.start().await.expect("starts");
    let telemetry = node.telemetry().clone();
    let events = node.supervisor().terminate_child("events").await;
    events.expect("stops");
    Life::of(node.app(), "fragile")
        .panic("wanted by the story")
        .restarted()
        .await;
    let restarts = || {
        let child = [("child", "node/app/fragile")];
        let snapshot = telemetry.snapshot();
        snapshot.counter("underpin_child_restarts", &child)
    };
    eventually("the restart is reported", async || restarts() == 1).await;
    assert_eq!(telemetry.snapshot().counter(DROPPED, &[]), 0);

    node.shutdown().await;

    // The end and the new life, at least; the node's health may have turned as well.
    assert!(telemetry.snapshot().counter(DROPPED, &[]) >= 2);
}
