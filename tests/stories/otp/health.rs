//! A child that is alive and hangs counts as crashed; one that works, however long it idles, does not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};

use tokio::sync::oneshot;
use underpin::{
    otp::{
        Address, ChildSpec, ChildState, DynamicSupervisorSpec, ExitReason, HealthProbe, Intensity,
        Lifecycle, Restart, StopKind, Supervisor, SupervisorError,
    },
    testing::eventually,
};

use super::probe::{Do, LONG, Notes, incarnation, lenient, probe, report, started};

const SECOND: Duration = Duration::from_secs(1);

async fn watched(id: &str, health: HealthProbe) -> (Supervisor, Address<Do>) {
    let a = Address::new();
    let child = probe("a", &a, &Notes::default()).health(health);
    let supervisor = Supervisor::start(lenient(id).child(child)).await;
    (supervisor.expect("starts"), a)
}

#[tokio::test(start_paused = true)]
async fn a_child_that_hangs_in_one_message_is_restarted_as_unhealthy() {
    let (supervisor, a) = watched("hangs", HealthProbe::busy(SECOND)).await;
    let mut reports = supervisor.reports().expect("runs");
    let life = a.monitor();
    let begin = tokio::time::Instant::now();

    a.send(Do::SleepForEver).expect("runs");

    let down = life.down().await;
    assert!(
        matches!(down.reason, ExitReason::Unhealthy(_)),
        "{}",
        down.reason
    );
    assert!(begin.elapsed() >= SECOND && begin.elapsed() <= SECOND * 2);
    assert_eq!(incarnation(&a).await, 2);
    let reason = report(&mut reports, |report| match &report.what {
        Lifecycle::Exited { reason, .. } => Some(reason.to_string()),
        _ => None,
    })
    .await;
    assert_eq!(reason, "unhealthy: one message took longer than 1s");
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_that_idles_or_works_through_many_messages_is_healthy() {
    let (supervisor, a) = watched("works", HealthProbe::busy(SECOND)).await;

    tokio::time::sleep(SECOND * 100).await;
    for _ in 0..20 {
        let work = tokio::time::sleep(SECOND / 2);
        a.send(Do::Await(Box::pin(work))).expect("runs");
    }
    tokio::time::sleep(SECOND * 15).await;

    assert_eq!(incarnation(&a).await, 1);
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_that_does_not_answer_its_check_in_time_is_restarted() {
    let a = Address::<Do>::new();
    let asked = a.clone();
    let answers = HealthProbe::ask(SECOND * 10, SECOND, move || {
        let asked = asked.clone();
        async move { asked.call(Do::Total, LONG).await.is_ok() }
    });
    let child = probe("a", &a, &Notes::default()).health(answers);
    let supervisor = Supervisor::start(lenient("asked").child(child))
        .await
        .expect("starts");
    tokio::time::sleep(SECOND * 100).await;
    assert_eq!(incarnation(&a).await, 1);
    let life = a.monitor();

    a.send(Do::SleepForEver).expect("runs");

    let reason = life.down().await.reason;
    assert_eq!(
        reason.to_string(),
        "unhealthy: its health check took longer than 1s"
    );
    assert_eq!(incarnation(&a).await, 2);
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_check_that_says_no_or_panics_is_as_bad_as_none() {
    let looks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&looks);
    let check = HealthProbe::ask(SECOND, SECOND, move || {
        let look = counted.fetch_add(1, SeqCst);
        async move {
            assert!(look != 1, "the check itself is broken");
            look != 0
        }
    });
    let task = ChildSpec::task("a", |ctx| async move {
        ctx.cancelled().await;
        Ok(())
    });
    let spec = lenient("no").child(task.health(check));
    let supervisor = Supervisor::start(spec).await.expect("starts");
    let mut reports = supervisor.reports().expect("runs");
    let mut exit = async || {
        report(&mut reports, |report| match &report.what {
            Lifecycle::Exited { reason, .. } => Some(reason.to_string()),
            _ => None,
        })
        .await
    };

    assert_eq!(exit().await, "unhealthy: its health check failed");
    assert_eq!(exit().await, "unhealthy: its health check panicked");
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(supervisor.tree().expect("runs").children[0].incarnation, 3);
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_unhealthy_temporary_child_is_forgotten() {
    let a = Address::new();
    let child = probe("a", &a, &Notes::default())
        .restart(Restart::Temporary)
        .health(HealthProbe::busy(SECOND));
    let supervisor = Supervisor::start(lenient("once").child(child))
        .await
        .expect("starts");
    let life = a.monitor();

    a.send(Do::SleepForEver).expect("runs");

    assert!(matches!(life.down().await.reason, ExitReason::Unhealthy(_)));
    eventually("it is forgotten", async || {
        supervisor.count_children().await.expect("answers").specs == 0
    })
    .await;
    supervisor.stop().await;
}

/// One that blocks its thread cannot be killed. It must not get a successor beside it; and it must not stay away for ever when
/// the thread is free again.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_child_that_blocks_its_thread_is_leaked_and_restarted_when_it_has_ended_after_all() {
    let (supervisor, a) = watched("blocks", HealthProbe::busy(SECOND / 20)).await;
    let mut reports = supervisor.reports().expect("runs");
    let (release, until) = mpsc::channel::<()>();
    let (begun, blocked) = oneshot::channel();

    a.send(Do::BlockThread(begun, until)).expect("runs");
    blocked.await.expect("blocks now");
    let how = report(&mut reports, |report| match &report.what {
        Lifecycle::Stopped { how, .. } => Some(*how),
        _ => None,
    })
    .await;
    assert_eq!(how, StopKind::Leaked);
    eventually("it shows", async || {
        let children = supervisor.which_children().await.expect("answers");
        children[0].state == ChildState::Leaked
    })
    .await;
    let refused = supervisor.restart_child("a").await.map(drop);
    assert_eq!(refused, Err(SupervisorError::Leaked("a".into())));
    drop(release);

    started(&mut reports, "blocks/a", 2).await;
    assert_eq!(incarnation(&a).await, 2);
    supervisor.stop().await;
}

/// It was told as stopped and as exited, and counted twice.
#[tokio::test(start_paused = true)]
async fn a_child_that_hangs_and_is_killed_is_told_to_have_exited_and_nothing_else() {
    let (fixed, many) = (Address::new(), Address::new());
    let hangs = |at| probe("a", at, &Notes::default()).health(HealthProbe::busy(SECOND));
    let spec = DynamicSupervisorSpec::new("many", Intensity::new(9, SECOND));
    let dynamic = spec.handle();
    let root = lenient("root")
        .child(hangs(&fixed))
        .child(spec.child_spec());
    let root = Supervisor::start(root).await.expect("starts");
    dynamic.start_child(hangs(&many)).await.expect("starts");

    for (at, path) in [(fixed, "root/a"), (many, "root/many/a#1")] {
        let mut reports = root.reports().expect("runs");
        let life = at.monitor();
        at.send(Do::SleepForEver).expect("runs");
        let mut told = Vec::new();
        report(&mut reports, |report| {
            assert_eq!(&*report.path, path);
            told.push(report.what.clone());
            matches!(report.what, Lifecycle::Started { .. }).then_some(())
        })
        .await;

        let reason = life.down().await.reason;
        assert!(matches!(reason, ExitReason::Unhealthy(_)), "{reason}");
        let exited = Lifecycle::Exited {
            incarnation: 1,
            reason,
        };
        let again = Lifecycle::Restarting {
            after: Duration::ZERO,
            slow: false,
        };
        let started = Lifecycle::Started { incarnation: 2 };
        assert_eq!(told, [exited, again, started]);
    }
    root.stop().await;
}
