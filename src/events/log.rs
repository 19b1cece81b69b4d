//! The log while it runs: callers add frames to a batch, the writer makes batches durable, readers see what is published.
//!
//! Locks are taken in this order: the intake, the order of indexing, a segment. None is held during I/O.
//!
//! A frame is handed to the writer before its events are indexed, so that the one is done beside the other. Whoever appends takes the order of
//! indexing before it lets the intake go: events are indexed in the order of their frames, and who holds the intake and the order knows
//! that all are.

use std::{
    hint, mem,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::{Notify, Semaphore};

use super::{
    commit::{Commit, Failure},
    frame::{HEADER_BYTES, Header, Kind},
    notes::{self, Checkpoints, LowWater, Position},
    options::{Durability, Options},
    record,
    recovery::{SEQUENCE_MAX, Summary},
    segment::Segment,
    stats::EventStats,
    view::{Access, View},
    wire::len32,
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
    sealing: Mutex<Sealing>,
    /// Signalled when there is something to seal, or nothing ever again.
    rolled: Condvar,
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

/// Figures that anyone may read at any time.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Events that readers see.
    pub(super) shown: AtomicU64,
    /// Events stored since the log was opened.
    pub(super) stored: AtomicU64,
    pub(super) pruned: AtomicU64,
    pub(super) hot: AtomicUsize,
    /// The highest sequence number known to be synced.
    pub(super) synced: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) unreadable: AtomicU64,
    /// Indexes that were made anew.
    pub(super) rebuilt: AtomicU64,
    /// Since when the writer waits for the disk, while it does.
    pub(super) writing: Mutex<Option<Instant>>,
}

/// What the sealer waits for, and what it says.
#[derive(Debug, Default)]
struct Sealing {
    waits: bool,
    ended: bool,
    /// Why a segment could not be sealed, or an index not made anew.
    trouble: Option<String>,
}

/// What callers and writer share under one lock.
#[derive(Debug)]
struct Intake {
    state: State,
    next_sequence: u64,
    /// No stored event has a higher id.
    highest: u64,
    active: Option<Arc<Segment>>,
    /// Bytes of the active segment.
    end: u32,
    /// Its rows, also those that are still to be indexed.
    rows: u32,
    batch: Batch,
    /// What the batch before this one waits for; settled when nothing is being written.
    latest: Arc<Commit>,
    writer_asleep: bool,
    low: LowWater,
    /// As they will be once the batch is stored.
    checkpoints: Checkpoints,
    newest_is_mark: bool,
}

#[derive(Debug, Clone)]
enum State {
    Open,
    Failed(Failure),
    Closed,
}

/// What the writer makes durable at once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) parts: Vec<Part>,
    pub(super) commit: Arc<Commit>,
    pub(super) checkpoints: Vec<(Arc<str>, Arc<[u8]>)>,
    /// Segments whose files go once this batch is durable.
    pub(super) dropped: Vec<Arc<Segment>>,
    /// Bytes that callers were admitted for.
    pub(super) admitted: u32,
}

/// The frames of a batch that go to one segment.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) segment: Arc<Segment>,
    /// The file does not exist yet.
    pub(super) create: bool,
    /// The segment gets no more frames after these.
    pub(super) seal: bool,
    pub(super) offset: u32,
    pub(super) bytes: Vec<u8>,
    /// Where each frame starts in `bytes`, and its header.
    pub(super) frames: Vec<(usize, Header)>,
    /// Rows of the segment after these frames.
    pub(super) rows: u32,
}

/// Events encoded by their caller, ready to be appended in one frame.
#[derive(Debug, Clone, Default)]
pub(super) struct Prepared {
    /// Front and records.
    pub(super) body: Vec<u8>,
    pub(super) front: usize,
    pub(super) events: u32,
    pub(super) lowest: u64,
    pub(super) highest: u64,
    pub(super) checkpoint: Option<(Arc<str>, Arc<[u8]>)>,
    /// Bytes to give back when the batch is done.
    pub(super) admitted: u32,
    /// What was looked up on the disk: id, segment, and its row there.
    pub(super) looked_up: Vec<(u64, u64, Option<u32>)>,
}

/// What became of an append.
#[derive(Debug)]
pub(super) enum Appended {
    /// Done; nothing to wait for.
    Stored,
    /// Stored once the batch is.
    Waiting(Arc<Commit>),
    /// Nothing was appended: some ids are there already.
    Known(Vec<Known>, Arc<Commit>),
    /// Nothing was appended: whether these ids are there only the disk can tell.
    Unsure(Vec<(u64, Arc<Segment>)>),
    /// Nothing was appended: the store has as many checkpoints as it keeps.
    TooManyCheckpoints,
    /// Nothing was appended: the log takes nothing any more.
    Refused(Failure),
}

/// An id that is in the log already.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) id: u64,
    /// Where its record starts in the body.
    pub(super) at: usize,
    pub(super) segment: Arc<Segment>,
    pub(super) row: u32,
}

/// A frame that was appended, and is not in memory yet.
struct Unindexed<'a> {
    _order: MutexGuard<'a, ()>,
    segment: Arc<Segment>,
    offset: u32,
    front: u32,
}

/// What the writer finds to do.
#[derive(Debug)]
pub(super) enum Work {
    Batch(Batch),
    /// Nothing came in time.
    Idle,
    /// The log is closed and everything is taken.
    Closed,
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

/// How many checkpoints a store keeps: files being imported, feeds being followed. Each new segment carries them all.
pub(super) const CHECKPOINTS_MAX: usize = 1024;
/// A fully pruned active segment below this size is not worth a new file.
const WORTH_DROPPING_BYTES: u32 = 64 << 10;

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
            sealing: Mutex::new(Sealing {
                waits: true,
                ..Sealing::default()
            }),
            rolled: Condvar::new(),
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

    /// Tells this log from every other one.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// The place behind all that was there when it was opened.
    pub(super) fn opened_at(&self) -> (u64, u32) {
        self.opened_at
    }

    /// The segments as readers see them, oldest first.
    pub(super) fn views(&self) -> Vec<Arc<dyn View>> {
        let view = |segment: &Arc<Segment>| -> Arc<dyn View> { segment.clone() };
        self.segments().iter().map(view).collect()
    }

    /// The encoded value of a checkpoint.
    pub(super) fn checkpoint(&self, key: &str) -> Option<Arc<[u8]>> {
        self.checkpoints.lock().get(key).cloned()
    }

    /// Adds events to the batch in one frame, or in memory mode stores them.
    pub(super) fn append(&self, prepared: &Prepared) -> Appended {
        let header = self.header_of(prepared);
        let intake = self.lock_intake();
        if let Some(failure) = intake.refusal() {
            return Appended::Refused(failure);
        }
        if prepared.lowest <= intake.highest {
            self.wait_for_indexing(&intake);
            let (known, unsure) = self.known(prepared);
            if !unsure.is_empty() {
                return Appended::Unsure(unsure);
            }
            if !known.is_empty() {
                let commit = intake.newest_commit();
                return Appended::Known(known, commit);
            }
        }
        if let Some((key, value)) = &prepared.checkpoint {
            let room = intake.checkpoints.len() < CHECKPOINTS_MAX
                || intake.checkpoints.contains_key(key)
                || value.is_empty();
            if !room {
                return Appended::TooManyCheckpoints;
            }
        }
        self.take_in(intake, header, prepared)
    }

    /// The intake, which is held for a fraction of a microsecond: a caller that sleeps until it is free is woken in fifty.
    fn lock_intake(&self) -> MutexGuard<'_, Intake> {
        /// Some microseconds.
        const LOOKS: u32 = 64;
        for _ in 0..LOOKS {
            if let Some(intake) = self.intake.try_lock() {
                return intake;
            }
            hint::spin_loop();
        }
        self.intake.lock()
    }

    /// Its frame's header; there are no frames in memory mode.
    fn header_of(&self, prepared: &Prepared) -> Option<Header> {
        let front = len32(prepared.front);
        let header = || {
            Header::of(
                Kind::Events,
                self.id,
                prepared.events,
                front,
                &prepared.body,
            )
        };
        self.durable.then(header)
    }

    fn take_in(
        &self,
        mut intake: MutexGuard<'_, Intake>,
        header: Option<Header>,
        prepared: &Prepared,
    ) -> Appended {
        intake.highest = intake.highest.max(prepared.highest);
        let Some(header) = header else {
            self.keep_in_memory(&mut intake, prepared);
            return Appended::Stored;
        };
        let unindexed = self.add_frame(&mut intake, header, &prepared.body);
        if let Some((key, value)) = &prepared.checkpoint {
            // After the frame: the head of a segment that it opens must not know the checkpoint before its events are there.
            notes::apply(&mut intake.checkpoints, key.clone(), value.clone());
        }
        intake.batch.checkpoints.extend(prepared.checkpoint.clone());
        intake.batch.admitted += prepared.admitted;
        let commit = intake.batch.commit.clone();
        self.wake_writer(&mut intake);
        drop(intake);
        unindexed.index(&prepared.body);
        Appended::Waiting(commit)
    }

    /// After it all that was appended is indexed, as long as the intake is held.
    fn wait_for_indexing(&self, _intake: &Intake) {
        drop(self.indexing.lock());
    }

    fn keep_in_memory(&self, intake: &mut Intake, prepared: &Prepared) {
        let records = &prepared.body[prepared.front..];
        let len = len32(records.len());
        let full = intake.end > 0 && intake.end.saturating_add(len) > self.segment_bytes();
        let segment = match &intake.active {
            Some(active) if !full => active.clone(),
            _ => self.next_in_memory(intake),
        };
        self.facts.hot.fetch_add(records.len(), Ordering::Relaxed);
        {
            let _counting = self.counting.lock();
            self.count_shown(segment.push_shown(intake.end, records));
        }
        intake.end += len;
        segment.set_written(intake.end);
        if let Some((key, value)) = &prepared.checkpoint {
            notes::apply(&mut intake.checkpoints, key.clone(), value.clone());
            notes::apply(&mut self.checkpoints.lock(), key.clone(), value.clone());
        }
        self.keep_count();
        if self.facts.hot.load(Ordering::Relaxed) > self.hot_bytes.load(Ordering::Relaxed) {
            self.forget_oldest(intake);
        }
    }

    fn next_in_memory(&self, intake: &mut Intake) -> Arc<Segment> {
        if let Some(sealed) = intake.active.take() {
            sealed.finish();
        }
        let segment = Arc::new(Segment::new(intake.next_sequence, String::new()));
        intake.next_sequence += 1;
        intake.active = Some(segment.clone());
        intake.end = 0;
        self.show_segment(segment.clone());
        self.drop_pruned(intake);
        segment
    }

    /// In memory the budget is for all events: the oldest segment goes.
    fn forget_oldest(&self, intake: &mut Intake) {
        if let [(oldest, rows), _, ..] = self.shown().as_slice() {
            self.count_hidden(oldest.hide_oldest(u64::MAX, *rows));
            self.drop_pruned(intake);
        }
    }

    /// Lets readers see the first rows of a segment.
    fn show(&self, segment: &Segment, rows: u32) {
        let _counting = self.counting.lock();
        self.count_shown(segment.publish(rows));
    }

    fn count_shown(&self, shown: u64) {
        self.news.notify_waiters();
        self.facts.shown.fetch_add(shown, Ordering::Relaxed);
        self.facts.stored.fetch_add(shown, Ordering::Relaxed);
    }

    /// Puts a frame behind the batch; its sequence number is given here, its mark by the writer.
    fn add_frame(&self, intake: &mut Intake, header: Header, body: &[u8]) -> Unindexed<'_> {
        let segment = match &intake.active {
            Some(active) if self.has_room(intake, body.len()) => active.clone(),
            _ => self.roll(intake),
        };
        self.add_to(intake, segment, header, body)
    }

    fn has_room(&self, intake: &Intake, body: usize) -> bool {
        intake.end.saturating_add(len32(HEADER_BYTES + body)) <= self.segment_bytes()
    }

    fn add_to(
        &self,
        intake: &mut Intake,
        segment: Arc<Segment>,
        mut header: Header,
        body: &[u8],
    ) -> Unindexed<'_> {
        header.sequence = intake.next_sequence;
        intake.next_sequence += 1;
        intake.newest_is_mark = header.kind == Kind::Mark;
        intake.rows += header.events;
        let bytes = HEADER_BYTES + body.len();
        self.facts.hot.fetch_add(bytes, Ordering::Relaxed);
        let unindexed = Unindexed {
            offset: intake.end,
            front: header.front,
            segment: segment.clone(),
            _order: self.indexing.lock(),
        };
        let rows = intake.rows;
        let part = intake.part(segment);
        part.rows = rows;
        part.frames.push((part.bytes.len(), header));
        part.bytes.reserve(bytes);
        part.bytes.extend_from_slice(&[0; HEADER_BYTES]);
        part.bytes.extend_from_slice(body);
        intake.end += len32(bytes);
        unindexed
    }

    /// Seals the active segment and starts the next one with its head.
    fn roll(&self, intake: &mut Intake) -> Arc<Segment> {
        self.wait_for_indexing(intake);
        if let Some(sealed) = intake.active.take() {
            intake.part(sealed).seal = true;
        }
        let base = intake.next_sequence;
        let segment = Arc::new(Segment::new(base, segment_name(base, self.id)));
        intake.active = Some(segment.clone());
        intake.end = 0;
        intake.rows = 0;
        self.show_segment(segment.clone());
        self.drop_pruned(intake);
        intake.part(segment.clone()).create = true;
        let mut front = Vec::new();
        intake.low.write(&mut front);
        notes::write_checkpoints(&mut front, intake.checkpoints.iter());
        let header = Header::of(Kind::Head, self.id, 0, len32(front.len()), &front);
        self.add_to(intake, segment.clone(), header, &front)
            .index(&front);
        segment
    }

    fn show_segment(&self, segment: Arc<Segment>) {
        let mut segments = Vec::clone(&self.segments());
        segments.push(segment);
        self.segments.store(Arc::new(segments));
    }

    fn wake_writer(&self, intake: &mut Intake) {
        if mem::take(&mut intake.writer_asleep) {
            self.work.notify_one();
        }
    }

    /// Which of the records are in the log, and of which that cannot be said without the disk.
    fn known(&self, prepared: &Prepared) -> (Vec<Known>, Vec<(u64, Arc<Segment>)>) {
        let segments = self.segments();
        let (mut known, mut unsure) = (Vec::new(), Vec::new());
        for (at, record) in record::all(&prepared.body[prepared.front..]) {
            for segment in segments.iter().rev() {
                let looked_up = prepared.looked_up(record.id, segment.base);
                let found =
                    looked_up.map_or_else(|| segment.find_any(record.id, Access::Memory), Ok);
                match found {
                    Ok(Some(row)) => {
                        known.push(Known {
                            id: record.id,
                            at: prepared.front + at,
                            segment: segment.clone(),
                            row,
                        });
                        break;
                    }
                    Ok(None) => {}
                    Err(_) => unsure.push((record.id, segment.clone())),
                }
            }
        }
        (known, unsure)
    }

    /// For the writer: the next batch, waiting for it as long as told.
    pub(super) fn take(&self, wait: Option<Duration>) -> Work {
        let mut intake = self.intake.lock();
        loop {
            if !intake.batch.parts.is_empty() {
                let batch = mem::take(&mut intake.batch);
                intake.latest = batch.commit.clone();
                return Work::Batch(batch);
            }
            if !matches!(intake.state, State::Open) {
                return Work::Closed;
            }
            intake.writer_asleep = true;
            let timed_out = if let Some(wait) = wait {
                self.work.wait_for(&mut intake, wait).timed_out()
            } else {
                self.work.wait(&mut intake);
                false
            };
            intake.writer_asleep = false;
            if timed_out && intake.batch.parts.is_empty() {
                return Work::Idle;
            }
        }
    }

    /// Adds a frame that only carries the last-synced mark; false if the newest frame is one.
    pub(super) fn append_mark(&self) -> bool {
        let mut intake = self.intake.lock();
        match intake.active.clone() {
            Some(active) if !intake.newest_is_mark => {
                let header = Header::of(Kind::Mark, self.id, 0, 0, &[]);
                // Beyond the segment's limit by 52 bytes at most; a new segment would carry the mark in its head.
                self.add_to(&mut intake, active, header, &[]).index(&[]);
                true
            }
            _ => false,
        }
    }

    /// For the writer: the batch is as durable as its callers asked for; shows it.
    pub(super) fn publish(&self, batch: &Batch) {
        // Whoever appended to it took the order before the batch could be taken.
        drop(self.indexing.lock());
        for part in &batch.parts {
            self.show(&part.segment, part.rows);
        }
        if !batch.checkpoints.is_empty() {
            let mut checkpoints = self.checkpoints.lock();
            for (key, value) in &batch.checkpoints {
                notes::apply(&mut checkpoints, key.clone(), value.clone());
            }
        }
        self.facts.commits.fetch_add(1, Ordering::Relaxed);
        self.keep_count();
        self.admission.add_permits(batch.admitted as usize);
        batch.commit.settle(Ok(()));
    }

    /// For the writer: gives back what rolled segments need no more, and hot bytes above the budget.
    pub(super) fn tidy(&self, batch: &Batch) {
        for part in batch.parts.iter().filter(|part| part.seal) {
            part.segment.finish();
            if let Some(summary) = self.summary_of(&part.segment) {
                // A segment is rolled once.
                let _ = part.segment.rolled.set(summary);
            }
            self.wake_sealer();
        }
        self.cool();
    }

    /// There may be something to seal, or an index to be made anew.
    pub(super) fn wake_sealer(&self) {
        self.sealing.lock().waits = true;
        self.rolled.notify_one();
    }

    /// The segments of which the index was found damaged.
    pub(super) fn with_damaged_index(&self) -> Vec<Arc<Segment>> {
        let segments = self.segments();
        let damaged = segments
            .iter()
            .filter(|segment| segment.has_damaged_index());
        damaged.cloned().collect()
    }

    /// What a later opening needs to know of a segment that was written to its end: the next one tells where that is.
    fn summary_of(&self, segment: &Segment) -> Option<Summary> {
        let last = self.base_after(segment.base)? - 1;
        Some(Summary {
            base: segment.base,
            last,
            synced: last,
            has_head: true,
            ..segment.found.get().cloned().unwrap_or_default()
        })
    }

    fn base_after(&self, base: u64) -> Option<u64> {
        let segments = self.segments();
        let next = segments.iter().find(|segment| segment.base > base)?;
        Some(next.base)
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

    /// Takes no more; the writer drains what is there and ends.
    pub(super) fn close(&self) {
        let mut intake = self.intake.lock();
        if let State::Open = intake.state {
            intake.state = State::Closed;
        }
        self.admission.close();
        self.wake_writer(&mut intake);
        drop(intake);
        self.end_sealing();
    }

    fn end_sealing(&self) {
        self.sealing.lock().ended = true;
        self.rolled.notify_one();
    }

    /// For the sealer: waits until there may be something to do, or as long as told; false if there never will be again.
    pub(super) fn wait_for_rolled(&self, patience: Option<Duration>) -> bool {
        let mut sealing = self.sealing.lock();
        let deadline = patience.map(|patience| Instant::now() + patience);
        while !sealing.waits && !sealing.ended {
            match deadline {
                Some(deadline) if self.rolled.wait_until(&mut sealing, deadline).timed_out() => {
                    break;
                }
                Some(_) => {}
                None => self.rolled.wait(&mut sealing),
            }
        }
        sealing.waits = false;
        !sealing.ended
    }

    /// Whether nothing is to be sealed any more.
    pub(super) fn has_ended(&self) -> bool {
        self.sealing.lock().ended
    }

    pub(super) fn set_sealing_trouble(&self, trouble: Option<String>) {
        self.sealing.lock().trouble = trouble;
    }

    /// What stands in the sealer's way.
    pub(super) fn sealing_trouble(&self) -> Option<String> {
        self.sealing.lock().trouble.clone()
    }

    /// After a failed write or sync nothing is known about the file: no more is written until it is opened anew.
    pub(super) fn fail(&self, failure: &Failure) {
        let (next, latest) = {
            let mut intake = self.intake.lock();
            intake.state = State::Failed(failure.clone());
            (mem::take(&mut intake.batch), intake.latest.clone())
        };
        self.admission.close();
        self.end_sealing();
        latest.settle(Err(failure.clone()));
        next.commit.settle(Err(failure.clone()));
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(self.intake.lock().state, State::Failed(_))
    }

    /// Hides events earlier than `time`; `None` if too many such prunes are remembered. Durable once the commit is settled.
    pub(super) fn prune_before(&self, time: i64) -> Option<(u64, Arc<Commit>)> {
        let _pruning = self.pruning.lock();
        let shown = self.shown();
        self.wait_for_indexing(&self.intake.lock());
        let ends_here = |(segment, rows): &&(Arc<Segment>, u32)| *rows < segment.all_rows();
        let position = shown.iter().find(ends_here).or(shown.last()).map_or(
            Position::default(),
            |(segment, rows)| Position {
                segment: segment.base,
                // A segment of which not all is shown yet is in memory.
                offset: segment.offset_of(*rows).unwrap_or(u32::MAX),
            },
        );
        let remembered = self.intake.lock().low.hide_before(time, position);
        if !remembered {
            return None;
        }
        let mut pruned = 0;
        for (segment, rows) in &shown {
            pruned += self.count_hidden(segment.hide_before(time, *rows));
        }
        Some((pruned, self.persist_low_water()))
    }

    /// Hides the oldest stored events until `count` are left.
    pub(super) fn prune_to(&self, count: u64) -> (u64, Arc<Commit>) {
        let pruning = self.pruning.lock();
        let pruned = self.hide_down_to(count);
        drop(pruning);
        (pruned, self.persist_low_water())
    }

    /// Drops the oldest whole segments while their files are larger than `bytes` together; never the active one.
    pub(super) fn prune_bytes(&self, bytes: u64) -> (u64, Arc<Commit>) {
        let _pruning = self.pruning.lock();
        let shown = self.shown();
        let mut total = self.disk_bytes();
        let mut pruned = 0;
        for (segment, rows) in &shown[..shown.len().saturating_sub(1)] {
            if total <= bytes {
                break;
            }
            total = total.saturating_sub(segment.disk_bytes());
            pruned += self.count_hidden(segment.hide_oldest(u64::MAX, *rows));
        }
        (pruned, self.persist_low_water())
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

    /// Every segment with the rows that readers may see now, all of which are counted.
    fn shown(&self) -> Vec<(Arc<Segment>, u32)> {
        let segments = self.segments();
        let _counting = self.counting.lock();
        let with_rows = |segment: &Arc<Segment>| (segment.clone(), segment.published());
        segments.iter().map(with_rows).collect()
    }

    fn keep_count(&self) {
        let max = self.max_events.load(Ordering::Relaxed);
        if self.facts.shown.load(Ordering::Relaxed) > max
            // Whoever prunes now takes from the same events; the next batch looks again.
            && let Some(_pruning) = self.pruning.try_lock()
        {
            self.hide_down_to(max);
        }
    }

    fn hide_down_to(&self, count: u64) -> u64 {
        let mut pruned = 0;
        for (segment, rows) in self.shown() {
            let excess = self
                .facts
                .shown
                .load(Ordering::Relaxed)
                .saturating_sub(count);
            if excess == 0 {
                break;
            }
            pruned += self.count_hidden(segment.hide_oldest(excess, rows));
        }
        pruned
    }

    fn count_hidden(&self, hidden: u64) -> u64 {
        self.facts.shown.fetch_sub(hidden, Ordering::Relaxed);
        self.facts.pruned.fetch_add(hidden, Ordering::Relaxed);
        hidden
    }

    /// A place in the log before which nothing shows, and will show. May read from the disk.
    fn shown_start(&self) -> Position {
        let segments = self.segments();
        let first = segments.iter().find(|segment| !segment.is_pruned());
        let Some(segment) = first.or(segments.last()) else {
            return Position::default();
        };
        // Where the index cannot be read, what was hidden before it stays hidden all the same.
        let offset = segment.offset_of(segment.hidden_prefix()).unwrap_or(0);
        Position {
            segment: segment.base,
            offset,
        }
    }

    /// Writes down what is hidden, and drops segments of which nothing shows any more.
    fn persist_low_water(&self) -> Arc<Commit> {
        let start = self.shown_start();
        let mut intake = self.intake.lock();
        if let Some(failure) = intake.refusal() {
            return Commit::settled(Err(failure));
        }
        self.wait_for_indexing(&intake);
        self.drop_pruned(&mut intake);
        intake.low.through = intake.low.through.max(start);
        if !self.durable || self.segments().is_empty() {
            return Commit::settled(Ok(()));
        }
        let mut front = Vec::new();
        intake.low.write(&mut front);
        match intake
            .active
            .clone()
            .filter(|_| self.has_room(&intake, front.len()))
        {
            Some(active) if !intake.active_is_pruned() => {
                let header = Header::of(Kind::LowWater, self.id, 0, len32(front.len()), &front);
                self.add_to(&mut intake, active, header, &front)
                    .index(&front);
            }
            // The head of the new segment carries the low water, and what was dropped since it was written out above.
            _ => drop(self.roll(&mut intake)),
        }
        let commit = intake.batch.commit.clone();
        self.wake_writer(&mut intake);
        commit
    }

    /// Takes segments of which nothing shows out of the view; their files go with the next batch.
    fn drop_pruned(&self, intake: &mut Intake) {
        let segments = self.segments();
        let Some((newest, older)) = segments.split_last() else {
            return;
        };
        let mut kept = Vec::with_capacity(segments.len());
        for (segment, next) in older.iter().zip(segments.iter().skip(1)) {
            if !segment.is_pruned() {
                kept.push(segment.clone());
                continue;
            }
            intake.low.drop_range(segment.base, next.base - 1);
            self.facts.hot.fetch_sub(segment.go(), Ordering::Relaxed);
            intake.batch.dropped.push(segment.clone());
        }
        kept.push(newest.clone());
        if kept.len() == segments.len() {
            return;
        }
        intake.low.through = intake.low.through.max(Position {
            segment: kept[0].base,
            offset: 0,
        });
        intake.low.forget_before(kept[0].base);
        if !self.durable {
            intake.batch.dropped.clear();
        }
        self.segments.store(Arc::new(kept));
    }
}

impl Unindexed<'_> {
    /// Lets it be found, with its bytes in memory.
    fn index(self, body: &[u8]) {
        let front = self.front as usize;
        self.segment.push(self.offset, HEADER_BYTES, body, front);
    }
}

impl Intake {
    /// Whether dropping the active segment gives enough space back.
    fn active_is_pruned(&self) -> bool {
        let pruned = self
            .active
            .as_ref()
            .is_some_and(|active| active.is_pruned());
        pruned && self.end >= WORTH_DROPPING_BYTES
    }

    fn refusal(&self) -> Option<Failure> {
        match &self.state {
            State::Open => None,
            State::Failed(failure) => Some(failure.clone()),
            State::Closed => Some(Failure::new("it was stopped")),
        }
    }

    /// What the newest frame waits for.
    fn newest_commit(&self) -> Arc<Commit> {
        if self.batch.parts.is_empty() {
            self.latest.clone()
        } else {
            self.batch.commit.clone()
        }
    }

    /// The part of the batch for `segment`, which is the active one or the one that is being sealed.
    fn part(&mut self, segment: Arc<Segment>) -> &mut Part {
        let last = self.batch.parts.last();
        if last.is_none_or(|part| part.segment.base != segment.base) {
            self.batch.parts.push(Part {
                rows: self.rows,
                segment,
                create: false,
                seal: false,
                offset: self.end,
                bytes: Vec::new(),
                frames: Vec::new(),
            });
        }
        let last = self.batch.parts.len() - 1;
        &mut self.batch.parts[last]
    }
}

impl Prepared {
    /// What is left without the records that start at `known`.
    pub(super) fn without(&self, known: &[usize]) -> Self {
        let mut left = Self {
            body: self.body[..self.front].to_vec(),
            front: self.front,
            lowest: u64::MAX,
            checkpoint: self.checkpoint.clone(),
            admitted: self.admitted,
            looked_up: self.looked_up.clone(),
            ..Self::default()
        };
        for (at, record) in record::all(&self.body[self.front..]) {
            if !known.contains(&(self.front + at)) {
                left.count(record.id);
                left.body.extend_from_slice(record.bytes);
            }
        }
        left
    }

    /// What the disk said of an id in a segment, if it was asked.
    #[expect(clippy::option_option, reason = "not asked, not there, there")]
    fn looked_up(&self, id: u64, base: u64) -> Option<Option<u32>> {
        let asked = |(of, segment, _): &&(u64, u64, Option<u32>)| (*of, *segment) == (id, base);
        self.looked_up.iter().find(asked).map(|(.., row)| *row)
    }

    /// Counts one more event.
    pub(super) fn count(&mut self, id: u64) {
        self.events += 1;
        self.lowest = self.lowest.min(id);
        self.highest = self.highest.max(id);
    }
}

pub(super) fn segment_name(base: u64, log: u64) -> String {
    format!("{base:016x}-{log:016x}.seg")
}

/// First sequence number, log id and segment file of a file of blocks.
pub(super) fn parse_blocks_name(name: &str) -> Option<(u64, u64, String)> {
    let name = format!("{}.seg", name.strip_suffix(".blocks")?);
    let (base, log) = parse_segment_name(&name)?;
    Some((base, log, name))
}

/// First sequence number and log id of a segment file.
pub(super) fn parse_segment_name(name: &str) -> Option<(u64, u64)> {
    let (base, log) = name.strip_suffix(".seg")?.split_once('-')?;
    let number = |text: &str| {
        (text.len() == 16)
            .then(|| u64::from_str_radix(text, 16).ok())
            .flatten()
    };
    // Of any other number there is no frame.
    let base = number(base).filter(|base| (1..=SEQUENCE_MAX).contains(base))?;
    Some((base, number(log)?))
}
