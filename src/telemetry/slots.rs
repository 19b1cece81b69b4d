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

/// The place of the running thread in every sharded metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) index: usize,
    pub(super) writer: Writer,
}

/// Who may write to a slot's cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// The running thread only: plain loads and stores are exact.
    Alone,
    /// Several threads: read-modify-write instructions are needed.
    Shared,
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
    // Without a destructor, so that it stays readable while the thread's other locals are dropped.
    static SLOT: Cell<Option<Slot>> = const { Cell::new(None) };
    static LEASE: Lease = take();
}

/// Gives an own slot back when its thread ends.
struct Lease(Slot);

/// How many slots there are, own and shared.
pub(super) fn count() -> usize {
    PLAN.own + PLAN.shared
}

/// The running thread's slot; the first call of a thread takes one.
#[inline]
pub(super) fn current() -> Slot {
    match SLOT.get() {
        Some(slot) => slot,
        None => enter(),
    }
}

#[cold]
fn enter() -> Slot {
    // A thread that counts for the first time while its locals are being dropped can hold no lease any more.
    let slot = LEASE.try_with(|lease| lease.0).unwrap_or_else(|_| shared());
    SLOT.set(Some(slot));
    slot
}

/// The lock on the free list is also what makes the former owner's stores visible to the next owner.
fn take() -> Lease {
    let own = FREE.lock().pop().map(|index| Slot {
        index,
        writer: Writer::Alone,
    });
    Lease(own.unwrap_or_else(shared))
}

fn shared() -> Slot {
    Slot {
        index: PLAN.own + NEXT_SHARED.fetch_add(1, Ordering::Relaxed) % PLAN.shared,
        writer: Writer::Shared,
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.0.writer == Writer::Alone {
            // Whatever this thread still counts goes to a shared slot: its own may have a new owner from here on.
            SLOT.set(Some(shared()));
            FREE.lock().push(self.0.index);
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

        let own: Vec<usize> = slots
            .iter()
            .filter(|slot| slot.writer == Writer::Alone)
            .map(|slot| slot.index)
            .collect();
        let distinct: HashSet<usize> = own.iter().copied().collect();
        assert_eq!(distinct.len(), own.len());
        assert!(slots.iter().all(|slot| slot.index < count()));
        assert!(slots.iter().any(|slot| slot.writer == Writer::Shared));
    }

    #[test]
    fn a_slot_comes_back_when_its_thread_ends() {
        for _ in 0..10 * PLAN.own {
            thread::spawn(current).join().expect("thread ends well");
        }
    }
}
