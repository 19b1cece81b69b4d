//! One cell for each thread that writes, made at its first write, each on cache lines of its own.

use super::{
    leases::{Plan, Slot},
    sync::{AtomicU64, OnceLock, Ordering},
};

/// Cells of `T` by thread slot. A series that one thread writes to has one cell.
#[derive(Debug)]
pub(super) struct Sharded<T> {
    own: Cells<T>,
    shared: Cells<T>,
}

type Cells<T> = Box<[OnceLock<Box<Padded<T>>>]>;

/// How many threads write to a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// The running thread only: plain loads and stores are exact.
    Alone,
    /// Several threads: read-modify-write instructions are needed.
    Shared,
}

/// 128 bytes: two lines, since x86 fetches lines in pairs and some ARM cores have lines of 128.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T: Default> Sharded<T> {
    /// Room for a cell in each slot of the plan.
    pub(super) fn of(plan: Plan) -> Self {
        let empty = |count| (0..count).map(|_| OnceLock::new()).collect();
        Self {
            own: empty(plan.own),
            shared: empty(plan.shared),
        }
    }

    /// The cell of the own slot with this number, if there is one.
    #[inline]
    pub(super) fn existing(&self, own: usize) -> Option<&T> {
        let cell = self.own.get(own)?.get()?;
        Some(&cell.0)
    }

    /// The cell of a slot, made if there is none, and whether its holder alone writes to it.
    pub(super) fn at(&self, slot: Slot) -> (&T, Writer) {
        let (cell, writer) = match slot {
            Slot::Own(index) => (&self.own[index], Writer::Alone),
            Slot::Shared(index) => (&self.shared[index], Writer::Shared),
        };
        (&cell.get_or_init(Box::default).0, writer)
    }

    /// Every cell that was ever written.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        let cells = self.own.iter().chain(&self.shared);
        cells.filter_map(|cell| cell.get().map(|padded| &padded.0))
    }
}

impl Writer {
    /// Adds to a number; exact in both cases.
    #[inline]
    pub(super) fn add(self, number: &AtomicU64, n: u64) {
        match self {
            Self::Alone => number.store(
                number.load(Ordering::Relaxed).wrapping_add(n),
                Ordering::Relaxed,
            ),
            Self::Shared => _ = number.fetch_add(n, Ordering::Relaxed),
        }
    }

    /// Replaces a float, kept as its bits, by what `change` makes of it; `None` leaves it.
    #[inline]
    pub(super) fn update(self, float: &AtomicU64, change: impl Fn(f64) -> Option<f64>) {
        let changed = |bits| change(f64::from_bits(bits)).map(f64::to_bits);
        match self {
            Self::Alone => {
                if let Some(bits) = changed(float.load(Ordering::Relaxed)) {
                    float.store(bits, Ordering::Relaxed);
                }
            }
            Self::Shared => _ = float.fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_give_the_same_number() {
        for writer in [Writer::Alone, Writer::Shared] {
            let number = AtomicU64::new(40);
            writer.add(&number, 2);
            assert_eq!(number.into_inner(), 42);

            let float = AtomicU64::new(1.5_f64.to_bits());
            writer.update(&float, |was| Some(was + 1.0));
            writer.update(&float, |_| None);
            assert_eq!(float.into_inner(), 2.5_f64.to_bits());
        }
    }
}
