use std::sync::Arc;

use super::sync::{AtomicBool, AtomicU64, Ordering};

/// A number that goes up and down, such as a queue's length. Cheap to clone; all handles with the same name and labels
/// show the same value, the one set last.
///
/// Integers are exact up to 2^53.
#[derive(Debug, Clone)]
pub struct Gauge(Arc<GaugeCell>);

/// The shared part of all handles to one gauge.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct GaugeCell {
    bits: AtomicU64,
    touched: AtomicBool,
}

impl Gauge {
    pub(super) fn over(cell: Arc<GaugeCell>) -> Self {
        Self(cell)
    }

    /// Sets the value.
    #[inline]
    pub fn set(&self, value: f64) {
        self.0.set(value);
    }

    /// Adds to the value; negative to take away. Additions from several threads are all kept.
    #[inline]
    pub fn add(&self, change: f64) {
        let changed = |bits| Some((f64::from_bits(bits) + change).to_bits());
        _ = self
            .0
            .bits
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed);
        self.0.touch();
    }

    /// Adds 1.
    #[inline]
    pub fn inc(&self) {
        self.add(1.0);
    }

    /// Takes 1 away.
    #[inline]
    pub fn dec(&self) {
        self.add(-1.0);
    }

    /// The value now.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.0.value()
    }
}

impl GaugeCell {
    #[inline]
    pub(super) fn set(&self, value: f64) {
        self.bits.store(value.to_bits(), Ordering::Relaxed);
        self.touch();
    }

    pub(super) fn value(&self) -> f64 {
        f64::from_bits(self.bits.load(Ordering::Relaxed))
    }

    /// Whether the gauge was written since it was last asked with [`take_touched`](Self::take_touched).
    pub(super) fn is_touched(&self) -> bool {
        self.touched.load(Ordering::Relaxed)
    }

    /// Written to only where there is something to take, so that an idle gauge's line stays with its readers. A write that
    /// comes between the two finds the flag still set, and belongs to what is taken.
    pub(super) fn take_touched(&self) -> bool {
        let touched = self.is_touched();
        if touched {
            self.touched.store(false, Ordering::Relaxed);
        }
        touched
    }

    /// Read first: most writes find the flag set and need not take the line from other readers.
    #[inline]
    fn touch(&self) {
        if !self.touched.load(Ordering::Relaxed) {
            self.touched.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn f82_a_gauge_shows_exactly_what_was_set_last() {
        let gauge = Gauge::over(Arc::default());
        for value in [0.0, 17.0, 17.0 * 3.0, 0.1, -999_999.0] {
            gauge.set(value);
            assert_eq!(gauge.value().to_bits(), value.to_bits());
        }
    }

    #[test]
    fn additions_from_several_threads_are_all_kept() {
        let gauge = Gauge::over(Arc::default());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|_| gauge.inc()));
                scope.spawn(|| (0..500).for_each(|_| gauge.dec()));
            }
        });
        assert_eq!(gauge.value().to_bits(), 2_000_f64.to_bits());
    }
}
