//! Callers add frames to the batch.
//!
//! A frame is handed to the writer before its events are indexed, so that the one is done beside the other. Whoever appends takes the order of
//! indexing before it lets the intake go: events are indexed in the order of their frames, and who holds the intake and the order knows
//! that all are.

use std::{
    hint, mem,
    sync::{Arc, atomic::Ordering},
};

use parking_lot::MutexGuard;

use super::{
    super::{
        frame::{HEADER_BYTES, Header, Kind},
        naming::segment_name,
        notes, record,
        segment::Segment,
        view::Access,
        wire::len32,
    },
    Log,
    intake::Intake,
    prepared::{Appended, Known, Prepared},
};

/// How many checkpoints a store keeps: files being imported, feeds being followed. Each new segment carries them all.
pub(in crate::events) const CHECKPOINTS_MAX: usize = 1024;

/// A frame that was appended, and is not in memory yet.
pub(super) struct Unindexed<'a> {
    _order: MutexGuard<'a, ()>,
    segment: Arc<Segment>,
    offset: u32,
    front: u32,
}

impl Log {
    /// Adds events to the batch in one frame, or in memory mode stores them.
    pub(in crate::events) fn append(&self, prepared: &Prepared) -> Appended {
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

    /// After it all that was appended is indexed, as long as the intake is held.
    pub(super) fn wait_for_indexing(&self, _intake: &Intake) {
        drop(self.indexing.lock());
    }

    /// Puts a frame behind the batch; its sequence number is given here, its mark by the writer.
    fn add_frame(&self, intake: &mut Intake, header: Header, body: &[u8]) -> Unindexed<'_> {
        let segment = match &intake.active {
            Some(active) if self.has_room(intake, body.len()) => active.clone(),
            _ => self.roll(intake),
        };
        self.add_to(intake, segment, header, body)
    }

    pub(super) fn has_room(&self, intake: &Intake, body: usize) -> bool {
        intake.end.saturating_add(len32(HEADER_BYTES + body)) <= self.segment_bytes()
    }

    pub(super) fn add_to(
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
    pub(super) fn roll(&self, intake: &mut Intake) -> Arc<Segment> {
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

    pub(super) fn wake_writer(&self, intake: &mut Intake) {
        if mem::take(&mut intake.writer_asleep) {
            self.work.notify_one();
        }
    }
}

impl Unindexed<'_> {
    /// Lets it be found, with its bytes in memory.
    pub(super) fn index(self, body: &[u8]) {
        let front = self.front as usize;
        self.segment.push(self.offset, HEADER_BYTES, body, front);
    }
}
