//! Several copies of one child: `PartitionSupervisor`.

use std::{num::NonZeroUsize, time::Duration};

use underpin::{
    otp::{
        Address, ChildSpec, ChildState, DynamicSupervisor, DynamicSupervisorSpec, Intensity,
        PartitionError, PartitionSupervisor, PartitionSupervisorSpec, Restart, Supervisor,
        SupervisorError,
    },
    testing::Life,
};

use super::probe::{Do, Notes, incarnation, lenient, probe};

const OFTEN: Intensity = Intensity::new(1000, Duration::from_secs(1));

fn number(partitions: usize) -> NonZeroUsize {
    NonZeroUsize::new(partitions).expect("some")
}

fn probes(partitions: usize) -> PartitionSupervisorSpec<Address<Do>> {
    PartitionSupervisorSpec::new("parts", number(partitions), OFTEN, |_| {
        let address = Address::new();
        let spec = probe("any", &address, &Notes::default());
        (address, spec)
    })
}

async fn running(partitions: usize) -> PartitionSupervisor<Address<Do>> {
    let started = PartitionSupervisor::start(probes(partitions)).await;
    started.expect("starts")
}

#[tokio::test]
async fn n01_integers_go_round_in_turn() {
    let parts = running(3).await;

    let indices = [0, 1, 2, 3, -1, -3].map(|key| parts.index(&key).expect("some"));

    assert_eq!(indices, [0, 1, 2, 0, 1, 0]);
    parts.supervisor().stop().await;
}

#[tokio::test]
async fn n02_children_started_through_partitions_are_each_found_once() {
    let spec = PartitionSupervisorSpec::new("parts", number(4), OFTEN, |_| {
        let dynamic = DynamicSupervisorSpec::new("any", OFTEN);
        (dynamic.handle(), dynamic.child_spec())
    });
    let parts = PartitionSupervisor::start(spec).await.expect("starts");
    let mut wanted = Vec::new();

    for n in 0..100 {
        let key = format!("key-{:016x}", fastrand::u64(..) | n);
        let child = ChildSpec::task(key.as_str(), |ctx| async move {
            ctx.cancelled().await;
            Ok(())
        });
        let part: &DynamicSupervisor = parts.get(&key).expect("some");
        part.start_child(child).await.expect("starts");
        wanted.push(key);
    }

    let mut found: Vec<String> = Vec::new();
    for part in parts.all() {
        let children = part.which_children().expect("answers");
        found.extend(children.iter().map(|child| child.child.id().to_owned()));
    }
    wanted.sort();
    found.sort();
    assert_eq!(found, wanted);
    assert_eq!(
        parts.count_children().await.expect("answers").supervisors,
        4
    );
    parts.supervisor().stop().await;
}

#[tokio::test]
async fn n03_a_key_stays_with_its_partition_also_after_a_restart() {
    let parts = running(4).await;
    let before = parts.index("alice").expect("some");
    let address = parts.get("alice").expect("some").clone();

    let life = Life::of(parts.supervisor(), &address);
    let restarted = life.kill().restarted().await;

    assert_eq!(&*restarted.path, format!("parts/{before}"));
    assert_eq!(parts.index("alice"), Ok(before));
    assert_eq!(incarnation(parts.get("alice").expect("some")).await, 2);
    let others = (0..4).filter(|index| *index != before);
    for other in others {
        assert_eq!(incarnation(&parts.all()[other]).await, 1);
    }
    parts.supervisor().stop().await;
}

#[tokio::test]
async fn n05_partitions_are_resized_between_none_and_as_many_as_there_were() {
    let parts = running(8).await;

    parts.resize(0).await.expect("shrinks");
    assert_eq!(parts.get("key").map(|_| ()), Err(PartitionError::Empty));
    let counts = parts.count_children().await.expect("answers");
    assert_eq!((counts.specs, counts.active, counts.workers), (8, 0, 8));

    parts.resize(8).await.expect("grows");
    assert!(parts.get("key").is_ok());
    assert_eq!(parts.count_children().await.expect("answers").active, 8);
    let too_many = PartitionError::TooMany { asked: 9, most: 8 };
    assert_eq!(parts.resize(9).await, Err(too_many));
    assert_eq!(parts.partitions(), 8);
    parts.supervisor().stop().await;
}

#[tokio::test]
async fn a_supervisor_that_starts_anew_starts_no_more_partitions_than_wanted() {
    let spec = probes(4);
    let parts = spec.handle();
    let top = lenient("top").child(spec.child_spec());
    let top = Supervisor::start(top).await.expect("starts");
    parts.resize(2).await.expect("shrinks");

    let life = Life::of(&top, "parts");
    life.kill().restarted().await;

    let states = parts.which_children().await.expect("answers");
    let states: Vec<_> = states.iter().map(|child| child.state).collect();
    let (running, stopped) = (ChildState::Running, ChildState::Stopped);
    assert_eq!(states, [running, running, stopped, stopped]);
    top.stop().await;
}

#[tokio::test]
async fn n06_partitions_are_listed_and_counted_and_a_stopped_supervisor_says_so() {
    let parts = running(3).await;
    let listed = parts.which_children().await.expect("answers");
    let ids: Vec<_> = listed.iter().map(|child| &*child.id).collect();
    assert_eq!(ids, ["0", "1", "2"]);
    assert!(
        listed
            .iter()
            .all(|child| child.state == ChildState::Running)
    );
    assert_eq!(parts.count_children().await.expect("answers").workers, 3);

    parts.supervisor().stop().await;

    let down = Err(SupervisorError::Down);
    assert_eq!(parts.count_children().await, down);
    assert_eq!(parts.which_children().await, Err(SupervisorError::Down));
}

#[tokio::test]
async fn n07_an_id_that_is_none_is_refused() {
    let spec = PartitionSupervisorSpec::new("a/b", number(1), OFTEN, |_| {
        let address = Address::new();
        let spec = probe("any", &address, &Notes::default());
        (address, spec.restart(Restart::Permanent))
    });

    let refused = PartitionSupervisor::start(spec).await.map(|_| ());

    assert!(matches!(refused, Err(SupervisorError::Invalid(_))));
}
