use std::time::Duration;

use super::{
    MetricError,
    clock::nanoseconds,
    registry::{Found, Registry},
    sum::{Sum, SumCells},
    sync::{AtomicU64, Ordering},
};

/// A counter of seconds that somebody else counts, and that is looked at now and then.
#[derive(Debug)]
pub(super) struct Total {
    shown: Sum,
    /// How far it was seen, in ns.
    seen: AtomicU64,
}

impl Total {
    pub(super) fn new(registry: &Registry, name: &str) -> Result<Self, MetricError> {
        let shown = registry.series::<SumCells>(name, &[])?;
        Ok(Self {
            shown: Found::into_inner(shown),
            seen: AtomicU64::new(0),
        })
    }

    /// Shows that it has come so far. What is older than what was seen before changes nothing.
    pub(super) fn reached(&self, total: Duration) {
        let total = nanoseconds(total);
        let before = self.seen.fetch_max(total, Ordering::Relaxed);
        let more = Duration::from_nanos(total.saturating_sub(before));
        self.shown.add(more.as_secs_f64());
    }
}
