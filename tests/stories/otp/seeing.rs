use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use underpin::{
    node::HealthStatus,
    otp::{
        Address, Budget, ChildSpec, ChildState, Intensity, OnExceed, Supervisor, Tree, TreeLimits,
    },
    testing::{eventually, in_memory, with_node, with_tree},
};

use super::{
    counter::{Count, busy, counter, name},
    probe::{LONG, Notes, lenient, strict},
};

fn child(supervisor: &Supervisor, path: &str) -> Tree {
    let tree = supervisor.tree().expect("it runs");
    tree.find(path).cloned().expect("it is there")
}

#[tokio::test]
async fn the_tree_tells_what_a_child_is_at_and_for_how_long() {
    let address = Address::new().message_names(name);
    let spec = lenient("seeing").child(counter(&address, &Notes::default()));
    with_tree(spec, async |supervisor| {
        assert_eq!(address.call(Count::Total, LONG).await, Ok(0));
        let look = || child(supervisor, "seeing/counter");
        eventually("the answer counts as handled", async || look().handled == 1).await;
        let idle = look();
        assert_eq!(
            (idle.busy, idle.in_message_ms, idle.message),
            (false, None, None)
        );
        assert!(idle.uptime_ms.is_some());

        let work = busy(&address).await;

        let at_work = look();
        assert_eq!((at_work.busy, at_work.message), (true, Some("work")));
        eventually("its time is seen to pass", async || {
            look().in_message_ms.is_some_and(|ms| ms >= 100)
        })
        .await;
        eventually("it is busy for more and more of its time", async || {
            look().busy_share > 0.02
        })
        .await;
        assert!(!look().stuck);
        drop(work);
        eventually("it is idle again", async || look().in_message_ms.is_none()).await;
    })
    .await;
}

#[tokio::test]
async fn a_child_that_is_at_one_message_for_too_long_is_stuck_until_it_is_done() {
    let (slow, patient) = (Address::new(), Address::new());
    let spec = lenient("seeing")
        .child(counter(&slow, &Notes::default()).stuck_after(Duration::from_millis(50)))
        .child(ChildSpec::supervisor(lenient("inner").child(
            counter(&patient, &Notes::default()).stuck_after(Duration::MAX),
        )));
    with_tree(spec, async |supervisor| {
        let (work, other) = (busy(&slow).await, busy(&patient).await);

        eventually("it is stuck", async || {
            child(supervisor, "seeing/counter").stuck
        })
        .await;

        assert!(!child(supervisor, "seeing/inner/counter").stuck);
        drop((work, other));
        eventually("it is not stuck any more", async || {
            !child(supervisor, "seeing/counter").stuck
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn the_tree_tells_of_requests_that_were_refused_skipped_and_answered_late() {
    let address = Address::with_admission(underpin::otp::Admission::wait(2));
    let spec = lenient("seeing").child(counter(&address, &Notes::default()));
    with_tree(spec, async |supervisor| {
        let moment = Duration::from_millis(10);
        let (answer, when) = tokio::sync::oneshot::channel();
        // One whose handler looks, one whose handler does not, and one for which there is no place.
        let skipped = address.call(|reply| Count::TotalWhen(when, reply), moment);
        let late = address.call(Count::Total, moment);
        let (skipped, late) = tokio::join!(skipped, late);
        assert!(skipped.is_err() && late.is_err());
        assert!(address.call(Count::Total, moment).await.is_err());
        let waiter = tokio::spawn({
            let address = address.clone();
            async move { address.call(Count::Total, LONG).await }
        });
        let look = || child(supervisor, "seeing/counter");
        eventually("one waits for a place", async || look().waiting == 1).await;
        let before = look();
        assert_eq!((before.admitted, before.refused), (2, 1));

        answer.send(()).expect("it waits for this");

        assert_eq!(waiter.await.expect("no panic"), Ok(0));
        eventually("all have left", async || look().admitted == 0).await;
        let after = look();
        assert_eq!((after.expired, after.late, after.waiting), (1, 1, 0));
        assert_eq!((address.expired(), address.late()), (1, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_tree_tells_how_many_restarts_are_left() {
    let (a, own) = (Address::new(), Address::new());
    let budget = Budget::new(
        Intensity::new(2, Duration::from_secs(10)),
        OnExceed::Escalate,
    );
    let mine = ChildSpec::supervisor(lenient("inner").child(counter(&own, &Notes::default())));
    let spec = strict("seeing", 3)
        .child(counter(&a, &Notes::default()))
        .child(mine.budget(budget));
    with_tree(spec, async |supervisor| {
        let left = |path: &str| child(supervisor, path).budget_left;
        assert_eq!(left("seeing"), Some(3));
        assert_eq!(left("seeing/counter"), None);

        a.send(Count::Panic("once")).expect("sent");
        eventually("it is counted", async || left("seeing") == Some(2)).await;

        // A supervisor shows what it allows its own children.
        assert_eq!(left("seeing/inner"), Some(1000));
        tokio::time::advance(Duration::from_hours(2)).await;
        assert_eq!(left("seeing"), Some(3));
    })
    .await;
}

#[tokio::test]
async fn a_part_of_a_tree_can_be_looked_at_alone() {
    let address = Address::new();
    let inner = lenient("inner").child(counter(&address, &Notes::default()));
    let spec = lenient("seeing").child(ChildSpec::supervisor(inner));
    with_tree(spec, async |supervisor| {
        let most = TreeLimits::DEFAULT;
        let alone = TreeLimits { depth: 0, ..most };

        let part = supervisor.tree_at("seeing/inner", most).expect("is there");
        assert_eq!(
            (&*part.id, part.children.len(), part.unlisted),
            ("inner", 1, 0)
        );
        let top = supervisor.tree_at("seeing/inner", alone).expect("is there");
        assert_eq!((top.children.len(), top.unlisted), (0, 1));
        assert_eq!(supervisor.tree_at("seeing/none", most), None);

        let sys = supervisor.sys("seeing/inner/counter").expect("is there");
        sys.suspend(LONG).await.expect("suspended");
        let seen = child(supervisor, "seeing/inner/counter");
        assert_eq!((seen.suspended, seen.state), (true, ChildState::Running));
        sys.resume();
    })
    .await;
}

/// A tree can be looked at while a closure that looks at a state does, and nobody waits for anybody.
#[tokio::test]
async fn the_tree_does_not_wait_for_whoever_looks_inside_a_child() {
    let address = Address::new();
    let spec = lenient("seeing").child(counter(&address, &Notes::default()));
    with_tree(spec, async |supervisor| {
        let sys = address.sys();
        for suspended in [false, true] {
            if suspended {
                sys.suspend(LONG).await.expect("suspended");
            }
            let seen = Arc::new(Mutex::new(None));
            let (from, into) = (supervisor.clone(), Arc::clone(&seen));
            let look = move |_: &super::counter::Book| {
                *into.lock().expect("no panic") = from.tree();
            };
            sys.get_state(LONG, look).await.expect("seen");
            let tree = seen.lock().expect("no panic").take().expect("it runs");
            assert_eq!(tree.children[0].suspended, suspended);
        }
        sys.resume();
    })
    .await;
}

#[tokio::test]
async fn a_stuck_child_makes_its_node_degraded_and_the_reason_names_it_and_its_message() {
    let address = Address::new().message_names(name);
    let child = counter(&address, &Notes::default()).stuck_after(Duration::from_millis(50));
    with_node(in_memory().child(child), async |node| {
        assert_eq!(node.health().health, HealthStatus::Healthy);

        let work = busy(&address).await;

        let about = |part: &str| {
            let reasons = node.health().reasons;
            reasons.into_iter().find(|reason| &*reason.part == part)
        };
        eventually("the node says so", async || {
            about("node/app/counter").is_some()
        })
        .await;
        assert_eq!(node.health().health, HealthStatus::Degraded);
        let reason = about("node/app/counter").expect("it is stuck").reason;
        assert!(reason.starts_with("has been handling work for"), "{reason}");
        drop(work);
        eventually("it is healthy again", async || {
            node.health().health == HealthStatus::Healthy
        })
        .await;
    })
    .await;
}
