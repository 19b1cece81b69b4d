//! Seals segments beside the writer: compresses their bytes, writes their index, and only then lets the first file go. An index that a
//! reader found damaged is made anew from its blocks.
//!
//! A crash at any step leaves the first file, and as long as it is there it is the truth: the next opening removes what was made of it and
//! it is sealed again. Only where it was damaged since, and what was made of it is whole, that stays.

use std::{
    any::Any,
    collections::HashSet,
    io,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use crate::telemetry::Counter;

use super::{
    blocks::{self, Blocks, SEGMENT_BYTES_MAX},
    cache::Cache,
    disk::{Disk, DiskFile, DiskLock},
    error::OpenError,
    finding::text_of,
    frame::{HEADER_BYTES, Kind},
    index::{IndexBuilder, Layout},
    log::Log,
    mending::{self, Remade},
    naming::{parse_segment_name, sealed_names},
    record,
    recovery::{self, Scan, Summary},
    sealed::{IndexFault, Sealed, damaged},
    segment::Segment,
    wire::len32,
};

/// Seals for one opened log, and holds its folder as long as it lives.
#[derive(Debug)]
pub(super) struct Sealer {
    log: Arc<Log>,
    disk: Arc<dyn Disk>,
    cache: Arc<Cache>,
    /// Segments of which the bytes are damaged by now: they stay as they are, and every opening says so.
    skipped: HashSet<u64>,
    /// An index is damaged, and so are its blocks: what is left of them has other rows, and only an opening may change those.
    needs_opening: bool,
    _lock: Arc<dyn DiskLock>,
}

/// How long to wait after a failure: the disk is full or broken, and nothing is lost by waiting.
const PAUSE: Duration = Duration::from_secs(5);
/// Bytes of blocks written at a time.
const PIECE_BYTES: usize = 1 << 20;

impl Sealer {
    pub(super) fn new(
        log: Arc<Log>,
        disk: Arc<dyn Disk>,
        cache: Arc<Cache>,
        lock: Arc<dyn DiskLock>,
    ) -> Self {
        let seals = Arc::downgrade(&log);
        cache.set_alarm(move || {
            if let Some(log) = seals.upgrade() {
                log.rolled.wake();
            }
        });
        Self {
            log,
            disk,
            cache,
            skipped: HashSet::new(),
            needs_opening: false,
            _lock: lock,
        }
    }

    /// Works until the log is closed or fails, and counts the indexes made anew; answers whether the log has to be opened anew.
    pub(super) fn run(mut self, rebuilt: &Counter) -> bool {
        let mut patience = None;
        while !self.needs_opening && self.log.rolled.wait(patience) {
            let before = self.rebuilt();
            let done = caught(|| self.turn());
            patience = done.is_err().then_some(PAUSE);
            rebuilt.add(self.rebuilt() - before);
        }
        self.needs_opening
    }

    fn rebuilt(&self) -> u64 {
        self.log.facts.rebuilt.load(Ordering::Relaxed)
    }

    /// Makes damaged indexes anew, and seals all that waits to be sealed.
    pub(super) fn turn(&mut self) -> io::Result<()> {
        let mended = self.mend_indexes();
        self.seal_all().and(mended)
    }

    fn mend_indexes(&mut self) -> io::Result<()> {
        let mut outcome = Ok(());
        for segment in self.log.with_damaged_index() {
            if self.log.rolled.has_ended() {
                break;
            }
            match caught(|| self.mend_index(&segment)) {
                Ok(true) => {
                    self.log.facts.rebuilt.fetch_add(1, Ordering::Relaxed);
                    if self.skipped.is_empty() {
                        self.log.rolled.set_trouble(None);
                    }
                }
                Ok(false) => self.needs_opening = true,
                Err(_) if segment.is_gone() => {}
                Err(error) => {
                    let name = &segment.name;
                    tracing::warn!(segment = name, %error, "a damaged index was not made anew");
                    self.log.rolled.set_trouble(Some(format!(
                        "the damaged index of {name} was not made anew: {error}; it is tried again"
                    )));
                    // What is wrong with one is not mended by another.
                    outcome = Err(error);
                }
            }
        }
        outcome
    }

    /// False where only an opening can: then the index is put aside, and the opening makes it anew.
    fn mend_index(&self, segment: &Segment) -> io::Result<bool> {
        let (disk, name) = (self.disk.as_ref(), &segment.name);
        let (base, log) = parse_segment_name(name).ok_or_else(damaged)?;
        let (blocks, index) = sealed_names(name);
        tracing::warn!(
            file = index,
            "a page is damaged; the index is made anew from its blocks"
        );
        let remade = Remade::of(disk, name, (base, log), Layout::default()).map_err(io_error)?;
        if !remade.is_whole(segment.all_rows()) {
            mending::put_aside(disk, &index)?;
            return Ok(false);
        }
        remade.put_in_place(disk, name).map_err(io_error)?;
        let outcome = match Sealed::open(disk, (&blocks, &index), &self.cache) {
            Ok(sealed) => {
                segment.adopt(sealed);
                Ok(true)
            }
            Err(IndexFault::Disk(error)) => Err(error),
            Err(_) => Err(io::Error::other("it does not read back")),
        };
        // Pruned meanwhile, with its files: this one came after.
        if segment.is_gone()
            && let Err(error) = disk.remove(&index)
        {
            tracing::debug!(file = index, %error, "the index of a pruned segment is gone already");
        }
        outcome
    }

    fn seal_all(&mut self) -> io::Result<()> {
        while let Some(segment) = self.next() {
            match caught(|| self.seal(&segment)) {
                Ok(()) if self.skipped.is_empty() => self.log.rolled.set_trouble(None),
                // What is wrong with one segment is not mended by another.
                Ok(()) => {}
                Err(_) if self.log.rolled.has_ended() => return Ok(()),
                Err(_) if segment.is_gone() => {}
                Err(error) => {
                    self.tell(&segment, &error);
                    if error.kind() != io::ErrorKind::InvalidData {
                        return Err(error);
                    }
                    self.skipped.insert(segment.base);
                }
            }
        }
        Ok(())
    }

    fn next(&self) -> Option<Arc<Segment>> {
        let segments = self.log.segments();
        let waits = |segment: &&Arc<Segment>| {
            segment.can_be_sealed() && !self.skipped.contains(&segment.base)
        };
        segments.iter().find(waits).cloned()
    }

    fn tell(&self, segment: &Segment, error: &io::Error) {
        let name = &segment.name;
        self.log.rolled.set_trouble(Some(format!(
            "{name} was not sealed: {error}; it stays as it is, and is readable"
        )));
        tracing::warn!(segment = name, %error, "a segment was not sealed; it stays as it is");
    }

    fn seal(&self, segment: &Segment) -> io::Result<()> {
        match self.make(segment) {
            Ok(sealed) => segment.adopt(sealed),
            Err(error) => {
                remove_sealed(self.disk.as_ref(), &segment.name);
                return Err(error);
            }
        }
        self.log.cool();
        if segment.is_gone() {
            // What is pruned is the writer's to remove, once it is certain that the low water says so.
            remove_sealed(self.disk.as_ref(), &segment.name);
            return Ok(());
        }
        // If it stays it is the truth again at the next opening, and is sealed again.
        self.disk.remove(&segment.name)
    }

    fn make(&self, segment: &Segment) -> io::Result<Sealed> {
        let summary = segment.rolled.get().ok_or(io::ErrorKind::NotFound)?;
        let file = segment.file().ok_or(io::ErrorKind::NotFound)?;
        let bytes = read_whole(file.as_ref(), segment.written().into())?;
        let scan = recovery::scan(&bytes, self.log.id(), segment.base).map_err(|_| damaged())?;
        if !scan.damage.is_empty() || bytes.len() != segment.written() as usize {
            return Err(damaged());
        }
        let go_on = || !segment.is_gone() && !self.log.rolled.has_ended();
        let disk = self.disk.as_ref();
        write_sealed(
            disk,
            &segment.name,
            self.log.id(),
            summary,
            &bytes,
            &scan,
            &go_on,
        )?;
        let (blocks, index) = sealed_names(&segment.name);
        match Sealed::open(disk, (&blocks, &index), &self.cache) {
            Ok(sealed) if sealed.directory.rows == segment.all_rows() => Ok(sealed),
            Ok(_) => Err(io::Error::other("its index has another number of events")),
            Err(IndexFault::Disk(error)) => Err(error),
            Err(_) => Err(io::Error::other("its index does not read back")),
        }
    }
}

/// A panic is the trouble of one segment, and is told as what is wrong with it.
fn caught<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let panicked = |panic: Box<dyn Any + Send>| {
        let words = format!("it panicked: {}", text_of(&*panic));
        Err(io::Error::new(io::ErrorKind::InvalidData, words))
    };
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked)
}

fn io_error(error: OpenError) -> io::Error {
    match error {
        OpenError::Read { error, .. } => error,
        other => io::Error::other(other),
    }
}

/// Removes what was made of a segment.
pub(super) fn remove_sealed(disk: &dyn Disk, name: &str) {
    let (blocks, index) = sealed_names(name);
    for name in [index, blocks] {
        match disk.remove(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(file = name, %error, "what was left of an unfinished sealing was not removed");
            }
            _ => {}
        }
    }
}

/// Writes the blocks and the index of a segment, durably.
pub(super) fn write_sealed(
    disk: &dyn Disk,
    name: &str,
    log: u64,
    summary: &Summary,
    bytes: &[u8],
    scan: &Scan,
    go_on: &dyn Fn() -> bool,
) -> io::Result<()> {
    remove_sealed(disk, name);
    let (blocks_name, index_name) = sealed_names(name);
    let index = index_of(bytes, scan);
    let blocks = {
        let file = disk.create(&blocks_name)?;
        let mut blocks = Blocks::new(log);
        let (mut piece, mut start) = (Vec::new(), 0);
        for end in blocks::cuts(bytes, index.offsets()) {
            blocks.push(start, &bytes[start as usize..end as usize], &mut piece);
            start = end;
            if piece.len() >= PIECE_BYTES || end as usize == bytes.len() {
                if !go_on() {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                let at = blocks.len as usize - piece.len();
                file.write_at(&piece, at as u64)?;
                piece.clear();
            }
        }
        file.sync()?;
        blocks
    };
    let index = index.finish(
        Layout::default(),
        log,
        summary,
        len32(bytes.len()),
        &blocks.places,
        blocks.len,
    );
    write_new(disk, &index_name, &index)?;
    disk.sync_folder()
}

/// Writes a file that does not exist, durably but for its name.
pub(super) fn write_new(disk: &dyn Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
    let file = disk.create(name)?;
    file.write_at(bytes, 0)?;
    file.sync()
}

/// All events of a segment's whole frames.
pub(super) fn index_of(bytes: &[u8], scan: &Scan) -> IndexBuilder {
    let mut index = IndexBuilder::default();
    for (offset, header) in &scan.frames {
        if header.kind == Kind::Events {
            let start = *offset as usize + HEADER_BYTES + header.front as usize;
            let end = *offset as usize + header.frame_bytes();
            for (at, record) in record::all(&bytes[start..end]) {
                index.push(&record, len32(start + at));
            }
        }
    }
    index
}

/// All bytes of a file that has so many. A longer one than any that is written here takes no memory, and is damaged.
pub(super) fn read_whole(file: &dyn DiskFile, len: u64) -> io::Result<Vec<u8>> {
    read_from(file, 0, len)
}

/// The bytes of a file of length `len` from `start` on.
pub(super) fn read_from(file: &dyn DiskFile, start: u64, len: u64) -> io::Result<Vec<u8>> {
    let wanted = within_limit(len)?.saturating_sub(start);
    let mut bytes = vec![0; usize::try_from(wanted).map_err(io::Error::other)?];
    let read = file.fill_from(&mut bytes, start)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// The length of a file, if a segment's can be as long.
pub(super) fn within_limit(len: u64) -> io::Result<u64> {
    /// Twice a segment: blocks that do not compress have headers of their own.
    const FILE_BYTES_MAX: u64 = 2 * SEGMENT_BYTES_MAX as u64;
    if len > FILE_BYTES_MAX {
        return Err(damaged());
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::{super::simulated::SimulatedDisk, *};

    #[test]
    fn a_file_that_says_it_is_longer_than_any_segment_takes_no_memory() {
        let disk = SimulatedDisk::new(1);
        disk.put("a", b"short");
        let file = disk.open("a").expect("it is there");

        let claimed = read_whole(file.as_ref(), u64::MAX / 2).expect_err("no such file");
        let real = read_whole(file.as_ref(), 9).expect("readable");

        assert_eq!(claimed.kind(), io::ErrorKind::InvalidData);
        assert_eq!(real, b"short");
    }
}
