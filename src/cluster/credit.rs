//! How much may be on its way to a peer. Each side grants the other a window of bytes; what has been dealt with is granted anew.
//!
//! A frame may go as soon as any credit is left, whatever its size, so that none is too large for the window: what is on its way
//! is at most the window and one frame.

/// What every message costs beside its bytes: about what it takes in memory while it waits for its service.
pub(super) const EACH: usize = 256;

/// What a message of this many bytes costs.
pub(super) fn cost(bytes: usize) -> u64 {
    (bytes + EACH) as u64
}

/// The sender's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    limit: u64,
    used: u64,
}

impl Window {
    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit: u64::from(limit).max(1),
            used: 0,
        }
    }

    /// Takes credit, where there is any.
    pub(super) fn take(&mut self, cost: u64) -> bool {
        let has_any = self.has_any();
        if has_any {
            self.used = self.used.saturating_add(cost);
        }
        has_any
    }

    pub(super) fn has_any(self) -> bool {
        self.used < self.limit
    }

    /// The peer has dealt with this much. Says whether credit is there where none was.
    pub(super) fn grant(&mut self, bytes: u32) -> bool {
        let had = self.has_any();
        self.used = self.used.saturating_sub(u64::from(bytes));
        !had && self.has_any()
    }

    pub(super) fn used(self) -> u64 {
        self.used
    }
}

/// The receiver's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ledger {
    limit: u64,
    /// What came and was not granted anew.
    held: u64,
    /// What of it has been dealt with.
    done: u64,
}

impl Ledger {
    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit: u64::from(limit).max(1),
            held: 0,
            done: 0,
        }
    }

    /// Something came. `false` when the peer had no credit for it: it does not keep to the rules.
    pub(super) fn came(&mut self, cost: u64) -> bool {
        let allowed = self.held < self.limit;
        self.held = self.held.saturating_add(cost);
        allowed
    }

    /// Something has been dealt with. Gives what to grant, once it is worth a frame: a quarter of the window.
    pub(super) fn done(&mut self, cost: u64) -> Option<u32> {
        self.done = (self.done + cost).min(self.held);
        let due = self.done >= self.limit.div_ceil(4);
        due.then(|| {
            let granted = u32::try_from(self.done).unwrap_or(u32::MAX);
            self.done -= u64::from(granted);
            self.held -= u64::from(granted);
            granted
        })
    }

    #[cfg(test)]
    fn held(self) -> u64 {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_larger_than_the_window_may_go_alone() {
        let mut window = Window::new(10);
        assert!(window.take(1000));
        assert!(!window.take(1));
        assert!(!window.grant(500));
        assert!(window.grant(500));
        assert!(window.take(1));
    }

    #[test]
    fn who_sends_without_credit_is_found_out() {
        let mut ledger = Ledger::new(10);
        assert!(ledger.came(10));
        assert!(!ledger.came(1));
    }

    proptest! {
        /// Whatever is sent, dealt with and granted, in whatever order: an honest sender is never found out, neither side holds more
        /// than a window and a frame, and when all is dealt with the sender can go on.
        #[test]
        fn both_sides_agree(limit in 1..2000_u32, steps in prop::collection::vec((0..3_u8, 1..3000_u64), 0..200)) {
            let (mut window, mut ledger) = (Window::new(limit), Ledger::new(limit));
            let (mut wire, mut waiting, mut grants) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
            let largest = 3000;
            for (what, cost) in steps {
                match what {
                    0 => if window.take(cost) { wire.push_back(cost) },
                    1 => if let Some(cost) = wire.pop_front() {
                        prop_assert!(ledger.came(cost));
                        waiting.push_back(cost);
                    },
                    _ => {
                        if let Some(cost) = waiting.pop_front() {
                            grants.extend(ledger.done(cost));
                        }
                        if let Some(granted) = grants.pop_front() {
                            window.grant(granted);
                        }
                    }
                }
                prop_assert!(window.used() < u64::from(limit) + largest);
                prop_assert!(ledger.held() <= window.used());
            }
            for cost in wire {
                prop_assert!(ledger.came(cost));
                waiting.push_back(cost);
            }
            for cost in waiting {
                grants.extend(ledger.done(cost));
            }
            for granted in grants {
                window.grant(granted);
            }
            prop_assert!(window.has_any());
        }
    }
}
