//! Counting, executing, reading.

mod counting;
mod executing;
mod reading;

use crate::figure::{Figure, Goal, LIMIT, Unit};

pub const FIGURES: &[Figure] = &[
    Figure {
        name: "telemetry.counter.1t",
        unit: Unit::Nanoseconds,
        goals: COUNTER,
        sides: |sides| counting::counter(sides, 1),
    },
    Figure {
        name: "telemetry.counter.2t",
        unit: Unit::Nanoseconds,
        goals: COUNTER,
        sides: |sides| counting::counter(sides, 2),
    },
    Figure {
        name: "telemetry.histogram.1t",
        unit: Unit::Nanoseconds,
        goals: HISTOGRAM,
        sides: |sides| counting::histogram(sides, 1),
    },
    Figure {
        name: "telemetry.histogram.2t",
        unit: Unit::Nanoseconds,
        goals: HISTOGRAM,
        sides: |sides| counting::histogram(sides, 2),
    },
    Figure {
        name: "telemetry.execute.0",
        unit: Unit::Nanoseconds,
        goals: &[Goal::Value(40.0)],
        sides: |sides| executing::execute(sides, 0),
    },
    Figure {
        name: "telemetry.execute.1",
        unit: Unit::Nanoseconds,
        goals: &[Goal::Value(80.0)],
        sides: |sides| executing::execute(sides, 1),
    },
    Figure {
        name: "telemetry.execute.4",
        unit: Unit::Nanoseconds,
        goals: &[Goal::Value(200.0)],
        sides: |sides| executing::execute(sides, 4),
    },
    // Ten times the best that Elixir reached at this work, 1.6 million events a second.
    Figure {
        name: "telemetry.aggregated",
        unit: Unit::EventsPerSecond,
        goals: &[Goal::Value(16e6)],
        sides: executing::aggregated,
    },
    Figure {
        name: "telemetry.tagged",
        unit: Unit::EventsPerSecond,
        goals: &[Goal::Ratio(1.0, "metrics")],
        sides: executing::tagged,
    },
    Figure {
        name: "telemetry.snapshot",
        unit: Unit::Milliseconds,
        goals: &[Goal::Value(1.0)],
        sides: reading::snapshot,
    },
    Figure {
        name: "telemetry.render",
        unit: Unit::Milliseconds,
        goals: &[Goal::BestPeer(1.0)],
        sides: reading::render,
    },
    Figure {
        name: "telemetry.beside_snapshots",
        unit: Unit::Nanoseconds,
        goals: &[Goal::Ratio(1.3, LIMIT)],
        sides: reading::beside_snapshots,
    },
];

const COUNTER: &[Goal] = &[Goal::Ratio(1.3, LIMIT)];
const HISTOGRAM: &[Goal] = &[Goal::Ratio(1.5, LIMIT)];
