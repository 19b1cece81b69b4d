//! How much may be on its way to a peer. Each side grants the other a window of bytes; what has been dealt with is granted anew.
//!
//! A frame may go as soon as any credit is left, whatever its size, so that none is too large for the window. Each service and each
//! group is a lane of its own, and a lane may take as much as is left free beside it: one that is stuck holds half of the window, and
//! two hold a third each, so that there is always something left for the others. (Dynamic thresholds, as in Choudhury and Hahne,
//! "Dynamic queue length thresholds for shared-memory packet switches", 1998.) A lane counts half of the window at most, so that one
//! long frame does not take it from the others; what is on its way is at most the window and two frames.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::ids::Fnv;

/// What every message costs beside its bytes: about what it takes in memory while it waits for its service.
pub(super) const EACH: usize = 256;

/// What a message of this many bytes costs.
pub(super) fn cost(bytes: usize) -> u64 {
    (bytes + EACH) as u64
}

/// Where messages go that are dealt with one after another. Both sides make the number of the name in the same way; two names with one
/// number would share what one has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Lane(pub(super) u64);

impl Lane {
    pub(super) fn service(name: &str) -> Self {
        Self::of(b's', name)
    }

    pub(super) fn group(name: &str) -> Self {
        Self::of(b'g', name)
    }

    fn of(kind: u8, name: &str) -> Self {
        Self(Fnv::EMPTY.and(&[kind]).and(name.as_bytes()).get())
    }
}

/// What one message has cost, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Charge {
    pub(super) lane: Lane,
    pub(super) cost: u64,
}

/// How much there is in each lane.
#[derive(Debug)]
struct Load {
    limit: u64,
    lanes: HashMap<Lane, u64, RandomState>,
    /// All of it.
    total: u64,
    /// The same with half of the limit for each lane at most.
    counted: u64,
}

impl Load {
    fn new(limit: u32) -> Self {
        Self {
            limit: u64::from(limit).max(1),
            lanes: HashMap::default(),
            total: 0,
            counted: 0,
        }
    }

    fn most(&self) -> u64 {
        self.limit.div_ceil(2)
    }

    fn of(&self, lane: Lane) -> u64 {
        self.lanes.get(&lane).copied().unwrap_or(0)
    }

    fn has_room(&self, lane: Lane) -> bool {
        self.of(lane).saturating_add(self.counted) < self.limit
    }

    fn add(&mut self, lane: Lane, cost: u64) {
        let most = self.most();
        let here = self.lanes.entry(lane).or_default();
        let before = *here;
        *here = here.saturating_add(cost);
        self.total += *here - before;
        self.counted += (*here).min(most) - before.min(most);
    }

    fn take(&mut self, lane: Lane, cost: u64) {
        let most = self.most();
        let Some(here) = self.lanes.get_mut(&lane) else {
            return;
        };
        let before = *here;
        *here = here.saturating_sub(cost);
        let after = *here;
        if after == 0 {
            self.lanes.remove(&lane);
        }
        self.total -= before - after;
        self.counted -= before.min(most) - after.min(most);
    }
}

/// The sender's side.
#[derive(Debug)]
pub(super) struct Window(Load);

impl Window {
    pub(super) fn new(limit: u32) -> Self {
        Self(Load::new(limit))
    }

    /// Takes credit, where there is any.
    pub(super) fn take(&mut self, charge: Charge) -> bool {
        let has_room = self.0.has_room(charge.lane);
        if has_room {
            self.0.add(charge.lane, charge.cost);
        }
        has_room
    }

    /// The peer has dealt with this much.
    pub(super) fn grant(&mut self, lane: Lane, bytes: u32) {
        self.0.take(lane, u64::from(bytes));
    }

    /// What it was taken for is dealt with.
    pub(super) fn give_back(&mut self, charge: Charge) {
        self.0.take(charge.lane, charge.cost);
    }

    pub(super) fn used(&self) -> u64 {
        self.0.total
    }
}

/// The receiver's side.
#[derive(Debug)]
pub(super) struct Ledger {
    /// What came and was not granted anew.
    held: Load,
    /// What of it has not been dealt with.
    busy: Load,
    /// What of it has.
    done: HashMap<Lane, u64, RandomState>,
}

impl Ledger {
    pub(super) fn new(limit: u32) -> Self {
        Self {
            held: Load::new(limit),
            busy: Load::new(limit),
            done: HashMap::default(),
        }
    }

    /// Something came. `false` when the peer had no credit for it: it does not keep to the rules.
    pub(super) fn came(&mut self, charge: Charge) -> bool {
        let allowed = self.held.has_room(charge.lane);
        self.held.add(charge.lane, charge.cost);
        self.busy.add(charge.lane, charge.cost);
        allowed
    }

    /// Something has been dealt with.
    pub(super) fn done(&mut self, charge: Charge) {
        let cost = charge.cost.min(self.busy.of(charge.lane));
        if cost > 0 {
            self.busy.take(charge.lane, cost);
            *self.done.entry(charge.lane).or_default() += cost;
        }
    }

    /// What to grant, once it is worth the frames: a quarter of what those who are stuck leave free. So whoever waits for credit gets
    /// it when all that is not stuck has been dealt with, however little that is.
    pub(super) fn grants(&mut self) -> impl Iterator<Item = (Lane, u32)> {
        let done = self.held.total - self.busy.total;
        let free = self.held.limit.saturating_sub(self.busy.counted);
        let is_due = done > 0 && done >= free / 4;
        let due = if is_due {
            std::mem::take(&mut self.done)
        } else {
            HashMap::default()
        };
        for (lane, done) in &due {
            self.held.take(*lane, *done);
        }
        let grant = |done| u32::try_from(done).unwrap_or(u32::MAX);
        due.into_iter().map(move |(lane, done)| (lane, grant(done)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn charge(lane: u64, cost: u64) -> Charge {
        Charge {
            lane: Lane(lane),
            cost,
        }
    }

    #[test]
    fn a_frame_larger_than_the_window_may_go_and_does_not_take_it_from_other_lanes() {
        let mut window = Window::new(10);
        assert!(window.take(charge(1, 1000)));
        assert!(!window.take(charge(1, 1)));
        assert!(window.take(charge(2, 1)));
        window.grant(Lane(1), 500);
        assert!(!window.take(charge(1, 1)));
        window.grant(Lane(1), 500);
        assert!(window.take(charge(1, 1)));
    }

    #[test]
    fn lanes_that_are_stuck_leave_something_for_each_other_one() {
        let mut window = Window::new(1000);
        for lane in 0..9 {
            let mut taken = 0;
            while window.take(charge(lane, 1)) {
                taken += 1;
            }
            let left = 1000 - window.used();
            assert!(
                taken > 0 && left > 0,
                "lane {lane} took {taken}, {left} are left"
            );
        }
    }

    #[test]
    fn who_sends_without_credit_is_found_out() {
        let mut ledger = Ledger::new(10);
        assert!(ledger.came(charge(1, 10)));
        assert!(!ledger.came(charge(1, 1)));
        assert!(ledger.came(charge(2, 1)));
    }

    #[test]
    fn services_and_groups_of_one_name_are_two_lanes() {
        assert_ne!(Lane::service("orders"), Lane::group("orders"));
        assert_eq!(Lane::service("orders"), Lane::service("orders"));
        // Both sides of a connection have to agree on it, also where they are of two versions.
        assert_eq!(Lane::service("a"), Lane(0x08d9_2f07_b579_22d9));
    }

    proptest! {
        /// Whatever is sent, dealt with and granted, in whatever order, and whichever lanes are stuck: an honest sender is never found
        /// out, neither side holds more than a window and two frames, and when all but the stuck is dealt with, every other lane can
        /// go on.
        #[test]
        fn both_sides_agree(
            limit in 1..2000_u32,
            stuck in 0..3_u64,
            steps in prop::collection::vec((0..4_u8, 0..6_u64, 1..900_u64), 0..300),
        ) {
            let (mut window, mut ledger) = (Window::new(limit), Ledger::new(limit));
            let (mut wire, mut waiting, mut grants) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
            let largest = 900;
            for (what, lane, cost) in steps {
                let one = charge(lane, cost);
                match what {
                    0 | 1 => if window.take(one) { wire.push_back(one) },
                    2 => if let Some(one) = wire.pop_front() {
                        prop_assert!(ledger.came(one));
                        waiting.push_back(one);
                        grants.extend(ledger.grants());
                    },
                    _ => {
                        if let Some(at) = waiting.iter().position(|one| one.lane.0 >= stuck) {
                            ledger.done(waiting.remove(at).expect("found"));
                            grants.extend(ledger.grants());
                        }
                        if let Some((lane, bytes)) = grants.pop_front() {
                            window.grant(lane, bytes);
                        }
                    }
                }
                prop_assert!(window.used() < u64::from(limit) + 2 * largest);
                prop_assert!(ledger.held.total <= window.used());
            }
            for one in wire {
                prop_assert!(ledger.came(one));
                waiting.push_back(one);
                grants.extend(ledger.grants());
            }
            for one in waiting {
                if one.lane.0 >= stuck {
                    ledger.done(one);
                    grants.extend(ledger.grants());
                }
            }
            for (lane, bytes) in grants {
                window.grant(lane, bytes);
            }
            if ledger.busy.counted < u64::from(limit) {
                for lane in stuck..6 {
                    prop_assert!(window.0.has_room(Lane(lane)), "lane {lane}");
                }
            }
        }
    }
}
