use std::time::Duration;

use underpin::otp::{
    Address, ChildCounts, ChildKind, ChildSpec, ChildState, Restart, Shutdown, StartOutcome,
    Supervisor, SupervisorError,
};
use underpin::ractor::{Actor, ActorProcessingErr, ActorRef};

use super::probe::{Do, LONG, Notes, broken, incarnation, lenient, probe, started};

fn counts(specs: usize, active: usize) -> ChildCounts {
    ChildCounts {
        specs,
        active,
        supervisors: 0,
        workers: specs,
    }
}

#[tokio::test]
async fn a01_the_life_of_a_child_from_start_to_delete() {
    let a = Address::new();
    let child = || probe("a", &a, &Notes::default());
    let supervisor = Supervisor::start(lenient("life")).await.expect("starts");
    let count = async || supervisor.count_children().await.expect("answers");

    assert_eq!(
        supervisor.start_child(child()).await,
        Ok(StartOutcome::Running)
    );
    assert_eq!(count().await, counts(1, 1));
    let again = supervisor.start_child(child()).await;
    assert_eq!(again, Err(SupervisorError::AlreadyStarted("a".into())));

    assert_eq!(supervisor.terminate_child("a").await, Ok(()));
    assert_eq!(supervisor.terminate_child("a").await, Ok(()));
    assert_eq!(count().await, counts(1, 0));
    let present = supervisor.start_child(child()).await;
    assert_eq!(present, Err(SupervisorError::AlreadyPresent("a".into())));

    assert_eq!(
        supervisor.restart_child("a").await,
        Ok(StartOutcome::Running)
    );
    let running = supervisor.restart_child("a").await;
    assert_eq!(running, Err(SupervisorError::Running("a".into())));
    let refused = supervisor.delete_child("a").await;
    assert_eq!(refused, Err(SupervisorError::Running("a".into())));

    assert_eq!(supervisor.terminate_child("a").await, Ok(()));
    assert_eq!(supervisor.delete_child("a").await, Ok(()));
    assert_eq!(count().await, counts(0, 0));
    assert_eq!(
        supervisor.start_child(child()).await,
        Ok(StartOutcome::Running)
    );
    supervisor.stop().await;
}

#[tokio::test]
async fn a02_unknown_ids_and_a_stopped_supervisor_are_errors_not_hangs() {
    let supervisor = Supervisor::start(lenient("unknown")).await.expect("starts");
    let not_found = Err(SupervisorError::NotFound("x".into()));

    assert_eq!(supervisor.terminate_child("x").await, not_found);
    assert_eq!(supervisor.delete_child("x").await, not_found);
    assert_eq!(supervisor.restart_child("x").await.map(drop), not_found);
    assert!(supervisor.child_spec("x").await.is_err());
    supervisor.stop().await;

    assert_eq!(
        supervisor.which_children().await,
        Err(SupervisorError::Down)
    );
    assert_eq!(
        supervisor.terminate_child("x").await,
        Err(SupervisorError::Down)
    );
}

#[tokio::test]
async fn a08_children_are_listed_in_start_order() {
    let notes = Notes::default();
    let (a, b) = (Address::new(), Address::new());
    let spec = lenient("listed")
        .child(probe("b", &b, &notes))
        .child(probe("a", &a, &notes));
    let supervisor = Supervisor::start(spec).await.expect("starts");

    let children = supervisor.which_children().await.expect("answers");

    let ids: Vec<&str> = children.iter().map(|child| &*child.id).collect();
    assert_eq!(ids, ["b", "a"]);
    supervisor.stop().await;
}

#[tokio::test]
async fn s08_a_start_that_fails_is_tried_once_and_forgotten() {
    let supervisor = Supervisor::start(lenient("once")).await.expect("starts");
    let notes = Notes::default();
    let tries = notes.clone();
    let failing = ChildSpec::actor("f", &Address::new(), move |_| {
        tries.add("try");
        broken("broken")
    });

    let refused = supervisor.start_child(failing).await.expect_err("fails");

    assert!(refused.to_string().contains("broken"), "{refused}");
    assert_eq!(notes.take(), ["try"]);
    assert_eq!(supervisor.count_children().await, Ok(counts(0, 0)));
    supervisor.stop().await;
}

#[tokio::test]
async fn s09_a_restart_on_request_that_fails_keeps_the_spec() {
    let supervisor = Supervisor::start(lenient("keep")).await.expect("starts");
    let a = Address::new();
    let once = ChildSpec::actor("a", &a, |ctx| {
        assert!(ctx.incarnation() == 1, "only once");
        (super::probe::Probe::default(), ())
    });
    supervisor.start_child(once).await.expect("starts once");
    supervisor.terminate_child("a").await.expect("known");

    let refused = supervisor.restart_child("a").await.expect_err("fails");

    assert!(refused.to_string().contains("only once"), "{refused}");
    let children = supervisor.which_children().await.expect("answers");
    assert_eq!(children[0].state, ChildState::Stopped);
    supervisor.stop().await;
}

#[tokio::test]
async fn s10_a_spec_reads_back_with_its_defaults() {
    let inner = ChildSpec::supervisor(lenient("inner"));
    let spec = lenient("defaults")
        .child(probe("a", &Address::new(), &Notes::default()))
        .child(inner);
    let supervisor = Supervisor::start(spec).await.expect("starts");

    let worker = supervisor.child_spec("a").await.expect("known");
    let nested = supervisor.child_spec("inner").await.expect("known");

    assert_eq!((worker.id(), worker.kind()), ("a", ChildKind::Actor));
    assert_eq!(worker.get_restart(), Restart::Permanent);
    assert_eq!(worker.get_shutdown(), Shutdown::WORKER);
    assert!(!worker.is_significant());
    assert_eq!(nested.kind(), ChildKind::Supervisor);
    assert_eq!(nested.get_shutdown(), Shutdown::Infinity);
    supervisor.stop().await;
}

#[tokio::test]
async fn s11_two_children_with_one_id_are_refused_before_anything_starts() {
    let notes = Notes::default();
    let (a, b) = (Address::new(), Address::new());
    let spec = lenient("double")
        .child(probe("a", &a, &notes))
        .child(probe("a", &b, &notes));

    let refused = Supervisor::start(spec).await.expect_err("two of one id");

    assert!(matches!(refused, SupervisorError::Invalid(_)), "{refused}");
    assert_eq!(notes.take(), [""; 0]);
}

#[tokio::test]
async fn ids_that_would_break_a_path_are_refused() {
    let supervisor = Supervisor::start(lenient("ids")).await.expect("starts");
    for id in ["", "a/b"] {
        let child = ChildSpec::task(id, |_| async { Ok(()) });
        let refused = supervisor.start_child(child).await;
        assert!(matches!(refused, Err(SupervisorError::Invalid(_))));
    }
    supervisor.stop().await;
}

#[tokio::test]
async fn i11_administration_does_not_count_against_the_intensity() {
    let a = Address::new();
    let spec = super::probe::strict("admin", 0).child(probe("a", &a, &Notes::default()));
    let supervisor = Supervisor::start(spec).await.expect("starts");

    for _ in 0..100 {
        supervisor.terminate_child("a").await.expect("known");
        supervisor.restart_child("a").await.expect("stopped");
    }

    assert!(supervisor.is_running());
    supervisor.stop().await;
}

#[tokio::test]
async fn a12_a_child_killed_or_unlinked_behind_the_supervisors_back_is_seen() {
    let a = Address::new();
    let supervisor = Supervisor::start(lenient("behind").child(probe("a", &a, &Notes::default())))
        .await
        .expect("starts");
    let mut reports = supervisor.reports().expect("runs");

    a.actor().expect("runs").kill();
    started(&mut reports, "behind/a", 2).await;
    let child = a.actor().expect("runs");
    let parent = supervisor.actor().expect("runs");
    child.unlink(parent);
    child.stop(None);
    started(&mut reports, "behind/a", 3).await;

    assert_eq!(incarnation(&a).await, 3);
    supervisor.stop().await;
}

/// Asks its own supervisor for something while it starts.
struct Impatient(Supervisor, Notes);

impl Actor for Impatient {
    type Msg = Do;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Do>, (): ()) -> Result<(), ActorProcessingErr> {
        let answer = self.0.which_children().await;
        self.1.add(format!("{answer:?}"));
        Ok(())
    }
}

#[tokio::test]
async fn a13_a_start_that_calls_its_own_supervisor_gets_an_error_not_a_deadlock() {
    let supervisor = Supervisor::start(lenient("self")).await.expect("starts");
    let notes = Notes::default();
    let (own, seen) = (supervisor.clone(), notes.clone());
    let child = ChildSpec::actor("a", &Address::new(), move |_| {
        (Impatient(own.clone(), seen.clone()), ())
    });

    let started = tokio::time::timeout(LONG, supervisor.start_child(child)).await;

    assert_eq!(started, Ok(Ok(StartOutcome::Running)));
    assert_eq!(notes.take(), ["Err(CallingSelf)"]);
    supervisor.stop().await;
}

#[tokio::test]
async fn terminating_a_temporary_child_forgets_it() {
    let a = Address::new();
    let child = probe("a", &a, &Notes::default())
        .restart(Restart::Temporary)
        .shutdown(Shutdown::Timeout(Duration::from_secs(1)));
    let supervisor = Supervisor::start(lenient("temporary").child(child))
        .await
        .expect("starts");

    supervisor.terminate_child("a").await.expect("known");

    assert_eq!(supervisor.count_children().await, Ok(counts(0, 0)));
    supervisor.stop().await;
}
