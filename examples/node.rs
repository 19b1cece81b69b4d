//! A node with a child and settings of its own: a greeter, which greets once a second and stores that it did.
//!
//! ```sh
//! cargo run --example node -- --name a
//! cargo run --example node -- --name b --data /tmp/b --http 127.0.0.1:4610 --for 10
//! ```
//!
//! Or two of them in one cluster, which tell when the other comes and goes:
//!
//! ```sh
//! export UNDERPIN_COOKIE="$(head -c 32 /dev/urandom | base64)"
//! cargo run --example node -- --name a --listen 127.0.0.1:4620
//! cargo run --example node -- --name b --join 127.0.0.1:4620
//! ```

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use serde::{Deserialize, Serialize};
use underpin::{
    cluster::{Cluster, ClusterOptions, Cookie},
    config::Schema,
    node::Node,
    otp::ChildSpec,
};

/// Runs a node that greets.
#[derive(Parser)]
struct Args {
    /// The node's name.
    #[arg(long, default_value = "a")]
    name: String,
    /// Where to keep events and changed settings; without it they are kept in memory.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Serve HTTP at this loopback address.
    #[arg(long)]
    http: Option<String>,
    /// Listen for other nodes at this address; the cookie comes from UNDERPIN_COOKIE.
    #[arg(long)]
    listen: Option<std::net::SocketAddr>,
    /// A node to join; may be said several times.
    #[arg(long)]
    join: Vec<String>,
    /// End after this many seconds; without it, at Ctrl-C.
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
}

/// The program's own settings, the table `app`; `UNDERPIN__APP__GREETING=hi` sets one from outside.
#[derive(Serialize, Deserialize)]
#[serde(default)]
struct Settings {
    greeting: String,
}

impl Default for Settings {
    fn default() -> Self {
        let greeting = "hello".to_owned();
        Self { greeting }
    }
}

impl Schema for Settings {}

/// Tells what becomes of other nodes.
async fn tell(cluster: Cluster) {
    let mut monitor = cluster.monitor();
    while let Some(event) = monitor.next().await {
        println!("Of the cluster: {event:?}");
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut builder = Node::builder().name(args.name).app_config::<Settings>();
    builder = match args.data {
        Some(folder) => builder.data_dir(folder),
        None => builder.memory(),
    };
    if let Some(address) = args.http {
        builder = builder.http(address);
    }
    if args.listen.is_some() || !args.join.is_empty() {
        let mut options = ClusterOptions::new(Cookie::from_env("UNDERPIN_COOKIE")?);
        if let Some(address) = args.listen {
            options = options.listen(address);
        }
        builder = builder.cluster(args.join.iter().fold(options, ClusterOptions::join));
    }
    let node = builder.start().await?;
    if let Some(cluster) = node.cluster() {
        tokio::spawn(tell(cluster.clone()));
    }
    let (name, count) = (node.name().to_owned(), node.events().stats().events);
    println!("The node {name} runs, and knows {count} events.");
    if let Some(address) = node.http_addr() {
        println!("It serves http://{address}.");
    }

    let settings = node
        .app_config::<Settings>()
        .context("they have this type")?;
    let events = node.events().clone();
    let greeter = ChildSpec::task("greeter", move |ctx| {
        let (settings, events) = (settings.clone(), events.clone());
        async move {
            loop {
                // The settings as they are now; an error would be a crash, and the greeter would be started again.
                let greeting = settings.load_full().greeting.clone();
                let event = events.event("greeted").data(greeting.as_str());
                let id = events.store(event.build()?).await?;
                println!("{greeting}! (event {id})");
                tokio::select! {
                    () = ctx.cancelled() => return Ok(()),
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                }
            }
        }
    });
    node.app().start_child(greeter).await?;

    let report = match args.seconds {
        None => node.run_until_signal().await?,
        Some(seconds) => {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            node.shutdown().await
        }
    };
    println!(
        "The node {name} has stopped, gracefully: {}.",
        report.is_graceful()
    );
    Ok(())
}
