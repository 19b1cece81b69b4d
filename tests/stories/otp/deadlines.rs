//! How long a stop may take, who held it up, and what those who wait for it are told.

use std::{sync::Mutex, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{sync::oneshot, time::Instant};
use underpin::otp::{
    Address, ChildSpec, ChildState, DynamicSupervisor, DynamicSupervisorSpec, ExitReason,
    Intensity, Lifecycle, Shutdown, ShutdownCause, ShutdownReport, StopKind, Supervisor,
    SupervisorError,
};
use underpin::{ractor, testing::eventually};

use super::probe::{Do, LONG, Notes, incarnation, lenient, probe, report};

const SECOND: Duration = Duration::from_secs(1);

/// Never ends by itself.
fn stubborn(id: &str) -> ChildSpec {
    ChildSpec::task(id, |_| std::future::pending()).shutdown(Shutdown::Infinity)
}

fn blockers(report: &ShutdownReport) -> Vec<&str> {
    report.blockers().map(|child| &*child.id).collect()
}

#[tokio::test(start_paused = true)]
async fn p11_a_child_that_is_deaf_is_gone_soon_after_its_time() {
    let a = Address::new();
    let limit = Duration::from_millis(100);
    let child = probe("a", &a, &Notes::default()).shutdown(Shutdown::Timeout(limit));
    let supervisor = Supervisor::start(lenient("deaf").child(child))
        .await
        .expect("starts");
    a.send(Do::SleepForEver).expect("runs");
    tokio::task::yield_now().await;
    let (life, begin) = (a.monitor(), Instant::now());

    supervisor.terminate_child("a").await.expect("known");

    assert!(begin.elapsed() >= limit && begin.elapsed() < limit * 2);
    assert_eq!(life.down().await.reason, ExitReason::Killed);
    supervisor.stop().await;
}

#[tokio::test]
async fn p15_a_stop_is_over_when_it_returns_and_the_same_may_start_again() {
    let a = Address::new();
    let spec = lenient("again").child(probe("a", &a, &Notes::default()));
    let supervisor = Supervisor::start(spec.clone()).await.expect("starts");

    for _ in 0..20 {
        supervisor.stop().await;
        assert!(a.actor().is_none(), "the address is free");
        let again = Supervisor::start(spec.clone()).await;
        again.expect("the place is free");
        assert_eq!(incarnation(&a).await, 1);
    }
    supervisor.stop().await;
}

struct Stranger;

impl Actor for Stranger {
    type Msg = Do;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Do>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

#[tokio::test]
async fn p17_the_end_of_a_stranger_that_linked_itself_to_the_supervisor_is_ignored() {
    let a = Address::new();
    let spec = lenient("linked").child(probe("a", &a, &Notes::default()));
    let supervisor = Supervisor::start(spec).await.expect("starts");
    let before = supervisor.count_children().await;

    for end in ["stop", "kill"] {
        let parent = supervisor.actor().expect("runs");
        let linked = Actor::spawn_linked(None, Stranger, (), parent).await;
        let (stranger, task) = linked.expect("starts");
        if end == "stop" {
            stranger.stop(None);
        } else {
            stranger.kill();
        }
        let _ = task.await;
    }

    assert_eq!(supervisor.count_children().await, before);
    assert_eq!(incarnation(&a).await, 1);
    supervisor.stop().await;
}

#[tokio::test]
async fn c11_a_stop_with_a_reason_waits_tells_the_reason_and_cleans_up_once() {
    let (a, notes) = (Address::new(), Notes::default());
    let spec = lenient("reason").child(probe("a", &a, &notes));
    let supervisor = Supervisor::start(spec).await.expect("starts");
    let end = supervisor.monitor();

    let report = supervisor.stop_because("moved to another machine").await;

    assert!(report.is_graceful());
    assert!(!supervisor.is_running());
    let said = ShutdownCause::Said("moved to another machine".into());
    assert_eq!(end.down().await.reason, ExitReason::Shutdown(Some(said)));
    assert_eq!(notes.take(), ["start a", "stop a"]);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_stop_that_would_never_end_and_names_who_held_it_up() {
    let (a, notes) = (Address::new(), Notes::default());
    let spec = lenient("late")
        .child(probe("first", &a, &notes))
        .children(["b", "c", "d", "e"].map(stubborn));
    let supervisor = Supervisor::start(spec).await.expect("starts");
    let begin = Instant::now();

    let report = supervisor.stop_within(SECOND * 3).await;

    assert!(begin.elapsed() >= SECOND * 3 && begin.elapsed() <= SECOND * 4);
    assert_eq!(
        blockers(&report),
        ["e"],
        "the others did not have their turn"
    );
    assert!(!report.is_graceful());
    let killed = report
        .children
        .iter()
        .filter(|child| child.how == StopKind::Killed);
    assert_eq!(killed.count(), 5);
    let (e, d) = (&report.children[0], &report.children[1]);
    assert_eq!(
        (e.asked_after, e.allowed),
        (Duration::ZERO, Shutdown::Infinity)
    );
    assert!(d.asked_after >= SECOND * 3);
    assert_eq!(
        d.allowed,
        Shutdown::Brutal,
        "its time was over before its turn came"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dynamic_supervisor_has_a_deadline_too_and_says_why_it_was_stopped() {
    let intensity = Intensity::new(0, SECOND);
    let spec = DynamicSupervisorSpec::new("sessions", intensity);
    let sessions = DynamicSupervisor::start(spec.clone()).await;
    let sessions = sessions.expect("starts");
    for id in ["a", "b"] {
        sessions.start_child(stubborn(id)).await.expect("starts");
    }
    let begin = Instant::now();

    let mut late = sessions.stop_within(SECOND * 3).await;

    assert!(begin.elapsed() >= SECOND * 3 && begin.elapsed() <= SECOND * 4);
    late.children.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(blockers(&late), ["a", "b"]);

    DynamicSupervisor::start(spec).await.expect("starts again");
    let end = sessions.monitor();
    sessions.stop_because("the shop is closed").await;

    let said = ShutdownCause::Said("the shop is closed".into());
    assert_eq!(end.down().await.reason, ExitReason::Shutdown(Some(said)));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_reaches_into_nested_supervisors_which_still_tell_how_it_went() {
    let inner = lenient("inner")
        .child(stubborn("deep"))
        .child(stubborn("deeper"));
    let spec = lenient("outer")
        .child(stubborn("own"))
        .child(ChildSpec::supervisor(inner));
    let supervisor = Supervisor::start(spec).await.expect("starts");
    let begin = Instant::now();

    let report = supervisor.stop_within(SECOND).await;

    assert!(begin.elapsed() <= SECOND * 3, "{:?}", begin.elapsed());
    assert_eq!(blockers(&report), ["deeper"]);
    let all: Vec<_> = report.walk().map(|child| (&*child.id, child.how)).collect();
    let killed = |id| (id, StopKind::Killed);
    let inner = ("inner", StopKind::Graceful);
    assert_eq!(
        all,
        [inner, killed("deeper"), killed("deep"), killed("own")]
    );
}

#[tokio::test(start_paused = true)]
async fn a_deadline_may_come_while_the_stop_is_under_way() {
    let inner = ChildSpec::supervisor(lenient("inner").child(stubborn("deep")));
    let supervisor = Supervisor::start(lenient("outer").child(inner))
        .await
        .expect("starts");
    let patient = tokio::spawn({
        let supervisor = supervisor.clone();
        async move { supervisor.stop().await }
    });
    tokio::time::sleep(SECOND * 60).await;
    assert!(!patient.is_finished());
    let begin = Instant::now();

    let report = supervisor.stop_within(SECOND).await;

    assert!(begin.elapsed() <= SECOND * 3, "{:?}", begin.elapsed());
    assert_eq!(blockers(&report), ["deep"]);
    assert_eq!(patient.await.expect("ends"), report);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_also_ends_what_was_being_terminated() {
    let supervisor = Supervisor::start(lenient("both").child(stubborn("a")))
        .await
        .expect("starts");
    let terminating = tokio::spawn({
        let supervisor = supervisor.clone();
        async move { supervisor.terminate_child("a").await }
    });
    eventually("it is being stopped", async || {
        let children = supervisor.which_children().await.expect("answers");
        children[0].state == ChildState::Stopping
    })
    .await;

    let report = supervisor.stop_within(SECOND).await;

    assert_eq!(blockers(&report), ["a"]);
    let answer = terminating.await.expect("answered");
    let fits = matches!(answer, Ok(()) | Err(SupervisorError::Unanswered));
    assert!(fits, "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_within_time_is_like_any_stop_and_a_brutal_child_holds_up_nothing() {
    let (a, notes) = (Address::new(), Notes::default());
    let brutal = stubborn("brutal").shutdown(Shutdown::Brutal);
    let spec = lenient("easy").child(probe("a", &a, &notes)).child(brutal);
    let supervisor = Supervisor::start(spec).await.expect("starts");

    let report = supervisor.stop_within(SECOND * 60).await;

    assert_eq!(blockers(&report), [""; 0]);
    assert!(report.took < SECOND);
    assert_eq!(notes.take(), ["start a", "stop a"]);
}

/// A stop during the start of an actor that hung waited a second for nothing.
#[tokio::test(start_paused = true)]
async fn a_stop_during_a_start_that_hangs_is_done_at_once() {
    let spec = lenient("outer").child(ChildSpec::supervisor(
        lenient("inner").child(ChildSpec::actor("hangs", &Address::new(), |_| (Hangs, ()))),
    ));
    let outer = Supervisor::start(lenient("root")).await.expect("starts");
    let adding = tokio::spawn({
        let outer = outer.clone();
        async move { outer.start_child(ChildSpec::supervisor(spec)).await }
    });
    eventually("the start is under way", async || {
        let tree = outer.tree().expect("runs");
        tree.find("root/outer/inner/hangs").is_some()
    })
    .await;
    let begin = Instant::now();

    outer.stop().await;

    assert!(begin.elapsed() < SECOND / 2, "{:?}", begin.elapsed());
    assert!(adding.await.expect("answered").is_err());
}

struct Hangs;

impl Actor for Hangs {
    type Msg = Do;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Do>, (): ()) -> Result<(), ActorProcessingErr> {
        std::future::pending().await
    }
}

/// The next life of a supervisor that was killed began beside what its children still held.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_killed_supervisor_does_not_begin_anew_beside_a_child_that_blocks_a_thread() {
    let a = Address::new();
    let inner = lenient("inner").child(probe("a", &a, &Notes::default()));
    let handle = inner.handle();
    let outer = lenient("outer").child(ChildSpec::supervisor(inner));
    let outer = Supervisor::start(outer).await.expect("starts");
    let mut reports = outer.reports().expect("runs");
    let (release, until) = std::sync::mpsc::channel::<()>();
    let (begun, blocked) = oneshot::channel();
    a.send(Do::BlockThread(begun, until)).expect("runs");
    blocked.await.expect("blocks now");

    handle.actor().expect("runs").kill();
    let refused = report(&mut reports, |report| match &report.what {
        Lifecycle::StartFailed { reason } => Some(reason.to_string()),
        _ => None,
    })
    .await;
    assert!(refused.contains("a did not end when killed"), "{refused}");
    drop(release);

    eventually("it lives anew when the thread is free", async || {
        a.call(Do::Incarnation, LONG).await == Ok(1)
    })
    .await;
    outer.stop().await;
}

/// It stopped nothing, and the life that was starting had the deadline and the reason all the same: its children were killed at once
/// from then on, and its end was said to have been asked for.
#[tokio::test(start_paused = true)]
async fn a_stop_of_a_supervisor_that_still_starts_changes_nothing() {
    let (go, gate) = oneshot::channel::<()>();
    let gate = Mutex::new(Some(gate));
    let slow = ChildSpec::actor("slow", &Address::new(), move |_| {
        let gate = gate.lock().expect("nobody panics").take();
        (Gated, gate.expect("starts once"))
    });
    let patient = ChildSpec::task("patient", |ctx| async move {
        ctx.cancelled().await;
        tokio::time::sleep(SECOND).await;
        Ok(())
    });
    let spec = lenient("starts").child(patient).child(slow);
    let handle = spec.handle();
    let starting = tokio::spawn(Supervisor::start(spec));
    eventually("it starts", async || handle.tree().is_some()).await;

    let within = handle.stop_within(Duration::ZERO).await;
    let because = handle.stop_because("no more use").await;
    assert_eq!((within.children.len(), because.children.len()), (0, 0));
    let _ = go.send(());
    let supervisor = starting.await.expect("whole").expect("starts");

    let ended = tokio::spawn(async move { handle.ended().await });
    tokio::task::yield_now().await;
    let report = supervisor.stop().await;
    assert_eq!(blockers(&report), [""; 0]);
    assert!(report.took >= SECOND, "{report:?}");
    assert_eq!(ended.await.expect("whole"), ExitReason::Shutdown(None));
}

/// Starts when it is let.
struct Gated;

impl Actor for Gated {
    type Msg = Do;
    type State = ();
    type Arguments = oneshot::Receiver<()>;

    async fn pre_start(
        &self,
        _: ActorRef<Do>,
        gate: oneshot::Receiver<()>,
    ) -> Result<(), ActorProcessingErr> {
        Ok(gate.await?)
    }
}
