use std::{
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex},
    thread::{self, ThreadId},
};

use underpin::telemetry::{
    Emission, EventName, HANDLER_FAILURE, HandlerError, Number, SpanName, Telemetry,
};

use super::telemetry;

static SOLD: EventName = EventName::from_static(&["shop", "sold"]);
static SOLD_OUT: EventName = EventName::from_static(&["shop", "sold", "out"]);
static SHOP: EventName = EventName::from_static(&["shop"]);
static QUERY: SpanName = SpanName::from_static(&["db", "query"]);

/// What a handler saw, as text: name, measurements, metadata.
#[derive(Debug, Clone, Default)]
struct Seen(Arc<Mutex<Vec<Sighting>>>);

#[derive(Debug, Clone)]
struct Sighting {
    event: String,
    measurements: Vec<(String, Number)>,
    metadata: Vec<(String, String)>,
    thread: ThreadId,
}

impl Seen {
    fn note(&self, emission: &Emission<'_>) {
        let sighting = Sighting {
            event: emission.name.to_string(),
            measurements: emission
                .measurements
                .iter()
                .map(|(name, number)| (name.to_owned(), number))
                .collect(),
            metadata: emission
                .metadata
                .iter()
                .map(|(name, field)| (name.to_owned(), field.to_string()))
                .collect(),
            thread: thread::current().id(),
        };
        self.0.lock().expect("not poisoned").push(sighting);
    }

    fn all(&self) -> Vec<Sighting> {
        self.0.lock().expect("not poisoned").clone()
    }

    fn events(&self) -> Vec<String> {
        self.all().into_iter().map(|one| one.event).collect()
    }
}

impl Sighting {
    fn measured(&self, name: &str) -> Option<Number> {
        self.measurements
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, number)| *number)
    }

    fn meta(&self, name: &str) -> Option<&str> {
        self.metadata
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, text)| text.as_str())
    }
}

fn watch(telemetry: &Telemetry, id: &str, events: &[EventName]) -> Seen {
    let seen = Seen::default();
    telemetry
        .attach_many(id, events, seen.clone(), |emission, seen| {
            seen.note(emission);
        })
        .expect("the id is free");
    seen
}

fn watch_span(telemetry: &Telemetry) -> Seen {
    watch(
        telemetry,
        "span",
        &[
            QUERY.start().clone(),
            QUERY.stop().clone(),
            QUERY.exception().clone(),
        ],
    )
}

/// The worst failure handler: it fails, and has put another one like itself in place before.
fn attach_one_that_comes_back(telemetry: &Telemetry, nth: usize) {
    let again = telemetry.clone();
    let attached = telemetry.attach(
        &format!("failing-{nth}"),
        &HANDLER_FAILURE,
        (),
        move |_, ()| {
            attach_one_that_comes_back(&again, nth + 1);
            panic!("again");
        },
    );
    attached.expect("the id is free");
}

#[test]
fn l01_a_handler_gets_event_measurements_metadata_and_config_in_the_emitter() {
    let telemetry = telemetry();
    let seen = watch(&telemetry, "seen", std::slice::from_ref(&SOLD));

    telemetry.execute(
        &SOLD,
        &[("pieces", 3.into()), ("price", 2.5.into())],
        &[("article", "tea".into()), ("new", true.into())],
    );

    let one = &seen.all()[0];
    assert_eq!(one.event, "shop.sold");
    assert_eq!(
        one.measurements,
        [
            ("pieces".into(), Number::Int(3)),
            ("price".into(), Number::Float(2.5))
        ]
    );
    assert_eq!(
        one.metadata,
        [
            ("article".into(), "tea".into()),
            ("new".into(), "true".into())
        ]
    );
    assert_eq!(one.thread, thread::current().id());
}

#[test]
fn l02_an_id_is_taken_once_and_detached_from_all_its_events() {
    let telemetry = telemetry();
    let seen = watch(&telemetry, "seen", &[SOLD.clone(), SHOP.clone()]);
    let id = || "seen".to_owned();

    let again = telemetry.attach("seen", &SOLD_OUT, (), |_, ()| ());
    assert_eq!(again, Err(HandlerError::AlreadyExists { id: id() }));

    assert_eq!(telemetry.detach("seen"), Ok(()));
    telemetry.execute(&SOLD, &[], &[]);
    telemetry.execute(&SHOP, &[], &[]);
    assert!(seen.events().is_empty());
    assert_eq!(
        telemetry.detach("seen"),
        Err(HandlerError::NotFound { id: id() })
    );
}

#[test]
fn l02_attaching_to_no_event_or_under_a_taken_id_attaches_nothing() {
    let telemetry = telemetry();
    let none = telemetry.attach_many("none", &[], (), |_, ()| ());
    assert_eq!(none, Err(HandlerError::NoEvent { id: "none".into() }));

    watch(&telemetry, "seen", std::slice::from_ref(&SOLD));
    let taken = telemetry.attach_many("seen", &[SHOP.clone(), SOLD_OUT.clone()], (), |_, ()| ());
    assert!(taken.is_err());
    assert_eq!(telemetry.list_handlers(&[]).len(), 1);
}

#[test]
fn l03_only_the_exact_event_is_handled() {
    let telemetry = telemetry();
    let seen = watch(&telemetry, "seen", std::slice::from_ref(&SOLD));

    telemetry.execute(&SHOP, &[], &[]);
    telemetry.execute(&SOLD_OUT, &[], &[]);
    telemetry.execute(
        &EventName::new(["shop", "sold"]).expect("good name"),
        &[],
        &[],
    );

    assert_eq!(seen.events(), ["shop.sold"]);
}

#[test]
fn f87_a_handler_that_panics_is_detached_from_all_its_events_and_the_others_run() {
    let telemetry = telemetry();
    let failures = watch(
        &telemetry,
        "failures",
        std::slice::from_ref(&HANDLER_FAILURE),
    );
    let broken = telemetry.attach_many(
        "broken",
        &[SOLD.clone(), SHOP.clone()],
        "its config",
        |_, _| panic!("no stock"),
    );
    broken.expect("attached");
    let after = watch(&telemetry, "after", &[SOLD.clone(), SHOP.clone()]);

    telemetry.execute(&SOLD, &[], &[]);
    telemetry.execute(&SHOP, &[], &[]);

    assert_eq!(after.events(), ["shop.sold", "shop"]);
    let failure = &failures.all()[0];
    assert_eq!(failures.all().len(), 1);
    assert!(
        failure.measured("monotonic_time").is_some() && failure.measured("system_time").is_some()
    );
    let said = |name| failure.meta(name).expect("is there");
    assert_eq!(
        [
            said("event_name"),
            said("handler_id"),
            said("handler_config"),
            said("kind"),
            said("reason")
        ],
        ["shop.sold", "broken", "\"its config\"", "panic", "no stock"]
    );
    assert!(failure.meta("stacktrace").is_some());
    assert_eq!(
        telemetry.detach("broken"),
        Err(HandlerError::NotFound {
            id: "broken".into()
        })
    );
    assert_eq!(
        telemetry
            .snapshot()
            .counter("underpin_telemetry_handler_failures", &[]),
        1
    );
}

#[test]
fn l05_a_span_starts_stops_and_gives_the_result() {
    let telemetry = telemetry();
    let seen = watch_span(&telemetry);

    let result = telemetry.span(&QUERY, &[("table", "users".into())], |_| 42);

    assert_eq!(result, 42);
    assert_eq!(seen.events(), ["db.query.start", "db.query.stop"]);
    let [start, stop] = &seen.all()[..] else {
        panic!("two events")
    };
    assert!(start.measured("monotonic_time").is_some() && start.measured("system_time").is_some());
    assert!(stop.measured("monotonic_time").is_some() && stop.measured("duration").is_some());
    assert_eq!(
        (start.meta("table"), stop.meta("table")),
        (Some("users"), None)
    );
    assert!(start.meta("telemetry_span_context").is_some());
    assert_eq!(
        start.meta("telemetry_span_context"),
        stop.meta("telemetry_span_context")
    );
}

#[test]
fn l06_a_span_that_panics_says_so_and_the_panic_goes_on() {
    let telemetry = telemetry();
    let seen = watch_span(&telemetry);

    let work = || {
        telemetry.span(&QUERY, &[("table", "users".into())], |_| {
            panic!("no such table")
        })
    };
    let panicked = panic::catch_unwind(AssertUnwindSafe(work)).expect_err("goes on");

    assert_eq!(panicked.downcast_ref::<&str>(), Some(&"no such table"));
    assert_eq!(seen.events(), ["db.query.start", "db.query.exception"]);
    let [start, exception] = &seen.all()[..] else {
        panic!("two events")
    };
    assert!(
        exception.measured("duration").is_some() && exception.measured("monotonic_time").is_some()
    );
    let said = ["table", "kind", "reason"].map(|name| exception.meta(name));
    assert_eq!(said, [Some("users"), Some("panic"), Some("no such table")]);
    assert!(exception.meta("stacktrace").is_some());
    assert_eq!(
        start.meta("telemetry_span_context"),
        exception.meta("telemetry_span_context")
    );
}

#[test]
fn l07_a_span_adds_measurements_but_never_its_own_duration() {
    let telemetry = telemetry();
    let seen = watch_span(&telemetry);

    telemetry.span(&QUERY, &[], |end| {
        end.measure("rows", 17_u64);
        end.measure("duration", -1);
        end.note("cached", false);
        end.note("plan", "index");
    });

    let stop = &seen.all()[1];
    assert_eq!(stop.measured("rows"), Some(Number::UInt(17)));
    assert!(matches!(stop.measured("duration"), Some(Number::UInt(_))));
    assert_eq!(
        stop.measurements
            .iter()
            .filter(|(name, _)| name == "duration")
            .count(),
        1
    );
    assert_eq!(
        (stop.meta("cached"), stop.meta("plan")),
        (Some("false"), Some("index"))
    );
}

#[test]
fn l08_handlers_are_listed_by_prefix() {
    let telemetry = telemetry();
    watch(&telemetry, "one", &[SOLD.clone(), SHOP.clone()]);
    watch(&telemetry, "two", std::slice::from_ref(&SOLD_OUT));
    let listed = |prefix: &[&str]| {
        let handlers = telemetry.list_handlers(prefix).into_iter();
        let mut listed: Vec<String> = handlers
            .map(|one| format!("{} {}", one.id, one.event))
            .collect();
        listed.sort();
        listed
    };

    assert_eq!(
        listed(&[]),
        ["one shop", "one shop.sold", "two shop.sold.out"]
    );
    assert_eq!(
        listed(&["shop", "sold"]),
        ["one shop.sold", "two shop.sold.out"]
    );
    assert_eq!(listed(&["shop", "sold", "out"]), ["two shop.sold.out"]);
    assert!(listed(&["shop", "sold", "out", "today"]).is_empty());
    assert!(listed(&["sho"]).is_empty());
}

#[test]
fn l09_a_spans_context_is_its_own_or_the_one_given() {
    let telemetry = telemetry();
    let seen = watch_span(&telemetry);

    telemetry.span(&QUERY, &[], |_| ());
    telemetry.span(&QUERY, &[], |_| ());
    telemetry.span(&QUERY, &[("telemetry_span_context", "mine".into())], |_| ());

    let contexts: Vec<String> = seen
        .all()
        .iter()
        .map(|one| {
            one.meta("telemetry_span_context")
                .expect("is there")
                .to_owned()
        })
        .collect();
    assert_eq!(contexts[0], contexts[1]);
    assert_ne!(contexts[1], contexts[2]);
    assert_eq!(contexts[4..], ["mine", "mine"]);
}

#[test]
fn l10_executing_without_a_service_or_a_handler_does_nothing() {
    let telemetry = telemetry();
    telemetry.execute(&SOLD, &[("pieces", 1.into())], &[]);
    assert!(telemetry.list_handlers(&[]).is_empty());
}

#[test]
fn l11_a_failure_handler_that_fails_does_not_go_round_for_ever() {
    let telemetry = telemetry();
    attach_one_that_comes_back(&telemetry, 0);
    telemetry
        .attach("broken", &SOLD, (), |_, ()| panic!("first"))
        .expect("attached");

    telemetry.execute(&SOLD, &[], &[]);

    let left = telemetry.list_handlers(HANDLER_FAILURE.parts().collect::<Vec<_>>().as_slice());
    assert_eq!(left.len(), 1);
}

#[test]
fn f79_a_measured_function_gives_its_result_or_its_panic() {
    let telemetry = telemetry();
    let seen = watch_span(&telemetry);
    let failed: Result<u8, &str> = telemetry.span(&QUERY, &[], |_| Err("an error is a result"));
    assert_eq!(failed, Err("an error is a result"));
    assert_eq!(seen.events(), ["db.query.start", "db.query.stop"]);
}

#[test]
fn f87_a_handler_may_detach_attach_and_execute_while_it_runs() {
    let telemetry = telemetry();
    let inner = watch(&telemetry, "inner", std::slice::from_ref(&SOLD_OUT));
    let own = telemetry.clone();
    telemetry
        .attach("once", &SOLD, (), move |_, ()| {
            own.detach("once").expect("attached");
            own.execute(&SOLD_OUT, &[], &[]);
        })
        .expect("attached");

    telemetry.execute(&SOLD, &[], &[]);
    telemetry.execute(&SOLD, &[], &[]);

    assert_eq!(inner.events(), ["shop.sold.out"]);
    assert!(telemetry.detach("nobody").is_err());
}
