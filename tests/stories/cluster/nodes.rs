//! Whole nodes: their ids, and what they show to each other.

use serde::{Deserialize, Serialize};
use underpin::{
    cluster::{ClusterOptions, NodeAddress, NodeAskError, RemoteError},
    config::Schema,
    ids::{NodeId, NodeName},
    node::Node,
    otp::Context,
    testing::{PATIENCE, eventually},
    value::Value,
};

use super::support::{name, options};

#[derive(Serialize, Deserialize)]
#[serde(default)]
struct Shop {
    discount: u32,
}

impl Default for Shop {
    fn default() -> Self {
        Self { discount: 5 }
    }
}

impl Schema for Shop {}

async fn node(name: &str, cluster: ClusterOptions) -> Node {
    let builder = Node::builder()
        .name(name)
        .memory()
        .without_environment()
        .app_config::<Shop>();
    builder.cluster(cluster).start().await.expect("starts")
}

fn at(node: &Node, other: &NodeName) -> NodeAddress {
    node.cluster().expect("in one").node(other)
}

/// Two nodes; `b` lets others change things where `allowed` says so.
async fn two(allowed: bool) -> (Node, Node) {
    let a = node("a", options()).await;
    let join = options().join(a.cluster().expect("in one").address());
    let b = node("b", if allowed { join.allow_changes() } else { join }).await;
    let up = a
        .cluster()
        .expect("in one")
        .wait_for(&name("b"), PATIENCE)
        .await;
    up.expect("b is up");
    (a, b)
}

#[tokio::test]
async fn settings_of_another_node_are_read_followed_and_with_leave_changed() {
    let (a, b) = two(true).await;
    let remote = at(&a, &name("b"));
    assert_eq!(remote.get::<u32>("app.discount").await, Ok(5));
    let mut following = remote.follow_setting("app.discount");
    assert_eq!(
        following.next().await.expect("it is there").value,
        Value::from(5_u32)
    );

    let revision = remote
        .update("app.discount", 20_u32)
        .await
        .expect("with leave");

    assert_eq!(
        b.config().get::<u32>("app.discount").expect("it is there"),
        20
    );
    let followed = following.next().await.expect("it changed");
    assert_eq!(
        (followed.value, followed.revision),
        (Value::from(20_u32), revision)
    );
    let record = b.config().history(1).pop().expect("it changed");
    assert_eq!(&*record.author.by, "node a");

    let unknown = remote
        .setting("app.nothing")
        .await
        .expect_err("no such setting");
    assert!(matches!(unknown, NodeAskError::Said { .. }), "{unknown}");
    let wrong = remote
        .update("app.discount", "much")
        .await
        .expect_err("no number");
    assert!(matches!(wrong, NodeAskError::Said { .. }), "{wrong}");
    b.shutdown().await;
    let gone = remote
        .setting("app.discount")
        .await
        .expect_err("it is gone");
    assert_eq!(
        gone,
        NodeAskError::Remote(RemoteError::NoConnection { node: name("b") })
    );
    a.shutdown().await;
}

/// Whoever followed a setting of a node that was started anew without its changes heard of the value there 20 s later.
#[tokio::test]
async fn a_setting_is_followed_over_a_restart_of_its_node_also_where_its_revision_is_lower_then() {
    let a = node("a", options()).await;
    let join = || {
        let address = a.cluster().expect("in one").address().to_owned();
        options().join(address).allow_changes()
    };
    let b = node("b", join()).await;
    let up = a.cluster().expect("in one");
    up.wait_for(&name("b"), PATIENCE).await.expect("b is up");
    let remote = at(&a, &name("b"));
    let revision = remote.update("app.discount", 20_u32).await.expect("leave");
    let mut following = remote.follow_setting("app.discount");
    let followed = following.next().await.expect("it is there");
    assert_eq!(
        (followed.value, followed.revision),
        (20_u32.into(), revision)
    );

    let next = tokio::spawn(async move { following.next().await });
    b.shutdown().await;
    let b = node("b", join()).await;

    let soon = std::time::Duration::from_secs(15);
    let followed = tokio::time::timeout(soon, next).await.expect("soon");
    let followed = followed.expect("no panic").expect("it is back");
    assert_eq!(followed.value, 5_u32.into());
    assert!(followed.revision < revision);
    b.shutdown().await;
    a.shutdown().await;
}

#[tokio::test]
async fn without_leave_another_node_changes_nothing() {
    let (a, b) = two(false).await;

    let refused = at(&a, &name("b"))
        .update("app.discount", 20_u32)
        .await
        .expect_err("no leave");

    assert!(
        matches!(refused, NodeAskError::Remote(RemoteError::Refused { .. })),
        "{refused}"
    );
    assert_eq!(
        b.config().get::<u32>("app.discount").expect("it is there"),
        5
    );
    a.shutdown().await;
    b.shutdown().await;
}

async fn store(node: &Node, kind: &str, number: u64) {
    let event = node
        .events()
        .event(kind)
        .data(number)
        .build()
        .expect("fits");
    node.events().store(event).await.expect("stored");
}

#[tokio::test]
async fn events_of_another_node_are_found_and_followed() {
    let (a, b) = two(false).await;
    let remote = at(&a, &name("b"));
    for number in 0..5 {
        store(&b, "order.placed", number).await;
    }
    store(&b, "order.paid", 5).await;

    let page = remote
        .query("kind=order.placed limit=3")
        .await
        .expect("it answers");
    assert_eq!(page.events.len(), 3);
    let more = format!(
        "kind=order.placed after={}",
        page.next.expect("there are more")
    );
    let rest = remote.query(&more).await.expect("it answers");
    assert_eq!((rest.events.len(), rest.next), (2, None));
    let wrong = remote.query("kind=").await.expect_err("no query");
    assert!(matches!(wrong, NodeAskError::Said { .. }), "{wrong}");

    let mut all = remote.follow_events("kind=order.*", true);
    for number in 0..6 {
        assert_eq!(
            all.next().await.expect("stored").data(),
            &Value::from(number)
        );
    }
    let mut new = remote.follow_events("kind=order.*", false);
    new.begin().await.expect("it answers");
    store(&b, "order.paid", 6).await;
    assert_eq!(new.next().await.expect("stored").data(), &Value::from(6));
    assert_eq!(all.next().await.expect("stored").data(), &Value::from(6));
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test]
async fn events_are_followed_over_a_restart_of_their_node_none_left_out_and_none_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let a = node("a", options()).await;
    let at_a = a.cluster().expect("in one").address().to_owned();
    let b = async || {
        let builder = Node::builder()
            .name("b")
            .data_dir(folder.path())
            .without_environment();
        let started = builder.cluster(options().join(at_a.clone())).start().await;
        started.expect("starts")
    };
    let mut following = at(&a, &name("b")).follow_events("kind=order", true);
    for life in 0..3_u64 {
        let b = b().await;
        store(&b, "order", 2 * life).await;
        let event = tokio::time::timeout(PATIENCE, following.next()).await;
        let event = event.expect("in time").expect("stored");
        assert_eq!(event.data(), &Value::from(2 * life));
        store(&b, "order", 2 * life + 1).await;
        let event = tokio::time::timeout(PATIENCE, following.next()).await;
        let event = event.expect("in time").expect("stored");
        assert_eq!(event.data(), &Value::from(2 * life + 1));
        b.shutdown().await;
    }
    a.shutdown().await;
}

#[tokio::test]
async fn metrics_and_tree_of_another_node_are_seen() {
    let (a, b) = two(false).await;
    let remote = at(&a, &name("b"));
    b.telemetry().counter("shop.cups", &[]).add(3);

    let metrics = remote.metrics().await.expect("it answers");
    assert_eq!(metrics.counter("shop.cups", &[]), 3);
    let tree = remote.tree().await.expect("it answers").to_json();
    assert!(tree.contains("node/cluster/members"), "{tree}");
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test]
async fn a_correlation_that_crosses_nodes_is_one_tree() {
    let (a, b) = two(true).await;
    let asked = a.events().event("discount.asked").build().expect("fits");
    let context = Context::new(0xABC, asked.id().get());
    a.events().store(asked.clone()).await.expect("stored");

    let remote = at(&a, &name("b"));
    let changed = context.scope(remote.update("app.discount", 7_u32)).await;
    changed.expect("with leave");

    eventually("the change is in the books of b", async || {
        let page = at(&a, &name("b"))
            .query("kind=config_updated")
            .await
            .expect("it answers");
        page.events
            .iter()
            .any(|event| event.parent() == Some(asked.id()))
    })
    .await;
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test]
async fn an_id_that_was_drawn_and_is_taken_is_drawn_anew_before_any_event() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = Node::builder()
        .name("b")
        .data_dir(folder.path())
        .without_environment();
    let first = first
        .node_id(NodeId::new(77).expect("an id"))
        .start()
        .await
        .expect("starts");
    first.shutdown().await;
    let a = Node::builder().name("a").memory().without_environment();
    let a = a
        .node_id(NodeId::new(77).expect("an id"))
        .cluster(options());
    let a = a.start().await.expect("starts");

    let b = Node::builder()
        .name("b")
        .data_dir(folder.path())
        .without_environment();
    let b = b.cluster(options().join(a.cluster().expect("in one").address()));
    let b = b.start().await.expect("starts");

    assert_ne!(b.node_id(), a.node_id());
    let up = a
        .cluster()
        .expect("in one")
        .wait_for(&name("b"), PATIENCE)
        .await;
    up.expect("b is up");
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test]
async fn a_node_that_reads_short_messages_finds_and_follows_all_events_in_more_of_them() {
    let a = node("a", options().frame_bytes_max(64 << 10)).await;
    let join = options().join(a.cluster().expect("in one").address());
    let b = node("b", join).await;
    let up = a.cluster().expect("in one");
    up.wait_for(&name("b"), PATIENCE).await.expect("b is up");
    let long = "x".repeat(8 << 10);
    for _ in 0..40 {
        let event = b.events().event("order.placed").data(long.as_str()).build();
        b.events()
            .store(event.expect("fits"))
            .await
            .expect("stored");
    }
    let remote = at(&a, &name("b"));

    let (mut found, mut pages, mut after) = (0, 0, String::new());
    loop {
        let query = format!("kind=order.placed{after}");
        let page = remote.query(&query).await.expect("it fits");
        found += page.events.len();
        pages += 1;
        match page.next {
            Some(next) => after = format!(" after={next}"),
            None => break,
        }
    }
    assert!(found == 40 && pages > 4, "{found} in {pages}");

    let mut all = remote.follow_events("kind=order.placed", true);
    for _ in 0..40 {
        assert_eq!(
            all.next().await.expect("it fits").data(),
            &Value::from(long.as_str())
        );
    }
    a.shutdown().await;
    b.shutdown().await;
}
