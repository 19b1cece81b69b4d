//! One attached handler: what it runs, where, and what becomes of it when it fails.

use std::{
    any::Any,
    fmt,
    num::NonZeroUsize,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::mpsc;

use super::{Counter, Emission, EventName, OwnedEmission, clock::nanoseconds};

/// How a handler is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerOptions {
    /// What becomes of it when it panics. Default: it is detached.
    pub on_failure: OnFailure,
    /// Where it runs. Default: in the emitter.
    pub runs: Runs,
}

/// What becomes of a handler that panicked. Each failure is counted and announced by
/// [`HANDLER_FAILURE`](super::HANDLER_FAILURE) in any case, and the emitter never notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFailure {
    /// It is detached from all its events.
    Detach,
    /// It stays, and is run again at the next emission.
    Keep,
    /// It stays, and emissions pass it by until this time has gone; they are counted as dropped.
    RetryAfter(Duration),
}

/// Where a handler runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Runs {
    /// In whoever executes the event, who waits for it: for handlers of some hundred nanoseconds.
    InEmitter,
    /// In a thread of its own, one emission after the other: for handlers that write, send or wait. The emitter leaves it a
    /// copy and goes on.
    Elsewhere {
        /// How many copies may wait, some hundred bytes each. When they do, further ones are dropped and counted.
        queue: NonZeroUsize,
    },
}

impl Default for HandlerOptions {
    fn default() -> Self {
        Self {
            on_failure: OnFailure::Detach,
            runs: Runs::InEmitter,
        }
    }
}

impl Runs {
    /// Elsewhere, with a queue of 1024: about half a megabyte when it is full.
    pub const ELSEWHERE: Self = Self::Elsewhere {
        queue: NonZeroUsize::new(1024).expect("not zero"),
    };
}

/// What the emitter sees of a handler.
#[derive(Debug)]
pub(super) struct Handler {
    pub(super) body: Arc<Body>,
    /// Where copies go if it runs elsewhere. Its thread ends when this has gone.
    queue: Option<mpsc::Sender<OwnedEmission>>,
}

/// What is run, and what was seen of it.
pub(super) struct Body {
    pub(super) id: Arc<str>,
    pub(super) events: Vec<EventName>,
    pub(super) on_failure: OnFailure,
    callback: Box<dyn Callback>,
    failures: AtomicU64,
    dropped: Counter,
    /// Emissions before this time pass by, in ns of the room's clock; 0 when it is well.
    resumes_at: AtomicU64,
}

pub(super) trait Callback: Send + Sync {
    fn call(&self, emission: &Emission<'_>);
    fn config(&self) -> &(dyn fmt::Debug + Sync);
}

/// A function and what it is handed each time.
pub(super) struct Function<C, F> {
    pub(super) config: C,
    pub(super) function: F,
}

impl<C, F> Callback for Function<C, F>
where
    C: fmt::Debug + Send + Sync,
    F: Fn(&Emission<'_>, &C) + Send + Sync,
{
    fn call(&self, emission: &Emission<'_>) {
        (self.function)(emission, &self.config);
    }

    fn config(&self) -> &(dyn fmt::Debug + Sync) {
        &self.config
    }
}

/// A handler's panic.
pub(super) type Panic = Box<dyn Any + Send>;

impl Handler {
    pub(super) fn new(body: Arc<Body>, queue: Option<mpsc::Sender<OwnedEmission>>) -> Self {
        Self { body, queue }
    }

    /// Runs it, or leaves a copy for it. `now` is asked for only after a failure.
    #[inline]
    pub(super) fn accept(
        &self,
        emission: &Emission<'_>,
        now: impl Fn() -> Duration,
    ) -> Result<(), Panic> {
        match &self.queue {
            None => self.body.run(emission, now),
            Some(queue) => {
                // Full, or its thread has ended.
                if queue.try_send(emission.keep()).is_err() {
                    self.body.dropped.inc();
                }
                Ok(())
            }
        }
    }

    /// How many copies wait.
    pub(super) fn waiting(&self) -> usize {
        let queue = self.queue.as_ref();
        queue.map_or(0, |queue| queue.max_capacity() - queue.capacity())
    }
}

impl Body {
    pub(super) fn new(
        id: &str,
        events: Vec<EventName>,
        on_failure: OnFailure,
        callback: Box<dyn Callback>,
        dropped: Counter,
    ) -> Self {
        Self {
            id: id.into(),
            events,
            on_failure,
            callback,
            failures: AtomicU64::new(0),
            dropped,
            resumes_at: AtomicU64::new(0),
        }
    }

    /// Runs it here and now, unless it is to be left alone after a failure.
    #[inline]
    pub(super) fn run(
        &self,
        emission: &Emission<'_>,
        now: impl Fn() -> Duration,
    ) -> Result<(), Panic> {
        let resumes_at = self.resumes_at.load(Ordering::Relaxed);
        if resumes_at != 0 && nanoseconds(now()) < resumes_at {
            self.dropped.inc();
            return Ok(());
        }
        panic::catch_unwind(AssertUnwindSafe(|| self.callback.call(emission)))
    }

    /// Notes a failure at this time; returns how many there were.
    pub(super) fn failed(&self, now: Duration) -> u64 {
        if let OnFailure::RetryAfter(pause) = self.on_failure {
            let until = nanoseconds(now.saturating_add(pause)).max(1);
            self.resumes_at.store(until, Ordering::Relaxed);
        }
        self.failures.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Counts what it was meant to get and did not.
    pub(super) fn drop_emissions(&self, count: usize) {
        self.dropped.add(count as u64);
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.value()
    }

    pub(super) fn config(&self) -> &(dyn fmt::Debug + Sync) {
        self.callback.config()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, events, .. } = self;
        f.debug_struct("Body")
            .field("id", id)
            .field("events", events)
            .finish_non_exhaustive()
    }
}

/// The panic's message.
pub(super) fn describe(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic whose payload is no text")
        .to_owned()
}

/// Drops a panic's payload, which may panic itself.
pub(super) fn discard(panic: Panic) {
    if let Err(again) = panic::catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
}
