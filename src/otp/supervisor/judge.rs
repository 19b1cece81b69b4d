//! What becomes of a child whose life is over: another one, or none; alone or with its siblings; or the end of its supervisor.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    AutoShutdown,
    effect::{Effect, Timer},
    phase::{Child, Phase, Then, Why},
    record::Demand,
    state::{Children, Key},
    verdict::{Verdict, verdict},
};
use crate::otp::{ExitReason, Lifecycle, ShutdownCause};

impl Children {
    pub(super) fn conclude(&mut self, key: Key, then: Then, now: Duration, luck: f64) {
        match then {
            Then::Hold(why) => self.hold(key, why),
            Then::Judge { since, reason } => {
                self.judge(key, reason, now.saturating_sub(since), now, luck);
            }
            then => self.settle_down(key, &then),
        }
    }

    /// A life is over: what becomes of the child?
    pub(super) fn judge(
        &mut self,
        key: Key,
        reason: ExitReason,
        lived: Duration,
        now: Duration,
        luck: f64,
    ) {
        let Some(child) = self.known.get_mut(&key) else {
            return;
        };
        child.record.note_end(lived, &reason);
        let (restart, incarnation) = (child.rules.restart, child.lives);
        let exited = Lifecycle::Exited {
            incarnation,
            reason: reason.clone(),
        };
        self.tell(key, exited);
        match verdict(restart, &reason) {
            Verdict::Restart => self.demand_restart(key, reason, now, luck, false),
            Verdict::Keep => self.end_for_good(key, &Then::Rest),
            Verdict::Forget => self.end_for_good(key, &Then::Forget),
        }
    }

    /// It ended by itself and stays down; where it is significant, that may end the supervisor.
    fn end_for_good(&mut self, key: Key, then: &Then) {
        let Some(child) = self.known.get(&key) else {
            return;
        };
        let (id, significant) = (Arc::clone(&child.rules.id), child.rules.significant);
        self.settle_down(key, then);
        let last = |children: &BTreeMap<Key, Child>| {
            let mut others = children.values().filter(|other| other.rules.significant);
            others.all(|other| other.phase.is_down_for_good())
        };
        let ends = match self.terms.auto_shutdown {
            _ if !significant => false,
            AutoShutdown::Never => false,
            AutoShutdown::AnySignificant => true,
            AutoShutdown::AllSignificant => last(&self.known),
        };
        if ends {
            let auto = Lifecycle::AutoShutdown {
                child: Arc::clone(&id),
            };
            self.end(ShutdownCause::Significant(id), auto);
        }
    }

    /// A child is to be started again, if its budget or the supervisor's allows. A start that failed is tried again through
    /// the mailbox, as OTP does it, so that other requests are served between two attempts.
    pub(super) fn demand_restart(
        &mut self,
        key: Key,
        reason: ExitReason,
        now: Duration,
        luck: f64,
        failed_start: bool,
    ) {
        if self.group.as_ref().is_some_and(|group| group.absorbs(key)) {
            // It is down already when its turn to be stopped comes: one restart for both.
            return self.hold(key, Why::Restart);
        }
        let Some(child) = self.known.get_mut(&key) else {
            return;
        };
        let (delay, slow) = match child.record.demand(now, luck, &mut self.window) {
            Demand::Again { after, slow } => (after, slow),
            Demand::GiveUp => return self.give_up(key, reason),
            Demand::Exceeded => {
                self.tell(key, Lifecycle::BudgetExceeded { reason });
                return self.end_for_good(key, &Then::Rest);
            }
        };
        self.tell(key, Lifecycle::Restarting { after: delay, slow });
        match self.terms.strategy.first_restarted(key) {
            Some(first) => self.regroup(key, first, now.saturating_add(delay), failed_start),
            None if delay.is_zero() && !failed_start => self.start(key, Why::Restart),
            None => self.wait(key, delay),
        }
    }

    fn wait(&mut self, key: Key, delay: Duration) {
        let timer = self.next_timer();
        if let Some(child) = self.known.get_mut(&key) {
            child.phase = Phase::Waiting { timer };
            self.show(key);
            self.push(Effect::Wake(Timer::Child(key, timer), delay));
        }
    }

    /// More restarts than allowed: the supervisor ends, and says why.
    fn give_up(&mut self, key: Key, reason: ExitReason) {
        self.rest(key);
        let Some(child) = self.known.get(&key) else {
            return;
        };
        let id = Arc::clone(&child.rules.id);
        let facts = child.record.exceeded(Arc::clone(&id), &self.window);
        let gave_up = Lifecycle::GaveUp { child: id, reason };
        self.end(ShutdownCause::IntensityExceeded(Arc::new(facts)), gave_up);
    }

    fn end(&mut self, cause: ShutdownCause, what: Lifecycle) {
        self.push(Effect::End(cause, what));
        self.over = true;
        self.group = None;
    }
}
