//! The decisions against a world of plain sets: what is alive, what was asked, what has to come back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use proptest::prelude::*;

use super::{
    AutoShutdown, Intensity, StartOutcome, Strategy,
    effect::{Effect, How, Timer},
    phase::{Phase, Then},
    state::{Children, Key, Rules, Terms},
};
use crate::{
    otp::{
        Budget, ChildKind, ChildState, ExitReason, Lifecycle, OnExceed, Restart, ShutdownCause,
        StartError, SupervisorError,
    },
    resilience::Backoff,
};

const MS: Duration = Duration::from_millis(1);

/// What is there of a child, in the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum There {
    Starting(u64),
    Alive(u64),
    Stopping(u64),
    Leaked(u64),
}

/// Carries effects out by the letter, and notices what must not happen.
#[derive(Debug)]
struct World {
    state: Children,
    now: Duration,
    there: BTreeMap<Key, There>,
    ids: BTreeMap<Key, Arc<str>>,
    timers: Vec<Timer>,
    /// How long the newest timer takes.
    delay: Duration,
    /// Every start and every stop, in order.
    done: Vec<Act>,
    told: Vec<(Key, Lifecycle)>,
    start_asked: BTreeSet<Key>,
    ends_asked: BTreeMap<Key, usize>,
    ended: Option<ShutdownCause>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Start(Key),
    Stop(Key),
}
use Act::{Start, Stop};

fn lenient() -> Intensity {
    Intensity::new(u32::MAX, Duration::from_secs(1))
}

fn terms(strategy: Strategy) -> Terms {
    Terms {
        strategy,
        intensity: lenient(),
        auto_shutdown: AutoShutdown::Never,
    }
}

fn rules(id: &str, restart: Restart) -> Rules {
    Rules {
        id: id.into(),
        kind: ChildKind::Actor,
        restart,
        significant: false,
        backoff: Backoff::AT_ONCE,
        budget: None,
    }
}

fn crash() -> ExitReason {
    ExitReason::Panic("boom".into())
}

impl World {
    fn new(terms: Terms) -> Self {
        Self {
            state: Children::new(terms),
            now: Duration::ZERO,
            there: BTreeMap::new(),
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
    fn with(terms: Terms, types: &[Restart]) -> Self {
        let mut world = Self::new(terms);
        for (key, restart) in types.iter().enumerate() {
            world.add(rules(&key.to_string(), *restart)).expect("new");
        }
        world.start_all();
        world.done.clear();
        world.told.clear();
        world
    }

    fn add(&mut self, rules: Rules) -> Result<Key, SupervisorError> {
        let id = Arc::clone(&rules.id);
        let added = self.state.start_child(rules);
        if let Ok(key) = added {
            self.ids.insert(key, id);
            self.start_asked.insert(key);
        }
        self.carry_out();
        added
    }

    fn restart(&mut self, key: Key) -> Result<Key, SupervisorError> {
        let asked = self.state.restart_child(&self.id(key));
        if asked.is_ok() {
            self.start_asked.insert(key);
        }
        self.carry_out();
        asked
    }

    fn terminate(&mut self, key: Key) -> Result<Option<Key>, SupervisorError> {
        let asked = self.state.terminate_child(&self.id(key), self.now);
        if let Ok(Some(key)) = asked {
            *self.ends_asked.entry(key).or_default() += 1;
        }
        self.carry_out();
        asked
    }

    fn delete(&mut self, key: Key) -> Result<(), SupervisorError> {
        let deleted = self.state.delete_child(&self.id(key));
        self.carry_out();
        deleted
    }

    fn id(&self, key: Key) -> Arc<str> {
        self.ids.get(&key).cloned().unwrap_or_else(|| "?".into())
    }

    fn carry_out(&mut self) {
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

    fn starting(&self) -> Option<(Key, u64)> {
        self.there.iter().find_map(|(key, there)| match there {
            There::Starting(life) => Some((*key, *life)),
            _ => None,
        })
    }

    fn started(&mut self, key: Key, life: u64, outcome: Result<StartOutcome, StartError>) {
        match outcome {
            Ok(StartOutcome::Running) => self.there.insert(key, There::Alive(life)),
            _ => self.there.remove(&key),
        };
        self.state.started(key, life, outcome, self.now, 0.5);
        self.carry_out();
    }

    fn start_all(&mut self) {
        while let Some((key, life)) = self.starting() {
            self.started(key, life, Ok(StartOutcome::Running));
        }
    }

    fn stopped(&mut self, key: Key, life: u64, leaked: bool) {
        if leaked {
            self.there.insert(key, There::Leaked(life));
        } else {
            self.there.remove(&key);
        }
        self.state.stopped(key, life, leaked, self.now, 0.5);
        self.carry_out();
    }

    /// A child that is alive ends by itself.
    fn ends(&mut self, key: Key, reason: ExitReason) {
        if let Some(There::Alive(life)) = self.there.remove(&key) {
            self.state.gone(key, life, reason, self.now, 0.5);
            self.carry_out();
        }
    }

    /// Everything that is under way comes to its end, and well.
    fn settle(&mut self) {
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

    fn fires(&mut self, timer: Timer) {
        self.now += MS;
        self.state.due(timer, self.now);
        self.carry_out();
    }

    fn state(&self, key: Key) -> ChildState {
        self.state.state(key)
    }

    fn take_done(&mut self) -> Vec<Act> {
        std::mem::take(&mut self.done)
    }

    fn take_done_until_now(&mut self) {
        assert_eq!(self.done.last(), Some(&Stop(0)));
        self.done.clear();
    }

    fn alive(&self) -> Vec<Key> {
        let alive = |(key, there): (&Key, &There)| match there {
            There::Alive(_) => Some(*key),
            _ => None,
        };
        self.there.iter().filter_map(alive).collect()
    }

    /// What the decisions think is what is so.
    fn check(&self) {
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
    fn free_all(&mut self) {
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

fn failed(key: Key) -> Result<StartOutcome, StartError> {
    Err(StartError::Failed {
        child: key.to_string().into(),
        reason: ExitReason::Error("not today".into()),
    })
}

const PERMANENT: Restart = Restart::Permanent;
const TRANSIENT: Restart = Restart::Transient;
const TEMPORARY: Restart = Restart::Temporary;

#[test]
fn each_strategy_stops_in_reverse_order_and_starts_in_order() {
    for (strategy, plan) in [
        (Strategy::OneForOne, vec![Start(1)]),
        (
            Strategy::OneForAll,
            vec![
                Stop(3),
                Stop(2),
                Stop(0),
                Start(0),
                Start(1),
                Start(2),
                Start(3),
            ],
        ),
        (
            Strategy::RestForOne,
            vec![Stop(3), Stop(2), Start(1), Start(2), Start(3)],
        ),
    ] {
        let mut world = World::with(terms(strategy), &[PERMANENT; 4]);
        world.ends(1, crash());
        world.settle();
        assert_eq!(world.take_done(), plan, "{strategy:?}");
    }
}

#[test]
fn each_restart_type_meets_each_reason_under_each_strategy() {
    let reasons = [
        ExitReason::Normal,
        ExitReason::Shutdown(None),
        ExitReason::Shutdown(Some(ShutdownCause::Said("moved".into()))),
        ExitReason::Killed,
        ExitReason::Error("bad".into()),
        crash(),
        ExitReason::Unhealthy("hangs".into()),
        ExitReason::NoProc,
        ExitReason::NoConnection,
    ];
    for strategy in [
        Strategy::OneForOne,
        Strategy::OneForAll,
        Strategy::RestForOne,
    ] {
        for restart in [PERMANENT, TRANSIENT, TEMPORARY] {
            for reason in &reasons {
                let types = [PERMANENT, restart, TEMPORARY, TRANSIENT];
                let mut world = World::with(terms(strategy), &types);
                world.ends(1, reason.clone());
                world.settle();

                let again = restart == PERMANENT || restart == TRANSIENT && !reason.is_clean();
                let (restarted, kept) = (again, restart == TRANSIENT);
                let first = match strategy {
                    _ if !again => vec![],
                    Strategy::OneForOne => vec![Start(1)],
                    Strategy::OneForAll => {
                        vec![Stop(3), Stop(2), Stop(0), Start(0), Start(1), Start(3)]
                    }
                    Strategy::RestForOne => vec![Stop(3), Stop(2), Start(1), Start(3)],
                };
                let case = format!("{strategy:?} {restart:?} {reason}");
                assert_eq!(world.take_done(), first, "{case}");
                let expected = match (restarted, kept) {
                    (true, _) => Some(ChildState::Running),
                    (false, true) => Some(ChildState::Stopped),
                    (false, false) => None,
                };
                let known = world.state.key("1").map(|key| world.state(key));
                assert_eq!(known, expected, "{case}");
                let together = again && strategy != Strategy::OneForOne;
                assert_eq!(world.state.key("2").is_none(), together, "{case}");
            }
        }
    }
}

#[test]
fn a_start_that_fails_in_a_restart_of_several_is_tried_again_from_there() {
    let mut world = World::with(terms(Strategy::RestForOne), &[PERMANENT; 4]);
    world.ends(1, crash());
    world.stopped(3, 1, false);
    world.stopped(2, 1, false);
    world.started(1, 2, Ok(StartOutcome::Running));
    world.started(2, 2, failed(2));
    world.take_done();

    world.settle();

    assert_eq!(world.take_done(), [Start(2), Start(3)], "1 stays up");

    let mut world = World::with(terms(Strategy::OneForAll), &[PERMANENT; 3]);
    world.ends(1, crash());
    world.stopped(2, 1, false);
    world.stopped(0, 1, false);
    world.started(0, 2, Ok(StartOutcome::Running));
    world.started(1, 2, failed(1));
    world.take_done_until_now();

    world.settle();

    let all_again = [Start(0), Start(1), Start(2)];
    assert_eq!(world.take_done(), all_again, "everything begins anew");
}

#[test]
fn an_earlier_child_that_ends_meanwhile_takes_the_restart_over() {
    let mut world = World::with(terms(Strategy::RestForOne), &[PERMANENT; 4]);
    world.ends(2, crash());
    assert_eq!(world.take_done(), [Stop(3)]);

    world.ends(0, crash());
    world.settle();

    let plan = [Stop(1), Start(0), Start(1), Start(2), Start(3)];
    assert_eq!(world.take_done(), plan);
}

#[test]
fn a_restart_that_is_taken_over_waits_as_long_as_it_had_to_and_its_old_timer_does_nothing() {
    const LATER: Duration = Duration::from_secs(10);
    let backoff = Backoff::new(LATER, LATER)
        .and_then(|backoff| backoff.with_jitter(crate::resilience::Jitter::None));
    let slow = Rules {
        backoff: backoff.expect("is valid"),
        ..rules("2", PERMANENT)
    };
    let mut world = World::with(terms(Strategy::RestForOne), &[PERMANENT; 2]);
    world.add(slow).expect("new");
    world.start_all();
    world.take_done();
    world.ends(2, crash());
    let [old] = world.timers[..] else {
        panic!("one timer: {:?}", world.timers);
    };

    world.ends(0, crash());
    world.stopped(1, 1, false);
    assert_eq!(world.take_done(), [Stop(1)]);
    assert_eq!(world.delay, LATER, "what was to come late comes no sooner");
    world.fires(old);
    assert!(world.take_done().is_empty());

    world.settle();
    assert_eq!(world.take_done(), [Start(0), Start(1), Start(2)]);
}

#[test]
fn what_is_of_no_use_any_more_is_forgotten_however_often_it_is_terminated() {
    let mut world = World::with(terms(Strategy::OneForOne), &[TEMPORARY, PERMANENT]);
    for key in [0, 0, 1, 1] {
        world.terminate(key).expect("is known");
    }
    world.settle();
    assert_eq!(
        (world.state.key("0"), world.state.key("1")),
        (None, Some(1))
    );

    let late = world.add(rules("late", PERMANENT)).expect("new");
    world.started(late, 1, failed(late));
    assert_eq!(world.state.key("late"), None, "its first start failed");

    let never = world.add(rules("never", PERMANENT)).expect("new");
    world.terminate(never).expect("is known");
    world.terminate(never).expect("is known");
    world.settle();
    assert_eq!(world.state.key("never"), None, "it never lived");
}

#[test]
fn a_restart_that_fails_is_tried_again_when_others_were_served() {
    let mut world = World::with(terms(Strategy::OneForOne), &[PERMANENT]);
    world.ends(0, crash());
    world.started(0, 2, failed(0));
    assert_eq!(world.take_done(), [Start(0)], "it waits for its turn");

    world.settle();

    assert_eq!(world.take_done(), [Start(0)]);
    assert_eq!(world.state(0), ChildState::Running);
}

#[test]
fn a_child_that_is_not_significant_ends_nothing() {
    for auto_shutdown in [AutoShutdown::AnySignificant, AutoShutdown::AllSignificant] {
        let terms = Terms {
            auto_shutdown,
            ..terms(Strategy::OneForOne)
        };
        let mut world = World::with(terms, &[TRANSIENT, TEMPORARY]);
        world.ends(0, ExitReason::Normal);
        world.ends(1, crash());
        world.settle();
        assert_eq!(world.ended, None);
    }
}

#[test]
fn a_sibling_that_ends_by_itself_while_it_is_stopped_counts_once() {
    let mut world = World::with(
        Terms {
            intensity: Intensity::new(1, Duration::from_secs(1)),
            ..terms(Strategy::OneForAll)
        },
        &[PERMANENT; 3],
    );
    world.ends(1, crash());
    world.ends(0, crash());
    world.settle();

    assert_eq!(world.ended, None, "one restart for both");
    for key in 0..3 {
        assert_eq!(world.state(key), ChildState::Running);
        assert_eq!(world.state.life(key), 2);
    }
}

#[test]
fn what_ended_cleanly_or_was_terminated_is_not_revived_with_its_siblings() {
    let mut world = World::with(
        terms(Strategy::OneForAll),
        &[TRANSIENT, PERMANENT, PERMANENT],
    );
    world.ends(0, ExitReason::Normal);
    world.terminate(1).expect("known");
    world.settle();
    world.ends(2, crash());
    world.settle();

    assert_eq!(world.state(0), ChildState::Stopped);
    assert_eq!(world.state(1), ChildState::Stopped);
    assert_eq!(world.state(2), ChildState::Running);
}

#[test]
fn a_child_that_is_added_during_a_restart_of_several_waits_for_its_turn() {
    let mut world = World::with(terms(Strategy::RestForOne), &[PERMANENT; 2]);
    world.ends(0, crash());
    let added = world.add(rules("late", PERMANENT)).expect("new");
    assert_eq!(world.take_done(), [Stop(1)]);
    assert_eq!(world.state(added), ChildState::Starting);

    world.settle();

    assert_eq!(world.take_done(), [Start(0), Start(1), Start(added)]);
    assert!(world.start_asked.is_empty(), "its answer has come");
}

#[test]
fn a_leaked_child_comes_back_when_it_is_gone_after_all() {
    for strategy in [
        Strategy::OneForOne,
        Strategy::OneForAll,
        Strategy::RestForOne,
    ] {
        let mut world = World::with(terms(strategy), &[PERMANENT; 2]);
        world
            .state
            .unhealthy(1, 1, ExitReason::Unhealthy("hangs".into()));
        world.carry_out();
        world.stopped(1, 1, true);
        world.settle();
        assert_eq!(world.state(1), ChildState::Leaked, "{strategy:?}");

        world.there.remove(&1);
        world.state.freed(1, 1, world.now, 0.5);
        world.carry_out();
        world.settle();

        assert_eq!(world.state(1), ChildState::Running, "{strategy:?}");
    }
}

#[test]
fn a_terminated_child_that_leaked_stays_down_when_it_is_gone_after_all() {
    let mut world = World::with(terms(Strategy::OneForOne), &[PERMANENT]);
    world.terminate(0).expect("known");
    world.stopped(0, 1, true);
    world.there.remove(&0);
    world.state.freed(0, 1, world.now, 0.5);
    world.carry_out();

    assert_eq!(world.state(0), ChildState::Stopped);
}

#[test]
fn a_significant_child_ends_its_supervisor_only_by_its_own_end() {
    use AutoShutdown::{AllSignificant, AnySignificant, Never};

    let significant = |restart| Rules {
        significant: true,
        ..rules("s", restart)
    };
    let run = |auto_shutdown, restart, reason: Option<ExitReason>| {
        let mut world = World::new(Terms {
            auto_shutdown,
            ..terms(Strategy::OneForOne)
        });
        world.add(significant(restart)).expect("new");
        let other = Rules {
            id: "other".into(),
            ..significant(TRANSIENT)
        };
        world.add(other).expect("new");
        world.start_all();
        match reason {
            Some(reason) => world.ends(0, reason),
            None => {
                world.terminate(0).expect("known");
            }
        }
        world.settle();
        let first = world.ended.clone();
        world.ends(1, ExitReason::Normal);
        (first.is_some(), world.ended.is_some())
    };
    let clean = || Some(ExitReason::Normal);

    assert_eq!(run(AnySignificant, TRANSIENT, clean()), (true, true));
    assert_eq!(run(AnySignificant, TRANSIENT, Some(crash())), (false, true));
    assert_eq!(run(AnySignificant, TEMPORARY, Some(crash())), (true, true));
    assert_eq!(run(AnySignificant, TRANSIENT, None), (false, true));
    assert_eq!(run(AllSignificant, TRANSIENT, clean()), (false, true));
    assert_eq!(
        run(AllSignificant, TRANSIENT, Some(crash())),
        (false, false)
    );
    assert_eq!(run(AllSignificant, TEMPORARY, None), (false, true));
    assert_eq!(run(Never, TRANSIENT, clean()), (false, false));
}

#[test]
fn with_an_intensity_of_n_the_restart_after_the_nth_is_too_many() {
    for strategy in [
        Strategy::OneForOne,
        Strategy::OneForAll,
        Strategy::RestForOne,
    ] {
        for limit in 0..4 {
            let terms = Terms {
                intensity: Intensity::new(limit, Duration::from_secs(1)),
                ..terms(strategy)
            };
            let mut world = World::with(terms, &[PERMANENT; 2]);
            let mut restarts = 0;
            while world.ended.is_none() {
                world.ends(0, crash());
                world.settle();
                restarts += 1;
            }
            assert_eq!(restarts, limit + 1, "{strategy:?}");
        }
    }
}

#[test]
fn whatever_comes_when_the_supervisor_has_given_up_changes_nothing() {
    let terms = Terms {
        intensity: Intensity::new(1, Duration::from_secs(1)),
        ..terms(Strategy::OneForOne)
    };
    let mut world = World::new(terms);
    for id in ["waits", "is the one too many", "runs"] {
        let pause = Backoff::constant(Duration::from_secs(1));
        let rules = Rules {
            backoff: pause,
            ..rules(id, PERMANENT)
        };
        world.add(rules).expect("new");
    }
    world.start_all();
    world.ends(0, crash());
    world.ends(1, crash());
    assert!(world.ended.is_some());
    world.take_done();

    let timer = world.timers[0];
    world.fires(timer);
    world.state.ending(2, 1, crash());

    assert_eq!(
        (world.state(0), world.state.life(0)),
        (ChildState::Restarting, 1)
    );
    assert_eq!(world.state(2), ChildState::Running);
    assert_eq!(world.take_done(), []);
}

/// What can happen to a supervisor, to the child whose turn it is among those there ever were.
#[derive(Debug, Clone, Copy)]
enum Op {
    Add(Restart, bool),
    Terminate(usize),
    Restart(usize),
    Delete(usize),
    Ends(usize, u8),
    Hangs(usize),
    /// A start or a stop that is under way comes to its end.
    Goes(usize, u8),
    /// A timer fires, or fired long ago.
    Fires(usize),
    /// News of a life that is over come late.
    Stale(usize, u8),
    Freed(usize),
}

fn op() -> impl Strategy_<Value = Op> {
    let restart = prop_oneof![Just(PERMANENT), Just(TRANSIENT), Just(TEMPORARY)];
    prop_oneof![
        2 => (restart, any::<bool>()).prop_map(|(restart, slow)| Op::Add(restart, slow)),
        1 => any::<usize>().prop_map(Op::Terminate),
        1 => any::<usize>().prop_map(Op::Restart),
        1 => any::<usize>().prop_map(Op::Delete),
        3 => (any::<usize>(), any::<u8>()).prop_map(|(at, how)| Op::Ends(at, how)),
        1 => any::<usize>().prop_map(Op::Hangs),
        6 => (any::<usize>(), any::<u8>()).prop_map(|(at, how)| Op::Goes(at, how)),
        2 => any::<usize>().prop_map(Op::Fires),
        1 => (any::<usize>(), any::<u8>()).prop_map(|(at, how)| Op::Stale(at, how)),
        1 => any::<usize>().prop_map(Op::Freed),
    ]
}
use proptest::strategy::Strategy as Strategy_;

/// What has to be up in the end, told by what happened alone.
#[derive(Debug, Default)]
struct Wanted {
    up: BTreeSet<Key>,
    restart: BTreeMap<Key, Restart>,
}

fn play(world: &mut World, wanted: &mut Wanted, op: Op) {
    let known: Vec<Key> = wanted.restart.keys().copied().collect();
    let pick = |at: usize| known.get(at % known.len().max(1)).copied();
    match op {
        Op::Add(restart, slow) => {
            let id = format!("c{}", world.ids.len());
            let mut rules = rules(&id, restart);
            if slow {
                let backoff = Backoff::new(10 * MS, 100 * MS).expect("valid");
                rules.backoff = backoff;
                let budget = Budget::new(Intensity::new(1, MS), OnExceed::SlowRetry(20 * MS));
                rules.budget = Some(budget);
            }
            let key = world.add(rules).expect("a new id");
            wanted.restart.insert(key, restart);
            wanted.up.insert(key);
        }
        Op::Terminate(at) => {
            let Some(key) = pick(at) else { return };
            let asked = world.terminate(key);
            if matches!(asked, Ok(_) | Err(SupervisorError::Leaked(_))) {
                wanted.up.remove(&key);
            }
        }
        Op::Restart(at) => {
            let Some(key) = pick(at) else { return };
            if world.restart(key).is_ok() {
                wanted.up.insert(key);
            }
        }
        Op::Delete(at) => {
            let Some(key) = pick(at) else { return };
            let _ = world.delete(key);
        }
        Op::Ends(at, how) => {
            let alive = world.alive();
            let Some(key) = alive.get(at % alive.len().max(1)) else {
                return;
            };
            let reason = match how % 4 {
                0 => ExitReason::Normal,
                1 => ExitReason::Shutdown(None),
                2 => ExitReason::Killed,
                _ => crash(),
            };
            match wanted.restart[key] {
                Restart::Transient if reason.is_clean() => wanted.up.remove(key),
                Restart::Temporary => wanted.up.remove(key),
                _ => true,
            };
            world.ends(*key, reason);
        }
        Op::Hangs(at) => {
            let alive = world.alive();
            if let Some(key) = alive.get(at % alive.len().max(1)) {
                let life = world.state.life(*key);
                if wanted.restart[key] == TEMPORARY {
                    wanted.up.remove(key);
                }
                let hangs = ExitReason::Unhealthy("hangs".into());
                world.state.unhealthy(*key, life, hangs);
                world.carry_out();
            }
        }
        Op::Goes(at, how) => goes(world, wanted, at, how),
        Op::Fires(at) => {
            if let Some(timer) = world.timers.get(at % world.timers.len().max(1)) {
                world.fires(*timer);
            }
        }
        Op::Stale(at, how) => {
            if let Some(key) = pick(at) {
                stale(world, key, how);
            }
        }
        Op::Freed(at) => {
            let leaked = |(key, there): (&Key, &There)| match there {
                There::Leaked(life) => Some((*key, *life)),
                _ => None,
            };
            let leaked: Vec<(Key, u64)> = world.there.iter().filter_map(leaked).collect();
            if let Some((key, life)) = leaked.get(at % leaked.len().max(1)) {
                world.there.remove(key);
                world.state.freed(*key, *life, world.now, 0.5);
                world.carry_out();
            }
        }
    }
}

/// News of a life that is over come late, and do nothing.
fn stale(world: &mut World, key: Key, how: u8) {
    let before = format!("{:?}", world.state);
    let life = world.state.life(key).wrapping_sub(1);
    let (now, luck) = (world.now, 0.5);
    match how % 5 {
        0 => world.state.gone(key, life, crash(), now, luck),
        1 => world
            .state
            .started(key, life, Ok(StartOutcome::Running), now, luck),
        2 => world.state.stopped(key, life, false, now, luck),
        3 => world.state.unhealthy(key, life, crash()),
        _ => world.state.due(Timer::Child(key, 0), now),
    }
    let after = format!("{:?}", world.state);
    assert_eq!(before, after, "old news do something");
}

/// One start or stop that is under way ends: mostly well, at times not.
fn goes(world: &mut World, wanted: &mut Wanted, at: usize, how: u8) {
    let under_way: Vec<(Key, There)> = world
        .there
        .iter()
        .filter(|(_, there)| matches!(there, There::Starting(_) | There::Stopping(_)))
        .map(|(key, there)| (*key, *there))
        .collect();
    match under_way.get(at % under_way.len().max(1)) {
        Some((key, There::Starting(life))) => {
            let asked = world.start_asked.contains(key);
            match how % 8 {
                0 => {
                    // One that was asked for is not tried again.
                    if asked {
                        wanted.up.remove(key);
                    }
                    world.started(*key, *life, failed(*key));
                }
                1 => {
                    wanted.up.remove(key);
                    world.started(*key, *life, Ok(StartOutcome::Ignored));
                }
                _ => world.started(*key, *life, Ok(StartOutcome::Running)),
            }
        }
        Some((key, There::Stopping(life))) => {
            let (leaked, asked) = (how.is_multiple_of(8), world.start_asked.contains(key));
            if leaked && asked {
                wanted.up.remove(key);
            }
            world.stopped(*key, *life, leaked);
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_child_is_lost_and_none_is_there_twice_whatever_happens(
        strategy in prop_oneof![
            Just(Strategy::OneForOne), Just(Strategy::OneForAll), Just(Strategy::RestForOne),
        ],
        ops in proptest::collection::vec(op(), 0..60),
    ) {
        let mut world = World::new(terms(strategy));
        let mut wanted = Wanted::default();
        for op in ops {
            // Siblings that are stopped for another are forgotten when they are temporary.
            let before: BTreeSet<Key> = world.state.known.keys().copied().collect();
            play(&mut world, &mut wanted, op);
            let forgotten = before.iter().filter(|key| !world.state.known.contains_key(key));
            for key in forgotten {
                if wanted.restart[key] == TEMPORARY {
                    wanted.up.remove(key);
                }
            }
            world.check();
        }

        world.free_all();

        for key in wanted.up.iter().filter(|key| wanted.restart[key] != TEMPORARY) {
            prop_assert_eq!(world.state(*key), ChildState::Running, "{} was lost", key);
        }
        for key in world.alive() {
            prop_assert!(wanted.up.contains(&key), "{} runs, and nobody wants it", key);
        }
        prop_assert!(world.start_asked.is_empty(), "an answer is missing: {:?}", world.start_asked);
        prop_assert!(world.ends_asked.is_empty(), "an answer is missing: {:?}", world.ends_asked);
        prop_assert!(world.state.group.is_none());
    }
}

#[test]
fn a_hung_child_is_killed_at_once_and_a_sibling_stopped_as_its_spec_says() {
    let mut world = World::with(terms(Strategy::OneForAll), &[PERMANENT; 2]);
    world
        .state
        .unhealthy(0, 1, ExitReason::Unhealthy("hangs".into()));
    let mut hows = Vec::new();
    while let Some(effect) = world.state.next_effect() {
        if let Effect::Stop(key, how) = effect {
            hows.push((key, how));
        }
    }
    world.there.insert(0, There::Stopping(1));
    world.there.remove(&0);
    world.state.stopped(0, 1, false, world.now, 0.5);
    while let Some(effect) = world.state.next_effect() {
        if let Effect::Stop(key, how) = effect {
            hows.push((key, how));
        }
    }
    assert_eq!(hows, [(0, How::Kill), (1, How::AsSaid)]);
}
