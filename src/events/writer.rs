//! The one writer of a log: takes a batch, writes it, syncs it, wakes all that waited.

use std::{
    io,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{
    commit::Failure,
    disk::{Disk, DiskFile, DiskLock},
    frame::HEADER_BYTES,
    log::{Batch, Log, Part, Work},
    options::Durability,
    segment::Segment,
    wire::len32,
};

/// Writes for one opened log, and holds its folder as long as it lives.
#[derive(Debug)]
pub(super) struct Writer {
    log: Arc<Log>,
    disk: Arc<dyn Disk>,
    durability: Durability,
    idle_mark: Duration,
    /// The newest sequence number that was written.
    written: u64,
    /// What was written and not synced, and since when.
    unsynced: Option<(Arc<dyn DiskFile>, Instant)>,
    /// Everything is synced, and the log says so.
    at_rest: bool,
    /// What room is made of.
    zeros: Box<[u8]>,
    _lock: Arc<dyn DiskLock>,
}

/// Room that is made at a time behind what is written. A sync of bytes that make a file longer has to write down where they are, too: 28 kB
/// took 250 us so and 120 us into room (ext4 on a solid-state disk, its zeros included).
const ROOM_BYTES: u32 = 1 << 20;
/// Larger writes take longer by the zeros than they gain.
const WRITE_BYTES_WITH_ROOM: usize = 128 << 10;

/// Who is told what the writer did.
pub(super) trait Witness: Send + 'static {
    /// A batch was stored.
    fn stored(&self, took: Duration);
    /// The log failed and takes no more.
    fn failed(&self, failure: &Failure);
    /// Whether a failure is told that only a write can show to be over.
    fn waits_for_a_write(&self) -> bool {
        false
    }
}

impl Writer {
    pub(super) fn new(
        log: Arc<Log>,
        disk: Arc<dyn Disk>,
        lock: Arc<dyn DiskLock>,
        durability: Durability,
        idle_mark: Duration,
    ) -> Self {
        let written = log.facts.synced.load(Ordering::Relaxed);
        Self {
            log,
            disk,
            durability,
            idle_mark,
            written,
            unsynced: None,
            at_rest: false,
            zeros: vec![0; ROOM_BYTES as usize].into(),
            _lock: lock,
        }
    }

    /// Works until the log is closed or fails. A panic is a failure.
    pub(super) fn run(mut self, witness: &impl Witness) {
        loop {
            let work = self.log.take(self.patience(Instant::now()));
            let closed = matches!(work, Work::Closed);
            *self.log.facts.writing.lock() = Some(Instant::now());
            let done = panic::catch_unwind(AssertUnwindSafe(|| self.turn(work, witness)));
            *self.log.facts.writing.lock() = None;
            let done = done.unwrap_or_else(|_| Err(Failure::new("its writer panicked")));
            if let Err(failure) = done {
                // Before the callers are told: who was refused finds the reason in the store's health.
                let told = panic::catch_unwind(AssertUnwindSafe(|| witness.failed(&failure)));
                self.log.fail(&failure);
                // A panic there has been said by its hook; this thread ends anyway.
                drop(told);
                return;
            }
            if closed {
                return;
            }
        }
    }

    /// One piece of work. After an error the log must not be used any more.
    pub(super) fn turn(&mut self, work: Work, witness: &impl Witness) -> Result<(), Failure> {
        self.at_rest = false;
        match work {
            Work::Batch(batch) => self.store(batch, witness),
            Work::Idle => self.idle(witness.waits_for_a_write()),
            Work::Closed => self.finish(witness),
        }
    }

    fn store(&mut self, mut batch: Batch, witness: &impl Witness) -> Result<(), Failure> {
        let start = Instant::now();
        self.commit(&mut batch).map_err(Failure::new)?;
        self.log.publish(&batch);
        witness.stored(start.elapsed());
        self.unlink(&batch);
        self.log.tidy(&batch);
        Ok(())
    }

    /// Makes a batch as durable as its callers asked for.
    fn commit(&mut self, batch: &mut Batch) -> io::Result<()> {
        for part in &mut batch.parts {
            self.write(part)?;
        }
        match self.durability {
            // A file must not go before it is certain that the low water says so.
            _ if !batch.dropped.is_empty() => self.sync(),
            Durability::Always => self.sync(),
            Durability::Interval(within) => match &self.unsynced {
                Some((_, since)) if since.elapsed() >= within => self.sync(),
                _ => Ok(()),
            },
            Durability::Memory => Ok(()),
        }
    }

    fn write(&mut self, part: &mut Part) -> io::Result<()> {
        if part.create {
            let file = self.disk.create(&part.segment.name)?;
            // An event in a file that has no name after a crash is lost.
            self.disk.sync_folder()?;
            part.segment.set_file(file);
        }
        let file = part.segment.file().ok_or(io::ErrorKind::NotFound)?;
        if !part.bytes.is_empty() {
            self.fill_headers(part);
            file.write_at(&part.bytes, part.offset.into())?;
            part.segment
                .set_written(part.offset + len32(part.bytes.len()));
            if !part.seal && part.bytes.len() <= WRITE_BYTES_WITH_ROOM {
                self.make_room(&part.segment, file.as_ref());
            }
            if self.unsynced.is_none() {
                self.unsynced = Some((file, Instant::now()));
            }
        }
        if part.seal {
            // The head of the next segment says that all of this one is synced.
            self.give_back_room(&part.segment)?;
            self.sync()?;
        }
        Ok(())
    }

    /// Zeros behind what is written, which the same sync makes durable. Where the disk has no room for them the file grows with its frames.
    fn make_room(&self, segment: &Segment, file: &dyn DiskFile) {
        let end = segment.written();
        if self.durability != Durability::Always || end <= segment.room() {
            return;
        }
        let limit = self.log.segment_bytes().max(end);
        let room = limit.min(end.saturating_add(ROOM_BYTES));
        segment.set_room(room);
        let zeros = &self.zeros[..(room - end) as usize];
        if zeros.is_empty() {
            return;
        }
        if let Err(error) = file.write_at(zeros, end.into()) {
            tracing::debug!(segment = segment.name, %error, "no room was made ahead");
        }
    }

    /// A segment that gets no more frames ends with its last one.
    fn give_back_room(&mut self, segment: &Segment) -> io::Result<()> {
        let end = segment.written();
        let Some(file) = segment.file().filter(|_| segment.room() > end) else {
            return Ok(());
        };
        file.truncate(end.into())?;
        segment.set_room(end);
        self.unsynced.get_or_insert((file, Instant::now()));
        Ok(())
    }

    fn fill_headers(&mut self, part: &mut Part) {
        let synced = self.log.facts.synced.load(Ordering::Relaxed);
        for (at, header) in &mut part.frames {
            header.synced = synced;
            part.bytes[*at..*at + HEADER_BYTES].copy_from_slice(&header.encode());
            self.written = header.sequence;
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        if let Some((file, _)) = self.unsynced.take() {
            file.sync()?;
        }
        self.log.facts.synced.store(self.written, Ordering::Relaxed);
        Ok(())
    }

    /// A file that stays is removed at the next opening: the low water names it.
    fn unlink(&self, batch: &Batch) {
        for segment in &batch.dropped {
            segment.remove(self.disk.as_ref());
        }
    }

    fn idle(&mut self, must_write: bool) -> Result<(), Failure> {
        self.sync().map_err(Failure::new)?;
        if must_write && !self.is_there_room() {
            // It is tried again: this is not rest.
            return Ok(());
        }
        self.at_rest = !self.log.append_mark(must_write);
        Ok(())
    }

    /// Whether the disk takes as much as a segment begins with. To find that out with the log would fail it at every look, and use up its
    /// supervisor's patience.
    fn is_there_room(&self) -> bool {
        // A crash may leave it; the next look removes it.
        let name = format!("{:016x}.room", self.log.id());
        let tried = || {
            let file = self.disk.create(&name)?;
            file.write_at(&self.zeros, 0)?;
            file.sync()
        };
        let outcome = tried().and_then(|()| self.disk.remove(&name));
        if let Err(error) = &outcome {
            tracing::debug!(%error, "the disk takes nothing yet");
            // Where it was not even created there is nothing to remove.
            let _ = self.disk.remove(&name);
        }
        outcome.is_ok()
    }

    fn finish(&mut self, witness: &impl Witness) -> Result<(), Failure> {
        if self.log.has_failed() {
            return Ok(());
        }
        self.idle(false)?;
        if let Work::Batch(mark) = self.log.take(None) {
            self.store(mark, witness)?;
        }
        if let Some(newest) = self.log.segments().last() {
            self.give_back_room(newest).map_err(Failure::new)?;
        }
        self.sync().map_err(Failure::new)
    }

    /// How long to sleep at most: until the next sync, until the log is idle, or as long as nothing comes.
    fn patience(&self, now: Instant) -> Option<Duration> {
        match (self.durability, &self.unsynced) {
            (Durability::Interval(within), Some((_, since))) => {
                Some(within.saturating_sub(now.duration_since(*since)))
            }
            _ if self.at_rest => None,
            _ => Some(self.idle_mark),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{cache::Cache, opening, options::Options, simulated::SimulatedDisk},
        *,
    };

    /// As one whose words go to a full disk, too.
    struct Panicking;

    impl Witness for Panicking {
        fn stored(&self, _: Duration) {}

        fn failed(&self, _: &Failure) {
            panic!("nothing can be written any more");
        }
    }

    #[test]
    fn whoever_waits_is_answered_also_when_nobody_can_be_told_of_a_failure() {
        let disk = SimulatedDisk::new(1);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let cache = Arc::new(Cache::new(0));
        let opening = opening::open(&shared, &Options::default(), &cache, None, 77, &|_| true);
        let opening = opening.expect("an empty folder");
        let log = opening.log;
        let (_, commit) = {
            log.append_mark(true);
            log.prune_to(0)
        };
        disk.leave_room(Some(0));

        opening.writer.run(&Panicking);

        assert!(matches!(commit.outcome(), Some(Err(_))));
        assert!(log.has_failed());
    }
}
