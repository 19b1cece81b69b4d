//! Who may write to which cell: slots that belong to one thread at a time, and slots that several share.

use super::sync::{AtomicUsize, Mutex, Ordering};

/// A thread's place in every sharded metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Slot {
    /// No other thread writes to this one: plain loads and stores are exact.
    Own(usize),
    /// Several threads write to this one: read-modify-write instructions are needed.
    Shared(usize),
}

/// How many slots there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) own: usize,
    pub(super) shared: usize,
}

/// The slots and who has them.
#[derive(Debug)]
pub(super) struct Leases {
    plan: Plan,
    free: Mutex<Vec<usize>>,
    next_shared: AtomicUsize,
}

impl Plan {
    /// 4 for each core belong to one thread (8 to 128; a tokio runtime has a worker per core, beside it a few threads that
    /// block), 1 for each core is shared (4 to 16).
    pub(super) fn for_cores(cores: usize) -> Self {
        Self {
            own: (4 * cores).clamp(8, 128),
            shared: cores.clamp(4, 16),
        }
    }
}

impl Leases {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            plan,
            free: Mutex::new((0..plan.own).rev().collect()),
            next_shared: AtomicUsize::new(0),
        }
    }

    pub(super) fn plan(&self) -> Plan {
        self.plan
    }

    /// An own slot while there is one. The lock on the free list is also what makes the former owner's stores visible to
    /// the next owner.
    pub(super) fn take(&self) -> Slot {
        let own = self.free.lock().pop().map(Slot::Own);
        own.unwrap_or_else(|| self.share())
    }

    /// A slot that others write to as well; need not be given back.
    pub(super) fn share(&self) -> Slot {
        Slot::Shared(self.next_shared.fetch_add(1, Ordering::Relaxed) % self.plan.shared)
    }

    /// Ends a lease. Whoever had it must not write to it any more.
    pub(super) fn give_back(&self, slot: Slot) {
        if let Slot::Own(index) = slot {
            self.free.lock().push(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_grows_with_the_cores_within_its_bounds() {
        let plan = |cores| {
            let Plan { own, shared } = Plan::for_cores(cores);
            (own, shared)
        };
        assert_eq!(plan(1), (8, 4));
        assert_eq!(plan(8), (32, 8));
        assert_eq!(plan(512), (128, 16));
    }

    #[test]
    fn a_slot_is_lent_to_one_at_a_time_and_shared_ones_take_turns() {
        let leases = Leases::new(Plan { own: 1, shared: 2 });

        assert_eq!(leases.take(), Slot::Own(0));
        assert_eq!(
            [leases.take(), leases.take(), leases.take()].map(|slot| slot == Slot::Own(0)),
            [false; 3]
        );
        assert_eq!(
            (leases.share(), leases.share()),
            (Slot::Shared(1), Slot::Shared(0))
        );

        leases.give_back(Slot::Shared(1));
        leases.give_back(Slot::Own(0));
        assert_eq!(leases.take(), Slot::Own(0));
    }
}
