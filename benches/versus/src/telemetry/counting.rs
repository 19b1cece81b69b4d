//! Counting and recording with a handle that is kept.

use std::{
    array,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use anyhow::Result;
use hdrhistogram::Histogram as HdrHistogram;
use metrics_exporter_prometheus::PrometheusBuilder;
use parking_lot::Mutex;
use prometheus_client::metrics::{counter::Counter, family::Family, histogram::Histogram};
use underpin::telemetry::{Options, Telemetry};

use crate::{
    figure::{LIMIT, Sides, UNDERPIN},
    measure::nanoseconds,
};

/// Each thread adds one to the same counter with one label, again and again.
///
/// Not equal: `limit` has sixteen cells on cache lines of their own and gives one to each thread, for ever; underpin gives
/// cells back when threads end, and makes them when a thread first counts.
pub fn counter(sides: &mut Sides, threads: usize) -> Result<()> {
    let telemetry = Telemetry::new(Options::default());
    let own = telemetry.counter("requests", &[("method", "get")]);
    sides.add(UNDERPIN, move |time| {
        Ok(nanoseconds(threads, time, |_| || own.inc()))
    });

    let cells = Arc::new(Cells::default());
    sides.add(LIMIT, move |time| {
        Ok(nanoseconds(threads, time, |_| || cells.add()))
    });

    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = metrics::with_local_recorder(
        &recorder,
        || metrics::counter!("requests_total", "method" => "get"),
    );
    sides.add("metrics", move |time| {
        Ok(nanoseconds(threads, time, |_| || handle.increment(1)))
    });

    let family = Family::<[(&str, &str); 1], Counter>::default();
    let handle = family.get_or_create_owned(&[("method", "get")]);
    sides.add("prometheus-client", move |time| {
        Ok(nanoseconds(threads, time, |_| {
            || {
                handle.inc();
            }
        }))
    });
    Ok(())
}

/// Each thread records waiting times of a microsecond to nine milliseconds in the same histogram with one label.
///
/// Not equal: `limit` counts whole nanoseconds in log-linear buckets of its own for each thread, and keeps neither sum nor extremes; `metrics`
/// puts values into a list that its recorder folds later, which is done outside of the timing; `prometheus-client` has ten
/// buckets; `hdrhistogram` behind a mutex has two significant digits, and ours are within 1.6 %.
pub fn histogram(sides: &mut Sides, threads: usize) -> Result<()> {
    let telemetry = Telemetry::new(Options::default());
    let own = telemetry.histogram("wait_seconds", &[("method", "get")]);
    sides.add(UNDERPIN, move |time| {
        Ok(nanoseconds(threads, time, |_| {
            let mut values = Values::new();
            let own = &own;
            move || own.record(values.next_seconds())
        }))
    });

    let ladders = Arc::new(Ladders::default());
    sides.add(LIMIT, move |time| {
        Ok(nanoseconds(threads, time, |_| {
            let mut values = Values::new();
            let ladders = &ladders;
            move || ladders.count(values.next_nanoseconds())
        }))
    });

    let recorder = PrometheusBuilder::new().build_recorder();
    let upkeep = recorder.handle();
    let handle = metrics::with_local_recorder(
        &recorder,
        || metrics::histogram!("wait_seconds", "method" => "get"),
    );
    sides.add("metrics", move |time| {
        let took = nanoseconds(threads, time, |_| {
            let mut values = Values::new();
            let handle = &handle;
            move || handle.record(values.next_seconds())
        });
        upkeep.run_upkeep();
        Ok(took)
    });

    let bounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
    let histogram = Histogram::new(bounds);
    sides.add("prometheus-client", move |time| {
        Ok(nanoseconds(threads, time, |_| {
            let mut values = Values::new();
            let histogram = &histogram;
            move || histogram.observe(values.next_seconds())
        }))
    });

    let hdr = Mutex::new(HdrHistogram::<u64>::new_with_bounds(1, 60_000_000_000, 2)?);
    sides.add("hdrhistogram", move |time| {
        Ok(nanoseconds(threads, time, |_| {
            let mut values = Values::new();
            let hdr = &hdr;
            move || {
                let _ = black_box(hdr.lock().record(values.next_nanoseconds()));
            }
        }))
    });
    Ok(())
}

/// The same values for all, made before they are needed.
struct Values {
    seconds: Vec<f64>,
    nanoseconds: Vec<u64>,
    at: usize,
}

impl Values {
    const COUNT: usize = 4096;

    fn new() -> Self {
        let mut state = 88_172_645_463_325_252_u64;
        let nanoseconds: Vec<u64> = (0..Self::COUNT)
            .map(|_| {
                // xorshift64 (Marsaglia 2003).
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                1_000 + state % 9_000_000
            })
            .collect();
        Self {
            seconds: nanoseconds.iter().map(|ns| *ns as f64 * 1e-9).collect(),
            nanoseconds,
            at: 0,
        }
    }

    fn step(&mut self) -> usize {
        self.at = (self.at + 1) % Self::COUNT;
        self.at
    }

    fn next_seconds(&mut self) -> f64 {
        let at = self.step();
        self.seconds[at]
    }

    fn next_nanoseconds(&mut self) -> u64 {
        let at = self.step();
        self.nanoseconds[at]
    }
}

/// Buckets for each thread, 16 for each power of two, as near as nothing to a plain addition.
struct Ladders([Vec<AtomicU64>; Cells::COUNT]);

impl Ladders {
    const BUCKETS: usize = 1024;

    fn count(&self, value: u64) {
        let bucket = bucket(value) % Self::BUCKETS;
        OWN.with(|own| self.0[*own][bucket].fetch_add(1, Ordering::Relaxed));
    }
}

/// The power of two, and the four bits behind it.
fn bucket(value: u64) -> usize {
    let value = value | 1;
    let power = 63 - value.leading_zeros() as usize;
    if power < 4 {
        value as usize
    } else {
        ((power - 3) << 4) + ((value >> (power - 4)) & 15) as usize
    }
}

impl Default for Ladders {
    fn default() -> Self {
        Self(array::from_fn(|_| {
            (0..Self::BUCKETS).map(|_| AtomicU64::new(0)).collect()
        }))
    }
}

/// A cell for each thread, as near as nothing to a plain addition.
struct Cells([Cell; Cells::COUNT]);

#[derive(Default)]
#[repr(align(128))]
struct Cell(AtomicU64);

thread_local! {
    static OWN: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % Cells::COUNT
    };
}

impl Cells {
    const COUNT: usize = 16;

    fn add(&self) {
        OWN.with(|own| self.0[*own].0.fetch_add(1, Ordering::Relaxed));
    }
}

impl Default for Cells {
    fn default() -> Self {
        Self(array::from_fn(|_| Cell::default()))
    }
}
