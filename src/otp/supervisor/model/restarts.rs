//! Which children are stopped and started again when one ends, and in which order.

use std::time::Duration;

use super::{
    super::{
        Intensity, StartOutcome, Strategy,
        state::{Rules, Terms},
    },
    world::{PERMANENT, Start, Stop, TEMPORARY, TRANSIENT, World, crash, failed, rules, terms},
};
use crate::{
    otp::{ChildState, ExitReason, ShutdownCause},
    resilience::Backoff,
};

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
