//! How many requests may be in flight to one address: an atomic counter with waiters, not a semaphore.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::sync::{Mutex, Notify};

use super::{Context, sys::Debug};

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

/// Two counters that only rise, since a single one would go back and forth between the caller's core and the actor's at
/// every message: callers write the one and look at the other only when there seems to be no place.
#[derive(Debug)]
pub(crate) struct Gate {
    entered: OwnLine<Entered>,
    left: OwnLine<AtomicU64>,
    admission: Admission,
    /// Those that wait for a place. Nobody passes them by.
    waiting: AtomicUsize,
    /// Where they stand in line; the first one looks for a place.
    line: Mutex<()>,
    freed: Notify,
    refused: AtomicU64,
    expired: AtomicU64,
    late: AtomicU64,
    /// Here, since replies find it here.
    debug: Debug,
}

/// What callers write.
#[derive(Debug, Default)]
struct Entered {
    count: AtomicU64,
    /// How many had left when that was last looked at.
    seen_left: AtomicU64,
}

/// 128 bytes: two cache lines, since x86 fetches them in pairs and some ARM cores have lines of 128.
#[derive(Debug, Default)]
#[repr(align(128))]
struct OwnLine<T>(T);

impl Gate {
    pub(crate) fn new(admission: Admission) -> Arc<Self> {
        Arc::new(Self {
            entered: OwnLine::default(),
            left: OwnLine::default(),
            admission,
            waiting: AtomicUsize::new(0),
            line: Mutex::new(()),
            freed: Notify::new(),
            refused: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            late: AtomicU64::new(0),
            debug: Debug::default(),
        })
    }

    pub(crate) fn waits(&self) -> bool {
        self.admission.wait
    }

    pub(crate) fn admitted(&self) -> usize {
        let left = self.left.0.load(Ordering::Relaxed);
        let entered = self.entered.0.count.load(Ordering::Relaxed);
        usize::try_from(entered.saturating_sub(left)).unwrap_or(usize::MAX)
    }

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

    /// Takes a place if there is one and nobody waits for it.
    #[inline]
    pub(crate) fn try_enter(self: &Arc<Self>) -> Option<Permit> {
        (self.waiting() == 0 && self.take_place()).then(|| self.permit())
    }

    fn permit(self: &Arc<Self>) -> Permit {
        Permit {
            gate: Arc::clone(self),
            context: Context::current_boxed(),
        }
    }

    fn take_place(&self) -> bool {
        let Entered { count, seen_left } = &self.entered.0;
        let mut entered = count.load(Ordering::Relaxed);
        loop {
            if self.is_full(entered, seen_left.load(Ordering::Relaxed)) {
                // In one order with a leaver's count and its look at who waits, so that one of the two sees the other.
                let left = self.left.0.load(Ordering::SeqCst);
                seen_left.fetch_max(left, Ordering::Relaxed);
                if self.is_full(entered, left) {
                    return false;
                }
            }
            // It only succeeds on the newest count, so that an older one, with which a full gate may look empty, does no harm.
            let more = count.compare_exchange_weak(
                entered,
                entered + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match more {
                Ok(_) => return true,
                Err(newer) => entered = newer,
            }
        }
    }

    fn is_full(&self, entered: u64, left: u64) -> bool {
        entered.saturating_sub(left) >= self.admission.limit as u64
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

    /// Waits for a place, first come first served. Cancel safe: a caller that gives up takes none.
    pub(crate) async fn enter(self: &Arc<Self>) -> Permit {
        if let Some(permit) = self.try_enter() {
            return permit;
        }
        let _waiting = Waiting::new(&self.waiting);
        let _first = self.line.lock().await;
        loop {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            if self.take_place() {
                return self.permit();
            }
            freed.await;
        }
    }

    fn leave(&self) {
        // In one order with a waiter's count and its look at the places, so that one of the two sees the other.
        self.left.0.fetch_add(1, Ordering::SeqCst);
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
    /// Mostly none; in its own place, since every byte of a message is copied several times on its way.
    context: Option<Box<Context>>,
}

impl Permit {
    /// The correlation that came with the request.
    #[must_use]
    pub fn context(&self) -> Context {
        self.context.as_deref().copied().unwrap_or_default()
    }

    pub(super) fn has_context(&self) -> bool {
        self.context.is_some()
    }

    /// Keeps the cause alone: what follows is a trace of its own.
    pub(super) fn link(&mut self) {
        if let Some(context) = &mut self.context {
            **context = context.linked();
        }
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
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

    #[tokio::test]
    async fn places_are_given_in_the_order_in_which_callers_came_and_nobody_passes_them_by() {
        let gate = Gate::new(Admission::wait(1));
        let held = gate.try_enter().expect("first place");
        let mut first = Box::pin(gate.enter());
        let mut second = Box::pin(gate.enter());
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        assert!(futures_util::poll!(second.as_mut()).is_pending());

        drop(held);

        assert!(gate.try_enter().is_none(), "two others wait");
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        let permit = first.await;
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(permit);
        let _permit = second.await;
        assert_eq!((gate.admitted(), gate.waiting()), (1, 0));
    }

    #[tokio::test]
    async fn a_place_that_was_meant_for_one_that_gives_up_goes_to_the_next() {
        let gate = Gate::new(Admission::wait(1));
        let held = gate.try_enter().expect("first place");
        let mut first = Box::pin(gate.enter());
        let mut second = Box::pin(gate.enter());
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(held);

        drop(first);

        let _permit = second.await;
        assert_eq!(gate.admitted(), 1);
    }

    proptest::proptest! {
        /// Against a plain list: what callers do, in any order, gives the places to those who came first and to no more than the limit.
        #[test]
        fn any_order_of_coming_leaving_and_giving_up_agrees_with_a_plain_list(
            limit in 1_usize..4,
            steps in proptest::collection::vec((0_u8..3, 0_usize..8), 1..60),
        ) {
            let gate = Gate::new(Admission::wait(limit));
            let (mut inside, mut outside) = (Vec::new(), Vec::new());
            let (mut model_inside, mut model_outside) = (Vec::new(), Vec::new());
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            for (number, (step, which)) in steps.into_iter().enumerate() {
                match step {
                    0 => {
                        outside.push((number, Box::pin(gate.enter())));
                        model_outside.push(number);
                    }
                    1 if !inside.is_empty() => {
                        let at = which % inside.len();
                        let (left, _permit): (usize, Permit) = inside.swap_remove(at);
                        model_inside.retain(|&other| other != left);
                    }
                    _ if !outside.is_empty() => {
                        let at = which % outside.len();
                        drop(outside.remove(at));
                        model_outside.remove(at);
                    }
                    _ => {}
                }
                let free = limit - model_inside.len();
                model_inside.extend(model_outside.drain(..free.min(model_outside.len())));
                // Twice: whoever gets in may be what the one before it in the list waits for.
                for _ in 0..2 {
                    outside.retain_mut(|(number, caller)| match caller.as_mut().poll(&mut cx) {
                        std::task::Poll::Pending => true,
                        std::task::Poll::Ready(permit) => {
                            inside.push((*number, permit));
                            false
                        }
                    });
                }
                let mut numbers: Vec<_> = inside.iter().map(|(number, _)| *number).collect();
                numbers.sort_unstable();
                model_inside.sort_unstable();
                proptest::prop_assert_eq!(numbers, model_inside.clone());
                proptest::prop_assert_eq!(gate.admitted(), model_inside.len());
            }
        }
    }
}
