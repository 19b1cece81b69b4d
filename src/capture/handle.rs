use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;
use tracing::Subscriber;
use tracing_subscriber::{Layer, registry::LookupSpan};

use super::{
    CaptureError, CaptureStats, FlushError, Options,
    drain::Drain,
    layer::{CaptureLayer, Wanted},
    queue::{Entry, Queue, What},
    rules::Rules,
    stats::Counts,
};
use crate::{
    events::{Events, Timestamp},
    ids::IdGenerator,
    otp::Context,
    telemetry::{Counter, Telemetry},
};

/// A capture of what a program does. Cheap to clone; when the last clone and the last layer have gone, what is queued is stored and
/// the capture ends.
///
/// Its drain is a thread of its own, so that a program whose tasks are all stuck is still recorded.
#[derive(Debug, Clone)]
pub struct Capture {
    shared: Arc<Shared>,
    owner: Arc<Owner>,
}

/// What layer, drain and handle share.
pub(super) struct Shared {
    /// Which capture this is in the process.
    pub(super) number: u64,
    pub(super) rules: ArcSwap<Rules>,
    pub(super) queue: Queue,
    pub(super) counts: Counts,
    /// Entries that the drain has taken and not settled.
    pub(super) in_hand: AtomicU64,
    pub(super) metrics: OnceLock<Metrics>,
    /// Whether it hears of panics.
    hooked: AtomicBool,
    ids: Arc<IdGenerator>,
    passes: Mutex<Passes>,
    passed: Condvar,
    passed_async: Notify,
}

/// The same counts where the program's other metrics are.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) stored: Counter,
    pub(super) dropped: Counter,
    pub(super) refused: Counter,
}

/// The drain's passes over the queue. What was in the queue when a pass began is settled when it has ended.
#[derive(Debug, Default)]
struct Passes {
    begun: u64,
    ended: u64,
}

/// The end of the last one ends the capture.
#[derive(Debug)]
pub(super) struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.queue.close();
    }
}

/// Captures into `events` with the default [`Options`], in one line:
/// `tracing_subscriber::registry().with(capture::layer(node.events())).init()`.
///
/// What is still queued when the program ends is lost, unless the capture is known to be flushed: [`Capture::layer`] has a handle that can.
#[must_use]
pub fn layer<S>(events: &Events) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    Capture::of(events).layer()
}

impl Capture {
    /// A capture into this store.
    ///
    /// # Errors
    ///
    /// [`CaptureError`]: the options make no sense.
    pub fn new(events: &Events, options: &Options) -> Result<Self, CaptureError> {
        let rules = Rules::new(options)?;
        Ok(Self::with_rules(events, options.queue_bytes, rules))
    }

    /// A capture into this store, with the default options.
    #[must_use]
    pub fn of(events: &Events) -> Self {
        Self::with_rules(events, Options::default().queue_bytes, Rules::default())
    }

    fn with_rules(events: &Events, queue_bytes: usize, rules: Rules) -> Self {
        let shared = Arc::new(Shared::new(events, queue_bytes, rules));
        let drain = Drain::new(Arc::clone(&shared), events.clone());
        let started = thread::Builder::new()
            .name("underpin-capture".to_owned())
            .spawn(move || drain.run());
        match started {
            Ok(thread) => shared.queue.drained_by(thread.thread().clone()),
            Err(error) => {
                tracing::error!(%error, "nothing is captured: the system gives no thread for it");
                shared.queue.close();
                shared.end_passes();
            }
        }
        Self {
            owner: Arc::new(Owner(Arc::clone(&shared))),
            shared,
        }
    }

    /// A layer for a subscriber. It composes with others, and takes what it wants whatever they take.
    #[must_use]
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let layer = CaptureLayer::new(Arc::clone(&self.shared), Arc::clone(&self.owner));
        layer.with_filter(Wanted(Arc::clone(&self.shared)))
    }

    /// Counts in `telemetry` too: `underpin_capture_stored`, `underpin_capture_dropped` and `underpin_capture_refused`. Once; later calls
    /// do nothing.
    pub fn count_in(&self, telemetry: &Telemetry) {
        use crate::telemetry::Kind::Counter;
        telemetry.declare(&[
            (
                Counter,
                "underpin_capture_stored",
                &[],
                "Captured events that were stored.",
            ),
            (
                Counter,
                "underpin_capture_dropped",
                &[],
                "Captured events that found no room.",
            ),
            (
                Counter,
                "underpin_capture_refused",
                &[],
                "Captured events that the store refused.",
            ),
        ]);
        self.shared.metrics.get_or_init(|| Metrics {
            stored: telemetry.counter("underpin_capture_stored", &[]),
            dropped: telemetry.counter("underpin_capture_dropped", &[]),
            refused: telemetry.counter("underpin_capture_refused", &[]),
        });
    }

    /// Captures other targets and levels from now on. Where the subscriber is not the global one, call it in its scope: `tracing` asks only
    /// the subscriber at hand when it is the only one.
    ///
    /// # Errors
    ///
    /// [`CaptureError::Filter`]: nothing was changed.
    pub fn set_filter(&self, filter: &str) -> Result<(), CaptureError> {
        self.change(|rules| rules.with_filter(filter))?;
        // Callsites remember whether anybody wants them.
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    }

    /// Captures another share of the traces from now on, 0 to 1. Traces under way may be cut.
    ///
    /// # Errors
    ///
    /// [`CaptureError::Share`]: nothing was changed.
    pub fn set_share(&self, share: f64) -> Result<(), CaptureError> {
        self.change(|rules| rules.with_share(share))
    }

    /// Hides fields whose names contain one of these, in place of those that were hidden before, from now on, also of what is queued.
    /// What the store has been handed already stays as it was.
    pub fn set_redacted(&self, names: &[&str]) {
        let changed = self.change(|rules| Ok(rules.with_redacted(names.iter().copied())));
        debug_assert!(changed.is_ok(), "names cannot be wrong");
    }

    fn change(
        &self,
        change: impl Fn(Rules) -> Result<Rules, CaptureError>,
    ) -> Result<(), CaptureError> {
        loop {
            let before = self.shared.rules.load_full();
            let after = Arc::new(change(Rules::clone(&before))?);
            let found = self.shared.rules.compare_and_swap(&before, after);
            if Arc::ptr_eq(&found, &before) {
                return Ok(());
            }
        }
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> CaptureStats {
        self.shared.stats()
    }

    /// Waits until everything that was captured before this call is stored, dropped or refused.
    ///
    /// # Errors
    ///
    /// [`FlushError::Timeout`]: the store did not take it within `limit`. It stays queued.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what is queued is stored all the same.
    pub async fn flush(&self, limit: Duration) -> Result<(), FlushError> {
        let pass = self.shared.next_pass();
        let ended = async {
            loop {
                let mut passed = std::pin::pin!(self.shared.passed_async.notified());
                passed.as_mut().enable();
                if self.shared.passes.lock().ended >= pass {
                    return;
                }
                passed.await;
            }
        };
        tokio::time::timeout(limit, ended)
            .await
            .map_err(|_| self.not_in(limit))
    }

    /// The same for code that cannot wait asynchronously, as at the end of a program that panics. It blocks the thread.
    ///
    /// # Errors
    ///
    /// As [`Capture::flush`].
    pub fn flush_blocking(&self, limit: Duration) -> Result<(), FlushError> {
        let pass = self.shared.next_pass();
        let deadline = Instant::now().checked_add(limit);
        let mut passes = self.shared.passes.lock();
        while passes.ended < pass {
            let Some(deadline) = deadline else {
                // No clock reaches that far.
                self.shared.passed.wait(&mut passes);
                continue;
            };
            let waited = self.shared.passed.wait_until(&mut passes, deadline);
            if waited.timed_out() && passes.ended < pass {
                drop(passes);
                return Err(self.not_in(limit));
            }
        }
        Ok(())
    }

    fn not_in(&self, limit: Duration) -> FlushError {
        FlushError::Timeout {
            limit,
            queued_bytes: self.shared.queue.queued_bytes(),
        }
    }

    /// Captures nothing more, and stores what is queued. Further events are counted as dropped.
    ///
    /// # Errors
    ///
    /// As [`Capture::flush`]. The store is tried until ten seconds after the end; what it has not taken then is counted as dropped.
    pub async fn close(&self, limit: Duration) -> Result<(), FlushError> {
        self.shared.queue.close();
        self.flush(limit).await
    }

    /// A flight recorder: from now on each panic of the process is an event `panic`, in the correlation it happened in. When the process
    /// is about to end with it (a panic of the main thread outside of a spawned task, which its runtime would survive, or any panic of a
    /// program built with `panic = "abort"`), what is queued is stored first, for which it is held up to a second. The hook that was there
    /// runs afterwards.
    ///
    /// This is for the whole process. Once; later calls do nothing.
    pub fn install_panic_hook(&self) {
        /// Longer than a disk takes, shorter than a supervisor of the process waits.
        const PATIENCE: Duration = Duration::from_secs(1);
        if self.shared.hooked.swap(true, Ordering::Relaxed) {
            return;
        }
        let capture = self.clone();
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let current = thread::current();
            let name = current.name().unwrap_or("unnamed");
            capture.shared.push_panic(panic, name);
            if cfg!(panic = "abort") || (name == "main" && !is_caught_by_its_task()) {
                let _ = capture.flush_blocking(PATIENCE);
            }
            usual(panic);
        }));
    }
}

/// Whether the code that panics is in a spawned task: its runtime catches that, and goes on.
fn is_caught_by_its_task() -> bool {
    tokio::task::try_id().is_some()
}

impl Shared {
    pub(super) fn new(events: &Events, queue_bytes: usize, rules: Rules) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            rules: ArcSwap::from_pointee(rules),
            queue: Queue::new(queue_bytes),
            counts: Counts::default(),
            in_hand: AtomicU64::new(0),
            metrics: OnceLock::new(),
            hooked: AtomicBool::new(false),
            ids: Arc::clone(events.ids()),
            passes: Mutex::default(),
            passed: Condvar::new(),
            passed_async: Notify::new(),
        }
    }

    /// Queues what happened, and answers the id of its event; of the cause where it was dropped, so that nothing names an event that is not
    /// there.
    pub(super) fn push(&self, what: What, context: Context, fields: &[u8]) -> u64 {
        let time = Timestamp::now();
        let unix_ms = u64::try_from(time.as_nanos() / 1_000_000).unwrap_or(0);
        let id = self.ids.next_at(unix_ms);
        let entry = Entry {
            id,
            time,
            trace: context.trace,
            parent: context.cause,
            what,
            end: 0,
        };
        match self.queue.push(entry, fields) {
            Ok(()) => id.get(),
            Err(_full) => {
                self.count_dropped(1);
                context.cause
            }
        }
    }

    fn push_panic(&self, panic: &std::panic::PanicHookInfo<'_>, thread: &str) {
        let payload = panic.payload();
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("a panic without a message");
        let at = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        let longest = self.rules.load().text_bytes_max;
        let message = &message[..message.floor_char_boundary(longest)];
        let fields = [message, &at, thread].join("\0");
        self.push(What::Panic, Context::current(), fields.as_bytes());
    }

    pub(super) fn count_shortened(&self, count: u64) {
        if count > 0 {
            self.counts.shortened.fetch_add(count, Ordering::Relaxed);
        }
    }

    pub(super) fn count_dropped(&self, count: u64) {
        self.counts.dropped.fetch_add(count, Ordering::Relaxed);
        if let Some(metrics) = self.metrics.get() {
            metrics.dropped.add(count);
        }
    }

    pub(super) fn stats(&self) -> CaptureStats {
        let waiting = self.queue.waiting() + self.in_hand.load(Ordering::Relaxed);
        self.counts.read(waiting, self.queue.queued_bytes())
    }

    /// The number of a pass that begins after this call.
    fn next_pass(&self) -> u64 {
        let pass = self.passes.lock().begun + 1;
        self.queue.wake();
        pass
    }

    pub(super) fn begin_pass(&self) {
        self.passes.lock().begun += 1;
    }

    pub(super) fn end_pass(&self) {
        let mut passes = self.passes.lock();
        passes.ended = passes.begun;
        drop(passes);
        self.passed.notify_all();
        self.passed_async.notify_waiters();
    }

    /// No more passes will come: nobody should wait for one.
    pub(super) fn end_passes(&self) {
        let mut passes = self.passes.lock();
        (passes.begun, passes.ended) = (u64::MAX - 1, u64::MAX);
        drop(passes);
        self.passed.notify_all();
        self.passed_async.notify_waiters();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture")
            .field("number", &self.number)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_panics_in_a_spawned_task_does_not_end_a_program_whose_main_thread_runs_it() {
        let outside = is_caught_by_its_task();
        let inside = tokio::spawn(async { is_caught_by_its_task() });

        assert!(!outside);
        assert!(inside.await.expect("ends"));
        assert!(
            !std::thread::spawn(is_caught_by_its_task)
                .join()
                .expect("ends")
        );
    }
}
