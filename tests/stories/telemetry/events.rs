use std::{
    future::{pending, ready},
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    thread,
};

use underpin::{
    telemetry::{
        EventName, HANDLER_FAILURE, HandlerError, Number, OwnedEmission, SpanName, Telemetry,
    },
    testing::Recorder,
};

use super::telemetry;

static SOLD: EventName = EventName::from_static(&["shop", "sold"]);
static SOLD_OUT: EventName = EventName::from_static(&["shop", "sold", "out"]);
static SHOP: EventName = EventName::from_static(&["shop"]);
static QUERY: SpanName = SpanName::from_static(&["db", "query"]);

fn record(telemetry: &Telemetry, event: &EventName) -> Recorder {
    Recorder::attach(telemetry, std::slice::from_ref(event))
}

fn record_span(telemetry: &Telemetry) -> Recorder {
    let events = [QUERY.start(), QUERY.stop(), QUERY.exception()];
    Recorder::attach(telemetry, &events.map(Clone::clone))
}

fn context(emission: &OwnedEmission) -> String {
    let context = emission.metadata_of("telemetry_span_context");
    context.expect("is there").borrow().to_string()
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
    let seen = Arc::new(Mutex::new(Vec::new()));
    let attached = telemetry.attach("seen", &SOLD, Arc::clone(&seen), |sold, seen| {
        let own = (sold.keep(), thread::current().id());
        seen.lock().expect("not poisoned").push(own);
    });
    attached.expect("the id is free");

    telemetry.execute(
        &SOLD,
        &[("pieces", 3.into()), ("price", 2.5.into())],
        &[("article", "tea".into()), ("new", true.into())],
    );

    let (sold, thread) = &seen.lock().expect("not poisoned")[0];
    assert_eq!(sold.name(), &SOLD);
    assert_eq!(
        sold.measurements().collect::<Vec<_>>(),
        [("pieces", Number::Int(3)), ("price", Number::Float(2.5))]
    );
    let metadata: Vec<(&str, String)> = sold
        .metadata()
        .map(|(name, field)| (name, field.borrow().to_string()))
        .collect();
    assert_eq!(
        metadata,
        [("article", "tea".into()), ("new", "true".into())]
    );
    assert_eq!(*thread, thread::current().id());
}

#[test]
fn l02_an_id_is_taken_once_and_detached_from_all_its_events() {
    let telemetry = telemetry();
    let seen = Recorder::attach(&telemetry, &[SOLD.clone(), SHOP.clone()]);
    let id = || telemetry.list_handlers(&[])[0].id.to_string();
    let taken = id();

    let again = telemetry.attach(&taken, &SOLD_OUT, (), |_, ()| ());
    assert_eq!(again, Err(HandlerError::AlreadyExists { id: id() }));

    assert_eq!(telemetry.detach(&taken), Ok(()));
    telemetry.execute(&SOLD, &[], &[]);
    telemetry.execute(&SHOP, &[], &[]);
    assert!(seen.all().is_empty());
    assert_eq!(
        telemetry.detach(&taken),
        Err(HandlerError::NotFound { id: taken.clone() })
    );
}

#[test]
fn l02_attaching_to_no_event_or_under_a_taken_id_attaches_nothing() {
    let telemetry = telemetry();
    let none = telemetry.attach_many("none", &[], (), |_, ()| ());
    assert_eq!(none, Err(HandlerError::NoEvent { id: "none".into() }));

    telemetry
        .attach("seen", &SOLD, (), |_, ()| ())
        .expect("the id is free");
    let taken = telemetry.attach_many("seen", &[SHOP.clone(), SOLD_OUT.clone()], (), |_, ()| ());
    assert!(taken.is_err());
    assert_eq!(telemetry.list_handlers(&[]).len(), 1);
}

#[test]
fn l03_only_the_exact_event_is_handled() {
    let telemetry = telemetry();
    let seen = record(&telemetry, &SOLD);

    telemetry.execute(&SHOP, &[], &[]);
    telemetry.execute(&SOLD_OUT, &[], &[]);
    telemetry.execute(
        &EventName::new(["shop", "sold"]).expect("good name"),
        &[],
        &[],
    );

    assert_eq!(seen.names(), ["shop.sold"]);
}

#[test]
fn f87_a_handler_that_panics_is_detached_from_all_its_events_and_the_others_run() {
    let telemetry = telemetry();
    let failures = record(&telemetry, &HANDLER_FAILURE);
    let broken = telemetry.attach_many(
        "broken",
        &[SOLD.clone(), SHOP.clone()],
        "its config",
        |_, _| panic!("no stock"),
    );
    broken.expect("attached");
    let after = Recorder::attach(&telemetry, &[SOLD.clone(), SHOP.clone()]);

    telemetry.execute(&SOLD, &[], &[]);
    telemetry.execute(&SHOP, &[], &[]);

    assert_eq!(after.names(), ["shop.sold", "shop"]);
    let failure = &failures.all()[0];
    assert_eq!(failures.all().len(), 1);
    assert!(
        failure.measurement("monotonic_time").is_some()
            && failure.measurement("system_time").is_some()
    );
    let said = |name| {
        let field = failure.metadata_of(name).expect("is there");
        field.borrow().to_string()
    };
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
    assert!(failure.metadata_of("stacktrace").is_some());
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
    let seen = record_span(&telemetry);

    let result = telemetry.span(&QUERY, &[("table", "users".into())], |_| 42);

    assert_eq!(result, 42);
    assert_eq!(seen.names(), ["db.query.start", "db.query.stop"]);
    let [start, stop] = &seen.all()[..] else {
        panic!("two events")
    };
    assert!(
        start.measurement("monotonic_time").is_some() && start.measurement("system_time").is_some()
    );
    assert!(stop.measurement("monotonic_time").is_some() && stop.measurement("duration").is_some());
    assert_eq!(
        (start.text("table"), stop.text("table")),
        (Some("users"), None)
    );
    assert_eq!(context(start), context(stop));
}

#[test]
fn l06_a_span_that_panics_says_so_and_the_panic_goes_on() {
    let telemetry = telemetry();
    let seen = record_span(&telemetry);

    let work = || {
        // Two of the names are the exception's own: handlers read there what the query was, and not what went wrong.
        let about = ["table", "kind", "reason"].map(|name| (name, "users".into()));
        telemetry.span(&QUERY, &about, |_| panic!("no such table"))
    };
    let panicked = panic::catch_unwind(AssertUnwindSafe(work)).expect_err("goes on");

    assert_eq!(panicked.downcast_ref::<&str>(), Some(&"no such table"));
    assert_eq!(seen.names(), ["db.query.start", "db.query.exception"]);
    let [start, exception] = &seen.all()[..] else {
        panic!("two events")
    };
    assert!(
        exception.measurement("duration").is_some()
            && exception.measurement("monotonic_time").is_some()
    );
    let said = ["table", "kind", "reason"].map(|name| exception.text(name));
    assert_eq!(said, [Some("users"), Some("panic"), Some("no such table")]);
    assert!(exception.metadata_of("stacktrace").is_some());
    assert_eq!(start.text("kind"), Some("users"));
    assert_eq!(exception.metadata().count(), 5, "each name once");
    assert_eq!(context(start), context(exception));
}

#[test]
fn l07_a_span_adds_measurements_but_never_its_own_duration() {
    let telemetry = telemetry();
    let seen = record_span(&telemetry);

    telemetry.span(&QUERY, &[], |end| {
        end.measure("rows", 0_u64);
        end.measure("rows", 17_u64);
        end.measure("duration", -1);
        end.note("cached", true);
        end.note("cached", false);
        end.note("plan", "index");
    });

    let stop = &seen.all()[1];
    assert_eq!(stop.measurement("rows"), Some(Number::UInt(17)));
    assert!(matches!(
        stop.measurement("duration"),
        Some(Number::UInt(_))
    ));
    let durations = stop.measurements().filter(|(name, _)| *name == "duration");
    assert_eq!(durations.count(), 1);
    let cached = stop
        .metadata_of("cached")
        .map(|field| field.borrow().to_string());
    assert_eq!(cached.as_deref(), Some("false"));
    assert_eq!(stop.text("plan"), Some("index"));
}

#[test]
fn l08_handlers_are_listed_by_prefix() {
    let telemetry = telemetry();
    let attach = |id, events: &[EventName]| {
        let attached = telemetry.attach_many(id, events, (), |_, ()| ());
        attached.expect("the id is free");
    };
    attach("one", &[SOLD.clone(), SHOP.clone()]);
    attach("two", std::slice::from_ref(&SOLD_OUT));
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
    let seen = record_span(&telemetry);

    telemetry.span(&QUERY, &[], |_| ());
    telemetry.span(&QUERY, &[], |_| ());
    telemetry.span(&QUERY, &[("telemetry_span_context", "mine".into())], |_| ());

    let contexts: Vec<String> = seen.all().iter().map(context).collect();
    assert_eq!(contexts[0], contexts[1]);
    assert_ne!(contexts[1], contexts[2]);
    assert_eq!(contexts[4..], ["mine", "mine"]);
}

#[tokio::test]
async fn l10_executing_without_a_handler_does_nothing_before_and_after_the_life_of_the_service() {
    let telemetry = telemetry();
    telemetry.execute(&SOLD, &[("pieces", 1.into())], &[]);
    assert!(telemetry.list_handlers(&[]).is_empty());

    let supervisor = super::service::supervised(&telemetry).await;
    supervisor.stop().await;

    telemetry.execute(&SOLD, &[("pieces", 1.into())], &[]);
    let sold = telemetry.counter("sold", &[]);
    let attached = telemetry.attach("count", &SOLD, sold.clone(), |_, sold| sold.inc());
    attached.expect("the id is free");
    telemetry.execute(&SOLD, &[("pieces", 1.into())], &[]);
    assert_eq!(sold.value(), 1);
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
    let seen = record_span(&telemetry);
    let failed: Result<u8, &str> = telemetry.span(&QUERY, &[], |_| Err("an error is a result"));
    assert_eq!(failed, Err("an error is a result"));
    assert_eq!(seen.names(), ["db.query.start", "db.query.stop"]);

    let panicked = panic::catch_unwind(AssertUnwindSafe(|| {
        telemetry.span(&QUERY, &[], |_| panic!("wanted by the story"));
    }));
    let panicked = panicked.expect_err("goes on");
    assert_eq!(panicked.downcast_ref(), Some(&"wanted by the story"));
    assert_eq!(seen.names()[2..], ["db.query.start", "db.query.exception"]);
}

#[tokio::test]
async fn l05_l07_an_asynchronous_span_starts_stops_and_gives_the_result_in_a_task_too() {
    let telemetry = telemetry();
    let seen = record_span(&telemetry);
    let own = telemetry.clone();

    let task = tokio::spawn(async move {
        let table = String::from("users");
        let metadata = [("table", (&table).into())];
        let work = async |end: &mut underpin::telemetry::SpanEnd| {
            tokio::task::yield_now().await;
            end.measure("rows", 17_u64);
            42
        };
        own.span_async(&QUERY, &metadata, work).await
    });

    assert_eq!(task.await.expect("ends well"), 42);
    assert_eq!(seen.names(), ["db.query.start", "db.query.stop"]);
    let [start, stop] = &seen.all()[..] else {
        panic!("two events")
    };
    assert_eq!(stop.measurement("rows"), Some(Number::UInt(17)));
    assert!(stop.measurement("duration").is_some());
    assert_eq!(start.text("table"), Some("users"));
    assert_eq!(context(start), context(stop));
}

#[tokio::test]
async fn l06_an_asynchronous_span_that_panics_says_so_and_the_panic_goes_on() {
    let telemetry = telemetry();
    let seen = record_span(&telemetry);
    let own = telemetry.clone();

    let task = tokio::spawn(async move {
        own.span_async(&QUERY, &[], async |_| {
            tokio::task::yield_now().await;
            panic!("no such table")
        })
        .await
    });

    assert!(task.await.expect_err("goes on").is_panic());
    assert_eq!(seen.names(), ["db.query.start", "db.query.exception"]);
    let exception = &seen.all()[1];
    assert_eq!(
        (exception.text("kind"), exception.text("reason")),
        (Some("panic"), Some("no such table"))
    );
}

#[test]
fn l06_a_span_whose_future_is_dropped_was_cancelled() {
    let telemetry = telemetry();
    let seen = record_span(&telemetry);
    let mut context = Context::from_waker(Waker::noop());
    let metadata = [("table", "users".into())];
    let mut begun =
        Box::pin(telemetry.span_async(&QUERY, &metadata, async |_| pending::<()>().await));
    assert_eq!(begun.as_mut().poll(&mut context), Poll::Pending);

    drop(begun);

    assert_eq!(seen.names(), ["db.query.start", "db.query.exception"]);
    let exception = &seen.all()[1];
    assert_eq!(
        (exception.text("table"), exception.text("kind")),
        (Some("users"), Some("cancelled"))
    );
    assert!(exception.measurement("duration").is_some());

    // One that was done, or never begun, was not cancelled.
    let mut done = Box::pin(telemetry.span_async(&QUERY, &[], async |_| ready(()).await));
    assert_eq!(done.as_mut().poll(&mut context), Poll::Ready(()));
    drop(done);
    drop(telemetry.span_async(&QUERY, &[], async |_| ()));
    assert_eq!(seen.names()[2..], ["db.query.start", "db.query.stop"]);
}

#[test]
fn f87_a_handler_may_detach_attach_and_execute_while_it_runs() {
    let telemetry = telemetry();
    let inner = record(&telemetry, &SOLD_OUT);
    let own = telemetry.clone();
    telemetry
        .attach("once", &SOLD, (), move |_, ()| {
            own.detach("once").expect("attached");
            own.execute(&SOLD_OUT, &[], &[]);
        })
        .expect("attached");

    telemetry.execute(&SOLD, &[], &[]);
    telemetry.execute(&SOLD, &[], &[]);

    assert_eq!(inner.names(), ["shop.sold.out"]);
    assert!(telemetry.detach("nobody").is_err());
}
