//! How the children of a dynamic supervisor come to life, for the first time or again.

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use super::{
    ChildRef,
    child::{Child, Life},
    message::Message,
    nursery::{Begun, Birth, News, Nursery, Rest, Room},
};
use crate::otp::{
    ChildSpec, ChildState, Lifecycle, Report, SupervisorError,
    incarnation::{Incarnation, discard},
    start::{Control, Overseer, Seat, Started},
    supervisor::launch::{Launch, Outcome},
    tree::TreeNode,
};

impl Nursery {
    pub(super) fn node(&self, key: u64, spec: &ChildSpec, now: Instant) -> Arc<TreeNode> {
        let (parent, slot) = (Some(self.place.node.path()), spec.start.slot());
        let node = TreeNode::numbered(&spec.id, key, parent, spec.kind, slot, now);
        node.heed(spec, now);
        node
    }

    pub(super) fn tell(&self, room: &mut Room, key: u64, what: Lifecycle) {
        if matches!(what, Lifecycle::Started { .. }) && !self.place.reports.is_heard() {
            return;
        }
        if let Some(child) = room.children.get(&key) {
            let own_budget = child.spec.extras().budget.is_some();
            let report = Report::of_child(&self.place.node, &child.node, own_budget, what);
            room.news.push(News::Report(report));
        }
    }

    /// Everything for the next life of a child but the life.
    pub(super) fn conceive(&self, key: u64, child: &mut Child, now: Instant) -> Birth {
        child.lives += 1;
        let overseer = Overseer::new(&self.place.me, self.place.incarnation.id);
        let (node, reports) = (&child.node, &self.place.reports);
        let seat = Seat::new(Some(overseer), key, child.lives, node, reports, now);
        child.incarnation = seat.incarnation.id;
        child.life = Life::Launching(Vec::new());
        Birth {
            key,
            spec: Arc::clone(&child.spec),
            seat,
        }
    }

    /// Makes the start. Most are done in a moment; one that is not goes on in a task, and answers later. `wanted`: somebody waits
    /// for it.
    pub(super) fn bear(&self, birth: Birth, wanted: bool) -> Result<Begun, SupervisorError> {
        let Birth { key, spec, seat } = birth;
        let mut launch = Launch::of(&spec, seat);
        let incarnation = launch.incarnation;
        if let Some(outcome) = launch.at_once(&spec) {
            let settled = self.with(|room| {
                room.launching -= 1;
                self.settle(room, key, wanted, outcome)
            });
            return settled.map(Ok);
        }
        let (reply, wait) = oneshot::channel();
        let reply = wanted.then_some(reply);
        let me = self.place.me.clone();
        let done = move || {
            let _ = me.send_message(Message::StartDone {
                child: key,
                incarnation,
            });
        };
        let deadline = self.place.office.deadline();
        let late = self.with(|room| {
            room.launching -= 1;
            let Some(child) = room.children.get_mut(&key) else {
                // It went with the supervisor's end meanwhile.
                let rest: Rest = Box::pin(launch.undo(Arc::clone(&spec), deadline));
                return Some((rest, room.late.remove(&key)));
            };
            // In the lock, so that it is not done before it is known.
            let slow = launch.go_on(ChildSpec::clone(&spec), deadline, done);
            let starting = Life::Starting(Box::new((slow, reply)));
            if let Life::Launching(replies) = std::mem::replace(&mut child.life, starting)
                && !replies.is_empty()
            {
                self.stop(room, key, replies, None);
            }
            None
        });
        if let Some((rest, waits)) = late {
            let _ = discard(spec);
            // Without anybody who waits, it is cut off here.
            let _ = discard(match waits {
                Some(waits) => waits.send(rest).err(),
                None => Some(rest),
            });
            return Err(SupervisorError::Down);
        }
        Ok(Err(wait))
    }

    pub(super) fn start_done(&self, key: u64, incarnation: u64) {
        self.with(|room| {
            let Some(child) = room.current(key, incarnation) else {
                return;
            };
            if !matches!(child.life, Life::Starting(_)) {
                return;
            }
            if let Life::Starting(starting) = child.take_life() {
                let (slow, reply) = *starting;
                let outcome = slow.outcome(&child.spec);
                let answer = self.settle(room, key, reply.is_some(), outcome);
                if let Some(reply) = reply {
                    // Whoever wanted it has gone; the child stays all the same.
                    let _ = reply.send(answer);
                }
            }
        });
    }

    /// A start has come to its end. When nobody waits for it, it was a restart.
    fn settle(
        &self,
        room: &mut Room,
        key: u64,
        wanted: bool,
        outcome: Outcome,
    ) -> Result<ChildRef, SupervisorError> {
        let Some(child) = room.children.get(&key) else {
            // It went with the supervisor's end meanwhile, and what has started goes, too.
            let waits = room.late.remove(&key);
            if let Ok(Some(mut started)) = outcome {
                let rest = Box::pin(async move {
                    started.kill();
                    started.gone().await;
                });
                room.news.push(News::Late(waits, rest));
            }
            return Err(SupervisorError::Down);
        };
        let id = Arc::clone(&child.spec.id);
        match outcome {
            Ok(Some(started)) => {
                self.run(room, key, started);
                let supervisor = self.place.incarnation.id;
                Ok(ChildRef {
                    id,
                    key,
                    supervisor,
                })
            }
            Ok(None) => {
                self.tell(room, key, Lifecycle::Ignored);
                was_terminated(room, key);
                room.remove(key, &self.place.node);
                Err(SupervisorError::Ignored(id))
            }
            Err(error) => {
                let reason = error.reason();
                child.node.start_failed(&reason);
                let failed = Lifecycle::StartFailed {
                    reason: reason.clone(),
                };
                self.tell(room, key, failed);
                if was_terminated(room, key) || wanted {
                    room.remove(key, &self.place.node);
                } else if let Some(after) = self.judge(room, key, &reason, Duration::ZERO) {
                    // Through the mailbox also when it is due at once, as in OTP: other things come first.
                    self.wait(room, key, after);
                }
                Err(error.into())
            }
        }
    }

    fn run(&self, room: &mut Room, key: u64, started: Started) {
        let Some(child) = room.children.get_mut(&key) else {
            return;
        };
        if let Control::Actor(cell) = &started.control {
            room.actors.insert(cell.get_id(), key);
        }
        let since = Instant::now();
        child.node.enter(ChildState::Running, since);
        let life = Arc::clone(&started.incarnation);
        let before = std::mem::replace(&mut child.life, Life::Running { started, since });
        child.probe = self.watch(key, &child.spec, &life);
        let incarnation = life.number;
        let started = Lifecycle::Started { incarnation };
        self.tell(room, key, started);
        if life.has_ended() {
            // Its notice may have come while it still counted as starting.
            self.tell_me(Message::Exited {
                child: key,
                incarnation: life.id,
                asked_again: false,
            });
        }
        if let Life::Launching(replies) = before
            && !replies.is_empty()
        {
            self.stop(room, key, replies, None);
        }
    }

    fn watch(
        &self,
        key: u64,
        spec: &ChildSpec,
        life: &Arc<Incarnation>,
    ) -> Option<AbortOnDropHandle<()>> {
        let hang = spec.extras().health.clone()?.hang(Arc::clone(life));
        let (me, incarnation) = (self.place.me.clone(), life.id);
        Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let _ = me.send_message(Message::Unhealthy {
                child: key,
                incarnation,
                reason: hang.await,
            });
        })))
    }
}

/// Whether it was to be terminated while its start was made; whoever asked is told that it is gone.
fn was_terminated(room: &mut Room, key: u64) -> bool {
    let Some(Life::Launching(replies)) = room.children.get_mut(&key).map(|child| &mut child.life)
    else {
        return false;
    };
    let replies = std::mem::take(replies);
    let terminated = !replies.is_empty();
    for reply in replies {
        let _ = reply.send(Ok(()));
    }
    terminated
}
