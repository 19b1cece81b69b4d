//! Those that wait for a place at one gate: first come, first served, and whoever sleeps is passed by.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, compiler_fence, fence},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use crossbeam_utils::CachePadded;
use tokio::{
    runtime::{self, Handle},
    sync::{Mutex, MutexGuard, Notify},
    task::unconstrained,
    time,
};

use super::{Door, Gate, Permit};
use crate::otp::waiting::Waiting;

/// Those that wait for a place at one gate.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// The first one looks for a place.
    first: Mutex<()>,
    /// How many have been first.
    turns: AtomicU64,
    /// The first in line is not polled, and does not take the place that it was woken for: it must not shut out all others.
    asleep: AtomicBool,
    /// How many stand behind the first.
    behind: AtomicUsize,
    /// The runtimes in which a task looks whether the first in line sleeps. None relies on another one's: that may be there and not
    /// be driven.
    watched: parking_lot::Mutex<Vec<runtime::Id>>,
    /// The first in line sleeps, or nobody looks any more.
    changed: Notify,
}

/// Where those wait who are first in line at their gates. Of the whole process, since whoever gives a place back must not look
/// at the gate after that: it may have gone with the place. Gates that share a lot wake each other in vain at times.
pub(super) struct Lot {
    pub(super) waiting: AtomicUsize,
    pub(super) freed: Notify,
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

    pub(super) fn of(gate: &Arc<Gate>) -> &'static Self {
        // No two gates are closer to each other than this.
        let number = Arc::as_ptr(gate).addr() / 64;
        &LOTS[number % LOTS.len()]
    }
}

/// Puts a count of references before a look at something else. What x86 counts with does so itself; its fence would cost as
/// much again.
pub(super) fn in_order() {
    if cfg!(target_arch = "x86_64") {
        compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}

impl Door {
    /// Waits for a place, first come first served. Cancel safe: a caller that gives up takes none. One that is not polled keeps its
    /// place in line, and is passed by while it does not take what is there for it.
    pub(crate) async fn enter(&self) -> Permit {
        if let Some(permit) = self.try_enter() {
            return permit;
        }
        let _waiting = Waiting::new(&self.gate.waiting);
        let line = self.gate.line.get_or_init(Arc::default);
        let first = match line.first.try_lock() {
            Ok(first) => first,
            // In its own place: a caller's future would be larger by it.
            Err(_) => match Box::pin(self.queue(line)).await {
                Queued::First(first) => first,
                Queued::PassedBy(permit) => return permit,
            },
        };
        let _turn = Turn {
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

    async fn queue<'a>(&self, line: &'a Arc<Line>) -> Queued<'a> {
        let _behind = Waiting::new(&line.behind);
        let lock = pin!(line.first.lock());
        let mut turn = ToCome {
            line,
            lock: Some(lock),
        };
        tokio::select! {
            biased;
            first = &mut turn => Queued::First(first),
            permit = self.pass_by(line) => Queued::PassedBy(permit),
        }
    }

    /// Takes a place that the first in line lets lie.
    async fn pass_by(&self, line: &Arc<Line>) -> Permit {
        let lot = Lot::of(&self.gate);
        loop {
            let mut changed = pin!(line.changed.notified());
            changed.as_mut().enable();
            line.watch(&self.gate, self.admission.limit);
            if !line.sleeps() {
                changed.await;
                continue;
            }
            let _in_lot = Waiting::new(&lot.waiting);
            let mut freed = pin!(lot.freed.notified());
            freed.as_mut().enable();
            in_order();
            if let Some(permit) = self.take_place() {
                return permit;
            }
            tokio::select! {
                () = freed => {}
                () = changed => {}
            }
        }
    }
}

impl Line {
    pub(super) fn sleeps(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    /// Sees to it that somebody looks whether the first in line sleeps: one in each runtime that those behind the first come from, mostly
    /// one for the whole line.
    fn watch(self: &Arc<Self>, gate: &Arc<Gate>, limit: usize) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let id = runtime.id();
        {
            let mut watched = self.watched.lock();
            if watched.contains(&id) {
                return;
            }
            watched.push(id);
        }
        let watch = Watch {
            line: Arc::clone(self),
            runtime: id,
            looks: false,
        };
        runtime.spawn(watch.look(Arc::downgrade(gate), limit));
    }

    /// The first one let a place lie, and this many turns had come to their end by then. One that ends now says that it is awake after
    /// this says the contrary, or is seen here.
    fn fall_asleep(&self, turns: u64) {
        self.asleep.store(true, Ordering::SeqCst);
        if self.turns.load(Ordering::SeqCst) != turns {
            self.asleep.store(false, Ordering::SeqCst);
        }
    }
}

/// Looks whether the first in line sleeps.
struct Watch {
    line: Arc<Line>,
    runtime: runtime::Id,
    looks: bool,
}

impl Watch {
    /// The first one sleeps when in two looks there is a place, and nobody's turn has come to its end between them.
    ///
    /// The gate is not held meanwhile: that would count as a place that is taken.
    async fn look(mut self, gate: Weak<Gate>, limit: usize) {
        self.looks = true;
        let line = &self.line;
        let mut let_lie = None;
        while line.behind.load(Ordering::SeqCst) > 0 {
            time::sleep(PATIENCE).await;
            let taken = gate.strong_count().saturating_sub(1);
            let now = (taken < limit).then(|| line.turns.load(Ordering::SeqCst));
            if let Some(turns) = now
                && now == let_lie
            {
                line.fall_asleep(turns);
                line.changed.notify_waiters();
            }
            let_lie = now;
        }
    }
}

impl Drop for Watch {
    /// Those behind find somebody else to look, where it ended with its runtime, or as another one came. In a runtime that is over they
    /// would find nobody, again and again; one that has no timers stays noted as one in which somebody looks.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.line.watched.lock().retain(|id| *id != self.runtime);
        if self.looks {
            self.line.changed.notify_waiters();
        }
    }
}

enum Queued<'a> {
    First(MutexGuard<'a, ()>),
    PassedBy(Permit),
}

/// The turn of one that stands behind the first. When it has come unseen, and whoever it came to goes, it is over like any other.
struct ToCome<'a, 'f, F: Future<Output = MutexGuard<'a, ()>>> {
    line: &'a Line,
    /// Until it was seen to come.
    lock: Option<Pin<&'f mut F>>,
}

impl<'a, F: Future<Output = MutexGuard<'a, ()>>> Future for ToCome<'a, '_, F> {
    type Output = MutexGuard<'a, ()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(lock) = &mut self.lock else {
            return Poll::Pending;
        };
        let first = std::task::ready!(lock.as_mut().poll(cx));
        self.lock = None;
        Poll::Ready(first)
    }
}

impl<'a, F: Future<Output = MutexGuard<'a, ()>>> Drop for ToCome<'a, '_, F> {
    fn drop(&mut self) {
        let Some(lock) = self.lock.take() else {
            return;
        };
        let mut nobody = Context::from_waker(Waker::noop());
        if let Poll::Ready(first) = pin!(unconstrained(lock)).poll(&mut nobody) {
            drop(Turn {
                line: self.line,
                _first: first,
            });
        }
    }
}

/// Somebody is first in line, and awake when this goes.
struct Turn<'a> {
    line: &'a Line,
    _first: MutexGuard<'a, ()>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.line.turns.fetch_add(1, Ordering::SeqCst);
        self.line.asleep.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otp::Admission;

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

    /// Each that waited had a timer of its own.
    #[tokio::test(start_paused = true)]
    async fn one_task_looks_after_a_line_however_long_and_ends_with_it() {
        let door = Door::new(Admission::wait(1));
        let held = door.try_enter().expect("first place");
        let mut line: Vec<_> = (0..100).map(|_| Box::pin(door.enter())).collect();
        for caller in &mut line {
            assert!(futures_util::poll!(caller.as_mut()).is_pending());
        }
        let alive = || Handle::current().metrics().num_alive_tasks();
        assert_eq!(alive(), 1);

        drop(line);
        time::sleep(2 * PATIENCE).await;
        assert_eq!(alive(), 0);

        // Another line finds one as well.
        let mut sleeper = Box::pin(door.enter());
        let mut second = Box::pin(door.enter());
        assert!(futures_util::poll!(sleeper.as_mut()).is_pending());
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(held);
        let passed = time::timeout(Duration::from_secs(1), second).await;
        drop(passed.expect("gets in"));
    }

    #[test]
    fn a_line_whose_runtime_ends_is_looked_after_by_another() {
        let runtime = || {
            let builder = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build();
            builder.expect("can be built")
        };
        let door = Door::new(Admission::wait(1));
        let held = door.try_enter().expect("first place");
        let (mut sleeper, mut second) = (Box::pin(door.enter()), Box::pin(door.enter()));
        let first = runtime();
        first.block_on(async {
            assert!(futures_util::poll!(sleeper.as_mut()).is_pending());
            assert!(futures_util::poll!(second.as_mut()).is_pending());
            tokio::task::yield_now().await;
        });
        drop(first);
        drop(held);

        runtime().block_on(async {
            let passed = time::timeout(Duration::from_secs(1), second).await;
            drop(passed.expect("gets in"));
        });
    }

    /// One look was for all: its runtime was there, and never looked again.
    #[test]
    fn a_line_is_looked_after_also_where_one_before_it_was_in_a_runtime_that_does_not_look() {
        let undriven = runtime::Builder::new_current_thread().enable_time().build();
        let timeless = runtime::Builder::new_current_thread().build();
        for side in [undriven, timeless] {
            let side = side.expect("can be built");
            let door = Door::new(Admission::wait(1));
            let held = door.try_enter().expect("first place");
            side.block_on(async {
                let (mut first, mut second) = (Box::pin(door.enter()), Box::pin(door.enter()));
                assert!(futures_util::poll!(first.as_mut()).is_pending());
                assert!(futures_util::poll!(second.as_mut()).is_pending());
                tokio::task::yield_now().await;
            });
            drop(held);

            let main = runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build();
            main.expect("can be built").block_on(async {
                let held = door.try_enter().expect("nobody waits");
                let (mut sleeper, mut second) = (Box::pin(door.enter()), Box::pin(door.enter()));
                assert!(futures_util::poll!(sleeper.as_mut()).is_pending());
                assert!(futures_util::poll!(second.as_mut()).is_pending());
                drop(held);
                let passed = time::timeout(Duration::from_secs(1), second).await;
                drop(passed.expect("gets in"));
            });
        }
    }

    #[test]
    fn one_whose_turn_ends_while_it_is_said_to_sleep_is_awake() {
        let line = Line::default();
        line.turns.store(1, Ordering::SeqCst);

        line.fall_asleep(0);
        assert!(!line.sleeps());
        line.fall_asleep(1);
        assert!(line.sleeps());
    }

    /// The line behind it was passed by until the next turn had ended.
    #[tokio::test(start_paused = true)]
    async fn nobody_sleeps_any_more_when_one_goes_that_never_saw_its_turn() {
        let door = Door::new(Admission::wait(1));
        let held = door.try_enter().expect("first place");
        let mut line: Vec<_> = (0..3).map(|_| Box::pin(door.enter())).collect();
        for caller in &mut line {
            assert!(futures_util::poll!(caller.as_mut()).is_pending());
        }
        drop(line.remove(0));
        drop(held);
        time::sleep(3 * PATIENCE).await;
        drop(door.try_enter().expect("the first one sleeps"));

        drop(line.remove(0));

        assert!(door.try_enter().is_none(), "there is a line again");
        let permit = line.remove(0).await;
        assert_eq!((door.admitted(), door.gate().waiting()), (1, 0));
        drop(permit);
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
            // Those that wait have a task look after them, which does not run here.
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
