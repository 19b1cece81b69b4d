//! A node inside of a tokio program: it stores events, has settings that change while it runs, and counts.
//!
//! ```sh
//! cargo run --example hello
//! ```

use underpin::{events::Query, node::Node, value::Value};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // In memory for this story; `.data_dir("folder")` in its place keeps everything over restarts and crashes.
    let node = Node::builder().name("hello").memory().start().await?;
    println!("The node {} is {:?}.", node.name(), node.health().health);

    // Events: stored when `store` answers, and found again by what they are about.
    let order = node.events().event("order_placed").source("shop");
    let order = order.data([("item", "tea"), ("for", "Ann")]);
    let id = node.events().store(order.build()?).await?;
    let paid = node.events().event("order_paid").source("shop").parent(id);
    node.events().store(paid.build()?).await?;

    println!("Events of the shop, oldest first:");
    let page = node.events().query(Query::new().source("shop")).await?;
    for event in &page.events {
        println!("  {} {}", event.kind(), event.data().to_json());
    }

    // Settings: `app` is the program's own table. A subscriber gets the value as it is, then each change.
    node.config().update("app.discount", 5).await?;
    let mut discounts = node.config().subscribe("app.discount")?;
    discounts.recv().await;
    node.config().update("app.discount", 20).await?;
    if let Some(Value::Int(discount)) = discounts.recv().await.and_then(|notice| notice.value) {
        println!("The discount is now {discount} %.");
    }

    // Metrics: a handle costs nanoseconds to use; keep it.
    let cups = node.telemetry().counter("cups_served", &[("tea", "green")]);
    cups.add(3);
    println!("{} cups were served.", cups.value());

    let report = node.shutdown().await;
    println!(
        "The node has stopped, gracefully: {}.",
        report.is_graceful()
    );
    Ok(())
}
