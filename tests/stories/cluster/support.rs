//! Nodes of a cluster in one process, each with what a node has of its own.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use underpin::{
    cluster::{Cluster, ClusterOptions, Cookie, Identity, Member, RemoteService},
    ids::{NodeId, NodeName},
    otp::{
        Address, ChildSpec, Context, Groups, Intensity, Permit, Reply, Supervisor, SupervisorSpec,
    },
    ractor::{Actor, ActorProcessingErr, ActorRef},
    telemetry::{Options, Telemetry},
    testing::{PATIENCE, eventually},
};

pub(super) const COOKIE: &str = "a cookie for stories alone";
pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn cookie() -> Cookie {
    Cookie::new(COOKIE).expect("long enough")
}

pub(super) fn name(name: &str) -> NodeName {
    NodeName::new(name).expect("a name")
}

/// Listens at a port of its own.
pub(super) fn options() -> ClusterOptions {
    ClusterOptions::new(cookie())
        .listen("127.0.0.1:0".parse().expect("an address"))
        .heartbeat(Duration::from_millis(100), Duration::from_secs(5))
        .reconnect(Duration::from_millis(20), Duration::from_millis(200))
}

/// A node, as far as a cluster sees it.
pub(super) struct TestNode {
    pub(super) cluster: Cluster,
    pub(super) telemetry: Telemetry,
    supervisor: Supervisor,
    pub(super) counter: Address<Count>,
}

impl TestNode {
    pub(super) async fn start(node: &str, id: u16, options: ClusterOptions) -> Self {
        let telemetry = Telemetry::new(Options::default());
        let groups = Groups::new(node);
        let identity = Identity {
            name: name(node),
            id: NodeId::new(id).expect("an id"),
            incarnation: fastrand_like(),
        };
        let cluster = Cluster::new(options, identity, &groups, &telemetry).expect("starts");
        let counter = Address::new();
        cluster.serve::<Counter>(&counter);
        let often = Intensity::new(10, SECOND);
        let spec = SupervisorSpec::new("node", often)
            .child(ChildSpec::actor("counter", &counter, |_| {
                (CounterActor, ())
            }))
            .child(cluster.child_spec());
        let supervisor = Supervisor::start(spec).await.expect("starts");
        Self {
            cluster,
            telemetry,
            supervisor,
            counter,
        }
    }

    pub(super) fn address(&self) -> String {
        self.cluster.listen_addr().expect("it listens").to_string()
    }

    pub(super) async fn sees(&self, other: &str) {
        let up = self.cluster.wait_for(&name(other), PATIENCE).await;
        up.unwrap_or_else(|_| {
            panic!(
                "{} does not see {other}: {:?}, {:?}",
                self.cluster.name(),
                self.cluster.members(),
                self.cluster.failures()
            )
        });
    }

    pub(super) fn member(&self, other: &str) -> Member {
        self.cluster.member(&name(other)).expect("it is known")
    }

    pub(super) async fn stop(self) {
        self.supervisor.stop().await;
    }

    /// Ends without a word, as far as a process can do that to itself.
    pub(super) fn kill(&self) {
        self.supervisor.actor().expect("it runs").kill();
    }

    pub(super) fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }
}

/// A way to a node that can be cut: what is under way then waits, and so does whoever connects.
pub(super) struct Cable {
    address: SocketAddr,
    target: watch::Sender<Option<String>>,
    whole: watch::Sender<bool>,
}

impl Cable {
    pub(super) async fn lay() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free");
        let address = listener.local_addr().expect("bound");
        let (target, leads_to) = watch::channel(None);
        let (whole, is_whole) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(connect(near, leads_to.clone(), is_whole.clone()));
            }
        });
        Self {
            address,
            target,
            whole,
        }
    }

    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(super) fn leads_to(&self, node: &TestNode) {
        self.target.send_replace(Some(node.address()));
    }

    pub(super) fn cut(&self) {
        self.whole.send_replace(false);
    }

    pub(super) fn heal(&self) {
        self.whole.send_replace(true);
    }
}

async fn connect(
    near: TcpStream,
    mut target: watch::Receiver<Option<String>>,
    mut is_whole: watch::Receiver<bool>,
) -> Option<()> {
    let target = target.wait_for(Option::is_some).await.ok()?.clone()?;
    is_whole.wait_for(|whole| *whole).await.ok()?;
    let far = TcpStream::connect(target).await.ok()?;
    let (from_near, to_near) = near.into_split();
    let (from_far, to_far) = far.into_split();
    tokio::join!(
        carry(from_near, to_far, is_whole.clone()),
        carry(from_far, to_near, is_whole)
    );
    None
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut is_whole: watch::Receiver<bool>,
) {
    let mut bytes = [0; 4096];
    while let Ok(count) = from.read(&mut bytes).await {
        if is_whole.wait_for(|whole| *whole).await.is_err() || count == 0 {
            break;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

/// Another number at each call.
fn fastrand_like() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Two nodes that see each other.
pub(super) async fn two_nodes() -> (TestNode, TestNode) {
    let a = TestNode::start("a", 1, options()).await;
    let b = TestNode::start("b", 2, options().join(a.address())).await;
    a.sees("b").await;
    b.sees("a").await;
    (a, b)
}

/// The service of the stories: adds up, and tells in which correlation it was asked.
pub(super) struct Counter;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Ask {
    Add(u64),
    Total,
    Echo(String),
    /// As many bytes as this as the answer.
    Long(usize),
    /// Never answered; told when the caller has gone.
    Never,
    Abandoned,
    Context,
    Panic,
    Change,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Told {
    Number(u64),
    Text(String),
    Context(String, u64),
}

pub(super) enum Count {
    Call(Ask, Reply<Told>),
    Cast(
        Ask,
        #[expect(dead_code, reason = "held until the message is dealt with")] Permit,
    ),
}
underpin::otp::message!(Count);

impl RemoteService for Counter {
    const NAME: &'static str = "counter";
    type Request = Ask;
    type Response = Told;
    type Message = Count;

    fn call(request: Ask, reply: Reply<Told>) -> Count {
        Count::Call(request, reply)
    }

    fn cast(request: Ask, permit: Permit) -> Option<Count> {
        Some(Count::Cast(request, permit))
    }

    fn changes(request: &Ask) -> bool {
        matches!(request, Ask::Change)
    }
}

pub(super) struct CounterActor;

#[derive(Default)]
pub(super) struct Counted {
    total: u64,
    abandoned: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl Actor for CounterActor {
    type Msg = Count;
    type State = Counted;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Count>, (): ()) -> Result<Counted, ActorProcessingErr> {
        Ok(Counted::default())
    }

    async fn handle(
        &self,
        _: ActorRef<Count>,
        message: Count,
        counted: &mut Counted,
    ) -> Result<(), ActorProcessingErr> {
        use std::sync::atomic::Ordering::SeqCst;
        let (ask, reply) = match message {
            Count::Call(ask, reply) => (ask, Some(reply)),
            Count::Cast(ask, _) => (ask, None),
        };
        let told = match ask {
            Ask::Add(by) => {
                counted.total += by;
                Told::Number(counted.total)
            }
            Ask::Total | Ask::Change => Told::Number(counted.total),
            Ask::Echo(text) => Told::Text(text),
            Ask::Long(bytes) => Told::Text("x".repeat(bytes)),
            Ask::Never => {
                let abandoned = counted.abandoned.clone();
                let mut reply = reply.expect("a call");
                tokio::spawn(async move {
                    reply.closed().await;
                    abandoned.fetch_add(1, SeqCst);
                });
                return Ok(());
            }
            Ask::Abandoned => Told::Number(counted.abandoned.load(SeqCst)),
            Ask::Context => {
                let context = reply.as_ref().map(Reply::context).unwrap_or_default();
                Told::Context(format!("{:032x}", context.trace), context.cause)
            }
            Ask::Panic => panic!("as it was asked to"),
        };
        if let Some(reply) = reply {
            reply.send(told);
        }
        Ok(())
    }
}

pub(super) async fn total(node: &TestNode) -> u64 {
    let told = node
        .counter
        .call(|reply| Count::Call(Ask::Total, reply), PATIENCE)
        .await;
    match told.expect("it runs") {
        Told::Number(total) => total,
        other => panic!("{other:?}"),
    }
}

pub(super) async fn total_becomes(node: &TestNode, wanted: u64) {
    eventually("all casts have arrived", async || {
        total(node).await == wanted
    })
    .await;
}

/// So that the compiler sees that it is used in one story at least.
pub(super) fn context(trace: u128, cause: u64) -> Context {
    Context::new(trace, cause)
}
