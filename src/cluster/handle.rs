use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::FutureExt;
use parking_lot::Mutex;
use ractor::Message as ActorMessage;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    actor::{Membership, connection},
    cookie::Cookie,
    delivery::Delivery,
    error::{ClusterError, ConnectError},
    figures::Figures,
    groups::{self, ClusterGroup, SharedGroups},
    handshake::About,
    listener::{self, Listening},
    member::{Member, MemberMonitor, MemberState},
    message::Message,
    node::NodeAddress,
    offered::Offered,
    options::ClusterOptions,
    plain,
    service::{RemoteAddress, RemoteService, Served},
    shared::Shared,
};
use crate::{
    ids::{NodeId, NodeName},
    otp::{Address, CallError, ChildSpec, Groups, Intensity, SupervisorSpec},
    telemetry::Telemetry,
};

/// A node's part in a cluster. Cheap to clone; a clone is the same.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
    /// Until it is supervised. A handle that outlives the node does not keep the port.
    listening: Arc<Mutex<Option<Listening>>>,
    plain: Arc<Mutex<Option<(Listening, Cookie)>>>,
    plain_addr: Option<SocketAddr>,
}

/// Who this node is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its name, which no other node of the cluster has.
    pub name: NodeName,
    /// Its number in the ids of its events, which no other node has.
    pub id: NodeId,
    /// Which run of it this is; another at each start.
    pub incarnation: u64,
}

impl Cluster {
    /// Binds the address to listen at, if there is one. Nothing runs until the [`child_spec`](Self::child_spec) is supervised.
    ///
    /// # Errors
    ///
    /// [`ClusterError`].
    pub fn new(
        options: ClusterOptions,
        identity: Identity,
        groups: &Groups,
        telemetry: &Telemetry,
    ) -> Result<Self, ClusterError> {
        options.check()?;
        let listening = options.listen.map(Listening::bind).transpose()?;
        let address = match (&options.advertise, &listening) {
            (Some(address), _) => address.clone(),
            (None, Some(listening)) if listening.address.ip().is_unspecified() => {
                return Err(ClusterError::Option {
                    option: "listen",
                    problem: format!(
                        "is {}, which is no address that others can use; say which one with `advertise`",
                        listening.address
                    ),
                });
            }
            (None, Some(listening)) => listening.address.to_string(),
            (None, None) => String::new(),
        };
        let me = About {
            name: identity.name,
            id: identity.id,
            incarnation: identity.incarnation,
            address,
            underpin: env!("CARGO_PKG_VERSION").to_owned(),
            frame_bytes_max: options.frame_bytes_max,
            window: options.window,
        };
        let plain = options.plain.clone();
        let plain = plain.map(|(address, cookie)| Ok((Listening::bind(address)?, cookie)));
        let plain = plain.transpose()?;
        let (groups, figures) = (
            SharedGroups::new(groups.clone(), options.window),
            Figures::new(telemetry),
        );
        let listen_addr = listening.as_ref().map(|listening| listening.address);
        Ok(Self {
            shared: Shared::new(options, me, listen_addr, groups, figures),
            plain_addr: plain.as_ref().map(|(listening, _)| listening.address),
            listening: Arc::new(Mutex::new(listening)),
            plain: Arc::new(Mutex::new(plain)),
        })
    }

    /// The room as a child for a supervisor, with the id `cluster`. Supervise it once.
    #[must_use]
    pub fn child_spec(&self) -> ChildSpec {
        let [for_members, for_listener, for_groups, for_plain] =
            [(); 4].map(|()| Arc::clone(&self.shared));
        let listening = self.listening.lock().take().map(Arc::new);
        let members = ChildSpec::actor("members", &self.shared.membership, move |_| {
            (Membership, Arc::clone(&for_members))
        });
        let spec = SupervisorSpec::new("cluster", INTENSITY)
            .child(members)
            .child(ChildSpec::task("groups", move |ctx| {
                groups::follow(ctx, Arc::clone(&for_groups)).boxed()
            }))
            .child(ChildSpec::task("listener", move |ctx| {
                listener::listen(ctx, Arc::clone(&for_listener), listening.clone()).boxed()
            }));
        let Some((listening, cookie)) = self.plain.lock().take() else {
            return ChildSpec::supervisor(spec);
        };
        let listening = Arc::new(listening);
        ChildSpec::supervisor(spec.child(ChildSpec::task("plain", move |ctx| {
            let listening = (Arc::clone(&listening), cookie.clone());
            plain::listen(ctx, Arc::clone(&for_plain), listening).boxed()
        })))
    }

    /// This node's name.
    #[must_use]
    pub fn name(&self) -> &NodeName {
        &self.shared.me.name
    }

    /// This node's number in the ids of its events.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.shared.me.id
    }

    /// Which run of this node it is.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.shared.me.incarnation
    }

    /// Where others are told to reach this node; empty where it does not listen.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.shared.me.address
    }

    /// Where it listens for other nodes, if it does.
    #[must_use]
    pub fn listen_addr(&self) -> Option<SocketAddr> {
        self.shared.listen_addr
    }

    /// Where it listens for plain programs, if it does.
    #[must_use]
    pub fn plain_addr(&self) -> Option<SocketAddr> {
        self.plain_addr
    }

    /// Whether it listens nowhere and joins nobody.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.shared.options.is_idle()
    }

    /// All other nodes that are known, sorted by name, with what is known of them now.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        let (members, links) = (self.shared.members.load(), self.shared.links.load());
        let now = self.shared.clock.now();
        let shown = members.iter().map(|(since, member)| Member {
            since: now.saturating_sub(*since),
            connection: links.get(&member.name).map(|link| connection(link)),
            ..member.clone()
        });
        let mut shown: Vec<_> = shown.collect();
        for plain in self.shared.plain.members(now) {
            if !shown.iter().any(|member| member.name == plain.name) {
                shown.push(plain);
            }
        }
        shown.sort_by(|a, b| a.name.cmp(&b.name));
        shown
    }

    /// Another node, if it is known.
    #[must_use]
    pub fn member(&self, name: &NodeName) -> Option<Member> {
        self.members()
            .into_iter()
            .find(|member| member.name == *name)
    }

    /// What becomes of other nodes from now on. Look at [`members`](Self::members) after this, not before, and nothing is missed.
    #[must_use]
    pub fn monitor(&self) -> MemberMonitor {
        MemberMonitor {
            news: self.shared.news.subscribe(),
        }
    }

    /// Waits until a node is connected.
    ///
    /// # Errors
    ///
    /// The time that was waited, when it was not connected within it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn wait_for(&self, name: &NodeName, timeout: Duration) -> Result<(), Duration> {
        let mut monitor = self.monitor();
        let waiting = async {
            while self.shared.link(name).is_none() {
                if monitor.next().await.is_none() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::time::timeout(timeout, waiting)
            .await
            .map_err(|_| timeout)
    }

    /// How many other nodes are connected.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.shared.links.load().len()
    }

    /// The addresses that cannot be joined at the moment, and why; sorted.
    #[must_use]
    pub fn failures(&self) -> Vec<(String, ConnectError)> {
        let failures = self.shared.failures.lock();
        let mut failures: Vec<_> = failures
            .iter()
            .map(|(address, error)| (address.clone(), error.clone()))
            .collect();
        failures.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        failures
    }

    /// One more address to join, as `host:port`, tried again for ever.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Option`] when it is no address, [`ClusterError::HasLeft`] after [`leave`](Self::leave).
    pub fn join(&self, address: impl Into<String>) -> Result<(), ClusterError> {
        let address = address.into();
        super::options::check_address(&address)?;
        if self.has_left() {
            return Err(ClusterError::HasLeft);
        }
        self.shared.tell(Message::Join { address });
        Ok(())
    }

    /// Tells all other nodes that this one leaves, and closes the connections. It joins nobody until its process is started anew.
    /// A node that stops does so by itself.
    ///
    /// # Errors
    ///
    /// [`CallError`] when the room is not running. A retry is safe.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: it leaves all the same.
    pub async fn leave(&self) -> Result<(), CallError> {
        let membership = &self.shared.membership;
        self.shared.plain.close();
        membership
            .call(|reply| Message::Leave { reply }, Duration::from_secs(5))
            .await
    }

    /// Whether this node was told to leave.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.shared.has_left.load(Ordering::Relaxed)
    }

    /// Lets other nodes call the actor at an address, by the name of the service. A service that is there already is replaced.
    pub fn serve<S: RemoteService>(&self, address: &Address<S::Message>) {
        let served = Served::<S> {
            address: address.clone(),
            allow_changes: self.shared.options.allow_changes,
        };
        self.shared.gateway.add(S::NAME, Arc::new(served));
    }

    /// Takes a service back: from then on others are told that there is none.
    pub fn withdraw<S: RemoteService>(&self) {
        self.shared.gateway.remove(S::NAME);
    }

    /// The names of the services that other nodes can call, sorted.
    #[must_use]
    pub fn services(&self) -> Vec<Arc<str>> {
        self.shared.gateway.names()
    }

    /// A service of another node. The node need not be there yet.
    #[must_use]
    pub fn remote<S: RemoteService>(&self, node: &NodeName) -> RemoteAddress<S> {
        RemoteAddress::new(Arc::clone(&self.shared), node.clone())
    }

    /// Shows this node to the others: its settings, events, metrics and tree. A node that is assembled by `node` does it by itself.
    pub fn offer(&self, offered: Offered) {
        let allow_changes = self.shared.options.allow_changes;
        offered.open(&self.shared.gateway, allow_changes);
    }

    /// Another node as a whole: its settings, events, metrics and tree. It need not be there yet.
    #[must_use]
    pub fn node(&self, node: &NodeName) -> NodeAddress {
        NodeAddress::new(Arc::clone(&self.shared), node.clone())
    }

    /// A group whose members may be at any node: `M` is what they understand, `T` what is sent to them, in a [`Delivery`] each. Every node that has members
    /// opens it, with the same types; the first type at a node counts.
    #[must_use]
    pub fn group<T, M>(&self, name: &str) -> ClusterGroup<T, M>
    where
        T: Serialize + DeserializeOwned + Clone + Send + 'static,
        M: ActorMessage + From<Delivery<T>>,
    {
        ClusterGroup::open(Arc::clone(&self.shared), name)
    }

    /// The names of the shared groups that have members at any node, sorted.
    #[must_use]
    pub fn which_groups(&self) -> Vec<Arc<str>> {
        groups::which_groups(&self.shared)
    }

    /// How many nodes are in each state.
    #[must_use]
    pub fn count(&self, state: MemberState) -> usize {
        let members = self.members();
        members
            .iter()
            .filter(|member| member.state == state)
            .count()
    }
}

/// A part of the room that crashes takes nobody with it.
const INTENSITY: Intensity = Intensity::new(10, Duration::from_secs(10));

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("name", &self.shared.me.name)
            .field("listen", &self.listen_addr())
            .finish_non_exhaustive()
    }
}
