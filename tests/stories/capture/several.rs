//! Several captures in one process.

use std::collections::BTreeSet;

use tracing::{Instrument as _, info_span};
use tracing_subscriber::prelude::*;
use underpin::{
    capture::Capture,
    events::Event,
    node::Node,
    testing::{in_memory, with_node},
};

use super::{LONG, all, captured, cashier, field, options};
use crate::capture::Till;

/// Each event has the correlation of all, and its cause is in the same store.
fn assert_whole(events: &[Event]) {
    let ids: BTreeSet<_> = events.iter().map(Event::id).collect();
    for event in events {
        assert_eq!(event.correlation(), events[0].correlation());
        let cause = event.parent();
        assert!(
            cause.is_none_or(|cause| ids.contains(&cause)),
            "{event:?} is caused by an event of another store"
        );
    }
}

#[tokio::test]
async fn two_captures_of_one_subscriber_see_the_same_traces_with_causes_of_their_own() {
    with_node(in_memory(), async |other: &Node| {
        with_node(in_memory(), async |node: &Node| {
            let [one, two] = [node, other].map(|node| {
                Capture::new(node.events(), &options("off,shop=trace")).expect("valid")
            });
            let subscriber = tracing_subscriber::registry()
                .with(one.layer())
                .with(two.layer());

            tracing::subscriber::with_default(subscriber, || {
                let request = info_span!(target: "shop", "request", user = tracing::field::Empty);
                request.in_scope(|| {
                    tracing::info!(target: "shop", "before");
                    info_span!(target: "shop", "inner").in_scope(|| {
                        tracing::info!(target: "shop", "inside");
                    });
                    tracing::info!(target: "shop", "after");
                });
                request.record("user", "ann");
            });

            let (ours, theirs) = (captured(node, &one).await, captured(other, &two).await);
            let kinds = |events: &[Event]| -> Vec<String> {
                events.iter().map(|event| event.kind().to_owned()).collect()
            };
            assert_eq!(
                kinds(&ours),
                [
                    "span.opened",
                    "tracing.info",
                    "span.opened",
                    "tracing.info",
                    "span.closed",
                    "tracing.info",
                    "span.recorded",
                    "span.closed"
                ]
            );
            assert_eq!(kinds(&theirs), kinds(&ours));
            assert_eq!(ours[0].correlation(), theirs[0].correlation());
            for events in [&ours, &theirs] {
                assert_whole(events);
                let parent = |at: usize| events[at].parent();
                let [request, inner] = [0, 2].map(|at: usize| Some(events[at].id()));
                assert_eq!([parent(1), parent(2), parent(5), parent(6)], [request; 4]);
                assert_eq!([parent(3), parent(4)], [inner; 2]);
            }
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_capture_that_does_not_want_a_span_still_has_its_trace_and_names_no_foreign_cause() {
    let (till, spec) = cashier();
    with_node(in_memory().child(spec), async |node| {
        let all_of_it = Capture::new(node.events(), &options("off,shop=trace,web=trace"));
        let all_of_it = all_of_it.expect("valid");
        with_node(in_memory(), async |other| {
            let shop = Capture::new(other.events(), &options("off,shop=trace")).expect("valid");
            let subscriber = tracing_subscriber::registry()
                .with(shop.layer())
                .with(all_of_it.layer());
            let _guard = tracing::subscriber::set_default(subscriber);

            let request = async {
                tracing::info!(target: "shop", "checking");
                let charge = |reply| Till::Charge { cents: 250, reply };
                till.call(charge, LONG).await.expect("answers");
            };
            let span = info_span!(target: "web", "request");
            request.instrument(span).await;

            all_of_it.flush(LONG).await.expect("stored");
            shop.flush(LONG).await.expect("stored");
            let (whole, part) = (all(node.events()).await, all(other.events()).await);
            let said = |events: &[Event]| -> Vec<String> {
                let said = events.iter().filter(|event| event.kind() == "tracing.info");
                said.map(|event| field(event, "message").as_str().unwrap_or("").to_owned())
                    .collect()
            };
            assert_eq!(said(&part), ["checking", "charged"]);
            assert_eq!(said(&whole), said(&part));
            for event in whole.iter().chain(&part) {
                assert_eq!(event.correlation(), whole[0].correlation());
            }
            assert_eq!(part[0].parent(), None);
        })
        .await;
    })
    .await;
}
