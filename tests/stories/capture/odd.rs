//! Programs that do odd things: what is captured of them is whole, and they are not harmed.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Barrier,
};

use futures_util::FutureExt as _;
use tracing::{Instrument as _, info_span};
use tracing_subscriber::prelude::*;
use underpin::{
    events::Event,
    ids::CorrelationId,
    otp::Context,
    testing::{in_memory, with_node},
    value::Value,
};

use super::{LONG, all, assert_settled, capture_of, captured, field, of_kind};

/// Says so when it is dropped.
struct Till;

impl Drop for Till {
    fn drop(&mut self) {
        tracing::info!(target: "shop", "the till is closed");
    }
}

#[tokio::test]
async fn a_span_that_is_entered_on_two_threads_at_once_is_one_span() {
    with_node(in_memory(), async |node| {
        let (capture, subscriber) = capture_of(node);
        let dispatch = tracing::Dispatch::new(subscriber);
        let both = Barrier::new(2);

        tracing::dispatcher::with_default(&dispatch, || {
            let span = info_span!(target: "shop", "shared");
            std::thread::scope(|scope| {
                for number in 0..2 {
                    let (span, both, dispatch) = (span.clone(), &both, dispatch.clone());
                    scope.spawn(move || {
                        tracing::dispatcher::with_default(&dispatch, || {
                            let _inside = span.enter();
                            both.wait();
                            tracing::info!(target: "shop", number, "inside");
                            both.wait();
                        });
                    });
                }
            });
        });

        let events = captured(node, &capture).await;
        let (opened, closed) = (
            of_kind(&events, "span.opened"),
            of_kind(&events, "span.closed"),
        );
        let said = of_kind(&events, "tracing.info");
        assert_eq!((opened.len(), said.len(), closed.len()), (1, 2, 1));
        let parent = Some(opened[0].id());
        assert!(events[1..].iter().all(|event| event.parent() == parent));
        assert!(field(closed[0], "busy_ns").as_u64() > Some(0));
    })
    .await;
}

#[tokio::test]
async fn a_span_that_outlives_its_parent_keeps_the_parent_open_until_it_is_closed() {
    with_node(in_memory(), async |node| {
        let (capture, subscriber) = capture_of(node);

        tracing::subscriber::with_default(subscriber, || {
            let parent = info_span!(target: "shop", "parent");
            let child = parent.in_scope(|| info_span!(target: "shop", "child"));
            drop(parent);
            child.in_scope(|| tracing::info!(target: "shop", "still here"));
        });

        let events = captured(node, &capture).await;
        let story: Vec<_> = events
            .iter()
            .map(|event| {
                (
                    event.kind(),
                    event
                        .data()
                        .as_map()
                        .and_then(|data| data.get("name")?.as_str()),
                )
            })
            .collect();
        assert_eq!(
            story,
            [
                ("span.opened", Some("parent")),
                ("span.opened", Some("child")),
                ("tracing.info", None),
                ("span.closed", Some("child")),
                ("span.closed", Some("parent")),
            ]
        );
        assert_eq!(events[2].parent(), Some(events[1].id()));
    })
    .await;
}

#[tokio::test]
async fn a_future_that_is_given_up_half_way_closes_its_span_and_what_its_drop_says_belongs_there() {
    with_node(in_memory(), async |node| {
        let (capture, subscriber) = capture_of(node);
        let _guard = tracing::subscriber::set_default(subscriber);

        let request = async {
            let _till = Till;
            std::future::pending::<()>().await;
        };
        let mut request = Box::pin(request.instrument(info_span!(target: "shop", "request")));
        assert!((&mut request).now_or_never().is_none());
        assert!(Context::current().is_empty());
        drop(request);

        let events = captured(node, &capture).await;
        let kinds: Vec<_> = events.iter().map(Event::kind).collect();
        assert_eq!(kinds, ["span.opened", "tracing.info", "span.closed"]);
        assert_eq!(events[1].parent(), Some(events[0].id()));
        assert!(Context::current().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_panic_inside_spans_closes_them_and_leaves_nothing_to_whoever_comes_after() {
    with_node(in_memory(), async |node| {
        let (capture, subscriber) = capture_of(node);
        let _guard = tracing::subscriber::set_default(subscriber);

        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _outer = info_span!(target: "shop", "outer").entered();
            let _inner = info_span!(target: "shop", "inner").entered();
            let _till = Till;
            panic!("wanted by the story");
        }));
        tracing::info!(target: "shop", "after it");

        assert!(panicked.is_err());
        let events = captured(node, &capture).await;
        let kinds: Vec<_> = events.iter().map(Event::kind).collect();
        let expected = [
            "span.opened",
            "span.opened",
            "tracing.info",
            "span.closed",
            "span.closed",
            "tracing.info",
        ];
        assert_eq!(kinds, expected);
        assert_eq!(events[2].parent(), Some(events[1].id()));
        assert_eq!((events[5].parent(), events[5].correlation()), (None, None));
    })
    .await;
}

#[tokio::test]
async fn a_malformed_traceparent_begins_a_trace_of_its_own_and_is_kept_as_the_field_it_is() {
    with_node(in_memory(), async |node| {
        let (capture, subscriber) = capture_of(node);
        let malformed = [
            "",
            "00",
            "hello",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ];

        tracing::subscriber::with_default(subscriber, || {
            for traceparent in malformed {
                info_span!(target: "shop", "request", traceparent);
            }
        });

        let events = captured(node, &capture).await;
        let opened = of_kind(&events, "span.opened");
        let fields = opened
            .iter()
            .map(|opened| field(opened, "traceparent").as_str());
        assert!(fields.eq(malformed.map(Some)));
        let traces: BTreeSet<_> = opened
            .iter()
            .map(|opened| opened.correlation().map(CorrelationId::to_string))
            .collect();
        assert_eq!(traces.len(), malformed.len());
        assert!(!format!("{traces:?}").contains("4bf92f3577b34da6a3ce929d0e0e4736"));
    })
    .await;
}

struct Broken;

impl std::fmt::Debug for Broken {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("cannot be written")
    }
}

struct Endless;

impl std::fmt::Display for Endless {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        loop {
            f.write_str("00-")?;
        }
    }
}

/// All fields are written with care, and this one was written once more without: it took the program along, or all of its memory.
#[tokio::test]
async fn a_traceparent_that_cannot_be_written_harms_nobody_and_names_no_trace() {
    with_node(in_memory(), async |node| {
        let (capture, subscriber) = capture_of(node);

        tracing::subscriber::with_default(subscriber, || {
            info_span!(target: "shop", "request", traceparent = ?Broken);
            info_span!(target: "shop", "request", traceparent = %Endless);
        });

        let events = captured(node, &capture).await;
        let opened = of_kind(&events, "span.opened");
        let texts = opened.iter().map(|one| field(one, "traceparent").as_str());
        let texts: Vec<&str> = texts.map(|text| text.expect("a text")).collect();
        assert_eq!(texts[0], "[panicked]");
        assert!(texts[1].starts_with("00-00-") && texts[1].ends_with('…'));
        assert!(opened.iter().all(|one| one.correlation().is_some()));
    })
    .await;
}

#[tokio::test]
async fn ten_thousand_spans_that_are_open_at_once_are_ten_thousand_traces_and_all_are_closed() {
    with_node(in_memory(), async |node| {
        let (capture, subscriber) = capture_of(node);

        tracing::subscriber::with_default(subscriber, || {
            let open: Vec<_> = (0..10_000_u64)
                .map(|number| info_span!(target: "shop", "open", number))
                .collect();
            drop(open);
        });

        let events = captured(node, &capture).await;
        let traces: BTreeSet<_> = events
            .iter()
            .map(|event| event.correlation().map(CorrelationId::to_string))
            .collect();
        assert_eq!(
            (traces.len(), of_kind(&events, "span.closed").len()),
            (10_000, 10_000)
        );
        assert_eq!(capture.stats().dropped, 0);
        assert_settled(capture.stats());
    })
    .await;
}

#[tokio::test]
async fn a_program_that_ends_its_node_first_goes_on_and_what_it_says_then_is_counted() {
    let node = in_memory().start().await.expect("starts");
    let capture = node.capture().clone();
    let subscriber = tracing_subscriber::registry().with(capture.layer());
    capture.set_filter("off,shop=trace").expect("a filter");
    let _guard = tracing::subscriber::set_default(subscriber);
    let open = info_span!(target: "shop", "request").entered();

    node.shutdown().await;
    for number in 0..1000 {
        tracing::info!(target: "shop", number, "nobody listens");
    }
    drop(open);

    let stats = capture.stats();
    assert_eq!((stats.stored, stats.dropped), (1, 1001), "{stats:?}");
    assert_settled(stats);
    capture.flush(LONG).await.expect("nothing to wait for");
}

#[tokio::test]
async fn a_span_that_was_opened_is_closed_in_the_books_whatever_is_captured_by_then() {
    with_node(in_memory(), async |node| {
        let (capture, subscriber) = capture_of(node);
        let _guard = tracing::subscriber::set_default(subscriber);

        let request = info_span!(target: "shop", "request", user = tracing::field::Empty);
        request.in_scope(|| {
            capture.set_filter("off").expect("a filter");
            tracing::info!(target: "shop", "not wanted any more");
            request.record("user", "ann");
            info_span!(target: "shop", "not wanted either").in_scope(|| ());
        });
        drop(request);
        capture.set_filter("off,shop=trace").expect("a filter");
        tracing::info!(target: "shop", "outside");

        let events = captured(node, &capture).await;
        let kinds: Vec<_> = events.iter().map(Event::kind).collect();
        assert_eq!(
            kinds,
            [
                "span.opened",
                "span.recorded",
                "span.closed",
                "tracing.info"
            ]
        );
        assert_eq!(events[3].correlation(), None);
    })
    .await;
}

#[tokio::test]
async fn bytes_are_kept_as_bytes_numbers_as_wide_as_they_are_and_texts_whatever_they_hold() {
    with_node(in_memory(), async |node| {
        let (capture, subscriber) = capture_of(node);
        let bytes = [0xff_u8, 0xfe, 0x00, 0x41];

        tracing::subscriber::with_default(subscriber, || {
            let text = "zero \0, bell \u{7}, \u{10ffff}";
            tracing::info!(target: "shop", bytes = &bytes[..], text, largest = u64::MAX, wide = u128::MAX, nothing = f64::NAN, "odd");
        });

        let odd = &captured(node, &capture).await[0];
        assert_eq!(field(odd, "bytes"), &Value::from(&bytes[..]));
        assert_eq!(field(odd, "text"), &Value::from("zero \0, bell \u{7}, \u{10ffff}"));
        assert_eq!(field(odd, "largest"), &Value::from(u64::MAX));
        assert_eq!(field(odd, "wide"), &Value::from(u128::MAX.to_string()));
        assert!(matches!(field(odd, "nothing"), Value::Float(number) if number.is_nan()), "{odd:?}");
        assert_eq!(all(node.events()).await.len(), 1);
        assert_eq!(capture.stats().refused, 0);
    })
    .await;
}

#[tokio::test]
async fn a_span_that_follows_from_one_that_was_not_captured_points_at_nothing() {
    with_node(in_memory(), async |node| {
        let (capture, subscriber) = capture_of(node);
        let _guard = tracing::subscriber::set_default(subscriber);

        capture.set_share(0.0).expect("a share");
        let cause = info_span!(target: "shop", "not captured");
        capture.set_share(1.0).expect("a share");
        let effect = info_span!(target: "shop", "effect");
        effect.follows_from(&cause);
        drop(effect);

        let events = captured(node, &capture).await;
        let kinds: Vec<_> = events.iter().map(Event::kind).collect();
        assert_eq!(kinds, ["span.opened", "span.closed"]);
    })
    .await;
}

#[cfg(feature = "web")]
#[tokio::test]
async fn a_request_goes_on_with_its_callers_trace_where_that_is_named_once_and_well() {
    use axum::{Router, middleware::from_fn, routing::get};
    use underpin::capture;

    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let header = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01\r\n");
    let app = Router::new()
        .route(
            "/",
            get(async || {
                capture::traceparent().map_or_else(String::new, |own| own.trace().to_string())
            }),
        )
        .layer(from_fn(capture::http::traced));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, app).await });
    let ask = async |headers: &str| {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{headers}tracestate: a=1,,=\r\nConnection: close\r\n\r\n"
        );
        let answer = crate::web::raw(address, request.as_bytes()).await;
        assert_eq!(answer.status, 200);
        answer.text().to_owned()
    };

    assert_eq!(ask(&header).await, trace);
    let shouted = header.replace("traceparent", "TraceParent");
    assert_eq!(ask(&shouted).await, trace);
    let malformed = [
        String::new(),
        header.repeat(2),
        header.replace("00-", "ff-"),
        header.replace(trace, "0"),
        "traceparent: \u{e9}\r\n".to_owned(),
    ];
    for headers in malformed {
        let own = ask(&headers).await;
        assert_eq!(own.len(), 32, "{headers:?}");
        assert_ne!(own, trace, "{headers:?}");
    }
}
