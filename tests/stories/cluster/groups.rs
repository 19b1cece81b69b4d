//! Groups whose members are at several nodes: OTP's `pg`, scenarios Q11 to Q14.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use underpin::{
    cluster::ClusterGroup,
    ractor::{Actor, ActorProcessingErr, ActorRef},
    testing::{Life, PATIENCE, eventually},
};

use super::support::{TestNode, name, options, two_nodes};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note(u32);

underpin::otp::message!(Note);

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

fn group(node: &TestNode) -> ClusterGroup<Note> {
    node.cluster.group("readers")
}

async fn becomes(group: &ClusterGroup<Note>, expected: &[(&str, usize)]) {
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
    let (a, b) = two_nodes().await;
    let address = b.cluster.listen_addr().expect("it listens");
    let (at_a, at_b) = (group(&a), group(&b));
    let (reader, _heard) = listener().await;
    at_b.join(&reader).expect("lives");
    becomes(&at_a, &[("b", 1)]).await;

    // The room of b goes and comes back; meanwhile members come on both sides.
    b.kill();
    drop(b);
    becomes(&at_a, &[]).await;
    let (mine, _mine_heard) = listener().await;
    at_a.join(&mine).expect("lives");
    let b = TestNode::start("b", 2, options().listen(address).join(a.address())).await;
    let at_b = group(&b);
    let (moved, _moved_heard) = listener().await;
    at_b.join(&moved).expect("lives");
    at_b.join(&moved).expect("lives");

    becomes(&at_a, &[("a", 1), ("b", 2)]).await;
    becomes(&at_b, &[("a", 1), ("b", 2)]).await;
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

    let reached = groups[0].broadcast(&Note(7)).await;

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
