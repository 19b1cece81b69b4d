//! Two nodes, one system: a till at node `shop` sells what is in stock at node `store`. Both run in this process; on two machines
//! the only difference is their addresses.
//!
//! ```sh
//! cargo run --example two_nodes
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};
use underpin::{
    cluster::{ClusterOptions, Cookie, MemberEvent, RemoteError, RemoteService},
    ids::NodeName,
    node::Node,
    otp::{Address, ChildSpec, Reply},
    ractor::{Actor, ActorProcessingErr, ActorRef},
};

const PATIENCE: Duration = Duration::from_secs(5);

/// The stock, an actor as any other.
struct Stock;

/// What the actor understands.
enum Message {
    Take {
        count: u32,
        reply: Reply<Result<u32, String>>,
    },
}
underpin::otp::message!(Message);

impl Actor for Stock {
    type Msg = Message;
    type State = u32;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<u32, ActorProcessingErr> {
        Ok(10)
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        Message::Take { count, reply }: Message,
        left: &mut u32,
    ) -> Result<(), ActorProcessingErr> {
        // A caller's mistake is an answer: it does not end the stock.
        let Some(rest) = left.checked_sub(count) else {
            reply.send(Err(format!("only {left} left")));
            return Ok(());
        };
        *left = rest;
        reply.send(Ok(rest));
        Ok(())
    }
}

/// The stock as other nodes see it: what is asked and answered, and which message that is.
struct StockService;

#[derive(Serialize, Deserialize)]
struct Take {
    count: u32,
}

impl RemoteService for StockService {
    const NAME: &'static str = "stock";
    type Request = Take;
    type Response = Result<u32, String>;
    type Message = Message;

    fn call(Take { count }: Take, reply: Reply<Self::Response>) -> Message {
        Message::Take { count, reply }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // All nodes of a cluster share a secret. In earnest it comes from a file: Cookie::from_file.
    let cookie = Cookie::new("known to both nodes and nobody else")?;

    let stock = Address::new();
    let store = Node::builder()
        .name("store")
        .memory()
        .cluster(ClusterOptions::new(cookie.clone()).listen("127.0.0.1:0".parse()?))
        .child(ChildSpec::actor("stock", &stock, |_| (Stock, ())))
        .start()
        .await?;
    let cluster = store.cluster().expect("it is in one");
    cluster.serve::<StockService>(&stock);

    let shop = Node::builder()
        .name("shop")
        .memory()
        .cluster(ClusterOptions::new(cookie).join(cluster.address()))
        .start()
        .await?;
    let cluster = shop.cluster().expect("it is in one");
    let mut monitor = cluster.monitor();
    let store_name = NodeName::new("store")?;
    cluster
        .wait_for(&store_name, PATIENCE)
        .await
        .map_err(|waited| anyhow::anyhow!("no store within {waited:?}"))?;

    let stock = cluster.remote::<StockService>(&store_name);
    println!(
        "The shop takes 7: {:?} are left.",
        stock.call(&Take { count: 7 }, PATIENCE).await?
    );
    println!(
        "The shop takes 7: {:?}.",
        stock.call(&Take { count: 7 }, PATIENCE).await?
    );

    store.shutdown().await;
    while let Some(event) = monitor.next().await {
        if let MemberEvent::Left(node) = event {
            println!("The node {node} has left.");
            break;
        }
    }
    match stock.call(&Take { count: 1 }, PATIENCE).await {
        Err(error @ RemoteError::NoConnection { .. }) => {
            println!(
                "The shop takes 1: {error}. Safe to send again: {}.",
                !error.may_have_run()
            );
        }
        other => println!("The shop takes 1: {other:?}."),
    }
    shop.shutdown().await;
    Ok(())
}
