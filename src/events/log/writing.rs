//! What the writer asks of the log: batches, and to show what it made durable.

use std::{mem, sync::atomic::Ordering, time::Duration};

use super::{
    super::{
        frame::{Header, Kind},
        notes,
        recovery::Summary,
        segment::Segment,
    },
    Log,
    batch::{Batch, Work},
    intake::State,
};

impl Log {
    /// For the writer: the next batch, waiting for it as long as told.
    pub(in crate::events) fn take(&self, wait: Option<Duration>) -> Work {
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

    /// Adds a frame that only carries the last-synced mark; false if the newest frame is one. Where there is no segment for it a new one
    /// begins, if something `must` be written.
    pub(in crate::events) fn append_mark(&self, must: bool) -> bool {
        let mut intake = self.intake.lock();
        match intake.active.clone() {
            Some(active) if !intake.newest_is_mark => {
                let header = Header::of(Kind::Mark, self.id, 0, 0, &[]);
                // Beyond the segment's limit by 52 bytes at most; a new segment would carry the mark in its head.
                self.add_to(&mut intake, active, header, &[]).index(&[]);
                true
            }
            None if must => {
                self.roll(&mut intake);
                true
            }
            _ => false,
        }
    }

    /// For the writer: the batch is as durable as its callers asked for; shows it.
    pub(in crate::events) fn publish(&self, batch: &Batch) {
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
    pub(in crate::events) fn tidy(&self, batch: &Batch) {
        for part in batch.parts.iter().filter(|part| part.seal) {
            part.segment.finish();
            if let Some(summary) = self.summary_of(&part.segment) {
                // A segment is rolled once.
                let _ = part.segment.rolled.set(summary);
            }
            self.rolled.wake();
        }
        self.cool();
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
}
