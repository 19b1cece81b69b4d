//! Storing events of about 200 bytes of data: in memory, in batches, and safe on the disk.

mod durable;
mod engines;
mod inline;
mod material;
mod memory;
mod plain_log;
mod store;

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
];

const IN_MEMORY: &[Goal] = &[Goal::Ratio(0.8, LIMIT)];
