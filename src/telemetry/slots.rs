//! Which cell of a sharded metric belongs to the running thread.
//!
//! A thread takes a slot of its own at its first count and gives it back when it ends. As long as it holds it, nobody
//! else writes to that slot's cells, so that counting is a load and a store without a locked instruction. Threads that
//! come when all own slots are taken share a few others, which are written with locked instructions.
//!
//! Slots are about threads, hence the one thing here that is the process's and not a node's.

use std::{
    cell::Cell,
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use parking_lot::Mutex;

/// The place of the running thread in every sharded metric: an own slot, or one that it shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Slot {
    /// No other thread writes to this one: plain loads and stores are exact.
    Own(usize),
    /// Several threads write to this one: read-modify-write instructions are needed.
    Shared(usize),
}

/// How many slots the process has: 4 for each core belong to one thread (8 to 128; a tokio runtime has a worker per core,
/// beside it a few threads that block), 1 for each core is shared (4 to 16).
#[derive(Debug, Clone, Copy)]
struct Plan {
    own: usize,
    shared: usize,
}

static PLAN: LazyLock<Plan> = LazyLock::new(|| {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    Plan {
        own: (4 * cores).clamp(8, 128),
        shared: cores.clamp(4, 16),
    }
});
static FREE: LazyLock<Mutex<Vec<usize>>> =
    LazyLock::new(|| Mutex::new((0..PLAN.own).rev().collect()));
static NEXT_SHARED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    // The number of the own slot, or a number that no own slot has. A bare number without a destructor: reading it is one
    // instruction, and it stays readable while the thread's other locals are dropped.
    static OWN: Cell<usize> = const { Cell::new(usize::MAX) };
    static LEASE: Lease = take();
}

/// What a thread holds until it ends.
struct Lease(Slot);

/// How many own slots there are.
pub(super) fn own_count() -> usize {
    PLAN.own
}

/// How many shared slots there are.
pub(super) fn shared_count() -> usize {
    PLAN.shared
}

/// The running thread's own slot. A number that is not below [`own_count`] says that it has none, or has not asked
/// [`current`] for it yet.
#[inline]
pub(super) fn own() -> usize {
    OWN.get()
}

/// The running thread's slot; the first call of a thread takes one.
pub(super) fn current() -> Slot {
    // While the thread's locals are being dropped it can hold no lease any more.
    let slot = LEASE.try_with(|lease| lease.0).unwrap_or_else(|_| shared());
    if let Slot::Own(index) = slot {
        OWN.set(index);
    }
    slot
}

/// The lock on the free list is also what makes the former owner's stores visible to the next owner.
fn take() -> Lease {
    let own = FREE.lock().pop().map(Slot::Own);
    Lease(own.unwrap_or_else(shared))
}

fn shared() -> Slot {
    Slot::Shared(NEXT_SHARED.fetch_add(1, Ordering::Relaxed) % PLAN.shared)
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Slot::Own(index) = self.0 {
            // Whatever this thread still counts goes to a shared slot: its own may have a new owner from here on.
            OWN.set(usize::MAX);
            FREE.lock().push(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Barrier};

    use super::*;

    #[test]
    fn threads_that_live_at_the_same_time_never_own_the_same_slot() {
        let threads = PLAN.own + 20;
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
        assert!(own.len() <= PLAN.own && own.len() < slots.len());
    }

    #[test]
    fn a_slot_comes_back_when_its_thread_ends() {
        for _ in 0..10 * PLAN.own {
            thread::spawn(current).join().expect("thread ends well");
        }
    }
}
