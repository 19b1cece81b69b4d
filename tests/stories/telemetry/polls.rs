use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use tokio::time;
use underpin::{telemetry::PollError, testing::eventually};

use super::{service::supervised, telemetry};

const LONG: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn what_nobody_tells_is_looked_at_again_and_again() {
    let telemetry = telemetry();
    let supervisor = supervised(&telemetry).await;
    let looks = Arc::new(AtomicU64::new(0));
    let (own, queue) = (Arc::clone(&looks), telemetry.gauge("queue", &[]));
    let added = telemetry.poll("queue", Duration::from_secs(10), move || {
        own.fetch_add(1, Ordering::SeqCst);
        queue.set(7.0);
    });
    assert_eq!(added, Ok(()));
    let again = telemetry.poll("queue", LONG, || ());
    assert_eq!(again, Err(PollError::AlreadyExists { id: "queue".into() }));

    time::sleep(Duration::from_secs(95)).await;

    assert_eq!(telemetry.snapshot().gauge("queue", &[]), Some(7.0));
    let so_far = looks.load(Ordering::SeqCst);
    assert!((8..=10).contains(&so_far), "{so_far}");

    assert_eq!(telemetry.remove_poll("queue"), Ok(()));
    time::sleep(Duration::from_mins(1)).await;
    assert_eq!(looks.load(Ordering::SeqCst), so_far);
    assert_eq!(
        telemetry.remove_poll("queue"),
        Err(PollError::NotFound { id: "queue".into() })
    );
    supervisor.stop().await;
}

#[tokio::test]
async fn a_poll_that_panics_is_removed_and_the_service_lives_on() {
    let telemetry = telemetry();
    let supervisor = supervised(&telemetry).await;
    let service = telemetry.actor().map(|actor| actor.get_id());
    let added = telemetry.poll("broken", Duration::ZERO, || panic!("no figures"));
    assert_eq!(added, Ok(()));

    let failed = "underpin_telemetry_failed_polls";
    eventually("it is removed", async || {
        let _ = telemetry.refresh(LONG).await;
        telemetry.snapshot().counter(failed, &[]) == 1
    })
    .await;

    assert!(telemetry.remove_poll("broken").is_err());
    assert_eq!(telemetry.actor().map(|actor| actor.get_id()), service);
    supervisor.stop().await;
}

#[tokio::test]
async fn a_poll_that_hangs_holds_the_service_up_once_and_is_not_run_beside_itself() {
    let telemetry = telemetry();
    let supervisor = supervised(&telemetry).await;
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (may_go_on, turns) = (Mutex::new(may_go_on), Arc::new(AtomicU64::new(0)));
    let own = Arc::clone(&turns);
    let added = telemetry.poll("hung", Duration::ZERO, move || {
        own.fetch_add(1, Ordering::SeqCst);
        // Until the story lets it.
        let _ = may_go_on.lock().expect("one turn at a time").recv();
    });
    assert_eq!(added, Ok(()));

    telemetry
        .refresh(LONG)
        .await
        .expect("answers after a second");
    telemetry.refresh(LONG).await.expect("answers at once");

    assert_eq!(turns.load(Ordering::SeqCst), 1);
    let overdue = "underpin_telemetry_overdue_polls";
    assert!(telemetry.snapshot().counter(overdue, &[]) >= 2);
    drop(go_on);
    eventually("it has turns again", async || {
        let _ = telemetry.refresh(LONG).await;
        turns.load(Ordering::SeqCst) > 1
    })
    .await;
    supervisor.stop().await;
}

#[tokio::test]
async fn a_poll_that_panics_when_nobody_waits_for_it_any_more_is_removed_too() {
    let telemetry = telemetry();
    let supervisor = supervised(&telemetry).await;
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let added = telemetry.poll("late", Duration::ZERO, move || {
        // Until the story lets it.
        let _ = may_go_on.lock().expect("one turn").recv();
        panic!("no figures");
    });
    assert_eq!(added, Ok(()));

    telemetry
        .refresh(LONG)
        .await
        .expect("answers after a second");
    drop(go_on);

    let failed = "underpin_telemetry_failed_polls";
    eventually("it is counted", async || {
        telemetry.snapshot().counter(failed, &[]) == 1
    })
    .await;
    assert!(telemetry.remove_poll("late").is_err());
    supervisor.stop().await;
}

#[tokio::test]
async fn the_service_shows_what_its_runtime_does() {
    let telemetry = telemetry();
    let supervisor = supervised(&telemetry).await;

    telemetry.refresh(LONG).await.expect("answers");

    let tokio = telemetry.metrics_for("tokio");
    let gauge = |name: &str| tokio.gauge(name, &[]).expect("is shown");
    assert!(gauge("tokio_workers") >= 1.0);
    assert!(gauge("tokio_alive_tasks") >= 1.0);
    assert!(gauge("tokio_global_queue_depth") >= 0.0);
    assert!(tokio.get("tokio_busy_seconds", &[]).is_some());
    supervisor.stop().await;
}
