//! Children that come and go and are found by their name; and work on many inputs, so many at a time.
//!
//! ```sh
//! cargo run --example sessions
//! ```

use std::{num::NonZeroUsize, time::Duration};

use anyhow::Context as _;
use futures_util::TryStreamExt as _;
use underpin::{
    otp::{
        Address, ChildRef, ChildSpec, DynamicSupervisor, DynamicSupervisorSpec, Intensity, Keys,
        Registry, Reply, Restart, Supervisor, SupervisorError, SupervisorSpec, TaskSupervisor,
    },
    ractor::{Actor, ActorProcessingErr, ActorRef},
};

const SECOND: Duration = Duration::from_secs(1);

/// What one visitor has in the basket.
struct Session;

enum Ask {
    Take(&'static str),
    Basket(Reply<Vec<&'static str>>),
    Stumble,
}
underpin::otp::message!(Ask);

impl Actor for Session {
    type Msg = Ask;
    type State = Vec<&'static str>;
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ActorRef<Ask>,
        (): (),
    ) -> Result<Vec<&'static str>, ActorProcessingErr> {
        Ok(Vec::new())
    }

    async fn handle(
        &self,
        _: ActorRef<Ask>,
        message: Ask,
        basket: &mut Vec<&'static str>,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Ask::Take(article) => basket.push(article),
            Ask::Basket(reply) => reply.send(basket.clone()),
            Ask::Stumble => return Err("a loose floorboard".into()),
        }
        Ok(())
    }
}

type Visitors = Registry<&'static str, Address<Ask>>;

/// A session that is restarted when it crashes, and has the visitor's name for as long as it is there.
async fn open(
    sessions: &DynamicSupervisor,
    visitors: &Visitors,
    name: &'static str,
) -> Result<ChildRef, SupervisorError> {
    let address = Address::new();
    let session = ChildSpec::actor("session", &address, |_| (Session, ()))
        .restart(Restart::Transient)
        .registered(visitors, name, address);
    sessions.start_child(session).await
}

async fn price(article: &'static str) -> String {
    tokio::task::yield_now().await;
    format!("{article} costs {}", article.len() * 100)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let visitors = Registry::new("visitors", Keys::Unique);
    let tasks = TaskSupervisor::new();
    let spec =
        DynamicSupervisorSpec::new("sessions", Intensity::new(3, 5 * SECOND)).max_children(2);
    let sessions = spec.handle();
    let shop = SupervisorSpec::new("shop", Intensity::new(3, 5 * SECOND))
        .child(tasks.child_spec("tasks"))
        .child(spec.child_spec());
    let shop = Supervisor::start(shop).await?;

    let _ann = open(&sessions, &visitors, "Ann").await?;
    let bob = open(&sessions, &visitors, "Bob").await?;
    match open(&sessions, &visitors, "Cleo").await {
        Ok(_) => println!("Cleo came in."),
        Err(error) => println!("Cleo has to wait: {error}."),
    }
    sessions.terminate_child(&bob).await?;
    open(&sessions, &visitors, "Cleo").await?;
    println!("Bob left, and Cleo came in.");

    let ann = visitors.find(&"Ann")?.value;
    ann.send(Ask::Take("tea"))?;
    println!("Ann has {:?}.", ann.call(Ask::Basket, SECOND).await?);
    let life = ann.monitor();
    ann.send(Ask::Stumble)?;
    println!("Ann's session ended: {}.", life.down().await.reason);
    // The call waits for the next life, which has the same name.
    println!("Ann has {:?}.", ann.call(Ask::Basket, SECOND).await?);
    let there = sessions.count_children()?.active;
    println!("{there} sessions are open.");

    let two = NonZeroUsize::new(2).context("is not zero")?;
    let prices = tasks
        .stream(["tea", "cup", "spoon"], price)
        .max_concurrency(two);
    for price in prices.try_collect::<Vec<_>>().await? {
        println!("{price}");
    }
    println!("All ended when asked: {}.", shop.stop().await.is_graceful());
    Ok(())
}
