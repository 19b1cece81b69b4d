//! Two things at once: a failure within a restart, a request for a child between two lives, an end that crosses another one.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{sync::oneshot, time::Instant};
use underpin::otp::{
    Address, AddressStatus, AutoShutdown, Budget, CallError, ChildSpec, ChildState,
    DynamicSupervisor, DynamicSupervisorSpec, ExitReason, Intensity, Keys, Lease, Lifecycle,
    NotSent, OnExceed, PartitionSupervisorSpec, Registry, Restart, ShutdownCause, StartOutcome,
    Strategy, Supervisor, SupervisorError, TaskSupervisor,
};
use underpin::resilience::{Backoff, Jitter};
use underpin::{ractor, testing::eventually};

use super::probe::{
    Do, LONG, Notes, Probe, broken, incarnation, incarnation_within, lenient, probe, report,
    started, strict,
};

const HOUR: Duration = Duration::from_hours(1);
const S: Duration = Duration::from_secs(1);

/// An hour, exactly.
fn hour() -> Backoff {
    let backoff = Backoff::new(HOUR, HOUR).and_then(|hour| hour.with_jitter(Jitter::None));
    backoff.expect("is valid")
}

/// A probe that does not start as often as `failures` says.
fn flaky(
    name: &'static str,
    address: &Address<Do>,
    notes: &Notes,
    failures: &Arc<AtomicUsize>,
) -> ChildSpec {
    let (notes, failures) = (notes.clone(), Arc::clone(failures));
    ChildSpec::actor(name, address, move |ctx| {
        let one_less = |left: usize| left.checked_sub(1);
        let failure = failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        if failure.is_ok() {
            notes.add(format!("fail {name}"));
            return broken("not yet");
        }
        let probe = Probe {
            name,
            notes: notes.clone(),
            incarnation: ctx.incarnation(),
            slow_stop: None,
        };
        (probe, ())
    })
}

/// A probe that takes this long to stop.
fn slow(name: &'static str, address: &Address<Do>, notes: &Notes, stop: Duration) -> ChildSpec {
    let notes = notes.clone();
    ChildSpec::actor(name, address, move |ctx| {
        let probe = Probe {
            name,
            notes: notes.clone(),
            incarnation: ctx.incarnation(),
            slow_stop: Some(stop),
        };
        (probe, ())
    })
}

async fn state(supervisor: &Supervisor, id: &str) -> Option<ChildState> {
    let children = supervisor.which_children().await.expect("answers");
    let child = children.iter().find(|child| &*child.id == id);
    child.map(|child| child.state)
}

async fn is_in(supervisor: &Supervisor, id: &str, wanted: ChildState) {
    eventually("the child is in this state", async || {
        state(supervisor, id).await == Some(wanted)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_in_the_middle_of_a_merged_restart_is_tried_again_from_there() {
    let notes = Notes::default();
    let at: Vec<Address<Do>> = (0..4).map(|_| Address::new()).collect();
    let failures = Arc::default();
    let spec = lenient("merged")
        .strategy(Strategy::RestForOne)
        .child(probe("a", &at[0], &notes))
        .child(probe("b", &at[1], &notes))
        .child(flaky("c", &at[2], &notes, &failures))
        .child(probe("d", &at[3], &notes).backoff(hour()));
    let supervisor = Supervisor::start(spec).await.expect("starts");
    notes.take();

    failures.store(1, Ordering::SeqCst);
    at[3].send(Do::PanicWith("the last")).expect("runs");
    is_in(&supervisor, "d", ChildState::Restarting).await;
    at[1].send(Do::PanicWith("an earlier one")).expect("runs");

    let lives = [1, 2, 3, 2];
    for (address, life) in at.iter().zip(lives) {
        assert_eq!(incarnation_within(address, 2 * HOUR).await, life);
    }
    let order = ["stop c", "start b", "fail c", "start c", "start d"];
    assert_eq!(notes.take(), order, "b and what is before it stay up");
    supervisor.stop().await;
}

#[tokio::test]
async fn ends_at_the_same_time_are_one_restart_under_one_for_all_and_three_under_one_for_one() {
    for (strategy, survives) in [(Strategy::OneForAll, true), (Strategy::OneForOne, false)] {
        let notes = Notes::default();
        let at: Vec<Address<Do>> = (0..3).map(|_| Address::new()).collect();
        let spec = strict("together", 1)
            .strategy(strategy)
            .child(probe("a", &at[0], &notes))
            .child(probe("b", &at[1], &notes))
            .child(probe("c", &at[2], &notes));
        let supervisor = Supervisor::start(spec).await.expect("starts");

        // On one thread, so that all have ended before the supervisor hears of the first.
        for address in &at {
            address.send(Do::PanicWith("together")).expect("runs");
        }

        if survives {
            for address in &at {
                assert_eq!(incarnation(address).await, 2);
            }
            assert_eq!(supervisor.tree().expect("runs").budget_left, Some(0));
            supervisor.stop().await;
        } else {
            let ended = supervisor.ended().await;
            let gave_up = ExitReason::Shutdown(None) != ended && ended.is_clean();
            assert!(gave_up, "{ended}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_between_two_lives_is_known_and_does_not_run_whoever_asks() {
    let (a, notes) = (Address::new(), Notes::default());
    let spec = lenient("between").child(probe("a", &a, &notes).backoff(hour()));
    let supervisor = Supervisor::start(spec).await.expect("starts");
    a.send(Do::PanicWith("boom")).expect("runs");
    is_in(&supervisor, "a", ChildState::Restarting).await;

    let again = supervisor.start_child(probe("a", &a, &notes)).await;
    assert_eq!(again, Err(SupervisorError::AlreadyPresent("a".into())));
    let restarting = SupervisorError::Restarting("a".into());
    assert_eq!(supervisor.restart_child("a").await, Err(restarting.clone()));
    assert_eq!(supervisor.delete_child("a").await, Err(restarting));
    let counts = supervisor.count_children().await.expect("answers");
    assert_eq!((counts.specs, counts.active, counts.workers), (1, 0, 1));

    assert_eq!(a.status(), AddressStatus::Vacant);
    assert_eq!(a.send(Do::Add(1)), Err(NotSent::Down));
    assert_eq!(a.monitor().down().await.reason, ExitReason::NoProc);
    let down = Err(CallError::NotSent(NotSent::Down));
    assert_eq!(a.call(Do::Total, S).await, down);
    let stopped = a.stop(ExitReason::Normal, S).await;
    assert_eq!(stopped, Err(CallError::NotSent(NotSent::Down)));

    supervisor.terminate_child("a").await.expect("is known");
    supervisor.delete_child("a").await.expect("is stopped");
    let gone = SupervisorError::NotFound("a".into());
    assert_eq!(supervisor.delete_child("a").await, Err(gone));
    let anew = supervisor.start_child(probe("a", &a, &notes)).await;
    assert_eq!(anew, Ok(StartOutcome::Running));
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(incarnation(&a).await, 1, "the old timer does nothing");
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_that_is_being_stopped_is_stopped_once_and_nothing_else_is_done_with_it() {
    let (a, notes) = (Address::new(), Notes::default());
    let supervisor = Supervisor::start(lenient("stopping").child(slow("a", &a, &notes, S)))
        .await
        .expect("starts");
    notes.take();

    let meanwhile = async {
        is_in(&supervisor, "a", ChildState::Stopping).await;
        let running = SupervisorError::Running("a".into());
        assert_eq!(supervisor.restart_child("a").await, Err(running.clone()));
        assert_eq!(supervisor.delete_child("a").await, Err(running));
        let again = supervisor.start_child(probe("a", &a, &notes)).await;
        assert_eq!(again, Err(SupervisorError::AlreadyPresent("a".into())));
    };
    let (once, twice, ()) = tokio::join!(
        supervisor.terminate_child("a"),
        supervisor.terminate_child("a"),
        meanwhile
    );

    assert_eq!((once, twice), (Ok(()), Ok(())));
    assert_eq!(notes.take(), ["stop a"]);
    assert_eq!(supervisor.terminate_child("a").await, Ok(()));
    assert_eq!(state(&supervisor, "a").await, Some(ChildState::Stopped));

    supervisor.restart_child("a").await.expect("is stopped");
    let (left, right) = tokio::join!(supervisor.stop(), supervisor.stop());
    assert_eq!(left, right);
    assert!(left.is_graceful() && left.children.len() == 1);
}

#[tokio::test(start_paused = true)]
async fn a_significant_child_that_waits_for_its_restart_counts_as_alive_until_it_is_terminated() {
    let (a, c, notes) = (Address::new(), Address::new(), Notes::default());
    let significant = |name, address| {
        let child = probe(name, address, &notes).restart(Restart::Transient);
        child.significant().backoff(hour())
    };
    let spec = lenient("every")
        .auto_shutdown(AutoShutdown::AllSignificant)
        .child(significant("a", &a))
        .child(significant("c", &c));
    let supervisor = Supervisor::start(spec).await.expect("starts");

    c.send(Do::PanicWith("boom")).expect("runs");
    is_in(&supervisor, "c", ChildState::Restarting).await;
    a.send(Do::Stop(None)).expect("runs");
    is_in(&supervisor, "a", ChildState::Stopped).await;
    assert!(supervisor.is_running());
    supervisor.terminate_child("c").await.expect("is known");
    assert!(supervisor.is_running(), "that was asked for");

    supervisor.restart_child("c").await.expect("is stopped");
    c.send(Do::Stop(None)).expect("runs");
    let cause = ShutdownCause::Significant("c".into());
    assert_eq!(supervisor.ended().await, ExitReason::Shutdown(Some(cause)));
}

#[tokio::test(start_paused = true)]
async fn a_nested_supervisor_that_gives_up_while_its_parent_stops_ends_once() {
    let (a, b, notes) = (Address::new(), Address::new(), Notes::default());
    let inner = strict("inner", 0)
        .child(slow("slow", &b, &notes, 2 * S))
        .child(probe("a", &a, &notes));
    let inner = ChildSpec::supervisor(inner);
    let outer = Supervisor::start(lenient("outer").child(inner))
        .await
        .expect("starts");
    let mut reports = outer.reports().expect("runs");
    let begin = Instant::now();

    a.send(Do::PanicWith("boom")).expect("runs");
    report(&mut reports, |report| {
        matches!(report.what, Lifecycle::GaveUp { .. }).then_some(())
    })
    .await;
    let stopped = outer.stop().await;

    assert!(stopped.is_graceful(), "{stopped:?}");
    assert!(begin.elapsed() < 3 * S);
    assert_eq!(notes.take(), ["start slow", "start a", "stop slow"]);
    assert_eq!(outer.ended().await, ExitReason::Shutdown(None));
}

#[tokio::test]
async fn without_any_restarts_allowed_only_an_end_that_asks_for_one_is_too_many() {
    let notes = Notes::default();
    let at: Vec<Address<Do>> = (0..3).map(|_| Address::new()).collect();
    let spec = strict("none", 0)
        .child(probe("a", &at[0], &notes).restart(Restart::Temporary))
        .child(probe("b", &at[1], &notes).restart(Restart::Transient))
        .child(probe("c", &at[2], &notes));
    let supervisor = Supervisor::start(spec).await.expect("starts");

    at[0].send(Do::PanicWith("boom")).expect("runs");
    eventually("it is forgotten", async || {
        state(&supervisor, "a").await.is_none()
    })
    .await;
    at[1].send(Do::Stop(None)).expect("runs");
    is_in(&supervisor, "b", ChildState::Stopped).await;
    supervisor.terminate_child("c").await.expect("is known");
    supervisor.restart_child("c").await.expect("is stopped");
    assert!(supervisor.is_running());

    at[2].send(Do::Stop(None)).expect("runs");
    let ended = supervisor.ended().await;
    let gave_up = matches!(
        &ended,
        ExitReason::Shutdown(Some(ShutdownCause::IntensityExceeded(facts))) if &*facts.child == "c"
    );
    assert!(gave_up, "{ended}");
}

#[tokio::test(start_paused = true)]
async fn a_child_whose_name_was_taken_between_two_lives_comes_back_when_it_is_free() {
    let names: Registry<&str> = Registry::new("names", Keys::Unique);
    let (a, notes) = (Address::new(), Notes::default());
    let patient = Budget::new(Intensity::new(1, S), OnExceed::SlowRetry(60 * S));
    let child = probe("a", &a, &notes).backoff(hour()).budget(patient);
    let spec = strict("shop", 0).child(child.registered(&names, "adder", ()));
    let supervisor = Supervisor::start(spec).await.expect("starts");
    let mut reports = supervisor.reports().expect("runs");

    a.send(Do::PanicWith("boom")).expect("runs");
    is_in(&supervisor, "a", ChildState::Restarting).await;
    let other = Lease::new();
    names.register("adder", &other, ()).expect("its owner died");
    let words = report(&mut reports, |report| match &report.what {
        Lifecycle::StartFailed { reason } => Some(reason.to_string()),
        _ => None,
    })
    .await;
    assert!(words.contains("is registered in names by"), "{words}");
    assert_eq!(a.status(), AddressStatus::Vacant);
    drop(other);

    started(&mut reports, "shop/a", 3).await;
    let owner = names.whereis(&"adder").expect("is its own again");
    assert!(owner.to_string().starts_with("shop/a"), "{owner}");
    supervisor.stop().await;
}

#[tokio::test]
async fn a_suspended_sibling_is_restarted_like_any_other_and_runs() {
    let (a, b, notes) = (Address::new(), Address::new(), Notes::default());
    let spec = lenient("asleep")
        .strategy(Strategy::OneForAll)
        .child(probe("a", &a, &notes))
        .child(probe("b", &b, &notes));
    let supervisor = Supervisor::start(spec).await.expect("starts");
    b.sys().suspend(LONG).await.expect("is suspended");

    a.send(Do::PanicWith("boom")).expect("runs");
    eventually("it comes back", async || incarnation(&b).await == 2).await;

    assert!(!b.sys().is_suspended());
    let order = ["start a", "start b", "stop b", "start a", "start b"];
    assert_eq!(notes.take(), order);
    supervisor.stop().await;
}

#[tokio::test]
async fn partitions_that_gave_up_are_made_anew_by_their_parent_and_keys_stay_where_they_were() {
    let (two, never) = (NonZeroUsize::new(2).expect("some"), Intensity::new(0, HOUR));
    let spec = PartitionSupervisorSpec::new("parts", two, never, |_| {
        let address = Address::new();
        let child = probe("any", &address, &Notes::default());
        (address, child)
    });
    let parts = spec.handle();
    let top = Supervisor::start(lenient("top").child(spec.child_spec()))
        .await
        .expect("starts");
    let mut reports = top.reports().expect("runs");
    let before = parts.index("alice").expect("some");
    let alice = parts.get("alice").expect("some").clone();

    alice.send(Do::PanicWith("boom")).expect("runs");
    started(&mut reports, "top/parts", 2).await;

    assert_eq!(parts.index("alice"), Ok(before));
    for part in parts.all() {
        assert_eq!(incarnation(part).await, 1, "of the new supervisor");
    }
    assert_eq!(incarnation(&alice).await, 1, "the old handle leads there");
    top.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_dynamic_child_between_two_lives_keeps_its_place_until_it_is_terminated() {
    let spec = DynamicSupervisorSpec::new("many", Intensity::new(1000, S)).max_children(1);
    let many = DynamicSupervisor::start(spec).await.expect("starts");
    let (a, notes) = (Address::new(), Notes::default());
    let child = || probe("a", &a, &notes).backoff(hour());
    let first = many.start_child(child()).await.expect("starts");
    let waits = || {
        let children = many.which_children().expect("runs");
        matches!(&children[..], [only] if only.state == ChildState::Restarting)
    };

    a.send(Do::PanicWith("boom")).expect("runs");
    eventually("it waits", async || waits()).await;
    let full = Err(SupervisorError::MaxChildren(1));
    assert_eq!(many.start_child(child()).await, full);
    assert_eq!(many.terminate_child(&first).await, Ok(()));
    let gone = many.terminate_child(&first).await;
    assert!(
        matches!(gone, Err(SupervisorError::NotFound(_))),
        "{gone:?}"
    );

    many.start_child(child()).await.expect("there is a place");
    a.send(Do::PanicWith("boom")).expect("runs");
    eventually("it waits", async || waits()).await;
    let begin = Instant::now();
    let stopped = many.stop().await;
    assert!(
        stopped.children.is_empty(),
        "nothing of it ran: {stopped:?}"
    );
    assert!(begin.elapsed() < S);
}

#[tokio::test]
async fn a_task_may_be_awaited_by_another_one_and_ends_with_that() {
    let tasks = TaskSupervisor::new();
    let spec = lenient("tree").child(tasks.child_spec("tasks"));
    let supervisor = Supervisor::start(spec).await.expect("starts");

    let inner = tasks.spawn(async { 42 }).expect("is spawned");
    let outer = tasks.spawn(inner).expect("is spawned");
    assert_eq!(outer.await, Ok(Ok(42)));

    let (dropped, ended) = oneshot::channel::<()>();
    let endless = tasks.spawn(async move {
        let _dropped = dropped;
        std::future::pending::<()>().await;
    });
    let endless = endless.expect("is spawned");
    let outer = tasks.spawn(endless).expect("is spawned");
    drop(outer);
    assert!(ended.await.is_err(), "both are gone");
    eventually("their places are free", async || tasks.running() == 0).await;
    supervisor.stop().await;
}

/// A child that called a sibling which was restarted together with it waited for that sibling, which waited for the child's end: until
/// the child's time to stop was up and it was killed.
#[tokio::test(start_paused = true)]
async fn a_child_that_is_to_be_restarted_does_not_wait_for_the_sibling_that_is_restarted_with_it() {
    for strategy in [Strategy::OneForAll, Strategy::RestForOne] {
        let (a, b, notes) = (Address::new(), Address::new(), Notes::default());
        let spec = lenient("family")
            .strategy(strategy)
            .child(probe("a", &a, &notes))
            .child(probe("b", &b, &notes));
        let supervisor = Supervisor::start(spec).await.expect("starts");
        let (tell, told) = oneshot::channel();
        let end = a.monitor();
        let ask = {
            let a = a.clone();
            async move {
                end.down().await;
                let _ = tell.send(a.call(Do::Total, LONG).await);
            }
        };
        b.send(Do::Await(Box::pin(ask))).expect("runs");
        let begin = Instant::now();

        a.send(Do::PanicWith("boom")).expect("runs");

        let down = Err(CallError::NotSent(NotSent::Down));
        assert_eq!(told.await.expect("it was not killed"), down);
        eventually("it comes back", async || incarnation(&b).await == 2).await;
        assert!(begin.elapsed() < S, "{:?}", begin.elapsed());
        let order = ["start a", "start b", "stop b", "start a", "start b"];
        assert_eq!(notes.take(), order);
        supervisor.stop().await;
    }
}

/// Calls another one as it goes.
struct Farewell(Address<Do>);

impl Actor for Farewell {
    type Msg = Do;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Do>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Do>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        let ready = self.0.wait_ready(LONG).await;
        let answer = self.0.call(Do::Total, LONG).await;
        assert_eq!(ready, Err(NotSent::Down));
        assert_eq!(answer, Err(CallError::NotSent(NotSent::Down)));
        Ok(())
    }
}

/// A child that called one which had been stopped before it, as its supervisor stopped, waited for that one's next life until it was
/// killed.
#[tokio::test(start_paused = true)]
async fn a_child_that_calls_one_that_was_stopped_before_it_is_told_so_at_once() {
    let (first, last, notes) = (Address::new(), Address::new(), Notes::default());
    let other = last.clone();
    let spec = lenient("farewell")
        .child(ChildSpec::actor("first", &first, move |_| {
            (Farewell(other.clone()), ())
        }))
        .child(probe("last", &last, &notes));
    let supervisor = Supervisor::start(spec).await.expect("starts");
    let begin = Instant::now();

    let stopped = supervisor.stop().await;

    assert!(stopped.is_graceful(), "{stopped:?}");
    assert!(begin.elapsed() < S, "{:?}", begin.elapsed());
    let reasons = stopped.children.iter().map(|child| child.reason.clone());
    let reasons: Vec<_> = reasons.collect();
    assert_eq!(
        reasons,
        [ExitReason::Shutdown(None), ExitReason::Shutdown(None)]
    );
}
