//! What the handles, the connections and the actor share.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::{
    error::ConnectError,
    figures::Figures,
    frame::Peer,
    gateway::Gateway,
    groups::SharedGroups,
    handshake::About,
    link::{Clock, Link},
    member::{Member, MemberEvent},
    message::Message,
    options::ClusterOptions,
    plain::Plain,
};
use crate::{ids::NodeName, otp::Address};

pub(super) type Links = HashMap<NodeName, Arc<Link>>;

pub(super) struct Shared {
    pub(super) options: ClusterOptions,
    pub(super) me: About,
    pub(super) clock: Clock,
    pub(super) listen_addr: Option<SocketAddr>,
    pub(super) gateway: Gateway,
    pub(super) groups: SharedGroups,
    pub(super) figures: Figures,
    pub(super) plain: Plain,
    /// The connection to use for each node.
    pub(super) links: ArcSwap<Links>,
    /// All other nodes, as the actor saw them last, and since when each has been so.
    pub(super) members: ArcSwap<Vec<(Duration, Member)>>,
    pub(super) news: broadcast::Sender<MemberEvent>,
    pub(super) membership: Address<Message>,
    /// What members of groups hold of broadcasts of each node, in bytes of credit.
    held: Mutex<HashMap<NodeName, Arc<AtomicU64>>>,
    /// Where connecting failed, and why it did last.
    pub(super) failures: Mutex<HashMap<String, ConnectError>>,
    /// Whether this node was told to leave: it stays out also when the actor crashes.
    pub(super) has_left: AtomicBool,
    /// Connections of one life of the actor end with it.
    life: Mutex<CancellationToken>,
    /// Numbers whatever has to be told apart.
    numbers: AtomicU64,
    serials: AtomicU64,
}

impl Shared {
    pub(super) fn new(
        options: ClusterOptions,
        me: About,
        listen_addr: Option<SocketAddr>,
        groups: SharedGroups,
        figures: Figures,
    ) -> Arc<Self> {
        let (news, _) = broadcast::channel(super::MemberMonitor::BOUND);
        Arc::new(Self {
            options,
            me,
            clock: Clock::start(),
            listen_addr,
            gateway: Gateway::default(),
            groups,
            figures,
            plain: Plain::default(),
            links: ArcSwap::default(),
            members: ArcSwap::default(),
            news,
            membership: Address::new(),
            held: Mutex::default(),
            failures: Mutex::default(),
            has_left: AtomicBool::new(false),
            life: Mutex::new(CancellationToken::new()),
            numbers: AtomicU64::new(1),
            serials: AtomicU64::new(1),
        })
    }

    pub(super) fn link(&self, node: &NodeName) -> Option<Arc<Link>> {
        self.links.load().get(node).cloned()
    }

    /// What is held of a node's broadcasts, whatever connections it had.
    pub(super) fn held_of(&self, node: &NodeName) -> Arc<AtomicU64> {
        let mut held = self.held.lock();
        // Nodes of which nothing is held, and which are not connected.
        held.retain(|_, held| Arc::strong_count(held) > 1);
        Arc::clone(held.entry(node.clone()).or_default())
    }

    /// Tells the actor; when it is not there, whatever this is about ended with it.
    pub(super) fn tell(&self, message: Message) {
        let _ = self.membership.send(message);
    }

    /// A node tells of others. The actor has one message of each connection about that at a time, however often this is called.
    pub(super) fn hear_of(&self, link: &Link, peers: Vec<Peer>) {
        if link.tells(peers) {
            self.tell(Message::Told {
                link: link.number(),
            });
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Rises with each connection that this node opens.
    pub(super) fn serial(&self) -> u64 {
        self.serials.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn life(&self) -> CancellationToken {
        self.life.lock().clone()
    }

    /// Ends all connections of the life before, and begins another.
    pub(super) fn begin_life(&self) {
        let before = std::mem::take(&mut *self.life.lock());
        before.cancel();
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("me", &self.me)
            .finish_non_exhaustive()
    }
}
