//! What a supervisor is told of its children: they end, their starts and stops are over, a timer fires.

use std::sync::Arc;

use ractor::ActorId;

use super::{
    Message,
    body::Life,
    effect::Timer,
    room::Room,
    state::Key,
    stop::{Ended, stopped},
};
use crate::otp::{ExitReason, incarnation::Left, start::Started};

impl Room {
    pub(super) fn stopping(&mut self, actor: ActorId, stop: ExitReason) {
        if let Some(key) = self.actors.get(&actor) {
            self.stops.insert(*key, stop);
        }
    }

    /// A child's task is about to end. When how it ended is not known yet, ractor's own event is waited for: it has been
    /// sent already, and comes first next time.
    pub(super) fn exited(&mut self, key: Key, incarnation: u64, asked_again: bool) {
        let Some(started) = self.alive(key, incarnation) else {
            return;
        };
        let life = Arc::clone(&started.incarnation);
        let stop = self.stops.remove(&key);
        let Some(reason) = life.reason(stop, asked_again) else {
            return self.tell_me(Message::Exited {
                child: key,
                incarnation,
                asked_again: true,
            });
        };
        self.forget_actor(key);
        let Some(started) = self.alive(key, incarnation) else {
            return;
        };
        if let Some(slot) = &started.slot {
            slot.vacate(&started.incarnation);
        }
        if started.is_gone() {
            self.gone(key, incarnation, reason);
        } else {
            self.await_end(key, incarnation, reason);
        }
    }

    /// The child's task still has to drop what it holds; its successor must not meet that.
    fn await_end(&mut self, key: Key, incarnation: u64, reason: ExitReason) {
        let me = self.place.me.clone();
        let Some(started) = self.alive(key, incarnation) else {
            return;
        };
        let life = started.incarnation.number;
        let join = started.join.take();
        let last = reason.clone();
        // From here on, waiting for the child is waiting for this.
        started.join = Some(tokio::spawn(async move {
            if let Some(join) = join {
                let _ = join.await;
            }
            let _ = me.send_message(Message::Gone {
                child: key,
                incarnation,
                reason: last,
            });
        }));
        self.state.ending(key, life, reason);
        self.carry_out();
    }

    /// Everything of the child is gone.
    pub(super) fn gone(&mut self, key: Key, incarnation: u64, reason: ExitReason) {
        let Some(started) = self.alive(key, incarnation) else {
            return;
        };
        // Whoever told of this is at its end, too.
        started.join = None;
        started.incarnation.finish(reason.clone());
        let life = started.incarnation.number;
        if let Some(body) = self.bodies.get_mut(&key) {
            drop(body.take_life());
        }
        let (now, luck) = self.now();
        self.state.gone(key, life, reason, now, luck);
        self.carry_out();
    }

    pub(super) fn start_done(&mut self, key: Key, incarnation: u64) {
        let Some(body) = self.bodies.get_mut(&key) else {
            return;
        };
        if !matches!(&body.life, Life::Starting(slow) if slow.incarnation == incarnation) {
            return;
        }
        if let Life::Starting(slow) = body.take_life() {
            let outcome = slow.outcome(&body.spec);
            self.settle(key, self.state.life(key), outcome);
            self.carry_out();
        }
    }

    pub(super) fn stop_done(&mut self, key: Key, life: u64) {
        if self.state.life(key) != life {
            return;
        }
        let Some(body) = self.bodies.get_mut(&key) else {
            return;
        };
        if !matches!(body.life, Life::Stopping { .. }) {
            return;
        }
        let Ended { report, leaked } = body.take_ended();
        if let Some(report) = &report {
            self.place.reports.publish(stopped(&body.node, report));
        }
        let has_leaked = leaked.is_some();
        if let Some(task) = leaked {
            let me = self.place.me.clone();
            body.life = Life::Leaked(tokio::spawn(async move {
                let _ = task.await;
                let _ = me.send_message(Message::Freed { child: key, life });
            }));
        }
        let (now, luck) = self.now();
        self.state.stopped(key, life, has_leaked, now, luck);
        self.carry_out();
    }

    pub(super) fn freed(&mut self, key: Key, life: u64) {
        if self.state.life(key) == life
            && let Some(body) = self.bodies.get_mut(&key)
        {
            drop(body.take_life());
        }
        let (now, luck) = self.now();
        self.state.freed(key, life, now, luck);
        self.carry_out();
    }

    pub(super) fn due(&mut self, timer: Timer) {
        let (now, _) = self.now();
        self.state.due(timer, now);
        self.carry_out();
    }

    pub(super) fn unhealthy(&mut self, key: Key, incarnation: u64, reason: ExitReason) {
        let Some(started) = self.alive(key, incarnation) else {
            return;
        };
        if started.incarnation.has_ended() {
            // It ended by itself meanwhile; its notice comes next.
            return;
        }
        // How it ends is what is wrong with it, and not the kill that follows.
        started.incarnation.leave(Left::Reason(reason.clone()));
        let life = started.incarnation.number;
        self.state.unhealthy(key, life, reason);
        self.carry_out();
    }

    pub(super) fn alive(&mut self, key: Key, incarnation: u64) -> Option<&mut Started> {
        match &mut self.bodies.get_mut(&key)?.life {
            Life::Alive(started) if started.incarnation.id == incarnation => Some(started),
            _ => None,
        }
    }
}
