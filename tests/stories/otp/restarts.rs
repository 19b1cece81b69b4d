use std::{sync::Arc, time::Duration};

use underpin::otp::{
    Address, Budget, ChildSpec, ChildState, ExitReason, Intensity, Lifecycle, OnExceed, Restart,
    ShutdownCause, Supervisor, SupervisorSpec,
};
use underpin::resilience::{Backoff, Jitter};

use super::probe::{
    Do, LONG, Notes, incarnation, incarnation_within, lenient, probe, report, started, strict,
};

/// Starts one child with this restart type, makes it end, and says what became of it.
async fn after(restart: Restart, end: Do) -> Option<ChildState> {
    let address = Address::new();
    let child = probe("a", &address, &Notes::default()).restart(restart);
    let supervisor = Supervisor::start(lenient("types").child(child))
        .await
        .expect("starts");
    let mut reports = supervisor.reports().expect("runs");

    address.send(end).expect("sent");
    report(&mut reports, |report| match &report.what {
        Lifecycle::Exited { .. } => Some(()),
        _ => None,
    })
    .await;

    let children = supervisor.which_children().await.expect("answers");
    supervisor.stop().await;
    children.first().map(|child| child.state)
}

#[tokio::test]
async fn t01_to_t03_a_permanent_child_is_restarted_whatever_its_end() {
    for end in [
        Do::Stop(None),
        Do::Stop(Some("shutdown")),
        Do::Stop(Some("moved away")),
        Do::Fail("bad"),
        Do::PanicWith("boom"),
        Do::KillYourself,
    ] {
        assert_eq!(
            after(Restart::Permanent, end).await,
            Some(ChildState::Running)
        );
    }
}

#[tokio::test]
async fn t04_and_t05_a_transient_child_that_ends_cleanly_stays_listed_and_down() {
    for end in [
        Do::Stop(None),
        Do::Stop(Some("shutdown")),
        Do::Stop(Some("moved away")),
    ] {
        assert_eq!(
            after(Restart::Transient, end).await,
            Some(ChildState::Stopped)
        );
    }
}

#[tokio::test]
async fn t06_a_transient_child_that_crashes_is_restarted() {
    for end in [Do::Fail("bad"), Do::PanicWith("boom"), Do::KillYourself] {
        assert_eq!(
            after(Restart::Transient, end).await,
            Some(ChildState::Running)
        );
    }
}

#[tokio::test]
async fn t07_a_temporary_child_is_forgotten_whatever_its_end() {
    for end in [
        Do::Stop(None),
        Do::Stop(Some("shutdown")),
        Do::PanicWith("boom"),
    ] {
        assert_eq!(after(Restart::Temporary, end).await, None);
    }
}

#[tokio::test]
async fn m06_the_reason_of_an_end_tells_panic_from_error_from_kill_from_stop() {
    let cases = [
        (Do::Stop(None), ExitReason::Normal),
        (Do::Stop(Some("shutdown")), ExitReason::Shutdown(None)),
        (
            Do::Stop(Some("moved away")),
            ExitReason::Shutdown(Some(ShutdownCause::Said("moved away".into()))),
        ),
        (Do::Fail("bad"), ExitReason::Error("bad".into())),
        (Do::PanicWith("boom"), ExitReason::Panic("boom".into())),
        (Do::KillYourself, ExitReason::Killed),
    ];
    let address = Address::new();
    let spec = lenient("reasons").child(probe("a", &address, &Notes::default()));
    let supervisor = Supervisor::start(spec).await.expect("starts");
    let mut reports = supervisor.reports().expect("runs");

    for (end, expected) in cases {
        incarnation(&address).await;
        address.send(end).expect("sent");
        let reason = report(&mut reports, |report| match &report.what {
            Lifecycle::Exited { reason, .. } => Some(reason.clone()),
            _ => None,
        })
        .await;
        assert_eq!(reason, expected);
        started(&mut reports, "reasons/a", 2).await;
    }
    supervisor.stop().await;
}

#[tokio::test]
async fn r01_under_one_for_one_a_sibling_keeps_its_life() {
    let (a, b) = (Address::new(), Address::new());
    let notes = Notes::default();
    let spec = lenient("siblings")
        .child(probe("a", &a, &notes))
        .child(probe("b", &b, &notes));
    let supervisor = Supervisor::start(spec).await.expect("starts");
    let mut reports = supervisor.reports().expect("runs");

    a.send(Do::PanicWith("boom")).expect("sent");
    started(&mut reports, "siblings/a", 2).await;

    assert_eq!(incarnation(&a).await, 2);
    assert_eq!(incarnation(&b).await, 1);
    supervisor.stop().await;
}

#[tokio::test]
async fn i01_one_crash_more_than_allowed_ends_the_supervisor_and_its_children() {
    let (a, b) = (Address::new(), Address::new());
    let notes = Notes::default();
    let spec = strict("limit", 2)
        .child(probe("b", &b, &notes))
        .child(probe("a", &a, &notes));
    let supervisor = Supervisor::start(spec).await.expect("starts");

    for life in 1..=3 {
        assert_eq!(incarnation(&a).await, life);
        a.send(Do::PanicWith("boom")).expect("sent");
    }

    let reason = supervisor.ended().await;
    let ExitReason::Shutdown(Some(ShutdownCause::IntensityExceeded(facts))) = reason else {
        panic!("gave up for another reason: {reason}");
    };
    assert_eq!((&*facts.child, facts.intensity), ("a", 2));
    assert_eq!(facts.history.len(), 3);
    assert!(!supervisor.is_running());
    assert_eq!(notes.take().last().map(String::as_str), Some("stop b"));
}

#[tokio::test]
async fn i06_with_an_intensity_of_zero_the_first_crash_is_too_many() {
    let a = Address::new();
    let spec = strict("zero", 0).child(probe("a", &a, &Notes::default()));
    let supervisor = Supervisor::start(spec).await.expect("starts");

    a.send(Do::PanicWith("boom")).expect("sent");

    assert!(supervisor.ended().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn i07_and_i08_crashes_count_only_within_the_period() {
    let a = Address::new();
    let spec = SupervisorSpec::new("window", Intensity::new(1, Duration::from_secs(1)))
        .child(probe("a", &a, &Notes::default()));
    let supervisor = Supervisor::start(spec).await.expect("starts");

    for life in 1..=4 {
        assert_eq!(incarnation(&a).await, life);
        a.send(Do::PanicWith("boom")).expect("sent");
        tokio::time::advance(Duration::from_millis(1001)).await;
        incarnation(&a).await;
    }
    assert!(supervisor.is_running());
    tokio::time::advance(Duration::from_millis(1001)).await;

    a.send(Do::PanicWith("boom")).expect("sent");
    assert_eq!(incarnation(&a).await, 6);
    a.send(Do::PanicWith("boom")).expect("sent");

    assert!(supervisor.ended().await.is_clean());
}

#[tokio::test]
async fn i04_a_child_that_fails_each_restart_makes_the_supervisor_give_up() {
    let notes = Notes::default();
    let counted = notes.clone();
    let spec = strict("failing", 4).child(ChildSpec::task("a", move |ctx| {
        counted.add(format!("life {}", ctx.incarnation()));
        async move { Err("not today".into()) }
    }));
    let supervisor = Supervisor::start(spec).await.expect("starts");

    assert!(supervisor.ended().await.is_clean());
    assert_eq!(notes.take().len(), 5);
}

#[tokio::test]
async fn i14_a_start_that_fails_once_and_then_works_uses_two_units() {
    let a = Address::new();
    let spec = strict("twice", 2).child(ChildSpec::actor("a", &a, |ctx| {
        assert!(ctx.incarnation() != 2, "the second start fails");
        let probe = super::probe::Probe {
            incarnation: ctx.incarnation(),
            ..Default::default()
        };
        (probe, ())
    }));
    let supervisor = Supervisor::start(spec).await.expect("starts");

    a.send(Do::PanicWith("boom")).expect("sent");
    assert_eq!(incarnation(&a).await, 3);
    a.send(Do::PanicWith("one more")).expect("sent");

    assert!(supervisor.ended().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_restart_waits_as_its_backoff_says_and_the_wait_is_visible() {
    let a = Address::new();
    let pause = Duration::from_secs(10);
    let backoff = Backoff::new(pause, Duration::from_mins(1))
        .and_then(|backoff| backoff.with_jitter(Jitter::None))
        .expect("valid");
    let child = probe("a", &a, &Notes::default()).backoff(backoff);
    let supervisor = Supervisor::start(lenient("backoff").child(child))
        .await
        .expect("starts");
    let mut reports = supervisor.reports().expect("runs");
    let begin = tokio::time::Instant::now();

    a.send(Do::PanicWith("boom")).expect("sent");
    report(&mut reports, |report| {
        matches!(report.what, Lifecycle::Restarting { .. }).then_some(())
    })
    .await;

    let tree = supervisor.tree().expect("runs");
    let child = tree.find("backoff/a").expect("is there");
    assert_eq!(child.state, ChildState::Restarting);
    assert!(child.restart_in_ms.is_some_and(|ms| ms <= 10_000));
    assert_eq!(child.last_exit.as_deref(), Some("panic: boom"));
    assert_eq!(incarnation_within(&a, pause * 2).await, 2);
    assert!(begin.elapsed() >= pause);
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pending_restart_is_cancelled_by_terminate_and_by_stop() {
    let a = Address::new();
    let hour = Duration::from_hours(1);
    let backoff = Backoff::new(hour, hour).expect("valid");
    let child = probe("a", &a, &Notes::default()).backoff(backoff);
    let supervisor = Supervisor::start(lenient("cancel").child(child))
        .await
        .expect("starts");
    let mut reports = supervisor.reports().expect("runs");
    a.send(Do::PanicWith("boom")).expect("sent");
    report(&mut reports, |report| {
        matches!(report.what, Lifecycle::Restarting { .. }).then_some(())
    })
    .await;

    supervisor.terminate_child("a").await.expect("known");
    tokio::time::advance(hour * 2).await;

    let children = supervisor.which_children().await.expect("answers");
    assert_eq!(children[0].state, ChildState::Stopped);
    supervisor.restart_child("a").await.expect("stopped");
    assert_eq!(incarnation(&a).await, 2);
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_with_a_slow_budget_never_spends_its_supervisors() {
    let a = Address::new();
    let slow = Budget::new(
        Intensity::new(2, Duration::from_mins(1)),
        OnExceed::SlowRetry(Duration::from_secs(30)),
    );
    let child = probe("a", &a, &Notes::default()).budget(slow);
    let supervisor = Supervisor::start(strict("slow", 0).child(child))
        .await
        .expect("starts");

    for life in 1..=40 {
        assert_eq!(incarnation_within(&a, Duration::from_secs(31)).await, life);
        a.send(Do::PanicWith("boom")).expect("sent");
    }

    assert!(supervisor.is_running());
    supervisor.stop().await;
}

#[tokio::test]
async fn a_child_whose_budget_says_stop_stays_down_alone() {
    let (a, b) = (Address::new(), Address::new());
    let notes = Notes::default();
    let once = Budget::new(Intensity::new(1, Duration::from_mins(1)), OnExceed::Stop);
    let spec = strict("stop", 0)
        .child(probe("a", &a, &notes).budget(once))
        .child(probe("b", &b, &notes));
    let supervisor = Supervisor::start(spec).await.expect("starts");
    let mut reports = supervisor.reports().expect("runs");

    a.send(Do::PanicWith("one")).expect("sent");
    started(&mut reports, "stop/a", 2).await;
    a.send(Do::PanicWith("two")).expect("sent");
    report(&mut reports, |report| {
        matches!(report.what, Lifecycle::BudgetExceeded { .. }).then_some(())
    })
    .await;

    let children = supervisor.which_children().await.expect("answers");
    assert_eq!(children[0].state, ChildState::Stopped);
    assert_eq!(incarnation(&b).await, 1);
    supervisor.stop().await;
}

#[tokio::test]
async fn a_nested_supervisor_that_gives_up_is_restarted_by_its_parent() {
    let a = Address::new();
    let inner = strict("inner", 0).child(probe("a", &a, &Notes::default()));
    let handle = inner.handle();
    let outer = Supervisor::start(strict("outer", 1).child(ChildSpec::supervisor(inner)))
        .await
        .expect("starts");
    let mut reports = outer.reports().expect("runs");
    assert_eq!(incarnation(&a).await, 1);

    a.send(Do::PanicWith("boom")).expect("sent");
    started(&mut reports, "outer/inner", 2).await;

    assert_eq!(incarnation(&a).await, 1, "a new supervisor counts anew");
    assert_eq!(handle.count_children().await.expect("answers").active, 1);
    let tree = outer.tree().expect("runs");
    assert_eq!(
        tree.find("outer/inner/a").map(|a| a.state),
        Some(ChildState::Running)
    );
    assert_eq!(tree.find("outer/inner").map(|a| a.restarts), Some(1));
    outer.stop().await;
}

/// A resource that only one incarnation may hold.
struct Exclusive(Arc<std::sync::atomic::AtomicUsize>);

impl Exclusive {
    fn take(held: &Arc<std::sync::atomic::AtomicUsize>) -> Self {
        let before = held.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(before, 0, "two incarnations hold the resource");
        Self(Arc::clone(held))
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
    }
}

struct Owner(Arc<std::sync::atomic::AtomicUsize>);

impl underpin::ractor::Actor for Owner {
    type Msg = Do;
    type State = Exclusive;
    type Arguments = ();

    async fn pre_start(
        &self,
        _: underpin::ractor::ActorRef<Do>,
        (): (),
    ) -> Result<Exclusive, underpin::ractor::ActorProcessingErr> {
        Ok(Exclusive::take(&self.0))
    }

    async fn handle(
        &self,
        me: underpin::ractor::ActorRef<Do>,
        message: Do,
        _: &mut Exclusive,
    ) -> Result<(), underpin::ractor::ActorProcessingErr> {
        match message {
            Do::PanicWith(words) => panic!("{words}"),
            Do::Fail(words) => Err(words.into()),
            Do::Stop(_) => {
                me.stop(None);
                Ok(())
            }
            _ => {
                me.kill();
                Ok(())
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_never_meets_what_its_predecessor_held() {
    let held = Arc::default();
    let a = Address::<Do>::new();
    let owner = Arc::clone(&held);
    let spec = SupervisorSpec::new("owner", Intensity::new(10_000, Duration::from_secs(1))).child(
        ChildSpec::actor("a", &a, move |_| (Owner(Arc::clone(&owner)), ())),
    );
    let supervisor = Supervisor::start(spec).await.expect("starts");

    for round in 0..1000 {
        a.wait_ready(LONG).await.expect("comes back");
        let life = a.status();
        let end = match round % 4 {
            0 => Do::PanicWith("boom"),
            1 => Do::Fail("bad"),
            2 => Do::Stop(None),
            _ => Do::KillYourself,
        };
        a.send(end).expect("runs");
        while a.status() == life {
            tokio::task::yield_now().await;
        }
    }
    a.wait_ready(LONG).await.expect("comes back");

    let tree = supervisor.tree().expect("runs");
    assert_eq!(tree.find("owner/a").map(|a| a.restarts), Some(1000));
    supervisor.stop().await;
    assert_eq!(held.load(std::sync::atomic::Ordering::SeqCst), 0);
}
