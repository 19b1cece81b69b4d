//! When a supervisor ends itself: a restart too many, the end of a significant child.

use std::time::Duration;

use super::{
    super::{
        AutoShutdown, Intensity, Strategy,
        state::{Rules, Terms},
    },
    world::{PERMANENT, TEMPORARY, TRANSIENT, World, crash, rules, terms},
};
use crate::{
    otp::{ChildState, ExitReason, ShutdownCause},
    resilience::Backoff,
};

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

/// A permanent child, and two significant ones that end for good where they end well.
fn two_significant(auto_shutdown: AutoShutdown) -> World {
    let mut world = World::new(Terms {
        auto_shutdown,
        ..terms(Strategy::OneForAll)
    });
    world.add(rules("permanent", PERMANENT)).expect("new");
    for id in ["s1", "s2"] {
        let significant = Rules {
            significant: true,
            ..rules(id, TRANSIENT)
        };
        world.add(significant).expect("new");
    }
    world.start_all();
    world
}

fn ended_by(world: &World) -> Option<&str> {
    match &world.ended {
        Some(ShutdownCause::Significant(id)) => Some(id),
        _ => None,
    }
}

#[test]
fn significant_children_that_end_while_a_sibling_is_restarted_end_their_supervisor_by_the_first_or_the_last()
 {
    for (auto, first, last) in [
        (AutoShutdown::AnySignificant, Some("s2"), Some("s2")),
        (AutoShutdown::AllSignificant, None, Some("s1")),
        (AutoShutdown::Never, None, None),
    ] {
        let mut world = two_significant(auto);
        world.ending(1, ExitReason::Normal);
        world.ending(2, ExitReason::Normal);
        world.ends(0, crash());

        world.stopped(2, 1, false);
        assert_eq!(ended_by(&world), first, "{auto:?}");
        world.settle();
        assert_eq!(ended_by(&world), last, "{auto:?}");
    }
}

#[test]
fn a_significant_child_that_is_stopped_for_a_sibling_comes_back_and_counts_as_alive() {
    let mut world = two_significant(AutoShutdown::AllSignificant);
    world.ending(1, ExitReason::Normal);
    world.ends(0, crash());
    world.settle();
    assert_eq!(
        (ended_by(&world), world.state(2)),
        (None, ChildState::Running)
    );

    world.ends(2, ExitReason::Normal);
    assert_eq!(ended_by(&world), Some("s2"));
}

#[test]
fn a_significant_child_that_is_terminated_while_its_own_end_is_waited_for_ends_nothing() {
    for auto in [AutoShutdown::AnySignificant, AutoShutdown::AllSignificant] {
        let mut world = two_significant(auto);
        world.terminate(1).expect("known");
        world.settle();
        world.ending(2, ExitReason::Normal);
        world.ends(0, crash());
        assert!(world.state.is_judged(2));

        world.terminate(2).expect("known");
        assert!(!world.state.is_judged(2));
        world.settle();

        assert_eq!(world.ended, None, "{auto:?}");
        assert_eq!(world.state(2), ChildState::Stopped);
        assert_eq!(world.state(0), ChildState::Running);
    }
}
