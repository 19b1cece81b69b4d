//! How many requests may be in flight to one address: an atomic counter with waiters, not a semaphore.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, compiler_fence, fence},
    },
    time::Duration,
};

use crossbeam_utils::CachePadded;
use tokio::{
    sync::{Mutex, MutexGuard, Notify},
    time,
};

use super::{Context, sys::Debug, waiting::Waiting};

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
/// `select!` takes its time) is passed by after a twentieth of a second, and keeps its turn.
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
    line: OnceLock<Box<Line>>,
    /// The first in line is not polled, and does not take the place that it was woken for: it must not shut out all others.
    asleep: AtomicBool,
    refused: AtomicU64,
    expired: AtomicU64,
    late: AtomicU64,
    /// Here, since replies find it here.
    debug: Debug,
}

/// Those that wait for a place at one gate.
#[derive(Debug, Default)]
struct Line {
    /// The first one looks for a place.
    first: Mutex<()>,
    /// How many have been first.
    turns: AtomicU64,
}

/// Where those wait who are first in line at their gates. Of the whole process, since whoever gives a place back must not look
/// at the gate after that: it may have gone with the place. Gates that share a lot wake each other in vain at times.
struct Lot {
    waiting: AtomicUsize,
    freed: Notify,
}

/// How long a place lies there for the first in line: far longer than a task that was woken takes to run.
const PATIENCE: Duration = Duration::from_millis(50);

static LOTS: [CachePadded<Lot>; 64] = [const { CachePadded::new(Lot::new()) }; 64];

impl Lot {
    const fn new() -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            freed: Notify::const_new(),
        }
    }

    fn of(gate: &Arc<Gate>) -> &'static Self {
        // No two gates are closer to each other than this.
        let number = Arc::as_ptr(gate).addr() / 64;
        &LOTS[number % LOTS.len()]
    }
}

/// Puts a count of references before a look at something else. What x86 counts with does so itself; its fence would cost as
/// much again.
fn in_order() {
    if cfg!(target_arch = "x86_64") {
        compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
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
        if self.gate.waiting() > 0 && !self.gate.asleep.load(Ordering::Relaxed) {
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

    /// Waits for a place, first come first served. Cancel safe: a caller that gives up takes none. One that is not polled keeps its
    /// place in line, and is passed by while it does not take what is there for it.
    pub(crate) async fn enter(&self) -> Permit {
        if let Some(permit) = self.try_enter() {
            return permit;
        }
        let _waiting = Waiting::new(&self.gate.waiting);
        let line = self.gate.line.get_or_init(Box::default);
        let first = match line.first.try_lock() {
            Ok(first) => first,
            // In its own place: a caller's future would be larger by it.
            Err(_) => match Box::pin(self.queue(line)).await {
                Queued::First(first) => first,
                Queued::PassedBy(permit) => return permit,
            },
        };
        let _turn = Turn {
            gate: &self.gate,
            line,
            _first: first,
        };
        let lot = Lot::of(&self.gate);
        let _in_lot = Waiting::new(&lot.waiting);
        loop {
            let mut freed = pin!(lot.freed.notified());
            freed.as_mut().enable();
            // A leaver gives its place back and then looks who waits: one of the two sees the other.
            in_order();
            if let Some(permit) = self.take_place() {
                return permit;
            }
            freed.await;
        }
    }

    async fn queue<'a>(&self, line: &'a Line) -> Queued<'a> {
        tokio::select! {
            biased;
            first = line.first.lock() => Queued::First(first),
            permit = self.pass_by(line) => Queued::PassedBy(permit),
        }
    }

    /// Takes a place that the first in line lets lie: it is there, and nobody's turn has come, in two looks.
    async fn pass_by(&self, line: &Line) -> Permit {
        let (gate, lot) = (&self.gate, Lot::of(&self.gate));
        let mut let_lie = None;
        loop {
            if !gate.asleep.load(Ordering::SeqCst) {
                time::sleep(PATIENCE).await;
                let is_there = self.taken() < self.admission.limit;
                let now = is_there.then(|| line.turns.load(Ordering::SeqCst));
                if now.is_some() && now == let_lie {
                    gate.asleep.store(true, Ordering::SeqCst);
                }
                let_lie = now;
                continue;
            }
            let _in_lot = Waiting::new(&lot.waiting);
            let mut freed = pin!(lot.freed.notified());
            freed.as_mut().enable();
            in_order();
            if let Some(permit) = self.take_place() {
                return permit;
            }
            // Or it has woken, and there is a line again.
            let _ = time::timeout(PATIENCE, freed).await;
        }
    }
}

enum Queued<'a> {
    First(MutexGuard<'a, ()>),
    PassedBy(Permit),
}

/// Somebody is first in line, and awake when this goes.
struct Turn<'a> {
    gate: &'a Gate,
    line: &'a Line,
    _first: MutexGuard<'a, ()>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.line.turns.fetch_add(1, Ordering::SeqCst);
        self.gate.asleep.store(false, Ordering::SeqCst);
    }
}

/// A place that is taken. There until it is dropped.
struct Place(Option<Arc<Gate>>);

impl Drop for Place {
    #[inline]
    fn drop(&mut self) {
        let Some(gate) = self.0.take() else { return };
        let lot = Lot::of(&gate);
        drop(gate);
        in_order();
        if lot.waiting.load(Ordering::SeqCst) > 0 {
            lot.freed.notify_waiters();
        }
    }
}

/// A place that was given back.
pub(super) struct GivenBack(Weak<Gate>);

impl GivenBack {
    /// The caller had given up at the very last.
    pub(super) fn count_late(self) {
        // Whoever looks for a place meanwhile finds this one taken, and is woken when it goes.
        let place = Place(self.0.upgrade());
        if let Some(gate) = &place.0 {
            gate.count_late();
        }
    }
}

/// A place among the requests that an address admits. Dropping it gives the place back.
///
/// Put it into a cast's message variant and let it go when the work is done.
pub struct Permit {
    place: Place,
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

    /// Gives the place back, before the rest goes.
    pub(super) fn give_back(&mut self) -> GivenBack {
        let place = Place(self.place.0.take());
        GivenBack(place.0.as_ref().map_or_else(Weak::new, Arc::downgrade))
    }

    pub(crate) fn gate(&self) -> &Gate {
        self.place
            .0
            .as_deref()
            .expect("a place is taken until it is dropped")
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
    fn a_full_door_admits_again_when_a_permit_goes() {
        let door = Door::new(Admission::refuse(2));
        let first = door.try_enter().expect("first place");
        let _second = door.try_enter().expect("second place");

        assert!(door.try_enter().is_none());
        assert_eq!(door.admitted(), 2);
        drop(first);

        assert!(door.try_enter().is_some());
    }

    #[tokio::test]
    async fn a_waiting_caller_gets_the_place_that_is_given_back() {
        let door = Arc::new(Door::new(Admission::wait(1)));
        let held = door.try_enter().expect("first place");
        let waiter = tokio::spawn({
            let door = Arc::clone(&door);
            async move { door.enter().await }
        });
        tokio::task::yield_now().await;

        drop(held);

        let _permit = waiter.await.expect("the waiter gets its place");
        assert_eq!(door.admitted(), 1);
    }

    #[tokio::test]
    async fn a_caller_that_gives_up_waiting_leaves_nothing_behind() {
        let door = Door::new(Admission::wait(1));
        let held = door.try_enter().expect("first place");
        {
            let mut waiting = Box::pin(door.enter());
            assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        }

        drop(held);

        assert_eq!(door.admitted(), 0);
        assert_eq!(door.gate().waiting(), 0);
        assert!(door.try_enter().is_some());
    }

    #[tokio::test]
    async fn places_are_given_in_the_order_in_which_callers_came_and_nobody_passes_them_by() {
        let door = Door::new(Admission::wait(1));
        let held = door.try_enter().expect("first place");
        let mut first = Box::pin(door.enter());
        let mut second = Box::pin(door.enter());
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        assert!(futures_util::poll!(second.as_mut()).is_pending());

        drop(held);

        assert!(door.try_enter().is_none(), "two others wait");
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        let permit = first.await;
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(permit);
        let _permit = second.await;
        assert_eq!((door.admitted(), door.gate().waiting()), (1, 0));
    }

    #[tokio::test]
    async fn a_place_that_was_meant_for_one_that_gives_up_goes_to_the_next() {
        let door = Door::new(Admission::wait(1));
        let held = door.try_enter().expect("first place");
        let mut first = Box::pin(door.enter());
        let mut second = Box::pin(door.enter());
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(held);

        drop(first);

        let _permit = second.await;
        assert_eq!(door.admitted(), 1);
    }

    /// A caller that had stood first in line and was not polled any more, as in a `select!` whose other branch takes its time, shut
    /// the address for everybody.
    #[tokio::test(start_paused = true)]
    async fn one_that_is_not_polled_is_passed_by_and_keeps_its_place_in_line() {
        const LONG: Duration = Duration::from_secs(1);
        let door = Door::new(Admission::wait(1));
        let held = door.try_enter().expect("first place");
        let mut sleeper = Box::pin(door.enter());
        let mut second = Box::pin(door.enter());
        assert!(futures_util::poll!(sleeper.as_mut()).is_pending());
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(held);

        let permit = time::timeout(LONG, second).await.expect("gets in");
        // One that comes now waits for the place, and not for the sleeper.
        let third = time::timeout(LONG, door.enter());
        let leave = async {
            time::sleep(PATIENCE / 2).await;
            drop(permit);
        };
        let begin = time::Instant::now();
        let (third, ()) = tokio::join!(third, leave);
        let permit = third.expect("gets in");
        assert!(begin.elapsed() <= 2 * PATIENCE);
        drop(permit);
        drop(door.try_enter().expect("the sleeper is passed by"));

        let permit = time::timeout(LONG, sleeper).await.expect("gets in");
        let mut first = Box::pin(door.enter());
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        drop(permit);
        assert!(door.try_enter().is_none(), "there is a line again");
        drop(first.await);
        assert_eq!((door.admitted(), door.gate().waiting()), (0, 0));
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

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_waiting_caller_is_forgotten_and_no_more_are_in_than_may() {
        const LIMIT: usize = 2;
        let door = Arc::new(Door::new(Admission::wait(LIMIT)));
        let inside = Arc::new(AtomicUsize::new(0));
        let callers = (0..8).map(|_| {
            let (door, inside) = (Arc::clone(&door), Arc::clone(&inside));
            tokio::spawn(async move {
                for _ in 0..2000 {
                    let permit = door.enter().await;
                    assert!(inside.fetch_add(1, Ordering::SeqCst) < LIMIT);
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(permit);
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.expect("gets in each time");
        }
        assert_eq!((door.admitted(), door.gate().waiting()), (0, 0));
    }

    proptest::proptest! {
        /// Against a plain list: what callers do, in any order, gives the places to those who came first and to no more than the limit.
        #[test]
        fn any_order_of_coming_leaving_and_giving_up_agrees_with_a_plain_list(
            limit in 1_usize..4,
            steps in proptest::collection::vec((0_u8..3, 0_usize..8), 1..60),
        ) {
            // Those that wait have a timer; it never fires here.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let runtime = runtime.expect("can be built");
            let _in_it = runtime.enter();
            let door = Door::new(Admission::wait(limit));
            let (mut inside, mut outside) = (Vec::new(), Vec::new());
            let (mut model_inside, mut model_outside) = (Vec::new(), Vec::new());
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            for (number, (step, which)) in steps.into_iter().enumerate() {
                match step {
                    0 => {
                        outside.push((number, Box::pin(door.enter())));
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
                proptest::prop_assert_eq!(door.admitted(), model_inside.len());
            }
        }
    }
}
