//! A program of plain ractor_cluster that knows nothing of underpin: it has three actors in the group `workers`, connects to an
//! address, and says what it sees.
//!
//! `underpin-plain ADDRESS COOKIE`; then a line of input for each thing to do: `stop` ends one of the actors, `look` says how many
//! actors of others are in the groups here.

use std::{env, net::TcpListener};

use anyhow::{Context, Result, bail};
use ractor::{Actor, ActorProcessingErr, ActorRef, pg};
use ractor_cluster::{
    NodeEventSubscription, NodeServer, NodeServerMessage, RactorClusterMessage,
    node::NodeServerSessionInformation as Session,
};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

#[derive(RactorClusterMessage)]
enum Work {
    Do(u64),
}

struct Worker;

impl Actor for Worker {
    type Msg = Work;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<Work>, (): ()) -> Result<(), ActorProcessingErr> {
        pg::join("workers".to_owned(), vec![me.get_cell()]);
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Work>,
        Work::Do(_): Work,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

struct Tell;

impl NodeEventSubscription for Tell {
    fn node_session_opened(&self, _: Session) {}

    fn node_session_authenticated(&self, session: Session) {
        let name = session.peer_name.map(|name| name.name);
        println!("authenticated {}", name.unwrap_or_default());
    }

    fn node_session_ready(&self, _: Session) {
        println!("ready");
    }

    fn node_session_disconnected(&self, _: Session) {
        println!("disconnected");
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, cookie] = &arguments[..] else {
        bail!("it is started with an address and a cookie");
    };
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let (name, host) = ("bare".to_owned(), "localhost".to_owned());
    let node = NodeServer::new(port, cookie.clone(), name, host, None, None)
        .with_listen_addr("127.0.0.1".parse()?);
    let (node, _) = Actor::spawn(None, node, ()).await?;
    node.cast(NodeServerMessage::SubscribeToEvents {
        id: "tell".to_owned(),
        subscription: Box::new(Tell),
    })?;
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(Actor::spawn(None, Worker, ()).await?.0);
    }
    ractor_cluster::client_connect(&node, address).await?;

    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match line.as_str() {
            "stop" => {
                let worker = workers.pop().context("one is left")?;
                worker.stop_and_wait(None, None).await?;
                println!("stopped");
            }
            "look" => {
                let groups = pg::which_scopes_and_groups();
                let others = groups
                    .iter()
                    .flat_map(|key| pg::get_scoped_members(&key.get_scope(), &key.get_group()));
                let others = others.filter(|actor| !actor.get_id().is_local());
                println!("others {}", others.count());
            }
            other => bail!("nobody does {other:?}"),
        }
    }
    Ok(())
}
