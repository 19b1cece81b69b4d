//! Events are hidden at once and written down as the low water; segments of which nothing shows go, with their files.

use std::sync::{Arc, atomic::Ordering};

use super::{
    super::{
        commit::Commit,
        frame::{Header, Kind},
        notes::Position,
        segment::Segment,
        wire::len32,
    },
    Log,
    intake::Intake,
};

impl Log {
    /// Hides events earlier than `time`; `None` if too many such prunes are remembered. Durable once the commit is settled.
    pub(in crate::events) fn prune_before(&self, time: i64) -> Option<(u64, Arc<Commit>)> {
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
    pub(in crate::events) fn prune_to(&self, count: u64) -> (u64, Arc<Commit>) {
        let pruning = self.pruning.lock();
        let pruned = self.hide_down_to(count);
        drop(pruning);
        (pruned, self.persist_low_water())
    }

    /// Drops the oldest whole segments while their files are larger than `bytes` together; never the active one.
    pub(in crate::events) fn prune_bytes(&self, bytes: u64) -> (u64, Arc<Commit>) {
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
    pub(super) fn drop_pruned(&self, intake: &mut Intake) {
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
