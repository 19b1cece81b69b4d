//! The drain: takes what is queued, makes events of it, and has the store keep them.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use tokio::{
    runtime::{Builder, Runtime},
    time::{self, Instant},
};

use super::{
    handle::Shared,
    making::Maker,
    queue::{Entry, Taken},
};
use crate::events::{Events, StoreError};

pub(super) struct Drain {
    shared: Arc<Shared>,
    events: Events,
    maker: Maker,
}

/// How long the drain rests when there was nothing. Short, so that an event is soon to be found; a thread that is woken for each event would
/// cost its makers more.
const NAP: Duration = Duration::from_millis(5);
/// After so many empty looks the drain sleeps until it is woken.
const NAPS: u32 = 20;
/// Events stored at once: about a MiB.
const BATCH: usize = 4096;
/// How long one attempt may take. The store holds a batch all the same; the next attempt finds it there.
const ATTEMPT: Duration = Duration::from_secs(5);
/// The pauses between attempts.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long a closed capture tries to store what it has, all in all.
const LAST_PATIENCE: Duration = Duration::from_secs(10);

impl Drain {
    pub(super) fn new(shared: Arc<Shared>, events: Events) -> Self {
        let maker = Maker::new(shared.rules.load_full());
        Self {
            shared,
            events,
            maker,
        }
    }

    pub(super) fn run(mut self) {
        let runtime = Builder::new_current_thread().enable_time().build();
        match runtime {
            Ok(runtime) => self.passes(&runtime),
            Err(error) => {
                tracing::error!(%error, "nothing is captured: the system gives no timer for it");
                self.shared.queue.close();
            }
        }
        self.drop_all();
        self.shared.end_passes();
    }

    fn passes(&mut self, runtime: &Runtime) {
        let mut empty_looks = 0;
        loop {
            self.shared.begin_pass();
            let closed = self.shared.queue.closed().is_some();
            let taken = self.shared.queue.take();
            let nothing = taken.is_empty();
            if !nothing {
                let shared = Arc::clone(&self.shared);
                let hand = Hand::new(&shared, taken);
                // Nobody else's code runs in there; a fault of our own must not end the recording.
                let settled = catch_unwind(AssertUnwindSafe(|| {
                    runtime.block_on(self.settle(&hand));
                }));
                if settled.is_err() {
                    tracing::error!("a batch of captured events was given up");
                }
            }
            self.shared.end_pass();
            match (nothing, closed) {
                (false, _) => empty_looks = 0,
                (true, true) => return,
                (true, false) if empty_looks < NAPS => {
                    empty_looks += 1;
                    thread::park_timeout(NAP);
                }
                (true, false) => {
                    self.shared.queue.fall_asleep();
                    if self.shared.queue.waiting() == 0 && self.shared.queue.closed().is_none() {
                        thread::park();
                    }
                    empty_looks = 0;
                }
            }
        }
    }

    /// What came in after the end.
    fn drop_all(&self) {
        let taken = self.shared.queue.take();
        drop(Hand::new(&self.shared, taken));
    }

    /// Stores all of it, however long that takes; what the store refuses for ever is counted.
    async fn settle(&mut self, hand: &Hand<'_>) {
        let mut entries: Vec<_> = hand.taken.iter().flat_map(Taken::iter).collect();
        entries.sort_unstable_by_key(|(entry, _)| entry.id);
        for batch in entries.chunks(BATCH) {
            self.store(batch, hand).await;
        }
    }

    /// Stores a batch, or counts what is refused; what a closed capture has no more time for is left in the hand.
    async fn store(&mut self, batch: &[(&Entry, &[u8])], hand: &Hand<'_>) {
        let mut pause = PAUSE_MIN;
        // The store may have taken what it was handed and not answered; what is handed over again has to be the same.
        let mut handed_over = false;
        while !self.gives_up() {
            if !handed_over {
                self.maker.follow(self.shared.rules.load_full());
            }
            let ends = self.attempt_ends();
            let maker = &mut self.maker;
            let made = batch
                .iter()
                .map(|(entry, fields)| maker.make(entry, fields));
            let attempt = self.events.store_each(made);
            match time::timeout_at(ends, attempt).await {
                Ok(Err(error)) if error.is_final() && batch.len() > 1 => {
                    for one in batch.chunks(1) {
                        Box::pin(self.store(one, hand)).await;
                    }
                    return;
                }
                // Nobody else makes events of the ids that conflict: they were stored before, under other rules.
                Ok(Ok(()) | Err(StoreError::Conflict { .. })) => return hand.stored(batch.len()),
                Ok(Err(error)) if error.is_final() => {
                    tracing::warn!(%error, "a captured event cannot be stored");
                    return hand.refused();
                }
                Ok(Err(_)) => {}
                Err(_elapsed) => handed_over = true,
            }
            time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn gives_up(&self) -> bool {
        let closed = self.shared.queue.closed();
        closed.is_some_and(|closed| closed.elapsed() >= LAST_PATIENCE)
    }

    fn attempt_ends(&self) -> Instant {
        let last = self.shared.queue.closed().map(|at| at + LAST_PATIENCE);
        let attempt = Instant::now() + ATTEMPT;
        last.map_or(attempt, |last| last.min(attempt))
    }
}

/// What the drain has taken: it is settled in the books and its room given back, whatever happens.
struct Hand<'a> {
    shared: &'a Shared,
    taken: Vec<Taken>,
}

impl<'a> Hand<'a> {
    fn new(shared: &'a Shared, taken: Vec<Taken>) -> Self {
        let entries: usize = taken.iter().map(|taken| taken.entries.len()).sum();
        shared.in_hand.store(entries as u64, Ordering::Relaxed);
        Self { shared, taken }
    }

    fn stored(&self, entries: usize) {
        let entries = entries as u64;
        self.shared.in_hand.fetch_sub(entries, Ordering::Relaxed);
        self.shared
            .counts
            .stored
            .fetch_add(entries, Ordering::Relaxed);
        if let Some(metrics) = self.shared.metrics.get() {
            metrics.stored.add(entries);
        }
    }

    fn refused(&self) {
        self.shared.in_hand.fetch_sub(1, Ordering::Relaxed);
        self.shared.counts.refused.fetch_add(1, Ordering::Relaxed);
        if let Some(metrics) = self.shared.metrics.get() {
            metrics.refused.inc();
        }
    }
}

impl Drop for Hand<'_> {
    fn drop(&mut self) {
        let left = self.shared.in_hand.swap(0, Ordering::Relaxed);
        if left > 0 {
            self.shared.count_dropped(left);
        }
        self.shared.queue.give_back(std::mem::take(&mut self.taken));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        capture::{Options, queue::What, rules::Rules},
        events::{self, Timestamp},
        ids::{IdGenerator, NodeId},
        telemetry::{self, Telemetry},
    };

    /// A store that nobody supervises: it answers at once that it is down.
    fn dead_store() -> Events {
        let ids = Arc::new(IdGenerator::new(NodeId::new(1).expect("valid")));
        let telemetry = Telemetry::new(telemetry::Options::default());
        let disk = Arc::new(events::Folder::new("never-opened"));
        Events::new(events::Options::default(), disk, ids, &telemetry)
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_capture_gives_a_dead_store_ten_seconds_for_all_that_it_has() {
        let events = dead_store();
        let rules = Rules::new(&Options::default()).expect("valid");
        let shared = Arc::new(Shared::new(&events, 16 << 20, rules));
        for _ in 0..3 * BATCH {
            let entry = Entry {
                id: events.ids().next(),
                time: Timestamp::now(),
                trace: 0,
                parent: 0,
                what: What::Panic,
                end: 0,
            };
            shared
                .queue
                .push(entry, b"words\0place\0thread")
                .expect("there is room");
        }
        let mut drain = Drain::new(Arc::clone(&shared), events);
        let hand = Hand::new(&shared, shared.queue.take());
        let begin = Instant::now();
        shared.queue.close();

        drain.settle(&hand).await;
        drop(hand);

        let took = begin.elapsed();
        assert!(
            took >= LAST_PATIENCE && took < LAST_PATIENCE + PAUSE_MAX,
            "{took:?}"
        );
        let stats = shared.stats();
        assert_eq!((stats.dropped, stats.queued_bytes), (3 * BATCH as u64, 0));
    }
}
