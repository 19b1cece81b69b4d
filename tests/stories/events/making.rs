//! Events before they are stored.

use underpin::{
    events::{Event, EventBuilder, EventDraft, EventError, StoreError, Timestamp},
    ids::{EventId, IdError},
    value::Value,
};

use super::support::{Store, correlation, event, id};

fn draft(json: &str) -> Result<Event, String> {
    let draft: EventDraft = serde_json::from_str(json).map_err(|error| error.to_string())?;
    draft
        .into_event(id(1), Timestamp::from_nanos(1))
        .map_err(|error| error.to_string())
}

#[tokio::test]
async fn f34_an_event_is_made_with_id_time_and_node_and_keeps_what_it_is_given() {
    let store = Store::memory().await;
    let before = Timestamp::now();

    let made = store.events.event("kind").build().expect("valid");
    let given = EventBuilder::new(id(999), "kind")
        .time(Timestamp::from_nanos(-5))
        .correlation(correlation("mine"))
        .parent(id(998))
        .build()
        .expect("valid");

    assert!(made.id().get() > 0 && made.time() >= before && made.time() <= Timestamp::now());
    assert_eq!(
        (made.node().get(), made.correlation(), made.parent()),
        (7, None, None)
    );
    assert_eq!(
        (given.id(), given.time()),
        (id(999), Timestamp::from_nanos(-5))
    );
    assert_eq!(
        (given.correlation(), given.parent()),
        (Some(&correlation("mine")), Some(id(998)))
    );
}

#[test]
fn f35_what_lacks_a_part_or_has_one_of_another_type_is_refused_with_a_reason() {
    let empty = EventBuilder::new(id(1), "").build();
    assert_eq!(empty, Err(EventError::Kind { bytes: 0 }));
    assert!(matches!(EventId::new(0), Err(IdError::EventId { .. })));
    for (json, reason) in [
        ("{}", "kind"),
        (r#"{"kind":null}"#, "null"),
        (r#"{"kind":""}"#, "use 1 to 256"),
        (r#"{"kind":"k","id":"x"}"#, "id"),
        (r#"{"kind":"k","time":"soon"}"#, "soon"),
        (r#"{"kind":"k","correlation":7}"#, "integer"),
        (r#"{"kind":"k","parent":-1}"#, "-1"),
    ] {
        let refused = draft(json).expect_err(json);
        assert!(refused.contains(reason), "{json}: {refused}");
    }
    assert!(draft(r#"{"kind":"k"}"#).is_ok());
}

#[tokio::test]
async fn an_event_with_its_own_id_and_no_time_is_the_same_event_whenever_it_is_sent() {
    // It was given the time at which it came in, so that whoever sent it again after a lost answer was told of a conflict.
    let store = Store::durable().await;
    let sent = |now: i64| {
        let draft: EventDraft = serde_json::from_str(r#"{"kind":"k","id":"4"}"#).expect("a draft");
        let event = draft.into_event(id(1), Timestamp::from_nanos(now));
        event.expect("an event")
    };

    for now in [1, 2] {
        assert_eq!(store.events.store(sent(now)).await.expect("stores"), id(4));
    }

    assert_eq!(store.events.stats().events, 1);
    let without_id = draft(r#"{"kind":"k"}"#).expect("an event");
    assert_eq!(without_id.time(), Timestamp::from_nanos(1));
}

#[tokio::test]
async fn f57_an_event_that_failed_to_be_one_passes_its_error_on_and_the_store_lives() {
    let store = Store::memory().await;
    let pipe = async |kind: &str| -> Result<EventId, StoreError> {
        let event = store.events.event(kind).build()?;
        store.events.store(event).await
    };

    assert!(pipe("good").await.is_ok());
    assert!(matches!(
        pipe("").await,
        Err(StoreError::Event(EventError::Kind { bytes: 0 }))
    ));
    assert!(Event::from_bytes(b"garbage").is_err());
    assert!(pipe("good").await.is_ok());
    assert_eq!(store.events.stats().events, 2);
}

#[tokio::test]
async fn f58_a_stored_event_is_never_changed() {
    let store = Store::durable().await;
    let first = event(1, "first", 1);
    store.events.store(first.clone()).await.expect("stored");

    let other = store.events.store(event(1, "other", 2)).await;

    assert!(matches!(other, Err(StoreError::Conflict { id: refused }) if refused == id(1)));
    assert_eq!(
        store.events.get(id(1)).await.expect("readable"),
        Some(first)
    );
}

#[tokio::test]
async fn f59_data_that_cannot_be_kept_is_refused_and_the_next_event_is_stored() {
    let store = Store::durable().await;
    let deep = (0..70).fold(Value::from(1), |inner, _| Value::from([("in", inner)]));
    let wide = Value::from(vec![Value::Null; 70_000]);
    for data in [deep, wide] {
        let event = store
            .events
            .event("odd")
            .data(data)
            .build()
            .expect("its shape is not looked at");
        let refused = store.events.store(event).await;
        assert!(
            matches!(refused, Err(StoreError::Event(EventError::Data(_)))),
            "{refused:?}"
        );
    }

    let normal = store.events.event("normal").data(1).build().expect("valid");
    let stored = store.events.store(normal.clone()).await.expect("stored");
    assert_eq!(
        store.events.get(stored).await.expect("readable"),
        Some(normal)
    );
}
