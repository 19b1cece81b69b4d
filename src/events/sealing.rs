//! Seals segments beside the writer: compresses their bytes, writes their index, and only then lets the first file go.
//!
//! A crash at any step leaves the first file, and as long as it is there it is the truth: the next opening removes what was made of it and
//! it is sealed again.

use std::{collections::HashSet, io, sync::Arc, time::Duration};

use super::{
    blocks::{self, Blocks},
    cache::Cache,
    disk::{Disk, DiskFile, DiskLock},
    frame::{HEADER_BYTES, Kind},
    index::IndexBuilder,
    log::Log,
    record,
    recovery::{self, Scan, Summary},
    sealed::{IndexFault, Sealed, damaged},
    segment::{Segment, sealed_names},
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
        Self {
            log,
            disk,
            cache,
            skipped: HashSet::new(),
            _lock: lock,
        }
    }

    /// Works until the log is closed or fails.
    pub(super) fn run(mut self) {
        let mut patience = None;
        while self.log.wait_for_rolled(patience) {
            patience = self.turn().is_err().then_some(PAUSE);
        }
    }

    /// Seals all that waits to be sealed.
    pub(super) fn turn(&mut self) -> io::Result<()> {
        while let Some(segment) = self.next() {
            match self.seal(&segment) {
                Ok(()) if self.skipped.is_empty() => self.log.set_sealing_trouble(None),
                // What is wrong with one segment is not mended by another.
                Ok(()) => {}
                Err(_) if self.log.has_ended() => return Ok(()),
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
        tracing::warn!(segment = name, %error, "a segment was not sealed; it stays as it is");
        self.log.set_sealing_trouble(Some(format!(
            "{name} was not sealed: {error}; it stays as it is, and is readable"
        )));
    }

    fn seal(&self, segment: &Segment) -> io::Result<()> {
        let made = self.make(segment);
        if made.is_err() || segment.is_gone() {
            return self.leave(segment, made.map(drop));
        }
        segment.adopt(made?);
        self.log.cool();
        if segment.is_gone() {
            return self.leave(segment, Ok(()));
        }
        // If it stays it is the truth again at the next opening, and is sealed again.
        self.disk.remove(&segment.name)
    }

    /// A segment that is pruned stays as it is, and is the writer's to remove: when it is certain that the low water says so.
    fn leave(&self, segment: &Segment, why: io::Result<()>) -> io::Result<()> {
        remove_sealed(self.disk.as_ref(), &segment.name);
        why
    }

    fn make(&self, segment: &Segment) -> io::Result<Sealed> {
        let summary = segment.rolled.get().ok_or(io::ErrorKind::NotFound)?;
        let file = segment.file().ok_or(io::ErrorKind::NotFound)?;
        let bytes = read_whole(file.as_ref(), segment.written().into())?;
        let scan = recovery::scan(&bytes, self.log.id(), segment.base).map_err(|_| damaged())?;
        if !scan.damage.is_empty() || bytes.len() != segment.written() as usize {
            return Err(damaged());
        }
        let go_on = || !segment.is_gone() && !self.log.has_ended();
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
    let index = index.finish(log, summary, len32(bytes.len()), &blocks.places, blocks.len);
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

/// All bytes of a file.
pub(super) fn read_whole(file: &dyn DiskFile, len: u64) -> io::Result<Vec<u8>> {
    let len = usize::try_from(len).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    let read = file.fill_from(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}
