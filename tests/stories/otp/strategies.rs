//! What happens to the siblings of a child that ends: under one_for_all, under rest_for_one, with significant children.

use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use underpin::otp::{
    Address, AutoShutdown, ChildSpec, ChildState, ExitReason, Lifecycle, Restart, ShutdownCause,
    Strategy, Supervisor, SupervisorSpec,
};
use underpin::{ractor, testing::eventually};

use super::probe::{Do, LONG, Notes, incarnation, lenient, probe, report, started, strict};

/// Probes named a, b, c and so on, in this order.
struct Family {
    supervisor: Supervisor,
    addresses: Vec<Address<Do>>,
    notes: Notes,
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

impl Family {
    async fn new(spec: SupervisorSpec, types: &[Restart]) -> Self {
        let notes = Notes::default();
        let addresses: Vec<_> = types.iter().map(|_| Address::new()).collect();
        let children = NAMES.iter().zip(&addresses).zip(types);
        let child = |((name, at), restart): ((&&'static str, _), &Restart)| {
            probe(name, at, &notes).restart(*restart)
        };
        let spec = spec.children(children.map(child));
        let supervisor = Supervisor::start(spec).await.expect("starts");
        notes.take();
        Self {
            supervisor,
            addresses,
            notes,
        }
    }

    fn tell(&self, child: usize, what: Do) {
        self.addresses[child].send(what).expect("runs");
    }

    /// Which life each leads, once the supervisor has nothing under way any more; 0 where there is none.
    async fn lives(&self) -> Vec<u64> {
        let settled =
            |state: ChildState| matches!(state, ChildState::Running | ChildState::Stopped);
        eventually("everything has settled", async || {
            let children = self.supervisor.which_children().await.expect("answers");
            children.iter().all(|child| settled(child.state))
        })
        .await;
        let tree = self.supervisor.tree().expect("runs");
        let life = |name: &&str| {
            let child = tree.children.iter().find(|child| &*child.id == *name);
            let runs = child.filter(|child| child.state == ChildState::Running);
            runs.map_or(0, |child| child.incarnation)
        };
        NAMES[..self.addresses.len()].iter().map(life).collect()
    }

    /// Waits until the child has come back.
    async fn back(&self, child: usize, life: u64) {
        eventually("it comes back", async || {
            incarnation(&self.addresses[child]).await == life
        })
        .await;
    }
}

fn all(spec: SupervisorSpec) -> SupervisorSpec {
    spec.strategy(Strategy::OneForAll)
}

fn rest(spec: SupervisorSpec) -> SupervisorSpec {
    spec.strategy(Strategy::RestForOne)
}

const PERMANENT: Restart = Restart::Permanent;

#[tokio::test]
async fn r02_under_one_for_all_a_crash_stops_the_others_and_all_start_anew() {
    let family = Family::new(all(lenient("all")), &[PERMANENT; 2]).await;
    let other = family.addresses[1].monitor();

    family.tell(0, Do::KillYourself);

    assert_eq!(other.down().await.reason, ExitReason::Shutdown(None));
    family.back(1, 2).await;
    assert_eq!(family.lives().await, [2, 2]);
    family.supervisor.stop().await;
}

#[tokio::test]
async fn r03_under_rest_for_one_those_before_keep_their_life() {
    let family = Family::new(rest(lenient("rest")), &[PERMANENT; 3]).await;

    family.tell(1, Do::KillYourself);
    family.back(2, 2).await;

    assert_eq!(family.lives().await, [1, 2, 2]);
    family.supervisor.stop().await;
}

#[tokio::test]
async fn r04_rest_for_one_stops_the_later_ones_backwards_and_starts_forwards() {
    let family = Family::new(rest(lenient("order")), &[PERMANENT; 4]).await;

    family.tell(1, Do::KillYourself);
    family.back(3, 2).await;

    let order = ["stop d", "stop c", "start b", "start c", "start d"];
    assert_eq!(family.notes.take(), order);
    family.supervisor.stop().await;
}

#[tokio::test]
async fn r05_one_for_all_stops_all_others_backwards_and_starts_all_forwards() {
    let family = Family::new(all(lenient("order")), &[PERMANENT; 3]).await;

    family.tell(0, Do::PanicWith("boom"));
    family.back(2, 2).await;

    let order = ["stop c", "stop b", "start a", "start b", "start c"];
    assert_eq!(family.notes.take(), order);
    family.supervisor.stop().await;
}

#[tokio::test]
async fn r08_a_temporary_bystander_is_stopped_and_does_not_come_back() {
    for spec in [all(lenient("bystander")), rest(lenient("bystander"))] {
        let family = Family::new(spec, &[PERMANENT, Restart::Temporary, PERMANENT]).await;

        family.tell(0, Do::PanicWith("boom"));
        family.back(2, 2).await;

        assert_eq!(family.lives().await, [2, 0, 2]);
        let notes = family.notes.take();
        assert!(notes.contains(&"stop b".to_owned()), "{notes:?}");
        assert_eq!(
            family
                .supervisor
                .count_children()
                .await
                .expect("answers")
                .specs,
            2
        );
        family.supervisor.stop().await;
    }
}

#[tokio::test]
async fn r09_an_end_that_restarts_nobody_leaves_the_siblings_alone() {
    let cases = [
        (Restart::Temporary, Do::PanicWith("boom")),
        (Restart::Transient, Do::Stop(None)),
    ];
    for (restart, end) in cases {
        let family = Family::new(all(lenient("alone")), &[restart, PERMANENT]).await;
        let gone = family.addresses[0].monitor();

        family.tell(0, end);
        gone.down().await;

        assert_eq!(family.lives().await, [0, 1]);
        family.supervisor.stop().await;
    }
}

/// OTP starts it again with its siblings. It had done its work, so here it rests.
#[tokio::test]
async fn r10_a_child_that_had_finished_stays_finished_when_a_sibling_crashes() {
    let family = Family::new(all(lenient("done")), &[Restart::Transient, PERMANENT]).await;
    let gone = family.addresses[0].monitor();
    family.tell(0, Do::Stop(None));
    gone.down().await;

    family.tell(1, Do::PanicWith("boom"));
    family.back(1, 2).await;

    assert_eq!(family.lives().await, [0, 2]);
    family.supervisor.stop().await;
}

/// OTP starts it again with its siblings. Somebody wanted it down, so here it stays down.
#[tokio::test]
async fn r11_a_child_that_was_terminated_stays_down_when_a_sibling_crashes() {
    let family = Family::new(all(lenient("down")), &[PERMANENT; 2]).await;
    family.supervisor.terminate_child("a").await.expect("known");

    family.tell(1, Do::PanicWith("boom"));
    family.back(1, 2).await;

    assert_eq!(family.lives().await, [0, 2]);
    family.supervisor.stop().await;
}

#[tokio::test]
async fn r13_a_nested_supervisor_that_is_killed_again_and_again_comes_back_with_its_child() {
    let a = Address::new();
    let inner = all(lenient("inner")).child(probe("a", &a, &Notes::default()));
    let handle = inner.handle();
    let outer = Supervisor::start(all(lenient("outer")).child(ChildSpec::supervisor(inner)))
        .await
        .expect("starts");
    let mut reports = outer.reports().expect("runs");

    for life in 2..6 {
        let before = a.monitor();
        handle.actor().expect("runs").kill();
        started(&mut reports, "outer/inner", life).await;
        before.down().await;
        assert_eq!(incarnation(&a).await, 1, "its first life under the new one");
    }
    outer.stop().await;
}

#[tokio::test]
async fn r14_a_sibling_that_dies_while_it_is_to_be_stopped_counts_once_and_starts_once() {
    let family = Family::new(all(strict("both", 1)), &[PERMANENT; 3]).await;
    let (release, held) = oneshot::channel::<()>();
    // c takes its time to stop: it still has a message to finish.
    family.tell(2, Do::Await(Box::pin(async { drop(held.await) })));

    let first = family.addresses[0].monitor();
    family.tell(1, Do::PanicWith("the cause"));
    eventually("c is being stopped", async || {
        let tree = family.supervisor.tree().expect("runs");
        tree.find("both/c")
            .is_some_and(|c| c.state == ChildState::Stopping)
    })
    .await;
    family.tell(0, Do::PanicWith("by itself, meanwhile"));
    first.down().await;
    release.send(()).expect("waits");

    family.back(2, 2).await;
    assert_eq!(family.lives().await, [2, 2, 2]);
    assert!(family.supervisor.is_running(), "one restart, not two");
    family.supervisor.stop().await;
}

#[tokio::test]
async fn r15_while_a_sibling_is_stopped_slowly_the_supervisor_answers_and_tells_the_truth() {
    let family = Family::new(rest(lenient("busy")), &[PERMANENT; 3]).await;
    let (release, held) = oneshot::channel::<()>();
    family.tell(2, Do::Await(Box::pin(async { drop(held.await) })));

    let gone = family.addresses[1].monitor();
    family.tell(1, Do::PanicWith("boom"));
    gone.down().await;

    let states: Vec<_> = family.supervisor.which_children().await.expect("answers");
    let states: Vec<_> = states.into_iter().map(|child| child.state).collect();
    let under_way = [
        ChildState::Running,
        ChildState::Restarting,
        ChildState::Stopping,
    ];
    assert_eq!(states, under_way);
    let late = Address::new();
    let adding = tokio::spawn({
        let (supervisor, notes) = (family.supervisor.clone(), family.notes.clone());
        let late = probe("late", &late, &notes);
        async move { supervisor.start_child(late).await }
    });
    release.send(()).expect("waits");

    adding.await.expect("answers").expect("starts in its turn");
    let order = ["stop c", "start b", "start c", "start late"];
    assert_eq!(family.notes.take(), order);
    family.supervisor.stop().await;
}

#[tokio::test]
async fn i02_a_restart_of_several_is_one_unit_however_many_there_are() {
    for spec in [all(strict("units", 2)), rest(strict("units", 2))] {
        let family = Family::new(spec, &[PERMANENT; 3]).await;
        let end = family.supervisor.monitor();

        for life in 1..=3 {
            assert!(family.supervisor.is_running());
            family.back(0, life).await;
            family.tell(0, Do::PanicWith("boom"));
        }

        assert!(end.down().await.reason.is_clean());
        assert_eq!(
            family.notes.take().last().map(String::as_str),
            Some("stop b")
        );
    }
}

#[tokio::test]
async fn i04_a_child_that_fails_each_restart_of_several_makes_the_supervisor_give_up() {
    for strategy in [Strategy::OneForAll, Strategy::RestForOne] {
        let (before, a) = (Address::new(), Address::new());
        let notes = Notes::default();
        let tries = notes.clone();
        let fragile = ChildSpec::actor("a", &a, move |ctx| {
            tries.add("try");
            assert!(ctx.incarnation() == 1, "only once");
            (super::probe::Probe::default(), ())
        });
        let spec = strict("failing", 4)
            .strategy(strategy)
            .child(probe("before", &before, &notes))
            .child(fragile);
        let supervisor = Supervisor::start(spec).await.expect("starts");

        a.send(Do::PanicWith("boom")).expect("runs");

        let ended = supervisor.ended().await;
        let ExitReason::Shutdown(Some(ShutdownCause::IntensityExceeded(facts))) = ended else {
            panic!("gave up for another reason: {ended}");
        };
        assert_eq!((&*facts.child, facts.intensity), ("a", 4));
        let notes = notes.take();
        assert_eq!(notes.iter().filter(|note| *note == "try").count(), 5);
        assert_eq!(notes.last().map(String::as_str), Some("stop before"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_backoff_holds_the_whole_restart_and_pending_ones_merge() {
    use underpin::resilience::{Backoff, Jitter};
    let pause = Duration::from_secs(10);
    let backoff = Backoff::new(pause, pause)
        .and_then(|backoff| backoff.with_jitter(Jitter::None))
        .expect("valid");
    let (a, b) = (Address::new(), Address::new());
    let notes = Notes::default();
    let spec = rest(lenient("merge"))
        .child(probe("a", &a, &notes).backoff(backoff))
        .child(probe("b", &b, &notes).backoff(backoff));
    let supervisor = Supervisor::start(spec).await.expect("starts");
    let begin = tokio::time::Instant::now();
    notes.take();

    let gone = b.monitor();
    b.send(Do::PanicWith("later one")).expect("runs");
    gone.down().await;
    tokio::time::sleep(pause / 2).await;
    a.send(Do::PanicWith("earlier one")).expect("runs");
    b.wait_ready(LONG * 2).await.expect("comes back");

    assert_eq!(notes.take(), ["start a", "start b"], "one restart for both");
    assert!(begin.elapsed() >= pause + pause / 2);
    supervisor.stop().await;
}

// Significant children.

async fn ends_with(family: &Family) -> ExitReason {
    family.supervisor.ended().await
}

fn significant(id: &str, auto_shutdown: AutoShutdown) -> SupervisorSpec {
    lenient(id).auto_shutdown(auto_shutdown)
}

/// Children a, b, c, of which a and c are significant.
async fn with_significant(spec: SupervisorSpec, restart: Restart) -> Family {
    let notes = Notes::default();
    let addresses: Vec<_> = (0..3).map(|_| Address::new()).collect();
    let spec = spec
        .child(
            probe("a", &addresses[0], &notes)
                .restart(restart)
                .significant(),
        )
        .child(probe("b", &addresses[1], &notes).restart(Restart::Transient))
        .child(
            probe("c", &addresses[2], &notes)
                .restart(restart)
                .significant(),
        );
    let supervisor = Supervisor::start(spec).await.expect("starts");
    notes.take();
    Family {
        supervisor,
        addresses,
        notes,
    }
}

#[tokio::test]
async fn g01_a_significant_child_that_finishes_ends_its_supervisor_in_order() {
    let any = significant("any", AutoShutdown::AnySignificant);
    let family = with_significant(any, Restart::Transient).await;
    let mut reports = family.supervisor.reports().expect("runs");

    family.tell(0, Do::Stop(None));

    let cause = ShutdownCause::Significant("a".into());
    assert_eq!(ends_with(&family).await, ExitReason::Shutdown(Some(cause)));
    assert_eq!(family.notes.take(), ["stop a", "stop c", "stop b"]);
    report(&mut reports, |report| {
        let auto = Lifecycle::AutoShutdown { child: "a".into() };
        (&*report.path == "any" && report.what == auto).then_some(())
    })
    .await;
}

#[tokio::test]
async fn g02_a_significant_child_that_crashes_is_restarted_and_ends_nothing() {
    let any = significant("any", AutoShutdown::AnySignificant);
    let family = with_significant(any, Restart::Transient).await;

    family.tell(0, Do::PanicWith("boom"));
    family.back(0, 2).await;
    family.tell(0, Do::KillYourself);
    family.back(0, 3).await;

    assert_eq!(family.lives().await, [3, 1, 1]);
    family.supervisor.stop().await;
}

#[tokio::test]
async fn g03_a_temporary_significant_child_ends_its_supervisor_whatever_its_end() {
    for end in [Do::Stop(None), Do::PanicWith("boom"), Do::KillYourself] {
        let any = significant("any", AutoShutdown::AnySignificant);
        let family = with_significant(any, Restart::Temporary).await;

        family.tell(2, end);

        let cause = ShutdownCause::Significant("c".into());
        assert_eq!(ends_with(&family).await, ExitReason::Shutdown(Some(cause)));
    }
}

#[tokio::test]
async fn g04_terminating_a_significant_child_ends_nothing() {
    for mode in [AutoShutdown::AnySignificant, AutoShutdown::AllSignificant] {
        let family = with_significant(significant("asked", mode), Restart::Transient).await;

        family.supervisor.terminate_child("a").await.expect("known");
        family.supervisor.terminate_child("c").await.expect("known");

        assert!(family.supervisor.is_running());
        assert_eq!(family.lives().await, [0, 1, 0]);
        family.supervisor.stop().await;
    }
}

#[tokio::test]
async fn g06_significant_children_stopped_for_a_siblings_sake_end_nothing() {
    let spec = all(significant("sake", AutoShutdown::AnySignificant));
    let family = with_significant(spec, Restart::Temporary).await;

    family.tell(1, Do::PanicWith("boom"));
    family.back(1, 2).await;

    assert!(family.supervisor.is_running());
    assert_eq!(
        family.lives().await,
        [0, 2, 0],
        "temporary ones are forgotten"
    );
    family.supervisor.stop().await;
}

#[tokio::test]
async fn g07_children_that_are_not_significant_end_nothing_in_any_mode() {
    let modes = [
        AutoShutdown::Never,
        AutoShutdown::AnySignificant,
        AutoShutdown::AllSignificant,
    ];
    for mode in modes {
        let spec = significant("plain", mode);
        let family = Family::new(spec, &[Restart::Temporary, Restart::Transient]).await;

        for child in 0..2 {
            let gone = family.addresses[child].monitor();
            family.tell(child, Do::Stop(None));
            gone.down().await;
        }

        assert_eq!(family.lives().await, [0, 0]);
        assert!(family.supervisor.is_running());
        family.supervisor.stop().await;
    }
}

#[tokio::test]
async fn with_all_significant_the_last_one_ends_the_supervisor() {
    let every = significant("every", AutoShutdown::AllSignificant);
    let family = with_significant(every, Restart::Transient).await;
    let first = family.addresses[0].monitor();

    family.tell(0, Do::Stop(None));
    first.down().await;
    assert_eq!(family.lives().await, [0, 1, 1]);
    family.tell(2, Do::Stop(None));

    let cause = ShutdownCause::Significant("c".into());
    assert_eq!(ends_with(&family).await, ExitReason::Shutdown(Some(cause)));
}

#[tokio::test]
async fn an_auto_shutdown_cascades_through_significant_supervisors_and_no_further() {
    let a = Address::new();
    let leaf = probe("a", &a, &Notes::default()).restart(Restart::Transient);
    let inner = significant("inner", AutoShutdown::AnySignificant).child(leaf.significant());
    let inner = ChildSpec::supervisor(inner).restart(Restart::Transient);
    let middle = significant("middle", AutoShutdown::AnySignificant).child(inner.significant());
    let handle = middle.handle();
    let middle = ChildSpec::supervisor(middle).restart(Restart::Transient);
    let outer = Supervisor::start(lenient("outer").child(middle))
        .await
        .expect("starts");
    let end = handle.monitor();

    a.send(Do::Stop(None)).expect("runs");

    let cause = ShutdownCause::Significant("inner".into());
    assert_eq!(end.down().await.reason, ExitReason::Shutdown(Some(cause)));
    assert!(outer.is_running());
    assert_eq!(outer.count_children().await.expect("answers").active, 0);
    outer.stop().await;
}

/// Asks its supervisor for the siblings' state from within its handler, while they are restarted.
struct Asker(Supervisor);

impl Actor for Asker {
    type Msg = Do;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Do>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Do>,
        message: Do,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if let Do::Total(reply) = message {
            let children = self.0.which_children().await?;
            reply.send(u64::try_from(children.len())?);
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_child_may_ask_its_supervisor_while_its_siblings_are_restarted() {
    let spec = rest(lenient("asks"));
    let (asker, b) = (Address::new(), Address::new());
    let own = spec.handle();
    let spec = spec
        .child(ChildSpec::actor("asker", &asker, move |_| {
            (Asker(own.clone()), ())
        }))
        .child(probe("b", &b, &Notes::default()));
    let supervisor = Supervisor::start(spec).await.expect("starts");

    b.send(Do::PanicWith("boom")).expect("runs");

    assert_eq!(asker.call(Do::Total, LONG).await, Ok(2));
    assert_eq!(incarnation(&b).await, 2);
    supervisor.stop().await;
}
