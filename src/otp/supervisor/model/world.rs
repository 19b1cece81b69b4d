//! The world in which decisions are carried out: plain sets, which notice what must not happen.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::super::{
    AutoShutdown, Intensity, StartOutcome, Strategy,
    effect::{Effect, Timer},
    phase::{Phase, Then},
    state::{Children, Key, Rules, Terms},
};
use crate::{
    otp::{
        ChildKind, ChildState, ExitReason, Lifecycle, Restart, ShutdownCause, StartError,
        SupervisorError,
    },
    resilience::Backoff,
};

pub(super) const MS: Duration = Duration::from_millis(1);

/// What is there of a child, in the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum There {
    Starting(u64),
    Alive(u64),
    Stopping(u64),
    Leaked(u64),
}

/// Carries effects out by the letter, and notices what must not happen.
#[derive(Debug)]
pub(super) struct World {
    pub(super) state: Children,
    pub(super) now: Duration,
    pub(super) there: BTreeMap<Key, There>,
    /// Lives that have ended by themselves, and not all of them is gone yet.
    ending: BTreeMap<(Key, u64), ExitReason>,
    pub(super) ids: BTreeMap<Key, Arc<str>>,
    pub(super) timers: Vec<Timer>,
    /// How long the newest timer takes.
    pub(super) delay: Duration,
    /// Every start and every stop, in order.
    pub(super) done: Vec<Act>,
    pub(super) told: Vec<(Key, Lifecycle)>,
    pub(super) start_asked: BTreeSet<Key>,
    pub(super) ends_asked: BTreeMap<Key, usize>,
    pub(super) ended: Option<ShutdownCause>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Start(Key),
    Stop(Key),
}
pub(super) use Act::{Start, Stop};

pub(super) fn lenient() -> Intensity {
    Intensity::new(u32::MAX, Duration::from_secs(1))
}

pub(super) fn terms(strategy: Strategy) -> Terms {
    Terms {
        strategy,
        intensity: lenient(),
        auto_shutdown: AutoShutdown::Never,
    }
}

pub(super) fn rules(id: &str, restart: Restart) -> Rules {
    Rules {
        id: id.into(),
        kind: ChildKind::Actor,
        restart,
        significant: false,
        backoff: Backoff::AT_ONCE,
        budget: None,
    }
}

pub(super) fn crash() -> ExitReason {
    ExitReason::Panic("boom".into())
}

impl World {
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            state: Children::new(terms),
            now: Duration::ZERO,
            there: BTreeMap::new(),
            ending: BTreeMap::new(),
            ids: BTreeMap::new(),
            timers: Vec::new(),
            delay: Duration::ZERO,
            done: Vec::new(),
            told: Vec::new(),
            start_asked: BTreeSet::new(),
            ends_asked: BTreeMap::new(),
            ended: None,
        }
    }

    /// Running children with these restart types, named by their keys.
    pub(super) fn with(terms: Terms, types: &[Restart]) -> Self {
        let mut world = Self::new(terms);
        for (key, restart) in types.iter().enumerate() {
            world.add(rules(&key.to_string(), *restart)).expect("new");
        }
        world.start_all();
        world.done.clear();
        world.told.clear();
        world
    }

    pub(super) fn add(&mut self, rules: Rules) -> Result<Key, SupervisorError> {
        let id = Arc::clone(&rules.id);
        let added = self.state.start_child(rules);
        if let Ok(key) = added {
            self.ids.insert(key, id);
            self.start_asked.insert(key);
        }
        self.carry_out();
        added
    }

    pub(super) fn restart(&mut self, key: Key) -> Result<Key, SupervisorError> {
        let asked = self.state.restart_child(&self.id(key));
        if asked.is_ok() {
            self.start_asked.insert(key);
        }
        self.carry_out();
        asked
    }

    pub(super) fn terminate(&mut self, key: Key) -> Result<Option<Key>, SupervisorError> {
        let asked = self.state.terminate_child(&self.id(key), self.now);
        if let Ok(Some(key)) = asked {
            *self.ends_asked.entry(key).or_default() += 1;
        }
        self.carry_out();
        asked
    }

    pub(super) fn delete(&mut self, key: Key) -> Result<(), SupervisorError> {
        let deleted = self.state.delete_child(&self.id(key));
        self.carry_out();
        deleted
    }

    pub(super) fn id(&self, key: Key) -> Arc<str> {
        self.ids.get(&key).cloned().unwrap_or_else(|| "?".into())
    }

    pub(super) fn carry_out(&mut self) {
        while let Some(effect) = self.state.next_effect() {
            match effect {
                Effect::Start(key) => {
                    let life = self.state.life(key);
                    let before = self.there.insert(key, There::Starting(life));
                    assert_eq!(before, None, "a second life of {key} beside its first");
                    self.done.push(Start(key));
                }
                Effect::Stop(key, _) => {
                    let life = match self.there.get(&key) {
                        Some(There::Starting(life) | There::Alive(life)) => *life,
                        other => panic!("nothing of {key} to stop: {other:?}"),
                    };
                    self.there.insert(key, There::Stopping(life));
                    self.done.push(Stop(key));
                }
                Effect::Wake(timer, delay) => {
                    self.timers.push(timer);
                    self.delay = delay;
                }
                Effect::Settled(key, _) => {
                    assert!(self.start_asked.remove(&key), "nobody asked to start {key}");
                }
                Effect::Ended(key, _) => {
                    self.ends_asked.remove(&key);
                }
                Effect::Tell(key, what) => self.told.push((key, what)),
                Effect::Forget(key) => {
                    assert_eq!(self.there.get(&key), None, "{key} is forgotten alive");
                    assert!(!self.start_asked.contains(&key), "{key} has no answer");
                    assert!(!self.ends_asked.contains_key(&key), "{key} has no answer");
                }
                Effect::End(cause, _) => self.ended = Some(cause),
                Effect::Show(_) => {}
            }
        }
    }

    pub(super) fn starting(&self) -> Option<(Key, u64)> {
        self.there.iter().find_map(|(key, there)| match there {
            There::Starting(life) => Some((*key, *life)),
            _ => None,
        })
    }

    pub(super) fn started(
        &mut self,
        key: Key,
        life: u64,
        outcome: Result<StartOutcome, StartError>,
    ) {
        match outcome {
            Ok(StartOutcome::Running) => self.there.insert(key, There::Alive(life)),
            _ => self.there.remove(&key),
        };
        self.state.started(key, life, outcome, self.now, 0.5);
        self.carry_out();
    }

    pub(super) fn start_all(&mut self) {
        while let Some((key, life)) = self.starting() {
            self.started(key, life, Ok(StartOutcome::Running));
        }
    }

    pub(super) fn stopped(&mut self, key: Key, life: u64, leaked: bool) {
        if leaked {
            self.there.insert(key, There::Leaked(life));
        } else {
            self.there.remove(&key);
        }
        self.state.stopped(key, life, leaked, self.now, 0.5);
        self.carry_out();
    }

    /// A child that is alive ends by itself, and something of it is there still.
    pub(super) fn ending(&mut self, key: Key, reason: ExitReason) {
        if let Some(There::Alive(life)) = self.there.get(&key).copied() {
            self.ending.insert((key, life), reason.clone());
            self.state.ending(key, life, reason);
            self.carry_out();
        }
    }

    /// How a child that has begun to end does so.
    pub(super) fn own_end(&self, key: Key) -> Option<&ExitReason> {
        self.ending.get(&(key, self.state.life(key)))
    }

    /// A child that is alive ends by itself.
    pub(super) fn ends(&mut self, key: Key, reason: ExitReason) {
        if let Some(There::Alive(life)) = self.there.remove(&key) {
            self.state.gone(key, life, reason, self.now, 0.5);
            self.carry_out();
        }
    }

    /// Everything that is under way comes to its end, and well.
    pub(super) fn settle(&mut self) {
        loop {
            let next = self.there.iter().find_map(|(key, there)| match there {
                There::Starting(life) => Some((*key, *life, true)),
                There::Stopping(life) => Some((*key, *life, false)),
                There::Alive(_) | There::Leaked(_) => None,
            });
            match next {
                Some((key, life, true)) => self.started(key, life, Ok(StartOutcome::Running)),
                Some((key, life, false)) => self.stopped(key, life, false),
                None => match self.timers.pop() {
                    Some(timer) => self.fires(timer),
                    None => return,
                },
            }
        }
    }

    pub(super) fn fires(&mut self, timer: Timer) {
        self.now += MS;
        self.state.due(timer, self.now);
        self.carry_out();
    }

    pub(super) fn state(&self, key: Key) -> ChildState {
        self.state.state(key)
    }

    pub(super) fn take_done(&mut self) -> Vec<Act> {
        std::mem::take(&mut self.done)
    }

    pub(super) fn take_done_until_now(&mut self) {
        assert_eq!(self.done.last(), Some(&Stop(0)));
        self.done.clear();
    }

    pub(super) fn alive(&self) -> Vec<Key> {
        let alive = |(key, there): (&Key, &There)| match there {
            There::Alive(_) => Some(*key),
            _ => None,
        };
        self.there.iter().filter_map(alive).collect()
    }

    /// What the decisions think is what is so.
    pub(super) fn check(&self) {
        for (key, child) in &self.state.known {
            let there = self.there.get(key).copied();
            let fits = match child.phase {
                Phase::Starting(_) => matches!(there, Some(There::Starting(_))),
                Phase::Running { .. } | Phase::Ending { .. } => {
                    matches!(there, Some(There::Alive(_)))
                }
                Phase::Stopping(_) => matches!(there, Some(There::Stopping(_))),
                Phase::Leaked(_) => matches!(there, Some(There::Leaked(_))),
                Phase::Waiting { .. } | Phase::Held(_) | Phase::Stopped => there.is_none(),
            };
            assert!(fits, "{key} is thought {:?} and is {there:?}", child.phase);
        }
        for key in self.there.keys() {
            assert!(self.state.known.contains_key(key), "{key} was lost");
        }
        let group_stops = |key: &&Key| {
            let child = &self.state.known[*key];
            matches!(child.phase, Phase::Stopping(Then::Hold(_)))
        };
        let stopping = self.state.known.keys().filter(group_stops).count();
        assert!(stopping <= 1, "siblings are stopped one after the other");
    }

    /// Everything comes to its end, and well.
    pub(super) fn free_all(&mut self) {
        let ending = |world: &Self| {
            let mut alive = world.alive().into_iter();
            alive.find_map(|key| Some((key, world.own_end(key)?.clone())))
        };
        while let Some((key, reason)) = ending(self) {
            self.ends(key, reason);
        }
        self.settle();
        let leaked: Vec<Key> = self.there.keys().copied().collect();
        for key in leaked {
            if let Some(There::Leaked(life)) = self.there.get(&key).copied() {
                self.there.remove(&key);
                self.state.freed(key, life, self.now, 0.5);
                self.carry_out();
                self.settle();
            }
        }
        self.check();
    }
}

pub(super) fn failed(key: Key) -> Result<StartOutcome, StartError> {
    Err(StartError::Failed {
        child: key.to_string().into(),
        reason: ExitReason::Error("not today".into()),
    })
}

pub(super) const PERMANENT: Restart = Restart::Permanent;
pub(super) const TRANSIENT: Restart = Restart::Transient;
pub(super) const TEMPORARY: Restart = Restart::Temporary;
