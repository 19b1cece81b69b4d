//! Causes, effects, and time.

use underpin::{
    events::{
        Effects, End, Event, EventBuilder, Index, Options, Query, QueryError, SimulatedDisk, Start,
        StateChange, StoreError, Timestamp,
    },
    ids::{EventId, IdGenerator, NodeId},
    telemetry::{self, Telemetry},
    value::Value,
};

use super::support::{Store, correlation, event, id, ids_of, on, steps, until};

fn at(nanos: i64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

fn caused(number: u64, parent: u64) -> Event {
    EventBuilder::new(id(number), "step")
        .time(at(i64::try_from(number).expect("small")))
        .parent(id(parent))
        .build()
        .expect("valid")
}

#[tokio::test]
async fn f72_why_leads_to_the_first_cause_and_effects_lead_back() {
    for options in [
        Options::memory(),
        Options {
            hot_bytes: 0,
            segment_bytes: 4096,
            ..Options::default()
        },
    ] {
        let store = Store::with(options).await;
        // 1 caused 2 and 5, 2 caused 3, 3 caused 4; 9 is a stranger.
        let family =
            [(2, 1), (3, 2), (4, 3), (5, 1)].map(|(number, parent)| caused(number, parent));
        let family = [
            &[event(1, "root", 1)][..],
            &family,
            &[event(9, "stranger", 9)],
        ]
        .concat();
        for event in family {
            store.events.store(event).await.expect("stored");
        }

        let why = store
            .events
            .causes(id(4))
            .await
            .expect("readable")
            .expect("there");
        let ids: Vec<_> = why.events.iter().map(|event| event.id().get()).collect();
        assert_eq!((ids.as_slice(), why.end), (&[4, 3, 2, 1][..], End::Root));

        let effects = store.events.effects(id(1)).await.expect("readable");
        let tree: Vec<_> = effects
            .effects
            .iter()
            .map(|effect| (effect.depth, effect.event.id().get()))
            .collect();
        assert_eq!(tree, [(0, 2), (1, 3), (2, 4), (0, 5)]);
        assert!(effects.complete && effects.event.is_some());
        assert_eq!(
            store.events.effects(id(9)).await.expect("readable").effects,
            []
        );
        assert_eq!(store.events.causes(id(77)).await.expect("readable"), None);
    }
}

#[tokio::test]
async fn a_row_of_causes_says_where_it_breaks_off() {
    let store = Store::memory().await;
    // 1 is gone; 7 and 8 cause each other, since ids may be given by anyone.
    let odd = [caused(2, 1), caused(7, 8), caused(8, 7)];
    store
        .events
        .store_batch(odd.to_vec())
        .await
        .expect("stored");

    let why = store
        .events
        .causes(id(2))
        .await
        .expect("readable")
        .expect("there");
    assert_eq!(why.end, End::Missing { id: id(1) });
    let why = store
        .events
        .causes(id(7))
        .await
        .expect("readable")
        .expect("there");
    assert_eq!((why.events.len(), why.end), (2, End::Circle { id: id(7) }));
    let effects = store.events.effects(id(7)).await.expect("readable");
    assert_eq!(effects.effects.len(), 1);
    // What an event that is gone has caused can still be asked.
    let effects = store.events.effects(id(1)).await.expect("readable");
    assert_eq!((effects.event.is_none(), effects.effects.len()), (true, 1));
}

fn large(number: u64, parent: Option<u64>) -> Event {
    let mut event = EventBuilder::new(id(number), "large").data("x".repeat(900_000));
    if let Some(parent) = parent {
        event = event.parent(id(parent));
    }
    event.build().expect("valid")
}

/// Ten thousand events of a megabyte each were all kept.
#[tokio::test]
async fn causes_effects_and_timelines_hold_so_many_bytes_and_say_that_there_are_more() {
    let store = Store::durable().await;
    store.events.store(large(1, None)).await.expect("stored");
    for number in 2..=45 {
        let caused = large(number, Some(number - 1));
        store.events.store(caused).await.expect("stored");
    }
    for number in 1..=45 {
        let text = Value::from(format!("{number}{}", "x".repeat(450_000)));
        let change = StateChange::new("set", text.clone(), Value::Null).keep_bytes(1 << 20);
        let change = change.event(id(1000 + number), "s").build().expect("valid");
        store.events.store(change).await.expect("stored");
        let change = StateChange::new("set", Value::Null, text).keep_bytes(1 << 20);
        let change = change.event(id(2000 + number), "s").build().expect("valid");
        store.events.store(change).await.expect("stored");
    }

    let why = store.events.causes(id(45)).await.expect("readable");
    let why = why.expect("there");
    assert_eq!(why.end, End::TooLong);
    assert!(
        (37..=39).contains(&why.events.len()),
        "{}",
        why.events.len()
    );
    let effects = store.events.effects(id(1)).await.expect("readable");
    let found = effects.effects.len();
    assert!((36..=39).contains(&found) && !effects.complete, "{found}");
    let timeline = store.events.timeline(Query::new().source("s")).await;
    let max = Query::LIMIT_MAX;
    assert!(
        matches!(timeline, Err(StoreError::Query(QueryError::TimelineTooLong { max: told })) if told == max)
    );
    let part = Query::new().source("s").last_id(id(1030));
    let part = store.events.timeline(part).await.expect("it fits");
    assert_eq!(part.changes().len(), 30);
}

/// With exactly as many as are followed, all of them without effects, more were said to be there.
#[tokio::test]
async fn causes_and_effects_are_followed_to_their_limit_and_not_beyond() {
    let most = u64::try_from(Effects::EVENTS_MAX).expect("small");
    let store = Store::memory().await;
    let leaves = (2..=most + 1).map(|number| caused(number, 1));
    store
        .events
        .store_batch(leaves.collect())
        .await
        .expect("stored");
    let effects = store.events.effects(id(1)).await.expect("readable");
    assert_eq!((effects.effects.len(), effects.complete), (10_000, true));
    let last = caused(most + 2, most + 1);
    store.events.store(last).await.expect("stored");
    let effects = store.events.effects(id(1)).await.expect("readable");
    assert_eq!((effects.effects.len(), effects.complete), (10_000, false));

    let store = Store::memory().await;
    let chain = (1..=most + 1).map(|number| match number {
        1 => event(1, "root", 1),
        _ => caused(number, number - 1),
    });
    store
        .events
        .store_batch(chain.collect())
        .await
        .expect("stored");
    let why = async |number: u64| {
        let why = store.events.causes(id(number)).await.expect("readable");
        why.map(|why| (why.events.len(), why.end))
    };
    assert_eq!(why(most).await, Some((10_000, End::Root)));
    assert_eq!(why(most + 1).await, Some((10_000, End::TooLong)));
}

/// An effect that could not be read was left out, and they were said to be complete.
#[tokio::test]
async fn effects_of_which_one_cannot_be_read_are_not_complete() {
    let store = Store::with(Options {
        hot_bytes: 0,
        ..Options::default()
    });
    let store = store.await;
    for number in 2..=4 {
        let effect = EventBuilder::new(id(number), "step").parent(id(1));
        let effect = effect.data(format!("number {number}")).build();
        store
            .events
            .store(effect.expect("valid"))
            .await
            .expect("stored");
    }
    let log = store.files("seg").pop().expect("a log");
    let mut bytes = std::fs::read(&log).expect("readable");
    let at = bytes.windows(8).position(|part| part == b"number 3");
    bytes[at.expect("the second")] ^= 1;
    std::fs::write(&log, bytes).expect("writable");

    let effects = store.events.effects(id(1)).await.expect("readable");

    assert_eq!((effects.effects.len(), effects.complete), (2, false));
}

/// An index that cannot be read is an error of its own, and the next question finds what there is.
#[tokio::test]
async fn an_index_that_cannot_be_read_is_said_to_be_one() {
    let disk = SimulatedDisk::new(3);
    let options = Options {
        hot_bytes: 0,
        segment_bytes: 4096,
        cache_bytes: 0,
        ..Options::default()
    };
    let (events, _supervisor) = on(std::sync::Arc::new(disk.clone()), options).await;
    for step in steps(300) {
        events.store(step).await.expect("stored");
    }
    until("they are sealed", || events.stats().sealed >= 3).await;
    let mut following = events
        .subscribe(Query::new().kind("step"), Start::Beginning)
        .await
        .expect("subscribed");

    disk.fail_reads(u32::MAX);
    let asked = events.count(Query::new().kind("step")).await;
    assert!(matches!(asked, Err(StoreError::Index(_))), "{asked:?}");
    tokio::time::pause();
    let begin = tokio::time::Instant::now();
    for _ in 0..4 {
        let next = following.next().await;
        assert!(matches!(next, Err(StoreError::Index(_))), "{next:?}");
    }
    assert!(
        begin.elapsed() >= std::time::Duration::from_secs(3),
        "not in a hurry"
    );

    disk.fail_reads(0);
    let count = events.count(Query::new().kind("step")).await;
    assert_eq!(count.expect("it answers"), 300);
    assert_eq!(following.next().await.expect("it goes on").id(), id(1));
}

#[tokio::test]
async fn a_store_can_be_asked_as_it_was() {
    let store = Store::durable().await;
    let made = |ms: u64, time: i64| {
        let id = EventId::from_parts(1_800_000_000_000 + ms, NodeId::new(7).expect("small"), 0);
        let event = EventBuilder::new(id.expect("in range"), "step").time(at(time));
        event.build().expect("valid")
    };
    // The last one was imported late: its time is old, and yet it was not there before.
    let events = vec![made(0, 1), made(10, 2), made(20, 0)];
    store
        .events
        .store_batch(events.clone())
        .await
        .expect("stored");

    let as_of = |ms: i64| {
        let query = Query::new().as_of(at((1_800_000_000_000 + ms) * 1_000_000));
        async { store.events.query(query).await.expect("answered").events }
    };
    assert_eq!(as_of(-1).await, []);
    assert_eq!(as_of(0).await, events[..1]);
    assert_eq!(as_of(15).await, events[..2]);
    assert_eq!(
        as_of(20).await,
        [events[2].clone(), events[0].clone(), events[1].clone()]
    );
    let then = Query::new().as_of(at(1_800_000_000_015 * 1_000_000));
    assert_eq!(store.events.count(then).await.expect("countable"), 2);
}

#[tokio::test]
async fn a_timeline_tells_the_state_at_any_time() {
    let store = Store::durable().await;
    let stock = |n: i64| Value::from([("stock", n)]);
    let mut last = 10;
    for (number, left) in (1..).zip([9, 8, 3, 2]) {
        let change = StateChange::new("sell", stock(last), stock(left))
            .event(id(number), if number == 4 { "shelf-2" } else { "shelf-1" })
            .correlation(correlation("day-1"))
            .time(at(i64::try_from(number).expect("small") * 10))
            .build()
            .expect("valid");
        store.events.store(change).await.expect("stored");
        last = left;
    }
    store
        .events
        .store(event(50, "noise", 15))
        .await
        .expect("stored");

    let shelf = store
        .events
        .timeline(Query::new().source("shelf-1"))
        .await
        .expect("read");
    assert_eq!(shelf.state("shelf-1", at(25)), Some(&stock(8)));
    let fell = shelf.between(at(10), at(30));
    assert_eq!(
        (fell.len(), &fell[0].before, &fell[0].after),
        (1, &Some(9.into()), &Some(3.into()))
    );

    let day = store
        .events
        .timeline(Query::new().correlation(correlation("day-1")))
        .await
        .expect("read");
    assert_eq!(day.states(at(100)).len(), 2);
    for (query, refusal) in [
        (Query::new().kind("other"), QueryError::TimelineKind),
        (Query::new().limit(5), QueryError::NotAFilter),
    ] {
        let refused = store.events.timeline(query).await;
        assert!(matches!(refused, Err(StoreError::Query(refused)) if refused == refusal));
    }
}

#[tokio::test]
async fn the_index_that_was_chosen_can_be_seen_and_data_is_only_read_where_it_must() {
    let store = Store::memory().await;
    let events: Vec<_> = (1..=5000)
        .map(|number| {
            EventBuilder::new(id(number), format!("k.{}", number % 4))
                .source(format!("s{}", number % 10))
                .correlation(correlation(&format!("c{}", number / 5)))
                .time(at(i64::try_from(number).expect("small")))
                .data(Value::from([("n", number)]))
                .build()
                .expect("valid")
        })
        .collect();
    store.events.store_batch(events).await.expect("stored");
    let explain = async |query: Query| store.events.explain(query).await.expect("explained");
    let by = |explained: &underpin::events::Explanation| {
        let plan = explained.segments[0]
            .plan
            .as_ref()
            .expect("something matches");
        (plan.by, plan.and.clone())
    };

    let one = explain(Query::new().kind("k.1").correlation(correlation("c7"))).await;
    assert_eq!(by(&one), (Index::Correlation, vec![]));
    assert!(
        one.rows <= 16 && one.to_string().contains("by correlation"),
        "{one}"
    );

    let two = explain(Query::new().kind("k.1").source("s1").limit(10)).await;
    assert_eq!(by(&two), (Index::Source, vec![Index::Kind]));
    let three = explain(Query::new().kind_prefix("k.").limit(10)).await;
    assert_eq!(by(&three), (Index::KindPrefix, vec![]));
    let four = explain(Query::new().since(at(2000)).until(at(2010))).await;
    assert_eq!(by(&four), (Index::Blocks, vec![]));
    assert!(
        four.rows < 2500,
        "blocks outside of the range are left out: {four}"
    );

    // Indexed fields never need an event that is not part of the answer.
    for explained in [&two, &three, &four] {
        assert!(explained.events_read <= explained.found + 1, "{explained}");
    }
    let nothing = explain(Query::new().kind("k.9")).await;
    assert_eq!(
        (nothing.segments[0].plan.clone(), nothing.events_read),
        (None, 0)
    );
}

#[tokio::test]
async fn a_query_that_nobody_waits_for_any_more_stops() {
    let telemetry = Telemetry::new(telemetry::Options::default());
    let ids = std::sync::Arc::new(IdGenerator::new(NodeId::new(7).expect("small")));
    let folder = std::sync::Arc::new(underpin::events::Folder::new(""));
    let events = underpin::events::Events::new(Options::memory(), folder, ids, &telemetry);
    let _supervisor = super::support::supervise(&events).await;
    for batch in steps(40_000).chunks(10_000) {
        events.store_batch(batch.to_vec()).await.expect("stored");
    }
    let cancelled = telemetry.counter("underpin_events_queries_cancelled", &[]);

    // Compares the data of every event, and finds none.
    let comparison = underpin::events::Comparison::new(
        underpin::value::Path::root(),
        underpin::events::Operator::Less,
        -1,
    );
    let query = Query::new().data(comparison);
    // On a machine that has other things to do, one may have come to its end before it was given up.
    let given_up = async {
        while cancelled.value() == 0 {
            let asked = events.count(query.clone());
            let given_up = tokio::time::timeout(std::time::Duration::ZERO, asked).await;
            assert!(given_up.is_err());
            tokio::task::yield_now().await;
        }
    };
    let stops = tokio::time::timeout(std::time::Duration::from_secs(20), given_up);
    stops.await.expect("a search stops");
}

#[tokio::test]
async fn a_long_answer_comes_in_pages_that_fit_into_memory() {
    use futures_util::StreamExt;
    let store = Store::memory().await;
    let large = |number: u64| {
        let data = "x".repeat(400_000);
        let event = EventBuilder::new(id(number), "large")
            .time(at(1))
            .data(data);
        event.build().expect("valid")
    };
    for number in 1..=100 {
        store.events.store(large(number)).await.expect("stored");
    }

    let page = store.events.query(Query::new()).await.expect("answered");
    assert!(
        page.events.len() < 100 && page.next.is_some(),
        "{} events",
        page.events.len()
    );
    let rest = Query::new().after(page.next.expect("more"));
    let rest = store.events.query(rest).await.expect("answered");
    assert_eq!(
        [ids_of(&page), ids_of(&rest)].concat(),
        (1..=100).collect::<Vec<_>>()
    );

    let mut pages = store.events.pages(Query::new().limit(1_000_000));
    while let Some(page) = pages.next().await.expect("answered") {
        assert!(page.events.len() <= 4, "a megabyte and what goes over it");
    }
    let streamed = store.events.stream(Query::new().limit(70)).count().await;
    assert_eq!(streamed, 70);
}
