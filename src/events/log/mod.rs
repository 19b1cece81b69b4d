//! The log while it runs: callers add frames to a batch, the writer makes batches durable, readers see what is published.
//!
//! Locks are taken in this order: the intake, the order of indexing, a segment. None is held during I/O.

mod appending;
mod batch;
mod facts;
mod in_memory;
mod intake;
mod prepared;
mod pruning;
mod rolled;
mod showing;
mod writing;

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, Semaphore};

use self::{
    facts::Facts,
    intake::{Intake, State},
    rolled::Rolled,
};
use super::{
    commit::{Commit, Failure},
    notes::{Checkpoints, LowWater},
    options::{Durability, Options},
    segment::Segment,
    stats::EventStats,
    view::View as _,
};

pub(super) use self::{
    appending::CHECKPOINTS_MAX,
    batch::{Batch, Part, Work},
    prepared::{Appended, Known, Prepared},
};

/// One opened log.
#[derive(Debug)]
pub(super) struct Log {
    id: u64,
    /// Behind all that was there when it was opened: segment and row.
    opened_at: (u64, u32),
    durable: bool,
    segment_bytes: AtomicU32,
    hot_bytes: AtomicUsize,
    /// The most events; as many as there can be where there is no limit.
    max_events: AtomicU64,
    intake: Mutex<Intake>,
    /// Held by whoever indexes what it appended.
    indexing: Mutex<()>,
    /// Signalled when the writer, asleep, has something to do.
    work: Condvar,
    segments: ArcSwap<Vec<Arc<Segment>>>,
    /// What the sealer has to do.
    pub(super) rolled: Rolled,
    /// Wakes subscriptions when more can be seen.
    pub(super) news: Notify,
    checkpoints: Mutex<Checkpoints>,
    /// One permit for each byte that may wait for the writer; closed when the log fails.
    pub(super) admission: Semaphore,
    pub(super) facts: Facts,
    /// Of whoever shows rows and counts them: nobody else sees one without the other.
    counting: Mutex<()>,
    /// Of whoever hides events; held while it is seen how many are too many.
    pruning: Mutex<()>,
}

/// What an opening found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) id: u64,
    pub(super) segments: Vec<Arc<Segment>>,
    /// Where to go on: the last of the segments and its length.
    pub(super) active: Option<(Arc<Segment>, u32)>,
    pub(super) next_sequence: u64,
    pub(super) low: LowWater,
    pub(super) checkpoints: Checkpoints,
}

impl Log {
    pub(super) fn new(options: &Options, found: Found) -> Self {
        let highest = found
            .segments
            .iter()
            .filter_map(|segment| segment.span())
            .map(|span| span.id.1)
            .max();
        let (active, end) = found.active.unzip();
        let rows = active
            .as_ref()
            .map_or(0, |active: &Arc<Segment>| active.all_rows());
        let newest_first = found.segments.iter().rev();
        let mut shown = newest_first.map(|segment| (segment.base, segment.published()));
        let log = Self {
            id: found.id,
            opened_at: shown.find(|(_, rows)| *rows > 0).unwrap_or_default(),
            durable: options.durability != Durability::Memory,
            segment_bytes: AtomicU32::new(options.segment_limit()),
            hot_bytes: AtomicUsize::new(options.hot_bytes),
            max_events: AtomicU64::new(options.retention.max_events.unwrap_or(u64::MAX)),
            intake: Mutex::new(Intake {
                state: State::Open,
                next_sequence: found.next_sequence.max(1),
                highest: highest.unwrap_or(0),
                active,
                end: end.unwrap_or(0),
                rows,
                batch: Batch::default(),
                latest: Commit::settled(Ok(())),
                writer_asleep: false,
                low: found.low,
                checkpoints: found.checkpoints.clone(),
                newest_is_mark: false,
            }),
            indexing: Mutex::default(),
            work: Condvar::new(),
            segments: ArcSwap::from_pointee(found.segments),
            rolled: Rolled::new(),
            news: Notify::new(),
            checkpoints: Mutex::new(found.checkpoints),
            admission: Semaphore::new(options.in_flight_bytes as usize),
            facts: Facts::default(),
            counting: Mutex::default(),
            pruning: Mutex::default(),
        };
        log.count_what_was_found(found.next_sequence.saturating_sub(1));
        log
    }

    /// Takes over those options that may change while the log runs.
    pub(super) fn adapt(&self, options: &Options) {
        let max = options.retention.max_events.unwrap_or(u64::MAX);
        self.max_events.store(max, Ordering::Relaxed);
        self.segment_bytes
            .store(options.segment_limit(), Ordering::Relaxed);
        self.hot_bytes.store(options.hot_bytes, Ordering::Relaxed);
        self.cool();
    }

    pub(super) fn segment_bytes(&self) -> u32 {
        self.segment_bytes.load(Ordering::Relaxed)
    }

    fn count_what_was_found(&self, last: u64) {
        let facts = &self.facts;
        facts.synced.store(last, Ordering::Relaxed);
        for segment in self.segments().iter() {
            let shown = segment.all_rows() - segment.hidden_rows();
            facts.shown.fetch_add(shown.into(), Ordering::Relaxed);
            facts.hot.fetch_add(segment.hot_bytes(), Ordering::Relaxed);
        }
        self.keep_count();
        self.cool();
    }

    /// The segments, oldest first. The answer stays as it is while the log goes on.
    pub(super) fn segments(&self) -> Arc<Vec<Arc<Segment>>> {
        self.segments.load_full()
    }

    fn show_segment(&self, segment: Arc<Segment>) {
        let mut segments = Vec::clone(&self.segments());
        segments.push(segment);
        self.segments.store(Arc::new(segments));
    }

    /// Tells this log from every other one.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// The place behind all that was there when it was opened.
    pub(super) fn opened_at(&self) -> (u64, u32) {
        self.opened_at
    }

    /// The segments of which the index was found damaged.
    pub(super) fn with_damaged_index(&self) -> Vec<Arc<Segment>> {
        let segments = self.segments();
        let damaged = segments
            .iter()
            .filter(|segment| segment.has_damaged_index());
        damaged.cloned().collect()
    }

    /// The encoded value of a checkpoint.
    pub(super) fn checkpoint(&self, key: &str) -> Option<Arc<[u8]>> {
        self.checkpoints.lock().get(key).cloned()
    }

    /// Lets the oldest chunks of memory go while there are more hot bytes than the budget allows.
    pub(super) fn cool(&self) {
        if !self.durable {
            return;
        }
        let mut over = self
            .facts
            .hot
            .load(Ordering::Relaxed)
            .saturating_sub(self.hot_bytes.load(Ordering::Relaxed));
        for segment in self.segments().iter() {
            while over > 0 {
                let freed = segment.cool();
                if freed == 0 {
                    break;
                }
                self.facts.hot.fetch_sub(freed, Ordering::Relaxed);
                over = over.saturating_sub(freed);
            }
        }
    }

    /// Takes no more; the writer drains what is there and ends. In memory it can be opened again.
    pub(super) fn close(&self) {
        let mut intake = self.intake.lock();
        if let State::Open = intake.state {
            intake.state = State::Closed;
        }
        if !self.durable {
            return;
        }
        self.admission.close();
        self.wake_writer(&mut intake);
        drop(intake);
        self.rolled.end();
    }

    /// Takes events again, in memory: there they outlive the actor.
    pub(super) fn reopen_in_memory(&self) {
        if !self.durable {
            self.intake.lock().state = State::Open;
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.intake.lock().state, State::Open)
    }

    /// After a failed write or sync nothing is known about the file: no more is written until it is opened anew.
    pub(super) fn fail(&self, failure: &Failure) {
        let (next, latest) = {
            let mut intake = self.intake.lock();
            intake.state = State::Failed(failure.clone());
            (mem::take(&mut intake.batch), intake.latest.clone())
        };
        self.admission.close();
        self.rolled.end();
        latest.settle(Err(failure.clone()));
        next.commit.settle(Err(failure.clone()));
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(self.intake.lock().state, State::Failed(_))
    }

    /// Bytes of all segment files, or of all segments in memory.
    pub(super) fn disk_bytes(&self) -> u64 {
        let segments = self.segments();
        segments.iter().map(|segment| segment.disk_bytes()).sum()
    }

    pub(super) fn count_unreadable(&self, n: u64) {
        self.facts.unreadable.fetch_add(n, Ordering::Relaxed);
    }

    /// Adds the figures of this log to those of the ones before it.
    pub(super) fn add_to_stats(&self, stats: &mut EventStats) {
        let facts = &self.facts;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        stats.events = count(&facts.shown);
        stats.stored += count(&facts.stored);
        stats.pruned += count(&facts.pruned);
        stats.unreadable += count(&facts.unreadable);
        stats.rebuilt += count(&facts.rebuilt);
        stats.commits += count(&facts.commits);
        stats.synced_sequence = count(&facts.synced);
        stats.hot_bytes = facts.hot.load(Ordering::Relaxed) as u64;
        stats.log_bytes = self.disk_bytes();
        for segment in self.segments().iter() {
            stats.segments += 1;
            stats.sealed += u64::from(segment.is_sealed());
            stats.index_bytes += segment.index_bytes() as u64;
        }
    }
}
