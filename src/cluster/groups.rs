//! Groups whose members may be at any node: each node counts its own members and tells the others; a broadcast goes once to each node
//! that has members, and is fanned out there.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    marker::PhantomData,
    sync::Arc,
};

use futures_util::future;
use parking_lot::Mutex;
use ractor::{ActorCell, ActorRef, Message};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    credit::{Charge, Lane, cost},
    delivery::{Delivery, Held},
    error::{Part, RemoteError},
    frame::Frame,
    link::{Link, carried},
    service::{decode, encode},
    shared::Shared,
    state::LinkNumber,
};
use crate::{
    ids::NodeName,
    otp::{BoxError, Broadcast, ChildContext, Group, GroupEvent, Groups, JoinError, NotJoined},
};

/// How many groups one other node may tell of.
const GROUPS_MAX: usize = 65_536;

/// The longest name of a group that others are told of.
const GROUP_BYTES_MAX: usize = 256;

/// How many groups one frame tells of: so many of the longest names fit into the shortest frame that a node may read, of 64 KiB.
const GROUPS_IN_FRAME: usize = 200;

/// The groups that this node shares, and who is in them elsewhere.
pub(super) struct SharedGroups {
    groups: Groups,
    opened: Mutex<HashMap<Arc<str>, Opened>>,
    remote: Mutex<HashMap<NodeName, Told>>,
}

/// Fans out what came, or says why it cannot be read.
type Deliver = dyn Fn(&[u8], Held) -> Result<Broadcast, String> + Send + Sync;

/// A group that is shared: how what comes from afar is fanned out.
struct Opened {
    deliver: Arc<Deliver>,
    count: Arc<dyn Fn() -> usize + Send + Sync>,
}

/// What a node told of its members, over which connection.
#[derive(Default)]
struct Told {
    link: LinkNumber,
    counts: HashMap<Arc<str>, u32>,
}

impl SharedGroups {
    pub(super) fn new(groups: Groups) -> Self {
        Self {
            groups,
            opened: Mutex::default(),
            remote: Mutex::default(),
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

    /// Another node tells how many members it has. What comes over a connection that is over is old.
    pub(super) fn learn(&self, link: &Link, whole: bool, groups: &[(&str, u32)]) {
        let mut remote = self.remote.lock();
        // Under the lock: who forgets a node has closed its connection before.
        if link.closing.is_cancelled() {
            return;
        }
        let told = remote.entry(link.node().clone()).or_default();
        if whole || told.link != link.number() {
            told.counts.clear();
        }
        told.link = link.number();
        for (group, count) in groups {
            if *count == 0 {
                told.counts.remove(*group);
            } else if told.counts.len() < GROUPS_MAX && group.len() <= GROUP_BYTES_MAX {
                told.counts.insert((*group).into(), *count);
            }
        }
    }

    /// A connection is over: what was told over it does not hold any more.
    pub(super) fn forget_link(&self, link: &Link) {
        let mut remote = self.remote.lock();
        if remote
            .get(link.node())
            .is_some_and(|told| told.link == link.number())
        {
            remote.remove(link.node());
        }
    }

    /// A node is not connected any more: its members are not reached.
    pub(super) fn forget(&self, node: &NodeName) {
        self.remote.lock().remove(node);
    }

    /// Tells a node that has just been connected of all members here.
    pub(super) fn introduce(&self, link: &Link) {
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

    /// Opens a group whose members are counted by this.
    #[cfg(test)]
    pub(super) fn open_counted(
        &self,
        name: &str,
        count: impl Fn() -> usize + Send + Sync + 'static,
    ) {
        let deliver = Arc::new(|_: &[u8], _| Err("nobody is there".to_owned()));
        let count = Arc::new(count);
        self.opened
            .lock()
            .insert(name.into(), Opened { deliver, count });
    }

    #[cfg(test)]
    pub(super) fn counted_elsewhere(&self, group: &str) -> usize {
        self.elsewhere(group).values().sum()
    }

    fn elsewhere(&self, group: &str) -> BTreeMap<NodeName, usize> {
        let remote = self.remote.lock();
        let has = |told: &Told| told.counts.get(group).copied();
        let counts = remote
            .iter()
            .filter_map(|(node, told)| Some((node.clone(), has(told)?)));
        counts.map(|(node, count)| (node, count as usize)).collect()
    }

    fn names_elsewhere(&self, names: &mut Vec<Arc<str>>) {
        let remote = self.remote.lock();
        names.extend(remote.values().flat_map(|told| told.counts.keys().cloned()));
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
/// What other nodes broadcast is bounded at each node: by the credit that each of them has for the group, up to half of the node's
/// window, until the members have dropped their deliveries. Each member has a copy of its own of what was sent.
///
/// Membership is eventually consistent: a node hears of a join elsewhere a moment later. The members of a node that is down are gone
/// from the group, and there again when it is back.
pub struct ClusterGroup<T, M = Delivery<T>> {
    shared: Arc<Shared>,
    group: Group<M>,
    payload: PhantomData<fn(T)>,
}

/// What is sent, and over which connections.
type Outgoing = (Vec<u8>, Vec<Arc<Link>>);

/// Whom a broadcast reached.
#[derive(Debug, Clone)]
#[must_use]
pub struct ClusterBroadcast {
    /// Members of this node.
    pub here: Broadcast,
    /// Other nodes to which it was sent, once to each.
    pub nodes: usize,
    /// Nodes that have members and to which it was not sent, and why.
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
                let delivery = Delivery::<T>::from_afar(decode(payload)?, held);
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
        let mut members = self.shared.groups.elsewhere(self.name());
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

    /// Sends to every member at every node, as often as it joined: to those of this node at once and without a bound, to all other nodes
    /// at the same time. It is done when each of them has taken it: where a node has too much on its way for this group, that takes
    /// until its members have dealt with some of it, or the node is down. That it was sent to a node does not say that it arrived.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves out the nodes to which it was not sent yet.
    pub async fn broadcast(&self, payload: &T) -> ClusterBroadcast {
        let (mut broadcast, outgoing) = self.begin(payload);
        let Some((bytes, links)) = outgoing else {
            return broadcast;
        };
        let (charge, frame) = self.publish(&bytes);
        let sending = links.iter().map(async |link| {
            link.check_size(self.name(), bytes.len())?;
            link.cast(charge, &frame).await
        });
        let sent = future::join_all(sending).await;
        for (link, sent) in links.iter().zip(sent) {
            broadcast.note(link.node(), sent);
        }
        broadcast
    }

    /// The same without ever waiting: a node to which too much is on its way is left out, and named.
    pub fn try_broadcast(&self, payload: &T) -> ClusterBroadcast {
        let (mut broadcast, outgoing) = self.begin(payload);
        let Some((bytes, links)) = outgoing else {
            return broadcast;
        };
        let (charge, frame) = self.publish(&bytes);
        for link in links {
            let fits = link.check_size(self.name(), bytes.len());
            let sent = fits.and_then(|()| link.try_cast(charge, &frame));
            broadcast.note(link.node(), sent);
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

    /// Sends to the members here, and gives what is to be sent to which nodes.
    fn begin(&self, payload: &T) -> (ClusterBroadcast, Option<Outgoing>) {
        let here = self
            .group
            .broadcast_with(|| M::from(Delivery::new(payload.clone())));
        let mut broadcast = ClusterBroadcast {
            here,
            nodes: 0,
            failed: Vec::new(),
        };
        let nodes = self.shared.groups.elsewhere(self.name());
        if nodes.is_empty() {
            return (broadcast, None);
        }
        let links = self.shared.links.load();
        let mut reached = Vec::new();
        for node in nodes.into_keys() {
            match links.get(&node) {
                Some(link) => reached.push(Arc::clone(link)),
                None => broadcast.note(&node.clone(), Err(RemoteError::NoConnection { node })),
            }
        }
        match encode(payload) {
            Ok(bytes) => (broadcast, Some((bytes, reached))),
            Err(why) => {
                let unreadable = RemoteError::Unreadable {
                    what: Part::Request,
                    why,
                };
                for link in reached {
                    broadcast.note(link.node(), Err(unreadable.clone()));
                }
                (broadcast, None)
            }
        }
    }
}

impl ClusterBroadcast {
    fn note(&mut self, node: &NodeName, sent: Result<(), RemoteError>) {
        match sent {
            Ok(()) => self.nodes += 1,
            Err(error) => self.failed.push((node.clone(), error)),
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
    shared.groups.names_elsewhere(&mut names);
    names.sort_unstable();
    names.dedup();
    names
}
