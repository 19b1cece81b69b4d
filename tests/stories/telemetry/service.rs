use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{task, time};
use underpin::{
    otp::{AddressStatus, Intensity, NotSent, Supervisor, SupervisorSpec},
    telemetry::{Definition, Distribution, EventName, Options, Part, Telemetry, Track},
    testing::eventually,
};

use super::telemetry;

const LONG: Duration = Duration::from_secs(10);

pub(super) async fn supervised(telemetry: &Telemetry) -> Supervisor {
    let intensity = Intensity::new(100, Duration::from_secs(1));
    let spec = SupervisorSpec::new("node", intensity).child(telemetry.child_spec());
    Supervisor::start(spec).await.expect("starts")
}

/// Kills the service and waits until its successor answers.
async fn crash(telemetry: &Telemetry) {
    let actor = telemetry.actor().expect("runs");
    actor.kill();
    actor.wait(None).await.expect("ends");
    telemetry.refresh(LONG).await.expect("answers again");
    assert_ne!(
        telemetry.actor().map(|actor| actor.get_id()),
        Some(actor.get_id())
    );
}

#[tokio::test]
async fn f78_counting_and_executing_work_without_the_service() {
    static SOLD: EventName = EventName::from_static(&["shop", "sold"]);
    let telemetry = telemetry();
    let sold = telemetry.counter("sold", &[]);
    telemetry
        .attach("count", &SOLD, sold, |_, sold| sold.inc())
        .expect("attached");

    telemetry.execute(&SOLD, &[], &[]);

    assert_eq!(telemetry.snapshot().counter("sold", &[]), 1);
    assert_eq!(telemetry.status(), AddressStatus::Vacant);
    let asked = telemetry.refresh(Duration::from_millis(1)).await;
    assert_eq!(asked, Err(NotSent::Down.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f104_what_is_counted_while_the_service_is_killed_in_the_middle_of_its_work_is_exact() {
    static DONE: EventName = EventName::from_static(&["job", "done"]);
    let telemetry = telemetry();
    let defined = telemetry.define("jobs", [Definition::counter("jobs_executed", &DONE)]);
    assert_eq!(defined, Ok(()));
    let supervisor = supervised(&telemetry).await;
    let stop = Arc::new(AtomicBool::new(false));
    let threads = (0..4).map(|_| {
        let (telemetry, stop) = (telemetry.clone(), Arc::clone(&stop));
        task::spawn_blocking(move || {
            let (done, wait) = (
                telemetry.counter("jobs_done", &[]),
                telemetry.histogram("wait_seconds", &[]),
            );
            let mut times = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                done.inc();
                wait.record(1.0);
                telemetry.execute(&DONE, &[], &[]);
                times += 1;
            }
            times
        })
    });
    let threads: Vec<_> = threads.collect();
    let jobs = || telemetry.snapshot().counter("jobs_done", &[]);

    let mut seen = 0;
    for _ in 0..5 {
        // It sweeps, polls and adds to its history when it is killed.
        let (asking, service) = (telemetry.clone(), telemetry.actor().expect("runs"));
        let asked = tokio::spawn(async move { asking.refresh(LONG).await });
        eventually("they go on", async || jobs() > seen).await;
        seen = jobs();
        service.kill();
        // Answered just before, or not at all.
        let _ = asked.await.expect("ends");
        eventually("another one", async || {
            telemetry.refresh(LONG).await.is_ok()
        })
        .await;
        eventually("they go on", async || jobs() > seen).await;
        seen = jobs();
    }
    stop.store(true, Ordering::Relaxed);
    let mut counted = 0;
    for thread in threads {
        counted += thread.await.expect("ends well");
    }

    let snapshot = telemetry.snapshot();
    assert_eq!(snapshot.counter("jobs_done", &[]), counted);
    assert_eq!(snapshot.counter("jobs_executed", &[]), counted);
    let wait = snapshot.histogram("wait_seconds", &[]);
    assert_eq!(wait.map(Distribution::count), Some(counted));
    let life = supervisor.tree().expect("runs");
    let life = life.find("node/telemetry").expect("is there");
    assert!(life.incarnation >= 6);
    supervisor.stop().await;
}

#[tokio::test]
async fn a_restarted_service_keeps_handlers_and_history() {
    static SOLD: EventName = EventName::from_static(&["shop", "sold"]);
    let telemetry = telemetry();
    telemetry
        .attach("count", &SOLD, (), |_, ()| ())
        .expect("attached");
    telemetry.gauge("queue", &[]).set(1.0);
    let supervisor = supervised(&telemetry).await;
    telemetry.refresh(LONG).await.expect("answers");
    let before = telemetry.history("queue")[0].points.len();

    crash(&telemetry).await;

    assert_eq!(telemetry.list_handlers(&[]).len(), 1);
    assert!(telemetry.history("queue")[0].points.len() > before);
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn f89_only_what_is_idle_for_longer_than_the_retention_goes() {
    let telemetry = telemetry();
    let supervisor = supervised(&telemetry).await;
    let kept = telemetry.gauge("kept", &[]);
    kept.set(1.0);
    telemetry.gauge("idle", &[]).set(1.0);
    telemetry.histogram("idle_seconds", &[]).record(1.0);
    telemetry.counter("counted", &[]).inc();
    let busy = telemetry.gauge("busy", &[]);
    telemetry.refresh(LONG).await.expect("answers");
    let shown = |name: &str| telemetry.snapshot().get(name, &[]).is_some();

    // One second younger than the retention: still there.
    time::advance(Duration::from_secs(299)).await;
    busy.set(2.0);
    telemetry.refresh(LONG).await.expect("answers");
    assert!(shown("idle") && shown("idle_seconds") && shown("kept"));

    time::advance(Duration::from_secs(2)).await;
    telemetry.refresh(LONG).await.expect("answers");
    assert!(!shown("idle") && !shown("idle_seconds") && !shown("kept"));
    assert!(shown("counted") && shown("busy"));

    // One that somebody still has a handle to comes back as soon as it is written to.
    kept.set(1.0);
    assert_eq!(telemetry.snapshot().gauge("kept", &[]), Some(1.0));
    // A forgotten name is free again, for another kind too.
    telemetry.counter("idle", &[]).inc();
    assert_eq!(telemetry.snapshot().counter("idle", &[]), 1);
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn f89_a_histogram_with_a_handle_keeps_its_values_while_it_is_hidden() {
    let telemetry = telemetry();
    let supervisor = supervised(&telemetry).await;
    let wait = telemetry.histogram("wait_seconds", &[]);
    wait.record(1.0);
    telemetry.refresh(LONG).await.expect("answers");
    time::advance(Options::default().retention + Duration::from_secs(1)).await;
    telemetry.refresh(LONG).await.expect("answers");
    assert!(telemetry.snapshot().get("wait_seconds", &[]).is_none());

    wait.record(1.0);

    assert_eq!(
        telemetry
            .snapshot()
            .histogram("wait_seconds", &[])
            .map(Distribution::count),
        Some(2)
    );
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_history_takes_a_point_each_second_and_holds_ten_minutes() {
    let telemetry = telemetry();
    let queue = telemetry.gauge("queue", &[]);
    let wait = telemetry.histogram("wait_seconds", &[]);
    let supervisor = supervised(&telemetry).await;
    queue.set(4.0);
    wait.record(0.5);

    time::sleep(Duration::from_millis(59_500)).await;
    let minute = telemetry.history("queue")[0].points.len();
    assert!((59..=61).contains(&minute), "{minute}");
    let parts: Vec<Part> = telemetry
        .history("wait_seconds")
        .iter()
        .map(|track| track.part)
        .collect();
    assert_eq!(parts, [Part::Count, Part::Sum]);

    for _ in 0..20 {
        queue.set(5.0);
        time::sleep(Duration::from_mins(1)).await;
    }
    assert_eq!(telemetry.history("queue")[0].points.len(), 600);
    supervisor.stop().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_service_shows_what_the_process_uses() {
    let telemetry = telemetry();
    let supervisor = supervised(&telemetry).await;

    telemetry.refresh(LONG).await.expect("answers");

    let process = telemetry.metrics_for("process");
    let gauge = |name: &str| process.gauge(name, &[]).expect("is shown");
    assert!(gauge("process_resident_memory_bytes") > 100_000.0);
    assert!(gauge("process_threads") >= 1.0);
    assert!(gauge("process_open_fds") >= 3.0);
    assert!(gauge("process_start_time_seconds") > 1.7e9);
    assert!(process.get("process_cpu_seconds_total", &[]).is_some());
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_history_is_plain_data_that_reads_back_whatever_its_numbers_are() {
    let telemetry = telemetry();
    telemetry.gauge("limit", &[]).set(f64::INFINITY);
    let supervisor = supervised(&telemetry).await;
    telemetry.refresh(LONG).await.expect("answers");

    let history = telemetry.history("limit");
    let text = serde_json::to_string(&history).expect("serializes");
    let back: Vec<Track> = serde_json::from_str(&text).expect("reads back");

    assert_eq!(back, history);
    assert!(back[0].points[0].1.is_infinite());
    supervisor.stop().await;
}

/// The service panicked at each start, since no clock reaches that far, and took its supervisor along.
#[tokio::test]
async fn intervals_without_end_are_ones_that_never_pass() {
    let telemetry = Telemetry::new(Options {
        retention: Duration::MAX,
        sweep_every: Duration::MAX,
        history_every: Duration::MAX,
        process_every: Duration::MAX,
        ..Options::default()
    });
    let supervisor = supervised(&telemetry).await;
    let looks = telemetry.counter("looks", &[]);
    let own = looks.clone();
    telemetry
        .poll("once", Duration::MAX, move || own.inc())
        .expect("the id is free");
    let service = telemetry.actor().map(|actor| actor.get_id());

    for _ in 0..2 {
        telemetry.refresh(LONG).await.expect("it lives");
    }

    assert!(looks.value() >= 2);
    assert_eq!(telemetry.actor().map(|actor| actor.get_id()), service);
    supervisor.stop().await;
}
