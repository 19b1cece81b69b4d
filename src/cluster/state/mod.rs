//! Who is in the cluster, as this node sees it: a state machine over what happened, the time and chance. It decides, the actor
//! carries out.
//!
//! Each node sees with its own eyes: a node is down for this one when this one has no connection to it, whatever others say. From
//! others it learns only where there are more nodes.

mod entry;
mod targets;

use std::{collections::BTreeMap, time::Duration};

use targets::{Stage, Target};

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
