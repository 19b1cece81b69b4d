//! Runs models of telemetry's lock-free parts in all orders in which their threads may meet.
//!
//! ```sh
//! cargo run --release --manifest-path tests/loom/Cargo.toml                            # at most 3 preemptions, seconds
//! LOOM_MAX_PREEMPTIONS=5 cargo run --release --manifest-path tests/loom/Cargo.toml     # deeper, minutes
//! ```
//!
//! The parts are compiled from the crate's own files; only `sync`, what they are made of, is another.
//!
//! Not here: the table of handlers and the queues of those that run elsewhere, which are `arc-swap`'s and tokio's, checked where they
//! are made. What is counted around them is in `tests/stories/telemetry/handlers.rs`.

#[path = "../../../src/telemetry/buckets.rs"]
mod buckets;
#[path = "../../../src/telemetry/gauge.rs"]
mod gauge;
#[path = "../../../src/telemetry/leases.rs"]
mod leases;
#[path = "../../../src/telemetry/shard.rs"]
mod shard;
#[path = "../../../src/telemetry/sharded.rs"]
mod sharded;
mod sync;

use std::sync::Arc;

use loom::thread;

use gauge::{Gauge, GaugeCell};
use leases::{Leases, Plan};
use shard::Shard;
use sharded::Sharded;
use sync::{AtomicU64, Ordering};

/// How often a thread is taken off its processor in the middle of something; most faults need one or two.
const PREEMPTIONS: usize = 3;

fn main() {
    check(
        "a thread that comes after another in its slot adds to what is there",
        successors,
    );
    check(
        "threads with a slot of their own and threads that share one lose nothing",
        own_and_shared,
    );
    check("a reader never sees a counter go back", readers);
    check("floats of several threads are all added", floats);
    check(
        "a histogram keeps every value of threads that own a part, follow each other in it or share one",
        histogram,
    );
    check("a gauge keeps all additions", gauge_additions);
    check(
        "a gauge that is written to while idle series are swept is seen by this sweep or the next",
        sweeps,
    );
}

fn check(what: &str, model: fn()) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS);
    // A histogram has hundreds of numbers to look at.
    builder.max_branches = 10_000;
    builder.check(model);
    println!("ok: {what}");
}

/// A counter without the thread-locals, which hold a lease as long as a thread lives.
struct Counter {
    leases: Leases,
    cells: Sharded<AtomicU64>,
}

impl Counter {
    fn new(own: usize, shared: usize) -> Arc<Self> {
        let plan = Plan { own, shared };
        Arc::new(Self {
            leases: Leases::new(plan),
            cells: Sharded::of(plan),
        })
    }

    /// What a thread does from its first count to its end.
    fn life(&self, counts: u64) {
        let slot = self.leases.take();
        for _ in 0..counts {
            let (cell, writer) = self.cells.at(slot);
            writer.add(cell, 1);
        }
        self.leases.give_back(slot);
    }

    fn value(&self) -> u64 {
        let cells = self.cells.iter().map(|cell| cell.load(Ordering::Relaxed));
        cells.sum()
    }
}

fn run_together(counter: &Arc<Counter>, lives: &[u64]) {
    let threads: Vec<_> = lives
        .iter()
        .map(|counts| {
            let (counter, counts) = (Arc::clone(counter), *counts);
            thread::spawn(move || counter.life(counts))
        })
        .collect();
    for thread in threads {
        thread.join().expect("ends well");
    }
}

fn successors() {
    let counter = Counter::new(1, 1);
    run_together(&counter, &[2, 2]);
    counter.life(1);
    assert_eq!(counter.value(), 5);
}

fn own_and_shared() {
    let counter = Counter::new(1, 1);
    run_together(&counter, &[1, 1, 1]);
    assert_eq!(counter.value(), 3);
}

fn readers() {
    let counter = Counter::new(1, 1);
    let counting = {
        let counter = Arc::clone(&counter);
        thread::spawn(move || {
            counter.life(1);
            counter.life(1);
        })
    };
    let (first, second) = (counter.value(), counter.value());
    assert!(first <= second && second <= 2);
    counting.join().expect("ends well");
    assert_eq!(counter.value(), 2);
}

fn floats() {
    let plan = Plan { own: 1, shared: 1 };
    let sums = Arc::new((Leases::new(plan), Sharded::<AtomicU64>::of(plan)));
    let threads: Vec<_> = [0.5_f64, 0.25, 2.0]
        .into_iter()
        .map(|amount| {
            let sums = Arc::clone(&sums);
            thread::spawn(move || {
                let slot = sums.0.take();
                let (cell, writer) = sums.1.at(slot);
                writer.update(cell, |sum| Some(sum + amount));
                sums.0.give_back(slot);
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("ends well");
    }
    let cells = sums.1.iter().map(|cell| cell.load(Ordering::Relaxed));
    let sum = cells.map(f64::from_bits).fold(0.0, |sum, cell| sum + cell);
    assert_eq!(sum.to_bits(), 2.75_f64.to_bits());
}

/// A histogram without the thread-locals.
struct Histogram {
    leases: Leases,
    shards: Sharded<Shard>,
}

impl Histogram {
    fn new() -> Arc<Self> {
        let plan = Plan { own: 1, shared: 1 };
        Arc::new(Self {
            leases: Leases::new(plan),
            shards: Sharded::of(plan),
        })
    }

    /// A thread records a value, and ends.
    fn life(&self, value: f64) {
        let slot = self.leases.take();
        let (shard, writer) = self.shards.at(slot);
        match (writer, buckets::common(value)) {
            (sharded::Writer::Alone, Some(step)) => shard.record_common(value, step),
            _ => shard.record(value, 1, writer),
        }
        self.leases.give_back(slot);
    }

    fn count(&self) -> u64 {
        let mut count = 0;
        for shard in self.shards.iter() {
            shard.each_bucket(|_, n| count += n);
        }
        count
    }
}

fn histogram() {
    let histogram = Histogram::new();
    // Two of one bucket, so that threads make the same block and write to the same numbers.
    let values = [1.5_f64, 1.5, 40.0];
    let threads = values.map(|value| {
        let histogram = Arc::clone(&histogram);
        thread::spawn(move || histogram.life(value))
    });
    for thread in threads {
        thread.join().expect("ends well");
    }
    assert_eq!(histogram.count(), 3);
    let sum: f64 = histogram.shards.iter().map(Shard::sum).sum();
    assert_eq!(sum.to_bits(), 43.0_f64.to_bits());
    let (least, most): (Vec<_>, Vec<_>) = histogram.shards.iter().map(Shard::extremes).unzip();
    let least = least.into_iter().flatten().reduce(f64::min);
    let most = most.into_iter().flatten().reduce(f64::max);
    assert_eq!((least, most), (Some(1.5), Some(40.0)));
}

fn gauge_additions() {
    let gauge = Gauge::over(Arc::new(GaugeCell::default()));
    let other = gauge.clone();
    let adding = thread::spawn(move || {
        other.add(1.0);
        other.add(2.0);
    });
    gauge.add(4.0);
    adding.join().expect("ends well");
    assert_eq!(gauge.value().to_bits(), 7.0_f64.to_bits());
}

fn sweeps() {
    let cell = Arc::new(GaugeCell::default());
    let gauge = Gauge::over(Arc::clone(&cell));
    let writing = thread::spawn(move || {
        gauge.set(1.0);
        gauge.set(2.0);
    });
    let seen = cell.take_touched();
    writing.join().expect("ends well");
    assert!(seen || cell.take_touched());
    assert_eq!(cell.value().to_bits(), 2.0_f64.to_bits());
}
