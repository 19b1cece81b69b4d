//! Who is up.

use std::{net::TcpListener, time::Duration};

use tokio::{io::AsyncReadExt, net::TcpStream};
use underpin::{
    cluster::{
        Cluster, ClusterError, ClusterOptions, ConnectError, Cookie, DownReason, Identity,
        MemberEvent, MemberState, Refusal,
    },
    ids::NodeId,
    otp::Groups,
    telemetry::{Options, Telemetry},
    testing::{Life, PATIENCE, eventually},
};

use super::support::{SECOND, TestNode, cookie, name, options, two_nodes};

#[tokio::test]
async fn two_nodes_see_each_other() {
    let (a, b) = two_nodes().await;

    let seen = a.member("b");
    assert_eq!(seen.state, MemberState::Alive);
    assert_eq!(seen.id, NodeId::new(2).ok());
    assert_eq!(seen.address, b.address());
    assert_eq!(seen.underpin, env!("CARGO_PKG_VERSION"));
    eventually("the way there and back has been timed", async || {
        a.member("b")
            .connection
            .is_some_and(|connection| connection.round_trip.is_some())
    })
    .await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn whoever_knows_one_node_finds_all_of_them() {
    let a = TestNode::start("a", 1, options()).await;
    let b = TestNode::start("b", 2, options().join(a.address())).await;
    let c = TestNode::start("c", 3, options().join(a.address())).await;

    for (node, others) in [(&a, ["b", "c"]), (&b, ["a", "c"]), (&c, ["a", "b"])] {
        for other in others {
            node.sees(other).await;
        }
    }
}

#[tokio::test]
async fn a_seed_may_be_down_at_the_start() {
    let place = TcpListener::bind("127.0.0.1:0").expect("free");
    let address = place.local_addr().expect("bound");
    drop(place);
    let b = TestNode::start("b", 2, options().join(address.to_string())).await;
    eventually("it says why it is alone", async || {
        matches!(&b.cluster.failures()[..], [(at, ConnectError::Io { .. })] if *at == address.to_string())
    })
    .await;

    let a = TestNode::start("a", 1, options().listen(address)).await;

    b.sees("a").await;
    a.sees("b").await;
    assert!(b.cluster.failures().is_empty());
}

#[tokio::test]
async fn a_node_whose_life_ends_is_down_at_once_and_whole_again_when_it_is_back() {
    let (a, b) = two_nodes().await;
    let mut monitor = a.cluster.monitor();
    let address = b.cluster.listen_addr().expect("it listens");

    b.kill();

    assert_eq!(
        monitor.next().await,
        Some(MemberEvent::Down(name("b"), DownReason::Closed))
    );
    assert_eq!(a.member("b").state, MemberState::Down);
    drop(b);
    let b = TestNode::start("b", 2, options().listen(address)).await;
    assert_eq!(monitor.next().await, Some(MemberEvent::Up(name("b"))));
    b.sees("a").await;
    assert_eq!(
        a.telemetry
            .snapshot()
            .counter("underpin_cluster_events", &[("event", "down")]),
        1
    );
}

#[tokio::test]
async fn a_node_that_stops_has_left_and_is_not_down() {
    let (a, b) = two_nodes().await;
    let mut monitor = a.cluster.monitor();

    b.stop().await;

    assert_eq!(monitor.next().await, Some(MemberEvent::Left(name("b"))));
    assert_eq!(a.member("b").state, MemberState::Left);
}

#[tokio::test]
async fn a_node_can_leave_and_go_on_alone() {
    let (a, b) = two_nodes().await;
    let mut monitor = a.cluster.monitor();

    b.cluster.leave().await.expect("the room runs");

    assert_eq!(monitor.next().await, Some(MemberEvent::Left(name("b"))));
    assert_eq!((a.cluster.connected(), b.cluster.connected()), (0, 0));
    let alone = TestNode::start("c", 3, options().join(b.address())).await;
    eventually("it is told that the node has left", async || {
        matches!(
            &alone.cluster.failures()[..],
            [(
                _,
                ConnectError::Refused {
                    refusal: Refusal::Leaving,
                    ..
                }
            )]
        )
    })
    .await;
}

#[tokio::test]
async fn a_room_that_crashes_finds_the_others_again() {
    let (a, b) = two_nodes().await;
    let mut monitor = a.cluster.monitor();
    let _ = Life::of(b.supervisor(), "node/cluster/members").kill();

    assert!(matches!(
        monitor.next().await,
        Some(MemberEvent::Down(..) | MemberEvent::Left(_))
    ));
    assert_eq!(monitor.next().await, Some(MemberEvent::Up(name("b"))));
    b.sees("a").await;
}

async fn refusal_of(node: &TestNode) -> Refusal {
    let mut found = None;
    eventually("it is refused", async || {
        found = node
            .cluster
            .failures()
            .into_iter()
            .find_map(|(_, error)| match error {
                ConnectError::Refused { refusal, .. } => Some(refusal),
                _ => None,
            });
        found.is_some()
    })
    .await;
    found.expect("seen")
}

#[tokio::test]
async fn another_cookie_lets_nobody_in() {
    let a = TestNode::start("a", 1, options()).await;
    let other = ClusterOptions::new(Cookie::new("quite another cookie").expect("long enough"))
        .reconnect(Duration::from_millis(20), Duration::from_millis(50))
        .join(a.address());

    let b = TestNode::start("b", 2, other).await;

    assert_eq!(refusal_of(&b).await, Refusal::Cookie);
    assert_eq!((a.cluster.connected(), b.cluster.connected()), (0, 0));
    assert!(
        a.cluster.members().is_empty(),
        "a stranger is not remembered"
    );
}

#[tokio::test]
async fn a_name_or_an_id_of_another_is_refused_with_who_has_it() {
    let (a, b) = two_nodes().await;

    let same_name = TestNode::start("b", 3, options().join(a.address())).await;
    let same_id = TestNode::start("c", 2, options().join(a.address())).await;

    assert_eq!(
        refusal_of(&same_name).await,
        Refusal::DuplicateName { name: name("b") }
    );
    let id = NodeId::new(2).expect("an id");
    assert_eq!(
        refusal_of(&same_id).await,
        Refusal::DuplicateId {
            id,
            name: name("b")
        }
    );
    b.stop().await;
    same_id.sees("a").await;
}

#[tokio::test]
async fn a_node_that_is_its_own_seed_is_no_fault() {
    let place = TcpListener::bind("127.0.0.1:0").expect("free");
    let address = place.local_addr().expect("bound");
    drop(place);
    let a = TestNode::start("a", 1, options().listen(address).join(address.to_string())).await;
    let b = TestNode::start("b", 2, options().join(address.to_string())).await;

    a.sees("b").await;
    assert!(
        a.cluster.failures().is_empty(),
        "{:?}",
        a.cluster.failures()
    );
    drop(b);
}

#[tokio::test]
async fn strangers_are_dropped_in_time_and_the_newest_is_let_in() {
    let time = Duration::from_millis(300);
    let a = TestNode::start("a", 1, options().greeting(time, 4)).await;
    let mut idle = Vec::new();
    for _ in 0..10 {
        idle.push(TcpStream::connect(a.address()).await.expect("listens"));
    }

    let b = TestNode::start("b", 2, options().join(a.address())).await;

    a.sees("b").await;
    for stranger in &mut idle {
        let end = tokio::time::timeout(PATIENCE, stranger.read(&mut [0])).await;
        assert!(matches!(end, Ok(Ok(0) | Err(_))), "{end:?}");
    }
    let evicted = a
        .telemetry
        .snapshot()
        .counter("underpin_cluster_strangers_evicted", &[]);
    assert!(evicted >= 6, "{evicted}");
    drop(b);
}

#[tokio::test]
async fn a_node_that_joins_nothing_opens_no_socket() {
    let telemetry = Telemetry::new(Options::default());
    let identity = Identity {
        name: name("a"),
        id: NodeId::new(1).expect("an id"),
        incarnation: 1,
    };
    let groups = Groups::new("a");
    let idle = ClusterOptions::new(cookie());
    let cluster = Cluster::new(idle, identity.clone(), &groups, &telemetry).expect("fine");
    assert!(cluster.is_idle() && cluster.listen_addr().is_none());

    let open = ClusterOptions::new(cookie()).listen("0.0.0.0:0".parse().expect("an address"));
    let refused = Cluster::new(open, identity, &groups, &telemetry);
    assert!(matches!(refused, Err(ClusterError::Insecure { .. })));
    let _ = SECOND;
}
