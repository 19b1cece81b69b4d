use std::{num::NonZeroU32, sync::Arc, thread, time::Duration};

use tokio::time;
use underpin::telemetry::{
    DefineError, Definition, Distribution, EventName, HandlerError, Kind, MetricError, Number,
    Options, Reading, Telemetry, Unit,
};

use super::{service::supervised, telemetry};

static STOP: EventName = EventName::from_static(&["http", "request", "stop"]);
const LONG: Duration = Duration::from_secs(10);

fn serve(telemetry: &Telemetry, method: &str, bytes: i32, nanoseconds: u64) {
    telemetry.execute(
        &STOP,
        &[
            ("bytes", bytes.into()),
            ("duration", Number::UInt(nanoseconds)),
        ],
        &[("method", method.into()), ("status", 200.into())],
    );
}

#[test]
fn each_kind_of_metric_is_made_of_executed_events() {
    let telemetry = telemetry();
    let defined = telemetry.define(
        "http",
        [
            Definition::counter("http_requests", &STOP)
                .tags(["method", "status"])
                .help("Requests served."),
            Definition::sum("http_sent_bytes", &STOP, "bytes"),
            Definition::last_value("http_last_bytes", &STOP, "bytes").tags(["method"]),
            Definition::summary("http_wait_seconds", &STOP, "duration").unit(Unit::Nanoseconds),
            Definition::distribution("http_request_seconds", &STOP, "duration")
                .unit(Unit::Nanoseconds)
                .tags(["method"]),
        ],
    );
    assert_eq!(defined, Ok(()));

    serve(&telemetry, "get", 100, 1_000_000_000);
    serve(&telemetry, "get", 50, 3_000_000_000);
    serve(&telemetry, "put", 7, 500_000_000);

    let snapshot = telemetry.snapshot();
    let get = &[("method", "get"), ("status", "200")];
    assert_eq!(snapshot.counter("http_requests", get), 2);
    assert!((snapshot.sum("http_sent_bytes", &[]) - 157.0).abs() < f64::EPSILON);
    assert_eq!(
        snapshot.gauge("http_last_bytes", &[("method", "get")]),
        Some(50.0)
    );
    let wait = snapshot.get("http_wait_seconds", &[]);
    let Some(Reading::Summary(wait)) = wait else {
        panic!("a summary: {wait:?}")
    };
    assert_eq!((wait.count(), wait.max()), (3, Some(3.0)));
    let get = snapshot.histogram("http_request_seconds", &[("method", "get")]);
    assert_eq!(get.map(Distribution::sum), Some(4.0));
    let requests = &telemetry.descriptions("http")[0];
    assert_eq!(
        (requests.name.as_str(), &*requests.help),
        ("http_requests", "Requests served.")
    );
}

#[test]
fn tags_may_be_made_of_the_emission_and_what_is_not_there_is_empty() {
    let telemetry = telemetry();
    let defined = telemetry.define(
        "http",
        [Definition::counter("http_requests", &STOP)
            .tag_value("class", |stop| {
                let status = stop.metadata.get("status");
                status.map_or_else(String::new, |status| {
                    format!("{}xx", &status.to_string()[..1])
                })
            })
            .tags(["nobody"])],
    );
    assert_eq!(defined, Ok(()));

    serve(&telemetry, "get", 1, 1);

    let labels = &[("class", "2xx"), ("nobody", "")];
    assert_eq!(telemetry.snapshot().counter("http_requests", labels), 1);
}

#[test]
fn only_what_is_kept_counts_and_an_emission_without_the_measurement_does_not() {
    let telemetry = telemetry();
    let defined = telemetry.define(
        "http",
        [
            Definition::counter("gets", &STOP)
                .keep(|stop| stop.metadata.text("method") == Some("get")),
            Definition::distribution("rows", &STOP, "rows"),
            Definition::sum("change", &STOP, "bytes"),
        ],
    );
    assert_eq!(defined, Ok(()));

    serve(&telemetry, "get", 1, 1);
    serve(&telemetry, "put", -5, 1);

    let snapshot = telemetry.snapshot();
    assert_eq!(snapshot.counter("gets", &[]), 1);
    assert_eq!(snapshot.get("rows", &[]), None);
    assert!((snapshot.sum("change", &[]) - 1.0).abs() < f64::EPSILON);
    assert_eq!(
        snapshot.counter("underpin_telemetry_refused_values", &[]),
        1
    );
}

#[test]
fn what_cannot_be_defined_is_refused_whole() {
    let telemetry = telemetry();
    telemetry.counter("taken", &[]).inc();
    let good = || Definition::counter("good", &STOP);
    let refused = |bad: Definition| {
        let refused = telemetry.define("all", [good(), bad]);
        let Err(DefineError::Metric(refused)) = refused else {
            panic!("{refused:?}")
        };
        refused
    };

    let other = refused(Definition::last_value("taken", &STOP, "bytes"));
    assert!(matches!(other, MetricError::OtherKind { .. }), "{other}");
    let other = refused(Definition::sum("taken", &STOP, "bytes"));
    assert!(matches!(other, MetricError::OtherNumbers { .. }), "{other}");
    let name = refused(Definition::counter("not a name", &STOP));
    assert!(matches!(name, MetricError::Name { .. }), "{name}");
    let label = refused(Definition::counter("more", &STOP).tags(["le"]));
    assert!(matches!(label, MetricError::Label { .. }), "{label}");
    let unit = refused(Definition::summary("wait", &STOP, "duration").unit(Unit::Milliseconds));
    assert_eq!(
        unit.to_string(),
        "metric `wait` is measured in seconds; end its name in `_seconds`"
    );
    assert!(telemetry.list_handlers(&[]).is_empty());

    assert_eq!(telemetry.define("all", [good()]), Ok(()));
    let id = || "all".to_owned();
    assert_eq!(
        telemetry.define("all", [good()]),
        Err(HandlerError::AlreadyExists { id: id() }.into())
    );
    assert_eq!(telemetry.undefine("all"), Ok(()));
    serve(&telemetry, "get", 1, 1);
    assert_eq!(telemetry.snapshot().counter("good", &[]), 0);
    assert_eq!(
        telemetry.undefine("all"),
        Err(HandlerError::NotFound { id: id() })
    );
}

#[test]
fn a_sampled_event_counts_as_often_as_it_was_executed_nearly() {
    let telemetry = telemetry();
    let defined = telemetry.define(
        "http",
        [
            Definition::counter("requests", &STOP),
            Definition::sum("sent_bytes", &STOP, "bytes"),
            Definition::distribution("request_seconds", &STOP, "duration").unit(Unit::Nanoseconds),
        ],
    );
    assert_eq!(defined, Ok(()));
    telemetry.sample(&STOP, NonZeroU32::new(4).expect("not zero"));

    (0..10_000).for_each(|_| serve(&telemetry, "get", 2, 1_000_000_000));

    let snapshot = telemetry.snapshot();
    let requests = snapshot.counter("requests", &[]);
    // 2500 of 10,000 with a deviation of 43: ten of them are never reached by chance.
    assert!((8_200..11_800).contains(&requests), "{requests}");
    assert_eq!(requests % 4, 0);
    let seconds = snapshot
        .histogram("request_seconds", &[])
        .expect("is there");
    assert_eq!(seconds.count(), requests);
    assert!((seconds.sum() * 2.0 - snapshot.sum("sent_bytes", &[])).abs() < 1e-6);
}

#[test]
fn f81_events_of_many_threads_are_all_counted_by_their_tags() {
    let telemetry = Arc::new(telemetry());
    let requests = Definition::counter("requests", &STOP).tags(["method"]);
    assert_eq!(telemetry.define("http", [requests]), Ok(()));

    thread::scope(|scope| {
        for n in 0..20 {
            let telemetry = &telemetry;
            let method = if n % 2 == 0 { "get" } else { "put" };
            scope.spawn(move || (0..500).for_each(|_| serve(telemetry, method, 1, 1)));
        }
        scope.spawn(|| (0..50).for_each(|_| drop(telemetry.snapshot())));
    });

    let counted = |method| {
        telemetry
            .snapshot()
            .counter("requests", &[("method", method)])
    };
    assert_eq!((counted("get"), counted("put")), (5_000, 5_000));
}

#[test]
fn more_tags_than_a_metric_may_have_series_count_in_its_overflow() {
    let telemetry = Telemetry::new(Options {
        series_max: 10,
        ..Options::default()
    });
    let requests = Definition::counter("requests", &STOP).tags(["path"]);
    assert_eq!(telemetry.define("http", [requests]), Ok(()));

    for n in 0..100 {
        let path = format!("/{n}");
        telemetry.execute(&STOP, &[], &[("path", (&path).into())]);
    }

    let snapshot = telemetry.snapshot();
    let overflow = &[("otel_metric_overflow", "true")];
    assert_eq!(snapshot.counter("requests", overflow), 90);
    assert_eq!(snapshot.counter("requests", &[("path", "/3")]), 1);
}

#[tokio::test(start_paused = true)]
async fn f89_a_defined_metric_that_is_idle_makes_room_and_comes_back() {
    let telemetry = Telemetry::new(Options {
        series_max: 1,
        ..Options::default()
    });
    let last = Definition::last_value("last_bytes", &STOP, "bytes").tags(["method"]);
    assert_eq!(telemetry.define("http", [last]), Ok(()));
    let supervisor = supervised(&telemetry).await;
    serve(&telemetry, "get", 1, 1);
    telemetry.refresh(LONG).await.expect("answers");
    let shown = |method| {
        telemetry
            .snapshot()
            .gauge("last_bytes", &[("method", method)])
    };
    assert_eq!(shown("get"), Some(1.0));

    time::advance(Options::default().retention + Duration::from_secs(1)).await;
    telemetry.refresh(LONG).await.expect("answers");
    serve(&telemetry, "put", 2, 1);

    assert_eq!((shown("get"), shown("put")), (None, Some(2.0)));
    supervisor.stop().await;
}

#[test]
fn what_is_defined_has_its_names_before_it_has_a_series_and_gives_them_back() {
    let telemetry = telemetry();
    let refused = |definitions: [Definition; 2]| match telemetry.define("all", definitions) {
        Err(DefineError::Metric(refused)) => refused,
        other => panic!("{other:?}"),
    };

    let twice = refused([
        Definition::counter("sold", &STOP),
        Definition::last_value("sold", &STOP, "bytes"),
    ]);
    assert!(matches!(twice, MetricError::OtherKind { .. }), "{twice}");
    let line = refused([
        Definition::distribution("wait", &STOP, "duration"),
        Definition::last_value("wait_count", &STOP, "bytes"),
    ]);
    assert!(matches!(line, MetricError::Clash { .. }), "{line}");
    // What was refused holds no name.
    assert!(telemetry.try_gauge("wait", &[]).is_ok());

    let pair = [
        Definition::counter("sold", &STOP),
        Definition::counter("sold", &STOP).tags(["method"]),
    ];
    assert_eq!(telemetry.define("all", pair), Ok(()));
    let taken = telemetry.try_gauge("sold", &[]);
    assert!(matches!(taken, Err(MetricError::OtherKind { .. })));
    assert_eq!(telemetry.snapshot().get("sold", &[]), None);
    assert_eq!(telemetry.undefine("all"), Ok(()));
    assert!(telemetry.try_gauge("sold", &[]).is_ok());
}

#[test]
fn what_is_refused_leaves_what_was_said_of_its_metrics() {
    let telemetry = telemetry();
    let helped = |help: &str| [Definition::counter("sold", &STOP).help(help)];
    assert_eq!(telemetry.define("one", helped("What was sold.")), Ok(()));

    let refused = telemetry.define("one", helped("Something else."));

    assert!(matches!(refused, Err(DefineError::Handler(_))));
    assert_eq!(&*telemetry.descriptions("sold")[0].help, "What was sold.");
}

#[test]
fn what_a_definition_says_of_its_metric_is_said_until_it_is_undefined() {
    let telemetry = telemetry();
    let said = || {
        let said = telemetry.descriptions("sold");
        said.first().map(|said| said.help.to_string())
    };
    let shown = || {
        telemetry.metrics_for("sold").families[0]
            .help
            .as_deref()
            .map(str::to_owned)
    };
    telemetry
        .describe(Kind::Counter, "sold", &[], "For good.")
        .expect("valid");
    let helped = |help: &str| [Definition::counter("sold", &STOP).help(help)];

    assert_eq!(telemetry.define("one", helped("One's.")), Ok(()));
    assert_eq!(telemetry.define("two", helped("Two's.")), Ok(()));
    serve(&telemetry, "get", 1, 1);
    assert_eq!(
        (said(), shown()),
        (Some("Two's.".into()), Some("Two's.".into()))
    );
    assert_eq!(telemetry.undefine("two"), Ok(()));
    assert_eq!(
        (said(), shown()),
        (Some("One's.".into()), Some("One's.".into()))
    );
    assert_eq!(telemetry.undefine("one"), Ok(()));

    assert_eq!(
        (said(), shown()),
        (Some("For good.".into()), Some("For good.".into()))
    );
}

#[test]
fn a_definition_that_is_undefined_and_defined_anew_again_and_again_finds_room_for_what_it_says() {
    let telemetry = Telemetry::new(Options {
        names_max: 40,
        ..Options::default()
    });

    for number in 0..200 {
        let sold = Definition::counter(format!("sold_{number}"), &STOP).help("What was sold.");
        assert_eq!(telemetry.define("shop", [sold]), Ok(()));
        assert_eq!(telemetry.undefine("shop"), Ok(()));
    }

    assert!(telemetry.descriptions("sold").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_defined_metric_keeps_its_name_while_it_is_idle_and_leaves_the_overflow_when_there_is_room()
 {
    let telemetry = Telemetry::new(Options {
        series_max: 1,
        ..Options::default()
    });
    let supervisor = supervised(&telemetry).await;
    telemetry.gauge("last_bytes", &[("shelf", "a")]).set(1.0);
    let last = Definition::last_value("last_bytes", &STOP, "bytes");
    assert_eq!(telemetry.define("http", [last]), Ok(()));
    let idle = || time::advance(Options::default().retention + Duration::from_secs(1));
    let overflow = &[("otel_metric_overflow", "true")];

    serve(&telemetry, "get", 2, 1);
    assert_eq!(
        telemetry.snapshot().gauge("last_bytes", overflow),
        Some(2.0)
    );
    for _ in 0..2 {
        telemetry.refresh(LONG).await.expect("answers");
        idle().await;
    }
    telemetry.refresh(LONG).await.expect("answers");
    assert!(telemetry.metrics_for("last_bytes").families.is_empty());
    assert!(telemetry.try_counter("last_bytes", &[]).is_err());
    serve(&telemetry, "get", 3, 1);

    assert_eq!(telemetry.snapshot().gauge("last_bytes", &[]), Some(3.0));
    supervisor.stop().await;
}
