//! What is wrong in a spec is refused before anything starts, wherever it is handed in; what may decline to start, does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use underpin::otp::{
    Address, AutoShutdown, Budget, ChildCounts, ChildSpec, ChildState, HealthProbe, Ignore,
    Intensity, Lifecycle, OnExceed, Restart, Shutdown, StartOutcome, Strategy, Supervisor,
    SupervisorError, SupervisorSpec,
};
use underpin::ractor;

use super::probe::{Do, Notes, incarnation, lenient, probe, report, started};

const SECOND: Duration = Duration::from_secs(1);

fn idle(id: &str) -> ChildSpec {
    ChildSpec::task(id, |ctx| async move {
        ctx.cancelled().await;
        Ok(())
    })
}

/// Each with what its refusal must speak of.
fn wrong_children() -> Vec<(ChildSpec, &'static str)> {
    let no_time = Budget::new(Intensity::new(1, Duration::ZERO), OnExceed::Stop);
    let check = HealthProbe::ask(SECOND, SECOND, || async { true });
    let deep = lenient("inner").child(idle("")).child(idle("fine"));
    vec![
        (idle(""), "is not an id"),
        (idle("a/b"), "is not an id"),
        (idle(&"x".repeat(129)), "is not an id"),
        (idle("a").significant(), "significant and permanent"),
        (
            idle("a").restart(Restart::Transient).significant(),
            "never shuts down by itself",
        ),
        (idle("a").start_timeout(Duration::ZERO), "start_timeout"),
        (idle("a").budget(no_time), "a period of 0"),
        (
            idle("a").health(HealthProbe::busy(SECOND)),
            "handles no messages",
        ),
        (
            ChildSpec::supervisor(lenient("inner")).health(check),
            "never killed",
        ),
        (ChildSpec::supervisor(deep), "\"\" is not an id"),
    ]
}

#[tokio::test]
async fn s12_each_wrong_field_of_a_child_is_refused_with_its_own_words_wherever_it_is_given() {
    let supervisor = Supervisor::start(lenient("up")).await.expect("starts");
    for (child, words) in wrong_children() {
        let notes = Notes::default();
        let before = probe("before", &Address::new(), &notes);
        let spec = lenient("wrong").child(before).child(child.clone());

        let checked = spec.check().expect_err(words);
        let started = Supervisor::start(spec).await.expect_err(words);
        let added = supervisor.start_child(child).await.expect_err(words);

        assert!(matches!(checked, SupervisorError::Invalid(_)), "{checked}");
        assert!(checked.to_string().contains(words), "{checked}");
        assert_eq!(started, checked);
        assert_eq!(added, checked);
        assert_eq!(notes.take(), [""; 0], "nothing has started");
    }
    assert_eq!(
        supervisor.count_children().await,
        Ok(ChildCounts::default())
    );
    supervisor.stop().await;
}

#[tokio::test]
async fn s13_an_intensity_without_a_period_is_refused() {
    let spec = SupervisorSpec::new("never", Intensity::new(1, Duration::ZERO));

    let refused = Supervisor::start(spec).await.expect_err("no period");

    assert!(refused.to_string().contains("a period of 0"), "{refused}");
}

#[test]
fn s14_every_combination_is_accepted_but_significant_with_permanent_or_without_auto_shutdown() {
    let shutdowns = [
        Shutdown::Timeout(Duration::ZERO),
        Shutdown::Timeout(SECOND),
        Shutdown::Infinity,
        Shutdown::Brutal,
    ];
    let modes = [
        AutoShutdown::Never,
        AutoShutdown::AnySignificant,
        AutoShutdown::AllSignificant,
    ];
    let mut combinations = 0;
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        for (shutdown, nested) in shutdowns.iter().flat_map(|how| [(how, false), (how, true)]) {
            for (mode, significant) in modes.iter().flat_map(|mode| [(mode, false), (mode, true)]) {
                for strategy in [
                    Strategy::OneForOne,
                    Strategy::OneForAll,
                    Strategy::RestForOne,
                ] {
                    let child = if nested {
                        ChildSpec::supervisor(lenient("a"))
                    } else {
                        idle("a")
                    };
                    let child = child.restart(restart).shutdown(*shutdown);
                    let child = if significant {
                        child.significant()
                    } else {
                        child
                    };
                    let spec = lenient("all").strategy(strategy).auto_shutdown(*mode);

                    let bad = significant
                        && (restart == Restart::Permanent || *mode == AutoShutdown::Never);
                    assert_eq!(spec.child(child).check().is_err(), bad);
                    combinations += 1;
                }
            }
        }
    }
    assert_eq!(combinations, 3 * 8 * 6 * 3);
}

#[tokio::test]
async fn s17_a_supervisor_that_runs_is_not_started_a_second_time() {
    let spec = lenient("one");
    let again = spec.clone();
    let supervisor = Supervisor::start(spec).await.expect("starts");

    let refused = Supervisor::start(again).await.expect_err("runs already");

    assert!(refused.to_string().contains("already"), "{refused}");
    assert!(supervisor.is_running());
    supervisor.stop().await;
}

// Starts that decline.

/// An actor that has nothing to do where it is.
struct Declines;

impl Actor for Declines {
    type Msg = Do;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Do>, (): ()) -> Result<(), ActorProcessingErr> {
        Err(Ignore.into())
    }
}

fn declines(id: &str) -> ChildSpec {
    ChildSpec::actor(id, &Address::new(), |_| (Declines, ()))
}

fn counts(specs: usize, active: usize) -> ChildCounts {
    ChildCounts {
        specs,
        active,
        supervisors: 0,
        workers: specs,
    }
}

#[tokio::test]
async fn s02_a_nested_supervisor_may_decline_as_a_whole() {
    let notes = Notes::default();
    let inner = lenient("inner").child(probe("a", &Address::new(), &notes));
    let handle = inner.handle();
    let inner = ChildSpec::supervisor(inner).start_if(|_| false);

    let outer = Supervisor::start(lenient("outer").child(inner))
        .await
        .expect("starts");

    assert!(!handle.is_running());
    assert_eq!(notes.take(), [""; 0]);
    let children = outer.which_children().await.expect("answers");
    assert_eq!(children[0].state, ChildState::Stopped);
    outer.stop().await;
}

#[tokio::test]
async fn s03_a_permanent_child_that_declines_is_listed_and_down_and_can_be_asked_again() {
    let supervisor = Supervisor::start(lenient("declines").child(idle("b")))
        .await
        .expect("starts");

    let outcome = supervisor.start_child(declines("a")).await;

    assert_eq!(outcome, Ok(StartOutcome::Ignored));
    assert_eq!(supervisor.count_children().await, Ok(counts(2, 1)));
    let again = supervisor.restart_child("a").await;
    assert_eq!(again, Ok(StartOutcome::Ignored));
    supervisor.delete_child("a").await.expect("stopped");
    supervisor.stop().await;
}

#[tokio::test]
async fn s04_a_temporary_child_that_declines_is_forgotten_wherever_it_was_given() {
    let declining = || declines("a").restart(Restart::Temporary);
    let spec = lenient("forgets").child(idle("b")).child(declining());
    let supervisor = Supervisor::start(spec).await.expect("starts");
    assert_eq!(supervisor.count_children().await, Ok(counts(1, 1)));

    let outcome = supervisor.start_child(declining()).await;

    assert_eq!(outcome, Ok(StartOutcome::Ignored));
    assert_eq!(supervisor.count_children().await, Ok(counts(1, 1)));
    supervisor.stop().await;
}

#[tokio::test]
async fn a_restart_that_declines_ends_the_restarts_and_nothing_else() {
    let a = Address::new();
    let once = probe("a", &a, &Notes::default()).start_if(|ctx| ctx.incarnation() != 2);
    let spec = super::probe::strict("once", 1).child(once);
    let supervisor = Supervisor::start(spec).await.expect("starts");
    let mut reports = supervisor.reports().expect("runs");

    a.send(Do::PanicWith("boom")).expect("runs");
    report(&mut reports, |report| {
        (report.what == Lifecycle::Ignored).then_some(())
    })
    .await;

    assert_eq!(supervisor.count_children().await, Ok(counts(1, 0)));
    let again = supervisor.restart_child("a").await;
    assert_eq!(again, Ok(StartOutcome::Running));
    assert_eq!(incarnation(&a).await, 3);
    supervisor.stop().await;
}

/// OTP asks it again with its siblings. It had nothing to do, so here it stays down.
#[tokio::test]
async fn a_child_that_declined_is_not_asked_again_when_a_sibling_crashes() {
    let (asked, a) = (Arc::new(AtomicUsize::new(0)), Address::new());
    let times = Arc::clone(&asked);
    let declines = idle("declines").start_if(move |_| {
        times.fetch_add(1, Ordering::Relaxed);
        false
    });
    let spec = lenient("all").strategy(Strategy::OneForAll).child(declines);
    let spec = spec.child(probe("a", &a, &Notes::default()));
    let supervisor = Supervisor::start(spec).await.expect("starts");
    let mut reports = supervisor.reports().expect("runs");

    a.send(Do::PanicWith("boom")).expect("runs");
    started(&mut reports, "all/a", 2).await;

    assert_eq!(supervisor.count_children().await, Ok(counts(2, 1)));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    supervisor.stop().await;
}

#[tokio::test]
async fn a_condition_that_panics_is_a_start_that_failed() {
    let supervisor = Supervisor::start(lenient("panics")).await.expect("starts");
    let child = idle("a").start_if(|_| panic!("no condition today"));

    let refused = supervisor.start_child(child).await.expect_err("fails");

    assert!(
        refused.to_string().contains("no condition today"),
        "{refused}"
    );
    supervisor.stop().await;
}

#[tokio::test]
async fn a09_the_spec_of_a_child_that_was_replaced_is_the_new_one() {
    let supervisor = Supervisor::start(lenient("spec").child(idle("a")))
        .await
        .expect("starts");
    supervisor.terminate_child("a").await.expect("known");
    supervisor.delete_child("a").await.expect("stopped");
    let changed = idle("a")
        .restart(Restart::Transient)
        .shutdown(Shutdown::Brutal);

    supervisor.start_child(changed).await.expect("starts");

    let spec = supervisor.child_spec("a").await.expect("known");
    assert_eq!(spec.get_restart(), Restart::Transient);
    assert_eq!(spec.get_shutdown(), Shutdown::Brutal);
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn c05_a_start_that_is_slower_than_its_limit_is_an_error_and_leaves_no_actor() {
    struct Slow(Notes);
    struct Gone(Notes);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.add("gone");
        }
    }
    impl Actor for Slow {
        type Msg = Do;
        type State = ();
        type Arguments = ();
        async fn pre_start(&self, _: ActorRef<Do>, (): ()) -> Result<(), ActorProcessingErr> {
            let _held = Gone(self.0.clone());
            tokio::time::sleep(SECOND).await;
            self.0.add("started");
            Ok(())
        }
    }
    let supervisor = Supervisor::start(lenient("slow")).await.expect("starts");
    let (a, notes) = (Address::new(), Notes::default());
    let seen = notes.clone();
    let slow = ChildSpec::actor("a", &a, move |_| (Slow(seen.clone()), ()));

    let refused = supervisor
        .start_child(slow.start_timeout(SECOND / 10))
        .await;

    assert!(
        refused
            .expect_err("too slow")
            .to_string()
            .contains("within 100ms")
    );
    tokio::time::sleep(SECOND * 2).await;
    assert_eq!(notes.take(), ["gone"]);
    assert!(a.actor().is_none());
    assert_eq!(supervisor.count_children().await, Ok(counts(0, 0)));
    supervisor.stop().await;
}

#[tokio::test]
async fn c10_a_shutdown_is_no_crash_and_a_crash_is_reported_once() {
    let a = Address::new();
    let spec = lenient("reports").child(probe("a", &a, &Notes::default()));
    let supervisor = Supervisor::start(spec).await.expect("starts");
    let mut reports = supervisor.reports().expect("runs");
    let ends = [
        Do::Stop(None),
        Do::Stop(Some("shutdown")),
        Do::Stop(Some("moved away")),
        Do::PanicWith("boom"),
    ];
    for (life, end) in (2..).zip(ends) {
        a.send(end).expect("runs");
        let mut crashes = 0;
        // All that is told until it runs again.
        report(&mut reports, |report| match &report.what {
            Lifecycle::Exited { reason, .. } if !reason.is_clean() => {
                crashes += 1;
                None
            }
            Lifecycle::Started { incarnation } if *incarnation == life => Some(()),
            _ => None,
        })
        .await;
        assert_eq!(crashes, usize::from(life == 5), "life {life}");
    }
    supervisor.stop().await;
}
