//! A log without a disk: what is appended is stored, and the oldest goes where the budget is full.

use std::sync::{Arc, atomic::Ordering};

use super::{
    super::{notes, segment::Segment, wire::len32},
    Log,
    intake::Intake,
    prepared::Prepared,
};

impl Log {
    pub(super) fn keep_in_memory(&self, intake: &mut Intake, prepared: &Prepared) {
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
}
