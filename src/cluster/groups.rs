//! Groups whose members may be at any node: each node counts its own members and tells the others; a broadcast goes once to each node
//! that has members, and is fanned out there.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    marker::PhantomData,
    sync::Arc,
    time::Duration,
};

use futures_util::future;
use parking_lot::Mutex;
use ractor::{ActorCell, ActorRef, Message};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use super::{
    counts::GROUP_BYTES_MAX,
    credit::{Charge, Lane, cost},
    delivery::{Delivery, Held, Home},
    error::{Part, RemoteError},
    frame::Frame,
    link::{Link, carried, within},
    service::{decode, encode},
    shared::Shared,
};
use crate::{
    ids::NodeName,
    otp::{BoxError, Broadcast, ChildContext, Group, GroupEvent, Groups, JoinError, NotJoined},
};

/// How many groups one frame tells of: so many of the longest names fit into the shortest frame that a node may read, of 64 KiB.
const GROUPS_IN_FRAME: usize = 200;

/// The groups that this node shares. How many members another node has is at its connection.
pub(super) struct SharedGroups {
    groups: Groups,
    opened: Mutex<HashMap<Arc<str>, Opened>>,
    /// What this node's own members have of its own broadcasts.
    home: Arc<Home>,
}

/// Fans out what came, or says why it cannot be read.
type Deliver = dyn Fn(&[u8], Held) -> Result<Broadcast, String> + Send + Sync;

/// A group that is shared: how what comes from afar is fanned out.
struct Opened {
    deliver: Arc<Deliver>,
    count: Arc<dyn Fn() -> usize + Send + Sync>,
}

impl SharedGroups {
    pub(super) fn new(groups: Groups, window: u32) -> Self {
        Self {
            groups,
            opened: Mutex::default(),
            home: Arc::new(Home::new(window)),
        }
    }

    /// Fans out what came from another node. Its members are this node's own.
    pub(super) fn deliver(&self, group: &str, payload: &[u8], held: Held) {
        let deliver = self
            .opened
            .lock()
            .get(group)
            .map(|opened| Arc::clone(&opened.deliver));
        match deliver.map(|deliver| deliver(payload, held)) {
            Some(Ok(_)) => {}
            Some(Err(why)) => {
                tracing::warn!(group, why, "a broadcast of another node cannot be read");
            }
            None => tracing::debug!(
                group,
                "a broadcast to a group that is not shared was let go"
            ),
        }
    }

    /// Tells a node that has just been connected of all members here, over the connection that whoever joins from now on finds, too.
    pub(super) fn introduce(&self, shared: &Shared, node: &NodeName) {
        let Some(link) = shared.link(node) else {
            return;
        };
        let opened = self.opened.lock();
        let mut groups: Vec<(&str, u32)> = Vec::new();
        for (name, opened) in &*opened {
            groups.push((name, as_count((opened.count)())));
        }
        groups.retain(|(name, count)| *count > 0 && name.len() <= GROUP_BYTES_MAX);
        let mut whole = true;
        for part in groups.chunks(GROUPS_IN_FRAME) {
            link.outbox.control(&Frame::Members {
                whole,
                groups: part.to_vec(),
            });
            whole = false;
        }
        if whole {
            link.outbox.control(&Frame::Members {
                whole,
                groups: Vec::new(),
            });
        }
    }

    /// Tells all nodes how many members a group has here now.
    fn announce(&self, shared: &Shared, group: &str) {
        // Under the lock, so that what is told last is what was counted last.
        let opened = self.opened.lock();
        let Some(count) = opened.get(group).map(|opened| (opened.count)()) else {
            return;
        };
        if group.len() > GROUP_BYTES_MAX {
            return;
        }
        let frame = Frame::Members {
            whole: false,
            groups: vec![(group, as_count(count))],
        };
        for link in shared.links.load().values() {
            link.outbox.control(&frame);
        }
    }

    fn announce_all(&self, shared: &Shared) {
        let opened: Vec<Arc<str>> = self.opened.lock().keys().cloned().collect();
        for group in opened {
            self.announce(shared, &group);
        }
    }
}

fn as_count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Follows who joins and leaves here, and tells the others.
pub(super) async fn follow(ctx: ChildContext, shared: Arc<Shared>) -> Result<(), BoxError> {
    let (_, mut monitor) = shared.groups.groups.monitor();
    shared.groups.announce_all(&shared);
    loop {
        let event = tokio::select! {
            () = ctx.cancelled() => return Ok(()),
            event = monitor.next() => event,
        };
        match event {
            GroupEvent::Joined { group, .. } | GroupEvent::Left { group, .. } => {
                shared.groups.announce(&shared, &group);
            }
            GroupEvent::Resync { .. } => {
                shared.groups.announce_all(&shared);
            }
        }
    }
}

/// A group whose members may be at any node, who understand `M`; what is broadcast is a `T`, of which an `M` is made for each out of
/// its [`Delivery`]. From [`Cluster::group`](super::Cluster::group). Cheap to clone.
///
/// What is broadcast is bounded at each node: by the credit that each other node, and the node itself, has for the group, up to half of
/// the node's window, until the members have dropped their deliveries. A message costs 256 bytes and its own: for members of the same
/// node those of a `T` itself, and not of what it points to. Each member has a copy of its own of what was sent.
///
/// Membership is eventually consistent: a node hears of a join elsewhere a moment later. The members of a node that is down are gone
/// from the group, and there again when it is back.
pub struct ClusterGroup<T, M = Delivery<T>> {
    shared: Arc<Shared>,
    group: Group<M>,
    payload: PhantomData<fn(T)>,
}

type Links = Vec<Arc<Link>>;

/// Whom a broadcast reached.
#[derive(Debug, Clone)]
#[must_use]
pub struct ClusterBroadcast {
    /// Members of this node.
    pub here: Broadcast,
    /// Other nodes to which it was sent, once to each.
    pub nodes: usize,
    /// Nodes that have members and to which it was not sent, and why; this node, too.
    pub failed: Vec<(NodeName, RemoteError)>,
}

impl<T, M> ClusterGroup<T, M>
where
    T: Serialize + DeserializeOwned + Clone + Send + 'static,
    M: Message + From<Delivery<T>>,
{
    pub(super) fn open(shared: Arc<Shared>, name: &str) -> Self {
        let group: Group<M> = shared.groups.groups.group(name);
        let (for_delivery, for_count) = (group.clone(), group.clone());
        let opened = Opened {
            deliver: Arc::new(move |payload, held| {
                let delivery = Delivery::<T>::holding(decode(payload)?, held);
                Ok(for_delivery.broadcast_with(|| M::from(delivery.clone())))
            }),
            count: Arc::new(move || for_count.local_members().len()),
        };
        // The first type that a group is shared with is the one.
        shared
            .groups
            .opened
            .lock()
            .entry(name.into())
            .or_insert(opened);
        shared.groups.announce(&shared, name);
        Self {
            shared,
            group,
            payload: PhantomData,
        }
    }

    /// Its name. Others hear of names of up to 256 bytes.
    #[must_use]
    pub fn name(&self) -> &str {
        self.group.name()
    }

    /// The part of the group that is at this node: to join, leave, or have children join with
    /// [`ChildSpec::joins`](crate::otp::ChildSpec::joins).
    #[must_use]
    pub fn here(&self) -> &Group<M> {
        &self.group
    }

    /// Adds an actor of this node; one that is in it already is in it once more.
    ///
    /// # Errors
    ///
    /// [`JoinError`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn join(&self, actor: &ActorRef<M>) -> Result<(), JoinError> {
        self.group.join(actor)
    }

    /// Takes one membership of an actor of this node back.
    ///
    /// # Errors
    ///
    /// [`NotJoined`].
    pub fn leave(&self, actor: &ActorRef<M>) -> Result<(), NotJoined> {
        self.group.leave(actor)
    }

    /// The members at this node.
    #[must_use]
    pub fn local_members(&self) -> Vec<ActorCell> {
        self.group.local_members()
    }

    /// How many members each node has, this one included; a node without any is not there.
    #[must_use]
    pub fn members(&self) -> BTreeMap<NodeName, usize> {
        let links = self.shared.links.load();
        let elsewhere = links.iter().filter_map(|(node, link)| {
            let count = link.counts.of(self.name())?;
            Some((node.clone(), count as usize))
        });
        let mut members: BTreeMap<_, _> = elsewhere.collect();
        let here = self.group.local_members().len();
        if here > 0 {
            members.insert(self.shared.me.name.clone(), here);
        }
        members
    }

    /// How many members there are at all nodes.
    #[must_use]
    pub fn count(&self) -> usize {
        self.members().values().sum()
    }

    /// Sends to every member at every node, as often as it joined, to all nodes at the same time. It is done when each node has taken it:
    /// where a node, or this one, has too much of this group that its members have not dealt with, that takes until they have dealt with
    /// some of it, the node is down, or `timeout` is over; then the node is named in [`failed`](ClusterBroadcast::failed), and has
    /// nothing of it. Another broadcast of the same comes once more to those that this one reached. That it was sent to a node does not
    /// say that it arrived.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves out the nodes to which it was not sent yet.
    pub async fn broadcast(&self, payload: &T, timeout: Duration) -> ClusterBroadcast {
        let deadline = Instant::now().checked_add(timeout);
        let home = &self.shared.groups.home;
        let here = match self.try_here(payload) {
            Some(sent) => Ok(sent),
            None => Err(home.hold(self.charge_here())),
        };
        let outgoing = self.outgoing(payload);
        let here = async {
            match here {
                Ok(sent) => Some(sent),
                Err(waits) => within(deadline, waits)
                    .await
                    .map(|held| self.send_here(payload, &held)),
            }
        };
        let (bytes, links) = match &outgoing {
            Ok((bytes, links)) => (&bytes[..], &links[..]),
            Err(_) => (&[][..], &[][..]),
        };
        let (charge, frame) = self.publish(bytes);
        let sending = links.iter().map(async |link| {
            link.check_size(self.name(), bytes.len())?;
            let sent = within(deadline, link.cast(charge, &frame)).await;
            sent.unwrap_or_else(|| Err(full(link.node())))
        });
        let (here, sent) = future::join(here, future::join_all(sending)).await;
        let mut broadcast = self.begun(here);
        match &outgoing {
            Ok((_, links)) => broadcast.note_all(links.iter().zip(sent)),
            Err((why, links)) => {
                broadcast.note_all(links.iter().map(|link| (link, Err(why.clone()))));
            }
        }
        broadcast
    }

    /// The same without ever waiting: a node that has too much of this group already is left out, and named.
    pub fn try_broadcast(&self, payload: &T) -> ClusterBroadcast {
        let mut broadcast = self.begun(self.try_here(payload));
        match self.outgoing(payload) {
            Ok((bytes, links)) => {
                let (charge, frame) = self.publish(&bytes);
                broadcast.note_all(links.iter().map(|link| {
                    let fits = link.check_size(self.name(), bytes.len());
                    (link, fits.and_then(|()| link.try_cast(charge, &frame)))
                }));
            }
            Err((why, links)) => {
                broadcast.note_all(links.iter().map(|link| (link, Err(why.clone()))));
            }
        }
        broadcast
    }

    fn publish<'a>(&'a self, payload: &'a [u8]) -> (Charge, Frame<'a>) {
        let charge = Charge {
            lane: Lane::group(self.name()),
            cost: cost(payload.len()),
        };
        let frame = Frame::Publish {
            context: carried(),
            group: self.name(),
            payload,
        };
        (charge, frame)
    }

    /// What a broadcast costs at this node, where nothing is written: what is in the payload itself.
    fn charge_here(&self) -> Charge {
        Charge {
            lane: Lane::group(self.name()),
            cost: cost(size_of::<T>()),
        }
    }

    /// `None` where this node's members have too much already.
    fn try_here(&self, payload: &T) -> Option<Broadcast> {
        let held = self.shared.groups.home.try_hold(self.charge_here());
        if held.is_none() && self.group.local_members().is_empty() {
            return Some(Broadcast {
                sent: 0,
                unreached: 0,
            });
        }
        held.map(|held| self.send_here(payload, &held))
    }

    fn send_here(&self, payload: &T, held: &Held) -> Broadcast {
        self.group
            .broadcast_with(|| M::from(Delivery::holding(payload.clone(), held.clone())))
    }

    /// `None` where this node has too much already.
    fn begun(&self, here: Option<Broadcast>) -> ClusterBroadcast {
        let failed = here.is_none().then(|| {
            let me = &self.shared.me.name;
            (me.clone(), full(me))
        });
        ClusterBroadcast {
            here: here.unwrap_or_else(|| Broadcast {
                sent: 0,
                unreached: self.group.local_members().len(),
            }),
            nodes: 0,
            failed: failed.into_iter().collect(),
        }
    }

    /// What is to be sent, and over which connections; or why it cannot be written.
    fn outgoing(&self, payload: &T) -> Result<(Vec<u8>, Links), (RemoteError, Links)> {
        let links = self.shared.links.load();
        let with_members = links
            .values()
            .filter(|link| link.counts.of(self.name()).is_some());
        let links: Links = with_members.cloned().collect();
        if links.is_empty() {
            return Ok((Vec::new(), links));
        }
        match encode(payload) {
            Ok(bytes) => Ok((bytes, links)),
            Err(why) => {
                let what = Part::Request;
                Err((RemoteError::Unreadable { what, why }, links))
            }
        }
    }
}

fn full(node: &NodeName) -> RemoteError {
    RemoteError::Full { node: node.clone() }
}

impl ClusterBroadcast {
    fn note_all<'a>(
        &mut self,
        sent: impl Iterator<Item = (&'a Arc<Link>, Result<(), RemoteError>)>,
    ) {
        for (link, sent) in sent {
            match sent {
                Ok(()) => self.nodes += 1,
                Err(error) => self.failed.push((link.node().clone(), error)),
            }
        }
    }
}

impl<T, M> Clone for ClusterGroup<T, M> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            group: self.group.clone(),
            payload: PhantomData,
        }
    }
}

impl<T, M> fmt::Debug for ClusterGroup<T, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClusterGroup").field(&self.group).finish()
    }
}

/// The names of all groups that have members at this node or another, sorted.
pub(super) fn which_groups(shared: &Shared) -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> = Vec::new();
    for (name, opened) in &*shared.groups.opened.lock() {
        if (opened.count)() > 0 {
            names.push(Arc::clone(name));
        }
    }
    for link in shared.links.load().values() {
        names.extend(link.counts.names());
    }
    names.sort_unstable();
    names.dedup();
    names
}
