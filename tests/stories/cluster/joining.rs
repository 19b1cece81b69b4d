//! Who is up.

use std::{net::TcpListener, time::Duration};

use tokio::{io::AsyncReadExt, net::TcpStream};
use underpin::{
    cluster::{
        Cluster, ClusterError, ClusterOptions, ConnectError, Cookie, DownReason, Identity,
        MemberEvent, MemberState, Refusal, is_taken,
    },
    ids::NodeId,
    otp::Groups,
    telemetry::{Options, Telemetry},
    testing::{Life, PATIENCE, eventually},
};

use super::support::{Ask, Counter, TestNode, cookie, name, options, total_becomes, two_nodes};

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

/// As one does whose data was lost.
#[tokio::test]
async fn a_node_that_comes_back_with_another_id_is_the_same_node() {
    let (a, b) = two_nodes().await;
    let address = b.cluster.listen_addr().expect("it listens");
    b.kill();
    eventually("it is down", async || {
        a.member("b").state == MemberState::Down
    })
    .await;
    drop(b);

    let b = TestNode::start("b", 9, options().listen(address)).await;

    a.sees("b").await;
    b.sees("a").await;
    assert_eq!(a.member("b").id.map(NodeId::get), Some(9));
    assert_eq!(a.cluster.members().len(), 1);
}

#[tokio::test]
async fn nodes_talk_over_ip_version_6() {
    let Ok(_) = TcpListener::bind("[::1]:0") else {
        return eprintln!("NOT LOOKED AT, since this machine has no IPv6");
    };
    let at_v6 = || options().listen("[::1]:0".parse().expect("an address"));
    let a = TestNode::start("a", 1, at_v6()).await;
    let b = TestNode::start("b", 2, at_v6().join(a.address())).await;

    a.sees("b").await;
    b.sees("a").await;

    assert!(a.member("b").address.starts_with("[::1]:"));
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

    assert_eq!((a.cluster.has_left(), b.cluster.has_left()), (false, true));
    assert!(matches!(
        b.cluster.join(a.address()),
        Err(ClusterError::HasLeft)
    ));
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
async fn a_failure_that_is_over_is_not_told_any_more_whoever_opened_the_connection() {
    let place = TcpListener::bind("127.0.0.1:0").expect("free");
    let address = place.local_addr().expect("bound");
    drop(place);
    let a = TestNode::start("a", 1, options().join(address.to_string())).await;
    let c = TestNode::start("c", 3, options().join(a.address())).await;
    a.sees("c").await;
    // Asks once and is refused: its next attempt is far away.
    let later = Duration::from_mins(10);
    let b = options()
        .listen(address)
        .join(a.address())
        .reconnect(later, later);
    let b = TestNode::start("b", 3, b).await;
    assert!(matches!(refusal_of(&b).await, Refusal::DuplicateId { .. }));

    c.stop().await;

    b.sees("a").await;
    a.sees("b").await;
    eventually("nothing keeps it out any more", async || {
        b.cluster.failures().is_empty() && a.cluster.failures().is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_seed_that_does_not_answer_hides_no_answer_of_another_one() {
    let (a, b) = two_nodes().await;
    // The system accepts for it, and nobody ever reads.
    let silent = TcpListener::bind("127.0.0.1:0").expect("free");
    let silent_address = silent.local_addr().expect("bound").to_string();
    let seeds = ClusterOptions::new(cookie()).join(silent_address);
    let seeds = seeds.join(a.address());
    let taken = async |id| is_taken(&seeds, &name("c"), NodeId::new(id).expect("an id"), 9).await;

    assert!(taken(1).await);
    assert!(taken(2).await);

    b.kill();
    let mut monitor = a.cluster.monitor();
    while a.member("b").state != MemberState::Down {
        monitor.next().await;
    }
    assert!(taken(2).await, "its holder may only be cut off");
}

#[tokio::test]
async fn a_node_that_has_left_stays_out_also_when_its_room_crashes() {
    let (a, b) = two_nodes().await;
    b.cluster.leave().await.expect("the room runs");

    let members = Life::of(b.supervisor(), "node/cluster/members");
    let _ = members.kill().restarted().await;

    let alone = TestNode::start("c", 3, options().join(b.address())).await;
    assert_eq!(refusal_of(&alone).await, Refusal::Leaving);
    assert_eq!(b.cluster.connected(), 0);
    drop(a);
}

/// A node that looks at its connections once a minute.
fn slowly() -> ClusterOptions {
    options().heartbeat(Duration::from_mins(1), Duration::from_mins(10))
}

#[tokio::test]
async fn what_went_over_a_connection_is_counted_up_to_its_end() {
    let a = TestNode::start("a", 1, slowly()).await;
    let b = TestNode::start("b", 2, slowly().join(a.address())).await;
    a.sees("b").await;
    let counter = a.cluster.remote::<Counter>(&name("b"));
    for _ in 0..100 {
        counter.cast(&Ask::Add(1)).await.expect("connected");
    }
    total_becomes(&b, 100).await;

    b.stop().await;

    let labels = [("node", "b"), ("direction", "sent")];
    eventually("all have been counted", async || {
        a.telemetry
            .snapshot()
            .counter("underpin_cluster_messages", &labels)
            == 100
    })
    .await;
}

#[tokio::test]
async fn for_how_long_a_node_has_been_so_is_right_whenever_one_looks() {
    let a = TestNode::start("a", 1, slowly()).await;
    let b = TestNode::start("b", 2, slowly().join(a.address())).await;
    a.sees("b").await;

    let first = a.member("b").since;

    eventually("time goes by", async || a.member("b").since > first).await;
    drop(b);
}

#[test]
#[cfg(target_os = "linux")]
fn a_node_that_joins_nothing_opens_no_socket() {
    const ALONE: &str = "UNDERPIN_STORY_ALONE";
    if std::env::var_os(ALONE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.enable_all().build().expect("starts");
        return runtime.block_on(alone());
    }
    // In a process of its own: in this one, other stories open sockets at the same time.
    let this = std::env::current_exe().expect("it runs");
    let story = "cluster::joining::a_node_that_joins_nothing_opens_no_socket";
    let mut command = std::process::Command::new(this);
    let output = command.args(["--exact", story]).env(ALONE, "1").output();
    let output = output.expect("it starts");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{said}");
}

#[cfg(target_os = "linux")]
async fn alone() {
    let idle = TestNode::start("a", 1, ClusterOptions::new(cookie())).await;
    assert!(idle.cluster.is_idle() && idle.cluster.listen_addr().is_none());
    assert_eq!(sockets(), 0);

    let listens = TestNode::start("b", 2, options()).await;
    assert!(!listens.cluster.is_idle());
    assert_eq!(sockets(), 1);
}

/// How many sockets of the network this process has open.
#[cfg(target_os = "linux")]
fn sockets() -> usize {
    use std::fs;
    let mut known = std::collections::HashSet::new();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let table = fs::read_to_string(format!("/proc/self/net/{table}")).unwrap_or_default();
        let inodes = table
            .lines()
            .filter_map(|line| line.split_whitespace().nth(9));
        known.extend(inodes.map(|inode| format!("socket:[{inode}]")));
    }
    let open = fs::read_dir("/proc/self/fd").expect("it is Linux");
    let open = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    // A descriptor and its clone are one socket.
    let open: std::collections::HashSet<_> = open
        .map(|file| file.to_string_lossy().into_owned())
        .filter(|file| known.contains(file))
        .collect();
    open.len()
}

#[tokio::test]
async fn an_address_that_others_reach_needs_tls() {
    let telemetry = Telemetry::new(Options::default());
    let identity = Identity {
        name: name("a"),
        id: NodeId::new(1).expect("an id"),
        incarnation: 1,
    };
    let open = ClusterOptions::new(cookie()).listen("0.0.0.0:0".parse().expect("an address"));
    let refused = Cluster::new(open, identity, &Groups::new("a"), &telemetry);
    assert!(matches!(refused, Err(ClusterError::Insecure { .. })));
}
