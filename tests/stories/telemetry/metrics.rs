use std::thread;

use underpin::telemetry::{
    Distribution, Format, Kind, MetricError, Options, Reading, Snapshot, Telemetry,
};

use super::telemetry;

const OVERFLOW: &[(&str, &str)] = &[("otel_metric_overflow", "true")];

fn narrow(series_max: usize) -> Telemetry {
    Telemetry::new(Options {
        series_max,
        ..Options::default()
    })
}

#[test]
fn f80_counting_is_exact() {
    let telemetry = telemetry();
    let done = telemetry.counter("jobs_done", &[("queue", "mail")]);
    (0..200).for_each(|_| done.inc());
    assert_eq!(
        telemetry
            .snapshot()
            .counter("jobs_done", &[("queue", "mail")]),
        200
    );
}

#[test]
fn a_series_is_found_by_its_labels_as_they_were_given() {
    let telemetry = telemetry();
    let labels = [("http.method", "get")];
    telemetry.counter("http.requests", &labels).inc();
    let snapshot = telemetry.snapshot();
    assert_eq!(snapshot.counter("http.requests", &labels), 1);
    assert_eq!(
        snapshot.counter("http_requests", &[("http_method", "get")]),
        1
    );
}

#[test]
fn f81_tasks_that_count_and_look_up_at_the_same_time_lose_nothing() {
    let telemetry = telemetry();
    thread::scope(|scope| {
        for thread in 0..20 {
            let telemetry = &telemetry;
            scope.spawn(move || {
                for _ in 0..50 {
                    telemetry
                        .counter(
                            "jobs_done",
                            &[("half", if thread % 2 == 0 { "even" } else { "odd" })],
                        )
                        .inc();
                    telemetry.histogram("wait_seconds", &[]).record(1.0);
                }
            });
        }
        scope.spawn(|| (0..50).for_each(|_| drop(telemetry.snapshot())));
    });
    let snapshot = telemetry.snapshot();
    assert_eq!(snapshot.counter("jobs_done", &[("half", "even")]), 500);
    assert_eq!(snapshot.counter("jobs_done", &[("half", "odd")]), 500);
    assert_eq!(
        snapshot
            .histogram("wait_seconds", &[])
            .map(Distribution::count),
        Some(1000)
    );
}

#[test]
fn f82_a_gauge_shows_the_last_value() {
    let telemetry = telemetry();
    let queue = telemetry.gauge("queue", &[]);
    for value in [10.0, 10.0 * 7.0, -999_999.0, 0.5] {
        queue.set(value);
        assert_eq!(telemetry.snapshot().gauge("queue", &[]), Some(value));
    }
}

#[test]
fn f84_a_bad_metric_is_an_error_or_a_handle_that_is_not_shown() {
    let telemetry = telemetry();

    let refused = telemetry
        .try_histogram("not a name", &[])
        .expect_err("bad name");
    assert!(
        refused.to_string().contains("use 1 to 200 letters"),
        "{refused}"
    );
    assert!(telemetry.try_counter("jobs", &[("le", "x")]).is_err());

    telemetry.counter("not a name", &[]).inc();
    telemetry.gauge("", &[]).set(1.0);
    telemetry.histogram("jobs", &[("a b", "")]).record(1.0);
    let snapshot = telemetry.snapshot();
    assert_eq!(
        snapshot.counter("underpin_telemetry_refused_metrics", &[]),
        3
    );
    assert!(snapshot.get("jobs", &[]).is_none());
}

#[test]
fn f84_a_name_has_one_type() {
    let telemetry = telemetry();
    telemetry.counter("jobs", &[]).inc();
    let other = telemetry.try_gauge("jobs", &[("queue", "mail")]);
    assert_eq!(
        other.err(),
        Some(MetricError::OtherKind {
            name: "jobs".into(),
            is: Kind::Counter,
            wanted: Kind::Gauge
        })
    );
}

#[test]
fn two_metrics_never_write_the_same_line() {
    let telemetry = telemetry();
    telemetry.histogram("wait_seconds", &[]).record(1.0);
    telemetry.gauge("open_total", &[]).set(1.0);

    let count = telemetry
        .try_gauge("wait_seconds_count", &[])
        .expect_err("a histogram's line");
    assert!(
        count
            .to_string()
            .contains("which metric `wait_seconds` uses already"),
        "{count}"
    );
    assert!(matches!(
        telemetry.try_counter("open", &[]),
        Err(MetricError::Clash { .. })
    ));
    assert!(telemetry.try_gauge("wait", &[]).is_ok());
}

#[test]
fn f85_the_snapshot_is_plain_data_that_reads_back() {
    let telemetry = telemetry();
    telemetry.counter("jobs_done", &[("queue", "mail")]).add(3);
    telemetry.gauge("queue", &[]).set(-2.5);
    telemetry.histogram("wait_seconds", &[]).record(0.25);
    telemetry
        .describe(
            Kind::Counter,
            "jobs_done_total",
            &["queue"],
            "Jobs that are done.",
        )
        .expect("good name");

    let snapshot = telemetry.snapshot();
    let text = serde_json::to_string(&snapshot).expect("serializes");
    let back: underpin::telemetry::Snapshot = serde_json::from_str(&text).expect("reads back");

    assert_eq!(back, snapshot);
    assert!(snapshot.unix_ms > 0);
    let names: Vec<&str> = snapshot
        .families
        .iter()
        .map(|family| family.name.as_str())
        .collect();
    assert!(names.is_sorted(), "{names:?}");
    assert!(matches!(
        back.get("wait_seconds", &[]),
        Some(Reading::Histogram(_))
    ));
    let done = back.metrics_for("jobs").families;
    assert_eq!(done[0].help.as_deref(), Some("Jobs that are done."));
}

#[test]
fn f85_numbers_that_are_not_finite_are_words_in_json_and_read_back() {
    let telemetry = telemetry();
    let words = [
        ("high", f64::INFINITY, "\"+Inf\""),
        ("low", f64::NEG_INFINITY, "\"-Inf\""),
        ("none", f64::NAN, "\"NaN\""),
        ("whole", 3.0, "3.0"),
    ];
    for (name, value, _) in words {
        telemetry.gauge(name, &[]).set(value);
    }
    telemetry.histogram("much", &[]).record_many(f64::MAX, 2);

    let text = serde_json::to_string(&telemetry.snapshot()).expect("serializes");
    let back: Snapshot = serde_json::from_str(&text).expect("reads back");

    for (name, value, word) in words {
        let written = format!("\"gauge\":{word}");
        assert!(text.contains(&written), "{written} is not in {text}");
        let read = back.gauge(name, &[]).expect("is there");
        assert_eq!(read.to_bits(), value.to_bits(), "{name}");
    }
    let much = back.histogram("much", &[]).map(Distribution::sum);
    assert_eq!(much, Some(f64::INFINITY));
    let other = text.replace("+Inf", "infinite");
    assert!(serde_json::from_str::<Snapshot>(&other).is_err());
}

#[test]
fn f90_a_metric_may_be_a_prefix_of_another() {
    let telemetry = telemetry();
    telemetry.counter("shop", &[]).add(1);
    telemetry.counter("shop.sold", &[]).add(2);
    telemetry.gauge("shop.sold.last", &[]).set(3.0);
    telemetry.counter("shopping", &[]).add(4);

    let shop = telemetry.metrics_for("shop");

    assert_eq!(
        (shop.counter("shop", &[]), shop.counter("shop.sold", &[])),
        (1, 2)
    );
    assert_eq!(shop.gauge("shop_sold_last", &[]), Some(3.0));
    assert_eq!(shop.families.len(), 3);
    assert_eq!(
        telemetry.snapshot().metrics_for("shop").families,
        shop.families
    );
}

#[test]
fn label_sets_that_do_not_fit_count_in_the_overflow_series() {
    let telemetry = narrow(100);
    let labelled = |n: u32| telemetry.counter("hits", &[("path", &n.to_string())]);
    for n in 0..1_000 {
        labelled(n).inc();
    }
    labelled(7).inc();

    let snapshot = telemetry.snapshot();
    let series = &snapshot.metrics_for("hits").families[0].series;
    assert_eq!(series.len(), 101);
    assert_eq!(snapshot.counter("hits", &[("path", "7")]), 2);
    assert_eq!(snapshot.counter("hits", OVERFLOW), 900);
    assert_eq!(snapshot.counter("underpin_telemetry_overflowed", &[]), 900);
}

#[test]
fn a_label_value_that_is_too_long_counts_in_the_overflow_series() {
    let telemetry = telemetry();
    telemetry
        .counter("hits", &[("path", &"x".repeat(1024))])
        .inc();
    telemetry
        .counter("hits", &[("path", &"x".repeat(1025))])
        .inc();
    assert_eq!(telemetry.snapshot().counter("hits", OVERFLOW), 1);
}

#[test]
fn metric_names_have_a_limit_too() {
    let telemetry = Telemetry::new(Options {
        names_max: 20,
        ..Options::default()
    });
    let made: Vec<bool> = (0..40)
        .map(|n| telemetry.try_counter(&format!("metric_{n}"), &[]).is_ok())
        .collect();
    assert!(made[0] && !made[39]);
    let refused = telemetry.try_counter("one_more", &[]).expect_err("full");
    assert!(
        refused.to_string().contains("put what varies into labels"),
        "{refused}"
    );
    assert!(
        telemetry
            .try_counter("metric_0", &[("any", "label")])
            .is_ok()
    );
}

#[test]
fn label_order_does_not_make_another_series() {
    let telemetry = telemetry();
    telemetry.counter("hits", &[("a", "1"), ("b", "2")]).inc();
    telemetry.counter("hits", &[("b", "2"), ("a", "1")]).inc();
    assert_eq!(
        telemetry
            .snapshot()
            .counter("hits", &[("b", "2"), ("a", "1")]),
        2
    );
}

/// Whoever read it was panicked, the service among them, or a count that only grows began anew.
#[test]
fn a_count_that_is_at_the_end_of_its_range_stays_there() {
    let telemetry = telemetry();
    let wait = telemetry.histogram("wait_seconds", &[]);
    wait.record_many(1.0, u64::MAX);
    wait.record_many(2.0, 5);

    let mut seen = wait.distribution();
    assert_eq!((seen.count(), seen.max()), (u64::MAX, Some(2.0)));
    seen.merge(&wait.distribution());
    assert_eq!(
        (seen.count(), seen.quantile(0.5)),
        (u64::MAX, seen.quantile(0.4))
    );
    let text = telemetry.render(Format::Prometheus);
    let all = format!("wait_seconds_bucket{{le=\"+Inf\"}} {}", u64::MAX);
    assert!(text.contains(&all), "{text}");
}
