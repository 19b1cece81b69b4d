//! Counting with a handle that is kept.

use std::{
    array,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use anyhow::Result;
use metrics_exporter_prometheus::PrometheusBuilder;
use prometheus_client::metrics::{counter::Counter, family::Family};
use underpin::telemetry::{Options, Telemetry};

use crate::{
    figure::{Figure, Goal, LIMIT, Sides, UNDERPIN, Unit},
    measure::nanoseconds,
};

pub const FIGURES: &[Figure] = &[
    Figure {
        name: "telemetry.counter.1t",
        unit: Unit::Nanoseconds,
        goals: COUNTER,
        sides: |sides| counter(sides, 1),
    },
    Figure {
        name: "telemetry.counter.2t",
        unit: Unit::Nanoseconds,
        goals: COUNTER,
        sides: |sides| counter(sides, 2),
    },
];

const COUNTER: &[Goal] = &[Goal::Ratio(1.3, LIMIT)];

/// Each thread adds one to the same counter with one label, again and again.
///
/// Not equal: `limit` has sixteen cells on cache lines of their own and gives one to each thread, for ever; underpin gives
/// cells back when threads end, and makes them when a thread first counts.
fn counter(sides: &mut Sides, threads: usize) -> Result<()> {
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
