//! Children that go: terminated, hung, leaked, forgotten.

use super::{
    super::{
        Strategy,
        effect::{Effect, How},
    },
    world::{PERMANENT, TEMPORARY, There, World, failed, rules, terms},
};
use crate::otp::{ChildState, ExitReason};

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
