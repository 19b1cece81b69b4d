//! An ordinary axum service whose requests can be followed: the three lines marked `capture` are all that was added.
//!
//! ```sh
//! cargo run --example capture_axum            # makes one request of its own, shows what became of it, and ends
//! cargo run --example capture_axum -- --stay  # serves on until Ctrl-C, to be asked with the command line
//! ```

use std::{env, time::Duration};

use anyhow::Context as _;
use axum::{Router, extract::State, middleware, routing::post};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tracing::Instrument as _;
use tracing_subscriber::prelude::*;
use underpin::{
    capture,
    ids::CorrelationId,
    node::Node,
    otp::{Address, ChildSpec, Reply},
    ractor::{Actor, ActorProcessingErr, ActorRef},
};

/// What the till can be asked.
enum Till {
    Charge { cents: u64, reply: Reply<u64> },
}
underpin::otp::message!(Till);

/// An actor of the service's own.
struct Cashier;

impl Actor for Cashier {
    type Msg = Till;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Till>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<Till>,
        message: Till,
        taken: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        let Till::Charge { cents, reply } = message;
        *taken += cents;
        // The call carries its correlation; whoever handles it enters it.
        reply
            .context()
            .enter(|| tracing::info!(cents, taken, "charged"));
        reply.send(*taken);
        Ok(())
    }
}

/// The handler of a request.
async fn order(State(till): State<Address<Till>>) -> String {
    tracing::info!("checking the stock");
    let charge = |reply| Till::Charge { cents: 250, reply };
    let answer = match till.call(charge, Duration::from_secs(1)).await {
        Ok(taken) => format!("thank you; {taken} cents so far\n"),
        Err(error) => format!("{error}\n"),
    };
    let mail = async { tracing::info!("confirmation sent") };
    tokio::spawn(mail.instrument(tracing::info_span!("mail", to = "ann@example.org")));
    answer
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let stay = env::args().any(|argument| argument == "--stay");
    let till = Address::new();
    let node = Node::builder()
        .name("shop")
        .memory()
        .http("127.0.0.1:0")
        .child(ChildSpec::actor("till", &till, |_| (Cashier, ())))
        .start()
        .await?;
    tracing_subscriber::registry()
        .with(node.capture().layer()) // capture: everything that is traced becomes an event
        .init();
    node.capture().install_panic_hook(); // capture: a panic becomes one, too

    let app = Router::new()
        .route("/orders", post(order))
        .layer(middleware::from_fn(capture::http::traced)) // capture: a request goes on with its caller's trace
        .with_state(till);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });

    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    print!("The shop says: {}", ask(address, trace).await?);
    let trace_id = CorrelationId::new(trace)?;
    let events = loop {
        // The confirmation goes out after the answer.
        node.capture().flush(Duration::from_secs(1)).await?;
        let events = node.events().correlation(&trace_id).await?.events;
        if events
            .iter()
            .filter(|event| event.kind() == "span.closed")
            .count()
            == 2
        {
            break events;
        }
    };

    println!("What became of the request:");
    for event in events {
        let data = event.data().as_map();
        let what = data.and_then(|data| data.get("message").or_else(|| data.get("name")));
        let what = what.and_then(|what| what.as_str()).unwrap_or_default();
        println!("  {:<13} {:<13} {what}", event.kind(), event.source());
    }
    if stay {
        let http = node.http_addr().context("HTTP is on")?;
        println!(
            "Ask for it: underpin events query --node http://{http} --correlation {trace} --tree"
        );
        println!("Order more: curl -X POST http://{address}/orders");
        node.run_until_signal().await?;
    } else {
        node.shutdown().await;
    }
    Ok(())
}

/// A request as a caller with a trace of its own makes it.
async fn ask(address: std::net::SocketAddr, trace: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "POST /orders HTTP/1.1\r\nhost: {address}\r\ntraceparent: 00-{trace}-00f067aa0ba902b7-01\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, body) = answer
        .split_once("\r\n\r\n")
        .context("an answer has a body")?;
    Ok(body.to_owned())
}
