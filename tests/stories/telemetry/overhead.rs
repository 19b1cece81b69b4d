use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use underpin::{
    ids::{IdGenerator, NodeId},
    telemetry::{Definition, EventName},
};

use super::telemetry;

static MADE: EventName = EventName::from_static(&["ids", "made"]);

/// The shortest of many rounds: what others do on the machine only ever adds.
fn shortest(mut round: impl FnMut()) -> Duration {
    let rounds = (0..50).map(|_| {
        let begin = Instant::now();
        round();
        begin.elapsed()
    });
    rounds.min().expect("some")
}

#[test]
fn f86_counting_costs_less_than_twice_what_making_two_ids_costs_and_is_exact() {
    const TIMES: u64 = 1_000;
    let ids = IdGenerator::new(NodeId::random());
    let telemetry = telemetry();
    let counter = telemetry.counter("ids_made", &[]);
    let defined = telemetry.define("ids", [Definition::counter("ids_executed", &MADE)]);
    assert_eq!(defined, Ok(()));
    let two_ids = || {
        black_box((ids.next(), ids.next()));
    };

    let alone = shortest(|| (0..TIMES).for_each(|_| two_ids()));
    let with_counter = shortest(|| {
        (0..TIMES).for_each(|_| {
            two_ids();
            counter.inc();
        });
    });
    (0..TIMES).for_each(|_| telemetry.execute(&MADE, &[], &[]));

    assert!(
        with_counter < alone * 3,
        "{with_counter:?} instead of {alone:?}"
    );
    assert_eq!(counter.value(), 50 * TIMES);
    assert_eq!(telemetry.snapshot().counter("ids_executed", &[]), TIMES);
}
