//! A bare ractor_cluster: node servers, and actors that are reached through its groups.

use std::{
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, call_t, pg};
use ractor_cluster::{NodeServer, NodeServerMessage, RactorClusterMessage};
use tokio::{sync::mpsc, task::JoinSet, time};

use crate::{
    BYTES, CALLERS, MEMBERS,
    peer::Peer,
    work::{Arrivals, members},
};

const ECHO: &str = "echo";
const HEARERS: &str = "hearers";
const PATIENCE_MS: u64 = 20_000;

#[derive(RactorClusterMessage)]
enum Ask {
    Put(Vec<u8>),
    #[rpc]
    Echo(Vec<u8>, RpcReplyPort<Vec<u8>>),
    #[rpc]
    Count(RpcReplyPort<u64>),
    /// Answered when all members have got so many broadcasts.
    #[rpc]
    Until(u64, RpcReplyPort<u64>),
}

#[derive(RactorClusterMessage)]
enum Note {
    Heard(Vec<u8>),
}

struct Echo(Arc<Arrivals>);

impl Actor for Echo {
    type Msg = Ask;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<Ask>, (): ()) -> Result<u64, ActorProcessingErr> {
        pg::join(ECHO.to_owned(), vec![me.get_cell()]);
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<Ask>,
        ask: Ask,
        count: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match ask {
            Ask::Put(bytes) => *count += u64::from(bytes.len() == BYTES),
            Ask::Echo(bytes, reply) => reply.send(bytes)?,
            Ask::Count(reply) => reply.send(*count)?,
            Ask::Until(broadcasts, reply) => {
                let arrivals = Arc::clone(&self.0);
                tokio::spawn(async move {
                    arrivals.until(broadcasts).await;
                    let _ = reply.send(broadcasts);
                });
            }
        }
        Ok(())
    }
}

async fn node(name: &str, port: u16) -> Result<ActorRef<NodeServerMessage>> {
    let (cookie, host) = ("a cookie for figures".to_owned(), "localhost".to_owned());
    let node = NodeServer::new(port, cookie, name.to_owned(), host, None, None)
        .with_listen_addr("127.0.0.1".parse()?);
    Ok(Actor::spawn(None, node, ()).await?.0)
}

/// It does not tell which port it got, where it was to take any.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

pub(crate) async fn serve() -> Result<String> {
    let port = free_port()?;
    let arrivals = Arc::new(Arrivals::default());
    let members = members::<Note>(&arrivals).await?;
    let members = members.iter().map(ActorRef::get_cell).collect();
    pg::join(HEARERS.to_owned(), members);
    Actor::spawn(None, Echo(arrivals), ()).await?;
    node("b", port).await?;
    Ok(format!("127.0.0.1:{port}"))
}

pub(crate) struct Bare {
    echo: ActorRef<Ask>,
    lost: mpsc::UnboundedReceiver<()>,
}

impl Bare {
    pub(crate) async fn connect(address: &str) -> Result<Self> {
        let me = node("a", free_port()?).await?;
        let (told, lost) = mpsc::unbounded_channel();
        me.cast(NodeServerMessage::SubscribeToEvents {
            id: "lost".to_owned(),
            subscription: Box::new(Lost(told)),
        })?;
        ractor_cluster::client_connect(&me, address).await?;
        let found = async {
            loop {
                let all = pg::get_members(&HEARERS.to_owned()).len() as u64 == MEMBERS;
                if let Some(echo) = pg::get_members(&ECHO.to_owned()).into_iter().next()
                    && all
                {
                    return ActorRef::from(echo);
                }
                time::sleep(Duration::from_millis(5)).await;
            }
        };
        let echo = time::timeout(Duration::from_secs(20), found).await;
        let echo = echo.context("its actors were not seen")?;
        Ok(Self { echo, lost })
    }

    pub(crate) async fn calls(&self, count: u64) -> Result<Duration> {
        let begin = Instant::now();
        echo(self.echo.clone(), count).await?;
        Ok(begin.elapsed())
    }

    pub(crate) async fn many_calls(&self, each: u64) -> Result<Duration> {
        let (mut callers, begin) = (JoinSet::new(), Instant::now());
        for _ in 0..CALLERS {
            callers.spawn(echo(self.echo.clone(), each));
        }
        while let Some(done) = callers.join_next().await {
            done??;
        }
        Ok(begin.elapsed())
    }

    /// Nothing slows whoever sends: it makes room for the others now and then.
    pub(crate) async fn casts(&self, count: u64) -> Result<Duration> {
        let before = call_t!(self.echo, Ask::Count, PATIENCE_MS)?;
        let begin = Instant::now();
        for sent in 0..count {
            self.echo.cast(Ask::Put(vec![7; BYTES]))?;
            if sent % 256 == 255 {
                tokio::task::yield_now().await;
            }
        }
        let after = call_t!(self.echo, Ask::Count, PATIENCE_MS)?;
        anyhow::ensure!(after - before == count, "casts were lost");
        Ok(begin.elapsed())
    }

    /// A message for each member: it has no other broadcast.
    pub(crate) async fn broadcasts(&self, sent: &mut u64, count: u64) -> Result<Duration> {
        let members = pg::get_members(&HEARERS.to_owned());
        let members: Vec<ActorRef<Note>> = members.into_iter().map(ActorRef::from).collect();
        let begin = Instant::now();
        for _ in 0..count {
            for member in &members {
                member.cast(Note::Heard(vec![7; BYTES]))?;
            }
            *sent += 1;
            call_t!(self.echo, Ask::Until, PATIENCE_MS, *sent)?;
        }
        Ok(begin.elapsed())
    }

    pub(crate) async fn down(mut self, mut peer: Peer) -> Result<Duration> {
        let begin = Instant::now();
        peer.kill()?;
        self.lost.recv().await.context("it tells")?;
        Ok(begin.elapsed())
    }
}

async fn echo(echo: ActorRef<Ask>, count: u64) -> Result<()> {
    for _ in 0..count {
        let back = call_t!(echo, Ask::Echo, PATIENCE_MS, vec![7; BYTES])?;
        anyhow::ensure!(back.len() == BYTES, "it came back otherwise");
    }
    Ok(())
}

/// Tells that a session ended.
struct Lost(mpsc::UnboundedSender<()>);

type Session = ractor_cluster::node::NodeServerSessionInformation;

impl ractor_cluster::NodeEventSubscription for Lost {
    fn node_session_opened(&self, _: Session) {}

    fn node_session_authenticated(&self, _: Session) {}

    fn node_session_disconnected(&self, _: Session) {
        let _ = self.0.send(());
    }
}
