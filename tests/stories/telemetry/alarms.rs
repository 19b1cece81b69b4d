//! What telemetry tells of its own troubles.

use std::time::Duration;

use underpin::{
    events::{Event, Query},
    ids::{CorrelationId, TraceId},
    node::Node,
    otp::Context,
    telemetry::{
        EventName, HandlerOptions, METRIC_OVERFLOW, OnFailure, Options, POLL_FAILURE, Telemetry,
    },
    testing::{Recorder, eventually, in_memory, with_node},
    value::Value,
};

use super::service::supervised;

static SOLD: EventName = EventName::from_static(&["shop", "sold"]);
const LONG: Duration = Duration::from_secs(20);

fn said<'a>(event: &'a Event, name: &str) -> Option<&'a Value> {
    event.data().as_map()?.get(name)
}

/// The events of alarms that a node has stored, once there are so many.
async fn alarms(node: &Node, count: usize) -> Vec<Event> {
    let stored = async || {
        let alarms = node
            .events()
            .query(Query::new().kind_prefix("telemetry."))
            .await;
        let mut alarms = alarms.expect("a query").events;
        alarms.sort_by_key(Event::id);
        alarms
    };
    eventually("the alarms are stored", async || {
        stored().await.len() >= count
    })
    .await;
    stored().await
}

#[tokio::test]
async fn a_handler_that_fails_is_an_event_in_the_correlation_of_the_emitter() {
    with_node(in_memory(), async |node| {
        let request = Context::new(0x4bf9, 0);
        let attached = node
            .telemetry()
            .attach("bad", &SOLD, (), |_, ()| panic!("no stock"));
        attached.expect("attached");

        request.enter(|| node.telemetry().execute(&SOLD, &[], &[]));

        let alarm = &alarms(node, 1).await[0];
        assert_eq!(
            (alarm.kind(), alarm.source()),
            ("telemetry.handler_failure", "node/telemetry")
        );
        let correlation = alarm.correlation().and_then(CorrelationId::trace_id);
        assert_eq!(correlation.map(TraceId::get), Some(request.trace));
        for (name, value) in [
            ("handler_id", "bad"),
            ("event_name", "shop.sold"),
            ("reason", "no stock"),
            ("kind", "panic"),
        ] {
            assert_eq!(said(alarm, name), Some(&value.into()));
        }
    })
    .await;
}

#[tokio::test]
async fn a_handler_that_stays_and_fails_again_and_again_does_not_fill_the_store() {
    with_node(in_memory(), async |node| {
        let keep = HandlerOptions {
            on_failure: OnFailure::Keep,
            ..HandlerOptions::default()
        };
        let attached =
            node.telemetry()
                .attach_with("bad", std::slice::from_ref(&SOLD), &keep, (), |_, ()| {
                    panic!("no stock")
                });
        attached.expect("attached");

        (0..40).for_each(|_| node.telemetry().execute(&SOLD, &[], &[]));

        let times: Vec<u64> = alarms(node, 6)
            .await
            .iter()
            .filter_map(|alarm| said(alarm, "failures")?.as_u64())
            .collect();
        assert_eq!(times, [1, 2, 4, 8, 16, 32]);
    })
    .await;
}

#[tokio::test]
async fn a_metric_with_too_many_label_sets_is_told_once_in_the_correlation_that_was_one_too_many() {
    with_node(in_memory(), async |node| {
        let (most, request) = (Options::default().series_max, Context::new(0xcafe, 0));
        let look_up = |n: usize| {
            node.telemetry()
                .counter("hits", &[("path", &n.to_string())])
                .inc();
        };
        (0..most).for_each(look_up);

        request.enter(|| (most..most + 10).for_each(look_up));
        node.telemetry().refresh(LONG).await.expect("answers");
        node.telemetry().refresh(LONG).await.expect("answers");

        let alarms = alarms(node, 1).await;
        assert_eq!(alarms.len(), 1);
        assert_eq!(alarms[0].kind(), "telemetry.metric_overflow");
        assert_eq!(said(&alarms[0], "metric"), Some(&"hits".into()));
        assert_eq!(said(&alarms[0], "series"), Some(&(most as u64).into()));
        let correlation = alarms[0].correlation().and_then(CorrelationId::trace_id);
        assert_eq!(correlation.map(TraceId::get), Some(request.trace));
    })
    .await;
}

#[tokio::test]
async fn handlers_hear_of_full_metrics_and_of_polls_that_panic() {
    let telemetry = Telemetry::new(Options {
        series_max: 3,
        ..Options::default()
    });
    let heard = Recorder::attach(&telemetry, &[METRIC_OVERFLOW.clone(), POLL_FAILURE.clone()]);
    let supervisor = supervised(&telemetry).await;
    let added = telemetry.poll("broken", Duration::ZERO, || panic!("no figures"));
    assert_eq!(added, Ok(()));
    for n in 0..5 {
        telemetry
            .gauge("rooms", &[("floor", &n.to_string())])
            .set(1.0);
    }

    eventually("both are told", async || {
        let _ = telemetry.refresh(LONG).await;
        heard.all().len() >= 2
    })
    .await;

    let told = |event: &EventName, name: &'static str| {
        let all = heard.all();
        let of_event: Vec<_> = all.iter().filter(|told| told.name() == event).collect();
        assert_eq!(of_event.len(), 1, "{event}");
        of_event[0]
            .metadata_of(name)
            .map(|field| field.borrow().to_string())
    };
    assert_eq!(told(&METRIC_OVERFLOW, "metric").as_deref(), Some("rooms"));
    assert_eq!(told(&POLL_FAILURE, "poll").as_deref(), Some("broken"));
    assert_eq!(told(&POLL_FAILURE, "kind").as_deref(), Some("panic"));
    supervisor.stop().await;
}
