//! Events of about 200 bytes of data: stored in memory, in batches, and safe on the disk; found again.

mod durable;
mod engines;
mod finding;
mod inline;
mod material;
mod memory;
mod plain_log;
mod store;
mod upkeep;

use crate::figure::{Figure, Goal, LIMIT, Unit};

pub const FIGURES: &[Figure] = &[
    Figure {
        name: "events.store.1",
        unit: Unit::EventsPerSecond,
        goals: IN_MEMORY,
        sides: |sides| memory::store(sides, 1),
    },
    Figure {
        name: "events.store.64",
        unit: Unit::EventsPerSecond,
        goals: IN_MEMORY,
        sides: |sides| memory::store(sides, 64),
    },
    Figure {
        name: "events.batch.100",
        unit: Unit::EventsPerSecond,
        goals: IN_MEMORY,
        sides: |sides| memory::batch(sides, 100),
    },
    Figure {
        name: "events.batch.1000",
        unit: Unit::EventsPerSecond,
        goals: IN_MEMORY,
        sides: |sides| memory::batch(sides, 1000),
    },
    Figure {
        name: "events.durable.1",
        unit: Unit::EventsPerSecond,
        goals: &[Goal::Ratio(0.65, LIMIT)],
        sides: |sides| durable::batches(sides, 1),
    },
    Figure {
        name: "events.durable.100",
        unit: Unit::EventsPerSecond,
        goals: &[Goal::Ratio(0.5, LIMIT), Goal::BestPeer(1.8)],
        sides: |sides| durable::batches(sides, 100),
    },
    Figure {
        name: "events.durable.1000",
        unit: Unit::EventsPerSecond,
        goals: &[Goal::Ratio(0.55, LIMIT), Goal::BestPeer(1.8)],
        sides: |sides| durable::batches(sides, 1000),
    },
    Figure {
        name: "events.durable.64producers",
        unit: Unit::EventsPerSecond,
        goals: &[Goal::Ratio(1.0, LIMIT)],
        sides: durable::producers,
    },
    Figure {
        name: "events.correlation.hot",
        unit: Unit::Microseconds,
        goals: &[Goal::Ratio(1.5, LIMIT)],
        sides: finding::correlation_hot,
    },
    Figure {
        name: "events.correlation.cold",
        unit: Unit::Microseconds,
        goals: &[Goal::Ratio(2.0, "lmdb")],
        sides: finding::correlation_cold,
    },
    Figure {
        name: "events.kind_time",
        unit: Unit::Microseconds,
        goals: &[Goal::Ratio(1.0, "lmdb")],
        sides: finding::kind_time,
    },
    Figure {
        name: "events.write_beside_query",
        unit: Unit::EventsPerSecond,
        goals: &[Goal::Ratio(0.8, LIMIT)],
        sides: finding::write_beside_query,
    },
    Figure {
        name: "events.growth.100k",
        unit: Unit::Microseconds,
        goals: &[Goal::Ratio(2.0, finding::SMALL)],
        sides: |sides| finding::growth(sides, 100_000),
    },
    Figure {
        name: "events.growth.1m",
        unit: Unit::Microseconds,
        goals: &[Goal::Ratio(2.0, finding::SMALL)],
        sides: |sides| finding::growth(sides, 1_000_000),
    },
    Figure {
        name: "events.growth.10m",
        unit: Unit::Microseconds,
        goals: &[Goal::Ratio(2.0, finding::SMALL)],
        sides: |sides| finding::growth(sides, 10_000_000),
    },
    Figure {
        name: "events.growth.store.1m",
        unit: Unit::EventsPerSecond,
        goals: &[Goal::Ratio(0.5, finding::SMALL)],
        sides: |sides| finding::growth_of_storing(sides, 1_000_000),
    },
    Figure {
        name: "events.growth.store.10m",
        unit: Unit::EventsPerSecond,
        goals: &[Goal::Ratio(0.5, finding::SMALL)],
        sides: |sides| finding::growth_of_storing(sides, 10_000_000),
    },
    Figure {
        name: "events.open.1m",
        unit: Unit::Milliseconds,
        goals: &[Goal::Ratio(2.0, LIMIT), Goal::Value(300.0)],
        sides: |sides| upkeep::open(sides, 1_000_000, true),
    },
    Figure {
        name: "events.open.10m",
        unit: Unit::Milliseconds,
        goals: &[],
        sides: |sides| upkeep::open(sides, 10_000_000, false),
    },
    Figure {
        name: "events.prune.1m",
        unit: Unit::Milliseconds,
        goals: &[Goal::Ratio(2.0, LIMIT), Goal::Value(100.0)],
        sides: |sides| upkeep::prune(sides, 1_000_000, true),
    },
    Figure {
        name: "events.prune.10m",
        unit: Unit::Milliseconds,
        goals: &[],
        sides: |sides| upkeep::prune(sides, 10_000_000, false),
    },
    Figure {
        name: "events.bytes.hot",
        unit: Unit::Bytes,
        goals: &[Goal::Value(350.0)],
        sides: |sides| upkeep::hot_bytes(sides, 1_000_000),
    },
    Figure {
        name: "events.bytes.disk",
        unit: Unit::Bytes,
        goals: &[Goal::Value(200.0)],
        sides: |sides| upkeep::sealed_bytes(sides, 1_000_000),
    },
    Figure {
        name: "events.bytes.open.10m",
        unit: Unit::Bytes,
        goals: &[],
        sides: |sides| upkeep::open_bytes(sides, 10_000_000),
    },
];

const IN_MEMORY: &[Goal] = &[Goal::Ratio(0.8, LIMIT)];
