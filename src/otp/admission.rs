//! How many requests may be in flight to one address: an atomic counter with waiters, not a semaphore.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use super::Context;

/// How many requests an [`Address`](super::Address) admits at once, and what happens to the next one.
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

#[derive(Debug)]
pub(crate) struct Gate {
    admission: Admission,
    in_flight: AtomicUsize,
    waiting: AtomicUsize,
    refused: AtomicU64,
    freed: Notify,
}

impl Gate {
    pub(crate) fn new(admission: Admission) -> Arc<Self> {
        Arc::new(Self {
            admission,
            in_flight: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            freed: Notify::new(),
        })
    }

    pub(crate) fn waits(&self) -> bool {
        self.admission.wait
    }

    pub(crate) fn admitted(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Takes a place if there is one.
    pub(crate) fn try_enter(self: &Arc<Self>) -> Option<Permit> {
        let limit = self.admission.limit;
        let more = |now: usize| (now < limit).then_some(now + 1);
        let taken = self
            .in_flight
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        taken.ok().map(|_| Permit {
            gate: Arc::clone(self),
            context: Context::current(),
        })
    }

    /// Counts a caller that was sent away.
    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for a place. Cancel safe: a caller that gives up takes none.
    pub(crate) async fn enter(self: &Arc<Self>) -> Permit {
        if let Some(permit) = self.try_enter() {
            return permit;
        }
        let _waiting = Waiting::new(&self.waiting);
        loop {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            if let Some(permit) = self.try_enter() {
                return permit;
            }
            freed.await;
        }
    }

    fn leave(&self) {
        // In one order with a waiter's count and its look at the places, so that one of the two sees the other.
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_one();
        }
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A place among the requests that an address admits. Dropping it gives the place back.
///
/// Put it into a cast's message variant and let it go when the work is done.
pub struct Permit {
    gate: Arc<Gate>,
    context: Context,
}

impl Permit {
    /// The correlation that came with the request.
    #[must_use]
    pub fn context(&self) -> Context {
        self.context
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.leave();
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_gate_admits_again_when_a_permit_goes() {
        let gate = Gate::new(Admission::refuse(2));
        let first = gate.try_enter().expect("first place");
        let _second = gate.try_enter().expect("second place");

        assert!(gate.try_enter().is_none());
        assert_eq!(gate.admitted(), 2);
        drop(first);

        assert!(gate.try_enter().is_some());
    }

    #[tokio::test]
    async fn a_waiting_caller_gets_the_place_that_is_given_back() {
        let gate = Gate::new(Admission::wait(1));
        let held = gate.try_enter().expect("first place");
        let waiter = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.enter().await }
        });
        tokio::task::yield_now().await;

        drop(held);

        let _permit = waiter.await.expect("the waiter gets its place");
        assert_eq!(gate.admitted(), 1);
    }

    #[tokio::test]
    async fn a_caller_that_gives_up_waiting_leaves_nothing_behind() {
        let gate = Gate::new(Admission::wait(1));
        let held = gate.try_enter().expect("first place");
        {
            let mut waiting = Box::pin(gate.enter());
            assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        }

        drop(held);

        assert_eq!(gate.admitted(), 0);
        assert_eq!(gate.waiting.load(Ordering::SeqCst), 0);
        assert!(gate.try_enter().is_some());
    }
}
