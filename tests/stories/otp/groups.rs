//! Groups of actors: who is in them, who hears of it, and what is sent to all.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, pg};
use tokio::sync::mpsc;
use underpin::{
    otp::{
        Address, ChildSpec, Group, GroupEvent, GroupForwarding, GroupMonitor, GroupSnapshot,
        Groups, JoinError, Supervisor,
    },
    ractor,
    testing::{Life, eventually, with_tree},
};

use super::probe::{Do, LONG, Notes, lenient, probe};

/// Tells what it hears.
struct Ear(mpsc::UnboundedSender<u32>);

#[derive(Debug, Clone)]
struct Say(u32);
underpin::otp::message!(Say);

impl Actor for Ear {
    type Msg = Say;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Say>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Say>,
        Say(word): Say,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let _ = self.0.send(word);
        Ok(())
    }
}

async fn ear() -> (ActorRef<Say>, mpsc::UnboundedReceiver<u32>) {
    let (tell, heard) = mpsc::unbounded_channel();
    let (ear, _) = Actor::spawn(None, Ear(tell), ()).await.expect("starts");
    (ear, heard)
}

async fn deaf() -> ActorRef<Say> {
    ear().await.0
}

fn ids(members: &[ActorCell]) -> Vec<String> {
    let id = |member: &ActorCell| member.get_id().to_string();
    members.iter().map(id).collect()
}

fn cells(actors: &[&ActorRef<Say>]) -> Vec<ActorCell> {
    actors.iter().map(|actor| actor.get_cell()).collect()
}

async fn gone(group: &Group<Say>) {
    eventually("the group is empty", async || group.members().is_empty()).await;
}

#[tokio::test]
async fn q01_who_joins_is_a_member_and_a_group_without_members_is_gone() {
    let groups = Groups::new("q01");
    let group = groups.group::<Say>("choir");
    let singer = deaf().await;
    assert_eq!(groups.which_groups(), [] as [Arc<str>; 0]);

    group.join(&singer).expect("lives");

    assert_eq!(ids(&group.members()), ids(&cells(&[&singer])));
    assert_eq!(ids(&group.local_members()), ids(&cells(&[&singer])));
    assert_eq!(groups.which_groups(), ["choir".into()]);
    assert_eq!(groups.local_counts(), [("choir".into(), 1)]);
    group.leave(&singer).expect("is a member");
    assert!(group.members().is_empty());
    assert_eq!(groups.which_groups(), [] as [Arc<str>; 0]);
}

#[tokio::test]
async fn q02_who_joins_three_times_leaves_three_times() {
    let groups = Groups::new("q02");
    let group = groups.group::<Say>("choir");
    let (singer, other) = (deaf().await, deaf().await);

    group.join(&singer).expect("lives");
    group
        .join_all(&[singer.clone(), singer.clone()])
        .expect("lives");
    assert_eq!(group.members().len(), 3);

    assert_eq!(group.leave_all(&[singer.clone(), singer.clone()]), Ok(2));
    assert_eq!(group.members().len(), 1);
    assert_eq!(group.leave_all(&[other, singer.clone()]), Ok(1));
    let left = group.leave(&singer).expect_err("has left");
    assert_eq!(
        left.to_string(),
        "the actor is no member of choir; it has left already, or never joined"
    );
    assert!(pg::which_scoped_groups(&groups.scope().to_owned()).is_empty());
}

#[tokio::test]
async fn q03_a_member_that_dies_leaves_all_groups_and_monitors_hear_of_it() {
    let groups = Groups::new("q03");
    let (one, two) = (groups.group::<Say>("one"), groups.group::<Say>("two"));
    let singer = deaf().await;
    one.join_all(&[singer.clone(), singer.clone()])
        .expect("lives");
    two.join(&singer).expect("lives");
    let (_, mut monitor) = groups.monitor();

    singer.kill();

    let mut left = BTreeMap::new();
    for _ in 0..2 {
        match monitor.next().await {
            GroupEvent::Left { group, actors } => left.insert(group, actors.len()),
            other => panic!("{other:?}"),
        };
    }
    assert_eq!(left, BTreeMap::from([("one".into(), 2), ("two".into(), 1)]));
    assert!(groups.which_groups().is_empty());
    let refused = one.join(&singer).expect_err("is dead");
    assert_eq!(
        refused,
        JoinError::Ended {
            group: "one".into()
        }
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q04_a_hundred_that_join_and_leave_or_die_leave_nothing_behind() {
    let groups = Groups::new("q04");
    let group = groups.group::<Say>("choir");

    let visits = (0..100).map(|n| {
        let group = group.clone();
        tokio::spawn(async move {
            let singer = deaf().await;
            group.join(&singer).expect("lives");
            if n % 2 == 0 {
                singer.stop(None);
            } else {
                singer.kill();
            }
            if n % 3 == 0 {
                // Its end may have been quicker.
                let _ = group.leave(&singer);
            }
        })
    });
    for visit in visits.collect::<Vec<_>>() {
        visit.await.expect("no panic");
    }

    eventually("nobody is left", async || {
        let scope = groups.scope().to_owned();
        groups.local_counts().is_empty() && pg::which_scoped_groups(&scope).is_empty()
    })
    .await;
}

#[tokio::test]
async fn q06_a_monitor_of_the_scope_begins_with_all_and_hears_of_every_group() {
    let groups = Groups::new("q06");
    let (one, two) = (groups.group::<Say>("one"), groups.group::<Say>("two"));
    let (a, b) = (deaf().await, deaf().await);
    one.join_all(&[a.clone(), a.clone()]).expect("lives");

    let (snapshot, mut monitor) = groups.monitor();
    two.join_all(&[a.clone(), b.clone(), a.clone()])
        .expect("live");
    one.leave(&a).expect("is a member");

    assert_eq!(snapshot, BTreeMap::from([("one".into(), cells(&[&a, &a]))]));
    let joined = GroupEvent::Joined {
        group: "two".into(),
        actors: cells(&[&a, &b, &a]).into(),
    };
    let left = GroupEvent::Left {
        group: "one".into(),
        actors: cells(&[&a]).into(),
    };
    assert_eq!(monitor.next().await, joined);
    assert_eq!(monitor.next().await, left);
    assert_eq!(monitor.try_next(), None);
}

/// Counts what it is told of groups, for as long as its state lives.
struct Watcher(mpsc::UnboundedSender<GroupEvent>);

enum Heard {
    Of(GroupEvent),
    Stop,
}
underpin::otp::message!(Heard);

impl From<GroupEvent> for Heard {
    fn from(event: GroupEvent) -> Self {
        Self::Of(event)
    }
}

impl Actor for Watcher {
    type Msg = Heard;
    type State = GroupForwarding;
    type Arguments = Groups;

    async fn pre_start(
        &self,
        me: ActorRef<Heard>,
        groups: Groups,
    ) -> Result<GroupForwarding, ActorProcessingErr> {
        Ok(groups.forward_to(&me).1)
    }

    async fn handle(
        &self,
        me: ActorRef<Heard>,
        heard: Heard,
        _: &mut GroupForwarding,
    ) -> Result<(), ActorProcessingErr> {
        match heard {
            Heard::Of(event) => drop(self.0.send(event)),
            Heard::Stop => me.stop(None),
        }
        Ok(())
    }
}

#[tokio::test]
async fn q07_after_a_monitor_has_gone_nothing_comes_not_even_what_was_queued() {
    let groups = Groups::new("q07");
    let group = groups.group::<Say>("choir");
    let singer = deaf().await;
    let (_, monitor) = group.monitor();
    let (_, mut other) = group.monitor();

    group.join(&singer).expect("lives");
    drop(monitor);
    assert_eq!(groups.monitors(), 1);
    group.leave(&singer).expect("is a member");

    // What was queued for the one went with it; the other has it all.
    assert!(matches!(other.next().await, GroupEvent::Joined { .. }));
    assert!(matches!(other.next().await, GroupEvent::Left { .. }));
    drop(other);
    assert_eq!(groups.monitors(), 0);
}

#[tokio::test]
async fn q08_an_observer_that_dies_takes_its_monitor_along() {
    let groups = Groups::new("q08");
    let group = groups.group::<Say>("choir");
    let (tell, mut told) = mpsc::unbounded_channel();
    let (watcher, _) = Actor::spawn(None, Watcher(tell), groups.clone())
        .await
        .expect("starts");
    let singer = deaf().await;
    group.join(&singer).expect("lives");
    assert!(matches!(told.recv().await, Some(GroupEvent::Joined { .. })));
    assert_eq!(groups.monitors(), 1);

    watcher.cast(Heard::Stop).expect("lives");

    eventually("the monitor is gone", async || groups.monitors() == 0).await;
    group.leave(&singer).expect("is a member");
    assert_eq!(told.recv().await, None);
}

#[tokio::test]
async fn q10_two_scopes_of_one_name_never_meet() {
    let (here, there) = (Groups::new("node"), Groups::new("node"));
    let singer = deaf().await;

    here.group::<Say>("choir").join(&singer).expect("lives");

    assert_ne!(here.scope(), there.scope());
    assert!(there.group::<Say>("choir").members().is_empty());
    assert!(there.which_groups().is_empty());
}

#[tokio::test]
async fn q16_a_join_is_quick_beside_ten_thousand_groups() {
    let groups = Groups::new("q16");
    let singer = deaf().await;
    let many: Vec<_> = (0..10_000)
        .map(|n| groups.group::<Say>(format!("group {n}")))
        .collect();
    for group in &many {
        group.join(&singer).expect("lives");
    }
    let syncs = {
        let groups = groups.clone();
        std::thread::spawn(move || (0..20).map(|_| groups.which_groups().len()).min())
    };

    let begin = std::time::Instant::now();
    let late = groups.group::<Say>("late");
    late.join(&singer).expect("lives");

    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(syncs.join().expect("no panic") >= Some(10_000));
    singer.kill();
    eventually("all are empty", async || groups.which_groups().is_empty()).await;
}

#[tokio::test]
async fn a_broadcast_reaches_everybody_as_often_as_it_joined() {
    let groups = Groups::new("broadcast");
    let group = groups.group::<Say>("choir");
    let ((a, mut heard_by_a), (b, mut heard_by_b)) = (ear().await, ear().await);
    group
        .join_all(&[a.clone(), b.clone(), a.clone()])
        .expect("live");

    let told = group.broadcast(&Say(7));

    assert_eq!((told.sent, told.unreached), (3, 0));
    assert_eq!(heard_by_a.recv().await, Some(7));
    assert_eq!(heard_by_a.recv().await, Some(7));
    assert_eq!(heard_by_b.recv().await, Some(7));
    group.leave(&a).expect("is a member");
    assert_eq!(group.broadcast(&Say(8)).sent, 2);
}

#[tokio::test]
async fn members_with_other_messages_are_not_reached_and_counted() {
    let groups = Groups::new("types");
    let group = groups.group::<Say>("choir");
    let singer = deaf().await;
    group.join(&singer).expect("lives");

    let others = groups.group::<Heard>("choir");
    let told = others.broadcast_with(|| Heard::Stop);

    assert_eq!((told.sent, told.unreached), (0, 1));
    assert_eq!(group.broadcast(&Say(1)).sent, 1);
}

#[tokio::test]
async fn a_supervised_child_is_a_member_in_each_of_its_lives() {
    let groups = Groups::new("lives");
    let probes = groups.group::<Do>("probes");
    let (address, notes) = (Address::new(), Notes::default());
    let spec = lenient("tree").child(probe("a", &address, &notes).joins(&probes));

    with_tree(spec, async |tree| {
        let first = probes.members();
        let (_, mut monitor) = probes.monitor();

        Life::of(tree, "a").panic("boom").restarted().await;

        let second = probes.members();
        assert_eq!((first.len(), second.len()), (1, 1));
        assert_ne!(first, second);
        assert_eq!(Some(&second[0]), address.actor().as_ref());
        // The news of the end and of the start come on different ways: for a moment there were two of it.
        let (group, left, joined) = ("probes".into(), first.into(), second.into());
        let event = monitor.next().await;
        assert_eq!(
            event,
            GroupEvent::Left {
                group,
                actors: left
            }
        );
        let (group, actors) = ("probes".into(), joined);
        assert_eq!(monitor.next().await, GroupEvent::Joined { group, actors });
        assert_eq!(probes.broadcast_with(|| Do::Add(1)).sent, 1);
    })
    .await;

    assert!(probes.members().is_empty());
}

#[tokio::test]
async fn a_child_that_understands_something_else_does_not_start_in_a_group() {
    let groups = Groups::new("mistake");
    let group = groups.group::<Say>("choir");
    let notes = Notes::default();
    let probe = probe("a", &Address::new(), &notes).joins(&group);
    let task = ChildSpec::task("b", |_| async { Ok(()) }).joins(&group);

    for child in [probe, task] {
        let refused = Supervisor::start(lenient("tree").child(child)).await;
        let words = refused.expect_err("cannot join").to_string();
        assert!(words.contains("cannot be in the group choir"), "{words}");
    }
    assert!(group.members().is_empty());
}

#[tokio::test]
async fn the_actor_at_an_address_joins_and_nobody_cannot() {
    let groups = Groups::new("address");
    let group = groups.group::<Do>("probes");
    let (address, notes) = (Address::new(), Notes::default());
    let nobody = group.join_address(&address).expect_err("nobody yet");
    assert_eq!(
        nobody,
        JoinError::Down {
            group: "probes".into()
        }
    );

    with_tree(
        lenient("tree").child(probe("a", &address, &notes)),
        async |_| {
            group.join_address(&address).expect("lives");
            assert_eq!(group.members(), [address.actor().expect("lives")]);
        },
    )
    .await;
}

#[tokio::test]
async fn what_others_do_in_pg_itself_is_seen_here_too() {
    let groups = Groups::in_scope("shared scope of this story");
    let scope = groups.scope().to_owned();
    let (a, b) = (deaf().await, deaf().await);
    // Before anybody here looks, and after.
    pg::join_scoped(scope.clone(), "choir".into(), vec![a.get_cell()]);
    let (snapshot, mut monitor) = groups.monitor();
    let group = groups.group::<Say>("choir");
    pg::join_scoped(scope.clone(), "choir".into(), vec![b.get_cell()]);

    assert_eq!(monitor_ends_with(snapshot, &mut monitor, 2).await, 2);
    assert_eq!(group.broadcast(&Say(1)).sent, 2);
    pg::leave_scoped(scope.clone(), "choir".into(), vec![a.get_cell()]);
    eventually("a has left", async || group.members() == [b.get_cell()]).await;
    group.leave(&b).expect("is a member");
    assert!(pg::get_scoped_members(&scope, &"choir".into()).is_empty());
}

/// Follows a monitor until it knows of so many members, and tells how many it knows.
async fn monitor_ends_with(
    mut known: GroupSnapshot,
    monitor: &mut GroupMonitor,
    wanted: usize,
) -> usize {
    let count = |known: &GroupSnapshot| known.values().map(Vec::len).sum::<usize>();
    while count(&known) != wanted {
        let event = tokio::time::timeout(LONG, monitor.next()).await;
        apply(&mut known, event.expect("more changes come"));
    }
    count(&known)
}

/// What a monitor makes of what it knew.
fn apply(known: &mut GroupSnapshot, event: GroupEvent) {
    match event {
        GroupEvent::Joined { group, actors } => {
            known
                .entry(group)
                .or_default()
                .extend(actors.iter().cloned());
        }
        GroupEvent::Left { group, actors } => {
            let members = known.entry(group).or_default();
            for actor in &*actors {
                let at = members.iter().position(|member| member == actor);
                members.remove(at.expect("only a member leaves"));
            }
        }
        GroupEvent::Resync { groups, .. } => *known = groups,
        other => panic!("{other:?}"),
    }
    known.retain(|_, members| !members.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn monitors_that_come_in_the_middle_of_a_tumult_miss_nothing_and_hear_nothing_twice() {
    let groups = Groups::new("tumult");
    let visitors = (0..8_u32).map(|n| {
        let groups = groups.clone();
        tokio::spawn(async move {
            for round in 0..50 {
                let group = groups.group::<Say>(format!("group {}", (n + round) % 3));
                let visitor = deaf().await;
                group
                    .join_all(&[visitor.clone(), visitor.clone()])
                    .expect("lives");
                match round % 4 {
                    0 => drop(group.leave(&visitor)),
                    1 => visitor.kill(),
                    2 => drop(group.leave_all(&[visitor.clone(), visitor.clone()])),
                    _ => visitor.stop(None),
                }
            }
        })
    });
    let visitors: Vec<_> = visitors.collect();
    let mut monitors = Vec::new();
    for _ in 0..20 {
        monitors.push(groups.monitor());
        tokio::task::yield_now().await;
    }
    for visitor in visitors {
        visitor.await.expect("no panic");
    }
    // The rounds of kind 0 leave their visitor with one membership, the others with none.
    let left = || {
        groups
            .local_counts()
            .iter()
            .map(|(_, count)| count)
            .sum::<usize>()
    };
    eventually("the dead are out", async || left() == 8 * 13).await;
    let (end, _) = groups.monitor();
    for (snapshot, mut monitor) in monitors {
        let mut known = snapshot;
        while let Some(event) = monitor.try_next() {
            apply(&mut known, event);
        }
        assert_eq!(known, end);
    }
}

#[tokio::test]
async fn a_monitor_that_is_not_read_gets_the_whole_in_place_of_what_it_missed() {
    let groups = Groups::new("slow");
    let group = groups.group::<Say>("choir");
    let singer = deaf().await;
    let (_, mut monitor) = group.monitor();

    for _ in 0..GroupMonitor::BOUND {
        group.join(&singer).expect("lives");
        group.leave(&singer).expect("is a member");
    }
    group.join(&singer).expect("lives");

    let resync = GroupEvent::Resync {
        missed: 2 * GroupMonitor::BOUND as u64 + 1,
        groups: BTreeMap::from([("choir".into(), cells(&[&singer]))]),
    };
    assert_eq!(monitor.next().await, resync);
    assert_eq!(monitor.try_next(), None);
    group.leave(&singer).expect("is a member");
    assert!(matches!(monitor.next().await, GroupEvent::Left { .. }));
}

#[test]
fn groups_outlive_the_runtime_that_they_were_first_used_in() {
    let groups = Groups::new("runtimes");
    let group = groups.group::<Say>("choir");
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime starts")
    };

    // The actors of the first end with it, and so does the one that hears of ends.
    let first = runtime();
    first.block_on(async { group.join(&deaf().await).expect("lives") });
    drop(first);

    runtime().block_on(async {
        let singer = deaf().await;
        group.join(&singer).expect("lives");
        assert_eq!(ids(&group.members()), ids(&cells(&[&singer])));
        singer.kill();
        gone(&group).await;
    });
}

#[tokio::test]
async fn when_nobody_holds_a_scope_it_leaves_pg() {
    let groups = Groups::new("dropped");
    let scope = groups.scope().to_owned();
    let singer = deaf().await;
    groups.group::<Say>("choir").join(&singer).expect("lives");
    assert_eq!(pg::which_scoped_groups(&scope), ["choir"]);

    drop(groups);

    assert!(pg::which_scoped_groups(&scope).is_empty());
}
