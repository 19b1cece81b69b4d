//! underpin: two nodes, as far as a cluster sees them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tokio::task::JoinSet;
use underpin::{
    cluster::{
        Cluster, ClusterGroup, ClusterOptions, Cookie, Delivery, Identity, MemberEvent,
        RemoteAddress, RemoteService,
    },
    ids::{NodeId, NodeName},
    otp::{Address, ChildSpec, Groups, Intensity, Permit, Reply, Supervisor, SupervisorSpec},
    telemetry::{self, Telemetry},
};

use crate::{
    BYTES, CALLERS, MEMBERS,
    peer::Peer,
    work::{Arrivals, members},
};

const HEARERS: &str = "hearers";
const PATIENCE: Duration = Duration::from_secs(20);

struct Echo;

#[derive(Serialize, Deserialize)]
enum Ask {
    Put(ByteBuf),
    Echo(ByteBuf),
    Count,
    /// Answered when all members have got so many broadcasts.
    Until(u64),
}

#[derive(Serialize, Deserialize)]
enum Told {
    Bytes(ByteBuf),
    Number(u64),
}

enum Message {
    Call(Ask, Reply<Told>),
    Cast(Ask, Permit),
}
underpin::otp::message!(Message);

impl RemoteService for Echo {
    const NAME: &'static str = "echo";
    type Request = Ask;
    type Response = Told;
    type Message = Message;

    fn call(request: Ask, reply: Reply<Told>) -> Message {
        Message::Call(request, reply)
    }

    fn cast(request: Ask, permit: Permit) -> Option<Message> {
        Some(Message::Cast(request, permit))
    }
}

struct EchoActor(Arc<Arrivals>);

impl Actor for EchoActor {
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
        count: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Cast(Ask::Put(bytes), permit) => {
                *count += u64::from(bytes.len() == BYTES);
                drop(permit);
            }
            Message::Call(Ask::Echo(bytes), reply) => drop(reply.send(Told::Bytes(bytes))),
            Message::Call(Ask::Count, reply) => drop(reply.send(Told::Number(*count))),
            Message::Call(Ask::Until(broadcasts), reply) => {
                let arrivals = Arc::clone(&self.0);
                tokio::spawn(async move {
                    arrivals.until(broadcasts).await;
                    reply.send(Told::Number(broadcasts));
                });
            }
            Message::Call(Ask::Put(_), _) | Message::Cast(..) => {}
        }
        Ok(())
    }
}

/// What is broadcast.
#[derive(Clone, Serialize, Deserialize)]
struct Note(ByteBuf);

struct Node {
    cluster: Cluster,
    supervisor: Supervisor,
}

fn options() -> Result<ClusterOptions> {
    Ok(ClusterOptions::new(Cookie::new("a cookie for figures")?))
}

fn name(name: &str) -> NodeName {
    NodeName::new(name).expect("a name")
}

async fn node(own: &str, id: u16, options: ClusterOptions) -> Result<(Node, Arc<Arrivals>)> {
    let telemetry = Telemetry::new(telemetry::Options::default());
    let identity = Identity {
        name: name(own),
        id: NodeId::new(id).context("an id")?,
        incarnation: std::process::id().into(),
    };
    let cluster = Cluster::new(options, identity, &Groups::new(own), &telemetry)?;
    let (echo, arrivals) = (Address::new(), Arc::new(Arrivals::default()));
    cluster.serve::<Echo>(&echo);
    let for_echo = Arc::clone(&arrivals);
    let spec = SupervisorSpec::new("node", Intensity::new(10, Duration::from_secs(1)))
        .child(ChildSpec::actor("echo", &echo, move |_| {
            (EchoActor(Arc::clone(&for_echo)), ())
        }))
        .child(cluster.child_spec());
    let supervisor = Supervisor::start(spec).await?;
    let node = Node {
        cluster,
        supervisor,
    };
    Ok((node, arrivals))
}

pub(crate) async fn serve() -> Result<String> {
    let (node, arrivals) = node("b", 2, options()?.listen("127.0.0.1:0".parse()?)).await?;
    let group: ClusterGroup<Note> = node.cluster.group(HEARERS);
    let members = members::<Delivery<Note>>(&arrivals).await?;
    for member in &members {
        group.join(member)?;
    }
    let address = node.cluster.address().to_owned();
    // For as long as the process.
    std::mem::forget(node);
    Ok(address)
}

pub(crate) struct Own {
    node: Node,
    echo: RemoteAddress<Echo>,
    group: ClusterGroup<Note>,
}

impl Own {
    /// `timeout`: after how much silence the other is down, where that is not the default.
    pub(crate) async fn connect(address: &str, timeout: Option<Duration>) -> Result<Self> {
        let mut options = options()?.join(address);
        if let Some(timeout) = timeout {
            options = options.heartbeat(timeout / 4, timeout);
        }
        let (node, _) = node("a", 1, options).await?;
        let seen = node.cluster.wait_for(&name("b"), PATIENCE).await;
        ensure!(seen.is_ok(), "{:?}", node.cluster.failures());
        let echo = node.cluster.remote::<Echo>(&name("b"));
        let group = node.cluster.group(HEARERS);
        while group.count() < usize::try_from(MEMBERS)? {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(Self { node, echo, group })
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

    async fn number(&self, ask: Ask) -> Result<u64> {
        match self.echo.call(&ask, PATIENCE).await? {
            Told::Number(number) => Ok(number),
            Told::Bytes(_) => bail!("it answered something else"),
        }
    }

    pub(crate) async fn casts(&self, count: u64, in_batches: bool) -> Result<Duration> {
        /// As many as a program may have at hand.
        const BATCH: u64 = 256;
        let before = self.number(Ask::Count).await?;
        let (mut sent, begin) = (0, Instant::now());
        while sent < count {
            let many = BATCH.min(count - sent);
            let put = || Ask::Put(ByteBuf::from([7; BYTES]));
            if in_batches {
                let batch: Vec<Ask> = (0..many).map(|_| put()).collect();
                self.echo.cast_all(&batch).await?;
            } else {
                for _ in 0..many {
                    self.echo.cast(&put()).await?;
                }
                // As bare ractor_cluster does it.
                tokio::task::yield_now().await;
            }
            sent += many;
        }
        let after = self.number(Ask::Count).await?;
        ensure!(after - before == count, "casts were lost");
        Ok(begin.elapsed())
    }

    pub(crate) async fn broadcasts(&self, sent: &mut u64, count: u64) -> Result<Duration> {
        let note = Note(ByteBuf::from([7; BYTES]));
        let begin = Instant::now();
        for _ in 0..count {
            let told = self.group.broadcast(&note, PATIENCE).await;
            ensure!(told.nodes == 1, "{told:?}");
            *sent += 1;
            self.number(Ask::Until(*sent)).await?;
        }
        Ok(begin.elapsed())
    }

    /// Until it is told that the other node is down.
    pub(crate) async fn down(self, mut peer: Peer, is_killed: bool) -> Result<Duration> {
        let mut monitor = self.node.cluster.monitor();
        if !is_killed {
            peer.freeze()?;
        }
        let begin = Instant::now();
        if is_killed {
            peer.kill()?;
        }
        while !matches!(monitor.next().await, Some(MemberEvent::Down(..))) {}
        let took = begin.elapsed();
        self.node.supervisor.stop().await;
        Ok(took)
    }
}

async fn echo(echo: RemoteAddress<Echo>, count: u64) -> Result<()> {
    for _ in 0..count {
        let ask = Ask::Echo(ByteBuf::from([7; BYTES]));
        let told = echo.call(&ask, PATIENCE).await?;
        ensure!(
            matches!(told, Told::Bytes(bytes) if bytes.len() == BYTES),
            "it came back otherwise"
        );
    }
    Ok(())
}
