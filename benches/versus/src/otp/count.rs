//! What every actor here does, and how it is loaded.

use tokio::sync::oneshot;

/// The state of an actor: counts, and says when it has counted far enough.
#[derive(Debug, Default)]
pub(super) struct Count {
    counted: u64,
    awaited: u64,
    reached: Option<oneshot::Sender<()>>,
}

/// Casts of one burst: long beside what starts and ends it.
pub(super) const BURST: u64 = 50_000;
/// Calls between two looks at the clock.
pub(super) const CALLS: u64 = 64;

impl Count {
    pub(super) fn add(&mut self) {
        self.counted += 1;
        if self.counted == self.awaited
            && let Some(reached) = self.reached.take()
        {
            let _ = reached.send(());
        }
    }

    pub(super) fn get(&self) -> u64 {
        self.counted
    }

    /// Tells `reached` when `more` have been added.
    pub(super) fn expect(&mut self, more: u64, reached: oneshot::Sender<()>) {
        self.awaited = self.counted + more;
        self.reached = Some(reached);
    }
}

/// Messages per second: `$expect` prepares the actor for a burst and makes it tell when it has counted that far, `$cast`
/// sends one message of it.
///
/// A macro, because a closure that returns a future of what it borrows cannot be told to be `Send`.
macro_rules! casts {
    ($time:expr, |$more:ident, $reached:ident| $expect:expr, $cast:expr) => {{
        let mut tally = $crate::measure::Tally::default();
        while tally.is_below($time) {
            let $more = $crate::otp::count::BURST;
            let ($reached, counted) = tokio::sync::oneshot::channel();
            $expect;
            let begin = std::time::Instant::now();
            for sent in 1..=$more {
                $cast;
                if sent % 256 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            counted.await.expect("the actor counts to the end");
            tally.add($more, begin.elapsed());
        }
        tally.per_second()
    }};
}

/// Nanoseconds of a call, one after the other.
macro_rules! calls {
    ($time:expr, $call:expr) => {{
        let (begin, mut done) = (std::time::Instant::now(), 0_u64);
        loop {
            for _ in 0..$crate::otp::count::CALLS {
                assert_eq!($call, 0_u64, "nothing was cast");
            }
            done += $crate::otp::count::CALLS;
            let took = begin.elapsed();
            if took >= $time {
                break $crate::measure::nanos(took) / done as f64;
            }
        }
    }};
}

pub(super) use {calls, casts};
