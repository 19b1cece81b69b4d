//! What the sealer waits for, and what it says.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Between those who find something for the sealer to do and the sealer.
#[derive(Debug)]
pub(in crate::events) struct Rolled {
    sealing: Mutex<Sealing>,
    /// Signalled when there is something to do, or nothing ever again.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Sealing {
    waits: bool,
    ended: bool,
    /// Why a segment could not be sealed, or an index not made anew.
    trouble: Option<String>,
}

impl Rolled {
    /// An opened log may have left some to be sealed.
    pub(super) fn new() -> Self {
        let sealing = Sealing {
            waits: true,
            ..Sealing::default()
        };
        Self {
            sealing: Mutex::new(sealing),
            changed: Condvar::new(),
        }
    }

    /// There may be something to seal, or an index to be made anew.
    pub(in crate::events) fn wake(&self) {
        self.sealing.lock().waits = true;
        self.changed.notify_one();
    }

    /// Nothing is to be sealed any more.
    pub(super) fn end(&self) {
        self.sealing.lock().ended = true;
        self.changed.notify_one();
    }

    /// For the sealer: waits until there may be something to do, or as long as told; false if there never will be again.
    pub(in crate::events) fn wait(&self, patience: Option<Duration>) -> bool {
        let mut sealing = self.sealing.lock();
        let deadline = patience.map(|patience| Instant::now() + patience);
        while !sealing.waits && !sealing.ended {
            match deadline {
                Some(deadline) if self.changed.wait_until(&mut sealing, deadline).timed_out() => {
                    break;
                }
                Some(_) => {}
                None => self.changed.wait(&mut sealing),
            }
        }
        sealing.waits = false;
        !sealing.ended
    }

    /// Whether nothing is to be sealed any more.
    pub(in crate::events) fn has_ended(&self) -> bool {
        self.sealing.lock().ended
    }

    pub(in crate::events) fn set_trouble(&self, trouble: Option<String>) {
        self.sealing.lock().trouble = trouble;
    }

    /// What stands in the sealer's way.
    pub(in crate::events) fn trouble(&self) -> Option<String> {
        self.sealing.lock().trouble.clone()
    }
}
