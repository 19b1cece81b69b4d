//! Who is let in, and which of two connections to one node is kept.

use std::time::Duration;

use super::{
    Effect, LinkNumber, Linked, Member, NODES_MAX, Newcomer, News, Standing, State, targets::Stage,
};
use crate::{
    cluster::{error::Refusal, frame::Peer, handshake::About},
    ids::NodeName,
};

impl State {
    /// Why a node would not be let in, if it would not. One that is known would be.
    ///
    /// Whoever asks can draw another id yet. So those of nodes that are not connected are taken too: they may only be cut off.
    pub(in crate::cluster) fn objection_to(&self, about: &About) -> Option<Refusal> {
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

    pub(super) fn greeted(
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

    pub(super) fn confirmed(&mut self, link: LinkNumber, now: Duration, effects: &mut Vec<Effect>) {
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

    /// Whether as many nodes are connected, or about to be, as there can be.
    fn is_crowded(&self) -> bool {
        let linked = self.members.values().filter(|it| it.link().is_some());
        linked.count() + self.newcomers.len() + 1 >= NODES_MAX
    }

    /// Makes room for one more node, where there is none, in place of the one that is gone for the longest time. `false` where none is.
    pub(super) fn make_room(&mut self, is_gone: impl Fn(&Standing) -> bool) -> bool {
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
}
