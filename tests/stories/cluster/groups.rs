//! Groups whose members are at several nodes: OTP's `pg`, scenarios Q11 to Q14.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use underpin::{
    cluster::{ClusterGroup, ClusterOptions, Delivery, RemoteError},
    ractor::{Actor, ActorProcessingErr, ActorRef},
    testing::{Life, PATIENCE, eventually},
};

use super::support::{Ask, Cable, Counter, TestNode, Told, cookie, name, options, two_nodes};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note(u32);

underpin::otp::message!(Note);

impl From<Delivery<Note>> for Note {
    fn from(delivery: Delivery<Note>) -> Self {
        delivery.into_payload()
    }
}

/// Passes on what it hears.
struct Listener;

impl Actor for Listener {
    type Msg = Note;
    type State = mpsc::UnboundedSender<Note>;
    type Arguments = mpsc::UnboundedSender<Note>;

    async fn pre_start(
        &self,
        _: ActorRef<Note>,
        told: mpsc::UnboundedSender<Note>,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(told)
    }

    async fn handle(
        &self,
        _: ActorRef<Note>,
        note: Note,
        told: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        told.send(note)?;
        Ok(())
    }
}

type Heard = mpsc::UnboundedReceiver<Note>;

async fn listener() -> (ActorRef<Note>, Heard) {
    let (told, heard) = mpsc::unbounded_channel();
    let (actor, _) = Actor::spawn(None, Listener, told).await.expect("starts");
    (actor, heard)
}

fn group(node: &TestNode) -> ClusterGroup<Note, Note> {
    node.cluster.group("readers")
}

async fn becomes(group: &ClusterGroup<Note, Note>, expected: &[(&str, usize)]) {
    let expected: BTreeMap<_, _> = expected
        .iter()
        .map(|(node, count)| (name(node), *count))
        .collect();
    eventually(&format!("the members are {expected:?}"), async || {
        group.members() == expected
    })
    .await;
}

#[tokio::test]
async fn q11_who_joins_elsewhere_is_a_member_and_no_local_one_until_it_leaves_dies_or_its_node_goes()
 {
    let (a, b) = two_nodes().await;
    let (at_a, at_b) = (group(&a), group(&b));
    let (first, _heard) = listener().await;
    let (second, _also_heard) = listener().await;

    at_b.join(&first).expect("lives");
    at_b.join(&second).expect("lives");
    becomes(&at_a, &[("b", 2)]).await;
    assert!(at_a.local_members().is_empty());
    assert_eq!(a.cluster.which_groups(), ["readers".into()]);

    at_b.leave(&first).expect("a member");
    becomes(&at_a, &[("b", 1)]).await;
    second.kill();
    becomes(&at_a, &[]).await;

    at_b.join(&first).expect("lives");
    becomes(&at_a, &[("b", 1)]).await;
    b.kill();
    becomes(&at_a, &[]).await;
}

#[tokio::test]
async fn q12_after_a_cut_everybody_is_where_it_is() {
    let cable = Cable::lay().await;
    let soon = (Duration::from_millis(50), Duration::from_millis(500));
    let a = options().heartbeat(soon.0, soon.1);
    let a = TestNode::start("a", 1, a.advertise(cable.address())).await;
    cable.leads_to(&a);
    // It listens nowhere, so that all that the two say to each other goes over the cable.
    let b = ClusterOptions::new(cookie()).heartbeat(soon.0, soon.1);
    let b = b.reconnect(soon.0, soon.1).join(cable.address());
    let b = TestNode::start("b", 2, b).await;
    let (at_a, at_b) = (group(&a), group(&b));
    let (stays, mut heard) = listener().await;
    let (moves, _moved) = listener().await;
    at_b.join(&stays).expect("lives");
    at_b.join(&moves).expect("lives");
    becomes(&at_a, &[("b", 2)]).await;
    let before = a.member("b").incarnation;

    cable.cut();
    becomes(&at_a, &[]).await;
    becomes(&at_b, &[("b", 2)]).await;
    // Both sides go on.
    let (mine, _mine_heard) = listener().await;
    at_a.join(&mine).expect("lives");
    at_b.leave(&moves).expect("a member");
    b.cluster
        .group::<Note, Note>("writers")
        .join(&moves)
        .expect("lives");
    cable.heal();

    becomes(&at_a, &[("a", 1), ("b", 1)]).await;
    becomes(&at_b, &[("a", 1), ("b", 1)]).await;
    becomes(&a.cluster.group("writers"), &[("b", 1)]).await;
    assert_eq!(a.member("b").incarnation, before, "nobody was started anew");
    eventually("it is sent to all", async || {
        at_a.broadcast(&Note(7), PATIENCE).await.nodes == 1
    })
    .await;
    assert_eq!(heard.recv().await, Some(Note(7)));
    assert!(heard.try_recv().is_err(), "it came once");
}

/// Three nodes, of which one is cut off from both others again and again, and on both sides members come and go meanwhile.
#[tokio::test]
async fn q12_whoever_came_and_went_on_either_side_of_a_cut_is_where_it_is_at_all_nodes() {
    let (to_a, to_b) = (Cable::lay().await, Cable::lay().await);
    let soon = (Duration::from_millis(50), Duration::from_millis(500));
    let behind = |cable: &Cable| {
        let options = options().heartbeat(soon.0, soon.1);
        options.advertise(cable.address())
    };
    let a = TestNode::start("a", 1, behind(&to_a)).await;
    let b = TestNode::start("b", 2, behind(&to_b).join(a.address())).await;
    to_a.leads_to(&a);
    to_b.leads_to(&b);
    // It listens nowhere, so that all that it says to the others goes over the cables.
    let c = ClusterOptions::new(cookie()).heartbeat(soon.0, soon.1);
    let c = c.reconnect(soon.0, soon.1).join(to_a.address());
    let c = TestNode::start("c", 3, c.join(to_b.address())).await;
    let groups = [group(&a), group(&b), group(&c)];
    let mut readers = Vec::new();
    for group in &groups {
        let (reader, heard) = listener().await;
        group.join(&reader).expect("lives");
        readers.push((reader, heard));
    }
    for group in &groups {
        becomes(group, &[("a", 1), ("b", 1), ("c", 1)]).await;
    }

    for round in 1..=3_usize {
        to_a.cut();
        to_b.cut();
        becomes(&groups[2], &[("c", round)]).await;
        becomes(&groups[0], &[("a", round), ("b", 1)]).await;
        groups[0].join(&readers[0].0).expect("lives");
        groups[1].leave(&readers[1].0).expect("a member");
        groups[2].join(&readers[2].0).expect("lives");
        groups[1].join(&readers[1].0).expect("lives");
        to_a.heal();
        to_b.heal();
        for group in &groups {
            becomes(group, &[("a", round + 1), ("b", 1), ("c", round + 1)]).await;
        }
    }
    let reached = groups[1].broadcast(&Note(7), PATIENCE).await;
    assert_eq!((reached.here.sent, reached.nodes), (1, 2));
    for (times, (_, heard)) in [4, 1, 4].into_iter().zip(&mut readers) {
        for _ in 0..times {
            let note = tokio::time::timeout(PATIENCE, heard.recv()).await;
            assert_eq!(note.expect("in time"), Some(Note(7)));
        }
        assert!(heard.try_recv().is_err(), "as often as it joined");
    }
}

#[tokio::test]
async fn q13_who_joins_sixteen_times_and_leaves_four_is_in_it_twelve_times_until_its_node_stops() {
    let (a, b) = two_nodes().await;
    let (at_a, at_b) = (group(&a), group(&b));
    let (reader, _heard) = listener().await;

    for _ in 0..16 {
        at_b.join(&reader).expect("lives");
    }
    for _ in 0..4 {
        at_b.leave(&reader).expect("a member");
    }
    becomes(&at_a, &[("b", 12)]).await;
    assert_eq!(at_a.count(), 12);

    b.stop().await;
    becomes(&at_a, &[]).await;
}

#[tokio::test]
async fn q14_no_empty_group_is_left_when_a_node_goes() {
    let (a, b) = two_nodes().await;
    let at_b = group(&b);
    let (reader, _heard) = listener().await;
    at_b.join(&reader).expect("lives");
    eventually("the group is seen", async || {
        !a.cluster.which_groups().is_empty()
    })
    .await;

    b.kill();

    eventually("the group is gone", async || {
        a.cluster.which_groups().is_empty()
    })
    .await;
}

#[tokio::test]
async fn q15_members_are_back_when_the_room_is_started_anew() {
    let (a, b) = two_nodes().await;
    let (at_a, at_b) = (group(&a), group(&b));
    let (mine, _mine_heard) = listener().await;
    let (theirs, _their_heard) = listener().await;
    at_a.join(&mine).expect("lives");
    at_b.join(&theirs).expect("lives");
    becomes(&at_a, &[("a", 1), ("b", 1)]).await;

    for part in ["node/cluster/members", "node/cluster/groups"] {
        let _ = Life::of(a.supervisor(), part).kill().restarted().await;
    }

    a.sees("b").await;
    becomes(&at_a, &[("a", 1), ("b", 1)]).await;
    becomes(&at_b, &[("a", 1), ("b", 1)]).await;
}

#[tokio::test]
async fn a_broadcast_reaches_all_members_at_all_nodes_with_one_frame_for_each_node() {
    let a = TestNode::start("a", 1, options()).await;
    let b = TestNode::start("b", 2, options().join(a.address())).await;
    let c = TestNode::start("c", 3, options().join(a.address())).await;
    for (node, others) in [(&a, ["b", "c"]), (&b, ["a", "c"]), (&c, ["a", "b"])] {
        for other in others {
            node.sees(other).await;
        }
    }
    let mut ears = Vec::new();
    let groups: Vec<_> = [&a, &b, &c].into_iter().map(group).collect();
    for group in &groups {
        for _ in 0..50 {
            let (reader, heard) = listener().await;
            group.join(&reader).expect("lives");
            ears.push(heard);
        }
    }
    becomes(&groups[0], &[("a", 50), ("b", 50), ("c", 50)]).await;
    let before = a.member("b").connection.expect("connected").messages_sent;

    let reached = groups[0].broadcast(&Note(7), PATIENCE).await;

    assert_eq!(
        (reached.here.sent, reached.nodes, reached.failed.len()),
        (50, 2, 0)
    );
    for heard in &mut ears {
        let note = tokio::time::timeout(PATIENCE, heard.recv()).await;
        assert_eq!(note.expect("in time"), Some(Note(7)));
    }
    let after = a.member("b").connection.expect("connected").messages_sent;
    assert_eq!(after - before, 1, "one frame for fifty members");
}

/// Takes what it gets and drops none of it until it is told to.
struct Hoarder;

type Hoard = mpsc::UnboundedSender<Delivery<Note>>;

impl Actor for Hoarder {
    type Msg = Delivery<Note>;
    type State = Hoard;
    type Arguments = Hoard;

    async fn pre_start(
        &self,
        _: ActorRef<Delivery<Note>>,
        hoard: Hoard,
    ) -> Result<Hoard, ActorProcessingErr> {
        Ok(hoard)
    }

    async fn handle(
        &self,
        _: ActorRef<Delivery<Note>>,
        delivery: Delivery<Note>,
        hoard: &mut Hoard,
    ) -> Result<(), ActorProcessingErr> {
        hoard.send(delivery)?;
        Ok(())
    }
}

fn bounded(node: &TestNode) -> ClusterGroup<Note> {
    node.cluster.group("hoarders")
}

async fn hoarder() -> (
    ActorRef<Delivery<Note>>,
    mpsc::UnboundedReceiver<Delivery<Note>>,
) {
    let (hoard, hoarded) = mpsc::unbounded_channel();
    let (actor, _) = Actor::spawn(None, Hoarder, hoard).await.expect("starts");
    (actor, hoarded)
}

#[tokio::test]
async fn a_member_that_is_slow_bounds_what_other_nodes_broadcast_and_not_what_is_sent_to_others() {
    const MOST: usize = (64 << 10) / 256;
    let a = TestNode::start("a", 1, options()).await;
    let b = TestNode::start("b", 2, options().join(a.address()).window_bytes(64 << 10)).await;
    let c = TestNode::start("c", 3, options().join(a.address())).await;
    for node in ["b", "c"] {
        a.sees(node).await;
    }
    let (slow, mut hoarded) = hoarder().await;
    let (quick, mut heard) = hoarder().await;
    let at_a = bounded(&a);
    bounded(&b).join(&slow).expect("lives");
    bounded(&c).join(&quick).expect("lives");
    eventually("both are seen", async || at_a.count() == 2).await;

    let mut kept = Vec::new();
    let full = eventually_full(&at_a, &mut hoarded, &mut kept, MOST).await;
    assert!(full <= MOST, "{full} are kept at b");

    while heard.try_recv().is_ok() {}
    let waiting = tokio::spawn({
        let at_a = at_a.clone();
        async move { at_a.broadcast(&Note(u32::MAX), PATIENCE).await }
    });
    eventually("the other node has it before the slow one", async || {
        heard.try_recv().is_ok_and(|note| note.0 == u32::MAX)
    })
    .await;
    assert!(!waiting.is_finished());
    let at_once = at_a.broadcast(&Note(0), Duration::ZERO).await;
    let full = [(name("b"), RemoteError::Full { node: name("b") })];
    assert_eq!((at_once.nodes, &at_once.failed[..]), (1, &full[..]));
    // The slow group keeps nobody from the rest of its node.
    let counter = a.cluster.remote::<Counter>(&name("b"));
    let told = counter.call(&Ask::Add(1), PATIENCE).await;
    assert_eq!(told, Ok(Told::Number(1)));

    kept.clear();

    let reached = waiting.await.expect("no panic");
    assert_eq!((reached.nodes, reached.failed.len()), (2, 0));
}

/// What was broadcast to members of one's own node lay in their mailboxes without a bound.
#[tokio::test]
async fn a_member_that_is_slow_bounds_what_its_own_node_broadcasts() {
    const MOST: usize = (64 << 10) / 256;
    let a = TestNode::start("a", 1, options().window_bytes(64 << 10)).await;
    let at_a = bounded(&a);
    let (slow, mut hoarded) = hoarder().await;
    at_a.join(&slow).expect("lives");

    let mut kept = Vec::new();
    let full = eventually_full(&at_a, &mut hoarded, &mut kept, MOST).await;

    assert!(full <= MOST, "{full} are kept");
    let reached = at_a.broadcast(&Note(0), Duration::ZERO).await;
    let full = [(name("a"), RemoteError::Full { node: name("a") })];
    assert_eq!(&reached.failed[..], &full[..]);
    assert_eq!((reached.here.sent, reached.here.unreached), (0, 1));
    // Where nobody is, nobody has too much.
    at_a.leave(&slow).expect("a member");
    let reached = at_a.broadcast(&Note(0), Duration::ZERO).await;
    assert_eq!((reached.here.sent, reached.failed.len()), (0, 0));
    at_a.join(&slow).expect("lives");
    let waiting = tokio::spawn(async move { at_a.broadcast(&Note(1), PATIENCE).await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    kept.clear();
    let reached = waiting.await.expect("no panic");
    assert_eq!((reached.here.sent, reached.failed.len()), (1, 0));
    let note = tokio::time::timeout(PATIENCE, hoarded.recv()).await;
    assert!(note.expect("in time").is_some_and(|note| note.0 == 1));
}

/// Broadcasts until a node is full, and takes what its member has. Gives how many it has.
async fn eventually_full(
    group: &ClusterGroup<Note>,
    hoarded: &mut mpsc::UnboundedReceiver<Delivery<Note>>,
    kept: &mut Vec<Delivery<Note>>,
    most: usize,
) -> usize {
    let mut sent = 0;
    while kept.len() <= most {
        let reached = group.try_broadcast(&Note(sent));
        sent += 1;
        while let Ok(delivery) = hoarded.try_recv() {
            kept.push(delivery);
        }
        let is_full = matches!(&reached.failed[..], [(_, RemoteError::Full { .. })]);
        if is_full && kept.len() * 256 >= (32 << 10) - 300 {
            break;
        }
        tokio::task::yield_now().await;
    }
    kept.len()
}
