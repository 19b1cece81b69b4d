//! Unique ids that rise with time, from one generator that all threads share.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Result;
use ferroid::{
    generator::AtomicSnowflakeGenerator,
    id::SnowflakeTwitterId,
    time::{MonotonicClock, TWITTER_EPOCH},
};
use underpin::ids::{IdGenerator, NodeId};
use uuid::Uuid;

use crate::{
    figure::{Figure, Goal, LIMIT, Sides, UNDERPIN, Unit},
    measure::{median, nanoseconds},
};

pub const FIGURES: &[Figure] = &[
    Figure {
        name: "ids.1t",
        unit: Unit::IdsPerSecond,
        goals: &[Goal::Value(20e6)],
        sides: |sides| add(sides, |make| Box::new(move |time| rate(1, time, &*make()))),
    },
    Figure {
        name: "ids.2t",
        unit: Unit::IdsPerSecond,
        goals: &[Goal::Value(20e6)],
        sides: |sides| add(sides, |make| Box::new(move |time| rate(2, time, &*make()))),
    },
    Figure {
        name: "ids.wait",
        unit: Unit::Microseconds,
        goals: &[],
        sides: |sides| {
            add(sides, |make| {
                Box::new(move |time| longest_wait(time, &*make()))
            })
        },
    },
];

/// Makes one id.
type Next = Box<dyn Fn() + Sync>;
/// Makes a generator that has made none.
type Make = fn() -> Next;

/// Ids back to back, and for `ids.wait` the longest that a single one took.
///
/// Not equal: a snowflake has 4096 ids in a millisecond. ferroid and snowflaked wait for the next one when they are used up
/// (ferroid yields its thread), underpin borrows them from the future and shows its drift. A uuid v7 has no node and twice the
/// bits. `limit` reads the clock and adds to one shared atomic, which no rising id can do without.
fn add(sides: &mut Sides, measured: fn(Make) -> Box<dyn FnMut(Duration) -> f64>) -> Result<()> {
    let all: [(&str, Make); 5] = [
        (UNDERPIN, underpin),
        (LIMIT, limit),
        ("ferroid", ferroid),
        ("snowflaked", snowflaked),
        ("uuid", uuid),
    ];
    for (who, make) in all {
        let mut sample = measured(make);
        sides.add(who, move |time| Ok(sample(time)));
    }
    Ok(())
}

fn rate(threads: u32, time: Duration, next: &(dyn Fn() + Sync)) -> f64 {
    let one = nanoseconds(threads as usize, time, |_| || next());
    1e9 / one * f64::from(threads)
}

/// The longest of the waits in 20 ms, in the middle of many such windows: in a long one the longest wait is always that the
/// system gave the core to somebody else.
fn longest_wait(time: Duration, next: &(dyn Fn() + Sync)) -> f64 {
    const WINDOW: Duration = Duration::from_millis(20);
    let begin = Instant::now();
    let mut longest = Vec::new();
    while begin.elapsed() < time {
        let (window, mut worst) = (Instant::now(), Duration::ZERO);
        while window.elapsed() < WINDOW {
            let one = Instant::now();
            next();
            worst = worst.max(one.elapsed());
        }
        longest.push(worst.as_secs_f64() * 1e6);
    }
    median(&mut longest)
}

fn underpin() -> Next {
    let ids = IdGenerator::new(NodeId::new(1).expect("1 is a node id"));
    Box::new(move || {
        black_box(ids.next());
    })
}

fn limit() -> Next {
    let shared = Arc::new(AtomicU64::new(0));
    Box::new(move || {
        black_box(SystemTime::now());
        black_box(shared.fetch_add(1, Ordering::Relaxed));
    })
}

fn ferroid() -> Next {
    let clock = MonotonicClock::<1>::with_epoch(TWITTER_EPOCH);
    let ids = AtomicSnowflakeGenerator::<SnowflakeTwitterId, _>::new(1, clock);
    Box::new(move || {
        black_box(ids.next_id(|_| thread::yield_now()));
    })
}

fn snowflaked() -> Next {
    let ids = snowflaked::sync::Generator::new(1);
    Box::new(move || {
        black_box(ids.generate::<u64>());
    })
}

fn uuid() -> Next {
    Box::new(|| {
        black_box(Uuid::now_v7());
    })
}
