use std::{thread, time::Duration};

use tokio::time;
use underpin::telemetry::{Distribution, Kind, Options, Telemetry};

use super::{service::supervised, telemetry};

#[test]
fn what_other_crates_count_through_the_facade_is_counted_here() {
    let telemetry = telemetry();
    metrics::with_local_recorder(&telemetry.metrics_recorder(), || {
        metrics::describe_counter!("http-requests", "Requests served.");
        metrics::counter!("http-requests", "method" => "get", "le" => "x").increment(2);
        metrics::counter!("http-requests", "method" => "get", "le" => "x").increment(1);
        metrics::gauge!("queue").set(5.0);
        metrics::gauge!("queue").increment(2.0);
        metrics::gauge!("queue").decrement(1.0);
        metrics::histogram!("wait.seconds").record(0.5);
        metrics::histogram!("wait.seconds").record_many(1.5, 3);
        // Another kind than it is: counted, refused, and shown nowhere.
        metrics::gauge!("http-requests").set(1.0);
    });

    let snapshot = telemetry.snapshot();
    let labels = &[("method", "get"), ("le_", "x")];
    assert_eq!(snapshot.counter("http_requests", labels), 3);
    assert_eq!(snapshot.gauge("queue", &[]), Some(6.0));
    let wait = snapshot.histogram("wait_seconds", &[]);
    assert_eq!(
        wait.map(|wait| (wait.count(), wait.sum().to_bits())),
        Some((4, 5.0_f64.to_bits()))
    );
    let described = &telemetry.descriptions("http_requests")[0];
    assert_eq!(
        (described.kind, &*described.help),
        (Kind::Counter, "Requests served.")
    );
    assert_eq!(
        snapshot.counter("underpin_telemetry_refused_metrics", &[]),
        1
    );
}

#[test]
fn a_counter_that_is_set_never_falls_and_is_set_once() {
    let telemetry = telemetry();
    let recorder = telemetry.metrics_recorder();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                metrics::with_local_recorder(&recorder, || {
                    for total in [10, 500, 20, 1000] {
                        metrics::counter!("requests").absolute(total);
                    }
                });
            });
        }
    });
    assert_eq!(telemetry.snapshot().counter("requests", &[]), 1000);
}

#[test]
fn f81_what_many_threads_count_through_the_facade_is_exact() {
    let telemetry = telemetry();
    let recorder = telemetry.metrics_recorder();
    thread::scope(|scope| {
        for n in 0..20 {
            let recorder = &recorder;
            scope.spawn(move || {
                metrics::with_local_recorder(recorder, || {
                    for _ in 0..200 {
                        metrics::counter!("requests", "half" => (n % 2).to_string()).increment(1);
                        metrics::histogram!("wait").record(1.0);
                    }
                });
            });
        }
    });
    let snapshot = telemetry.snapshot();
    assert_eq!(snapshot.counter("requests", &[("half", "0")]), 2_000);
    assert_eq!(
        snapshot.histogram("wait", &[]).map(Distribution::count),
        Some(4_000)
    );
}

#[tokio::test(start_paused = true)]
async fn f89_a_gauge_of_the_facade_that_is_idle_makes_room() {
    let telemetry = Telemetry::new(Options {
        series_max: 1,
        ..Options::default()
    });
    let supervisor = supervised(&telemetry).await;
    let recorder = telemetry.metrics_recorder();
    let set = |place: &'static str| {
        metrics::with_local_recorder(&recorder, || {
            metrics::gauge!("queue", "place" => place).set(1.0);
        });
    };
    let long = Duration::from_secs(10);
    set("here");
    telemetry.refresh(long).await.expect("answers");
    time::advance(Options::default().retention + Duration::from_secs(1)).await;
    telemetry.refresh(long).await.expect("answers");

    set("there");

    let shown = |place| telemetry.snapshot().gauge("queue", &[("place", place)]);
    assert_eq!((shown("here"), shown("there")), (None, Some(1.0)));
    supervisor.stop().await;
}
