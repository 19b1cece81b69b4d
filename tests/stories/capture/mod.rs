//! What users of capture can rely on.

mod odd;
mod several;
mod storing;
mod viewer;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use tracing::{Instrument as _, Subscriber, info_span, instrument::WithSubscriber as _};
use tracing_subscriber::prelude::*;
use underpin::{
    capture::{self, Capture, CaptureError, CaptureStats, Options},
    events::{Event, Events, Query},
    ids::CorrelationId,
    node::Node,
    otp::{Address, ChildSpec, Context, Permit, Reply},
    ractor::{Actor, ActorProcessingErr, ActorRef},
    testing::{eventually, in_memory, with_node},
    value::Value,
};

const LONG: Duration = Duration::from_secs(20);

fn options(filter: &str) -> Options {
    Options {
        filter: filter.into(),
        ..Options::default()
    }
}

/// A capture of this test's target alone, since other stories run beside it.
fn capture_of(node: &Node) -> (Capture, impl Subscriber + Send + Sync + 'static) {
    let capture = Capture::new(node.events(), &options("off,shop=trace")).expect("valid");
    let subscriber = tracing_subscriber::registry().with(capture.layer());
    (capture, subscriber)
}

async fn all(events: &Events) -> Vec<Event> {
    let query = Query::new().limit(100_000);
    let all = events.query(query).await.expect("a query").events;
    // The node tells of itself, too.
    let captured = |event: &Event| event.source() == "shop" || event.kind() == "panic";
    all.into_iter().filter(captured).collect()
}

async fn captured(node: &Node, capture: &Capture) -> Vec<Event> {
    capture.flush(LONG).await.expect("the store is well");
    all(node.events()).await
}

fn of_kind<'a>(events: &'a [Event], kind: &str) -> Vec<&'a Event> {
    events.iter().filter(|event| event.kind() == kind).collect()
}

fn field<'a>(event: &'a Event, name: &str) -> &'a Value {
    let data = event.data().as_map().expect("a map");
    data.get(name)
        .unwrap_or_else(|| panic!("no {name}: {event:?}"))
}

fn assert_settled(stats: CaptureStats) {
    let CaptureStats {
        captured,
        stored,
        dropped,
        refused,
        ..
    } = stats;
    assert_eq!(captured, stored + dropped + refused, "{stats:?}");
}

#[tokio::test]
async fn a_span_and_what_happens_in_it_are_one_correlation_with_the_span_as_the_cause() {
    with_node(in_memory(), async |node| {
        let (capture, subscriber) = capture_of(node);

        tracing::subscriber::with_default(subscriber, || {
            let request = info_span!(target: "shop", "request", path = "/orders", user = tracing::field::Empty);
            request.in_scope(|| tracing::warn!(target: "shop", left = 3, ratio = 0.5, ok = false, "stock is low"));
            request.record("user", "ann");
        });

        let events = captured(node, &capture).await;
        let kinds: Vec<_> = events.iter().map(Event::kind).collect();
        assert_eq!(kinds, ["span.opened", "tracing.warn", "span.recorded", "span.closed"]);
        let trace = events[0].correlation().expect("a trace");
        assert!(trace.trace_id().is_some());
        for event in &events {
            assert_eq!(event.correlation(), Some(trace));
            assert_eq!(event.source(), "shop");
        }
        assert_eq!(events[0].parent(), None);
        let opened = Some(events[0].id());
        assert!(events[1..].iter().all(|event| event.parent() == opened));
        assert_eq!(field(&events[0], "name"), &Value::from("request"));
        assert_eq!(field(&events[0], "path"), &Value::from("/orders"));
        assert_eq!(field(&events[1], "message"), &Value::from("stock is low"));
        assert_eq!(field(&events[1], "left"), &Value::from(3));
        assert_eq!(field(&events[1], "ratio"), &Value::from(0.5));
        assert_eq!(field(&events[1], "ok"), &Value::from(false));
        assert_eq!(field(&events[1], "level"), &Value::from("WARN"));
        assert!(field(&events[1], "at").as_str().expect("a place").contains("capture/mod.rs:"));
        assert_eq!(field(&events[2], "user"), &Value::from("ann"));
        assert!(field(&events[3], "busy_ns").as_u64().is_some());
        assert_eq!(capture.stats().stored, 4);
        assert_settled(capture.stats());
    })
    .await;
}

#[tokio::test]
async fn nothing_waits_for_a_span_that_stays_open() {
    with_node(in_memory(), async |node| {
        let (capture, subscriber) = capture_of(node);
        let _guard = tracing::subscriber::set_default(subscriber);

        let endless = info_span!(target: "shop", "endless");
        endless.in_scope(|| tracing::info!(target: "shop", "on it"));

        let events = captured(node, &capture).await;
        assert_eq!(events.len(), 2);
        assert_eq!(events[1].parent(), Some(events[0].id()));
    })
    .await;
}

enum Till {
    Charge { cents: u64, reply: Reply<()> },
    Tick { left: u32, permit: Permit },
}
underpin::otp::message!(Till);

struct Cashier(Address<Till>);

impl Actor for Cashier {
    type Msg = Till;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Till>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Till>,
        message: Till,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Till::Charge { cents, reply } => {
                reply
                    .context()
                    .scope(async {
                        tokio::task::yield_now().await;
                        tracing::info!(target: "shop", cents, "charged");
                    })
                    .await;
                reply.send(());
            }
            Till::Tick { left, permit } => {
                let tick = async {
                    tracing::info!(target: "shop", left, "tick");
                    if left > 0 {
                        let next = |permit| Till::Tick {
                            left: left - 1,
                            permit,
                        };
                        self.0.try_cast(next).expect("alive");
                    }
                };
                let span = permit
                    .context()
                    .enter(|| info_span!(target: "shop", "tick"));
                tick.instrument(span).await;
            }
        }
        Ok(())
    }
}

fn cashier() -> (Address<Till>, ChildSpec) {
    let till = Address::new();
    let own = till.clone();
    let spec = ChildSpec::actor("cashier", &till, move |_| (Cashier(own.clone()), ()));
    (till, spec)
}

#[tokio::test]
async fn a_request_is_followed_through_a_call_to_an_actor_and_a_task_of_its_own() {
    let (till, spec) = cashier();
    with_node(in_memory().child(spec), async |node| {
        let (capture, subscriber) = capture_of(node);
        let _guard = tracing::subscriber::set_default(subscriber);

        let request = async {
            let charge = |reply| Till::Charge { cents: 250, reply };
            till.call(charge, LONG).await.expect("answers");
            let mail = async { tracing::info!(target: "shop", "mailed") };
            tokio::spawn(mail.instrument(info_span!(target: "shop", "mail")))
                .await
                .expect("ends");
        };
        request
            .instrument(info_span!(target: "shop", "request"))
            .await;

        let events = captured(node, &capture).await;
        let said: BTreeMap<_, _> = of_kind(&events, "tracing.info")
            .into_iter()
            .map(|event| (field(event, "message").as_str().expect("text"), event))
            .collect();
        let request = events[0].correlation().expect("a trace");
        assert_eq!(said["charged"].correlation(), Some(request));
        assert_eq!(said["charged"].parent(), Some(events[0].id()));
        assert_eq!(said["mailed"].correlation(), Some(request));
        let mail = of_kind(&events, "span.opened")[1];
        assert_eq!(said["mailed"].parent(), Some(mail.id()));
        assert_eq!(mail.parent(), Some(events[0].id()));
        // Nothing of it stays with whoever comes after.
        assert!(Context::current().is_empty());
    })
    .await;
}

#[tokio::test]
async fn an_actor_that_keeps_itself_going_lives_through_many_traces_each_caused_by_the_one_before()
{
    let (till, spec) = cashier();
    with_node(in_memory().child(spec), async |node| {
        let (capture, subscriber) = capture_of(node);
        let _guard = tracing::subscriber::set_default(subscriber);

        info_span!(target: "shop", "begin").in_scope(|| {
            let first = |permit| Till::Tick { left: 20, permit };
            till.try_cast(first).expect("alive");
        });
        eventually("the last tick", async || {
            capture.flush(LONG).await.expect("stored");
            of_kind(&all(node.events()).await, "tracing.info").len() == 21
        })
        .await;

        let events = captured(node, &capture).await;
        let opened = of_kind(&events, "span.opened");
        let traces: BTreeSet<_> = opened
            .iter()
            .map(|span| span.correlation().map(ToString::to_string))
            .collect();
        // The first tick belongs to what began it; each further one is a trace of its own.
        assert_eq!(traces.len(), 21);
        for (before, after) in opened.iter().zip(&opened[1..]) {
            assert_eq!(after.parent(), Some(before.id()));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_concurrent_requests_are_a_thousand_correlations_and_none_loses_a_thing() {
    let (till, spec) = cashier();
    with_node(in_memory().child(spec), async |node| {
        let (capture, subscriber) = capture_of(node);
        let dispatch = tracing::Dispatch::new(subscriber);

        let requests = (0..1000_u64).map(|number| {
            let till = till.clone();
            let request = async move {
                tracing::info!(target: "shop", number, "begin");
                let charge = |reply| Till::Charge {
                    cents: number,
                    reply,
                };
                till.call(charge, LONG).await.expect("answers");
                tracing::info!(target: "shop", number, "end");
            };
            let span = info_span!(target: "shop", "request", number);
            tokio::spawn(request.instrument(span).with_subscriber(dispatch.clone()))
        });
        // The spans are made here, where the subscriber is not the default one yet.
        let requests: Vec<_> = tracing::dispatcher::with_default(&dispatch, || requests.collect());
        for request in requests {
            request.await.expect("ends");
        }

        let events = captured(node, &capture).await;
        let mut traces: BTreeMap<String, Vec<&Event>> = BTreeMap::new();
        for event in &events {
            let trace = event.correlation().expect("a trace").to_string();
            traces.entry(trace).or_default().push(event);
        }
        assert_eq!(traces.len(), 1000);
        for trace in traces.values() {
            let kinds: Vec<_> = trace.iter().map(|event| event.kind()).collect();
            assert_eq!(kinds[0], "span.opened");
            assert_eq!(
                kinds.iter().filter(|kind| **kind == "tracing.info").count(),
                2,
                "{kinds:?}"
            );
            assert_eq!(
                kinds.iter().filter(|kind| **kind == "span.closed").count(),
                1,
                "{kinds:?}"
            );
            let number = field(trace[0], "number");
            let own = |event: &&&Event| event.kind() == "tracing.info";
            assert!(
                trace
                    .iter()
                    .filter(own)
                    .all(|event| field(event, "number") == number)
            );
        }
        assert_eq!(capture.stats().dropped, 0);
        assert_settled(capture.stats());
    })
    .await;
}

#[tokio::test]
async fn the_filter_and_the_share_change_while_it_runs() {
    with_node(in_memory(), async |node| {
        let (capture, subscriber) = capture_of(node);
        let dispatch = tracing::Dispatch::new(subscriber);
        let say = |number: u64| {
            tracing::dispatcher::with_default(&dispatch, || {
                tracing::debug!(target: "shop", number);
                info_span!(target: "shop", "request")
                    .in_scope(|| tracing::warn!(target: "shop", number));
            });
        };

        let set_filter = |filter: &str| {
            tracing::dispatcher::with_default(&dispatch, || capture.set_filter(filter))
        };

        say(1);
        set_filter("off,shop=warn").expect("a filter");
        say(2);
        set_filter("off,shop=debug").expect("a filter");
        capture.set_share(0.0).expect("a share");
        say(3);
        let refused = set_filter("shop=loud");

        assert!(
            matches!(refused, Err(CaptureError::Filter { .. })),
            "{refused:?}"
        );
        let events = captured(node, &capture).await;
        let said = |event: &Event| {
            Some((
                event.kind().to_owned(),
                event.data().as_map()?.get("number")?.as_i64()?,
            ))
        };
        let said: Vec<_> = events.iter().filter_map(said).collect();
        let expected = [
            ("tracing.debug", 1),
            ("tracing.warn", 1),
            ("tracing.warn", 2),
            ("tracing.debug", 3),
        ];
        assert_eq!(
            said,
            expected.map(|(kind, number)| (kind.to_owned(), number))
        );
    })
    .await;
}

/// Says what it is told when it is written down.
struct Says(fn(&mut fmt::Formatter<'_>) -> fmt::Result);

impl fmt::Debug for Says {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.0)(f)
    }
}

#[tokio::test]
async fn secrets_are_hidden_long_texts_cut_and_fields_that_cannot_be_written_harm_nobody() {
    with_node(in_memory(), async |node| {
        let (capture, subscriber) = capture_of(node);
        let endless = Says(|f| loop {
            f.write_str("ha")?;
        });
        let bomb = Says(|_| panic!("wanted by the story"));
        // `tracing` itself lets nothing through that is logged while something is logged.
        let talkative = Says(|f| {
            tracing::info!(target: "shop", "from inside");
            f.write_str("told")
        });

        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "shop", user_password = "hunter2", long = "é".repeat(10_000), name = "n", "one");
            tracing::info!(target: "shop", ?endless, ?bomb, ?talkative, "two");
        });

        let events = captured(node, &capture).await;
        let [one, two] = &events[..] else {
            panic!("{events:?}");
        };
        assert_eq!(field(one, "user_password"), &Value::from("[redacted]"));
        let long = field(one, "long").as_str().expect("text");
        assert!(long.len() <= 8195 && long.ends_with("é…"), "{} bytes", long.len());
        assert_eq!(field(one, "fields.name"), &Value::from("n"));
        assert!(field(two, "endless").as_str().expect("text").ends_with('…'));
        assert_eq!(field(two, "bomb"), &Value::from("[panicked]"));
        assert_eq!(field(two, "talkative"), &Value::from("told"));
        assert_eq!(field(two, "message"), &Value::from("two"));
        assert_eq!(capture.stats().shortened, 3);
        assert!(!format!("{events:?}").contains("hunter2"));
    })
    .await;
}

#[tokio::test]
async fn a_field_called_as_one_of_ours_is_kept_beside_it() {
    with_node(in_memory(), async |node| {
        let (capture, subscriber) = capture_of(node);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "shop", level = 3, at = "the till", name = "tea", to = "ann", busy_ns = 1, "sold");
        });

        let sold = captured(node, &capture).await.remove(0);

        let texts = [("fields.at", "the till"), ("fields.name", "tea"), ("to", "ann"), ("level", "INFO"), ("message", "sold")];
        for (name, value) in texts {
            assert_eq!(field(&sold, name), &Value::from(value));
        }
        assert_eq!(field(&sold, "fields.level"), &Value::from(3));
        assert_eq!(field(&sold, "fields.busy_ns"), &Value::from(1));
        let names = sold.data().as_map().expect("a map").iter().map(|(name, _)| name);
        assert!(names.is_sorted());
    })
    .await;
}

#[tokio::test]
async fn a_trace_that_came_in_is_gone_on_with_and_goes_out_again() {
    with_node(in_memory(), async |node| {
        let (capture, subscriber) = capture_of(node);
        let theirs = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

        let (by_field, by_context) = tracing::subscriber::with_default(subscriber, || {
            let by_field = info_span!(target: "shop", "request", traceparent = theirs)
                .in_scope(|| capture::traceparent().expect("in a trace"));
            let context = capture::context_of(theirs).expect("well formed");
            let by_context = context.enter(|| {
                info_span!(target: "shop", "request")
                    .in_scope(|| capture::traceparent().expect("in a trace"))
            });
            (by_field, by_context)
        });

        let events = captured(node, &capture).await;
        let trace = CorrelationId::new("4bf92f3577b34da6a3ce929d0e0e4736").expect("valid");
        assert!(
            events
                .iter()
                .all(|event| event.correlation() == Some(&trace))
        );
        let opened = of_kind(&events, "span.opened");
        for (ours, opened) in [by_field, by_context].iter().zip(opened) {
            assert_eq!(ours.trace().to_string(), trace.to_string());
            // Whoever gets it can name the event that caused the request.
            assert_eq!(ours.parent().get(), opened.id().get());
        }
        assert!(capture::traceparent().is_none());
    })
    .await;
}

#[tokio::test]
async fn spans_tell_what_they_follow_from_and_whose_child_they_are() {
    with_node(in_memory(), async |node| {
        let (capture, subscriber) = capture_of(node);

        tracing::subscriber::with_default(subscriber, || {
            let cause = info_span!(target: "shop", "cause");
            let effect = info_span!(target: "shop", "effect");
            effect.follows_from(&cause);
            let _elsewhere = effect.enter();
            tracing::info!(target: "shop", parent: &cause, "of the cause");
            tracing::info!(target: "shop", parent: None, "of nobody");
        });

        let events = captured(node, &capture).await;
        let opened = of_kind(&events, "span.opened");
        let linked = of_kind(&events, "span.linked")[0];
        assert_eq!(linked.parent(), Some(opened[1].id()));
        assert_eq!(
            field(linked, "to"),
            &Value::from(opened[0].id().to_string())
        );
        let said = of_kind(&events, "tracing.info");
        assert_eq!(said[0].parent(), Some(opened[0].id()));
        assert_eq!((said[1].parent(), said[1].correlation()), (None, None));
    })
    .await;
}

/// Panics when it is told to.
struct Fragile;

impl Actor for Fragile {
    type Msg = Till;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Till>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Till>,
        message: Till,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if let Till::Charge { cents, reply } = message {
            let charge = async { assert_ne!(cents, 13, "unlucky") };
            reply.context().scope(charge).await;
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_crash_is_in_the_correlation_of_the_request_that_caused_it_and_the_restart_too() {
    let till = Address::new();
    let spec = ChildSpec::actor("till", &till, |_| (Fragile, ()));
    with_node(in_memory().child(spec), async |node| {
        let (capture, subscriber) = capture_of(node);
        let _guard = tracing::subscriber::set_default(subscriber);

        let charge = |reply| Till::Charge { cents: 13, reply };
        let request = async { till.call(charge, LONG).await };
        let refused = request
            .instrument(info_span!(target: "shop", "request"))
            .await;

        assert!(refused.is_err());
        let told = async || {
            let all = node.events().query(Query::new().limit(1000)).await;
            let mut all = all.expect("a query").events;
            all.retain(|event| event.kind().starts_with("otp."));
            all
        };
        eventually("crash and restart", async || told().await.len() == 2).await;
        let (told, captured) = (told().await, captured(node, &capture).await);
        let request = &captured[0];
        assert_eq!(
            [told[0].kind(), told[1].kind()],
            ["otp.exited", "otp.restarted"]
        );
        assert_eq!(told[0].parent(), Some(request.id()));
        assert_eq!(told[1].parent(), Some(told[0].id()));
        assert!(
            told.iter()
                .all(|event| event.correlation() == request.correlation())
        );
    })
    .await;
}

#[tokio::test]
async fn a_header_for_others_says_that_a_trace_is_sampled_unless_it_is_left_out() {
    with_node(in_memory(), async |node| {
        let (capture, subscriber) = capture_of(node);
        let _guard = tracing::subscriber::set_default(subscriber);
        let sampled = || capture::traceparent().expect("in a trace").sampled();
        let request = || info_span!(target: "shop", "request");

        assert!(request().in_scope(sampled));
        capture.set_share(0.0).expect("a share");
        assert!(!request().in_scope(sampled));
        // Nobody here has decided about this one.
        assert!(Context::new(7, 0).enter(sampled));
        let inside = || Context::new(7, 0).enter(sampled);
        assert!(request().in_scope(inside));
    })
    .await;
}

#[tokio::test]
async fn a_record_of_the_facade_log_is_stored_under_its_own_target_and_place() {
    with_node(in_memory(), async |node| {
        let (capture, subscriber) = capture_of(node);
        let record = |target: &str| {
            tracing_log::format_trace(
                &tracing_log::log::Record::builder()
                    .target(target)
                    .level(tracing_log::log::Level::Warn)
                    .file(Some("src/till.rs"))
                    .line(Some(7))
                    .module_path(Some("shop::till"))
                    .args(format_args!("{} left", 3))
                    .build(),
            )
        };

        tracing::subscriber::with_default(subscriber, || {
            record("shop").expect("handed over");
            record("not::wanted").expect("handed over");
        });

        let events = captured(node, &capture).await;
        assert_eq!(capture.stats().captured, 1);
        let expected = [
            ("at", Value::from("src/till.rs:7")),
            ("level", "WARN".into()),
            ("message", "3 left".into()),
        ];
        assert_eq!(events[0].kind(), "tracing.warn");
        assert_eq!(events[0].data(), &Value::from(expected));
    })
    .await;
}
