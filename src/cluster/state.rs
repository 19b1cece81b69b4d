//! Who is in the cluster, as this node sees it: a state machine over what happened, the time and chance. It decides, the actor
//! carries out.
//!
//! Each node sees with its own eyes: a node is down for this one when this one has no connection to it, whatever others say. From
//! others it learns only where there are more nodes.

use std::{collections::BTreeMap, time::Duration};

use super::{error::Refusal, frame::Peer, handshake::About};
use crate::{
    ids::{NodeId, NodeName},
    resilience::Backoff,
};

/// As many nodes as there are ids.
pub(super) const NODES_MAX: usize = NodeId::MAX as usize + 1;

/// How long a node that has left, or is down and that nobody named as a seed, is remembered: long enough for an upgrade and for a
/// person to see it.
const REMEMBERED: Duration = Duration::from_hours(24);

/// Which connection of this node's life.
pub(super) type LinkNumber = u64;

#[derive(Debug)]
pub(super) struct State {
    me: About,
    rules: Rules,
    members: BTreeMap<NodeName, Member>,
    newcomers: BTreeMap<NodeName, Newcomer>,
    targets: BTreeMap<String, Target>,
    leaving: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) timeout: Duration,
    pub(super) backoff: Backoff,
}

/// What is known of another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) id: NodeId,
    pub(super) incarnation: u64,
    pub(super) address: String,
    pub(super) underpin: String,
    pub(super) standing: Standing,
    pub(super) since: Duration,
}

/// A node that dialled this one and was let in, and has not said anything since. Whoever dials has the last word: it may have found
/// another connection meanwhile and drop this one. So a connection is used, and the node up, once its first frame has come; then both
/// sides use it, and it is not replaced while it is heard of. What one sends never goes over two connections at a time.
#[derive(Debug)]
struct Newcomer {
    link: Linked,
    about: About,
    since: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// Others told of it; there was no connection yet.
    Joining,
    Alive {
        link: Linked,
        heard: Duration,
    },
    /// It has been silent for half of the time after which it is down.
    Suspect {
        link: Linked,
        heard: Duration,
    },
    Down {
        why: LostWhy,
    },
    Left,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Linked {
    pub(super) number: LinkNumber,
    /// Whether this node opened the connection.
    pub(super) ours: bool,
    pub(super) serial: u64,
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LostWhy {
    /// The other side closed it, or its process ended.
    Closed,
    /// Nothing was heard for too long.
    Silent,
    /// The other side does not keep to the protocol.
    Violated,
}

/// An address to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    /// Who was found there.
    name: Option<NodeName>,
    is_seed: bool,
    attempt: u32,
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Waiting {
        until: Duration,
    },
    Dialling,
    /// It leads to a node that is connected, or has left.
    Settled,
    /// It leads here.
    Itself,
}

#[derive(Debug)]
pub(super) enum Input<'a> {
    /// Time went by; when each connection was heard of last.
    Tick {
        heard: &'a [(LinkNumber, Duration)],
    },
    /// A connection has proven who is there; may it be used? `address` where this node dialled it.
    Greeted {
        link: Linked,
        about: &'a About,
        address: Option<&'a str>,
    },
    /// The first frame came over a connection that another node has opened: it uses it.
    Confirmed {
        link: LinkNumber,
    },
    /// An attempt came to nothing.
    DialFailed {
        address: &'a str,
        refusal: Option<&'a Refusal>,
    },
    Lost {
        link: LinkNumber,
        why: LostWhy,
    },
    /// A node tells of others.
    Told {
        peers: &'a [Peer],
    },
    /// A node says that it leaves.
    Leaves {
        link: LinkNumber,
    },
    /// This node is to join there.
    Join {
        address: &'a str,
        is_seed: bool,
    },
    /// This node is to leave.
    Leave,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    Dial {
        address: String,
    },
    Admit {
        link: LinkNumber,
    },
    Refuse {
        link: LinkNumber,
        refusal: Refusal,
    },
    Close {
        link: LinkNumber,
    },
    /// Tell the node at the other end where others are.
    Tell {
        link: LinkNumber,
        peers: Vec<Peer>,
    },
    /// Tell it that this node leaves, then close.
    SayLeave {
        link: LinkNumber,
    },
    Announce {
        name: NodeName,
        news: News,
    },
}

/// What became of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    Joining,
    Up,
    Suspect,
    Recovered,
    Down(LostWhy),
    Left,
}

impl State {
    pub(super) fn new(me: About, rules: Rules) -> Self {
        Self {
            me,
            rules,
            members: BTreeMap::new(),
            newcomers: BTreeMap::new(),
            targets: BTreeMap::new(),
            leaving: false,
        }
    }

    pub(super) fn members(&self) -> impl Iterator<Item = (&NodeName, &Member)> {
        self.members.iter()
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// `chance` is 0 to 1.
    pub(super) fn step(&mut self, input: &Input<'_>, now: Duration, chance: f64) -> Vec<Effect> {
        let mut effects = Vec::new();
        match *input {
            Input::Tick { heard } => {
                self.look(heard, now, &mut effects);
                self.forget(now);
                self.dial_due(now, &mut effects);
            }
            Input::Greeted {
                link,
                about,
                address,
            } => {
                self.greeted(link, about, address, now, &mut effects);
            }
            Input::Confirmed { link } => self.confirmed(link, now, &mut effects),
            Input::DialFailed { address, refusal } => {
                self.dial_failed(address, refusal, now, chance);
            }
            Input::Lost { link, why } => self.lost(link, why, now, chance, &mut effects),
            Input::Told { peers } => {
                for peer in peers {
                    self.told(peer, now, &mut effects);
                }
                self.dial_due(now, &mut effects);
            }
            Input::Leaves { link } => self.leaves(link, now, &mut effects),
            Input::Join { address, is_seed } => {
                self.target(address, None, is_seed, now);
                self.dial_due(now, &mut effects);
            }
            Input::Leave => self.leave(now, &mut effects),
        }
        effects
    }

    /// Whether an address leads to nobody yet, so that it is tried again.
    pub(super) fn is_sought(&self, address: &str) -> bool {
        let target = self.targets.get(address);
        target.is_some_and(|it| matches!(it.stage, Stage::Waiting { .. } | Stage::Dialling))
    }

    /// Why a node would not be let in, if it would not. One that is known would be.
    ///
    /// Whoever asks can draw another id yet. So those of nodes that are not connected are taken too: they may only be cut off.
    pub(super) fn objection_to(&self, about: &About) -> Option<Refusal> {
        let holder = self.members.iter().find(|(name, member)| {
            **name != about.name && member.id == about.id && member.standing != Standing::Left
        });
        if let Some((name, _)) = holder {
            return Some(Refusal::DuplicateId {
                id: about.id,
                name: name.clone(),
            });
        }
        let newest = Linked {
            number: 0,
            ours: self.me.name < about.name,
            serial: u64::MAX,
        };
        self.objection(newest, about)
    }

    /// Judges each connection by its silence.
    fn look(&mut self, heard: &[(LinkNumber, Duration)], now: Duration, effects: &mut Vec<Effect>) {
        let heard: BTreeMap<_, _> = heard.iter().copied().collect();
        let mut silent = Vec::new();
        for (name, member) in &mut self.members {
            let (link, was_suspect) = match member.standing {
                Standing::Alive { link, .. } => (link, false),
                Standing::Suspect { link, .. } => (link, true),
                _ => continue,
            };
            let Some(&last) = heard.get(&link.number) else {
                continue;
            };
            let silence = now.saturating_sub(last);
            if silence > self.rules.timeout {
                silent.push(link.number);
            }
            let is_suspect = silence > self.rules.timeout / 2;
            if is_suspect != was_suspect {
                member.since = now;
                let news = if is_suspect {
                    News::Suspect
                } else {
                    News::Recovered
                };
                effects.push(Effect::Announce {
                    name: name.clone(),
                    news,
                });
            }
            member.standing = if is_suspect {
                Standing::Suspect { link, heard: last }
            } else {
                Standing::Alive { link, heard: last }
            };
        }
        for link in silent {
            effects.push(Effect::Close { link });
            self.lost(link, LostWhy::Silent, now, 0.0, effects);
        }
        self.newcomers.retain(|_, newcomer| {
            let is_silent = now.saturating_sub(newcomer.since) > self.rules.timeout;
            if is_silent {
                let link = newcomer.link.number;
                effects.push(Effect::Close { link });
            }
            !is_silent
        });
    }

    fn forget(&mut self, now: Duration) {
        let is_old = |member: &Member| now.saturating_sub(member.since) > REMEMBERED;
        let old = |(name, member): (&NodeName, &Member)| {
            (member.link().is_none() && is_old(member)).then(|| name.clone())
        };
        let old: Vec<_> = self.members.iter().filter_map(old).collect();
        for name in &old {
            self.drop_member(name);
        }
    }

    fn drop_member(&mut self, name: &NodeName) {
        self.members.remove(name);
        self.targets
            .retain(|_, target| target.is_seed || target.name.as_ref() != Some(name));
    }

    /// Makes room for one more node, where there is none, in place of the one that is gone for the longest time. `false` where none is.
    fn make_room(&mut self, is_gone: impl Fn(&Standing) -> bool) -> bool {
        if self.members.len() + 1 < NODES_MAX {
            return true;
        }
        let gone = self
            .members
            .iter()
            .filter(|(_, member)| is_gone(&member.standing));
        let oldest = gone.min_by_key(|(_, member)| member.since);
        let Some(name) = oldest.map(|(name, _)| name.clone()) else {
            return false;
        };
        self.drop_member(&name);
        true
    }

    /// Whether as many nodes are connected, or about to be, as there can be.
    fn is_crowded(&self) -> bool {
        let linked = self.members.values().filter(|it| it.link().is_some());
        linked.count() + self.newcomers.len() + 1 >= NODES_MAX
    }

    fn dial_due(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.leaving {
            return;
        }
        for (address, target) in &mut self.targets {
            if matches!(target.stage, Stage::Waiting { until } if until <= now) {
                target.stage = Stage::Dialling;
                effects.push(Effect::Dial {
                    address: address.clone(),
                });
            }
        }
    }

    /// Why a node that has proven itself is not let in all the same.
    fn objection(&self, link: Linked, about: &About) -> Option<Refusal> {
        if self.leaving {
            return Some(Refusal::Leaving);
        }
        if about.name == self.me.name {
            return Some(if about.incarnation == self.me.incarnation {
                Refusal::Itself
            } else {
                Refusal::DuplicateName {
                    name: about.name.clone(),
                }
            });
        }
        let id_taken = |name: &NodeName| Refusal::DuplicateId {
            id: about.id,
            name: name.clone(),
        };
        if about.id == self.me.id {
            return Some(id_taken(&self.me.name));
        }
        let linked = self.members.iter().filter(|(_, it)| it.link().is_some());
        let linked = linked.map(|(name, member)| (name, member.id));
        let coming = self.newcomers.iter().map(|(name, it)| (name, it.about.id));
        let mut others = linked
            .chain(coming)
            .filter(|(name, _)| **name != about.name);
        if let Some((name, _)) = others.find(|(_, id)| *id == about.id) {
            return Some(id_taken(name));
        }
        let duplicate = Refusal::DuplicateName {
            name: about.name.clone(),
        };
        let connected = Refusal::Connected {
            name: self.me.name.clone(),
        };
        let known = self.members.get(&about.name);
        let newcomer = self.newcomers.get(&about.name);
        if let Some(known) = known.filter(|it| it.link().is_some()) {
            if known.incarnation != about.incarnation {
                return Some(duplicate);
            }
            // One that has been silent for a while may have lost the connection.
            if matches!(known.standing, Standing::Alive { .. }) {
                return Some(connected);
            }
        } else if newcomer.is_none() && self.is_crowded() {
            return Some(Refusal::Crowded { limit: NODES_MAX });
        }
        let newcomer = newcomer?;
        if newcomer.about.incarnation != about.incarnation {
            return Some(duplicate);
        }
        (!self.is_preferred(link, newcomer.link, &about.name)).then_some(connected)
    }

    /// Both nodes may open a connection at once, and both have to keep the same one: that of the node whose name comes first; of two
    /// by the same node, the newer.
    fn is_preferred(&self, new: Linked, old: Linked, other: &NodeName) -> bool {
        if new.ours == old.ours {
            return new.serial > old.serial;
        }
        new.ours == (self.me.name < *other)
    }

    fn greeted(
        &mut self,
        link: Linked,
        about: &About,
        address: Option<&str>,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(refusal) = self.objection(link, about) {
            if let Some(target) = address.and_then(|address| self.targets.get_mut(address)) {
                target.name = Some(about.name.clone());
            }
            effects.push(Effect::Refuse {
                link: link.number,
                refusal,
            });
            return;
        }
        let replaced = if link.ours {
            self.newcomers.remove(&about.name)
        } else {
            let newcomer = Newcomer {
                link,
                about: about.clone(),
                since: now,
            };
            self.newcomers.insert(about.name.clone(), newcomer)
        };
        if let Some(replaced) = replaced {
            let link = replaced.link.number;
            effects.push(Effect::Close { link });
        }
        if link.ours {
            self.admit(link, about, now, effects);
        }
        if let Some(target) = address.and_then(|address| self.targets.get_mut(address)) {
            target.name = Some(about.name.clone());
            target.stage = Stage::Settled;
        }
    }

    fn confirmed(&mut self, link: LinkNumber, now: Duration, effects: &mut Vec<Effect>) {
        let mut newcomers = self.newcomers.iter();
        let newcomer = newcomers.find(|(_, newcomer)| newcomer.link.number == link);
        let Some(name) = newcomer.map(|(name, _)| name.clone()) else {
            return;
        };
        if let Some(newcomer) = self.newcomers.remove(&name) {
            self.admit(newcomer.link, &newcomer.about, now, effects);
        }
    }

    /// From now on the connection is the one to the node.
    fn admit(&mut self, link: Linked, about: &About, now: Duration, effects: &mut Vec<Effect>) {
        let known = self.members.get(&about.name);
        let old = known.and_then(Member::link);
        let was_suspect =
            known.is_some_and(|known| matches!(known.standing, Standing::Suspect { .. }));
        if let Some(old) = old {
            // The other side has given it up: it would not have opened another one.
            let link = old.number;
            effects.push(Effect::Close { link });
        }
        if known.is_none() {
            // There is, or it would not have been let in.
            self.make_room(|standing| {
                !matches!(standing, Standing::Alive { .. } | Standing::Suspect { .. })
            });
        }
        effects.push(Effect::Admit { link: link.number });
        let member = Member {
            id: about.id,
            incarnation: about.incarnation,
            address: about.address.clone(),
            underpin: about.underpin.clone(),
            standing: Standing::Alive { link, heard: now },
            since: now,
        };
        self.members.insert(about.name.clone(), member);
        if !about.address.is_empty() {
            self.target(&about.address, Some(&about.name), false, now);
        }
        self.settle(&about.name);
        if old.is_some() {
            if was_suspect {
                effects.push(Effect::Announce {
                    name: about.name.clone(),
                    news: News::Recovered,
                });
            }
            return;
        }
        effects.push(Effect::Announce {
            name: about.name.clone(),
            news: News::Up,
        });
        self.introduce(link.number, about, effects);
    }

    /// Tells the new one of all others, and all others of the new one.
    fn introduce(&self, link: LinkNumber, about: &About, effects: &mut Vec<Effect>) {
        let newcomer = Peer {
            name: about.name.clone(),
            address: about.address.clone(),
            id: about.id,
            incarnation: about.incarnation,
        };
        let mut others = Vec::new();
        for (name, member) in &self.members {
            let Some(their_link) = member.link().filter(|_| *name != about.name) else {
                continue;
            };
            if !member.address.is_empty() {
                others.push(Peer {
                    name: name.clone(),
                    address: member.address.clone(),
                    id: member.id,
                    incarnation: member.incarnation,
                });
            }
            if !newcomer.address.is_empty() {
                let peers = vec![newcomer.clone()];
                effects.push(Effect::Tell {
                    link: their_link.number,
                    peers,
                });
            }
        }
        if !others.is_empty() {
            effects.push(Effect::Tell {
                link,
                peers: others,
            });
        }
    }

    /// Adds an address, or learns who is there.
    fn target(&mut self, address: &str, name: Option<&NodeName>, is_seed: bool, now: Duration) {
        let is_full = self.targets.len() >= 2 * NODES_MAX;
        match self.targets.get_mut(address) {
            Some(target) => {
                target.is_seed |= is_seed;
                if name.is_some() {
                    target.name = name.cloned();
                }
            }
            None if is_full => {}
            None => {
                let stage = Stage::Waiting { until: now };
                let target = Target {
                    name: name.cloned(),
                    is_seed,
                    attempt: 0,
                    stage,
                };
                self.targets.insert(address.to_owned(), target);
            }
        }
        // Where it was reached itself, and where others say that it is: not every place that anybody ever named.
        let Some(name) = name else { return };
        let own = self.members.get(name).map(|member| member.address.clone());
        self.targets.retain(|other, target| {
            let is_kept = other == address || target.is_seed || own.as_deref() == Some(other);
            is_kept || target.name.as_ref() != Some(name)
        });
    }

    /// There is a connection, so that no address of the node needs to be dialled.
    fn settle(&mut self, name: &NodeName) {
        let its = self
            .targets
            .values_mut()
            .filter(|target| target.name.as_ref() == Some(name));
        its.filter(|target| target.stage != Stage::Dialling)
            .for_each(|target| {
                target.stage = Stage::Settled;
                target.attempt = 0;
            });
    }

    fn dial_failed(
        &mut self,
        address: &str,
        refusal: Option<&Refusal>,
        now: Duration,
        chance: f64,
    ) {
        let backoff = self.rules.backoff;
        let Some(target) = self.targets.get_mut(address) else {
            return;
        };
        if let Some(Refusal::Connected { name }) = refusal {
            target.name = Some(name.clone());
        }
        let member = target.name.as_ref().and_then(|name| self.members.get(name));
        target.stage = match refusal {
            Some(Refusal::Itself) => Stage::Itself,
            // The other connection is there, or about to be.
            _ if member.is_some_and(|member| member.link().is_some()) => Stage::Settled,
            _ => {
                let until = now + backoff.delay(target.attempt, chance);
                target.attempt = target.attempt.saturating_add(1);
                Stage::Waiting { until }
            }
        };
    }

    fn lost(
        &mut self,
        link: LinkNumber,
        why: LostWhy,
        now: Duration,
        chance: f64,
        effects: &mut Vec<Effect>,
    ) {
        self.newcomers.retain(|_, it| it.link.number != link);
        let mut members = self.members.iter_mut();
        let lost = members.find(|(_, member)| member.link().is_some_and(|it| it.number == link));
        let Some((name, member)) = lost else {
            return;
        };
        member.standing = Standing::Down { why };
        member.since = now;
        let name = name.clone();
        let until = now + self.rules.backoff.delay(0, chance);
        let its = self
            .targets
            .values_mut()
            .filter(|target| target.name.as_ref() == Some(&name));
        its.filter(|target| target.stage == Stage::Settled)
            .for_each(|target| {
                target.stage = Stage::Waiting { until };
            });
        effects.push(Effect::Announce {
            name,
            news: News::Down(why),
        });
    }

    fn told(&mut self, peer: &Peer, now: Duration, effects: &mut Vec<Effect>) {
        let is_known = self.members.get(&peer.name);
        let is_linked = is_known.is_some_and(|member| member.link().is_some());
        if peer.name == self.me.name || is_linked || peer.address.is_empty() {
            return;
        }
        if is_known.is_none() {
            if !self.make_room(|it| matches!(it, Standing::Down { .. } | Standing::Left)) {
                return;
            }
            let member = Member {
                id: peer.id,
                incarnation: peer.incarnation,
                address: peer.address.clone(),
                underpin: String::new(),
                standing: Standing::Joining,
                since: now,
            };
            self.members.insert(peer.name.clone(), member);
            effects.push(Effect::Announce {
                name: peer.name.clone(),
                news: News::Joining,
            });
        }
        self.target(&peer.address, Some(&peer.name), false, now);
        // Somebody is connected to it: there is no reason to wait.
        if let Some(target) = self.targets.get_mut(&peer.address)
            && matches!(target.stage, Stage::Waiting { .. } | Stage::Settled)
        {
            target.stage = Stage::Waiting { until: now };
        }
    }

    fn leaves(&mut self, link: LinkNumber, now: Duration, effects: &mut Vec<Effect>) {
        let mut members = self.members.iter_mut();
        let leaver = members.find(|(_, member)| member.link().is_some_and(|it| it.number == link));
        let Some((name, member)) = leaver else {
            return;
        };
        member.standing = Standing::Left;
        member.since = now;
        let name = name.clone();
        // A seed is tried again, slowly: it may come back.
        let slowest = now + self.rules.backoff.cap();
        self.targets
            .retain(|_, target| target.is_seed || target.name.as_ref() != Some(&name));
        for target in self
            .targets
            .values_mut()
            .filter(|it| it.name.as_ref() == Some(&name))
        {
            target.stage = Stage::Waiting { until: slowest };
        }
        effects.push(Effect::Close { link });
        effects.push(Effect::Announce {
            name,
            news: News::Left,
        });
    }

    fn leave(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        self.leaving = true;
        self.targets.clear();
        for newcomer in std::mem::take(&mut self.newcomers).into_values() {
            let link = newcomer.link.number;
            effects.push(Effect::Close { link });
        }
        for (name, member) in &mut self.members {
            if let Some(link) = member.link() {
                effects.push(Effect::SayLeave { link: link.number });
                effects.push(Effect::Announce {
                    name: name.clone(),
                    news: News::Left,
                });
            }
            member.standing = Standing::Left;
            member.since = now;
        }
    }
}

impl Member {
    pub(super) fn link(&self) -> Option<Linked> {
        match self.standing {
            Standing::Alive { link, .. } | Standing::Suspect { link, .. } => Some(link),
            Standing::Joining | Standing::Down { .. } | Standing::Left => None,
        }
    }
}
