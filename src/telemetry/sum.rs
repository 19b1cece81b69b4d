use std::sync::Arc;

use super::{
    sharded::{Sharded, Writer},
    sync::{AtomicU64, Ordering},
};

/// A counter of what does not come in whole numbers, such as seconds.
#[derive(Debug, Clone)]
pub(super) struct Sum(Arc<SumCells>);

/// The shared part of all handles to one sum: floats, kept as their bits.
#[derive(Debug)]
pub(super) struct SumCells(Sharded<AtomicU64>);

impl Sum {
    pub(super) fn over(cells: Arc<SumCells>) -> Self {
        Self(cells)
    }

    /// Adds what is not negative and not infinite; says whether it was.
    pub(super) fn add(&self, amount: f64) -> bool {
        let fits = amount.is_finite() && amount >= 0.0;
        if fits {
            let add = |sum| Some(sum + amount);
            if let Some(cell) = self.0.0.own() {
                Writer::Alone.update(cell, add);
            } else {
                let (cell, writer) = self.0.0.mine();
                writer.update(cell, add);
            }
        }
        fits
    }
}

impl SumCells {
    pub(super) fn new() -> Self {
        Self(Sharded::new())
    }

    pub(super) fn value(&self) -> f64 {
        let cells = self.0.iter().map(|cell| cell.load(Ordering::Relaxed));
        cells.map(f64::from_bits).fold(0.0, |sum, cell| sum + cell)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn amounts_from_many_threads_are_never_lost() {
        let cells = Arc::new(SumCells::new());
        let sum = Sum::over(Arc::clone(&cells));
        thread::scope(|scope| {
            for _ in 0..60 {
                scope.spawn(|| (0..500).for_each(|_| assert!(sum.add(0.5))));
            }
        });
        assert_eq!(cells.value().to_bits(), 15_000_f64.to_bits());
    }

    #[test]
    fn a_sum_never_falls() {
        let cells = Arc::new(SumCells::new());
        let sum = Sum::over(Arc::clone(&cells));
        assert!(sum.add(2.0));
        for bad in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(!sum.add(bad));
        }
        assert_eq!(cells.value().to_bits(), 2_f64.to_bits());
    }
}
