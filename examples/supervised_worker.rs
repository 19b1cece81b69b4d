//! An actor of the program's own under supervision: it panics, is restarted, and keeps answering at its address.
//!
//! ```sh
//! cargo run --example supervised_worker
//! ```

use std::time::Duration;

use underpin::{
    otp::{Address, ChildSpec, Intensity, Lifecycle, Reply, Supervisor, SupervisorSpec},
    ractor::{Actor, ActorProcessingErr, ActorRef},
};

/// A plain ractor actor. It adds numbers up, and cannot cope with 13.
struct Adder;

enum Message {
    Add(u64),
    Total(Reply<u64>),
}
underpin::otp::message!(Message);

impl Actor for Adder {
    type Msg = Message;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        total: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Add(13) => panic!("thirteen!"),
            Message::Add(n) => *total += n,
            Message::Total(reply) => reply.send(*total),
        }
        Ok(())
    }
}

const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // The address is there before the actor, and leads to each of its lives in turn.
    let adder = Address::new();
    let spec = SupervisorSpec::new("sums", Intensity::new(3, Duration::from_secs(5)))
        .child(ChildSpec::actor("adder", &adder, |_| (Adder, ())));
    let sums = Supervisor::start(spec).await?;
    let mut reports = sums.reports().expect("it has just started");

    adder.send(Message::Add(40))?;
    adder.send(Message::Add(2))?;
    let total = adder.call(Message::Total, PATIENCE).await?;
    println!("The adder has {total}.");

    println!("It gets a 13, which makes it panic, as standard error tells.");
    adder.send(Message::Add(13))?;
    while let Some(report) = reports.next().await {
        match report.what {
            Lifecycle::Exited { reason, .. } => println!("{} ended: {reason}", report.path),
            Lifecycle::Started { incarnation } => {
                println!("{} lives again: life {incarnation}", report.path);
                break;
            }
            _ => {}
        }
    }

    adder.send(Message::Add(7))?;
    let total = adder.call(Message::Total, PATIENCE).await?;
    println!("At the same address, a new adder has {total}.");

    let report = sums.stop().await;
    println!("All stopped, gracefully: {}.", report.is_graceful());
    Ok(())
}
