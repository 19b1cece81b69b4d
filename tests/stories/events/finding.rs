//! Finding events.

use underpin::events::{
    Event, EventBuilder, Events, Options, Order, Query, QueryError, StoreError, Timestamp,
};

use super::support::{Store, correlation, event, id, ids_of, steps};

fn at(nanos: i64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

fn linked(number: u64, nanos: i64, text: &str) -> Event {
    EventBuilder::new(id(number), "linked")
        .time(at(nanos))
        .correlation(correlation(text))
        .build()
        .expect("valid")
}

async fn ask(events: &Events, query: Query) -> Vec<u64> {
    ids_of(&events.query(query).await.expect("query is answered"))
}

#[tokio::test]
async fn f52_kinds_are_told_apart_and_both_ends_of_a_range_belong_to_it() {
    let store = Store::durable().await;
    let batch = vec![
        event(1, "type_a", 100),
        event(2, "type_b", 200),
        event(3, "type_a", 300),
    ];
    store.events.store_batch(batch).await.expect("stored");

    assert_eq!(
        ask(&store.events, Query::new().kind("type_a")).await,
        [1, 3]
    );
    assert_eq!(
        ask(&store.events, Query::new().since(at(150)).until(at(250))).await,
        [2]
    );
    assert_eq!(
        ask(&store.events, Query::new().since(at(100)).until(at(200))).await,
        [1, 2]
    );
    assert!(
        ask(&store.events, Query::new().kind("type_c"))
            .await
            .is_empty()
    );
    assert_eq!(
        ask(&store.events, Query::new().kind("type_a").since(at(101))).await,
        [3]
    );
}

#[tokio::test]
async fn f53_limit_and_skip_cut_a_page_out_of_the_order() {
    let store = Store::durable().await;
    store.events.store_batch(steps(10)).await.expect("stored");

    let page = Query::new().order(Order::IdAscending).skip(2).limit(3);

    assert_eq!(ask(&store.events, page).await, [3, 4, 5]);
}

#[tokio::test]
async fn f54_a_correlation_is_found_whole_and_in_order_of_time() {
    let store = Store::durable().await;
    let batch = vec![
        linked(1, 30, "test-correlation-123"),
        linked(2, 20, "other"),
        linked(3, 10, "test-correlation-123"),
    ];
    store.events.store_batch(batch).await.expect("stored");

    let found = store
        .events
        .correlation(&correlation("test-correlation-123"))
        .await
        .expect("answered");
    let unknown = store
        .events
        .correlation(&correlation("unknown"))
        .await
        .expect("answered");

    assert_eq!(ids_of(&found), [3, 1]);
    assert!(unknown.events.is_empty());
}

#[tokio::test]
async fn f60_all_ways_to_ask_for_a_correlation_agree() {
    let store = Store::durable().await;
    let batch: Vec<_> = (1..=30)
        .map(|n| linked(n, 0, if n % 3 == 0 { "third" } else { "rest" }))
        .collect();
    store.events.store_batch(batch).await.expect("stored");

    let direct = store
        .events
        .correlation(&correlation("third"))
        .await
        .expect("answered");
    let by_query = Query::new()
        .correlation(correlation("third"))
        .kind("linked");

    assert_eq!(ids_of(&direct), ask(&store.events, by_query.clone()).await);
    assert_eq!(store.events.count(by_query).await.expect("countable"), 10);
}

#[tokio::test]
async fn one_trace_is_found_in_every_spelling() {
    let store = Store::durable().await;
    let plain = "4bf92f3577b34da6a3ce929d0e0e4736";
    let uuid = "4bf92f35-77b3-4da6-a3ce-929d0e0e4736";
    store
        .events
        .store_batch(vec![linked(1, 1, plain), linked(2, 2, uuid)])
        .await
        .expect("stored");

    for spelling in [plain, uuid] {
        let found = store
            .events
            .correlation(&correlation(spelling))
            .await
            .expect("answered");
        assert_eq!(ids_of(&found), [1, 2]);
    }
}

#[tokio::test]
async fn f61_by_default_a_thousand_come_in_order_of_time_and_zero_means_none() {
    let store = Store::memory().await;
    let backwards: Vec<_> = (1..=1500)
        .map(|n| event(n, "k", -i64::try_from(n).expect("small")))
        .collect();
    store.events.store_batch(backwards).await.expect("stored");

    let page = store.events.query(Query::new()).await.expect("answered");
    let none = store
        .events
        .query(Query::new().limit(0))
        .await
        .expect("answered");

    assert_eq!(page.events.len(), 1000);
    assert_eq!(ids_of(&page)[..3], [1500, 1499, 1498]);
    assert!(page.next.is_some());
    assert!(none.events.is_empty() && none.next.is_none());
}

/// A malformed query killed the original's store and lost all its events.
#[tokio::test]
async fn a_query_that_cannot_be_answered_is_an_error_and_harms_nothing() {
    let store = Store::memory().await;
    store.events.store(event(1, "k", 0)).await.expect("stored");

    let too_many = store.events.query(Query::new().limit(usize::MAX)).await;
    let backwards = store
        .events
        .count(Query::new().since(at(2)).until(at(1)))
        .await;

    assert!(matches!(
        too_many,
        Err(StoreError::Query(QueryError::Limit { .. }))
    ));
    assert!(matches!(
        backwards,
        Err(StoreError::Query(QueryError::Range))
    ));
    assert_eq!(store.events.stats().events, 1);
}

#[tokio::test]
async fn f64_recent_gives_the_newest_first() {
    let store = Store::durable().await;
    store.events.store_batch(steps(10)).await.expect("stored");

    let recent = store.events.recent(3).await.expect("answered");

    assert_eq!(ids_of(&recent), [10, 9, 8]);
}

#[tokio::test]
async fn f72_parents_lead_back_to_the_first_cause() {
    let store = Store::durable().await;
    store
        .events
        .store(event(1, "root", 0))
        .await
        .expect("stored");
    for number in 2..=10 {
        let child = EventBuilder::new(id(number), "child")
            .parent(id(number - 1))
            .build()
            .expect("valid");
        store.events.store(child).await.expect("stored");
    }

    let mut path = vec![10];
    let mut next = Some(id(10));
    while let Some(current) = next {
        next = store
            .events
            .get(current)
            .await
            .expect("readable")
            .expect("is there")
            .parent();
        path.extend(next.map(underpin::ids::EventId::get));
    }

    assert_eq!(path, [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
}

#[tokio::test]
async fn f76_twenty_events_in_a_row_are_all_found_in_their_order() {
    let store = Store::durable().await;
    for event in steps(20) {
        store.events.store(event).await.expect("stored");
    }

    let found = store
        .events
        .query(Query::new().kind("step"))
        .await
        .expect("answered");

    let numbers: Vec<_> = found
        .events
        .iter()
        .filter_map(|event| event.data().as_i64())
        .collect();
    assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn f77_kind_correlation_and_id_tell_the_same_story() {
    let store = Store::durable().await;
    let chain: Vec<_> = (1..=5).map(|n| linked(n, 7, "chain")).collect();
    store
        .events
        .store_batch(chain.clone())
        .await
        .expect("stored");

    let by_kind = store
        .events
        .query(Query::new().kind("linked"))
        .await
        .expect("answered")
        .events;
    let together = store
        .events
        .correlation(&correlation("chain"))
        .await
        .expect("answered")
        .events;

    assert_eq!(by_kind, chain);
    assert_eq!(together, chain);
    for event in chain {
        assert_eq!(
            store.events.get(event.id()).await.expect("readable"),
            Some(event)
        );
    }
}

#[tokio::test]
async fn pages_follow_one_another_while_events_come_and_go() {
    let store = Store::durable().await;
    store.events.store_batch(steps(25)).await.expect("stored");
    let mut seen = Vec::new();
    let mut query = Query::new().limit(10);

    loop {
        let page = store.events.query(query.clone()).await.expect("answered");
        seen.extend(ids_of(&page));
        let Some(next) = page.next else {
            break;
        };
        // Neither moves the pages that are still to come.
        store.events.prune_before(at(5)).await.expect("pruned");
        store
            .events
            .store(event(100 + seen.len() as u64, "step", 1))
            .await
            .expect("stored");
        query = query.after(next);
    }

    assert_eq!(seen, (1..=25).collect::<Vec<_>>());
}

#[tokio::test]
async fn f43_an_event_that_left_memory_is_read_from_disk_to_the_letter() {
    let options = Options {
        hot_bytes: 0,
        segment_bytes: 20_000,
        ..Options::default()
    };
    let store = Store::with(options).await;
    let batches: Vec<Vec<_>> = steps(4000).chunks(100).map(<[Event]>::to_vec).collect();
    for batch in batches {
        store.events.store_batch(batch).await.expect("stored");
    }

    let stats = store.events.stats();
    assert!(
        stats.segments > 3 && stats.hot_bytes < stats.log_bytes,
        "most events are on disk: {stats:?}"
    );
    for event in [1, 777, 2500, 4000].map(|number| steps(number).pop().expect("last one")) {
        assert_eq!(
            store.events.get(event.id()).await.expect("readable"),
            Some(event)
        );
    }
    let page = store
        .events
        .query(Query::new().kind("step").limit(4000))
        .await
        .expect("answered");
    assert_eq!(page.events, steps(4000));
    assert!(page.unreadable.is_empty());
}
