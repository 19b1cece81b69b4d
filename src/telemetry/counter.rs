use std::sync::Arc;

use super::{
    sharded::{Sharded, Writer},
    sync::{AtomicU64, Ordering},
};

/// A number that only grows, such as requests served. Cheap to clone; all clones and all handles with the same name and
/// labels count together.
///
/// Counting costs a few nanoseconds on any number of threads, never waits and never fails. What was counted before a
/// read began is in that read, exactly. Keep the handle: looking it up by name costs a hundred times as much.
///
/// Not for signal handlers.
#[derive(Debug, Clone)]
pub struct Counter(Arc<CounterCells>);

/// The shared part of all handles to one counter.
#[derive(Debug)]
pub(super) struct CounterCells(Sharded<AtomicU64>);

impl Counter {
    pub(super) fn over(cells: Arc<CounterCells>) -> Self {
        Self(cells)
    }

    /// Counts one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Counts `n` at once.
    #[inline]
    pub fn add(&self, n: u64) {
        match self.0.0.own() {
            Some(cell) => Writer::Alone.add(cell, n),
            None => self.0.add_anyhow(n),
        }
    }

    /// What was counted so far, by all handles.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.value()
    }
}

impl CounterCells {
    pub(super) fn new() -> Self {
        Self(Sharded::new())
    }

    #[inline(never)]
    fn add_anyhow(&self, n: u64) {
        let (cell, writer) = self.0.mine();
        writer.add(cell, n);
    }

    pub(super) fn value(&self) -> u64 {
        let cells = self.0.iter().map(|cell| cell.load(Ordering::Relaxed));
        cells.fold(0, u64::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn f81_increments_from_many_threads_are_never_lost() {
        let counter = Counter::over(Arc::new(CounterCells::new()));

        // More threads than own slots, so that shared slots are written to as well.
        thread::scope(|scope| {
            for _ in 0..150 {
                scope.spawn(|| (0..2_000).for_each(|_| counter.inc()));
            }
            scope.spawn(|| {
                let mut seen = 0;
                for _ in 0..2_000 {
                    let now = counter.value();
                    assert!(now >= seen, "a counter never goes back");
                    seen = now;
                }
            });
        });

        assert_eq!(counter.value(), 150 * 2_000);
    }

    #[test]
    fn f83_the_order_of_increments_does_not_matter() {
        let (rising, falling) = (
            Counter::over(Arc::new(CounterCells::new())),
            Counter::over(Arc::new(CounterCells::new())),
        );
        (0..100).for_each(|n| rising.add(n));
        (0..100).rev().for_each(|n| falling.add(n));
        assert_eq!(rising.value(), falling.value());
    }
}
