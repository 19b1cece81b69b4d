//! A restart of several children, as one_for_all and rest_for_one ask for it: stop those that depend on the one that ended,
//! last first, one after the other; then start them all, first first. One step at a time, so that the supervisor stays free.

use std::time::Duration;

use super::{
    effect::{Effect, How, Timer},
    phase::{Child, Phase, Then, Why},
    state::{Children, Key},
    verdict::{Verdict, verdict},
};
use crate::otp::Restart;

/// A restart of all children from one on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Group {
    pub(super) from: Key,
    pub(super) stage: Stage,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stage {
    /// They are stopped, last first. No start before `due`, nor, when `later`, before other requests were served.
    Stopping { due: Duration, later: bool },
    /// All are down; the first start is due when this timer fires.
    Waiting { timer: u64, due: Duration },
    /// They are started, first first; the one that is under way.
    Starting { at: Option<Key> },
}

impl Group {
    /// Whether a child that ends now is part of this restart already, so that its end asks for no other.
    pub(super) fn absorbs(&self, key: Key) -> bool {
        key >= self.from && !matches!(self.stage, Stage::Starting { .. })
    }

    pub(super) fn is_due(&self, number: u64) -> bool {
        matches!(self.stage, Stage::Waiting { timer, .. } if timer == number)
    }

    /// Whether a start that is asked for has to wait until this restart comes to it.
    fn comes_to(&self, key: Key) -> bool {
        match self.stage {
            Stage::Starting { at } => at.is_some_and(|at| key > at),
            Stage::Stopping { .. } | Stage::Waiting { .. } => key >= self.from,
        }
    }

    /// One more child has to be restarted, and all from `first` on with it.
    fn merged(before: Option<&Self>, first: Key, due: Duration, later: bool) -> Self {
        let (from, due, later) = match before {
            // Those before the one under way are up again and stay up, unless they have to go, too.
            None
            | Some(Self {
                stage: Stage::Starting { .. },
                ..
            }) => (first, due, later),
            Some(Self {
                from,
                stage: Stage::Waiting { due: pending, .. },
            }) => ((*from).min(first), due.max(*pending), true),
            Some(Self {
                from,
                stage:
                    Stage::Stopping {
                        due: pending,
                        later: as_well,
                    },
            }) => ((*from).min(first), due.max(*pending), later || *as_well),
        };
        Self {
            from,
            stage: Stage::Stopping { due, later },
        }
    }
}

/// What is next in a restart of several.
enum Step {
    /// Something is under way; its end brings the next step.
    Wait,
    Stop(Key, Then),
    /// All are down.
    Down {
        due: Duration,
        later: bool,
    },
    Start(Key, Why),
    Done,
}

impl Children {
    /// A child that is down has to be restarted, and all from `first` on with it.
    pub(super) fn regroup(&mut self, key: Key, first: Key, due: Duration, later: bool) {
        self.group = Some(Group::merged(self.group.as_ref(), first, due, later));
        self.hold(key, Why::Restart);
    }

    pub(super) fn must_wait_for_turn(&self, key: Key) -> bool {
        self.group.as_ref().is_some_and(|group| group.comes_to(key))
    }

    /// Goes on with a restart of several as far as it can.
    pub(super) fn advance(&mut self, now: Duration) {
        while let Some(group) = &self.group {
            match self.step(group) {
                Step::Wait => return,
                Step::Stop(key, then) => self.stop(key, then, How::AsSaid),
                Step::Down { due, later } => self.all_down(due, later, now),
                Step::Start(key, why) => {
                    self.set_stage(Stage::Starting { at: Some(key) });
                    self.start(key, why);
                }
                Step::Done => self.group = None,
            }
        }
    }

    fn step(&self, group: &Group) -> Step {
        let mut members = self.known.range(group.from..);
        match group.stage {
            Stage::Waiting { .. } => Step::Wait,
            Stage::Stopping { due, later } => match members.rfind(|(_, child)| !child.is_down()) {
                None => Step::Down { due, later },
                Some((_, child)) if matches!(child.phase, Phase::Stopping(_)) => Step::Wait,
                Some((key, child)) => Step::Stop(*key, child.after_its_siblings()),
            },
            Stage::Starting { at } => {
                let under_way = at.and_then(|at| self.known.get(&at));
                if under_way.is_some_and(|child| matches!(child.phase, Phase::Starting(_))) {
                    return Step::Wait;
                }
                let next = members.find_map(|(key, child)| match child.phase {
                    Phase::Held(why) => Some((*key, why)),
                    _ => None,
                });
                next.map_or(Step::Done, |(key, why)| Step::Start(key, why))
            }
        }
    }

    fn all_down(&mut self, due: Duration, later: bool, now: Duration) {
        if !later && due <= now {
            return self.set_stage(Stage::Starting { at: None });
        }
        let timer = self.next_timer();
        self.set_stage(Stage::Waiting { timer, due });
        self.push(Effect::Wake(Timer::Group(timer), due.saturating_sub(now)));
    }

    fn set_stage(&mut self, stage: Stage) {
        if let Some(group) = &mut self.group {
            group.stage = stage;
        }
    }
}

impl Child {
    fn is_down(&self) -> bool {
        match self.phase {
            Phase::Held(_) | Phase::Waiting { .. } | Phase::Leaked(_) | Phase::Stopped => true,
            Phase::Starting(_)
            | Phase::Running { .. }
            | Phase::Ending { .. }
            | Phase::Stopping(_) => false,
        }
    }

    /// What becomes of it when it is stopped because a sibling has to be restarted: all come back but the temporary ones, and
    /// those that had come to their own end already.
    fn after_its_siblings(&self) -> Then {
        match &self.phase {
            Phase::Starting(why) if *why != Why::Restart => Then::Hold(*why),
            // An end of its own is one, whoever is to be stopped meanwhile: where it is significant, it may end the supervisor.
            Phase::Ending { since, reason }
                if verdict(self.rules.restart, reason) != Verdict::Restart =>
            {
                let (since, reason) = (*since, reason.clone());
                Then::Judge { since, reason }
            }
            Phase::Ending { .. } => Then::Hold(Why::Restart),
            _ if self.rules.restart == Restart::Temporary => Then::Forget,
            _ => Then::Hold(Why::Restart),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        otp::{
            AutoShutdown, ChildKind, ExitReason, Intensity, ShutdownCause, StartOutcome, Strategy,
            supervisor::state::{Rules, Terms},
        },
        resilience::Backoff,
    };

    /// Two running children, the second significant.
    fn with_a_significant(restart: Restart, auto_shutdown: AutoShutdown) -> Children {
        let mut children = Children::new(Terms {
            strategy: Strategy::OneForAll,
            intensity: Intensity::new(9, Duration::from_secs(1)),
            auto_shutdown,
        });
        let types = [("a", Restart::Permanent), ("b", restart)];
        for (key, (id, restart)) in (0..).zip(types) {
            let rules = Rules {
                id: id.into(),
                kind: ChildKind::Actor,
                restart,
                significant: id == "b",
                backoff: Backoff::AT_ONCE,
                budget: None,
            };
            assert_eq!(children.start_child(rules), Ok(key));
            let running = Ok(StartOutcome::Running);
            children.started(key, 1, running, Duration::ZERO, 0.5);
        }
        while children.next_effect().is_some() {}
        children
    }

    /// It was stopped like any sibling and rested: nothing ended its supervisor any more, which then ran on without the one that it was
    /// there for.
    #[test]
    fn a_significant_child_that_ends_while_its_siblings_are_stopped_ends_its_supervisor() {
        let all = [AutoShutdown::AnySignificant, AutoShutdown::AllSignificant];
        for (restart, auto) in [Restart::Transient, Restart::Temporary]
            .into_iter()
            .flat_map(|restart| all.map(|auto| (restart, auto)))
        {
            let now = Duration::from_secs(1);
            let mut children = with_a_significant(restart, auto);

            children.ending(1, 1, ExitReason::Normal);
            children.gone(0, 1, ExitReason::Killed, now, 0.5);
            children.stopped(1, 1, false, now, 0.5);

            let effects: Vec<Effect> = std::iter::from_fn(|| children.next_effect()).collect();
            let ends = |effect: &Effect| match effect {
                Effect::End(ShutdownCause::Significant(id), _) => &**id == "b",
                _ => false,
            };
            assert!(
                effects.iter().any(ends),
                "{restart:?} {auto:?}: {effects:?}"
            );
        }
    }
}
