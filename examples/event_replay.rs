//! A bug that nobody saw happen, found in what was stored: a shop sold more tea than it had.
//!
//! ```sh
//! cargo run --example event_replay
//! ```

use std::time::Duration;

use underpin::{
    events::{Event, Events, Query, StateChange, Timestamp},
    ids::{CorrelationId, EventId},
    node::Node,
    value::Value,
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let node = Node::builder().name("shop").memory().start().await?;
    let events = node.events();
    a_day_at_the_shop(events).await?;

    // In the evening the shelf is short, and nobody knows why. Its whole history is there.
    let timeline = events.timeline(Query::new().source("shelf")).await?;
    let orders = events
        .query(Query::new().kind("order.placed"))
        .await?
        .events;
    println!(
        "{} changes of the shelf are stored, for {} orders.",
        timeline.changes().len(),
        orders.len()
    );
    let Some(short) = timeline.first_without(|state| tea(state) >= 0) else {
        anyhow::bail!("the shelf was never short");
    };
    println!(
        "It was short first when {} became {}. Why? The first cause first:",
        short.before.as_ref().map_or(0, tea),
        tea(&short.after)
    );
    let causes = events.causes(short.id).await?;
    for event in causes.iter().flat_map(|causes| causes.events.iter().rev()) {
        println!("  {} {}", event.kind(), event.data().to_json());
    }

    // That customer only came last. Did an order take more than its own?
    for order in orders {
        let effects = events.effects(order.id()).await?.effects;
        let taken: Vec<_> = effects
            .iter()
            .map(|effect| &effect.event)
            .filter(|event| event.source() == "shelf")
            .collect();
        let [first, .., last] = taken[..] else {
            continue;
        };
        println!(
            "The order {} took {} times:",
            order.data().to_json(),
            taken.len()
        );
        let before = first.time().before(Duration::from_nanos(1));
        for difference in timeline.between(before, last.time()) {
            let value =
                |value: &Option<Value>| value.as_ref().map_or(String::new(), Value::to_json);
            println!(
                "  {}: {} became {}",
                difference.path,
                value(&difference.before),
                value(&difference.after)
            );
        }
        let deliveries = effects
            .iter()
            .filter(|effect| effect.event.kind() == "order.delivered");
        println!(
            "It was delivered {} times, and nobody looked.",
            deliveries.count()
        );
    }

    node.shutdown().await;
    Ok(())
}

/// Ten customers take one tea each; there are ten. One order is delivered a second time, and nobody looks whether it was taken already.
async fn a_day_at_the_shop(events: &Events) -> anyhow::Result<()> {
    let mut left = 10;
    for customer in 1..=10 {
        let order = events
            .event("order.placed")
            .source("till")
            .correlation(CorrelationId::new(&format!("order-{customer}"))?)
            .data([("customer", customer)])
            .build()?;
        let order_id = events.store(order.clone()).await?;
        let deliveries = if customer == 7 { 2 } else { 1 };
        for _ in 0..deliveries {
            let delivery = caused(events, "order.delivered", &order)?;
            let delivery_id = events.store(delivery).await?;
            take(events, delivery_id, &mut left).await?;
        }
        assert_eq!(order_id, order.id());
    }
    Ok(())
}

fn caused(events: &Events, kind: &str, cause: &Event) -> anyhow::Result<Event> {
    let mut event = events.event(kind).source("till").parent(cause.id());
    if let Some(correlation) = cause.correlation() {
        event = event.correlation(correlation.clone());
    }
    Ok(event.build()?)
}

async fn take(events: &Events, cause: EventId, left: &mut i64) -> anyhow::Result<()> {
    let (old, new) = (shelf(*left), shelf(*left - 1));
    *left -= 1;
    let change = StateChange::new("take", old, new).event(events.ids().next(), "shelf");
    // To the nanosecond; the id alone tells the millisecond.
    let change = change.time(Timestamp::now()).parent(cause);
    events.store(change.build()?).await?;
    Ok(())
}

fn shelf(tea: i64) -> Value {
    Value::from([("tea", tea)])
}

fn tea(state: &Value) -> i64 {
    let tea = state.as_map().and_then(|map| map.get("tea"));
    tea.and_then(Value::as_i64).unwrap_or(0)
}
