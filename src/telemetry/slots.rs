//! Which cell of a sharded metric belongs to the running thread.
//!
//! A thread takes a slot of its own at its first count and gives it back when it ends. As long as it holds it, nobody
//! else writes to that slot's cells, so that counting is a load and a store without a locked instruction. Threads that
//! come when all own slots are taken share a few others, which are written with locked instructions.
//!
//! Slots are about threads, hence the one thing here that is the process's and not a node's.

use std::{cell::Cell, sync::LazyLock, thread};

use super::{
    leases::{Leases, Plan, Slot},
    sharded::{Sharded, Writer},
};

static LEASES: LazyLock<Leases> = LazyLock::new(|| {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    Leases::new(Plan::for_cores(cores))
});

thread_local! {
    // The number of the own slot, or a number that no own slot has. A bare number without a destructor: reading it is one
    // instruction, and it stays readable while the thread's other locals are dropped.
    static OWN: Cell<usize> = const { Cell::new(usize::MAX) };
    static LEASE: Lease = Lease(LEASES.take());
}

/// What a thread holds until it ends.
struct Lease(Slot);

impl<T: Default> Sharded<T> {
    pub(super) fn new() -> Self {
        Self::of(LEASES.plan())
    }

    /// The cell that the running thread alone writes to, if it has one here already: the common case, found with two
    /// comparisons. Otherwise ask [`mine`](Self::mine).
    #[inline]
    pub(super) fn own(&self) -> Option<&T> {
        self.existing(OWN.get())
    }

    /// The running thread's cell, made if there is none, and whether it alone writes to it.
    pub(super) fn mine(&self) -> (&T, Writer) {
        self.at(current())
    }
}

/// The running thread's slot; the first call of a thread takes one.
fn current() -> Slot {
    // While the thread's locals are being dropped it can hold no lease any more.
    let slot = LEASE
        .try_with(|lease| lease.0)
        .unwrap_or_else(|_| LEASES.share());
    if let Slot::Own(index) = slot {
        OWN.set(index);
    }
    slot
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Whatever this thread still counts goes to a shared slot: its own may have a new owner from here on.
        OWN.set(usize::MAX);
        LEASES.give_back(self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Barrier};

    use super::*;

    #[test]
    fn threads_that_live_at_the_same_time_never_own_the_same_slot() {
        let own_slots = LEASES.plan().own;
        let threads = own_slots + 20;
        let together = Barrier::new(threads);

        let slots: Vec<Slot> = thread::scope(|scope| {
            let running: Vec<_> = (0..threads)
                .map(|_| {
                    scope.spawn(|| {
                        let slot = current();
                        together.wait();
                        assert_eq!(slot, current());
                        slot
                    })
                })
                .collect();
            running
                .into_iter()
                .map(|one| one.join().expect("thread ends well"))
                .collect()
        });

        let is_own = |slot: &&Slot| matches!(slot, Slot::Own(_));
        let own: Vec<&Slot> = slots.iter().filter(is_own).collect();
        let distinct: HashSet<&Slot> = own.iter().copied().collect();
        assert_eq!(distinct.len(), own.len());
        assert!(own.len() <= own_slots && own.len() < slots.len());
    }

    #[test]
    fn a_slot_comes_back_when_its_thread_ends() {
        for _ in 0..10 * LEASES.plan().own {
            thread::spawn(current).join().expect("thread ends well");
        }
    }

    #[test]
    fn a_series_of_one_thread_has_one_cell() {
        let sharded = Sharded::<super::super::sync::AtomicU64>::new();
        for _ in 0..3 {
            let (cell, writer) = sharded.mine();
            writer.add(cell, 2);
        }
        let values: Vec<u64> = sharded
            .iter()
            .map(|cell| cell.load(super::super::sync::Ordering::Relaxed))
            .collect();
        assert_eq!(values, [6]);
    }
}
