//! Anything at any time: random sequences of requests, crashes, timers and late news.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    super::{Intensity, StartOutcome, Strategy, effect::Timer, state::Key},
    world::{MS, PERMANENT, TEMPORARY, TRANSIENT, There, World, crash, failed, rules, terms},
};
use crate::{
    otp::{Budget, ChildState, ExitReason, OnExceed, Restart, SupervisorError},
    resilience::Backoff,
};

/// What can happen to a supervisor, to the child whose turn it is among those there ever were.
#[derive(Debug, Clone, Copy)]
enum Op {
    Add(Restart, bool),
    Terminate(usize),
    Restart(usize),
    Delete(usize),
    Ends(usize, u8),
    /// It ends, and something of it is there still: it may be stopped before that is gone.
    Ending(usize, u8),
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
        3 => (any::<usize>(), any::<u8>()).prop_map(|(at, how)| Op::Ending(at, how)),
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
        Op::Ends(at, how) | Op::Ending(at, how) => {
            let alive = world.alive();
            let Some(key) = alive.get(at % alive.len().max(1)) else {
                return;
            };
            let reason = world.own_end(*key).cloned().unwrap_or(match how % 4 {
                0 => ExitReason::Normal,
                1 => ExitReason::Shutdown(None),
                2 => ExitReason::Killed,
                _ => crash(),
            });
            match wanted.restart[key] {
                Restart::Transient if reason.is_clean() => wanted.up.remove(key),
                Restart::Temporary => wanted.up.remove(key),
                _ => true,
            };
            if let Op::Ending(..) = op {
                world.ending(*key, reason);
            } else {
                world.ends(*key, reason);
            }
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
