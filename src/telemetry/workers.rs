//! What tokio says about the runtime that the service runs on.

use std::time::Duration;

use tokio::runtime::RuntimeMetrics;

use super::{
    Gauge, Kind, MetricError,
    gauge::GaugeCell,
    registry::{Found, Registry},
    total::Total,
};

/// The figures that tokio gives without its unstable interface.
#[derive(Debug)]
pub(super) struct WorkerMetrics {
    workers: Gauge,
    alive_tasks: Gauge,
    queued: Gauge,
    busy: Total,
}

const NAMES: [(Kind, &str, &str); 4] = [
    (
        Kind::Gauge,
        "tokio_workers",
        "Worker threads of the runtime that telemetry runs on.",
    ),
    (
        Kind::Gauge,
        "tokio_alive_tasks",
        "Tasks that were spawned and have not ended.",
    ),
    (
        Kind::Gauge,
        "tokio_global_queue_depth",
        "Tasks that wait in the runtime's global queue.",
    ),
    (
        Kind::Counter,
        "tokio_busy_seconds",
        "Time that all workers spent running tasks.",
    ),
];

impl WorkerMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricError> {
        describe(registry)?;
        let [
            (_, workers, _),
            (_, alive_tasks, _),
            (_, queued, _),
            (_, busy, _),
        ] = NAMES;
        let gauge = |name| {
            registry
                .series::<GaugeCell>(name, &[])
                .map(Found::into_inner)
        };
        Ok(Self {
            workers: gauge(workers)?,
            alive_tasks: gauge(alive_tasks)?,
            queued: gauge(queued)?,
            busy: Total::new(registry, busy)?,
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    pub(super) fn show(&self, runtime: &RuntimeMetrics) {
        self.workers.set(runtime.num_workers() as f64);
        self.alive_tasks.set(runtime.num_alive_tasks() as f64);
        self.queued.set(runtime.global_queue_depth() as f64);
        self.busy.reached(busy(runtime));
    }
}

/// Tokio counts it where the machine has atomics of 64 bits.
#[cfg(target_has_atomic = "64")]
fn busy(runtime: &RuntimeMetrics) -> Duration {
    let workers = 0..runtime.num_workers();
    workers
        .map(|worker| runtime.worker_total_busy_duration(worker))
        .sum()
}

#[cfg(not(target_has_atomic = "64"))]
fn busy(_: &RuntimeMetrics) -> Duration {
    Duration::ZERO
}

/// Says what the metrics mean before there are any.
pub(super) fn describe(registry: &Registry) -> Result<(), MetricError> {
    NAMES
        .into_iter()
        .try_for_each(|(kind, name, help)| registry.describe(kind, name, &[], help))
}
