//! What the children of a dynamic supervisor do by themselves: they end, and some are started again.

use std::{sync::Arc, time::Duration};

use ractor::ActorId;
use tokio::{
    task::JoinHandle,
    time::{self, Instant},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    child::{Hung, Life},
    message::Message,
    nursery::{Birth, News, Nursery, Room},
};
use crate::otp::{
    Context, ExitReason, IntensityExceeded, Lifecycle, Report, ShutdownCause,
    incarnation::Left,
    start::Started,
    supervisor::{
        record::{Demand, Record},
        verdict::{Verdict, verdict},
    },
};

/// Stands for delays that the clock cannot hold.
const FAR_FUTURE: Duration = Duration::from_hours(100 * 365 * 24);

impl Nursery {
    pub(super) fn stopping(&self, actor: ActorId, stop: ExitReason) {
        self.with(|room| {
            if let Some(key) = room.actors.get(&actor) {
                room.stops.insert(*key, stop);
            }
        });
    }

    /// A child's task is about to end. When how it ended is not known yet, ractor's own event is waited for: it has been
    /// sent already, and comes first next time.
    pub(super) fn exited(&self, key: u64, incarnation: u64, asked_again: bool) {
        let next = self.with(|room| {
            // What was told of the stop is this life's own, and stays for it when another one asks.
            let child = room.current(key, incarnation)?;
            if !matches!(child.life, Life::Running { .. }) {
                return None;
            }
            let stop = room.stops.remove(&key);
            let child = room.children.get_mut(&key)?;
            let Life::Running { started, .. } = &child.life else {
                return None;
            };
            let Some(reason) = started.incarnation.reason(stop, asked_again) else {
                self.tell_me(Message::Exited {
                    child: key,
                    incarnation,
                    asked_again: true,
                });
                return None;
            };
            let Life::Running { mut started, since } = child.take_life() else {
                return None;
            };
            room.forget_actor(&started);
            if let Some(slot) = &started.slot {
                slot.vacate(&started.incarnation);
            }
            if started.is_gone() {
                return self.over(room, key, started, since, &reason);
            }
            // The child's task still has to drop what it holds; its successor must not meet that.
            let join = started.join.take();
            started.join = join.map(|join| self.tell_when_gone(key, incarnation, join));
            if let Some(child) = room.children.get_mut(&key) {
                child.life = Life::Ending(Box::new((started, since, reason)));
            }
            None
        });
        self.bear_again(next);
    }

    pub(super) fn tell_when_gone(
        &self,
        key: u64,
        incarnation: u64,
        task: JoinHandle<()>,
    ) -> JoinHandle<()> {
        let me = self.place.me.clone();
        tokio::spawn(async move {
            let _ = task.await;
            let _ = me.send_message(Message::Gone {
                child: key,
                incarnation,
            });
        })
    }

    pub(super) fn gone(&self, key: u64, incarnation: u64) {
        let next = self.with(|room| {
            let child = room.current(key, incarnation)?;
            match &mut child.life {
                Life::Leaked { hung, .. } => {
                    let hung = hung.take();
                    return self.stopped_after_all(room, key, hung);
                }
                Life::Ending(_) => {}
                _ => return None,
            }
            let Life::Ending(ending) = child.take_life() else {
                return None;
            };
            let (started, since, reason) = *ending;
            self.over(room, key, started, since, &reason)
        });
        self.bear_again(next);
    }

    /// Everything of the child is gone: give the verdict. The next start is to be made outside of the lock.
    fn over(
        &self,
        room: &mut Room,
        key: u64,
        mut started: Started,
        since: Instant,
        reason: &ExitReason,
    ) -> Option<Birth> {
        started.incarnation.decide(reason.clone());
        let exited = Lifecycle::Exited {
            incarnation: started.incarnation.number,
            reason: reason.clone(),
        };
        // Whoever told of this is at its end, too.
        started.join = None;
        room.news.push(News::Over(started));
        self.tell(room, key, exited);
        self.go_on(room, key, reason, since.elapsed())
    }

    /// A child that is to be started again at once is; another waits.
    pub(super) fn go_on(
        &self,
        room: &mut Room,
        key: u64,
        reason: &ExitReason,
        lived: Duration,
    ) -> Option<Birth> {
        let after = self.judge(room, key, reason, lived)?;
        if after.is_zero() {
            return self.again(room, key);
        }
        self.wait(room, key, after);
        None
    }

    /// What becomes of a child that ended. When it is started again: after how long.
    pub(super) fn judge(
        &self,
        room: &mut Room,
        key: u64,
        reason: &ExitReason,
        lived: Duration,
    ) -> Option<Duration> {
        let Room {
            children, window, ..
        } = room;
        let child = children.get_mut(&key)?;
        let tell = |room: &mut Room, what| self.tell(room, key, what);
        if verdict(child.spec.get_restart(), reason) != Verdict::Restart {
            room.remove(key, &self.place.node);
            return None;
        }
        let (backoff, budget) = (child.spec.extras().backoff, child.spec.extras().budget);
        let record = child
            .record
            .get_or_insert_with(|| Box::new(Record::new(backoff, budget)));
        record.note_end(lived, reason);
        match record.demand(self.began.elapsed(), fastrand::f64(), window) {
            Demand::Again { after, slow } => {
                tell(room, Lifecycle::Restarting { after, slow });
                return Some(after);
            }
            Demand::Exceeded => {
                let reason = reason.clone();
                tell(room, Lifecycle::BudgetExceeded { reason });
            }
            Demand::GiveUp => {
                let id = Arc::clone(&child.spec.id);
                let facts = record.exceeded(Arc::clone(&id), window);
                self.give_up(room, id, reason.clone(), facts);
            }
        }
        room.remove(key, &self.place.node);
        None
    }

    /// One restart more than is allowed: the supervisor ends, and says why.
    fn give_up(
        &self,
        room: &mut Room,
        child: Arc<str>,
        reason: ExitReason,
        facts: IntensityExceeded,
    ) {
        let gave_up = Lifecycle::GaveUp { child, reason };
        room.news.push(News::Report(Report {
            path: Arc::clone(self.place.node.path()),
            what: gave_up,
            context: Context::default(),
        }));
        let cause = ShutdownCause::IntensityExceeded(Arc::new(facts));
        let reason = ExitReason::Shutdown(Some(cause));
        self.place.incarnation.leave(Left::Reason(reason));
        self.place.me.stop(None);
    }

    pub(super) fn wait(&self, room: &mut Room, key: u64, delay: Duration) {
        let Some(child) = room.children.get_mut(&key) else {
            return;
        };
        let me = self.place.me.clone();
        let retry = Message::Retry {
            child: key,
            incarnation: child.incarnation,
        };
        let now = Instant::now();
        let due = now.checked_add(delay).unwrap_or(now + FAR_FUTURE);
        child.node.restart_at(due, now);
        let timer = if delay.is_zero() {
            let _ = me.send_message(retry);
            None
        } else {
            Some(tokio::spawn(async move {
                time::sleep_until(due).await;
                let _ = me.send_message(retry);
            }))
        };
        child.life = Life::Waiting {
            _timer: timer.map(AbortOnDropHandle::new),
        };
    }

    pub(super) fn retry(&self, key: u64, incarnation: u64) {
        let next = self.with(|room| {
            let child = room.current(key, incarnation)?;
            let due = matches!(child.life, Life::Waiting { .. });
            due.then(|| self.again(room, key)).flatten()
        });
        self.bear_again(next);
    }

    fn again(&self, room: &mut Room, key: u64) -> Option<Birth> {
        if !room.open {
            return None;
        }
        let birth = self.conceive(key, room.children.get_mut(&key)?, Instant::now());
        room.launching += 1;
        Some(birth)
    }

    pub(super) fn bear_again(&self, birth: Option<Birth>) {
        if let Some(birth) = birth {
            // Nobody waits for a restart.
            let _ = self.bear(birth, false);
        }
    }

    pub(super) fn unhealthy(&self, key: u64, incarnation: u64, reason: ExitReason) {
        self.with(|room| {
            let Some(child) = room.current(key, incarnation) else {
                return;
            };
            if let Life::Running { started, since } = &child.life {
                // How it ends is what is wrong with it, and not the kill that follows.
                started.incarnation.leave(Left::Reason(reason.clone()));
                let lived = since.elapsed();
                let hung = Box::new(Hung { lived, reason });
                self.stop(room, key, Vec::new(), Some(hung));
            }
        });
    }
}
