//! The addresses that this node dials, and when.

use std::time::Duration;

use super::{Effect, NODES_MAX, State};
use crate::{cluster::error::Refusal, ids::NodeName};

/// An address to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Who was found there.
    pub(super) name: Option<NodeName>,
    pub(super) is_seed: bool,
    pub(super) attempt: u32,
    pub(super) stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    Waiting {
        until: Duration,
    },
    Dialling,
    /// It leads to a node that is connected, or has left.
    Settled,
    /// It leads here.
    Itself,
}

impl State {
    /// Whether an address leads to nobody yet, so that it is tried again.
    pub(in crate::cluster) fn is_sought(&self, address: &str) -> bool {
        let target = self.targets.get(address);
        target.is_some_and(|it| matches!(it.stage, Stage::Waiting { .. } | Stage::Dialling))
    }

    pub(super) fn dial_due(&mut self, now: Duration, effects: &mut Vec<Effect>) {
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

    /// Adds an address, or learns who is there.
    pub(super) fn target(
        &mut self,
        address: &str,
        name: Option<&NodeName>,
        is_seed: bool,
        now: Duration,
    ) {
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
    pub(super) fn settle(&mut self, name: &NodeName) {
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

    pub(super) fn dial_failed(
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
}
