//! How many requests may be in flight to one address: an atomic counter with waiters, not a semaphore.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use self::{line::Line, permit::Place};
use super::{Context, sys::Debug};

mod line;
mod permit;

pub use permit::Permit;

/// How many requests an [`Address`](super::Address) admits at once, and what happens to the next one.
///
/// ```
/// use underpin::otp::{Address, Admission, Reply};
///
/// enum Message { Print(Reply<()>) }
/// underpin::otp::message!(Message);
///
/// // Whoever comes eleventh is told at once that it is full, and may try again.
/// let printer: Address<Message> = Address::with_admission(Admission::refuse(10));
/// assert_eq!((printer.admitted(), printer.refused()), (0, 0));
/// # let _ = Message::Print;
/// ```
///
/// Callers that wait get their places in the order in which they came. One whose future is not polled (the other branch of a
/// `select!` takes its time) is passed by after a twentieth to a tenth of a second, and keeps its turn. While several wait, a task in
/// the tokio runtime of each sees to that. Those in a runtime without timers, or in none, rely on others to see to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    limit: usize,
    wait: bool,
}

impl Admission {
    /// At most `limit` requests in flight; callers beyond it wait for a place, within their own timeout.
    ///
    /// A limit of 0 is taken as 1: an address that admits nobody is of no use.
    #[must_use]
    pub fn wait(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            wait: true,
        }
    }

    /// At most `limit` requests in flight; callers beyond it are answered `Full` at once.
    ///
    /// A limit of 0 is taken as 1.
    #[must_use]
    pub fn refuse(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            wait: false,
        }
    }
}

impl Admission {
    /// For the runtime's own addresses, whose requests have other bounds.
    pub(crate) const NONE: Self = Self {
        limit: usize::MAX,
        wait: true,
    };
}

impl Default for Admission {
    /// 1024 in flight, callers wait: some milliseconds of work for a handler of microseconds, and bounded memory.
    fn default() -> Self {
        Self::wait(1024)
    }
}

/// The way into one address. Each permit holds a reference to the gate, and nobody else but this does: so the places that are
/// taken are counted by the references, and a message pays for one count and not for two.
#[derive(Debug)]
pub(crate) struct Door {
    gate: Arc<Gate>,
    admission: Admission,
}

/// What permits and replies find of their address.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Those that wait for a place. Nobody passes them by, unless the first one sleeps.
    waiting: AtomicUsize,
    /// Where they stand, made when somebody has to wait for the first time.
    line: OnceLock<Arc<Line>>,
    refused: AtomicU64,
    expired: AtomicU64,
    late: AtomicU64,
    /// Here, since replies find it here.
    debug: Debug,
}

impl Gate {
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Requests that were let go unanswered because their callers had left.
    pub(crate) fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }

    /// Answers that came when their callers had left.
    pub(crate) fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    pub(crate) fn debug(&self) -> &Debug {
        &self.debug
    }

    /// Counts a caller that was sent away.
    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_expired(&self) {
        self.expired.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_late(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
    }
}

impl Door {
    pub(crate) fn new(admission: Admission) -> Self {
        Self {
            gate: Arc::default(),
            admission,
        }
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(crate) fn waits(&self) -> bool {
        self.admission.wait
    }

    pub(crate) fn admitted(&self) -> usize {
        // For a moment, those count who find that there is no place.
        self.taken().min(self.admission.limit)
    }

    /// The door's own reference is no place.
    fn taken(&self) -> usize {
        Arc::strong_count(&self.gate) - 1
    }

    /// Takes a place if there is one and nobody waits for it.
    #[inline]
    pub(crate) fn try_enter(&self) -> Option<Permit> {
        if self.gate.waiting() > 0 && !self.gate.line.get().is_some_and(|line| line.sleeps()) {
            return None;
        }
        self.take_place()
    }

    /// Of several that come for one place at the same time, the last one to find it taken looks again: one of them gets it.
    #[inline]
    fn take_place(&self) -> Option<Permit> {
        while self.taken() < self.admission.limit {
            let place = Place(Some(Arc::clone(&self.gate)));
            if self.taken() <= self.admission.limit {
                return Some(Permit {
                    place,
                    context: Context::current_boxed(),
                });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_door_admits_again_when_a_permit_goes() {
        let door = Door::new(Admission::refuse(2));
        let first = door.try_enter().expect("first place");
        let _second = door.try_enter().expect("second place");

        assert!(door.try_enter().is_none());
        assert_eq!(door.admitted(), 2);
        drop(first);

        assert!(door.try_enter().is_some());
    }

    #[test]
    fn of_those_that_come_at_the_same_time_exactly_as_many_get_in_as_there_are_places() {
        const LIMIT: usize = 2;
        let door = Door::new(Admission::refuse(LIMIT));
        let (begin, end) = (std::sync::Barrier::new(4), std::sync::Barrier::new(4));
        let got_in = AtomicUsize::new(0);
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    for _ in 0..2000 {
                        begin.wait();
                        let permit = door.try_enter();
                        got_in.fetch_add(usize::from(permit.is_some()), Ordering::SeqCst);
                        end.wait();
                        assert_eq!(got_in.load(Ordering::SeqCst), LIMIT);
                        begin.wait();
                        got_in.store(0, Ordering::SeqCst);
                        drop(permit);
                        end.wait();
                    }
                });
            }
        });
    }
}
