//! What a supervisor decides about its children: events in, [`Effect`]s out. No clock, no task, no actor: time is counted from
//! any fixed moment and comes in as an argument, as does chance, and whoever carries the effects out tells what came of them.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    AutoShutdown, Intensity, StartOutcome, Strategy,
    effect::{Effect, How, Timer},
    intensity::Window,
    phase::{Child, Phase, Then, Why},
    record::Record,
    regroup::{Group, Stage},
};
use crate::{
    otp::{
        Budget, ChildKind, ChildState, ExitReason, Lifecycle, Restart, StartError, SupervisorError,
    },
    resilience::Backoff,
};

/// Names a child for as long as it is known, and its place: children start in the order of their keys.
pub(super) type Key = u64;

/// What the decisions need to know of a child's spec.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) id: Arc<str>,
    pub(crate) kind: ChildKind,
    pub(crate) restart: Restart,
    pub(crate) significant: bool,
    pub(crate) backoff: Backoff,
    pub(crate) budget: Option<Budget>,
}

/// What the decisions need to know of the supervisor's spec.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) strategy: Strategy,
    pub(super) intensity: Intensity,
    pub(super) auto_shutdown: AutoShutdown,
}

/// The children of one supervisor.
#[derive(Debug)]
pub(super) struct Children {
    pub(super) terms: Terms,
    pub(super) window: Window,
    pub(super) known: BTreeMap<Key, Child>,
    keys: HashMap<Arc<str>, Key>,
    next_key: Key,
    timers: u64,
    /// A restart of several that is under way.
    pub(super) group: Option<Group>,
    effects: VecDeque<Effect>,
    /// The supervisor is on its way out: nothing matters any more.
    pub(super) over: bool,
}

impl Children {
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            window: Window::new(terms.intensity),
            terms,
            known: BTreeMap::new(),
            keys: HashMap::new(),
            next_key: 0,
            timers: 0,
            group: None,
            effects: VecDeque::new(),
            over: false,
        }
    }

    /// What is to be done next.
    pub(super) fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub(super) fn key(&self, id: &str) -> Option<Key> {
        self.keys.get(id).copied()
    }

    /// Which life a child is in; 0 before the first.
    pub(super) fn life(&self, key: Key) -> u64 {
        self.known.get(&key).map_or(0, |child| child.lives)
    }

    pub(super) fn state(&self, key: Key) -> ChildState {
        let child = self.known.get(&key);
        child.map_or(ChildState::Stopped, |child| child.phase.state())
    }

    /// Whether the stop of this child that is under way counts as its own end.
    pub(super) fn is_judged(&self, key: Key) -> bool {
        let judged = |child: &Child| matches!(child.phase, Phase::Stopping(Then::Judge { .. }));
        self.known.get(&key).is_some_and(judged)
    }

    /// The children in start order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Rules, ChildState)> {
        let facts = |child: &'_ Child| child.phase.state();
        self.known
            .values()
            .map(move |child| (&child.rules, facts(child)))
    }

    // What the supervisor is asked.

    /// A new child, whose start is to be asked for. Its answer is [`Effect::Settled`].
    pub(super) fn start_child(&mut self, rules: Rules) -> Result<Key, SupervisorError> {
        if let Some(key) = self.key(&rules.id) {
            let id = rules.id;
            return Err(match self.state(key) {
                ChildState::Running => SupervisorError::AlreadyStarted(id),
                ChildState::Leaked => SupervisorError::Leaked(id),
                _ => SupervisorError::AlreadyPresent(id),
            });
        }
        let key = self.next_key;
        self.next_key += 1;
        self.keys.insert(Arc::clone(&rules.id), key);
        let child = Child {
            record: Record::new(rules.backoff, rules.budget),
            rules,
            phase: Phase::Stopped,
            lives: 0,
        };
        self.known.insert(key, child);
        self.start_in_turn(key, Why::Add);
        Ok(key)
    }

    /// Starts a stopped child. Its answer is [`Effect::Settled`].
    pub(super) fn restart_child(&mut self, id: &Arc<str>) -> Result<Key, SupervisorError> {
        let key = self.stopped_child(id)?;
        self.start_in_turn(key, Why::Again);
        Ok(key)
    }

    pub(super) fn delete_child(&mut self, id: &Arc<str>) -> Result<(), SupervisorError> {
        let key = self.stopped_child(id)?;
        self.forget(key);
        Ok(())
    }

    fn stopped_child(&self, id: &Arc<str>) -> Result<Key, SupervisorError> {
        let key = self.key(id);
        let key = key.ok_or_else(|| SupervisorError::NotFound(Arc::clone(id)))?;
        let id = Arc::clone(id);
        match self.state(key) {
            ChildState::Stopped => Ok(key),
            ChildState::Running | ChildState::Stopping => Err(SupervisorError::Running(id)),
            ChildState::Starting | ChildState::Restarting => Err(SupervisorError::Restarting(id)),
            ChildState::Leaked => Err(SupervisorError::Leaked(id)),
        }
    }

    /// `Some` when there is something to wait for, until [`Effect::Ended`].
    pub(super) fn terminate_child(
        &mut self,
        id: &Arc<str>,
        now: Duration,
    ) -> Result<Option<Key>, SupervisorError> {
        let key = self.key(id);
        let key = key.ok_or_else(|| SupervisorError::NotFound(Arc::clone(id)))?;
        let Some(child) = self.known.get_mut(&key) else {
            return Ok(None);
        };
        let never_lived = child.phase.wanted_by() == Some(Why::Add);
        let then = if never_lived || child.rules.restart == Restart::Temporary {
            Then::Forget
        } else {
            Then::Rest
        };
        match &mut child.phase {
            Phase::Stopped => return Ok(None),
            Phase::Leaked(after) => {
                *after = then;
                return Err(SupervisorError::Leaked(Arc::clone(id)));
            }
            _ => {}
        }
        if let Some(why) = child.phase.wanted_by() {
            let child = Arc::clone(id);
            self.settle(key, why, Err(StartError::Stopping { child }));
        }
        let waits = match self.known.get_mut(&key).map(|child| &mut child.phase) {
            Some(Phase::Stopping(after)) => {
                // One that is to be forgotten stays so, however often it is asked for.
                if *after != Then::Forget {
                    *after = then;
                }
                true
            }
            Some(Phase::Running { .. } | Phase::Ending { .. } | Phase::Starting(_)) => {
                self.stop(key, then, How::AsSaid);
                true
            }
            _ => {
                self.settle_down(key, &then);
                false
            }
        };
        self.advance(now);
        Ok(waits.then_some(key))
    }

    // What the children do.

    /// A start has come to its end.
    pub(super) fn started(
        &mut self,
        key: Key,
        life: u64,
        outcome: Result<StartOutcome, StartError>,
        now: Duration,
        luck: f64,
    ) {
        let Some(child) = self.current(key, life) else {
            return;
        };
        let Phase::Starting(why) = child.phase else {
            return;
        };
        match outcome {
            Ok(StartOutcome::Running) => {
                child.phase = Phase::Running { since: now };
                self.show(key);
                self.tell(key, Lifecycle::Started { incarnation: life });
                self.settle(key, why, Ok(StartOutcome::Running));
            }
            Ok(StartOutcome::Ignored) => {
                let then = if child.rules.restart == Restart::Temporary {
                    Then::Forget
                } else {
                    Then::Rest
                };
                self.tell(key, Lifecycle::Ignored);
                self.settle(key, why, Ok(StartOutcome::Ignored));
                self.settle_down(key, &then);
            }
            Err(error) => self.start_failed(key, why, error, now, luck),
        }
        self.advance(now);
    }

    fn start_failed(&mut self, key: Key, why: Why, error: StartError, now: Duration, luck: f64) {
        let reason = error.reason();
        let failed = Lifecycle::StartFailed {
            reason: reason.clone(),
        };
        self.tell(key, failed);
        match why {
            Why::Add => {
                self.settle(key, why, Err(error));
                self.forget(key);
            }
            Why::Again => {
                self.settle(key, why, Err(error));
                self.rest(key);
            }
            Why::Restart => {
                if let Some(child) = self.known.get_mut(&key) {
                    child.record.note_end(Duration::ZERO, &reason);
                }
                self.demand_restart(key, reason, now, luck, true);
            }
        }
    }

    /// A child has ended by itself; not all of it is gone yet.
    pub(super) fn ending(&mut self, key: Key, life: u64, reason: ExitReason) {
        if let Some(child) = self.current(key, life)
            && let Phase::Running { since } = child.phase
        {
            child.phase = Phase::Ending { since, reason };
            self.show(key);
        }
    }

    /// A child has ended by itself, and everything of it is gone.
    pub(super) fn gone(
        &mut self,
        key: Key,
        life: u64,
        reason: ExitReason,
        now: Duration,
        luck: f64,
    ) {
        let phase = self.current(key, life).map(|child| &child.phase);
        let Some(&(Phase::Running { since } | Phase::Ending { since, .. })) = phase else {
            return;
        };
        self.judge(key, reason, now.saturating_sub(since), now, luck);
        self.advance(now);
    }

    /// A child is alive and hangs: this counts as its end.
    pub(super) fn unhealthy(&mut self, key: Key, life: u64, reason: ExitReason) {
        let phase = self.current(key, life).map(|child| &child.phase);
        if let Some(&Phase::Running { since }) = phase {
            self.stop(key, Then::Judge { since, reason }, How::Kill);
        }
    }

    /// A child that was to be stopped is gone, or will not go.
    pub(super) fn stopped(&mut self, key: Key, life: u64, leaked: bool, now: Duration, luck: f64) {
        let Some(child) = self.current(key, life) else {
            return;
        };
        let Phase::Stopping(then) = &child.phase else {
            return;
        };
        let then = then.clone();
        if leaked {
            let id = Arc::clone(&child.rules.id);
            let asked = then.wanted_by().filter(|why| *why != Why::Restart);
            let then = if asked.is_some() { Then::Rest } else { then };
            child.phase = Phase::Leaked(then);
            self.show(key);
            if let Some(why) = asked {
                self.settle_with(key, why, Err(SupervisorError::Leaked(Arc::clone(&id))));
            }
            self.push(Effect::Ended(key, Err(SupervisorError::Leaked(id))));
        } else {
            self.push(Effect::Ended(key, Ok(())));
            self.conclude(key, then, now, luck);
        }
        self.advance(now);
    }

    /// A child that had leaked has ended after all.
    pub(super) fn freed(&mut self, key: Key, life: u64, now: Duration, luck: f64) {
        let phase = self.current(key, life).map(|child| child.phase.clone());
        let Some(Phase::Leaked(then)) = phase else {
            return;
        };
        match then {
            Then::Hold(why) => self.start_in_turn(key, why),
            then => self.conclude(key, then, now, luck),
        }
        self.advance(now);
    }

    /// A timer has fired.
    pub(super) fn due(&mut self, timer: Timer, now: Duration) {
        match timer {
            Timer::Child(key, number) => {
                let due = Phase::Waiting { timer: number };
                let child = self.known.get(&key);
                if child.is_some_and(|child| child.phase == due) && !self.over {
                    self.start(key, Why::Restart);
                }
            }
            Timer::Group(number) => {
                if let Some(group) = &mut self.group
                    && group.is_due(number)
                {
                    group.stage = Stage::Starting { at: None };
                    self.advance(now);
                }
            }
        }
    }

    // Changes of phase.

    /// Starts a child, or holds it until its turn comes in a restart of several.
    fn start_in_turn(&mut self, key: Key, why: Why) {
        if self.must_wait_for_turn(key) {
            self.hold(key, why);
        } else {
            self.start(key, why);
        }
    }

    pub(super) fn start(&mut self, key: Key, why: Why) {
        if let Some(child) = self.known.get_mut(&key) {
            child.lives += 1;
            child.phase = Phase::Starting(why);
            self.push(Effect::Start(key));
        }
    }

    pub(super) fn hold(&mut self, key: Key, why: Why) {
        if let Some(child) = self.known.get_mut(&key) {
            child.phase = Phase::Held(why);
            self.show(key);
        }
    }

    pub(super) fn stop(&mut self, key: Key, then: Then, how: How) {
        if let Some(child) = self.known.get_mut(&key) {
            child.phase = Phase::Stopping(then);
            self.show(key);
            self.push(Effect::Stop(key, how));
        }
    }

    /// It stays down, and known or not.
    pub(super) fn settle_down(&mut self, key: Key, then: &Then) {
        if *then == Then::Forget {
            self.forget(key);
        } else {
            self.rest(key);
        }
    }

    pub(super) fn rest(&mut self, key: Key) {
        if let Some(child) = self.known.get_mut(&key) {
            child.phase = Phase::Stopped;
            self.show(key);
        }
    }

    pub(super) fn forget(&mut self, key: Key) {
        if let Some(child) = self.known.remove(&key) {
            self.keys.remove(&child.rules.id);
            self.push(Effect::Forget(key));
        }
    }

    // Small things.

    /// The child and what it does, if this is still its life. Whatever comes of an earlier one does nothing.
    fn current(&mut self, key: Key, life: u64) -> Option<&mut Child> {
        let child = self.known.get_mut(&key)?;
        (child.lives == life && !self.over).then_some(child)
    }

    fn settle(&mut self, key: Key, why: Why, outcome: Result<StartOutcome, StartError>) {
        self.settle_with(key, why, outcome.map_err(SupervisorError::from));
    }

    fn settle_with(&mut self, key: Key, why: Why, outcome: Result<StartOutcome, SupervisorError>) {
        if why != Why::Restart {
            self.push(Effect::Settled(key, outcome));
        }
    }

    pub(super) fn next_timer(&mut self) -> u64 {
        self.timers += 1;
        self.timers
    }

    pub(super) fn show(&mut self, key: Key) {
        self.push(Effect::Show(key));
    }

    pub(super) fn tell(&mut self, key: Key, what: Lifecycle) {
        self.push(Effect::Tell(key, what));
    }

    pub(super) fn push(&mut self, effect: Effect) {
        if !self.over {
            self.effects.push_back(effect);
        }
    }
}
